//! The last words of a program: a tail of fixed size over whatever it prints.

/// How much of the output is kept, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 4096;

/// Keeps the last [`OUTPUT_BYTES_MAX`] bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(OUTPUT_BYTES_MAX)..];
        let room = OUTPUT_BYTES_MAX - kept.len();
        let drop = self.bytes.len().saturating_sub(room);
        self.cut |= drop > 0 || kept.len() < bytes.len();
        self.bytes.drain(..drop);
        self.bytes.extend_from_slice(kept);
    }

    /// As text fit for a journal and a terminal: invalid UTF-8 and control characters (a program's
    /// output must not steer the terminal of who reads it) are replaced, carriage returns dropped.
    pub(crate) fn text(&self) -> String {
        // A tail that begins within a character begins at the next one.
        let begin = if self.cut {
            self.bytes.iter().take(3).take_while(|byte| (**byte & 0xc0) == 0x80).count()
        } else {
            0
        };
        let text: String = String::from_utf8_lossy(&self.bytes[begin..])
            .chars()
            .filter(|c| *c != '\r')
            .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        // Replacing grows the text: cut again, at a character.
        let from = text.len().saturating_sub(OUTPUT_BYTES_MAX);
        let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text[from..].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a stream is cut into reads, the tail is the end of the whole.
        #[test]
        fn the_tail_is_the_end_of_what_was_printed(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..6),
        ) {
            let mut tail = Tail::default();
            parts.iter().for_each(|part| tail.push(part));
            let whole = parts.concat();
            prop_assert_eq!(&tail.bytes, &whole[whole.len().saturating_sub(OUTPUT_BYTES_MAX)..]);
            let text = tail.text();
            prop_assert!(text.len() <= OUTPUT_BYTES_MAX);
            prop_assert!(!text.contains('\x1b'), "no escape reaches a terminal");
        }

        #[test]
        fn text_survives_as_it_is(text in "[a-zäöü語\\n\\t]{0,3000}") {
            let mut tail = Tail::default();
            tail.push(text.as_bytes());
            let got = tail.text();
            prop_assert!(text.ends_with(&got) && got.len() + 3 >= text.len().min(OUTPUT_BYTES_MAX));
            prop_assert!(!got.contains('\u{fffd}'), "nothing is replaced");
        }
    }
}
