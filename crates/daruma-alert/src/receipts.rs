//! What became of a message after its far side took it, where the far side tells later: it was delivered,
//! read, or lost on its way.
//!
//! What is lost on its way to everybody counts as refused: whoever stands in is told instead.

use daruma_model::{Receipt, ReceiptState};

use crate::core::Cx;
use crate::{Delivery, EntryKind, Outgoing};

/// Receipts of one message, each of one recipient.
const RECEIPTS_MAX: usize = 100;

/// Where a message stands that was taken, by its receipts.
pub(crate) fn standing(out: &Outgoing) -> Delivery {
    let lost = out.receipts.iter().filter(|receipt| receipt.state == ReceiptState::Lost).count();
    let all = out.receipts.first().map_or(u64::MAX, |receipt| u64::from(receipt.of));
    match out.receipts.len() {
        heard if (heard as u64) < all => Delivery::Accepted,
        heard if heard == lost => Delivery::Rejected,
        _ => Delivery::Delivered,
    }
}

impl Cx<'_> {
    /// Takes in a receipt. What is known already, and what is about no message of this channel, changes
    /// nothing; a later attempt may have been lost after an earlier one arrived.
    pub(crate) fn received(&mut self, receipt: &Receipt) {
        let Some(out) = self.state.outbox.get_mut(&receipt.message) else { return };
        if out.message.channel != receipt.channel {
            return;
        }
        let full = out.receipts.len() >= RECEIPTS_MAX;
        match out.receipts.iter_mut().find(|known| known.part == receipt.part) {
            Some(known) if known.state >= receipt.state => return,
            Some(known) => *known = receipt.clone(),
            None if full => return,
            None => out.receipts.push(receipt.clone()),
        }
        let (incident, title) = (out.message.incident, out.message.title.clone());
        let (channel, part) = (&receipt.channel, &receipt.part);
        let what = match receipt.state {
            ReceiptState::Delivered => "was delivered to",
            ReceiptState::Read => "was read by",
            ReceiptState::Lost => "did not arrive at",
        };
        let said =
            if receipt.said.is_empty() { String::new() } else { format!(": {}", receipt.said) };
        let text = format!("{channel}: \"{title}\" {what} {part}{said}");
        self.stand(receipt.message);
        if let Some(incident) = self.state.incidents.get_mut(&incident) {
            incident.say(self.now, EntryKind::Told, text);
        }
    }

    /// Puts a message where its receipts say it is. One whose attempt is not heard of yet, or is to be
    /// repeated, waits for that.
    pub(crate) fn stand(&mut self, id: u64) {
        let Some(out) = self.state.outbox.get_mut(&id) else { return };
        let (before, first) = (out.delivery, out.first);
        match (before, standing(out)) {
            (Delivery::Queued | Delivery::Sending, _) => {}
            (Delivery::Accepted, Delivery::Rejected) => {
                out.delivery = Delivery::Rejected;
                self.missed(first);
            }
            (_, Delivery::Delivered) => {
                out.delivery = Delivery::Delivered;
                if crate::fallback::is_hopeless(before) {
                    self.reached(first);
                }
            }
            _ => {}
        }
    }

    /// A receiver that counted as reached is not, unless another of its channels took the same.
    fn missed(&mut self, first: u64) {
        let taken = |out: &Outgoing| {
            out.first == first && matches!(out.delivery, Delivery::Accepted | Delivery::Delivered)
        };
        if first != 0 && !self.state.outbox.values().any(taken) {
            self.watch_over(first);
            self.hopeless(first);
        }
    }
}
