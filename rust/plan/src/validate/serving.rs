//! A server in closed loop, step by step over a few prices: what its users wait for a first token and for each further one.
//!
//! A full replay prices every step anew; here a step costs what interpolation between some priced batches says, so that a
//! thousand servers take seconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use roofline_core::efficiency::predict::Launched;

/// Seconds of steps of one rank, between the batches that were priced.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs {
    /// Seconds of a decode step by sequences, rising.
    pub decode: Vec<(f64, f64)>,
    /// Seconds a step takes longer for a prompt of so many tokens beside `few` and `many` sequences, rising.
    pub prompt: Vec<(f64, f64, f64)>,
    /// Sequences of the last two.
    pub beside: (f64, f64),
    /// Seconds each token of a further prompt of the same step takes.
    pub further: f64,
    /// What launching the kernels of a step with prompts takes: it takes as long at least.
    pub launched: Launched,
}

/// How a server is driven.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Users, each with one request at a time.
    pub users: u64,
    /// Requests in all.
    pub requests: u64,
    /// Longest prompt and answer, tokens.
    pub lengths: (u64, u64),
    /// Share of them that the shortest have; lengths lie evenly between.
    pub shortest: f64,
    /// Tokens a step takes at most.
    pub budget: u64,
    /// Sequences that run at most.
    pub most: u64,
    /// How prompts and answers share steps.
    pub sharing: Sharing,
    /// Steps after which the engine looks for new requests.
    pub looks: u64,
}

/// How prompts and answers share steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Prompts, in chunks, beside answers, all within the budget: vLLM.
    Chunks,
    /// Whole prompts beside answers: TensorRT-LLM.
    Whole,
    /// Prompts in chunks, answers waiting: SGLang.
    Apart,
}

/// Means over requests, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// To the first token.
    pub ttft_s: f64,
    /// Each further token.
    pub tpot_s: f64,
}

impl Costs {
    /// Seconds of a step of `sequences` answers and one or more prompts of `tokens` in all, each at most `longest`.
    fn step(&self, sequences: f64, tokens: f64, longest: f64) -> f64 {
        let base = if sequences > 0.0 { between(&self.decode, sequences) } else { 0.0 };
        if tokens <= 0.0 {
            return base;
        }
        let one = tokens.min(longest);
        let few: Vec<(f64, f64)> = self.prompt.iter().map(|(at, few, _)| (*at, *few)).collect();
        let many: Vec<(f64, f64)> = self.prompt.iter().map(|(at, _, many)| (*at, *many)).collect();
        let (low, high) = self.beside;
        let share = if high > low { ((sequences - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        let extra = between(&few, one) * (1.0 - share) + between(&many, one) * share;
        // A step without answers still reads the weights, which a decode step of one sequence stands for.
        let alone = if sequences > 0.0 { 0.0 } else { between(&self.decode, 1.0) };
        let seconds = base + alone + extra + self.further * (tokens - one);
        let Launched { seconds: launching, captured } = self.launched;
        if tokens + sequences > captured { seconds.max(launching) } else { seconds }
    }
}

/// The value at a place, between neighbours by their distance, beyond the last as between the last two.
fn between(points: &[(f64, f64)], at: f64) -> f64 {
    match points {
        [] => 0.0,
        [(_, only)] => *only,
        _ => {
            let upper = points.iter().position(|(place, _)| *place >= at).unwrap_or(points.len() - 1).max(1);
            let ((x0, y0), (x1, y1)) = (points[upper - 1], points[upper]);
            if at <= points[0].0 { points[0].1 } else { y0 + (y1 - y0) * (at - x0) / (x1 - x0).max(1e-12) }
        }
    }
}

/// A request that waits for its prompt to be read.
struct Waiting {
    arrived: f64,
    left: f64,
    answer: u64,
}

/// Takes tokens of prompts into a step beside so many answers: how many, and how many prompts they finish.
fn admit(queue: &mut VecDeque<Waiting>, decoding: u64, load: &Load) -> (f64, usize) {
    let beside = if load.sharing == Sharing::Apart { 0 } else { decoding };
    let mut budget = load.budget.saturating_sub(beside) as f64;
    let places = load.most.saturating_sub(decoding) as usize;
    let (mut tokens, mut done) = (0.0, 0);
    for waiting in queue.iter_mut().take(places.max(usize::from(decoding == 0))) {
        if load.sharing == Sharing::Whole
            && waiting.left > budget
            && (tokens > 0.0 || waiting.left <= load.budget as f64)
        {
            break;
        }
        let chunk = if load.sharing == Sharing::Whole { waiting.left } else { waiting.left.min(budget) };
        waiting.left -= chunk;
        tokens += chunk;
        budget -= chunk;
        if waiting.left > 0.0 {
            break;
        }
        done += 1;
    }
    (tokens, done)
}

/// Runs every request, the next of a user when its last is done.
pub fn closed_loop(costs: &Costs, load: &Load) -> Served {
    let mut clock = 0.0;
    // Steps of answers, by which requests end, and steps of any kind.
    let (mut step, mut passed) = (0_u64, 0_u64);
    let mut sent: u64 = 0;
    let mut queue: VecDeque<Waiting> = VecDeque::new();
    let mut running: BinaryHeap<Reverse<(u64, u64, u64)>> = BinaryHeap::new();
    let mut first_at: Vec<f64> = Vec::new();
    let (mut ttft, mut tpot, mut answered) = (0.0, 0.0, 0_u64);
    let longest = load.lengths.0 as f64;
    let mut send = |clock: f64, queue: &mut VecDeque<Waiting>| {
        if sent < load.requests {
            let share = |salt: u64| {
                let unit = crate::calibrate::fit::scatter(2 * sent + salt) as f64 / u64::MAX as f64;
                load.shortest + (1.0 - load.shortest) * unit
            };
            let prompt = (load.lengths.0 as f64 * share(0)).max(1.0);
            let answer = (load.lengths.1 as f64 * share(1)).max(1.0) as u64;
            queue.push_back(Waiting { arrived: clock, left: prompt.floor(), answer });
            sent += 1;
        }
    };
    let mut arriving: VecDeque<Waiting> = VecDeque::new();
    for _ in 0..load.users {
        send(clock, &mut arriving);
    }
    while !(queue.is_empty() && arriving.is_empty() && running.is_empty()) {
        if passed % load.looks.max(1) == 0 || running.is_empty() {
            queue.append(&mut arriving);
        }
        let decoding = running.len() as u64;
        let (tokens, done) = admit(&mut queue, decoding, load);
        let answers = if load.sharing == Sharing::Apart && tokens > 0.0 { 0 } else { decoding };
        clock += costs.step(answers as f64, tokens, longest);
        passed += 1;
        step += u64::from(answers > 0 || decoding == 0);
        for _ in 0..done {
            let Some(one) = queue.pop_front() else { break };
            ttft += clock - one.arrived;
            first_at.push(clock);
            running.push(Reverse((
                step + one.answer.saturating_sub(1).max(1),
                first_at.len() as u64 - 1,
                one.answer,
            )));
        }
        while let Some(Reverse((last, id, answer))) = running.peek().copied() {
            if last > step {
                break;
            }
            running.pop();
            tpot += (clock - first_at[id as usize]) / (answer.saturating_sub(1).max(1)) as f64;
            answered += 1;
            send(clock, &mut arriving);
        }
    }
    let count = answered.max(1) as f64;
    Served { ttft_s: ttft / count, tpot_s: tpot / count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> Costs {
        Costs {
            decode: vec![(1.0, 0.010), (8.0, 0.017)],
            prompt: vec![(100.0, 0.01, 0.01), (1000.0, 0.1, 0.1)],
            beside: (1.0, 8.0),
            further: 1e-4,
            launched: Launched::default(),
        }
    }

    fn load(users: u64) -> Load {
        Load {
            users,
            requests: users * 4,
            lengths: (1000, 101),
            shortest: 1.0,
            budget: 8192,
            most: 1024,
            sharing: Sharing::Chunks,
            looks: 1,
        }
    }

    #[test]
    fn one_user_waits_for_its_own_prompt_and_its_own_steps() {
        let served = closed_loop(&costs(), &load(1));
        assert!((served.ttft_s - 0.11).abs() < 1e-9 && (served.tpot_s - 0.010).abs() < 1e-9, "{served:?}");
    }

    #[test]
    fn more_users_never_wait_less() {
        let (few, many) = (closed_loop(&costs(), &load(2)), closed_loop(&costs(), &load(8)));
        assert!(many.ttft_s >= few.ttft_s && many.tpot_s >= few.tpot_s, "{few:?} {many:?}");
    }

    #[test]
    fn a_full_server_lets_requests_wait() {
        let free = closed_loop(&costs(), &load(8));
        let full = closed_loop(&costs(), &Load { most: 2, ..load(8) });
        assert!(full.ttft_s > 2.0 * free.ttft_s && full.tpot_s < free.tpot_s);
    }

    #[test]
    fn steps_with_prompts_take_as_long_as_launching_them_unless_they_are_recorded() {
        let launched = |seconds, captured| Costs { launched: Launched { seconds, captured }, ..costs() };
        let slow = launched(0.5, 0.0);
        assert_eq!(slow.step(1.0, 100.0, 1000.0), 0.5);
        assert_eq!(slow.step(1.0, 0.0, 1000.0), 0.010);
        assert_eq!(launched(0.5, 512.0).step(1.0, 100.0, 1000.0), costs().step(1.0, 100.0, 1000.0));
        assert_eq!(launched(0.01, 0.0).step(1.0, 1000.0, 1000.0), costs().step(1.0, 1000.0, 1000.0));
    }

    #[test]
    fn answers_wait_where_prompts_run_apart() {
        let mixed = Load { shortest: 0.5, ..load(8) };
        let beside = closed_loop(&costs(), &mixed);
        let apart = closed_loop(&costs(), &Load { sharing: Sharing::Apart, ..mixed });
        assert!(apart.tpot_s > beside.tpot_s, "{apart:?} {beside:?}");
    }

    #[test]
    fn whole_prompts_wait_for_a_step_that_holds_them() {
        let chunks = closed_loop(&costs(), &Load { budget: 1500, ..load(8) });
        let whole = closed_loop(&costs(), &Load { budget: 1500, sharing: Sharing::Whole, ..load(8) });
        assert!(whole.ttft_s != chunks.ttft_s && whole.tpot_s > 0.0, "{whole:?} {chunks:?}");
        let longer = closed_loop(&costs(), &Load { budget: 500, sharing: Sharing::Whole, ..load(2) });
        assert!(longer.ttft_s.is_finite() && longer.ttft_s > 0.1, "a prompt beyond the budget runs alone");
    }

    #[test]
    fn who_looks_seldom_lets_requests_wait() {
        let mixed = Load { shortest: 0.5, ..load(8) };
        let often = closed_loop(&costs(), &mixed);
        let seldom = closed_loop(&costs(), &Load { looks: 30, ..mixed });
        assert!(seldom.ttft_s > often.ttft_s, "{seldom:?} {often:?}");
    }

    #[test]
    fn prices_lie_between_those_known() {
        let points = [(1.0, 10.0), (3.0, 20.0)];
        assert_eq!([0.5, 1.0, 2.0, 5.0].map(|at| between(&points, at)), [10.0, 10.0, 15.0, 30.0]);
    }
}
