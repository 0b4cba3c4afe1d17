//! What functions do to texts and numbers.

use crate::format::general;
use crate::time::civil;

pub(crate) fn escape_html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

pub(crate) fn escape_js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

pub(crate) fn query_escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The first letter of each word in capitals, the others as they are.
pub(crate) fn title(text: &str) -> String {
    let mut previous = ' ';
    let mut out = String::new();
    for c in text.chars() {
        let starts = !(previous.is_alphanumeric() || matches!(previous, '_' | '\''));
        if starts {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        previous = c;
    }
    out
}

pub(crate) fn strip_port(text: &str) -> String {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some((host, port)) if !port.contains(':') => host.to_owned(),
            _ => text.to_owned(),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains([':', '[', ']']) => host.to_owned(),
        _ => text.to_owned(),
    }
}

pub(crate) fn strip_domain(text: &str) -> String {
    let host = strip_port(text);
    let port = text.rsplit_once(':').filter(|_| host != text).map(|(_, port)| port);
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    let short = host.split('.').next().unwrap_or("");
    match port {
        Some(port) => format!("{short}:{port}"),
        None => short.to_owned(),
    }
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn shrunk<'a>(mut value: f64, prefixes: &[&'a str], base: f64) -> (f64, &'a str) {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < base {
            break;
        }
        prefix = next;
        value /= base;
    }
    (value, prefix)
}

fn grown(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

pub(crate) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return general(value, 4);
    }
    let (value, prefix) = if value.abs() >= 1.0 {
        shrunk(value, &["k", "M", "G", "T", "P", "E", "Z", "Y"], 1000.0)
    } else {
        grown(value)
    };
    general(value, 4) + prefix
}

pub(crate) fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return general(value, 4);
    }
    let prefixes = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
    let (value, prefix) = shrunk(value, &prefixes, 1024.0);
    general(value, 4) + prefix
}

pub(crate) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return general(value, 4);
    }
    if value == 0.0 {
        return general(value, 4) + "s";
    }
    if value.abs() < 1.0 {
        let (value, prefix) = grown(value);
        return format!("{}{prefix}s", general(value, 4));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    let whole = value as i64;
    let (seconds, minutes) = (whole % 60, whole / 60 % 60);
    let (hours, days) = (whole / 3600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", general(value, 4))
    }
}

/// Seconds since 1970 as Go prints a time in UTC.
pub(crate) fn timestamp(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Ok(general(value, 4));
    }
    let nanos = value * 1e9;
    if nanos.abs() > 9.2e18 {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp",
            general(value, 4)
        ));
    }
    let nanos = nanos as i64;
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut decimals = String::new();
    if fraction > 0 {
        decimals = format!(".{fraction:09}").trim_end_matches('0').to_owned();
    }
    Ok(format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}{decimals} +0000 UTC",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
    ))
}
