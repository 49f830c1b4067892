//! Functions of dates: what a time in seconds since 1970 is called in UTC.

/// Functions of a time in seconds since 1970.
pub(crate) fn function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "minute" => |time| part(time, |date| date.second / 60 % 60),
        "hour" => |time| part(time, |date| date.second / 3_600),
        // The first of January 1970 was a Thursday, the fourth day after Sunday.
        "day_of_week" => |time| part(time, |date| (date.days + 4).rem_euclid(7)),
        "day_of_month" => |time| part(time, |date| date.day),
        "day_of_year" => |time| part(time, Date::day_of_year),
        "days_in_month" => |time| part(time, |date| days_in_month(date.year, date.month)),
        "month" => |time| part(time, |date| date.month),
        "year" => |time| part(time, |date| date.year),
        _ => return None,
    })
}

fn part(time: f64, get: fn(&Date) -> i64) -> f64 {
    // Beyond this a time is no date that anyone could mean, and the arithmetic below might overflow.
    if time.is_nan() || time.abs() > 1e15 {
        return f64::NAN;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fraction of a second is to go"
    )]
    let second = time as i64;
    get(&Date::at(second)) as f64
}

struct Date {
    days: i64,
    second: i64,
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// Counts in years that begin in March, so that the odd day is the last of its year.
    fn at(time: i64) -> Self {
        let (days, second) = (time.div_euclid(86_400), time.rem_euclid(86_400));
        let from_march_of_year_0 = days + 719_468;
        let era = from_march_of_year_0.div_euclid(146_097);
        let day_of_era = from_march_of_year_0.rem_euclid(146_097);
        let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let first_of_year = 365 * year_of_era + year_of_era / 4 - year_of_era / 100;
        let day_of_year = day_of_era - first_of_year;
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        Self {
            days,
            second,
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        }
    }

    fn day_of_year(&self) -> i64 {
        let before: i64 = (1..self.month)
            .map(|month| days_in_month(self.year, month))
            .sum();
        before + self.day
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(time: i32) -> Vec<f64> {
        [
            "year",
            "month",
            "day_of_month",
            "day_of_year",
            "day_of_week",
            "hour",
            "minute",
        ]
        .map(|name| function(name).unwrap()(f64::from(time)))
        .to_vec()
    }

    #[test]
    fn names_known_days() {
        assert_eq!(parts(0), [1970.0, 1.0, 1.0, 1.0, 4.0, 0.0, 0.0]);
        assert_eq!(parts(-1), [1969.0, 12.0, 31.0, 365.0, 3.0, 23.0, 59.0]);
        let leap_day_of_2000 = parts(951_782_400);
        assert_eq!(leap_day_of_2000, [2000.0, 2.0, 29.0, 60.0, 2.0, 0.0, 0.0]);
        let leap_day_of_2024 = parts(1_709_251_199);
        assert_eq!(leap_day_of_2024, [2024.0, 2.0, 29.0, 60.0, 4.0, 23.0, 59.0]);
    }

    #[test]
    fn what_is_no_date_is_no_number() {
        let year = function("year").unwrap();
        for time in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
            assert!(year(time).is_nan());
        }
    }
}
