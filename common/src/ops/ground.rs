//! Lengths on the ground: `resolution_x resolution_y`, and the size of pixels for the ops that need it.

use super::{Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, TypeError};
use crate::grid::{Crs, Grid};
use crate::literal::Literal;
use crate::transform::{Transform, Unit};

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    &Resolution {
        name: "resolution_x",
        summary: "Width of a pixel, east to west, at the centre of the grid.",
        of: |size| size.0,
    },
    &Resolution {
        name: "resolution_y",
        summary: "Height of a pixel, north to south, at the centre of the grid.",
        of: |size| size.1,
    },
];

/// A row of the family.
#[derive(Debug)]
struct Resolution {
    name: &'static str,
    summary: &'static str,
    /// Which of width and height.
    of: fn((f64, f64)) -> f64,
}

impl Op for Resolution {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: self.summary,
            params: &[],
            shapes: "No argument; the result is a number.",
            units: "Metres on the ground in geographic CRSs and for the tiles of a web map (256 x 256 pixels of the XYZ scheme in EPSG:3857); units of the CRS otherwise.",
            validity: "Always.",
            accuracy: "Double precision, on the WGS 84 ellipsoid.",
            source: "Radii of curvature in the meridian and the prime vertical: Snyder, Map Projections, USGS Professional Paper 1395, 1987, page 24.",
        }
    }

    fn bind(&self, cx: &BindCx<'_>, _: &[Arg<'_>]) -> Result<Bound, TypeError> {
        Ok(Bound::Literal(Literal::Float((self.of)(resolution(cx.grid, cx.transform)?))))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: format!("`{}` in a plan", self.name) })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// Half the larger axis of the WGS 84 ellipsoid in metres; also the radius of the sphere of EPSG:3857.
pub(super) const SEMI_MAJOR: f64 = 6_378_137.0;

/// Flattening of the WGS 84 ellipsoid.
const FLATTENING: f64 = 1.0 / 298.257_223_563;

/// Metres on the WGS 84 ellipsoid for one radian of longitude, and of latitude, at a latitude in radians.
pub(super) fn metres_per_radian(latitude: f64) -> (f64, f64) {
    let eccentricity = FLATTENING * (2.0 - FLATTENING);
    let sine = libm::sin(latitude);
    let shape = 1.0 - eccentricity * sine * sine;
    let across = SEMI_MAJOR / libm::sqrt(shape);
    (across * libm::cos(latitude).abs(), across * (1.0 - eccentricity) / shape)
}

/// What one unit of a grid's CRS is on the ground.
pub(super) fn unit(grid: &Grid, transform: &dyn Transform) -> Result<Unit, TypeError> {
    transform.unit(grid.crs()).map_err(|error| TypeError::Unsupported { what: error.to_string() })
}

/// Width and height of a pixel at the centre of a grid.
fn resolution(grid: &Grid, transform: &dyn Transform) -> Result<(f64, f64), TypeError> {
    let (width, height) = grid.lattice().resolution();
    let window = grid.window();
    let middle = grid.lattice().y(window.row as f64 + f64::from(window.rows) / 2.0);
    if let Unit::Radians(radians) = unit(grid, transform)? {
        let (east, north) = metres_per_radian(middle * radians);
        return Ok((width * radians * east, height * radians * north));
    }
    if is_web_tile(grid, transform) {
        let latitude = 2.0 * libm::atan(libm::exp(middle / SEMI_MAJOR)) - std::f64::consts::FRAC_PI_2;
        let (east, north) = metres_per_radian(latitude);
        // One metre of y is as much smaller than on the ground as one of x.
        return Ok((width * east / SEMI_MAJOR, height * north * libm::cos(latitude) / SEMI_MAJOR));
    }
    Ok((width, height))
}

/// Whether a grid is exactly one tile of the XYZ scheme: 256 x 256 pixels of EPSG:3857.
fn is_web_tile(grid: &Grid, transform: &dyn Transform) -> bool {
    const SIDE: u32 = 256;
    const LEVELS: f64 = 30.0;
    /// Of a tile, or of a level: coordinates carry rounding of their own.
    const ROUNDING: f64 = 1e-5;
    let is_whole = |value: f64| (value - value.round()).abs() <= ROUNDING;
    let (width, height) = grid.lattice().resolution();
    let is_square =
        grid.rows() == SIDE && grid.cols() == SIDE && ((width - height) / width).abs() <= ROUNDING;
    if !is_square || !transform.same(grid.crs(), &Crs::from_canonical("EPSG:3857")) {
        return false;
    }
    let (tile, earth) = (width * f64::from(SIDE), 2.0 * std::f64::consts::PI * SEMI_MAJOR);
    let level = libm::log2(earth / tile);
    let (west, north) = grid.origin();
    let (col, row) = ((west + earth / 2.0) / tile, (earth / 2.0 - north) / tile);
    let count = libm::exp2(level.round());
    let is_there = |at: f64| is_whole(at) && (0.0..count).contains(&at.round());
    is_whole(level) && (0.0..=LEVELS).contains(&level.round()) && is_there(col) && is_there(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::transform::ByText;

    fn grid(crs: &str, corner: (f64, f64), res: f64, side: u64) -> Grid {
        let crs = Crs::from_canonical(crs);
        Grid::try_new(crs, corner, (res, res), (side, side), &Limits::default()).unwrap()
    }

    /// Lengths of one degree as in the tables of the WGS 84 ellipsoid: 111.320 km and 110.574 km at the
    /// equator, 78.847 km and 111.132 km at 45 degrees.
    #[test]
    fn degrees_have_the_lengths_of_the_tables() {
        let degree = |latitude: f64| {
            let (east, north) = metres_per_radian(latitude.to_radians());
            ((east.to_radians()).round(), (north.to_radians()).round())
        };
        assert_eq!(degree(0.0), (111_319.0, 110_574.0));
        assert_eq!(degree(45.0), (78_847.0, 111_132.0));
        assert_eq!(degree(-45.0), degree(45.0));
    }

    #[test]
    fn only_whole_tiles_of_the_pyramid_are_tiles() {
        let earth = 2.0 * std::f64::consts::PI * SEMI_MAJOR;
        for level in [0, 5, 12, 23] {
            let res = earth / 256.0 / f64::from(1u32 << level);
            let tile = |at: f64| -earth / 2.0 + at * 256.0 * res;
            let at = (f64::from(1u32 << level) / 3.0).floor();
            assert!(is_web_tile(&grid("EPSG:3857", (tile(at), -tile(at)), res, 256), &ByText), "{level}");
            assert!(!is_web_tile(&grid("EPSG:3857", (tile(at) + res, -tile(at)), res, 256), &ByText));
            assert!(!is_web_tile(&grid("EPSG:3857", (tile(at), -tile(at)), res, 255), &ByText));
            assert!(!is_web_tile(&grid("EPSG:32613", (tile(at), -tile(at)), res, 256), &ByText));
        }
        assert!(!is_web_tile(&grid("EPSG:3857", (0.0, 0.0), 30.0, 256), &ByText));
    }

    /// At level 0 the centre is on the equator, where the map is true to scale along x.
    #[test]
    fn web_tiles_are_measured_on_the_ground() {
        let earth = 2.0 * std::f64::consts::PI * SEMI_MAJOR;
        let (width, height) =
            resolution(&grid("EPSG:3857", (-earth / 2.0, earth / 2.0), earth / 256.0, 256), &ByText).unwrap();
        assert!((width - earth / 256.0).abs() < 1e-6);
        // The meridian is more curved there: 110.574 km a degree against 111.319 km.
        assert!((height / width - 110_574.3 / 111_319.5).abs() < 1e-6, "{}", height / width);
        // Anything else in EPSG:3857 is in its units.
        assert_eq!(resolution(&grid("EPSG:3857", (0.0, 6e6), 30.0, 256), &ByText), Ok((30.0, 30.0)));
    }
}
