//! Times and durations as Prometheus writes and reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 86_400_000;

/// The wall clock, in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// A duration in milliseconds; the longest that fits, if it does not.
#[must_use]
pub fn to_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads `5m`, `1h30m` or `0`: whole numbers, each with a unit, the larger units first.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration like 500ms, 30s, 5m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (unit, behind) = rest.split_at(end);
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = number
            .checked_mul(*unit_ms)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(wrong)?;
        rest = behind;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration so that [`parse_duration`] reads it.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        // As Prometheus: weeks and years only where nothing else is left.
        let whole = matches!(unit, "y" | "w") && !rest.is_multiple_of(unit_ms);
        if rest >= unit_ms && !whole {
            text += &(rest / unit_ms).to_string();
            text += unit;
            rest %= unit_ms;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Milliseconds since 1970 as RFC 3339 in UTC, with a fraction where there is one. Years 0 to 9999.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = date(days);
    let (seconds, fraction) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 {
        String::new()
    } else {
        format!(".{fraction:03}").trim_end_matches('0').to_owned()
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Reads RFC 3339 with a fraction and an offset from UTC, as milliseconds since 1970.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, offset_ms) = match clock.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => offset(clock)?,
    };
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(whole, ':')?;
    let all_digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    let padded = format!("{fraction:0<3}");
    let fraction: i64 = padded.get(..3).filter(|_| all_digits)?.parse().ok()?;
    let valid = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    let seconds = hour * 3600 + minute * 60 + second;
    valid.then(|| days(year, month, day) * DAY_MS + seconds * 1000 + fraction - offset_ms)
}

fn offset(clock: &str) -> Option<(&str, i64)> {
    let at = clock.rfind(['+', '-'])?;
    let [hours, minutes] = numbers(&clock[at + 1..], ':')?;
    let ms = (hours * 60 + minutes) * 60_000;
    Some((
        &clock[..at],
        if clock[at..].starts_with('-') {
            -ms
        } else {
            ms
        },
    ))
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[i64; N]> {
    let number = |part: &str| {
        let digits = (2..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|_| digits)
    };
    let numbers: Option<Vec<i64>> = text.split(between).map(number).collect();
    numbers?.try_into().ok()
}

/// Year, month and day of so many days after 1970-01-01, counted in eras of 400 years that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`date`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Beats at whole multiples of an interval of the wall clock, moved by an offset: as in Prometheus the times of
/// scrapes and evaluations are multiples too, so that a `for` of five intervals is over after exactly five. All in
/// milliseconds.
#[derive(Debug)]
pub struct Beat {
    interval: i64,
    offset: i64,
    last: i64,
}

impl Beat {
    /// A beat every `interval`, of which the part that `name` hashes to is the offset: not all at once.
    #[must_use]
    pub fn new(interval: Duration, name: &str) -> Self {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let interval = to_ms(interval).max(1);
        let offset = hasher.finish() % interval.unsigned_abs();
        Self {
            interval,
            offset: i64::try_from(offset).unwrap_or(0),
            last: i64::MIN,
        }
    }

    /// Waits for the next beat. Returns its time, and how many were missed since the last one.
    pub async fn next(&mut self) -> (i64, u64) {
        let now = now_ms();
        let since = (now - self.offset).rem_euclid(self.interval);
        let next = now - since + self.interval;
        let wait = u64::try_from(next - now).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let missed = match self.last {
            i64::MIN => 0,
            last => u64::try_from((next - last) / self.interval - 1).unwrap_or(0),
        };
        self.last = next;
        (next, missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms, written) in [
            ("0", 0, "0s"),
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("12h", 43_200_000, "12h"),
            ("8d", 691_200_000, "8d"),
            ("2w", 1_209_600_000, "2w"),
        ] {
            let read = parse_duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(ms));
            assert_eq!(format_duration(read), written);
        }
        for wrong in [
            "",
            "5",
            "m",
            "1.5h",
            "-1s",
            "5 m",
            "1m1h",
            "1s1s",
            "99999999999y",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T23:59:59.5Z", 1_709_251_199_500),
            ("2000-03-01T00:00:00Z", 951_868_800_000),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(parse_rfc3339(text), Some(ms));
            assert_eq!(rfc3339(ms), text);
        }
        let berlin = "2024-02-29T23:59:59.123456+01:00";
        assert_eq!(parse_rfc3339(berlin), Some(1_709_247_599_123));
        for wrong in [
            "",
            "2024",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "2024-01-01T25:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "x-y-zTa:b:cZ",
            "é-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn dates_and_days_are_inverse() {
        for day in -800_000..800_000 {
            let (year, month, day_of_month) = date(day);
            assert_eq!(days(year, month, day_of_month), day);
        }
    }

    #[tokio::test]
    async fn beats_are_multiples_of_their_interval() {
        let mut beat = Beat::new(Duration::from_millis(20), "x");
        let (first, _) = beat.next().await;
        let (second, missed) = beat.next().await;
        assert!(second > first && (second - first) % 20 == 0);
        assert_eq!(u64::try_from((second - first) / 20 - 1).unwrap(), missed);
    }
}
