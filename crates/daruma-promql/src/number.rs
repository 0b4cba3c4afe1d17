//! Numbers as text, both ways: what the language accepts, and how Prometheus prints values.

/// A number (`1.5`, `0x1f`, `017`, `1_000`, `Inf`, `NaN`) or a duration in seconds (`1h30m`);
/// `None` for anything else. No sign.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" => return Some(f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain = underscores(&lower)?;
    if let Some(hex) = plain.strip_prefix("0x") {
        return whole(hex, 16);
    }
    if let Some(octal) = plain.strip_prefix('0').filter(|rest| !rest.is_empty())
        && octal.bytes().all(|b| b.is_ascii_digit())
        && let Some(number) = whole(octal, 8)
    {
        return Some(number);
    }
    let number = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-');
    if plain.bytes().all(number) && plain.bytes().any(|b| b.is_ascii_digit()) {
        return plain.parse().ok();
    }
    // Case matters in units: `5M` is no duration.
    duration(text)
}

fn whole(digits: &str, radix: u32) -> Option<f64> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    i64::from_str_radix(digits, radix).ok().map(|number| number as f64)
}

/// Without the underscores, each of which must stand between two digits.
fn underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    // `e` is a digit of a hexadecimal number, else it begins an exponent.
    let hex = text.starts_with("0x");
    for (i, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'_') {
        let digit = |b: Option<&u8>| {
            b.is_some_and(|b| b.is_ascii_digit() || hex && (b.is_ascii_hexdigit() || *b == b'x'))
        };
        if i == 0 || !digit(bytes.get(i - 1)) || !digit(bytes.get(i + 1)) {
            return None;
        }
    }
    Some(text.replace('_', ""))
}

fn duration(text: &str) -> Option<f64> {
    if !text.ends_with(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    text.parse::<daruma_model::Span>().ok().map(daruma_model::Span::as_secs_f64)
}

/// A value as Prometheus' HTTP API prints it: the shortest digits that read back as the same number,
/// never an exponent; `NaN`, `+Inf`, `-Inf`.
#[must_use]
pub fn format_value(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        // The standard library prints the shortest round-trip digits without an exponent.
        format!("{value}")
    }
}

/// A value as Go's `%g` prints it: an exponent from 1e+21 up and below 1e-04. Annotations use it.
#[must_use]
pub fn format_short(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 || (1e-4..1e21).contains(&size) {
        return format_value(value);
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_prometheus_reads_them() {
        for (text, want) in [
            ("1", Some(1.0)),
            ("1.5", Some(1.5)),
            (".5", Some(0.5)),
            ("2.", Some(2.0)),
            ("1e3", Some(1000.0)),
            ("12.34e-6", Some(12.34e-6)),
            ("0x1F", Some(31.0)),
            ("017", Some(15.0)),
            ("019", Some(19.0)),
            ("1_000", Some(1000.0)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1e_3", None),
            ("2_e3", None),
            ("0x_f", Some(15.0)),
            ("0xe_1", Some(225.0)),
            ("inF", Some(f64::INFINITY)),
            ("5m", Some(300.0)),
            ("1h30m", Some(5400.0)),
            ("250ms", Some(0.25)),
            ("5M", None),
            ("30m1h", None),
            ("1.5h", None),
            ("1.2.3", None),
            ("0x", None),
            ("", None),
        ] {
            assert_eq!(parse_number(text), want, "{text}");
        }
        assert!(parse_number("nan").is_some_and(f64::is_nan));
    }

    #[test]
    fn values_print_as_the_api_prints_them() {
        for (value, api, short) in [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (1.0, "1", "1"),
            (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
            (1e21, "1000000000000000000000", "1e+21"),
            (1e-7, "0.0000001", "1e-07"),
            (-1.5e300, &format!("-15{}", "0".repeat(299)), "-1.5e+300"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            assert_eq!((format_value(value).as_str(), format_short(value).as_str()), (api, short));
        }
    }
}
