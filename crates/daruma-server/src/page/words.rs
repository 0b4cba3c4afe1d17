//! How times, numbers and kinds are written: every time in both forms, every number with its unit,
//! every kind by hue and by shape. `static/daruma.js` counts on in the same words.

use daruma_alert::{Entry, EntryKind};
use daruma_model::{Level, Span, Time};
use maud::{Markup, html};

use crate::plot::Unit;

/// One of the shapes at the head of every page; without a word it only adorns the text beside it.
pub(crate) fn shape(name: &'static str, word: &str) -> Markup {
    html! {
        @if word.is_empty() {
            svg class={ "mark " (name) } viewBox="0 0 16 16" aria-hidden="true" { use href={ "#m-" (name) }; }
        } @else {
            svg class={ "mark " (name) } viewBox="0 0 16 16" role="img" aria-label=(word) { use href={ "#m-" (name) }; }
        }
    }
}

/// The shape of a level.
pub(crate) fn level(level: Level) -> Markup {
    shape(level.as_str(), level.as_str())
}

/// The shape of a timeline entry, and its word. A proof that failed must not look like one.
pub(crate) fn kind(entry: &Entry) -> (&'static str, &'static str) {
    match entry.kind {
        EntryKind::Verified if entry.text.starts_with("did not help") => ("failed", "not proved"),
        EntryKind::Detected => ("detected", "detected"),
        EntryKind::Confirmed => ("confirmed", "confirmed"),
        EntryKind::Decided => ("decided", "decided"),
        EntryKind::Acted => ("acted", "acted"),
        EntryKind::Verified => ("healed", "verified"),
        EntryKind::Told => ("told", "told"),
        EntryKind::Escalated => ("escalated", "escalated"),
        EntryKind::Unknown => ("unknown", "unknown"),
        EntryKind::Person => ("person", "by hand"),
        EntryKind::Resolved => ("resolved", "resolved"),
    }
}

fn written(time: Time, form: &str) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(time.0).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).strftime(form).to_string())
}

/// `2026-11-23 03:12:17.204 UTC`.
pub(crate) fn exact(time: Time) -> String {
    written(time, "%Y-%m-%d %H:%M:%S%.3f UTC").unwrap_or_else(|| "at an unknown time".to_owned())
}

/// `2026-03-01 03:12 UTC`.
pub(crate) fn minute(time: Time) -> String {
    written(time, "%Y-%m-%d %H:%M UTC").unwrap_or_else(|| "an unknown time".to_owned())
}

/// `03:12:17`.
pub(crate) fn clock(time: Time) -> String {
    written(time, "%H:%M:%S").unwrap_or_else(|| "--:--:--".to_owned())
}

/// `03:12:17.204`.
pub(crate) fn fine_clock(time: Time) -> String {
    written(time, "%H:%M:%S%.3f").unwrap_or_else(|| "--:--:--.---".to_owned())
}

fn machine(time: Time) -> String {
    written(time, "%Y-%m-%dT%H:%M:%S%.3fZ").unwrap_or_default()
}

/// `41 s`, `2 min 5 s`, `3 h 10 min`, `5 d`.
pub(crate) fn long(span: Span) -> String {
    let seconds = span.0.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 60 => format!("{seconds} s"),
        () if minutes < 10 && seconds % 60 > 0 => format!("{minutes} min {} s", seconds % 60),
        () if hours < 1 => format!("{minutes} min"),
        () if hours < 10 && minutes % 60 > 0 => format!("{hours} h {} min", minutes % 60),
        () if hours < 48 => format!("{hours} h"),
        () => format!("{days} d"),
    }
}

/// How long a thing took: exact below ten seconds.
pub(crate) fn took(span: Span) -> String {
    match span.0 {
        ms @ ..1000 => format!("{} ms", ms.max(0)),
        ms @ 1000..10_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => long(span),
    }
}

/// A time as it stands to now, with the exact one behind it: `41 s ago`, `in 24 s`.
pub(crate) fn when(now: Time, time: Time) -> Markup {
    let said = if time > now {
        format!("in {}", long(time.since(now)))
    } else {
        format!("{} ago", long(now.since(time)))
    };
    html! { time datetime=(machine(time)) title=(exact(time)) data-rel="when" { (said) } }
}

/// How long it is since a time.
pub(crate) fn since(now: Time, time: Time) -> Markup {
    html! {
        time datetime=(machine(time)) title={ "since " (exact(time)) } data-rel="since" {
            (long(now.since(time)))
        }
    }
}

/// A countdown: `0:24`.
pub(crate) fn countdown(now: Time, due: Time) -> Markup {
    let left = due.since(now).0 / 1000;
    let said = if left >= 3600 {
        format!("{}:{:02}:{:02}", left / 3600, left / 60 % 60, left % 60)
    } else {
        format!("{}:{:02}", left / 60, left % 60)
    };
    html! {
        time.count role="timer" datetime=(machine(due)) title={ "due " (exact(due)) } data-rel="count" {
            (said)
        }
    }
}

/// A time as the clock says it, with the whole of it behind.
pub(crate) fn at(time: Time) -> Markup {
    html! { time datetime=(machine(time)) title=(exact(time)) { (clock(time)) } }
}

/// The same to the millisecond.
pub(crate) fn finely(time: Time) -> Markup {
    html! { time datetime=(machine(time)) title=(exact(time)) { (fine_clock(time)) } }
}

/// A large number in groups of three, held together: `81 402`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `1 source`, `2 sources`.
pub(crate) fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// A value with its unit; three digits that count.
pub(crate) fn value(value: f64, unit: Unit) -> String {
    let number = match value.abs() {
        v if v >= 1e12 || (v > 0.0 && v < 1e-3) => format!("{value:.2e}"),
        v if v >= 1e9 => format!("{:.1} G", value / 1e9),
        v if v >= 1e6 => format!("{:.1} M", value / 1e6),
        v if v >= 1e4 => format!("{:.1} k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    };
    match unit {
        Unit::Percent => format!("{number} %"),
        Unit::Plain => number,
        Unit::PerSecond => format!("{number}/s"),
    }
}

/// Text from outside, cut, in which what would only deceive an eye (control characters, overrides of
/// direction) is shown as what it is.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut chars = text.chars().map(|c| if is_deceptive(c) { '\u{fffd}' } else { c });
    let mut cut: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        cut.push('…');
    }
    cut
}

/// The same as a part of a page; its direction stays its own.
pub(crate) fn foreign(text: &str, most: usize) -> Markup {
    html! { bdi { (clean(text, most)) } }
}

/// As [`foreign`]; a link if the whole text is the address of a page, and nothing is cut.
pub(crate) fn link_or_text(text: &str, most: usize) -> Markup {
    let shown = clean(text, most);
    let leads = ["https://", "http://"].iter().any(|start| text.starts_with(start));
    if leads && shown == text && !text.contains(char::is_whitespace) {
        html! { a href=(text) rel="noreferrer noopener" { (foreign(text, most)) } }
    } else {
        foreign(text, most)
    }
}

fn is_deceptive(c: char) -> bool {
    let directs = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    directs || c.is_control() && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_address_of_a_page_is_a_link() {
        let link = |text: &str| super::link_or_text(text, 100).into_string().contains("href");
        assert!(link("https://wiki.example.org/runbook?a=b&c=d#e"));
        for text in [
            "javascript:alert(1)",
            "see https://example.org",
            "https://example.org and more",
            "data:text/html,x",
            "//example.org",
            "https://example.org/\u{202e}gro",
            &format!("https://example.org/{}", "x".repeat(100)),
        ] {
            assert!(!link(text), "{text}");
        }
        let quoted = super::link_or_text("https://example.org/\"onclick=\"x", 100).into_string();
        assert!(!quoted.contains("\"onclick"), "{quoted}");
    }

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_read_as_people_say_them() {
        for (seconds, want) in [
            (0, "0 s"),
            (41, "41 s"),
            (60, "1 min"),
            (125, "2 min 5 s"),
            (719, "11 min"),
            (3600, "1 h"),
            (11_400, "3 h 10 min"),
            (86_400, "24 h"),
            (432_000, "5 d"),
        ] {
            assert_eq!(long(Span::secs(seconds)), want);
        }
    }

    #[test]
    fn large_numbers_are_grouped_from_their_end() {
        for (number, want) in
            [(0, "0"), (999, "999"), (1000, "1\u{202f}000"), (1234567, "1\u{202f}234\u{202f}567")]
        {
            assert_eq!(grouped(number), want);
        }
    }

    #[test]
    fn a_time_stands_in_both_forms() {
        let shown = when(Time(1_795_403_578_204 + 41_000), Time(1_795_403_578_204)).into_string();
        assert!(shown.contains("41 s ago"), "{shown}");
        assert!(shown.contains("title=\"2026-11-23 03:12:58.204 UTC\""), "{shown}");
    }

    proptest! {
        #[test]
        fn no_time_and_no_number_makes_a_page_panic(ms: i64, other: i64, number: f64) {
            for time in [Time(ms), Time(other)] {
                let shown = when(Time(ms), time).into_string() + &at(time).into_string()
                    + &countdown(Time(other), time).into_string() + &took(Span(ms));
                prop_assert!(shown.contains("<time"));
            }
            prop_assert!(!value(number, Unit::Percent).is_empty());
        }
    }
}
