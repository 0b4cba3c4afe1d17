//! `daruma test`: unit tests of rules as promtool reads them, and Prometheus' own query scripts. Reads
//! files, prints what differs; the judging is in `rule_run` and in `daruma_promql::script`.

mod rule_file;
mod rule_run;

use std::path::{Path, PathBuf};

use daruma_detect::RuleGroups;
use daruma_promql::Limits;
use daruma_promql::script::Script;
use regex::Regex;
use serde_json::{Value, json};

use crate::cli::{FAILED, NOTHING, SOMETHING};
use crate::config::{self, ConfigError};
use crate::print::{self, Style};
use rule_file::TestFile;
use rule_run::{Failure, Plan};

/// Rule files of one test file at most.
const RULE_FILES_MAX: usize = 1_000;

/// What is to be tested.
#[derive(clap::Subcommand)]
pub enum TestVerb {
    /// Unit tests of rules, as `promtool test rules` reads them
    Rules {
        /// The test files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Only tests whose name this regular expression finds
        #[arg(long, value_name = "REGEX")]
        run: Vec<Regex>,
        /// Take no notice of fields in rule files that are not known
        #[arg(long)]
        ignore_unknown_fields: bool,
    },
    /// Prometheus' query scripts (.test)
    Promql {
        /// The scripts
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Runs the tests. 0: all passed, 1: some failed, 2: a file could not be read.
///
/// # Errors
/// Never: what is found is printed.
pub fn main(verb: &TestVerb, style: Style) -> Result<u8, String> {
    let codes: Vec<u8> = match verb {
        TestVerb::Rules { files, run, ignore_unknown_fields } => {
            let wanted = |name: &str| run.is_empty() || run.iter().any(|one| one.is_match(name));
            files.iter().map(|file| rules(file, &wanted, *ignore_unknown_fields, style)).collect()
        }
        TestVerb::Promql { files } => files.iter().map(|file| script(file, style)).collect(),
    };
    Ok(codes.into_iter().max().unwrap_or(NOTHING))
}

/// A file that cannot be read, or cannot be used.
fn refused(error: &ConfigError, style: Style) {
    if style.json {
        let (line, column) = error.place.unzip();
        print::object(&json!({
            "file": error.file, "line": line, "column": column, "passed": false, "error": error.said,
        }));
    } else {
        print::line(&format!("{} {error}", style.paint("31", "✗")));
    }
}

fn rules(file: &Path, wanted: &dyn Fn(&str) -> bool, lenient: bool, style: Style) -> u8 {
    let read = config::read(file).and_then(|text| config::parse::<TestFile>(file, &text));
    let tests = match read {
        Ok(tests) => tests,
        Err(error) => {
            refused(&error, style);
            return FAILED;
        }
    };
    let groups = match rule_files(file, &tests.rule_files, lenient) {
        Ok(groups) => groups,
        Err(errors) => {
            errors.iter().for_each(|error| refused(error, style));
            return SOMETHING;
        }
    };
    let all = groups.iter().flat_map(|groups| &groups.groups).collect();
    let groups = match rule_run::ordered(all, &tests.group_eval_order) {
        Ok(groups) => groups,
        Err(said) => {
            refused(&ConfigError { file: file.to_owned(), place: None, said }, style);
            return SOMETHING;
        }
    };
    let interval = tests.evaluation_interval();
    let plan = Plan { groups, interval, fuzzy: tests.fuzzy_compare };
    let (mut passed, mut failed) = (0, 0);
    for (number, test) in tests.tests.iter().enumerate() {
        if !wanted(&test.value.name) {
            continue;
        }
        let failures = rule_run::run(test, &plan);
        if failures.is_empty() {
            passed += 1;
        } else {
            failed += 1;
        }
        let name = match test.value.name.as_str() {
            "" => format!("test {}", number + 1),
            name => print::clean(name),
        };
        if style.json {
            print::object(&json!({
                "file": file, "line": test.referenced.line(), "test": name,
                "passed": failures.is_empty(), "failures": failures,
            }));
        } else if !failures.is_empty() {
            let mark = style.paint("31", "✗");
            print::line(&format!("{mark} {}:{}: {name}", file.display(), test.referenced.line()));
            failures.iter().for_each(|failure| tell(file, failure, style));
        }
    }
    if !style.json {
        summary(file, passed, failed, style);
    }
    if failed > 0 { SOMETHING } else { NOTHING }
}

/// One line a file: how many passed, how many did not.
fn summary(file: &Path, passed: usize, failed: usize, style: Style) {
    let file = file.display();
    let text = match failed {
        0 => style.paint("32", &format!("✓ {file}: {passed} passed")),
        _ => style.paint("31", &format!("✗ {file}: {failed} failed, {passed} passed")),
    };
    print::line(&text);
}

/// What was expected and what there was: what both have stands unmarked.
fn tell(file: &Path, failure: &Failure, style: Style) {
    let Failure { line, what, at, expected, got, error } = failure;
    print::line(&format!("  {}:{line}: {} at {at}", file.display(), print::clean(what)));
    if let Some(error) = error {
        print::line(&format!("    {}", style.paint("31", &print::clean(error))));
        return;
    }
    for (mark, text) in difference(expected, got) {
        let text = format!("{mark} {}", print::clean(text));
        let text = match mark {
            '-' => style.paint("32", &format!("{text}    (expected)")),
            '+' => style.paint("31", &format!("{text}    (got)")),
            _ => text,
        };
        print::line(&format!("    {text}"));
    }
    if expected.is_empty() {
        print::line("    nothing was expected");
    }
    if got.is_empty() {
        print::line("    nothing was there");
    }
}

/// Both lists as one: ` ` for what both have, `-` for what only the first has, `+` for the second.
fn difference<'a>(expected: &'a [String], got: &'a [String]) -> Vec<(char, &'a String)> {
    let mut left: Vec<&String> = got.iter().collect();
    let mut all = Vec::new();
    for text in expected {
        match left.iter().position(|other| *other == text) {
            Some(at) => {
                left.remove(at);
                all.push((' ', text));
            }
            None => all.push(('-', text)),
        }
    }
    all.extend(left.into_iter().map(|text| ('+', text)));
    all
}

fn rule_files(
    file: &Path,
    globs: &[String],
    lenient: bool,
) -> Result<Vec<RuleGroups>, Vec<ConfigError>> {
    let base = file.parent().map(Path::to_owned).unwrap_or_default();
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for glob in globs {
        let found = crate::glob::expand(&base, glob, RULE_FILES_MAX);
        if found.is_empty() {
            crate::log::warning(&format!("{}: no rule file fits {glob}", file.display()));
        }
        for path in found {
            let read = config::read(&path).and_then(|text| {
                if lenient { leniently(&path, &text) } else { config::rule_groups(&path, &text) }
            });
            match read {
                Ok(read) => groups.push(read),
                Err(error) => errors.push(error),
            }
        }
    }
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}

/// As a rule file is read, but without the fields that are not known.
fn leniently(file: &Path, text: &str) -> Result<RuleGroups, ConfigError> {
    const GROUP: [&str; 6] = ["name", "interval", "query_offset", "limit", "labels", "rules"];
    const RULE: [&str; 7] =
        ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
    fn keep(value: &mut Value, known: &[&str]) {
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| known.contains(&name.as_str()));
        }
    }
    let mut value: Value = config::parse(file, text)?;
    keep(&mut value, &["groups"]);
    let groups = value.get_mut("groups").and_then(Value::as_array_mut);
    for group in groups.into_iter().flatten() {
        keep(group, &GROUP);
        let rules = group.get_mut("rules").and_then(Value::as_array_mut);
        rules.into_iter().flatten().for_each(|rule| keep(rule, &RULE));
    }
    let error = |error: serde_json::Error| ConfigError {
        file: file.to_owned(),
        place: None,
        said: error.to_string(),
    };
    serde_json::from_value(value).map_err(error)
}

fn script(file: &Path, style: Style) -> u8 {
    let script = config::read(file).and_then(|text| {
        Script::parse(&text).map_err(|error| {
            let place = u64::try_from(error.line).ok().map(|line| (line, 1));
            ConfigError { file: file.to_owned(), place, said: error.message }
        })
    });
    let script = match script {
        Ok(script) => script,
        Err(error) => {
            refused(&error, style);
            return FAILED;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for outcome in script.run(&Limits::default()) {
        let daruma_promql::script::Outcome { line, query, failure } = outcome;
        if style.json {
            print::object(&json!({
                "file": file, "line": line, "query": query, "passed": failure.is_none(),
                "error": failure,
            }));
        }
        let Some(why) = failure else {
            passed += 1;
            continue;
        };
        failed += 1;
        if !style.json {
            let mark = style.paint("31", "✗");
            print::line(&format!("{mark} {}:{line}: {}", file.display(), print::clean(&query)));
            print::line(&format!("    {}", style.paint("31", &print::clean(&why))));
        }
    }
    if !style.json {
        summary(file, passed, failed, style);
    }
    if failed > 0 { SOMETHING } else { NOTHING }
}
