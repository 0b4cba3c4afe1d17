//! Bytes to lines. Pure, and in constant memory whatever comes: a line without an end costs its cap.
//!
//! It knows at every moment where reading would have to begin again so that no line is lost and none
//! is read twice: [`Lines::restart`].

/// Where in a file reading may begin again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Restart {
    /// Bytes from the start of the file.
    pub(super) offset: u64,
    /// In the middle of a line whose beginning is done with: skip to its end first.
    pub(super) skipping: bool,
}

/// Cuts what one file holds into lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    partial_from: u64,
    at: Restart,
    bytes_max: usize,
}

/// A line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Its bytes.
    pub(super) bytes: &'a [u8],
    /// Where it begins.
    pub(super) from: Restart,
}

impl Lines {
    /// Begins at `at`; lines are cut after `bytes_max`.
    pub(super) fn new(at: Restart, bytes_max: usize) -> Lines {
        Lines { partial: Vec::new(), partial_from: at.offset, at, bytes_max }
    }

    /// Where the next byte to [`Lines::feed`] stands in the file.
    pub(super) fn offset(&self) -> u64 {
        self.at.offset
    }

    /// Where reading would begin again after everything that has been handed out.
    pub(super) fn restart(&self) -> Restart {
        if self.partial.is_empty() {
            return self.at;
        }
        Restart { offset: self.partial_from, skipping: false }
    }

    /// Takes the next bytes of the file and hands out the lines that end in them. Returns how many
    /// lines ended, and how many bytes were skipped as the rest of over-long lines.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Line<'_>)) -> (u64, u64) {
        let (mut rest, mut ended, mut skipped) = (bytes, 0, 0);
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest);
            if self.at.skipping {
                skipped += end.unwrap_or(rest.len()) as u64;
                ended += u64::from(end.is_some());
                let taken = end.map_or(rest.len(), |end| end + 1);
                self.at =
                    Restart { offset: self.at.offset + taken as u64, skipping: end.is_none() };
                rest = &rest[taken..];
                continue;
            }
            if self.partial.is_empty() {
                // A file that was truncated under a writer that goes on at its old offset begins
                // with a hole, which reads as zeros.
                let hole = rest.iter().take_while(|byte| **byte == 0).count();
                if hole > 0 {
                    self.at.offset += hole as u64;
                    rest = &rest[hole..];
                    continue;
                }
                self.partial_from = self.at.offset;
            }
            let from = Restart { offset: self.partial_from, skipping: false };
            let room = self.bytes_max - self.partial.len();
            let length = end.unwrap_or(rest.len());
            if length > room {
                self.partial.extend_from_slice(&rest[..room]);
                self.at = Restart { offset: self.at.offset + room as u64, skipping: true };
                rest = &rest[room..];
                each(Line { bytes: &self.partial, from });
                self.clear();
                continue;
            }
            let Some(end) = end else {
                self.partial.extend_from_slice(rest);
                self.at.offset += rest.len() as u64;
                break;
            };
            self.at.offset += end as u64 + 1;
            ended += 1;
            if self.partial.is_empty() {
                each(Line { bytes: without_return(&rest[..end]), from });
            } else {
                self.partial.extend_from_slice(&rest[..end]);
                each(Line { bytes: without_return(&self.partial), from });
                self.clear();
            }
            rest = &rest[end + 1..];
        }
        (ended, skipped)
    }

    /// Leaves out the next `count` bytes of the file, and what is left of the line they end in.
    pub(super) fn pass_over(&mut self, count: u64, at_line_end: bool) {
        self.clear();
        self.at = Restart { offset: self.at.offset + count, skipping: !at_line_end };
    }

    /// Hands out the line whose end never came: the file is complete.
    pub(super) fn finish(&mut self, each: impl FnOnce(Line<'_>)) {
        if !self.partial.is_empty() {
            let from = Restart { offset: self.partial_from, skipping: false };
            each(Line { bytes: without_return(&self.partial), from });
            self.clear();
        }
    }

    /// Whether the next byte begins a line.
    pub(super) fn at_line_start(&self) -> bool {
        self.partial.is_empty() && !self.at.skipping
    }

    fn clear(&mut self) {
        // Thousands of files with one long line each must not keep its memory.
        if self.partial.capacity() > 4096 {
            self.partial = Vec::new();
        }
        self.partial.clear();
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The text of a line: valid UTF-8 (invalid bytes replaced), without colour codes, other control
/// characters replaced, so that nothing in it can steer a terminal.
pub(super) fn text(line: &[u8]) -> String {
    let plain = |byte: &u8| (*byte >= 0x20 && *byte != 0x7f) || *byte == b'\t';
    let valid = String::from_utf8_lossy(line);
    if line.iter().all(plain) {
        return valid.into_owned();
    }
    let mut cleaned = String::with_capacity(valid.len());
    let mut rest = valid.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            let mut code = rest.clone();
            if code.next() == Some('[')
                && code.find(|c| !matches!(c, ' '..='?')).is_some_and(|c| matches!(c, '@'..='~'))
            {
                rest = code;
                continue;
            }
        }
        cleaned.push(if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c });
    }
    cleaned
}

/// Whether bytes are no text: at least one in twenty is a control character that text does not use.
/// A hole at the beginning does not count.
pub(super) fn is_binary(bytes: &[u8], at_line_start: bool) -> bool {
    let hole = if at_line_start { bytes.iter().take_while(|byte| **byte == 0).count() } else { 0 };
    let bytes = &bytes[hole..];
    let control = |byte: &&u8| matches!(byte, 0..=8 | 14..=26 | 28..=31 | 127);
    let count = bytes.iter().filter(control).count();
    // A single short line with a stray control character is still a line.
    count >= 8 && count * 20 >= bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed(lines: &mut Lines, bytes: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        lines.feed(bytes, |line| out.push(String::from_utf8_lossy(line.bytes).into_owned()));
        out
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_wait_for_their_end() {
        let mut lines = Lines::new(Restart::default(), 100);
        assert_eq!(fed(&mut lines, b"one\r\ntwo\nthr"), ["one", "two"]);
        assert_eq!(lines.restart(), Restart { offset: 9, skipping: false });
        assert_eq!(fed(&mut lines, b"ee\n"), ["three"]);
        assert_eq!(lines.restart(), Restart { offset: 15, skipping: false });
    }

    #[test]
    fn an_over_long_line_keeps_its_beginning_and_the_next_line() {
        let mut lines = Lines::new(Restart::default(), 4);
        let mut out = Vec::new();
        let (ended, skipped) = lines.feed(b"abcd\nabcdefgh", |line| out.push(line.bytes.to_vec()));
        assert_eq!((ended, skipped), (1, 4));
        assert_eq!(lines.restart(), Restart { offset: 13, skipping: true });
        assert_eq!(out, [b"abcd", b"abcd"]);
        assert_eq!(fed(&mut lines, b"ijk\nnext\n"), ["next"]);
    }

    #[test]
    fn zeros_that_a_truncation_left_are_stepped_over() {
        let mut lines = Lines::new(Restart::default(), 16);
        assert_eq!(fed(&mut lines, &[0; 100]), [""; 0]);
        assert_eq!(fed(&mut lines, b"\0\0after\n"), ["after"]);
    }

    #[test]
    fn text_cannot_steer_a_terminal() {
        assert_eq!(text(b"\x1b[31mERROR\x1b[0m x"), "ERROR x");
        assert_eq!(text(b"a\x1b]0;title\x07b"), "a\u{fffd}]0;title\u{fffd}b");
        assert_eq!(text(b"\xff\xfe ok \xe4\xb8\xad"), "\u{fffd}\u{fffd} ok \u{4e2d}");
        assert_eq!(text(b"tab\there"), "tab\there");
    }

    #[test]
    fn compressed_data_is_binary_and_foreign_alphabets_are_not() {
        let mut state = 1_u32;
        let random: Vec<u8> = (0..4096)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        assert!(is_binary(&random, true));
        assert!(!is_binary(&[0xb0, 0xa1, 0xc4, b' '].repeat(1000), true)); // EUC-KR, say.
        assert!(!is_binary(b"\x1b[31mred\x1b[0m \x01\n", true));
        assert!(!is_binary(&[&[0; 5000][..], b"text after a hole\n"].concat(), true));
    }

    proptest! {
        /// Cutting the same bytes into any pieces, or beginning again at any restart, gives the
        /// same lines.
        #[test]
        fn pieces_and_restarts_change_nothing(
            parts in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0_u8), any::<u8>()], 0..40), 0..12),
            restarts in prop::collection::vec(any::<bool>(), 12),
        ) {
            let whole = parts.concat();
            let mut at_once = Vec::new();
            Lines::new(Restart::default(), 16).feed(&whole, |line| at_once.push(line.bytes.to_vec()));
            let (mut lines, mut pieces, mut fed) = (Lines::new(Restart::default(), 16), Vec::new(), 0);
            for (part, restart) in parts.iter().zip(restarts) {
                fed += part.len();
                let from = lines.offset() as usize;
                lines.feed(&whole[from..fed], |line| pieces.push(line.bytes.to_vec()));
                if restart {
                    lines = Lines::new(lines.restart(), 16);
                }
            }
            let from = lines.offset() as usize;
            lines.feed(&whole[from..], |line| pieces.push(line.bytes.to_vec()));
            prop_assert_eq!(pieces, at_once);
        }

        #[test]
        fn cleaned_text_has_no_controls(line in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(!text(&line).bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f));
        }
    }
}
