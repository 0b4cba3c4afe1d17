//! What the pages' forms send: the same commands as the API's, in the form of every browser. They work
//! without scripts: the answer is then a page, or the page they came from with a word about it.

use std::time::Duration;

use daruma_alert::Command;
use daruma_model::{Matchers, Span, Time};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{HeaderValue, SET_COOKIE};
use hyper::http::request::Parts;

use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::api;
use crate::guard::Caller;
use crate::{page, trial};

/// How long a page waits to show the outcome of what it just did.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);
/// What a wrong token costs.
const PENALTY: Duration = Duration::from_millis(500);
/// Why a form was not taken, in words for its reader.
const STALE: &str = "This page is older than the running program, or does not come from it. Nothing \
                     was done. Load the page again and repeat it.";

pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn read(body: &Bytes) -> Fields {
        Fields(form_urlencoded::parse(body).into_owned().take(32).collect())
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.get(name).parse().map_err(|_| format!("`{name}` is not a number"))
    }

    fn span(&self, name: &str) -> Result<Span, String> {
        self.get(name).parse().map_err(|error| format!("{error}"))
    }

    /// One matcher a line.
    fn matchers(&self) -> Result<Matchers, String> {
        let lines = self.get("matchers").lines().filter(|line| !line.trim().is_empty());
        let all: Result<Vec<_>, _> = lines.take(100).map(str::parse).collect();
        all.map(Matchers).map_err(|error| error.to_string())
    }

    fn comment(&self) -> String {
        self.get("comment").to_owned()
    }

    fn command(&self, now: Time) -> Result<Command, String> {
        Ok(match self.get("do") {
            "ack" => Command::Ack {
                incident: self.number("incident")?,
                ttl: Some(self.span("ttl")?),
                comment: self.comment(),
            },
            "abort" => Command::Abort { incident: self.number("incident")? },
            "hold" => Command::Hold {
                matchers: self.matchers()?,
                ttl: self.span("ttl")?,
                comment: self.comment(),
            },
            "release" => Command::Release { id: self.number("id")? },
            "silence" => Command::Silence {
                matchers: self.matchers()?,
                ttl: self.span("ttl")?,
                comment: self.comment(),
            },
            "put_silence" | "extend" => {
                let owner = self.get("owner");
                if owner.is_empty() {
                    return Err("say who answers for it".to_owned());
                }
                let (matchers, ttl, comment) =
                    (self.matchers()?, self.span("ttl")?, self.comment());
                api::sensible(&Command::Silence {
                    matchers: matchers.clone(),
                    ttl,
                    comment: comment.clone(),
                })?;
                let from = match self.get("from") {
                    "" => now,
                    from => from.parse().map(Time).map_err(|_| "`from` is no time".to_owned())?,
                };
                Command::PutSilence {
                    uuid: Some(self.get("uuid")).filter(|u| !u.is_empty()).map(str::to_owned),
                    matchers,
                    from,
                    until: now.max(from) + ttl,
                    by: owner.to_owned(),
                    comment,
                }
            }
            "unsilence" => Command::Unsilence { id: self.number("id")? },
            "stop" => Command::Stop { on: self.get("on") == "true", comment: self.comment() },
            "send_test" => Command::SendTest { to: self.get("to").to_owned() },
            "reset_breaker" => Command::ResetBreaker { runbook: self.get("runbook").to_owned() },
            _ => return Err("this form asks for nothing that is known here".to_owned()),
        })
    }
}

/// What is said when a command was taken.
pub(crate) fn done(word: &str) -> Option<&'static str> {
    Some(match word {
        "ack" => "Acknowledged. It ends by itself.",
        "abort" => "Aborted. No recovery starts in this incident again.",
        "hold" => "Held. Recovery keeps off; it ends by itself.",
        "release" => "Released. Recovery may act again.",
        "silence" | "put_silence" => "Silenced. It ends by itself.",
        "extend" => "Extended. It ends by itself.",
        "unsilence" => "The silence is over.",
        "send_test" => "The test is on its way; what becomes of it stands in the ledger.",
        "stop" => "The global stop was changed.",
        "reset_breaker" => "The breaker is closed; the runbook may act again.",
        _ => return None,
    })
}

/// `POST /act`.
pub(crate) async fn act(site: &Site, caller: &Caller, parts: &Parts, body: &Bytes) -> Answer {
    let fields = Fields::read(body);
    // With scripts the answer is shown in place; without, it is a page.
    let in_place = parts.headers.contains_key("hx-request");
    let say = |status: StatusCode, good: bool, said: &str| {
        if in_place {
            answer::html(status, page::said(good, said))
        } else {
            page::plain(status, said)
        }
    };
    if !site.guard.is_own_form(caller, fields.get("csrf")) {
        return say(StatusCode::FORBIDDEN, false, STALE);
    }
    let command = match fields.command((site.shared.clock)()) {
        Ok(command) => command,
        Err(why) => return say(StatusCode::UNPROCESSABLE_ENTITY, false, &why),
    };
    if let (true, Command::SendTest { to }) = (in_place, &command) {
        return match trial::run(site, &caller.name, to).await {
            Ok(tried) => {
                let (good, said) = trial::sentence(&tried);
                say(StatusCode::OK, good, &said)
            }
            Err(refusal) => say(api::status(&refusal), false, &refusal.to_string()),
        };
    }
    let mut view = site.shared.view.clone();
    view.mark_unchanged();
    if let Err(refusal) = api::order(site, &caller.name, command).await {
        let said = format!("Nothing was done: {refusal}.");
        return say(api::status(&refusal), false, &said);
    }
    let word = fields.get("do");
    if in_place {
        return say(StatusCode::OK, true, done(word).unwrap_or("Done."));
    }
    // The page that is shown next should show it already; if not, it will in a moment.
    drop(tokio::time::timeout(SHOWN_WITHIN, view.changed()).await);
    let back = own_path(fields.get("back"));
    answer::see_other(&format!("{back}?done={word}#said"))
}

/// Only an address of ours is gone back to.
fn own_path(path: &str) -> &str {
    match path {
        "/" | "/sources" | "/silences" | "/notify" | "/explore" => path,
        _ => match path.strip_prefix("/incident/") {
            Some(id) if id.len() < 20 && id.bytes().all(|b| b.is_ascii_digit()) => path,
            _ => "/",
        },
    }
}

/// `POST /login`.
pub(crate) async fn login(site: &Site, caller: &Caller, body: &Bytes, now: Time) -> Answer {
    let fields = Fields::read(body);
    if !site.guard.is_own_form(caller, fields.get("csrf")) {
        return page::plain(StatusCode::FORBIDDEN, STALE);
    }
    let Some(known) = site.guard.known(fields.get("token")) else {
        tokio::time::sleep(PENALTY).await;
        return page::login_again(site, caller, own_path(fields.get("back")));
    };
    with_cookie(answer::see_other(own_path(fields.get("back"))), &site.guard.set_cookie(known, now))
}

/// `POST /logout`.
pub(crate) fn logout(site: &Site, caller: &Caller, body: &Bytes) -> Answer {
    if !site.guard.is_own_form(caller, Fields::read(body).get("csrf")) {
        return page::plain(StatusCode::FORBIDDEN, STALE);
    }
    with_cookie(answer::see_other("/login"), &site.guard.end_cookie())
}

fn with_cookie(mut answer: Answer, cookie: &str) -> Answer {
    match HeaderValue::from_str(cookie) {
        Ok(value) => {
            answer.headers_mut().insert(SET_COOKIE, value);
            answer
        }
        Err(error) => page::plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
