//! The page behind the link in a message. Looking at it does nothing: programs that read mail follow
//! every link. Its one button says that somebody looks after the incident.
//!
//! Whoever has the link may use it, so it shows no more than the message did.

use daruma_alert::{Command, IncidentView, View};
use daruma_model::{Span, Time};
use hyper::StatusCode;
use hyper::body::Bytes;
use maud::{DOCTYPE, Markup, html};

use crate::accept::Site;
use crate::ack_links::{AckLink, SERVES};
use crate::answer::{self, Answer};
use crate::shared::Refusal;
use crate::{api, form, statics};

use super::words;

/// For how long somebody may take it on; the second is chosen unless another is.
const CHOICES: [(&str, &str); 5] =
    [("1h", "1 hour"), ("4h", "4 hours"), ("8h", "8 hours"), ("24h", "a day"), ("3d", "3 days")];
const CHOSEN: &str = "4h";
/// A link this young may be known before its incident is shown.
const FRESH: Span = Span::secs(10);
/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 40;

const NOT_OURS: &str = "This link was not made here, or it is not whole. Copy all of it from the \
                        message.";

/// What hinders, if something does.
fn hindrance(view: &View, link: &AckLink, now: Time) -> Option<(StatusCode, String)> {
    if let Some(used) = view.used_links.get(&link.digest) {
        let said = format!(
            "This link was used already, on {} by {}. It serves once; a later message has another.",
            words::minute(used.at),
            used.by
        );
        return Some((StatusCode::GONE, said));
    }
    if link.expires <= now {
        let said = format!("This link ran out on {}.", words::minute(link.expires));
        return Some((StatusCode::GONE, said));
    }
    match incident(view, link) {
        // A message may be read before the picture for the pages is made anew.
        None if now < link.expires - SERVES + FRESH => {
            let said = "This incident is being opened: look again in a moment.".to_owned();
            Some((StatusCode::SERVICE_UNAVAILABLE, said))
        }
        None => Some((StatusCode::GONE, "This incident is long over.".to_owned())),
        Some(found) if found.incident.resolved.is_some() => {
            Some((StatusCode::GONE, "This incident is over: there is nothing to do.".to_owned()))
        }
        Some(_) => None,
    }
}

fn incident<'a>(view: &'a View, link: &AckLink) -> Option<&'a IncidentView> {
    view.incidents.iter().find(|found| found.incident.id == link.incident)
}

/// `GET /ack/TOKEN`.
pub(crate) fn ack(site: &Site, token: &str) -> Answer {
    let Some(link) = site.shared.ack_links.read(token) else {
        return alone(StatusCode::NOT_FOUND, "Not a link of ours", html! { p { (NOT_OURS) } });
    };
    let (view, now) = (site.shared.view.borrow().clone(), (site.shared.clock)());
    if let Some((status, said)) = hindrance(&view, &link, now) {
        return alone(status, "Nothing to do by this link", html! { p { (said) } });
    }
    let Some(found) = incident(&view, &link) else {
        return alone(StatusCode::GONE, "Nothing to do by this link", html! {});
    };
    let incident = &found.incident;
    let main = html! {
        p { b { (words::foreign(&incident.title, 300)) } }
        p.meta { (incident.level.as_str()) ", since " (words::minute(incident.opened)) }
        @if let Some((by, until)) = &incident.acked {
            p { "Looked after by " (words::foreign(by, 100)) " until " (words::minute(*until)) "." }
        }
        form method="post" {
            label { "Your name, for the others"
                input type="text" name="name" maxlength=(NAME_CHARS_MAX) autocomplete="name";
            }
            label { "For how long"
                select name="ttl" {
                    @for (value, name) in CHOICES {
                        option value=(value) selected[value == CHOSEN] { (name) }
                    }
                }
            }
            button.button.go type="submit" { "I look after it" }
        }
    };
    alone(StatusCode::OK, &format!("Incident {}", incident.id), main)
}

/// `POST /ack/TOKEN`: answered with 200 only once it is durable.
pub(crate) async fn acked(site: &Site, token: &str, body: &Bytes) -> Answer {
    let Some(link) = site.shared.ack_links.read(token) else {
        return alone(StatusCode::NOT_FOUND, "Not a link of ours", html! { p { (NOT_OURS) } });
    };
    let now = (site.shared.clock)();
    let before = hindrance(&site.shared.view.borrow(), &link, now);
    if let Some((status, said)) = before {
        return alone(status, "Nothing was done", html! { p { (said) } });
    }
    let fields = form::Fields::read(body);
    let ttl = match fields.get("ttl") {
        "" => CHOSEN,
        chosen => CHOICES.iter().find(|(value, _)| *value == chosen).map_or("", |(value, _)| value),
    };
    let Ok(ttl) = ttl.parse::<Span>() else {
        let said = html! { p { "For how long? Choose one of the times offered." } };
        return alone(StatusCode::UNPROCESSABLE_ENTITY, "Nothing was done", said);
    };
    let name: String =
        fields.get("name").chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    let by = match name.trim() {
        "" => format!("somebody at {} (link)", link.receiver),
        name => format!("{name} (link to {})", link.receiver),
    };
    let mut nonce = [0_u8; 16];
    if let Err(error) = getrandom::fill(&mut nonce) {
        let said = html! { p { (error.to_string()) } };
        return alone(StatusCode::INTERNAL_SERVER_ERROR, "Nothing was done", said);
    }
    let command = Command::AckByLink {
        incident: link.incident,
        link: link.digest,
        nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
        expires: link.expires,
        ttl,
    };
    match api::order(site, &by, command).await {
        Ok(_) => {
            let until = words::minute((site.shared.clock)() + ttl);
            let main = html! {
                p { "Incident " (link.incident) " is yours until " (until) "." }
                p.meta { "Nobody is called about it until then. It ends by itself." }
            };
            alone(StatusCode::OK, "Thank you", main)
        }
        Err(refusal) => {
            let status = match &refusal {
                Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                Refusal::NotFound(_) | Refusal::Invalid(_) => StatusCode::GONE,
            };
            let said = html! { p { (words::foreign(&refusal.to_string(), 300)) "." } };
            alone(status, "Nothing was done", said)
        }
    }
}

/// A small page that needs no login and no script.
fn alone(status: StatusCode, title: &str, main: Markup) -> Answer {
    let link = |name: &str| format!("/static/{name}?{}", statics::edition());
    answer::html(
        status,
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex, nofollow";
                    title { (title) " · daruma" }
                    link rel="stylesheet" href=(link("daruma.css"));
                    link rel="icon" type="image/svg+xml" href=(link("daruma.svg"));
                    script src=(link("daruma.js")) {}
                }
                body.alone {
                    main #main {
                        img src=(link("daruma.svg")) alt="" width="56" height="56";
                        h1 { (title) }
                        (main)
                    }
                }
            }
        },
    )
}
