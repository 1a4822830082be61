//! Shares out each free area by weight, inside the limits of each partition and its padding.
//!
//! Invariant: what an area has is given out to the byte grain, nothing twice. Pure.

use super::layout::{Layout, UNLIMITED};

/// What space is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Size,
    Padding,
}

/// One item that takes part in the sharing of an area.
#[derive(Clone, Copy, Debug)]
struct Item {
    index: usize,
    part: Part,
    weight: u64,
    min: u64,
    max: u64,
    given: Option<u64>,
}

/// The sharing of one area.
#[derive(Debug)]
struct Sharing {
    grain: u64,
    /// What is left.
    span: u64,
    /// The weights of those who were given nothing yet.
    weights: u64,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Those that need more than their share get it.
    Overcharge,
    /// Those that may not have all of their share get what they may.
    Undercharge,
    /// The others get their share.
    Distribute,
}

impl Layout<'_> {
    /// Decides the size and padding of every partition that is kept.
    pub(super) fn grow(&mut self) {
        for entry in &mut self.entries {
            entry.size = entry.found_size();
            entry.padding = entry.found_padding;
        }
        for area in 0..self.areas.len() {
            self.grow_area(area);
        }
    }

    fn grow_area(&mut self, area: usize) {
        let mut sharing = self.sharing(area);
        for phase in [Phase::Overcharge, Phase::Undercharge, Phase::Distribute] {
            while !sharing.run(phase) {}
        }
        for item in sharing.items.iter() {
            let entry = &mut self.entries[item.index];
            match item.part {
                Part::Size => entry.size = item.given.unwrap_or(item.min),
                Part::Padding => entry.padding = item.given.unwrap_or(item.min),
            }
        }
        self.give_leftover(area, sharing.span);
    }

    fn sharing(&self, area: usize) -> Sharing {
        let mut span = self.areas[area].size;
        let mut items = Vec::new();
        if let Some(after) = self.areas[area].after {
            let covered = self.found_end(after) - self.entries[after].found_start();
            span = span.saturating_add(covered);
        }
        for index in self.members(area) {
            let entry = &self.entries[index];
            if entry.logical && !entry.exists() {
                // Its boot record stands in front of it.
                span = span.saturating_sub(self.grain);
            }
            let (weight, padding_weight) = self.weights(index);
            items.push(Item {
                index,
                part: Part::Size,
                weight,
                min: self.min_size(index),
                max: self.max_size(index),
                given: None,
            });
            items.push(Item {
                index,
                part: Part::Padding,
                weight: padding_weight,
                min: self.min_padding(index),
                max: self.max_padding(index),
                given: None,
            });
        }
        let mut sharing = Sharing {
            grain: self.grain,
            span,
            weights: items.iter().map(|item| item.weight).sum(),
            items,
        };
        self.charge_foreign(&mut sharing);
        sharing
    }

    /// What exists without a definition keeps its size, whatever its share would be.
    fn charge_foreign(&self, sharing: &mut Sharing) {
        for at in 0..sharing.items.len() {
            let item = sharing.items[at];
            if item.part == Part::Size && self.entries[item.index].wanted.is_none() {
                sharing.give(at, item.min);
            }
        }
    }

    /// The partitions that share `area`: the one before it, then the new ones in list order.
    fn members(&self, area: usize) -> impl Iterator<Item = usize> {
        let new = (0..self.entries.len()).filter(move |index| {
            let entry = &self.entries[*index];
            entry.area == Some(area) && !entry.exists() && self.is_kept(*index)
        });
        self.areas[area].after.into_iter().chain(new)
    }

    /// Gives what nobody's share took to whoever may have it, else leaves it free.
    fn give_leftover(&mut self, area: usize, mut span: u64) {
        let members: Vec<usize> = self.members(area).collect();
        for index in members.iter().copied() {
            let size = self.entries[index].size;
            let larger = self.down(size.saturating_add(span).min(self.max_size(index)));
            if larger > size {
                span = span.saturating_sub(self.up(larger - size));
                self.entries[index].size = larger;
            }
        }
        if let Some(last) = members.last().copied() {
            self.entries[last].padding += self.down(span);
        }
    }
}

impl Sharing {
    /// One pass; false where it must be repeated because shares have changed.
    fn run(&mut self, phase: Phase) -> bool {
        let mut stable = true;
        for at in 0..self.items.len() {
            let item = self.items[at];
            if item.given.is_some() {
                continue;
            }
            let share = scale(self.span, item.weight, self.weights);
            match phase {
                Phase::Overcharge if item.min > share => {
                    self.give(at, item.min);
                    stable = false;
                }
                Phase::Undercharge if item.max < share => {
                    self.give(at, item.max);
                    stable = false;
                }
                Phase::Distribute => {
                    let whole = share - share % self.grain;
                    self.give(at, whole.min(item.max).max(item.min));
                }
                _ => {}
            }
        }
        stable
    }

    fn give(&mut self, at: usize, amount: u64) {
        let item = &mut self.items[at];
        item.given = Some(amount);
        self.weights = self.weights.saturating_sub(item.weight);
        let charged = amount
            .checked_next_multiple_of(self.grain)
            .unwrap_or(UNLIMITED);
        self.span = self.span.saturating_sub(charged);
    }
}

/// `value · weight / sum`, rounded down.
fn scale(value: u64, weight: u64, sum: u64) -> u64 {
    if weight == 0 || sum == 0 {
        return 0;
    }
    let scaled = u128::from(value) * u128::from(weight) / u128::from(sum);
    u64::try_from(scaled).unwrap_or(UNLIMITED)
}
