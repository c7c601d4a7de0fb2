//! How many pixels of a lattice lie on one stored pixel, in x and in y: what kernels widen by.
//!
//! A function of file and lattice alone, so that it does not depend on the window. It is what GDAL
//! takes for a warp of the whole file: the extent of the file in pixels of the lattice, by its number
//! of columns and rows. Where the extent is not known (a part of the file has no place, or lies across
//! a seam), it is taken in the middle of the file.

use graticule_common::grid::Lattice;
use graticule_common::scene::AssetGrid;
use graticule_common::transform::Transform;

/// Closer to one than this is one: there is nothing to widen.
const ROUNDING: f64 = 1e-6;

/// Pixels of the lattice per stored pixel, along columns and along rows of the file; `None` where no
/// point of the file has a place on the lattice.
pub(in super::super) fn scale(
    file: &AssetGrid,
    lattice: &Lattice,
    transform: &dyn Transform,
) -> Option<(f64, f64)> {
    let (cols, rows) = (f64::from(file.cols), f64::from(file.rows));
    let extent = file.extent_on(lattice, transform).map(|extent| {
        let (width, height) = (extent.cols.1 - extent.cols.0, extent.rows.1 - extent.rows.0);
        (width / cols, height / rows)
    });
    let scale = extent.or_else(|| middle(file, lattice, transform))?;
    Some((rounded(scale.0), rounded(scale.1)))
}

/// As GDAL does, a file that is nearly a whole number of times finer counts as just that.
fn rounded(scale: f64) -> f64 {
    /// In stored pixels per pixel of the lattice.
    const NEARLY: f64 = 0.05;
    let times = (1.0 / scale).round();
    if (scale - 1.0).abs() <= ROUNDING || scale < 1.0 && (1.0 / scale - times).abs() < NEARLY {
        1.0 / times
    } else {
        scale
    }
}

/// From the step between stored pixels in the middle of the file.
fn middle(file: &AssetGrid, lattice: &Lattice, transform: &dyn Transform) -> Option<(f64, f64)> {
    /// Places that are tried, as parts of the width and height: some of a full disk lie off the earth.
    const TRIED: [(f64, f64); 5] = [(0.5, 0.5), (0.25, 0.5), (0.75, 0.5), (0.5, 0.25), (0.5, 0.75)];
    TRIED.into_iter().find_map(|(part_cols, part_rows)| {
        let (col, row) = (f64::from(file.cols) * part_cols, f64::from(file.rows) * part_rows);
        let mut points =
            [(col, row), (col + 1.0, row), (col, row + 1.0)].map(|(col, row)| file.affine.place(col, row));
        transform.points(&file.crs, lattice.crs(), &mut points).ok()?;
        let [here, right, below] = points.map(|(x, y)| (lattice.col(x), lattice.row(y)));
        let step = |to: (f64, f64)| (to.0 - here.0).hypot(to.1 - here.1);
        let scale = (step(right), step(below));
        (scale.0 > 0.0 && scale.1 > 0.0).then_some(scale)
    })
}
