//! An area of interest, the one rule by which it becomes a grid, and its outline.
//!
//! `docs/grids.md` tells the rule to users, with examples that are tests.

mod clip;
mod geojson;
mod outline;
mod project;
pub mod xyz;

pub use geojson::{Geometry, GeometryError, Line, Polygon};
pub use outline::Outline;
pub use project::lon_lat_box;

use crate::error::{Classify, ErrorClass};
use crate::grid::{Crs, Grid, GridError};
use crate::limits::Limits;
use crate::transform::{Transform, TransformError};
use project::Projector;

/// How far the vertices of a geometry may be from the corners of a grid that it stands for: six decimals, as clients
/// write them, rounded.
const CORNER_DEGREES: f64 = 0.6e-6;

/// CRS of geometries: longitude and latitude in WGS 84.
pub const LON_LAT: &str = "EPSG:4326";

/// What a user asked for: a place, a CRS, and how fine.
#[derive(Clone, Debug, PartialEq)]
pub struct Aoi {
    /// Outline in longitude and latitude; pixels outside are invalid. Empty: no outline.
    pub geometry: Geometry,
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
    /// Whether pixels that the geometry touches are inside, not only those whose centre it holds.
    pub all_touched: bool,
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
        "bounds are west, south, east, north, finite, with west < east and south < north (west > east only in \
         degrees, across the antimeridian), got {west}, {south}, {east}, {north}"
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
    /// Bounds in degrees that are no places on earth.
    #[error(
        "the bounds {west}, {south}, {east}, {north} are in degrees: latitudes lie within -90 and 90, longitudes \
         within -360 and 360 and at most 360 apart; are they in another CRS (`bounds_crs`), or latitude first?"
    )]
    NotOnEarth {
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
        "the bounds {west}, {south}, {east}, {north} look like degrees, but {crs} is not in degrees; say `bounds_crs` \
         EPSG:4326, or name {crs} there if they are in its units"
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
    /// Bounds or a geometry that the grid's CRS does not show as a whole.
    #[error(
        "the {what} reach ({x}, {y}) in {from}, which {to} does not show; give smaller bounds or another `crs`"
    )]
    Beyond {
        /// Bounds, or the geometry's edges.
        what: &'static str,
        /// First coordinate of a place that is not shown.
        x: f64,
        /// Its second coordinate.
        y: f64,
        /// CRS of that place.
        from: Crs,
        /// The grid's CRS.
        to: Crs,
    },
    /// A geometry that is none.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Lines or points without `all_touched`.
    #[error(
        "the geometry has points or lines, which hold no pixel's centre; set `all_touched` for the pixels they \
         touch, or give polygons"
    )]
    Thin,
    /// More vertices than `Limits::outline_vertices`.
    #[error("the geometry has {vertices} vertices, the limit is {limit}; simplify it")]
    Vertices {
        /// Vertices.
        vertices: usize,
        /// The limit.
        limit: usize,
    },
    /// Edges so long and so bent in the grid's CRS that following them takes too many vertices.
    #[error(
        "the geometry's edges bend in {crs} and need more than {limit} vertices there; simplify it or ask for a \
         coarser resolution"
    )]
    Bends {
        /// The grid's CRS.
        crs: Crs,
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
            | AoiError::NotOnEarth { .. }
            | AoiError::Degrees { .. }
            | AoiError::Beyond { .. }
            | AoiError::Thin => ErrorClass::InvalidRequest,
            AoiError::Vertices { .. } | AoiError::Bends { .. } => ErrorClass::LimitExceeded,
            AoiError::Geometry(error) => error.class(),
            AoiError::Transform(error) => error.class(),
            AoiError::Grid(error) => error.class(),
        }
    }
}

impl Aoi {
    /// The grid and the outline on it.
    ///
    /// 1. Bounds in another CRS become the bounds of their image; without bounds, those of the geometry.
    ///    West > east in degrees crosses the antimeridian: the grid goes on beyond 180.
    /// 2. A shape divides the bounds exactly, whatever `align_pixels` says. A resolution starts at the
    ///    upper left corner and covers the bounds: a last pixel that sticks out counts, a thousandth of
    ///    one is rounding.
    /// 3. With `align_pixels` a resolution's edges move outward to its multiples, again but for a
    ///    thousandth of a pixel. West and east edges on multiples counted from the central meridian of
    ///    a UTM zone stay: there are tilings that count so.
    /// 4. A geometry hides the pixels outside it; with bounds it does not change the grid. One whose corners
    ///    are the grid's own, but for the sixth decimal of a degree, is the grid and hides nothing: clients
    ///    send tiles so, whose edges are not straight in degrees.
    ///
    /// # Errors
    /// [`AoiError`].
    pub fn resolve(
        &self,
        transform: &dyn Transform,
        limits: &Limits,
    ) -> Result<(Grid, Option<Outline>), AoiError> {
        let crs = transform.canonical(&self.crs)?;
        self.check_geometry(limits)?;
        let projector = Projector::new(transform, &Crs::from_canonical(LON_LAT), &crs)?;
        let [west, south, east, north] = match self.bounds {
            Some(bounds) => self.project_bounds(bounds, &crs, transform)?,
            None if self.geometry.is_empty() => return Err(AoiError::NoPlace),
            None => projector.extent_of(&self.geometry, self.sampling, limits)?,
        };
        let grid = match self.sampling {
            Sampling::Shape { rows, cols } => {
                check_bounds([west, south, east, north])?;
                let resolution = ((east - west) / cols.max(1) as f64, (north - south) / rows.max(1) as f64);
                Grid::try_new(crs, (west, north), resolution, (rows, cols), limits)?
            }
            Sampling::Resolution(res_x, res_y) => {
                let bad = GridError::NotFinite { x: west, y: north, res_x, res_y };
                if !(res_x > 0.0 && res_y > 0.0 && res_x.is_finite() && res_y.is_finite()) {
                    return Err(bad.into());
                }
                let (x, y) = if self.align_pixels {
                    let x = utm_tile_edge(&crs, transform, [west, east], res_x);
                    (x.unwrap_or(down(west / res_x) * res_x), up(north / res_y) * res_y)
                } else {
                    (west, north)
                };
                let rows = up((y - south) / res_y).max(1.0) as u64;
                let cols = up((east - x) / res_x).max(1.0) as u64;
                Grid::try_new(crs, (x, y), (res_x, res_y), (rows, cols), limits)?
            }
        };
        if self.geometry.is_empty() || self.is_grid(&grid, transform) {
            return Ok((grid, None));
        }
        let placed = projector.place(&self.geometry, &grid, limits)?;
        let outline = Outline::new(placed, self.all_touched);
        Ok((grid, Some(outline)))
    }

    /// Whether the geometry is the quadrilateral between the grid's corners.
    fn is_grid(&self, grid: &Grid, transform: &dyn Transform) -> bool {
        let ([polygon], []) = (&self.geometry.polygons[..], &self.geometry.lines[..]) else { return false };
        let [ring] = &polygon[..] else { return false };
        let [first, second, third, fourth, rest @ ..] = &ring[..] else { return false };
        if !matches!(rest, [] | [_]) || rest.first().is_some_and(|last| last != first) {
            return false;
        }
        let (west, south, east, north) = grid.bounds();
        let mut corners = [(west, south), (east, south), (east, north), (west, north)];
        if transform.points(grid.crs(), &Crs::from_canonical(LON_LAT), &mut corners).is_err() {
            return false;
        }
        let is_near = |vertex: &(f64, f64), (lon, lat): (f64, f64)| {
            let turns = ((vertex.0 - lon) / TURN).round() * TURN;
            (vertex.0 - lon - turns).abs() <= CORNER_DEGREES && (vertex.1 - lat).abs() <= CORNER_DEGREES
        };
        // Either way around, from any corner.
        let vertices = [first, second, third, fourth];
        let goes = |step: usize, start: usize| {
            vertices.iter().enumerate().all(|(at, vertex)| is_near(vertex, corners[(start + step * at) % 4]))
        };
        (0..4).any(|start| goes(1, start) || goes(3, start))
    }

    fn check_geometry(&self, limits: &Limits) -> Result<(), AoiError> {
        let (vertices, limit) = (self.geometry.vertices(), limits.outline_vertices);
        if vertices > limit {
            return Err(AoiError::Vertices { vertices, limit });
        }
        if !self.geometry.lines.is_empty() && !self.all_touched {
            return Err(AoiError::Thin);
        }
        Ok(self.geometry.check()?)
    }

    /// Bounds in the grid's CRS, west < east and south < north.
    fn project_bounds(
        &self,
        bounds: [f64; 4],
        crs: &Crs,
        transform: &dyn Transform,
    ) -> Result<[f64; 4], AoiError> {
        let from = match &self.bounds_crs {
            Some(from) => transform.canonical(from)?,
            None => crs.clone(),
        };
        let is_geographic = transform.is_geographic(&from)?;
        let [west, south, east, north] = bounds;
        let finite = bounds.iter().all(|edge| edge.is_finite());
        let across = if is_geographic && finite && west > east { east + TURN } else { east };
        check_bounds([west, south, across, north]).map_err(|_| AoiError::Bounds {
            west,
            south,
            east,
            north,
        })?;
        if is_geographic {
            let on_earth = south >= -90.0 - ROUNDING_DEGREES
                && north <= 90.0 + ROUNDING_DEGREES
                && west >= -TURN
                && across <= TURN + TURN / 2.0
                && across - west <= TURN + ROUNDING_DEGREES;
            if !on_earth {
                return Err(AoiError::NotOnEarth { west, south, east, north });
            }
        }
        let fits = west >= -180.0 && east <= 180.0 && south >= -90.0 && north <= 90.0;
        if self.bounds_crs.is_none() && fits && !is_geographic {
            return Err(AoiError::Degrees { west, south, east, north, crs: from });
        }
        let bounds = [west, south, across, north];
        if transform.same(&from, crs) {
            return Ok(bounds);
        }
        let projected = Projector::new(transform, &from, crs)?.bounds(bounds)?;
        check_bounds(projected)?;
        Ok(projected)
    }
}

/// Degrees around the earth.
const TURN: f64 = 360.0;

/// Degrees that are rounding of the numbers given: a tenth of a millimetre.
const ROUNDING_DEGREES: f64 = 1e-9;

fn check_bounds([west, south, east, north]: [f64; 4]) -> Result<(), AoiError> {
    let finite = [west, south, east, north].iter().all(|edge| edge.is_finite());
    if finite && west < east && south < north {
        Ok(())
    } else {
        Err(AoiError::Bounds { west, south, east, north })
    }
}

/// The west edge, where the CRS is a UTM zone and both edges lie on multiples of the resolution counted
/// from its central meridian. Tilings of UTM zones count from there, whatever divides the false easting.
fn utm_tile_edge(crs: &Crs, transform: &dyn Transform, edges: [f64; 2], res: f64) -> Option<f64> {
    const FALSE_EASTING: f64 = 500_000.0;
    let pixels = edges.map(|edge| (edge - FALSE_EASTING) / res);
    if pixels.iter().any(|at| (at - at.round()).abs() > ROUNDING_PIXELS) {
        return None;
    }
    let mut place = [(FALSE_EASTING, 0.0)];
    transform.points(crs, &Crs::from_canonical(LON_LAT), &mut place).ok()?;
    let zone = (place[0].0 + 183.0) / 6.0;
    let is_utm = (1.0..=60.0).contains(&zone.round()) && (zone - zone.round()).abs() < ROUNDING_DEGREES;
    is_utm.then(|| FALSE_EASTING + pixels[0].round() * res)
}

/// Fractions of a pixel that are rounding of the numbers given, not pixels.
const ROUNDING_PIXELS: f64 = 1e-3;

fn up(pixels: f64) -> f64 {
    (pixels - ROUNDING_PIXELS).ceil()
}

fn down(pixels: f64) -> f64 {
    (pixels + ROUNDING_PIXELS).floor()
}

#[cfg(test)]
mod tests;
