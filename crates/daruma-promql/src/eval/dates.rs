//! The civil calendar in UTC, from seconds since 1970. Proleptic Gregorian, any year that fits.

/// A moment in the civil calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    /// Sunday is 0.
    pub(crate) weekday: i64,
    /// The first of January is 1.
    pub(crate) year_day: i64,
}

/// Days before each month of a year that is no leap year.
const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

impl Civil {
    pub(crate) fn from_secs(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86_400);
        let in_day = seconds.rem_euclid(86_400);
        // Years are counted from the first of March, so that a leap day ends one; eras of 400 years
        // all have the same length.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let from_march = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let moved_month = (5 * from_march + 2) / 153;
        let day = from_march - (153 * moved_month + 2) / 5 + 1;
        let month = if moved_month < 10 { moved_month + 3 } else { moved_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let leap = i64::from(is_leap(year) && month > 2);
        let before = usize::try_from(month - 1).map_or(0, |at| BEFORE[at.min(11)]);
        Civil {
            year,
            month,
            day,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
            weekday: (days + 4).rem_euclid(7),
            year_day: before + leap + day,
        }
    }

    pub(crate) fn days_in_month(self) -> i64 {
        match self.month {
            2 => 28 + i64::from(is_leap(self.year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_have_their_known_dates() {
        for (seconds, (year, month, day), weekday, year_day, days) in [
            (0, (1970, 1, 1), 4, 1, 31),
            (-1, (1969, 12, 31), 3, 365, 31),
            (951_782_400, (2000, 2, 29), 2, 60, 29),
            (1_709_251_199, (2024, 2, 29), 4, 60, 29),
            (1_709_251_200, (2024, 3, 1), 5, 61, 31),
            (4_107_542_400, (2100, 3, 1), 1, 60, 31),
            (-62_135_596_800, (1, 1, 1), 1, 1, 31),
        ] {
            let civil = Civil::from_secs(seconds);
            assert_eq!((civil.year, civil.month, civil.day), (year, month, day), "{seconds}");
            assert_eq!((civil.weekday, civil.year_day), (weekday, year_day), "{seconds}");
            assert_eq!(civil.days_in_month(), days, "{seconds}");
        }
        let civil = Civil::from_secs(86_399);
        assert_eq!((civil.hour, civil.minute), (23, 59));
    }

    #[test]
    fn the_ends_of_time_have_dates_too() {
        for seconds in [i64::MIN, i64::MIN + 1, i64::MAX] {
            let civil = Civil::from_secs(seconds);
            assert!((1..=12).contains(&civil.month) && (1..=31).contains(&civil.day));
        }
    }
}
