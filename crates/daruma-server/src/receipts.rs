//! What far sides tell about messages that they took. It comes from outside, without a login: only what
//! the channel finds signed goes further, and what is known already is kept no second time.

use daruma_alert::Command;
use daruma_model::Receipt;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::http::request::Parts;

use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::api;

/// The header that holds the signature.
const SIGNATURE: &str = "x-twilio-signature";

/// `POST /receipt/CHANNEL/MESSAGE`: answered with 200 only once it is durable.
pub(crate) async fn post(
    site: &Site,
    parts: &Parts,
    channel: &str,
    message: u64,
    body: &Bytes,
) -> Answer {
    let signature = parts.headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
    let signature = signature.unwrap_or_default();
    let receipt = match (site.shared.receipts)(channel, message, signature, body) {
        Ok(Some(receipt)) if !is_known(site, &receipt) => receipt,
        Ok(_) => return answer::text(StatusCode::OK, "OK"),
        Err(why) => return answer::refused(StatusCode::FORBIDDEN, &why),
    };
    let by = channel.to_owned();
    match api::order(site, &by, Command::Receipt(receipt)).await {
        Ok(_) => answer::text(StatusCode::OK, "OK"),
        Err(refusal) => answer::refused(api::status(&refusal), &refusal.to_string()),
    }
}

fn is_known(site: &Site, receipt: &Receipt) -> bool {
    let view = site.shared.view.borrow();
    let out = view.ledger.iter().find(|out| out.message.id == receipt.message);
    out.is_some_and(|out| {
        let known = out.receipts.iter().find(|known| known.part == receipt.part);
        known.is_some_and(|known| known.state >= receipt.state)
    })
}
