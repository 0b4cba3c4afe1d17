//! How grave a record says it is. Pure text work: what a line says of itself is taken, nothing is
//! guessed from its meaning ("0 errors" is no error).

use daruma_model::Severity;

use Severity::{Critical, Debug, Error, Info, Trace, Warning};

/// How far into the first line a level word may stand: after a time stamp, a host and a thread name.
const WORDS_WITHIN: usize = 160;

/// How far into a JSON or logfmt line its level may stand.
const KEYS_WITHIN: usize = 4096;

/// The severity a record states, if it does. In this order: syslog's `<PRI>`, a JSON or logfmt
/// level, klog's letter, the shape of a crash, and the first level word near the front.
#[must_use]
pub fn severity(text: &str) -> Option<Severity> {
    let line = text.trim_start().lines().next()?;
    if let Some(found) = syslog(line) {
        return Some(found);
    }
    let front = &line.as_bytes()[..line.len().min(KEYS_WITHIN)];
    if front.starts_with(b"{") {
        return json(front);
    }
    logfmt(front).or_else(|| klog(front)).or_else(|| crash(line)).or_else(|| word(front))
}

/// What a level word means, in upper case.
fn level(word: &[u8]) -> Option<Severity> {
    let mut upper = [0_u8; 13];
    let upper = upper.get_mut(..word.len())?;
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    Some(match &*upper {
        b"TRACE" | b"FINEST" | b"FINER" | b"VERBOSE" => Trace,
        b"DEBUG" | b"FINE" | b"DBG" => Debug,
        b"INFO" | b"NOTICE" | b"INFORMATION" | b"INFORMATIONAL" => Info,
        b"WARN" | b"WARNING" => Warning,
        b"ERROR" | b"ERR" | b"SEVERE" => Error,
        b"FATAL" | b"CRITICAL" | b"CRIT" | b"PANIC" | b"ALERT" | b"EMERG" | b"EMERGENCY" => {
            Critical
        }
        _ => return None,
    })
}

fn syslog(line: &str) -> Option<Severity> {
    let (priority, _) = line.strip_prefix('<')?.split_once('>')?;
    if priority.is_empty() || priority.len() > 3 || !priority.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let priority: u16 = priority.parse().ok().filter(|priority| *priority <= 191)?;
    Some(match priority % 8 {
        0..=2 => Critical,
        3 => Error,
        4 => Warning,
        5 | 6 => Info,
        _ => Debug,
    })
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn json(front: &[u8]) -> Option<Severity> {
    let keys: [&[u8]; 7] = [
        b"\"level\"",
        b"\"severity\"",
        b"\"lvl\"",
        b"\"log.level\"",
        b"\"levelname\"",
        b"\"loglevel\"",
        b"\"@level\"",
    ];
    keys.into_iter().find_map(|key| {
        let rest = front[find(front, key)? + key.len()..].trim_ascii_start();
        let rest = rest.strip_prefix(b":")?.trim_ascii_start();
        if let Some(rest) = rest.strip_prefix(b"\"") {
            return level(&rest[..rest.iter().position(|b| *b == b'"')?]);
        }
        // pino and bunyan count: 10 is trace, 60 is fatal.
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let number: u32 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        Some(match number {
            10..20 => Trace,
            20..30 => Debug,
            30..40 => Info,
            40..50 => Warning,
            50..60 => Error,
            60 => Critical,
            _ => return None,
        })
    })
}

fn logfmt(front: &[u8]) -> Option<Severity> {
    let keys: [&[u8]; 4] = [b"level", b"lvl", b"severity", b"loglevel"];
    // One pass over the line, whatever the number of keys: this runs for every line there is.
    let mut equals = front.iter().enumerate().filter(|(_, byte)| **byte == b'=').map(|(at, _)| at);
    equals.find_map(|at| {
        let before = &front[..at];
        let word = before.iter().rev().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_');
        let start = at - word.count();
        let apart = start == 0 || matches!(before[start - 1], b' ' | b'\t' | b'[' | b'(' | b',');
        if !apart || !keys.contains(&&before[start..]) {
            return None;
        }
        let rest = &front[at + 1..];
        let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
        level(&rest[..rest.iter().take_while(|b| b.is_ascii_alphabetic()).count()])
    })
}

fn klog(front: &[u8]) -> Option<Severity> {
    let [letter, a, b, c, d, b' ', ..] = front else { return None };
    if ![a, b, c, d].into_iter().all(u8::is_ascii_digit) {
        return None;
    }
    match letter {
        b'I' => Some(Info),
        b'W' => Some(Warning),
        b'E' => Some(Error),
        b'F' => Some(Critical),
        _ => None,
    }
}

/// Records that are crashes by their shape, whether they name a level or not.
fn crash(line: &str) -> Option<Severity> {
    if line.starts_with("panic: ")
        || line.starts_with("fatal error: ")
        || (line.starts_with("thread '") && line.contains(" panicked at"))
    {
        return Some(Critical);
    }
    let first = line.split([':', ' ']).next().unwrap_or(line);
    let thrown = line[first.len()..].starts_with(':') || first.len() == line.len();
    let is_exception = thrown
        && first.len() > 5
        && (first.ends_with("Exception") || first.ends_with("Error"))
        && first.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'$'));
    let says = ["Traceback (most recent call last)", "Exception in thread ", "Unhandled exception"];
    (is_exception || says.iter().any(|start| line.starts_with(start))).then_some(Error)
}

/// The first level word near the front. Upper case counts between blanks and brackets; other cases
/// only as a tag (`[error]`, `error:`), because they are also plain words.
fn word(front: &[u8]) -> Option<Severity> {
    let front = &front[..front.len().min(WORDS_WITHIN)];
    let mut at = 0;
    while at < front.len() {
        if !front[at].is_ascii_alphanumeric() && front[at] != b'_' {
            at += 1;
            continue;
        }
        let rest = &front[at..];
        let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let (before, after) = (at.checked_sub(1).map(|i| front[i]), rest.get(length).copied());
        let word = &rest[..length];
        at += length;
        let opens = matches!(
            before,
            None | Some(b' ' | b'\t' | b'[' | b'(' | b'<' | b'|' | b':' | b'"' | b'*')
        );
        let closes = matches!(
            after,
            None | Some(
                b' ' | b'\t' | b']' | b')' | b'>' | b'|' | b':' | b'"' | b'*' | b',' | b'!'
            )
        );
        let upper = word.iter().all(u8::is_ascii_uppercase);
        let tag = matches!(after, Some(b']' | b')' | b'>' | b'|' | b':'))
            && (after == Some(b':') || before.is_some_and(|b| b != b' '));
        if opens
            && closes
            && (upper || tag)
            && let Some(found) = level(word)
        {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_as_grave_as_it_says() {
        for (line, want) in [
            ("2026-11-23 04:00:00,123 ERROR [main] c.s.Shop - no stock", Some(Error)),
            ("2026-11-23T04:00:00Z INFO  retry after ERROR", Some(Info)),
            ("[WARNING] disk almost full", Some(Warning)),
            ("2026/11/23 04:00:00 [error] 12#12: *3 connect() failed", Some(Error)),
            ("[Mon Nov 23 04:00:00 2026] [core:error] [pid 7] AH00126", Some(Error)),
            ("error: could not compile", Some(Error)),
            ("app error: no database", Some(Error)),
            ("0 errors, all is well", None),
            ("no error was found", None),
            ("GET /ERROR HTTP/1.1", None),
            ("GET /x?level=5", None),
            ("<11>Nov 23 04:00:00 host app: failed", Some(Error)),
            ("<192>1 not a priority", None),
            ("<34>1 critical", Some(Critical)),
            (r#"{"time":1,"level":"error","msg":"WARN"}"#, Some(Error)),
            (r#"{"level": 50, "msg": "x"}"#, Some(Error)),
            (r#"{"msg":"ERROR in the text only"}"#, None),
            (r#"{"msg":"\"level\":\"error\"","severity":"INFO"}"#, Some(Info)),
            (r#"ts=1 level=warn msg="ERROR""#, Some(Warning)),
            (r#"ts=1 level="fatal" msg=x"#, Some(Critical)),
            ("E1123 04:00:00.000000 1 main.go:3] failed", Some(Error)),
            ("panic: runtime error: index out of range", Some(Critical)),
            ("thread 'main' panicked at src/main.rs:2:5:", Some(Critical)),
            ("Traceback (most recent call last):", Some(Error)),
            ("java.lang.IllegalStateException: no stock", Some(Error)),
            ("ValueError", Some(Error)),
            ("NOTICE: shutting down", Some(Info)),
            ("FATAL:  the database system is starting up", Some(Critical)),
            ("ERROR_COUNT 5", None),
            ("", None),
            ("{", None),
        ] {
            assert_eq!(severity(line), want, "{line}");
        }
    }

    proptest! {
        #[test]
        fn only_the_first_line_counts_and_no_text_panics(
            text in "[<{\"level=: 0-9}>EIWF]{0,40}|\\PC{0,60}",
        ) {
            let first = text.trim_start().lines().next().unwrap_or("").to_owned();
            prop_assert_eq!(severity(&text), severity(&first));
        }
    }
}
