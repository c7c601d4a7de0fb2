//! Reductions of a raster along one of its axes: over images, over bands, over all pixels.
//!
//! Over the valid entries only. Entries are taken in order over images and bands; over pixels every
//! result is one that no order changes. So a result never depends on how the grid was cut.

use super::{
    Arg, BindCx, BlockCall, Bound, Facts, FoldKernel, Kernel, Op, OpDoc, Param, PixelsKernel, Props,
    TypeError, optional, required,
};
use crate::block::{ArrayShape, Block, DType, Kind};
use crate::limits::ARRAY_VALUES_MAX;
use crate::literal::Literal;
use crate::scene::Properties;

mod exact;
mod fold;
mod order;
mod pixels;
mod radix;

use exact::Sums;
use pixels::Extremes;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    &Reducer {
        name: "max",
        shapes: KEEPS,
        summary: "Largest of the valid entries; of truth values, whether any is true.",
        keeps_values: true,
        result: Type::AsInput,
        accuracy: EXACT,
        source: "numpy.ma.max, bit for bit; a valid NaN wins.",
        way: Way::Fold(fold::max, |call| fold::over_bands(call, fold::max), fold::state::KEPT),
        pixels: Some(pixels::kernel::<Extremes>(|_, facts| {
            pixels::over(facts, facts.dtype, |e: &Extremes| e.of_numbers(|_, max| max))
        })),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "min",
        shapes: KEEPS,
        summary: "Smallest of the valid entries; of truth values, whether all are true.",
        keeps_values: true,
        result: Type::AsInput,
        accuracy: EXACT,
        source: "numpy.ma.min, bit for bit; a valid NaN wins.",
        way: Way::Fold(fold::min, |call| fold::over_bands(call, fold::min), fold::state::KEPT),
        pixels: Some(pixels::kernel::<Extremes>(|_, facts| {
            pixels::over(facts, facts.dtype, |e: &Extremes| e.of_numbers(|min, _| min))
        })),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "mean",
        summary: "Mean of the valid entries; truth values count as 0 and 1.",
        validity: "Valid where at least one entry is and the mean is finite.",
        accuracy: SUMMED,
        source: "numpy.ma.mean; a mean that is not finite is invalid.",
        way: Way::Fold(fold::mean, |call| fold::over_bands(call, fold::mean), fold::state::SUMS),
        pixels: Some(pixels::kernel::<Sums<false>>(|_, facts| {
            pixels::over(facts, DType::F32, Sums::<false>::mean)
        })),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "median",
        summary: "Median of the valid entries; the mean of the middle two where their count is even.",
        accuracy: "Exact; the mean of two is taken in single precision, as numpy takes it.",
        source: "numpy.ma.median, bit for bit; a valid NaN makes it NaN.",
        way: Way::Whole(order::over),
        pixels: Some(radix::KERNEL),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "sum",
        summary: "Sum of the valid entries; of truth values, how many are true.",
        accuracy: SUMMED,
        source: "numpy.ma.sum; a sum beyond float32 is infinite.",
        way: Way::Fold(fold::sum, |call| fold::over_bands(call, fold::sum), fold::state::SUMS),
        pixels: Some(pixels::kernel::<Sums<false>>(|_, facts| {
            pixels::over(facts, DType::F32, Sums::<false>::sum)
        })),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "std",
        summary: "Standard deviation of the valid entries as a population; truth values count as 0 and 1.",
        validity: "Valid where at least one entry is and the result is finite: neither NaN nor infinite entries have one.",
        accuracy: SPREAD,
        source: "numpy.ma.std with ddof 0; Chan, Golub and LeVeque 1983 for the deviations from an entry.",
        way: Way::Fold(fold::std, |call| fold::over_bands(call, fold::std), fold::state::SPREAD),
        pixels: Some(pixels::kernel::<Sums<true>>(|_, facts| {
            pixels::over(facts, DType::F32, Sums::<true>::std)
        })),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "argmax",
        summary: "Position of the largest valid entry among all entries, from 0; the first where several are.",
        shapes: PLACES,
        units: "A position.",
        validity: "Valid everywhere, 0 where no entry is valid; invalid for a stack without images.",
        accuracy: EXACT,
        source: "numpy.ma.argmax, as float32; a valid NaN wins.",
        way: Way::Fold(fold::argmax, |call| fold::over_bands(call, fold::argmax), fold::state::PLACE),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "argmin",
        summary: "Position of the smallest valid entry among all entries, from 0; the first where several are.",
        shapes: PLACES,
        units: "A position.",
        validity: "Valid everywhere, 0 where no entry is valid; invalid for a stack without images.",
        accuracy: EXACT,
        source: "numpy.ma.argmin, as float32; a valid NaN wins.",
        way: Way::Fold(fold::argmin, |call| fold::over_bands(call, fold::argmin), fold::state::PLACE),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "count",
        summary: "Number of valid entries.",
        units: "Entries.",
        validity: "Valid everywhere, 0 where no entry is valid.",
        accuracy: "Exact up to 2^24, then rounded to float32.",
        source: "numpy.ma.count, as float32.",
        way: Way::Fold(fold::count, |call| fold::over_bands(call, fold::count), fold::state::COUNT),
        pixels: Some(pixels::kernel::<Extremes>(|_, facts| {
            pixels::over(facts, DType::F32, |e: &Extremes| Some(e.valid as f32))
        })),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "any",
        summary: "Whether any valid entry is true; a number is where it is not 0, NaN too.",
        shapes: TRUTHS,
        units: "A truth value.",
        result: Type::Truth,
        accuracy: EXACT,
        source: "numpy.ma.any.",
        way: Way::Fold(fold::any, |call| fold::over_bands(call, fold::any), fold::state::TRUTH),
        pixels: Some(pixels::kernel::<Extremes>(|_, facts| pixels::over(facts, DType::Bool, Extremes::any))),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "all",
        summary: "Whether all valid entries are true; a number is where it is not 0, NaN too.",
        shapes: TRUTHS,
        units: "A truth value.",
        result: Type::Truth,
        accuracy: EXACT,
        source: "numpy.ma.all.",
        way: Way::Fold(fold::all, |call| fold::over_bands(call, fold::all), fold::state::TRUTH),
        pixels: Some(pixels::kernel::<Extremes>(|_, facts| pixels::over(facts, DType::Bool, Extremes::all))),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "first",
        summary: "The first valid entry, in the order of the images or bands.",
        shapes: PICKS,
        keeps_values: true,
        result: Type::AsInput,
        accuracy: EXACT,
        source: "A selection, exactly.",
        way: Way::Fold(fold::first, |call| fold::over_bands(call, fold::first), fold::state::KEPT),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "last",
        summary: "The last valid entry, in the order of the images or bands.",
        shapes: PICKS,
        keeps_values: true,
        result: Type::AsInput,
        accuracy: EXACT,
        source: "A selection, exactly.",
        way: Way::Fold(fold::last, |call| fold::over_bands(call, fold::last), fold::state::KEPT),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "var",
        summary: "Variance of the valid entries as a population; truth values count as 0 and 1.",
        units: "The square of the entries' unit.",
        validity: "Valid where at least one entry is and the result is finite: neither NaN nor infinite entries have one.",
        accuracy: SPREAD,
        source: "numpy.ma.var with ddof 0; Chan, Golub and LeVeque 1983 for the deviations from an entry.",
        way: Way::Fold(fold::var, |call| fold::over_bands(call, fold::var), fold::state::SPREAD),
        pixels: Some(pixels::kernel::<Sums<true>>(|_, facts| {
            pixels::over(facts, DType::F32, Sums::<true>::var)
        })),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "ptp",
        summary: "Largest less smallest of the valid entries.",
        accuracy: "One subtraction in single precision.",
        source: "numpy.ma.ptp; a valid NaN makes it NaN, truth values are refused.",
        way: Way::Fold(fold::ptp, |call| fold::over_bands(call, fold::ptp), fold::state::RANGE),
        bools: Err("`max` and `min`"),
        pixels: Some(pixels::kernel::<Extremes>(|_, facts| {
            pixels::over(facts, DType::F32, |e: &Extremes| e.of_numbers(|min, max| max - min))
        })),
        ..Reducer::PLAIN
    },
    &Reducer {
        name: "percentile",
        summary: "The value that so many percent of the valid entries lie below, linear between entries.",
        accuracy: "Interpolated in double precision and rounded once; beside an infinite entry NaN.",
        source: "numpy.percentile of the valid entries, method `linear` (Hyndman and Fan 1996, definition 7); a valid NaN makes it NaN.",
        way: Way::Whole(order::over),
        params: const { &[required("a"), required("axis"), required("q"), optional("kind")] },
        pixels: Some(radix::KERNEL),
        ..Reducer::PLAIN
    },
];

const SHAPES: &str = "A stack of n images with b bands or a mosaic with b bands. Over `images`: a mosaic with b bands; over `bands`: one band; over `pixels`: an array (n, b) of a stack, (b) of a mosaic. The result is float32.";
const KEEPS: &str = "A stack of n images with b bands or a mosaic with b bands. Over `images`: a mosaic with b bands; over `bands`: one band; over `pixels`: an array (n, b) of a stack, (b) of a mosaic. The result has the type of the entries.";
const TRUTHS: &str = "A stack of n images with b bands or a mosaic with b bands. Over `images`: a mosaic with b bands; over `bands`: one band; over `pixels`: an array (n, b) of a stack, (b) of a mosaic. The result is bool.";
const PLACES: &str = "A stack of n images with b bands or a mosaic with b bands. Over `images`: a mosaic with b bands; over `bands`: one band. The result is float32.";
const PICKS: &str = "A stack of n images with b bands or a mosaic with b bands. Over `images`: a mosaic with b bands; over `bands`: one band. The result has the type of the entries.";
const EXACT: &str = "Exact.";
const SUMMED: &str = "Over images and bands within 1 ulp of the correctly rounded value: summed in double precision, what an addition rounds away apart. Over pixels correctly rounded from the exact sum.";
const SPREAD: &str = "Over images and bands one pass in double precision: for n entries n² · 2^-53 of the variance, then rounded once. Over pixels correctly rounded from exact sums.";

/// A row of the table: a reduction along any axis.
#[derive(Debug)]
struct Reducer {
    name: &'static str,
    summary: &'static str,
    shapes: &'static str,
    units: &'static str,
    validity: &'static str,
    accuracy: &'static str,
    source: &'static str,
    params: &'static [Param],
    result: Type,
    way: Way,
    /// Over all pixels; not where the order of the entries matters: pixels have none.
    pixels: Option<PixelsKernel>,
    /// What to use for truth values, where they are refused.
    bools: Result<(), &'static str>,
    /// Whether the result is one of the entries.
    keeps_values: bool,
}

/// Type of a result.
#[derive(Clone, Copy, Debug)]
enum Type {
    AsInput,
    Number,
    Truth,
}

/// How entries of images or bands are reduced.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One after another: over images, over bands, bytes of state.
    Fold(fold::Start, fn(&BlockCall<'_>) -> Block, u64),
    /// All at once.
    Whole(fn(&BlockCall<'_>) -> Block),
}

impl Reducer {
    /// What most of them share.
    const PLAIN: Reducer = Reducer {
        name: "",
        summary: "",
        shapes: SHAPES,
        units: "Those of the entries.",
        validity: "Valid where at least one entry is.",
        accuracy: "",
        source: "",
        params: const { &[required("a"), required("axis"), optional("kind")] },
        result: Type::Number,
        way: Way::Whole(order::over),
        pixels: None,
        bools: Ok(()),
        keeps_values: false,
    };

    fn takes_q(&self) -> bool {
        self.params.iter().any(|param| param.name == "q")
    }

    /// Kind of the result along an axis.
    fn reduced(&self, kind: Kind, axis: Axis) -> Result<Kind, TypeError> {
        if axis == Axis::Pixels && kind.is_raster() && self.pixels.is_none() {
            return Err(TypeError::NoOrder { op: self.name });
        }
        axis.reduced(kind)
    }
}

/// The array with an entry for each plane of a raster.
fn planes(kind: Kind) -> Result<Kind, TypeError> {
    let bands = kind.bands().unwrap_or(0);
    let axes: Vec<u32> = kind.images().into_iter().chain([bands]).collect();
    ArrayShape::new(&axes, true).map(Kind::Array).ok_or_else(|| TypeError::Value {
        name: "a",
        expected: format!("at most {ARRAY_VALUES_MAX} images times bands to reduce over pixels"),
        value: axes.iter().map(u32::to_string).collect::<Vec<_>>().join(" x "),
    })
}

/// What is reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Images,
    Bands,
    Pixels,
}

impl Axis {
    fn parse(name: &str) -> Option<Axis> {
        [Axis::Images, Axis::Bands, Axis::Pixels].into_iter().find(|axis| axis.name() == name)
    }

    /// The axis that an argument names.
    pub(super) fn of_arg(arg: &Arg<'_>) -> Result<Axis, TypeError> {
        let name = arg.text("axis")?;
        Axis::parse(name).ok_or_else(|| {
            let expected = "`images`, `bands` or `pixels`".into();
            TypeError::Value { name: "axis", expected, value: name.into() }
        })
    }

    /// Kind of a value that has lost the axis.
    pub(super) fn reduced(self, kind: Kind) -> Result<Kind, TypeError> {
        Ok(match (kind, self) {
            (Kind::Stack { bands, .. }, Axis::Images) => Kind::Mosaic { bands },
            (Kind::Stack { images, .. }, Axis::Bands) => Kind::Stack { images, bands: 1 },
            (Kind::Mosaic { .. }, Axis::Bands) => Kind::Mosaic { bands: 1 },
            (Kind::Stack { .. } | Kind::Mosaic { .. }, Axis::Pixels) => planes(kind)?,
            (Kind::Mosaic { .. } | Kind::Number | Kind::Array(_), _) => {
                return Err(TypeError::NoAxis { kind: kind.name(), axis: self.name().into() });
            }
        })
    }

    /// Metadata of a value that has lost the axis.
    pub(super) fn metadata(self, props: &Props) -> Props {
        match self {
            Axis::Images => of_first(props),
            Axis::Bands => props.clone().with("bands", None),
            Axis::Pixels => props.clone(),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Axis::Images => "images",
            Axis::Bands => "bands",
            Axis::Pixels => "pixels",
        }
    }

    /// That of a plan node: its first parameter.
    fn of(params: &[Literal]) -> Option<Axis> {
        params.first().and_then(Literal::as_str).and_then(Axis::parse)
    }
}

impl Op for Reducer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: self.summary,
            params: self.params,
            shapes: self.shapes,
            units: self.units,
            validity: self.validity,
            accuracy: self.accuracy,
            source: self.source,
        }
    }

    fn example(&self) -> serde_json::Value {
        let mut graft = serde_json::json!({
            "product": "made:up",
            "bands": "a b",
            "axis": "images",
            "scenes": ["select_scenes", "product", "bands"],
            "stack": ["stack_scenes", "scenes", "bands"],
            "result": [self.name, "stack", "axis"],
            "returns": "result",
        });
        if self.takes_q() {
            graft["q"] = 90.into();
            graft["result"] = serde_json::json!([self.name, "stack", "axis", "q"]);
        }
        graft
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (facts, props) = args[0].raster("a")?;
        if let Some(kind) = args.last().filter(|kind| !kind.is_null()) {
            let said = kind.text("kind")?;
            if said != facts.kind.name() {
                return Err(TypeError::KindMismatch { said: format!("`{said}`"), is: facts.kind.name() });
            }
        }
        let axis = Axis::of_arg(&args[1])?;
        let mut params = vec![Literal::Str(axis.name().into())];
        if self.takes_q() {
            params.push(Literal::Float(percentage(&args[2])?));
        }
        self.infer(&params, &[facts])?;
        Ok(Bound::call(params, [0], axis.metadata(props)))
    }

    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let unfit = TypeError::Argument { name: "axis", expected: "an axis to reduce", got: "another" };
        let (Some(axis), [input]) = (Axis::of(params), inputs) else { return Err(unfit) };
        match &params[1..] {
            [] if !self.takes_q() => {}
            [Literal::Float(q)] if self.takes_q() && (0.0..=100.0).contains(q) => {}
            _ => return Err(unfit),
        }
        let kind = self.reduced(input.kind, axis)?;
        let dtype = match (self.result, input.dtype, self.bools) {
            (_, DType::Bool, Err(instead)) => {
                return Err(TypeError::BoolArithmetic { op: self.name, instead });
            }
            (Type::AsInput, dtype, _) => dtype,
            (Type::Number, ..) => DType::F32,
            (Type::Truth, ..) => DType::Bool,
        };
        Ok(Facts { kind, dtype })
    }

    fn keeps_values(&self) -> bool {
        self.keeps_values
    }

    fn scratch_bytes(&self, params: &[Literal], inputs: &[Facts], _: u64) -> u64 {
        let kind = inputs.first().map_or(Kind::Number, |facts| facts.kind);
        match (self.way, Axis::of(params)) {
            (Way::Whole(_), Some(Axis::Images)) => order::scratch_bytes(kind.images().unwrap_or(0)),
            (Way::Whole(_), _) => order::scratch_bytes(kind.bands().unwrap_or(0)),
            (Way::Fold(_, _, state_bytes), _) => fold::scratch_bytes(state_bytes),
        }
    }

    fn is_imagewise(&self, params: &[Literal], _: &[Facts]) -> bool {
        Axis::of(params) == Some(Axis::Bands)
    }

    fn kernel(&self, params: &[Literal], inputs: &[Facts]) -> Kernel {
        match (Axis::of(params), self.way, self.pixels) {
            (Some(Axis::Images), Way::Fold(start, _, state_bytes), _) => {
                Kernel::Fold(FoldKernel { start, state_bytes })
            }
            (Some(Axis::Bands), Way::Fold(_, over_bands, _), _) => Kernel::Block(over_bands),
            (Some(Axis::Images), Way::Whole(whole), _) => Kernel::PerBand(whole),
            (Some(Axis::Bands), Way::Whole(whole), _) => Kernel::Block(whole),
            (Some(Axis::Pixels), _, Some(kernel)) => {
                // What takes several rounds takes one for the two truth values.
                let is_bool = inputs.first().is_some_and(|input| input.dtype == DType::Bool);
                Kernel::Pixels(PixelsKernel { rounds: if is_bool { 1 } else { kernel.rounds }, ..kernel })
            }
            (None, ..) | (_, _, None) => unreachable!("the type rule has checked the parameters"),
        }
    }
}

/// A number from 0 to 100.
fn percentage(arg: &Arg<'_>) -> Result<f64, TypeError> {
    let literal = arg.literal("q")?;
    let number =
        literal.as_f64().filter(|q| (0.0..=100.0).contains(q) && !matches!(literal, Literal::Bool(_)));
    number.ok_or_else(|| TypeError::Value {
        name: "q",
        expected: "a percentage from 0 to 100".into(),
        value: literal.to_string(),
    })
}

/// Metadata of a reduction over images: exactly three entries of the first image.
fn of_first(props: &Props) -> Props {
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

#[cfg(test)]
mod tests;
