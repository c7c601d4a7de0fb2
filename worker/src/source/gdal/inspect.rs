//! A look into a file for catalogs: what it says about itself, and whether all of it decodes.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::Path;

use gdal::raster::{ColorInterpretation, GdalDataType, RasterBand};
use gdal::{Dataset, Metadata};
use graticule_common::file::{FileBand, FileInfo, Inspect};
use graticule_common::scene::{Asset, ClassInfo};

use super::super::{ReadProblem, version_of};
use super::GdalSource;
use super::header::{Header, Mask, Nodata, Stored, mask_of};
use super::open::{Target, refuse_lost_tags};
use super::settings::{listen, reason};

/// Tags handed out of a file, and characters of each: a catalog keeps none that is longer.
const TAGS_MAX: usize = 256;
const TAG_CHARS_MAX: usize = 4096;

/// Classes of a band.
const CLASSES_MAX: usize = 65536;

/// Sides from here on ask for tiles and overviews.
const LARGE_SIDE: usize = 4096;

/// Endings of files beside an image that GDAL's tools would take for parts of it.
const SIDECAR_ENDINGS: [&str; 3] = [".aux.xml", ".msk", ".ovr"];

impl Inspect for GdalSource {
    fn inspect(&self, asset: &Asset, pixels: bool) -> Result<FileInfo, String> {
        let look = || {
            let target = Target::of(asset)?;
            let metadata = if target.remote.is_none() { Some(target.check_place()?) } else { None };
            let dataset = target.open(&self.remote)?;
            let remote = dataset.remote_version().unwrap_or_default();
            let version = metadata.as_ref().map_or_else(|| remote.to_owned(), version_of);
            let whole = |problem: ReadProblem| dataset.fault().unwrap_or(problem);
            let header = Header::read(&dataset, self.transform.as_ref()).map_err(whole)?;
            let (info, messages) = listen(|| describe(&dataset, &header, &target, version.clone()));
            refuse_lost_tags(&messages)?;
            if pixels {
                decode(&dataset).map_err(whole)?;
            }
            if let Some(fault) = dataset.fault() {
                return Err(fault);
            }
            // What was looked at is what is there, and what was registered if that is known.
            let now = if asset.version.is_empty() { version } else { asset.version.clone() };
            Target { version: now, ..target }.check()?;
            Ok(info)
        };
        look().map_err(|problem: ReadProblem| problem.to_string())
    }
}

fn describe(dataset: &Dataset, header: &Header, target: &Target, version: String) -> FileInfo {
    let bands = dataset.rasterbands().flatten().zip(&header.bands).map(|(band, header)| {
        let text = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let (scale, offset) = (band.scale(), band.offset());
        FileBand {
            data_type: header.kind.map_or_else(|_| complex_name(band.band_type()), Stored::name).to_owned(),
            name: band.description().ok().and_then(text),
            nodata: nodata(&band, header.kind.ok()),
            scale_offset: (scale.is_some() || offset.is_some())
                .then_some((scale.unwrap_or(1.0), offset.unwrap_or(0.0))),
            unit: text(band.unit()),
            classes: classes(&band),
            is_alpha: band.color_interpretation() == ColorInterpretation::AlphaBand,
        }
    });
    FileInfo {
        driver: dataset.driver().short_name(),
        version,
        grid: header.grid(None).map(|grid| grid.into_owned()).map_err(|problem| problem.to_string()),
        shape: (header.rows, header.cols),
        bands: bands.collect(),
        tags: tags(dataset),
        notes: notes(dataset, target),
    }
}

/// As the band says it, whether or not a mask overrules it.
fn nodata(band: &RasterBand<'_>, kind: Option<Stored>) -> Option<f64> {
    let value = match kind {
        Some(Stored::I64) => band.no_data_value_i64().map(Nodata::Signed),
        Some(Stored::U64) => band.no_data_value_u64().map(Nodata::Unsigned),
        _ => band.no_data_value().map(Nodata::Float),
    };
    value.map(|value| match value {
        Nodata::Float(value) => value,
        Nodata::Signed(value) => value as f64,
        Nodata::Unsigned(value) => value as f64,
    })
}

fn complex_name(kind: GdalDataType) -> &'static str {
    match kind as u32 {
        8 => "cint16",
        9 => "cint32",
        10 => "cfloat32",
        11 => "cfloat64",
        _ => "other",
    }
}

/// What the values of a band stand for: places in a palette, with names where there are any.
fn classes(band: &RasterBand<'_>) -> Vec<ClassInfo> {
    let names = category_names(band);
    let palette = band.color_table();
    let colors = palette.as_ref().map_or(0, |palette| palette.entry_count());
    let class = |value: usize| {
        let color = palette.as_ref().and_then(|palette| palette.entry_as_rgb(value));
        let color = color.map(|entry| [entry.r, entry.g, entry.b].map(|v| v.clamp(0, 255) as u8));
        let name = names.get(value).filter(|name| !name.is_empty());
        // A palette is as long as its type, the rest of it black.
        let is_used = name.is_some() || color.is_some_and(|color| value == 0 || color != [0; 3]);
        let name = name.cloned().unwrap_or_else(|| value.to_string());
        is_used.then_some(ClassInfo { value: value as i64, name, color })
    };
    (0..colors.max(names.len()).min(CLASSES_MAX)).filter_map(class).collect()
}

/// Names of a band's values from 0 on.
#[allow(unsafe_code, reason = "the bindings lack category names")]
fn category_names(band: &RasterBand<'_>) -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the handle lives as long as `band`. The list is the band's own, not to be freed: pointers
    // to C strings up to a null, or itself null; it is left before anything else touches the band.
    unsafe {
        let list = gdal_sys::GDALGetRasterCategoryNames(band.c_rasterband());
        while !list.is_null() && names.len() < CLASSES_MAX && !(*list.add(names.len())).is_null() {
            names.push(CStr::from_ptr(*list.add(names.len())).to_string_lossy().trim().to_owned());
        }
    }
    names
}

fn tags(dataset: &Dataset) -> BTreeMap<String, String> {
    let items = dataset.metadata_domain("").unwrap_or_default();
    let pairs = items.iter().filter_map(|item| item.split_once('='));
    let short = pairs.filter(|(key, value)| key.len() + value.len() <= TAG_CHARS_MAX);
    short.take(TAGS_MAX).map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn notes(dataset: &Dataset, target: &Target) -> Vec<String> {
    let mut notes = Vec::new();
    let images = dataset.metadata_domain("SUBDATASETS").unwrap_or_default();
    let images = images.iter().filter(|item| item.contains("_NAME=")).count();
    if images > 1 {
        notes.push(format!("the file holds {images} images, of which only the first is read"));
    }
    let path = Path::new(&target.name);
    for ending in SIDECAR_ENDINGS {
        let name = format!("{}{ending}", path.file_name().unwrap_or_default().to_string_lossy());
        if !target.sidecars.contains(&name) && path.with_file_name(&name).exists() {
            notes.push(format!("`{name}` lies beside it and is not read: the catalog does not list it"));
        }
    }
    let Ok(band) = dataset.rasterband(1) else { return notes };
    let ((cols, rows), (block_cols, block_rows)) = (band.size(), band.block_size());
    let is_large = cols >= LARGE_SIDE && rows >= LARGE_SIDE;
    if is_large && block_cols >= cols {
        notes.push(format!(
            "it is stored in strips of {block_rows} x {block_cols} pixels, which are slow to read in part; \
             rewrite it as a Cloud-Optimized GeoTIFF"
        ));
    }
    if is_large && band.overview_count().unwrap_or(0) == 0 {
        notes.push("it has no overviews, so maps of it at small scales are slow".to_owned());
    }
    if let Some(bits) = band.metadata_item("NBITS", "IMAGE_STRUCTURE") {
        notes.push(format!("its values are stored in {bits} bits"));
    }
    notes
}

/// Decodes every block of every band, and of masks, in bounded memory.
fn decode(dataset: &Dataset) -> Result<(), ReadProblem> {
    let (count, mut bytes) = (dataset.raster_count(), Vec::new());
    let mut through = |band: &RasterBand<'_>, name: &str, (x, y): (usize, usize)| {
        let ((cols, rows), (block_cols, block_rows)) = (band.size(), band.block_size());
        let size = (block_cols.min(cols - x), block_rows.min(rows - y));
        // As bytes, because decoding counts here and not the values: memory is then a block's pixels.
        bytes.resize(size.0 * size.1, 0u8);
        let (result, messages) =
            listen(|| band.read_into_slice((x as isize, y as isize), size, size, &mut bytes, None));
        result.map_err(|error| ReadProblem::Corrupt {
            reason: format!("{name}, row {y}, column {x}: {}", reason(&error, &messages)),
        })
    };
    let each = |at: usize| dataset.rasterband(at).map_err(super::header::corrupt);
    // Block by block, and in each band by band: where bands share blocks, each is decoded once.
    let shared = (2..=count).all(|at| {
        dataset.rasterband(at).map(|band| band.block_size()).ok()
            == dataset.rasterband(1).map(|band| band.block_size()).ok()
    });
    let groups: Vec<Vec<usize>> =
        if shared { vec![(1..=count).collect()] } else { (1..=count).map(|at| vec![at]).collect() };
    for group in groups {
        let bands = group.iter().map(|at| each(*at)).collect::<Result<Vec<_>, _>>()?;
        for at in blocks(&bands[0]) {
            for (band, number) in bands.iter().zip(&group) {
                through(band, &format!("band {number}"), at)?;
            }
        }
    }
    for at in 1..=count {
        let band = each(at)?;
        if mask_of(&band)? != Some(Mask::Own) {
            continue;
        }
        let mask = band.open_mask_band().map_err(super::header::corrupt)?;
        for place in blocks(&mask) {
            through(&mask, &format!("mask of band {at}"), place)?;
        }
        if band.mask_flags().map_err(super::header::corrupt)?.is_per_dataset() {
            break;
        }
    }
    Ok(())
}

/// First column and row of each block.
fn blocks(band: &RasterBand<'_>) -> impl Iterator<Item = (usize, usize)> + use<> {
    let ((cols, rows), (block_cols, block_rows)) = (band.size(), band.block_size());
    (0..rows)
        .step_by(block_rows.max(1))
        .flat_map(move |row| (0..cols).step_by(block_cols.max(1)).map(move |col| (col, row)))
}
