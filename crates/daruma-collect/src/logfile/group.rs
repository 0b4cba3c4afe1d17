//! Lines to records: a stack trace is one record, whatever number of lines it takes. Pure.
//!
//! What belongs to the record before is decided by what a line looks like, never by when it came;
//! time only decides how long a record that looks unfinished is held, and that is the caller's.

use daruma_model::Severity;

use super::config::{Join, Multiline};
use super::lines::Restart;
use super::severity::severity;

/// The longest record, in bytes. Further lines begin another record.
const RECORD_BYTES_MAX: usize = 256 * 1024;

/// The record that is being put together.
#[derive(Debug, Default)]
pub(super) struct Group {
    body: String,
    lines: u32,
    /// Empty lines after it: part of it only if it goes on.
    blanks: u32,
    trace: Trace,
    severity: Option<Severity>,
    from: Restart,
}

/// A finished record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Its lines, joined by `\n`.
    pub(super) body: String,
    /// How grave its first line says it is.
    pub(super) severity: Option<Severity>,
}

/// Inside which trace the last line left us, as far as it changes what the next line means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Trace {
    #[default]
    None,
    /// Python: indented frames, then one line that says what was raised.
    Python,
    /// Go: `panic:` or `goroutine`, with frames of two lines, of which one is not indented.
    Go,
    /// Rust: the message follows on the line after `panicked at …:`.
    Rust,
    /// Frames have been seen; more may follow.
    Frames,
}

impl Group {
    /// Whether no record is open.
    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Where the open record begins.
    pub(super) fn from(&self) -> Restart {
        self.from
    }

    /// Takes a line that begins at `from`; the record it ends, if it ends one, comes back.
    pub(super) fn line(&mut self, text: String, from: Restart, how: &Multiline) -> Option<Record> {
        if text.trim_ascii().is_empty() {
            // An empty line says nothing, so alone it is no record.
            self.blanks = self.blanks.saturating_add(u32::from(!self.is_empty()));
            return None;
        }
        if !self.is_empty() && self.goes_on_with(&text, how) {
            // Many blanks are a gap, not a shape worth its memory.
            for _ in 0..=self.blanks.min(3) {
                self.body.push('\n');
            }
            self.body.push_str(&text);
            self.lines += 1;
            self.blanks = 0;
            self.trace = self.trace.after(&text);
            return None;
        }
        let ended = self.take();
        self.trace = Trace::None.after(&text);
        self.severity = severity(&text);
        self.body = text;
        self.lines = 1;
        self.from = from;
        ended
    }

    /// Ends the open record.
    pub(super) fn take(&mut self) -> Option<Record> {
        if self.is_empty() {
            return None;
        }
        let Group { body, severity, .. } = std::mem::take(self);
        Some(Record { body, severity })
    }

    /// Whether more lines are likely to come, so that a reader at the end of the file should wait a
    /// moment before it ends the record.
    pub(super) fn looks_unfinished(&self, how: &Multiline) -> bool {
        if self.is_empty() || (how.join == Join::Never && how.start.is_none()) {
            return false;
        }
        how.start.is_some()
            || self.trace != Trace::None
            || self.severity >= Some(Severity::Error)
            || self.body.ends_with([':', '{', '\\'])
            || self.body.contains("Exception")
    }

    fn goes_on_with(&self, text: &str, how: &Multiline) -> bool {
        if self.lines >= how.lines_max || self.body.len() + text.len() > RECORD_BYTES_MAX {
            return false;
        }
        if let Some(start) = &how.start {
            return !start.is_match(text);
        }
        if how.join == Join::Never {
            return false;
        }
        // After an empty line only what a trace itself continues with belongs to it.
        if self.blanks == 0 && text.starts_with([' ', '\t']) {
            return true;
        }
        match self.trace {
            Trace::Python if self.blanks == 0 => return true,
            Trace::Rust if self.blanks == 0 => return true,
            Trace::Go if is_go(text) => return true,
            Trace::Frames | Trace::Rust if is_after_frames(text) => return true,
            _ => {}
        }
        if self.blanks == 0
            && ["Caused by:", "at ", "Suppressed:", "... "].iter().any(|s| text.starts_with(s))
        {
            return true;
        }
        // A traceback on its own line belongs to the error that announces it, not to whatever
        // stood before it.
        text.starts_with(TRACEBACK)
            && self.blanks == 0
            && (self.trace == Trace::Frames || self.severity.is_none_or(|s| s >= Severity::Warning))
            || text.starts_with(TRACEBACK) && self.trace == Trace::Frames
    }
}

const TRACEBACK: &str = "Traceback (most recent call last)";

impl Trace {
    /// The trace after a line that belongs to it.
    fn after(self, text: &str) -> Trace {
        let indented = text.starts_with([' ', '\t']);
        if text.starts_with(TRACEBACK)
            || text.ends_with(TRACEBACK)
            || text.ends_with("(most recent call last):")
        {
            return Trace::Python;
        }
        if text.starts_with("panic: ")
            || text.starts_with("fatal error: ")
            || (self == Trace::None && text.starts_with("goroutine "))
        {
            return Trace::Go;
        }
        if text.starts_with("thread '") && text.contains(" panicked at") {
            return if text.ends_with(':') { Trace::Rust } else { Trace::Frames };
        }
        match self {
            Trace::Python if indented => Trace::Python,
            Trace::Python | Trace::Rust => Trace::Frames,
            Trace::None
                if indented || text.starts_with("at ") || text.starts_with("Caused by:") =>
            {
                Trace::Frames
            }
            other => other,
        }
    }
}

/// What stands in the traces of Go's panics and is not indented.
fn is_go(text: &str) -> bool {
    ["goroutine ", "[signal ", "created by ", "exit status ", "panic: "]
        .iter()
        .any(|s| text.starts_with(s))
        || text.starts_with([' ', '\t'])
        || (text.ends_with(')') && text.contains('(') && !text.contains(' ') | text.contains("(0x"))
        || text.ends_with("(...)")
}

/// What continues a trace whose frames are over.
fn is_after_frames(text: &str) -> bool {
    [
        "Caused by:",
        "During handling of the above exception",
        "The above exception was the direct cause",
        TRACEBACK,
        "stack backtrace:",
        "note: run with `RUST_BACKTRACE",
        "note: Some details are omitted",
        "Stack trace:",
        "--- End of ",
        "#",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(text: &str, how: &Multiline) -> Vec<String> {
        let (mut group, mut out) = (Group::default(), Vec::new());
        for line in text.lines() {
            out.extend(group.line(line.to_owned(), Restart::default(), how));
        }
        out.extend(group.take());
        out.into_iter().map(|record| record.body).collect()
    }

    /// Each trace stands between two ordinary lines and must come out as one record.
    #[test]
    fn a_stack_trace_is_one_record() {
        let java = "2026-11-23 04:00:00 ERROR order failed\n\
            java.lang.IllegalStateException: no stock\n\
            \tat com.shop.Stock.take(Stock.java:42)\n\
            \t... 3 more\n\
            Caused by: java.io.IOException: gone\n\
            \tat com.shop.Disk.read(Disk.java:7)";
        // The message of the exception is a line of its own; the trace belongs to it.
        let java_in_one = java.split_once('\n').unwrap().1;
        let python = "2026-11-23 04:00:00 ERROR order failed\n\
            Traceback (most recent call last):\n\
            \x20 File \"shop.py\", line 3, in take\n\
            \x20   raise KeyError(7)\n\
            KeyError: 7\n\
            \n\
            During handling of the above exception, another exception occurred:\n\
            \n\
            Traceback (most recent call last):\n\
            \x20 File \"shop.py\", line 9, in order\n\
            ValueError: no stock";
        let go = "panic: runtime error: index out of range [5] with length 3\n\
            \n\
            goroutine 1 [running]:\n\
            main.take(...)\n\
            \t/srv/shop/main.go:12\n\
            main.main()\n\
            \t/srv/shop/main.go:5 +0x1d\n\
            exit status 2";
        let rust = "thread 'main' panicked at src/main.rs:2:5:\n\
            no stock\n\
            stack backtrace:\n\
            \x20  0: rust_begin_unwind\n\
            note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.";
        let node =
            "TypeError: no stock\n    at take (/srv/shop.js:3:9)\n    at main (/srv/shop.js:9:1)";
        for trace in [java_in_one, python, go, rust, node] {
            let text = format!("INFO before\n{trace}\nINFO after\n");
            let got = records(&text, &Multiline::default());
            assert_eq!(got, ["INFO before", trace, "INFO after"]);
        }
    }

    #[test]
    fn ordinary_lines_stay_apart() {
        let text = "INFO one\nERROR two\n\nWARN three\nGET /x 200\nValueError: four\nINFO five";
        assert_eq!(
            records(text, &Multiline::default()),
            ["INFO one", "ERROR two", "WARN three", "GET /x 200", "ValueError: four", "INFO five"]
        );
    }

    #[test]
    fn a_pattern_says_alone_where_records_begin() {
        let how: Multiline = serde_saphyr::from_str("start: '^\\d{4}-'").unwrap();
        assert_eq!(records("2026-1 a\nb\n  c\n2026-2 d", &how), ["2026-1 a\nb\n  c", "2026-2 d"]);
        let how: Multiline = serde_saphyr::from_str("join: never").unwrap();
        assert_eq!(records("a\n  b", &how), ["a", "  b"]);
    }

    #[test]
    fn a_trace_without_an_end_is_cut_into_records() {
        let how = Multiline { lines_max: 3, ..Multiline::default() };
        assert_eq!(records("a\n b\n c\n d\n e", &how), ["a\n b\n c", " d\n e"]);
        let line = format!(" {}", "x".repeat(RECORD_BYTES_MAX / 2));
        let many = [&*line; 5].join("\n");
        assert!(records(&many, &Multiline::default()).iter().all(|r| r.len() <= RECORD_BYTES_MAX));
    }

    #[test]
    fn only_what_looks_unfinished_is_waited_for() {
        for (line, want) in [
            ("INFO all is well", false),
            ("GET /x 200", false),
            ("ERROR order failed", true),
            ("the following went wrong:", true),
            ("Traceback (most recent call last):", true),
        ] {
            let mut group = Group::default();
            group.line(line.to_owned(), Restart::default(), &Multiline::default());
            assert_eq!(group.looks_unfinished(&Multiline::default()), want, "{line}");
        }
    }

    proptest! {
        /// Grouping moves line ends, never text.
        #[test]
        fn every_line_that_says_something_is_in_exactly_one_record(
            lines in prop::collection::vec(
                prop_oneof![
                    Just(""), Just("INFO a"), Just("\tat x"), Just("Traceback (most recent call last):"),
                    Just("Caused by: x"), Just("panic: x"), Just("main.f()"), Just("goroutine 1 [r]:"),
                    Just("thread 'a' panicked at b:"), Just("  "), Just("# x"),
                ],
                0..30,
            ),
        ) {
            let got = records(&lines.join("\n"), &Multiline::default());
            let got: Vec<&str> =
                got.iter().flat_map(|record| record.lines()).filter(|l| !l.trim().is_empty()).collect();
            let want: Vec<&str> = lines.into_iter().filter(|l| !l.trim().is_empty()).collect();
            prop_assert_eq!(got, want);
        }
    }
}
