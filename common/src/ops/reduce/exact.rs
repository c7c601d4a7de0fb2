//! Exact sums of single-precision numbers and of their squares, and what follows from them, rounded once.
//!
//! Every finite float32 is a whole number of units of 2^-149, every square one of 2^-298. Sums of them are
//! long whole numbers (Kulisch's accumulator): their addition has no order and no rounding.

use super::fold::numbers;
use super::pixels::{Bytes, Record};
use crate::ops::Values;

/// Exponents of the units.
const UNIT: i32 = -149;
const SQUARE_UNIT: i32 = 2 * UNIT;

/// Words of a sum and of a sum of squares: 277 and 554 bits for one value, a sign, and 42 bits for how
/// many are added.
const SUM_WORDS: usize = 5;
const SQUARE_WORDS: usize = 10;

/// The most values that the words have room for: four times as many as a grid of the largest sides has.
const VALUES_MAX: u64 = 1 << 42;

/// A long whole number in two's complement, least significant word first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Long<const N: usize>([u64; N]);

impl<const N: usize> Long<N> {
    const ZERO: Self = Long([0; N]);

    /// Adds a number times 2^shift.
    fn add_shifted(&mut self, value: i128, shift: u32) {
        let (skipped, shift) = ((shift / 64) as usize, shift % 64);
        let sign = (value >> 127) as u64;
        let words = [value as u64, (value >> 64) as u64];
        let word = |at: usize| words.get(at).copied().unwrap_or(sign);
        let mut carry = false;
        for (at, sum) in self.0[skipped..].iter_mut().enumerate() {
            let below = if at == 0 || shift == 0 { 0 } else { word(at - 1) >> (64 - shift) };
            let (total, first) = sum.overflowing_add(word(at) << shift | below);
            let (total, second) = total.overflowing_add(u64::from(carry));
            (*sum, carry) = (total, first | second);
        }
    }

    fn add(&mut self, other: &Self) {
        let mut carry = false;
        for (sum, word) in self.0.iter_mut().zip(&other.0) {
            let (total, first) = sum.overflowing_add(*word);
            let (total, second) = total.overflowing_add(u64::from(carry));
            (*sum, carry) = (total, first | second);
        }
    }

    fn is_negative(&self) -> bool {
        self.0[N - 1] >> 63 == 1
    }

    fn magnitude(&self) -> Vec<u64> {
        if !self.is_negative() {
            return self.0.to_vec();
        }
        let mut inverse = Long(self.0.map(|word| !word));
        inverse.add_shifted(1, 0);
        inverse.0.to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|word| out.extend(word.to_le_bytes()));
    }

    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let mut words = [0; N];
        for word in &mut words {
            *word = bytes.u64()?;
        }
        Some(Long(words))
    }
}

/// The exact sum of the valid entries; where `SQUARES` is, of their squares too.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sums<const SQUARES: bool> {
    finite: u64,
    nans: u64,
    /// Infinite entries, below and above.
    infinite: [u64; 2],
    sum: Long<SUM_WORDS>,
    squares: Long<SQUARE_WORDS>,
}

impl<const SQUARES: bool> Record for Sums<SQUARES> {
    const LETTER: u8 = if SQUARES { b'v' } else { b's' };
    const BYTES: usize = 32 + 8 * SUM_WORDS + if SQUARES { 8 * SQUARE_WORDS } else { 0 };
    const NONE: Self = Sums { finite: 0, nans: 0, infinite: [0; 2], sum: Long::ZERO, squares: Long::ZERO };

    fn of(values: Values<'_>, valid: &[u8]) -> Self {
        // Mantissas have 24 bits: 2^39 of them fit into a bin, more than memory holds.
        let mut bins = [0i64; 256];
        let mut squares = [0i128; 256];
        let mut counts = [0u64; 256];
        let mut of = Self::NONE;
        numbers(values, |at, values| {
            for (value, ok) in values.iter().zip(&valid[at..]) {
                if *ok == 0 {
                    continue;
                }
                let bits = value.to_bits();
                let exponent = (bits >> 23 & 0xff) as usize;
                if exponent == 255 {
                    match bits & 0x7f_ffff {
                        0 => of.infinite[usize::from(bits >> 31 == 0)] += 1,
                        _ => of.nans += 1,
                    }
                    continue;
                }
                let mantissa = i64::from(bits & 0x7f_ffff | u32::from(exponent > 0) << 23);
                bins[exponent] += if bits >> 31 == 1 { -mantissa } else { mantissa };
                counts[exponent] += 1;
                if SQUARES {
                    squares[exponent] += i128::from(mantissa * mantissa);
                }
            }
        });
        for (exponent, count) in (0u32..).zip(&counts).filter(|(_, count)| **count > 0) {
            // Subnormal numbers have the unit of the smallest normal ones.
            let shift = exponent.max(1) - 1;
            of.finite += count;
            of.sum.add_shifted(bins[exponent as usize].into(), shift);
            if SQUARES {
                of.squares.add_shifted(squares[exponent as usize], 2 * shift);
            }
        }
        of
    }

    fn write(&self, out: &mut Vec<u8>) {
        let [below, above] = self.infinite;
        [self.finite, self.nans, below, above].iter().for_each(|count| out.extend(count.to_le_bytes()));
        self.sum.write(out);
        if SQUARES {
            self.squares.write(out);
        }
    }

    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let (finite, nans, infinite) = (bytes.u64()?, bytes.u64()?, [bytes.u64()?, bytes.u64()?]);
        let sum = Long::read(bytes)?;
        let squares = if SQUARES { Long::read(bytes)? } else { Long::ZERO };
        // Sums of so many values; none of none.
        let bits = |value: u32| if finite == 0 { 0 } else { value + finite.ilog2() + 1 };
        let fits = finite <= VALUES_MAX
            && length(&sum.magnitude()) <= bits(277)
            && !squares.is_negative()
            && length(&squares.0) <= bits(554);
        fits.then_some(Sums { finite, nans, infinite, sum, squares })
    }

    fn merge(&mut self, other: &Self) -> Option<()> {
        self.finite = self.finite.checked_add(other.finite).filter(|finite| *finite <= VALUES_MAX)?;
        self.nans = self.nans.checked_add(other.nans)?;
        for (count, other) in self.infinite.iter_mut().zip(other.infinite) {
            *count = count.checked_add(other)?;
        }
        self.sum.add(&other.sum);
        self.squares.add(&other.squares);
        Some(())
    }
}

impl<const SQUARES: bool> Sums<SQUARES> {
    /// How many entries; `None` where some are not finite.
    fn all_finite(&self) -> Option<u64> {
        (self.nans == 0 && self.infinite == [0; 2]).then_some(self.finite)
    }

    /// Sum of the valid entries.
    pub(super) fn sum(&self) -> Option<f32> {
        match (self.nans, self.infinite) {
            (0, [0, 0]) if self.finite == 0 => None,
            (0, [0, 0]) => Some(self.signed(round(&self.sum.magnitude(), false, UNIT))),
            (0, [0, _]) => Some(f32::INFINITY),
            (0, [_, 0]) => Some(f32::NEG_INFINITY),
            _ => Some(f32::NAN),
        }
    }

    /// Mean of the valid entries, where all are finite.
    pub(super) fn mean(&self) -> Option<f32> {
        let count = self.all_finite().filter(|count| *count > 0)?;
        let quotient = divide(&shifted(&self.sum.magnitude(), 2), count);
        Some(self.signed(round(&quotient, false, UNIT - 128)))
    }

    fn signed(&self, magnitude: f32) -> f32 {
        if self.sum.is_negative() { -magnitude } else { magnitude }
    }
}

impl Sums<true> {
    /// Variance of the population, where all entries are finite and it is.
    pub(super) fn var(&self) -> Option<f32> {
        Some(round(&self.variance()?, false, VARIANCE_UNIT)).filter(|var| var.is_finite())
    }

    /// Its root.
    pub(super) fn std(&self) -> Option<f32> {
        let variance = self.variance()?;
        // The root of the uppermost 126 or 127 bits has 63 or 64: more than twice what is rounded to.
        let dropped = length(&variance).saturating_sub(126) & !1;
        let (top, low) = split(&variance, dropped);
        let root = top.isqrt();
        let has_rest = low || root * root != top;
        let root = [root as u64, (root >> 64) as u64];
        Some(round(&root, has_rest, (VARIANCE_UNIT + dropped as i32) / 2)).filter(|std| std.is_finite())
    }

    /// The variance in [`VARIANCE_UNIT`]s, rounded down.
    fn variance(&self) -> Option<Vec<u64>> {
        let count = self.all_finite().filter(|count| *count > 0)?;
        // n Σx² - (Σx)² over n²; never negative, but for what no pixels give.
        let sum = self.sum.magnitude();
        let scaled = subtract(multiply(&self.squares.0, &[count]), &multiply(&sum, &sum));
        Some(divide(&divide(&shifted(&scaled, 4), count), count))
    }
}

/// Four words of binary places below the unit of squares: after the division by n² a variance that is not
/// 0 keeps more than 170 bits.
const VARIANCE_UNIT: i32 = SQUARE_UNIT - 256;

/// Number of bits of a whole number.
fn length(words: &[u64]) -> u32 {
    let top = words.iter().rposition(|word| *word != 0);
    top.map_or(0, |at| 64 * at as u32 + 64 - words[at].leading_zeros())
}

/// A number times 2^(64 · words).
fn shifted(number: &[u64], words: usize) -> Vec<u64> {
    [&vec![0; words][..], number].concat()
}

fn multiply(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut product = vec![0u64; a.len() + b.len()];
    for (at, a) in a.iter().enumerate() {
        let mut carry = 0u128;
        for (word, b) in product[at..].iter_mut().zip(b.iter().chain(&[0])) {
            carry += u128::from(*word) + u128::from(*a) * u128::from(*b);
            *word = carry as u64;
            carry >>= 64;
        }
    }
    product
}

/// The difference; 0 where it is negative.
fn subtract(mut a: Vec<u64>, b: &[u64]) -> Vec<u64> {
    a.resize(a.len().max(b.len()), 0);
    let mut borrow = false;
    for (a, b) in a.iter_mut().zip(b.iter().chain(std::iter::repeat(&0))) {
        let (less, first) = a.overflowing_sub(*b);
        let (less, second) = less.overflowing_sub(u64::from(borrow));
        (*a, borrow) = (less, first | second);
    }
    if borrow { Vec::new() } else { a }
}

/// The quotient, rounded down.
///
/// Before a division by n or n² numbers get so many binary places that its rest cannot matter: what is not
/// exactly half-way between two results is at least one part in n or n² of a unit away, and that is more
/// than the lowest place.
fn divide(number: &[u64], divisor: u64) -> Vec<u64> {
    let mut quotient = number.to_vec();
    let mut rest = 0u64;
    for word in quotient.iter_mut().rev() {
        let number = u128::from(rest) << 64 | u128::from(*word);
        *word = (number / u128::from(divisor)) as u64;
        rest = (number % u128::from(divisor)) as u64;
    }
    quotient
}

/// The number without its lowest bits, which must leave at most 128, and whether any of them was set.
fn split(number: &[u64], dropped: u32) -> (u128, bool) {
    let (skipped, shift) = ((dropped / 64) as usize, dropped % 64);
    let word = |at: usize| u128::from(number.get(skipped + at).copied().unwrap_or(0));
    let low = word(0) | word(1) << 64;
    let top = if shift == 0 { low } else { low >> shift | word(2) << (128 - shift) };
    let below = number.iter().take(skipped).any(|word| *word != 0);
    (top, below || word(0) & ((1 << shift) - 1) != 0)
}

/// The number times 2^exponent, correctly rounded. `has_rest`: a little more than the number, which then
/// must have more bits than are kept.
fn round(number: &[u64], has_rest: bool, exponent: i32) -> f32 {
    let bits = length(number) as i32;
    // Exponent of the lowest bit that is kept: 24 bits, fewer where the result is subnormal.
    let lowest = (bits + exponent - 24).max(UNIT);
    let kept = match u32::try_from(lowest - exponent) {
        Err(_) | Ok(0) => u128::from(number.first().copied().unwrap_or(0)) << (exponent - lowest),
        Ok(dropped) if dropped as i32 > bits => 0,
        Ok(dropped) => {
            let (doubled, below) = split(number, dropped - 1);
            let (kept, is_half) = (doubled >> 1, doubled & 1 == 1);
            kept + u128::from(is_half && (below || has_rest || kept & 1 == 1))
        }
    };
    // At most 2^24 times a power of two that double precision has: exact, up to the overflow of float32.
    let power = f64::from_bits(((lowest + 1023) as u64) << 52);
    (kept as f64 * power) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One value whose square is not one: the root lies a 2^-450th beside the middle of two results.
    #[test]
    fn roots_just_beside_a_middle_are_rounded_from_the_side_they_are_on() {
        let middle = (1i128 << 24) + 1;
        let root = |beside: i128| {
            let mut sums = Sums::<true> { finite: 1, ..Sums::NONE };
            sums.squares.add_shifted(middle * middle, 400);
            sums.squares.add_shifted(beside, 0);
            sums.std().map(f64::from)
        };
        let unit = f64::from(200 + UNIT).exp2();
        assert_eq!(root(-1), Some((1 << 24) as f64 * unit));
        // Half-way: to even.
        assert_eq!(root(0), Some((1 << 24) as f64 * unit));
        assert_eq!(root(1), Some(((1 << 24) + 2) as f64 * unit));
    }

    #[test]
    fn long_numbers_carry_through_every_word() {
        let mut long = Long::<3>::ZERO;
        long.add_shifted(-1, 0);
        assert_eq!((long, long.magnitude()), (Long([u64::MAX; 3]), vec![1, 0, 0]));
        long.add_shifted(1, 0);
        assert_eq!(long, Long::ZERO);
        long.add_shifted(-3, 127);
        assert_eq!(long.magnitude(), [0, 1 << 63, 1]);
        long.add(&Long([0, 1 << 63, 1]));
        assert_eq!(long, Long::ZERO);
    }
}
