//! The pixel lattice, grids and windows on it, and the tiles it is cut into.
//!
//! Order is always (row, col) and (rows, cols); `x` and `y` are CRS coordinates. Rows grow southwards.
//! Windows and tiles are in *lattice* pixels: two grids on one lattice name a place in the same way,
//! so tiles (and remembered results) are shared wherever grids overlap.

use std::fmt;
use std::sync::Arc;

use crate::error::{Classify, ErrorClass};
use crate::hash::Hasher;
use crate::limits::Limits;

/// A coordinate reference system by its canonical text: `AUTHORITY:CODE` where one fits, else WKT 2.
/// Made by [`Transform::canonical`](crate::transform::Transform::canonical); equal texts are equal CRSs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Crs(Arc<str>);

impl Crs {
    /// Wraps a text that is already canonical.
    pub fn from_canonical(text: impl Into<Arc<str>>) -> Self {
        Crs(text.into())
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Crs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // WKT is pages long; its first quoted part is the CRS's name.
        match self.0.split_once('"').and_then(|(_, rest)| rest.split_once('"')) {
            Some((name, _)) => f.write_str(name),
            None => f.write_str(&self.0),
        }
    }
}

/// Why numbers do not make a grid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GridError {
    /// A coordinate or resolution is not finite, or a resolution is not positive.
    #[error(
        "a grid needs finite coordinates and a positive resolution, got origin ({x}, {y}) and resolution {res_x} x {res_y}"
    )]
    NotFinite {
        /// West edge.
        x: f64,
        /// North edge.
        y: f64,
        /// Pixel width.
        res_x: f64,
        /// Pixel height.
        res_y: f64,
    },
    /// A side without pixels.
    #[error("a grid needs at least one row and one column, got {rows} x {cols}")]
    Empty {
        /// Rows asked for.
        rows: u64,
        /// Columns asked for.
        cols: u64,
    },
    /// So many pixels from the CRS's origin that a number no longer tells neighbours apart.
    #[error(
        "at a resolution of {res_x} x {res_y} the corner ({x}, {y}) is too many pixels from the origin of the CRS to \
         be told from its neighbours; ask for a coarser resolution"
    )]
    TooFine {
        /// West edge.
        x: f64,
        /// North edge.
        y: f64,
        /// Pixel width.
        res_x: f64,
        /// Pixel height.
        res_y: f64,
    },
    /// More pixels along a side than `Limits::grid_side`.
    #[error(
        "the grid would have {rows} rows and {cols} columns, the limit is {limit} each; ask for a smaller AOI or a \
         resolution at least {} times coarser",
        .rows.max(.cols).div_ceil(u64::from(*.limit).max(1))
    )]
    TooLarge {
        /// Rows asked for.
        rows: u64,
        /// Columns asked for.
        cols: u64,
        /// `Limits::grid_side`.
        limit: u32,
    },
}

impl Classify for GridError {
    fn class(&self) -> ErrorClass {
        match self {
            GridError::NotFinite { .. } | GridError::Empty { .. } | GridError::TooFine { .. } => {
                ErrorClass::InvalidRequest
            }
            GridError::TooLarge { .. } => ErrorClass::LimitExceeded,
        }
    }
}

/// An endless north-up raster of pixels: CRS, pixel size, and the place of pixel (0, 0).
///
/// Invariant: `res_x`, `res_y` are finite and positive; the phase is within one pixel of the CRS's
/// origin. A lattice whose edges are multiples of the resolution has phase (0, 0).
#[derive(Clone, Debug, PartialEq)]
pub struct Lattice {
    crs: Crs,
    res_x: f64,
    res_y: f64,
    phase_x: f64,
    phase_y: f64,
}

impl Lattice {
    /// The CRS of x and y.
    pub fn crs(&self) -> &Crs {
        &self.crs
    }

    /// Pixel width and height in units of the CRS.
    pub fn resolution(&self) -> (f64, f64) {
        (self.res_x, self.res_y)
    }

    /// Coordinates of the upper left corner of pixel (0, 0).
    pub fn phase(&self) -> (f64, f64) {
        (self.phase_x, self.phase_y)
    }

    /// A lattice from its parts, as [`Lattice::phase`] and its siblings gave them.
    pub fn try_new(crs: Crs, resolution: (f64, f64), phase: (f64, f64)) -> Result<Self, GridError> {
        let ((res_x, res_y), (phase_x, phase_y)) = (resolution, phase);
        let finite = [res_x, res_y, phase_x, phase_y].iter().all(|v| v.is_finite());
        if !finite || res_x <= 0.0 || res_y <= 0.0 {
            return Err(GridError::NotFinite { x: phase_x, y: phase_y, res_x, res_y });
        }
        Ok(Lattice { crs, res_x, res_y, phase_x, phase_y })
    }

    /// x of the west edge of a column.
    pub fn x(&self, col: f64) -> f64 {
        self.phase_x + col * self.res_x
    }

    /// y of the north edge of a row.
    pub fn y(&self, row: f64) -> f64 {
        self.phase_y - row * self.res_y
    }

    /// Fractional lattice column of x.
    pub fn col(&self, x: f64) -> f64 {
        (x - self.phase_x) / self.res_x
    }

    /// Fractional lattice row of y.
    pub fn row(&self, y: f64) -> f64 {
        (self.phase_y - y) / self.res_y
    }

    /// Adds everything that places this lattice to a digest.
    pub fn hash_into(&self, hasher: &mut Hasher) {
        hasher.str(self.crs.as_str());
        hasher.float(self.res_x).float(self.res_y).float(self.phase_x).float(self.phase_y);
    }
}

/// A half-open rectangle of lattice pixels, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// First row.
    pub row: i64,
    /// First column.
    pub col: i64,
    /// Number of rows, at least 1.
    pub rows: u32,
    /// Number of columns, at least 1.
    pub cols: u32,
}

impl Window {
    /// The longest side of a window.
    pub const SIDE_MAX: u32 = 1 << 30;

    /// Row after the last.
    pub fn row_end(&self) -> i64 {
        self.row + i64::from(self.rows)
    }

    /// Column after the last.
    pub fn col_end(&self) -> i64 {
        self.col + i64::from(self.cols)
    }

    /// Pixels of one band.
    pub fn pixels(&self) -> usize {
        self.rows as usize * self.cols as usize
    }

    /// The common part of two windows; `None` if they do not overlap.
    pub fn intersect(&self, other: &Window) -> Option<Window> {
        let (row, col) = (self.row.max(other.row), self.col.max(other.col));
        Window::from_edges(row, col, self.row_end().min(other.row_end()), self.col_end().min(other.col_end()))
    }

    /// The window between four edges; `None` if that is empty or wider than a window can be.
    pub fn from_edges(row: i64, col: i64, row_end: i64, col_end: i64) -> Option<Window> {
        let side = |first: i64, end: i64| {
            u32::try_from(end.checked_sub(first)?).ok().filter(|n| (1..=Window::SIDE_MAX).contains(n))
        };
        let (rows, cols) = (side(row, row_end)?, side(col, col_end)?);
        Some(Window { row, col, rows, cols })
    }

    /// The smallest window that holds both.
    pub fn union(&self, other: &Window) -> Window {
        let (row, col) = (self.row.min(other.row), self.col.min(other.col));
        let (row_end, col_end) = (self.row_end().max(other.row_end()), self.col_end().max(other.col_end()));
        Window { row, col, rows: (row_end - row) as u32, cols: (col_end - col) as u32 }
    }

    /// This window with `rows` and `cols` more pixels on every side.
    pub fn pad(&self, rows: u32, cols: u32) -> Window {
        Window {
            row: self.row - i64::from(rows),
            col: self.col - i64::from(cols),
            rows: self.rows + 2 * rows,
            cols: self.cols + 2 * cols,
        }
    }

    /// Adds the window to a digest.
    pub fn hash_into(&self, hasher: &mut Hasher) {
        hasher.int(self.row).int(self.col).int(self.rows.into()).int(self.cols.into());
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} at row {}, col {}", self.rows, self.cols, self.row, self.col)
    }
}

/// The exact pixels of a request: a window of a lattice.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    lattice: Lattice,
    window: Window,
}

/// Edges this close to a lattice line, in pixels, lie on it: coordinates carry rounding of their own.
const SNAP_PIXELS: f64 = 1e-6;

impl Grid {
    /// A north-up grid whose upper left corner is (`x`, `y`).
    ///
    /// # Errors
    /// [`GridError`] when a number is not finite, a side is empty, or a side exceeds `limits.grid_side`.
    pub fn try_new(
        crs: Crs,
        (x, y): (f64, f64),
        (res_x, res_y): (f64, f64),
        (rows, cols): (u64, u64),
        limits: &Limits,
    ) -> Result<Self, GridError> {
        let bad = GridError::NotFinite { x, y, res_x, res_y };
        if !(x.is_finite() && y.is_finite() && res_x.is_finite() && res_y.is_finite()) {
            return Err(bad);
        }
        if res_x <= 0.0 || res_y <= 0.0 {
            return Err(bad);
        }
        if rows == 0 || cols == 0 {
            return Err(GridError::Empty { rows, cols });
        }
        let far = GridError::TooFine { x, y, res_x, res_y };
        let limit = limits.grid_side;
        if rows > u64::from(limit) || cols > u64::from(limit) {
            return Err(GridError::TooLarge { rows, cols, limit });
        }
        let (col, phase_x) = index_and_phase(x, res_x).ok_or(far.clone())?;
        let (row, phase_y) = index_and_phase(-y, res_y).ok_or(far)?;
        let lattice = Lattice { crs, res_x, res_y, phase_x, phase_y: -phase_y };
        Ok(Grid { lattice, window: Window { row, col, rows: rows as u32, cols: cols as u32 } })
    }

    /// A window of a lattice as a grid.
    pub fn from_window(lattice: Lattice, window: Window) -> Self {
        Grid { lattice, window }
    }

    /// The grid with `pixels` more rows and columns on every side.
    pub fn pad(&self, pixels: u32) -> Grid {
        Grid { lattice: self.lattice.clone(), window: self.window.pad(pixels, pixels) }
    }

    /// The lattice this grid is a window of.
    pub fn lattice(&self) -> &Lattice {
        &self.lattice
    }

    /// The grid's place on its lattice.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The CRS of x and y.
    pub fn crs(&self) -> &Crs {
        &self.lattice.crs
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.window.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> u32 {
        self.window.cols
    }

    /// Coordinates of the upper left corner.
    pub fn origin(&self) -> (f64, f64) {
        (self.lattice.x(self.window.col as f64), self.lattice.y(self.window.row as f64))
    }

    /// West, south, east, north edges.
    pub fn bounds(&self) -> (f64, f64, f64, f64) {
        let (west, north) = self.origin();
        (
            west,
            self.lattice.y(self.window.row_end() as f64),
            self.lattice.x(self.window.col_end() as f64),
            north,
        )
    }

    /// How the grid falls into tiles of a size.
    pub fn tiling(&self, size: TileSize) -> Tiling {
        Tiling { window: self.window, size }
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((res_x, res_y), (x, y)) = (self.lattice.resolution(), self.origin());
        write!(
            f,
            "{} x {} pixels of {res_x} x {res_y} from ({x}, {y}) in {}",
            self.rows(),
            self.cols(),
            self.crs()
        )
    }
}

/// Splits an edge into whole pixels from zero and what is left over.
fn index_and_phase(edge: f64, res: f64) -> Option<(i64, f64)> {
    /// Beyond this a double no longer tells neighbouring pixels apart well enough.
    const INDEX_MAX: f64 = (1u64 << 42) as f64;
    let at = edge / res;
    if at.abs() > INDEX_MAX {
        return None;
    }
    let nearest = at.round();
    // Billions of pixels away the numbers themselves are coarser than that.
    if (at - nearest).abs() <= SNAP_PIXELS.max(at.abs() * 4.0 * f64::EPSILON) {
        return Some((nearest as i64, 0.0));
    }
    let index = at.floor();
    Some((index as i64, edge - index * res))
}

/// Edge length of a tile in pixels. The planner chooses it; it never changes a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileSize(u32);

impl TileSize {
    /// The largest edge: a tile's window must stay addressable.
    pub const MAX: u32 = 1 << 14;

    /// The smallest tile the planner goes down to when memory is short.
    pub const SMALLEST_PLANNED: TileSize = TileSize(16);

    /// A tile size of 1 to [`TileSize::MAX`] pixels.
    pub fn new(pixels: u32) -> Option<Self> {
        (1..=TileSize::MAX).contains(&pixels).then_some(TileSize(pixels))
    }

    /// Edge length in pixels.
    pub fn pixels(self) -> u32 {
        self.0
    }
}

/// A tile's place in the partition of the lattice that begins at its pixel (0, 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// Tile row; grows southwards.
    pub row: i64,
    /// Tile column; grows eastwards.
    pub col: i64,
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.row, self.col)
    }
}

/// A grid cut into tiles. Tiles are anchored at the lattice, not at the grid's corner; those at the
/// edge are clipped to the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    window: Window,
    size: TileSize,
}

impl Tiling {
    /// The tile size.
    pub fn size(&self) -> TileSize {
        self.size
    }

    /// Every tile, row by row.
    pub fn tiles(&self) -> impl Iterator<Item = TileId> + use<> {
        let size = i64::from(self.size.0);
        let w = self.window;
        let cols = w.col.div_euclid(size)..=(w.col_end() - 1).div_euclid(size);
        let rows = w.row.div_euclid(size)..=(w.row_end() - 1).div_euclid(size);
        rows.flat_map(move |row| cols.clone().map(move |col| TileId { row, col }))
    }

    /// Number of tiles.
    pub fn len(&self) -> u64 {
        let size = i64::from(self.size.0);
        let w = self.window;
        let cols = (w.col_end() - 1).div_euclid(size) - w.col.div_euclid(size) + 1;
        let rows = (w.row_end() - 1).div_euclid(size) - w.row.div_euclid(size) + 1;
        cols as u64 * rows as u64
    }

    /// Always false: a grid has pixels, so it has tiles.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The pixels of a tile; `None` if the tile is not part of this tiling.
    pub fn window(&self, tile: TileId) -> Option<Window> {
        let size = i64::from(self.size.0);
        let (row, col) = (tile.row.checked_mul(size)?, tile.col.checked_mul(size)?);
        Window { row, col, rows: self.size.0, cols: self.size.0 }.intersect(&self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grid(x: f64, y: f64, res: f64, rows: u64, cols: u64) -> Grid {
        let crs = Crs::from_canonical("EPSG:32613");
        Grid::try_new(crs, (x, y), (res, res), (rows, cols), &Limits::default()).expect("a grid")
    }

    #[test]
    fn a_native_landsat_grid_keeps_its_corner() {
        let grid = grid(336375.0, 4462425.0, 30.0, 61, 61);
        assert_eq!(grid.origin(), (336375.0, 4462425.0));
        assert_eq!(grid.bounds(), (336375.0, 4460595.0, 338205.0, 4462425.0));
        assert_eq!(grid.lattice().phase(), (15.0, -15.0));
    }

    #[test]
    fn edges_on_multiples_have_no_phase() {
        assert_eq!(grid(0.3, 0.7, 0.1, 1, 1).lattice().phase(), (0.0, 0.0));
    }

    #[test]
    fn what_is_not_a_grid_is_refused() {
        let make = |x, res, rows| {
            let crs = Crs::from_canonical("EPSG:4326");
            Grid::try_new(crs, (x, 0.0), (res, res), (rows, 1), &Limits::default()).map(|_| ())
        };
        assert!(matches!(make(f64::NAN, 1.0, 1), Err(GridError::NotFinite { .. })));
        assert!(matches!(make(0.0, 0.0, 1), Err(GridError::NotFinite { .. })));
        assert!(matches!(make(1e300, 1e-3, 1), Err(GridError::TooFine { .. })));
        assert!(matches!(make(0.0, 1.0, 0), Err(GridError::Empty { .. })));
        assert!(matches!(make(0.0, 1.0, 1 << 30), Err(GridError::TooLarge { .. })));
    }

    proptest! {
        /// Tiles partition the grid: every pixel lies in exactly one.
        #[test]
        fn tiles_partition(x in -1e6..1e6f64, y in -1e6..1e6f64, rows in 1u64..200, cols in 1u64..200, size in 1u32..100) {
            let grid = grid(x, y, 10.0, rows, cols);
            let tiling = grid.tiling(TileSize::new(size).unwrap());
            let windows: Vec<Window> = tiling.tiles().map(|t| tiling.window(t).unwrap()).collect();
            prop_assert_eq!(windows.len() as u64, tiling.len());
            prop_assert_eq!(windows.iter().map(|w| w.pixels() as u64).sum::<u64>(), rows * cols);
            for (i, a) in windows.iter().enumerate() {
                prop_assert_eq!(a.intersect(&grid.window()), Some(*a));
                prop_assert!(windows[..i].iter().all(|b| a.intersect(b).is_none()));
            }
        }

        /// The corner that was asked for is the corner that comes back.
        #[test]
        fn origin_survives(x in -1e7..1e7f64, y in -1e7..1e7f64, res in 1e-3..1e4f64) {
            let (ox, oy) = grid(x, y, res, 3, 3).origin();
            prop_assert!((ox - x).abs() <= 2.0 * SNAP_PIXELS * res && (oy - y).abs() <= 2.0 * SNAP_PIXELS * res);
        }
    }
}
