//! From syndromes to what is wrong in a code word, by Berlekamp and Massey, Chien and Forney. Pure.
//!
//! A code word with r roots says where up to r/2 symbols are wrong, or puts up to r right whose places
//! are known (erasures), or of each kind so many that twice the first and the second are r together.

use super::code::WORD;
use super::field::{divide, multiply, power};

/// A symbol that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Correction {
    /// Which, from the first of the message.
    pub(super) symbol: usize,
    /// What is to be added to it.
    pub(super) value: u8,
}

/// What makes all syndromes zero; `None` where too much is wrong.
///
/// With too much wrong it may also find something else than what was there: only a digest can tell.
pub(super) fn corrections(syndromes: &[u8], erasures: &[usize]) -> Option<Vec<Correction>> {
    if syndromes.iter().all(|value| *value == 0) {
        return Some(Vec::new());
    }
    if erasures.len() > syndromes.len() {
        return None;
    }
    let locator = locator(syndromes, erasures)?;
    let places = places(&locator)?;
    let evaluator = evaluator(syndromes, &locator);
    let found = places.into_iter().map(|symbol| {
        let value = value(symbol, &locator, &evaluator);
        Correction { symbol, value }
    });
    let found: Vec<_> = found.filter(|found| found.value != 0).collect();
    explains(&found, syndromes).then_some(found)
}

/// The logarithm of the locator of a symbol: the power of x that it belongs to.
fn degree(symbol: usize) -> usize {
    WORD - 1 - symbol
}

/// The polynomial (lowest power first) that is zero at the inverse of each wrong symbol's locator.
fn locator(syndromes: &[u8], erasures: &[usize]) -> Option<Vec<u8>> {
    let mut current = vec![0; syndromes.len() + 1];
    current[0] = 1;
    for (count, symbol) in erasures.iter().enumerate() {
        let root = power(degree(*symbol));
        for index in (0..=count).rev() {
            current[index + 1] ^= multiply(current[index], root);
        }
    }
    let known = erasures.len();
    let mut length = known;
    let mut previous = current.clone();
    for step in known..syndromes.len() {
        previous.rotate_right(1);
        previous[0] = 0;
        let terms = current.iter().zip(syndromes[..=step].iter().rev());
        let wrong = terms.fold(0, |sum, (a, b)| sum ^ multiply(*a, *b));
        if wrong == 0 {
            continue;
        }
        let next = current.iter().zip(&previous);
        let next = next.map(|(a, b)| a ^ multiply(wrong, *b)).collect();
        if 2 * length <= step + known {
            length = step + 1 + known - length;
            previous = current.iter().map(|a| divide(*a, wrong)).collect();
        }
        current = next;
    }
    let degree = current.iter().rposition(|value| *value != 0)?;
    current.truncate(degree + 1);
    (degree == length).then_some(current)
}

/// The symbols whose locators the polynomial has; `None` if there are fewer than its degree.
fn places(locator: &[u8]) -> Option<Vec<usize>> {
    // The inverse of the locator of symbol s is α^(s + 1).
    let is_root = |symbol: &usize| at(locator, symbol + 1) == 0;
    let places: Vec<_> = (0..WORD).filter(is_root).collect();
    (places.len() + 1 == locator.len()).then_some(places)
}

/// The value of a polynomial at α^`exponent`.
fn at(polynomial: &[u8], exponent: usize) -> u8 {
    let x = power(exponent);
    let highest_first = polynomial.iter().rev();
    highest_first.fold(0, |sum, factor| multiply(sum, x) ^ factor)
}

fn evaluator(syndromes: &[u8], locator: &[u8]) -> Vec<u8> {
    let product = |degree: usize| {
        let terms = locator.iter().zip(syndromes[..=degree].iter().rev());
        terms.fold(0, |sum, (a, b)| sum ^ multiply(*a, *b))
    };
    (0..syndromes.len()).map(product).collect()
}

fn value(symbol: usize, locator: &[u8], evaluator: &[u8]) -> u8 {
    let inverse = symbol + 1;
    // In a field of characteristic 2, of the derivative only the odd powers are left.
    let odd = locator.iter().enumerate().skip(1).step_by(2);
    let derivative = odd.fold(0, |sum, (exponent, factor)| {
        sum ^ multiply(*factor, power(inverse * (exponent - 1)))
    });
    if derivative == 0 {
        return 0;
    }
    let quotient = divide(at(evaluator, inverse), derivative);
    multiply(quotient, power(degree(symbol)))
}

fn explains(found: &[Correction], syndromes: &[u8]) -> bool {
    syndromes.iter().enumerate().all(|(root, syndrome)| {
        let part = |one: &Correction| multiply(one.value, power(degree(one.symbol) * root));
        found.iter().fold(0, |sum, one| sum ^ part(one)) == *syndrome
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn syndromes(wrong: &[Correction], roots: usize) -> Vec<u8> {
        let at_root = |root: usize| {
            wrong.iter().fold(0, |sum, one| {
                sum ^ multiply(one.value, power(degree(one.symbol) * root))
            })
        };
        (0..roots).map(at_root).collect()
    }

    #[test]
    fn one_wrong_symbol_is_found_with_two_roots() {
        for symbol in [0, 1, 100, 252, 253, 254] {
            let wrong = Correction { symbol, value: 7 };
            let found = corrections(&syndromes(&[wrong], 2), &[]);
            assert_eq!(found, Some(vec![wrong]));
        }
        assert_eq!(corrections(&[0, 0], &[]), Some(vec![]));
        assert_eq!(
            corrections(&[0, 1], &[]),
            None,
            "no single symbol does this"
        );
        assert_eq!(corrections(&[1, 1], &[1, 2, 3]), None);
    }

    proptest! {
        #[test]
        fn as_much_is_put_right_as_the_roots_allow(
            roots in 2_usize..=24,
            wrong in btree_map(0_usize..WORD, 1_u8..=255, 0..=24),
            known in 0_usize..=24,
        ) {
            let known = known.min(roots);
            let wrong: Vec<_> = wrong.into_iter()
                .map(|(symbol, value)| Correction { symbol, value })
                .take(known + (roots - known) / 2)
                .collect();
            let erasures: Vec<_> = wrong.iter().map(|one| one.symbol).take(known).collect();
            prop_assert_eq!(corrections(&syndromes(&wrong, roots), &erasures), Some(wrong));
        }

        #[test]
        fn anything_is_survived(
            syndromes in vec(any::<u8>(), 2..=24),
            erasures in proptest::collection::btree_set(0_usize..WORD, 0..30),
        ) {
            let erasures: Vec<_> = erasures.into_iter().collect();
            if let Some(found) = corrections(&syndromes, &erasures) {
                prop_assert!(explains(&found, &syndromes));
            }
        }
    }
}
