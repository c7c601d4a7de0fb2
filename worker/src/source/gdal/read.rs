//! One band of an open file on a window of the grid's lattice.

use graticule_common::limits::READ_BLOCK_BYTES_MAX;
use graticule_common::scene::{Affine, AssetGrid, Resampler};

use super::super::warp::{self, Relation, Warp, WarpError};
use super::super::{BandRead, ReadProblem};
use super::header::{Header, Stored};
use super::open::Opened;
use super::pixels::{BandBlocks, Rule, SignedByte};
use super::{GdalSource, listen, reason};

/// Reads a window of a band whose file's header is known; gives the stored bytes that took. The file is
/// there, if it is open already, with the way to open it.
pub(super) fn band(
    source: &GdalSource,
    read: &BandRead<'_>,
    header: &Header,
    (dataset, open): (&mut Option<Opened>, &mut dyn FnMut() -> Result<Opened, ReadProblem>),
    samples: &mut [f32],
    valid: &mut [u8],
) -> Result<u64, ReadProblem> {
    let bands = header.bands.len() as u32;
    let band = read.band.band;
    let Some(stored) = band.checked_sub(1).and_then(|at| header.bands.get(at as usize)) else {
        return Err(ReadProblem::NoSuchBand { band, bands });
    };
    // The catalog's word on the CRS counts: files name the same CRS in many ways, some of them wrong.
    let declared = read.band.asset.raster.as_ref();
    let stored_grid = header.grid(declared)?;
    let file = match declared {
        Some(declared) if !coincide(declared, &stored_grid) => {
            return Err(ReadProblem::Misdescribed { catalog: place(declared), file: place(&stored_grid) });
        }
        Some(declared) => declared,
        None => &stored_grid,
    };
    let is_classes = read.band.is_classes || stored.is_palette;
    let resampler = if is_classes { warp::of_classes(read.resampler) } else { read.resampler };
    let level = read.overviews.then(|| overview(source, read, file, &stored.overviews)).flatten();
    let smaller = level.map(|level| smaller(file, stored.overviews[level]));
    let warp = match &smaller {
        Some(overview) => place_window(source, read, overview, resampler, true)?,
        None => place_window(source, read, file, resampler, false)?,
    };
    if !warp.is_in_file() {
        return Ok(0);
    }
    let dataset = match dataset {
        Some(dataset) => &*dataset,
        None => dataset.insert(open()?),
    };
    let kind = stored.kind?;
    let scale_offset = read.band.scale_offset.unwrap_or(stored.scale_offset);
    let nodata = read.band.nodata.map_or(stored.nodata, |value| Some(value.into()));
    let (result, messages) = listen(|| {
        let mut band = dataset.rasterband(band as usize).map_err(WarpError::Read)?;
        if let Some(level) = level {
            band = band.overview(level).map_err(WarpError::Read)?;
        }
        let mask = if stored.masked { Some(band.open_mask_band().map_err(WarpError::Read)?) } else { None };
        macro_rules! fill {
            ($pixel:ty) => {{
                let rule = Rule::<$pixel>::new(nodata, scale_offset);
                let mut blocks = BandBlocks::<$pixel>::new(&band, mask.as_ref());
                warp.fill(&mut blocks, &rule, samples, valid)
            }};
        }
        match kind {
            Stored::U8 => fill!(u8),
            Stored::SignedByte => fill!(SignedByte),
            // GDAL knows a signed byte as a type of its own since 3.7 only.
            Stored::I8 | Stored::I16 => fill!(i16),
            Stored::U16 => fill!(u16),
            Stored::I32 => fill!(i32),
            Stored::U32 => fill!(u32),
            Stored::I64 => fill!(i64),
            Stored::U64 => fill!(u64),
            Stored::F32 => fill!(f32),
            Stored::F64 => fill!(f64),
        }
    });
    if let Some(fault) = dataset.fault() {
        return Err(fault);
    }
    match result {
        Ok(pixels) => Ok(pixels * kind.bytes()),
        Err(WarpError::Read(error)) => Err(ReadProblem::Corrupt { reason: reason(&error, &messages) }),
        Err(WarpError::TooLarge { bytes }) => Err(ReadProblem::TooComplex {
            what: "more bytes under one pixel of the grid than are read at once:",
            found: bytes,
            limit: READ_BLOCK_BYTES_MAX,
        }),
    }
}

/// The smallest overview that has a pixel for each pixel of the grid. A function of file and lattice, so
/// that every window takes the same.
fn overview(
    source: &GdalSource,
    read: &BandRead<'_>,
    file: &AssetGrid,
    overviews: &[(u32, u32)],
) -> Option<usize> {
    /// Overviews of halves have a pixel more or less, where there is an odd number.
    const NEARLY: f64 = 0.95;
    let (scale_x, scale_y) = warp::scale::scale(file, read.lattice, source.transform.as_ref())?;
    let (cols, rows) = (f64::from(file.cols) * scale_x * NEARLY, f64::from(file.rows) * scale_y * NEARLY);
    let enough = |size: &(u32, u32)| f64::from(size.0) >= cols && f64::from(size.1) >= rows;
    let fitting = overviews.iter().enumerate().filter(|(_, size)| enough(size));
    fitting.min_by_key(|(_, size)| size.0).map(|(level, _)| level)
}

/// The same file in fewer, larger pixels.
fn smaller(file: &AssetGrid, (cols, rows): (u32, u32)) -> AssetGrid {
    let (wide, high) = (f64::from(file.cols) / f64::from(cols), f64::from(file.rows) / f64::from(rows));
    let Affine { origin, col, row } = file.affine;
    let affine = Affine { origin, col: (col.0 * wide, col.1 * wide), row: (row.0 * high, row.1 * high) };
    AssetGrid { crs: file.crs.clone(), affine, rows, cols }
}

/// Where a window's pixels lie in a file.
fn place_window(
    source: &GdalSource,
    read: &BandRead<'_>,
    file: &AssetGrid,
    resampler: Resampler,
    is_overview: bool,
) -> Result<Warp, ReadProblem> {
    let transform = source.transform.as_ref();
    let (lattice, window) = (read.lattice, &read.window);
    let relation = Relation {
        same_crs: source.same_crs(lattice.crs(), &file.crs),
        is_geographic: transform.is_geographic(&file.crs).unwrap_or(false),
    };
    let no_place = || ReadProblem::NoPlace { file: file.crs.clone(), grid: lattice.crs().clone() };
    let scale = warp::scale::scale(file, lattice, transform).ok_or_else(no_place)?;
    // An overview has at most two pixels for one of the grid, and is a mean already: between its nearest
    // pixels there is nothing more to see than a wider kernel would show, at a multiple of the cost.
    let is_blend = matches!(resampler, Resampler::Bilinear | Resampler::Cubic);
    let scale = if is_overview && is_blend { (scale.0.max(1.0), scale.1.max(1.0)) } else { scale };
    Warp::new(lattice, window, file, relation, resampler, scale, transform).ok_or(ReadProblem::NoGeotransform)
}

/// Whether two grids place the same pixels, but for rounding of the numbers.
fn coincide(a: &AssetGrid, b: &AssetGrid) -> bool {
    /// Of a pixel, over the whole width or height.
    const ROUNDING_PIXELS: f64 = 0.01;
    let Some(to_stored) = b.affine.inverse() else { return false };
    let (cols, rows) = (f64::from(b.cols), f64::from(b.rows));
    (a.rows, a.cols) == (b.rows, b.cols)
        && [(0.0, 0.0), (cols, 0.0), (0.0, rows), (cols, rows)].into_iter().all(|(col, row)| {
            let (x, y) = a.affine.place(col, row);
            let (there_col, there_row) = to_stored.place(x, y);
            (there_col - col).abs() <= ROUNDING_PIXELS && (there_row - row).abs() <= ROUNDING_PIXELS
        })
}

fn place(grid: &AssetGrid) -> String {
    let AssetGrid { affine, rows, cols, .. } = grid;
    let (x, y) = affine.origin;
    let (col, row) = (affine.col, affine.row);
    if affine.is_upright() {
        return format!("{rows} x {cols} pixels of {} x {} from ({x}, {y})", col.0, row.1);
    }
    format!("{rows} x {cols} pixels from ({x}, {y}) in steps of {col:?} and {row:?}")
}
