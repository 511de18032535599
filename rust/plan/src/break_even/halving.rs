//! The whole numbers from and up to which something holds, found by halving.

use roofline_core::error::Result;

/// Numbers up to this are looked at one by one, larger ones at steps of this part of them before they are halved down.
const FINE: u64 = 32;

/// The largest number up to `most` for which `holds`, which holds up to some number and not beyond; `None` if it does not
/// hold for 1.
pub(super) fn largest(most: u64, mut holds: impl FnMut(u64) -> Result<bool>) -> Result<Option<u64>> {
    if !holds(1)? {
        return Ok(None);
    }
    let (mut yes, mut no) = (1, 2);
    while no < most && holds(no)? {
        (yes, no) = (no, 2 * no);
    }
    if no >= most && holds(most)? {
        return Ok(Some(most));
    }
    change(yes, no, &mut holds).map(Some)
}

/// The last number from `yes` on, which holds, before one that does not on the way to `no`, which does not either.
fn change(mut yes: u64, mut no: u64, holds: &mut impl FnMut(u64) -> Result<bool>) -> Result<u64> {
    while no.abs_diff(yes) > 1 {
        let middle = yes.midpoint(no);
        if holds(middle)? { yes = middle } else { no = middle }
    }
    Ok(yes)
}

/// The first and the last number up to `most` for which `holds`; `None` if there is none.
///
/// It may hold for several stretches of numbers; one that is shorter than a 32nd of its numbers can be overlooked.
pub(super) fn stretch(most: u64, mut holds: impl FnMut(u64) -> Result<bool>) -> Result<Option<(u64, u64)>> {
    let (mut before, mut found) = (None, None);
    let mut number = 1;
    loop {
        let now = holds(number)?;
        if let Some((earlier, held)) = before
            && held != now
        {
            let (yes, no) = if now { (number, earlier) } else { (earlier, number) };
            let edge = change(yes, no, &mut holds)?;
            let (first, last) = found.get_or_insert((edge, edge));
            (*first, *last) = (edge.min(*first), edge.max(*last));
        } else if now && before.is_none() {
            found = Some((number, number));
        }
        if number == most {
            return Ok(found.map(|(first, last)| (first, if now { most } else { last })));
        }
        before = Some((number, now));
        number = (number + (number / FINE).max(1)).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_the_last_that_holds() {
        for last in [1, 2, 3, 4, 7, 8, 100, 1000] {
            assert_eq!(largest(1000, |number| Ok(number <= last)).unwrap(), Some(last));
        }
        assert_eq!(largest(1000, |_| Ok(false)).unwrap(), None);
        assert_eq!(largest(1000, |number| Ok(number <= 1024)).unwrap(), Some(1000));
    }

    #[test]
    fn a_stretch_is_found_wherever_it_begins() {
        for (first, last) in [(1, 1), (1, 40), (7, 7), (17, 900), (999, 1000), (1, 1000), (300, 340)] {
            let found = stretch(1000, |number| Ok((first..=last).contains(&number))).unwrap();
            assert_eq!(found, Some((first, last)));
        }
        // However short, down to a 32nd of its numbers
        for first in 1..900 {
            let last = first + first / FINE;
            let found = stretch(1000, |number| Ok((first..=last).contains(&number))).unwrap();
            assert_eq!(found, Some((first, last)));
        }
        assert_eq!(stretch(1000, |_| Ok(false)).unwrap(), None);
        let several = |number: u64| Ok((3..=5).contains(&number) || (200..=250).contains(&number));
        assert_eq!(stretch(1000, several).unwrap(), Some((3, 250)));
    }
}
