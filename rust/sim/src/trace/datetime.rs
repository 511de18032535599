//! Dates with a time of day, as traces write them, to exact nanoseconds.

/// A point in time and whether the text said in which zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant {
    /// Nanoseconds since 1970-01-01T00:00:00Z; a text without zone is read as UTC.
    pub nanos: i64,
    /// Whether a zone (`Z`, `+02:00`) was given.
    pub zoned: bool,
}

/// Why a text is not a date with a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Not `YYYY-MM-DD HH:MM:SS[.fraction][zone]`.
    Shape,
    /// Shaped like one, but such a day or hour does not exist.
    NoSuchTime,
}

/// Reads `YYYY-MM-DD HH:MM:SS` with a space or `T` between, a fraction of any length and an optional zone.
///
/// Digits of the fraction beyond the ninth are dropped; years reach from 1678 to 2261, where i64 nanoseconds do.
pub(super) fn parse(text: &[u8]) -> Result<Instant, Broken> {
    let shaped = text.len() >= 19
        && [text[4], text[7], text[13], text[16]] == *b"--::"
        && matches!(text[10], b' ' | b'T' | b't');
    if !shaped {
        return Err(Broken::Shape);
    }
    let year = digits(&text[0..4])?;
    let (month, day) = (digits(&text[5..7])?, digits(&text[8..10])?);
    let (hour, minute, second) = (digits(&text[11..13])?, digits(&text[14..16])?, digits(&text[17..19])?);
    let (fraction, zone) = fraction(&text[19..])?;
    let (offset_s, zoned) = offset(zone)?;
    let moment = Moment { year, month, day, hour, minute, second, nanos: fraction, offset_s };
    Ok(Instant { nanos: moment.nanos()?, zoned })
}

/// A day and a time of it, on a clock so many seconds east of UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    pub nanos: i64,
    pub offset_s: i64,
}

impl Moment {
    /// Nanoseconds since 1970.
    pub fn nanos(self) -> Result<i64, Broken> {
        let Moment { year, month, day, hour, minute, second, .. } = self;
        let exists = (1678..=2261).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_of(year, month)).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second);
        if !exists {
            return Err(Broken::NoSuchTime);
        }
        let days = days_since_1970(year, month, day);
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - self.offset_s;
        Ok(seconds * 1_000_000_000 + self.nanos)
    }
}

/// The text of a point in time, to the millisecond: `2023-11-16T18:17:03.980Z`.
pub(super) fn format(nanos: i64) -> String {
    let (days, rest) = (nanos.div_euclid(86_400_000_000_000), nanos.rem_euclid(86_400_000_000_000));
    let (year, month, day) = date_of(days);
    let (millis, seconds) = (rest / 1_000_000 % 1_000, rest / 1_000_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The number that digits are; 18 of them at most.
pub(super) fn digits(text: &[u8]) -> Result<i64, Broken> {
    text.iter().try_fold(0, |sum, byte| match byte {
        b'0'..=b'9' => Ok(sum * 10 + i64::from(byte - b'0')),
        _ => Err(Broken::Shape),
    })
}

/// Nanoseconds of a leading `.fraction`, and what follows it.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), Broken> {
    if !matches!(text.first(), Some(b'.' | b',')) {
        return Ok((0, text));
    }
    let length = text[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return Err(Broken::Shape);
    }
    Ok((nanos_of(&text[1..1 + length])?, &text[1 + length..]))
}

/// Nanoseconds of the digits behind a second's point; those beyond the ninth are dropped.
pub(super) fn nanos_of(fraction: &[u8]) -> Result<i64, Broken> {
    let kept = &fraction[..fraction.len().min(9)];
    Ok(digits(kept)? * 10i64.pow(9 - kept.len() as u32))
}

/// Seconds east of UTC, and whether a zone was given: nothing, `Z`, `+HH:MM`, `+HHMM`, `+HH`, a space before it or not.
pub(super) fn offset(zone: &[u8]) -> Result<(i64, bool), Broken> {
    let zone = zone.trim_ascii();
    let (sign, hours, minutes) = match zone {
        b"" => return Ok((0, false)),
        b"Z" | b"z" | b"UTC" => return Ok((0, true)),
        [sign, a, b] => (sign, [*a, *b], [b'0', b'0']),
        [sign, a, b, c, d] => (sign, [*a, *b], [*c, *d]),
        [sign, a, b, b':', c, d] => (sign, [*a, *b], [*c, *d]),
        _ => return Err(Broken::Shape),
    };
    let (hours, minutes) = (digits(&hours)?, digits(&minutes)?);
    if hours > 18 || minutes > 59 {
        return Err(Broken::NoSuchTime);
    }
    match sign {
        b'+' => Ok((hours * 3_600 + minutes * 60, true)),
        b'-' => Ok((-(hours * 3_600 + minutes * 60), true)),
        _ => Err(Broken::Shape),
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Whether a year has a 29th of February.
pub(super) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms", days_from_civil).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_since_1970`] (civil_from_days).
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_the_same_moment_reads_the_same() {
        let expected = 1_700_158_623_980_000_000;
        for text in [
            "2023-11-16 18:17:03.9800000",
            "2023-11-16T18:17:03.98Z",
            "2023-11-16 18:17:03.980000000+00:00",
            "2023-11-16T20:17:03.98+02:00",
            "2023-11-16T13:47:03.98-0430",
        ] {
            assert_eq!(parse(text.as_bytes()).map(|instant| instant.nanos), Ok(expected), "{text}");
        }
        assert_eq!(format(expected), "2023-11-16T18:17:03.980Z");
    }

    #[test]
    fn ticks_of_100_ns_are_exact() {
        let first = parse(b"2023-11-16 18:17:03.9799600").unwrap();
        let second = parse(b"2023-11-16 18:17:04.0319600").unwrap();
        assert_eq!(second.nanos - first.nanos, 52_000_000);
        assert!(!first.zoned);
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in
            ["2024-02-30 00:00:00", "2024-13-01 00:00:00", "2023-02-29 00:00:00", "2024-01-01 24:00:00"]
        {
            assert_eq!(parse(text.as_bytes()), Err(Broken::NoSuchTime), "{text}");
        }
        for text in
            ["05/12/2024 1:02", "5", "", "2024-01-01", "2024-01-01 00:00:00.", "2024-01-01 00:00:00 CET"]
        {
            assert_eq!(parse(text.as_bytes()), Err(Broken::Shape), "{text}");
        }
    }

    #[test]
    fn dates_survive_the_way_to_days_and_back() {
        for days in (-100_000..100_000).step_by(37) {
            let (year, month, day) = date_of(days);
            assert_eq!(days_since_1970(year, month, day), days);
        }
    }
}
