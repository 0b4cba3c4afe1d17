//! Two parsers, one language: every query of the collections beside the project, and thousands made up
//! here, must have the same tree in Daruma's parser and in one that others wrote.

mod made_up;

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use daruma_oracle::{newer, ours, stricter, theirs, unread};
use daruma_promql::script::Script;
use daruma_promql::{Expr, Limits, ParseOptions};
use made_up::Maker;
use serde::Deserialize;

/// Which queries were compared, which not and why, and where the parsers disagree.
#[derive(Default)]
struct Verdict {
    same: usize,
    refused_by_both: usize,
    apart: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Verdict {
    fn judge(&mut self, text: &str) {
        // A panic of the other is no answer.
        let other = catch_unwind(|| theirs(text)).unwrap_or_else(|_| Err("panics".to_owned()));
        let expr = match (Expr::parse_with(text, &ParseOptions { experimental: true }), &other) {
            (Ok(expr), _) => expr,
            (Err(_), Err(_)) => return self.refused_by_both += 1,
            (Err(error), Ok(_)) if let Some(reason) = stricter(&error) => {
                return *self.apart.entry(reason).or_default() += 1;
            }
            (Err(error), Ok(tree)) => {
                return self.wrong.push(format!("{text}\n  refused: {error}\n  theirs: {tree}"));
            }
        };
        match (newer(&expr), other) {
            (Some(reason), _) => *self.apart.entry(reason).or_default() += 1,
            (None, Ok(tree)) if tree == ours(&expr) => self.same += 1,
            (None, Err(words)) if let Some(reason) = unread(text, &words) => {
                *self.apart.entry(reason).or_default() += 1;
            }
            (None, other) => self.wrong.push(format!(
                "{text}\n  ours:   {}\n  theirs: {}",
                ours(&expr),
                other.unwrap_or_else(|error| error)
            )),
        }
    }

    fn tell(&mut self, what: &str) {
        println!("{what}: {} same, {} refused by both", self.same, self.refused_by_both);
        // The shortest say the most.
        self.wrong.sort_by_key(String::len);
        for (reason, count) in &self.apart {
            println!("  {count} not compared: {reason}");
        }
        assert!(self.wrong.is_empty(), "{} differ:\n{}", self.wrong.len(), self.wrong.join("\n"));
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    groups: Vec<Group>,
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    expr: Expr,
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

#[test]
fn what_others_wrote_has_the_same_tree_in_both_parsers() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    if !shared.is_dir() {
        println!("SKIPPED: {} is not there", shared.display());
        return;
    }
    let mut files = Vec::new();
    files_below(&shared, &mut files);
    let (mut rules, mut scripts) = (Verdict::default(), Verdict::default());
    for file in files {
        let end = file.extension().and_then(|end| end.to_str()).unwrap_or("");
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match end {
            "test" => {
                let script = Script::parse(&text).unwrap();
                for outcome in script.run(&Limits::default()) {
                    scripts.judge(&outcome.query);
                }
            }
            // Files of other shapes hold no rules, and some are broken on purpose.
            "yml" | "yaml" => {
                let Ok(file) = serde_saphyr::from_str::<File>(&text) else { continue };
                let groups = file.groups.iter().chain(file.spec.iter().flat_map(|s| &s.groups));
                for rule in groups.flat_map(|group| &group.rules) {
                    rules.judge(rule.expr.text());
                }
            }
            _ => {}
        }
    }
    rules.tell("rules");
    scripts.tell("scripts");
    assert!(rules.same >= 900, "only {} rules", rules.same);
    assert!(scripts.same >= 1200, "only {} queries of scripts", scripts.same);
}

fn given(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// `MADE_UP` says how many, `SEED` from which number on.
#[test]
fn what_is_made_up_has_the_same_tree_in_both_parsers() {
    let (count, seed) = (given("MADE_UP", 4_000), given("SEED", 0));
    let mut verdict = Verdict::default();
    for at in 0..count {
        verdict.judge(&Maker::new(seed + at).query());
    }
    verdict.tell("made up");
    assert!(verdict.same as u64 >= count * 4 / 5, "only {} of {count}", verdict.same);
}

/// Slips of the hand: what is no query any more must be none for both.
#[test]
fn what_is_mutilated_is_refused_by_both_parsers_or_has_the_same_tree() {
    const PUT: &[&str] = &[
        "",
        "",
        " ",
        "(",
        ")",
        "()",
        "{",
        "}",
        "[",
        "]",
        "[5m]",
        ",",
        "-",
        "+",
        "^",
        "!",
        "=",
        ":",
        "\"",
        "`",
        "\\",
        "#",
        "@ 1",
        " by",
        "on ",
        "bool ",
        "and ",
        " offset 5m",
        "5m",
        "1",
        "0x",
        "e",
        ".",
        "_",
        "x",
    ];
    let (count, seed) = (given("MADE_UP", 4_000), given("SEED", 0));
    let mut verdict = Verdict::default();
    for at in 0..count {
        let mut maker = Maker::new(!(seed + at));
        // In a short one, a slip often leaves a query.
        let query = loop {
            let query = maker.query();
            if query.len() <= 60 {
                break query;
            }
        };
        let mut text: Vec<char> = query.chars().collect();
        let start = maker.below(text.len() + 1);
        let end = (start + maker.below(4)).min(text.len());
        text.splice(start..end, maker.of(PUT).chars());
        verdict.judge(&text.into_iter().collect::<String>());
    }
    verdict.tell("mutilated");
    let judged = (verdict.same + verdict.refused_by_both) as u64;
    assert!(verdict.same as u64 >= count / 6 && judged >= count * 4 / 5, "{judged} of {count}");
}
