//! The Reed–Solomon code RS(255, 255 − roots) with the roots α⁰, α¹, … of the generator: from
//! syndromes to parity. Pure.
//!
//! A code word is a polynomial of degree 254 whose first symbol is that of the highest power. A
//! message without its parity leaves values at the roots (its syndromes); the parity is the one
//! remainder that makes all of them zero, which a constant matrix finds.

use super::Roots;
use super::field::{add_scaled, divide, multiply, power, scale_and_add};

/// Symbols of a code word.
pub(super) const WORD: usize = 255;

/// What turns syndromes into parity.
#[derive(Debug)]
pub(super) struct Encoder {
    /// Row t: the weights of the syndromes in the coefficient of x^t.
    weights: Vec<Vec<u8>>,
}

/// The syndromes of many code words at once, a row for each root.
#[derive(Debug, Default)]
pub(super) struct Syndromes {
    rows: Vec<Vec<u8>>,
}

impl Syndromes {
    /// Begins with `width` empty code words.
    pub(super) fn reset(&mut self, roots: Roots, width: usize) {
        self.rows.resize(roots.count(), Vec::new());
        for row in &mut self.rows {
            row.clear();
            row.resize(width, 0);
        }
    }

    /// Takes the next symbol of each code word.
    pub(super) fn push(&mut self, symbols: &[u8]) {
        for (exponent, row) in self.rows.iter_mut().enumerate() {
            scale_and_add(row, exponent, symbols);
        }
    }

    /// The syndromes of each code word.
    pub(super) fn words(&self) -> impl Iterator<Item = Vec<u8>> {
        let width = self.rows.first().map_or(0, Vec::len);
        (0..width).map(|word| self.rows.iter().map(|row| row[word]).collect())
    }
}

impl Encoder {
    pub(super) fn new(roots: Roots) -> Self {
        let count = roots.count();
        let matrix = (0..count).map(|root| (0..count).map(|t| power(root * t)).collect());
        Self {
            weights: inverse(matrix.collect()),
        }
    }

    /// The parity of code words of which the syndromes of the message are known, with zeros in the
    /// place of parity; `parity` has the parity of each code word in one piece.
    pub(super) fn parity(&self, syndromes: &Syndromes, parity: &mut [u8]) {
        let count = self.weights.len();
        let width = parity.len() / count;
        let mut sum = vec![0; width];
        // The first symbol of the parity is that of the highest power.
        for (place, weights) in self.weights.iter().rev().enumerate() {
            sum.fill(0);
            for (weight, row) in weights.iter().zip(&syndromes.rows) {
                add_scaled(&mut sum, *weight, row);
            }
            for (word, symbol) in parity.chunks_exact_mut(count).zip(&sum) {
                word[place] = *symbol;
            }
        }
    }
}

/// The inverse of a square matrix that has one: by elimination, beside the unit matrix.
fn inverse(mut matrix: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let size = matrix.len();
    for (index, row) in matrix.iter_mut().enumerate() {
        row.resize(2 * size, 0);
        row[size + index] = 1;
    }
    for column in 0..size {
        let pivot = (column..size).find(|row| matrix[*row][column] != 0);
        matrix.swap(column, pivot.unwrap_or(column));
        let mut row = std::mem::take(&mut matrix[column]);
        let lead = row[column];
        row.iter_mut()
            .for_each(|value| *value = divide(*value, lead));
        for other in matrix.iter_mut().filter(|other| !other.is_empty()) {
            let factor = other[column];
            for (value, own) in other.iter_mut().zip(&row) {
                *value ^= multiply(factor, *own);
            }
        }
        matrix[column] = row;
    }
    matrix.into_iter().map(|row| row[size..].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_makes_all_syndromes_zero() {
        for count in Roots::ALL {
            let roots = Roots::new(count).unwrap();
            let message = WORD - roots.count();
            let symbols: Vec<[u8; 3]> = (0..message)
                .map(|index| [1, 7, 31].map(|step| u8::try_from(index * step % 256).unwrap()))
                .collect();
            let mut syndromes = Syndromes::default();
            syndromes.reset(roots, 3);
            symbols.iter().for_each(|row| syndromes.push(row));
            for _ in 0..count {
                syndromes.push(&[0; 3]);
            }
            let mut parity = vec![0; 3 * roots.count()];
            Encoder::new(roots).parity(&syndromes, &mut parity);
            syndromes.reset(roots, 3);
            symbols.iter().for_each(|row| syndromes.push(row));
            for place in 0..roots.count() {
                let row = [0, 1, 2].map(|word| parity[word * roots.count() + place]);
                syndromes.push(&row);
            }
            assert!(syndromes.words().flatten().all(|value| value == 0));
            assert!(parity.iter().any(|value| *value != 0));
        }
    }
}
