//! Rules as people write them: Prometheus rule files, and the `detect` section of `daruma.yaml`.
//!
//! Everything that can be judged without data is judged while reading, so that the reader of the
//! YAML can name line and column. Nothing here reads files: globs are resolved by whoever can.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use daruma_model::{Labels, Matchers, Severity, Span};
use daruma_promql::{Expr, ValueType};
use regex::Regex;
use serde::{Deserialize, Deserializer, de};

use daruma_template::Template;

/// The largest compiled pattern of one log rule, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The most matches a log rule may wait for: it keeps the time of each.
const MORE_THAN_MAX: usize = 100_000;

/// The `detect` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectConfig {
    /// Prometheus rule files, as globs relative to the configuration file.
    pub rule_files: Vec<String>,
    /// Our own rules.
    pub rules: Vec<RuleConfig>,
    /// How often our own rules are evaluated, besides at once when one of their metrics arrives.
    pub interval: Span,
    /// The interval of groups in rule files that name none.
    pub evaluation_interval: Span,
    /// The `query_offset` of groups in rule files that name none.
    pub rule_query_offset: Span,
}

impl Default for DetectConfig {
    fn default() -> DetectConfig {
        DetectConfig {
            rule_files: Vec::new(),
            rules: Vec::new(),
            interval: Span::secs(1),
            evaluation_interval: Span::secs(15),
            rule_query_offset: Span::ZERO,
        }
    }
}

/// One of our own rules: a PromQL condition or a condition over log records.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct RuleConfig {
    /// The alert's name, its `alertname`.
    pub alert: String,
    /// What it looks for.
    pub condition: Condition,
    /// How long it must hold before the alert fires.
    pub hold_for: Span,
    /// How long evidence must say it is over before the alert resolves.
    pub keep_firing_for: Span,
    /// Put over the result's labels; templates.
    pub labels: BTreeMap<String, Template>,
    /// Human text; templates.
    pub annotations: BTreeMap<String, Template>,
    /// How often it is evaluated, if not at the section's `interval`.
    pub every: Option<Span>,
}

/// What a rule looks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Holds for each label set that the query returns.
    Expr(Expr),
    /// Holds when log records say so.
    Log(LogRule),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    alert: String,
    #[serde(default)]
    expr: Option<Expr>,
    #[serde(default)]
    log: Option<LogRule>,
    #[serde(default, rename = "for")]
    hold_for: Span,
    #[serde(default)]
    keep_firing_for: Span,
    #[serde(default)]
    labels: BTreeMap<String, Template>,
    #[serde(default)]
    annotations: BTreeMap<String, Template>,
    #[serde(default)]
    every: Option<Span>,
}

impl TryFrom<RawRule> for RuleConfig {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<RuleConfig, String> {
        let condition = match (raw.expr, raw.log) {
            (Some(expr), None) => {
                must_be_instant(&expr)?;
                Condition::Expr(expr)
            }
            (None, Some(log)) => Condition::Log(log),
            (None, None) => {
                return Err(format!("rule `{}` needs either `expr` or `log`", raw.alert));
            }
            (Some(_), Some(_)) => {
                return Err(format!("rule `{}` has both `expr` and `log`; keep one", raw.alert));
            }
        };
        if raw.alert.is_empty() {
            return Err("`alert` must not be empty".to_owned());
        }
        must_be_labels(&raw.labels)?;
        if raw.every == Some(Span::ZERO) {
            return Err("`every` must be above zero".to_owned());
        }
        Ok(RuleConfig {
            alert: raw.alert,
            condition,
            hold_for: raw.hold_for,
            keep_firing_for: raw.keep_firing_for,
            labels: raw.labels,
            annotations: raw.annotations,
            every: raw.every,
        })
    }
}

/// A regular expression over the text of a log record, found anywhere in it.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// The compiled expression.
    #[must_use]
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Pattern, String> {
        regex::RegexBuilder::new(&text)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map(Pattern)
            .map_err(|error| format!("the pattern {text:?} cannot be used: {error}"))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.0.as_str())
    }
}

/// A condition over log records.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawLog")]
pub struct LogRule {
    /// Which records, by the labels of their source; empty: all.
    pub select: Matchers,
    /// One alert for each set of these labels. Unless given: all labels of the source but `path`,
    /// so that the files of one service count together. `[]` puts everything together.
    pub by: Option<Vec<String>>,
    /// What they must say.
    pub kind: LogKind,
}

/// What log records must say, or cease to say.
#[derive(Debug, Clone, PartialEq)]
pub enum LogKind {
    /// More than `more_than` records match within `within`; over when none has matched for `within`.
    Matches {
        /// What is counted.
        pattern: Pattern,
        /// Holds from one more than this.
        more_than: usize,
        /// The window.
        within: Span,
    },
    /// A record of a kind that was not seen before; over when no new kind came for `hold`.
    NewKind {
        /// Only records that match; all unless given.
        pattern: Option<Pattern>,
        /// Only records at least this grave; `None` takes records without a severity, too.
        severity: Option<Severity>,
        /// While it lasts every kind is learned and none is told.
        learn_for: Span,
        /// How long it holds after the newest new kind.
        hold: Span,
    },
    /// A log that spoke is silent; over when it speaks.
    Silent {
        /// Only records that match count as speaking; all unless given.
        pattern: Option<Pattern>,
        /// Holds when nothing came for this long …
        silent_for: Span,
        /// … and something came within this long.
        spoke_within: Span,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    #[serde(default, rename = "match")]
    pattern: Option<Pattern>,
    #[serde(default)]
    select: Matchers,
    #[serde(default)]
    by: Option<Vec<String>>,
    #[serde(default)]
    more_than: Option<usize>,
    #[serde(default)]
    within: Option<Span>,
    #[serde(default)]
    new_kind: Option<bool>,
    #[serde(default)]
    severity: Option<Severity>,
    #[serde(default)]
    learn_for: Option<Span>,
    #[serde(default)]
    hold: Option<Span>,
    #[serde(default)]
    silent_for: Option<Span>,
    #[serde(default)]
    spoke_within: Option<Span>,
}

impl TryFrom<RawLog> for LogRule {
    type Error = String;

    fn try_from(raw: RawLog) -> Result<LogRule, String> {
        let above_zero = |name: &str, span: Span| {
            if span > Span::ZERO { Ok(span) } else { Err(format!("`{name}` must be above zero")) }
        };
        let foreign = |kind: &str, fields: &[(&str, bool)]| match fields.iter().find(|f| f.1) {
            Some((name, _)) => Err(format!("`{name}` does not belong to a log rule of `{kind}`")),
            None => Ok(()),
        };
        let counts = [("more_than", raw.more_than.is_some()), ("within", raw.within.is_some())];
        let kinds = [
            ("severity", raw.severity.is_some()),
            ("learn_for", raw.learn_for.is_some()),
            ("hold", raw.hold.is_some()),
        ];
        let silence = [("spoke_within", raw.spoke_within.is_some())];
        let kind = match (raw.new_kind.unwrap_or(false), raw.silent_for) {
            (true, Some(_)) => {
                return Err("a log rule is of `new_kind` or of `silent_for`, not both".to_owned());
            }
            (true, None) => {
                foreign("new_kind", &counts)?;
                foreign("new_kind", &silence)?;
                // Errors unless something else says which records are meant.
                let severity = raw.severity.or(raw.pattern.is_none().then_some(Severity::Error));
                LogKind::NewKind {
                    pattern: raw.pattern,
                    severity,
                    learn_for: raw.learn_for.unwrap_or(Span::minutes(10)),
                    hold: above_zero("hold", raw.hold.unwrap_or(Span::minutes(1)))?,
                }
            }
            (false, Some(silent_for)) => {
                foreign("silent_for", &counts)?;
                foreign("silent_for", &kinds)?;
                let spoke_within = raw.spoke_within.unwrap_or(Span::hours(24));
                if spoke_within <= silent_for {
                    return Err("`spoke_within` must be longer than `silent_for`".to_owned());
                }
                LogKind::Silent {
                    pattern: raw.pattern,
                    silent_for: above_zero("silent_for", silent_for)?,
                    spoke_within,
                }
            }
            (false, None) => {
                foreign("match", &kinds)?;
                foreign("match", &silence)?;
                let pattern = raw.pattern.ok_or(
                    "a log rule needs `match`, `new_kind: true` or `silent_for`".to_owned(),
                )?;
                let more_than = raw.more_than.unwrap_or(0);
                if more_than > MORE_THAN_MAX {
                    return Err(format!("`more_than` is at most {MORE_THAN_MAX}"));
                }
                LogKind::Matches {
                    pattern,
                    more_than,
                    within: above_zero("within", raw.within.unwrap_or(Span::minutes(1)))?,
                }
            }
        };
        Ok(LogRule { select: raw.select, by: raw.by, kind })
    }
}

/// A Prometheus rule file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "RawGroups")]
pub struct RuleGroups {
    /// In order; their names differ.
    pub groups: Vec<RuleGroup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroups {
    #[serde(default)]
    groups: Option<Groups>,
}

/// Groups whose names differ, judged one by one so that an error names the place of the second.
struct Groups(Vec<RuleGroup>);

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Groups, D::Error> {
        struct One<'a>(&'a mut BTreeSet<String>);
        impl<'de> de::DeserializeSeed<'de> for One<'_> {
            type Value = RuleGroup;
            fn deserialize<D: Deserializer<'de>>(self, one: D) -> Result<RuleGroup, D::Error> {
                let group = RuleGroup::deserialize(one)?;
                if self.0.insert(group.name.clone()) {
                    return Ok(group);
                }
                Err(de::Error::custom(format!(
                    "group name `{}` is repeated in this file; give one of them another name",
                    group.name
                )))
            }
        }
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Groups;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of groups")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Groups, A::Error> {
                let (mut names, mut groups) = (BTreeSet::new(), Vec::new());
                while let Some(group) = seq.next_element_seed(One(&mut names))? {
                    groups.push(group);
                }
                Ok(Groups(groups))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

impl TryFrom<RawGroups> for RuleGroups {
    type Error = String;

    fn try_from(raw: RawGroups) -> Result<RuleGroups, String> {
        Ok(RuleGroups { groups: raw.groups.map_or_else(Vec::new, |groups| groups.0) })
    }
}

/// How label and annotation names are judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameScheme {
    /// Any text that is not empty.
    #[default]
    Utf8,
    /// Letters, digits and underscores, no digit first.
    Legacy,
}

impl RuleGroups {
    /// Names that `scheme` does not allow, as sentences.
    #[must_use]
    pub fn misnamed(&self, scheme: NameScheme) -> Vec<String> {
        let bad = |name: &str| {
            scheme == NameScheme::Legacy
                && (name.starts_with(|c: char| c.is_ascii_digit())
                    || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        };
        let rules = self.groups.iter().flat_map(|group| &group.rules);
        rules
            .flat_map(|rule| {
                rule.labels.keys().chain(rule.annotations.keys()).map(move |name| (rule, name))
            })
            .filter(|(_, name)| bad(name))
            .map(|(rule, name)| {
                format!("rule `{}`: `{name}` is not a valid legacy name", rule.name)
            })
            .collect()
    }
}

/// Rules that are evaluated in order at one time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawGroup")]
pub struct RuleGroup {
    /// Unique within its file.
    pub name: String,
    /// How often; [`DetectConfig::evaluation_interval`] unless given.
    pub interval: Option<Span>,
    /// How far back the group's evaluation lies, for sources that deliver late; the global
    /// `rule_query_offset` unless given.
    pub query_offset: Option<Span>,
    /// A rule that yields more results than this fails; 0: no limit.
    pub limit: usize,
    /// In order; later ones see what earlier ones record.
    pub rules: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    name: String,
    #[serde(default)]
    interval: Option<Span>,
    #[serde(default)]
    query_offset: Option<Span>,
    #[serde(default)]
    limit: Option<i64>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Template>>,
    #[serde(default)]
    rules: Option<Vec<FileRule>>,
}

impl TryFrom<RawGroup> for RuleGroup {
    type Error = String;

    fn try_from(raw: RawGroup) -> Result<RuleGroup, String> {
        if raw.name.is_empty() {
            return Err("a group's `name` must not be empty".to_owned());
        }
        let shared = raw.labels.unwrap_or_default();
        must_be_labels(&shared)?;
        let mut rules = raw.rules.unwrap_or_default();
        for rule in &mut rules {
            for (name, value) in &shared {
                rule.labels.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        Ok(RuleGroup {
            name: raw.name,
            // Prometheus takes 0 as "not given".
            interval: raw.interval.filter(|interval| *interval > Span::ZERO),
            query_offset: raw.query_offset,
            limit: raw.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
            rules,
        })
    }
}

/// A rule of a rule file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawFileRule")]
pub struct FileRule {
    /// The alert's name, or the metric it records.
    pub name: String,
    /// Whether it records rather than alerts.
    pub records: bool,
    /// What is asked.
    pub expr: Expr,
    /// How long it must hold before the alert fires.
    pub hold_for: Span,
    /// How long evidence must say it is over before the alert resolves.
    pub keep_firing_for: Span,
    /// Put over the result's labels; templates in alerts, plain text in recordings.
    pub labels: BTreeMap<String, Template>,
    /// Human text; templates.
    pub annotations: BTreeMap<String, Template>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFileRule {
    #[serde(default)]
    record: Option<String>,
    #[serde(default)]
    alert: Option<String>,
    #[serde(default)]
    expr: Option<Expr>,
    #[serde(default, rename = "for")]
    hold_for: Option<Span>,
    #[serde(default)]
    keep_firing_for: Option<Span>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Template>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Template>>,
}

impl TryFrom<RawFileRule> for FileRule {
    type Error = String;

    fn try_from(raw: RawFileRule) -> Result<FileRule, String> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (name, records) = match (given(raw.record), given(raw.alert)) {
            (Some(record), None) => (record, true),
            (None, Some(alert)) => (alert, false),
            (Some(record), Some(alert)) => {
                return Err(format!(
                    "a rule has either `record` or `alert`, and here are both, `{record}` and `{alert}`; \
                     make two rules of it"
                ));
            }
            (None, None) => {
                return Err(
                    "this rule has no name; say `record: METRIC` or `alert: NAME`".to_owned()
                );
            }
        };
        let Some(expr) = raw.expr else {
            return Err(format!("rule `{name}` has no query; say `expr: QUERY`"));
        };
        must_be_instant(&expr)?;
        let labels = raw.labels.unwrap_or_default();
        let annotations = raw.annotations.unwrap_or_default();
        must_be_labels(&labels)?;
        if annotations.keys().any(String::is_empty) {
            return Err("an annotation's name must not be empty".to_owned());
        }
        if records {
            for (field, present) in [
                ("for", raw.hold_for.is_some_and(|span| span > Span::ZERO)),
                ("keep_firing_for", raw.keep_firing_for.is_some_and(|span| span > Span::ZERO)),
                ("annotations", !annotations.is_empty()),
            ] {
                if present {
                    return Err(format!(
                        "recording rule `{name}`: `{field}` is only for alerts; leave it out"
                    ));
                }
            }
            if name.contains(['{', '}']) {
                return Err(format!(
                    "`record: {name}` is not a metric name; put labels under `labels`"
                ));
            }
        }
        Ok(FileRule {
            name,
            records,
            expr,
            hold_for: raw.hold_for.unwrap_or(Span::ZERO),
            keep_firing_for: raw.keep_firing_for.unwrap_or(Span::ZERO),
            labels,
            annotations,
        })
    }
}

fn must_be_instant(expr: &Expr) -> Result<(), String> {
    match expr.returns() {
        ValueType::Scalar | ValueType::Vector => Ok(()),
        other => Err(format!(
            "a rule needs a query that returns an instant vector or a scalar, not a {}",
            other.as_str()
        )),
    }
}

fn must_be_labels(labels: &BTreeMap<String, Template>) -> Result<(), String> {
    match labels.keys().find(|name| name.is_empty() || *name == Labels::NAME) {
        Some(name) => Err(format!("`{name}` cannot be a label of a rule")),
        None => Ok(()),
    }
}
