//! Questions about points whose operators take the greatest of a few multiples of a step's sums.

use super::affine::{Affine, BLOCK, DECODE_KEYS, DECODES, PerStep, VISITED};
use super::kernel::{Answers, Pieces, Scratch, Sizes, Want, cut};
use super::kind::Kind;
use super::program::Program;
use super::rows::{COMPUTING, LINKING, STAGE_COMPUTING, STAGE_LINKING, place};
use super::run::{add_up, stretches};
use super::steps::Steps;
use crate::point::Question;
use crate::roof::Bound;
use crate::step::Pricer;

/// One deployment under one question, compiled.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linear {
    question: Question,
    overlap: f64,
    /// The step that answers the question; for prompts their last one.
    first: Program,
    /// Prompt chunks that are not the last.
    earlier: Option<Program>,
    /// Decode steps after a prompt.
    decode: Option<Program>,
}

impl Linear {
    /// Compiles; `None` where an operator takes neither a multiple of a step's sums nor the greatest of a few, or where
    /// steps of a run cannot be added up.
    pub(super) fn of(pricer: &Pricer, question: Question) -> Option<Linear> {
        if !pricer.is_linear() {
            return None;
        }
        let of = |kind: Kind| Program::of(pricer, kind);
        let prompt = Kind::Prompt { samples: true };
        let silent = Kind::Prompt { samples: false };
        let (first, earlier, decode) = match question {
            Question::Prefill => (of(prompt)?, Some(of(silent)?), None),
            Question::Encode => (of(silent)?, None, None),
            Question::Decode => (of(Kind::Decode)?, None, None),
            Question::Mixed => (of(Kind::Mixed)?, None, None),
            Question::Chat if pricer.overlap() == 0.0 => {
                (of(prompt)?, Some(of(silent)?), Some(of(Kind::Decode)?))
            }
            Question::Chat => return None,
        };
        Some(Linear { question, overlap: pricer.overlap(), first, earlier, decode })
    }

    /// Prices a block of points.
    pub(super) fn price(&self, sizes: &Sizes<'_>, want: Want, scratch: &mut Scratch, answers: &mut Answers) {
        let count = sizes.batch_size.len();
        let Scratch { steps, context, .. } = scratch;
        match self.question {
            Question::Decode => {
                for ((sum, prefix), input) in context.iter_mut().zip(sizes.prefix_len).zip(sizes.input_len) {
                    *sum = prefix + input;
                }
                steps.fill_decodes(&self.first, sizes.batch_size, &context[..count]);
                steps.price(&self.first, sizes.batch_size, sizes.batch_size, want.bounds);
                self.take(&self.first, steps, count, want, answers);
            }
            Question::Mixed => {
                context[..count].fill(1);
                steps.fill_prompts(&self.first, &context[..count], sizes.chunk, sizes.prefix_len);
                steps.fill_decodes(&self.first, sizes.batch_size, sizes.input_len);
                steps.price(&self.first, sizes.batch_size, sizes.chunk, want.bounds);
                self.take(&self.first, steps, count, want, answers);
            }
            Question::Encode => {
                context[..count].fill(0);
                steps.fill_prompts(&self.first, sizes.batch_size, sizes.input_len, &context[..count]);
                steps.price(&self.first, sizes.batch_size, sizes.input_len, want.bounds);
                self.take(&self.first, steps, count, want, answers);
            }
            Question::Prefill | Question::Chat => {
                self.prompts(sizes, want, scratch, answers);
                answers.ttft = answers.step;
                if let Some(decode) = &self.decode {
                    let run = |answers: &mut Answers| self.answer_run(decode, sizes, want, scratch, answers);
                    answers.behind_prompt(count, run);
                }
            }
        }
    }

    /// The prompt's steps of every point: all chunks but the last, in blocks of their own, then the last ones.
    fn prompts(&self, sizes: &Sizes<'_>, want: Want, scratch: &mut Scratch, answers: &mut Answers) {
        let count = sizes.batch_size.len();
        let Scratch { steps, pieces, .. } = scratch;
        let mut last = Pieces::default();
        cut(sizes, pieces, &mut last, |pieces| self.earlier_chunks(steps, pieces, want, answers));
        steps.fill_prompts(&self.first, &last.batch[..count], &last.new[..count], &last.context[..count]);
        steps.price(&self.first, &last.batch[..count], &last.new[..count], want.bounds);
        self.take(&self.first, steps, count, want, answers);
    }

    fn earlier_chunks(&self, steps: &mut Steps, pieces: &Pieces, want: Want, answers: &mut Answers) {
        let (count, Some(program)) = (pieces.count, &self.earlier) else { return };
        steps.fill_prompts(program, &pieces.batch[..count], &pieces.new[..count], &pieces.context[..count]);
        steps.price(program, &pieces.batch[..count], &pieces.new[..count], want.bounds);
        let mut chunks = Answers::default();
        self.take(program, steps, count, want, &mut chunks);
        for (from, to) in pieces.point[..count].iter().enumerate() {
            answers.add_point(*to, &chunks, from);
        }
    }

    /// The decode steps of every request, in closed form.
    fn answer_run(
        &self,
        program: &Program,
        sizes: &Sizes<'_>,
        want: Want,
        scratch: &mut Scratch,
        answers: &mut Answers,
    ) {
        let (count, steps) = (sizes.batch_size.len(), &mut scratch.steps);
        let batch = sizes.batch_size;
        steps.columns[DECODES].iter_mut().zip(batch).for_each(|(lane, batch)| *lane = *batch as f64);
        steps.price_counted(program, batch, batch, want.bounds);
        for point in 0..count {
            let later = sizes.output_len[point] - 1;
            let context = sizes.prefix_len[point] + sizes.input_len[point];
            let times = later as f64;
            steps.seconds.lanes.iter_mut().for_each(|lane| lane[point] *= times);
            let (columns, seconds) = (&steps.columns, &mut steps.seconds);
            let run = (batch[point] as f64, context, later);
            for row in &program.growing {
                add_up(
                    row,
                    &program.reaches,
                    run,
                    |column| columns[column][point],
                    |bound, each| {
                        let link = bound == Bound::Link;
                        let whole = if link { LINKING } else { COMPUTING };
                        let stage = if link { STAGE_LINKING } else { STAGE_COMPUTING };
                        seconds.lanes[whole][point] += each * row.repeat;
                        if !program.one_stage {
                            seconds.lanes[stage][point] += each * row.stage_repeat;
                        }
                        if want.bounds && !link {
                            seconds.lanes[place(bound)][point] += each * row.stage_repeat;
                        }
                    },
                );
            }
            if want.work {
                // The sums of all steps: forms are linear, so their constants count once a step.
                for (index, reach) in program.reaches.iter().enumerate() {
                    if program.uses(DECODE_KEYS + index) {
                        let mut keys = 0.0;
                        stretches(*reach, context, later, |stretch| keys += stretch.sum());
                        steps.columns[DECODE_KEYS + index][point] = run.0 * keys;
                    }
                }
                for column in (VISITED..VISITED + program.visited.len()).chain([DECODES]) {
                    steps.columns[column][point] *= times;
                }
                let total = |form: &Affine| {
                    form.fixed * (times - 1.0) + form.at(|column| steps.columns[column][point])
                };
                answers.flops[point] += total(&program.flops);
                answers.bytes[point] += total(&program.bytes);
            }
        }
        self.take(program, steps, count, Want { work: false, ..want }, answers);
    }

    /// Adds what a block of steps takes to its points, communication only as far as computing does not hide it.
    fn take(&self, program: &Program, steps: &Steps, count: usize, want: Want, answers: &mut Answers) {
        let lanes = &steps.seconds.lanes;
        let stage = if program.one_stage { (COMPUTING, LINKING) } else { (STAGE_COMPUTING, STAGE_LINKING) };
        expose(&mut answers.step[..count], &lanes[COMPUTING], &lanes[LINKING], self.overlap);
        if program.one_stage {
            answers.stage[..count].copy_from_slice(&answers.step[..count]);
        } else {
            expose(&mut answers.stage[..count], &lanes[stage.0], &lanes[stage.1], self.overlap);
        }
        if want.bounds {
            for ((sum, computing), _) in answers.busy.iter_mut().zip(&lanes[stage.0]).zip(0..count) {
                *sum += computing;
            }
            for bound in [Bound::Memory, Bound::Compute, Bound::Vector, Bound::Link] {
                let from = if bound == Bound::Link { stage.1 } else { place(bound) };
                let sum = &mut answers.by_bound[bound as usize][..count];
                sum.iter_mut().zip(&lanes[from]).for_each(|(sum, seconds)| *sum += seconds);
            }
        }
        if want.work {
            let mut value = [0.0; BLOCK];
            for (sum, form) in [(&mut answers.flops, &program.flops), (&mut answers.bytes, &program.bytes)] {
                form.fill(&mut value[..count], &steps.columns);
                sum[..count].iter_mut().zip(&value).for_each(|(sum, value)| *sum += value);
            }
        }
    }
}

fn expose(sum: &mut [f64], computing: &PerStep, linking: &PerStep, overlap: f64) {
    for ((sum, computing), linking) in sum.iter_mut().zip(computing).zip(linking) {
        let shown = linking - overlap * computing;
        *sum += computing + if shown > 0.0 { shown } else { 0.0 };
    }
}
