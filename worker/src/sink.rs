//! Results as files: one Cloud-Optimized GeoTIFF of a whole grid.
//!
//! The caller names a file in a folder of its own and puts it into its place when all is well: what
//! fails may leave pieces there. A file is read back before it counts. That is how a full disk is
//! noticed, because GDAL before 3.7 closes a file without saying so, and how a CRS that GeoTIFF cannot
//! express is.

use std::path::Path;

use gdal::spatial_ref::{AxisMappingStrategy, SpatialRef};
use graticule_common::block::{Block, Kind};
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::grid::{Crs, Grid};

use crate::source::gdal::{configure, listen, reason};

mod encode;
mod geotiff;
#[cfg(test)]
mod tests;

pub use encode::{Clamped, Encoding, Nodata, StoredType};

use self::encode::Rule;
use self::geotiff::Lost;

/// What a band of a file is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BandNote {
    /// Its name.
    pub name: String,
    /// Unit of its values; empty: not known.
    pub unit: String,
    /// Its classes; empty where values are measured.
    pub classes: Vec<ClassNote>,
}

/// A class of a band.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassNote {
    /// The value.
    pub value: i64,
    /// Its name.
    pub name: String,
    /// Its colour, as red, green and blue.
    pub color: Option<[u8; 3]>,
}

/// A raster to be written.
#[derive(Clone, Debug)]
pub struct RasterFile<'a> {
    /// Where the pixels are.
    pub grid: &'a Grid,
    /// The pixels of the whole grid.
    pub block: &'a Block,
    /// One for each plane of the block: image by image, band by band.
    pub bands: Vec<BandNote>,
    /// How the values are stored.
    pub encoding: &'a Encoding,
}

/// Why a raster was not written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SinkError {
    /// A number, or a stack without images.
    #[error("a {kind} has no bands to write to `{path}`; write a mosaic or a stack with images")]
    NoBands {
        /// What was to be written.
        kind: Kind,
        /// The file.
        path: String,
    },
    /// Block, grid and names that do not belong together.
    #[error("{what} do not fit the raster to be written to `{path}`")]
    Misfit {
        /// What does not fit.
        what: &'static str,
        /// The file.
        path: String,
    },
    /// An encoding that means nothing.
    #[error("cannot write `{path}`: {what}")]
    Encoding {
        /// What is wrong.
        what: String,
        /// The file.
        path: String,
    },
    /// Values that cannot be stored.
    #[error(
        "cannot write `{path}` as {dtype}: {outside} values are outside its range, {nodata} would read back \
         as nodata, {nans} are NaN (the first: {example}); choose another type, scale, offset or nodata, or \
         accept the nearest value that can be stored with `--clamp`"
    )]
    Values {
        /// Number of values that the type cannot hold.
        outside: u64,
        /// Number of valid values that would read back as invalid.
        nodata: u64,
        /// Number of NaN values.
        nans: u64,
        /// The first of them.
        example: f64,
        /// The type.
        dtype: &'static str,
        /// The file.
        path: String,
    },
    /// The CRS has no GeoTIFF form.
    #[error(
        "cannot store the CRS `{crs}` in the GeoTIFF `{path}`: {reason}; compute in a CRS with an EPSG code"
    )]
    Crs {
        /// CRS of the grid.
        crs: Crs,
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The folder does not exist, or the disk or GDAL refuses.
    #[error("cannot write `{path}`: {reason}")]
    Write {
        /// The file.
        path: String,
        /// What the system or GDAL said.
        reason: String,
    },
}

impl Classify for SinkError {
    fn class(&self) -> ErrorClass {
        match self {
            SinkError::NoBands { .. } | SinkError::Values { .. } => ErrorClass::Impossible,
            SinkError::Misfit { .. } => ErrorClass::Internal,
            SinkError::Crs { .. } => ErrorClass::Unsupported,
            SinkError::Encoding { .. } | SinkError::Write { .. } => ErrorClass::InvalidRequest,
        }
    }
}

/// Writes a raster as a Cloud-Optimized GeoTIFF to `path`, whose folder is the caller's own; errors call
/// the file `shown`. Gives the number of values that were not stored as they are.
///
/// Tiles of 512 x 512 pixels, DEFLATE with a predictor, one band after the other, overviews down to one
/// tile (the average of valid pixels; of classes and truth values the most frequent one). The same
/// raster gives the same bytes.
///
/// # Errors
/// [`SinkError`].
pub fn write_geotiff(path: &Path, shown: &Path, raster: &RasterFile<'_>) -> Result<Clamped, SinkError> {
    configure();
    let shown = shown.display().to_string();
    let (block, grid) = (raster.block, raster.grid);
    if block.kind().planes() == 0 {
        return Err(SinkError::NoBands { kind: block.kind(), path: shown });
    }
    if block.shape() != (grid.rows(), grid.cols()) {
        return Err(SinkError::Misfit { what: "rows and columns", path: shown });
    }
    if raster.bands.len() != block.kind().planes() {
        return Err(SinkError::Misfit { what: "bands", path: shown });
    }
    let crs = spatial_ref(grid.crs(), &shown)?;
    let (rule, clamped) = Rule::fit(raster.encoding, block, &shown)?;
    let failed = |reason: String| SinkError::Write { path: shown.clone(), reason };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Absolute, because GDAL gives some relative names a meaning of their own.
    let folder = folder.canonicalize().map_err(|error| failed(error.to_string()))?;
    let name = path.file_name().ok_or_else(|| failed("it does not name a file".into()))?;
    let path = folder.join(name);
    let write = || match rule.dtype {
        StoredType::Bool | StoredType::U8 => geotiff::write::<u8>(&path, raster, &crs, &rule),
        StoredType::U16 => geotiff::write::<u16>(&path, raster, &crs, &rule),
        StoredType::I16 => geotiff::write::<i16>(&path, raster, &crs, &rule),
        StoredType::U32 => geotiff::write::<u32>(&path, raster, &crs, &rule),
        StoredType::I32 => geotiff::write::<i32>(&path, raster, &crs, &rule),
        StoredType::F32 => geotiff::write::<f32>(&path, raster, &crs, &rule),
        StoredType::F64 => geotiff::write::<f64>(&path, raster, &crs, &rule),
    };
    let (result, messages) = listen(write);
    match result {
        Ok(None) => Ok(clamped),
        Ok(Some(Lost::Pixels)) => {
            let said = messages.first().map_or("", String::as_str);
            Err(failed(format!("what was written does not read back; is the disk full? {said}")))
        }
        Ok(Some(Lost::Crs)) => {
            let reason = "it reads back as another one".to_owned();
            Err(SinkError::Crs { crs: grid.crs().clone(), path: shown, reason })
        }
        Err(error) => Err(failed(reason(&error, &messages))),
    }
}

fn spatial_ref(crs: &Crs, path: &str) -> Result<SpatialRef, SinkError> {
    let (result, messages) = listen(|| SpatialRef::from_definition(crs.as_str()));
    let mut found = result.map_err(|error| SinkError::Crs {
        crs: crs.clone(),
        path: path.to_owned(),
        reason: reason(&error, &messages),
    })?;
    found.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
    Ok(found)
}
