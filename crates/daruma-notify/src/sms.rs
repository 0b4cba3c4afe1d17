//! What text messages share: their length, their recipients, and what templates of vendors take.
//!
//! One character outside GSM 03.38 turns a whole message into UCS-2 and more than halves its length;
//! lengths are counted as networks count them, or texts would cost double or be refused.

use daruma_model::{Message, ReceiptState, Time};

use crate::channel::Context;
use crate::text::line;
use crate::words::Words;

/// GSM 03.38's default alphabet, without its escape.
const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
                   ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Its extension; each takes two septets.
const GSM_EXTENDED: &str = "\u{c}^{}\\[~]|€";
/// Recipients of one entry.
pub(crate) const RECIPIENTS_MAX: usize = 100;

/// What a message is called at its vendor: no other one of this installation or another is called so.
pub(crate) fn reference(message: u64, created: Time) -> String {
    format!("{message}-{:x}", created.0)
}

/// What became of a message at one recipient, by what its vendor knows of every attempt: it arrived if
/// one did, and is lost once all are. `None`: some are on their way, or it knows of none.
pub(crate) fn outcome<'a>(
    attempts: impl Iterator<Item = (Option<ReceiptState>, &'a str)>,
) -> Option<(ReceiptState, String)> {
    let known: Vec<_> = attempts.collect();
    if known.iter().any(|(state, _)| *state == Some(ReceiptState::Delivered)) {
        return Some((ReceiptState::Delivered, String::new()));
    }
    let (_, word) = known.last()?;
    let lost = known.iter().all(|(state, _)| *state == Some(ReceiptState::Lost));
    lost.then(|| (ReceiptState::Lost, line(word, 200)))
}

#[derive(Clone, Copy)]
struct Length {
    septets: Option<usize>,
    units: usize,
}

impl Length {
    fn with(self, c: char) -> Length {
        let septets = match c {
            c if GSM.contains(c) => Some(1),
            c if GSM_EXTENDED.contains(c) => Some(2),
            _ => None,
        };
        Length {
            septets: self.septets.zip(septets).map(|(a, b)| a + b),
            units: self.units + c.len_utf16(),
        }
    }

    fn segments(self) -> usize {
        // A pair of septets or of units is never torn apart, so a full part may lack one.
        match self.septets {
            Some(0) => 0,
            Some(septets @ ..=160) => septets.min(1),
            Some(septets) => septets.div_ceil(152),
            None if self.units <= 70 => 1,
            None => self.units.div_ceil(66),
        }
    }
}

const EMPTY: Length = Length { septets: Some(0), units: 0 };

/// Parts a network makes of `text`, at most.
pub(crate) fn segments(text: &str) -> usize {
    text.chars().fold(EMPTY, Length::with).segments()
}

/// `text` cut between characters to so many parts; what was cut ends with three dots, which unlike
/// `…` are in every alphabet.
pub(crate) fn fit(text: &str, segments_max: usize) -> String {
    fit_before(text, "", segments_max).unwrap_or_default()
}

/// `text`, cut as [`fit`] cuts it, and `end` after it whole; `None` if not even that has room.
pub(crate) fn fit_before(text: &str, end: &str, segments_max: usize) -> Option<String> {
    let whole = format!("{text}{end}");
    if segments(&whole) <= segments_max {
        return Some(whole);
    }
    let dots = || "...".chars().chain(end.chars());
    let (mut length, mut kept) = (EMPTY, None);
    for (at, c) in text.char_indices() {
        if dots().fold(length, Length::with).segments() <= segments_max {
            kept = Some(at);
        }
        length = length.with(c);
    }
    kept.map(|at| format!("{}...{end}", &text[..at]))
}

/// The marks of a text that alone are to blame for its being UCS-2: typographic ones, which have a twin
/// in GSM 03.38. None where letters need it as well.
pub(crate) fn costly(text: &str) -> Vec<char> {
    let other = |c: &char| !GSM.contains(*c) && !GSM_EXTENDED.contains(*c);
    let mut all: Vec<char> = text.chars().filter(other).collect();
    all.sort_unstable();
    all.dedup();
    if all.iter().any(|c| c.is_alphanumeric()) { Vec::new() } else { all }
}

/// Refuses what cannot be a phone number. `+` and digits, as E.164 writes them; where `home` is set,
/// digits alone as well.
pub(crate) fn check_numbers(name: &str, numbers: &[String], home: bool) -> Result<(), String> {
    if numbers.is_empty() || numbers.len() > RECIPIENTS_MAX {
        return Err(format!("`{name}` takes 1 to {RECIPIENTS_MAX} numbers"));
    }
    for number in numbers {
        let digits = number.strip_prefix('+').unwrap_or(number);
        let fit = (5..=18).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !fit || !(home || number.starts_with('+')) {
            let number = crate::text::line(number, 40);
            return Err(format!("`{name}`: `{number}` is no phone number; write +15551234567"));
        }
    }
    Ok(())
}

/// What a variable of a vendor's template may be filled with.
pub(crate) const VARIABLES: &[&str] =
    &["title", "level", "status", "incident", "receiver", "alertname", "instance", "job", "text"];

/// Refuses a variable nobody can fill.
pub(crate) fn check_variable(source: &str) -> Result<(), String> {
    if VARIABLES.contains(&source) || source.starts_with("label:") || source.starts_with('=') {
        return Ok(());
    }
    Err(format!(
        "`{}` fills no variable; take one of {}, label:NAME or =TEXT",
        crate::text::line(source, 60),
        VARIABLES.join(", ")
    ))
}

/// The value of a variable, as vendors take it: one line, at most `chars_max` characters, and nothing
/// that looks like an address or a link, for which they refuse the whole message.
pub(crate) fn variable(
    source: &str,
    message: &Message,
    words: &Words,
    context: &Context,
    chars_max: usize,
) -> String {
    let label = |name: &str| {
        let first = message.alerts.iter().map(|alert| alert.labels.get(name));
        let mut all = std::iter::once(message.group_labels.get(name)).chain(first);
        all.find(|value| !value.is_empty()).unwrap_or_default().to_owned()
    };
    let value = match source {
        "title" => words.title.clone(),
        "text" => words.text.clone(),
        "level" => message.level.as_str().to_owned(),
        "status" => words.status.to_owned(),
        "incident" => message.incident.to_string(),
        "receiver" => message.receiver.clone(),
        name => match (name.strip_prefix('='), name.strip_prefix("label:")) {
            (Some(text), _) => text.to_owned(),
            (_, Some(name)) => label(name),
            _ => label(name),
        },
    };
    let whole = crate::text::line(&unlinked(&value), usize::MAX);
    let value = crate::text::line(&whole, chars_max.max(1));
    if value != whole {
        context.advise(|| {
            let source = crate::text::line(source, 60);
            format!("`{source}` is cut to {chars_max} characters, such as \"{value}\"; see `variable_max`")
        });
    }
    // Vendors refuse empty variables too.
    if value.trim().is_empty() { "-".to_owned() } else { value }
}

/// Dots, slashes, colons and at-signs between letters or digits become blanks' kin.
fn unlinked(text: &str) -> String {
    let chars: Vec<char> = text.replace("://", " ").chars().collect();
    let mut out = String::new();
    for (at, &c) in chars.iter().enumerate() {
        let near = |i: Option<usize>| {
            i.and_then(|i| chars.get(i)).is_some_and(|c: &char| c.is_alphanumeric())
        };
        let inside = near(at.checked_sub(1)) || near(Some(at + 1));
        out.push(match c {
            '.' | '/' | ':' | '@' | '。' | '．' if inside => '_',
            '【' | '】' => ' ', // Chinese networks keep these for the sender's signature.
            c => c,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_character_decides_how_many_parts_there_are() {
        for (text, want) in [
            (String::new(), 0),
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("€".repeat(80), 1),
            ("€".repeat(81), 2),
            ("a".repeat(69) + "中", 1),
            ("a".repeat(70) + "中", 2),
            ("😀".repeat(35), 1),
            ("😀".repeat(36), 2),
        ] {
            assert_eq!(segments(&text), want, "{text}");
        }
        assert_eq!(fit(&"a".repeat(200), 1), "a".repeat(157) + "...");
    }

    #[test]
    fn marks_that_double_the_price_are_named_where_letters_do_not() {
        assert_eq!(costly("disk – full…"), ['–', '…']);
        assert_eq!(costly("disk - full... {€}"), [' '; 0]);
        assert_eq!(costly("磁盘已满…"), [' '; 0]);
    }

    #[test]
    fn an_address_or_a_link_does_not_make_a_vendor_refuse_the_message() {
        for (text, want) in [
            ("disk of 10.0.0.1:9100 full.", "disk of 10_0_0_1_9100 full_"),
            ("see https://a.example/x", "see https a_example_x"),
            ("mail bob@a.example", "mail bob_a_example"),
        ] {
            assert_eq!(unlinked(text), want);
        }
    }

    proptest! {
        #[test]
        fn no_variable_holds_a_link(text in "\\PC{0,60}") {
            let clean = unlinked(&text);
            let chars: Vec<char> = clean.chars().collect();
            for three in chars.windows(3) {
                let joins = three[1] == '.' || three[1] == '@';
                prop_assert!(!(joins && three[0].is_alphanumeric() && three[2].is_alphanumeric()));
            }
        }
    }
}
