//! An area of interest, the one rule by which it becomes a grid, and its outline.

use crate::error::{Classify, ErrorClass};
use crate::grid::{Crs, Grid, GridError, Lattice, Window};
use crate::hash::Hasher;
use crate::limits::Limits;
use crate::scene::LonLatBox;
use crate::transform::{Transform, TransformError};

/// CRS of geometries: longitude and latitude in WGS 84.
pub const LON_LAT: &str = "EPSG:4326";

/// A polygon: closed rings of (x, y), the first the outside, the others holes.
pub type Polygon = Vec<Vec<(f64, f64)>>;

/// What a user asked for: a place, a CRS, and how fine.
#[derive(Clone, Debug, PartialEq)]
pub struct Aoi {
    /// Outline in longitude and latitude; pixels outside are invalid. Empty: no outline.
    pub geometry: Vec<Polygon>,
    /// West, south, east, north in `bounds_crs`. Absent: those of the geometry.
    pub bounds: Option<[f64; 4]>,
    /// CRS of `bounds`. Absent: `crs`.
    pub bounds_crs: Option<String>,
    /// CRS of the grid.
    pub crs: String,
    /// How fine.
    pub sampling: Sampling,
    /// Whether the grid's edges lie on multiples of the resolution.
    pub align_pixels: bool,
}

/// How fine a grid is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// Pixel width and height, in units of the grid's CRS.
    Resolution(f64, f64),
    /// Rows and columns; the resolution follows from the bounds.
    Shape {
        /// Rows.
        rows: u64,
        /// Columns.
        cols: u64,
    },
}

/// Why an AOI is no grid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AoiError {
    /// Neither bounds nor a geometry.
    #[error("an AOI needs bounds or a geometry")]
    NoPlace,
    /// Edges that are not finite or enclose nothing.
    #[error(
        "bounds are west, south, east, north with west < east and south < north, got {west}, {south}, {east}, {north}"
    )]
    Bounds {
        /// West edge.
        west: f64,
        /// South edge.
        south: f64,
        /// East edge.
        east: f64,
        /// North edge.
        north: f64,
    },
    /// Numbers that can only be degrees, in a CRS that has none.
    #[error(
        "the bounds {west}, {south}, {east}, {north} look like degrees, but {crs} is not in degrees; say `bounds_crs` EPSG:4326"
    )]
    Degrees {
        /// West edge.
        west: f64,
        /// South edge.
        south: f64,
        /// East edge.
        east: f64,
        /// North edge.
        north: f64,
        /// The CRS the numbers would be in.
        crs: Crs,
    },
    /// A ring that is not a ring.
    #[error(
        "a ring of the geometry has {points} points; it needs at least four, the last equal to the first"
    )]
    Ring {
        /// Points of the ring.
        points: usize,
    },
    /// More vertices than `Limits::outline_vertices`.
    #[error("the geometry has {vertices} vertices, the limit is {limit}; simplify it")]
    Vertices {
        /// Vertices.
        vertices: usize,
        /// The limit.
        limit: usize,
    },
    /// The CRS, or a point in it.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// The numbers do not make a grid.
    #[error(transparent)]
    Grid(#[from] GridError),
}

impl Classify for AoiError {
    fn class(&self) -> ErrorClass {
        match self {
            AoiError::NoPlace
            | AoiError::Bounds { .. }
            | AoiError::Degrees { .. }
            | AoiError::Ring { .. } => ErrorClass::InvalidRequest,
            AoiError::Vertices { .. } => ErrorClass::LimitExceeded,
            AoiError::Transform(error) => error.class(),
            AoiError::Grid(error) => error.class(),
        }
    }
}

/// Points along each edge of a rectangle whose image in another CRS is wanted: edges become curves.
const EDGE_POINTS: usize = 21;

impl Aoi {
    /// The grid and the outline on it.
    ///
    /// 1. Bounds in another CRS become the bounds of their image; without bounds, those of the geometry.
    /// 2. A shape divides the bounds exactly. A resolution starts at the upper left corner and covers
    ///    the bounds: a last pixel that sticks out counts, a thousandth of one is rounding.
    /// 3. With `align_pixels` a resolution's edges move outward to its multiples.
    ///
    /// # Errors
    /// [`AoiError`].
    pub fn resolve(
        &self,
        transform: &dyn Transform,
        limits: &Limits,
    ) -> Result<(Grid, Option<Outline>), AoiError> {
        let crs = transform.canonical(&self.crs)?;
        let rings = self.rings(&crs, transform, limits)?;
        let [west, south, east, north] = match self.bounds {
            Some(bounds) => self.project_bounds(bounds, &crs, transform)?,
            None if rings.is_empty() => return Err(AoiError::NoPlace),
            None => extent(rings.iter().flatten().flatten().copied()),
        };
        check_bounds([west, south, east, north])?;
        let grid = match self.sampling {
            Sampling::Shape { rows, cols } => {
                let resolution = ((east - west) / cols.max(1) as f64, (north - south) / rows.max(1) as f64);
                Grid::try_new(crs, (west, north), resolution, (rows, cols), limits)?
            }
            Sampling::Resolution(res_x, res_y) => {
                let bad = GridError::NotFinite { x: west, y: north, res_x, res_y };
                if !(res_x > 0.0 && res_y > 0.0 && res_x.is_finite() && res_y.is_finite()) {
                    return Err(bad.into());
                }
                let (x, y) = if self.align_pixels {
                    (down(west / res_x) * res_x, up(north / res_y) * res_y)
                } else {
                    (west, north)
                };
                let rows = up((y - south) / res_y).max(1.0) as u64;
                let cols = up((east - x) / res_x).max(1.0) as u64;
                Grid::try_new(crs, (x, y), (res_x, res_y), (rows, cols), limits)?
            }
        };
        let outline = (!rings.is_empty()).then(|| Outline::new(&rings, grid.lattice()));
        Ok((grid, outline))
    }

    /// The geometry's polygons in the grid's CRS.
    fn rings(&self, crs: &Crs, transform: &dyn Transform, limits: &Limits) -> Result<Vec<Polygon>, AoiError> {
        let vertices = self.geometry.iter().flatten().map(Vec::len).sum();
        if vertices > limits.outline_vertices {
            return Err(AoiError::Vertices { vertices, limit: limits.outline_vertices });
        }
        let lon_lat = Crs::from_canonical(LON_LAT);
        let mut polygons = self.geometry.clone();
        for ring in polygons.iter_mut().flatten() {
            if ring.len() < 4 || ring.first() != ring.last() {
                return Err(AoiError::Ring { points: ring.len() });
            }
            transform.points(&lon_lat, crs, ring)?;
        }
        Ok(polygons)
    }

    fn project_bounds(
        &self,
        bounds: [f64; 4],
        crs: &Crs,
        transform: &dyn Transform,
    ) -> Result<[f64; 4], AoiError> {
        check_bounds(bounds)?;
        let [west, south, east, north] = bounds;
        let Some(from) = &self.bounds_crs else {
            let fits = west >= -180.0 && east <= 180.0 && south >= -90.0 && north <= 90.0;
            if fits && !transform.is_geographic(crs)? {
                return Err(AoiError::Degrees { west, south, east, north, crs: crs.clone() });
            }
            return Ok(bounds);
        };
        let from = transform.canonical(from)?;
        if transform.same(&from, crs) {
            return Ok(bounds);
        }
        let mut edge = edges(bounds);
        transform.points(&from, crs, &mut edge)?;
        Ok(extent(edge.into_iter()))
    }
}

/// The rectangle in degrees that holds a grid. Where a part of it has no longitude, the whole earth.
pub fn lon_lat_box(grid: &Grid, transform: &dyn Transform) -> LonLatBox {
    /// Catalogs round footprints to about a centimetre; a scene must not be missed for that.
    const MARGIN_DEGREES: f64 = 1e-5;
    let (grid_west, grid_south, grid_east, grid_north) = grid.bounds();
    let mut edge = edges([grid_west, grid_south, grid_east, grid_north]);
    match transform.points(grid.crs(), &Crs::from_canonical(LON_LAT), &mut edge) {
        Ok(()) => {
            let [west, south, east, north] = extent(edge.into_iter());
            // Between two points an edge bulges by less than a twentieth of its length.
            let bulge = MARGIN_DEGREES + (east - west).max(north - south) / 20.0;
            let mut area = LonLatBox {
                west: west - bulge,
                south: south - bulge,
                east: east + bulge,
                north: north + bulge,
            };
            // Around a pole lie all longitudes.
            for pole in [-90.0, 90.0] {
                let mut place = [(0.0, pole)];
                let is_there =
                    transform.points(&Crs::from_canonical(LON_LAT), grid.crs(), &mut place).is_ok();
                let [(x, y)] = place;
                if is_there && (grid_west..=grid_east).contains(&x) && (grid_south..=grid_north).contains(&y)
                {
                    (area.west, area.east) = (-180.0, 180.0);
                    (area.south, area.north) = (area.south.min(pole), area.north.max(pole));
                }
            }
            area
        }
        Err(_) => LonLatBox { west: -180.0, south: -90.0, east: 180.0, north: 90.0 },
    }
}

fn check_bounds([west, south, east, north]: [f64; 4]) -> Result<(), AoiError> {
    let finite = [west, south, east, north].iter().all(|edge| edge.is_finite());
    if finite && west < east && south < north {
        Ok(())
    } else {
        Err(AoiError::Bounds { west, south, east, north })
    }
}

/// Points along the four edges of a rectangle.
fn edges([west, south, east, north]: [f64; 4]) -> Vec<(f64, f64)> {
    let along = |from: f64, to: f64, at: usize| from + (to - from) * at as f64 / (EDGE_POINTS - 1) as f64;
    (0..EDGE_POINTS)
        .flat_map(|at| {
            let (x, y) = (along(west, east, at), along(south, north, at));
            [(x, south), (x, north), (west, y), (east, y)]
        })
        .collect()
}

fn extent(points: impl Iterator<Item = (f64, f64)>) -> [f64; 4] {
    let start = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    points.fold(start, |[west, south, east, north], (x, y)| {
        [west.min(x), south.min(y), east.max(x), north.max(y)]
    })
}

/// Fractions of a pixel that are rounding of the numbers given, not pixels.
const ROUNDING_PIXELS: f64 = 1e-3;

fn up(pixels: f64) -> f64 {
    (pixels - ROUNDING_PIXELS).ceil()
}

fn down(pixels: f64) -> f64 {
    (pixels + ROUNDING_PIXELS).floor()
}

/// An AOI's outline in lattice pixels: (column, row) of each vertex. A pixel is inside when its centre
/// is inside one of the polygons, by the even-odd rule. A function of the pixel alone, so every tiling
/// agrees.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    polygons: Vec<Polygon>,
}

impl Outline {
    /// Polygons in the lattice's CRS.
    fn new(polygons: &[Polygon], lattice: &Lattice) -> Self {
        let place =
            |ring: &Vec<(f64, f64)>| ring.iter().map(|(x, y)| (lattice.col(*x), lattice.row(*y))).collect();
        Outline { polygons: polygons.iter().map(|rings| rings.iter().map(place).collect()).collect() }
    }

    /// An outline from its polygons in lattice pixels, as [`Outline::polygons`] gave them.
    pub fn from_polygons(polygons: Vec<Polygon>) -> Self {
        Outline { polygons }
    }

    /// The polygons in lattice pixels.
    pub fn polygons(&self) -> &[Polygon] {
        &self.polygons
    }

    /// For each pixel of a window, row by row: 1 outside, 0 inside.
    pub fn outside(&self, window: &Window) -> Vec<u8> {
        let mut outside = vec![1u8; window.pixels()];
        let mut crossings: Vec<f64> = Vec::new();
        for polygon in &self.polygons {
            let edges: Vec<_> =
                polygon.iter().flat_map(|ring| ring.windows(2)).map(|pair| (pair[0], pair[1])).collect();
            for (line, row) in outside.chunks_exact_mut(window.cols as usize).zip(window.row..) {
                let y = row as f64 + 0.5;
                crossings.clear();
                crossings.extend(
                    edges
                        .iter()
                        .filter(|((_, y0), (_, y1))| (*y0 <= y) != (*y1 <= y))
                        .map(|((x0, y0), (x1, y1))| x0 + (y - y0) * (x1 - x0) / (y1 - y0)),
                );
                crossings.sort_by(f64::total_cmp);
                for pair in crossings.chunks_exact(2) {
                    // Pixels whose centre lies in [pair[0], pair[1]).
                    let first = (pair[0] - 0.5).ceil().max(window.col as f64) as i64;
                    let end = (pair[1] - 0.5).ceil().min(window.col_end() as f64) as i64;
                    for col in first..end {
                        line[(col - window.col) as usize] = 0;
                    }
                }
            }
        }
        outside
    }

    /// Adds the outline to a digest.
    pub fn hash_into(&self, hasher: &mut Hasher) {
        hasher.int(self.polygons.len() as i64);
        for polygon in &self.polygons {
            hasher.int(polygon.len() as i64);
            for ring in polygon {
                hasher.int(ring.len() as i64);
                for (x, y) in ring {
                    hasher.float(*x).float(*y);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::TileSize;

    /// Knows two CRSs, in which one unit is one unit.
    struct Flat;

    impl Transform for Flat {
        fn canonical(&self, text: &str) -> Result<Crs, TransformError> {
            match text {
                "EPSG:4326" | "EPSG:32633" => Ok(Crs::from_canonical(text)),
                _ => Err(TransformError::UnknownCrs { text: text.into(), reason: "made up".into() }),
            }
        }
        fn same(&self, a: &Crs, b: &Crs) -> bool {
            a == b
        }
        fn is_geographic(&self, crs: &Crs) -> Result<bool, TransformError> {
            Ok(crs.as_str() == "EPSG:4326")
        }
        fn points(&self, _: &Crs, _: &Crs, _: &mut [(f64, f64)]) -> Result<(), TransformError> {
            Ok(())
        }
    }

    fn aoi(bounds: [f64; 4], sampling: Sampling, align_pixels: bool) -> Aoi {
        Aoi {
            geometry: vec![],
            bounds: Some(bounds),
            bounds_crs: None,
            crs: "EPSG:32633".into(),
            sampling,
            align_pixels,
        }
    }

    #[test]
    fn the_rule_by_examples() {
        let grid = |bounds, sampling, align| {
            let (grid, _) = aoi(bounds, sampling, align).resolve(&Flat, &Limits::default()).unwrap();
            (grid.origin(), (grid.rows(), grid.cols()))
        };
        let res = |r| Sampling::Resolution(r, r);
        assert_eq!(grid([1000.0, 0.0, 2000.0, 500.0], res(10.0), false), ((1000.0, 500.0), (50, 100)));
        assert_eq!(grid([1003.0, 0.0, 2000.0, 500.0], res(10.0), false), ((1003.0, 500.0), (50, 100)));
        assert_eq!(grid([1003.0, -4.0, 2000.0, 497.0], res(10.0), true), ((1000.0, 500.0), (51, 100)));
        assert_eq!(
            grid([1000.0, 0.0, 2000.0, 500.0], Sampling::Shape { rows: 5, cols: 4 }, false),
            ((1000.0, 500.0), (5, 4))
        );
        assert_eq!(grid([1000.0, 0.0, 1001.0, 500.0], res(1000.0), false), ((1000.0, 500.0), (1, 1)));
    }

    #[test]
    fn bad_places_are_refused() {
        let resolve = |aoi: Aoi| aoi.resolve(&Flat, &Limits::default()).map(|_| ());
        let res = Sampling::Resolution(10.0, 10.0);
        assert!(matches!(
            resolve(aoi([2000.0, 0.0, 1000.0, 500.0], res, false)),
            Err(AoiError::Bounds { .. })
        ));
        assert!(matches!(
            resolve(aoi([0.0, 0.0, f64::NAN, 500.0], res, false)),
            Err(AoiError::Bounds { .. })
        ));
        assert!(matches!(resolve(aoi([10.0, 50.0, 11.0, 51.0], res, false)), Err(AoiError::Degrees { .. })));
        let nowhere = Aoi { bounds: None, ..aoi([0.0; 4], res, false) };
        assert_eq!(resolve(nowhere), Err(AoiError::NoPlace));
        let negative = aoi([1000.0, 0.0, 2000.0, 500.0], Sampling::Resolution(-1.0, 1.0), false);
        assert!(matches!(resolve(negative), Err(AoiError::Grid(GridError::NotFinite { .. }))));
        let huge = aoi([0.0, 0.0, 1e9, 500.0], Sampling::Resolution(0.1, 0.1), false);
        assert!(matches!(resolve(huge), Err(AoiError::Grid(GridError::TooLarge { .. }))));
    }

    #[test]
    fn an_outline_is_the_same_for_every_tiling() {
        let hole = vec![(4.0, 4.0), (8.0, 4.0), (8.0, 8.0), (4.0, 8.0), (4.0, 4.0)];
        let outside = vec![(0.2, 0.3), (20.7, 3.1), (17.0, 19.0), (2.0, 15.5), (0.2, 0.3)];
        let outline = Outline::from_polygons(vec![vec![outside, hole]]);
        let whole = Window { row: -3, col: -3, rows: 27, cols: 27 };
        let all = outline.outside(&whole);
        assert!(all.contains(&0) && all.contains(&1));
        assert_eq!(all[(5 + 3) * 27 + 5 + 3], 1, "the hole");
        let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32633"), (1.0, 1.0), (0.0, 0.0)).unwrap();
        for size in [1, 4, 7] {
            let tiling = Grid::from_window(lattice.clone(), whole).tiling(TileSize::new(size).unwrap());
            for tile in tiling.tiles() {
                let window = tiling.window(tile).unwrap();
                let part = outline.outside(&window);
                for (i, value) in part.iter().enumerate() {
                    let (row, col) = (
                        window.row + (i as u32 / window.cols) as i64,
                        window.col + (i as u32 % window.cols) as i64,
                    );
                    assert_eq!(*value, all[((row + 3) * 27 + col + 3) as usize]);
                }
            }
        }
    }
}
