//! How pixels are stored: type, scale and offset, and what stands where a pixel is invalid.
//!
//! Nothing is changed silently: a value that the type cannot hold, or that would read back as invalid,
//! is counted and refused, unless the caller asked for the nearest value that can be stored.

use std::str::FromStr;

use graticule_common::block::{Block, DType, Samples};

use super::SinkError;

/// Type of the stored values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredType {
    /// Truth values: 0 and 1 in unsigned bytes.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Floating point, 32 bits.
    F32,
    /// Floating point, 64 bits.
    F64,
}

impl StoredType {
    /// Every type, in the order of the manual.
    pub const ALL: [StoredType; 8] = [
        StoredType::U8,
        StoredType::U16,
        StoredType::I16,
        StoredType::U32,
        StoredType::I32,
        StoredType::F32,
        StoredType::F64,
        StoredType::Bool,
    ];

    /// The name numpy uses.
    pub fn name(self) -> &'static str {
        match self {
            StoredType::Bool => "bool",
            StoredType::U8 => "uint8",
            StoredType::U16 => "uint16",
            StoredType::I16 => "int16",
            StoredType::U32 => "uint32",
            StoredType::I32 => "int32",
            StoredType::F32 => "float32",
            StoredType::F64 => "float64",
        }
    }

    /// Whether it holds fractions.
    pub fn is_float(self) -> bool {
        matches!(self, StoredType::F32 | StoredType::F64)
    }

    /// The least and the greatest value.
    fn range(self) -> (f64, f64) {
        match self {
            StoredType::Bool => (0.0, 1.0),
            StoredType::U8 => (u8::MIN.into(), u8::MAX.into()),
            StoredType::U16 => (u16::MIN.into(), u16::MAX.into()),
            StoredType::I16 => (i16::MIN.into(), i16::MAX.into()),
            StoredType::U32 => (u32::MIN.into(), u32::MAX.into()),
            StoredType::I32 => (i32::MIN.into(), i32::MAX.into()),
            StoredType::F32 => (f32::MIN.into(), f32::MAX.into()),
            StoredType::F64 => (f64::MIN, f64::MAX),
        }
    }
}

impl FromStr for StoredType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        StoredType::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
            let names: Vec<&str> = StoredType::ALL.into_iter().map(StoredType::name).collect();
            format!("known are {}", names.join(", "))
        })
    }
}

/// What stands where a pixel is invalid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Nodata {
    /// NaN for floating point (its lowest number if a valid pixel is NaN), the greatest value of an
    /// unsigned type, the least of a signed one.
    #[default]
    Default,
    /// Nothing; every pixel must be valid.
    None,
    /// This value.
    Value(f64),
}

/// How values are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    /// Type; absent: float32 for numbers, bool for truth values.
    pub dtype: Option<StoredType>,
    /// Value = stored × scale + offset.
    pub scale: f64,
    /// Value = stored × scale + offset.
    pub offset: f64,
    /// What stands where a pixel is invalid.
    pub nodata: Nodata,
    /// Whether a value that cannot be stored becomes the nearest that can, and a NaN invalid.
    pub clamp: bool,
}

impl Default for Encoding {
    fn default() -> Self {
        Encoding { dtype: None, scale: 1.0, offset: 0.0, nodata: Nodata::Default, clamp: false }
    }
}

/// Values that were not stored as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clamped {
    /// Replaced by the nearest value that can be stored.
    pub moved: u64,
    /// NaN that became invalid.
    pub nans: u64,
}

/// An [`Encoding`] fitted to one block: no value is left to decide.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub dtype: StoredType,
    pub nodata: Option<f64>,
    scale: f64,
    offset: f64,
    clamp: bool,
}

/// What becomes of one valid value.
enum Fate {
    Stored(f64),
    /// The type cannot hold it.
    Outside,
    /// It would read back as invalid.
    Nodata,
    /// A NaN in a type without NaN.
    Nan,
}

impl Rule {
    /// Whether values are whole numbers that stand for themselves: counts, or classes.
    pub fn is_plain_integer(&self) -> bool {
        let is_float = matches!(self.dtype, StoredType::F32 | StoredType::F64);
        !is_float && self.scale == 1.0 && self.offset == 0.0
    }

    /// The rule for a block, and what it changes.
    pub fn fit(encoding: &Encoding, block: &Block, path: &str) -> Result<(Rule, Clamped), SinkError> {
        let refused = |what: String| SinkError::Encoding { what, path: path.to_owned() };
        let dtype = encoding.dtype.unwrap_or(match block.samples().dtype() {
            DType::F32 => StoredType::F32,
            DType::Bool => StoredType::Bool,
        });
        let (scale, offset) = (encoding.scale, encoding.offset);
        if !(scale.is_finite() && scale != 0.0 && offset.is_finite()) {
            return Err(refused(format!("scale {scale} and offset {offset} are not usable")));
        }
        if dtype == StoredType::Bool && (scale, offset) != (1.0, 0.0) {
            return Err(refused("truth values have no scale and offset".into()));
        }
        let (low, high) = dtype.range();
        let nodata = match encoding.nodata {
            Nodata::None => None,
            Nodata::Value(value) if fits(dtype, value) => Some(value),
            Nodata::Value(value) => {
                return Err(refused(format!("{} cannot hold the nodata value {value}", dtype.name())));
            }
            Nodata::Default => Some(match dtype {
                StoredType::Bool => u8::MAX.into(),
                StoredType::F32 | StoredType::F64 if !has_valid_nan(block) => f64::NAN,
                StoredType::U8 | StoredType::U16 | StoredType::U32 => high,
                StoredType::I16 | StoredType::I32 | StoredType::F32 | StoredType::F64 => low,
            }),
        };
        if nodata.is_none() && block.valid().contains(&0) {
            let invalid = block.valid().iter().filter(|valid| **valid == 0).count();
            let what = format!("{invalid} pixels are invalid and there is no nodata value; give one");
            return Err(refused(what));
        }
        let rule = Rule { dtype, nodata, scale, offset, clamp: encoding.clamp };
        let clamped = rule.check(block, path)?;
        Ok((rule, clamped))
    }

    /// Counts what cannot be stored, before anything is written.
    fn check(&self, block: &Block, path: &str) -> Result<Clamped, SinkError> {
        let (mut outside, mut hidden, mut nans, mut first) = (0u64, 0u64, 0u64, None);
        for at in (0..block.valid().len()).filter(|at| block.valid()[*at] == 1) {
            let value = value_at(block.samples(), at);
            let count = match self.fate(value) {
                Fate::Stored(_) => continue,
                Fate::Outside => &mut outside,
                Fate::Nodata => &mut hidden,
                Fate::Nan => &mut nans,
            };
            *count += 1;
            first.get_or_insert(value);
        }
        let Some(example) = first else { return Ok(Clamped::default()) };
        // Of floating-point values only NaN has a neighbour that is any better.
        if self.clamp
            && (hidden == 0 || self.beside_nodata().is_some())
            && (nans == 0 || self.nodata.is_some())
        {
            return Ok(Clamped { moved: outside + hidden, nans });
        }
        Err(SinkError::Values {
            outside,
            nodata: hidden,
            nans,
            example,
            dtype: self.dtype.name(),
            path: path.to_owned(),
        })
    }

    /// The stored value; NaN, meaning invalid, where there is none.
    fn stored(&self, value: f64) -> f64 {
        let nodata = self.nodata.unwrap_or(f64::NAN);
        match self.fate(value) {
            Fate::Stored(stored) => stored,
            Fate::Nan => nodata,
            Fate::Nodata => self.beside_nodata().unwrap_or(nodata),
            Fate::Outside => {
                let (low, high) = self.dtype.range();
                let stored = ((value - self.offset) / self.scale).clamp(low, high);
                if self.is_nodata(stored) { self.beside_nodata().unwrap_or(nodata) } else { stored }
            }
        }
    }

    fn fate(&self, value: f64) -> Fate {
        let scaled =
            if (self.scale, self.offset) == (1.0, 0.0) { value } else { (value - self.offset) / self.scale };
        let stored = match self.dtype {
            StoredType::F64 => scaled,
            StoredType::F32 => {
                let narrow = f64::from(scaled as f32);
                if narrow.is_infinite() && scaled.is_finite() {
                    return Fate::Outside;
                }
                narrow
            }
            StoredType::Bool if scaled != 0.0 && scaled != 1.0 => return Fate::Outside,
            _ if scaled.is_nan() => return Fate::Nan,
            _ => scaled.round_ties_even(),
        };
        let (low, high) = self.dtype.range();
        if self.is_nodata(stored) {
            Fate::Nodata
        } else if !self.dtype.is_float() && !(low..=high).contains(&stored) {
            Fate::Outside
        } else {
            Fate::Stored(stored)
        }
    }

    /// Whether readers take a stored value for invalid. GDAL compares floating-point numbers with some
    /// tolerance, in their own type.
    fn is_nodata(&self, stored: f64) -> bool {
        let Some(nodata) = self.nodata else { return false };
        if stored.is_nan() || nodata.is_nan() {
            return stored.is_nan() && nodata.is_nan();
        }
        stored == nodata
            || match self.dtype {
                StoredType::F32 => {
                    let (a, b) = (stored as f32, nodata as f32);
                    (a - b).abs() < f32::EPSILON * (a + b).abs() * 2.0
                }
                StoredType::F64 => (stored - nodata).abs() < f64::EPSILON * (stored + nodata).abs() * 2.0,
                _ => false,
            }
    }

    /// The storable value beside nodata where that is an end of an integer type's range.
    fn beside_nodata(&self) -> Option<f64> {
        let (low, high) = self.dtype.range();
        let nodata = self.nodata.filter(|_| !self.dtype.is_float())?;
        if nodata == high {
            Some(high - 1.0)
        } else if nodata == low {
            Some(low + 1.0)
        } else {
            None
        }
    }

    /// Stored values of some pixels of a block.
    pub fn encode<T: Pixel>(&self, block: &Block, at: std::ops::Range<usize>) -> Vec<T> {
        let nodata = T::from_f64(self.nodata.unwrap_or(0.0));
        at.map(|at| match block.valid()[at] {
            1 => T::from_f64(self.stored(value_at(block.samples(), at))),
            _ => nodata,
        })
        .collect()
    }
}

fn value_at(samples: &Samples, at: usize) -> f64 {
    match samples {
        Samples::F32(values) => values[at].into(),
        Samples::Bool(values) => values[at].into(),
    }
}

fn has_valid_nan(block: &Block) -> bool {
    match block.samples() {
        Samples::F32(values) => values.iter().zip(block.valid()).any(|(v, ok)| *ok == 1 && v.is_nan()),
        Samples::Bool(_) => false,
    }
}

/// Whether a type holds a value exactly.
fn fits(dtype: StoredType, value: f64) -> bool {
    match dtype {
        StoredType::F64 => true,
        StoredType::F32 => value.is_nan() || f64::from(value as f32) == value,
        // Truth values are stored in bytes.
        StoredType::Bool => value.fract() == 0.0 && (2.0..=255.0).contains(&value),
        _ => value.fract() == 0.0 && (dtype.range().0..=dtype.range().1).contains(&value),
    }
}

/// A stored value.
pub(super) trait Pixel: gdal::raster::GdalType + Copy + Default {
    /// The value of this type; the number is one that the type holds.
    fn from_f64(value: f64) -> Self;
    /// The bits: NaN is to come back, too.
    fn bits(self) -> u64;
}

macro_rules! pixels {
    ($($integer:ty)*) => {$(
        impl Pixel for $integer {
            fn from_f64(value: f64) -> Self {
                value as $integer
            }
            fn bits(self) -> u64 {
                self as u64
            }
        }
    )*};
}
pixels!(u8 u16 i16 u32 i32);

impl Pixel for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
}

impl Pixel for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use graticule_common::block::Kind;

    use super::*;

    fn block(values: &[f32], valid: &[u8]) -> Block {
        let shape = (1, values.len() as u32);
        Block::new(Kind::Mosaic { bands: 1 }, shape, Samples::F32(values.to_vec()), valid.to_vec())
    }

    fn as_type(dtype: StoredType) -> Encoding {
        Encoding { dtype: Some(dtype), ..Encoding::default() }
    }

    #[track_caller]
    fn stored<T: Pixel>(encoding: &Encoding, block: &Block) -> Vec<T> {
        let (rule, _) = Rule::fit(encoding, block, "a.tif").unwrap();
        rule.encode(block, 0..block.valid().len())
    }

    #[test]
    fn integers_are_rounded_half_to_even_after_scale_and_offset() {
        let pixels = block(&[0.0, 0.5, 1.5, 2.5, 7.0], &[1, 1, 1, 1, 0]);
        assert_eq!(stored::<u16>(&as_type(StoredType::U16), &pixels), [0, 0, 2, 2, 65535]);
        let scaled = Encoding { scale: 0.5, offset: -1.0, ..as_type(StoredType::I16) };
        assert_eq!(stored::<i16>(&scaled, &pixels), [2, 3, 5, 7, i16::MIN]);
    }

    #[test]
    fn what_cannot_be_stored_is_counted_and_clamped_only_when_asked() {
        let pixels = block(&[-1.0, 255.0, 254.6, 300.0, f32::NAN, 9.0], &[1; 6]);
        let error = Rule::fit(&as_type(StoredType::U8), &pixels, "a.tif").unwrap_err();
        let SinkError::Values { outside, nodata, nans, example, .. } = error else { panic!("{error}") };
        assert_eq!((outside, nodata, nans, example), (2, 2, 1, -1.0));
        let clamp = Encoding { clamp: true, ..as_type(StoredType::U8) };
        assert_eq!(Rule::fit(&clamp, &pixels, "a.tif").unwrap().1, Clamped { moved: 4, nans: 1 });
        assert_eq!(stored::<u8>(&clamp, &pixels), [0, 254, 254, 254, 255, 9]);
        // In the midst of the range there is no nearest value: that is for the user to settle.
        let inside = Encoding { nodata: Nodata::Value(9.0), ..clamp };
        assert!(matches!(Rule::fit(&inside, &pixels, "a.tif"), Err(SinkError::Values { .. })));
    }

    #[test]
    fn a_valid_nan_stays_one() {
        let pixels = block(&[f32::NAN, 1.0, 0.0], &[1, 1, 0]);
        let found: Vec<f32> = stored(&Encoding::default(), &pixels);
        assert!(found[0].is_nan());
        assert_eq!(found[1..], [1.0, f32::MIN]);
        let plain: Vec<f32> = stored(&Encoding::default(), &block(&[1.0, 0.0], &[1, 0]));
        assert!(plain[1].is_nan());
        // GDAL would take half of the lowest number for it, too.
        let low = block(&[f32::NAN, f32::MIN / 1.5, 0.0], &[1, 1, 0]);
        assert!(matches!(Rule::fit(&Encoding::default(), &low, "a.tif"), Err(SinkError::Values { .. })));
    }

    #[test]
    fn unusable_encodings_are_refused() {
        let pixels = block(&[1.0, 0.0], &[1, 0]);
        let refused = |encoding: Encoding| {
            let error = Rule::fit(&encoding, &pixels, "a.tif").unwrap_err();
            assert!(matches!(error, SinkError::Encoding { .. }), "{error}");
        };
        refused(Encoding { scale: 0.0, ..as_type(StoredType::U8) });
        refused(Encoding { offset: f64::NAN, ..as_type(StoredType::U8) });
        refused(Encoding { nodata: Nodata::Value(-1.0), ..as_type(StoredType::U8) });
        refused(Encoding { nodata: Nodata::Value(0.1), ..as_type(StoredType::F32) });
        refused(Encoding { nodata: Nodata::None, ..as_type(StoredType::U8) });
        refused(Encoding { scale: 2.0, ..as_type(StoredType::Bool) });
        let full = block(&[0.0, 255.0], &[1, 1]);
        let without = Encoding { nodata: Nodata::None, ..as_type(StoredType::U8) };
        assert_eq!(stored::<u8>(&without, &full), [0, 255]);
    }

    #[test]
    fn truth_values_are_zero_and_one() {
        let pixels = block(&[0.0, 1.0, 5.0], &[1, 1, 0]);
        assert_eq!(stored::<u8>(&as_type(StoredType::Bool), &pixels), [0, 1, 255]);
        let two = block(&[2.0], &[1]);
        assert!(Rule::fit(&as_type(StoredType::Bool), &two, "a.tif").is_err());
    }
}
