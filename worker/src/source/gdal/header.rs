//! What a file says about itself, checked before its first pixel is read.

use gdal::raster::{GdalDataType, RasterBand};
use gdal::{Dataset, Metadata};
use graticule_common::scene::{Affine, AssetGrid};
use graticule_common::transform::Transform;

use super::super::ReadProblem;
use super::{listen, reason, refuse_lost_tags};

/// Rows or columns of a file. A map of the world at 10 m has four million columns.
const SIDE_MAX: u64 = 1 << 23;

/// Bands of a file.
const BANDS_MAX: u64 = 4096;

/// Decoded size of a block: one pixel wanted means a whole block decoded, and a few bytes of a file
/// can declare a huge one.
const BLOCK_BYTES_MAX: u64 = 64 << 20;

/// A file's header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Where its pixels are.
    pub(super) grid: AssetGrid,
    /// Its bands in order.
    pub(super) bands: Vec<BandHeader>,
}

/// How a band's stored values read.
#[derive(Clone, Copy, Debug)]
pub(super) struct BandHeader {
    /// Type of the values. An error for this band alone: another band may be of a type that reads.
    pub(super) kind: Result<Stored, Unreadable>,
    /// The value that means "no pixel".
    pub(super) nodata: Option<Nodata>,
    /// Physical value = stored value × scale + offset.
    pub(super) scale_offset: (f64, f64),
    /// Whether a mask inside the file says which pixels are valid.
    pub(super) masked: bool,
    /// Whether values are numbers of colours: classes, which never blend.
    pub(super) is_palette: bool,
}

/// A band whose type is not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unreadable;

impl From<Unreadable> for ReadProblem {
    fn from(_: Unreadable) -> Self {
        ReadProblem::ComplexType
    }
}

/// Type of stored values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    U8,
    /// A signed byte as GDAL before 3.7 hands it out: an unsigned one with a note in the metadata.
    SignedByte,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Stored {
    fn of(band: &RasterBand<'_>) -> Result<Stored, Unreadable> {
        /// `GDT_Int8`, which the bindings know from GDAL 3.7 on.
        const INT8: u32 = 14;
        let signed = || band.metadata_item("PIXELTYPE", "IMAGE_STRUCTURE").as_deref() == Some("SIGNEDBYTE");
        match band.band_type() {
            GdalDataType::UInt8 if signed() => Ok(Stored::SignedByte),
            GdalDataType::UInt8 => Ok(Stored::U8),
            GdalDataType::UInt16 => Ok(Stored::U16),
            GdalDataType::Int16 => Ok(Stored::I16),
            GdalDataType::UInt32 => Ok(Stored::U32),
            GdalDataType::Int32 => Ok(Stored::I32),
            GdalDataType::UInt64 => Ok(Stored::U64),
            GdalDataType::Int64 => Ok(Stored::I64),
            GdalDataType::Float32 => Ok(Stored::F32),
            GdalDataType::Float64 => Ok(Stored::F64),
            other if other as u32 == INT8 => Ok(Stored::I8),
            _ => Err(Unreadable),
        }
    }

    /// Bytes of a stored value.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Stored::U8 | Stored::SignedByte | Stored::I8 => 1,
            Stored::U16 | Stored::I16 => 2,
            Stored::U32 | Stored::I32 | Stored::F32 => 4,
            Stored::U64 | Stored::I64 | Stored::F64 => 8,
        }
    }
}

/// A nodata value without loss: a double does not hold every 64-bit integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Nodata {
    Float(f64),
    Signed(i64),
    Unsigned(u64),
}

impl From<f64> for Nodata {
    fn from(value: f64) -> Self {
        Nodata::Float(value)
    }
}

impl Header {
    /// Reads and checks an open file's header.
    pub(super) fn read(dataset: &Dataset, transform: &dyn Transform) -> Result<Header, ReadProblem> {
        let (header, messages) = listen(|| Header::parse(dataset, transform));
        refuse_lost_tags(&messages)?;
        header
    }

    fn parse(dataset: &Dataset, transform: &dyn Transform) -> Result<Header, ReadProblem> {
        let (cols, rows) = dataset.raster_size();
        let count = dataset.raster_count();
        limit("columns:", cols as u64, SIDE_MAX)?;
        limit("rows:", rows as u64, SIDE_MAX)?;
        limit("bands:", count as u64, BANDS_MAX)?;
        let affine = Affine::from_gdal(dataset.geo_transform().map_err(|_| ReadProblem::NoGeotransform)?);
        if !affine.numbers().iter().all(|v| v.is_finite()) || affine.inverse().is_none() {
            return Err(ReadProblem::NoGeotransform);
        }
        let reference = dataset
            .spatial_ref()
            .map_err(|_| ReadProblem::UnknownCrs { reason: "the file has no CRS".to_owned() })?;
        let text =
            reference.to_wkt().map_err(|error| ReadProblem::UnknownCrs { reason: reason(&error, &[]) })?;
        let crs = transform
            .canonical(&text)
            .map_err(|error| ReadProblem::UnknownCrs { reason: error.to_string() })?;
        // In a file interleaved by pixel all bands of a block are decoded together.
        let together = match dataset.metadata_item("INTERLEAVE", "IMAGE_STRUCTURE").as_deref() {
            Some("PIXEL") => count as u64,
            _ => 1,
        };
        let bands = (1..=count).map(|band| band_header(dataset, band, together)).collect::<Result<_, _>>()?;
        let grid = AssetGrid { crs, affine, rows: rows as u32, cols: cols as u32 };
        Ok(Header { grid, bands })
    }
}

fn band_header(dataset: &Dataset, band: usize, together: u64) -> Result<BandHeader, ReadProblem> {
    let corrupt = |error| ReadProblem::Corrupt { reason: reason(&error, &[]) };
    let band = dataset.rasterband(band).map_err(corrupt)?;
    let kind = Stored::of(&band);
    let (block_cols, block_rows) = band.block_size();
    // Complex numbers take at most 16 bytes; they are refused later, but their blocks are bounded now.
    let bytes = kind.map_or(16, Stored::bytes);
    let block = (block_cols as u64).saturating_mul(block_rows as u64).saturating_mul(bytes * together);
    limit("blocks of bytes:", block, BLOCK_BYTES_MAX)?;
    let nodata = match kind {
        Ok(Stored::I64) => band.no_data_value_i64().map(Nodata::Signed),
        Ok(Stored::U64) => band.no_data_value_u64().map(Nodata::Unsigned),
        _ => band.no_data_value().map(Nodata::Float),
    };
    let scale_offset = (band.scale().unwrap_or(1.0), band.offset().unwrap_or(0.0));
    let masked = band.mask_flags().map_err(corrupt)?.is_per_dataset();
    let is_palette = band.color_table().is_some();
    Ok(BandHeader { kind, nodata, scale_offset, masked, is_palette })
}

fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), ReadProblem> {
    if found > limit {
        return Err(ReadProblem::TooComplex { what, found, limit });
    }
    Ok(())
}
