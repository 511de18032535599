//! Which requests wait for which: names become rows, cycles are found, and arrivals that nobody gave are worked out.

use rustc_hash::{FxHashMap, FxHashSet};

use super::format::Parents;
use super::mistakes::{Mistake, shortened};

/// What a request waits for, as its row said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum On {
    /// The request of this row.
    Row(u32),
    /// The request with this id, which may stand on a later line.
    Id(String),
}

/// One request waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub row: u32,
    pub line: u64,
    pub on: On,
    pub delay_ns: u64,
}

/// All that was said of waiting, in the order of the rows.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub list: Vec<Link>,
    /// The field that names what is waited for.
    pub field: &'static str,
    /// Rows without an arrival of their own, with their lines.
    pub without_arrival: Vec<(u32, u64)>,
}

/// Who waits for whom, as rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    pub offsets: Vec<u64>,
    pub after: Vec<u32>,
    pub delay_ns: Vec<u64>,
    /// Rows that can never start, and why.
    pub refused: Vec<(u32, u64, Mistake)>,
    /// Links to requests that the trace does not have, and links of cycles, that were left out.
    pub orphans: u64,
    pub cycles: u64,
    /// The first line of these.
    pub first_line: u64,
    gone: FxHashSet<u32>,
}

/// A link between rows.
#[derive(Clone, Copy)]
struct Edge {
    row: u32,
    line: u64,
    on: u32,
    delay_ns: u64,
}

impl Links {
    /// Works out who waits for whom, and sets in `arrival` what had none: the earliest it can be.
    pub fn resolve(self, arrival: &mut [i64], ids: &[String], parents: Parents) -> Resolved {
        let mut found = Resolved::default();
        let mut edges = self.edges(ids, parents, &mut found);
        edges.sort_by_key(|edge| edge.row);
        if parents == Parents::Required {
            refuse_dependents(&edges, self.field, &mut found);
        }
        let order = loop {
            let (order, stuck) = topological(arrival.len(), &edges);
            let Some(first) = stuck else { break order };
            let cycle = cycle_through(first, &edges, &order, arrival.len());
            if parents == Parents::Required {
                refuse_cycle(&cycle, &edges, ids, self.field, &mut found);
            } else {
                let broken = cycle.iter().min().copied().unwrap_or(first);
                found.cycles += 1;
                found.note(edges.iter().find(|edge| edge.row == broken).map_or(0, |edge| edge.line));
            }
            let cut: Vec<u32> = if parents == Parents::Required {
                cycle
            } else {
                cycle.iter().min().copied().into_iter().collect()
            };
            edges.retain(|edge| !cut.contains(&edge.row));
            if parents == Parents::Required {
                refuse_dependents(&edges, self.field, &mut found);
            }
        };
        self.earliest(arrival, &edges, &order, &mut found);
        let mut next = edges.iter().peekable();
        found.offsets.push(0);
        for row in 0..arrival.len() as u32 {
            while let Some(edge) = next.next_if(|edge| edge.row == row) {
                found.after.push(edge.on);
                found.delay_ns.push(edge.delay_ns);
            }
            found.offsets.push(found.after.len() as u64);
        }
        found
    }

    /// The links between rows; a name that means no row is a mistake, or left out.
    fn edges(&self, ids: &[String], parents: Parents, found: &mut Resolved) -> Vec<Edge> {
        const SEVERAL: u32 = u32::MAX;
        let mut rows: FxHashMap<&str, u32> = FxHashMap::default();
        if self.list.iter().any(|link| matches!(link.on, On::Id(_))) {
            for (id, row) in ids.iter().zip(0..) {
                rows.entry(id).and_modify(|known| *known = SEVERAL).or_insert(row);
            }
        }
        let mut edges: Vec<Edge> = Vec::with_capacity(self.list.len());
        for Link { row, line, on, delay_ns } in &self.list {
            let (on, must, name) = match on {
                On::Row(on) => (Some(*on), "", ""),
                On::Id(id) => match rows.get(id.as_str()) {
                    Some(&SEVERAL) => (None, "must name an id that is used once", id.as_str()),
                    Some(on) => (Some(*on), "", ""),
                    None => (None, "must name a request of the trace", id.as_str()),
                },
            };
            match on {
                Some(on) => edges.push(Edge { row: *row, line: *line, on, delay_ns: *delay_ns }),
                None if parents == Parents::MayBeAbsent => {
                    found.orphans += 1;
                    found.note(*line);
                }
                None => found.refuse(*row, *line, Mistake::new(self.field, must, shortened(name))),
            }
        }
        edges
    }

    /// Sets the arrivals that nobody gave, each after those it waits for.
    fn earliest(&self, arrival: &mut [i64], edges: &[Edge], order: &[u32], found: &mut Resolved) {
        if self.without_arrival.is_empty() {
            return;
        }
        let mut line_of = vec![0; arrival.len()];
        self.without_arrival.iter().for_each(|(row, line)| line_of[*row as usize] = (*line).max(1));
        for row in order {
            let line = line_of[*row as usize];
            if line == 0 {
                continue;
            }
            let first = edges.partition_point(|edge| edge.row < *row);
            let own = edges[first..].iter().take_while(|edge| edge.row == *row);
            let earliest = own.map(|edge| {
                let delay = i64::try_from(edge.delay_ns).unwrap_or(i64::MAX);
                arrival[edge.on as usize].saturating_add(delay)
            });
            match earliest.max() {
                Some(earliest) => arrival[*row as usize] = earliest,
                None => {
                    let mistake =
                        Mistake::new(self.field, "must name a request where there is no arrival", "none");
                    found.refuse(*row, line, mistake);
                }
            }
        }
    }
}

impl Resolved {
    fn note(&mut self, line: u64) {
        if self.first_line == 0 || line < self.first_line {
            self.first_line = line;
        }
    }

    /// Refuses a row, once.
    fn refuse(&mut self, row: u32, line: u64, mistake: Mistake) {
        if self.gone.insert(row) {
            self.refused.push((row, line, mistake));
        }
    }
}

/// Refuses what waits for a request that is refused, and so on.
fn refuse_dependents(edges: &[Edge], field: &str, found: &mut Resolved) {
    if found.refused.is_empty() {
        return;
    }
    let mut dependents: Vec<(u32, u32, u64)> =
        edges.iter().map(|edge| (edge.on, edge.row, edge.line)).collect();
    dependents.sort_unstable();
    let mut at = 0;
    while at < found.refused.len() {
        let (gone, _, _) = found.refused[at];
        at += 1;
        let first = dependents.partition_point(|(on, _, _)| *on < gone);
        for (_, row, line) in dependents[first..].iter().take_while(|(on, _, _)| *on == gone) {
            let must = "must name a request that can start";
            found.refuse(*row, *line, Mistake::new(field, must, "one that is left out"));
        }
    }
}

fn refuse_cycle(cycle: &[u32], edges: &[Edge], ids: &[String], field: &str, found: &mut Resolved) {
    let name = |row: u32| ids.get(row as usize).cloned().unwrap_or_else(|| (row + 1).to_string());
    let path: Vec<String> = cycle.iter().chain(cycle.first()).map(|row| name(*row)).collect();
    let mut rows = cycle.to_vec();
    rows.sort_unstable();
    for row in rows {
        let line = edges.iter().find(|edge| edge.row == row).map_or(0, |edge| edge.line);
        let must = "must not lead back to the request itself: none of a cycle can start";
        found.refuse(row, line, Mistake::new(field, must, path.join(" -> ")));
    }
}

/// The rows in an order in which each comes after those it waits for, and the first that has no such place.
fn topological(rows: usize, edges: &[Edge]) -> (Vec<u32>, Option<u32>) {
    let mut open = vec![0u32; rows];
    let mut dependents: Vec<(u32, u32)> = edges.iter().map(|edge| (edge.on, edge.row)).collect();
    dependents.sort_unstable();
    edges.iter().for_each(|edge| open[edge.row as usize] += 1);
    let mut order: Vec<u32> = (0..rows as u32).filter(|row| open[*row as usize] == 0).collect();
    let mut at = 0;
    while at < order.len() {
        let row = order[at];
        at += 1;
        let first = dependents.partition_point(|(on, _)| *on < row);
        for (_, dependent) in dependents[first..].iter().take_while(|(on, _)| *on == row) {
            open[*dependent as usize] -= 1;
            if open[*dependent as usize] == 0 {
                order.push(*dependent);
            }
        }
    }
    let stuck = (order.len() < rows).then(|| open.iter().position(|count| *count > 0)).flatten();
    (order, stuck.map(|row| row as u32))
}

/// A cycle that `stuck` is on or waits for, each row before the one that it waits for.
fn cycle_through(stuck: u32, edges: &[Edge], order: &[u32], rows: usize) -> Vec<u32> {
    let mut free = vec![false; rows];
    order.iter().for_each(|row| free[*row as usize] = true);
    let (mut path, mut row) = (Vec::new(), stuck);
    loop {
        if let Some(start) = path.iter().position(|known| *known == row) {
            return path.split_off(start);
        }
        path.push(row);
        let first = edges.partition_point(|edge| edge.row < row);
        let next = edges[first..]
            .iter()
            .take_while(|edge| edge.row == row)
            .find(|edge| !free[edge.on as usize])
            .map(|edge| edge.on);
        match next {
            Some(next) => row = next,
            None => return path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(list: &[(u32, &str, u64)], without: &[u32]) -> Links {
        let link = |(row, on, delay_ns): &(u32, &str, u64)| Link {
            row: *row,
            line: u64::from(*row) + 1,
            on: On::Id((*on).to_string()),
            delay_ns: *delay_ns,
        };
        Links {
            list: list.iter().map(link).collect(),
            field: "after",
            without_arrival: without.iter().map(|row| (*row, u64::from(*row) + 1)).collect(),
        }
    }

    fn ids(names: &str) -> Vec<String> {
        names.chars().map(String::from).collect()
    }

    #[test]
    fn a_join_waits_for_all_and_arrives_at_the_latest() {
        let mut arrival = [0, 0, 100, 0];
        let forward = links(&[(0, "c", 9), (3, "a", 1), (3, "b", 50)], &[0, 3]);
        let found = forward.resolve(&mut arrival, &ids("abcd"), Parents::Required);
        assert_eq!(arrival, [109, 0, 100, 110]);
        assert_eq!(
            (found.offsets, found.after, found.delay_ns),
            (vec![0, 1, 1, 1, 3], vec![2, 0, 1], vec![9, 1, 50])
        );
    }

    #[test]
    fn a_cycle_is_named_and_takes_its_dependents_with_it() {
        let cyclic = links(&[(0, "b", 0), (1, "a", 0), (2, "a", 0)], &[]);
        let found = cyclic.resolve(&mut [0; 3], &ids("abc"), Parents::Required);
        let refused: Vec<_> = found.refused.iter().map(|(row, _, why)| (*row, why.value.as_str())).collect();
        assert_eq!(refused, [(0, "a -> b -> a"), (1, "a -> b -> a"), (2, "one that is left out")]);
    }

    #[test]
    fn where_parents_may_be_absent_a_cycle_is_cut_at_its_first_row() {
        let cyclic = links(&[(0, "b", 0), (1, "a", 0), (2, "z", 0)], &[]);
        let found = cyclic.resolve(&mut [0; 3], &ids("abc"), Parents::MayBeAbsent);
        assert_eq!((found.orphans, found.cycles, found.first_line), (1, 1, 1));
        assert_eq!((found.after, found.refused), (vec![0], vec![]));
    }

    #[test]
    fn a_name_must_mean_one_request() {
        let found =
            links(&[(2, "a", 0), (3, "z", 0)], &[]).resolve(&mut [0; 4], &ids("aabc"), Parents::Required);
        let told: Vec<_> = found.refused.iter().map(|(_, line, why)| (*line, why.must.as_str())).collect();
        assert_eq!(told, [(3, "must name an id that is used once"), (4, "must name a request of the trace")]);
    }
}
