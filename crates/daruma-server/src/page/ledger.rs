//! Messages and what became of them: outcome and the far side's words first, then the retries, then what
//! only a search for mistakes needs.

use daruma_alert::{Delivery, IncidentView, Outgoing};
use daruma_model::{AttemptOutcome, ReceiptState, Time};
use maud::{Markup, html};

use super::words;

/// Rows of one table.
pub(super) const ROWS_MAX: usize = 100;

/// Where a message stands, as people ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stand {
    /// Nobody has it, and nobody will.
    Failed,
    /// An attempt failed; there will be another.
    Retried,
    /// No attempt has ended.
    Waits,
    /// The far side took it.
    Accepted,
    /// It arrived.
    Delivered,
}

impl Stand {
    pub(super) const ALL: [Stand; 5] =
        [Stand::Failed, Stand::Retried, Stand::Waits, Stand::Accepted, Stand::Delivered];

    /// Where this message stands.
    pub(super) fn of(out: &Outgoing) -> Stand {
        let lost = out.receipts.iter().any(|receipt| receipt.state == ReceiptState::Lost);
        match out.delivery {
            Delivery::Rejected | Delivery::GaveUp => Stand::Failed,
            Delivery::Queued | Delivery::Sending if out.attempts.is_empty() => Stand::Waits,
            Delivery::Queued | Delivery::Sending => Stand::Retried,
            Delivery::Accepted | Delivery::Delivered if lost => Stand::Failed,
            Delivery::Accepted => Stand::Accepted,
            Delivery::Delivered => Stand::Delivered,
        }
    }

    /// Its word, also in addresses.
    pub(super) fn word(self) -> &'static str {
        match self {
            Stand::Failed => "failed",
            Stand::Retried => "retried",
            Stand::Waits => "waits",
            Stand::Accepted => "accepted",
            Stand::Delivered => "delivered",
        }
    }

    /// Its shape.
    pub(super) fn shape(self) -> &'static str {
        match self {
            Stand::Failed => "error",
            Stand::Retried => "warning",
            Stand::Waits => "unknown",
            Stand::Accepted | Stand::Delivered => "healed",
        }
    }
}

/// What a delivery came to.
fn outcome(out: &Outgoing) -> (&'static str, &'static str) {
    match out.delivery {
        Delivery::Accepted => ("healed", "accepted"),
        Delivery::Delivered => ("healed", "delivered"),
        Delivery::Queued if out.attempts.is_empty() => ("unknown", "waits"),
        Delivery::Queued => ("warning", "not taken yet"),
        Delivery::Sending => ("unknown", "being sent"),
        Delivery::Rejected => ("error", "refused for good"),
        Delivery::GaveUp => ("error", "given up"),
    }
}

/// The messages; with `incidents`, each leads to what it is about and says who looks after that.
pub(super) fn table(
    now: Time,
    messages: &[&Outgoing],
    incidents: Option<&[IncidentView]>,
) -> Markup {
    html! {
        table.cards.ledger {
            caption.hidden { "Messages and what became of them" }
            thead { tr { th scope="col" { "channel" } th scope="col" { "outcome" } th scope="col" { "message" } th scope="col" { "tries" } } }
            tbody { @for out in messages.iter().take(ROWS_MAX) { (row(now, out, incidents)) } }
        }
        @if messages.len() > ROWS_MAX { p.meta { "and " (messages.len() - ROWS_MAX) " more" } }
    }
}

fn row(now: Time, out: &Outgoing, incidents: Option<&[IncidentView]>) -> Markup {
    let (shape, word) = outcome(out);
    let message = &out.message;
    let about = incidents
        .and_then(|all| all.iter().find(|incident| incident.incident.id == message.incident));
    html! {
        tr {
            th scope="row" { (words::foreign(&message.channel, 120)) }
            td data-label="outcome" {
                span class={ "outcome-word " (shape) } { (words::shape(shape, "")) " " (word) }
                @if let Some(last) = out.attempts.back() { ": " (words::foreign(&last.said, 500)) }
                @for receipt in &out.receipts {
                    br; (words::foreign(&receipt.part, 40)) " "
                    @match receipt.state {
                        ReceiptState::Delivered => { (words::shape("healed", "")) " delivered" }
                        ReceiptState::Read => { (words::shape("healed", "")) " read" }
                        ReceiptState::Lost => { (words::shape("error", "")) " did not arrive" }
                    }
                    @if !receipt.said.is_empty() { ": " (words::foreign(&receipt.said, 200)) }
                }
                @if out.delivery == Delivery::Queued { ", next try " (words::when(now, out.next_at)) }
                @if let Some((by, _)) = about.and_then(|about| about.incident.acked.as_ref()) {
                    br; (words::shape("person", "")) " acked by " (words::foreign(by, 60))
                }
            }
            td data-label="message" {
                @match about {
                    Some(about) => a href={ "/incident/" (about.incident.id) } { (words::foreign(&message.title, 300)) },
                    None => (words::foreign(&message.title, 300)),
                }
                ", " (words::when(now, message.created))
            }
            td data-label="tries" {
                @if out.attempts.is_empty() { (out.tries) } @else {
                    details id={ "tries-" (message.id) } {
                        summary { (words::count(out.tries as usize, "try", "tries")) }
                        ol.tries { @for attempt in &out.attempts {
                            li { (words::finely(attempt.at)) " "
                                @match attempt.outcome {
                                    AttemptOutcome::Accepted => { (words::shape("healed", "")) " accepted" }
                                    AttemptOutcome::Retry => { (words::shape("unknown", "")) " not now" }
                                    AttemptOutcome::Rejected => { (words::shape("error", "")) " refused" }
                                }
                                " in " (words::took(attempt.took)) ": " (words::foreign(&attempt.said, 500)) }
                        } }
                        @if incidents.is_some() {
                            p.meta { "message " (message.id) @if !message.group_key.is_empty() { ", group " (words::foreign(&message.group_key, 300)) } }
                        }
                    }
                }
            }
        }
    }
}
