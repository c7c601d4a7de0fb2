//! Reductions over all pixels of each plane: partials of tiles, merged in any order.
//!
//! A partial is a head (a letter for the family, the round, the number of planes) and a record for each
//! plane. Merging is addition of whole numbers, or taking the larger: no order and no cut of the grid
//! changes it.

use super::fold::numbers;
use crate::block::{Block, DType, Kind, Samples};
use crate::literal::Literal;
use crate::ops::{Facts, OverPixels, PixelsKernel, Values};

/// What a tile knows of one plane, and what all tiles together do.
pub(super) trait Record: Sized + Clone + Send + 'static {
    /// Letter of the family.
    const LETTER: u8;
    /// Bytes of a record.
    const BYTES: usize;
    /// Of no pixels.
    const NONE: Self;

    /// That of a plane of a tile.
    fn of(values: Values<'_>, valid: &[u8]) -> Self;

    fn write(&self, out: &mut Vec<u8>);

    /// Reads what `write` wrote; `None` for bytes that no plane gives.
    fn read(bytes: &mut Bytes<'_>) -> Option<Self>;

    /// Adds another tile's; `None` where the counts overflow.
    fn merge(&mut self, other: &Self) -> Option<()>;
}

/// The kernel of a reduction that needs one round.
pub(super) const fn kernel<R: Record>(start: fn(&[Literal], Facts) -> Box<dyn OverPixels>) -> PixelsKernel {
    PixelsKernel { start, collect: collect::<R>, rounds: 1, plane_bytes: R::BYTES as u64 }
}

/// A reduction whose result follows from the records: `finish` gives that of a plane, `None` where it is
/// invalid. Of a result of truth values, 0 is false.
pub(super) fn over<R: Record>(
    facts: Facts,
    dtype: DType,
    finish: fn(&R) -> Option<f32>,
) -> Box<dyn OverPixels> {
    let planes = vec![R::NONE; facts.kind.planes()];
    Box::new(Merged { kind: facts.kind, dtype, planes, finish })
}

struct Merged<R> {
    kind: Kind,
    dtype: DType,
    planes: Vec<R>,
    finish: fn(&R) -> Option<f32>,
}

impl<R: Record> OverPixels for Merged<R> {
    fn round(&self) -> Literal {
        Literal::Null
    }

    fn merge(&mut self, partial: &[u8]) -> Result<(), String> {
        let mut bytes = Bytes(partial);
        bytes.head(R::LETTER, 0, self.planes.len())?;
        // Read as a whole before anything is added.
        let records: Option<Vec<R>> = self.planes.iter().map(|_| R::read(&mut bytes)).collect();
        let records = records.ok_or_else(|| String::from("a record that no pixels give"))?;
        bytes.end()?;
        let mut merged = self.planes.clone();
        for (plane, record) in merged.iter_mut().zip(&records) {
            plane.merge(record).ok_or_else(|| String::from("more pixels than a grid has"))?;
        }
        self.planes = merged;
        Ok(())
    }

    fn end_round(&mut self) -> Result<Option<Block>, String> {
        Ok(Some(result(self.kind, self.dtype, self.planes.iter().map(self.finish))))
    }
}

/// The array of results for the planes of a raster.
pub(super) fn result(kind: Kind, dtype: DType, planes: impl Iterator<Item = Option<f32>>) -> Block {
    let planes: Vec<Option<f32>> = planes.collect();
    let kind = super::planes(kind).unwrap_or(Kind::Number);
    let valid = planes.iter().map(|plane| u8::from(plane.is_some())).collect();
    let values = planes.iter().map(|plane| plane.unwrap_or(0.0));
    let samples = match dtype {
        DType::F32 => Samples::F32(values.collect()),
        DType::Bool => Samples::Bool(values.map(|value| u8::from(value != 0.0)).collect()),
    };
    Block::new(kind, (1, 1), samples, valid)
}

fn collect<R: Record>(_: &[Literal], _: &Literal, block: &Block) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + R::BYTES * block.kind().planes());
    head(&mut out, R::LETTER, 0, block.kind().planes());
    planes(block).for_each(|(values, valid)| R::of(values, valid).write(&mut out));
    out
}

/// The planes of a block, in order.
pub(super) fn planes(block: &Block) -> impl Iterator<Item = (Values<'_>, &[u8])> {
    let pixels = block.pixels();
    (0..block.kind().planes()).map(move |plane| {
        let range = plane * pixels..(plane + 1) * pixels;
        let values = match block.samples() {
            Samples::F32(values) => Values::F32(&values[range.clone()]),
            Samples::Bool(values) => Values::Bool(&values[range.clone()]),
        };
        (values, &block.valid()[range])
    })
}

const HEAD_BYTES: usize = 6;

/// Begins a partial.
pub(super) fn head(out: &mut Vec<u8>, letter: u8, round: u8, planes: usize) {
    out.extend([letter, round]);
    out.extend((planes as u32).to_le_bytes());
}

/// The rest of a partial that is being read.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// Checks the beginning of a partial.
    pub(super) fn head(&mut self, letter: u8, round: u8, planes: usize) -> Result<(), String> {
        match (self.take(), self.u32()) {
            (Some([l, r]), Some(p)) if (l, r, p as usize) == (letter, round, planes) => Ok(()),
            (Some([l, r]), Some(p)) => Err(format!(
                "a partial `{}` of round {r} with {p} planes, expected `{}` of round {round} with {planes}",
                char::from(l).escape_default(),
                char::from(letter),
            )),
            _ => Err("a partial without its head".into()),
        }
    }

    /// Checks that nothing is left.
    pub(super) fn end(&self) -> Result<(), String> {
        match self.0.len() {
            0 => Ok(()),
            more => Err(format!("{more} bytes after the end of a partial")),
        }
    }
}

/// The bits of a number that is not NaN as a whole number of the same order; -0 comes before 0.
pub(super) fn key(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The number with a key.
pub(super) fn of_key(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// Extremes and counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Extremes {
    pub(super) valid: u64,
    nans: u64,
    /// Entries that are not 0.
    trues: u64,
    /// Keys of the smallest and the largest number.
    min: u32,
    max: u32,
}

impl Extremes {
    pub(super) fn any(&self) -> Option<f32> {
        (self.valid > 0).then(|| f32::from(u8::from(self.trues > 0)))
    }

    pub(super) fn all(&self) -> Option<f32> {
        (self.valid > 0).then(|| f32::from(u8::from(self.trues == self.valid)))
    }

    /// A result that is NaN as soon as one entry is.
    pub(super) fn of_numbers(&self, f: impl Fn(f32, f32) -> f32) -> Option<f32> {
        match (self.valid, self.nans) {
            (0, _) => None,
            (_, 0) => Some(f(of_key(self.min), of_key(self.max))),
            _ => Some(f32::NAN),
        }
    }
}

impl Record for Extremes {
    const LETTER: u8 = b'e';
    const BYTES: usize = 32;
    const NONE: Extremes = Extremes { valid: 0, nans: 0, trues: 0, min: u32::MAX, max: 0 };

    fn of(values: Values<'_>, valid: &[u8]) -> Extremes {
        let mut of = Extremes::NONE;
        numbers(values, |at, values| {
            for (value, ok) in values.iter().zip(&valid[at..]) {
                let (is_valid, is_nan) = (*ok != 0, value.is_nan());
                let (is_number, key) = (is_valid & !is_nan, key(*value));
                of.valid += u64::from(is_valid);
                of.nans += u64::from(is_valid & is_nan);
                of.trues += u64::from(is_valid & (*value != 0.0));
                of.min = of.min.min(if is_number { key } else { u32::MAX });
                of.max = of.max.max(if is_number { key } else { 0 });
            }
        });
        of
    }

    fn write(&self, out: &mut Vec<u8>) {
        [self.valid, self.nans, self.trues].iter().for_each(|count| out.extend(count.to_le_bytes()));
        [self.min, self.max].iter().for_each(|key| out.extend(key.to_le_bytes()));
    }

    fn read(bytes: &mut Bytes<'_>) -> Option<Extremes> {
        let (valid, nans, trues) = (bytes.u64()?, bytes.u64()?, bytes.u64()?);
        let of = Extremes { valid, nans, trues, min: bytes.u32()?, max: bytes.u32()? };
        let has_numbers = of.min <= of.max;
        let has_none = of.min == u32::MAX && of.max == 0;
        // NaN counts as true.
        let counts = nans <= trues && trues <= valid;
        (counts && if nans < valid { has_numbers } else { has_none }).then_some(of)
    }

    fn merge(&mut self, other: &Extremes) -> Option<()> {
        *self = Extremes {
            valid: self.valid.checked_add(other.valid)?,
            nans: self.nans.checked_add(other.nans)?,
            trues: self.trues.checked_add(other.trues)?,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        };
        Some(())
    }
}
