//! Traffic as a user asks for it: words and texts in, distributions out, and what was assumed where nothing was said.

use roofline_core::error::Error;
use roofline_core::names;

use super::arrivals::Process;
use super::conversations::Conversations;
use super::fit::fit;
use super::labels::Names;
use super::lengths::{Length, RangeStyle};
use super::mixes::Lengths;
use super::prefixes::{Prefixes, Size};
use super::rates::Rate;
use super::servegen::Clients;
use super::text::{whole, within};
use crate::error::Result;
use crate::trace::Trace;

/// Traffic to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Requests; none ends with `end_s` alone.
    pub count: Option<u64>,
    /// Seconds before which requests arrive.
    pub end_s: f64,
    /// Seed of every stream.
    pub seed: u64,
    /// How regular arrivals are.
    pub process: Process,
    /// How many arrive a second.
    pub rate: Rate,
    /// How long prompts and answers are.
    pub lengths: Lengths,
    /// What prompts share.
    pub prefixes: Option<Prefixes>,
    /// Recorded clients, who take the place of rate, process and lengths.
    pub clients: Option<Clients>,
    /// Conversations, whose first turns arrive as requests do.
    pub conversations: Option<Conversations>,
    /// Adapters.
    pub loras: Option<Names>,
    /// Who asks.
    pub tenants: Option<Names>,
    /// The model of the trace it is like.
    pub model: Option<String>,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// Every word that is understood: the flags of the command line with `_`.
const WORDS: [&str; 35] = [
    "num_prompts",
    "duration",
    "seed",
    "request_rate",
    "burstiness",
    "cv",
    "arrivals",
    "ramp_up_strategy",
    "ramp_up_start_rps",
    "ramp_up_end_rps",
    "stages",
    "rate_series",
    "diurnal",
    "input_len",
    "output_len",
    "random_range_ratio",
    "range_style",
    "seq_dist",
    "prefix_len",
    "shared_prefix_ratio",
    "prefix_groups",
    "prefix_zipf",
    "trace_block_size",
    "servegen",
    "servegen_from",
    "input_len_stddev",
    "output_len_stddev",
    "turns",
    "turn_delay",
    "turn_delay_stddev",
    "sessions",
    "loras",
    "lora_dist",
    "tenants",
    "tenant_dist",
];

/// What may be said of arrivals beside a trace: `seed` to `diurnal`.
pub(super) const ARRIVAL_WORDS: &[&str] = WORDS.split_at(13).0.split_at(2).1;

/// Lengths where nothing is said, as `vllm bench serve --dataset-name random`.
const INPUT_LEN: u32 = 1024;
const OUTPUT_LEN: u32 = 128;
/// vLLM's own KV block.
const BLOCK_SIZE: u32 = 16;
/// The most a trace in memory can have: rows are numbered with 32 bits.
const COUNT_MOST: u64 = u32::MAX as u64 - 1;

/// What the user said, by word.
struct Said<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Said<'a> {
    fn get(&self, word: &str) -> Option<&'a str> {
        self.0.iter().find(|(given, _)| *given == word).map(|(_, text)| *text)
    }

    fn number(&self, word: &str, low: f64, high: f64) -> Result<Option<f64>> {
        Ok(self.get(word).map(|text| within(word, text, low, high)).transpose()?)
    }

    fn whole(&self, word: &str, low: u64, high: u64) -> Result<Option<u64>> {
        Ok(self.get(word).map(|text| whole(word, text, low, high)).transpose()?)
    }

    /// Refuses all but one of these words.
    fn one_of(&self, words: &[&str]) -> Result<()> {
        let mut given = words.iter().filter(|word| self.get(word).is_some());
        match (given.next(), given.next()) {
            (Some(first), Some(second)) => Err(self.beside(second, first)),
            _ => Ok(()),
        }
    }

    /// Refuses these words without another one.
    fn only_with(&self, words: &[&str], other: &str) -> Result<()> {
        match words.iter().find(|word| self.get(word).is_some()) {
            Some(word) if self.get(other).is_none() => {
                let must = format!("must be left out without {other}");
                Err(Error::spec(*word, must, self.get(word).unwrap_or_default(), "").into())
            }
            _ => Ok(()),
        }
    }

    fn beside(&self, word: &str, other: &str) -> crate::error::Error {
        let must = format!("must be left out with {other}");
        Error::spec(word, must, self.get(word).unwrap_or_default(), "").into()
    }
}

impl Spec {
    /// Reads words and their texts; what is left out is as in the trace it is `like`, or as the tools people know have it.
    ///
    /// ```
    /// use roofline_sim::workload::Spec;
    /// let spec = Spec::parse(&[("num_prompts", "100"), ("request_rate", "4"), ("input_len", "100:200")], None)?;
    /// assert_eq!(spec.count, Some(100));
    /// let error = Spec::parse(&[("num_prompts", "100"), ("request_rte", "4")], None).unwrap_err();
    /// assert_eq!(error.to_string(), "no traffic setting is called `request_rte`");
    /// # Ok::<(), roofline_sim::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// A word that is not known, a text that cannot be read, words that contradict each other, traffic without an end.
    pub fn parse(words: &[(&str, &str)], like: Option<&Trace>) -> Result<Spec> {
        if let Some((word, _)) = words.iter().find(|(word, _)| !WORDS.contains(word)) {
            return Err(names::unknown("traffic setting", word, WORDS).into());
        }
        let said = Said(words.to_vec());
        let count = said.whole("num_prompts", 1, COUNT_MOST)?;
        let duration = said.number("duration", f64::MIN_POSITIVE, f64::INFINITY)?;
        let mut spec = Spec {
            count: count
                .or_else(|| duration.is_none().then(|| like.map(|trace| trace.len() as u64)).flatten()),
            end_s: duration.unwrap_or(f64::INFINITY),
            seed: said.whole("seed", 0, u64::MAX)?.unwrap_or(0),
            process: Process::parse(said.get("arrivals"), variation(&said)?)?,
            rate: rate(&said, count)?.unwrap_or(Rate::Infinite),
            lengths: lengths(&said)?
                .unwrap_or_else(|| Lengths::Apart(Length::fixed(INPUT_LEN), Length::fixed(OUTPUT_LEN))),
            prefixes: prefixes(&said)?,
            clients: None,
            conversations: conversations(&said)?,
            loras: labels(&said, "loras", "lora_dist")?,
            tenants: labels(&said, "tenants", "tenant_dist")?,
            model: None,
            notes: Vec::new(),
        };
        said.only_with(&["servegen_from"], "servegen")?;
        match (said.get("servegen"), like) {
            (Some(folder), _) => spec.replay(folder, like.is_some(), &said)?,
            (None, Some(trace)) => spec.follow(trace, &said)?,
            (None, None) => spec.note_defaults(&said),
        }
        spec.note_prefixes();
        spec.end(&said)?;
        Ok(spec)
    }

    /// Takes arrivals and lengths from recorded clients.
    fn replay(&mut self, folder: &str, like: bool, said: &Said) -> Result<()> {
        let others = LENGTH_WORDS.iter().chain(&RATE_WORDS[1..]).chain(&["arrivals", "burstiness", "cv"]);
        let others = others.chain(&["turns", "sessions", "tenants"]);
        if let Some(word) = others.copied().find(|word| said.get(word).is_some()) {
            return Err(said.beside(word, "servegen"));
        }
        if like {
            return Err(Error::spec("like", "must be left out with servegen", "given", "").into());
        }
        let mut clients = Clients::read("servegen", folder)?;
        let recorded_s = clients.end_s();
        clients.from_s = said.number("servegen_from", 0.0, recorded_s)?.unwrap_or(0.0);
        self.end_s = self.end_s.min(recorded_s - clients.from_s);
        let rate = clients.rate(clients.from_s, clients.from_s + self.end_s);
        if let Some(asked) = said.number("request_rate", f64::MIN_POSITIVE, f64::MAX)? {
            clients.scale = asked / rate;
            self.notes.push(format!(
                "rates are multiplied by {:.4}: {rate:.3} requests a second were recorded",
                clients.scale
            ));
        }
        self.notes.push(format!(
            "{} clients as ServeGen recorded them; each is a tenant, lengths of a request are drawn apart",
            clients.names().len()
        ));
        // Where the recording ends, so does the traffic, however many requests were asked for.
        self.clients = Some(clients);
        Ok(())
    }

    /// Takes what was not said from a trace.
    fn follow(&mut self, trace: &Trace, said: &Said) -> Result<()> {
        if let Some(word) = LENGTH_WORDS.iter().find(|word| said.get(word).is_some()) {
            return Err(said.beside(word, "like"));
        }
        let fitted = fit(trace)?;
        if RATE_WORDS.iter().all(|word| said.get(word).is_none()) {
            self.rate = fitted.rate.clone();
            self.notes.push(match fitted.window_s {
                0.0 => "all requests at once, as in the trace it is like".to_string(),
                seconds => format!("rate as in the trace it is like, in windows of {seconds:.3} s"),
            });
        }
        if ["arrivals", "burstiness", "cv"].iter().all(|word| said.get(word).is_none()) {
            self.process = fitted.process();
            self.notes.push(format!("gaps vary as in the trace it is like: CV {:.2}", fitted.cv));
        }
        if trace.hashes.is_some() && self.prefixes.is_none() {
            self.notes.push("shared prefixes and sessions of the trace it is like are left out".to_string());
        }
        self.lengths = Lengths::Joint(fitted.lengths);
        self.model = trace.model.clone();
        Ok(())
    }

    fn note_defaults(&mut self, said: &Said) {
        if said.get("seq_dist").is_none() {
            let defaults = [("input_len", INPUT_LEN), ("output_len", OUTPUT_LEN)];
            for (word, tokens) in defaults.into_iter().filter(|(word, _)| said.get(word).is_none()) {
                self.notes.push(format!("{word} {tokens} (default)"));
            }
        }
        if self.rate == Rate::Infinite && said.get("request_rate").is_none() {
            self.notes.push("request_rate inf (default): all requests at once".to_string());
        }
    }

    fn note_prefixes(&mut self) {
        if let Some(conversations) = &self.conversations {
            let size = conversations.block_size;
            self.notes.push(format!(
                "rates are of conversations; prompts repeat what was said, in whole blocks of {size} tokens, answers are \
                 computed again"
            ));
        }
        if let Some(prefixes) = &self.prefixes {
            let size = prefixes.block_size;
            self.notes.push(format!("shared prefixes are cut to whole blocks of {size} tokens"));
        }
    }

    /// Refuses traffic without an end, and finds it where stages have one.
    fn end(&mut self, said: &Said) -> Result<()> {
        let hint = "for example `num_prompts` 1000";
        if self.clients.is_some() || self.conversations.as_ref().is_some_and(|of| of.count.is_some()) {
            return Ok(());
        }
        match (&self.rate, self.count) {
            (Rate::Stages(stages), None) if self.end_s.is_infinite() && stages.seconds() > 0.0 => {
                self.end_s = stages.seconds();
            }
            (Rate::Stages(stages), Some(_)) if self.end_s.is_infinite() && stages.last() == 0.0 => {
                let word = if said.get("rate_series").is_some() { "rate_series" } else { "stages" };
                if said.get(word).is_some() {
                    let must = "must end with a rate above 0 where num_prompts is given";
                    return Err(Error::spec(word, must, said.get(word).unwrap_or_default(), "").into());
                }
            }
            (Rate::Infinite, None) if self.end_s.is_finite() => {
                let must = "must be finite where only a duration is given";
                return Err(Error::spec("request_rate", must, "inf", hint).into());
            }
            (_, None) if self.end_s.is_infinite() => {
                return Err(Error::spec("num_prompts", "must be given", "nothing", hint).into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Words that say how many requests arrive a second.
pub(super) const RATE_WORDS: [&str; 5] =
    ["request_rate", "stages", "rate_series", "diurnal", "ramp_up_strategy"];
const LENGTH_WORDS: [&str; 7] = [
    "input_len",
    "output_len",
    "seq_dist",
    "random_range_ratio",
    "range_style",
    "input_len_stddev",
    "output_len_stddev",
];

/// The coefficient of variation of gaps, by whichever word it was given.
fn variation(said: &Said) -> Result<Option<(&'static str, f64)>> {
    said.one_of(&["burstiness", "cv"])?;
    let burstiness = said.number("burstiness", f64::MIN_POSITIVE, f64::INFINITY)?;
    let cv = said.number("cv", f64::MIN_POSITIVE, f64::INFINITY)?;
    Ok(burstiness.map(|b| ("burstiness", 1.0 / b.sqrt())).or(cv.map(|cv| ("cv", cv))))
}

fn rate(said: &Said, count: Option<u64>) -> Result<Option<Rate>> {
    said.one_of(&RATE_WORDS)?;
    said.only_with(&["ramp_up_start_rps", "ramp_up_end_rps"], "ramp_up_strategy")?;
    if let Some(text) = said.get("request_rate") {
        return Ok(Some(Rate::parse("request_rate", text)?));
    }
    if let Some(text) = said.get("stages") {
        return Ok(Some(Rate::stages("stages", text)?));
    }
    if let Some(path) = said.get("rate_series") {
        return Ok(Some(Rate::series("rate_series", path)?));
    }
    if let Some(text) = said.get("diurnal") {
        return Ok(Some(Rate::diurnal("diurnal", text)?));
    }
    let Some(strategy) = said.get("ramp_up_strategy") else { return Ok(None) };
    let exponential = match strategy {
        "linear" => false,
        "exponential" => true,
        other => return Err(names::unknown("ramp-up strategy", other, ["linear", "exponential"]).into()),
    };
    let end = |word: &str| -> Result<f64> {
        let rate = said.number(word, f64::MIN_POSITIVE, f64::INFINITY)?;
        Ok(rate.ok_or_else(|| Error::spec(word, "must be given with ramp_up_strategy", "nothing", ""))?)
    };
    let ends: [f64; 2] = [end("ramp_up_start_rps")?, end("ramp_up_end_rps")?];
    if count.is_none() {
        let must = "must be given with ramp_up_strategy, which ends with the last request";
        return Err(Error::spec("num_prompts", must, "nothing", "").into());
    }
    Ok(Some(Rate::Ramp { ends, exponential }))
}

fn lengths(said: &Said) -> Result<Option<Lengths>> {
    said.only_with(&["range_style"], "random_range_ratio")?;
    if let Some(text) = said.get("seq_dist") {
        for word in ["input_len", "output_len", "random_range_ratio", "input_len_stddev", "output_len_stddev"]
        {
            said.one_of(&["seq_dist", word])?;
        }
        return Ok(Some(Lengths::mix("seq_dist", text)?));
    }
    let style = match said.get("range_style") {
        None | Some("vllm") => RangeStyle::Vllm,
        Some("sglang") => RangeStyle::Sglang,
        Some(other) => return Err(names::unknown("range style", other, ["vllm", "sglang"]).into()),
    };
    let ratio = said.number("random_range_ratio", 0.0, 1.0)?;
    let length = |word: &str, otherwise: u32| -> Result<Length> {
        let length = said.get(word).map_or(Ok(Length::fixed(otherwise)), |text| Length::parse(word, text))?;
        let deviation = format!("{word}_stddev");
        if let Some(std) = said.number(&deviation, 0.0, f64::INFINITY)? {
            said.one_of(&["random_range_ratio", &deviation])?;
            return length.deviating(&deviation, std);
        }
        ratio.map_or(Ok(length.clone()), |ratio| length.ranged(word, ratio, style))
    };
    Ok(Some(Lengths::Apart(length("input_len", INPUT_LEN)?, length("output_len", OUTPUT_LEN)?)))
}

fn labels(said: &Said, count: &str, how: &str) -> Result<Option<Names>> {
    said.only_with(&[how], count)?;
    let Some(names) = said.whole(count, 0, u64::MAX)? else { return Ok(None) };
    Ok(Some(Names::parse(count, names, (how, said.get(how)))?))
}

fn conversations(said: &Said) -> Result<Option<Conversations>> {
    let Some(turns) = said.get("turns") else {
        said.only_with(&["turn_delay", "turn_delay_stddev", "sessions"], "turns")?;
        return Ok(None);
    };
    said.only_with(&["turn_delay_stddev"], "turn_delay")?;
    let delay = said.get("turn_delay").map_or(Ok(Length::fixed(0)), |text| Length::parse("turn_delay", text));
    let delay = match said.number("turn_delay_stddev", 0.0, f64::INFINITY)? {
        Some(std) => delay?.deviating("turn_delay_stddev", std),
        None => delay,
    };
    Ok(Some(Conversations {
        count: said.whole("sessions", 1, COUNT_MOST)?,
        turns: Length::parse("turns", turns)?,
        delay_ms: delay?,
        block_size: block_size(said)?,
    }))
}

fn block_size(said: &Said) -> Result<u32> {
    let most = u64::from(u32::MAX);
    Ok(said.whole("trace_block_size", 1, most)?.map_or(BLOCK_SIZE, |size| size as u32))
}

fn prefixes(said: &Said) -> Result<Option<Prefixes>> {
    said.one_of(&["prefix_len", "shared_prefix_ratio"])?;
    let size = match (said.get("prefix_len"), said.number("shared_prefix_ratio", 0.0, 1.0)?) {
        (Some(text), _) => Size::Tokens(Length::parse("prefix_len", text)?),
        (None, Some(share)) => Size::Share(share),
        (None, None) => {
            let other = "prefix_len or shared_prefix_ratio";
            said.only_with(&["prefix_groups", "prefix_zipf"], other)?;
            if said.get("turns").is_none() {
                said.only_with(&["trace_block_size"], other)?;
            }
            return Ok(None);
        }
    };
    let most = u64::from(u32::MAX);
    let prefixes = Prefixes {
        size,
        groups: said.whole("prefix_groups", 0, most)?.map_or(1, |groups| groups as u32),
        zipf: said.number("prefix_zipf", 0.0, 100.0)?.unwrap_or(0.0),
        block_size: said.whole("trace_block_size", 0, most)?.map_or(BLOCK_SIZE, |size| size as u32),
    };
    prefixes.check()?;
    Ok(Some(prefixes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[(&str, &str)]) -> String {
        Spec::parse(words, None).unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_is_said() {
        let spec = Spec::parse(&[("num_prompts", "10")], None).unwrap();
        assert_eq!(
            spec.notes,
            [
                "input_len 1024 (default)",
                "output_len 128 (default)",
                "request_rate inf (default): all requests at once"
            ]
        );
        assert_eq!(spec.rate, Rate::Infinite);
    }

    #[test]
    fn a_deviation_is_one_thing_however_it_is_written() {
        let turns = |words: &[(&str, &str)]| {
            let words: Vec<_> =
                [("num_prompts", "10"), ("turns", "3")].iter().chain(words).copied().collect();
            Spec::parse(&words, None).unwrap().conversations.unwrap().delay_ms
        };
        let named = turns(&[("turn_delay", "normal(mean=40,std=20)")]);
        assert_eq!(turns(&[("turn_delay", "40+-20")]), named);
        assert_eq!(turns(&[("turn_delay", "40"), ("turn_delay_stddev", "20")]), named);
        assert_eq!(
            refused(&[("num_prompts", "10"), ("turns", "3"), ("turn_delay_stddev", "2")]),
            "turn_delay_stddev must be left out without turn_delay: 2"
        );
    }

    #[test]
    fn a_prompt_of_no_tokens_is_refused() {
        let prompts = |text| refused(&[("num_prompts", "10"), ("input_len", text)]);
        assert_eq!(prompts("0"), prompts("0:5"));
        assert!(prompts("0").starts_with("input_len must be"), "{}", prompts("0"));
        assert!(Spec::parse(&[("num_prompts", "10"), ("output_len", "0")], None).is_ok());
    }

    #[test]
    fn burstiness_and_cv_are_one_thing() {
        let process = |word, text| Spec::parse(&[("num_prompts", "10"), (word, text)], None).unwrap().process;
        assert_eq!(process("burstiness", "0.25"), process("cv", "2"));
    }

    #[test]
    fn stages_end_with_their_last_second_unless_prompts_are_counted() {
        let spec = Spec::parse(&[("stages", "10:60,20:60")], None).unwrap();
        assert_eq!((spec.count, spec.end_s), (None, 120.0));
        let spec = Spec::parse(&[("stages", "10:60,20:60"), ("num_prompts", "9")], None).unwrap();
        assert_eq!((spec.count, spec.end_s), (Some(9), f64::INFINITY));
    }

    #[test]
    fn words_that_contradict_each_other_are_refused() {
        let must = |words: &[(&str, &str)], message: &str| assert_eq!(refused(words), message);
        must(&[], "num_prompts must be given: nothing");
        must(&[("request_rate", "5")], "num_prompts must be given: nothing");
        must(&[("num_prompts", "0")], "num_prompts must be between 1 and 4294967294: 0");
        must(&[("duration", "5")], "request_rate must be finite where only a duration is given: inf");
        must(&[("burstiness", "1"), ("cv", "1")], "cv must be left out with burstiness: 1");
        must(&[("request_rate", "1"), ("stages", "1:1")], "stages must be left out with request_rate: 1:1");
        must(
            &[("num_prompts", "9"), ("stages", "1:1,0:9")],
            "stages must end with a rate above 0 where num_prompts is given: 1:1,0:9",
        );
        must(&[("seq_dist", "1,1:100"), ("input_len", "5")], "input_len must be left out with seq_dist: 5");
        must(&[("range_style", "vllm")], "range_style must be left out without random_range_ratio: vllm");
        must(
            &[("prefix_groups", "8")],
            "prefix_groups must be left out without prefix_len or shared_prefix_ratio: 8",
        );
        must(
            &[("prefix_len", "8"), ("shared_prefix_ratio", "0.5")],
            "shared_prefix_ratio must be left out with prefix_len: 0.5",
        );
        must(&[("shared_prefix_ratio", "50")], "shared_prefix_ratio must be between 0 and 1: 50");
    }

    #[test]
    fn a_ramp_needs_its_ends_and_its_prompts() {
        let must = |words: &[(&str, &str)], message: &str| assert_eq!(refused(words), message);
        must(&[("ramp_up_strategy", "liner")], "no ramp-up strategy is called `liner`");
        must(
            &[("ramp_up_strategy", "linear"), ("ramp_up_start_rps", "1")],
            "ramp_up_end_rps must be given with ramp_up_strategy: nothing",
        );
        must(
            &[("ramp_up_end_rps", "1"), ("num_prompts", "1")],
            "ramp_up_end_rps must be left out without ramp_up_strategy: 1",
        );
        must(
            &[("ramp_up_strategy", "linear"), ("ramp_up_start_rps", "1"), ("ramp_up_end_rps", "2")],
            "num_prompts must be given with ramp_up_strategy, which ends with the last request: nothing",
        );
    }

    #[test]
    fn unknown_words_and_styles_get_suggestions() {
        let error = Spec::parse(&[("isl", "5")], None).unwrap_err();
        assert_eq!(error.to_string(), "no traffic setting is called `isl`");
        assert_eq!(
            refused(&[("num_prompts", "1"), ("random_range_ratio", "0.1"), ("range_style", "aiperf")]),
            "no range style is called `aiperf`"
        );
    }

    #[test]
    fn lengths_of_a_trace_stand_alone() {
        let trace = Trace {
            arrival_ns: vec![0, 5],
            prompt_tokens: vec![1, 2],
            output_tokens: vec![3, 4],
            ..Trace::default()
        };
        let error = Spec::parse(&[("input_len", "5")], Some(&trace)).unwrap_err();
        assert_eq!(error.to_string(), "input_len must be left out with like: 5");
        assert_eq!(Spec::parse(&[], Some(&trace)).unwrap().count, Some(2));
    }
}
