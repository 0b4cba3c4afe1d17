//! Now: is something wrong, is it being healed, must I do anything, what happened?

use daruma_alert::{Delivery, IncidentView, Mode, Phase, RecoveryView, Role, View};
use daruma_model::{SourceState, Span, Time};
use hyper::StatusCode;
use maud::{Markup, html};

use super::acts::{self, Act, Place};
use super::{Page, draw, whole, words};
use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::guard::Caller;

/// Rows of one list; what is beyond is counted and named.
const ROWS_MAX: usize = 50;
/// What "lately" means.
const LATELY: Span = Span::hours(24);

/// The page.
pub(crate) async fn now(site: &Site, caller: &Caller) -> Answer {
    let now = (site.shared.clock)();
    let view = site.shared.view.borrow().clone();
    let charts = site.plots.host(now).await;
    let picture = Picture::of(&view, now, site.started);
    let main = html! {
        h1.sum { (picture.sentence()) }
        (stopped(&view, caller))
        (healing(&picture, caller))
        (open(&picture, caller))
        (unknown(&picture))
        (lately(&picture))
        section #host aria-labelledby="host-title" {
            h2 #host-title { "This host" }
            div.sparks {
                @match &charts {
                    Ok(charts) => { @for chart in charts.iter() { (draw::spark(chart)) } }
                    Err(error) => { p.unknown { "unknown: " (error) } }
                }
            }
        }
        (leases(&view, now, caller))
        (envelopes(&view, now, caller))
        (controls(&view, caller))
    };
    let title = format!("{} · {}", picture.title(), site.shared.host);
    let page = Page { title, path: "/", charts: None, renews: true, main };
    answer::html(StatusCode::OK, whole(site, caller, page))
}

/// The state, sorted by what a reader asks.
struct Picture<'a> {
    now: Time,
    started: Time,
    view: &'a View,
    healing: Vec<&'a IncidentView>,
    open: Vec<&'a IncidentView>,
    /// Sources that cannot look.
    silent: Vec<&'a daruma_model::SourceHealth>,
    starting: usize,
    /// Resolved lately, newest first.
    over: Vec<&'a IncidentView>,
}

impl<'a> Picture<'a> {
    fn of(view: &'a View, now: Time, started: Time) -> Picture<'a> {
        let (open, over): (Vec<_>, Vec<_>) =
            view.incidents.iter().partition(|i| i.incident.resolved.is_none());
        let (healing, open) = open.into_iter().partition(|incident| incident.healing);
        let over = over
            .into_iter()
            .filter(|i| i.incident.resolved.is_some_and(|at| now.since(at) < LATELY))
            .collect();
        let silent = view.sources.iter().filter(|s| s.state == SourceState::Failing).collect();
        let starting = view.sources.iter().filter(|s| s.state == SourceState::Starting).count();
        Picture { now, started, view, healing, open, silent, starting, over }
    }

    fn is_well(&self) -> bool {
        self.healing.is_empty()
            && self.open.is_empty()
            && self.silent.is_empty()
            && self.starting == 0
            && !self.view.sources.is_empty()
    }

    /// Since when nothing was open: never longer ago than this program has looked.
    fn well_since(&self) -> Time {
        let ends = self.view.incidents.iter().filter_map(|i| i.incident.resolved);
        ends.max().unwrap_or(self.started).max(self.started)
    }

    fn title(&self) -> String {
        match (self.open.len(), self.healing.len(), self.silent.len()) {
            (0, 0, 0) if self.is_well() => "✓ all well".to_owned(),
            (0, 0, 0) => "▨ not known yet".to_owned(),
            (0, 0, silent) => format!("▨ {silent} unknown"),
            (0, healing, _) => format!("↻ {healing} healing"),
            (open, ..) => format!("▲ {open} open"),
        }
    }

    fn sentence(&self) -> Markup {
        let gravest = self.open.iter().map(|i| i.incident.level).max();
        let sources = self.view.sources.len();
        html! {
            @if self.is_well() {
                span.part.healed { (words::shape("healed", "well")) " All well" }
                span.part.aside {
                    "for " (words::since(self.now, self.well_since()))
                    @if self.well_since() == self.started { " (daruma has not looked for longer)" }
                    ", seen by " (words::count(sources, "source", "sources"))
                    @if let Some(at) = self.view.sources.iter().map(|s| s.at).max() {
                        ", the last report " (words::when(self.now, at))
                    }
                }
            } @else {
                @if let Some(level) = gravest {
                    span class={ "part " (level.as_str()) } {
                        (words::level(level)) " " (words::count(self.open.len(), "incident", "incidents")) " open"
                    }
                }
                @if !self.healing.is_empty() {
                    span.part.acting { (words::shape("acted", "healing")) " " (self.healing.len()) " healing now" }
                }
                @if gravest.is_none() && self.healing.is_empty() {
                    span.part { "No incident is open" }
                }
                @if !self.silent.is_empty() {
                    span.part.unknown {
                        (words::shape("unknown", "unknown")) " "
                        (words::count(self.silent.len(), "source", "sources")) " unknown"
                    }
                }
                @if self.starting > 0 {
                    span.part.unknown { (words::shape("unknown", "unknown")) " " (self.starting) " still starting" }
                }
                @if sources == 0 {
                    span.part.unknown { (words::shape("unknown", "unknown")) " nothing is watched yet: no source has reported" }
                }
            }
        }
    }
}

fn stopped(view: &View, caller: &Caller) -> Markup {
    let Some(why) = &view.stopped else { return html! {} };
    let place = Place { caller, back: "/", key: "stop" };
    html! {
        section.banner #stopped aria-label="Global stop" {
            p { (words::shape("escalated", "stopped")) strong { " Nothing acts: the global stop is on. " }
                @if !why.is_empty() { (words::foreign(why, 200)) } }
            (acts::row(place, &[Act {
                what: "stop", label: "Let it act again…", go: "Let it act again", grave: false,
                says: html! { "Recoveries that are confirmed and within their limits may start again, everywhere." },
                fixed: vec![("on", "false".to_owned())], fields: html! {},
            }]))
        }
    }
}

fn healing(picture: &Picture<'_>, caller: &Caller) -> Markup {
    if picture.healing.is_empty() {
        return html! {};
    }
    html! {
        section.healing-now #healing aria-labelledby="healing-title" {
            h2 #healing-title { "Healing now" }
            ul.rows {
                @for incident in picture.healing.iter().take(ROWS_MAX) {
                    (row(picture.now, incident, caller, true))
                }
            }
            (beyond(picture.healing.len()))
        }
    }
}

fn open(picture: &Picture<'_>, caller: &Caller) -> Markup {
    if picture.open.is_empty() {
        return html! {};
    }
    html! {
        section #open aria-labelledby="open-title" {
            h2 #open-title { "Open" }
            ul.rows {
                @for incident in picture.open.iter().take(ROWS_MAX) {
                    (row(picture.now, incident, caller, false))
                }
            }
            (beyond(picture.open.len()))
        }
    }
}

fn beyond(all: usize) -> Markup {
    html! { @if all > ROWS_MAX { p.meta { "and " (all - ROWS_MAX) " more; " code { "daruma incident ls" } " lists all" } } }
}

/// One incident as a line on a desk and a card on a phone.
fn row(now: Time, view: &IncidentView, caller: &Caller, healing: bool) -> Markup {
    let incident = &view.incident;
    let id = incident.id;
    let key = format!("i{id}");
    let mut asked = Vec::new();
    if incident.acked.is_none() {
        asked.push(super::incident::ack(incident));
    }
    asked.extend(super::incident::hold(view));
    if healing {
        asked.push(super::incident::abort(view));
    }
    html! {
        li.row id={ "row-" (key) } data-key=(key) data-level=(incident.level.as_str()) {
            (words::level(incident.level))
            div.what {
                a.title href={ "/incident/" (id) } { (words::foreign(&incident.title, 160)) }
                p.sentence { (words::foreign(&view.sentence, 300)) }
                @if view.members.is_empty() { (super::incident::shared(view)) }
                @for recovery in view.recoveries.iter().filter(|_| healing) { (votes(recovery)) }
                @if view.unknown {
                    p.meta.unknown { (words::shape("unknown", "unknown")) " evidence is missing just now; missing evidence ends nothing" }
                }
                @if let Some((by, until)) = &incident.acked {
                    p.meta { (words::shape("person", "")) " " (words::foreign(by, 60)) " looks after it, ends " (words::when(now, *until)) }
                }
            }
            div.side {
                @for recovery in view.recoveries.iter().filter(|_| healing) { (progress(now, recovery)) }
                span.age { (words::since(now, incident.opened)) }
            }
            (acts::row(Place { caller, back: "/", key: &key }, &asked))
        }
    }
}

/// The countdown of a recovery: to what, how long still, and how far it is.
pub(super) fn progress(now: Time, view: &RecoveryView) -> Markup {
    let recovery = &view.recovery;
    let Some(due) = view.due else { return html! {} };
    let (from, word) = match &recovery.phase {
        Phase::Acting { since, .. } => (Some(*since), "must end in"),
        Phase::Verifying { after, .. } => (Some(*after), "proof due in"),
        Phase::BackingOff { .. } => (None, "next attempt in"),
        Phase::Healed { at, .. } => (Some(*at), "alerts clear within"),
        Phase::Unconfirmed { .. } => (None, "asked again in"),
        Phase::Waiting { .. } => (None, "looked at again in"),
        _ => return html! {},
    };
    html! {
        span.due { (word) " " (words::countdown(now, due)) }
        @if let Some(from) = from {
            progress max="1" value=(format!("{:.3}", acts::run(from, due, now)))
                data-from=(from.0) data-until=(due.0) aria-label=(word) {}
        }
    }
}

/// Who agrees: `confirmed by 2 of 3: probe …`.
fn votes(view: &RecoveryView) -> Markup {
    let verifying = matches!(view.recovery.phase, Phase::Verifying { .. });
    let wanted = |role: &Role| match role {
        Role::Verify => verifying,
        Role::Confirm => !verifying,
        _ => false,
    };
    let all: Vec<_> = view.recovery.witnesses.iter().filter(|w| wanted(&w.role)).collect();
    if all.is_empty() {
        return html! {};
    }
    let (votes, need) = view.votes;
    html! {
        p.meta.votes {
            @if verifying { "proved by " } @else { "confirmed by " }
            b { (votes) " of " (all.len()) } @if !verifying && need > 0 { " (" (need) " needed)" } ": "
            @for (i, witness) in all.iter().take(5).enumerate() {
                @if i > 0 { ", " }
                span.vote.counts[witness.votes()] {
                    @if witness.votes() { (words::shape("healed", "agrees")) } @else { (words::shape("detected", "not yet")) }
                    " " (words::foreign(&witness.title, 60))
                    @if witness.last.is_none() { " (no answer yet)" }
                }
            }
        }
    }
}

fn unknown(picture: &Picture<'_>) -> Markup {
    if picture.silent.is_empty() {
        return html! {};
    }
    let longest = picture.silent.iter().map(|source| source.at).min();
    html! {
        section.unknown-now #unknown aria-labelledby="unknown-title" {
            h2 #unknown-title { "Unknown" }
            ul.rows { li.row {
                (words::shape("unknown", "unknown"))
                div.what {
                    a.title href="/sources" {
                        (picture.silent.len()) " of " (words::count(picture.view.sources.len(), "source", "sources")) " cannot look"
                    }
                    p.sentence {
                        @for (i, source) in picture.silent.iter().take(3).enumerate() {
                            @if i > 0 { ", " }
                            span title=(source.said) { (words::foreign(&source.source, 80)) }
                        }
                        @if picture.silent.len() > 3 { " and " (picture.silent.len() - 3) " more" }
                        "; what they would say is not known"
                    }
                }
                div.side { @if let Some(at) = longest { span.age { "said " (words::when(picture.now, at)) } } }
            } }
        }
    }
}

fn lately(picture: &Picture<'_>) -> Markup {
    let now = picture.now;
    let alone = |i: &&&IncidentView| i.incident.healed && i.incident.escalated.is_none();
    let healed = picture.over.iter().filter(alone).count();
    let lately = |at: Time| now.since(at) < LATELY;
    let with = |wanted: &[Delivery]| {
        let mut all = picture.view.ledger.iter().filter(|out| lately(out.message.created));
        all.by_ref().filter(|out| wanted.contains(&out.delivery)).count()
    };
    let (told, waiting, lost) = (
        with(&[Delivery::Accepted, Delivery::Delivered]),
        with(&[Delivery::Queued, Delivery::Sending]),
        with(&[Delivery::Rejected, Delivery::GaveUp]),
    );
    html! {
        section #lately aria-labelledby="lately-title" {
            h2 #lately-title { "Last 24 hours" }
            p.figures {
                span.figure.healed { (words::shape("healed", "")) " " b { (healed) } " healed without you" }
                span.figure { b { (picture.over.len() - healed) } " ended otherwise" }
                span.figure { (words::shape("told", "")) " " b { (told) } " told" }
                @if waiting > 0 { span.figure.unknown { (words::shape("unknown", "")) " " b { (waiting) } " on their way" } }
                span class={ "figure" @if lost > 0 { " error" } } {
                    @if lost > 0 { (words::shape("error", "")) " " }
                    b { (lost) } " not delivered"
                }
            }
            @if !picture.over.is_empty() {
                details.more #over {
                    summary { "what they were" }
                    ul.rows {
                        @for incident in picture.over.iter().take(ROWS_MAX) {
                            li.row id={ "over-" (incident.incident.id) } {
                                @if incident.incident.healed { (words::shape("healed", "healed")) }
                                @else { (words::shape("resolved", "resolved")) }
                                div.what {
                                    a.title href={ "/incident/" (incident.incident.id) } { (words::foreign(&incident.incident.title, 160)) }
                                    p.sentence { (words::foreign(&incident.sentence, 200)) }
                                }
                                div.side { @if let Some(at) = incident.incident.resolved { span.age { (words::when(now, at)) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn leases(view: &View, now: Time, caller: &Caller) -> Markup {
    if view.holds.is_empty() && view.silences.is_empty() {
        return html! {};
    }
    let lease = |kind: &'static str, id: u64, matchers, by: &str, comment: &str, from, until| {
        let (act, label, says) = match kind {
            "hold" => (
                "release",
                "Release…",
                "Recovery may act on it again, and its alerts are told again, now.",
            ),
            _ => ("unsilence", "End…", "Its alerts are told again, now."),
        };
        let key = format!("{kind}{id}");
        let acts = [Act {
            what: act,
            label,
            go: if kind == "hold" { "Release now" } else { "End it now" },
            grave: false,
            says: html! { (says) },
            fixed: vec![("id", id.to_string())],
            fields: html! {},
        }];
        html! {
            li.row id={ "row-" (key) } data-key=(key) {
                (words::shape("info", ""))
                div.what {
                    p.title { (kind) " on " (acts::shown(matchers)) }
                    p.sentence { (words::foreign(by, 60)) @if !comment.is_empty() { ": " (words::foreign(comment, 200)) } }
                }
                div.side {
                    span.due { "ends " (words::when(now, until)) }
                    progress max="1" value=(format!("{:.3}", acts::run(from, until, now)))
                        data-from=(from.0) data-until=(until.0) aria-label="run" {}
                }
                (acts::row(Place { caller, back: "/", key: &key }, &acts))
            }
        }
    };
    html! {
        section #leases aria-labelledby="leases-title" {
            h2 #leases-title { "Holds and silences" }
            p.meta { a href="/silences" { "What they hide" } }
            ul.rows {
                @for h in view.holds.iter().take(ROWS_MAX) { (lease("hold", h.id, &h.matchers, &h.by, &h.comment, h.from, h.until)) }
                @for s in view.silences.iter().take(ROWS_MAX) { (lease("silence", s.id, &s.matchers, &s.by, &s.comment, s.from, s.until)) }
            }
        }
    }
}

/// What runbooks may still do; only those of which there is something to say.
fn envelopes(view: &View, now: Time, caller: &Caller) -> Markup {
    let told: Vec<_> = view
        .envelopes
        .iter()
        .filter(|e| e.breaker.is_some() || !e.attempts.is_empty() || e.mode != Mode::Auto)
        .collect();
    if told.is_empty() {
        return html! {};
    }
    html! {
        section #envelopes aria-labelledby="envelopes-title" {
            h2 #envelopes-title { "Limits" }
            ul.rows {
                @for (i, envelope) in told.iter().take(ROWS_MAX).enumerate() {
                    @let key = format!("envelope{i}");
                    li.row id={ "row-" (key) } {
                        @if envelope.breaker.is_some() { (words::shape("escalated", "breaker open")) }
                        @else { (words::shape("info", "")) }
                        div.what {
                            p.title { (words::foreign(&envelope.runbook, 100)) }
                            @if let Some(breaker) = &envelope.breaker {
                                p.sentence { "Breaker open since " (words::at(breaker.opened)) ": " (words::foreign(&breaker.why, 200))
                                    "; one trial is allowed " (words::when(now, breaker.half_open_at)) }
                            } @else {
                                p.sentence {
                                    @match envelope.mode {
                                        Mode::Off => { "is off: nothing is decided" }
                                        Mode::Shadow => { "in shadow mode: records what it would do, and does not" }
                                        _ => { "acts" }
                                    }
                                    @for (target, used) in envelope.attempts.iter().take(5) {
                                        " · " (words::foreign(target, 60)) " " (used) " of " (envelope.attempts_max)
                                    }
                                }
                            }
                        }
                        @if envelope.breaker.is_some() {
                            (acts::row(Place { caller, back: "/", key: &key }, &[Act {
                                what: "reset_breaker", label: "Close breaker…", go: "Close the breaker now", grave: true,
                                says: html! { "Runbook " (words::foreign(&envelope.runbook, 100)) " may act again at once, though its last acts did not help." },
                                fixed: vec![("runbook", envelope.runbook.clone())], fields: html! {},
                            }]))
                        }
                    }
                }
            }
        }
    }
}

/// What is not about one incident.
fn controls(view: &View, caller: &Caller) -> Markup {
    let matchers = html! {
        label.wide { "labels, one a line "
            textarea name="matchers" rows="2" required spellcheck="false" autocapitalize="off" placeholder="service=\"web\"" {}
        }
    };
    let mut all = vec![Act {
        what: "hold",
        label: "Hold…",
        go: "Hold",
        grave: false,
        says: html! { "Keeps recovery off what has these labels, and mutes its alerts, until it ends: for a deploy or work by hand." },
        fixed: vec![],
        fields: html! { (matchers) (acts::duration("30m")) (acts::comment("deploy 42")) },
    }];
    if view.stopped.is_none() {
        all.push(Act {
            what: "stop", label: "Stop everything…", go: "Stop every action now", grave: true,
            says: html! { "No action starts anywhere until it is let go again. Watching and telling go on." },
            fixed: vec![("on", "true".to_owned())],
            fields: acts::comment("why"),
        });
    }
    if !caller.may_act {
        return html! {};
    }
    html! {
        section #controls aria-labelledby="controls-title" {
            h2 #controls-title { "By hand" }
            (acts::row(Place { caller, back: "/", key: "all" }, &all))
            p.meta { a href="/silences#make" { "Silence alerts" } ", with a look at what that would hide" }
        }
    }
}
