//! Statistics over the window around a pixel: `focal_mean focal_min focal_max focal_median dilate erode`.
//!
//! Over the valid pixels of the window that the domain has: at its edge windows shrink. Every result is
//! computed from its own window in one fixed order, so that it does not depend on how the grid was cut.

use super::{Plane, by_plane, planes, raster, sides};
use crate::block::{Block, DType, Samples};
use crate::limits::FOCAL_SIDE_MAX;
use crate::literal::Literal;
use crate::ops::{
    Arg, BindCx, BlockCall, Bound, Facts, Footprint, Kernel, Op, OpDoc, Param, TypeError, optional, required,
};

pub(super) const MEAN: OverWindow = OverWindow {
    name: "focal_mean",
    summary: "Mean of the valid pixels in the window around each pixel.",
    types: Types::Numbers,
    accuracy: "The sum of the window, row by row, is taken in double precision; the mean is rounded once.",
    source: "Mean of numpy.lib.stride_tricks.sliding_window_view over valid pixels.",
    kernel: mean,
};

pub(super) const MIN: OverWindow = OverWindow {
    name: "focal_min",
    summary: "Smallest of the valid pixels in the window around each pixel; of truth values, whether all are true.",
    types: Types::Both,
    accuracy: "Exact; a valid NaN wins, and -0.0 is less than 0.0.",
    source: "scipy.ndimage.minimum_filter, over valid pixels.",
    kernel: |call| extreme(call, false),
};

pub(super) const MAX: OverWindow = OverWindow {
    name: "focal_max",
    summary: "Largest of the valid pixels in the window around each pixel; of truth values, whether any is true.",
    types: Types::Both,
    accuracy: "Exact; a valid NaN wins, and -0.0 is less than 0.0.",
    source: "scipy.ndimage.maximum_filter, over valid pixels.",
    kernel: |call| extreme(call, true),
};

pub(super) const MEDIAN: OverWindow = OverWindow {
    name: "focal_median",
    summary: "Median of the valid pixels in the window around each pixel; the mean of the middle two where their count is even.",
    types: Types::Numbers,
    accuracy: "Bit for bit; a valid NaN makes it NaN. The mean of two is taken in single precision.",
    source: "numpy.ma.median of each window.",
    kernel: median,
};

pub(super) const DILATE: OverWindow = OverWindow {
    name: "dilate",
    summary: "True where any valid pixel in the window is: a mask, grown.",
    types: Types::Truth,
    accuracy: "Exact.",
    source: "scipy.ndimage.binary_dilation with a rectangle, over valid pixels.",
    kernel: |call| extreme(call, true),
};

pub(super) const ERODE: OverWindow = OverWindow {
    name: "erode",
    summary: "True where all valid pixels in the window are: a mask, shrunk.",
    types: Types::Truth,
    accuracy: "Exact.",
    source: "scipy.ndimage.binary_erosion with a rectangle and border_value=1, over valid pixels.",
    kernel: |call| extreme(call, false),
};

/// What an op takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Types {
    /// Numbers; truth values count as 0 and 1.
    Numbers,
    /// Numbers, or truth values that stay what they are.
    Both,
    /// Truth values alone.
    Truth,
}

/// A row of the family: an op over windows.
#[derive(Debug)]
pub(super) struct OverWindow {
    name: &'static str,
    summary: &'static str,
    types: Types,
    accuracy: &'static str,
    source: &'static str,
    kernel: fn(&BlockCall<'_>) -> Block,
}

impl Op for OverWindow {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> OpDoc {
        let params: &[Param] = match self.types {
            Types::Numbers | Types::Both => const { &[required("a"), required("size")] },
            Types::Truth => const { &[required("mask"), optional("size")] },
        };
        let shapes = match self.types {
            Types::Numbers => {
                "A raster and the size of the window: an odd number of pixels, or `[[rows, columns]]`. The result is as the raster, float32."
            }
            Types::Both => {
                "A raster and the size of the window: an odd number of pixels, or `[[rows, columns]]`. The result is as the raster."
            }
            Types::Truth => {
                "A bool raster and the size of the window: an odd number of pixels, or `[[rows, columns]]`; 3 if left out. The result is as the raster."
            }
        };
        OpDoc {
            summary: self.summary,
            params,
            shapes,
            units: "Those of the values.",
            validity: "Valid where at least one pixel of the window is; windows end at the edge of the padded grid.",
            accuracy: self.accuracy,
            source: self.source,
        }
    }

    fn example(&self) -> serde_json::Value {
        let mut graft = serde_json::json!({
            "product": "made:up", "band": "a", "size": 3, "returns": "result",
            "a": ["mosaic", "product", "band"],
            "result": [self.name, "a", "size"],
        });
        if self.types == Types::Truth {
            graft["limit"] = 2.into();
            graft["high"] = serde_json::json!(["gt", "a", "limit"]);
            graft["result"] = serde_json::json!([self.name, "high", "size"]);
        }
        graft
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (facts, props) = args[0].raster(self.doc().params[0].name)?;
        let size = match args[1].literal("size")? {
            Literal::Null if self.types == Types::Truth => &Literal::Int(3),
            size => size,
        };
        let (rows, cols) = match size {
            Literal::Int(side) => (*side, *side),
            Literal::List(sides) => match sides[..] {
                [Literal::Int(rows), Literal::Int(cols)] => (rows, cols),
                _ => return Err(wrong_size(size)),
            },
            _ => return Err(wrong_size(size)),
        };
        let params = vec![Literal::Int(rows), Literal::Int(cols)];
        self.infer(&params, &[facts])?;
        Ok(Bound::call(params, [0], props.clone()))
    }

    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let facts = raster(inputs)?;
        if sides(params).is_none() || params.len() != 2 {
            return Err(wrong_size(&Literal::List(params.to_vec())));
        }
        match self.types {
            Types::Numbers => Ok(Facts { dtype: DType::F32, ..facts }),
            Types::Truth if facts.dtype != DType::Bool => Err(TypeError::FloatLogic { op: self.name }),
            Types::Both | Types::Truth => Ok(facts),
        }
    }

    fn footprint(&self, params: &[Literal]) -> Footprint {
        super::halo(params)
    }

    /// Rows whose extremes along the columns are known, and a plane of truth values as numbers, in and out.
    fn scratch_bytes(&self, _: &[Literal], inputs: &[Facts], pixels: u64) -> u64 {
        let planes =
            inputs.iter().filter(|facts| facts.dtype == DType::Bool).map(|facts| facts.kind.planes());
        pixels * (4 + planes.map(|planes| 4 + 4 * planes as u64).sum::<u64>())
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::PerBand(self.kernel)
    }
}

fn wrong_size(size: &Literal) -> TypeError {
    TypeError::Value {
        name: "size",
        expected: format!(
            "an odd number of pixels from 1 to {FOCAL_SIDE_MAX}, or two of them for rows and columns, such as `[[3, 5]]`"
        ),
        value: size.to_string(),
    }
}

/// Pixels from the middle of a window to its ends.
fn reach(call: &BlockCall<'_>) -> (i64, i64) {
    let (rows, cols) = sides(call.params).unwrap_or((1, 1));
    (i64::from(rows / 2), i64::from(cols / 2))
}

/// The rows of the input in the windows of a row.
fn rows(plane: &Plane<'_>, row: i64, reach: i64) -> std::ops::Range<i64> {
    (row - reach).max(plane.window.row)..(row + reach + 1).min(plane.window.row_end())
}

fn mean(call: &BlockCall<'_>) -> Block {
    let (up, left) = reach(call);
    let cols = call.window.cols as usize;
    let (mut sums, mut counts) = (vec![0.0f64; cols], vec![0u32; cols]);
    let mut numbers: Vec<f64> = Vec::new();
    by_plane(call, |plane, out, out_valid| {
        // Column of the input under the first of the result.
        let start = call.window.col - plane.window.col;
        let lines = out.chunks_exact_mut(cols).zip(out_valid.chunks_exact_mut(cols));
        for (row, (out, out_valid)) in (call.window.row..).zip(lines) {
            if call.cancelled.now() {
                return;
            }
            sums.fill(0.0);
            counts.fill(0);
            for row in rows(&plane, row, up) {
                let (values, valid) = plane.row(row);
                numbers.clear();
                // Selected, not multiplied: what stands under an invalid pixel may be infinite.
                let selected =
                    values.iter().zip(valid).map(|(v, ok)| if *ok == 1 { f64::from(*v) } else { 0.0 });
                numbers.extend(selected);
                for offset in start - left..=start + left {
                    // Columns of the result whose neighbour at this offset the input has.
                    let from = (-offset).clamp(0, cols as i64) as usize;
                    let end = (plane.window.cols as i64 - offset).clamp(from as i64, cols as i64) as usize;
                    let at = (from as i64 + offset) as usize;
                    let neighbours =
                        numbers[at.min(numbers.len())..].iter().zip(&valid[at.min(valid.len())..]);
                    let totals = sums[from..end].iter_mut().zip(&mut counts[from..end]);
                    for ((sum, count), (value, ok)) in totals.zip(neighbours) {
                        *sum += value;
                        *count += u32::from(*ok);
                    }
                }
            }
            for (at, (sum, count)) in sums.iter().zip(&counts).enumerate() {
                out[at] = (sum / f64::from((*count).max(1))) as f32;
                out_valid[at] = u8::from(*count > 0);
            }
        }
    })
}

fn median(call: &BlockCall<'_>) -> Block {
    let (up, left) = reach(call);
    let cols = call.window.cols as usize;
    let mut found: Vec<f32> = Vec::new();
    by_plane(call, |plane, out, out_valid| {
        let lines = out.chunks_exact_mut(cols).zip(out_valid.chunks_exact_mut(cols));
        for (row, (out, out_valid)) in (call.window.row..).zip(lines) {
            if call.cancelled.now() {
                return;
            }
            for (col, (out, out_valid)) in (call.window.col..).zip(out.iter_mut().zip(out_valid)) {
                let first = (col - left).max(plane.window.col) - plane.window.col;
                let end = (col + left + 1).min(plane.window.col_end()) - plane.window.col;
                let span = first as usize..end as usize;
                found.clear();
                for row in rows(&plane, row, up) {
                    let (values, valid) = plane.row(row);
                    let pixels = values[span.clone()].iter().zip(&valid[span.clone()]);
                    found.extend(pixels.filter(|(_, ok)| **ok == 1).map(|(value, _)| *value));
                }
                if !found.is_empty() {
                    (*out, *out_valid) = (middle(&mut found), 1);
                }
            }
        }
    })
}

/// Median of at least one value. The mean of two is taken in single precision, as numpy takes it.
fn middle(values: &mut [f32]) -> f32 {
    if values.iter().any(|value| value.is_nan()) {
        return f32::NAN;
    }
    let at = values.len() / 2;
    let is_odd = values.len() % 2 == 1;
    let (below, high, _) = values.select_nth_unstable_by(at, f32::total_cmp);
    match below.iter().copied().max_by(f32::total_cmp) {
        Some(low) if !is_odd => (low + *high) / 2.0,
        _ => *high,
    }
}

/// A number whose order is that of the values, NaN above all of them. It is its own inverse but for NaN.
fn ordered(bits: i32) -> i32 {
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

/// Stands for pixels that are not there: below every value.
const NOTHING: i32 = i32::MIN;

/// Stands for NaN, which wins.
const NAN: i32 = i32::MAX;

/// Largest or smallest value of each window. Whole numbers in the order of the values have a maximum
/// that no order of comparing changes, so that runs can be doubled: a window of n takes log n steps.
fn extreme(call: &BlockCall<'_>, is_max: bool) -> Block {
    let key = |value: f32| match value {
        value if value.is_nan() => NAN,
        value if is_max => ordered(value.to_bits() as i32),
        value => !ordered(value.to_bits() as i32),
    };
    let value = |key: i32| match key {
        NAN => f32::NAN,
        key if is_max => f32::from_bits(ordered(key) as u32),
        key => f32::from_bits(ordered(!key) as u32),
    };
    let (up, left) = reach(call);
    let (high, wide) = (2 * up as usize + 1, 2 * left as usize + 1);
    let cols = call.window.cols as usize;
    let mut line = vec![NOTHING; cols + wide - 1];
    let mut lines = vec![NOTHING; cols * (call.window.rows as usize + high - 1)];
    let (values, valid) = planes(call, 0.0f32, |plane, out, out_valid| {
        lines.fill(NOTHING);
        // Place of the input's first column in a line.
        let at = plane.window.col - (call.window.col - left);
        for (row, reduced) in (call.window.row - up..).zip(lines.chunks_exact_mut(cols)) {
            if !(plane.window.row..plane.window.row_end()).contains(&row) {
                continue;
            }
            line.fill(NOTHING);
            let (values, valid) = plane.row(row);
            let (skipped, from) = ((-at).max(0) as usize, at.max(0) as usize);
            for ((slot, value), ok) in line[from..].iter_mut().zip(&values[skipped..]).zip(&valid[skipped..])
            {
                *slot = if *ok == 1 { key(*value) } else { NOTHING };
            }
            widen(&mut line, wide, 1);
            reduced.copy_from_slice(&line[..cols]);
        }
        widen(&mut lines, high, cols);
        for ((out, out_valid), found) in out.iter_mut().zip(out_valid).zip(&lines) {
            if *found != NOTHING {
                (*out, *out_valid) = (value(*found), 1);
            }
        }
    });
    let samples = match call.facts.dtype {
        DType::F32 => Samples::F32(values),
        DType::Bool => Samples::Bool(values.into_iter().map(|value| u8::from(value != 0.0)).collect()),
    };
    Block::new(call.facts.kind, (call.window.rows, call.window.cols), samples, valid)
}

/// Makes every entry the largest of the `count` that begin with it, `stride` apart. The last
/// `count - 1` mean nothing afterwards.
fn widen(entries: &mut [i32], count: usize, stride: usize) {
    let mut combine = |apart: usize| {
        for at in 0..entries.len().saturating_sub(apart * stride) {
            entries[at] = entries[at].max(entries[at + apart * stride]);
        }
    };
    let mut covered = 1;
    while 2 * covered <= count {
        combine(covered);
        covered *= 2;
    }
    if covered < count {
        combine(count - covered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_widened() {
        let entries = [3, -1, 4, 1, -5, 9, 2, 6];
        for count in 1..=8 {
            let mut widened = entries;
            widen(&mut widened, count, 1);
            for at in 0..=8 - count {
                assert_eq!(Some(&widened[at]), entries[at..at + count].iter().max(), "{count} from {at}");
            }
        }
    }

    #[test]
    fn keys_have_the_order_of_the_values() {
        let values = [f32::NEG_INFINITY, -2.5, -1e-40, -0.0, 0.0, 1e-40, 7.0, f32::INFINITY];
        let keys: Vec<i32> = values.iter().map(|value| ordered(value.to_bits() as i32)).collect();
        assert!(keys.is_sorted() && keys[0] > NOTHING && keys[7] < NAN, "{keys:?}");
        assert!(!keys[7] > NOTHING && !keys[0] < NAN);
        for (key, value) in keys.iter().zip(values) {
            assert_eq!(ordered(*key), value.to_bits() as i32);
        }
    }
}
