//! A part of the traffic: so many requests, or so much time.

use roofline_core::error::{Error, Result};

/// So many requests, or so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Requests, in the order of the trace.
    Requests(u64),
    /// Nanoseconds of simulated time.
    Nanos(u64),
}

/// Units of time that may follow a number, with their nanoseconds; the longer of two that end alike first.
const UNITS: [(&str, f64); 5] = [("ms", 1e6), ("us", 1e3), ("min", 60e9), ("s", 1e9), ("h", 3600e9)];

impl Extent {
    /// Reads `500` (requests) or `30s`, `500ms`, `10min`, `1h`.
    ///
    /// ```
    /// use roofline_sim::client::Extent;
    /// assert_eq!(Extent::parse("warmup", "500")?, Extent::Requests(500));
    /// assert_eq!(Extent::parse("warmup", "1.5s")?, Extent::Nanos(1_500_000_000));
    /// # Ok::<(), roofline_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Anything else, under the name `field`.
    pub fn parse(field: &str, text: &str) -> Result<Extent> {
        let wrong = || {
            let hint = "`500` means requests, `30s` time; also ms, us, min and h";
            Error::spec(
                field,
                "must be a number of requests, or a time with its unit",
                format!("`{text}`"),
                hint,
            )
        };
        let plain = text.trim();
        if let Ok(count) = plain.parse::<u64>() {
            return Ok(Extent::Requests(count));
        }
        let (number, nanos) = UNITS
            .iter()
            .find_map(|&(unit, nanos)| Some((plain.strip_suffix(unit)?, nanos)))
            .ok_or_else(wrong)?;
        let number: f64 = number.trim_end().parse().map_err(|_| wrong())?;
        let nanos = (number * nanos).round();
        if !(0.0..=i64::MAX as f64).contains(&nanos) {
            return Err(wrong());
        }
        Ok(Extent::Nanos(nanos as u64))
    }

    /// Nothing, of the same kind.
    pub(super) fn none(self) -> Extent {
        match self {
            Extent::Requests(_) => Extent::Requests(0),
            Extent::Nanos(_) => Extent::Nanos(0),
        }
    }

    /// Whether it is nothing.
    pub fn is_empty(self) -> bool {
        matches!(self, Extent::Requests(0) | Extent::Nanos(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_requests_and_a_time_has_its_unit() {
        let parsed = |text: &str| Extent::parse("measure", text).unwrap();
        assert_eq!(parsed("12"), Extent::Requests(12));
        assert_eq!(parsed("250 ms"), Extent::Nanos(250_000_000));
        assert_eq!(parsed("10us"), Extent::Nanos(10_000));
        assert_eq!(parsed("2min"), Extent::Nanos(120_000_000_000));
        assert_eq!(parsed("0.5h"), Extent::Nanos(1_800_000_000_000));
        assert!(parsed("0s").is_empty() && parsed("0").is_empty() && !parsed("1").is_empty());
    }

    #[test]
    fn another_form_is_refused_with_an_example() {
        for text in ["", "s", "1.5", "-3", "-3s", "5 parsecs", "nans", "1e300h"] {
            let error = Extent::parse("warmup", text).unwrap_err();
            let must = "warmup must be a number of requests, or a time with its unit";
            assert_eq!(error.to_string(), format!("{must}: `{text}`"));
            assert!(error.hint().contains("30s"));
        }
    }
}
