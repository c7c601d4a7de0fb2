//! Which pixels of a lattice a file can have a part in: what planning knows about reads.
//!
//! The file is sampled on a mesh. Where its image on the lattice is smooth from point to point, the
//! image's extent is that of the points, widened by what may bulge between them. Where a point has no
//! place, or neighbours lie across a seam of the CRS, nothing is known before the file is read.

use crate::grid::{Grid, Lattice, Window};
use crate::scene::AssetGrid;
use crate::transform::Transform;

/// Points of the mesh along each side.
const MESH: usize = 9;

/// A turn of the earth in a geographic CRS.
const TURN_DEGREES: f64 = 360.0;

/// Extent of a file on a lattice, in fractional columns and rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatticeExtent {
    /// First and last column.
    pub cols: (f64, f64),
    /// First and last row.
    pub rows: (f64, f64),
    /// What the image may reach beyond that, between two points.
    pub bulge: (f64, f64),
}

impl AssetGrid {
    /// Whether the file can have a pixel on a grid.
    pub fn overlaps(&self, grid: &Grid, transform: &dyn Transform) -> bool {
        self.reach(grid, transform).is_none_or(|reach| reach.intersect(&grid.window()).is_some())
    }

    /// The pixels of a grid's lattice that the file covers, at least in part; those of a grid in
    /// degrees a turn of the earth away included. `None` where that is not known before it is read.
    pub fn reach(&self, grid: &Grid, transform: &dyn Transform) -> Option<Window> {
        /// Less of a pixel than this is rounding, not coverage.
        const SLIVER_PIXELS: f64 = 1e-6;
        let lattice = grid.lattice();
        let LatticeExtent { cols, rows, bulge } = self.extent_on(lattice, transform)?;
        let first = |edge: f64| (edge + SLIVER_PIXELS).floor() as i64;
        let end = |edge: f64| (edge - SLIVER_PIXELS).ceil() as i64;
        let window = |shift: f64| {
            let (left, right) = (cols.0 - bulge.0 + shift, cols.1 + bulge.0 + shift);
            Window::from_edges(first(rows.0 - bulge.1), first(left), end(rows.1 + bulge.1), end(right))
        };
        let own = window(0.0)?;
        if !transform.is_geographic(lattice.crs()).unwrap_or(false) {
            return Some(own);
        }
        let turn = TURN_DEGREES / lattice.resolution().0;
        let shifted = [-2.0, -1.0, 0.0, 1.0, 2.0].into_iter().filter_map(|turns| window(turns * turn));
        let seen = shifted.filter(|window| window.intersect(&grid.window()).is_some());
        seen.reduce(|a, b| a.union(&b)).or(Some(own))
    }

    /// The file's extent on a lattice; `None` where a part of the file has no place there, or its
    /// image is torn.
    pub fn extent_on(&self, lattice: &Lattice, transform: &dyn Transform) -> Option<LatticeExtent> {
        let (cols, rows) = (f64::from(self.cols), f64::from(self.rows));
        if transform.same(&self.crs, lattice.crs()) {
            let corners = [(0.0, 0.0), (cols, 0.0), (0.0, rows), (cols, rows)];
            let corners = corners.map(|(col, row)| {
                let (x, y) = self.affine.place(col, row);
                (lattice.col(x), lattice.row(y))
            });
            let (cols, rows) = (range(corners.iter().map(|p| p.0))?, range(corners.iter().map(|p| p.1))?);
            return Some(LatticeExtent { cols, rows, bulge: (0.0, 0.0) });
        }
        let part = |i: usize| i as f64 / (MESH - 1) as f64;
        let mut mesh: Vec<(f64, f64)> = (0..MESH * MESH)
            .map(|at| self.affine.place(cols * part(at % MESH), rows * part(at / MESH)))
            .collect();
        transform.points(&self.crs, lattice.crs(), &mut mesh).ok()?;
        if transform.is_geographic(lattice.crs()).ok()? {
            if self.holds_pole(lattice, transform) {
                return None;
            }
            for at in 1..mesh.len() {
                let before = if at % MESH == 0 { at - MESH } else { at - 1 };
                mesh[at].0 += ((mesh[before].0 - mesh[at].0) / TURN_DEGREES).round() * TURN_DEGREES;
            }
        }
        let cols: Vec<f64> = mesh.iter().map(|(x, _)| lattice.col(*x)).collect();
        let rows: Vec<f64> = mesh.iter().map(|(_, y)| lattice.row(*y)).collect();
        let bulge = (bulge(&cols)?, bulge(&rows)?);
        Some(LatticeExtent { cols: range(cols.into_iter())?, rows: range(rows.into_iter())?, bulge })
    }

    /// Whether a pole of the lattice's CRS lies in the file or near it.
    fn holds_pole(&self, lattice: &Lattice, transform: &dyn Transform) -> bool {
        let Some(to_stored) = self.affine.inverse() else { return true };
        [-90.0, 90.0].into_iter().any(|pole| {
            let mut place = [(0.0, pole)];
            if transform.points(lattice.crs(), &self.crs, &mut place).is_err() {
                return false;
            }
            let (col, row) = to_stored.place(place[0].0, place[0].1);
            let near = |at: f64, count: u32| {
                let margin = f64::from(count) / (MESH - 1) as f64;
                at >= -margin && at <= f64::from(count) + margin
            };
            near(col, self.cols) && near(row, self.rows)
        })
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let range = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    (range.0.is_finite() && range.1.is_finite()).then_some(range)
}

/// How far the image may reach beyond its points; `None` if it is torn between two of them.
fn bulge(mesh: &[f64]) -> Option<f64> {
    /// Of the longest step: a greater change from one step to the next is no longer a curve.
    const CURVE_MAX: f64 = 0.5;
    /// Changes this small are rounding.
    const ROUNDING_PIXELS: f64 = 1.0;
    let lines = |stride: usize, start: usize| {
        (0..MESH).map(move |line| (0..MESH).map(|at| mesh[line * start + at * stride]).collect::<Vec<f64>>())
    };
    let (mut step, mut change) = (0.0_f64, 0.0_f64);
    for line in lines(1, MESH).chain(lines(MESH, 1)) {
        for pair in line.windows(2) {
            step = step.max((pair[1] - pair[0]).abs());
        }
        for three in line.windows(3) {
            change = change.max((three[0] - 2.0 * three[1] + three[2]).abs());
        }
    }
    // A curve strays from its chord by an eighth of the change of its steps; twice that, and a pixel.
    (change <= CURVE_MAX * step + ROUNDING_PIXELS).then_some(change / 4.0 + 1.0)
}

#[cfg(all(test, feature = "proj"))]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::scene::Affine;
    use crate::transform::Proj;

    fn file(crs: &str, affine: Affine, rows: u32, cols: u32) -> AssetGrid {
        AssetGrid { crs: Proj::new().canonical(crs).expect("a CRS"), affine, rows, cols }
    }

    fn grid(crs: &str, corner: (f64, f64), res: f64, rows: u64, cols: u64) -> Grid {
        let crs = Proj::new().canonical(crs).expect("a CRS");
        Grid::try_new(crs, corner, (res, res), (rows, cols), &Limits::default()).expect("a grid")
    }

    /// Every stored pixel's centre lies in the reach.
    #[track_caller]
    fn holds_all(file: &AssetGrid, grid: &Grid) -> Window {
        let proj = Proj::new();
        let reach = file.reach(grid, &proj).expect("a reach");
        let places = (0..=40).flat_map(|i| (0..=40).map(move |j| (f64::from(i) / 40.0, f64::from(j) / 40.0)));
        for (part_col, part_row) in places {
            let (col, row) = (f64::from(file.cols) * part_col, f64::from(file.rows) * part_row);
            let mut point = [file.affine.place(col, row)];
            proj.points(&file.crs, grid.crs(), &mut point).expect("a place");
            let (mut col, row) = (grid.lattice().col(point[0].0), grid.lattice().row(point[0].1));
            if proj.is_geographic(grid.crs()).expect("a CRS") {
                let turn = 360.0 / grid.lattice().resolution().0;
                col += ((reach.col as f64 + f64::from(reach.cols) / 2.0 - col) / turn).round() * turn;
            }
            assert!(row >= reach.row as f64 - 1e-6 && row <= reach.row_end() as f64 + 1e-6, "{row} {reach}");
            assert!(col >= reach.col as f64 - 1e-6 && col <= reach.col_end() as f64 + 1e-6, "{col} {reach}");
        }
        reach
    }

    #[test]
    fn other_crss_are_bounded_closely() {
        let scene = file("EPSG:32613", Affine::upright((300_000.0, 4_500_000.0), 30.0, -30.0), 7000, 7600);
        let turned = Affine { origin: (3e5, 4.5e6), col: (20.0, 8.0), row: (8.0, -20.0) };
        for scene in [&scene, &file("EPSG:32613", turned, 4000, 4000)] {
            for (crs, corner, res) in [
                ("EPSG:32612", (900_000.0, 4_500_000.0), 30.0),
                ("EPSG:4326", (-107.0, 41.0), 0.0003),
                ("EPSG:3857", (-11_900_000.0, 4_900_000.0), 40.0),
                ("EPSG:5070", (-760_000.0, 2_000_000.0), 30.0),
            ] {
                let reach = holds_all(scene, &grid(crs, corner, res, 100, 100));
                assert!(reach.rows < 16_000 && reach.cols < 16_000, "{crs}: {reach}");
            }
        }
    }

    #[test]
    fn the_antimeridian_is_a_line_like_others() {
        let proj = Proj::new();
        // Zone 60 to 181.5 degrees east: beyond the antimeridian.
        let scene = file("EPSG:32660", Affine::upright((600_000.0, 100_000.0), 100.0, -100.0), 1000, 3000);
        for west in [178.0, -182.0] {
            let grid = grid("EPSG:4326", (west, 1.0), 0.01, 100, 400);
            assert!(holds_all(&scene, &grid).intersect(&grid.window()).is_some());
        }
        // The part that lies west of it.
        let west = grid("EPSG:4326", (-180.0, 1.0), 0.01, 100, 20);
        assert!(scene.overlaps(&west, &proj));
        assert!(!scene.overlaps(&grid("EPSG:4326", (-170.0, 1.0), 0.01, 100, 20), &proj));
        let zone_1 = grid("EPSG:32601", (100_000.0, 100_000.0), 100.0, 1000, 1000);
        assert!(holds_all(&scene, &zone_1).intersect(&zone_1.window()).is_some());
        // A file that counts longitudes from 0 to 360.
        let turned = file("EPSG:4326", Affine::upright((0.0, 90.0), 1.0, -1.0), 180, 360);
        assert!(turned.overlaps(&grid("EPSG:4326", (-120.0, 50.0), 0.1, 10, 10), &proj));
    }

    #[test]
    fn what_cannot_be_bounded_is_left_to_the_reads() {
        let proj = Proj::new();
        let polar = file("EPSG:3413", Affine::upright((-3e6, 3e6), 10_000.0, -10_000.0), 600, 600);
        assert_eq!(polar.reach(&grid("EPSG:4326", (-180.0, 90.0), 0.1, 300, 3600), &proj), None);
        let disk = file(
            "+proj=geos +h=35785831 +lon_0=-75 +sweep=x",
            Affine::upright((-5.4e6, 5.4e6), 10_800.0, -10_800.0),
            1000,
            1000,
        );
        let states = grid("EPSG:4326", (-100.0, 45.0), 0.1, 100, 100);
        assert_eq!(disk.reach(&states, &proj), None);
        assert!(disk.overlaps(&states, &proj));
        let mercator = file("EPSG:3857", Affine::upright((-2e7, 2e7), 1e4, -1e4), 4000, 4000);
        assert_eq!(mercator.reach(&grid("EPSG:32660", (4e5, 1e6), 1e4, 10, 30), &proj), None);
    }
}
