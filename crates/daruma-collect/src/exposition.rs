//! Metrics as text: Prometheus' format 0.0.4 (and 1.0.0) and OpenMetrics 1.0.
//!
//! A pull parser over the bytes of one answer: it borrows, keeps nothing, and can be left at any
//! line. The text of a series ([`Entry::series`]) is given as it stands, so that a scraper can look
//! it up and name its labels once in its life rather than in every scrape.
//!
//! What is read is what Prometheus' own scraper reads. [`Rigour::Strict`] adds what its client
//! libraries demand of a file. Exemplars are checked and skipped. What never happens here: no byte
//! sequence panics, and no broken line is stepped over; the first one ends the whole text.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use daruma_model::{Labels, Sample, Time};

use crate::delivery::Described;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

/// How much is forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rigour {
    /// What Prometheus' scraper forgives: a missing last line end, repeated `TYPE` and `HELP`, bucket
    /// bounds that are no numbers, unknown escapes, a missing comma between labels.
    Scrape,
    /// None of that, for checking what a program exposes.
    Strict,
}

/// What the last `TYPE` line said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Buckets, whose `le` is a number.
    Histogram,
    /// Quantiles, whose `quantile` is a number.
    Summary,
    /// All others.
    Other,
}

/// One line with a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry<'a> {
    /// Name and labels as they stand in the text, e.g. `http_requests_total{code="200"}`.
    pub series: &'a str,
    /// What the family is said to be.
    pub kind: Kind,
    /// The value.
    pub value: f64,
    /// The line's own timestamp.
    pub time: Option<Time>,
}

/// Where and why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {said}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What was expected and what was found.
    pub said: String,
}

/// The most labels one series may have.
pub const LABELS_MAX: usize = 1000;

/// What the comments of a text say of its metrics, at most `max` of them; what cannot be read is passed
/// over, for the values do not depend on it.
#[must_use]
pub fn descriptions(bytes: &[u8], max: usize) -> Vec<Described> {
    let mut all: BTreeMap<String, Described> = BTreeMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(comment) = line.strip_prefix(b"# ") else { continue };
        let Ok(comment) = std::str::from_utf8(comment) else { continue };
        let Some((what, rest)) = comment.split_once(' ') else { continue };
        if !matches!(what, "HELP" | "TYPE" | "UNIT") {
            continue;
        }
        let rest = rest.trim_start();
        let (metric, text) = match rest.strip_prefix('"').map(|rest| rest.split_once('"')) {
            Some(Some((name, text))) => (name, text),
            Some(None) => continue,
            None => rest.split_once([' ', '\t']).unwrap_or((rest, "")),
        };
        if metric.is_empty() || all.len() >= max && !all.contains_key(metric) {
            continue;
        }
        let text = text.trim_matches([' ', '\t', '\r']);
        let known = all.entry(metric.to_owned()).or_insert_with(|| Described {
            metric: metric.to_owned(),
            kind: "unknown",
            help: String::new(),
            unit: String::new(),
        });
        match what {
            "HELP" => known.help = unescaped(text).into_owned(),
            "UNIT" => text.clone_into(&mut known.unit),
            _ => known.kind = KINDS.iter().find(|kind| **kind == text).unwrap_or(&"unknown"),
        }
    }
    all.into_values().collect()
}

/// The kinds of metrics that have a name in either format.
const KINDS: &[&str] =
    &["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

/// Reads one text, entry by entry.
pub struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    format: Format,
    rigour: Rigour,
    kind: Kind,
    ended: bool,
    /// Names that had a `HELP` (true) or `TYPE` line; kept only when strict.
    described: HashSet<(bool, &'a [u8])>,
}

impl<'a> Parser<'a> {
    /// A parser at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], format: Format, rigour: Rigour) -> Parser<'a> {
        Parser {
            bytes,
            at: 0,
            line: 1,
            format,
            rigour,
            kind: Kind::Other,
            ended: false,
            described: HashSet::new(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn error<T>(&self, expected: &str) -> Result<T, ParseError> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let rest = &rest[..line_length(rest).min(60)];
        let found = match rest {
            [] if self.at >= self.bytes.len() => "the end".to_owned(),
            [] => "the end of the line".to_owned(),
            rest => format!("{:?}", String::from_utf8_lossy(rest)),
        };
        Err(ParseError { line: self.line, said: format!("expected {expected}, found {found}") })
    }

    fn refuse<T>(&self, said: String) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, said })
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn step(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        match self.format {
            Format::Text => self.step_text(),
            Format::OpenMetrics => self.step_openmetrics(),
        }
    }

    fn step_text(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            self.skip_blanks();
            match self.peek() {
                None => return Ok(None),
                Some(b'\n') => {
                    self.at += 1;
                    self.line += 1;
                }
                Some(b'#') => self.comment_text()?,
                Some(_) => return self.sample_text().map(Some),
            }
        }
    }

    fn comment_text(&mut self) -> Result<(), ParseError> {
        let start = self.at + 1;
        let line = &self.bytes[start..start + line_length(&self.bytes[start..])];
        let body = trim_start(line);
        let about = if body.len() == line.len() { &[] } else { body };
        let help = match about {
            [b'H', b'E', b'L', b'P', b' ' | b'\t', ..] => Some(true),
            [b'T', b'Y', b'P', b'E', b' ' | b'\t', ..] => Some(false),
            _ => None,
        };
        if let Some(help) = help {
            let rest = trim_start(&about[4..]);
            let name_length = name_length(rest);
            if name_length == 0 {
                self.at = start;
                return self.error("a metric name after HELP or TYPE");
            }
            let (name, text) = rest.split_at(name_length);
            if !help {
                let blank = text.first().is_none_or(|byte| matches!(byte, b' ' | b'\t'));
                self.kind = match text.trim_ascii() {
                    b"histogram" if blank => Kind::Histogram,
                    b"summary" if blank => Kind::Summary,
                    b"counter" | b"gauge" | b"untyped" if blank => Kind::Other,
                    other => return self.refuse(unknown_type(other)),
                };
            }
            if std::str::from_utf8(text).is_err() {
                return self.refuse("the help text is not UTF-8".into());
            }
            if self.rigour == Rigour::Strict && !self.described.insert((help, name)) {
                let name = String::from_utf8_lossy(name);
                return self.refuse(format!("a second HELP or TYPE line for {name}"));
            }
        }
        self.at = start + line.len();
        self.end_of_line()
    }

    /// Steps over the line end; at the end of the text there may be none.
    fn end_of_line(&mut self) -> Result<(), ParseError> {
        match self.peek() {
            Some(b'\n') => {
                self.at += 1;
                self.line += 1;
                Ok(())
            }
            None if self.rigour == Rigour::Scrape => Ok(()),
            _ => self.error("the end of the line"),
        }
    }

    fn sample_text(&mut self) -> Result<Entry<'a>, ParseError> {
        let series = self.series(true)?;
        self.skip_blanks();
        let value = self.number(|byte| !matches!(byte, b'{' | b' ' | b'\t' | b'\n'))?;
        self.skip_blanks();
        let digits = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let time = if digits > 0 {
            let text = std::str::from_utf8(&self.bytes[self.at..self.at + digits]);
            match text.ok().and_then(|text| text.parse().ok()) {
                Some(time) => {
                    self.at += digits;
                    Some(Time(time))
                }
                None => return self.error("a timestamp in milliseconds"),
            }
        } else {
            None
        };
        self.skip_blanks();
        if !matches!(self.peek(), None | Some(b'\n')) {
            return self.error(match time {
                Some(_) => "the end of the line after the timestamp",
                None => "a timestamp in whole milliseconds",
            });
        }
        self.end_of_line()?;
        Ok(Entry { series, kind: self.kind, value, time })
    }

    fn step_openmetrics(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            match self.peek() {
                None => return self.error("a last line `# EOF`"),
                Some(b'#') => {
                    if self.comment_openmetrics()? {
                        return Ok(None);
                    }
                }
                Some(_) => return self.sample_openmetrics().map(Some),
            }
        }
    }

    /// `true` at `# EOF`.
    fn comment_openmetrics(&mut self) -> Result<bool, ParseError> {
        let length = line_length(&self.bytes[self.at..]);
        let line = &self.bytes[self.at..self.at + length];
        if line == b"# EOF" {
            let rest = &self.bytes[self.at + length..];
            if rest.len() > 1 {
                return self.refuse("there is text after `# EOF`".into());
            }
            self.at = self.bytes.len();
            return Ok(true);
        }
        let (what, rest) = match line.split_at_checked(7) {
            Some((what @ (b"# HELP " | b"# TYPE " | b"# UNIT "), rest)) => (what[2], rest),
            _ => return self.error("`# HELP `, `# TYPE `, `# UNIT ` or `# EOF`"),
        };
        let name_length = name_length(rest);
        let (name, text) = rest.split_at(name_length);
        let Some(text) = text.strip_prefix(b" ").filter(|_| name_length > 0) else {
            return self.error("a metric name, one blank and a text");
        };
        match what {
            b'T' => {
                self.kind = match text {
                    b"histogram" | b"gaugehistogram" => Kind::Histogram,
                    b"summary" => Kind::Summary,
                    b"counter" | b"gauge" | b"info" | b"stateset" | b"unknown" => Kind::Other,
                    other => return self.refuse(unknown_type(other)),
                }
            }
            b'U' => {
                let name = name.strip_suffix(b"\"").unwrap_or(name);
                let fits = name.strip_suffix(text).is_some_and(|base| base.ends_with(b"_"));
                if !text.is_empty() && !fits {
                    return self.refuse(format!(
                        "the unit {:?} is not the end of the name {:?}",
                        excerpt(text),
                        excerpt(name)
                    ));
                }
            }
            _ => {
                if std::str::from_utf8(text).is_err() {
                    return self.refuse("the help text is not UTF-8".into());
                }
            }
        }
        if self.rigour == Rigour::Strict
            && what != b'U'
            && !self.described.insert((what == b'H', name))
        {
            return self.refuse(format!("a second HELP or TYPE line for {}", excerpt(name)));
        }
        self.at += length;
        if self.peek().is_none() {
            return self.error("a last line `# EOF`");
        }
        self.end_of_line()?;
        Ok(false)
    }

    fn sample_openmetrics(&mut self) -> Result<Entry<'a>, ParseError> {
        let series = self.series(false)?;
        let value = self.spaced_number("a value")?;
        let mut time = None;
        if self.peek() == Some(b' ') && !self.bytes[self.at..].starts_with(b" # {") {
            time = Some(self.timestamp()?);
        }
        if self.bytes[self.at..].starts_with(b" # {") {
            self.at += 4;
            let start = self.at;
            match scan_labels(self.bytes, start, false, &mut |_| {}) {
                Ok(Scan { named: false, end }) => self.at = end,
                Ok(_) => return self.error("labels of an exemplar"),
                Err((at, expected)) => {
                    self.at = at;
                    return self.error(expected);
                }
            }
            if std::str::from_utf8(&self.bytes[start..self.at]).is_err() {
                return self.refuse("the labels of the exemplar are not UTF-8".into());
            }
            self.spaced_number("a value after the labels of the exemplar")?;
            if self.peek() == Some(b' ') {
                self.timestamp()?;
            }
        }
        if self.peek().is_none() {
            return self.error("a last line `# EOF`");
        }
        self.end_of_line()?;
        Ok(Entry { series, kind: self.kind, value, time })
    }

    fn spaced_number(&mut self, what: &str) -> Result<f64, ParseError> {
        if self.peek() != Some(b' ') {
            return self.error(&format!("one blank and {what}"));
        }
        self.at += 1;
        self.number(|byte| !matches!(byte, b' ' | b'\n'))
    }

    fn timestamp(&mut self) -> Result<Time, ParseError> {
        let start = self.at;
        let seconds = self.spaced_number("a timestamp")?;
        if !seconds.is_finite() {
            self.at = start;
            return self.error("a timestamp in seconds");
        }
        Ok(Time((seconds * 1000.0) as i64))
    }

    fn number(&mut self, part: impl Fn(u8) -> bool) -> Result<f64, ParseError> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| !part(*byte)).unwrap_or(rest.len());
        let text = std::str::from_utf8(&rest[..length]).ok();
        match text.and_then(float) {
            Some(value) => {
                self.at += length;
                Ok(value)
            }
            None => self.error("a number"),
        }
    }

    /// Steps over name and labels.
    fn series(&mut self, loose: bool) -> Result<&'a str, ParseError> {
        let start = self.at;
        let bare = bare_name_length(&self.bytes[self.at..]);
        self.at += bare;
        let mut end = self.at;
        if loose {
            self.skip_blanks();
        }
        if self.peek() == Some(b'{') {
            self.at += 1;
            match scan_labels(self.bytes, self.at, loose, &mut |_| {}) {
                Ok(scan) if scan.named == (bare > 0) => {
                    self.at = start;
                    return self.refuse(format!(
                        "{} metric name in {:?}",
                        if scan.named { "a second" } else { "no" },
                        excerpt(&self.bytes[start..scan.end])
                    ));
                }
                Ok(scan) => {
                    self.at = scan.end;
                    end = scan.end;
                }
                Err((at, expected)) => {
                    self.at = at;
                    return self.error(expected);
                }
            }
        } else if bare == 0 {
            return self.error("a metric name");
        }
        let Ok(series) = std::str::from_utf8(&self.bytes[start..end]) else {
            return self.refuse("a label is not UTF-8".into());
        };
        // Quoted names and values may span lines when the format is text.
        self.line += series.bytes().filter(|byte| *byte == b'\n').count();
        if self.rigour == Rigour::Strict {
            self.strict(series)?;
        }
        Ok(series)
    }

    fn strict(&self, series: &'a str) -> Result<(), ParseError> {
        let mut refused = None;
        read_series(series, &mut |name, value| {
            let number = match self.kind {
                Kind::Histogram => "le",
                Kind::Summary => "quantile",
                Kind::Other => "",
            };
            if value.contains('\n') {
                refused = Some("a line end in a label value");
            } else if name == number && float(value).is_none() {
                refused = Some("a bucket or quantile that is no number");
            } else if unknown_escape(value) {
                refused = Some("an unknown escape in a label value");
            }
        });
        match refused {
            Some(why) => self.refuse(format!("{why}: {:?}", excerpt(series.as_bytes()))),
            None => Ok(()),
        }
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Entry<'a>, ParseError>;

    fn next(&mut self) -> Option<Result<Entry<'a>, ParseError>> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

impl Entry<'_> {
    /// The series' name and labels, unescaped, `le` and `quantile` in their one form (`1` becomes
    /// `1.0`), put over `target`; a label that `target` has too becomes `exported_…`, or wins if
    /// `honor_labels`.
    ///
    /// # Errors
    /// In words, if a label comes twice or there are more than [`LABELS_MAX`].
    pub fn labels(&self, target: &Labels, honor_labels: bool) -> Result<Labels, String> {
        let mut own: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(8);
        let number = match self.kind {
            Kind::Histogram => "le",
            Kind::Summary => "quantile",
            Kind::Other => "",
        };
        read_series(self.series, &mut |name, value| {
            let (name, value) = (unescaped(name), unescaped(value));
            let value = match float(&value) {
                Some(bound) if name == number => Cow::Owned(canonical(bound)),
                _ => value,
            };
            own.push((name, value));
        });
        if own.len() > LABELS_MAX {
            return Err(format!("a series has {} labels; {LABELS_MAX} may be", own.len()));
        }
        own.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if let Some(twice) = own.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!(
                "the label {:?} comes twice in {:?}",
                twice[0].0,
                excerpt(self.series.as_bytes())
            ));
        }
        own.retain(|(_, value)| !value.is_empty());
        if !honor_labels {
            for i in 0..own.len() {
                if target.has(&own[i].0) && own[i].0 != Labels::NAME {
                    let mut name = format!("exported_{}", own[i].0);
                    while target.has(&name) || own.iter().any(|(other, _)| *other == name) {
                        name.insert_str(0, "exported_");
                    }
                    own[i].0 = Cow::Owned(name);
                }
            }
        }
        Ok(target.iter().chain(own.iter().map(|(name, value)| (&**name, &**value))).collect())
    }
}

/// What lies between braces, piece by piece.
enum Piece {
    /// A quoted metric name: its inside.
    Name(usize, usize),
    /// A label: the insides of name and value.
    Label(usize, usize, usize, usize),
}

struct Scan {
    /// A metric name was among the labels.
    named: bool,
    /// Behind the closing brace.
    end: usize,
}

/// Reads labels from behind the opening brace. `loose`: blanks may stand anywhere, values may hold
/// line ends, and a comma may be missing.
fn scan_labels(
    bytes: &[u8],
    mut at: usize,
    loose: bool,
    found: &mut impl FnMut(Piece),
) -> Result<Scan, (usize, &'static str)> {
    let skip = |mut at: usize| {
        while loose && matches!(bytes.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        at
    };
    let mut named = false;
    loop {
        at = skip(at);
        let (start, end) = match bytes.get(at) {
            Some(b'}') => return Ok(Scan { named, end: at + 1 }),
            Some(b'"') => {
                let close = closing_quote(bytes, at + 1, true).ok_or((at, "a closing quote"))?;
                (at + 1, close)
            }
            Some(byte) if byte.is_ascii_alphabetic() || *byte == b'_' => {
                let word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                (at, at + bytes[at..].iter().take_while(word).count())
            }
            _ => return Err((at, "a label name or `}`")),
        };
        let quoted = bytes[at] == b'"';
        at = skip(if quoted { end + 1 } else { end });
        match bytes.get(at) {
            Some(b'=') if start < end => {
                at = skip(at + 1);
                if bytes.get(at) != Some(&b'"') {
                    return Err((at, "a label value in double quotes"));
                }
                let close = closing_quote(bytes, at + 1, loose).ok_or((at, "a closing quote"))?;
                found(Piece::Label(start, end, at + 1, close));
                at = skip(close + 1);
                match bytes.get(at) {
                    Some(b',') => at += 1,
                    Some(b'}') => {}
                    Some(byte)
                        if loose && (byte.is_ascii_alphabetic() || b"_\"".contains(byte)) => {}
                    _ => return Err((at, "a comma or `}`")),
                }
            }
            Some(b',' | b'}') if quoted && !named && start < end => {
                named = true;
                found(Piece::Name(start, end));
                at += usize::from(bytes[at] == b',');
            }
            _ => return Err((at, "`=` after a label name")),
        }
    }
}

fn closing_quote(bytes: &[u8], mut at: usize, lines: bool) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            b'\n' if !lines => return None,
            _ => at += 1,
        }
    }
}

/// Names and values of a series whose text was read before, still escaped; the metric's own name as
/// `__name__`.
fn read_series<'a>(series: &'a str, found: &mut impl FnMut(&'a str, &'a str)) {
    let bare = bare_name_length(series.as_bytes());
    if bare > 0 {
        found(Labels::NAME, &series[..bare]);
    }
    if let Some(brace) = series.find('{') {
        // It was read before, so it reads again.
        let _read_before =
            scan_labels(series.as_bytes(), brace + 1, true, &mut |piece| match piece {
                Piece::Name(start, end) => found(Labels::NAME, &series[start..end]),
                Piece::Label(a, b, c, d) => found(&series[a..b], &series[c..d]),
            });
    }
}

fn bare_name_length(bytes: &[u8]) -> usize {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    match bytes.first() {
        Some(byte) if first(*byte) => bytes
            .iter()
            .position(|byte| !first(*byte) && !byte.is_ascii_digit())
            .unwrap_or(bytes.len()),
        _ => 0,
    }
}

/// Of a metric name in a comment, with quotes if it has them.
fn name_length(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(b'"') => closing_quote(bytes, 1, true).map_or(0, |close| close + 1),
        _ => bare_name_length(bytes),
    }
}

fn line_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len())
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blanks..]
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(60).collect()
}

fn unknown_type(found: &[u8]) -> String {
    format!("{:?} is no metric type", excerpt(found))
}

/// As Go reads it, without its underscores and hexadecimal digits.
fn float(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    // `-nan` is a number to Rust alone.
    if value.is_nan() && !text.starts_with(['n', 'N']) { None } else { Some(value) }
}

fn unknown_escape(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && !matches!(bytes.next(), Some(b'\\' | b'"' | b'n')) {
            return true;
        }
    }
    false
}

/// `\\`, `\"` and `\n` become what they mean; other escapes stay as they stand.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(other @ ('"' | '\\')) => plain.push(other),
                other => {
                    plain.push('\\');
                    plain.extend(other);
                }
            },
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

/// The one form of a bucket's bound: shortest digits, always a point or an exponent.
fn canonical(bound: f64) -> String {
    if bound.is_nan() {
        return "NaN".into();
    }
    if bound.is_infinite() {
        return if bound > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{bound:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Go's shortest form has an exponent below 1e-4 and from 1e6 on.
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = bound.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// The samples as text in format 0.0.4, one a line, each with its time. Values keep every bit but
/// those of a NaN.
#[must_use]
pub fn print<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> String {
    let mut text = String::new();
    for Sample { labels, time, value } in samples {
        let name = labels.get(Labels::NAME);
        let plain = bare_name_length(name.as_bytes()) == name.len();
        let mut pieces = Vec::new();
        if !plain {
            pieces.push(quoted(name));
        }
        for (label, value) in labels.iter().filter(|(label, _)| *label != Labels::NAME) {
            let bare = !label.contains(':') && bare_name_length(label.as_bytes()) == label.len();
            let label = if bare { label.to_owned() } else { quoted(label) };
            pieces.push(format!("{label}={}", quoted(value)));
        }
        text.push_str(if plain { name } else { "" });
        if !pieces.is_empty() {
            text.push('{');
            text.push_str(&pieces.join(","));
            text.push('}');
        }
        let value = match *value {
            value if value.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "+Inf".to_owned(),
            f64::NEG_INFINITY => "-Inf".to_owned(),
            value => format!("{value:?}"),
        };
        // Writing to a string cannot fail.
        let _infallible = match time.0 {
            time @ 0.. => writeln!(text, " {value} {time}"),
            _ => writeln!(text, " {value}"),
        };
    }
    text
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
