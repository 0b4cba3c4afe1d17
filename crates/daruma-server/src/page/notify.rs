//! Who is told, and what came of it: messages with what failed first, channels with their last truth,
//! and the chains of people.

use std::collections::{BTreeMap, BTreeSet};

use daruma_alert::{IncidentView, Listing, NotifyPolicy, Outgoing, View};
use daruma_model::{Attempt, AttemptOutcome, Time};
use hyper::StatusCode;
use maud::{Markup, html};

use super::acts::{self, Act, Place};
use super::ledger::{self, Stand};
use super::{Page, routes, told, whole, words};
use crate::accept::Site;
use crate::am;
use crate::answer::{self, Answer};
use crate::api::parameter;
use crate::guard::Caller;

/// Where this page is.
const HERE: &str = "/notify";
/// Rows of one list.
const ROWS_MAX: usize = 200;

/// The page.
pub(crate) async fn notify(site: &Site, caller: &Caller, query: &str) -> Answer {
    let now = (site.shared.clock)();
    let view = site.shared.view.borrow().clone();
    let listing = am::listing(site).await.ok();
    let main = html! {
        (told(query))
        (sum(&view))
        (messages(&view, query, now))
        @match &listing {
            Some(listing) => {
                (channels(&view, &listing.notify, now, caller))
                (routes::section(listing, &view, query, now))
                (escalations(&view, &listing.notify, now))
                (digests(listing, now))
            }
            None => p.meta.unknown { (words::shape("unknown", "")) " channels and routes are not known just now: the loop did not answer" },
        }
    };
    let failed = view.ledger.iter().filter(|out| Stand::of(out) == Stand::Failed).count();
    let title = match failed {
        0 => "Notify".to_owned(),
        some => format!("{some} failed · notify"),
    };
    let page = Page { title, path: HERE, charts: None, renews: true, main };
    answer::html(StatusCode::OK, whole(site, caller, page))
}

fn sum(view: &View) -> Markup {
    let mut counts = [0_usize; Stand::ALL.len()];
    for out in &view.ledger {
        counts[Stand::of(out) as usize] += 1;
    }
    html! {
        h1.sum {
            @if view.ledger.is_empty() { span.part { "Nobody was told anything yet" } }
            @for (stand, count) in Stand::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
                span class={ "part " (stand.shape()) } { (words::shape(stand.shape(), "")) " " (count) " " (stand.word()) }
            }
        }
    }
}

/// The ledger: what failed first, then what waits, then the newest.
fn messages(view: &View, query: &str, now: Time) -> Markup {
    let state = parameter(query, "state").unwrap_or_default();
    let receiver = parameter(query, "receiver").unwrap_or_default();
    let known: BTreeSet<&str> =
        view.ledger.iter().map(|out| out.message.receiver.as_str()).collect();
    let mut rows: Vec<&Outgoing> = view
        .ledger
        .iter()
        .filter(|out| state.is_empty() || Stand::of(out).word() == state)
        .filter(|out| receiver.is_empty() || out.message.receiver == receiver)
        .collect();
    let urgent = |out: &Outgoing| match Stand::of(out) {
        Stand::Accepted | Stand::Delivered => Stand::Accepted,
        open => open,
    };
    rows.sort_by_key(|out| (urgent(out), std::cmp::Reverse(out.message.created)));
    html! {
        section #ledger aria-labelledby="ledger-title" {
            h2 #ledger-title { "Messages" }
            @if !view.ledger.is_empty() {
                form.filter method="get" action=(HERE) {
                    label { "state "
                        select name="state" data-asks {
                            option value="" { "all" }
                            @for stand in Stand::ALL { option value=(stand.word()) selected[stand.word() == state] { (stand.word()) } }
                        }
                    }
                    label { "receiver "
                        select name="receiver" data-asks {
                            option value="" { "all" }
                            @for name in known.iter().take(ROWS_MAX) { option value=(name) selected[**name == receiver] { (words::clean(name, 80)) } }
                        }
                    }
                    button.button type="submit" { "Show" }
                }
            }
            div #rows {
                @if rows.is_empty() { p.meta { "no message" @if !state.is_empty() || !receiver.is_empty() { " like this" } } }
                @else { (ledger::table(now, &rows, Some(&view.incidents))) }
            }
        }
    }
}

/// What is known of one channel.
#[derive(Default, Clone, Copy)]
struct Truth<'a> {
    taken: u64,
    failed: u64,
    last: Option<&'a Attempt>,
}

/// Of every channel that was used.
fn truths(view: &View) -> BTreeMap<&str, Truth<'_>> {
    let mut truths: BTreeMap<&str, Truth<'_>> = BTreeMap::new();
    for out in &view.ledger {
        let truth = truths.entry(&out.message.channel).or_default();
        match Stand::of(out) {
            Stand::Accepted | Stand::Delivered => truth.taken += 1,
            Stand::Failed => truth.failed += 1,
            Stand::Retried | Stand::Waits => {}
        }
        for attempt in &out.attempts {
            if truth.last.is_none_or(|last| last.at <= attempt.at) {
                truth.last = Some(attempt);
            }
        }
    }
    truths
}

fn channels(view: &View, policy: &NotifyPolicy, now: Time, caller: &Caller) -> Markup {
    let truths = truths(view);
    let known = policy.receivers.iter();
    let all: Vec<_> =
        known.flat_map(|to| to.channels.iter().map(move |(channel, _)| (to, channel))).collect();
    html! {
        section #channels aria-labelledby="channels-title" {
            h2 #channels-title { "Channels" }
            @if all.is_empty() { p.meta { "No channel is configured: nobody can be told. The section `notify` of the configuration names them." } }
            ul.rows {
                @for (number, (to, channel)) in all.iter().take(ROWS_MAX).enumerate() {
                    @let truth = truths.get(channel.as_str()).copied().unwrap_or_default();
                    @let key = format!("c{number}");
                    li.row id={ "row-" (key) } data-key=(key) {
                        @match truth.last.map(|last| &last.outcome) {
                            Some(AttemptOutcome::Accepted) => (words::shape("healed", "works")),
                            Some(AttemptOutcome::Retry) => (words::shape("warning", "not just now")),
                            Some(AttemptOutcome::Rejected) => (words::shape("error", "refuses")),
                            None => (words::shape("info", "never used")),
                        }
                        div.what {
                            p.title { (words::foreign(channel, 120)) }
                            @match truth.last {
                                Some(last) => p.sentence {
                                    @match last.outcome {
                                        AttemptOutcome::Accepted => "took a message ",
                                        AttemptOutcome::Retry => "did not take a message ",
                                        AttemptOutcome::Rejected => "refused a message ",
                                    }
                                    (words::when(now, last.at)) ": " (words::foreign(&last.said, 300))
                                },
                                None => p.sentence { "was not used yet" },
                            }
                            p.meta {
                                "from " (to.min_level.as_str()) " on"
                                @if !to.hours.is_empty() { ", within its hours; " (to.always_from.as_str()) " at any hour" }
                                @if to.heal_first > daruma_model::Span::ZERO { ", healing has " (words::long(to.heal_first)) " first" }
                                @if let Some(digest) = &to.digest { ", below " (digest.below.as_str()) " in a digest" }
                                @for fallback in &to.fallback { "; if it cannot be reached, after " (words::long(fallback.after)) " " (words::foreign(&fallback.to, 60)) }
                            }
                        }
                        div.side {
                            span.due { (truth.taken) " taken" }
                            @if truth.failed > 0 { span.due.bad { (truth.failed) " failed" } }
                        }
                        (acts::row(Place { caller, back: HERE, key: &key }, &[test(channel)]))
                    }
                }
            }
        }
    }
}

fn test(channel: &str) -> Act<'static> {
    Act {
        what: "send_test",
        label: "Test…",
        go: "Send a test now",
        grave: false,
        says: html! { "Sends a real message that says it is only a test, and its end." },
        fixed: vec![("to", channel.to_owned())],
        fields: html! {},
    }
}

/// The chains, and who is on which step just now.
fn escalations(view: &View, policy: &NotifyPolicy, now: Time) -> Markup {
    let climbing = |name: &str| -> Vec<&IncidentView> {
        let on = |incident: &&IncidentView| {
            let climb = incident.incident.climb.as_ref();
            incident.incident.resolved.is_none()
                && climb.is_some_and(|climb| climb.escalation == name)
        };
        view.incidents.iter().filter(on).take(ROWS_MAX).collect()
    };
    html! {
        @if !policy.escalations.is_empty() {
            section #escalations aria-labelledby="escalations-title" {
                h2 #escalations-title { "If nobody answers" }
                @for chain in policy.escalations.iter().take(ROWS_MAX) {
                    div.chain {
                        h3 { (words::foreign(&chain.name, 80)) }
                        p.meta {
                            "incidents from " (chain.min_level.as_str()) " on"
                            @if !chain.matchers.0.is_empty() { " with " (acts::shown(&chain.matchers)) }
                            @if let Some(repeat) = chain.repeat { ", the last step again every " (words::long(repeat)) }
                        }
                        ol.steps { @for step in &chain.steps {
                            li {
                                b { @if step.after == daruma_model::Span::ZERO { "at once" } @else { "after " (words::long(step.after)) } }
                                " " (words::foreign(&step.to.join(", "), 200))
                            }
                        } }
                        @for incident in climbing(&chain.name) {
                            @if let Some(climb) = &incident.incident.climb {
                                p { (words::shape("escalated", "")) " " a href={ "/incident/" (incident.incident.id) } { (words::foreign(&incident.incident.title, 160)) }
                                    @if let Some((by, _)) = &incident.incident.acked { ": " (words::foreign(by, 60)) " looks after it" }
                                    @else if climb.at < Time::MAX {
                                        ": " @if climb.step < chain.steps.len() { "step " (climb.step + 1) } @else { "the last step again" }
                                        " is due " (words::when(now, climb.at))
                                    }
                                    @else { ": everybody was told" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn digests(listing: &Listing, now: Time) -> Markup {
    html! {
        @if !listing.digests.is_empty() {
            section #digests aria-labelledby="digests-title" {
                h2 #digests-title { "Gathered for a digest" }
                ul.rows { @for digest in listing.digests.iter().take(ROWS_MAX) {
                    li.row {
                        (words::shape("told", ""))
                        div.what { p.title { (words::foreign(&digest.receiver, 80)) } p.sentence { (digest.alerts) " " @if digest.alerts == 1 { "alert" } @else { "alerts" } } }
                        div.side { span.due { "told " (words::when(now, digest.due)) } }
                    }
                } }
            }
        }
    }
}
