//! Arithmetic of GF(2⁸) with the polynomial x⁸ + x⁴ + x³ + x² + 1 (0x11d), and of whole rows of it.
//!
//! A row holds the same symbol of many code words; what is done to one is done to all of them, in
//! loops that the compiler turns into vector instructions. Pure.

/// x⁸, reduced.
const REDUCED: u8 = 0x1d;

/// The order of the multiplicative group: α²⁵⁵ = 1.
pub(super) const ORDER: usize = 255;

struct Tables {
    /// α^i, twice over, so that sums of two logarithms need no reduction.
    powers: [u8; 2 * ORDER],
    /// The logarithm of each element but 0.
    logarithms: [u8; 256],
}

const fn tables() -> Tables {
    let mut tables = Tables {
        powers: [0; 2 * ORDER],
        logarithms: [0; 256],
    };
    let (mut power, mut value) = (0_u8, 1_u8);
    loop {
        tables.powers[power as usize] = value;
        tables.powers[power as usize + ORDER] = value;
        tables.logarithms[value as usize] = power;
        if power == 254 {
            return tables;
        }
        value = double(value);
        power += 1;
    }
}

static TABLES: Tables = tables();

/// α · x.
const fn double(x: u8) -> u8 {
    (x << 1) ^ if x & 0x80 != 0 { REDUCED } else { 0 }
}

/// α^`exponent`.
pub(super) fn power(exponent: usize) -> u8 {
    TABLES.powers[exponent % ORDER]
}

pub(super) fn multiply(a: u8, b: u8) -> u8 {
    match a == 0 || b == 0 {
        true => 0,
        false => TABLES.powers[logarithm(a) + logarithm(b)],
    }
}

/// a / b, where b is not 0.
pub(super) fn divide(a: u8, b: u8) -> u8 {
    match a == 0 {
        true => 0,
        false => TABLES.powers[logarithm(a) + ORDER - logarithm(b)],
    }
}

fn logarithm(x: u8) -> usize {
    usize::from(TABLES.logarithms[usize::from(x)])
}

/// Multiplies each element of a row by α^`exponent` and adds those of `other`.
pub(super) fn scale_and_add(row: &mut [u8], exponent: usize, other: &[u8]) {
    match exponent {
        0 => doubled_and_added::<0>(row, other),
        1 => doubled_and_added::<1>(row, other),
        2 => doubled_and_added::<2>(row, other),
        3 => doubled_and_added::<3>(row, other),
        4 => doubled_and_added::<4>(row, other),
        5 => doubled_and_added::<5>(row, other),
        6 => doubled_and_added::<6>(row, other),
        _ => {
            let factors = multiples(power(exponent));
            for (x, y) in row.iter_mut().zip(other) {
                *x = times(*x, factors) ^ y;
            }
        }
    }
}

/// Adds `factor` times the elements of `other` to those of a row.
pub(super) fn add_scaled(row: &mut [u8], factor: u8, other: &[u8]) {
    let factors = multiples(factor);
    for (x, y) in row.iter_mut().zip(other) {
        *x ^= times(*y, factors);
    }
}

fn doubled_and_added<const TIMES: usize>(row: &mut [u8], other: &[u8]) {
    for (x, y) in row.iter_mut().zip(other) {
        let mut value = *x;
        for _ in 0..TIMES {
            value = double(value);
        }
        *x = value ^ y;
    }
}

/// What each bit of an element counts when it is multiplied by `factor`.
fn multiples(factor: u8) -> [u8; 8] {
    let mut value = factor;
    std::array::from_fn(|_| {
        let this = value;
        value = double(value);
        this
    })
}

/// The product of `x` and the factor of [`multiples`].
fn times(x: u8, factors: [u8; 8]) -> u8 {
    let mut product = 0;
    for (bit, factor) in factors.into_iter().enumerate() {
        product ^= if x & (1 << bit) != 0 { factor } else { 0 };
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplication as it is defined: of polynomials, then reduced.
    fn slow(a: u8, b: u8) -> u8 {
        let mut product = (0..8).fold(0_u16, |sum, bit| {
            sum ^ if b & (1 << bit) != 0 {
                u16::from(a) << bit
            } else {
                0
            }
        });
        for bit in (8..16).rev() {
            if product & (1 << bit) != 0 {
                product ^= 0x11d << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    }

    #[test]
    fn products_are_those_of_polynomials() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), slow(a, b));
                assert_eq!(times(a, multiples(b)), slow(a, b));
                if b != 0 {
                    assert_eq!(divide(multiply(a, b), b), a);
                }
            }
        }
        assert_eq!((power(0), power(1), power(8), power(255)), (1, 2, 0x1d, 1));
    }

    #[test]
    fn rows_are_done_element_by_element() {
        let all: Vec<u8> = (0..=255).collect();
        let other: Vec<u8> = all.iter().rev().copied().collect();
        for exponent in 0..30 {
            let mut row = all.clone();
            scale_and_add(&mut row, exponent, &other);
            let mut sum = all.clone();
            add_scaled(&mut sum, power(exponent), &other);
            for (index, (x, y)) in all.iter().zip(&other).enumerate() {
                assert_eq!(row[index], multiply(*x, power(exponent)) ^ y);
                assert_eq!(sum[index], x ^ multiply(*y, power(exponent)));
            }
        }
    }
}
