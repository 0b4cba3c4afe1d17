//! Output for people and for scripts: colour on a terminal, one JSON object a line with `--json`.

use std::io::{IsTerminal, Write};

use daruma_alert::{EntryKind, IncidentView};
use daruma_model::{Level, Time};
use serde::Serialize;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// One object a line.
    pub json: bool,
    colour: bool,
}

impl Style {
    /// `NO_COLOR` and pipes get none.
    #[must_use]
    pub fn new(json: bool) -> Style {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Style { json, colour }
    }

    /// Text in an ANSI colour, on a terminal.
    #[must_use]
    pub fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// The mark of a level: by hue and by shape.
    #[must_use]
    pub fn level(self, level: Level) -> String {
        match level {
            Level::Critical => self.paint("1;31", "◆ critical"),
            Level::Error => self.paint("31", "▲ error"),
            Level::Warning => self.paint("33", "● warning"),
            Level::Info => self.paint("36", "○ info"),
        }
    }
}

/// A line on standard output. A reader that went away (`| head`) ends the program quietly.
pub fn line(text: &str) {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() && c != '\u{1b}' && c != '\n' { '\u{fffd}' } else { c })
        .collect();
    if writeln!(std::io::stdout().lock(), "{clean}").is_err() {
        std::process::exit(0);
    }
}

/// An object on a line of its own.
pub fn object(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => {
            if writeln!(std::io::stdout().lock(), "{text}").is_err() {
                std::process::exit(0);
            }
        }
        Err(error) => crate::log::error(&format!("cannot be written as JSON: {error}")),
    }
}

/// Text from outside, fit for a terminal: no control characters.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `2026-11-23 03:12:17.204 UTC`.
#[must_use]
pub fn exact(at: Time) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(stamp) => stamp.strftime("%Y-%m-%d %H:%M:%S.%3f UTC").to_string(),
        Err(_) => format!("{at:?}"),
    }
}

/// `03:12:17.204`.
#[must_use]
pub fn clock(at: Time) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(stamp) => stamp.strftime("%H:%M:%S.%3f").to_string(),
        Err(_) => format!("{at:?}"),
    }
}

/// How long ago, in the largest two units.
#[must_use]
pub fn ago(now: Time, at: Time) -> String {
    format!("{} ago", now.since(at).roughly())
}

/// The mark of a timeline entry; the same as on the page.
#[must_use]
pub fn mark(kind: EntryKind) -> (&'static str, &'static str) {
    match kind {
        EntryKind::Detected => ("○", "detected"),
        EntryKind::Confirmed => ("●", "confirmed"),
        EntryKind::Decided => ("◆", "decided"),
        EntryKind::Acted => ("▲", "acted"),
        EntryKind::Verified => ("✓", "verified"),
        EntryKind::Told => ("✉", "told"),
        EntryKind::Escalated => ("‼", "escalated"),
        EntryKind::Unknown => ("▨", "unknown"),
        EntryKind::Person => ("☺", "person"),
        EntryKind::Resolved => ("✓", "resolved"),
    }
}

/// One incident as a line.
pub fn incident_line(style: Style, now: Time, view: &IncidentView) {
    let incident = &view.incident;
    let state = match (incident.resolved, view.healing) {
        (Some(_), _) if incident.healed => style.paint("32", "✓ healed"),
        (Some(_), _) => style.paint("32", "✓ over"),
        (None, true) => style.paint("1;31", "⟳ healing"),
        (None, false) => style.level(incident.level),
    };
    let acked =
        incident.acked.as_ref().map_or_else(String::new, |(by, _)| format!(" · {by} has it"));
    let sentence = clean(&view.sentence);
    let title = style.paint("1", &clean(&incident.title));
    line(&format!(
        "#{:<5} {state}  {title}  {}{acked}\n       {sentence}",
        incident.id,
        ago(now, incident.opened)
    ));
}

/// One incident with its story.
pub fn incident(style: Style, now: Time, view: &IncidentView) {
    incident_line(style, now, view);
    line("");
    for entry in &view.incident.timeline {
        let (mark, word) = mark(entry.kind);
        line(&format!("{}  {mark} {word:<10} {}", clock(entry.at), clean(&entry.text)));
        for text in entry.detail.iter().flat_map(|detail| detail.lines().take(20)) {
            line(&style.paint("2", &format!("                             {}", clean(text))));
        }
    }
    if view.incident.timeline_dropped > 0 {
        line(&format!(
            "({} entries are not shown; the journal has them)",
            view.incident.timeline_dropped
        ));
    }
}
