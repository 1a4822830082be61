//! Sets of byte ranges. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges that neither touch nor overlap, by where they begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&before, &its_end)) = self.0.range(..=start).next_back()
            && its_end >= start
        {
            start = before;
            end = end.max(its_end);
        }
        while let Some((&next, &its_end)) = self.0.range(start..=end).next() {
            end = end.max(its_end);
            self.0.remove(&next);
        }
        self.0.insert(start, end);
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touched: Vec<Range<u64>> = self.within(range.clone()).collect();
        for part in touched {
            let whole = self.around(part.start).unwrap_or(part.clone());
            self.0.remove(&whole.start);
            self.insert(whole.start..part.start);
            self.insert(part.end..whole.end);
        }
    }

    /// The parts of `range` that are in the set, in order.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self
            .around(range.start)
            .map_or(range.start, |own| own.start);
        self.0
            .range(first..range.end.max(first))
            .map(move |(start, end)| *start.max(&range.start)..*end.min(&range.end))
            .filter(|part| !part.is_empty())
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn without(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for part in self.within(range.clone()) {
            gaps.push(at..part.start);
            at = part.end;
        }
        gaps.push(at..range.end);
        gaps.retain(|gap| !gap.is_empty());
        gaps
    }

    /// The range of the set that holds `position`.
    fn around(&self, position: u64) -> Option<Range<u64>> {
        let (start, end) = self.0.range(..=position).next_back()?;
        (*end > position).then_some(*start..*end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against one bit a byte.
        #[test]
        fn ranges_are_sets(acts in proptest::collection::vec((any::<bool>(), 0_u64..64, 0_u64..20), 0..40)) {
            let mut ranges = Ranges::default();
            let mut bits = [false; 96];
            for (adds, start, length) in acts {
                let range = start..start + length;
                for position in range.clone() {
                    bits[usize::try_from(position).unwrap()] = adds;
                }
                match adds {
                    true => ranges.insert(range),
                    false => ranges.remove(range),
                }
                let set = |position: u64| bits[usize::try_from(position).unwrap()];
                let inside: Vec<u64> = ranges.within(5..90).flatten().collect();
                let outside: Vec<u64> = ranges.without(5..90).into_iter().flatten().collect();
                prop_assert_eq!(inside, (5..90).filter(|at| set(*at)).collect::<Vec<_>>());
                prop_assert_eq!(outside, (5..90).filter(|at| !set(*at)).collect::<Vec<_>>());
                let ends: Vec<_> = ranges.0.iter().collect();
                prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0));
                prop_assert!(ends.iter().all(|(start, end)| start < end));
            }
        }
    }
}
