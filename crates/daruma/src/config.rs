//! `daruma.yaml`: read whole or not at all, with errors that name file, line, column, what was found and
//! what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use daruma_alert::{
    Escalation, Flapping, LevelRule, NotifyPolicy, Policy, ReceiverPolicy, RecoverConfig, Route,
    RulePolicy,
};
use daruma_detect::{DetectConfig, Detector, NameScheme, RuleFile, RuleGroups, Ruleset};
use daruma_model::{Labels, Level, Span};
use daruma_notify::ReceiverConfig;
use daruma_recover::Registry;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::alertmanager::Node;
use crate::cli::{NOTHING, Places, SOMETHING};
use crate::client::Client;
use crate::print::{self, Style};

/// The largest configuration or rule file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Rule files at most.
const RULE_FILES_MAX: usize = 10_000;
/// What an empty configuration means.
const DEFAULTS: &str = include_str!("defaults.yaml");

/// The file as written.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct File {
    collect: Option<daruma_collect::Config>,
    detect: Option<DetectConfig>,
    recover: RecoverConfig,
    notify: NotifySection,
    store: daruma_store::Config,
    server: daruma_server::Config,
}

/// The section `notify`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NotifySection {
    /// How long an incident's first message waits for company.
    group_wait: Span,
    /// The first fitting route names the receivers; without one, all are told.
    routes: Vec<Route>,
    /// Who can be told.
    receivers: Vec<ReceiverConfig>,
    /// How grave alerts are, where their label `severity` does not say it.
    levels: Vec<LevelRule>,
    /// Chains of people who are told one after another.
    escalations: Vec<Escalation>,
    /// What comes and goes is one trouble.
    flapping: Flapping,
    /// When everybody else hears that a receiver cannot be reached.
    unreached_after: Span,
    /// Where people find the pages, for links in messages.
    external_url: ExternalUrl,
    /// Files of templates that receivers may ask for, as globs; relative to this file.
    templates: Vec<String>,
    /// An alertmanager.yml, relative to this file, whose routes, receivers and intervals are taken over.
    alertmanager_config: Option<PathBuf>,
    /// A tree of routes as Alertmanager has it, instead of `routes`.
    route: Option<Node>,
    /// Which alerts keep which others quiet, as Alertmanager has it; needs `route`.
    inhibit_rules: Option<Node>,
    /// Intervals by name, as Alertmanager has it; for `route`.
    time_intervals: Option<Node>,
}

impl Default for NotifySection {
    fn default() -> NotifySection {
        NotifySection {
            group_wait: Span::millis(500),
            routes: Vec::new(),
            receivers: Vec::new(),
            levels: Vec::new(),
            escalations: Vec::new(),
            flapping: Flapping::default(),
            unreached_after: NotifyPolicy::default().unreached_after,
            external_url: ExternalUrl::default(),
            templates: Vec::new(),
            alertmanager_config: None,
            route: None,
            inhibit_rules: None,
            time_intervals: None,
        }
    }
}

/// Where people find the pages; empty if nobody said so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ExternalUrl(String);

impl ExternalUrl {
    /// The name by which the pages are asked for.
    fn host(&self) -> Option<String> {
        self.0.parse::<hyper::Uri>().ok()?.host().map(str::to_owned)
    }
}

impl TryFrom<String> for ExternalUrl {
    type Error = String;

    fn try_from(text: String) -> Result<ExternalUrl, String> {
        text.parse()
    }
}

impl std::str::FromStr for ExternalUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<ExternalUrl, String> {
        let uri = text.parse::<hyper::Uri>().ok();
        let is_page = uri.as_ref().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        let plain =
            text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'<>?#@".contains(&byte));
        if text.is_empty() || is_page && plain {
            return Ok(ExternalUrl(text.to_owned()));
        }
        let found: String = text.chars().take(60).collect();
        Err(format!(
            "`{found}` is no address of pages; write one such as https://daruma.example.org"
        ))
    }
}

/// One mistake, where it is, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1, where they are known.
    pub place: Option<(u64, u64)>,
    /// What was found and what to do.
    pub said: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.said)
    }
}

/// A configuration that was found good as a whole.
pub struct Loaded {
    /// What to look at.
    pub collect: daruma_collect::Config,
    /// The rules.
    pub detector: Detector,
    /// What the core decides by.
    pub policy: Policy,
    /// What may be run.
    pub registry: Registry,
    /// Who can be told.
    pub sender: daruma_notify::Sender,
    /// Signals at rest.
    pub store: daruma_store::Config,
    /// Pages and API.
    pub server: daruma_server::Config,
    /// What will work but is probably not meant.
    pub warnings: Vec<String>,
    /// The rules as written, for a closer look.
    pub ruleset: Ruleset,
    /// The Alertmanager configuration as it may be shown, without secrets; empty if there is none.
    pub original: String,
}

/// Reads YAML into `T`.
///
/// # Errors
/// With line, column and, for an unknown key, the nearest known one.
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|at| (at.line(), at.column()));
        let error = error.without_snippet();
        let said = match error {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                unknown(field, expected)
            }
            other => {
                let text = other.to_string();
                let tail =
                    place.map_or_else(String::new, |(l, c)| format!(" at line {l}, column {c}"));
                text.strip_suffix(tail.as_str()).unwrap_or(&text).to_owned()
            }
        };
        ConfigError { file: file.to_owned(), place, said }
    })
}

/// What is said of an unknown key.
pub fn unknown(field: &str, expected: &[&'static str]) -> String {
    let near = expected
        .iter()
        .map(|known| (strsim::damerau_levenshtein(field, known), known))
        .min()
        .filter(|(distance, _)| *distance <= field.len() / 3 + 1);
    match near {
        Some((_, known)) => format!("unknown field `{field}`; did you mean `{known}`?"),
        None => format!("unknown field `{field}`; here are known: {}", expected.join(", ")),
    }
}

/// Reads a rule file.
///
/// # Errors
/// As [`parse`].
pub fn rule_groups(file: &Path, text: &str) -> Result<RuleGroups, ConfigError> {
    let (text, rest) = first_document(text);
    if let Some(line) = rest {
        let file = file.display();
        crate::log::warning(&format!(
            "{file}:{line}: of several YAML documents in a rule file only the first counts; put what \
             follows into a file of its own"
        ));
    }
    parse(file, text)
}

/// The first YAML document of a text, and the line, from 1, on which another one begins.
#[must_use]
pub fn first_document(text: &str) -> (&str, Option<u64>) {
    let (mut begun, mut at) = (false, 0);
    for (number, line) in (1_u64..).zip(text.split_inclusive('\n')) {
        let bare = line.trim_end();
        let marks = |sign: &str| bare == sign || bare.starts_with(&format!("{sign} "));
        if begun && (marks("---") || marks("...")) {
            let rest = text[at + line.len()..].lines();
            let said = rest.clone().any(|line| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with('#') && line != "---" && line != "..."
            });
            return (&text[..at], said.then_some(number));
        }
        begun |= !bare.is_empty() && !bare.starts_with(['#', '%']) && !marks("---");
        at += line.len();
    }
    (text, None)
}

/// The text of a file that is not too long.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn read(file: &Path) -> Result<String, ConfigError> {
    let error = |said: String| ConfigError { file: file.to_owned(), place: None, said };
    let size =
        std::fs::metadata(file).map_err(|why| error(format!("cannot be read: {why}")))?.len();
    if size > FILE_BYTES_MAX {
        return Err(error(format!("is {size} bytes long; at most {FILE_BYTES_MAX} are read")));
    }
    std::fs::read_to_string(file).map_err(|why| error(format!("cannot be read: {why}")))
}

/// Reads everything that the places name and checks it as a whole.
///
/// # Errors
/// Every mistake that was found; nothing of the configuration is used then.
pub fn load(places: &Places, clock: &daruma_model::Clock) -> Result<Loaded, Vec<ConfigError>> {
    let path = places.config.clone().unwrap_or_else(|| PathBuf::from("(defaults)"));
    let one = |said: String| vec![ConfigError { file: path.clone(), place: None, said }];
    let text = match &places.config {
        Some(file) => read(file).map_err(|error| vec![error])?,
        None => String::new(),
    };
    let mut file: File = parse(&path, &text).map_err(|error| vec![error])?;
    let defaults: File = parse(Path::new("(defaults)"), DEFAULTS).map_err(|error| vec![error])?;
    let mut warnings = Vec::new();
    let external_url = places.external_url.as_ref().unwrap_or(&file.notify.external_url).clone();

    let mut collect = file.collect.or(defaults.collect).unwrap_or_default();
    let detect = file.detect.or(defaults.detect).unwrap_or_default();
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut globs: Vec<(PathBuf, String)> =
        detect.rule_files.iter().map(|glob| (base.clone(), glob.clone())).collect();
    let mut evaluation_interval = detect.evaluation_interval;
    let mut rule_query_offset = detect.rule_query_offset;
    let mut names = NameScheme::default();
    let mut external_labels = Labels::default();
    if let Some(prometheus) = &places.prometheus_config {
        let text = read(prometheus).map_err(|error| vec![error])?;
        let taken: crate::prometheus::Config =
            parse(prometheus, &text).map_err(|error| vec![error])?;
        let base = prometheus.parent().map(Path::to_owned).unwrap_or_default();
        globs.extend(taken.rule_files.iter().map(|glob| (base.clone(), glob.text().to_owned())));
        evaluation_interval = taken.evaluation_interval();
        rule_query_offset = taken.rule_query_offset();
        names = taken.names();
        external_labels = taken.external_labels(|name| std::env::var(name).ok());
        collect.scrape.extend(taken.scrapes(&mut warnings));
    }
    let detect = DetectConfig { evaluation_interval, rule_query_offset, ..detect };

    collect.check().map_err(|name| {
        one(format!(
            "two sources are called `{name}`: give one of them another `name` (for a log file: give it one)"
        ))
    })?;

    let mut errors = Vec::new();
    let mut files = Vec::new();
    for (base, glob) in &globs {
        let found = crate::glob::expand(base, glob, RULE_FILES_MAX);
        if found.is_empty() {
            warnings.push(format!("rule_files: no file fits {glob}"));
        }
        for file in found {
            let rules = read(&file).and_then(|text| rule_groups(&file, &text));
            match rules {
                Ok(groups) => {
                    errors.extend(groups.misnamed(names).into_iter().map(|said| ConfigError {
                        file: file.clone(),
                        place: None,
                        said,
                    }));
                    files.push(RuleFile { path: file.display().to_string(), groups });
                }
                Err(error) => errors.push(error),
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let ruleset = Ruleset { detect, files, external_labels, external_url: external_url.0.clone() };
    let detector = Detector::new(&ruleset).map_err(|error| one(error.to_string()))?;

    let rules: BTreeMap<String, RulePolicy> = detector
        .policies()
        .iter()
        .map(|info| {
            let policy = RulePolicy { for_: info.hold_for, keep_firing_for: info.keep_firing_for };
            (info.rule.clone(), policy)
        })
        .collect();
    let taken = alertmanager(places, &path, &file.notify)?;
    let mut routing = None;
    let (mut templates, mut original) = (daruma_template::Templates::built_in(), String::new());
    let mut configured = std::mem::take(&mut file.notify.receivers);
    let own = configured.len();
    if let Some(taken) = taken {
        warnings.extend(taken.warnings);
        // Alertmanager has no levels: its tree alone decides who is told.
        configured.extend(taken.receivers.into_iter().map(|receiver| {
            let receiver = receiver.with_alertmanager_defaults();
            ReceiverConfig { min_level: Level::Info, ..receiver }
        }));
        routing = Some(taken.routing);
        (templates, original) = (taken.templates, taken.original);
    }
    let tree = [
        ("route", file.notify.route.take()),
        ("inhibit_rules", file.notify.inhibit_rules.take()),
        ("time_intervals", file.notify.time_intervals.take()),
    ];
    if tree.iter().any(|(_, node)| node.is_some()) {
        if routing.is_some() || !file.notify.routes.is_empty() {
            return Err(one(
                "`notify.route` stands alone, without `notify.routes` and without an Alertmanager \
                 configuration: only one of them can decide who is told"
                    .to_owned(),
            ));
        }
        let names = configured.iter().map(|receiver| receiver.name.clone()).collect();
        let (tree, said) = crate::alertmanager::own_routing(&path, &text, tree, &names)?;
        warnings.extend(said);
        routing = Some(tree);
    }
    let zone = crate::alertmanager::local_zone();
    for receiver in &mut configured {
        let settle = |at: &mut Option<_>| daruma_model::interval::settle(at, &zone);
        let hours = receiver.hours.iter_mut().map(|hours| &mut hours.location);
        let digest = receiver.digest.iter_mut().map(|digest| &mut digest.location);
        hours.chain(digest).try_for_each(settle).map_err(&one)?;
    }
    let receivers = configured
        .iter()
        .map(|receiver| ReceiverPolicy {
            name: receiver.name.clone(),
            channels: receiver.channels(),
            min_level: receiver.min_level,
            heal_first: receiver.heal_first,
            hours: receiver.hours.clone(),
            always_from: receiver.always_from,
            digest: receiver.digest.clone(),
            fallback: receiver.fallback.clone(),
        })
        .collect();
    let policy = Policy {
        rules,
        recover: file.recover,
        notify: NotifyPolicy {
            group_wait: file.notify.group_wait,
            routes: file.notify.routes,
            receivers,
            routing,
            levels: file.notify.levels,
            escalations: file.notify.escalations,
            flapping: file.notify.flapping,
            unreached_after: file.notify.unreached_after,
        },
    };
    policy.validate().map_err(|error| one(error.to_string()))?;
    check_expressions(&policy).map_err(&one)?;
    let registry =
        Registry::new(policy.recover.actions.clone()).map_err(|error| one(error.to_string()))?;
    warnings.extend(registry.warnings());
    let (templates, more) = crate::templates::load(templates, &base, &file.notify.templates)?;
    warnings.extend(more);
    for (at, receiver) in configured.iter().enumerate() {
        for problem in receiver.template_problems(&templates) {
            // A file that Alertmanager takes is taken: the message is then told in Daruma's own words.
            if at >= own {
                warnings.push(problem.to_string());
            } else {
                return Err(one(problem.to_string()));
            }
        }
    }
    let sender = daruma_notify::Sender::new(configured, std::sync::Arc::clone(clock))
        .map_err(|error| one(error.to_string()))?
        .with_templates(templates)
        .with_external_url(&external_url.0);
    let mut server = file.server;
    if let Some(listen) = places.listen {
        server.listen = listen;
    }
    // Links in messages lead here.
    if let Some(host) = external_url.host().filter(|host| !server.hosts.contains(host)) {
        server.hosts.push(host);
    }
    daruma_server::check(&server).map_err(|error| one(error.to_string()))?;
    // What is longest shows best what is cut.
    let names = policy.rules.keys().map(|rule| rule.rsplit('/').next().unwrap_or(rule));
    let longest = names.max_by_key(|name| name.chars().count()).unwrap_or("HostIsDown");
    warnings.extend(sender.warnings(longest));
    warnings.extend(unmatched(&policy, &detector));
    let store = file.store;
    Ok(Loaded {
        collect,
        detector,
        policy,
        registry,
        sender,
        store,
        server,
        warnings,
        ruleset,
        original,
    })
}

/// The Alertmanager configuration that is named on the command line or in `daruma.yaml`, if one is.
fn alertmanager(
    places: &Places,
    path: &Path,
    notify: &NotifySection,
) -> Result<Option<crate::alertmanager::Loaded>, Vec<ConfigError>> {
    let named = notify.alertmanager_config.as_ref();
    let named = named.map(|file| path.parent().unwrap_or(Path::new("")).join(file));
    let Some(file) = places.alertmanager_config.clone().or(named) else { return Ok(None) };
    if !notify.routes.is_empty() {
        return Err(vec![ConfigError {
            file: path.to_owned(),
            place: None,
            said: format!(
                "`notify.routes` and the routes of {} cannot both decide who is told: leave one of \
                 them out",
                file.display()
            ),
        }]);
    }
    crate::alertmanager::load(&file).map(Some)
}

/// Expressions under `recover` are PromQL: refused at load, not at three in the morning.
fn check_expressions(policy: &Policy) -> Result<(), String> {
    for runbook in &policy.recover.runbooks {
        let verify = runbook.steps.iter().flat_map(|step| step.verify.all());
        let named = runbook.confirm.checks.iter().chain(&runbook.only_if).chain(&runbook.unless);
        for expr in named.cloned().chain(verify).filter_map(|check| check.expr) {
            // Labels are filled in later; a name in their place keeps the syntax.
            let text = crate::glob::without_labels(&expr);
            if let Err(error) = daruma_promql::Expr::parse(&text) {
                return Err(format!("runbook `{}`: `{expr}`: {error}", runbook.name));
            }
        }
    }
    Ok(())
}

/// Runbooks for alerts that no rule makes.
fn unmatched(policy: &Policy, detector: &Detector) -> Vec<String> {
    let names: BTreeSet<&str> =
        detector.policies().iter().map(|info| info.alertname.as_str()).collect();
    let mut warnings = Vec::new();
    for runbook in &policy.recover.runbooks {
        for matcher in runbook.matchers.0.iter().filter(|matcher| matcher.name == "alertname") {
            if !names.iter().any(|name| matcher.matches_value(name)) {
                warnings.push(format!(
                    "runbook `{}`: no rule makes an alert with {matcher}",
                    runbook.name
                ));
            }
        }
        if runbook.mode == daruma_alert::Mode::Shadow {
            warnings.push(format!(
                "runbook `{}` only says what it would do (mode: shadow, the default); mode: auto acts",
                runbook.name
            ));
        }
    }
    warnings
}

/// `daruma check`.
///
/// # Errors
/// Never: what is found is printed.
pub fn check_command(places: &Places, client: &Client, style: Style) -> Result<u8, String> {
    let clock = crate::clock::system(daruma_model::Time::MIN);
    match load(places, &clock) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                if style.json {
                    print::object(&serde_json::json!({ "level": "warning", "said": warning }));
                } else {
                    print::line(&format!("{} {warning}", style.paint("33", "warning")));
                }
            }
            let config = places.config.clone().unwrap_or_else(|| PathBuf::from("(defaults)"));
            let (found, unasked) = crate::check_rules::find(&loaded.ruleset, &config, client);
            for warning in &found {
                if style.json {
                    print::object(&serde_json::json!({
                        "level": "warning", "file": warning.file, "line": warning.line,
                        "said": warning.said,
                    }));
                } else {
                    print::line(&format!("{} {warning}", style.paint("33", "warning")));
                }
            }
            if let Some(unasked) = unasked {
                crate::log::info(&unasked);
            }
            if !style.json {
                let rules = loaded.policy.rules.len();
                let runbooks = loaded.policy.recover.runbooks.len();
                let receivers = loaded.policy.notify.receivers.len();
                print::line(&style.paint(
                    "32",
                    &format!("✓ good: {rules} rules, {runbooks} runbooks, {receivers} receivers"),
                ));
            }
            let nothing = loaded.warnings.is_empty() && found.is_empty();
            Ok(if nothing { NOTHING } else { SOMETHING })
        }
        Err(errors) => {
            for error in &errors {
                if style.json {
                    print::object(&serde_json::json!({
                        "level": "error", "file": error.file, "line": error.place.map(|p| p.0),
                        "column": error.place.map(|p| p.1), "said": error.said,
                    }));
                } else {
                    print::line(&format!("{} {error}", style.paint("31", "error")));
                }
            }
            Ok(SOMETHING)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read to be refused")]
    struct Section {
        #[serde(default)]
        confirm_for: Span,
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_the_nearest_key() {
        let error =
            |text: &str| parse::<Section>(Path::new("daruma.yaml"), text).unwrap_err().to_string();
        assert_eq!(
            error("confrim_for: 3s\n"),
            "daruma.yaml:1:1: unknown field `confrim_for`; did you mean `confirm_for`?"
        );
        assert_eq!(
            error("zzzzzz: 3s\n"),
            "daruma.yaml:1:1: unknown field `zzzzzz`; here are known: confirm_for"
        );
        let bad = error("confirm_for: soon\n");
        assert!(bad.starts_with("daruma.yaml:1:14: `soon` is not a duration"), "{bad}");
    }

    #[test]
    fn two_sources_of_one_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("daruma.yaml");
        let config = |second: &str| {
            let text = format!(
                "collect:\n  probes:\n  - {{ name: web, tcp: '127.0.0.1:1' }}\n  - {{ name: {second}, tcp: '127.0.0.1:2' }}\n"
            );
            std::fs::write(&file, text).unwrap();
            let clock = crate::clock::system(daruma_model::Time::MIN);
            let places = Places { config: Some(file.clone()), ..Places::default() };
            load(&places, &clock).map(|_| ()).map_err(|errors| errors[0].to_string())
        };
        assert_eq!(config("shop"), Ok(()));
        let said = config("web").unwrap_err();
        assert!(said.contains("two sources are called `probe/web`"), "{said}");
    }

    #[test]
    fn an_external_url_is_one_that_links_can_begin_with() {
        for good in
            ["", "https://daruma.example.org", "http://[::1]:7878/", "http://host:7878/below"]
        {
            assert!(good.parse::<ExternalUrl>().is_ok(), "{good}");
        }
        let host = |text: &str| text.parse::<ExternalUrl>().unwrap().host();
        assert_eq!(
            host("http://daruma.example.org:7878/below").as_deref(),
            Some("daruma.example.org")
        );
        assert_eq!(host("http://[::1]:7878").as_deref(), Some("[::1]"));
        assert_eq!(host(""), None);
        for bad in [
            "nonsense",
            "https://",
            "ftp://host",
            "//host",
            "http://a b",
            "http://u@h",
            "http://h/?q",
            "http://[",
            "http://:7878",
        ] {
            let said = bad.parse::<ExternalUrl>().unwrap_err();
            assert!(said.contains(bad) && said.contains("write one such as"), "{said}");
        }
    }

    #[test]
    fn the_defaults_are_good() {
        let clock = crate::clock::system(daruma_model::Time::MIN);
        let loaded = load(&Places::default(), &clock).map_err(|errors| errors[0].to_string());
        let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
        assert!(!loaded.policy.rules.is_empty());
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }
}
