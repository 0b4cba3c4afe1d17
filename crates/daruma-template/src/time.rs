//! Calendar time as Go prints it. What offset a place has at a time is asked of the caller.

use std::fmt;

use daruma_model::Time;

/// What the clocks of a place show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Seconds east of Greenwich.
    pub seconds: i32,
    /// Its short name, such as `CET`.
    pub name: String,
}

/// Answers `tz "Europe/Paris"`: what the clocks of that place show at a time; `None` if there is none
/// of that name.
pub type Zones = fn(&str, Time) -> Option<Zone>;

/// A point in time and where it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) time: Time,
    pub(crate) zone: Zone,
}

/// A time on the calendar.
pub(crate) struct Parts {
    pub(crate) year: i64,
    pub(crate) month: usize,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) nanos: i64,
    pub(crate) weekday: usize,
    pub(crate) day_of_year: i64,
}

/// Go's zero time: the beginning of the year 1.
pub(crate) const ZERO: Time = Time(-62_135_596_800_000);

pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(crate) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Moment {
    pub(crate) fn utc(time: Time) -> Moment {
        Moment { time, zone: Zone { seconds: 0, name: "UTC".to_owned() } }
    }

    pub(crate) fn parts(&self) -> Parts {
        // Calendars of more than a hundred thousand years are of no use, and would overflow.
        let millis = self.time.0.clamp(-4_000_000_000_000_000, 4_000_000_000_000_000)
            + i64::from(self.zone.seconds) * 1000;
        let (seconds, rest) = (millis.div_euclid(1000), millis.rem_euclid(1000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        Parts {
            year,
            month: usize::try_from(month).unwrap_or(1).clamp(1, 12),
            day,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            nanos: rest * 1_000_000,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            day_of_year: days - days_of(year, 1, 1) + 1,
        }
    }

    /// By one of Go's layouts, which write out a certain second of 2006.
    pub(crate) fn format(&self, layout: &str) -> String {
        let parts = self.parts();
        let mut out = String::new();
        let mut rest = layout;
        'next: while let Some(c) = rest.chars().next() {
            for (token, says) in TOKENS {
                let Some(after) = rest.strip_prefix(token) else { continue };
                // `Jan` within `January` is found first by length; `Monday` and `Month` differ.
                out.push_str(&says(&parts, &self.zone));
                rest = after;
                continue 'next;
            }
            if let Some(length) = fraction(rest, out.ends_with(|c: char| c.is_ascii_digit())) {
                let digits = &format!("{:09}", parts.nanos)[..(length - 1).min(9)];
                let nines = rest[1..].starts_with('9');
                let digits = if nines { digits.trim_end_matches('0') } else { digits };
                if !digits.is_empty() {
                    out.push(c);
                    out.push_str(digits);
                }
                rest = &rest[length..];
                continue;
            }
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
        out
    }

    /// As JSON has it.
    pub(crate) fn rfc3339(&self) -> String {
        self.format("2006-01-02T15:04:05.999999999Z07:00")
    }
}

/// The length of `.000` or `,999` at the start.
fn fraction(text: &str, after_digit: bool) -> Option<usize> {
    let rest = text.strip_prefix(['.', ','])?;
    let digit = rest.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let length = rest.len() - rest.trim_start_matches(digit).len();
    let ends = !rest[length..].starts_with(|c: char| c.is_ascii_digit());
    (ends && after_digit).then_some(length + 1)
}

type Says = fn(&Parts, &Zone) -> String;

/// Longer ones before those they begin with.
const TOKENS: &[(&str, Says)] = &[
    ("January", |p, _| MONTHS[p.month - 1].to_owned()),
    ("Jan", |p, _| MONTHS[p.month - 1][..3].to_owned()),
    ("Monday", |p, _| DAYS[p.weekday].to_owned()),
    ("Mon", |p, _| DAYS[p.weekday][..3].to_owned()),
    ("MST", |_, zone| zone.name.clone()),
    ("2006", |p, _| format!("{:04}", p.year)),
    ("__2", |p, _| format!("{:3}", p.day_of_year)),
    ("002", |p, _| format!("{:03}", p.day_of_year)),
    ("_2006", |p, _| format!("_{:04}", p.year)),
    ("_2", |p, _| format!("{:2}", p.day)),
    ("01", |p, _| format!("{:02}", p.month)),
    ("02", |p, _| format!("{:02}", p.day)),
    ("03", |p, _| format!("{:02}", half(p.hour))),
    ("04", |p, _| format!("{:02}", p.minute)),
    ("05", |p, _| format!("{:02}", p.second)),
    ("06", |p, _| format!("{:02}", p.year.rem_euclid(100))),
    ("15", |p, _| format!("{:02}", p.hour)),
    ("PM", |p, _| if p.hour >= 12 { "PM" } else { "AM" }.to_owned()),
    ("pm", |p, _| if p.hour >= 12 { "pm" } else { "am" }.to_owned()),
    ("-07:00", |_, zone| offset(zone, ":", false)),
    ("-0700", |_, zone| offset(zone, "", false)),
    ("-07", |_, zone| offset(zone, "", false)[..3].to_owned()),
    ("Z07:00", |_, zone| offset(zone, ":", true)),
    ("Z0700", |_, zone| offset(zone, "", true)),
    ("1", |p, _| p.month.to_string()),
    ("2", |p, _| p.day.to_string()),
    ("3", |p, _| half(p.hour).to_string()),
    ("4", |p, _| p.minute.to_string()),
    ("5", |p, _| p.second.to_string()),
];

fn half(hour: i64) -> i64 {
    match hour % 12 {
        0 => 12,
        hour => hour,
    }
}

fn offset(zone: &Zone, colon: &str, zulu: bool) -> String {
    if zulu && zone.seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if zone.seconds < 0 { '-' } else { '+' };
    let minutes = zone.seconds.unsigned_abs() / 60;
    format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// Go's `Duration.String`.
pub(crate) fn go_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let decimal = |nanos: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let (whole, rest) = (nanos / unit, nanos % unit);
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if nanos < 1_000 {
        return format!("{sign}{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{sign}{}µs", decimal(nanos, 1_000));
    }
    if nanos < 1_000_000_000 {
        return format!("{sign}{}ms", decimal(nanos, 1_000_000));
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar
/// (days since 0000-03-01 in eras of 400 years).
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The day counted from 1970-01-01; the way back from [`civil`].
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// RFC 3339, as it stands in JSON; milliseconds are kept.
pub(crate) fn parse_rfc3339(text: &str) -> Option<Time> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let mark = |at: usize, marks: &[u8]| marks.contains(text.as_bytes().get(at)?).then_some(());
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    for (at, marks) in [(4, b"-".as_slice()), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")] {
        mark(at, marks)?;
    }
    let fits = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !fits {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut millis = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let length = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let digits: String = after[..length].chars().chain("000".chars()).take(3).collect();
        millis = digits.parse::<i64>().ok().filter(|_| length > 0)?;
        rest = &after[length..];
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ if rest.len() == 6 && rest.is_ascii() && &rest[3..4] == ":" => {
            let sign = match &rest[..1] {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let part = |text: &str| text.parse::<u8>().ok().map(i64::from);
            sign * (part(&rest[1..3])? * 3600 + part(&rest[4..])? * 60)
        }
        _ => return None,
    };
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Time(seconds * 1000 + millis))
}
