//! Where the pixels of a lattice lie in a file: in stored columns and rows, pixel corners being whole
//! numbers.
//!
//! Where both share a CRS, the affine decides alone. Elsewhere the lattice is cut into cells of
//! [`CELL`] × [`CELL`] pixels that begin at its pixel (0, 0). A cell's places are those of 3 × 3 of
//! its points by PROJ and of the polynomial of second degree through them, checked at four more
//! points. A cell that errs by more than [`TOLERANCE_PIXELS`] is cut into four, and at last placed
//! pixel by pixel. All of it follows from the cell alone, so cutting a window never moves a pixel.

use std::ops::Range;

use graticule_common::grid::{Crs, Lattice, Window};
use graticule_common::scene::{Affine, AssetGrid};
use graticule_common::transform::Transform;

/// Edge of a cell in pixels of the lattice.
const CELL: u32 = 32;

/// A cell of this edge is not cut any more: its pixels are placed one by one.
const SMALLEST_CELL: u32 = 8;

/// The most that a cell may err where it is checked, in stored pixels. The nearest pixel is another
/// one for about twice this share of the pixels at worst, of which 0.01 % are allowed.
pub(super) const TOLERANCE_PIXELS: f64 = 1.0 / 65536.0;

/// Nearer than this to an edge, in stored pixels, is on the edge.
pub(super) const TIE_PIXELS: f64 = 1e-6;

/// Centres this close to each other, in stored pixels, coincide. Wider than a tie because a lattice
/// may itself be snapped by as much, and far below what a resampler could show.
const COINCIDE_PIXELS: f64 = 1e-5;

/// A turn of the earth in the units of a geographic CRS.
const TURN_DEGREES: f64 = 360.0;

/// Points of a pixel: its north-west corner, its centre, its south-east corner.
pub(super) const NORTH_WEST: f64 = 0.0;
pub(super) const CENTRE: f64 = 0.5;
pub(super) const SOUTH_EAST: f64 = 1.0;

/// From coordinates to stored columns and rows.
#[derive(Clone, Debug)]
pub(super) struct ToStored {
    file: AssetGrid,
    /// Of the vector from the file's corner: the parts along columns and along rows.
    inverse: Affine,
    /// Where x is an angle: half a turn west of the middle of the file. Longitudes are counted from
    /// there on, so that the edge of a file of the whole earth belongs to its first column.
    start: Option<f64>,
}

impl ToStored {
    /// `None` if rows and columns of the file run along each other.
    pub(super) fn new(file: &AssetGrid, is_geographic: bool) -> Option<Self> {
        let inverse = Affine { origin: (0.0, 0.0), ..file.affine }.inverse()?;
        let middle = file.affine.place(f64::from(file.cols) / 2.0, f64::from(file.rows) / 2.0).0;
        let tie = TIE_PIXELS * file.affine.col.0.abs().max(file.affine.row.0.abs());
        let start = is_geographic.then_some(middle - TURN_DEGREES / 2.0 - tie);
        Some(ToStored { file: file.clone(), inverse, start })
    }

    /// Whole turns to add to a longitude to come nearest to the middle of the file.
    fn turns(&self, x: f64) -> f64 {
        self.start.map_or(0.0, |start| -((x - start) / TURN_DEGREES).floor() * TURN_DEGREES)
    }

    pub(super) fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let x = x + self.turns(x);
        let Affine { origin, col, row } = self.file.affine;
        let (dx, dy) = (x - origin.0, y - origin.1);
        if self.file.affine.is_upright() {
            return (dx / col.0, dy / row.1);
        }
        let Affine { col: of_x, row: of_y, .. } = self.inverse;
        (of_x.0 * dx + of_y.0 * dy, of_x.1 * dx + of_y.1 * dy)
    }
}

/// Where the pixels of one window lie in a file.
#[derive(Debug)]
pub(super) struct Places(Kind);

#[derive(Debug)]
enum Kind {
    /// Columns lie on columns and rows on rows: stored columns and rows for each of the three points.
    Axes {
        cols: [Vec<f64>; 3],
        rows: [Vec<f64>; 3],
    },
    /// The same CRS, but turned.
    Turned {
        lattice: Lattice,
        window: Window,
        to_stored: ToStored,
    },
    Cells(Cells),
}

/// Extreme places of some pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Extent {
    pub(super) cols: (f64, f64),
    pub(super) rows: (f64, f64),
}

impl Extent {
    const NONE: Extent =
        Extent { cols: (f64::INFINITY, f64::NEG_INFINITY), rows: (f64::INFINITY, f64::NEG_INFINITY) };

    fn add(&mut self, (u, v): (f64, f64)) {
        if u.is_nan() || v.is_nan() {
            return;
        }
        self.cols = (self.cols.0.min(u), self.cols.1.max(u));
        self.rows = (self.rows.0.min(v), self.rows.1.max(v));
    }
}

fn point_index(point: f64) -> usize {
    (2.0 * point) as usize
}

impl Places {
    /// For a file in the lattice's own CRS.
    pub(super) fn same_crs(lattice: &Lattice, window: &Window, to_stored: &ToStored) -> Places {
        if !to_stored.file.affine.is_upright() {
            let (lattice, to_stored) = (lattice.clone(), to_stored.clone());
            return Places(Kind::Turned { lattice, window: *window, to_stored });
        }
        let Affine { origin, col: (res_x, _), row: (_, step_y) } = to_stored.file.affine;
        let cols = [NORTH_WEST, CENTRE, SOUTH_EAST].map(|point| {
            let at = |col: i64| {
                let turns = to_stored.turns(lattice.x(col as f64 + CENTRE));
                snap((lattice.x(col as f64 + point) + turns - origin.0) / res_x)
            };
            (window.col..window.col_end()).map(at).collect()
        });
        let rows = [NORTH_WEST, CENTRE, SOUTH_EAST].map(|point| {
            let at = |row: i64| snap((lattice.y(row as f64 + point) - origin.1) / step_y);
            (window.row..window.row_end()).map(at).collect()
        });
        Places(Kind::Axes { cols, rows })
    }

    /// For a file in another CRS. `corners`: whether corners of pixels are asked for too.
    pub(super) fn other_crs(
        lattice: &Lattice,
        window: &Window,
        to_stored: &ToStored,
        transform: &dyn Transform,
        corners: bool,
    ) -> Places {
        Places(Kind::Cells(Cells::new(lattice, window, to_stored, transform, corners)))
    }

    /// Places of a point of each pixel in a part of a row of the window; NaN where there is none.
    pub(super) fn row(&self, row: u32, cols: Range<u32>, point: f64, us: &mut [f64], vs: &mut [f64]) {
        match &self.0 {
            Kind::Axes { cols: at_cols, rows } => {
                let point = point_index(point);
                us.copy_from_slice(&at_cols[point][cols.start as usize..cols.end as usize]);
                vs.fill(rows[point][row as usize]);
            }
            Kind::Turned { lattice, window, to_stored } => {
                let y = lattice.y((window.row + i64::from(row)) as f64 + point);
                for ((u, v), col) in us.iter_mut().zip(vs).zip(cols) {
                    let x = lattice.x((window.col + i64::from(col)) as f64 + point);
                    (*u, *v) = to_stored.place((x, y));
                }
            }
            Kind::Cells(cells) => cells.row(row, cols, point, us, vs),
        }
    }

    /// Extreme places of the given points of some pixels; `None` if none has a place.
    pub(super) fn extent(&self, rows: &Range<u32>, cols: &Range<u32>, points: &[f64]) -> Option<Extent> {
        let mut extent = Extent::NONE;
        for &point in points {
            match &self.0 {
                Kind::Axes { cols: at_cols, rows: at_rows } => {
                    let point = point_index(point);
                    let mut ends = |row: u32| {
                        for col in cols.clone() {
                            extent.add((at_cols[point][col as usize], at_rows[point][row as usize]));
                        }
                    };
                    ends(rows.start);
                    ends(rows.end - 1);
                }
                Kind::Turned { .. } => {
                    // An affine map takes a rectangle's extremes at its corners, unless a turn of the
                    // earth lies between; so each row has its ends looked at, and all of it if angular.
                    let mut us = vec![0.0; cols.len()];
                    let mut vs = us.clone();
                    for row in rows.clone() {
                        self.row(row, cols.clone(), point, &mut us, &mut vs);
                        us.iter().zip(&vs).for_each(|(u, v)| extent.add((*u, *v)));
                    }
                }
                Kind::Cells(cells) => cells.extent(rows, cols, point, &mut extent),
            }
        }
        (extent.cols.0 <= extent.cols.1).then_some(extent)
    }
}

/// A place that rounding moved from a centre or an edge of a stored pixel, moved back.
fn snap(at: f64) -> f64 {
    let centre = at.floor() + 0.5;
    let edge = at.round();
    if (at - centre).abs() <= COINCIDE_PIXELS {
        centre
    } else if (at - edge).abs() <= TIE_PIXELS {
        edge
    } else {
        at
    }
}

/// The cells under a window.
#[derive(Debug)]
struct Cells {
    window: Window,
    /// Cell (not pixel) that holds the window's first pixel.
    first: (i64, i64),
    /// Cells in a row of cells.
    across: usize,
    /// The leaves of each cell, row by row.
    leaves: Vec<Vec<Leaf>>,
}

/// A square part of a cell.
#[derive(Debug)]
struct Leaf {
    row: i64,
    col: i64,
    size: u32,
    places: LeafPlaces,
}

#[derive(Debug)]
enum LeafPlaces {
    /// Coefficients of s^i t^j for stored columns and for stored rows; s and t run from 0 to 1 over
    /// the leaf's rows and columns.
    Smooth(Box<[[[f64; 3]; 3]; 2]>),
    /// Places of each pixel's points, row by row.
    Exact(Vec<Vec<(f64, f64)>>),
}

impl Cells {
    fn new(
        lattice: &Lattice,
        window: &Window,
        to_stored: &ToStored,
        transform: &dyn Transform,
        corners: bool,
    ) -> Cells {
        let size = i64::from(CELL);
        let first = (window.row.div_euclid(size), window.col.div_euclid(size));
        let last = ((window.row_end() - 1).div_euclid(size), (window.col_end() - 1).div_euclid(size));
        let (down, across) = ((last.0 - first.0 + 1) as usize, (last.1 - first.1 + 1) as usize);
        let maker =
            Maker { lattice, to_stored, transform, from: lattice.crs(), to: &to_stored.file.crs, corners };
        // Neighbours share the points of their edges: all cells at once.
        let half = f64::from(CELL) / 2.0;
        let at = |cell: i64, step: f64| (cell * size) as f64 + half * step;
        let points = |rows: usize, cols: usize, shift: f64| {
            let mut points = Vec::with_capacity(rows * cols);
            for row in 0..rows {
                let row = at(first.0, row as f64 + shift);
                points.extend((0..cols).map(|col| (row, at(first.1, col as f64 + shift))));
            }
            maker.places(points)
        };
        let nodes = points(2 * down + 1, 2 * across + 1, 0.0);
        let checks = points(2 * down, 2 * across, 0.5);
        let mut leaves = Vec::with_capacity(down * across);
        for row in 0..down {
            for col in 0..across {
                let node = |i: usize, j: usize| nodes[(2 * row + i) * (2 * across + 1) + 2 * col + j];
                let check = |i: usize, j: usize| checks[(2 * row + i) * 2 * across + 2 * col + j];
                let corner = ((first.0 + row as i64) * size, (first.1 + col as i64) * size);
                let mut cell = Vec::with_capacity(1);
                match smooth(node, check) {
                    Some(places) => {
                        cell.push(Leaf { row: corner.0, col: corner.1, size: CELL, places });
                    }
                    None => maker.cut(corner, CELL, &mut cell),
                }
                leaves.push(cell);
            }
        }
        Cells { window: *window, first, across, leaves }
    }

    /// The leaves under a part of a row of cells, each with the part of the row that it holds as
    /// columns of the lattice.
    fn under(&self, row: i64, cols: &Range<u32>) -> impl Iterator<Item = (&Leaf, Range<i64>)> {
        let size = i64::from(CELL);
        let (start, end) = (self.window.col + i64::from(cols.start), self.window.col + i64::from(cols.end));
        let cell_row = (row.div_euclid(size) - self.first.0) as usize * self.across;
        self.cells(cell_row, cols).flatten().filter_map(move |leaf| {
            let side = i64::from(leaf.size);
            let part = leaf.col.max(start)..(leaf.col + side).min(end);
            ((leaf.row..leaf.row + side).contains(&row) && !part.is_empty()).then_some((leaf, part))
        })
    }

    fn row(&self, row: u32, cols: Range<u32>, point: f64, us: &mut [f64], vs: &mut [f64]) {
        us.fill(f64::NAN);
        vs.fill(f64::NAN);
        let (row, start) = (self.window.row + i64::from(row), self.window.col + i64::from(cols.start));
        for (leaf, part) in self.under(row, &cols) {
            let out = (part.start - start) as usize..(part.end - start) as usize;
            let (us, vs) = (&mut us[out.clone()], &mut vs[out]);
            let skip = (part.start - leaf.col) as usize;
            match &leaf.places {
                LeafPlaces::Smooth(coefficients) => {
                    let scale = 1.0 / f64::from(leaf.size);
                    let s = ((row - leaf.row) as f64 + point) * scale;
                    let [u, v] = [0, 1].map(|axis| along(&coefficients[axis], s));
                    for (k, (at_u, at_v)) in us.iter_mut().zip(vs).enumerate() {
                        let t = ((skip + k) as f64 + point) * scale;
                        *at_u = u[0] + t * (u[1] + t * u[2]);
                        *at_v = v[0] + t * (v[1] + t * v[2]);
                    }
                }
                LeafPlaces::Exact(points) => {
                    let points = &points[point_index(point)];
                    let from = (row - leaf.row) as usize * leaf.size as usize + skip;
                    for (k, (at_u, at_v)) in us.iter_mut().zip(vs).enumerate() {
                        (*at_u, *at_v) = points[from + k];
                    }
                }
            }
        }
    }

    fn extent(&self, rows: &Range<u32>, cols: &Range<u32>, point: f64, extent: &mut Extent) {
        let size = i64::from(CELL);
        let (start, end) = (self.window.row + i64::from(rows.start), self.window.row + i64::from(rows.end));
        // The first row of each row of cells leads to all its cells.
        let mut row = start;
        while row < end {
            let next = ((row.div_euclid(size) + 1) * size).min(end);
            let cell_row = (row.div_euclid(size) - self.first.0) as usize * self.across;
            for leaf in self.cells(cell_row, cols).flatten() {
                let side = i64::from(leaf.size);
                let col_start = self.window.col + i64::from(cols.start);
                let col_end = self.window.col + i64::from(cols.end);
                let part_rows = leaf.row.max(row)..(leaf.row + side).min(next);
                let part_cols = leaf.col.max(col_start)..(leaf.col + side).min(col_end);
                if !part_rows.is_empty() && !part_cols.is_empty() {
                    leaf.extent(part_rows, part_cols, point, extent);
                }
            }
            row = next;
        }
    }

    /// The cells of a row of cells under some columns of the window.
    fn cells(&self, cell_row: usize, cols: &Range<u32>) -> impl Iterator<Item = &Vec<Leaf>> {
        let size = i64::from(CELL);
        let (start, end) = (self.window.col + i64::from(cols.start), self.window.col + i64::from(cols.end));
        let from = (start.div_euclid(size) - self.first.1) as usize;
        let to = ((end - 1).div_euclid(size) - self.first.1) as usize;
        self.leaves[cell_row + from..=cell_row + to].iter()
    }
}

impl Leaf {
    /// Extreme places of some of its pixels, or a little more.
    fn extent(&self, rows: Range<i64>, cols: Range<i64>, point: f64, extent: &mut Extent) {
        let (from, to) = ((cols.start - self.col) as f64, (cols.end - self.col - 1) as f64);
        let (top, bottom) = ((rows.start - self.row) as f64, (rows.end - self.row - 1) as f64);
        match &self.places {
            LeafPlaces::Smooth(coefficients) => {
                let scale = 1.0 / f64::from(self.size);
                let (first, last) = ((from + point) * scale, (to + point) * scale);
                let height = (bottom - top) * scale;
                for row in [top, bottom] {
                    let s = (row + point) * scale;
                    let [u, v] = [0, 1].map(|axis| {
                        // Between two rows a parabola strays from its chord by a quarter of this at most.
                        let [a, b, c] = coefficients[axis][2];
                        let bulge = (a.abs() + b.abs() + c.abs()) * height * height / 4.0;
                        let (low, high) = extremes(along(&coefficients[axis], s), first, last);
                        (low - bulge, high + bulge)
                    });
                    extent.add((u.0, v.0));
                    extent.add((u.1, v.1));
                }
            }
            LeafPlaces::Exact(points) => {
                let points = &points[point_index(point)];
                for row in top as usize..=bottom as usize {
                    let start = row * self.size as usize;
                    let part = start + from as usize..=start + to as usize;
                    points[part].iter().for_each(|place| extent.add(*place));
                }
            }
        }
    }
}

/// The polynomial in t that a leaf's is at one s.
fn along(coefficients: &[[f64; 3]; 3], s: f64) -> [f64; 3] {
    [0, 1, 2].map(|j| coefficients[0][j] + s * (coefficients[1][j] + s * coefficients[2][j]))
}

/// Least and greatest value of a polynomial of second degree between two places.
fn extremes([a, b, c]: [f64; 3], first: f64, last: f64) -> (f64, f64) {
    let at = |t: f64| a + t * (b + t * c);
    let (first_value, last_value) = (at(first), at(last));
    let (mut low, mut high) = (first_value.min(last_value), first_value.max(last_value));
    let turn = -b / (2.0 * c);
    if turn > first && turn < last {
        (low, high) = (low.min(at(turn)), high.max(at(turn)));
    }
    (low, high)
}

/// The polynomial through nine places, if it comes close enough to four others; `None` also where one
/// has no place.
fn smooth(
    node: impl Fn(usize, usize) -> (f64, f64),
    check: impl Fn(usize, usize) -> (f64, f64),
) -> Option<LeafPlaces> {
    // Through values at 0, 1/2 and 1.
    let through = |f: [f64; 3]| [f[0], -3.0 * f[0] + 4.0 * f[1] - f[2], 2.0 * f[0] - 4.0 * f[1] + 2.0 * f[2]];
    let fit = |pick: fn((f64, f64)) -> f64| {
        let rows = [0, 1, 2].map(|i| through([0, 1, 2].map(|j| pick(node(i, j)))));
        let mut coefficients = [[0.0; 3]; 3];
        for j in 0..3 {
            let column = through([0, 1, 2].map(|i| rows[i][j]));
            (0..3).for_each(|i| coefficients[i][j] = column[i]);
        }
        coefficients
    };
    let [u, v] = [fit(|place| place.0), fit(|place| place.1)];
    let is_close = |i: usize, j: usize| {
        let (s, t) = (0.25 + 0.5 * i as f64, 0.25 + 0.5 * j as f64);
        let at = |coefficients| {
            let [a, b, c] = along(coefficients, s);
            a + t * (b + t * c)
        };
        let exact = check(i, j);
        (at(&u) - exact.0).abs() <= TOLERANCE_PIXELS && (at(&v) - exact.1).abs() <= TOLERANCE_PIXELS
    };
    let is_smooth = (0..4).all(|at| is_close(at / 2, at % 2));
    is_smooth.then(|| LeafPlaces::Smooth(Box::new([u, v])))
}

/// What places are made from.
struct Maker<'a> {
    lattice: &'a Lattice,
    to_stored: &'a ToStored,
    transform: &'a dyn Transform,
    from: &'a Crs,
    to: &'a Crs,
    corners: bool,
}

impl Maker<'_> {
    /// Places of points given as lattice row and column.
    fn places(&self, mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
        for point in &mut points {
            *point = (self.lattice.x(point.1), self.lattice.y(point.0));
        }
        self.transform.points_or_nan(self.from, self.to, &mut points);
        for point in &mut points {
            *point = self.to_stored.place(*point);
        }
        points
    }

    /// Leaves of a square that is not smooth.
    fn cut(&self, (row, col): (i64, i64), size: u32, leaves: &mut Vec<Leaf>) {
        if size <= SMALLEST_CELL {
            let exact = |point: f64| {
                let pixels = (0..size * size).map(|at| (at / size, at % size));
                let at = |(r, c)| (row as f64 + f64::from(r) + point, col as f64 + f64::from(c) + point);
                self.places(pixels.map(at).collect())
            };
            let points = [NORTH_WEST, CENTRE, SOUTH_EAST]
                .map(|point| if point == CENTRE || self.corners { exact(point) } else { Vec::new() });
            leaves.push(Leaf { row, col, size, places: LeafPlaces::Exact(points.into()) });
            return;
        }
        let half = size / 2;
        for (down, right) in [(0, 0), (0, half), (half, 0), (half, half)] {
            let corner = (row + i64::from(down), col + i64::from(right));
            let at = |i: f64| f64::from(half) * i / 4.0;
            let node = |k: usize| (at(2.0 * (k / 3) as f64), at(2.0 * (k % 3) as f64));
            let check = |k: usize| (at(1.0 + 2.0 * (k / 2) as f64), at(1.0 + 2.0 * (k % 2) as f64));
            let points = (0..9).map(node).chain((0..4).map(check));
            let points = points.map(|(r, c)| (corner.0 as f64 + r, corner.1 as f64 + c)).collect();
            let places = self.places(points);
            if half <= SMALLEST_CELL && places.iter().all(|(u, v)| u.is_nan() || v.is_nan()) {
                // Not one of thirteen points has a place: neither have the pixels between them.
                continue;
            }
            match smooth(|i, j| places[3 * i + j], |i, j| places[9 + 2 * i + j]) {
                Some(places) => leaves.push(Leaf { row: corner.0, col: corner.1, size: half, places }),
                None => self.cut(corner, half, leaves),
            }
        }
    }
}
