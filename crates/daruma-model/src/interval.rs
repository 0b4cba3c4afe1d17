//! Time intervals as Alertmanager writes them: fields are ANDed, the entries of one field ORed; times
//! are half-open up to 24:00, all other ranges closed; negative days count from the end of the month.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::{Span, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, Zoned};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// When something holds. A field without entries says nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeInterval {
    /// Times of the day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<TimeRange>,
    /// Days of the week, such as `monday:friday`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<WeekdayRange>,
    /// Days of the month, such as `1:5` or `-3:-1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days_of_month: Vec<DayRange>,
    /// Months, such as `may:august` or `1:3`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub months: Vec<MonthRange>,
    /// Years, such as `2026:2028`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub years: Vec<YearRange>,
    /// Whose clock and calendar; UTC unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// A place of the IANA database, such as `Europe/Berlin`.
#[derive(Debug, Clone)]
pub struct Location {
    name: String,
    zone: Option<TimeZone>,
}

impl Location {
    /// The name that stands for wherever the program runs.
    pub const LOCAL: &'static str = "Local";

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl PartialEq for Location {
    fn eq(&self, other: &Location) -> bool {
        self.name == other.name
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(name: &str) -> Result<Location, String> {
        let zone = match name {
            // Which place this is, the edge must say: see `TimeInterval::settle`.
            Location::LOCAL => None,
            "" | "UTC" => Some(TimeZone::UTC),
            name => Some(TimeZoneDatabase::bundled().get(name).map_err(|_| {
                let found: String = name.chars().take(40).collect();
                format!(
                    "`{found}` is not a place of the time zone database; write one such as \
                     Europe/Berlin, or UTC"
                )
            })?),
        };
        Ok(Location { name: name.to_owned(), zone })
    }
}

/// Minutes since midnight of a text such as `08:30`; at most 1440.
fn minutes(text: &str) -> Result<u16, String> {
    let read = || {
        let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit() || b == b':');
        let (hours, minutes) = text.split_once(':').filter(|_| digits)?;
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        let sane = hours < 24 && minutes < 60 || (hours, minutes) == (24, 0);
        sane.then_some(hours * 60 + minutes)
    };
    let found: String = text.chars().take(40).collect();
    read().ok_or_else(|| format!("`{found}` is not a time; write one from 00:00 to 24:00"))
}

/// A time of the day, such as `08:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

impl TryFrom<String> for TimeOfDay {
    type Error = String;

    fn try_from(text: String) -> Result<TimeOfDay, String> {
        match minutes(&text)? {
            1440 => Err("`24:00` is the next day's 00:00".to_owned()),
            minutes => Ok(TimeOfDay(minutes)),
        }
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> String {
        format!("{:02}:{:02}", time.0 / 60, time.0 % 60)
    }
}

impl TimeOfDay {
    /// The first instant after `after` at which the clocks of a place show it; UTC unless said.
    #[must_use]
    pub fn next(self, place: Option<&Location>, after: Time) -> Option<Time> {
        let zone = place.and_then(|at| at.zone.clone()).unwrap_or(TimeZone::UTC);
        let today = Timestamp::from_millisecond(after.0).ok()?.to_zoned(zone.clone()).date();
        (0..3).find_map(|days| {
            let at = today.checked_add(days.days()).ok()?.at(0, 0, 0, 0);
            let at = at.checked_add(i64::from(self.0).minutes()).ok()?;
            let at = Time(zone.to_timestamp(at).ok()?.as_millisecond());
            (at > after).then_some(at)
        })
    }
}

/// From `start_time` up to, and without, `end_time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TimeRangeText", into = "TimeRangeText")]
pub struct TimeRange {
    /// Minutes since midnight.
    pub start: u16,
    /// Minutes since midnight, at most 1440.
    pub end: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeRangeText {
    start_time: String,
    end_time: String,
}

impl TryFrom<TimeRangeText> for TimeRange {
    type Error = String;

    fn try_from(text: TimeRangeText) -> Result<TimeRange, String> {
        TimeRange::read(&text.start_time, &text.end_time)
    }
}

impl TimeRange {
    /// From two texts such as `09:00` and `24:00`.
    ///
    /// # Errors
    /// One of them is not a time, or the end is not after the start.
    pub fn read(start_time: &str, end_time: &str) -> Result<TimeRange, String> {
        let (start, end) = (minutes(start_time)?, minutes(end_time)?);
        if start >= end {
            return Err(format!(
                "`end_time` {end_time} is not after `start_time` {start_time}; a time over midnight \
                 is written as two"
            ));
        }
        Ok(TimeRange { start, end })
    }
}

impl From<TimeRange> for TimeRangeText {
    fn from(range: TimeRange) -> TimeRangeText {
        let text = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        TimeRangeText { start_time: text(range.start), end_time: text(range.end) }
    }
}

/// The names of the week's days, Sunday first.
const DAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// The names of the months.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

macro_rules! range {
    ($(#[$doc:meta])* $name:ident, $read:expr, $check:expr, $show:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name {
            /// The first.
            pub first: i32,
            /// The last, which belongs to it.
            pub last: i32,
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<$name, String> {
                let read: fn(&str) -> Result<i32, String> = $read;
                let check: fn(i32, i32) -> Result<(), String> = $check;
                let lower = text.to_lowercase();
                let (first, last) = lower.split_once(':').unwrap_or((&lower, &lower));
                let (first, last) = (read(first)?, read(last)?);
                check(first, last)?;
                Ok($name { first, last })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(i32) -> String = $show;
                f.write_str(&show(self.first))?;
                if self.first == self.last { Ok(()) } else { write!(f, ":{}", show(self.last)) }
            }
        }

        impl $name {
            fn has(self, number: i32) -> bool {
                (self.first..=self.last).contains(&number)
            }
        }

        text_form!($name);
    };
}

/// Written as text, read from text or from a bare number.
macro_rules! text_form {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a value such as 1 or a range such as 1:5")
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
text_form!(Location);

fn number(text: &str) -> Result<i32, String> {
    text.parse()
        .map_err(|_| format!("`{}` is not a number", text.chars().take(40).collect::<String>()))
}

fn in_order(first: i32, last: i32) -> Result<(), String> {
    if first > last { Err(format!("the end {last} is before the start {first}")) } else { Ok(()) }
}

fn named(names: &[&str], text: &str) -> Option<i32> {
    names.iter().position(|name| *name == text).and_then(|at| i32::try_from(at).ok())
}

fn name_of(names: &[&str], at: i32) -> String {
    let name = usize::try_from(at).ok().and_then(|at| names.get(at));
    name.map_or_else(|| at.to_string(), |name| (*name).to_owned())
}

range!(
    /// Days of the week, 0 is Sunday.
    WeekdayRange,
    |text| named(&DAYS, text).ok_or_else(|| format!(
        "`{}` is not a day of the week", text.chars().take(40).collect::<String>()
    )),
    |first, last| if first > last {
        Err("the end day is before the start day; the week begins on Sunday".into())
    } else {
        Ok(())
    },
    |day| name_of(&DAYS, day)
);
range!(
    /// Days of the month from 1; -1 is the last.
    DayRange,
    number,
    |first, last| {
        for day in [first, last] {
            if day == 0 || !(-31..=31).contains(&day) {
                return Err(format!("{day} is not a day of the month; write 1 to 31 or -31 to -1"));
            }
        }
        if first < 0 && last > 0 {
            return Err("the end day must be negative if the start day is".into());
        }
        // The shortest month decides what is never in order.
        let place = |day: i32| if day < 0 { 28 + day } else { day };
        in_order(place(first), place(last))
            .map_err(|_| format!("the end day {last} is always before the start day {first}"))
    },
    |day| day.to_string()
);
range!(
    /// Months, 1 is January.
    MonthRange,
    |text| match named(&MONTHS, text) {
        Some(at) => Ok(at + 1),
        None => number(text).map_err(|_| format!(
            "`{}` is not a month", text.chars().take(40).collect::<String>()
        )),
    },
    in_order,
    |month| month.to_string()
);
range!(
    /// Years.
    YearRange,
    number,
    in_order,
    |year| year.to_string()
);

impl TimeInterval {
    /// Whether it holds at `now`. Outside the years that a calendar has, nothing holds.
    #[must_use]
    pub fn contains(&self, now: Time) -> bool {
        let Some(local) = self.local(now) else { return false };
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute()));
        let in_times =
            |range: &TimeRange| minute.is_ok_and(|m| (range.start..range.end).contains(&m));
        let weekday = i32::from(local.weekday().to_sunday_zero_offset());
        let (day, length) = (i32::from(local.day()), i32::from(local.days_in_month()));
        let in_days = |range: &DayRange| {
            let place = |day: i32| if day < 0 { length + day + 1 } else { day };
            DayRange { first: place(range.first), last: place(range.last) }.has(day)
        };
        (self.times.is_empty() || self.times.iter().any(in_times))
            && (self.weekdays.is_empty() || self.weekdays.iter().any(|range| range.has(weekday)))
            && (self.days_of_month.is_empty() || self.days_of_month.iter().any(in_days))
            && (self.months.is_empty()
                || self.months.iter().any(|range| range.has(i32::from(local.month()))))
            && (self.years.is_empty()
                || self.years.iter().any(|range| range.has(i32::from(local.year()))))
    }

    fn zone(&self) -> TimeZone {
        self.location.as_ref().and_then(|at| at.zone.clone()).unwrap_or(TimeZone::UTC)
    }

    fn local(&self, now: Time) -> Option<Zoned> {
        Some(Timestamp::from_millisecond(now.0).ok()?.to_zoned(self.zone()))
    }

    /// The instants of the `after`th day from that of `now` at which it may begin or end.
    fn edges(&self, now: Time, after: i32) -> Vec<Time> {
        let Some(local) = self.local(now) else { return Vec::new() };
        let Ok(day) = local.date().checked_add(after.days()) else { return Vec::new() };
        let zone = self.zone();
        let minutes = self.times.iter().flat_map(|range| [range.start, range.end]).chain([0]);
        let mut edges: Vec<Time> = minutes
            .filter_map(|minute| {
                let at = day.at(0, 0, 0, 0).checked_add(i64::from(minute).minutes()).ok()?;
                Some(Time(zone.to_timestamp(at).ok()?.as_millisecond()))
            })
            .collect();
        // Where the clock is set, an interval may begin or end in the middle of an hour.
        let start = edges.last().and_then(|at| Timestamp::from_millisecond(at.0).ok());
        let set = start.and_then(|start| zone.following(start).next());
        edges.extend(set.map(|set| Time(set.timestamp().as_millisecond())));
        edges
    }

    /// Gives `Local` the name of a place.
    ///
    /// # Errors
    /// If the place is not known.
    pub fn settle(&mut self, place: &str) -> Result<(), String> {
        settle(&mut self.location, place)
    }

    /// That its place is known.
    ///
    /// # Errors
    /// It is still `Local`.
    pub fn validate(&self) -> Result<(), String> {
        match &self.location {
            Some(at) if at.zone.is_none() => Err(format!(
                "the place `{}` of a time interval is not settled; name one such as Europe/Berlin",
                at.name
            )),
            _ => Ok(()),
        }
    }
}

/// Gives `Local` the name of a place.
///
/// # Errors
/// If the place is not known.
pub fn settle(location: &mut Option<Location>, place: &str) -> Result<(), String> {
    if location.as_ref().is_some_and(|at| at.name == Location::LOCAL) {
        *location = Some(place.parse()?);
    }
    Ok(())
}

/// When what depends on `intervals` alone and is `before` now is otherwise, within some 400 days.
#[must_use]
pub fn next_change(
    intervals: &[&TimeInterval],
    now: Time,
    before: bool,
    holds: impl Fn(Time) -> bool,
) -> Option<Time> {
    if intervals.is_empty() {
        return None;
    }
    // A day's edges may lie far after it (where the clock is set next) or before those of the day
    // before (in a place further east): what is looked at is what no later day can precede.
    let mut edges = BTreeSet::new();
    for day in 0..400 {
        edges.extend(intervals.iter().flat_map(|interval| interval.edges(now, day)));
        let complete = now + Span::secs(i64::from(day) * 86_400 - 7_200);
        while let Some(edge) = edges.first().copied().filter(|edge| *edge <= complete) {
            edges.pop_first();
            if edge > now && holds(edge) != before {
                return Some(edge);
            }
        }
    }
    None
}
