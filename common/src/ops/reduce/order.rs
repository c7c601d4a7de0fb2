//! Median and percentiles of entries that are there as a whole.
//!
//! Columns of up to [`NETWORK_MAX`] entries are sorted by a network, sixteen pixels side by side; the
//! rest, and what a network would not get right to the bit, by selection.

use crate::block::{Block, Samples};
use crate::literal::Literal;
use crate::ops::BlockCall;

/// A value by its place among the sorted valid entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    Median,
    /// In percent, 0 to 100.
    Percentile(f64),
}

impl Order {
    /// That of a plan node: its second parameter is the percentage.
    pub(super) fn of(params: &[Literal]) -> Order {
        match params {
            [_, Literal::Float(q)] => Order::Percentile(*q),
            _ => Order::Median,
        }
    }

    /// The two neighbouring ranks among `count` values, from 0, that the result lies between.
    pub(super) fn ranks(self, count: u64) -> (u64, u64) {
        let last = count.saturating_sub(1);
        match self {
            Order::Median => (last / 2, count / 2),
            Order::Percentile(q) => {
                let low = (position(q, last).floor() as u64).min(last);
                (low, (low + 1).min(last))
            }
        }
    }

    /// The result from the values at the two ranks.
    pub(super) fn value(self, (low, high): (f32, f32), count: u64) -> f32 {
        match self {
            Order::Median if count % 2 == 1 => high,
            // The mean of two is taken in single precision, as numpy takes it.
            Order::Median => (low + high) / 2.0,
            Order::Percentile(q) => {
                let position = position(q, count.saturating_sub(1));
                let part = position - position.floor();
                let (low, high) = (f64::from(low), f64::from(high));
                (low + (high - low) * part) as f32
            }
        }
    }
}

/// Where a percentile lies among values with ranks up to `last`.
fn position(q: f64, last: u64) -> f64 {
    last as f64 * q / 100.0
}

/// Pixels that a network sorts side by side.
const LANES: usize = 16;

/// The longest columns that are sorted by a network: comparisons grow faster than those of a selection.
const NETWORK_MAX: usize = 128;

/// Pixels gathered at a time for selection: their columns of values stay in the cache.
const STRIP: usize = 64;

/// Median or percentile over images or bands, as the parameters say.
pub(super) fn over(call: &BlockCall<'_>) -> Block {
    let (input, order) = (call.inputs[0], Order::of(call.params));
    let bands = input.kind().bands().unwrap_or(0) as usize;
    let images = input.kind().images().unwrap_or(1) as usize;
    let is_bands = call.params.first().and_then(Literal::as_str) == Some("bands");
    let (groups, entries, len) =
        if is_bands { (images, bands, input.pixels()) } else { (1, images, bands * input.pixels()) };
    let planes = call.facts.kind.planes() * input.pixels();
    let (mut out, mut valid) = (vec![0.0f32; planes], vec![0u8; planes]);
    if len > 0 {
        for (group, (out, valid)) in
            out.chunks_exact_mut(len).zip(valid.chunks_exact_mut(len)).enumerate().take(groups)
        {
            let range = group * entries * len..(group + 1) * entries * len;
            let ok = &input.valid()[range.clone()];
            match input.samples() {
                Samples::F32(values) => columns(order, (&values[range], ok), (out, valid), |v| v),
                Samples::Bool(values) => columns(order, (&values[range], ok), (out, valid), f32::from),
            }
        }
    }
    Block::new(call.facts.kind, input.shape(), Samples::F32(out), valid)
}

/// Bytes held while columns of so many entries are sorted: the columns, or a network and its rows.
pub(super) fn scratch_bytes(entries: u32) -> u64 {
    /// Of a network: it has at most fourteen comparisons for each of 128 entries, in a list that doubles.
    const ENTRY_BYTES: u64 = 2 * 14 * 16 + 4 * LANES as u64;
    u64::from(entries) * ENTRY_BYTES.max(4 * STRIP as u64)
}

/// Reduces `[entry][pixel]` to `[pixel]`.
fn columns<T: Copy>(
    order: Order,
    input: (&[T], &[u8]),
    (out, valid): (&mut [f32], &mut [u8]),
    number: impl Fn(T) -> f32 + Copy,
) {
    let entries = input.0.len() / out.len();
    if entries <= NETWORK_MAX {
        by_network(order, input, (out, valid), number);
    } else {
        by_selection(order, input, (out, valid), number);
    }
}

fn by_selection<T: Copy>(
    order: Order,
    (values, ok): (&[T], &[u8]),
    (out, valid): (&mut [f32], &mut [u8]),
    number: impl Fn(T) -> f32,
) {
    let len = out.len();
    let entries = values.len() / len;
    let mut columns = vec![0.0f32; STRIP * entries];
    for start in (0..len).step_by(STRIP) {
        let width = STRIP.min(len - start);
        let mut counts = [0usize; STRIP];
        for entry in 0..entries {
            let at = entry * len + start;
            for (pixel, (value, ok)) in values[at..at + width].iter().zip(&ok[at..]).enumerate() {
                if *ok != 0 {
                    columns[pixel * entries + counts[pixel]] = number(*value);
                    counts[pixel] += 1;
                }
            }
        }
        for (pixel, count) in counts[..width].iter().enumerate() {
            if *count > 0 {
                out[start + pixel] = select(order, &mut columns[pixel * entries..][..*count]);
                valid[start + pixel] = 1;
            }
        }
    }
}

/// The result of at least one value; a NaN among them makes it NaN.
pub(super) fn select(order: Order, values: &mut [f32]) -> f32 {
    if values.iter().any(|value| value.is_nan()) {
        return f32::NAN;
    }
    let count = values.len() as u64;
    let (low, high) = order.ranks(count);
    let (_, low_value, above) = values.select_nth_unstable_by(low as usize, f32::total_cmp);
    let low_value = *low_value;
    let next = above.iter().copied().min_by(f32::total_cmp);
    order.value((low_value, next.filter(|_| high > low).unwrap_or(low_value)), count)
}

fn by_network<T: Copy>(
    order: Order,
    (values, ok): (&[T], &[u8]),
    (out, valid): (&mut [f32], &mut [u8]),
    number: impl Fn(T) -> f32 + Copy,
) {
    let len = out.len();
    let entries = values.len() / len;
    let network = network(entries);
    let mut rows = vec![[f32::INFINITY; LANES]; entries];
    let mut column = Vec::with_capacity(entries);
    for start in (0..len).step_by(LANES) {
        let width = LANES.min(len - start);
        let mut counts = [0u32; LANES];
        let mut by_hand = [false; LANES];
        for (entry, row) in rows.iter_mut().enumerate() {
            let at = entry * len + start;
            let (values, ok) = (&values[at..at + width], &ok[at..at + width]);
            if width < LANES {
                *row = [f32::INFINITY; LANES];
            }
            let lanes = row.iter_mut().zip(&mut counts).zip(&mut by_hand);
            for (((lane, count), by_hand), (value, ok)) in lanes.zip(values.iter().zip(ok)) {
                let value = number(*value);
                // What is invalid sorts to the end; infinite entries look no different there.
                *lane = if *ok != 0 { value } else { f32::INFINITY };
                *count += u32::from(*ok);
                // Comparisons know no order of NaN, and none of -0 and 0.
                *by_hand |= (*ok != 0) & (value.is_nan() | (value.to_bits() == (-0.0f32).to_bits()));
            }
        }
        for &(low, high) in &network {
            let (front, back) = rows.split_at_mut(high);
            for (a, b) in front[low].iter_mut().zip(&mut back[0]) {
                let is_sorted = *a < *b;
                (*a, *b) = (if is_sorted { *a } else { *b }, if is_sorted { *b } else { *a });
            }
        }
        for lane in 0..width {
            let count = u64::from(counts[lane]);
            if count == 0 {
                continue;
            }
            valid[start + lane] = 1;
            out[start + lane] = if by_hand[lane] {
                let pixels = (0..entries).map(|entry| entry * len + start + lane);
                column.clear();
                column.extend(pixels.filter(|at| ok[*at] != 0).map(|at| number(values[at])));
                select(order, &mut column)
            } else {
                let (low, high) = order.ranks(count);
                order.value((rows[low as usize][lane], rows[high as usize][lane]), count)
            };
        }
    }
}

/// Comparisons that sort so many values: Batcher's odd-even merge (1968), as Knuth gives it for any
/// number (The Art of Computer Programming 3, 5.2.2, algorithm M).
fn network(len: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let top = len.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            pairs.extend((0..len.saturating_sub(d)).filter(|i| i & p == r).map(|i| (i, i + d)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn median(values: &[f32]) -> f32 {
        select(Order::Median, &mut values.to_vec())
    }

    fn percentile(q: f64, values: &[f32]) -> f32 {
        select(Order::Percentile(q), &mut values.to_vec())
    }

    #[test]
    fn medians_of_even_counts_lie_between_the_middle_two() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[9.0, -1.0, 5.0]), 5.0);
        assert_eq!(median(&[f32::INFINITY, 1.0, 2.0, 0.0]), 1.5);
        assert!(median(&[1.0, f32::NAN, 2.0]).is_nan());
    }

    #[test]
    fn percentiles_are_linear_between_entries() {
        // numpy.percentile([1, 2, 4, 8], q)
        for (q, expected) in [(0.0, 1.0), (25.0, 1.75), (50.0, 3.0), (90.0, 6.8), (100.0, 8.0)] {
            assert_eq!(percentile(q, &[8.0, 1.0, 4.0, 2.0]), expected, "{q}");
        }
        // As numpy: an infinite neighbour makes NaN even of a whole position.
        assert!(percentile(50.0, &[1.0, 2.0, f32::INFINITY]).is_nan());
        assert_eq!(percentile(50.0, &[1.0, 2.0, 3.0, 9.0, f32::INFINITY]), 3.0);
        assert!(percentile(0.0, &[1.0, f32::NAN]).is_nan());
    }

    /// The zero-one principle: a network that sorts every sequence of zeros and ones sorts everything.
    #[test]
    fn networks_sort() {
        for len in 0..=14 {
            let network = network(len);
            for bits in 0u32..1 << len {
                let mut values: Vec<u32> = (0..len).map(|at| bits >> at & 1).collect();
                for &(low, high) in &network {
                    if values[low] > values[high] {
                        values.swap(low, high);
                    }
                }
                assert!(values.is_sorted(), "{len} {bits:b}");
            }
        }
    }

    proptest! {
        #[test]
        fn network_and_selection_agree_to_the_bit(
            entries in 1usize..40,
            len in 1usize..40,
            q in prop_oneof![Just(None), (0.0..=100.0).prop_map(Some), Just(Some(50.0)), Just(Some(100.0))],
            seed in proptest::collection::vec((0usize..12, 0u8..4), 40 * 40),
        ) {
            let known =
                [0.0, -0.0, 1.0, -1.0, 2.5, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 7.0, f32::NAN];
            // One NaN among many, or nearly every column has one.
            let rare = |at: usize| if known[at].is_nan() && entries % 3 > 0 { 3.0 } else { known[at] };
            let values: Vec<f32> = seed[..entries * len].iter().map(|(at, _)| rare(*at)).collect();
            let ok: Vec<u8> = seed[..entries * len].iter().map(|(_, ok)| u8::from(*ok > 0)).collect();
            let order = q.map_or(Order::Median, Order::Percentile);
            let run = |way: &dyn Fn(&mut [f32], &mut [u8])| {
                let (mut out, mut valid) = (vec![0.0f32; len], vec![0u8; len]);
                way(&mut out, &mut valid);
                let canonical = |v: &f32| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() };
                (out.iter().map(canonical).collect::<Vec<_>>(), valid)
            };
            let network = run(&|out, valid| by_network(order, (&values, &ok), (out, valid), |v| v));
            let selection = run(&|out, valid| by_selection(order, (&values, &ok), (out, valid), |v| v));
            prop_assert_eq!(network, selection);
        }
    }
}
