//! Results as files: one GeoTIFF of a whole grid.
//!
//! A file appears under its name complete or not at all: it is written beside it under another name,
//! read back, and renamed. Reading back is how a full disk is noticed, because GDAL before 3.7 closes
//! a file without saying so, and how a CRS that GeoTIFF cannot express is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use gdal::errors::GdalError;
use gdal::raster::{Buffer, GdalType, RasterCreationOptions};
use gdal::spatial_ref::{AxisMappingStrategy, SpatialRef};
use gdal::{Dataset, DriverManager, Metadata};
use graticule_common::block::{Block, Kind, Samples};
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::grid::{Crs, Grid};

use crate::source::gdal::{configure, listen, open_local, reason};

/// What stands where a pixel of a bool raster is invalid.
const BOOL_NODATA: u8 = 255;

/// Sides from here on are cut into tiles, so that a viewer need not read whole rows.
const TILED_FROM: u32 = 512;

/// A raster to be written.
#[derive(Clone, Debug)]
pub struct RasterFile<'a> {
    /// Where the pixels are.
    pub grid: &'a Grid,
    /// The pixels of the whole grid.
    pub block: &'a Block,
    /// Names of the block's bands. Bands of a stack are written image by image and named `0:red`,
    /// `0:nir`, `1:red`, …, unless there is a name for each of them.
    pub band_names: Vec<String>,
}

/// Why a raster was not written. There is then no new file, and an old one is as it was.
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
            SinkError::NoBands { .. } => ErrorClass::Impossible,
            SinkError::Misfit { .. } => ErrorClass::Internal,
            SinkError::Crs { .. } => ErrorClass::Unsupported,
            SinkError::Write { .. } => ErrorClass::InvalidRequest,
        }
    }
}

/// Writes a raster as a GeoTIFF, over a file of that name if there is one.
///
/// Numbers become float32 with NaN as nodata, truth values uint8 with 255 as nodata. The same raster
/// gives the same bytes.
///
/// # Errors
/// [`SinkError`]; nothing is left behind.
pub fn write_geotiff(path: &Path, raster: &RasterFile<'_>) -> Result<(), SinkError> {
    configure();
    let shown = path.display().to_string();
    let (block, grid) = (raster.block, raster.grid);
    if block.kind().planes() == 0 {
        return Err(SinkError::NoBands { kind: block.kind(), path: shown });
    }
    if block.shape() != (grid.rows(), grid.cols()) {
        return Err(SinkError::Misfit { what: "rows and columns", path: shown });
    }
    let Some(names) = plane_names(block.kind(), &raster.band_names) else {
        return Err(SinkError::Misfit { what: "band names", path: shown });
    };
    let crs = spatial_ref(grid.crs(), &shown)?;
    let failed = |reason: String| SinkError::Write { path: shown.clone(), reason };
    let temporary = Temporary::beside(path).map_err(|error| failed(error.to_string()))?;
    let (result, messages) = listen(|| match block.samples() {
        Samples::F32(values) => {
            let pixel = |(value, ok): (&f32, &u8)| if *ok == 1 { *value } else { f32::NAN };
            write(&temporary.0, grid, &crs, &names, f64::NAN, "3", |plane: usize| {
                let at = plane * block.pixels()..(plane + 1) * block.pixels();
                values[at.clone()].iter().zip(&block.valid()[at]).map(pixel).collect()
            })
        }
        Samples::Bool(values) => {
            let pixel = |(value, ok): (&u8, &u8)| if *ok == 1 { *value } else { BOOL_NODATA };
            write(&temporary.0, grid, &crs, &names, BOOL_NODATA.into(), "2", |plane: usize| {
                let at = plane * block.pixels()..(plane + 1) * block.pixels();
                values[at.clone()].iter().zip(&block.valid()[at]).map(pixel).collect()
            })
        }
    });
    match result {
        Ok(None) => {}
        Ok(Some(Lost::Pixels)) => {
            let said = messages.first().map_or("", String::as_str);
            return Err(failed(format!("what was written does not read back; is the disk full? {said}")));
        }
        Ok(Some(Lost::Crs)) => {
            let reason = "it reads back as another one".to_owned();
            return Err(SinkError::Crs { crs: grid.crs().clone(), path: shown, reason });
        }
        Err(error) => return Err(failed(reason(&error, &messages))),
    }
    temporary.publish(path).map_err(|error| failed(error.to_string()))
}

/// What a file that was written does not give back.
enum Lost {
    Pixels,
    Crs,
}

/// Writes all planes and reads them back.
fn write<T: GdalType + Copy + Default + ToBits>(
    path: &Path,
    grid: &Grid,
    crs: &SpatialRef,
    names: &[String],
    nodata: f64,
    predictor: &str,
    plane: impl Fn(usize) -> Vec<T>,
) -> Result<Option<Lost>, GdalError> {
    let (cols, rows) = (grid.cols() as usize, grid.rows() as usize);
    let mut options = RasterCreationOptions::new();
    options.add_name_value("COMPRESS", "DEFLATE")?;
    options.add_name_value("PREDICTOR", predictor)?;
    options.add_name_value("INTERLEAVE", "BAND")?;
    // The size after compression is not known before; a result of 4 GB must not fail at its end.
    options.add_name_value("BIGTIFF", "IF_SAFER")?;
    if grid.rows().max(grid.cols()) > TILED_FROM {
        options.add_name_value("TILED", "YES")?;
    }
    let driver = DriverManager::get_driver_by_name("GTiff")?;
    let mut dataset =
        driver.create_with_band_type_with_options::<T, _>(path, cols, rows, names.len(), &options)?;
    let ((x, y), (res_x, res_y)) = (grid.origin(), grid.lattice().resolution());
    dataset.set_geo_transform(&[x, res_x, 0.0, y, 0.0, -res_y])?;
    dataset.set_spatial_ref(crs)?;
    for (i, name) in names.iter().enumerate() {
        let mut band = dataset.rasterband(i + 1)?;
        band.set_description(name)?;
        band.set_no_data_value(Some(nodata))?;
    }
    for i in 0..names.len() {
        let mut pixels = Buffer::new((cols, rows), plane(i));
        dataset.rasterband(i + 1)?.write((0, 0), (cols, rows), &mut pixels)?;
    }
    dataset.close()?;
    let Ok(dataset) = open_local(path) else { return Ok(Some(Lost::Pixels)) };
    let mut found = vec![T::default(); rows * cols];
    for i in 0..names.len() {
        let read =
            dataset.rasterband(i + 1)?.read_into_slice((0, 0), (cols, rows), (cols, rows), &mut found, None);
        let equal = |(a, b): (&T, &T)| a.to_bits() == b.to_bits();
        if read.is_err() || !found.iter().zip(&plane(i)).all(equal) {
            return Ok(Some(Lost::Pixels));
        }
    }
    if !has_crs(&dataset, crs) {
        return Ok(Some(Lost::Crs));
    }
    Ok(None)
}

/// Whether a file came back with the CRS it was given. GeoTIFF has one form for a geographic CRS and its
/// twin with swapped axes, and x comes first in the file either way, so their order does not count.
fn has_crs(dataset: &Dataset, crs: &SpatialRef) -> bool {
    let (Ok(mut found), mut given) = (dataset.spatial_ref(), crs.clone()) else { return false };
    found.set_axis_mapping_strategy(AxisMappingStrategy::AuthorityCompliant);
    given.set_axis_mapping_strategy(AxisMappingStrategy::AuthorityCompliant);
    found == given
}

/// The bits of a value: NaN is to come back, too.
trait ToBits {
    fn to_bits(self) -> u32;
}

impl ToBits for f32 {
    fn to_bits(self) -> u32 {
        self.to_bits()
    }
}

impl ToBits for u8 {
    fn to_bits(self) -> u32 {
        self.into()
    }
}

/// A name for each plane; `None` if names and planes do not fit.
fn plane_names(kind: Kind, names: &[String]) -> Option<Vec<String>> {
    if names.len() == kind.planes() {
        return Some(names.to_vec());
    }
    let images = kind.images().filter(|_| kind.bands() == u32::try_from(names.len()).ok())?;
    Some((0..images).flat_map(|image| names.iter().map(move |name| format!("{image}:{name}"))).collect())
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

/// A new file beside the one to be written; removed unless published.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> io::Result<Temporary> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or_else(|| io::Error::other("it does not name a file"))?;
        // Absolute, because GDAL gives some relative names a meaning of their own.
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => fs::canonicalize(folder)?,
            _ => fs::canonicalize(".")?,
        };
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{count}.part", std::process::id()));
            let temporary = folder.join(hidden);
            match fs::File::create_new(&temporary) {
                Ok(_) => return Ok(Temporary(temporary)),
                // Left behind by a process of the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn publish(self, path: &Path) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()?;
        fs::rename(&self.0, path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After publishing there is nothing to remove; if removing fails there is nobody to tell.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
