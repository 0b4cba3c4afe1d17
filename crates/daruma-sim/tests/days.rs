//! Many bad days, and by name those that once went wrong.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use daruma_sim::{Failure, Stats, Weather, run_post_seed, run_seed};

/// Which days are lived: `DARUMA_SIM_SEEDS=FROM..TO`, else the first thousand.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("DARUMA_SIM_SEEDS") else { return 0..1_000 };
    let range =
        text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("DARUMA_SIM_SEEDS is `{text}`; it must be like `1000..6000`"))
}

/// Lives these days on all cores, and all of them, so that one look shows every one that failed.
fn live(seeds: Range<u64>, day: fn(u64) -> Result<Stats, Failure>) -> (Stats, Vec<Failure>) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new((Stats::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let lived = day(seed);
                    let mut total = total.lock().expect("no thread panics");
                    match lived {
                        Ok(stats) => total.0 += stats,
                        Err(failure) => total.1.push(failure),
                    }
                }
            });
        }
    });
    let (stats, mut failures) = total.into_inner().expect("no thread panics");
    failures.sort_by_key(|failure| failure.seed);
    (stats, failures)
}

/// Goal: no promise breaks, whatever dies when. Method: one simulated day per seed.
#[test]
fn a_thousand_bad_days_keep_every_promise() {
    let seeds = seeds();
    let days = seeds.end.saturating_sub(seeds.start);
    let (stats, failures) = live(seeds, |seed| run_seed(seed, Weather::of(seed)));
    none_failed(days, &failures);
    // The days are worth something only if things happen in them.
    println!("{stats:?}");
    if days >= 1_000 {
        assert!(stats.crashes > 1_000 && stats.healed > 500 && stats.escalated > 500, "{stats:?}");
        assert!(stats.acts > 2_000 && stats.resends > 500 && stats.incidents > 5_000, "{stats:?}");
    }
}

/// Goal: told once, told the end, whatever is posted, routed, muted and broken. Method: one simulated
/// day of a post office per seed.
#[test]
fn a_thousand_days_of_the_post_keep_every_promise() {
    let seeds = seeds();
    let days = seeds.end.saturating_sub(seeds.start);
    let (stats, failures) = live(seeds, run_post_seed);
    none_failed(days, &failures);
    println!("{stats:?}");
    if days >= 1_000 {
        assert!(stats.crashes > 1_000 && stats.incidents > 5_000, "{stats:?}");
        assert!(stats.escalated > 1_000 && stats.resends > 500, "{stats:?}");
    }
}

fn none_failed(days: u64, failures: &[Failure]) {
    if let Some(first) = failures.first() {
        for failure in failures {
            println!("seed {}: {}", failure.seed, failure.invariant);
        }
        panic!("{} of {days} days broke a promise; the first of them:\n{first}", failures.len());
    }
}

#[test]
fn a_seed_lives_the_same_day_again() {
    for seed in [3, 40, 77] {
        let day = || run_seed(seed, Weather::crashing()).map_err(|failure| failure.to_string());
        assert_eq!(day(), day(), "seed {seed}");
    }
}

/// What was told to a channel that left the configuration went out when it came back, after the end.
#[test]
fn seed_710_a_channel_leaves_and_comes_back() {
    run_seed(710, Weather::of(710)).unwrap_or_else(|failure| panic!("{failure}"));
}

/// The wider step was next, and left the configuration: the first one ran once more than allowed.
#[test]
fn seed_1354_the_next_step_leaves_the_configuration() {
    run_seed(1354, Weather::of(1354)).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A witness asked by the old configuration convicted under the new one, which wants more of it.
#[test]
fn seed_4207_another_configuration_while_witnesses_are_heard() {
    run_seed(4207, Weather::of(4207)).unwrap_or_else(|failure| panic!("{failure}"));
}
