//! Rules that load and still will not do what they are for: they read series that nobody sends, collide
//! with another rule, or cost more than they tell. Each becomes a warning with its file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use daruma_detect::{Condition, Read, Ruleset, reads};
use daruma_model::{Labels, Span};
use daruma_promql::Expr;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::client::{Client, ClientError};

/// Selectors asked about at most: each is a question to the running program.
const SELECTORS_MAX: usize = 5_000;
/// An evaluation that reads more samples than this is told.
const SAMPLES_MAX: f64 = 2e6;
/// A rule that reads more samples a second than this is told.
const SAMPLES_PER_SEC_MAX: f64 = 2e5;
/// How far apart samples are taken to be.
const SPACING: Span = Span::secs(15);

/// What will work and is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<u64>,
    /// What, and what to do.
    pub said: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.said)
    }
}

/// One rule with its place.
struct Placed {
    file: PathBuf,
    line: Option<u64>,
    /// The alert's name, or the metric recorded.
    name: String,
    records: bool,
    labels: Labels,
    expr: Expr,
    interval: Span,
}

impl Placed {
    fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }

    fn warning(&self, said: String) -> Warning {
        Warning { file: self.file.clone(), line: self.line, said }
    }
}

/// Where things stand in a rule file; whatever else it says is passed over.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Lines {
    groups: Option<Vec<Spanned<GroupLines>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GroupLines {
    rules: Option<Vec<Spanned<serde::de::IgnoredAny>>>,
}

/// The same of the rules in `daruma.yaml`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct OwnLines {
    detect: Option<GroupLines>,
}

fn lines<T: serde::de::DeserializeOwned + Default>(file: &Path) -> T {
    // The file was found good a moment ago; if it is gone since, its lines are not known.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_saphyr::from_str(crate::config::first_document(&text).0).unwrap_or_default()
}

fn of_group(group: Option<&GroupLines>) -> Vec<u64> {
    let rules = group.and_then(|group| group.rules.as_ref()).into_iter().flatten();
    rules.map(|rule| rule.referenced.line()).collect()
}

/// Groups by name, with their places.
type Groups = BTreeMap<String, Vec<(PathBuf, u64)>>;

/// All rules over series, and groups.
fn placed(ruleset: &Ruleset, config: &Path) -> (Vec<Placed>, Groups) {
    let (mut rules, mut groups) = (Vec::new(), Groups::new());
    for file in &ruleset.files {
        let path = PathBuf::from(&file.path);
        let known: Lines = lines(&path);
        let known = known.groups.unwrap_or_default();
        for (at, group) in file.groups.groups.iter().enumerate() {
            let place = known.get(at);
            let line = place.map_or(1, |group| group.referenced.line());
            groups.entry(group.name.clone()).or_default().push((path.clone(), line));
            let lines = of_group(place.map(|group| &group.value));
            for (at, rule) in group.rules.iter().enumerate() {
                rules.push(Placed {
                    file: path.clone(),
                    line: lines.get(at).copied(),
                    name: rule.name.clone(),
                    records: rule.records,
                    labels: rule.labels.iter().map(|(n, v)| (n.as_str(), v.text())).collect(),
                    expr: rule.expr.clone(),
                    interval: group.interval.unwrap_or(ruleset.detect.evaluation_interval),
                });
            }
        }
    }
    let own: OwnLines = lines(config);
    let lines = of_group(own.detect.as_ref());
    for (at, rule) in ruleset.detect.rules.iter().enumerate() {
        let Condition::Expr(expr) = &rule.condition else { continue };
        rules.push(Placed {
            file: config.to_owned(),
            line: lines.get(at).copied(),
            name: rule.alert.clone(),
            records: false,
            labels: rule.labels.iter().map(|(n, v)| (n.as_str(), v.text())).collect(),
            expr: expr.clone(),
            interval: rule.every.unwrap_or(ruleset.detect.interval),
        });
    }
    (rules, groups)
}

/// Rules and groups that stand in each other's way.
fn collisions(rules: &[Placed], groups: &Groups, warnings: &mut Vec<Warning>) {
    let mut known: BTreeMap<(bool, &str, &Labels), &Placed> = BTreeMap::new();
    for rule in rules {
        let Some(first) = known.get(&(rule.records, &rule.name, &rule.labels)) else {
            known.insert((rule.records, &rule.name, &rule.labels), rule);
            continue;
        };
        let (name, at) = (&rule.name, first.place());
        warnings.push(rule.warning(match (rule.records, rule.expr == first.expr) {
            (_, true) => format!("`{name}` is at {at} already, word for word; leave one out"),
            (true, false) => format!(
                "`{name}` is recorded at {at}, too, with the same labels: where both yield a series, \
                 one of them is lost; give one another name or label"
            ),
            (false, false) => format!(
                "an alert `{name}` with the same labels is at {at}, too: nobody can tell them apart; \
                 give one another name or label"
            ),
        }));
    }
    for (name, places) in groups {
        for (file, line) in places.iter().skip(1) {
            let (first, first_line) = &places[0];
            warnings.push(Warning {
                file: file.clone(),
                line: Some(*line),
                said: format!(
                    "a group `{name}` is at {}:{first_line}, too; names that differ tell more",
                    first.display()
                ),
            });
        }
    }
}

/// How many series each selector finds in the running program.
///
/// # Errors
/// It cannot be asked, or does not answer as expected.
async fn counts<'a>(
    client: &Client,
    selectors: impl Iterator<Item = &'a String>,
) -> Result<BTreeMap<&'a String, u64>, ClientError> {
    let mut counts = BTreeMap::new();
    for selector in selectors {
        let query = format!("count({selector})");
        let path = format!("/api/v1/query?query={}", escaped(&query));
        let answer: serde_json::Value = client.get(&path).await?;
        let text = answer.pointer("/data/result/0/value/1").and_then(serde_json::Value::as_str);
        // An empty result has no element: there is none.
        counts.insert(selector, text.and_then(|text| text.parse().ok()).unwrap_or(0));
    }
    Ok(counts)
}

/// As a part of a URL.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Rules that read what is not there, or too much of it.
fn against(
    rules: &[Placed],
    inputs: &[Vec<Read>],
    counts: &BTreeMap<&String, u64>,
    warnings: &mut Vec<Warning>,
) {
    let recorded: BTreeSet<&str> =
        rules.iter().filter(|rule| rule.records).map(|rule| rule.name.as_str()).collect();
    // What rules themselves write comes with them.
    let written = |selector: &str| {
        let name = selector.split('{').next().unwrap_or_default();
        recorded.contains(name) || name == "ALERTS" || name == "ALERTS_FOR_STATE"
    };
    for (rule, reads) in rules.iter().zip(inputs) {
        let mut told = BTreeSet::new();
        let mut samples = 0.0;
        let (mut widest, mut most) = (None, 0.0);
        for read in reads {
            let Some(&count) = counts.get(&read.selector) else { continue };
            if count == 0
                && !read.optional
                && !written(&read.selector)
                && told.insert(&read.selector)
            {
                let what = if rule.records { "yield anything" } else { "be true" };
                warnings.push(rule.warning(format!(
                    "`{}` can never {what} here: no series matches {}; is the name right, is its source \
                     configured?",
                    rule.name, read.selector
                )));
            }
            let each = 1.0 + read.window.0 as f64 / SPACING.0 as f64;
            let cost = count as f64 * each;
            samples += cost;
            if cost > most {
                (widest, most) = (Some((count, read)), cost);
            }
        }
        let per_second = samples / (rule.interval.0.max(1) as f64 / 1000.0);
        if let Some((count, read)) =
            widest.filter(|_| samples > SAMPLES_MAX || per_second > SAMPLES_PER_SEC_MAX)
        {
            let window = match read.window {
                Span::ZERO => String::new(),
                window => format!(" over {window}"),
            };
            warnings.push(rule.warning(format!(
                "`{}` reads some {:.1} million samples every {}: {count} series of {}{window}; record a \
                 part of it, narrow it, or lengthen the group's interval",
                rule.name,
                samples / 1e6,
                rule.interval,
                read.selector
            )));
        }
    }
}

/// Looks at all rules; at what there is of series only if a program answers. Says in words why it could
/// not be asked.
pub fn find(ruleset: &Ruleset, config: &Path, client: &Client) -> (Vec<Warning>, Option<String>) {
    let (rules, groups) = placed(ruleset, config);
    let mut warnings = Vec::new();
    collisions(&rules, &groups, &mut warnings);
    let inputs: Vec<Vec<Read>> = rules.iter().map(|rule| reads(&rule.expr)).collect();
    let all = inputs.iter().flatten().map(|read| &read.selector);
    let selectors: BTreeSet<&String> = all.collect();
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let some = selectors.iter().copied().take(SELECTORS_MAX);
            runtime.block_on(counts(client, some)).map_err(|error| error.to_string())
        });
    let mut unasked = None;
    match asked {
        Ok(counts) => {
            if selectors.len() > SELECTORS_MAX {
                unasked = Some(format!(
                    "{} of {} selectors were not looked for",
                    selectors.len() - SELECTORS_MAX,
                    selectors.len()
                ));
            }
            against(&rules, &inputs, &counts, &mut warnings);
        }
        Err(error) => unasked = Some(format!("what series there are is not known: {error}")),
    }
    warnings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    (warnings, unasked)
}
