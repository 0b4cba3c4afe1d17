//! Numbers and values as Go prints them.

use crate::value::{Value, WEIGHT_MAX};

/// `%v` and `%g` of a float: the shortest digits that read back, with an exponent from 1e+06 up and
/// below 1e-04.
pub(crate) fn float(value: f64) -> String {
    if let Some(special) = special(value) {
        return special.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    // Rust's exponent form has the shortest digits, too.
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) { format!("{value}") } else { with_exponent(digits, exponent) }
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

fn with_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `%.<precision>g`.
pub(crate) fn general(value: f64, precision: usize) -> String {
    if let Some(special) = special(value) {
        return special.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let precision = precision.max(1);
    let text = format!("{value:.*e}", precision - 1);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if exponent < -4 || exponent >= precision as i32 {
        return with_exponent(&trimmed(digits), exponent);
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{value:.decimals$}"))
}

/// `%e`.
fn exponent(value: f64, precision: usize) -> String {
    if let Some(special) = special(value) {
        return special.to_owned();
    }
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    with_exponent(digits, exponent.parse().unwrap_or(0))
}

/// The widest field and the most digits that `printf` makes.
const WIDTH_MAX: usize = 1000;

/// Go's `Sprintf`. A verb that does not fit is shown as such; it fails only when it
/// grows too long.
pub(crate) fn printf(format: &str, args: &[Value], methods: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    let mut reordered = false;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec { methods, ..Spec::default() };
        if out.len() > WEIGHT_MAX {
            return Err(format!("printf makes more than {WEIGHT_MAX} bytes"));
        }
        while let Some(&flag) = chars.peek() {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            chars.next();
        }
        let mut digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut number: Option<usize> = None;
            if let Some(place) = place(chars) {
                (next, reordered) = (place, true);
            }
            if chars.peek() == Some(&'*') {
                chars.next();
                let given = args.get(next).and_then(Value::as_int);
                next += 1;
                return given.and_then(|given| usize::try_from(given).ok());
            }
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                number = Some((number.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
                chars.next();
            }
            number
        };
        spec.width = digits(&mut chars).unwrap_or(0).min(WIDTH_MAX);
        if chars.peek() == Some(&'.') {
            chars.next();
            spec.precision = Some(digits(&mut chars).unwrap_or(0).min(WIDTH_MAX));
        }
        if let Some(place) = place(&mut chars) {
            (next, reordered) = (place, true);
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = args.get(next) else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        next += 1;
        out.push_str(&spec.pad(spec.verb(verb, value)));
    }
    if next < args.len() && !reordered {
        let extra: Vec<String> = args[next..]
            .iter()
            .map(|value| match value {
                Value::Nil => "<nil>".to_owned(),
                value => format!("{}={}", value.type_name(), value.print(methods)),
            })
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

/// `[n]`: the argument meant, from 0.
fn place(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    if chars.peek() != Some(&'[') {
        return None;
    }
    let mut ahead = chars.clone();
    ahead.next();
    let mut number: usize = 0;
    loop {
        match ahead.next()? {
            ']' => break,
            digit => number = (number * 10 + digit.to_digit(10)? as usize).min(WIDTH_MAX),
        }
    }
    *chars = ahead;
    number.checked_sub(1)
}

#[derive(Default)]
struct Spec {
    /// Whether label sets print themselves.
    methods: bool,
    left: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn pad(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.left {
            return text + &" ".repeat(missing);
        }
        if self.zero {
            let (sign, rest) = match text.strip_prefix(['-', '+']) {
                Some(rest) => (&text[..1], rest),
                None => ("", text.as_str()),
            };
            // Zeros would make a word of Inf and NaN.
            if rest.starts_with(|c: char| c.is_ascii_digit()) || sign.is_empty() {
                return format!("{sign}{}{rest}", "0".repeat(missing));
            }
        }
        " ".repeat(missing) + &text
    }

    fn signed(&self, text: String, negative: bool) -> String {
        match (negative || text.starts_with(['+', '-']), self.plus, self.space) {
            (true, ..) | (false, false, false) => text,
            (false, true, _) => format!("+{text}"),
            (false, false, true) => format!(" {text}"),
        }
    }

    fn verb(&self, verb: char, value: &Value) -> String {
        // The value in a complaint obeys the precision, too.
        let bad = || format!("%!{verb}({}={})", value.type_name(), self.verb('v', value));
        match (verb, value) {
            (_, Value::Nil) if verb == 'v' => "<nil>".to_owned(),
            (_, Value::Nil) => format!("%!{verb}(<nil>)"),
            ('T', value) => value.type_name().to_owned(),
            ('v' | 'd', Value::Int(number)) => self.signed(number.to_string(), *number < 0),
            ('d', Value::Span(nanos)) => self.signed(nanos.to_string(), *nanos < 0),
            ('x', Value::Int(number)) => format!("{number:x}"),
            ('X', Value::Int(number)) => format!("{number:X}"),
            ('o', Value::Int(number)) => format!("{number:o}"),
            ('b', Value::Int(number)) => format!("{number:b}"),
            ('c', Value::Int(number)) => u32::try_from(*number)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or(char::REPLACEMENT_CHARACTER)
                .to_string(),
            ('U', Value::Int(number)) => format!("U+{number:04X}"),
            ('q', Value::Int(number)) => {
                let c = u32::try_from(*number).ok().and_then(char::from_u32);
                format!("'{}'", c.unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            ('f' | 'F', Value::Float(number)) => {
                let text = match special(*number) {
                    Some(special) => special.to_owned(),
                    None => format!("{number:.*}", self.precision.unwrap_or(6)),
                };
                self.signed(text, *number < 0.0)
            }
            ('e' | 'E', Value::Float(number)) => {
                let text = exponent(*number, self.precision.unwrap_or(6));
                let text = if verb == 'E' { text.to_uppercase() } else { text };
                self.signed(text, *number < 0.0)
            }
            ('v' | 'g' | 'G', Value::Float(number)) => {
                let text = match self.precision {
                    Some(precision) => general(*number, precision),
                    None => float(*number),
                };
                self.signed(text, *number < 0.0)
            }
            ('t' | 'v', Value::Bool(truth)) => truth.to_string(),
            ('s' | 'v', Value::Text(text) | Value::Safe(_, text)) => match self.precision {
                Some(precision) => text.chars().take(precision).collect(),
                None => text.clone(),
            },
            ('q', Value::Text(text) | Value::Safe(_, text)) => quoted(text),
            ('x', Value::Text(text) | Value::Safe(_, text)) => {
                text.bytes().map(|byte| format!("{byte:02x}")).collect()
            }
            ('X', Value::Text(text) | Value::Safe(_, text)) => {
                text.bytes().map(|byte| format!("{byte:02X}")).collect()
            }
            (
                'v' | 's',
                Value::Labels(_)
                | Value::List(_)
                | Value::Sample(..)
                | Value::Map(_)
                | Value::Pair(_)
                | Value::Struct(_)
                | Value::Time(_)
                | Value::Span(_),
            ) => value.print(self.methods),
            ('v', _) => value.print(self.methods),
            _ => bad(),
        }
    }
}

/// `%q`.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
