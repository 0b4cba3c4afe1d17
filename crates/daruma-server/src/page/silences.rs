//! Silences and holds: what keeps quiet just now, oldest first, by whom, why, until when, and what it
//! hides; and how to make one, with a look at what it would hide before it is made.

use std::collections::BTreeSet;

use daruma_alert::{AlertState, Hold, Listing, Silence, View};
use daruma_model::{Labels, Matcher, Matchers, Time};
use hyper::StatusCode;
use maud::{Markup, html};

use super::acts::{self, Act, Place};
use super::{Page, told, whole, words};
use crate::accept::Site;
use crate::am;
use crate::answer::{self, Answer};
use crate::api::parameter;
use crate::guard::Caller;

/// Rows of one list; what is beyond is counted and named.
const ROWS_MAX: usize = 200;
/// Hidden alerts that are named.
const NAMED_MAX: usize = 50;
/// The longest text of matchers that is taken back into the page, in characters.
const MATCHERS_CHARS_MAX: usize = 4_000;
/// Where this page is.
const HERE: &str = "/silences";

/// An alert that something may hide.
struct Quiet<'a> {
    labels: &'a Labels,
    summary: &'a str,
    incident: Option<u64>,
}

/// The page.
pub(crate) async fn silences(site: &Site, caller: &Caller, query: &str) -> Answer {
    let view = site.shared.view.borrow().clone();
    let listing = am::listing(site).await.ok();
    // Later than what is shown, so that what was made at once is in force.
    let now = (site.shared.clock)();
    let firing = firing(&view, listing.as_ref(), now);
    let all = listing.as_ref().map_or(&view.silences, |listing| &listing.silences);
    let mut ended: Vec<&Silence> = all.iter().filter(|s| s.until <= now).collect();
    ended.sort_by_key(|silence| std::cmp::Reverse(silence.until));
    let (active, planned): (Vec<&Silence>, Vec<&Silence>) =
        all.iter().filter(|silence| silence.until > now).partition(|s| s.from <= now);
    let mut leases: Vec<Lease<'_>> = active
        .iter()
        .map(|silence| Lease::Silence(silence))
        .chain(view.holds.iter().filter(|hold| hold.until > now).map(Lease::Hold))
        .collect();
    leases.sort_by_key(Lease::from);
    let hides = |labels: &Labels| leases.iter().any(|lease| lease.matchers().matches(labels));
    let hidden = firing.iter().filter(|alert| hides(alert.labels)).count();
    let asked = parameter(query, "matchers").unwrap_or_default();
    let asked: String = asked.chars().take(MATCHERS_CHARS_MAX).collect();
    let main = html! {
        (told(query))
        h1.sum {
            @if leases.is_empty() { span.part.healed { (words::shape("healed", "")) " Nothing is kept quiet" } }
            @else {
                span.part { (counted(&leases)) }
                @if hidden > 0 {
                    span.part.warning { (words::shape("warning", "")) " " (words::count(hidden, "alert is", "alerts are")) " hidden now" }
                } @else { span.part.aside { "no alert is hidden just now" } }
            }
            @if listing.is_none() { span.part.unknown { (words::shape("unknown", "")) " what others post is not known just now" } }
        }
        @if !leases.is_empty() {
            section #leases aria-labelledby="leases-title" {
                h2 #leases-title { "In force, oldest first" }
                ul.rows { @for lease in leases.iter().take(ROWS_MAX) { (row(lease, &firing, now, caller)) } }
                @if leases.len() > ROWS_MAX { p.meta { "and " (leases.len() - ROWS_MAX) " more" } }
            }
        }
        (make(&asked, &firing, caller))
        @if !planned.is_empty() {
            section #planned aria-labelledby="planned-title" {
                h2 #planned-title { "Planned" }
                ul.rows { @for silence in planned.iter().take(ROWS_MAX) { (row(&Lease::Silence(silence), &[], now, caller)) } }
            }
        }
        @if !ended.is_empty() {
            details.more #ended {
                summary { (words::count(ended.len(), "silence", "silences")) " ended lately" }
                ul.rows {
                    @for silence in ended.iter().take(ROWS_MAX) {
                        li.row {
                            (words::shape("resolved", "over"))
                            div.what {
                                p.title { (acts::shown(&silence.matchers)) }
                                p.sentence { (words::foreign(&silence.by, 60)) ": " (words::foreign(&silence.comment, 300)) }
                            }
                            div.side { span.due { "ended " (words::when(now, silence.until)) } }
                        }
                    }
                }
            }
        }
    };
    let title = match leases.len() {
        0 => "Silences".to_owned(),
        some => format!("{some} in force · silences"),
    };
    let page = Page { title, path: HERE, charts: None, renews: true, main };
    answer::html(StatusCode::OK, whole(site, caller, page))
}

/// What fires, ours and what others post, each once.
fn firing<'a>(view: &'a View, listing: Option<&'a Listing>, now: Time) -> Vec<Quiet<'a>> {
    let mut known: BTreeSet<&Labels> = BTreeSet::new();
    let mut all = Vec::new();
    for view in view.alerts.iter().filter(|view| view.alert.state == AlertState::Firing) {
        let finding = &view.alert.finding;
        if known.insert(&finding.labels) {
            let summary = finding.annotations.get("summary");
            all.push(Quiet { labels: &finding.labels, summary, incident: view.alert.incident });
        }
    }
    let Some(listing) = listing else { return all };
    let groups = listing.groups();
    for (_, posted) in listing.alerts(now) {
        if known.insert(&posted.labels) {
            let incident = posted.groups.iter().find_map(|id| groups.get(id)?.incident);
            let summary = posted.annotations.get("summary");
            all.push(Quiet { labels: &posted.labels, summary, incident });
        }
    }
    all.sort_by(|a, b| a.labels.cmp(b.labels));
    all
}

fn counted(leases: &[Lease<'_>]) -> String {
    let holds = leases.iter().filter(|lease| matches!(lease, Lease::Hold(_))).count();
    let silences = leases.len() - holds;
    match (silences, holds) {
        (0, holds) => words::count(holds, "hold", "holds"),
        (silences, 0) => words::count(silences, "silence", "silences"),
        (silences, holds) => format!(
            "{} and {}",
            words::count(silences, "silence", "silences"),
            words::count(holds, "hold", "holds")
        ),
    }
}

/// What keeps quiet until it ends.
enum Lease<'a> {
    Silence(&'a Silence),
    Hold(&'a Hold),
}

impl Lease<'_> {
    fn matchers(&self) -> &Matchers {
        match self {
            Lease::Silence(silence) => &silence.matchers,
            Lease::Hold(hold) => &hold.matchers,
        }
    }

    fn from(&self) -> Time {
        match self {
            Lease::Silence(silence) => silence.from,
            Lease::Hold(hold) => hold.from,
        }
    }
}

fn row(lease: &Lease<'_>, firing: &[Quiet<'_>], now: Time, caller: &Caller) -> Markup {
    let (kind, id, by, comment, until) = match lease {
        Lease::Silence(s) => ("silence", s.id, &s.by, &s.comment, s.until),
        Lease::Hold(h) => ("hold", h.id, &h.by, &h.comment, h.until),
    };
    let hidden: Vec<&Quiet<'_>> =
        firing.iter().filter(|alert| lease.matchers().matches(alert.labels)).collect();
    let key = format!("{kind}{id}");
    let begun = lease.from() <= now;
    html! {
        li.row id={ "row-" (key) } data-key=(key) {
            @if hidden.is_empty() { (words::shape("info", kind)) } @else { (words::shape("warning", kind)) }
            div.what {
                p.title { (kind) " on " (acts::shown(lease.matchers())) }
                p.sentence {
                    b { (words::foreign(by, 60)) }
                    @if comment.is_empty() { ", no reason given" } @else { ": " (words::foreign(comment, 300)) }
                }
                @if hidden.is_empty() { @if begun { p.meta { "hides nothing just now" } } }
                @else {
                    details.hides id={ "hides-" (key) } {
                        summary { "hides " (words::count(hidden.len(), "alert", "alerts")) " now" }
                        (named(&hidden))
                    }
                }
            }
            div.side {
                @if begun { span.age { "for " (words::since(now, lease.from())) } }
                @else { span.due { "begins " (words::when(now, lease.from())) } }
                span.due { "ends " (words::when(now, until)) }
                progress max="1" value=(format!("{:.3}", acts::run(lease.from(), until, now)))
                    data-from=(lease.from().0) data-until=(until.0) aria-label="how far it has run" {}
            }
            (acts::row(Place { caller, back: HERE, key: &key }, &lease_acts(lease)))
        }
    }
}

/// What can be done about it.
fn lease_acts(lease: &Lease<'_>) -> Vec<Act<'static>> {
    match lease {
        Lease::Hold(hold) => vec![Act {
            what: "release",
            label: "Release…",
            go: "Release now",
            grave: false,
            says: html! { "Recovery may act on it again, and its alerts are told again, now." },
            fixed: vec![("id", hold.id.to_string())],
            fields: html! {},
        }],
        Lease::Silence(silence) => vec![
            Act {
                what: "extend",
                label: "Extend…",
                go: "Extend",
                grave: false,
                says: html! { "Ends so much from now, instead of when it ends so far." },
                fixed: vec![
                    ("uuid", silence.uuid.clone()),
                    ("from", silence.from.0.to_string()),
                    ("matchers", acts::lines(&silence.matchers)),
                    ("owner", silence.by.clone()),
                    ("comment", silence.comment.clone()),
                ],
                fields: acts::duration("2h"),
            },
            Act {
                what: "unsilence",
                label: "End…",
                go: "End it now",
                grave: false,
                says: html! { "Its alerts are told again, now." },
                fixed: vec![("id", silence.id.to_string())],
                fields: html! {},
            },
        ],
    }
}

fn named(hidden: &[&Quiet<'_>]) -> Markup {
    html! {
        ul.named {
            @for alert in hidden.iter().take(NAMED_MAX) {
                li {
                    @let name = if alert.summary.is_empty() { alert.labels.get("alertname") } else { alert.summary };
                    @match alert.incident {
                        Some(id) => a href={ "/incident/" (id) } { (words::foreign(name, 160)) },
                        None => (words::foreign(name, 160)),
                    }
                    " " code.label { (words::foreign(&alert.labels.to_string(), 300)) }
                }
            }
            @if hidden.len() > NAMED_MAX { li.meta { "and " (hidden.len() - NAMED_MAX) " more" } }
        }
    }
}

/// How to make one: what, who, why, for how long; and what it would hide.
fn make(asked: &str, firing: &[Quiet<'_>], caller: &Caller) -> Markup {
    if !caller.may_act {
        return html! {};
    }
    let owner = if caller.session { caller.name.as_str() } else { "" };
    html! {
        section #make aria-labelledby="make-title" {
            h2 #make-title { "Keep quiet" }
            form.make method="post" action="/act" hx-post="/act" hx-target="#said-make" hx-swap="innerHTML" {
                input type="hidden" name="csrf" value=(caller.csrf);
                input type="hidden" name="back" value=(HERE);
                label.wide { "labels of the alerts, one a line"
                    textarea #matchers name="matchers" rows="3" required spellcheck="false" autocapitalize="off"
                        placeholder="service=\"web\"\nseverity=~\"warning|info\"" data-asks { (asked) }
                }
                (preview(asked, firing))
                div.fields {
                    label.wide { "who answers for it"
                        input type="text" name="owner" required maxlength="100" autocomplete="name" value=(owner);
                    }
                    label.wide { "why"
                        input type="text" name="comment" required maxlength="200" autocomplete="off" placeholder="the ticket, the work, the plan";
                    }
                    (acts::duration("2h"))
                }
                p.meta { "A silence mutes the alerts and keeps recovery off them. A hold does so for a deploy or work by hand: recovery says in the incident that it waits." }
                div.acts {
                    button.go type="submit" name="do" value="put_silence" { "Silence" }
                    button.button type="submit" name="do" value="hold" { "Hold" }
                    button.button type="submit" formmethod="get" formaction=(HERE) formnovalidate { "Look what it would hide" }
                }
            }
            div.said #said-make role="status" hx-morph-skip {}
        }
    }
}

fn preview(asked: &str, firing: &[Quiet<'_>]) -> Markup {
    let lines = asked.lines().filter(|line| !line.trim().is_empty());
    let read: Result<Vec<Matcher>, _> = lines.map(str::parse::<Matcher>).collect();
    html! {
        div #preview aria-live="polite" {
            @match read {
                Err(error) => p.bad { (words::shape("error", "")) " " (words::foreign(&error.to_string(), 300)) },
                Ok(all) if all.is_empty() => p.meta { (words::count(firing.len(), "alert fires", "alerts fire")) " now; name labels to see which this would hide" },
                Ok(all) => {
                    @let matchers = Matchers(all);
                    @let hidden: Vec<&Quiet<'_>> = firing.iter().filter(|alert| matchers.matches(alert.labels)).collect();
                    @if hidden.is_empty() { p.meta { "would hide none of the " (firing.len()) " alerts that fire now" } }
                    @else {
                        p { (words::shape("warning", "")) " would hide " b { (hidden.len()) } " of the " (words::count(firing.len(), "alert that fires", "alerts that fire")) " now" }
                        (named(&hidden))
                    }
                }
            }
        }
    }
}
