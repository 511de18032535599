//! Numbers as text, read exactly: decimals to nanoseconds and to whole counts, never through a float.

/// The largest token count accepted, 2^31 - 1.
pub(crate) const TOKENS_MAX: u32 = i32::MAX as u32;

/// Why a text is not the number it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Not a number; [`describe`] says what else.
    NotANumber,
    /// A number with a fractional part.
    Fractional,
    /// Below zero.
    Negative,
    /// Beyond what is accepted.
    TooLarge,
}

/// `±mantissa × 10^exponent`, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// A decimal with optional sign, fraction and exponent; digits beyond the 19th are dropped (below 1e-18 relative).
fn decimal(text: &[u8]) -> Option<Decimal> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mut mantissa, mut exponent, mut seen) = (0u64, 0i32, false);
    let (mut point, mut at) = (false, 0);
    while at < digits.len() {
        match digits[at] {
            digit @ b'0'..=b'9' => {
                seen = true;
                if mantissa < 1_000_000_000_000_000_000 {
                    mantissa = mantissa * 10 + u64::from(digit - b'0');
                    exponent -= i32::from(point);
                } else {
                    exponent = exponent.saturating_add(i32::from(!point));
                }
            }
            b'.' if !point => point = true,
            b'e' | b'E' if seen => {
                exponent = exponent.saturating_add(power(&digits[at + 1..])?);
                break;
            }
            _ => return None,
        }
        at += 1;
    }
    seen.then_some(Decimal { negative, mantissa, exponent })
}

/// The number after an `e`; beyond ±99,999 it stays there.
fn power(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let power = digits.iter().fold(0i32, |sum, digit| (sum * 10 + i32::from(digit - b'0')).min(99_999));
    Some(if negative { -power } else { power })
}

impl Decimal {
    /// It as a whole number, rounded half away from zero; the flag says whether anything was rounded off.
    fn whole(self) -> Option<(i64, bool)> {
        let magnitude = match u32::try_from(self.exponent) {
            Ok(_) if self.mantissa == 0 => (0, false),
            Ok(up) => (10u64.checked_pow(up)?.checked_mul(self.mantissa)?, false),
            Err(_) => match 10u64.checked_pow(self.exponent.unsigned_abs()) {
                Some(divisor) => {
                    let (quotient, rest) = (self.mantissa / divisor, self.mantissa % divisor);
                    (quotient + u64::from(rest >= divisor - rest), rest != 0)
                }
                None => (0, self.mantissa != 0),
            },
        };
        let value = i64::try_from(magnitude.0).ok()?;
        Some((if self.negative { -value } else { value }, magnitude.1))
    }
}

/// A time in nanoseconds from a decimal of `10^exponent` nanoseconds each.
pub(super) fn nanos(text: &[u8], exponent: i32) -> Result<i64, Broken> {
    let mut number = decimal(text).ok_or(Broken::NotANumber)?;
    number.exponent = number.exponent.saturating_add(exponent);
    number.whole().map(|(value, _)| value).ok_or(Broken::TooLarge)
}

/// A count of tokens: whole (`512.0` and `1.2E+3` are), not negative, at most [`TOKENS_MAX`].
pub(super) fn tokens(text: &[u8]) -> Result<u32, Broken> {
    if (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit) {
        return Ok(text.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')));
    }
    match signed(text)? {
        value if value < 0 => Err(Broken::Negative),
        value if value > i64::from(TOKENS_MAX) => Err(Broken::TooLarge),
        value => Ok(value as u32),
    }
}

/// A whole number, as [`tokens`] but of either sign.
pub(super) fn signed(text: &[u8]) -> Result<i64, Broken> {
    let number = decimal(text).ok_or(Broken::NotANumber)?;
    match number.whole() {
        Some((_, true)) => Err(Broken::Fractional),
        Some((value, false)) => Ok(value),
        None if number.negative => Err(Broken::Negative),
        None => Err(Broken::TooLarge),
    }
}

/// Whether the text is a number with something behind its point.
pub(super) fn is_fractional(text: &[u8]) -> bool {
    decimal(text).and_then(Decimal::whole).is_some_and(|(_, rounded)| rounded)
}

/// What a text is that is no number, as the end of "must be a number, not …"; empty if nothing better can be said.
pub(super) fn describe(text: &str) -> &'static str {
    let lower = text.trim_start_matches(['-', '+']).to_ascii_lowercase();
    match lower.as_str() {
        "" => "nothing",
        "null" => "null",
        "true" | "false" => "a boolean",
        "nan" => "NaN",
        "inf" | "infinity" => "infinity",
        _ if lower.starts_with('[') => "a list",
        _ if lower.starts_with('{') => "an object",
        _ if grouped(&lower) => "a text with a thousands separator",
        _ => "a text",
    }
}

/// Digits in groups of three: `1,024`.
fn grouped(text: &str) -> bool {
    let mut groups = text.split([',', '_', ' ']);
    let digits = |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    let first = groups.next().is_some_and(|group| digits(group) && group.len() <= 3);
    let rest: Vec<&str> = groups.collect();
    first && !rest.is_empty() && rest.iter().all(|group| digits(group) && group.len() == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_times_become_exact_nanoseconds() {
        assert_eq!(nanos(b"4.314579", 9), Ok(4_314_579_000));
        assert_eq!(nanos(b"1700158623.98", 9), Ok(1_700_158_623_980_000_000));
        assert_eq!(nanos(b"-500", 6), Ok(-500_000_000));
        assert_eq!(nanos(b"0.5", 6), Ok(500_000));
        assert_eq!(nanos(b"2e3", 0), Ok(2000));
        assert_eq!(nanos(b"0.0000000006", 9), Ok(1));
        assert_eq!(nanos(b"123456789012345678.90123456789", 0), Ok(123_456_789_012_345_679));
    }

    #[test]
    fn what_is_no_time_is_refused_without_overflow() {
        assert_eq!(nanos(b"1e18", 6), Err(Broken::TooLarge));
        assert_eq!(nanos(b"1e400", 6), Err(Broken::TooLarge));
        assert_eq!(nanos(b"0e99999999999", 9), Ok(0));
        assert_eq!(nanos(b"1e-99999999999", 9), Ok(0));
        for text in ["", "-", ".", "e5", "1e", "NaN", "1.2.3", "0x10", "1e+", "--1"] {
            assert_eq!(nanos(text.as_bytes(), 9), Err(Broken::NotANumber), "{text}");
        }
    }

    #[test]
    fn token_counts_are_whole_and_within_bounds() {
        assert_eq!(tokens(b"512.0"), Ok(512));
        assert_eq!(tokens(b"1.2E+3"), Ok(1200));
        assert_eq!(tokens(b"4.40E+01"), Ok(44));
        assert_eq!(tokens(b"2147483647"), Ok(TOKENS_MAX));
        assert_eq!(tokens(b"2147483648"), Err(Broken::TooLarge));
        assert_eq!(tokens(b"9223372036854775808"), Err(Broken::TooLarge));
        assert_eq!(tokens(b"512.5"), Err(Broken::Fractional));
        assert_eq!(tokens(b"-5"), Err(Broken::Negative));
        assert_eq!(tokens(b"true"), Err(Broken::NotANumber));
    }

    #[test]
    fn what_is_no_number_is_named() {
        assert_eq!(describe("1,024"), "a text with a thousands separator");
        assert_eq!(describe("-Infinity"), "infinity");
        assert_eq!(describe("NaN"), "NaN");
        assert_eq!(describe("n/a"), "a text");
        assert_eq!(describe("true"), "a boolean");
        assert_eq!(describe("soon"), "a text");
    }
}
