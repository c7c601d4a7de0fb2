//! Stored values → pixels: nodata, NaN and mask to validity, scale and offset, and the gather from
//! stored places to the grid's.

use gdal::errors::Result;
use gdal::raster::{GdalType, RasterBand};
use gdal_sys::GDALDataType;

use super::super::near::Axis;
use super::header::Nodata;

/// A stored value of one type.
pub(super) trait Pixel: GdalType + Copy + Default + PartialEq {
    /// A nodata value in this type; `None` if the type cannot hold it, for then no pixel can be it.
    fn nodata(tag: Nodata) -> Option<Self>;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
    /// The nearest float.
    fn to_f32(self) -> f32;
    /// The value for scale and offset.
    fn to_f64(self) -> f64;
}

macro_rules! integer_pixels {
    ($($int:ty),*) => {$(
        impl Pixel for $int {
            fn nodata(tag: Nodata) -> Option<Self> {
                match tag {
                    // `MAX + 1` is exact in a double for every width, `MAX` itself is not.
                    Nodata::Float(v) => {
                        let holds = v.fract() == 0.0 && v >= <$int>::MIN as f64 && v < <$int>::MAX as f64 + 1.0;
                        holds.then_some(v as $int)
                    }
                    Nodata::Signed(v) => v.try_into().ok(),
                    Nodata::Unsigned(v) => v.try_into().ok(),
                }
            }
            fn is_nan(self) -> bool {
                false
            }
            fn to_f32(self) -> f32 {
                self as f32
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}

integer_pixels!(u8, u16, i16, u32, i32, u64, i64);

impl Pixel for f32 {
    /// Rounded to a float, as whoever wrote the pixels rounded it: -3.4028234663852886e38 as a double,
    /// or cut after some digits, is the least float. What is beyond all floats means infinity, as it
    /// does to GDAL, which rounds the file's own tag before we see it.
    fn nodata(tag: Nodata) -> Option<Self> {
        f64::nodata(tag).map(|tag| tag as f32)
    }
    fn is_nan(self) -> bool {
        self.is_nan()
    }
    fn to_f32(self) -> f32 {
        self
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Pixel for f64 {
    fn nodata(tag: Nodata) -> Option<Self> {
        match tag {
            Nodata::Float(v) => Some(v),
            Nodata::Signed(v) => Some(v as f64),
            Nodata::Unsigned(v) => Some(v as f64),
        }
    }
    fn is_nan(self) -> bool {
        self.is_nan()
    }
    fn to_f32(self) -> f32 {
        self as f32
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// A signed byte that GDAL hands out as an unsigned one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(transparent)]
pub(super) struct SignedByte(u8);

impl GdalType for SignedByte {
    fn gdal_ordinal() -> GDALDataType::Type {
        GDALDataType::GDT_Byte
    }
}

impl Pixel for SignedByte {
    fn nodata(tag: Nodata) -> Option<Self> {
        i16::nodata(tag).and_then(|v| i8::try_from(v).ok()).map(|v| SignedByte(v.cast_unsigned()))
    }
    fn is_nan(self) -> bool {
        false
    }
    fn to_f32(self) -> f32 {
        self.0.cast_signed().into()
    }
    fn to_f64(self) -> f64 {
        self.0.cast_signed().into()
    }
}

/// What turns a stored value into a pixel.
pub(super) struct Rule<T> {
    nodata: Option<T>,
    /// `None` where it would change nothing, so that values too wide for a double pass unharmed.
    scale_offset: Option<(f64, f64)>,
}

impl<T: Pixel> Rule<T> {
    pub(super) fn new(nodata: Option<Nodata>, scale_offset: (f64, f64)) -> Self {
        let scale_offset = (scale_offset != (1.0, 0.0)).then_some(scale_offset);
        Rule { nodata: nodata.and_then(T::nodata), scale_offset }
    }

    /// The pixel; `None` if there is none. Nodata is compared before scale and offset.
    fn value(&self, stored: T) -> Option<f32> {
        if stored.is_nan() || self.nodata == Some(stored) {
            return None;
        }
        let value = match self.scale_offset {
            None => stored.to_f32(),
            Some((scale, offset)) => (stored.to_f64() * scale + offset) as f32,
        };
        (!value.is_nan()).then_some(value)
    }
}

/// A rectangle of stored pixels that is not much larger than the window is read at once.
const WHOLE_PER_PIXEL: u64 = 2;
/// Nor is it worth going row by row below this many pixels.
const WHOLE_MIN: u64 = 1 << 16;
/// Stored columns of one read when going row by row: bounds memory.
const RUN_COLS_MAX: u32 = 1 << 20;
/// Stored columns that nobody asked for between two that somebody did, before a read is cut in two.
const RUN_GAP_MAX: u32 = 1 << 10;

/// Fills the pixels that have a stored value. Gives back the number of stored pixels read.
pub(super) fn gather<T: Pixel>(
    (band, mask): (&RasterBand<'_>, Option<&RasterBand<'_>>),
    (rows, cols): (&Axis, &Axis),
    rule: &Rule<T>,
    samples: &mut [f32],
    valid: &mut [u8],
) -> Result<u64> {
    let (Some((row, row_count)), Some((col, col_count))) = (rows.span(), cols.span()) else {
        return Ok(0);
    };
    let (rows, cols) = (rows.indices(), cols.indices());
    let mut rect = Rect { band, mask, stored: Vec::new(), masked: Vec::new(), pixels: 0 };
    let mut put = |rect: &Rect<'_, T>, at: usize, from: usize| {
        if let Some(value) = rule.value(rect.stored[from])
            && rect.masked.get(from) != Some(&0)
        {
            (samples[at], valid[at]) = (value, 1);
        }
    };
    let whole = u64::from(row_count) * u64::from(col_count);
    if whole <= WHOLE_MIN.max(WHOLE_PER_PIXEL * (rows.len() * cols.len()) as u64) {
        rect.read((row, col), (row_count, col_count))?;
        for (r, stored_row) in rows.iter().enumerate() {
            let Some(stored_row) = stored_row else { continue };
            let start = (stored_row - row) as usize * col_count as usize;
            for (c, stored_col) in cols.iter().enumerate() {
                let Some(stored_col) = stored_col else { continue };
                put(&rect, r * cols.len() + c, start + (stored_col - col) as usize);
            }
        }
        return Ok(rect.pixels);
    }
    for run in runs(cols) {
        let mut held = None;
        for (r, stored_row) in rows.iter().enumerate() {
            let Some(stored_row) = *stored_row else { continue };
            // Several rows of a finer grid lie on one stored row.
            if held != Some(stored_row) {
                rect.read((stored_row, run.first), (1, run.last - run.first + 1))?;
                held = Some(stored_row);
            }
            for c in run.from..run.to {
                let Some(stored_col) = cols[c] else { continue };
                put(&rect, r * cols.len() + c, (stored_col - run.first) as usize);
            }
        }
    }
    Ok(rect.pixels)
}

/// Columns `from..to` of the window, which lie on the stored columns `first..=last`.
#[derive(Debug, PartialEq)]
struct Run {
    from: usize,
    to: usize,
    first: u32,
    last: u32,
}

/// Cuts the window's columns so that each run is worth one read. Stored columns ascend.
fn runs(cols: &[Option<u32>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (c, stored) in cols.iter().enumerate() {
        let Some(stored) = *stored else { continue };
        match runs.last_mut() {
            Some(run) if stored - run.last <= RUN_GAP_MAX && stored - run.first < RUN_COLS_MAX => {
                (run.to, run.last) = (c + 1, stored);
            }
            _ => runs.push(Run { from: c, to: c + 1, first: stored, last: stored }),
        }
    }
    runs
}

/// Stored pixels of a rectangle and, where the file has a mask, the mask there.
struct Rect<'a, T> {
    band: &'a RasterBand<'a>,
    mask: Option<&'a RasterBand<'a>>,
    stored: Vec<T>,
    masked: Vec<u8>,
    pixels: u64,
}

impl<T: Pixel> Rect<'_, T> {
    fn read(&mut self, (row, col): (u32, u32), (rows, cols): (u32, u32)) -> Result<()> {
        let (at, size) = ((col as isize, row as isize), (cols as usize, rows as usize));
        let len = size.0 * size.1;
        self.stored.resize(len, T::default());
        self.band.read_into_slice(at, size, size, &mut self.stored, None)?;
        if let Some(mask) = self.mask {
            self.masked.resize(len, 0);
            mask.read_into_slice(at, size, size, &mut self.masked, None)?;
        }
        self.pixels += len as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodata_that_the_type_cannot_hold_masks_nothing() {
        let float = Nodata::Float;
        assert_eq!(u8::nodata(float(255.0)), Some(255));
        for beyond in [-9999.0, 256.0, 0.5, f64::NAN, f64::INFINITY] {
            assert_eq!(u8::nodata(float(beyond)), None, "{beyond}");
        }
        assert_eq!(i16::nodata(float(-9999.0)), Some(-9999));
        assert_eq!(i64::nodata(float(-(2f64.powi(63)))), Some(i64::MIN));
        assert_eq!(i64::nodata(float(2f64.powi(63))), None);
        assert_eq!(i64::nodata(Nodata::Signed(i64::MAX)), Some(i64::MAX));
        assert_eq!(u64::nodata(Nodata::Unsigned(u64::MAX)), Some(u64::MAX));
        assert_eq!(SignedByte::nodata(float(-1.0)), Some(SignedByte(255)));
        assert_eq!(SignedByte::nodata(float(200.0)), None);
        assert_eq!(f32::nodata(float(-3.402_823_466_385_288_6e38)), Some(f32::MIN));
        assert_eq!(f32::nodata(float(-3.402_823_466_385_29e38)), Some(f32::MIN));
        assert_eq!(f32::nodata(float(0.1)), Some(0.1));
        assert_eq!(f32::nodata(float(1e40)), Some(f32::INFINITY));
        assert_eq!(f32::nodata(float(f64::NEG_INFINITY)), Some(f32::NEG_INFINITY));
    }

    #[test]
    fn values_scale_after_nodata_and_round_once() {
        let rule = Rule::<i16>::new(Some(Nodata::Float(-9999.0)), (0.0001, -0.1));
        assert_eq!(rule.value(-9999), None);
        assert_eq!(rule.value(12345), Some((12345.0 * 0.0001 - 0.1) as f32));
        let plain = Rule::<i64>::new(None, (1.0, 0.0));
        assert_eq!(plain.value(i64::MAX), Some(9.223_372e18));
        assert_eq!(Rule::<f32>::new(None, (1.0, 0.0)).value(f32::NAN), None);
        assert_eq!(Rule::<f64>::new(None, (0.0, 0.0)).value(f64::INFINITY), None);
    }

    #[test]
    fn runs_are_cut_at_gaps_and_at_their_greatest_length() {
        let run = |from, to, first, last| Run { from, to, first, last };
        let cols = [None, Some(3), Some(5), Some(5), Some(2000), None];
        assert_eq!(runs(&cols), [run(1, 4, 3, 5), run(4, 5, 2000, 2000)]);
        let dense: Vec<_> = (0..RUN_COLS_MAX + 2).map(Some).collect();
        let long = RUN_COLS_MAX as usize;
        assert_eq!(
            runs(&dense),
            [run(0, long, 0, RUN_COLS_MAX - 1), run(long, long + 2, RUN_COLS_MAX, RUN_COLS_MAX + 1)]
        );
        assert_eq!(runs(&[None, None]), []);
    }
}
