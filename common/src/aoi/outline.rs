//! Which pixels an AOI's outline holds: a function of the pixel alone, so every tiling agrees.

use super::{Geometry, Line, Polygon};
use crate::grid::Window;
use crate::hash::Hasher;

/// An AOI's outline in lattice pixels: (column, row) of each vertex.
///
/// A pixel is inside when its centre is inside one of the polygons, by the even-odd rule. With
/// `all_touched` it is also inside when a polygon's edge runs through it (by more than a millionth of
/// a pixel: an edge on the border of two pixels runs through neither), or a line does, or it holds a
/// point. Lines and points on a border belong to the pixel east and south of it.
#[derive(Clone, Debug)]
pub struct Outline {
    geometry: Geometry,
    all_touched: bool,
    edges: Edges,
}

impl PartialEq for Outline {
    fn eq(&self, other: &Self) -> bool {
        // The index follows from the rest.
        self.geometry == other.geometry && self.all_touched == other.all_touched
    }
}

/// Rows of which the culling of tiles looks at once.
const STRIP_ROWS: u32 = 16;

impl Outline {
    /// An outline from a geometry in lattice pixels, as [`Outline::geometry`] gave it.
    pub fn new(geometry: Geometry, all_touched: bool) -> Self {
        let edges = Edges::new(&geometry);
        Outline { geometry, all_touched, edges }
    }

    /// An outline of polygons in lattice pixels, inside by their centres.
    pub fn from_polygons(polygons: Vec<Polygon>) -> Self {
        Outline::new(Geometry::of(polygons), false)
    }

    /// The geometry in lattice pixels.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The polygons in lattice pixels.
    pub fn polygons(&self) -> &[Polygon] {
        &self.geometry.polygons
    }

    /// Whether pixels that the geometry touches are inside.
    pub fn all_touched(&self) -> bool {
        self.all_touched
    }

    /// For each pixel of a window, row by row: 1 outside, 0 inside. Takes one more byte per pixel
    /// meanwhile.
    pub fn outside(&self, window: &Window) -> Vec<u8> {
        let mut outside = vec![1u8; window.pixels()];
        let mut toggles: Vec<u8> = Vec::new();
        let found = self.edges.rows(window);
        for edges in found.chunk_by(|a, b| a.owner == b.owner) {
            if edges[0].is_line {
                edges.iter().for_each(|edge| edge.touch_half_open(window, &mut outside));
            } else {
                fill(edges, window, &mut toggles, &mut outside);
                if self.all_touched {
                    edges.iter().for_each(|edge| edge.touch_open(window, &mut outside));
                }
            }
        }
        outside
    }

    /// Whether any pixel of a window is inside. Cheap: where no edge is near, one column tells.
    pub fn reaches(&self, window: &Window) -> bool {
        let found = self.edges.rows(window);
        if found.is_empty() {
            return false;
        }
        let (west, east) = (window.col as f64, window.col_end() as f64);
        let is_near = |edge: &&Edge| edge.max_x() >= west - 1.0 && edge.min_x() <= east + 1.0;
        if !found.iter().any(|edge| is_near(&edge)) {
            // Along a row nothing changes.
            let column = Window { cols: 1, ..*window };
            return self.outside(&column).contains(&0);
        }
        let strips = (0..window.rows).step_by(STRIP_ROWS as usize);
        strips.into_iter().any(|first| {
            let rows = STRIP_ROWS.min(window.rows - first);
            let strip = Window { row: window.row + i64::from(first), rows, ..*window };
            self.outside(&strip).contains(&0)
        })
    }

    /// Adds the outline to a digest.
    pub fn hash_into(&self, hasher: &mut Hasher) {
        let vertices = |line: &Line, hasher: &mut Hasher| {
            hasher.int(line.len() as i64);
            for (x, y) in line {
                hasher.float(*x).float(*y);
            }
        };
        hasher.int(i64::from(self.all_touched)).int(self.geometry.polygons.len() as i64);
        for polygon in &self.geometry.polygons {
            hasher.int(polygon.len() as i64);
            polygon.iter().for_each(|ring| vertices(ring, hasher));
        }
        hasher.int(self.geometry.lines.len() as i64);
        self.geometry.lines.iter().for_each(|line| vertices(line, hasher));
    }
}

/// Marks the pixels of a window whose centre is inside a polygon. `edges` are those of one polygon that
/// share rows with the window.
fn fill(edges: &[Edge], window: &Window, toggles: &mut Vec<u8>, outside: &mut [u8]) {
    let top = edges.iter().map(Edge::top).fold(f64::INFINITY, f64::min);
    let bottom = edges.iter().map(Edge::bottom).fold(f64::NEG_INFINITY, f64::max);
    let first = (top.floor().max(window.row as f64) as i64).max(window.row);
    let end = (bottom.ceil().min(window.row_end() as f64) as i64).min(window.row_end());
    if first >= end {
        return;
    }
    let cols = window.cols as usize;
    let rows = (end - first) as usize;
    // One place more: rows after an edge that lies west of the window.
    let mut starts = vec![0u8; rows + 1];
    toggles.clear();
    let mut is_cut = false;
    for edge in edges {
        let (from, to) = edge.centre_rows();
        let (from, to) = (from.max(first), to.min(end));
        if from >= to || column(edge.min_x()) >= window.col_end() {
            continue;
        }
        if column(edge.max_x()) <= window.col {
            starts[(from - first) as usize] ^= 1;
            starts[(to - first) as usize] ^= 1;
            continue;
        }
        if !is_cut {
            toggles.resize(rows * cols, 0);
            is_cut = true;
        }
        for row in from..to {
            let at = column(edge.x_at(row as f64 + 0.5)).max(window.col);
            if at < window.col_end() {
                toggles[(row - first) as usize * cols + (at - window.col) as usize] ^= 1;
            }
        }
    }
    let mut start = 0;
    for row in 0..rows {
        start ^= starts[row];
        let at = (first - window.row) as usize + row;
        let line = &mut outside[at * cols..(at + 1) * cols];
        if is_cut {
            let mut inside = start;
            for (pixel, toggle) in line.iter_mut().zip(&toggles[row * cols..(row + 1) * cols]) {
                inside ^= toggle;
                *pixel &= inside ^ 1;
            }
        } else if start == 1 {
            line.fill(0);
        }
    }
}

/// First column whose centre is not west of x.
fn column(x: f64) -> i64 {
    (x - 0.5).ceil() as i64
}

/// An edge must come this far into a pixel, in pixels, to touch it: positions carry rounding.
const TOUCH_PIXELS: f64 = 1e-6;

/// One edge of a polygon's ring, or one piece of a line.
#[derive(Clone, Copy, Debug)]
struct Edge {
    from: (f64, f64),
    to: (f64, f64),
    /// Which polygon or line it is of.
    owner: u32,
    is_line: bool,
}

impl Edge {
    fn top(&self) -> f64 {
        self.from.1.min(self.to.1)
    }

    fn bottom(&self) -> f64 {
        self.from.1.max(self.to.1)
    }

    fn min_x(&self) -> f64 {
        self.from.0.min(self.to.0)
    }

    fn max_x(&self) -> f64 {
        self.from.0.max(self.to.0)
    }

    /// Rows whose centre line the edge crosses: those with top <= centre < bottom.
    fn centre_rows(&self) -> (i64, i64) {
        (column(self.top()), column(self.bottom()))
    }

    /// x where the edge passes y, which is within its rows.
    fn x_at(&self, y: f64) -> f64 {
        let ((x0, y0), (x1, y1)) = (self.from, self.to);
        if y1 == y0 {
            return x0;
        }
        (x0 + (y - y0) * (x1 - x0) / (y1 - y0)).clamp(self.min_x(), self.max_x())
    }

    /// The columns that the edge spans between two y, both within its rows.
    fn span(&self, top: f64, bottom: f64) -> (f64, f64) {
        if self.from.1 == self.to.1 {
            return (self.min_x(), self.max_x());
        }
        let (a, b) = (self.x_at(top), self.x_at(bottom));
        (a.min(b), a.max(b))
    }

    /// Marks the pixels of a window into which the edge comes.
    fn touch_open(&self, window: &Window, outside: &mut [u8]) {
        if self.max_x() <= window.col as f64 || self.min_x() >= window.col_end() as f64 {
            return;
        }
        let first = (self.top() - 1.0).floor().max(window.row as f64) as i64;
        let end = (self.bottom() + 1.0).ceil().min(window.row_end() as f64) as i64;
        for row in first..end {
            let top = self.top().max(row as f64 + TOUCH_PIXELS);
            let bottom = self.bottom().min((row + 1) as f64 - TOUCH_PIXELS);
            if top > bottom {
                continue;
            }
            let (west, east) = self.span(top, bottom);
            let from = (west - 1.0 + TOUCH_PIXELS).ceil();
            let to = (east - TOUCH_PIXELS).floor() + 1.0;
            mark(window, outside, row, (from, to));
        }
    }

    /// Marks the pixels of a window that the piece of a line is in.
    fn touch_half_open(&self, window: &Window, outside: &mut [u8]) {
        if self.max_x() < window.col as f64 || self.min_x() >= window.col_end() as f64 {
            return;
        }
        let first = self.top().floor().max(window.row as f64) as i64;
        let end = (self.bottom().floor() + 1.0).min(window.row_end() as f64) as i64;
        for row in first..end {
            let (west, east) = self.span(self.top().max(row as f64), self.bottom().min((row + 1) as f64));
            mark(window, outside, row, (west.floor(), east.floor() + 1.0));
        }
    }
}

/// Marks the columns `from..to` of a row as inside.
fn mark(window: &Window, outside: &mut [u8], row: i64, (from, to): (f64, f64)) {
    let from = from.max(window.col as f64) as i64;
    let to = to.min(window.col_end() as f64) as i64;
    if from < to {
        let line = (row - window.row) as usize * window.cols as usize;
        let at = |col: i64| line + (col - window.col) as usize;
        outside[at(from)..at(to)].fill(0);
    }
}

/// All edges, found by row.
///
/// An edge is filed by its height: level n holds edges up to 2^n rows high, in bins of that many rows
/// by their top. So those of some rows are in one run of bins on each level, and none is filed twice.
#[derive(Clone, Debug)]
struct Edges {
    /// Level and bin of each edge, sorted.
    bins: Vec<(u8, i64)>,
    edges: Vec<Edge>,
}

impl Edges {
    fn new(geometry: &Geometry) -> Self {
        let mut edges: Vec<Edge> = Vec::new();
        let polygons = geometry.polygons.iter().map(|rings| (rings.as_slice(), false));
        let lines = geometry.lines.iter().map(|line| (std::slice::from_ref(line), true));
        for ((rings, is_line), owner) in polygons.chain(lines).zip(0..) {
            for ring in rings {
                if let [point] = ring[..] {
                    edges.push(Edge { from: point, to: point, owner, is_line });
                }
                let pairs = ring.windows(2).map(|pair| (pair[0], pair[1]));
                edges.extend(pairs.map(|(from, to)| Edge { from, to, owner, is_line }));
            }
        }
        let mut filed: Vec<((u8, i64), Edge)> = edges.into_iter().map(|edge| (bin(&edge), edge)).collect();
        filed.sort_by_key(|(bin, edge)| (*bin, edge.owner));
        let (bins, edges) = filed.into_iter().unzip();
        Edges { bins, edges }
    }

    /// The edges that share rows with a window, those of one owner together.
    fn rows(&self, window: &Window) -> Vec<Edge> {
        let mut found: Vec<Edge> = Vec::new();
        let (top, bottom) = (window.row as f64 - 1.0, window.row_end() as f64 + 1.0);
        let mut at = 0;
        while let Some((level, _)) = self.bins.get(at).copied() {
            let rest = &self.bins[at..];
            let level_end = at + rest.partition_point(|bin| bin.0 <= level);
            let height = level_height(level);
            let first = (level, (top / height).floor() as i64 - 1);
            let last = (level, (bottom / height).floor() as i64);
            let from = at + rest.partition_point(|bin| *bin < first);
            let to = at + rest.partition_point(|bin| *bin <= last);
            let shares = |edge: &&Edge| edge.bottom() >= top && edge.top() <= bottom;
            found.extend(self.edges[from..to.max(from)].iter().filter(shares));
            at = level_end;
        }
        found.sort_by_key(|edge| edge.owner);
        found
    }
}

fn level_height(level: u8) -> f64 {
    (1u64 << level) as f64
}

fn bin(edge: &Edge) -> (u8, i64) {
    /// Higher than any window is far away.
    const LEVEL_MAX: u8 = 50;
    let height = edge.bottom() - edge.top();
    let level = (0..LEVEL_MAX).find(|level| height <= level_height(*level)).unwrap_or(LEVEL_MAX);
    (level, (edge.top() / level_height(level)).floor() as i64)
}
