//! `daruma route test`: who would be told of an alert with these labels, by which branch of the tree, in
//! which group, and whether that branch is silent just now. Decides nothing: it asks the same tree as the
//! core.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Subcommand;
use daruma_alert::routing::{GroupBy, Node, Routing};
use daruma_alert::{NotifyPolicy, View};
use daruma_model::{Labels, Span, Time, spelled};
use serde_json::json;

use crate::cli::{NOTHING, Places, SOMETHING};
use crate::client::Client;
use crate::print::{self, Style};

/// What to do with routes.
#[derive(Subcommand)]
pub enum RouteVerb {
    /// Who is told of an alert: daruma route test severity=page service=web
    Test {
        /// The configuration; without one, that of the running daruma
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// An alertmanager.yml
        #[arg(long, value_name = "FILE")]
        alertmanager_config: Option<PathBuf>,
        /// label=value
        labels: Vec<String>,
        /// Draw the tree
        #[arg(long)]
        tree: bool,
        /// Exit code 1 unless exactly these are told
        #[arg(long = "verify.receivers", value_name = "NAME,NAME", value_delimiter = ',')]
        verify: Vec<String>,
        /// The alerts of this incident instead of labels
        #[arg(long, value_name = "NUMBER", conflicts_with = "labels")]
        incident: Option<u64>,
        /// Read the incident from the journal in this folder instead of asking the running daruma
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

/// Runs the command; exit code 1 says that other receivers were expected.
///
/// # Errors
/// The configuration is not good, a label cannot be read, or there is no such incident.
pub fn main(verb: RouteVerb, client: &Client, style: Style) -> Result<u8, String> {
    let RouteVerb::Test { config, alertmanager_config, labels, tree, verify, incident, data } =
        verb;
    let clock = crate::clock::system(Time::MIN);
    let notify = &if config.is_none() && alertmanager_config.is_none() {
        running::<NotifyPolicy>(client, "/api/notify").map_err(|why| {
            format!("{why}; `--config` and `--alertmanager-config` name a file instead")
        })?
    } else {
        let places = Places { config, alertmanager_config, ..Places::default() };
        let loaded = crate::config::load(&places, &clock).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })?;
        loaded.policy.notify
    };
    let now = clock();
    let asked = match incident {
        Some(id) => members(id, data.as_deref(), client)?,
        None => vec![spelled(labels.iter().map(String::as_str))?],
    };
    let mut told: Vec<String> = Vec::new();
    for labels in &asked {
        let said = judge(notify, labels, now);
        if style.json {
            print::object(&json!({
                "labels": labels, "receivers": said.receivers, "routes": said.routes,
                "escalation": said.chain,
            }));
        } else {
            if incident.is_some() {
                print::line(&style.paint("1", &print::clean(&labels.to_string())));
            }
            print::line(&print::clean(&said.receivers.join(",")));
            said.lines.iter().for_each(|line| print::line(&format!("  {}", print::clean(line))));
        }
        told.extend(said.receivers);
    }
    if tree && !style.json {
        match &notify.routing {
            Some(routing) => {
                // Without labels the tree alone is asked for.
                let bare = incident.is_none() && labels.is_empty();
                let found = asked.iter().filter(|_| !bare).flat_map(|one| routing.matching(one));
                let found: Vec<usize> = found.collect();
                draw(routing, &found, style).iter().for_each(|line| print::line(line));
            }
            None => print::line(
                "there is no tree: `notify.routes` is a list, and the first that fits counts",
            ),
        }
    }
    if verify.is_empty() {
        return Ok(NOTHING);
    }
    // The order says nothing; who is told twice is told.
    let sorted = |names: &[String]| {
        let mut names: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    };
    if sorted(&verify) == sorted(&told) {
        return Ok(NOTHING);
    }
    crate::log::warning(&format!(
        "expected {} to be told, not {}",
        sorted(&verify).join(", "),
        sorted(&told).join(", ")
    ));
    Ok(SOMETHING)
}

/// The labels of an incident's alerts.
fn members(
    id: u64,
    data: Option<&std::path::Path>,
    client: &Client,
) -> Result<Vec<Labels>, String> {
    let view: View = match data {
        Some(folder) => crate::offline::view(folder)?,
        None => running(client, "/api/view")?,
    };
    let found = view.incidents.iter().find(|one| one.incident.id == id).ok_or_else(|| {
        format!("there is no incident {id}; `daruma incident ls --all` lists them")
    })?;
    let own = found.members.iter().map(|member| &member.alert.finding.labels);
    let told = found.messages.iter().flat_map(|out| &out.message.alerts);
    let all: BTreeSet<&Labels> = own.chain(told.map(|alert| &alert.labels)).collect();
    if all.is_empty() {
        return Err(format!("of incident {id} it is not known any more what alerts it had"));
    }
    Ok(all.into_iter().cloned().collect())
}

/// What the running daruma answers.
fn running<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(client.get(path)).map_err(|error| error.to_string())
}

/// What is said of one set of labels.
struct Judged {
    /// Who is told, each once, in order.
    receivers: Vec<String>,
    lines: Vec<String>,
    routes: Vec<serde_json::Value>,
    /// The chain of people it climbs, if any.
    chain: Option<String>,
}

fn judge(notify: &NotifyPolicy, labels: &Labels, now: Time) -> Judged {
    let (mut lines, routes) = match &notify.routing {
        Some(routing) => by_tree(routing, labels, now),
        None => by_list(notify, labels),
    };
    // No route knows of the chain of people.
    let chain = notify.escalation(notify.level(labels), std::iter::once(labels));
    if let Some(chain) = chain {
        let steps = chain.steps.iter().map(|step| {
            let when = match step.after {
                Span::ZERO => "at once".to_owned(),
                after => format!("after {after}"),
            };
            format!("{when} {}", step.to.join(", "))
        });
        let steps: Vec<String> = steps.collect();
        lines.push(format!("until an ack climbs {}: {}", chain.name, steps.join("; ")));
    }
    let chain = chain.map(|chain| chain.name.clone());
    Judged { receivers: notify.told_of(labels), lines, routes, chain }
}

fn by_list(notify: &NotifyPolicy, labels: &Labels) -> (Vec<String>, Vec<serde_json::Value>) {
    match notify.route(labels) {
        Some((_, route)) => (
            vec![format!("by the first of `notify.routes` that fits: {}", route.matchers)],
            vec![json!({ "matchers": route.matchers })],
        ),
        None => (vec!["no route fits: all are told".to_owned()], Vec::new()),
    }
}

fn by_tree(routing: &Routing, labels: &Labels, now: Time) -> (Vec<String>, Vec<serde_json::Value>) {
    let (mut lines, mut routes) = (Vec::new(), Vec::new());
    for at in routing.matching(labels) {
        let node = &routing.nodes[at];
        let group = routing.group_labels(at, labels);
        let key = routing.group_key(at, &group);
        let (closed, change) = (routing.closed(at, now), routing.next_change(at, now));
        let path: Vec<String> =
            routing.path(at).iter().map(|on| step(&routing.nodes[*on])).collect();
        let until = change.map(|change| format!(" until {}", print::exact(change)));
        lines.extend([
            path.join(" → "),
            format!("  group {key}"),
            format!(
                "  waits {}, looks every {}, repeats after {}",
                node.group_wait, node.group_interval, node.repeat_interval
            ),
        ]);
        if let Some(why) = &closed {
            let until = until.unwrap_or_default();
            lines.push(format!("  silent now: {why}{until}"));
        }
        routes.push(json!({
            "receiver": node.receiver, "path": path, "group_key": key, "group_labels": group,
            "group_wait": node.group_wait, "group_interval": node.group_interval,
            "repeat_interval": node.repeat_interval, "silent": closed, "changes": change,
        }));
    }
    (lines, routes)
}

/// A node on a path: its matchers and who is told.
fn step(node: &Node) -> String {
    match node.matchers.0.is_empty() {
        true => node.receiver.clone(),
        false => format!("{} {}", node.matchers, node.receiver),
    }
}

/// The tree, a line each; what takes an alert is marked.
fn draw(routing: &Routing, found: &[usize], style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    // Each with what stands before its own line, and before those of its children.
    let mut todo = vec![(0_usize, String::new(), String::new())];
    while let Some((at, before, below)) = todo.pop() {
        let Some(node) = routing.nodes.get(at) else { continue };
        let by = match &node.group_by {
            GroupBy::All => " by all labels".to_owned(),
            GroupBy::Labels(names) if names.is_empty() => String::new(),
            GroupBy::Labels(names) => format!(" by {}", names.join(", ")),
        };
        let mut text = format!("{}{by}", step(node));
        for (word, names) in [("silent within", &node.mute), ("silent outside", &node.active)] {
            if !names.is_empty() {
                text.push_str(&format!(", {word} {}", names.join(", ")));
            }
        }
        if node.continues {
            text.push_str(", continue");
        }
        let text = print::clean(&text);
        let text =
            if found.contains(&at) { style.paint("32", &format!("{text} ✓")) } else { text };
        lines.push(format!("{before}{text}"));
        for (number, child) in node.children.iter().enumerate().rev() {
            let last = number + 1 == node.children.len();
            let (arm, gap) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            todo.push((*child, format!("{below}{arm}"), format!("{below}{gap}")));
        }
    }
    lines
}
