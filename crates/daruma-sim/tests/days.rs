//! Many bad days, and by name those that once went wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use daruma_sim::{Failure, Stats, Weather, run_seed};

/// Lives `count` days on all cores.
fn live(from: u64, count: u64) -> Result<Stats, Box<Failure>> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let next = AtomicU64::new(from);
    let total = Mutex::new((Stats::default(), None));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || total.lock().expect("no thread panics").1.is_some() {
                        break;
                    }
                    let lived = run_seed(seed, Weather::of(seed));
                    let mut total = total.lock().expect("no thread panics");
                    match lived {
                        Ok(stats) => total.0 += stats,
                        Err(failure) => total.1 = Some(Box::new(failure)),
                    }
                }
            });
        }
    });
    let (stats, failure) = total.into_inner().expect("no thread panics");
    failure.map_or(Ok(stats), Err)
}

/// Goal: no promise breaks, whatever dies when. Method: one simulated day per seed.
#[test]
#[ignore = "not every seed keeps every promise yet, and it takes minutes: run by hand"]
fn a_thousand_bad_days_keep_every_promise() {
    let stats = live(0, 1_000).unwrap_or_else(|failure| panic!("{failure}"));
    // The days are worth something only if things happen in them.
    assert!(stats.crashes > 1_000 && stats.healed > 500 && stats.escalated > 500, "{stats:?}");
    assert!(stats.acts > 2_000 && stats.resends > 500 && stats.incidents > 5_000, "{stats:?}");
}

#[test]
fn a_seed_lives_the_same_day_again() {
    for seed in [3, 40, 77] {
        let day = || run_seed(seed, Weather::crashing()).map_err(|failure| failure.to_string());
        assert_eq!(day(), day(), "seed {seed}");
    }
}
