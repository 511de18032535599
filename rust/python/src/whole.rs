//! Whole steps and served requests on their way in, and the tables of what they say.

use std::sync::Arc;

use roofline_core::efficiency::Efficiency;
use roofline_core::efficiency::file::Set;
use roofline_core::efficiency::switches::HostTime;
use roofline_core::error::{Error, Result};
use roofline_core::step::{Deployment, StepTime};
use roofline_core::table::{Column, Table as Rows};
use roofline_core::work::Family;
use roofline_plan::calibrate::devices::Known;
use roofline_plan::calibrate::errors::Errors;
use roofline_plan::calibrate::file::{Whole, whole_text};
use roofline_plan::calibrate::steps::{self, Fate, Refused};
use roofline_plan::calibrate::whole::{self, Found, Sought, What, value_of};

/// Requests without which nothing is fitted.
const LEAST_REQUESTS: usize = 20;

/// Requests whose mean time to a first token is fitted.
const TOGETHER: usize = 10;

/// Requests of a run that count as independent.
const INDEPENDENT: f64 = 30.0;

/// What a file says beside numbers.
pub struct Notes {
    pub source: String,
    pub date: String,
    pub remark: String,
}

/// Numbers, errors, files by device, and rows that were refused.
pub struct Outcome {
    pub numbers: Rows,
    pub errors: Rows,
    pub files: Vec<(String, String)>,
    pub refused: Rows,
}

/// What became of the steps of a frame.
pub fn of_steps(fates: &[Fate], refused: &[Refused]) -> Outcome {
    let (mut numbers, mut errors, mut files) = (Numbers::default(), Judged::default(), Vec::new());
    for fate in fates {
        let name = (fate.known.hardware.name.as_str(), fate.engine.as_str());
        match &fate.outcome {
            Ok(fit) => {
                numbers.add(name, &fit.sought, &fit.found.values, fate.rows);
                errors.add(name, &["step_ms"], &fit.found, fit.ideal.as_ref());
                files.push((name.0.to_string(), fit.text.clone()));
            }
            Err(why) => numbers.refuse(name, fate.rows, why),
        }
    }
    Outcome { numbers: numbers.table(), errors: errors.table(), files, refused: refused_table(refused) }
}

/// Fits the host, what clients wait and factors to observed times: `serve` runs a deployment whose clients wait so many
/// seconds, and returns each request's time per token and to the first one.
pub fn of_requests<E: From<Error>>(
    deployment: &Deployment,
    observed: [Vec<f64>; 2],
    load: (u64, u64),
    api_s: f64,
    notes: &Notes,
    present: Option<&str>,
    mut serve: impl FnMut(Deployment, f64) -> std::result::Result<[Vec<f64>; 2], E>,
) -> std::result::Result<Outcome, E> {
    let Efficiency::Predicted(prediction) = &deployment.efficiency else {
        let error = Error::spec("mode", "must be predicted to be fitted", "ideal", "");
        return Err(error.into());
    };
    let usable =
        observed[0].iter().zip(&observed[1]).filter(|(tpot, ttft)| is_time(**tpot) && is_time(**ttft));
    let rows = usable.count();
    if let Some((field, place)) = untimely(&observed).filter(|_| rows < LEAST_REQUESTS) {
        let was =
            format!("{} in row {}", observed[usize::from(field == "observed_ttft_s")][place], place + 1);
        return Err(Error::spec(field, "must be a positive time", was, "").into());
    }
    if rows < LEAST_REQUESTS {
        let must = format!("must hold {LEAST_REQUESTS} requests with observed times, of more than one token");
        let hint = format!("measure {} more", LEAST_REQUESTS - rows);
        return Err(Error::spec("measurements", must, rows, hint).into());
    }
    let known = Known::of(deployment.hardware.clone()).ok_or_else(|| {
        let must = "must have a known peak, bandwidth and number of cores";
        Error::spec("hw", must, &deployment.hardware.name, "")
    })?;
    let shares = whole::shares(&deployment.compile()?, load.0, load.1);
    let sought = Sought::usual(
        steps::host_of(prediction, &deployment.hardware),
        Some(api_s),
        &whole::telling(&shares),
    );
    let name = (known.hardware.name.as_str(), prediction.engine.as_str());
    let with = |values: &[f64]| -> Result<(Deployment, f64)> {
        let of = |what| value_of(&sought, values, what).unwrap_or(0.0);
        let mut changed = (**prediction).clone();
        changed.switches.host = Some(HostTime::of(of(What::HostStep), of(What::HostSequence))?);
        let factors = whole::factors(&sought, values, &prediction.engine);
        let set = Set { device: name.0.to_string(), factors, ..Set::default() };
        changed.sets.insert(0, set);
        let efficiency = Efficiency::Predicted(Arc::new(changed));
        Ok((Deployment { efficiency, ..deployment.clone() }, of(What::Api)))
    };
    let clean =
        |times: Vec<f64>| times.into_iter().map(|time| if is_time(time) { time } else { f64::NAN }).collect();
    let [tpot, ttft]: [Vec<f64>; 2] = observed.map(clean);
    let known_at: Vec<bool> = ttft.iter().map(|time| is_time(*time)).collect();
    let measured = vec![tpot, means(&ttft, &known_at)];
    let found = whole::find(&sought, &measured, INDEPENDENT, |values| {
        let (deployment, api_s) = with(values)?;
        let [tpot, ttft] = serve(deployment, api_s)?;
        Ok::<_, E>(vec![tpot, means(&ttft, &known_at)])
    })?;
    if let Some(times) = whole::unit_slip(&found) {
        let hint = "`observed_ttft_s` and `observed_tpot_s` are seconds";
        let error =
            Error::spec("measurements", "must be in the unit their columns say", whole::slipped(times), hint);
        return Err(error.into());
    }
    let (mut numbers, mut errors) = (Numbers::default(), Judged::default());
    numbers.add(name, &sought, &found.values, rows);
    errors.add(name, &["tpot_ms", "mean_ttft_ms"], &found, None);
    let text = {
        let whole = Whole {
            engine: name.1,
            sought: &sought,
            found: &found,
            rows,
            shares: &shares.iter().filter(|(family, _)| *family != Family::Host).copied().collect::<Vec<_>>(),
            source: &notes.source,
            date: &notes.date,
            remark: &notes.remark,
        };
        whole_text(&known, &whole, present)
    };
    let files = vec![(name.0.to_string(), text)];
    Ok(Outcome { numbers: numbers.table(), errors: errors.table(), files, refused: refused_table(&[]) })
}

/// The first observed time that is none, with its column: negative or zero; what is absent says nothing.
fn untimely(observed: &[Vec<f64>; 2]) -> Option<(&'static str, usize)> {
    let wrong = |times: &Vec<f64>| times.iter().position(|time| *time <= 0.0);
    let [tpot, ttft] = observed;
    let of_ttft = || wrong(ttft).map(|place| ("observed_ttft_s", place));
    wrong(tpot).map(|place| ("observed_tpot_s", place)).or_else(of_ttft)
}

/// Means over requests that followed each other, of those that were observed. When a request meets the steps that run
/// is chance, and moves its first token by as much as a step; means are smooth in what steps take.
fn means(seconds: &[f64], known: &[bool]) -> Vec<f64> {
    let rows: Vec<f64> =
        seconds.iter().zip(known).filter(|(_, known)| **known).map(|(one, _)| *one).collect();
    rows.chunks(TOGETHER).map(|block| block.iter().sum::<f64>() / block.len() as f64).collect()
}

fn is_time(seconds: f64) -> bool {
    seconds.is_finite() && seconds > 0.0
}

/// Numbers found or why none were, one a row.
#[derive(Default)]
struct Numbers {
    names: [Vec<String>; 4],
    values: [Vec<Option<f64>>; 2],
    rows: Vec<u64>,
    refused: Vec<Option<String>>,
}

impl Numbers {
    fn push(&mut self, names: [&str; 4], values: [Option<f64>; 2], rows: usize, refused: Option<&str>) {
        for (column, name) in self.names.iter_mut().zip(names) {
            column.push(name.to_string());
        }
        for (column, value) in self.values.iter_mut().zip(values) {
            column.push(value);
        }
        self.rows.push(rows as u64);
        self.refused.push(refused.map(str::to_string));
    }

    fn add(&mut self, (hw, engine): (&str, &str), sought: &[Sought], values: &[f64], rows: usize) {
        for (one, value) in sought.iter().zip(values) {
            let (family, number) = match one.what {
                What::HostStep => ("host", "h0_s"),
                What::HostSequence => ("host", "h1_s"),
                What::Api => ("serving", "api_latency_s"),
                What::Family(family) => (family.name(), "factor"),
            };
            self.push([hw, engine, family, number], [Some(*value), Some(one.prior)], rows, None);
        }
    }

    fn refuse(&mut self, (hw, engine): (&str, &str), rows: usize, why: &str) {
        self.push([hw, engine, "host", "h0_s"], [None, None], rows, Some(why));
    }

    fn table(self) -> Rows {
        let [hw, engine, family, number] = self.names;
        let [value, prior] = self.values;
        Rows::new()
            .with("hw", Column::Str(hw))
            .with("engine", Column::Str(engine))
            .with("family", Column::Str(family))
            .with("number", Column::Str(number))
            .with("value", Column::OptF64(value))
            .with("prior", Column::OptF64(prior))
            .with("rows", Column::U64(self.rows))
            .with("refused", Column::OptStr(self.refused))
    }
}

/// Errors on observations that were not fitted, one metric a row.
#[derive(Default)]
struct Judged {
    names: [Vec<String>; 3],
    n: Vec<u64>,
    figures: [Vec<Option<f64>>; 7],
}

impl Judged {
    fn add(&mut self, (hw, engine): (&str, &str), metrics: &[&str], found: &Found, ideal: Option<&Errors>) {
        for ((metric, errors), before) in metrics.iter().zip(&found.errors).zip(&found.before) {
            for (column, name) in self.names.iter_mut().zip([hw, engine, metric]) {
                column.push(name.to_string());
            }
            self.n.push(errors.n);
            let figures = [
                errors.median_ape,
                errors.mape,
                errors.p90_ape,
                errors.bias,
                errors.coverage,
                before.median_ape,
                ideal.map_or(f64::NAN, |ideal| ideal.median_ape),
            ];
            for (column, figure) in self.figures.iter_mut().zip(figures) {
                column.push(Some(figure).filter(|figure| figure.is_finite()));
            }
        }
    }

    fn table(self) -> Rows {
        let [hw, engine, metric] = self.names;
        let names =
            ["median_ape", "mape", "p90_ape", "bias", "coverage", "before_median_ape", "ideal_median_ape"];
        let table = Rows::new()
            .with("hw", Column::Str(hw))
            .with("engine", Column::Str(engine))
            .with("metric", Column::Str(metric))
            .with("n", Column::U64(self.n));
        names
            .into_iter()
            .zip(self.figures)
            .fold(table, |table, (name, figures)| table.with(name, Column::OptF64(figures)))
    }
}

/// What steps are predicted to take, one a row.
pub fn priced_table(steps: &[std::result::Result<StepTime, Refused>]) -> Rows {
    let of = |seconds: fn(&StepTime) -> Option<f64>| {
        Column::OptF64(steps.iter().map(|step| step.as_ref().ok().and_then(seconds)).collect())
    };
    let why = |step: &std::result::Result<StepTime, Refused>| step.as_ref().err().map(ToString::to_string);
    Rows::new()
        .with("step_s", of(|step| Some(step.step.seconds)))
        .with("low_s", of(|step| step.step.low))
        .with("high_s", of(|step| step.step.high))
        .with("ideal_s", of(|step| Some(step.ideal)))
        .with("refused", Column::OptStr(steps.iter().map(why).collect()))
}

fn refused_table(refused: &[Refused]) -> Rows {
    let text = |of: fn(&Refused) -> &String| Column::Str(refused.iter().map(|one| of(one).clone()).collect());
    Rows::new()
        .with("row", Column::U64(refused.iter().map(|one| one.row as u64).collect()))
        .with("field", text(|one| &one.field))
        .with("must", text(|one| &one.must))
        .with("was", text(|one| &one.was))
}
