//! Buttons that change something. Each opens to a sentence that says what it will do and to what, and
//! asks once; each is a form of its own, so that it works without scripts.

use daruma_model::{Labels, Matchers, Span, Time};
use maud::{Markup, html};

use crate::guard::Caller;

/// What a form needs of the page it stands on.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) caller: &'a Caller,
    /// Where a browser without scripts goes afterwards.
    pub(crate) back: &'a str,
    /// Distinguishes the forms of one page; of letters, digits and `-`.
    pub(crate) key: &'a str,
}

/// One act.
pub(crate) struct Act<'a> {
    /// The command's name.
    pub(crate) what: &'static str,
    /// On the closed button.
    pub(crate) label: &'a str,
    /// What will happen.
    pub(crate) says: Markup,
    /// On the button that does it.
    pub(crate) go: &'a str,
    /// Fields that the person does not fill.
    pub(crate) fixed: Vec<(&'static str, String)>,
    /// Fields that the person may fill.
    pub(crate) fields: Markup,
    /// Whether it is grave.
    pub(crate) grave: bool,
}

/// A row of acts, with the place where their outcome is said; it stays when nothing is left to do, so
/// that the outcome of the last act is not lost. Nothing for those who may only read.
pub(crate) fn row(place: Place<'_>, acts: &[Act<'_>]) -> Markup {
    if !place.caller.may_act {
        return html! {};
    }
    let said = format!("said-{}", place.key);
    html! {
        @if !acts.is_empty() { div.acts id={ "acts-" (place.key) } {
            @for act in acts {
                details.act id={ "act-" (place.key) "-" (act.what) } {
                    summary.button.grave[act.grave] { (act.label) }
                    form method="post" action="/act" hx-post="/act" hx-target={ "#" (said) } hx-swap="innerHTML" {
                        input type="hidden" name="csrf" value=(place.caller.csrf);
                        input type="hidden" name="do" value=(act.what);
                        input type="hidden" name="back" value=(place.back);
                        @for (name, value) in &act.fixed {
                            input type="hidden" name=(name) value=(value);
                        }
                        p { (act.says) }
                        (act.fields)
                        button.go.grave[act.grave] type="submit" { (act.go) }
                    }
                }
            }
        }
        }
        div.said id=(said) role="status" hx-morph-skip {}
    }
}

/// For how long.
pub(crate) fn duration(usual: &str) -> Markup {
    html! {
        label { "for "
            select name="ttl" {
                @for (value, word) in [("15m", "15 min"), ("30m", "30 min"), ("1h", "1 hour"), ("2h", "2 hours"),
                                       ("8h", "8 hours"), ("24h", "24 hours")] {
                    option value=(value) selected[value == usual] { (word) }
                }
            }
        }
    }
}

/// A word to the others.
pub(crate) fn comment(placeholder: &str) -> Markup {
    html! {
        label { "comment "
            input type="text" name="comment" maxlength="200" autocomplete="off" placeholder=(placeholder);
        }
    }
}

/// The labels that all of these have alike.
pub(crate) fn alike<'a>(all: &'a [&'a Labels]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let pairs = all.first().into_iter().flat_map(|first| first.iter());
    pairs.filter(|(name, value)| all.iter().all(|set| set.get(name) == *value))
}

/// What an incident's alerts have in common, as matchers; empty if it is nothing.
pub(crate) fn common(all: &[&Labels]) -> Matchers {
    let mut pairs: Vec<(&str, &str)> = alike(all).collect();
    // A service says best what is meant; its name alone also covers what comes next.
    if pairs.iter().any(|(name, _)| *name == "service") {
        pairs.retain(|(name, _)| *name == "service");
    }
    let usable = |(name, value): (&str, &str)| {
        let matcher = daruma_model::Matcher::new(name, daruma_model::MatchOp::Equal, value).ok()?;
        // Only what reads back as it was meant.
        (matcher.to_string().parse().ok().as_ref() == Some(&matcher)).then_some(matcher)
    };
    Matchers(
        pairs.into_iter().filter(|(name, _)| *name != Labels::NAME).filter_map(usable).collect(),
    )
}

/// Matchers as a form carries them: one a line.
pub(crate) fn lines(matchers: &Matchers) -> String {
    matchers.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Matchers as people read them.
pub(crate) fn shown(matchers: &Matchers) -> Markup {
    html! { @for matcher in &matchers.0 { code.label { (super::words::foreign(&matcher.to_string(), 300)) } " " } }
}

/// How far a lease has run, from 0 to 1.
pub(crate) fn run(from: Time, until: Time, now: Time) -> f64 {
    let whole = until.since(from);
    if whole <= Span::ZERO {
        return 1.0;
    }
    (now.since(from).as_secs_f64() / whole.as_secs_f64()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alerts_share_is_what_a_hold_of_their_incident_names() {
        let web = Labels::from([("alertname", "Down"), ("service", "web"), ("host", "a")]);
        let other = Labels::from([("alertname", "Slow"), ("service", "web"), ("host", "a")]);
        assert_eq!(lines(&common(&[&web, &other])), "service=\"web\"");
        let disk = Labels::from([("alertname", "Full"), ("path", "a \"b\" \\ c")]);
        assert_eq!(common(&[&disk]).0.len(), 2);
        assert!(common(&[&disk]).matches(&disk));
        assert!(common(&[]).0.is_empty());
    }
}
