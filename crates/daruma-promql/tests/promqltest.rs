//! Prometheus' own query scripts, run against this evaluator.
//!
//! The scripts lie outside the project; without them this test says so and passes. The ratchet: the
//! number of evaluations that pass in each file must not fall below the number written here.

use std::path::PathBuf;

use daruma_promql::{Limits, script::Script};

/// Evaluations that pass, by file. What is missing needs native histograms or start timestamps.
const PASSING: &[(&str, usize)] = &[
    ("aggregators.test", 125),
    ("at_modifier.test", 78),
    ("collision.test", 2),
    ("duration_expression.test", 59),
    ("extended_vectors.test", 123),
    ("fill-modifier.test", 46),
    ("functions.test", 380),
    ("info.test", 52),
    ("limit.test", 15),
    ("literals.test", 25),
    ("native_histograms.test", 3),
    ("selectors.test", 31),
    ("staleness.test", 17),
    ("start_timestamps.test", 2),
    ("type_and_unit.test", 58),
];

fn shared(path: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if !folder.is_dir() {
        println!("SKIPPED: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn prometheus_own_scripts_pass_as_far_as_they_did_before() {
    let Some(folder) = shared("conformance/prometheus/promqltest") else { return };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let verbose = std::env::var("PROMQLTEST_VERBOSE").ok();
    let (mut passed_all, mut total_all) = (0, 0);
    let (mut seen, mut fallen) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let outcomes = match Script::parse(&text) {
            Ok(script) => script.run(&Limits::default()),
            Err(error) => panic!("{name}: {error}"),
        };
        let total = outcomes.len();
        let passed = outcomes.iter().filter(|outcome| outcome.failure.is_none()).count();
        println!("{name:<28} {passed:>5} of {total:>5}");
        if verbose.as_deref().is_some_and(|wanted| name.contains(wanted)) {
            for outcome in outcomes {
                if let Some(failure) = outcome.failure {
                    println!("  {name}:{} {}\n      {failure}", outcome.line, outcome.query);
                }
            }
        }
        seen.push(name.clone());
        passed_all += passed;
        total_all += total;
        let wanted = PASSING.iter().find(|(known, _)| *known == name).map_or(0, |(_, n)| *n);
        if passed < wanted {
            fallen.push(format!("{name}: {passed} pass, {wanted} did before"));
        }
    }
    println!("{:<28} {passed_all:>5} of {total_all:>5}", "all");
    for (known, _) in PASSING {
        assert!(seen.contains(&(*known).to_owned()), "{known} is not there any more");
    }
    assert!(fallen.is_empty(), "{}", fallen.join("\n"));
}
