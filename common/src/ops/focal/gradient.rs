//! Differences between neighbours: `gradient_x gradient_y`.

use super::{by_plane, raster};
use crate::block::{Block, DType};
use crate::literal::Literal;
use crate::ops::{Arg, BindCx, BlockCall, Bound, Facts, Footprint, Kernel, Op, OpDoc, TypeError, required};

/// `gradient_x(a)`.
pub(super) const X: Gradient = Gradient {
    name: "gradient_x",
    summary: "Change from column to column, eastwards, in units of one pixel.",
    halo: (0, 1),
    kernel: |call| gradient(call, (0, 1)),
};

/// `gradient_y(a)`.
pub(super) const Y: Gradient = Gradient {
    name: "gradient_y",
    summary: "Change from row to row, southwards, in units of one pixel.",
    halo: (1, 0),
    kernel: |call| gradient(call, (1, 0)),
};

/// A row of the family: a gradient along one axis.
#[derive(Debug)]
pub(super) struct Gradient {
    name: &'static str,
    summary: &'static str,
    /// Rows and columns from a pixel to the next.
    halo: (u32, u32),
    kernel: fn(&BlockCall<'_>) -> Block,
}

impl Op for Gradient {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: self.summary,
            params: const { &[required("a")] },
            shapes: "A raster; the result is as the raster, float32. Truth values count as 0 and 1.",
            units: "Those of the values, per pixel; divide by `resolution_x` or `resolution_y` for a slope.",
            validity: "Valid where the two pixels it is taken from are: the neighbours, or at the edge of the padded grid the pixel and its one neighbour. Invalid where that has fewer than two pixels.",
            accuracy: "Bit for bit: differences and halves in single precision.",
            source: "numpy.gradient with a spacing of 1.",
        }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (facts, props) = args[0].raster("a")?;
        self.infer(&[], &[facts])?;
        Ok(Bound::call(vec![], [0], props.clone()))
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        Ok(Facts { dtype: DType::F32, ..raster(inputs)? })
    }

    fn footprint(&self, _: &[Literal]) -> Footprint {
        Footprint::Halo { rows: self.halo.0, cols: self.halo.1 }
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::PerBand(self.kernel)
    }
}

fn gradient(call: &BlockCall<'_>, (down, right): (i64, i64)) -> Block {
    let cols = call.window.cols as usize;
    by_plane(call, |plane, out, out_valid| {
        // A side where the input ends is an edge of the domain: the halo would be there otherwise.
        let has = plane.window;
        let lines = out.chunks_exact_mut(cols).zip(out_valid.chunks_exact_mut(cols));
        for (row, (out, out_valid)) in (call.window.row..).zip(lines) {
            let (above, below) = ((row - down).max(has.row), (row + down).min(has.row_end() - 1));
            let ((before, before_ok), (after, after_ok)) = (plane.row(above), plane.row(below));
            for (col, (out, out_valid)) in (call.window.col..).zip(out.iter_mut().zip(out_valid)) {
                let (left, next) = ((col - right).max(has.col), (col + right).min(has.col_end() - 1));
                let (from, to) = ((left - has.col) as usize, (next - has.col) as usize);
                let steps = (below - above) + (next - left);
                let difference = after[to] - before[from];
                *out = if steps == 2 { difference / 2.0 } else { difference };
                *out_valid = before_ok[from] & after_ok[to] & u8::from(steps > 0);
            }
        }
    })
}
