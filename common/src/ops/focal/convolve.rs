//! Weighted sums over the window around a pixel: `convolve`.

use super::{by_plane, halo, sides};
use crate::block::{Block, DType, Kind, Samples};
use crate::limits::FOCAL_SIDE_MAX;
use crate::literal::Literal;
use crate::ops::{Arg, BindCx, BlockCall, Bound, Facts, Footprint, Kernel, Op, OpDoc, TypeError, required};

/// `convolve(a, kernel)`. Its constants are the rows and columns of the kernel, then the weights by row
/// unless the kernel is an array, which is the second input then.
#[derive(Debug)]
pub(super) struct Convolve;

impl Op for Convolve {
    fn name(&self) -> &'static str {
        "convolve"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "Sum of the pixels around each pixel by the weights of a kernel, which is turned by half a turn.",
            params: const { &[required("a"), required("kernel")] },
            shapes: "A raster, and an array of rows x columns or a quoted list of rows, `[[[0, 1, 0], [1, -4, 1], [0, 1, 0]]]`; both sides are odd. The result is as the raster, float32.",
            units: "Those of the values times those of the weights.",
            validity: "Valid where every pixel is that has a weight other than 0; beyond the edge of the padded grid its nearest pixel counts.",
            accuracy: "Products and their sum, row by row of the window, are taken in double precision; the sum is rounded once.",
            source: "scipy.ndimage.convolve with mode=\"nearest\".",
        }
    }

    fn example(&self) -> serde_json::Value {
        serde_json::json!({
            "product": "made:up", "band": "a", "returns": "result",
            "a": ["mosaic", "product", "band"],
            "kernel": [[[0, 1, 0], [1, -4, 1], [0, 1, 0]]],
            "result": ["convolve", "a", "kernel"],
        })
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (facts, props) = args[0].raster("a")?;
        let side = |len: usize| Literal::Int(len.try_into().unwrap_or(i64::MAX));
        if let Arg::Raster(kernel @ Facts { kind: Kind::Array(shape), .. }, _) = args[1] {
            let params = shape.axes().iter().map(|axis| side(*axis as usize)).collect::<Vec<_>>();
            self.infer(&params, &[facts, kernel])?;
            return Ok(Bound::call(params, [0, 1], props.clone()));
        }
        let Literal::List(rows) = args[1].literal("kernel")? else {
            return Err(args[1].not("kernel", "an array or a list of rows"));
        };
        let weights_of = |row: &Literal| match row {
            Literal::List(weights) => Some(weights.clone()),
            _ => None,
        };
        let rows: Option<Vec<Vec<Literal>>> = rows.iter().map(weights_of).collect();
        let rows = rows.ok_or_else(|| wrong_kernel("a list whose entries are not all lists"))?;
        let cols = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|row| row.len() != cols) {
            return Err(wrong_kernel("rows of different lengths"));
        }
        let mut params = vec![side(rows.len()), side(cols)];
        params.extend(rows.into_iter().flatten());
        self.infer(&params, &[facts])?;
        Ok(Bound::call(params, [0], props.clone()))
    }

    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let unfit = || TypeError::Argument { name: "a", expected: "a raster and a kernel", got: "others" };
        let (facts, kernel) = match inputs {
            [facts] => (facts, None),
            [facts, Facts { kind: Kind::Array(shape), .. }] => (facts, Some(shape)),
            _ => return Err(unfit()),
        };
        if !facts.kind.is_raster() {
            return Err(unfit());
        }
        let Some((rows, cols)) = sides(params) else {
            let sides = params.iter().take(2).map(Literal::to_string).collect::<Vec<_>>().join(" x ");
            return Err(wrong_kernel(&format!("sides {sides}")));
        };
        let weights = &params[2..];
        match kernel {
            Some(shape) if shape.axes() != [rows, cols] || !weights.is_empty() => Err(unfit()),
            None if weights.len() as u64 != u64::from(rows) * u64::from(cols) => Err(unfit()),
            None if weights.iter().any(|weight| weight.as_f64().is_none_or(|weight| !weight.is_finite())) => {
                Err(wrong_kernel("a weight that is no finite number"))
            }
            _ => Ok(Facts { dtype: DType::F32, ..*facts }),
        }
    }

    fn footprint(&self, params: &[Literal]) -> Footprint {
        halo(params)
    }

    fn kernel(&self, _: &[Literal], inputs: &[Facts]) -> Kernel {
        match inputs.len() {
            // A kernel has no bands to leave out.
            2 => Kernel::Block(convolve),
            _ => Kernel::PerBand(convolve),
        }
    }
}

fn wrong_kernel(value: &str) -> TypeError {
    TypeError::Value {
        name: "kernel",
        expected: format!(
            "rows of equal length, an odd number of each from 1 to {FOCAL_SIDE_MAX}, such as `[[[1, 2, 1]]]`"
        ),
        value: value.to_owned(),
    }
}

/// The weights by row; `None` where one is not known, because it is an invalid entry of an array.
fn weights(call: &BlockCall<'_>) -> Option<Vec<f64>> {
    let Some(array) = call.inputs.get(1) else {
        return call.params[2..].iter().map(Literal::as_f64).collect();
    };
    let is_known = array.valid().iter().all(|ok| *ok == 1);
    let weights = match array.samples() {
        Samples::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Samples::Bool(values) => values.iter().map(|value| f64::from(*value)).collect(),
    };
    is_known.then_some(weights)
}

fn convolve(call: &BlockCall<'_>) -> Block {
    let (Some(weights), Some((high, wide))) = (weights(call), sides(call.params)) else {
        return Block::invalid(call.facts.kind, call.facts.dtype, (call.window.rows, call.window.cols));
    };
    let (up, left) = (i64::from(high / 2), i64::from(wide / 2));
    let (cols, wide) = (call.window.cols as usize, wide as usize);
    let mut sums = vec![0.0f64; cols];
    // A row of the input with its outermost pixels repeated.
    let (mut line, mut line_valid) = (vec![0.0f64; cols + wide - 1], vec![0u8; cols + wide - 1]);
    by_plane(call, |plane, out, out_valid| {
        let has = plane.window;
        let lines = out.chunks_exact_mut(cols).zip(out_valid.chunks_exact_mut(cols));
        for (row, (out, out_valid)) in (call.window.row..).zip(lines) {
            if call.cancelled.now() {
                return;
            }
            sums.fill(0.0);
            out_valid.fill(1);
            // The kernel is turned: its last row meets the first of the window.
            for (row, weights) in (row - up..).zip(weights.rchunks_exact(wide)) {
                let (values, valid) = plane.row(row.clamp(has.row, has.row_end() - 1));
                let places = (call.window.col - left..).zip(line.iter_mut().zip(&mut line_valid));
                for (col, (number, ok)) in places {
                    let at = (col.clamp(has.col, has.col_end() - 1) - has.col) as usize;
                    (*number, *ok) = (f64::from(values[at]), valid[at]);
                }
                for (at, weight) in weights.iter().rev().enumerate().filter(|(_, weight)| **weight != 0.0) {
                    let pixels = line[at..].iter().zip(&line_valid[at..]);
                    let totals = sums.iter_mut().zip(out_valid.iter_mut());
                    for ((sum, out_valid), (value, ok)) in totals.zip(pixels) {
                        *sum += weight * value;
                        *out_valid &= ok;
                    }
                }
            }
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = *sum as f32);
        }
    })
}
