//! Ops over neighbourhoods: a pixel of the result depends on pixels around it.
//!
//! Such an op sees the pixels of its node's domain, the grid enlarged by the padding of its inputs, and
//! nothing beyond. Kernels are given them on [`BlockCall::input_window`], which the domain's edge cuts
//! off; what each op makes of the edge is said in its manual.

use super::{BlockCall, Facts, Footprint, Op, TypeError};
use crate::block::{Block, Samples};
use crate::grid::Window;
use crate::limits::FOCAL_SIDE_MAX;
use crate::literal::Literal;

mod convolve;
mod gradient;
mod terrain;
mod window;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    &gradient::X,
    &gradient::Y,
    &window::MEAN,
    &window::MIN,
    &window::MAX,
    &window::MEDIAN,
    &window::DILATE,
    &window::ERODE,
    &convolve::Convolve,
    &terrain::SLOPE,
    &terrain::ASPECT,
];

/// Rows and columns of a window, the first two constants of an op over windows; `None` unless both are
/// odd and within [`FOCAL_SIDE_MAX`].
fn sides(params: &[Literal]) -> Option<(u32, u32)> {
    let side = |param: &Literal| match param {
        Literal::Int(side) => {
            u32::try_from(*side).ok().filter(|side| side % 2 == 1 && *side <= FOCAL_SIDE_MAX)
        }
        _ => None,
    };
    Some((side(params.first()?)?, side(params.get(1)?)?))
}

/// The footprint of a window.
fn halo(params: &[Literal]) -> Footprint {
    let (rows, cols) = sides(params).unwrap_or((1, 1));
    Footprint::Halo { rows: rows / 2, cols: cols / 2 }
}

/// The facts of the only input, which must be a raster.
fn raster(inputs: &[Facts]) -> Result<Facts, TypeError> {
    match inputs {
        [facts] if facts.kind.is_raster() => Ok(*facts),
        _ => Err(TypeError::Argument { name: "a", expected: "a raster", got: "others" }),
    }
}

/// One plane of an input.
#[derive(Clone, Copy)]
struct Plane<'a> {
    values: &'a [f32],
    valid: &'a [u8],
    /// The pixels it has.
    window: Window,
}

impl<'a> Plane<'a> {
    /// Values and validity of a row of the lattice.
    fn row(&self, row: i64) -> (&'a [f32], &'a [u8]) {
        let cols = self.window.cols as usize;
        let at = (row - self.window.row) as usize * cols;
        (&self.values[at..at + cols], &self.valid[at..at + cols])
    }
}

/// Computes a result plane by plane: `compute` fills values and validity, which arrive zeroed.
fn by_plane(call: &BlockCall<'_>, compute: impl FnMut(Plane<'_>, &mut [f32], &mut [u8])) -> Block {
    let (values, valid) = planes(call, 0.0f32, compute);
    Block::new(call.facts.kind, (call.window.rows, call.window.cols), Samples::F32(values), valid)
}

/// Values of some type and their validity, plane by plane. Truth values become numbers.
fn planes<T: Copy>(
    call: &BlockCall<'_>,
    zero: T,
    mut compute: impl FnMut(Plane<'_>, &mut [T], &mut [u8]),
) -> (Vec<T>, Vec<u8>) {
    let (input, window) = (call.inputs[0], call.input_window);
    let (from, to) = (window.pixels(), call.window.pixels());
    let planes = call.facts.kind.planes();
    let (mut out, mut out_valid) = (vec![zero; planes * to], vec![0u8; planes * to]);
    let mut converted = Vec::new();
    let outs = out.chunks_exact_mut(to).zip(out_valid.chunks_exact_mut(to));
    for (at, (out, out_valid)) in outs.enumerate() {
        let range = at * from..(at + 1) * from;
        let values = match input.samples() {
            Samples::F32(values) => &values[range.clone()],
            Samples::Bool(values) => {
                converted.clear();
                converted.extend(values[range.clone()].iter().map(|value| f32::from(*value)));
                &converted
            }
        };
        compute(Plane { values, valid: &input.valid()[range], window }, out, out_valid);
    }
    (out, out_valid)
}
