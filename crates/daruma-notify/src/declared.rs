//! What a channel declares about itself, as data: limits, pace, and which answer means what.
//!
//! Answers are judged here and nowhere else, from a channel's [`Answers`]: most vendors refuse with
//! status 200, so a status alone accepts nothing unless a vendor has no other word.

use daruma_model::Span;
use serde_json::Value;

use crate::channel::Verdict;

/// All that is particular about a channel and can be said as data.
#[derive(Debug)]
pub struct Declared {
    /// Its kind, as in `ops/slack[0]`.
    pub kind: &'static str,
    /// How it knows us.
    pub auth: &'static str,
    /// What may be how long; texts are cut to it.
    pub limits: &'static [Limit],
    /// How fast it may be told; empty: as fast as messages come.
    pub pace: &'static [Rate],
    /// Which answer means what.
    pub answers: Answers,
    /// By which of our fields the far side recognises a repeated message, if it does.
    pub deduplicates: Option<&'static str>,
    /// Whether a message can be changed after it was sent.
    pub edits: bool,
    /// How it becomes known that a message arrived.
    pub receipts: Receipts,
}

/// How long something may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub of: &'static str,
    /// The largest length that is taken.
    pub max: usize,
    /// In this unit.
    pub unit: Unit,
}

/// By what a vendor counts length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of UTF-8.
    Bytes,
    /// Bytes of UTF-8 within a JSON string.
    JsonBytes,
    /// Unicode scalar values.
    Chars,
    /// UTF-16 code units.
    Utf16,
    /// Parts of a text message: 160 or 153 septets of GSM 03.38, else 70 or 67 units of UCS-2.
    Segments,
}

/// So many messages in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages.
    pub count: u32,
    /// In this time.
    pub per: Span,
}

/// How it becomes known that a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    /// It does not: accepted is the last that is heard.
    None,
    /// The vendor calls back.
    Callback,
    /// The vendor can be asked.
    Query,
}

/// Which protocol's status is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP.
    Http,
    /// SMTP.
    Smtp,
    /// The exit status of a program.
    Exit,
}

/// Which answer means what.
#[derive(Debug)]
pub struct Answers {
    /// Whose status it is.
    pub protocol: Protocol,
    /// Statuses that may accept; empty: those the protocol accepts with.
    pub statuses: &'static [u16],
    /// What the body must say besides, one of these; empty: anything.
    pub says: &'static [Says],
    /// Where in a JSON body the vendor's code stands, first found first; otherwise a short body is
    /// its own code.
    pub code_at: &'static [&'static str],
    /// Codes (or statuses as text) and what they mean; a `*` at the end stands for any end.
    pub codes: &'static [Code],
    /// Where in a JSON body the vendor asks to wait, in seconds.
    pub wait_at: &'static [&'static str],
    /// Where in a JSON body stands by what the message can be found again; all of them together.
    pub handle_at: &'static [&'static str],
}

/// A vendor's code, its meaning, and our word on what to do about it (may be empty).
#[derive(Debug)]
pub struct Code(pub &'static str, pub Meaning, pub &'static str);

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Later it may work.
    Later,
    /// It will never work like this.
    Never,
    /// The message to be changed cannot be; a new one can be sent.
    Anew,
    /// This recipient is no more; others are not concerned.
    Gone,
    /// Our access has run out; it must be asked for again.
    Stale,
}

/// What a body must say.
#[derive(Debug)]
pub enum Says {
    /// This text, alone.
    Text(&'static str),
    /// At this JSON pointer (`*`: at each element, at least one) this value as text.
    Is(&'static str, &'static str),
    /// Something at this JSON pointer.
    Has(&'static str),
    /// Anything but a text with this in it.
    Without(&'static str),
}

/// A judged answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What it means.
    pub verdict: Verdict,
    /// How long the body asks to wait.
    pub wait: Option<Span>,
    /// By what the message can be found again.
    pub handle: Option<String>,
    /// The earlier message cannot be changed any more.
    pub anew: bool,
    /// Our access has run out.
    pub stale: bool,
}

impl Answers {
    /// HTTP's classes alone.
    pub const HTTP: Answers = Answers {
        protocol: Protocol::Http,
        statuses: &[],
        says: &[],
        code_at: &[],
        codes: &[],
        wait_at: &[],
        handle_at: &[],
    };

    /// What an answer means. `body` is its beginning and may have broken off.
    #[must_use]
    pub fn judge(&self, status: u16, body: &str) -> Judged {
        let json: Option<Value> = serde_json::from_str(body).ok();
        let json = json.as_ref();
        let mut judged = Judged {
            verdict: match self.protocol {
                Protocol::Http => Verdict::from_status(status),
                Protocol::Smtp => Verdict::from_smtp(status),
                Protocol::Exit if status == 0 => Verdict::Accepted,
                Protocol::Exit => Verdict::Retry(None),
            },
            wait: json.and_then(|json| self.wait(json)),
            handle: None,
            anew: false,
            stale: false,
        };
        let fits = judged.verdict == Verdict::Accepted
            && (self.statuses.is_empty() || self.statuses.contains(&status));
        if fits && self.said(json, body) {
            judged.handle = json.and_then(|json| self.handle(json));
            return judged;
        }
        if let Some(Code(_, meaning, word)) = self.code(json, status, body) {
            let word = (!word.is_empty()).then_some(*word);
            judged.verdict = match meaning {
                Meaning::Later | Meaning::Anew | Meaning::Stale => Verdict::Retry(word),
                Meaning::Never => Verdict::Rejected(word),
                Meaning::Gone => Verdict::Gone(word),
            };
            judged.anew = *meaning == Meaning::Anew;
            judged.stale = *meaning == Meaning::Stale;
        } else if judged.verdict == Verdict::Accepted {
            // An error nobody has told us about, or a stranger's page: repeated rather than lost.
            judged.verdict = Verdict::Retry(Some("the answer does not say that it was taken"));
        }
        judged
    }

    fn said(&self, json: Option<&Value>, body: &str) -> bool {
        let says = |says: &Says| match says {
            Says::Text(text) => body.trim() == *text,
            Says::Has(at) => json.is_some_and(|json| !found(json, at).is_empty()),
            Says::Without(text) => !body.contains(text),
            Says::Is(at, want) => json.is_some_and(|json| {
                let all = found(json, at);
                !all.is_empty() && all.iter().all(|value| word(value) == *want)
            }),
        };
        self.says.is_empty() || self.says.iter().any(says)
    }

    fn code(&self, json: Option<&Value>, status: u16, body: &str) -> Option<&Code> {
        let named = |code: &str| {
            self.codes.iter().find(|Code(name, ..)| match name.strip_suffix('*') {
                Some(start) => code.starts_with(start),
                None => code == *name,
            })
        };
        let fields = json.into_iter().flat_map(|json| {
            self.code_at.iter().flat_map(|at| found(json, at)).map(word).collect::<Vec<_>>()
        });
        let text = (json.is_none() && body.len() <= 200).then(|| body.trim().to_owned());
        fields.chain(text).chain([status.to_string()]).find_map(|code| named(&code))
    }

    fn wait(&self, json: &Value) -> Option<Span> {
        let seconds = self.wait_at.iter().find_map(|at| json.pointer(at)?.as_f64())?;
        // The sender bounds it; a float cast saturates.
        #[allow(clippy::cast_possible_truncation)]
        (seconds >= 0.0).then(|| Span::millis((seconds * 1000.0).ceil() as i64))
    }

    fn handle(&self, json: &Value) -> Option<String> {
        let parts: Vec<String> =
            self.handle_at.iter().map(|at| json.pointer(at).map(word)).collect::<Option<_>>()?;
        (!parts.is_empty()).then(|| parts.join(" ")).filter(|handle| handle.len() <= 200)
    }
}

/// The values at a JSON pointer in which `*` stands for each element of a list.
fn found<'a>(json: &'a Value, at: &str) -> Vec<&'a Value> {
    let mut all = vec![json];
    for step in at.split('/').skip(1) {
        all = all
            .into_iter()
            .flat_map(|value| match (step, value) {
                ("*", Value::Array(items)) => items.iter().collect(),
                (_, Value::Object(fields)) => fields.get(step).into_iter().collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
    }
    all.retain(|value| !value.is_null());
    all
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Limit {
    /// A limit on `of`.
    #[must_use]
    pub const fn of(of: &'static str, max: usize, unit: Unit) -> Limit {
        Limit { of, max, unit }
    }

    /// The length of `text` in this limit's unit.
    #[must_use]
    pub fn measure(&self, text: &str) -> usize {
        match self.unit {
            Unit::Segments => crate::sms::segments(text),
            _ => text.chars().map(|c| self.width(c)).sum(),
        }
    }

    fn width(&self, c: char) -> usize {
        match self.unit {
            Unit::Bytes => c.len_utf8(),
            Unit::JsonBytes => match c {
                '"' | '\\' | '\n' | '\t' | '\r' => 2,
                c if c.is_control() => 6,
                c => c.len_utf8(),
            },
            Unit::Chars => 1,
            Unit::Utf16 => c.len_utf16(),
            Unit::Segments => 0,
        }
    }

    /// Room for something else.
    #[must_use]
    pub fn minus(self, taken: usize) -> Limit {
        Limit { max: self.max.saturating_sub(taken), ..self }
    }

    /// `text`, each character escaped, cut between characters so that the result fits; what was cut
    /// ends with `…`.
    #[must_use]
    pub fn fit(&self, text: &str, escape: impl Fn(char, &mut String)) -> String {
        if self.unit == Unit::Segments {
            return crate::sms::fit(text, self.max);
        }
        let mark = self.width('…');
        let (mut out, mut used, mut kept) = (String::new(), 0, None);
        for c in text.chars() {
            let before = out.len();
            escape(c, &mut out);
            let width = self.measure(&out[before..]);
            if used + mark <= self.max {
                kept = Some(before);
            }
            used += width;
            if used > self.max {
                out.truncate(kept.unwrap_or(0));
                if kept.is_some() {
                    out.push('…');
                }
                return out;
            }
        }
        out
    }
}

/// Escapes nothing: for fields without markup.
pub(crate) fn plain(c: char, out: &mut String) {
    out.push(c);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_cut_fits_by_the_vendors_unit_and_begins_as_the_text_did(
            text in "\\PC{0,80}", max in 0_usize..90,
        ) {
            for unit in [Unit::Bytes, Unit::JsonBytes, Unit::Chars, Unit::Utf16, Unit::Segments] {
                let limit = Limit::of("text", max, unit);
                let cut = limit.fit(&text, plain);
                prop_assert!(limit.measure(&cut) <= max, "{unit:?} {cut}");
                if limit.measure(&text) <= max {
                    prop_assert_eq!(&cut, &text);
                } else {
                    let start = cut.trim_end_matches(['…', '.']);
                    prop_assert!(text.starts_with(start));
                }
            }
        }

        #[test]
        fn no_answer_panics(status in 0_u16..1000, body in "\\PC{0,60}") {
            let answers = Answers {
                says: &[Says::Is("/a/*/b", "0"), Says::Has("/c")], code_at: &["/a/*/b", "/d"],
                wait_at: &["/w"], handle_at: &["/h"], ..Answers::HTTP
            };
            let _ = answers.judge(status, &body);
            let _ = answers.judge(status, &format!("{{\"a\":[{body}],\"w\":1e300}}"));
        }
    }

    #[test]
    fn every_number_must_have_been_taken() {
        let answers = Answers { says: &[Says::Is("/set/*/code", "Ok")], ..Answers::HTTP };
        for (body, accepted) in [
            (r#"{"set":[{"code":"Ok"},{"code":"Ok"}]}"#, true),
            (r#"{"set":[{"code":"Ok"},{"code":"Failed"}]}"#, false),
            (r#"{"set":[]}"#, false),
            (r#"{"set":{"code":"Ok"}}"#, false),
            ("", false),
        ] {
            let verdict = answers.judge(200, body).verdict;
            assert_eq!(verdict == Verdict::Accepted, accepted, "{body}");
        }
    }
}
