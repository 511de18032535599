//! Service-level objectives: what every request, or a share of them, has to meet.

use roofline_core::error::{Error, Result};
use roofline_core::names;

/// A latency that can be bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Time to first token.
    Ttft,
    /// Time per output token after the first, mean of a request.
    Tpot,
    /// Gap between two deliveries, pooled over requests; tokens delivered together, as speculation does, end one gap,
    /// as a client measures it.
    Itl,
    /// Arrival to last token.
    E2e,
}

impl Metric {
    /// Every metric with its name in summaries, as `vllm bench serve` has it.
    pub const ALL: [(&'static str, Metric); 4] =
        [("ttft", Metric::Ttft), ("tpot", Metric::Tpot), ("itl", Metric::Itl), ("e2el", Metric::E2e)];

    fn parse(name: &str) -> Result<Metric> {
        let plain = names::normalise(name);
        let known =
            Metric::ALL.iter().find(|(known, _)| *known == plain || (plain == "e2e" && *known == "e2el"));
        known
            .map(|&(_, metric)| metric)
            .ok_or_else(|| names::unknown("latency metric", name, ["ttft", "tpot", "itl", "e2e", "e2el"]))
    }
}

/// One objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// What is bounded.
    pub metric: Metric,
    /// The percentile of the run that is bounded; `None` where every request is.
    pub percentile: Option<f64>,
    /// The bound, milliseconds.
    pub limit_ms: f64,
}

/// Objectives that hold together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Slo {
    /// The objectives as written.
    pub objectives: Vec<Objective>,
}

impl Slo {
    /// Reads `ttft:500 tpot:50` (every request, in ms) and `ttft@p99:500` (that percentile of the run).
    ///
    /// # Errors
    /// Another form, an unknown metric with the nearest known ones, a bound that is not positive.
    ///
    /// ```
    /// use roofline_sim::metrics::slo::Slo;
    /// let slo = Slo::parse("ttft:500 tpot@p95:50")?;
    /// assert_eq!((slo.objectives[0].limit_ms, slo.objectives[1].percentile), (500.0, Some(95.0)));
    /// assert!(Slo::parse("tft:500").unwrap_err().hint().contains("ttft"));
    /// # Ok::<(), roofline_core::error::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Slo> {
        let terms = text.split(|c: char| c.is_whitespace() || c == ',').filter(|term| !term.is_empty());
        let objectives = terms.map(objective).collect::<Result<Vec<_>>>()?;
        if objectives.is_empty() {
            return Err(malformed(text));
        }
        Ok(Slo { objectives })
    }

    /// Whether a request meets every objective set for requests; a latency it does not have (the gap after a single
    /// token) is met. Latencies in seconds.
    pub fn is_met_by(&self, ttft_s: f64, tpot_s: Option<f64>, e2e_s: f64) -> bool {
        self.objectives.iter().filter(|objective| objective.percentile.is_none()).all(|objective| {
            let seconds = match objective.metric {
                Metric::Ttft => ttft_s,
                Metric::E2e => e2e_s,
                Metric::Tpot | Metric::Itl => tpot_s.unwrap_or(0.0),
            };
            seconds * 1e3 <= objective.limit_ms
        })
    }
}

fn malformed(term: &str) -> Error {
    let hint =
        "for example `ttft:500 tpot:50` for every request, or `ttft@p99:500` for a percentile; milliseconds";
    Error::spec("slo", "must read `metric:milliseconds`", format!("`{term}`"), hint)
}

fn objective(term: &str) -> Result<Objective> {
    let (name, limit) = term.split_once(':').ok_or_else(|| malformed(term))?;
    let limit_ms = limit.strip_suffix("ms").unwrap_or(limit).parse::<f64>().map_err(|_| malformed(term))?;
    if !(limit_ms > 0.0 && limit_ms.is_finite()) {
        return Err(Error::spec("slo", "must bound a latency above 0 ms", format!("`{term}`"), ""));
    }
    let (name, percentile) = match name.split_once('@') {
        None => (name, None),
        Some((name, rank)) => {
            let rank = rank.strip_prefix('p').unwrap_or(rank);
            let percent = rank.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
            (name, Some(percent.ok_or_else(|| malformed(term))?))
        }
    };
    let metric = Metric::parse(name)?;
    if metric == Metric::Itl && percentile.is_none() {
        let hint = "bound a percentile of all gaps, `itl@p99:50`, or each request's mean gap, `tpot:50`";
        return Err(Error::spec("slo", "must bound `itl` at a percentile", format!("`{term}`"), hint));
    }
    Ok(Objective { metric, percentile, limit_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_meets_a_slo_if_it_meets_every_part() {
        let slo = Slo::parse("ttft:500, tpot:50ms e2e:10000 ttft@p99:1").unwrap();
        assert!(slo.is_met_by(0.5, Some(0.05), 10.0));
        assert!(!slo.is_met_by(0.6, Some(0.05), 10.0));
        assert!(!slo.is_met_by(0.5, Some(0.06), 10.0));
        assert!(!slo.is_met_by(0.5, None, 10.1));
        assert!(slo.is_met_by(0.5, None, 10.0));
    }

    #[test]
    fn what_is_no_objective_is_refused_with_an_example() {
        for text in ["", "ttft", "ttft:fast", "ttft@p101:5", "ttft@px:5"] {
            let error = Slo::parse(text).unwrap_err();
            assert!(error.to_string().starts_with("slo must read `metric:milliseconds`"), "{error}");
            assert!(error.hint().contains("ttft:500"), "{}", error.hint());
        }
        let zero = Slo::parse("ttft:0").unwrap_err().to_string();
        assert_eq!(zero, "slo must bound a latency above 0 ms: `ttft:0`");
        let pooled = Slo::parse("itl:50").unwrap_err();
        assert_eq!(pooled.to_string(), "slo must bound `itl` at a percentile: `itl:50`");
        assert!(pooled.hint().contains("tpot:50"));
        let unknown = Slo::parse("tptt:5").unwrap_err();
        assert!(unknown.to_string().contains("no latency metric is called `tptt`"), "{unknown}");
        assert!(unknown.hint().contains("tpot"), "{}", unknown.hint());
    }
}
