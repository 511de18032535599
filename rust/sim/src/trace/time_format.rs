//! Dates written in a user's own way, told by a format as `strptime` has it.

use super::datetime::{self, Broken, Instant, Moment, digits};
use crate::error::Result;
use roofline_core::error::Error;

/// How dates are written: `%d/%m/%Y %H:%M:%S%.f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat {
    text: String,
    parts: Vec<Part>,
}

/// A part of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// This character.
    Literal(u8),
    /// Blanks, any number.
    Blank,
    /// A number under its directive, of so many digits at most.
    Number(u8, usize),
    /// Digits of a second's fraction; with a point or a comma before it, or nothing at all.
    Fraction { pointed: bool },
    /// A month's name, or its first three letters.
    Month,
    /// A day's name, without effect.
    Weekday,
    /// AM or PM.
    Half,
    /// An offset from UTC.
    Zone,
}

/// Directives that stand for several others.
const SHORT: [(u8, &str); 5] =
    [(b'F', "%Y-%m-%d"), (b'T', "%H:%M:%S"), (b'R', "%H:%M"), (b'D', "%m/%d/%y"), (b'e', "%d")];
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
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl TimeFormat {
    /// Reads a format of `strptime`: `%Y %y %m %d %H %I %M %S %f %p %b %B %a %A %j %z %Z %s`, `%F %T %R %D`, `%.f` for a
    /// fraction that may be absent, and any other characters as they are.
    ///
    /// ```
    /// use roofline_sim::trace::TimeFormat;
    /// assert!(TimeFormat::parse("%d/%m/%Y %H:%M:%S").is_ok());
    /// let error = TimeFormat::parse("%H:%M").unwrap_err();
    /// assert_eq!(error.to_string(), "time_format must tell the day and the hour: %H:%M");
    /// ```
    ///
    /// # Errors
    /// A directive that is not known, and a format that leaves open which day or hour is meant.
    pub fn parse(text: &str) -> Result<TimeFormat> {
        let hint = "for example `%d/%m/%Y %H:%M:%S`, or `%s` for seconds since 1970";
        let mut spelt = text.to_string();
        for (short, long) in SHORT {
            spelt = spelt.replace(&format!("%{}", char::from(short)), long);
        }
        let mut parts = Vec::new();
        let mut bytes = spelt.bytes();
        while let Some(byte) = bytes.next() {
            let part = match byte {
                b'%' => match bytes.next() {
                    Some(b'.') if bytes.next() == Some(b'f') => Part::Fraction { pointed: true },
                    Some(directive) => match of_directive(directive) {
                        Some(part) => part,
                        None => {
                            let must = "must consist of directives of strptime that are known";
                            let value = format!("%{}", char::from(directive));
                            return Err(Error::spec("time_format", must, value, hint).into());
                        }
                    },
                    None => return Err(Error::spec("time_format", "must not end in %", text, hint).into()),
                },
                byte if byte.is_ascii_whitespace() => Part::Blank,
                byte => Part::Literal(byte),
            };
            parts.push(part);
        }
        let has = |wanted: &[u8]| {
            parts.iter().any(|part| matches!(part, Part::Number(directive, _) if wanted.contains(directive)))
        };
        let day = has(b"j") || has(b"d") && (has(b"m") || parts.contains(&Part::Month));
        let hour = has(b"H") || has(b"I") && parts.contains(&Part::Half);
        if !(has(b"s") || has(b"Yy") && day && hour) {
            return Err(Error::spec("time_format", "must tell the day and the hour", text, hint).into());
        }
        Ok(TimeFormat { text: text.to_string(), parts })
    }

    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The moment that a text tells.
    pub(super) fn read(&self, text: &[u8]) -> std::result::Result<Instant, Broken> {
        let mut reading = Reading { rest: text, told: Told::default() };
        self.parts.iter().try_for_each(|part| reading.part(*part))?;
        if !reading.rest.trim_ascii().is_empty() {
            return Err(Broken::Shape);
        }
        reading.told.instant()
    }
}

fn of_directive(directive: u8) -> Option<Part> {
    Some(match directive {
        b'%' => Part::Literal(b'%'),
        b'n' | b't' => Part::Blank,
        b'Y' => Part::Number(b'Y', 4),
        b's' => Part::Number(b's', 12),
        b'j' => Part::Number(b'j', 3),
        b'y' | b'm' | b'd' | b'H' | b'I' | b'M' | b'S' => Part::Number(directive, 2),
        b'f' => Part::Fraction { pointed: false },
        b'b' | b'B' | b'h' => Part::Month,
        b'a' | b'A' => Part::Weekday,
        b'p' => Part::Half,
        b'z' | b'Z' => Part::Zone,
        _ => return None,
    })
}

/// What was told so far.
#[derive(Debug, Clone, Copy)]
struct Told {
    moment: Moment,
    epoch_s: Option<i64>,
    day_of_year: Option<i64>,
    afternoon: Option<bool>,
    zoned: bool,
}

impl Default for Told {
    fn default() -> Told {
        let moment =
            Moment { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanos: 0, offset_s: 0 };
        Told { moment, epoch_s: None, day_of_year: None, afternoon: None, zoned: false }
    }
}

impl Told {
    fn instant(mut self) -> std::result::Result<Instant, Broken> {
        if let Some(afternoon) = self.afternoon {
            if !(1..=12).contains(&self.moment.hour) {
                return Err(Broken::NoSuchTime);
            }
            self.moment.hour = self.moment.hour % 12 + 12 * i64::from(afternoon);
        }
        if let Some(seconds) = self.epoch_s {
            let whole =
                seconds.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(self.moment.nanos));
            return Ok(Instant { nanos: whole.ok_or(Broken::NoSuchTime)?, zoned: true });
        }
        let nanos = match self.day_of_year {
            Some(day) => {
                let most = if datetime::is_leap(self.moment.year) { 366 } else { 365 };
                if !(1..=most).contains(&day) {
                    return Err(Broken::NoSuchTime);
                }
                Moment { month: 1, day: 1, ..self.moment }.nanos()? + (day - 1) * 86_400_000_000_000
            }
            None => self.moment.nanos()?,
        };
        Ok(Instant { nanos, zoned: self.zoned })
    }
}

struct Reading<'t> {
    rest: &'t [u8],
    told: Told,
}

impl Reading<'_> {
    /// Takes so many bytes away.
    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// How many digits come next, `most` at most.
    fn digits(&self, most: usize) -> usize {
        self.rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count()
    }

    fn part(&mut self, part: Part) -> std::result::Result<(), Broken> {
        match part {
            Part::Blank => self.rest = self.rest.trim_ascii_start(),
            Part::Literal(byte) => {
                if self.take(1) != [byte] {
                    return Err(Broken::Shape);
                }
            }
            Part::Number(directive, most) => self.number(directive, most)?,
            Part::Fraction { pointed } => self.fraction(pointed)?,
            Part::Month => self.told.moment.month = self.name(&MONTHS)? + 1,
            Part::Weekday => drop(self.name(&DAYS)?),
            Part::Half => self.told.afternoon = Some(self.name(&["am", "pm"])? == 1),
            Part::Zone => {
                let end = self.rest.iter().position(u8::is_ascii_whitespace).unwrap_or(self.rest.len());
                let zone = if self.rest.starts_with(b"GMT") { b"UTC" } else { &self.rest[..end] };
                let (offset_s, zoned) = datetime::offset(zone)?;
                (self.told.moment.offset_s, self.told.zoned) = (offset_s, zoned);
                self.take(end);
            }
        }
        Ok(())
    }

    fn number(&mut self, directive: u8, most: usize) -> std::result::Result<(), Broken> {
        // Days and hours may be filled up with a blank.
        if matches!(directive, b'd' | b'H' | b'I') && self.rest.first() == Some(&b' ') {
            self.take(1);
        }
        let count = self.digits(most);
        if count == 0 || directive == b'Y' && count < 4 {
            return Err(Broken::Shape);
        }
        let value = digits(self.take(count))?;
        let Told { moment, epoch_s, day_of_year, .. } = &mut self.told;
        match directive {
            b'Y' => moment.year = value,
            // POSIX: 69 to 99 are of the last century.
            b'y' => moment.year = if value < 69 { 2000 + value } else { 1900 + value },
            b'm' => moment.month = value,
            b'd' => moment.day = value,
            b'H' | b'I' => moment.hour = value,
            b'M' => moment.minute = value,
            b'S' => moment.second = value,
            b'j' => *day_of_year = Some(value),
            _ => *epoch_s = Some(value),
        }
        Ok(())
    }

    fn fraction(&mut self, pointed: bool) -> std::result::Result<(), Broken> {
        if pointed {
            if !matches!(self.rest.first(), Some(b'.' | b',')) {
                return Ok(());
            }
            self.take(1);
        }
        let count = self.digits(usize::MAX);
        if count == 0 {
            return Err(Broken::Shape);
        }
        self.told.moment.nanos = datetime::nanos_of(self.take(count))?;
        Ok(())
    }

    /// Which of the names comes next, whole or its first three letters.
    fn name(&mut self, names: &[&str]) -> std::result::Result<i64, Broken> {
        let letters = self.rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = String::from_utf8_lossy(self.take(letters)).to_ascii_lowercase();
        let is = |name: &str| *name == *word || word.len() == 3 && name.starts_with(&word);
        names.iter().position(|name| is(name)).map(|place| place as i64).ok_or(Broken::Shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(format: &str, text: &str) -> std::result::Result<i64, Broken> {
        TimeFormat::parse(format).unwrap().read(text.as_bytes()).map(|instant| instant.nanos)
    }

    #[test]
    fn every_way_of_writing_a_moment_reads_the_same() {
        let expected = 1_700_158_623_980_000_000;
        for (format, text) in [
            ("%d/%m/%Y %H:%M:%S%.f", "16/11/2023 18:17:03.98"),
            ("%F %T.%f", "2023-11-16 18:17:03.980000"),
            ("%a %b %d %H:%M:%S.%f %Y", "Thu Nov 16 18:17:03.98 2023"),
            ("%m/%d/%y %I:%M:%S.%f %p", "11/16/23 06:17:03.98 PM"),
            ("%d-%B-%Y %R:%S.%f %z", "16-November-2023 20:17:03.98 +02:00"),
            ("%Y%m%dT%H%M%S,%f%Z", "20231116T181703,98GMT"),
            ("%Y %j %T.%f", "2023 320 18:17:03.98"),
            ("%s.%f", "1700158623.980000000"),
        ] {
            assert_eq!(read(format, text), Ok(expected), "{format} {text}");
        }
    }

    #[test]
    fn what_is_written_otherwise_or_does_not_exist_is_told_apart() {
        for text in ["16/11/2023", "16/11/2023 18:17:03 x", "16-11-2023 18:17:03", "", "16/11/23 18:17:03"] {
            assert_eq!(read("%d/%m/%Y %H:%M:%S", text), Err(Broken::Shape), "{text}");
        }
        for text in ["31/02/2023 00:00:00", "01/13/2023 00:00:00", "01/01/2023 24:00:00"] {
            assert_eq!(read("%d/%m/%Y %H:%M:%S", text), Err(Broken::NoSuchTime), "{text}");
        }
        assert_eq!(read("%Y %j %H", "2023 366 1"), Err(Broken::NoSuchTime));
        assert_eq!(read("%F %I %p", "2023-01-01 13 PM"), Err(Broken::NoSuchTime));
        assert_eq!(read("%F %H %z", "2023-01-01 13 CET"), Err(Broken::Shape));
        assert_eq!(read("%b %d %Y %H", "Foo 1 2023 1"), Err(Broken::Shape));
    }

    #[test]
    fn a_format_must_be_known_and_tell_a_moment() {
        let refused = |text: &str| TimeFormat::parse(text).unwrap_err().to_string();
        assert_eq!(refused("%F %H %"), "time_format must not end in %: %F %H %");
        assert_eq!(refused("%Y-%q"), "time_format must consist of directives of strptime that are known: %q");
        for open in ["", "%H:%M:%S", "%F", "%Y-%m %H", "%F %I"] {
            assert_eq!(refused(open), format!("time_format must tell the day and the hour: {open}"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(format in "[%YmdHMSfzjbs./: T-]{0,14}", text in "[0-9A-Za-z:./ +-]{0,24}") {
            if let Ok(format) = TimeFormat::parse(&format) {
                let _ = format.read(text.as_bytes());
            }
        }
    }
}
