//! How published servers were set and driven, as far as no column says it: what stands beside the engine's own prices.
//!
//! All of it holds for a class of engines, devices or benchmarks and none of it for a row. What was chosen after seeing
//! which rows stands in `docs/validation.md`.

use roofline_core::hardware::Hardware;

use super::serving::{Load, Served, Sharing};

/// Tokens a step takes at most, as engines start on data-centre devices.
const BUDGET: u64 = 8192;
/// Tokens that SGLang takes of prompts where a device has the memory of a B200.
const BUDGET_OF_PROMPTS: u64 = 16384;
/// Memory in bytes from which it does.
const ROOMY: f64 = 160e9;
/// Sequences an engine runs at most.
const MOST: u64 = 1024;
/// Requests for each user: what these benchmarks send.
const REQUESTS_A_USER: u64 = 10;
/// Share of the longest that the shortest prompt and answer have in benchmarks with random lengths.
const SHORTEST: f64 = 0.8;
/// The same where lengths are exact: users fall out of step all the same, by as much as clients and tokenizers do.
const SHORTEST_EXACT: f64 = 0.95;
/// Share of a device's memory that a server is given.
pub const MEMORY: f64 = 0.95;

/// Seconds a request spends outside the engine before its first token.
const API_S: f64 = 4.5e-3;
/// Seconds there for each token of its prompt: text sent, parsed and cut into tokens.
const TOKEN_S: f64 = 8e-6;
/// Seconds there for each user: client and server are one process each, which has the answers of all to pass on.
const USER_S: f64 = 0.8e-3;
/// Steps a request waits beside its own: the one under way, which has been scheduled ahead.
const STEPS_BEFORE: f64 = 1.0;
/// Steps a prompt waits under TensorRT-LLM where attention is replicated, until there is one for every rank
/// (`attention_dp_config.timeout_iters`, 50 and more in benchmarks).
const STEPS_BALANCING: f64 = 25.0;

/// Steps after which SGLang looks for new requests, and the users from which it looks more seldom: benchmarks are known to
/// set `--scheduler-recv-interval` so, which is not recorded with their rows.
const LOOKS: (u64, u64) = (10, 30);
const MANY_USERS: u64 = 16;

/// Who serves, and under what load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Driven<'a> {
    /// `vllm`, `sglang` or `trtllm`.
    pub engine: &'a str,
    /// The device.
    pub hardware: &'a Hardware,
    /// Users of one rank, and of all.
    pub users: (u64, u64),
    /// Longest prompt and answer, tokens.
    pub lengths: (u64, u64),
    /// Whether all requests have those lengths.
    pub exact: bool,
}

impl Driven<'_> {
    /// Mean tokens of a prompt and of an answer.
    pub fn mean(&self) -> (u64, u64) {
        let of = |longest: u64| ((longest as f64 * (1.0 + self.shortest()) / 2.0) as u64).max(1);
        (of(self.lengths.0), of(self.lengths.1))
    }

    fn shortest(&self) -> f64 {
        if self.exact { SHORTEST_EXACT } else { SHORTEST }
    }

    fn sharing(&self) -> Sharing {
        match self.engine {
            "sglang" => Sharing::Apart,
            "trtllm" => Sharing::Whole,
            _ => Sharing::Chunks,
        }
    }

    /// Tokens of a step at most. TensorRT-LLM is given room for a prompt beside the answers of all users.
    pub fn budget(&self) -> u64 {
        let roomy = self.hardware.memory.capacity.value.is_some_and(|bytes| bytes >= ROOMY);
        match self.sharing() {
            Sharing::Whole => BUDGET.max(self.lengths.0 + self.users.0 + 64),
            Sharing::Apart if roomy => BUDGET_OF_PROMPTS,
            _ => BUDGET,
        }
    }

    /// How the requests come, of which `held` fit the cache.
    pub fn load(&self, held: u64) -> Load {
        let (users, _) = self.users;
        // Where lengths are exact, engines were given as many places as there are users, one of which stays taken by the
        // request with which graphs are filled up.
        let places = if self.exact { users.saturating_sub(1).max(1) } else { MOST };
        let looks = match self.sharing() {
            Sharing::Apart if users >= MANY_USERS => LOOKS.1,
            Sharing::Apart => LOOKS.0,
            _ => 1,
        };
        Load {
            users,
            requests: users * REQUESTS_A_USER,
            lengths: self.lengths,
            shortest: self.shortest(),
            budget: self.budget(),
            most: held.min(places),
            sharing: self.sharing(),
            looks,
        }
    }

    /// Whether the cache is kept in 8 bits beside weights of as many or fewer: what is recommended on Blackwell.
    pub fn narrow_cache(&self) -> bool {
        self.hardware.architecture.starts_with("blackwell")
    }

    /// What clients see of what the engine does.
    pub fn seen(&self, served: Served) -> Served {
        let outside = API_S + TOKEN_S * self.mean().0 as f64 + USER_S * self.users.1 as f64;
        let balances = self.sharing() == Sharing::Whole && self.users.0 < self.users.1;
        let steps = STEPS_BEFORE + if balances { STEPS_BALANCING } else { 0.0 };
        Served { ttft_s: served.ttft_s + outside + steps * served.tpot_s, ..served }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roofline_core::catalog;

    fn hardware(name: &str) -> Hardware {
        catalog::hardware::hardware(name).unwrap().item
    }

    fn driven<'a>(engine: &'a str, hardware: &'a Hardware, users: u64) -> Driven<'a> {
        Driven { engine, hardware, users: (users, users), lengths: (8192, 1024), exact: false }
    }

    #[test]
    fn engines_fill_steps_in_their_own_ways() {
        let (h100, b200) = (hardware("h100-sxm"), hardware("b200-sxm"));
        let load = |engine, hardware| driven(engine, hardware, 64).load(1 << 20);
        assert_eq!(load("vllm", &b200).sharing, Sharing::Chunks);
        assert_eq!((load("sglang", &b200).budget, load("sglang", &h100).budget), (16384, 8192));
        assert_eq!(load("trtllm", &b200).budget, 8192 + 64 + 64);
        let looks = |users| driven("sglang", &b200, users).load(1).looks;
        assert_eq!((looks(8), looks(16), load("vllm", &b200).looks), (10, 30, 1));
    }

    #[test]
    fn a_place_stays_taken_where_there_are_as_many_as_users() {
        let h100 = hardware("h100-sxm");
        let exact = |users| Driven { exact: true, ..driven("trtllm", &h100, users) };
        assert_eq!((exact(8).load(100).most, exact(1).load(100).most, exact(8).load(5).most), (7, 1, 5));
        assert_eq!(driven("trtllm", &h100, 8).load(100).most, 100);
    }

    #[test]
    fn clients_wait_longer_for_longer_prompts_and_more_users() {
        let h100 = hardware("h100-sxm");
        let served = Served { ttft_s: 0.1, tpot_s: 0.01 };
        let seen = |users| driven("vllm", &h100, users).seen(served);
        let one = 0.1 + API_S + TOKEN_S * 7372.0 + USER_S + 0.01;
        assert!((seen(1).ttft_s - one).abs() < 1e-12 && seen(64).ttft_s > seen(8).ttft_s);
        assert_eq!(seen(64).tpot_s, 0.01);
        let ranks = Driven { users: (16, 128), ..driven("trtllm", &h100, 128) };
        let waits = ranks.seen(served).ttft_s - driven("trtllm", &h100, 128).seen(served).ttft_s;
        assert!((waits - 0.25).abs() < 1e-12, "a prompt waits for those of other ranks: {waits}");
    }
}
