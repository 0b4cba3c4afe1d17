//! The pages. Every text that comes from outside goes through the template's escaping and into a
//! `bdi`; nothing is ever marked as ready-made markup, and no style or script stands in a page.

mod ack;
mod acts;
mod draw;
mod explore;
mod incident;
mod ledger;
mod notify;
mod now;
mod routes;
mod silences;
mod sources;
mod words;

use hyper::StatusCode;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::guard::Caller;
use crate::{form, statics};

pub(crate) use ack::{ack, acked};
pub(crate) use explore::explore;
pub(crate) use incident::incident;
pub(crate) use notify::notify;
pub(crate) use now::now;
pub(crate) use silences::silences;
pub(crate) use sources::sources;

/// What htmx may do: nothing of style, no history, and what a person opened stays open.
const HTMX: &str = r#"{"includeIndicatorCSS":false,"history":false,"morphIgnore":["data-htmx-powered","open","data-new","data-drawn"]}"#;

/// The shapes, drawn once and used everywhere. Ours, and the only markup that is not made by the
/// template.
const SHAPES: &str = include_str!("shapes.svg");

/// A whole page.
struct Page<'a> {
    title: String,
    /// The address it was asked for by.
    path: &'a str,
    /// With charts, which this script takes over.
    charts: Option<&'static str>,
    /// Whether it is laid anew over itself when there is news.
    renews: bool,
    main: Markup,
}

fn whole(site: &Site, caller: &Caller, page: Page<'_>) -> Markup {
    let now = (site.shared.clock)();
    let link = |name: &str| format!("/static/{name}?{}", statics::edition());
    let here = |path: &str| (page.path == path).then_some("page");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(HTMX);
                title { (page.title) }
                link rel="stylesheet" href=(link("daruma.css"));
                link rel="icon" type="image/svg+xml" href=(link("daruma.svg"));
                link rel="manifest" href=(link("daruma.webmanifest"));
                // First of all: the theme must be known before anything is drawn.
                script src=(link("daruma.js")) {}
                script src=(link("htmx.js")) defer {}
                @if let Some(script) = page.charts {
                    link rel="stylesheet" href=(link("uplot.css"));
                    script src=(link("uplot.js")) defer {}
                    @if script == "explore.js" { link rel="stylesheet" href=(link("explore.css")); }
                    script src=(link(script)) defer {}
                }
            }
            body data-now=(now.0) {
                (PreEscaped(SHAPES))
                a.skip href="#main" { "Skip to what is going on" }
                header.top {
                    a.brand href="/" {
                        img src=(link("daruma.svg")) alt="" width="22" height="22";
                        span { "daruma" }
                    }
                    span.host { (words::foreign(&site.shared.host, 60)) }
                    span.clock { time data-rel="clock" datetime="" title=(words::exact(now)) { (words::clock(now)) } " UTC" }
                    span #live .live role="status" title="how this page learns what is new" { "as loaded" }
                    button #theme .plain type="button" hidden aria-label="Light or dark" title="Light or dark (t)" { "◐" }
                }
                nav.rail aria-label="Pages" {
                    a href="/" aria-current=[here("/")] { (words::shape("now", "")) span { "Now" } }
                    a href="/explore" aria-current=[here("/explore")] { (words::shape("explore", "")) span { "Explore" } }
                    a href="/silences" aria-current=[here("/silences")] { (words::shape("quiet", "")) span { "Silences" } }
                    a href="/notify" aria-current=[here("/notify")] { (words::shape("told", "")) span { "Notify" } }
                    a href="/sources" aria-current=[here("/sources")] { (words::shape("sources", "")) span { "Sources" } }
                    button #help .plain type="button" hidden { (words::shape("keys", "")) span { "Keys" } }
                    @if caller.session {
                        form method="post" action="/logout" {
                            input type="hidden" name="csrf" value=(caller.csrf);
                            button.plain type="submit" { (words::shape("out", "")) span { "Log out" } }
                        }
                    }
                }
                main #main tabindex="-1" data-title=(page.title) data-now=[page.renews.then_some(now.0)] { (page.main) }
                footer.foot { "daruma " (site.shared.version) noscript { " · shown as of " (words::exact(now)) "; load again for news" } }
                dialog #keys aria-labelledby="keys-title" {
                    h2 #keys-title { "Keys" }
                    dl {
                        @for (key, what) in [("n", "Now"), ("q", "Silences and holds"), ("m", "Notify: messages and routes"), ("e", "Explore"), ("s", "Sources"), ("j, k", "next, previous row"), ("Enter", "open it"),
                                             ("a", "acknowledge: opens the form"), ("t", "light or dark"), ("?", "this list"), ("Esc", "close")] {
                            div { dt { kbd { (key) } } dd { (what) } }
                        }
                    }
                    form method="dialog" { button.button { "Close" } }
                }
            }
        }
    }
}

/// A page that says one thing, for errors; it shows nothing of the installation.
pub(crate) fn plain(status: StatusCode, said: &str) -> Answer {
    let link = |name: &str| format!("/static/{name}?{}", statics::edition());
    let title = status.canonical_reason().unwrap_or("daruma");
    answer::html(
        status,
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · daruma" }
                    link rel="stylesheet" href=(link("daruma.css"));
                    link rel="icon" type="image/svg+xml" href=(link("daruma.svg"));
                    script src=(link("daruma.js")) {}
                }
                body.alone {
                    main #main {
                        img src=(link("daruma.svg")) alt="" width="56" height="56";
                        h1 { (title) }
                        p { (said) }
                        p { a.button href="/" { "To what is going on now" } }
                    }
                }
            }
        },
    )
}

/// What an act came to, said in place.
pub(crate) fn said(good: bool, said: &str) -> Markup {
    let shape = if good { "healed" } else { "error" };
    html! { p.outcome.bad[!good] { (words::shape(shape, "")) " " (said) } }
}

/// What the page before did, if the address tells.
fn told(query: &str) -> Markup {
    let word = crate::api::parameter(query, "done");
    match word.as_deref().and_then(form::done) {
        Some(text) => html! { div #said { (said(true, text)) } },
        None => html! {},
    }
}

/// The login.
pub(crate) fn login(site: &Site, caller: &Caller, back: Option<&str>, linked: bool) -> Answer {
    let status = if back.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    answer::html(status, login_form(site, caller, back.unwrap_or("/"), linked, false))
}

/// The login after a wrong token.
pub(crate) fn login_again(site: &Site, caller: &Caller, back: &str) -> Answer {
    answer::html(StatusCode::UNAUTHORIZED, login_form(site, caller, back, false, true))
}

fn login_form(site: &Site, caller: &Caller, back: &str, linked: bool, wrong: bool) -> Markup {
    let link = |name: &str| format!("/static/{name}?{}", statics::edition());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if linked { meta http-equiv="refresh" content="0"; }
                title { "Log in · daruma" }
                link rel="stylesheet" href=(link("daruma.css"));
                link rel="icon" type="image/svg+xml" href=(link("daruma.svg"));
                script src=(link("daruma.js")) {}
            }
            body.alone {
                main #main {
                    img src=(link("daruma.svg")) alt="" width="56" height="56";
                    h1 { "daruma" }
                    @if site.guard.is_closed() {
                        form method="post" action="/login" {
                            input type="hidden" name="csrf" value=(caller.csrf);
                            input type="hidden" name="back" value=(back);
                            @if wrong { p.outcome.bad role="alert" { "This is not a token that is known here." } }
                            label { "Token"
                                input type="password" name="token" required autofocus autocomplete="current-password";
                            }
                            button.button.go type="submit" { "Log in" }
                        }
                        p.meta { "Tokens are listed under " code { "server.tokens" } " in daruma.yaml." }
                    } @else {
                        p { "No token is needed on this machine." }
                        p { a.button href="/" { "To what is going on now" } }
                    }
                }
            }
        }
    }
}
