//! Shape of a surface: `slope aspect`, by Horn's method (Hill shading and the reflectance map,
//! Proceedings of the IEEE 69, 1981).

use super::{by_plane, raster};
use crate::block::{Block, DType};
use crate::grid::Crs;
use crate::literal::Literal;
use crate::ops::{
    Arg, BindCx, BlockCall, Bound, Facts, Footprint, Kernel, Op, OpDoc, TypeError, ground, required,
};
use crate::transform::Unit;

pub(super) const SLOPE: Terrain = Terrain {
    name: "slope",
    summary: "Steepness of a surface, from 0 (level) to 90 degrees, by Horn's method.",
    validity: "Valid where all 3 x 3 pixels around the pixel are; invalid at the edge of the padded grid.",
    source: "Horn 1981, as `gdaldem slope`.",
    kernel: |call| {
        horn(
            call,
            |east, south| Some(libm::atan(libm::sqrt(east * east + south * south)).to_degrees() as f32),
        )
    },
};

pub(super) const ASPECT: Terrain = Terrain {
    name: "aspect",
    summary: "Direction that a surface faces, downhill, in degrees clockwise from north, by Horn's method.",
    validity: "Valid where all 3 x 3 pixels around the pixel are and the surface is not level; invalid at the edge of the padded grid.",
    source: "Horn 1981, as `gdaldem aspect`.",
    kernel: |call| {
        horn(call, |east, south| {
            // Downhill is west where the surface rises to the east, and north where it rises to the south.
            let clockwise = libm::atan2(-east, south).to_degrees();
            let turned = if clockwise < 0.0 { clockwise + 360.0 } else { clockwise } as f32;
            let is_level = east == 0.0 && south == 0.0;
            (!is_level).then_some(if turned == 360.0 { 0.0 } else { turned + 0.0 })
        })
    },
};

/// A row of the family: an op on the two slopes of a surface. Its constants are width and height of a
/// pixel in metres; or, where the CRS is in degrees, in radians, followed by the latitude of the north
/// edge of row 0. In EPSG:3857 a fourth follows: the radians are those of the unrolled sphere.
#[derive(Debug)]
pub(super) struct Terrain {
    name: &'static str,
    summary: &'static str,
    validity: &'static str,
    source: &'static str,
    kernel: fn(&BlockCall<'_>) -> Block,
}

impl Op for Terrain {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: self.summary,
            params: const { &[required("a")] },
            shapes: "A raster of elevations; the result is as the raster, float32.",
            units: "Degrees, of elevations in metres. Pixels are measured in metres: on the WGS 84 ellipsoid, row by row, in geographic CRSs and in EPSG:3857; by the unit of the CRS otherwise.",
            validity: self.validity,
            accuracy: "Double precision, rounded once.",
            source: self.source,
        }
    }

    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (facts, props) = args[0].raster("a")?;
        let lattice = cx.grid.lattice();
        let (width, height) = lattice.resolution();
        let params = match ground::unit(cx.grid, cx.transform)? {
            Unit::Metres(_) if cx.transform.same(cx.grid.crs(), &Crs::from_canonical("EPSG:3857")) => {
                let radians = [width, height, lattice.phase().1].map(|length| length / ground::SEMI_MAJOR);
                radians.into_iter().chain([1.0]).collect()
            }
            Unit::Metres(unit) => vec![width * unit, height * unit],
            Unit::Radians(unit) => vec![width * unit, height * unit, lattice.phase().1 * unit],
        };
        let params: Vec<Literal> = params.into_iter().map(Literal::Float).collect();
        self.infer(&params, &[facts])?;
        Ok(Bound::call(params, [0], props.clone()))
    }

    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let facts = raster(inputs)?;
        let sizes: Option<Vec<f64>> = params.iter().map(Literal::as_f64).collect();
        match sizes.as_deref() {
            Some([width, height, ..]) if params.len() <= 4 && *width > 0.0 && *height > 0.0 => {
                Ok(Facts { dtype: DType::F32, ..facts })
            }
            _ => Err(TypeError::Argument { name: "a", expected: "a size of pixels", got: "others" }),
        }
    }

    fn footprint(&self, _: &[Literal]) -> Footprint {
        Footprint::Halo { rows: 1, cols: 1 }
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::PerBand(self.kernel)
    }
}

/// Calls `shape` with the rise of the surface per metre eastwards and southwards.
fn horn(call: &BlockCall<'_>, shape: impl Fn(f64, f64) -> Option<f32>) -> Block {
    let constants: Vec<f64> = call.params.iter().filter_map(Literal::as_f64).collect();
    // Width and height of the pixels of a row, in metres.
    let size = |row: i64| match constants[..] {
        [width, height, north] => {
            let (east, south) = ground::metres_per_radian(north - (row as f64 + 0.5) * height);
            (width * east, height * south)
        }
        // Of the sphere that the projection unrolls; where it says a latitude, the ellipsoid is.
        [width, height, north, _] => {
            let latitude = libm::atan(libm::sinh(north - (row as f64 + 0.5) * height));
            let (east, south) = ground::metres_per_radian(latitude);
            (width * east, height * libm::cos(latitude) * south)
        }
        [width, height, ..] => (width, height),
        _ => (f64::NAN, f64::NAN),
    };
    let cols = call.window.cols as usize;
    by_plane(call, |plane, out, out_valid| {
        let has = plane.window;
        let lines = out.chunks_exact_mut(cols).zip(out_valid.chunks_exact_mut(cols));
        for (row, (out, out_valid)) in (call.window.row..).zip(lines) {
            // Where the input ends is an edge of the domain: the halo would be there otherwise.
            if row == has.row || row + 1 == has.row_end() {
                continue;
            }
            let (width, height) = size(row);
            let rows = [row - 1, row, row + 1].map(|row| plane.row(row));
            for (col, (out, out_valid)) in (call.window.col..).zip(out.iter_mut().zip(out_valid)) {
                if col == has.col || col + 1 == has.col_end() {
                    continue;
                }
                let at = (col - has.col) as usize;
                if rows.iter().any(|(_, valid)| valid[at - 1..=at + 1] != [1, 1, 1]) {
                    continue;
                }
                let around = |row: usize, col: usize| f64::from(rows[row].0[at + col - 1]);
                let side = |a: f64, b: f64, c: f64| a + 2.0 * b + c;
                let east = side(around(0, 2), around(1, 2), around(2, 2))
                    - side(around(0, 0), around(1, 0), around(2, 0));
                let south = side(around(2, 0), around(2, 1), around(2, 2))
                    - side(around(0, 0), around(0, 1), around(0, 2));
                if let Some(value) = shape(east / (8.0 * width), south / (8.0 * height)) {
                    (*out, *out_valid) = (value, 1);
                }
            }
        }
    })
}
