//! Routes, inhibition and time intervals, as the core decides by them.

use std::collections::{BTreeMap, BTreeSet};

use daruma_alert::routing::{DEPTH_MAX, GroupBy, InhibitRule, NODES_MAX, Node as Branch, Routing};
use daruma_model::interval::{Location, TimeInterval, TimeRange};
use daruma_model::{MatchOp, Matcher, Matchers, Span};
use serde_json::Value;

use super::check::{check, object};
use super::schema::{INHIBIT, INTERVALS, Kind, ROUTE};
use super::tree::{Item, Mistake, Node, Place};

/// What is found beside the routes.
pub struct Said<'a> {
    pub mistakes: &'a mut Vec<Mistake>,
    pub warnings: &'a mut Vec<(Place, String)>,
}

/// The tree with all it refers to. `receivers` are the names that may be used.
pub fn read(file: &Node, receivers: &BTreeSet<String>, zone: &str, said: &mut Said) -> Routing {
    let mut routing = Routing::to("");
    if let Some(text) = file.get("global").map(|global| global.text_of("resolve_timeout")) {
        routing.resolve_timeout = text.parse().unwrap_or(routing.resolve_timeout);
    }
    for section in ["mute_time_intervals", "time_intervals"] {
        for node in file.list(section) {
            intervals(node, zone, &mut routing.intervals, said);
        }
    }
    routing.inhibit = file.list("inhibit_rules").iter().map(|node| inhibit(node, said)).collect();
    let Some(route) = file.get("route") else {
        let at = file.place_of("route");
        said.mistakes.push(Mistake::new(
            at,
            "there is no route: write `route: { receiver: NAME }`, whatever else it says",
        ));
        return routing;
    };
    let before = said.mistakes.len();
    root(route, said);
    routing.nodes[0].receiver = route.text_of("receiver").to_owned();
    let names = Names { receivers };
    fill(route, 0, &mut routing, &names, said, 0);
    if said.mistakes.len() == before
        && let Err(why) = routing.validate()
    {
        said.mistakes.push(Mistake::new(route.at, why));
    }
    routing
}

struct Names<'a> {
    receivers: &'a BTreeSet<String>,
}

fn root(route: &Node, said: &mut Said) {
    let mut wrong = |key: &str, why: &str| {
        said.mistakes.push(Mistake::new(route.place_of(key), why));
    };
    if route.text_of("receiver").is_empty() {
        wrong(
            "receiver",
            "the root of the routes must name a `receiver`: it takes what no other route takes",
        );
    }
    for key in ["match", "match_re", "matchers"] {
        let none = match route.get(key).map(|node| &node.item) {
            Some(Item::List(all)) => all.is_empty(),
            Some(Item::Map(all)) => all.is_empty(),
            _ => true,
        };
        if !none {
            wrong(key, "the root of the routes takes everything: it has no matchers");
        }
    }
    for key in ["mute_time_intervals", "active_time_intervals"] {
        if !route.list(key).is_empty() {
            wrong(key, "the root of the routes is never silent: put the interval on a route below");
        }
    }
    if route.get("continue").is_some_and(|node| node.text() == "true") {
        wrong("continue", "the root of the routes cannot `continue`: there is nothing beside it");
    }
}

/// Fills node `at` from what is written, then hangs its children under it.
fn fill(
    route: &Node,
    at: usize,
    routing: &mut Routing,
    names: &Names,
    said: &mut Said,
    depth: usize,
) {
    let value = object(route, &[ROUTE], said.mistakes);
    let receiver = route.text_of("receiver");
    if !receiver.is_empty() && !names.receivers.contains(receiver) {
        let known: Vec<&str> = names.receivers.iter().map(String::as_str).collect();
        let why = format!("no receiver is named `{receiver}`{}", nearest(receiver, &known));
        said.mistakes.push(Mistake::new(route.place_of("receiver"), why));
    }
    for key in ["mute_time_intervals", "active_time_intervals"] {
        for node in route.list(key) {
            if !routing.intervals.contains_key(node.text()) {
                let known: Vec<&str> = routing.intervals.keys().map(String::as_str).collect();
                let name = node.text();
                let why = format!("no time interval is named `{name}`{}", nearest(name, &known));
                said.mistakes.push(Mistake::new(node.at, why));
            }
        }
    }
    let group_by = group_by(route, said);
    let texts = |key: &str| route.list(key).iter().map(|node| node.text().to_owned()).collect();
    let span = |key: &str| value.get(key)?.as_str()?.parse::<Span>().ok();
    for key in ["group_interval", "repeat_interval"] {
        if span(key) == Some(Span::ZERO) {
            let why = format!("`{key}` must be above zero");
            said.mistakes.push(Mistake::new(route.place_of(key), why));
        }
    }
    let node = &mut routing.nodes[at];
    node.group_by = group_by.unwrap_or_else(|| node.group_by.clone());
    node.group_wait = span("group_wait").unwrap_or(node.group_wait);
    node.group_interval = span("group_interval").unwrap_or(node.group_interval);
    node.repeat_interval = span("repeat_interval").unwrap_or(node.repeat_interval);
    node.mute = texts("mute_time_intervals");
    node.active = texts("active_time_intervals");
    if let Some(Value::Object(labels)) = value.get("labels") {
        for (name, text) in labels {
            node.labels = node.labels.with(name, text.as_str().unwrap_or_default());
        }
    }
    let parent = node.clone();
    if depth >= DEPTH_MAX && !route.list("routes").is_empty() {
        let why = format!("the routes are more than {DEPTH_MAX} levels deep");
        return said.mistakes.push(Mistake::new(route.place_of("routes"), why));
    }
    for child in route.list("routes") {
        if routing.nodes.len() >= NODES_MAX {
            let why = format!("there are more than {NODES_MAX} routes");
            return said.mistakes.push(Mistake::new(child.at, why));
        }
        let receiver = match child.text_of("receiver") {
            "" => parent.receiver.clone(),
            name => name.to_owned(),
        };
        let inherited = Branch {
            receiver,
            matchers: matchers(child, ["match", "match_re", "matchers"], said),
            continues: child.get("continue").is_some_and(is_true),
            children: Vec::new(),
            ..parent.clone()
        };
        let added = routing.add(at, inherited);
        fill(child, added, routing, names, said, depth + 1);
    }
}

fn is_true(node: &Node) -> bool {
    check(node, Kind::Bool, &mut Vec::new()) == Value::Bool(true)
}

/// ` ; did you mean …?`, if something is near.
fn nearest(name: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .min()
        .filter(|(distance, _)| *distance <= name.len() / 3 + 1)
        .map_or_else(
            || format!("; there are: {}", known.join(", ")),
            |(_, near)| format!("; did you mean `{near}`?"),
        )
}

fn group_by(route: &Node, said: &mut Said) -> Option<GroupBy> {
    let node = route.get("group_by")?;
    let Item::List(all) = &node.item else { return None };
    let mut names: Vec<String> = Vec::new();
    for one in all {
        let name = one.text();
        let why = match name {
            "" => "an empty name is no label".to_owned(),
            name if names.iter().any(|other| other == name) => {
                format!("the label `{name}` stands here twice")
            }
            name => {
                names.push(name.to_owned());
                continue;
            }
        };
        said.mistakes.push(Mistake::new(one.at, why));
    }
    if !names.iter().any(|name| name == "...") {
        return Some(GroupBy::Labels(names));
    }
    if names.len() > 1 {
        let why = "`...` means all labels: no other can stand beside it";
        said.mistakes.push(Mistake::new(node.at, why));
    }
    Some(GroupBy::All)
}

/// The matchers under three keys: equal ones, regular expressions, and the newer notations.
fn matchers(node: &Node, [equal, regex, list]: [&str; 3], said: &mut Said) -> Matchers {
    let mut all = Vec::new();
    for (key, op) in [(equal, MatchOp::Equal), (regex, MatchOp::Regex)] {
        let Some(Item::Map(pairs)) = node.get(key).map(|node| &node.item) else { continue };
        for (name, value) in pairs {
            let classic = name.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.name.is_empty()
                && !name.name.starts_with(|c: char| c.is_ascii_digit());
            if !classic {
                let why = format!("`{}` is not a label name; `matchers` take others", name.name);
                said.mistakes.push(Mistake::new(name.at, why));
                continue;
            }
            if op == MatchOp::Regex && matches!(value.item, Item::Null) {
                let why = format!("`{}` has no regular expression", name.name);
                said.mistakes.push(Mistake::new(name.at, why));
                continue;
            }
            match Matcher::new(&name.name, op, value.text()) {
                Ok(matcher) => all.push(matcher),
                Err(error) => said.mistakes.push(Mistake::new(value.at, error.to_string())),
            }
        }
    }
    for line in node.list(list) {
        match Matchers::read(line.text()) {
            Ok((matchers, warning)) => {
                all.extend(matchers.0);
                said.warnings.extend(warning.map(|warning| (line.at, warning)));
            }
            Err(error) => said.mistakes.push(Mistake::new(line.at, error.to_string())),
        }
    }
    Matchers(all)
}

fn inhibit(node: &Node, said: &mut Said) -> InhibitRule {
    check(node, INHIBIT, said.mistakes);
    for name in node.list("equal").iter().filter(|name| name.text().is_empty()) {
        said.mistakes.push(Mistake::new(name.at, "an empty name is no label"));
    }
    InhibitRule {
        name: node.text_of("name").to_owned(),
        source: matchers(node, ["source_match", "source_match_re", "source_matchers"], said),
        target: matchers(node, ["target_match", "target_match_re", "target_matchers"], said),
        equal: node.list("equal").iter().map(|name| name.text().to_owned()).collect(),
    }
}

fn intervals(
    node: &Node,
    zone: &str,
    all: &mut BTreeMap<String, Vec<TimeInterval>>,
    said: &mut Said,
) {
    check(node, INTERVALS, said.mistakes);
    let name = node.text_of("name");
    if name.is_empty() {
        return said.mistakes.push(Mistake::new(node.at, "a time interval needs a `name`"));
    }
    if all.contains_key(name) {
        let why = format!("two time intervals are named `{name}`");
        return said.mistakes.push(Mistake::new(node.place_of("name"), why));
    }
    let list = node.list("time_intervals").iter().map(|node| interval(node, zone, said)).collect();
    all.insert(name.to_owned(), list);
}

fn interval(node: &Node, zone: &str, said: &mut Said) -> TimeInterval {
    fn texts<T: std::str::FromStr<Err = String>>(
        node: &Node,
        key: &str,
        said: &mut Said,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for one in node.list(key) {
            match one.text().parse() {
                Ok(range) => all.push(range),
                Err(why) => said.mistakes.push(Mistake::new(one.at, why)),
            }
        }
        all
    }
    let mut times = Vec::new();
    for one in node.list("times") {
        match TimeRange::read(one.text_of("start_time"), one.text_of("end_time")) {
            Ok(range) => times.push(range),
            Err(why) => said.mistakes.push(Mistake::new(one.at, why)),
        }
    }
    let location = node.get("location").and_then(|at| match at.text().parse::<Location>() {
        Ok(place) => Some(place),
        Err(why) => {
            said.mistakes.push(Mistake::new(at.at, why));
            None
        }
    });
    let mut interval = TimeInterval {
        times,
        weekdays: texts(node, "weekdays", said),
        days_of_month: texts(node, "days_of_month", said),
        months: texts(node, "months", said),
        years: texts(node, "years", said),
        location,
    };
    if let Err(why) = interval.settle(zone) {
        said.mistakes.push(Mistake::new(node.place_of("location"), why));
    }
    interval
}
