//! What kind of line a log record is: its text with everything masked that differs between two
//! records of one kind, and a bounded memory of the kinds that were seen.
//!
//! Masked are numbers, hexadecimal strings, UUIDs, addresses, paths and quoted strings, on the first
//! line only: a stack trace's frames vary with the way that led to the fault.

use std::collections::{BTreeMap, HashMap};

/// Characters of a kind that are looked at; what comes later does not make another kind.
const KIND_CHARS_MAX: usize = 400;

/// The kind of a text, readable: `connect to <path> failed after <num> ms`.
pub(crate) fn kind_of(body: &str) -> String {
    let line = body.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    let line: &str = line.char_indices().nth(KIND_CHARS_MAX).map_or(line, |(end, _)| &line[..end]);
    let mut out = String::with_capacity(line.len());
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        if matches!(first, '"' | '\'' | '`')
            && !out.ends_with(char::is_alphanumeric)
            && let Some(end) = rest[first.len_utf8()..].find(first)
        {
            out.push_str("<str>");
            rest = &rest[end + 2 * first.len_utf8()..];
            continue;
        }
        if first.is_whitespace() {
            out.push(' ');
            rest = rest.trim_start();
            continue;
        }
        let until = |stops: &str| {
            rest.find(|c: char| c.is_whitespace() || stops.contains(c)).unwrap_or(rest.len())
        };
        // A URL keeps its query; elsewhere `=` ends a name.
        let wide = until(",;()[]{}<>\"'`|");
        let end = if is_path(&rest[..wide]) { wide } else { until(",;()[]{}<>\"'`=|") };
        if end == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        mask_word(&rest[..end], &mut out);
        rest = &rest[end..];
    }
    out
}

/// Masks one word (no blanks, brackets or quotes in it).
fn mask_word(word: &str, out: &mut String) {
    let bare = word.trim_end_matches(['.', ':', '!', '?']);
    let tail = &word[bare.len()..];
    if !bare.bytes().any(|byte| byte.is_ascii_digit() || byte == b'/') && !is_hex(bare) {
        out.push_str(word);
        return;
    }
    if is_path(bare) {
        out.push_str("<path>");
    } else if is_uuid(bare) {
        out.push_str("<uuid>");
    } else if is_address(bare) {
        out.push_str("<addr>");
    } else if is_hex(bare) {
        out.push_str("<hex>");
    } else {
        mask_digits(bare, out);
    }
    out.push_str(tail);
}

fn is_path(word: &str) -> bool {
    let scheme = word.find("://").is_some_and(|at| {
        at > 0 && word[..at].bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
    });
    let windows = word.len() > 2 && word.as_bytes()[1] == b':' && word.as_bytes()[2] == b'\\';
    scheme || windows || (word.len() > 1 && word.starts_with(['/', '~']) && word.contains('/'))
}

fn is_uuid(word: &str) -> bool {
    let mut groups = word.split('-');
    [8, 4, 4, 4, 12].iter().all(|&length| {
        groups.next().is_some_and(|group| {
            group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }) && groups.next().is_none()
}

/// An IPv4 or IPv6 address, perhaps with a port.
fn is_address(word: &str) -> bool {
    let is_port = |text: &str| {
        !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (host, port_fits) = match word.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, is_port(port)),
        _ => (word, true),
    };
    port_fits
        && (host.parse::<std::net::Ipv4Addr>().is_ok()
            || (host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_ok()))
}

/// `0x…`, or at least six hexadecimal digits of which one is a decimal digit (or all are, when long):
/// a word such as `facade` is none.
fn is_hex(word: &str) -> bool {
    let (digits, marked) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => (digits, true),
        None => (word, false),
    };
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (marked
            || (digits.len() >= 6
                && digits.bytes().any(|byte| byte.is_ascii_digit())
                && digits.bytes().any(|byte| byte.is_ascii_alphabetic())))
}

/// Each run of digits, with the points and signs within, becomes `<num>`.
fn mask_digits(word: &str, out: &mut String) {
    let mut in_number = false;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_digit = chars.peek().is_some_and(char::is_ascii_digit);
        if c.is_ascii_digit() {
            if !in_number {
                out.push_str("<num>");
            }
            in_number = true;
        } else if in_number && matches!(c, '.' | ':' | '-' | '/' | 'T') && next_is_digit {
            // Dates, times, versions and decimals are one number.
        } else {
            in_number = false;
            out.push(c);
        }
    }
}

/// The kinds that were seen, at most so many: the one not met for longest is forgotten first.
#[derive(Debug, Clone)]
pub(crate) struct Kinds {
    max: usize,
    clock: u64,
    met: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
}

impl Kinds {
    pub(crate) fn new(max: usize) -> Kinds {
        Kinds { max, clock: 0, met: HashMap::new(), order: BTreeMap::new() }
    }

    /// Remembers a kind; whether it is new.
    pub(crate) fn meet(&mut self, kind: &str) -> bool {
        let key = hash(kind);
        self.clock += 1;
        let before = self.met.insert(key, self.clock);
        if let Some(before) = before {
            self.order.remove(&before);
        }
        self.order.insert(self.clock, key);
        if self.met.len() > self.max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.met.remove(&oldest);
        }
        before.is_none()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.met.len()
    }
}

/// FNV-1a: the same everywhere and always, so that a replay learns the same kinds.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_differs_between_two_lines_of_one_kind_is_masked() {
        for (line, want) in [
            (
                "connect to /var/run/db.sock failed after 231 ms",
                "connect to <path> failed after <num> ms",
            ),
            ("GET http://shop/cart?id=7 took 1.25s", "GET <path> took <num>s"),
            ("peer 10.0.0.7:8080 reset", "peer <addr> reset"),
            ("peer ::1 reset", "peer <addr> reset"),
            ("job 550e8400-e29b-41d4-a716-446655440000 lost", "job <uuid> lost"),
            ("at 0x7ffdeadbeef in commit 9f86d08", "at <hex> in commit <hex>"),
            ("facade and decade are words", "facade and decade are words"),
            ("user \"Ann O'Hara\" unknown", "user <str> unknown"),
            ("can't open: don't care", "can't open: don't care"),
            ("2026-11-23T03:26:00.123Z ERROR x", "<num>Z ERROR x"),
            ("panic: index out of range [17]\n  goroutine 99", "panic: index out of range [<num>]"),
            ("worker-12 died (code=137)", "worker-<num> died (code=<num>)"),
            ("", ""),
        ] {
            assert_eq!(kind_of(line), want, "{line}");
        }
    }

    #[test]
    fn the_kind_met_longest_ago_is_forgotten_first() {
        let mut kinds = Kinds::new(3);
        for (kind, new) in [
            ("a", true),
            ("b", true),
            ("c", true),
            ("a", false),
            ("d", true),
            ("a", false),
            ("b", true),
        ] {
            assert_eq!(kinds.meet(kind), new, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_masking_panic_or_grow(text in "\\PC{0,600}") {
            let kind = kind_of(&text);
            // A digit may become `<num>`.
            prop_assert!(kind.chars().count() <= 5 * KIND_CHARS_MAX);
        }

        #[test]
        fn kinds_remember_no_more_than_allowed(kinds in prop::collection::vec("[a-z]{1,2}", 0..300)) {
            let mut memory = Kinds::new(20);
            for kind in &kinds {
                memory.meet(kind);
                prop_assert!(memory.len() <= 20);
                prop_assert!(!memory.meet(kind), "just met");
            }
        }
    }
}
