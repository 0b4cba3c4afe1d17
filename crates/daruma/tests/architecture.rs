//! ARCHITECTURE.md tells the truth: which crate may know which, and which touch nothing.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Crate → (what the table allows, whether it is pure).
fn table() -> BTreeMap<String, (BTreeSet<String>, bool)> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `daruma"));
    let mut table = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        let allowed = match cells[3] {
            "–" => BTreeSet::new(),
            "all" => BTreeSet::from(["*".to_owned()]),
            list => list.split(", ").map(|on| format!("daruma-{on}")).collect(),
        };
        table.insert(name, (allowed, cells[4] == "yes"));
    }
    assert!(table.len() >= 12, "the table of ARCHITECTURE.md was not found");
    table
}

#[test]
fn crates_know_only_what_the_table_allows() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let table = table();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let (allowed, _) = table.get(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        seen.insert(name.to_owned());
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let for_tests = dependency["kind"] == "dev";
            if on.starts_with("daruma") && !for_tests && !allowed.contains("*") {
                assert!(
                    allowed.contains(on),
                    "{name} depends on {on}, which the table does not allow"
                );
            }
        }
    }
    assert_eq!(seen, table.keys().cloned().collect(), "crates that exist, and crates in the table");
}

/// What the table of promises names as a test is there, and kills where the table says so.
#[test]
fn what_tests_a_promise_is_there() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| promise |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for row in rows {
        let by = row.split('|').nth(3).unwrap();
        // A claim reaches from the name of a test to the next one.
        for claim in by.split(", `").map(|claim| claim.trim().trim_start_matches('`')) {
            let name = claim.split('`').next().unwrap();
            if !name.contains('/') {
                continue;
            }
            let path = [root().join("crates").join(name), root().join(name)];
            let path = path.iter().find(|path| path.exists());
            let path = path.unwrap_or_else(|| panic!("{name} is not there: {row}"));
            if claim.contains("kill -9") {
                let test = std::fs::read_to_string(path).unwrap();
                assert!(test.contains(".kill()"), "{name} kills nothing: {row}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 15, "the table of promises was not found: {seen}");
}

/// Pure crates have no clock, no I/O, no randomness, no threads of their own, no async.
#[test]
fn pure_crates_touch_nothing() {
    const FORBIDDEN: &[&str] = &[
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "std::process",
        "std::env",
        "std::time",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "tokio",
        "async fn",
        "rand::",
        "HashMap::new().into_iter",
        "println!",
    ];
    for (name, (_, pure)) in table() {
        if !pure {
            continue;
        }
        let mut todo = vec![root().join("crates").join(&name).join("src")];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                    continue;
                }
                if path.ends_with("tests.rs") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                // What stands behind the tests of a module may do as it likes.
                let code = text.split("#[cfg(test)]").next().unwrap();
                for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                    // The one length of time that other crates' timers need is data, not a clock.
                    let line = line.replace("std::time::Duration", "");
                    for word in FORBIDDEN {
                        assert!(
                            !line.contains(word),
                            "{}: {word} in a pure crate: {line}",
                            path.display()
                        );
                    }
                }
            }
        }
    }
}

/// The wall clock is read in `daruma/src/clock.rs` alone; elapsed time may be measured elsewhere.
#[test]
fn the_wall_clock_is_read_in_one_place() {
    let mut found = Vec::new();
    for name in table().keys() {
        let mut todo = vec![root().join("crates").join(name).join("src")];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else if !path.ends_with("tests.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]").next().unwrap();
                    let reads = |line: &&str| {
                        line.contains("SystemTime::now") || line.contains("Timestamp::now")
                    };
                    if code
                        .lines()
                        .filter(|line| !line.trim_start().starts_with("//"))
                        .any(|l| reads(&l))
                    {
                        found.push(path.strip_prefix(root()).unwrap().display().to_string());
                    }
                }
            }
        }
    }
    assert_eq!(found, ["crates/daruma/src/clock.rs"]);
}
