//! Reductions of a stack over its images: `max min mean median`.
//!
//! Over the valid entries only; where there are none, the result is invalid. Entries are taken in the
//! order of the images, so a result never depends on how the grid was cut.

use super::{
    Arg, BindCx, BlockCall, Bound, Facts, Fold, FoldKernel, Kernel, Op, OpDoc, Props, TypeError, Values,
    optional, required,
};
use crate::block::{Block, DType, Kind, Samples};
use crate::literal::Literal;
use crate::scene::Properties;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    &OverImages {
        name: "max",
        summary: "Largest of the valid entries; of truth values, whether any is true.",
        source: "numpy.ma.max, bit for bit; a valid NaN wins.",
        reducer: Reducer::Fold(FoldKernel {
            start: |_, dtype, len| extreme(|a, b| a > b, dtype, len),
            state_bytes: 5,
        }),
        keeps_bools: true,
    },
    &OverImages {
        name: "min",
        summary: "Smallest of the valid entries; of truth values, whether all are true.",
        source: "numpy.ma.min, bit for bit; a valid NaN wins.",
        reducer: Reducer::Fold(FoldKernel {
            start: |_, dtype, len| extreme(|a, b| a < b, dtype, len),
            state_bytes: 5,
        }),
        keeps_bools: true,
    },
    &OverImages {
        name: "mean",
        summary: "Mean of the valid entries.",
        source: "numpy.ma.mean; summed in double precision and rounded once; a mean that is not finite is invalid.",
        reducer: Reducer::Fold(FoldKernel {
            start: |_, _, len| Box::new(Mean { sums: vec![0.0; len], counts: vec![0; len] }),
            state_bytes: 12,
        }),
        keeps_bools: false,
    },
    &OverImages {
        name: "median",
        summary: "Median of the valid entries; the mean of the middle two where their count is even.",
        source: "numpy.ma.median, bit for bit; a valid NaN makes it NaN.",
        reducer: Reducer::Whole(median),
        keeps_bools: false,
    },
];

#[derive(Clone, Copy, Debug)]
enum Reducer {
    Fold(FoldKernel),
    Whole(fn(&BlockCall<'_>) -> Block),
}

fn extreme(replaces: fn(f32, f32) -> bool, dtype: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Extreme { replaces, best: Samples::zeros(dtype, len), valid: vec![0; len] })
}

/// A row: a reduction over the image axis.
#[derive(Debug)]
struct OverImages {
    name: &'static str,
    summary: &'static str,
    source: &'static str,
    /// Reduces; truth values are 0 and 1.
    reducer: Reducer,
    /// Whether truth values remain such.
    keeps_bools: bool,
}

/// Names of reducers that the language has and this engine does not compute yet.
pub const REDUCERS_LATER: &[&str] = &["sum", "std", "argmax", "argmin"];

impl Op for OverImages {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: self.summary,
            params: const { &[required("a"), required("axis"), optional("kind")] },
            shapes: "A stack of n images with b bands; the result is a mosaic with b bands.",
            units: "Those of the entries.",
            validity: "Valid where at least one entry is.",
            accuracy: "Selections are exact; sums are taken in double precision and rounded once.",
            source: self.source,
        }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (facts, props) = args[0].raster("a")?;
        let axis = args[1].text("axis")?;
        if !args[2].is_null() {
            let said = args[2].text("kind")?;
            if said != facts.kind.name() {
                return Err(TypeError::KindMismatch { said: format!("`{said}`"), is: facts.kind.name() });
            }
        }
        match (axis, facts.kind) {
            ("images", Kind::Stack { .. }) => {}
            ("bands" | "pixels", Kind::Stack { .. } | Kind::Mosaic { .. }) => {
                return Err(TypeError::Unsupported { what: format!("`{}` over `{axis}`", self.name) });
            }
            ("images", kind) => return Err(TypeError::NoAxis { kind: kind.name(), axis: axis.into() }),
            _ => {
                let expected = "`images`, `bands` or `pixels`".into();
                return Err(TypeError::Value { name: "axis", expected, value: axis.into() });
            }
        }
        self.infer(&[], &[facts])?;
        Ok(Bound::call(vec![], [0], reduced(props)))
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let [Facts { kind: Kind::Stack { bands, .. }, dtype }] = inputs else {
            return Err(TypeError::NoAxis { kind: "value that is no ImageStack", axis: "images".into() });
        };
        let dtype = if self.keeps_bools { *dtype } else { DType::F32 };
        Ok(Facts { kind: Kind::Mosaic { bands: *bands }, dtype })
    }

    fn keeps_values(&self) -> bool {
        matches!(self.name, "min" | "max")
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        match self.reducer {
            Reducer::Fold(kernel) => Kernel::Fold(kernel),
            Reducer::Whole(kernel) => Kernel::PerBand(kernel),
        }
    }
}

/// Metadata of a reduction over images: exactly three entries of the first image.
fn reduced(props: &Props) -> Props {
    if props.images() == Some(0) {
        return Props::none();
    }
    let entry = |name: &str, missing: serde_json::Value| {
        (name.to_owned(), props.get(name).cloned().unwrap_or(missing))
    };
    let kept: Properties =
        [entry("bands", serde_json::json!([])), entry("pad", 0.into()), entry("product_id", "".into())]
            .into();
    Props::one(kept)
}

/// The input as numbers, `[image][band × pixel]`.
fn numbers<'a>(block: &'a Block, converted: &'a mut Vec<f32>) -> &'a [f32] {
    match block.samples() {
        Samples::F32(values) => values,
        Samples::Bool(values) => {
            converted.extend(values.iter().map(|v| f32::from(*v)));
            converted
        }
    }
}

/// The largest or smallest entry so far.
struct Extreme {
    replaces: fn(f32, f32) -> bool,
    best: Samples,
    valid: Vec<u8>,
}

impl Fold for Extreme {
    fn add(&mut self, values: Values<'_>, valid: &[u8]) {
        let seen = self.valid.iter_mut().zip(valid);
        match (&mut self.best, values) {
            (Samples::F32(best), Values::F32(values)) => {
                for ((best, value), (seen, ok)) in best.iter_mut().zip(values).zip(seen) {
                    if *ok != 0 && (*seen == 0 || value.is_nan() || (self.replaces)(*value, *best)) {
                        (*best, *seen) = (*value, 1);
                    }
                }
            }
            (Samples::Bool(best), Values::Bool(values)) => {
                for ((best, value), (seen, ok)) in best.iter_mut().zip(values).zip(seen) {
                    let is_better = (self.replaces)(f32::from(*value), f32::from(*best));
                    if *ok != 0 && (*seen == 0 || is_better) {
                        (*best, *seen) = (*value, 1);
                    }
                }
            }
            _ => unreachable!("a stack has one type"),
        }
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        (self.best, self.valid)
    }
}

/// Sum and count of the valid entries so far.
struct Mean {
    sums: Vec<f64>,
    counts: Vec<u32>,
}

impl Fold for Mean {
    fn add(&mut self, values: Values<'_>, valid: &[u8]) {
        let so_far = self.sums.iter_mut().zip(&mut self.counts).zip(valid);
        // Selected, not multiplied: what stands under an invalid entry may be infinite.
        let add = |((sum, count), ok): ((&mut f64, &mut u32), &u8), value: f32| {
            *sum += if *ok != 0 { f64::from(value) } else { 0.0 };
            *count += u32::from(*ok);
        };
        match values {
            Values::F32(values) => so_far.zip(values).for_each(|(at, value)| add(at, *value)),
            Values::Bool(values) => so_far.zip(values).for_each(|(at, value)| add(at, f32::from(*value))),
        }
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        let entries = self.sums.iter().zip(&self.counts);
        let means: Vec<f32> = entries.map(|(sum, count)| (sum / f64::from((*count).max(1))) as f32).collect();
        // numpy.ma divides the masked sum by the count, and that division hides what is not finite.
        let valid = means.iter().zip(&self.counts);
        let valid = valid.map(|(mean, count)| u8::from(*count > 0 && mean.is_finite())).collect();
        (Samples::F32(means), valid)
    }
}

fn median(call: &BlockCall<'_>) -> Block {
    /// Pixels gathered at a time: their columns of values stay in the cache.
    const STRIP: usize = 64;
    let input = call.inputs[0];
    let len = call.facts.kind.planes() * input.pixels();
    let mut converted = Vec::new();
    let values = numbers(input, &mut converted);
    let images = input.kind().images().unwrap_or(0) as usize;
    let (mut out, mut valid) = (vec![0.0f32; len], vec![0u8; len]);
    let mut columns = vec![0.0f32; STRIP * images];
    for start in (0..len).step_by(STRIP) {
        let width = STRIP.min(len - start);
        let mut counts = [0usize; STRIP];
        for image in 0..images {
            let at = image * len + start;
            for (pixel, (value, ok)) in values[at..at + width].iter().zip(&input.valid()[at..]).enumerate() {
                if *ok != 0 {
                    columns[pixel * images + counts[pixel]] = *value;
                    counts[pixel] += 1;
                }
            }
        }
        for (pixel, count) in counts[..width].iter().enumerate() {
            if *count > 0 {
                out[start + pixel] = median_of(&mut columns[pixel * images..][..*count]);
                valid[start + pixel] = 1;
            }
        }
    }
    Block::new(call.facts.kind, input.shape(), Samples::F32(out), valid)
}

/// Median of at least one value. The mean of two is taken in single precision, as numpy takes it.
fn median_of(values: &mut [f32]) -> f32 {
    if values.iter().any(|value| value.is_nan()) {
        return f32::NAN;
    }
    let middle = values.len() / 2;
    let is_odd = values.len() % 2 == 1;
    let (below, high, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    match below.iter().copied().max_by(f32::total_cmp) {
        Some(low) if !is_odd => (low + *high) / 2.0,
        _ => *high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median_of(&mut [3.0]), 3.0);
        assert_eq!(median_of(&mut [4.0, 1.0]), 2.5);
        assert_eq!(median_of(&mut [9.0, -1.0, 5.0]), 5.0);
        assert_eq!(median_of(&mut [f32::INFINITY, 1.0, 2.0, 0.0]), 1.5);
        assert!(median_of(&mut [1.0, f32::NAN, 2.0]).is_nan());
    }
}
