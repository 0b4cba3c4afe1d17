//! Routes as a tree that can be read, and tried: labels light the path they take.

use daruma_alert::routing::{GroupBy, Node, Routing};
use daruma_alert::{Listing, NotifyPolicy, View};
use daruma_model::{Labels, Time, spelled};
use maud::{Markup, PreEscaped, html};

use super::{acts, words};
use crate::api::parameter;

/// Nodes that are drawn.
const NODES_MAX: usize = 500;
/// Alerts of one incident that are tried.
const ALERTS_MAX: usize = 10;
/// The longest text of labels that is read, in characters.
const LABELS_CHARS_MAX: usize = 4_000;
/// What keeps an alert quiet, of each kind.
const QUIET_MAX: usize = 10;

/// The section.
pub(super) fn section(listing: &Listing, view: &View, query: &str, now: Time) -> Markup {
    let asked: String =
        parameter(query, "labels").unwrap_or_default().chars().take(LABELS_CHARS_MAX).collect();
    let incident = parameter(query, "incident").and_then(|id| id.parse::<u64>().ok());
    let tried: Result<Vec<Labels>, String> = match incident {
        Some(id) => members(view, id),
        None if asked.trim().is_empty() => Ok(Vec::new()),
        None => read(&asked).map(|labels| vec![labels]),
    };
    let all = tried.as_deref().unwrap_or_default();
    html! {
        section #routes aria-labelledby="routes-title" {
            h2 #routes-title { "Routes" }
            form.try method="get" action="/notify#routes" {
                label.wide { "labels of an alert, one a line: who would be told?"
                    textarea #labels name="labels" rows="2" spellcheck="false" autocapitalize="off" placeholder="severity=critical\nservice=web" data-asks="incident" { (asked) }
                }
                button.button type="submit" { "Try" }
            }
            div #tried aria-live="polite" {
                @match &tried {
                    Err(why) => p.bad { (words::shape("error", "")) " " (words::foreign(why, 300)) },
                    Ok(_) => @for labels in all.iter().take(ALERTS_MAX) { (answer(listing, labels, now, all.len() > 1 || incident.is_some())) },
                }
                @if let Some(routing) = &listing.notify.routing { (tree(routing, &lit(routing, all), now)) } @else { (list(&listing.notify, all)) }
            }
        }
    }
}

/// The labels of an incident's alerts.
fn members(view: &View, id: u64) -> Result<Vec<Labels>, String> {
    let found = view.incidents.iter().find(|incident| incident.incident.id == id);
    let found = found.ok_or_else(|| format!("there is no incident {id} in memory"))?;
    Ok(super::incident::labels(found).into_iter().take(ALERTS_MAX).cloned().collect())
}

/// Labels, one a line.
fn read(text: &str) -> Result<Labels, String> {
    spelled(text.lines().map(str::trim).filter(|line| !line.is_empty()).take(100))
}

/// Who would be told of it, in which groups, when, and what keeps it quiet.
fn answer(listing: &Listing, labels: &Labels, now: Time, named: bool) -> Markup {
    let receivers = listing.notify.told_of(labels);
    let silences = listing.silenced_by(now, labels).take(QUIET_MAX);
    let holds =
        listing.holds.iter().filter(|hold| hold.until > now && hold.matchers.matches(labels));
    let inhibited = listing.inhibited_by(now, labels);
    html! {
        div.tried {
            @if named { p { code.label { (words::foreign(&labels.to_string(), 300)) } } }
            p.lead {
                @if receivers.is_empty() { (words::shape("warning", "")) " nobody is told" }
                @else { (words::shape("told", "")) " " b { (words::foreign(&receivers.join(", "), 300)) } }
            }
            @for silence in silences {
                p { (words::shape("quiet", "")) " silenced by " (words::foreign(&silence.by, 60)) ": " (words::foreign(&silence.comment, 160)) ", ends " (words::when(now, silence.until)) }
            }
            @for hold in holds.take(QUIET_MAX) {
                p { (words::shape("quiet", "")) " held by " (words::foreign(&hold.by, 60)) ", ends " (words::when(now, hold.until)) }
            }
            @for source in inhibited.iter().take(QUIET_MAX).filter_map(|id| listing.alert(*id)) {
                p { (words::shape("quiet", "")) " kept quiet while this fires: " code.label { (words::foreign(&source.labels.to_string(), 300)) } }
            }
            @if let Some(routing) = &listing.notify.routing { @for at in routing.matching(labels) { (group(listing, at, labels, now)) } }
        }
    }
}

/// The group it would be in at one node, and when that is told.
fn group(listing: &Listing, at: usize, labels: &Labels, now: Time) -> Markup {
    let routing = &listing.routing;
    let Some(node) = routing.nodes.get(at) else { return html! {} };
    let key = routing.group_key(at, &routing.group_labels(at, labels));
    let next = listing.group(&key).map(|group| group.next);
    html! {
        p.meta {
            b { (words::foreign(&node.receiver, 80)) } ": "
            @match next {
                Some(Some(next)) => { "joins a group that is looked at " (words::when(now, next)) },
                Some(None) => "joins a group that waits",
                None => { "begins a group, told after " (words::long(node.group_wait)) },
            }
            ", again after " (words::long(node.repeat_interval)) " · group " code.label { (words::foreign(&key, 400)) }
        }
        @if let Some(why) = routing.closed(at, now) {
            p { (words::shape("quiet", "")) " silent now: " (words::foreign(&why, 120))
                @if let Some(change) = routing.next_change(at, now) { ", until " (words::minute(change)) } }
        }
    }
}

/// The nodes on the way to whoever takes these.
fn lit(routing: &Routing, tried: &[Labels]) -> Vec<usize> {
    let found = tried.iter().flat_map(|labels| routing.matching(labels));
    found.flat_map(|at| routing.path(at)).collect()
}

fn tree(routing: &Routing, lit: &[usize], now: Time) -> Markup {
    let mut drawn = 0;
    html! {
        ul.tree { (branch(routing, 0, lit, now, &mut drawn)) }
        @if routing.nodes.len() > NODES_MAX { p.meta { "and " (routing.nodes.len() - NODES_MAX) " more" } }
    }
}

/// A node and what hangs below it; a tree is never deeper than `DEPTH_MAX`.
fn branch(routing: &Routing, at: usize, lit: &[usize], now: Time, drawn: &mut usize) -> Markup {
    let Some(node) = routing.nodes.get(at) else { return html! {} };
    if *drawn >= NODES_MAX {
        return html! {};
    }
    *drawn += 1;
    let below: String = node
        .children
        .iter()
        .map(|child| branch(routing, *child, lit, now, drawn).into_string())
        .collect();
    html! {
        li class=[lit.contains(&at).then_some("lit")] {
            (line(routing, at, node, lit.contains(&at), now))
            @if !below.is_empty() { ul { (PreEscaped(below)) } }
        }
    }
}

fn line(routing: &Routing, at: usize, node: &Node, lit: bool, now: Time) -> Markup {
    html! {
        div.node {
            @if lit { (words::shape("healed", "takes it")) " " }
            @if node.matchers.0.is_empty() { span.aside { "everything " } } @else { (acts::shown(&node.matchers)) }
            "→ " b { (words::foreign(&node.receiver, 80)) }
            @if node.continues { " and asks on" }
            span.meta {
                @match &node.group_by {
                    GroupBy::All => " · each alert alone",
                    GroupBy::Labels(names) if names.is_empty() => " · all together",
                    GroupBy::Labels(names) => { " · by " (words::foreign(&names.join(", "), 200)) },
                }
                " · waits " (words::long(node.group_wait)) ", looks every " (words::long(node.group_interval)) ", again after " (words::long(node.repeat_interval))
            }
            @if let Some(why) = routing.closed(at, now) {
                " " span.quiet { (words::shape("quiet", "")) " silent now: " (words::foreign(&why, 120)) }
                @if let Some(change) = routing.next_change(at, now) { span.meta { " until " (words::minute(change)) } }
            } @else if let Some(change) = routing.next_change(at, now) {
                span.meta { " · silent from " (words::minute(change)) }
            }
        }
    }
}

/// The routes of `daruma.yaml`: the first that fits counts.
fn list(notify: &NotifyPolicy, tried: &[Labels]) -> Markup {
    let routes = &notify.routes;
    let first = |labels: &Labels| notify.route(labels).map(|(at, _)| at);
    let lit: Vec<Option<usize>> = tried.iter().map(first).collect();
    html! {
        ul.tree {
            @for (number, route) in routes.iter().take(NODES_MAX).enumerate() {
                @let on = lit.contains(&Some(number));
                li class=[on.then_some("lit")] { div.node {
                    @if on { (words::shape("healed", "takes it")) " " }
                    @if route.matchers.0.is_empty() { span.aside { "everything " } } @else { (acts::shown(&route.matchers)) }
                    "→ " b { @if route.receivers.is_empty() { "nobody" } @else { (words::foreign(&route.receivers.join(", "), 200)) } }
                } }
            }
            @let on = lit.contains(&None);
            li class=[on.then_some("lit")] { div.node {
                @if on { (words::shape("healed", "takes it")) " " }
                span.aside { @if routes.is_empty() { "everything " } @else { "what is left " } } "→ " b { "every receiver" }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_line_by_line_and_what_is_none_is_named() {
        let labels = read("severity=critical\n\n service=\"web\" \n").unwrap();
        assert_eq!(labels, Labels::from([("service", "web"), ("severity", "critical")]));
        assert!(read("severity=~\"a\"").unwrap_err().contains("what it is"));
        assert!(read("nonsense").unwrap_err().contains("`nonsense` is not a label"));
    }

    #[test]
    fn a_tree_of_many_nodes_is_cut_and_hostile_names_stay_text() {
        let mut routing = Routing::to("<script>");
        for number in 0..NODES_MAX + 20 {
            routing.add(0, Node::root(&format!("<b>{number}")));
        }
        let page = tree(&routing, &[0], Time(0)).into_string();
        assert!(page.contains("and 21 more") && !page.contains("<script>"), "{page}");
        assert_eq!(page.matches("class=\"node\"").count(), NODES_MAX);
        assert_eq!(page.matches("takes it").count(), 1);
    }
}
