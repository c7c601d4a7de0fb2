//! Which stored pixel lies under each pixel of a grid, where file and grid share a CRS.
//!
//! The rule: the stored pixel whose area holds the centre of the grid's pixel. A centre within
//! [`TIE_PIXELS`] of an edge between two stored pixels belongs to the one to the east, or to the
//! south: coordinates carry rounding of their own, and without a rule it would decide. A centre
//! outside the file has no pixel. The place of a centre follows from its lattice row and column
//! alone, so cutting a window never changes a pixel.

use graticule_common::grid::{Lattice, Window};
use graticule_common::scene::AssetGrid;

/// Nearer than this to an edge, in stored pixels, is on the edge.
const TIE_PIXELS: f64 = 1e-6;

/// Centres this close to each other, in stored pixels, coincide. Wider than a tie because a lattice
/// may itself be snapped by as much, and far below what a resampler could show.
const COINCIDE_PIXELS: f64 = 1e-5;

/// For one axis of a window: the stored index under each of its pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axis(Vec<Option<u32>>);

impl Axis {
    /// The stored columns under a window's columns.
    pub(super) fn cols(lattice: &Lattice, window: &Window, file: &AssetGrid) -> Axis {
        let at = |col: i64| (lattice.x(col as f64 + 0.5) - file.affine.origin.0) / file.affine.col.0;
        Axis((window.col..window.col_end()).map(|col| east(at(col), file.cols)).collect())
    }

    /// The stored rows under a window's rows.
    pub(super) fn rows(lattice: &Lattice, window: &Window, file: &AssetGrid) -> Axis {
        let at = |row: i64| (lattice.y(row as f64 + 0.5) - file.affine.origin.1) / file.affine.row.1;
        // In a south-up file the southern of two pixels is the one with the smaller index.
        let index =
            |at: f64| if file.affine.row.1 < 0.0 { east(at, file.rows) } else { before(at, file.rows) };
        Axis((window.row..window.row_end()).map(|row| index(at(row))).collect())
    }

    /// The stored index under each pixel.
    pub(super) fn indices(&self) -> &[Option<u32>] {
        &self.0
    }

    /// First stored index and number of stored pixels from there to the last; `None` where the
    /// window lies outside the file.
    pub(super) fn span(&self) -> Option<(u32, u32)> {
        let first = self.0.iter().flatten().min()?;
        let last = self.0.iter().flatten().max()?;
        Some((*first, last - first + 1))
    }
}

/// Index of the pixel that holds `at`, an edge belonging to the pixel after it.
fn east(at: f64, count: u32) -> Option<u32> {
    inside((at + TIE_PIXELS).floor(), count)
}

/// Index of the pixel that holds `at`, an edge belonging to the pixel before it.
fn before(at: f64, count: u32) -> Option<u32> {
    inside((at - TIE_PIXELS).ceil() - 1.0, count)
}

fn inside(index: f64, count: u32) -> Option<u32> {
    (index >= 0.0 && index < f64::from(count)).then_some(index as u32)
}

/// Whether every pixel of the window has the centre of a stored pixel, real or outside the file, at
/// its own centre. Then all resamplers agree: there is nothing to interpolate.
pub(super) fn coincides(lattice: &Lattice, window: &Window, file: &AssetGrid) -> bool {
    let (res_x, res_y) = lattice.resolution();
    let step = |ours: f64, theirs: f64, pixels: u32| {
        (ours / theirs - 1.0).abs() * f64::from(pixels) <= COINCIDE_PIXELS
    };
    let centred = |at: f64| (at - at.floor() - 0.5).abs() <= COINCIDE_PIXELS;
    let col = |col: i64| (lattice.x(col as f64 + 0.5) - file.affine.origin.0) / file.affine.col.0;
    let row = |row: i64| (lattice.y(row as f64 + 0.5) - file.affine.origin.1) / file.affine.row.1;
    step(res_x, file.affine.col.0, window.cols)
        && step(res_y, file.affine.row.1.abs(), window.rows)
        && [col(window.col), col(window.col_end() - 1), row(window.row), row(window.row_end() - 1)]
            .into_iter()
            .all(centred)
}

#[cfg(test)]
mod tests {
    use graticule_common::grid::Crs;
    use graticule_common::scene::Affine;

    use super::*;

    fn lattice(res: f64) -> Lattice {
        Lattice::try_new(Crs::from_canonical("EPSG:32613"), (res, res), (0.0, 0.0)).unwrap()
    }

    /// A file of 3 × 4 pixels of 10 m whose west edge is at 100, between y = 170 and y = 200.
    fn file(north_up: bool) -> AssetGrid {
        let (y, step_y) = if north_up { (200.0, -10.0) } else { (170.0, 10.0) };
        let crs = Crs::from_canonical("EPSG:32613");
        AssetGrid { crs, affine: Affine::upright((100.0, y), 10.0, step_y), rows: 3, cols: 4 }
    }

    #[test]
    fn aligned_windows_map_one_to_one() {
        let window = Window { row: -21, col: 9, rows: 5, cols: 6 };
        let cols = Axis::cols(&lattice(10.0), &window, &file(true));
        assert_eq!(cols.indices(), [None, Some(0), Some(1), Some(2), Some(3), None]);
        assert_eq!(cols.span(), Some((0, 4)));
        let rows = Axis::rows(&lattice(10.0), &window, &file(true));
        assert_eq!(rows.indices(), [None, Some(0), Some(1), Some(2), None]);
        let rows = Axis::rows(&lattice(10.0), &window, &file(false));
        assert_eq!(rows.indices(), [None, Some(2), Some(1), Some(0), None]);
        assert!(coincides(&lattice(10.0), &window, &file(true)));
        assert!(coincides(&lattice(10.0), &window, &file(false)));
    }

    #[test]
    fn edges_belong_to_the_east_and_the_south() {
        // Pixels of 20 m: every centre lies on an edge between two stored pixels.
        let window = Window { row: -11, col: 4, rows: 3, cols: 4 };
        let cols = Axis::cols(&lattice(20.0), &window, &file(true));
        assert_eq!(cols.indices(), [None, Some(1), Some(3), None]);
        for north_up in [true, false] {
            let rows = Axis::rows(&lattice(20.0), &window, &file(north_up));
            let south = |row: u32| Some(if north_up { row } else { 2 - row });
            assert_eq!(rows.indices(), [None, south(1), None], "north up: {north_up}");
        }
        // The northern edge of the file belongs to its first row, the southern one to nobody.
        let edges = Window { row: -21, col: 9, rows: 4, cols: 1 };
        let half = Lattice::try_new(Crs::from_canonical("EPSG:32613"), (10.0, 10.0), (5.0, -5.0)).unwrap();
        for north_up in [true, false] {
            let rows = Axis::rows(&half, &edges, &file(north_up));
            let south = |row: u32| Some(if north_up { row } else { 2 - row });
            assert_eq!(rows.indices(), [south(0), south(1), south(2), None], "north up: {north_up}");
        }
        assert!(!coincides(&half, &edges, &file(true)));
        assert!(!coincides(&lattice(20.0), &window, &file(true)));
    }

    #[test]
    fn rounding_does_not_decide_ties() {
        let mut shifted = file(true);
        for error in [-1e-9, 0.0, 1e-9] {
            shifted.affine.origin.0 = 100.0 + error;
            let window = Window { row: -10, col: 4, rows: 1, cols: 4 };
            let cols = Axis::cols(&lattice(20.0), &window, &shifted);
            assert_eq!(cols.indices(), [None, Some(1), Some(3), None], "{error}");
        }
    }

    #[test]
    fn far_away_is_outside() {
        let window = Window { row: 1 << 40, col: -(1 << 40), rows: 2, cols: 2 };
        assert_eq!(Axis::cols(&lattice(10.0), &window, &file(true)).span(), None);
        assert_eq!(Axis::rows(&lattice(10.0), &window, &file(false)).span(), None);
    }
}
