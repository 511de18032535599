//! Why is one configuration faster than another? A waterfall by operator and resource that adds up.

use roofline_core::analysis::Analysis;
use roofline_core::cause::Cause;
use roofline_core::point::Question;
use roofline_core::table::{Column, Table};
use roofline_core::work::stem;

/// What one operator spends on one resource, in both configurations.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The operator; parts that a technique makes of it count as it.
    pub op: String,
    /// What the seconds are spent on.
    pub resource: &'static str,
    /// Seconds in the first.
    pub a: f64,
    /// Seconds in the second.
    pub b: f64,
}

impl Piece {
    /// What the second takes more.
    pub fn delta(&self) -> f64 {
        self.b - self.a
    }
}

/// Two configurations, and what lies between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Seconds of the first: of a token where sequences continue their answers, else of what was asked about.
    pub a: f64,
    /// Seconds of the second.
    pub b: f64,
    /// What adds up to their difference: every operator's seconds on every resource, then what belongs to none.
    pub pieces: Vec<Piece>,
}

/// What lies between two answers to the same question.
///
/// The seconds of a decode step are divided by the tokens it brings: operators at the first one's number, and what the
/// second gains by another number in a piece of its own. Pieces add up to `b − a`, to rounding.
pub fn compare(first: &Analysis, second: &Analysis, question: Question) -> Comparison {
    let one_step = matches!(question, Question::Decode | Question::Mixed);
    let tokens = |analysis: &Analysis| {
        if one_step { seconds(analysis) / analysis.outcome.times.tpot.unwrap_or(1.0) } else { 1.0 }
    };
    let per = [tokens(first), tokens(second)];
    let mut pieces: Vec<Piece> = Vec::new();
    for (side, analysis) in [first, second].into_iter().enumerate() {
        for op in &analysis.ops {
            for (cause, seconds) in op.spent.iter().filter(|(_, seconds)| *seconds != 0.0) {
                add(&mut pieces, stem(&op.name), cause.name(), side, seconds / per[0]);
            }
        }
    }
    for (side, analysis) in [first, second].into_iter().enumerate() {
        let operators: f64 = analysis.ops.iter().map(|op| op.spent.total()).sum();
        let stage = analysis.outcome.times.step.stage;
        add(&mut pieces, "other pipeline stages", "pipeline", side, (seconds(analysis) - stage) / per[0]);
        add(&mut pieces, "hidden behind the device", "overlap", side, (stage - operators) / per[0]);
    }
    let (a, b) = (seconds(first) / per[0], seconds(second) / per[1]);
    pieces.push(Piece {
        op: "tokens a step".to_string(),
        resource: "tokens",
        a: 0.0,
        b: b - seconds(second) / per[0],
    });
    let whole = a.abs().max(b.abs());
    pieces.retain(|piece| piece.a.abs().max(piece.b.abs()) > 1e-12 * whole);
    Comparison { a, b, pieces }
}

fn seconds(analysis: &Analysis) -> f64 {
    analysis.outcome.times.step.step.seconds
}

fn add(pieces: &mut Vec<Piece>, op: &str, resource: &'static str, side: usize, seconds: f64) {
    let place = pieces.iter().position(|piece| piece.op == op && piece.resource == resource);
    let place = place.unwrap_or_else(|| {
        pieces.push(Piece { op: op.to_string(), resource, a: 0.0, b: 0.0 });
        pieces.len() - 1
    });
    if side == 0 { pieces[place].a += seconds } else { pieces[place].b += seconds }
}

/// By what the pieces of a waterfall are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Nothing: a row an operator and resource.
    Piece,
    /// A row an operator.
    Op,
    /// A row a resource.
    Resource,
}

impl Comparison {
    /// What the second takes more.
    pub fn delta(&self) -> f64 {
        self.b - self.a
    }

    /// The waterfall, largest change first: `op, resource, a_s, b_s, delta_s, share` of the difference.
    pub fn table(&self, by: By) -> Table {
        let mut rows: Vec<Piece> = Vec::new();
        for piece in &self.pieces {
            let (op, resource) = match by {
                By::Piece => (piece.op.as_str(), piece.resource),
                By::Op => (piece.op.as_str(), "all"),
                By::Resource => ("all", piece.resource),
            };
            add(&mut rows, op, resource, 0, piece.a);
            add(&mut rows, op, resource, 1, piece.b);
        }
        rows.sort_by(|x, y| y.delta().abs().total_cmp(&x.delta().abs()));
        let number = |of: &dyn Fn(&Piece) -> f64| Column::F64(rows.iter().map(of).collect());
        let whole = self.delta();
        Table::new()
            .with("op", Column::Str(rows.iter().map(|piece| piece.op.clone()).collect()))
            .with("resource", Column::Str(rows.iter().map(|piece| piece.resource.to_string()).collect()))
            .with("a_s", number(&|piece| piece.a))
            .with("b_s", number(&|piece| piece.b))
            .with("delta_s", number(&Piece::delta))
            .with("share", number(&|piece| if whole == 0.0 { 0.0 } else { piece.delta() / whole }))
    }
}

/// The names of resources that a waterfall may show.
pub fn resources() -> Vec<&'static str> {
    Cause::ALL.iter().map(|cause| cause.name()).chain(["pipeline", "overlap", "tokens"]).collect()
}
