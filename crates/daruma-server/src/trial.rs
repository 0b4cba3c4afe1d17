//! Trying channels out: a test is sent for real, and what became of it is told, not only that it was sent.

use std::time::Duration;

use daruma_alert::{Command, Delivery, Outgoing};
use hyper::StatusCode;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::api;
use crate::guard::Caller;
use crate::shared::Refusal;

/// How long somebody waits for the outcome; it stands in the ledger afterwards, too.
const WITHIN: Duration = Duration::from_secs(25);

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    to: String,
}

/// What became of one test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Tried {
    /// The message's number, as in the ledger.
    pub(crate) message: u64,
    pub(crate) channel: String,
    /// `accepted`, `rejected`, `gave_up`, or `sending`: nothing was heard yet.
    pub(crate) delivery: Delivery,
    /// The far side's code, where its words begin with one.
    pub(crate) code: Option<u32>,
    /// The far side's words.
    pub(crate) said: String,
    /// How long it took, in milliseconds.
    pub(crate) took_ms: Option<i64>,
}

impl Tried {
    fn of(out: &Outgoing) -> Tried {
        let last = out.attempts.back();
        let said = last.map(|attempt| attempt.said.clone()).unwrap_or_default();
        let digits: String = said.chars().take_while(char::is_ascii_digit).take(6).collect();
        Tried {
            message: out.message.id,
            channel: out.message.channel.clone(),
            delivery: out.delivery,
            code: digits.parse().ok(),
            said,
            took_ms: last.map(|attempt| attempt.took.0),
        }
    }
}

/// Sends tests to a receiver or a channel, and waits for what becomes of them.
pub(crate) async fn run(site: &Site, by: &str, to: &str) -> Result<Vec<Tried>, Refusal> {
    let mut view = site.shared.view.clone();
    let made = api::order(site, by, Command::SendTest { to: to.to_owned() }).await?;
    let made = made["messages"].as_array().cloned().unwrap_or_default();
    let mut tried: Vec<Tried> = made
        .iter()
        .map(|one| Tried {
            message: one["id"].as_u64().unwrap_or(0),
            channel: one["channel"].as_str().unwrap_or_default().to_owned(),
            delivery: Delivery::Sending,
            code: None,
            said: String::new(),
            took_ms: None,
        })
        .collect();
    tried.sort_by(|a, b| a.channel.cmp(&b.channel));
    let heard = async {
        loop {
            {
                let seen = view.borrow_and_update();
                for one in &mut tried {
                    let out = seen.ledger.iter().find(|out| out.message.id == one.message);
                    if let Some(out) = out {
                        *one = Tried::of(out);
                    }
                }
            }
            let waits = tried.iter().any(|one| one.delivery == Delivery::Sending);
            if !waits || view.changed().await.is_err() {
                break;
            }
        }
    };
    // Whoever is slower is found in the ledger later.
    drop(tokio::time::timeout(WITHIN, heard).await);
    Ok(tried)
}

/// `POST /api/send-test` with `{"to": "RECEIVER or CHANNEL"}`.
pub(crate) async fn post(site: &Site, caller: &Caller, body: &Bytes) -> Answer {
    let asked = match serde_json::from_slice::<Asked>(body) {
        Ok(asked) => asked,
        Err(error) => {
            let why = format!("say where to: {{\"to\": \"RECEIVER\"}}: {error}");
            return answer::refused(StatusCode::BAD_REQUEST, &why);
        }
    };
    match run(site, &caller.name, &asked.to).await {
        Ok(tried) => answer::json(StatusCode::OK, &Value::from_iter([("tests", json(&tried))])),
        Err(refusal) => answer::refused(api::status(&refusal), &refusal.to_string()),
    }
}

fn json(tried: &[Tried]) -> Value {
    serde_json::to_value(tried).unwrap_or(Value::Null)
}

/// The outcomes in a sentence, and whether all is well.
pub(crate) fn sentence(tried: &[Tried]) -> (bool, String) {
    let one = |tried: &Tried| {
        let word = match tried.delivery {
            Delivery::Accepted | Delivery::Delivered => "took it",
            Delivery::Rejected | Delivery::GaveUp => "did not take it",
            Delivery::Sending | Delivery::Queued => "has not answered yet; see the ledger",
        };
        let took = tried.took_ms.map(|took| format!(" ({took} ms)")).unwrap_or_default();
        let said = if tried.said.is_empty() { "" } else { ": " };
        format!("{} {word}{took}{said}{}", tried.channel, tried.said)
    };
    let good =
        tried.iter().all(|one| matches!(one.delivery, Delivery::Accepted | Delivery::Delivered));
    (good, tried.iter().map(one).collect::<Vec<_>>().join("; "))
}
