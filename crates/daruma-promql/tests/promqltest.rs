//! Prometheus' own query scripts, run against this evaluator.
//!
//! The scripts lie outside the project; without them this test says so and passes. Every evaluation of
//! every file must pass.

use std::path::PathBuf;

use daruma_promql::{Limits, script::Script};

/// The files, and how many evaluations each holds: so that none is lost on the way.
const FILES: &[(&str, usize)] = &[
    ("aggregators.test", 160),
    ("at_modifier.test", 78),
    ("collision.test", 2),
    ("duration_expression.test", 59),
    ("extended_vectors.test", 169),
    ("fill-modifier.test", 46),
    ("functions.test", 431),
    ("info.test", 53),
    ("limit.test", 37),
    ("literals.test", 25),
    ("native_histograms.test", 522),
    ("selectors.test", 31),
    ("staleness.test", 17),
    ("start_timestamps.test", 26),
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
fn prometheus_own_scripts_pass() {
    let Some(folder) = shared("conformance/prometheus/promqltest") else { return };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut seen, mut failures) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let outcomes = match Script::parse(&text) {
            Ok(script) => script.run(&Limits::default()),
            Err(error) => panic!("{name}: {error}"),
        };
        println!("{name:<28} {:>5}", outcomes.len());
        seen.push((name.clone(), outcomes.len()));
        for outcome in outcomes {
            if let Some(failure) = outcome.failure {
                let at = format!("{name}:{} {}", outcome.line, outcome.query);
                failures.push(format!("{at}\n      {failure}"));
            }
        }
    }
    for (name, count) in FILES {
        assert!(seen.contains(&((*name).to_owned(), *count)), "{name} with {count}: {seen:?}");
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}
