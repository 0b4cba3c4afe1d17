//! `cargo run -p daruma-sim --example seeds -- FROM COUNT`: lives many days on all cores, and tells
//! of the first of every kind that broke a promise.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use daruma_sim::{Stats, Weather, run_seed};

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let (from, count) = (args.next().unwrap_or(0), args.next().unwrap_or(1_000));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicU64::new(from);
    let total = Mutex::new((Stats::default(), BTreeMap::<String, (u64, String)>::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        break;
                    }
                    let lived = run_seed(seed, Weather::of(seed));
                    let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match lived {
                        Ok(stats) => total.0 += stats,
                        Err(failure) => {
                            let kind = failure.invariant.split(':').next().unwrap_or("").to_owned();
                            let entry = total.1.entry(kind).or_insert((0, failure.to_string()));
                            entry.0 += 1;
                        }
                    }
                }
            });
        }
    });
    let (stats, broken) = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (kind, (_, story)) in &broken {
        println!("── {kind} ──\n{story}\n");
    }
    for (kind, (times, story)) in &broken {
        let last = story.lines().last().unwrap_or("");
        println!("{times:>5} × {kind}, e.g. {last}");
    }
    println!("{count} days from {from}: {stats:?}");
    std::process::exit(i32::from(!broken.is_empty()));
}
