//! `daruma send-test`: one message that says it is a test, over the real channel, and what the far side
//! said to it.

use clap::Args;
use daruma_model::{Attempt, AttemptOutcome, MessageStatus};
use serde_json::{Value, json};

use crate::cli::{NOTHING, Places, SOMETHING};
use crate::client::Client;
use crate::config;
use crate::print::{self, Style};

/// Where a test goes.
#[derive(Args)]
pub struct SendTest {
    /// A receiver, or one of its channels: ops, or ops/webhook[0]
    to: String,
    /// Send it from here by this configuration instead of asking the running daruma
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// The same with an alertmanager.yml
    #[arg(long, value_name = "FILE")]
    alertmanager_config: Option<std::path::PathBuf>,
}

/// `daruma send-test`: 0 if every channel took it, 1 if one did not.
///
/// # Errors
/// No daruma runs, there is no such receiver, or the configuration is not good.
pub fn main(verb: SendTest, client: &Client, style: Style) -> Result<u8, String> {
    let runtime = crate::run::runtime()?;
    let tests = runtime.block_on(async {
        if verb.config.is_none() && verb.alertmanager_config.is_none() {
            let mut said = client.send_test(&verb.to).await.map_err(|error| {
                format!("{error}; with `--config FILE` the test is sent without it")
            })?;
            return match said["tests"].take() {
                Value::Array(tests) => Ok(tests),
                _ => Err("daruma did not say what became of the test".to_owned()),
            };
        }
        let places = Places {
            config: verb.config,
            alertmanager_config: verb.alertmanager_config,
            ..Places::default()
        };
        by_itself(&places, &verb.to).await
    })?;
    let mut code = NOTHING;
    for test in &tests {
        let good = matches!(test["delivery"].as_str(), Some("accepted" | "delivered"));
        if !good {
            code = SOMETHING;
        }
        if style.json {
            print::object(test);
            continue;
        }
        let text = |name: &str| print::clean(test[name].as_str().unwrap_or_default());
        let (mark, word) = match test["delivery"].as_str() {
            Some("accepted" | "delivered") => (style.paint("32", "✓"), "took it"),
            Some("sending" | "queued") => (style.paint("33", "…"), "has not answered yet"),
            _ => (style.paint("31", "✗"), "did not take it"),
        };
        let took = test["took_ms"].as_i64().map(|ms| format!(" after {ms} ms")).unwrap_or_default();
        print::line(&format!("{mark} {} {word}{took}: {}", text("channel"), text("said")));
    }
    Ok(code)
}

/// Sends them from this very process: no journal sees it.
async fn by_itself(places: &Places, to: &str) -> Result<Vec<Value>, String> {
    let clock = crate::clock::system(daruma_model::Time::MIN);
    let loaded = config::load(places, &clock)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let receivers = loaded.policy.notify.receivers.iter();
    let all = receivers.flat_map(|r| r.channels.iter().map(move |(channel, _)| (&r.name, channel)));
    let channels: Vec<&String> =
        all.filter(|(name, channel)| *name == to || *channel == to).map(|(_, c)| c).collect();
    if channels.is_empty() {
        let names: Vec<&str> =
            loaded.policy.notify.receivers.iter().map(|receiver| &*receiver.name).collect();
        return Err(format!(
            "there is no receiver and no channel `{to}` that can be told; there are: {}",
            names.join(", ")
        ));
    }
    let mut tests = Vec::new();
    for channel in channels {
        let attempt = loaded.sender.send_test(channel, MessageStatus::Firing).await;
        tests.push(told(channel, &attempt));
    }
    Ok(tests)
}

fn told(channel: &str, attempt: &Attempt) -> Value {
    let delivery = match attempt.outcome {
        AttemptOutcome::Accepted => "accepted",
        AttemptOutcome::Rejected => "rejected",
        AttemptOutcome::Retry => "gave_up",
    };
    let digits: String = attempt.said.chars().take_while(char::is_ascii_digit).take(6).collect();
    json!({
        "channel": channel,
        "delivery": delivery,
        "code": digits.parse::<u32>().ok(),
        "said": attempt.said,
        "took_ms": attempt.took.0,
    })
}
