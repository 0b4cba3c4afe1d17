//! One incident: its story from detection to the last word told, each claim beside its evidence.

use std::collections::BTreeMap;

use daruma_alert::{
    AlertState, Entry, EntryKind, Incident, IncidentView, Outgoing, RecoveryView, Role, Witness,
};
use daruma_model::{Evidence, Labels, Message, MessageStatus, Span, Time, Verdict};
use hyper::StatusCode;
use maud::{Markup, html};

use super::acts::{self, Act, Place};
use super::draw::{self, Moment};
use super::{Page, ledger, told, whole, words};
use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::guard::Caller;
use crate::plot::{self, PlotQuery, Unit};

/// Charts of one incident.
const CHARTS_MAX: usize = 3;
/// Marks of one chart.
const MOMENTS_MAX: usize = 40;
/// Rows of one table.
const ROWS_MAX: usize = 100;
/// Characters of an action's output or a vendor's answer that are shown.
const DETAIL_CHARS_MAX: usize = 8192;

/// The page.
pub(crate) async fn incident(site: &Site, caller: &Caller, id: u64, query: &str) -> Answer {
    let now = (site.shared.clock)();
    let view = site.shared.view.borrow().clone();
    let Some(view) = view.incidents.iter().find(|incident| incident.incident.id == id) else {
        let said = format!(
            "There is no incident {id} in memory. If it is long over, `daruma journal` still has it."
        );
        return super::plain(StatusCode::NOT_FOUND, &said);
    };
    let incident = &view.incident;
    let path = format!("/incident/{id}");
    let main = html! {
        article.incident data-level=(incident.level.as_str()) {
            p.crumb { a href="/" { "Now" } " › incident " (id) }
            h1 {
                @match (incident.healed, incident.resolved) {
                    (true, _) => (words::shape("healed", "healed")),
                    (_, Some(_)) => (words::shape("resolved", "over")),
                    _ => (words::level(incident.level)),
                }
                " " (words::foreign(&incident.title, 300))
            }
            p.lead { (words::foreign(&view.sentence, 500)) }
            @if view.healing {
                @for recovery in &view.recoveries { div.side { (super::now::progress(now, recovery)) } }
            }
            (facts(now, view))
            (told(query))
            @if incident.resolved.is_none() {
                (acts::row(Place { caller, back: &path, key: &format!("i{id}") }, &offered(view)))
                (silence(view, caller))
            }
            @if view.members.is_empty() { (posted(now, &view.messages)) }
            (charts(site, view, now).await)
            (timeline(incident))
            @for recovery in &view.recoveries { (recovery_section(now, recovery)) }
            (told_whom(now, &view.messages))
            @if !view.members.is_empty() { (why(view)) }
        }
    };
    let state = match (incident.resolved, incident.healed) {
        (Some(_), true) => "✓",
        (Some(_), false) => "over:",
        (None, _) => "▲",
    };
    let title = words::clean(&incident.title, 80);
    let page = Page {
        title: format!("{state} {title} · daruma"),
        path: &path,
        charts: Some("chart.js"),
        renews: true,
        main,
    };
    answer::html(StatusCode::OK, whole(site, caller, page))
}

fn facts(now: Time, view: &IncidentView) -> Markup {
    let incident = &view.incident;
    html! {
        dl.facts {
            div { dt { "group" } dd { (words::foreign(&incident.group, 200)) } }
            div { dt { "opened" } dd { (words::at(incident.opened)) " UTC, " (words::when(now, incident.opened)) } }
            @if let Some(at) = incident.resolved {
                div { dt { "over" } dd { (words::at(at)) " UTC, after " (words::took(at.since(incident.opened))) } }
            }
            @if let Some((by, until)) = &incident.acked {
                div { dt { "looked after by" } dd { (words::foreign(by, 60)) ", ends " (words::when(now, *until)) } }
            }
            @if incident.aborted { div { dt { "aborted" } dd { "no recovery starts in it again" } } }
            @if let Some(why) = &incident.escalated {
                div.bad { dt { (words::shape("escalated", "")) " a person is needed" } dd { (words::foreign(why, 300)) } }
            }
            @if view.unknown {
                div.unknown { dt { (words::shape("unknown", "")) " evidence" } dd { "missing just now; missing evidence ends nothing" } }
            }
        }
    }
}

fn offered(view: &IncidentView) -> Vec<Act<'static>> {
    let mut all = Vec::new();
    if view.incident.acked.is_none() {
        all.push(ack(&view.incident));
    }
    all.extend(hold(view));
    if !view.incident.aborted && !view.recoveries.is_empty() {
        all.push(abort(view));
    }
    all
}

/// Somebody looks after it.
pub(super) fn ack(incident: &Incident) -> Act<'static> {
    Act {
        what: "ack",
        label: "Ack…",
        go: "Acknowledge",
        grave: false,
        says: html! { "Tells everybody that you look after " b { (words::foreign(&incident.title, 80)) } ". Repeated calls about it pause until it ends. Recovery goes on." },
        fixed: vec![("incident", incident.id.to_string())],
        fields: html! { (acts::duration("1h")) (acts::comment("what you do")) },
    }
}

/// Recovery keeps off what its alerts have in common; nothing if that is nothing.
pub(super) fn hold(view: &IncidentView) -> Option<Act<'static>> {
    let labels: Vec<&Labels> = view.members.iter().map(|m| &m.alert.finding.labels).collect();
    let matchers = acts::common(&labels);
    if matchers.0.is_empty() {
        return None;
    }
    Some(Act {
        what: "hold",
        label: "Hold…",
        go: "Hold",
        grave: false,
        says: html! { "Keeps recovery off, and mutes alerts of, everything with " (acts::shown(&matchers)) "until it ends." },
        fixed: vec![("matchers", acts::lines(&matchers))],
        fields: html! { (acts::duration("30m")) (acts::comment("work by hand")) },
    })
}

/// What was told last.
fn newest(messages: &[Outgoing]) -> Option<&Message> {
    messages.iter().map(|out| &out.message).max_by_key(|message| message.id)
}

/// Labels of its alerts: of own ones, else of those that were told last.
pub(super) fn labels(view: &IncidentView) -> Vec<&Labels> {
    if view.members.is_empty() {
        let told = newest(&view.messages).into_iter().flat_map(|message| &message.alerts);
        return told.map(|alert| &alert.labels).collect();
    }
    view.members.iter().map(|member| &member.alert.finding.labels).collect()
}

/// What its alerts have in common besides their name, so that groups of one rule can be told apart.
pub(super) fn shared(view: &IncidentView) -> Markup {
    let all = labels(view);
    let common = acts::alike(&all).filter(|(name, _)| *name != "alertname");
    html! {
        @if !all.is_empty() { p.labels { @for (name, value) in common.take(4) {
            code.label { (words::foreign(name, 40)) "=" (words::foreign(value, 60)) } " "
        } } }
    }
}

/// The way to a silence of what its alerts have in common.
fn silence(view: &IncidentView, caller: &Caller) -> Markup {
    let labels = labels(view);
    let matchers = acts::common(&labels);
    if matchers.0.is_empty() || !caller.may_act {
        return html! {};
    }
    let mut to = form_urlencoded::Serializer::new(String::new());
    to.append_pair("matchers", &acts::lines(&matchers));
    html! {
        p.meta {
            a href={ "/silences?" (to.finish()) "#make" } { "Silence " (acts::shown(&matchers)) }
            " · " a href={ "/notify?incident=" (view.incident.id) "#routes" } { "Who is told of it" }
        }
    }
}

/// No recovery in it any more.
pub(super) fn abort(view: &IncidentView) -> Act<'static> {
    let targets: Vec<&str> =
        view.recoveries.iter().map(|r| r.recovery.target.as_str()).take(3).collect();
    let targets = targets.join(", ");
    Act {
        what: "abort",
        label: "Abort…",
        go: "Abort recovery now",
        grave: true,
        says: html! { "Ends what runs on " b { (words::foreign(&targets, 120)) } " and starts no recovery in this incident again. You are on your own then." },
        fixed: vec![("incident", view.incident.id.to_string())],
        fields: html! {},
    }
}

/// The first and last time that the charts show.
fn span(incident: &Incident, now: Time) -> (Time, Time) {
    let end = incident.resolved.unwrap_or(now);
    let lasted = end.since(incident.opened).0;
    let room = Span(lasted.clamp(Span::minutes(2).0, Span::minutes(30).0));
    (incident.opened - room, (end + room).min(now.max(incident.opened + Span::secs(1))))
}

/// What its evidence says can be plotted: the query, and whose labels it is about.
fn queries(view: &IncidentView) -> Vec<(String, Labels)> {
    let of_alerts = view.members.iter().map(|m| (&m.alert.finding.evidence, m));
    let mut found: Vec<(String, Labels)> = of_alerts
        .filter_map(|(evidence, member)| {
            let query = evidence.query.clone()?;
            Some((query, member.alert.finding.labels.clone()))
        })
        .collect();
    let told = view.incident.timeline.iter().filter_map(|entry| entry.evidence.as_ref());
    found.extend(told.filter_map(|e| Some((e.query.clone()?, Labels::default()))));
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|(query, _)| seen.insert(query.clone()));
    found
}

/// Marks of a timeline, each kind's first and last standing for many.
fn moments(incident: &Incident) -> Vec<Moment> {
    let mut all: Vec<Moment> = incident
        .timeline
        .iter()
        .map(|entry| {
            let (shape, word) = words::kind(entry);
            Moment { at: entry.at, shape, word }
        })
        .collect();
    if all.len() > MOMENTS_MAX {
        let tail = all.split_off(all.len() - MOMENTS_MAX / 2);
        all.truncate(MOMENTS_MAX / 2);
        all.extend(tail);
    }
    all
}

async fn charts(site: &Site, view: &IncidentView, now: Time) -> Markup {
    let (from, to) = span(&view.incident, now);
    let queries = queries(view);
    let moments = moments(&view.incident);
    let mut all = Vec::new();
    for (text, like) in queries.iter().take(CHARTS_MAX) {
        let (drawn, threshold) = plot::drawn(text);
        let asked = PlotQuery { text: drawn.clone(), from, to, step: None, like: like.clone() };
        all.push((text, drawn, threshold, like, site.plots.plot(asked).await));
    }
    if all.is_empty() {
        return html! {};
    }
    let live = view.incident.resolved.is_none();
    html! {
        section.charts aria-labelledby="charts-title" {
            h2 #charts-title { "Evidence" }
            @for (i, (text, drawn, threshold, like, plot)) in all.iter().enumerate() {
                figure.chart id={ "chart-" (i) } {
                    figcaption { code { (words::foreign(text, 400)) } }
                    @match plot {
                        Ok(plot) => {
                            div.plot id={ "plot-" (i) } data-query=(drawn) data-from=(from.0) data-to=(to.0) data-live=(live)
                                data-threshold=[*threshold]
                                data-like=[serde_json::to_string(like).ok()] {
                                (draw::evidence(plot, (from, to), *threshold, &moments))
                            }
                            ul.legend {
                                @for (i, line) in plot.lines.iter().enumerate() {
                                    li class={ "l" (i % 4) } { (words::foreign(&line.name, 160))
                                        @if let Some(last) = line.values.iter().rev().flatten().next() {
                                            " — last " b { (words::value(*last, Unit::Plain)) }
                                        }
                                    }
                                }
                                @if plot.left_out > 0 { li { "and " (plot.left_out) " more" } }
                                @for note in &plot.said { li.meta { (words::foreign(note, 300)) } }
                            }
                        }
                        Err(error) => { p.unknown { (words::shape("unknown", "unknown")) " cannot be drawn: " (words::foreign(&error.to_string(), 300)) } }
                    }
                }
            }
        }
    }
}

fn timeline(incident: &Incident) -> Markup {
    let quarter = incident.timeline.len() / 4;
    let dropped = incident.timeline_dropped;
    html! {
        section aria-labelledby="story-title" {
            h2 #story-title { "What happened" }
            ol.story #story {
                @for (i, entry) in incident.timeline.iter().enumerate() {
                    @if dropped > 0 && i == quarter {
                        li.meta.gap { (dropped) " entries are left out here; the journal has them all" }
                    }
                    (line(i, entry))
                }
            }
        }
    }
}

fn line(number: usize, entry: &Entry) -> Markup {
    let (shape, word) = words::kind(entry);
    let detail = entry.detail.as_deref().filter(|detail| !detail.trim().is_empty());
    html! {
        li class={ "entry " (shape) } id={ "e-" (entry.at.0) "-" (number) } data-key={ "e" (number) "-" (entry.at.0) }
            data-at=(entry.at.0) data-shape=(shape) data-word=(word) {
            (words::finely(entry.at))
            span.kind { (words::shape(shape, "")) " " (word) }
            div.what {
                p { (words::foreign(&entry.text, 1000)) }
                @if let Some(evidence) = &entry.evidence {
                    @if evidence.lines.is_empty() && evidence.query.is_none() && evidence.summary == entry.text {} @else {
                        details id={ "ev-" (entry.at.0) "-" (number) } { summary { "evidence" } (seen(evidence)) }
                    }
                }
                @if let Some(detail) = detail {
                    details id={ "de-" (entry.at.0) "-" (number) } {
                        summary { @if entry.kind == EntryKind::Acted { "output" } @else { "more" } }
                        pre tabindex="0" { (words::foreign(detail, DETAIL_CHARS_MAX)) }
                    }
                }
            }
        }
    }
}

fn seen(evidence: &Evidence) -> Markup {
    html! {
        @if !evidence.summary.is_empty() { p { (words::foreign(&evidence.summary, 1000)) } }
        @if let Some(value) = evidence.value { p.meta { "value " b { (words::value(value, Unit::Plain)) } } }
        @if let Some(query) = &evidence.query { p.meta { code { (words::foreign(query, 1000)) } } }
        @if !evidence.lines.is_empty() {
            pre tabindex="0" { @for line in evidence.lines.iter().take(10) { (words::foreign(line, 500)) "\n" } }
        }
    }
}

fn recovery_section(now: Time, view: &RecoveryView) -> Markup {
    let recovery = &view.recovery;
    let title = format!("recovery-{}", recovery.id);
    html! {
        section.recovery aria-labelledby=(title) {
            h2 id=(title) { "Recovery of " (words::foreign(&recovery.target, 120)) }
            p.lead { (words::foreign(&view.sentence, 400)) }
            dl.facts {
                div { dt { "runbook" } dd { (words::foreign(&recovery.runbook, 120)) ", step " (recovery.step + 1) } }
                div { dt { "acts so far" } dd { (recovery.attempt) @if recovery.no_help > 0 { ", " (recovery.no_help) " in a row without help" } } }
                div { dt { "begun" } dd { (words::at(recovery.started)) " UTC" } }
            }
            @if let Some(outcome) = &recovery.outcome {
                h3 { "Last act" }
                p { (words::shape("acted", "")) " " (words::foreign(&outcome.end.to_string(), 300)) " after " (words::took(outcome.ended.since(outcome.started)))
                    ", ended " (words::when(now, outcome.ended)) }
                @if !outcome.output.trim().is_empty() {
                    details id={ "out-" (recovery.id) } {
                        summary { "output" }
                        pre tabindex="0" { (words::foreign(&outcome.output, DETAIL_CHARS_MAX)) }
                    }
                }
            }
            @if !recovery.witnesses.is_empty() { (witnesses(now, &recovery.witnesses)) }
        }
    }
}

fn witnesses(now: Time, all: &[Witness]) -> Markup {
    html! {
        table.cards {
            caption { "Witnesses" }
            thead { tr { th scope="col" { "witness" } th scope="col" { "asked for" } th scope="col" { "says" } th scope="col" { "in a row" } th scope="col" { "counts" } } }
            tbody {
                @for witness in all.iter().take(ROWS_MAX) {
                    tr {
                        th scope="row" { (words::foreign(&witness.title, 160)) }
                        td data-label="asked for" {
                            @match &witness.role {
                                Role::Confirm => { "the fault" }
                                Role::OnlyIf => { "a condition" }
                                Role::Unless => { "a veto" }
                                Role::When => { "whether this step is for it" }
                                Role::Dependency(name) => { "health of " (words::foreign(name, 60)) }
                                Role::Verify => { "proof" }
                            }
                        }
                        td data-label="says" {
                            @match &witness.last {
                                Some(vote) => {
                                    @match vote.verdict {
                                        Verdict::Holds => { b { "yes" } }
                                        Verdict::Clear => { b { "no" } }
                                        Verdict::Unknown => { b.unknown { (words::shape("unknown", "")) " unknown" } }
                                    }
                                    ": " (words::foreign(&vote.said, 300)) ", " (words::when(now, vote.at))
                                }
                                None => { span.unknown { "no answer yet" } }
                            }
                        }
                        td data-label="in a row" { (witness.in_row) " of " (witness.need_in_row) }
                        td data-label="counts" { @if witness.votes() { (words::shape("healed", "")) " yes" } @else { "no" } }
                    }
                }
            }
        }
    }
}

/// Who was told, and what became of it.
fn told_whom(now: Time, messages: &[Outgoing]) -> Markup {
    let rows: Vec<&Outgoing> = messages.iter().collect();
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="told-title" {
                h2 #told-title { "Who was told" }
                (ledger::table(now, &rows, None))
            }
        }
    }
}

/// Alerts that somebody else judges, as they were told last.
fn posted(now: Time, messages: &[Outgoing]) -> Markup {
    let Some(message) = newest(messages).filter(|message| !message.alerts.is_empty()) else {
        return html! {};
    };
    // By what alerts of one name differ.
    let differs = |name: &str, value: &str| {
        name != "alertname" && message.alerts.iter().any(|alert| alert.labels.get(name) != value)
    };
    html! {
        section aria-labelledby="alerts-title" {
            h2 #alerts-title { "Alerts, as they were told" }
            @for (i, alert) in message.alerts.iter().take(ROWS_MAX).enumerate() {
                @let level = words::level(message.level);
                details.why id={ "alert-" (i) } open[i == 0] {
                    summary {
                        @if alert.status == MessageStatus::Firing { (level) } @else { (words::shape("healed", "over")) }
                        " " (words::foreign(alert.labels.get("alertname"), 160))
                        @for (name, value) in alert.labels.iter().filter(|(name, value)| differs(name, value)).take(3) {
                            " · " (words::foreign(name, 40)) "=" (words::foreign(value, 80))
                        }
                        " · began " (words::when(now, alert.starts_at))
                    }
                    p.labels { @for (name, value) in alert.labels.iter().take(40) { code.label { (words::foreign(name, 80)) "=" (words::foreign(value, 160)) } " " } }
                    dl.facts { @for (name, value) in alert.annotations.iter().take(40) {
                        div { dt { (words::foreign(name, 80)) } dd { (words::link_or_text(value, 1000)) } }
                    } }
                    @if !alert.generator_url.is_empty() { p.meta { "from " (words::link_or_text(&alert.generator_url, 1000)) } }
                }
            }
            @if message.left_out > 0 { p.meta { "and " (message.left_out) " more" } }
        }
    }
}

fn why(view: &IncidentView) -> Markup {
    let mut by_state: BTreeMap<&str, usize> = BTreeMap::new();
    for member in &view.members {
        *by_state.entry(state_word(member.alert.state)).or_default() += 1;
    }
    html! {
        section aria-labelledby="why-title" {
            h2 #why-title { "Why, and why not more" }
            p.meta { @for (word, number) in &by_state { (number) " " (word) " " } }
            @for (i, member) in view.members.iter().take(ROWS_MAX).enumerate() {
                @let alert = &member.alert;
                details.why id={ "why-" (i) } open[i == 0] {
                    summary { (words::level(member.level)) " " (words::foreign(alert.finding.labels.get("alertname"), 160))
                        " · " (state_word(alert.state)) }
                    p.labels { @for (name, value) in alert.finding.labels.iter().take(40) { code.label { (words::foreign(name, 80)) "=" (words::foreign(value, 160)) } " " } }
                    ul { @for reason in member.why.iter().take(ROWS_MAX) { li.deeper[reason.starts_with("  ")] { (words::foreign(reason.trim_start(), 1000)) } } }
                }
            }
        }
    }
}

fn state_word(state: AlertState) -> &'static str {
    match state {
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
        AlertState::Resolved => "over",
    }
}

#[cfg(test)]
mod tests {
    use daruma_alert::Delivery;
    use daruma_model::{Level, MessageAlert};

    use super::*;

    fn told(id: u64, alerts: Vec<MessageAlert>) -> Outgoing {
        let message = Message::test(id, "ops/webhook[0]", MessageStatus::Firing, Time(0));
        Outgoing {
            message: Message { level: Level::Critical, alerts, left_out: 7, ..message },
            delivery: Delivery::Accepted,
            tries: 1,
            next_at: Time(0),
            attempts: std::collections::VecDeque::new(),
            first: 0,
            unreached: None,
            receipts: Vec::new(),
        }
    }

    fn alert(instance: &str, status: MessageStatus) -> MessageAlert {
        MessageAlert {
            labels: Labels::from([("alertname", "Full"), ("instance", instance), ("team", "db")]),
            annotations: Labels::from([
                ("runbook_url", "https://wiki.example.org/full?a=1&b=2"),
                ("summary", "<script>alert(1)</script>"),
                ("trap", "javascript:alert(1)"),
            ]),
            status,
            starts_at: Time(0),
            ends_at: None,
            generator_url: "data:text/html,x".to_owned(),
        }
    }

    #[test]
    fn posted_alerts_stand_as_they_were_told_last_with_what_tells_them_apart() {
        let both = vec![alert("a:1", MessageStatus::Firing), alert("b:2", MessageStatus::Resolved)];
        let messages = [told(2, both), told(1, vec![alert("earlier", MessageStatus::Firing)])];
        let page = posted(Time(90_000), &messages).into_string();
        assert!(!page.contains("earlier") && page.contains("and 7 more"), "{page}");
        let summaries: Vec<&str> = page.split("<summary>").skip(1).collect();
        assert!(summaries[0].contains("instance</bdi>=<bdi>a:1"), "{page}");
        let summary = summaries[1].split("</summary>").next().unwrap_or_default();
        assert!(summary.contains("over") && !summary.contains("team"), "{page}");
        assert!(page.contains(r#"href="https://wiki.example.org/full?a=1&amp;b=2""#), "{page}");
        assert_eq!(page.matches("<a href=").count(), 2, "{page}");
        assert!(!page.contains("<script>"), "{page}");
        assert_eq!(posted(Time(0), &[]).into_string(), "");
    }
}
