//! Pixels of any file on any grid: stored pixels → pixels of a window of the lattice.
//!
//! [`places`] says where pixels lie in the file, [`scale`] how much the grid is coarser than the file,
//! [`kernel`] and [`area`] what becomes of the stored values there. Every number of a pixel follows
//! from the pixel, the lattice and the file; windows are cut only to bound memory.
//!
//! A pixel is valid where its nearest stored pixel is: the one whose area holds its centre. A centre
//! within [`places::TIE_PIXELS`] of an edge between two stored pixels belongs to the one to the east,
//! or to the south: coordinates carry rounding of their own, and without a rule it would decide.

mod area;
mod kernel;
mod places;
pub(super) mod scale;
#[cfg(test)]
mod tests;

use std::ops::Range;

use graticule_common::grid::{Lattice, Window};
use graticule_common::limits::READ_BLOCK_BYTES_MAX;
use graticule_common::scene::{AssetGrid, Resampler};
use graticule_common::transform::Transform;

use self::area::Statistic;
use self::kernel::Filter;
use self::places::{CENTRE, Extent, NORTH_WEST, Places, SOUTH_EAST, TIE_PIXELS, ToStored};

/// Nearest pixels: a rectangle that is not much larger than the window is read at once,
const WHOLE_PER_PIXEL: u64 = 2;
/// nor is it worth going row by row below this many stored pixels.
const WHOLE_MIN: u64 = 1 << 16;

/// A stored value of one type.
pub(super) trait Sample: Copy + Default + PartialEq {
    /// The value in double precision.
    fn to_f64(self) -> f64;
}

/// What turns stored values into pixels.
pub(super) trait Rule<T> {
    /// Whether a stored value stands for a pixel.
    fn is_valid(&self, stored: T) -> bool;
    /// The pixel of one valid stored value; `None` if scale and offset leave no number.
    fn pixel(&self, stored: T) -> Option<f32>;
    /// The pixel of a value computed from stored ones.
    fn scaled(&self, value: f64) -> Option<f32>;
}

/// A rectangle of stored pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) row: u32,
    pub(super) col: u32,
    pub(super) rows: u32,
    pub(super) cols: u32,
}

impl Rect {
    /// Number of stored pixels.
    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.cols)
    }
}

/// Stored pixels, read rectangle by rectangle.
pub(super) trait Blocks {
    /// Type of the values.
    type Sample: Sample;
    /// Why a rectangle cannot be read.
    type Error;
    /// Reads a rectangle, row by row, with its mask if the file has one: 0 is invalid.
    fn read(
        &mut self,
        rect: Rect,
        stored: &mut Vec<Self::Sample>,
        mask: &mut Vec<u8>,
    ) -> Result<(), Self::Error>;
    /// Whether there is a mask.
    fn is_masked(&self) -> bool;
}

/// Why a window has no pixels.
#[derive(Debug, PartialEq)]
pub(super) enum WarpError<E> {
    /// A rectangle could not be read.
    Read(E),
    /// One pixel of the grid covers more stored pixels than are held at once.
    TooLarge {
        /// How many bytes.
        bytes: u64,
    },
}

/// What becomes of the stored values under a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Method {
    Near,
    /// Over 2 × 2 pixels.
    Bilinear,
    /// Over 4 × 4 pixels.
    Cubic,
    /// Any kernel of any width.
    Filter(Filter),
    Area(Statistic),
}

/// The resampler that classes are read with: no class lies between two others, so what blends values
/// takes the nearest instead. The one table of which do.
pub(super) fn of_classes(resampler: Resampler) -> Resampler {
    match resampler {
        Resampler::Near | Resampler::Mode | Resampler::Max | Resampler::Min => resampler,
        Resampler::Bilinear
        | Resampler::Cubic
        | Resampler::CubicSpline
        | Resampler::Lanczos
        | Resampler::Average
        | Resampler::Med
        | Resampler::Q1
        | Resampler::Q3 => Resampler::Near,
    }
}

impl Method {
    fn new(resampler: Resampler, scale: (f64, f64), file: &AssetGrid) -> Method {
        let filter = |shape| Method::Filter(Filter::new(shape, scale, (file.cols, file.rows)));
        match resampler {
            Resampler::Near => Method::Near,
            Resampler::Bilinear if kernel::is_narrow(scale) => Method::Bilinear,
            Resampler::Cubic if kernel::is_narrow(scale) => Method::Cubic,
            Resampler::Bilinear => filter(kernel::Shape::Triangle),
            Resampler::Cubic => filter(kernel::Shape::Cubic),
            Resampler::CubicSpline => filter(kernel::Shape::Spline),
            Resampler::Lanczos => filter(kernel::Shape::Lanczos),
            Resampler::Average => Method::Area(Statistic::Mean),
            Resampler::Mode => Method::Area(Statistic::Mode),
            Resampler::Max => Method::Area(Statistic::Max),
            Resampler::Min => Method::Area(Statistic::Min),
            Resampler::Med => Method::Area(Statistic::Quantile(0.5)),
            Resampler::Q1 => Method::Area(Statistic::Quantile(0.25)),
            Resampler::Q3 => Method::Area(Statistic::Quantile(0.75)),
        }
    }

    /// The points of a pixel whose places it looks at.
    fn points(&self) -> &'static [f64] {
        match self {
            Method::Area(_) => &[NORTH_WEST, CENTRE, SOUTH_EAST],
            _ => &[CENTRE],
        }
    }

    /// Stored columns and rows beyond the places of those points.
    fn halo(&self) -> (u32, u32) {
        match self {
            Method::Near => (0, 0),
            Method::Bilinear | Method::Area(_) => (1, 1),
            Method::Cubic => (2, 2),
            Method::Filter(filter) => filter.radius(),
        }
    }
}

/// Whether each pixel of a window has a nearest stored pixel, where file and lattice share a CRS.
pub(super) fn inside(lattice: &Lattice, window: &Window, file: &AssetGrid) -> Vec<bool> {
    let Some(to_stored) = ToStored::new(file, false) else { return vec![false; window.pixels()] };
    let (places, nearest) = (Places::same_crs(lattice, window, &to_stored), Nearest::new(file));
    let mut inside = Vec::with_capacity(window.pixels());
    let (mut us, mut vs) = (vec![0.0; window.cols as usize], vec![0.0; window.cols as usize]);
    for row in 0..window.rows {
        places.row(row, 0..window.cols, CENTRE, &mut us, &mut vs);
        inside.extend(us.iter().zip(&vs).map(|(u, v)| nearest.of(*u, *v).is_some()));
    }
    inside
}

/// One window of a lattice over one file.
#[derive(Debug)]
pub(super) struct Warp {
    window: Window,
    places: Places,
    method: Method,
    nearest: Nearest,
    /// The stored pixels that all of it needs.
    whole: Option<Rect>,
}

/// How a file and a lattice relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// Whether both place every coordinate pair at the same point.
    pub(super) same_crs: bool,
    /// Whether the file's coordinates are angles.
    pub(super) is_geographic: bool,
}

impl Warp {
    /// Places a window's pixels in a file. `None` if rows and columns of the file run along each other.
    pub(super) fn new(
        lattice: &Lattice,
        window: &Window,
        file: &AssetGrid,
        relation: Relation,
        resampler: Resampler,
        scale: (f64, f64),
        transform: &dyn Transform,
    ) -> Option<Warp> {
        let to_stored = ToStored::new(file, relation.is_geographic)?;
        let method = Method::new(resampler, scale, file);
        let places = if relation.same_crs {
            Places::same_crs(lattice, window, &to_stored)
        } else {
            let corners = method.points().len() > 1;
            Places::other_crs(lattice, window, &to_stored, transform, corners)
        };
        let mut warp = Warp { window: *window, places, method, nearest: Nearest::new(file), whole: None };
        warp.whole = warp.rect(&(0..window.rows), &(0..window.cols));
        Some(warp)
    }

    /// Whether pixels of the file are needed.
    pub(super) fn is_in_file(&self) -> bool {
        self.whole.is_some()
    }

    /// Fills the pixels that have a value. Gives back the number of stored pixels read.
    ///
    /// # Errors
    /// [`WarpError`].
    pub(super) fn fill<B: Blocks>(
        &self,
        blocks: &mut B,
        rule: &impl Rule<B::Sample>,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<u64, WarpError<B::Error>> {
        let block =
            Block { rect: Rect { row: 0, col: 0, rows: 0, cols: 0 }, stored: Vec::new(), mask: Vec::new() };
        let scratch = Scratch::default();
        let mut run = Run { warp: self, blocks, rule, samples, valid, block, scratch, pixels: 0 };
        run.part(0..self.window.rows, 0..self.window.cols)?;
        Ok(run.pixels)
    }

    /// The stored pixels that a part of the window needs; `None` if it needs none.
    fn rect(&self, rows: &Range<u32>, cols: &Range<u32>) -> Option<Rect> {
        /// More than the rounding of places.
        const MARGIN_PIXELS: f64 = 0.01;
        let Extent { cols: (left, right), rows: (top, bottom) } =
            self.places.extent(rows, cols, self.method.points())?;
        let (halo_cols, halo_rows) = self.method.halo();
        let span = |low: f64, high: f64, halo: u32, count: u32| {
            // A place outside the file needs nothing, whatever its kernel would reach.
            if high < -MARGIN_PIXELS || low > f64::from(count) + MARGIN_PIXELS {
                return None;
            }
            let reach = f64::from(halo) + MARGIN_PIXELS;
            // Saturates at 0 and beyond.
            let first = ((low - reach).floor() as u32).min(count - 1);
            let last = ((high + reach).floor() as u32).min(count - 1);
            Some((first, last - first + 1))
        };
        let (row, rows) = span(top, bottom, halo_rows, self.nearest.rows)?;
        let (col, cols) = span(left, right, halo_cols, self.nearest.cols)?;
        Some(Rect { row, col, rows, cols })
    }
}

/// The stored pixel that holds a place.
#[derive(Clone, Copy, Debug)]
struct Nearest {
    rows: u32,
    cols: u32,
    /// In a south-up file the southern of two pixels is the one with the smaller index; so is the
    /// eastern one in a file whose columns grow westwards.
    flip_rows: bool,
    flip_cols: bool,
}

impl Nearest {
    fn new(file: &AssetGrid) -> Self {
        let (flip_rows, flip_cols) = (file.affine.row.1 > 0.0, file.affine.col.0 < 0.0);
        Nearest { rows: file.rows, cols: file.cols, flip_rows, flip_cols }
    }

    /// Row and column; `None` outside the file.
    #[inline]
    fn of(&self, u: f64, v: f64) -> Option<(u32, u32)> {
        let index = |at: f64, count: u32, flip: bool| {
            let end = f64::from(count);
            let at = if flip { end - at } else { at } + TIE_PIXELS;
            if !(at >= 0.0 && at < end) {
                return None;
            }
            let index = at as u32;
            Some(if flip { count - 1 - index } else { index })
        };
        Some((index(v, self.rows, self.flip_rows)?, index(u, self.cols, self.flip_cols)?))
    }
}

/// Stored pixels of a rectangle and, where the file has a mask, the mask there.
#[derive(Debug)]
struct Block<T> {
    rect: Rect,
    stored: Vec<T>,
    mask: Vec<u8>,
}

impl<T: Sample> Block<T> {
    /// The value of a stored pixel of the rectangle, if it is valid.
    #[inline]
    fn get(&self, rule: &impl Rule<T>, row: u32, col: u32) -> Option<T> {
        let at = (row - self.rect.row) as usize * self.rect.cols as usize + (col - self.rect.col) as usize;
        let stored = self.stored[at];
        (rule.is_valid(stored) && (self.mask.is_empty() || self.mask[at] != 0)).then_some(stored)
    }

    /// The values of a square that begins at a row and a column, if all of it is in the file (of
    /// `cols` × `rows`) and valid.
    #[inline]
    fn square<const N: usize>(
        &self,
        rule: &impl Rule<T>,
        (cols, rows): (u32, u32),
        row: i64,
        col: i64,
    ) -> Option<[[f64; N]; N]> {
        let side = N as i64;
        if row < 0 || col < 0 || row > i64::from(rows) - side || col > i64::from(cols) - side {
            return None;
        }
        let width = self.rect.cols as usize;
        let start = (row as usize - self.rect.row as usize) * width + (col as usize - self.rect.col as usize);
        let (mut values, mut is_whole) = ([[0.0; N]; N], true);
        for (j, line) in values.iter_mut().enumerate() {
            let stored = &self.stored[start + j * width..][..N];
            for (value, stored) in line.iter_mut().zip(stored) {
                is_whole &= rule.is_valid(*stored);
                *value = stored.to_f64();
            }
            if !self.mask.is_empty() {
                is_whole &= self.mask[start + j * width..][..N].iter().all(|mask| *mask != 0);
            }
        }
        is_whole.then_some(values)
    }
}

/// Buffers that pixels share.
#[derive(Debug, Default)]
struct Scratch {
    us: Vec<f64>,
    vs: Vec<f64>,
    /// Places of the opposite corners.
    end_us: Vec<f64>,
    end_vs: Vec<f64>,
    start_us: Vec<f64>,
    start_vs: Vec<f64>,
    weights: kernel::Weights,
    values: Vec<f64>,
}

/// A window being filled.
struct Run<'a, B: Blocks, R> {
    warp: &'a Warp,
    blocks: &'a mut B,
    rule: &'a R,
    samples: &'a mut [f32],
    valid: &'a mut [u8],
    block: Block<B::Sample>,
    scratch: Scratch,
    pixels: u64,
}

impl<B: Blocks, R: Rule<B::Sample>> Run<'_, B, R> {
    /// Fills a part of the window, in halves if it needs too many stored pixels at once.
    fn part(&mut self, rows: Range<u32>, cols: Range<u32>) -> Result<(), WarpError<B::Error>> {
        let pixels = rows.len() as u64 * cols.len() as u64;
        let is_all = pixels == self.warp.window.pixels() as u64;
        let rect = if is_all { self.warp.whole } else { self.warp.rect(&rows, &cols) };
        let Some(rect) = rect else { return Ok(()) };
        let pixel_bytes = size_of::<B::Sample>() as u64 + u64::from(self.blocks.is_masked());
        let bytes = rect.pixels() * pixel_bytes;
        let is_near = self.warp.method == Method::Near;
        let is_sparse = is_near && rect.pixels() > WHOLE_MIN.max(WHOLE_PER_PIXEL * pixels);
        if bytes <= READ_BLOCK_BYTES_MAX && !is_sparse {
            self.blocks.read(rect, &mut self.block.stored, &mut self.block.mask).map_err(WarpError::Read)?;
            self.block.rect = rect;
            self.pixels += rect.pixels();
            self.resample(rows, cols);
            return Ok(());
        }
        if pixels == 1 {
            return Err(WarpError::TooLarge { bytes });
        }
        // Rows of the file that the grid skips need not be read.
        let by_rows = rows.len() > 1 && (is_near || rows.len() >= cols.len());
        let half = |range: &Range<u32>| range.start + (range.end - range.start) / 2;
        if by_rows {
            let middle = half(&rows);
            self.part(rows.start..middle, cols.clone())?;
            self.part(middle..rows.end, cols)
        } else {
            let middle = half(&cols);
            self.part(rows.clone(), cols.start..middle)?;
            self.part(rows, middle..cols.end)
        }
    }

    /// Fills a part of the window from the block.
    fn resample(&mut self, rows: Range<u32>, cols: Range<u32>) {
        let Warp { places, method, nearest, window, whole: _ } = self.warp;
        let (block, rule) = (&self.block, self.rule);
        let file = (nearest.cols, nearest.rows);
        let Scratch { us, vs, start_us, start_vs, end_us, end_vs, weights, values } = &mut self.scratch;
        let len = cols.len();
        for buffer in [&mut *us, vs, start_us, start_vs, end_us, end_vs] {
            buffer.resize(len, 0.0);
        }
        for row in rows {
            let start = row as usize * window.cols as usize + cols.start as usize;
            let samples = &mut self.samples[start..start + len];
            let valid = &mut self.valid[start..start + len];
            places.row(row, cols.clone(), CENTRE, us, vs);
            // One loop for each method, so that nothing is decided pixel by pixel. A value that is at
            // hand only where the nearest pixel is valid needs no look at that.
            macro_rules! fill {
                (|$u:ident, $v:ident, $c:ident| $at_once:expr, $value:expr) => {
                    for ((($c, (sample, ok)), $u), $v) in
                        samples.iter_mut().zip(valid.iter_mut()).enumerate().zip(&*us).zip(&*vs)
                    {
                        let ($u, $v) = (*$u, *$v);
                        let at_once: Option<f64> = $at_once;
                        if let Some(value) = at_once.and_then(|value| rule.scaled(value)) {
                            (*sample, *ok) = (value, 1);
                            continue;
                        }
                        let Some((row, col)) = nearest.of($u, $v) else { continue };
                        let Some(stored) = block.get(rule, row, col) else { continue };
                        let value: Option<f64> = $value;
                        // Infinities may leave no number; then, as without neighbours, the pixel is
                        // its nearest one.
                        let value = match value {
                            Some(value) if !value.is_nan() => rule.scaled(value),
                            _ => rule.pixel(stored),
                        };
                        if let Some(value) = value {
                            (*sample, *ok) = (value, 1);
                        }
                    }
                };
            }
            match method {
                Method::Near => fill!(|u, v, _c| None, None),
                Method::Bilinear => fill!(
                    |u, v, _c| kernel::bilinear(block, rule, file, u, v),
                    Some(kernel::partial_bilinear(block, rule, file, u, v))
                ),
                Method::Cubic => fill!(
                    |u, v, _c| kernel::cubic(block, rule, file, u, v),
                    Some(kernel::partial_bilinear(block, rule, file, u, v))
                ),
                Method::Filter(filter) => {
                    fill!(|u, v, _c| None, filter.value(block, rule, file, u, v, weights))
                }
                Method::Area(statistic) => {
                    places.row(row, cols.clone(), NORTH_WEST, start_us, start_vs);
                    places.row(row, cols.clone(), SOUTH_EAST, end_us, end_vs);
                    fill!(|u, v, c| None, {
                        let (from, to) = ((start_us[c], start_vs[c]), (end_us[c], end_vs[c]));
                        area::Area::new(from, to, file)
                            .and_then(|area| statistic.value(block, rule, &area, values))
                    });
                }
            }
        }
    }
}
