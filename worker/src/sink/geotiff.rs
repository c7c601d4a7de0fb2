//! The GeoTIFF itself: a plain one first, with overviews, and from it the one whose parts lie in the
//! order that reading over a network wants.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use gdal::errors::GdalError;
use gdal::raster::{
    Buffer, ColorEntry, ColorTable, PaletteInterpretation, RasterBand, RasterCreationOptions, RgbaEntry,
};
use gdal::spatial_ref::{AxisMappingStrategy, SpatialRef};
use gdal::{Dataset, DriverManager, Metadata};

use super::encode::{Pixel, Rule};
use super::{BandNote, RasterFile, StoredType};
use crate::source::gdal::open_local;

/// Rows and columns of a tile in the file.
const TILE: usize = 512;

/// What a file that was written does not give back.
pub(super) enum Lost {
    Pixels,
    Crs,
}

/// Writes all planes and reads them back.
pub(super) fn write<T: Pixel>(
    path: &Path,
    raster: &RasterFile<'_>,
    crs: &SpatialRef,
    rule: &Rule,
) -> Result<Option<Lost>, GdalError> {
    let plain = path.with_extension("plain.tif");
    // Tiles of overviews have a setting instead of an option.
    gdal::config::set_thread_local_config_option("GDAL_TIFF_OVR_BLOCKSIZE", &TILE.to_string())?;
    let written = arrange::<T>(&plain, path, raster, crs, rule);
    gdal::config::clear_thread_local_config_option("GDAL_TIFF_OVR_BLOCKSIZE")?;
    // Its room on the disk is needed again; that it is there does no harm.
    let _ = fs::remove_file(&plain);
    written?;
    read_back::<T>(path, raster, crs, rule)
}

fn arrange<T: Pixel>(
    plain: &Path,
    path: &Path,
    raster: &RasterFile<'_>,
    crs: &SpatialRef,
    rule: &Rule,
) -> Result<(), GdalError> {
    let (cols, rows) = (raster.grid.cols() as usize, raster.grid.rows() as usize);
    let driver = DriverManager::get_driver_by_name("GTiff")?;
    let mut options = RasterCreationOptions::new();
    common_options(&mut options)?;
    let mut dataset =
        driver.create_with_band_type_with_options::<T, _>(plain, cols, rows, raster.bands.len(), &options)?;
    describe(&mut dataset, raster, crs, rule)?;
    for plane in 0..raster.bands.len() {
        let mut band = dataset.rasterband(plane + 1)?;
        for (row, count) in strips(rows) {
            let mut pixels = Buffer::new((cols, count), strip::<T>(raster, rule, plane, row, count));
            band.write((0, row as isize), (cols, count), &mut pixels)?;
        }
    }
    dataset.flush_cache()?;
    let levels: Vec<i32> = (1..31)
        .map(|power| 1 << power)
        // Down to one tile: the last one is the first that fits.
        .take_while(|factor: &i32| rows.max(cols).div_ceil(*factor as usize / 2) > TILE)
        .collect();
    if !levels.is_empty() {
        let counted =
            rule.dtype == StoredType::Bool || raster.bands.iter().any(|band| !band.classes.is_empty());
        // Of whole numbers as they are, a mean may be one that means nothing.
        let resampling = match (counted, rule.is_plain_integer()) {
            (true, _) => "MODE",
            (false, true) => "NEAREST",
            (false, false) => "AVERAGE",
        };
        dataset.build_overviews(resampling, &levels, &[])?;
    }
    dataset.close()?;
    let dataset = open_local(plain).map_err(|_| GdalError::NullPointer {
        method_name: "GDALOpenEx",
        msg: "what was written does not read back; is the disk full?".into(),
    })?;
    let mut options = RasterCreationOptions::new();
    common_options(&mut options)?;
    options.add_name_value("COPY_SRC_OVERVIEWS", "YES")?;
    options.add_name_value("COMPRESS", "DEFLATE")?;
    options.add_name_value("PREDICTOR", if rule.dtype.is_float() { "3" } else { "2" })?;
    dataset.create_copy(&driver, path, &options)?.close()?;
    Ok(())
}

fn common_options(options: &mut RasterCreationOptions) -> Result<(), GdalError> {
    options.add_name_value("TILED", "YES")?;
    options.add_name_value("BLOCKXSIZE", &TILE.to_string())?;
    options.add_name_value("BLOCKYSIZE", &TILE.to_string())?;
    options.add_name_value("INTERLEAVE", "BAND")?;
    // The size after compression is not known before; a result of 4 GB must not fail at its end.
    options.add_name_value("BIGTIFF", "IF_SAFER")
}

/// Everything but the pixels.
fn describe(
    dataset: &mut Dataset,
    raster: &RasterFile<'_>,
    crs: &SpatialRef,
    rule: &Rule,
) -> Result<(), GdalError> {
    let grid = raster.grid;
    let ((x, y), (res_x, res_y)) = (grid.origin(), grid.lattice().resolution());
    dataset.set_geo_transform(&[x, res_x, 0.0, y, 0.0, -res_y])?;
    dataset.set_spatial_ref(crs)?;
    let is_scaled = (raster.encoding.scale, raster.encoding.offset) != (1.0, 0.0);
    for (at, note) in raster.bands.iter().enumerate() {
        let mut band = dataset.rasterband(at + 1)?;
        band.set_description(&note.name)?;
        band.set_no_data_value(rule.nodata)?;
        if is_scaled {
            band.set_scale(raster.encoding.scale)?;
            band.set_offset(raster.encoding.offset)?;
        }
        if !note.unit.is_empty() {
            set_unit(&mut band, &note.unit)?;
        }
        for class in &note.classes {
            band.set_metadata_item(&format!("CLASS_{}", class.value), &class.name, "")?;
        }
    }
    // TIFF has one table a file, and only for small unsigned numbers that are the classes themselves.
    if let ([note], StoredType::U8 | StoredType::U16, false) = (&raster.bands[..], rule.dtype, is_scaled)
        && let Some(table) = color_table(note)
    {
        dataset.rasterband(1)?.set_color_table(&table);
    }
    Ok(())
}

fn color_table(note: &BandNote) -> Option<ColorTable<'static>> {
    let colored = |class: &super::ClassNote| Some((u16::try_from(class.value).ok()?, class.color?));
    let mut entries = note.classes.iter().filter_map(colored).peekable();
    entries.peek()?;
    let mut table = ColorTable::new(PaletteInterpretation::Rgba);
    for (value, [r, g, b]) in entries {
        let entry = RgbaEntry { r: r.into(), g: g.into(), b: b.into(), a: 255 };
        table.set_color_entry(value, &ColorEntry::Rgba(entry));
    }
    Some(table)
}

/// Sets the unit of a band's values.
#[expect(unsafe_code, reason = "the binding has no such call")]
fn set_unit(band: &mut RasterBand<'_>, unit: &str) -> Result<(), GdalError> {
    let unit = CString::new(unit)?;
    // SAFETY: the handle is of a band borrowed for this call, the text ends in NUL and is copied.
    let result = unsafe { gdal_sys::GDALSetRasterUnitType(band.c_rasterband(), unit.as_ptr()) };
    if result == gdal_sys::CPLErr::CE_None {
        return Ok(());
    }
    Err(GdalError::CplError { class: result, number: 0, msg: "the unit is refused".into() })
}

/// First rows and numbers of rows of what is held at once.
fn strips(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(TILE).map(move |row| (row, TILE.min(rows - row)))
}

/// Stored values of some rows of a plane.
fn strip<T: Pixel>(raster: &RasterFile<'_>, rule: &Rule, plane: usize, row: usize, count: usize) -> Vec<T> {
    let cols = raster.grid.cols() as usize;
    let from = plane * raster.block.pixels() + row * cols;
    rule.encode(raster.block, from..from + count * cols)
}

fn read_back<T: Pixel>(
    path: &Path,
    raster: &RasterFile<'_>,
    crs: &SpatialRef,
    rule: &Rule,
) -> Result<Option<Lost>, GdalError> {
    let (cols, rows) = (raster.grid.cols() as usize, raster.grid.rows() as usize);
    let Ok(dataset) = open_local(path) else { return Ok(Some(Lost::Pixels)) };
    if dataset.raster_count() != raster.bands.len() || dataset.raster_size() != (cols, rows) {
        return Ok(Some(Lost::Pixels));
    }
    let mut found = vec![T::default(); TILE.min(rows) * cols];
    for plane in 0..raster.bands.len() {
        let band = dataset.rasterband(plane + 1)?;
        for (row, count) in strips(rows) {
            let found = &mut found[..count * cols];
            let (at, size) = ((0, row as isize), (cols, count));
            let expected: Vec<T> = strip(raster, rule, plane, row, count);
            let equal = |(a, b): (&T, &T)| a.bits() == b.bits();
            if band.read_into_slice(at, size, size, found, None).is_err()
                || !found.iter().zip(&expected).all(equal)
            {
                return Ok(Some(Lost::Pixels));
            }
        }
        // Overviews come before the pixels in the file; one tile of each tells that they are there.
        for level in 0..band.overview_count()? as usize {
            let overview = band.overview(level)?;
            let size = overview.size();
            let (last, width) = (size.1 - 1, size.0);
            if overview.read_as::<T>((0, last as isize), (width, 1), (width, 1), None).is_err() {
                return Ok(Some(Lost::Pixels));
            }
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
