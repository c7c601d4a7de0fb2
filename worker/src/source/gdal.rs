//! Raster files, window by window. All reading through GDAL is here, and the one place that swaps
//! (row, col) for GDAL's (x, y).
//!
//! A dataset stays with the thread that opened it, which keeps the last few open. What a header says is
//! remembered for all threads, because to understand a CRS costs twenty times what opening a file does.

mod header;
mod inspect;
mod open;
mod pixels;
mod settings;
#[cfg(test)]
mod tests;
mod vrt;
mod vsi;

use std::fmt;
use std::sync::Arc;

use gdal::Dataset;
use graticule_common::grid::Crs;
use graticule_common::scene::{Affine, AssetGrid, Resampler};
use graticule_common::transform::Transform;
use moka::sync::Cache;

use self::header::{Header, Stored};
use self::open::{Target, keep_open, take_kept};
use self::pixels::{Rule, SignedByte};
pub use self::settings::{SETTINGS, allow, configure, drivers};
pub(crate) use self::{
    open::open_local,
    settings::{listen, reason},
};
use super::near::{self, Axis};
use super::{BandRead, ReadError, ReadProblem, ReadStats, TileSource};

/// Headers remembered per source.
const HEADERS_MAX: u64 = 4096;

/// Pairs of CRSs remembered as the same or not.
const CRS_PAIRS_MAX: u64 = 256;

/// Reads raster files.
pub struct GdalSource {
    transform: Arc<dyn Transform>,
    headers: Cache<Target, Arc<Header>>,
    /// Whether two CRSs are the same.
    same: Cache<(Crs, Crs), bool>,
}

impl fmt::Debug for GdalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GdalSource").field("headers", &self.headers.entry_count()).finish_non_exhaustive()
    }
}

impl GdalSource {
    /// A reader that compares CRSs with `transform`. Configures GDAL.
    pub fn new(transform: Arc<dyn Transform>) -> Self {
        configure();
        GdalSource { transform, headers: Cache::new(HEADERS_MAX), same: Cache::new(CRS_PAIRS_MAX) }
    }

    fn try_read(
        &self,
        read: &BandRead<'_>,
        target: &Target,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<(ReadStats, Option<Dataset>), ReadProblem> {
        let mut dataset = take_kept(target);
        let mut opened = 0;
        let mut open = || {
            opened += 1;
            target.open()
        };
        let header = match self.headers.get(target) {
            Some(header) => header,
            None => {
                let dataset = match &dataset {
                    Some(dataset) => dataset,
                    None => dataset.insert(open()?),
                };
                let header = Arc::new(Header::read(dataset, self.transform.as_ref())?);
                self.headers.insert(target.clone(), header.clone());
                header
            }
        };
        let bands = header.bands.len() as u32;
        let band = read.band.band;
        let Some(stored) = band.checked_sub(1).and_then(|at| header.bands.get(at as usize)) else {
            return Err(ReadProblem::NoSuchBand { band, bands });
        };
        // The catalog's word on the CRS counts: files name the same CRS in many ways, some of them wrong.
        let declared = read.band.asset.raster.as_ref();
        let file = header.grid(declared)?;
        let (file, lattice, window) = (file.as_ref(), read.lattice, &read.window);
        if !file.affine.is_upright() {
            return Err(ReadProblem::Rotated);
        }
        if let Some(declared) = declared.filter(|declared| !coincide(declared, file)) {
            return Err(ReadProblem::Misdescribed { catalog: place(declared), file: place(file) });
        }
        let is_declared = declared.is_some_and(|declared| declared.crs == *lattice.crs());
        if !is_declared && !self.same_crs(lattice.crs(), &file.crs) {
            return Err(ReadProblem::OtherCrs { file: file.crs.clone(), grid: lattice.crs().clone() });
        }
        // Classes never blend.
        let is_classes = stored.is_palette || read.band.is_classes;
        let resampler = match read.resampler {
            Resampler::Mode => Resampler::Mode,
            _ if is_classes => Resampler::Near,
            other => other,
        };
        if resampler != Resampler::Near && !near::coincides(lattice, window, file) {
            return Err(ReadProblem::Resampler { resampler });
        }
        let (rows, cols) = (Axis::rows(lattice, window, file), Axis::cols(lattice, window, file));
        if rows.span().is_none() || cols.span().is_none() {
            return Ok((ReadStats { bytes: 0, opened }, dataset));
        }
        let handle = match &dataset {
            Some(dataset) => dataset,
            None => dataset.insert(open()?),
        };
        let kind = stored.kind?;
        let scale_offset = read.band.scale_offset.unwrap_or(stored.scale_offset);
        let nodata = read.band.nodata.map_or(stored.nodata, |value| Some(value.into()));
        let (result, messages) = listen(|| {
            let band = handle.rasterband(band as usize)?;
            let mask = if stored.masked { Some(band.open_mask_band()?) } else { None };
            macro_rules! gather {
                ($pixel:ty) => {{
                    let rule = Rule::<$pixel>::new(nodata, scale_offset);
                    pixels::gather((&band, mask.as_ref()), (&rows, &cols), &rule, samples, valid)
                }};
            }
            match kind {
                Stored::U8 => gather!(u8),
                Stored::SignedByte => gather!(SignedByte),
                // GDAL knows a signed byte as a type of its own since 3.7 only.
                Stored::I8 | Stored::I16 => gather!(i16),
                Stored::U16 => gather!(u16),
                Stored::I32 => gather!(i32),
                Stored::U32 => gather!(u32),
                Stored::I64 => gather!(i64),
                Stored::U64 => gather!(u64),
                Stored::F32 => gather!(f32),
                Stored::F64 => gather!(f64),
            }
        });
        match result {
            Ok(pixels) => Ok((ReadStats { bytes: pixels * kind.bytes(), opened }, dataset)),
            Err(error) => Err(ReadProblem::Corrupt { reason: reason(&error, &messages) }),
        }
    }

    fn same_crs(&self, a: &Crs, b: &Crs) -> bool {
        a == b || self.same.get_with((a.clone(), b.clone()), || self.transform.same(a, b))
    }
}

impl TileSource for GdalSource {
    fn read(
        &self,
        read: &BandRead<'_>,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<ReadStats, ReadError> {
        let pixels = read.window.pixels();
        assert!(samples.len() == pixels && valid.len() == pixels, "buffers of the size of the window");
        let mut attempt = || {
            let target = Target::of(&read.band.asset)?;
            target.check()?;
            let result = self.try_read(read, &target, samples, valid);
            // Once more: pixels of a file that was replaced meanwhile are neither the old nor the new
            // ones, and that explains a failure better than what the decoder says.
            let unchanged = target.check();
            match (unchanged, result) {
                (Ok(()), Ok((stats, dataset))) => {
                    if let Some(dataset) = dataset {
                        keep_open(&target, dataset);
                    }
                    Ok(stats)
                }
                (unchanged, result) => {
                    // Nothing stays of what may have been read from another file.
                    self.headers.invalidate(&target);
                    unchanged.and_then(|()| result.map(|(stats, _)| stats))
                }
            }
        };
        attempt().map_err(|problem| read.error(problem))
    }
}

/// Whether two grids place the same pixels, but for rounding of the numbers.
fn coincide(a: &AssetGrid, b: &AssetGrid) -> bool {
    /// Of a pixel, over the whole width or height.
    const ROUNDING_PIXELS: f64 = 0.01;
    let close = |a: f64, b: f64, pixel: f64| (a - b).abs() <= ROUNDING_PIXELS * pixel.abs();
    let end = |start: f64, step: f64, count: u32| start + step * f64::from(count);
    let (Affine { origin: (ax, ay), col: (acol, _), row: (_, arow) }, b_affine) = (a.affine, b.affine);
    let Affine { origin: (bx, by), col: (bcol, _), row: (_, brow) } = b_affine;
    (a.rows, a.cols) == (b.rows, b.cols)
        && close(ax, bx, bcol)
        && close(ay, by, brow)
        && close(end(ax, acol, a.cols), end(bx, bcol, b.cols), bcol)
        && close(end(ay, arow, a.rows), end(by, brow, b.rows), brow)
}

fn place(grid: &AssetGrid) -> String {
    let AssetGrid {
        affine: Affine { origin: (x, y), col: (res_x, _), row: (_, step_y) }, rows, cols, ..
    } = grid;
    format!("{rows} x {cols} pixels of {res_x} x {step_y} from ({x}, {y})")
}
