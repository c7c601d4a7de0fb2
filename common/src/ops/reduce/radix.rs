//! Median and percentiles over pixels: radix selection of the two ranks that a result lies between.
//!
//! Numbers are keys of four bytes with the same order. A round counts, for each plane, the next byte of the
//! keys that begin as the wanted ones do; after four rounds, over the same tiles, the keys are known.

use super::order::Order;
use super::pixels::{Bytes, head, key, of_key, planes, result};
use crate::block::{Block, DType, Kind};
use crate::literal::Literal;
use crate::ops::{Facts, OverPixels, PixelsKernel, Values};

/// Median or percentile, as the parameters say. Truth values need one round: their key is one byte.
pub(super) const KERNEL: PixelsKernel = PixelsKernel {
    start: |params, facts| Box::new(Radix::new(Order::of(params), facts)),
    collect,
    rounds: ROUNDS,
    plane_bytes: PLANE_BYTES,
};

const ROUNDS: u32 = 4;
const LETTER: u8 = b'o';
const BINS: usize = 256;

/// Two histograms of all bins, each a byte and a count of up to six, in a vector that grows by doubling.
const PLANE_BYTES: u64 = 2 * 2 * (2 + BINS as u64 * 7);

/// First bytes of the keys that are looked for in a plane: of the lower rank, and of the upper one where
/// they are others.
type Prefixes = [Option<u32>; 2];

struct Radix {
    kind: Kind,
    dtype: DType,
    order: Order,
    round: u32,
    planes: Vec<Plane>,
}

#[derive(Clone, Default)]
struct Plane {
    /// Valid entries and, among them, NaN: known after the first round.
    count: u64,
    nans: u64,
    /// Prefixes of both ranks, and their ranks among the keys that begin so.
    ranks: [(u32, u64); 2],
    /// How many keys begin with each prefix.
    keys: [u64; 2],
    /// Whether the keys are looked for: not where nothing is valid or something is NaN.
    is_open: bool,
    /// The histograms of this round.
    bins: [Vec<u64>; 2],
}

impl Plane {
    fn prefixes(&self) -> Prefixes {
        match self.ranks {
            _ if !self.is_open => [None, None],
            [(low, _), (high, _)] if low == high => [Some(low), None],
            [(low, _), (high, _)] => [Some(low), Some(high)],
        }
    }
}

impl Radix {
    fn new(order: Order, facts: Facts) -> Radix {
        let plane = Plane { is_open: true, ..Plane::default() };
        let planes = vec![plane; facts.kind.planes()];
        Radix { kind: facts.kind, dtype: facts.dtype, order, round: 0, planes }
    }
}

impl OverPixels for Radix {
    fn round(&self) -> Literal {
        let int = |prefix: Option<u32>| Literal::Int(prefix.map_or(-1, i64::from));
        let prefixes = self.planes.iter().flat_map(|plane| plane.prefixes().map(int));
        Literal::List(std::iter::once(Literal::Int(self.round.into())).chain(prefixes).collect())
    }

    fn merge(&mut self, partial: &[u8]) -> Result<(), String> {
        let mut bytes = Bytes(partial);
        bytes.head(LETTER, self.round as u8, self.planes.len())?;
        // Read as a whole before anything is added.
        let mut counted = Vec::with_capacity(self.planes.len());
        for plane in &self.planes {
            let read = read(&mut bytes, plane.prefixes());
            counted.push(read.ok_or_else(|| String::from("a histogram that no pixels give"))?);
        }
        bytes.end()?;
        let overflows = |plane: &Plane, Counted { nans, bins }: &Counted| {
            let mut sums = plane.bins.iter().zip(bins).flat_map(|(sums, bins)| {
                bins.iter().map(|(bin, count)| (sums.get(usize::from(*bin)).copied().unwrap_or(0), *count))
            });
            // Far more than a grid has; what is below adds up without overflow.
            nans + plane.nans > VALUES_MAX || sums.any(|(sum, count)| sum + count > VALUES_MAX)
        };
        if self.planes.iter().zip(&counted).any(|(plane, counted)| overflows(plane, counted)) {
            return Err("more pixels than a grid has".into());
        }
        for (plane, Counted { nans, bins }) in self.planes.iter_mut().zip(counted) {
            if self.round == 0 {
                plane.nans += nans;
            }
            for (sums, bins) in plane.bins.iter_mut().zip(bins).filter(|(_, bins)| !bins.is_empty()) {
                sums.resize(BINS, 0);
                bins.into_iter().for_each(|(bin, count)| sums[usize::from(bin)] += count);
            }
        }
        Ok(())
    }

    fn end_round(&mut self) -> Result<Option<Block>, String> {
        for plane in &mut self.planes {
            let bins = std::mem::take(&mut plane.bins);
            if self.round == 0 {
                plane.count = bins[0].iter().sum();
                plane.is_open = plane.count > 0 && plane.nans == 0;
                let (low, high) = self.order.ranks(plane.count);
                plane.ranks = [(0, low), (0, high)];
            }
            if !plane.is_open {
                continue;
            }
            // Where both ranks begin alike, one histogram serves for both.
            let upper = if plane.prefixes()[1].is_none() { 0 } else { 1 };
            let ranks = plane.ranks.iter_mut().zip(&mut plane.keys).zip([&bins[0], &bins[upper]]);
            for (((prefix, rank), keys), bins) in ranks {
                if self.round > 0 && bins.iter().sum::<u64>() != *keys {
                    return Err("a source gave other pixels than in the round before; try again".into());
                }
                let mut bin = 0;
                for (at, count) in (0u32..).zip(bins).filter(|(_, count)| **count > 0) {
                    (bin, *keys) = (at, *count);
                    if *rank < *count {
                        break;
                    }
                    *rank -= count;
                }
                *prefix = *prefix << 8 | bin;
            }
        }
        self.round += 1;
        let rounds = if self.dtype == DType::Bool { 1 } else { ROUNDS };
        if self.round < rounds && self.planes.iter().any(|plane| plane.is_open) {
            return Ok(None);
        }
        let value = |prefix: u32| match self.dtype {
            DType::F32 => of_key(prefix),
            DType::Bool => prefix as f32,
        };
        let of_plane = |plane: &Plane| match plane {
            Plane { is_open: true, ranks: [(low, _), (high, _)], count, .. } => {
                Some(self.order.value((value(*low), value(*high)), *count))
            }
            Plane { nans: 1.., .. } => Some(f32::NAN),
            Plane { .. } => None,
        };
        Ok(Some(result(self.kind, DType::F32, self.planes.iter().map(of_plane))))
    }
}

/// The most entries of a plane, well above what a grid of the largest sides has.
const VALUES_MAX: u64 = 1 << 48;

fn collect(_: &[Literal], round: &Literal, block: &Block) -> Vec<u8> {
    let items = match round {
        Literal::List(items) => &items[..],
        _ => &[],
    };
    // A prefix that is none is looked for nowhere.
    let prefix = |at: usize| items.get(at).and_then(Literal::as_int).and_then(|p| u32::try_from(p).ok());
    let round = prefix(0).unwrap_or(0).min(ROUNDS - 1);
    let mut out = Vec::new();
    head(&mut out, LETTER, round as u8, block.kind().planes());
    let mut bins = [[0u64; BINS]; 2];
    for (plane, (values, valid)) in planes(block).enumerate() {
        let prefixes = [prefix(1 + 2 * plane), prefix(2 + 2 * plane)];
        let mut nans = 0;
        let mut count = |key: u32| {
            let (above, byte) = (u64::from(key) >> (32 - 8 * round), key >> (24 - 8 * round) & 0xff);
            for (bins, prefix) in bins.iter_mut().zip(prefixes) {
                bins[byte as usize] += u64::from(prefix.is_some_and(|prefix| u64::from(prefix) == above));
            }
        };
        match values {
            Values::F32(values) => {
                for (value, _) in values.iter().zip(valid).filter(|(_, ok)| **ok != 0) {
                    if value.is_nan() {
                        nans += 1;
                    } else {
                        count(key(*value));
                    }
                }
            }
            Values::Bool(values) => {
                let values = values.iter().zip(valid).filter(|(_, ok)| **ok != 0);
                values.for_each(|(value, _)| count(u32::from(*value) << 24));
            }
        }
        write_number(&mut out, nans);
        for (bins, _) in bins.iter_mut().zip(prefixes).filter(|(_, prefix)| prefix.is_some()) {
            let filled = bins.iter().filter(|count| **count > 0).count();
            write_number(&mut out, filled as u64);
            for (bin, count) in (0u8..=255).zip(bins.iter_mut()).filter(|(_, count)| **count > 0) {
                out.push(bin);
                write_number(&mut out, std::mem::take(count));
            }
        }
    }
    out
}

/// What one tile counted in a plane.
struct Counted {
    nans: u64,
    /// The filled bins of both histograms, in order.
    bins: [Vec<(u8, u64)>; 2],
}

fn read(bytes: &mut Bytes<'_>, prefixes: Prefixes) -> Option<Counted> {
    let nans = read_number(bytes)?;
    let mut histograms = [Vec::new(), Vec::new()];
    for (bins, _) in histograms.iter_mut().zip(prefixes).filter(|(_, prefix)| prefix.is_some()) {
        let filled = read_number(bytes).filter(|filled| *filled <= BINS as u64)?;
        for _ in 0..filled {
            let ([bin], count) = (bytes.take()?, read_number(bytes)?);
            if count == 0 || bins.last().is_some_and(|(last, _)| *last >= bin) {
                return None;
            }
            bins.push((bin, count));
        }
    }
    Some(Counted { nans, bins: histograms })
}

/// Seven bits a byte, the lowest first; the eighth says that more follow (LEB128).
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number of at most 49 bits.
fn read_number(bytes: &mut Bytes<'_>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..49).step_by(7) {
        let [byte] = bytes.take()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // One spelling a number.
            return (byte > 0 || shift == 0).then_some(number);
        }
    }
    None
}
