//! The program's own words, one line each on standard error: time-free (the service manager stamps
//! them), coloured on a terminal, never with a secret.

use std::io::{IsTerminal, Write};

/// Something failed.
pub fn error(text: &str) {
    line("error", "31", text);
}

/// Something is unusual.
pub fn warning(text: &str) {
    line("warning", "33", text);
}

/// Something normal that a person wants to know.
pub fn info(text: &str) {
    line("info", "36", text);
}

fn line(level: &str, colour: &str, text: &str) {
    let mut err = std::io::stderr().lock();
    // Control characters of quoted input must not reach a terminal.
    let text: String =
        text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    let written = if err.is_terminal() {
        writeln!(err, "\u{1b}[{colour}m{level}\u{1b}[0m {text}")
    } else {
        writeln!(err, "{level}: {text}")
    };
    // A closed standard error leaves nobody to tell.
    drop(written);
}
