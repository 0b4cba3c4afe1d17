//! Parameters of Prometheus' API: from the address and from forms, read as Prometheus reads them, refused
//! in its words. Nothing here looks at data.

use std::str::FromStr;

use daruma_model::{Matcher, Span, Time};
use daruma_promql::{Edges, Expr, Kind};

use super::Failure;
use crate::accept::Site;

/// Parameters of one request.
const PARAMS_MAX: usize = 1000;

/// Names and values in order: a form's first, then the address's.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn read(form: &[u8], query: &[u8]) -> Result<Params, Failure> {
        let all = form_urlencoded::parse(form).chain(form_urlencoded::parse(query));
        let owned = all.map(|(name, value)| (name.into_owned(), value.into_owned()));
        let all: Vec<_> = owned.take(PARAMS_MAX + 1).collect();
        if all.len() > PARAMS_MAX {
            return Err(Failure::bad(format!("more than {PARAMS_MAX} parameters")));
        }
        Ok(Params(all))
    }

    /// The first value of `name`; `""` when there is none, or an empty one.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(super) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Time>, Failure> {
        match self.get(name) {
            "" => Ok(None),
            text => time(text).map(Some).map_err(|said| Failure::parameter(name, said)),
        }
    }

    /// `start` and `end`; without them, all of time.
    pub(super) fn bounds(&self) -> Result<(Time, Time), Failure> {
        let start = self.time("start")?.unwrap_or(Time::MIN);
        let end = self.time("end")?.unwrap_or(Time::MAX);
        if end < start {
            return Err(Failure::parameter("end", "end timestamp must not be before start time"));
        }
        Ok((start, end))
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Span>, Failure> {
        match self.get(name) {
            "" => Ok(None),
            text => duration(text).map(Some).map_err(|said| Failure::parameter(name, said)),
        }
    }

    /// `limit`; 0 is none.
    pub(super) fn limit(&self) -> Result<usize, Failure> {
        match self.get("limit") {
            "" => Ok(usize::MAX),
            text => match text.parse::<i64>() {
                Ok(0) => Ok(usize::MAX),
                Ok(limit @ 1..) => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
                Ok(_) => Err(Failure::parameter("limit", "limit must be non-negative")),
                Err(_) => {
                    let cut: String = text.chars().take(40).collect();
                    Err(Failure::parameter("limit", format!("cannot parse {cut:?} to a number")))
                }
            },
        }
    }

    /// The query, parsed.
    pub(super) fn expr(&self, site: &Site) -> Result<Expr, Failure> {
        let options = site.turns.limits.options();
        Expr::parse_with(self.get("query"), &options).map_err(|error| {
            let (line, column) = (error.line, error.column);
            let said = format!("{line}:{column}: parse error: {}", error.message);
            Failure::parameter("query", said)
        })
    }

    /// Every `match[]`, parsed.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, Failure> {
        self.all("match[]")
            .map(|text| selector(text).map_err(|said| Failure::parameter("match[]", said)))
            .collect()
    }
}

/// The matchers of one selector without a window or shift.
pub(super) fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    let expr = Expr::parse(text).map_err(|error| {
        format!("{}:{}: parse error: {}", error.line, error.column, error.message)
    })?;
    match &expr.ast().kind {
        Kind::Selector(selector)
            if selector.window.is_none()
                && selector.shift.at.is_none()
                && selector.shift.offset.is_none()
                && selector.edges == Edges::Plain =>
        {
            Ok(selector.matchers.clone())
        }
        _ => Err("1:1: parse error: expected a selector such as up{job=\"x\"}".to_owned()),
    }
}

/// The earliest and latest times that Prometheus' own clients send.
const EVER: [(&str, Time); 2] =
    [("-292273086-05-16T16:47:06Z", Time::MIN), ("292277025-08-18T07:12:54.999999999Z", Time::MAX)];

/// Seconds with a fraction, or RFC 3339.
fn time(text: &str) -> Result<Time, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        // Beyond what milliseconds can count the conversion saturates.
        return Ok(Time((seconds * 1000.0).round() as i64));
    }
    if let Some((_, time)) = EVER.iter().find(|(known, _)| *known == text) {
        return Ok(*time);
    }
    let shaped = text.len() >= 20 && text.as_bytes().get(10) == Some(&b'T');
    match jiff::Timestamp::from_str(text) {
        Ok(at) if shaped => Ok(Time(at.as_millisecond())),
        _ => {
            let cut: String = text.chars().take(60).collect();
            Err(format!("cannot parse {cut:?} to a valid timestamp"))
        }
    }
}

/// Seconds with a fraction, or a duration with units.
fn duration(text: &str) -> Result<Span, String> {
    let cut = || text.chars().take(60).collect::<String>();
    if let Ok(seconds) = text.parse::<f64>()
        && !seconds.is_nan()
    {
        // Prometheus counts nanoseconds in 64 bits.
        if seconds.abs() * 1e9 > i64::MAX as f64 {
            return Err(format!(
                "cannot parse {:?} to a valid duration. It overflows int64",
                cut()
            ));
        }
        return Ok(Span((seconds * 1000.0) as i64));
    }
    text.parse().map_err(|_| format!("cannot parse {:?} to a valid duration", cut()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_and_durations_read_as_prometheus_reads_them() {
        for (text, want) in [
            ("1767361020", Some(1_767_361_020_000)),
            ("1767361020.123", Some(1_767_361_020_123)),
            ("-1.5", Some(-1500)),
            ("2026-01-02T13:37:00Z", Some(1_767_361_020_000)),
            ("2026-01-02T13:37:00.5Z", Some(1_767_361_020_500)),
            ("2026-01-02T14:37:00+01:00", Some(1_767_361_020_000)),
            ("-292273086-05-16T16:47:06Z", Some(i64::MIN)),
            ("292277025-08-18T07:12:54.999999999Z", Some(i64::MAX)),
            ("1e300", Some(i64::MAX)),
            ("NaN", None),
            ("2026-01-02", None),
            ("2026-01-02 13:37:00Z", None),
            ("now", None),
        ] {
            assert_eq!(time(text).ok().map(|time| time.0), want, "{text}");
        }
        for (text, want) in [
            ("15", Some(15_000)),
            ("0.5", Some(500)),
            ("-1", Some(-1000)),
            ("1m30s", Some(90_000)),
            ("1e300", None),
            ("inf", None),
            ("5 s", None),
        ] {
            assert_eq!(duration(text).ok().map(|span| span.0), want, "{text}");
        }
    }

    #[test]
    fn a_forms_parameters_stand_before_the_addresss() {
        let params = Params::read(b"query=a%2Bb&match[]=x", b"query=c&match%5B%5D=y").unwrap();
        assert_eq!(params.get("query"), "a+b");
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(params.get("none"), "");
        assert!(Params::read("a=1&".repeat(1001).as_bytes(), b"").is_err());
    }

    #[test]
    fn only_a_plain_selector_selects_series() {
        for (text, good) in [
            ("up", true),
            (r#"{job="x", instance!~"y.*"}"#, true),
            (r#"{"a.b"}"#, true),
            ("up[5m]", false),
            ("up offset 5m", false),
            ("sum(up)", false),
            ("{}", false),
            ("", false),
        ] {
            assert_eq!(selector(text).is_ok(), good, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parameter_panic(text in "\\PC{0,40}") {
            let _ = (time(&text), duration(&text), selector(&text));
            let _ = Params::read(text.as_bytes(), text.as_bytes());
        }
    }
}
