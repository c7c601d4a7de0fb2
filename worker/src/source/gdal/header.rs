//! What a file says about itself, checked before its first pixel is read.

use std::borrow::Cow;

use gdal::raster::{ColorInterpretation, GdalDataType, RasterBand};
use gdal::{Dataset, Metadata};
use graticule_common::grid::Crs;
use graticule_common::scene::{Affine, AssetGrid};
use graticule_common::transform::Transform;

use super::super::ReadProblem;
use super::open::refuse_lost_tags;
use super::settings::{listen, reason};

/// Rows or columns of a file. A map of the world at 10 m has four million columns.
const SIDE_MAX: u64 = 1 << 23;

/// Pixels of a band.
const PIXELS_MAX: u64 = 1 << 40;

/// Bands of a file.
pub(super) const BANDS_MAX: u64 = 4096;

/// Decoded size of a block: one pixel wanted means a whole block decoded, and a few bytes of a file
/// can declare a huge one.
const BLOCK_BYTES_MAX: u64 = 64 << 20;

/// Blocks of a band: an index of 16 bytes each is held in memory.
const BLOCKS_MAX: u64 = 1 << 22;

/// Decoded size of a PNG or JPEG: one that is interlaced or progressive is held in memory as a whole.
const WHOLE_BYTES_MAX: u64 = 1 << 30;

/// Overviews of a band. Each halves the side as a rule, so 32 are more than any file needs.
const OVERVIEWS_MAX: u64 = 64;

/// Bytes of a file's metadata.
const METADATA_BYTES_MAX: u64 = 8 << 20;

/// Bytes of a mask's or a complex number's value at most.
const WIDEST_BYTES: u64 = 16;

/// A file's header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Where its pixels are, or why that is not known.
    pub(super) affine: Result<Affine, ReadProblem>,
    /// CRS of the coordinates.
    pub(super) crs: Result<Crs, ReadProblem>,
    pub(super) rows: u32,
    pub(super) cols: u32,
    /// Its bands in order.
    pub(super) bands: Vec<BandHeader>,
}

/// How a band's stored values read.
#[derive(Clone, Debug)]
pub(super) struct BandHeader {
    /// Type of the values. An error for this band alone: another band may be of a type that reads.
    pub(super) kind: Result<Stored, Unreadable>,
    /// The value that means "no pixel". `None` too where a mask says so, for then it alone counts.
    pub(super) nodata: Option<Nodata>,
    /// Physical value = stored value × scale + offset.
    pub(super) scale_offset: (f64, f64),
    /// Whether a mask says which pixels are valid: of the file or of the band, or an alpha band. It
    /// counts where it is 0.
    pub(super) masked: bool,
    /// Whether the values are places in a palette: classes, which never blend.
    pub(super) is_palette: bool,
    /// Columns and rows of its overviews.
    pub(super) overviews: Vec<(u32, u32)>,
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
    pub(super) fn of(band: &RasterBand<'_>) -> Result<Stored, Unreadable> {
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

    /// Its name in the raster extension of STAC.
    pub(super) fn name(self) -> &'static str {
        match self {
            Stored::U8 => "uint8",
            Stored::SignedByte | Stored::I8 => "int8",
            Stored::U16 => "uint16",
            Stored::I16 => "int16",
            Stored::U32 => "uint32",
            Stored::I32 => "int32",
            Stored::U64 => "uint64",
            Stored::I64 => "int64",
            Stored::F32 => "float32",
            Stored::F64 => "float64",
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
        check_limits(dataset)?;
        let (cols, rows) = dataset.raster_size();
        let bands =
            (1..=dataset.raster_count()).map(|band| band_header(dataset, band)).collect::<Result<_, _>>()?;
        let (affine, crs) = (affine(dataset), crs(dataset, transform));
        Ok(Header { affine, crs, rows: rows as u32, cols: cols as u32, bands })
    }

    /// Where the file's pixels are. What the file does not say itself, the catalog may.
    pub(super) fn grid<'a>(
        &self,
        declared: Option<&'a AssetGrid>,
    ) -> Result<Cow<'a, AssetGrid>, ReadProblem> {
        let affine = match (&self.affine, declared) {
            (Ok(affine), _) => *affine,
            (Err(ReadProblem::NoGeotransform), Some(declared)) => declared.affine,
            (Err(problem), _) => return Err(problem.clone()),
        };
        let crs = match (&self.crs, declared) {
            (Ok(crs), _) => crs.clone(),
            (Err(_), Some(declared)) => declared.crs.clone(),
            (Err(problem), None) => return Err(problem.clone()),
        };
        Ok(Cow::Owned(AssetGrid { crs, affine, rows: self.rows, cols: self.cols }))
    }
}

/// Checks what a header declares, before anything is allocated for it.
pub(super) fn check_limits(dataset: &Dataset) -> Result<(), ReadProblem> {
    let (cols, rows) = dataset.raster_size();
    let (cols, rows, count) = (cols as u64, rows as u64, dataset.raster_count() as u64);
    limit("columns:", cols, SIDE_MAX)?;
    limit("rows:", rows, SIDE_MAX)?;
    limit("pixels:", cols * rows, PIXELS_MAX)?;
    limit("bands:", count, BANDS_MAX)?;
    if count == 0 {
        return Err(ReadProblem::NoBands);
    }
    limit("bytes of metadata:", metadata_bytes(dataset), METADATA_BYTES_MAX)?;
    let driver = dataset.driver().short_name();
    // In a file interleaved by pixel all bands of a block are decoded together.
    let interleaved = dataset.metadata_item("INTERLEAVE", "IMAGE_STRUCTURE").as_deref() == Some("PIXEL");
    let together = if interleaved { count } else { 1 };
    let mut pixel_bytes = 0u64;
    for band in 1..=count as usize {
        let band = dataset.rasterband(band).map_err(corrupt)?;
        // OpenJPEG decodes into 32 bits whatever is stored; complex numbers are refused later.
        let least = if driver == "JP2OpenJPEG" { 4 } else { 1 };
        let bytes = Stored::of(&band).map_or(WIDEST_BYTES, Stored::bytes).max(least);
        pixel_bytes += bytes;
        check_blocks(&band, bytes * together)?;
        limit("overviews:", band.overview_count().unwrap_or(0).max(0) as u64, OVERVIEWS_MAX)?;
        // Only a mask of its own is decoded from blocks of its own.
        if mask_of(&band)?.is_some_and(|mask| mask == Mask::Own) {
            check_blocks(&band.open_mask_band().map_err(corrupt)?, 1)?;
        }
    }
    if matches!(driver.as_str(), "PNG" | "JPEG") {
        limit("decoded bytes:", cols * rows * pixel_bytes, WHOLE_BYTES_MAX)?;
    }
    Ok(())
}

fn check_blocks(band: &RasterBand<'_>, pixel_bytes: u64) -> Result<(), ReadProblem> {
    let ((block_cols, block_rows), (cols, rows)) = (band.block_size(), band.size());
    let (block_cols, block_rows) = (block_cols.max(1) as u64, block_rows.max(1) as u64);
    let bytes = block_cols.saturating_mul(block_rows).saturating_mul(pixel_bytes);
    limit("blocks of bytes:", bytes, BLOCK_BYTES_MAX)?;
    let blocks = (cols as u64).div_ceil(block_cols).saturating_mul((rows as u64).div_ceil(block_rows));
    limit("blocks in a band:", blocks, BLOCKS_MAX)
}

fn metadata_bytes(dataset: &Dataset) -> u64 {
    let domains = dataset.metadata_domains();
    let items = domains.iter().filter_map(|domain| dataset.metadata_domain(domain)).flatten();
    items.map(|item| item.len() as u64).sum()
}

fn affine(dataset: &Dataset) -> Result<Affine, ReadProblem> {
    let Ok(numbers) = dataset.geo_transform() else {
        let domain = |name: &str| dataset.metadata_domain(name).is_some_and(|items| !items.is_empty());
        return Err(if dataset.gcps().is_empty() {
            if domain("RPC") {
                ReadProblem::OnlyPoints { what: "rational polynomials (RPC)" }
            } else if domain("GEOLOCATION") {
                ReadProblem::OnlyPoints { what: "geolocation arrays" }
            } else {
                ReadProblem::NoGeotransform
            }
        } else {
            ReadProblem::OnlyPoints { what: "ground control points" }
        });
    };
    let affine = Affine::from_gdal(numbers);
    if !numbers.iter().all(|v| v.is_finite()) || affine.inverse().is_none() {
        return Err(ReadProblem::NoGeotransform);
    }
    Ok(affine)
}

fn crs(dataset: &Dataset, transform: &dyn Transform) -> Result<Crs, ReadProblem> {
    let unknown = |reason: String| ReadProblem::UnknownCrs { reason };
    let reference = dataset.spatial_ref().map_err(|_| unknown("the file has no CRS".to_owned()))?;
    let text = reference.to_wkt().map_err(|error| unknown(reason(&error, &[])))?;
    transform.canonical(&text).map_err(|error| unknown(error.to_string()))
}

pub(super) fn corrupt(error: gdal::errors::GdalError) -> ReadProblem {
    ReadProblem::Corrupt { reason: reason(&error, &[]) }
}

/// What says which pixels of a band are valid, other than a value of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// A raster that is stored for it.
    Own,
    /// Other bands: an alpha band, or a value in all of them.
    Bands,
}

/// As GDAL decides it: a mask counts before nodata, nodata before alpha.
pub(super) fn mask_of(band: &RasterBand<'_>) -> Result<Option<Mask>, ReadProblem> {
    let flags = band.mask_flags().map_err(corrupt)?;
    Ok(match (flags.is_all_valid(), flags.is_nodata(), flags.is_alpha(), flags.is_per_dataset()) {
        (true, ..) | (false, true, _, false) => None,
        (false, true, _, true) | (false, false, true, _) => Some(Mask::Bands),
        (false, false, false, _) => Some(Mask::Own),
    })
}

fn band_header(dataset: &Dataset, band: usize) -> Result<BandHeader, ReadProblem> {
    let band = dataset.rasterband(band).map_err(corrupt)?;
    let kind = Stored::of(&band);
    let masked = mask_of(&band)?.is_some();
    let nodata = match kind {
        _ if masked => None,
        Ok(Stored::I64) => band.no_data_value_i64().map(Nodata::Signed),
        Ok(Stored::U64) => band.no_data_value_u64().map(Nodata::Unsigned),
        _ => band.no_data_value().map(Nodata::Float),
    };
    let scale_offset = (band.scale().unwrap_or(1.0), band.offset().unwrap_or(0.0));
    let is_palette = band.color_interpretation() == ColorInterpretation::PaletteIndex;
    let overviews = (0..band.overview_count().unwrap_or(0).max(0) as usize).filter_map(|level| {
        let (cols, rows) = band.overview(level).ok()?.size();
        Some((cols as u32, rows as u32))
    });
    let overviews = overviews.collect();
    Ok(BandHeader { kind, nodata, scale_offset, masked, is_palette, overviews })
}

/// Refuses what is above a limit.
pub(super) fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), ReadProblem> {
    if found > limit {
        return Err(ReadProblem::TooComplex { what, found, limit });
    }
    Ok(())
}
