//! Stored values → pixels: nodata and NaN to validity, scale and offset; and rectangles of them.

use std::marker::PhantomData;

use gdal::errors::GdalError;
use gdal::raster::{GdalType, RasterBand};
use gdal_sys::GDALDataType;

use super::super::warp::{self, Blocks, Rect, Sample};
use super::header::Nodata;

/// A stored value of one type.
pub(super) trait Pixel: GdalType + Sample {
    /// A nodata value in this type; `None` if the type cannot hold it, for then no pixel can be it.
    fn nodata(tag: Nodata) -> Option<Self>;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
    /// The nearest float.
    fn to_f32(self) -> f32;
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
        }

        impl Sample for $int {
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
}

impl Sample for f32 {
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
}

impl Sample for f64 {
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
}

impl Sample for SignedByte {
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
}

impl<T: Pixel> warp::Rule<T> for Rule<T> {
    /// Nodata is compared before scale and offset.
    #[inline]
    fn is_valid(&self, stored: T) -> bool {
        !(stored.is_nan() || self.nodata == Some(stored))
    }

    #[inline]
    fn pixel(&self, stored: T) -> Option<f32> {
        match self.scale_offset {
            None => Some(stored.to_f32()).filter(|value| !value.is_nan()),
            Some(_) => self.scaled(stored.to_f64()),
        }
    }

    #[inline]
    fn scaled(&self, value: f64) -> Option<f32> {
        let (scale, offset) = self.scale_offset.unwrap_or((1.0, 0.0));
        let value = (value * scale + offset) as f32;
        (!value.is_nan()).then_some(value)
    }
}

/// A band of an open file, and its mask where it has one.
pub(super) struct BandBlocks<'a, T> {
    band: &'a RasterBand<'a>,
    mask: Option<&'a RasterBand<'a>>,
    sample: PhantomData<T>,
}

impl<'a, T> BandBlocks<'a, T> {
    pub(super) fn new(band: &'a RasterBand<'a>, mask: Option<&'a RasterBand<'a>>) -> Self {
        BandBlocks { band, mask, sample: PhantomData }
    }
}

impl<T: Pixel> Blocks for BandBlocks<'_, T> {
    type Sample = T;
    type Error = GdalError;

    fn read(&mut self, rect: Rect, stored: &mut Vec<T>, mask: &mut Vec<u8>) -> Result<(), GdalError> {
        let at = (rect.col as isize, rect.row as isize);
        let size = (rect.cols as usize, rect.rows as usize);
        let len = size.0 * size.1;
        stored.resize(len, T::default());
        self.band.read_into_slice(at, size, size, stored, None)?;
        if let Some(band) = self.mask {
            mask.resize(len, 0);
            band.read_into_slice(at, size, size, mask, None)?;
        }
        Ok(())
    }

    fn is_masked(&self) -> bool {
        self.mask.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::warp::Rule as _;
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
        fn value<T: Pixel>(rule: &Rule<T>, stored: T) -> Option<f32> {
            rule.is_valid(stored).then(|| rule.pixel(stored)).flatten()
        }
        let rule = Rule::<i16>::new(Some(Nodata::Float(-9999.0)), (0.0001, -0.1));
        assert_eq!(value(&rule, -9999), None);
        assert_eq!(value(&rule, 12345), Some((12345.0 * 0.0001 - 0.1) as f32));
        let plain = Rule::<i64>::new(None, (1.0, 0.0));
        assert_eq!(value(&plain, i64::MAX), Some(9.223_372e18));
        assert_eq!(value(&Rule::new(None, (1.0, 0.0)), f32::NAN), None);
        assert_eq!(value(&Rule::new(None, (0.0, 0.0)), f64::INFINITY), None);
    }
}
