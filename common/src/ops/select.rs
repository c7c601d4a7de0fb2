//! Values chosen by other values or by constants: `where`, `filled`, `clip`, `isin`, `bit`, `bits`.

use super::arith::UNION;
use super::pointwise::{combine, joint_pad};
use super::property;
use super::{
    Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, Param, PixelKernel, SelectKernel, Strip, TypeError, Values,
    ValuesMut, broadcast, required, spread,
};
use crate::block::{DType, Kind};
use crate::literal::Literal;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    &Where,
    &WithConstants {
        name: "filled",
        params: &[required("a"), required("value")],
        constants: |args| Ok(vec![constant("value", &args[0])?]),
        floats: SelectKernel { operands: &[DType::F32], result: DType::F32, run: filled },
        bools: Some(SelectKernel { operands: &[DType::Bool], result: DType::Bool, run: filled }),
        scalar: |a, _| Some(a.clone()),
        summary: "The operand, with a value where it is invalid.",
        shapes: "A raster or array, and a number; the result is as the first. For a bool operand, a number that is not 0 is true.",
        units: "Those of the operand.",
        validity: "Valid everywhere.",
        accuracy: "Exact; the value is rounded to float32 once.",
        source: "numpy.ma.filled.",
        example: &[("value", "-1")],
    },
    &WithConstants {
        name: "clip",
        params: &[required("a"), required("lo"), required("hi")],
        constants: bounds,
        floats: SelectKernel { operands: &[DType::F32], result: DType::F32, run: clip },
        bools: None,
        scalar: |a, constants| match (a.as_f64()?, constants) {
            (value, [lo, _]) if value < *lo => Some(Literal::Float(*lo)),
            (value, [_, hi]) if value > *hi => Some(Literal::Float(*hi)),
            _ => Some(a.clone()),
        },
        summary: "The operand, not below `lo` and not above `hi`; NaN stays NaN.",
        shapes: "A raster, array or number, and two numbers, `lo` below `hi`; the result is float32.",
        units: "Those of the operand.",
        validity: UNION,
        accuracy: "Exact; the bounds are rounded to float32 once.",
        source: "numpy.clip.",
        example: &[("lo", "0"), ("hi", "2.5")],
    },
    &WithConstants {
        name: "isin",
        params: &[required("a"), required("values")],
        constants: |args| Ok(vec![set(&args[0])?]),
        floats: SelectKernel { operands: &[DType::F32], result: DType::Bool, run: isin },
        bools: None,
        scalar: |a, values| Some(Literal::Bool(values.contains(&a.as_f64()?))),
        summary: "Whether the value is one of a list, such as the classes of a scene classification.",
        shapes: "A raster, array or number, and a quoted JSON list of numbers; the result is bool.",
        units: "Truth values.",
        validity: "Valid where the operand is; NaN is in no list.",
        accuracy: "Exact; the numbers of the list are rounded to float32 once.",
        source: "numpy.isin.",
        example: &[("values", "[[0, 1, 2.5]]")],
    },
    &WithConstants {
        name: "bit",
        params: &[required("a"), required("position")],
        constants: |args| Ok(vec![whole("position", &args[0], 0, 31)?]),
        floats: SelectKernel { operands: &[DType::F32], result: DType::Bool, run: bit },
        bools: None,
        scalar: |a, constants| {
            Some(Literal::Bool(whole_number(a.as_f64()?)? >> *constants.first()? as u32 & 1 == 1))
        },
        summary: "Whether a bit is set, counted from the least significant, 0: a flag of a quality band.",
        shapes: "A raster, array or number, and a whole number from 0 to 31; the result is bool.",
        units: "Truth values.",
        validity: BITS_VALIDITY,
        accuracy: "Exact.",
        source: "Landsat Collection 2 and Sentinel-2 quality bands.",
        example: &[("position", "1")],
    },
    &WithConstants {
        name: "bits",
        params: &[required("a"), required("start"), required("count")],
        constants: bit_range,
        floats: SelectKernel { operands: &[DType::F32], result: DType::F32, run: bits },
        bools: None,
        scalar: |a, constants| {
            let [start, count] = constants else { return None };
            Some(Literal::Int((whole_number(a.as_f64()?)? >> *start as u32 & ones(*count)).into()))
        },
        summary: "The number that `count` bits make, from `start` upward: a level of confidence in a quality band.",
        shapes: "A raster, array or number, and two whole numbers: `start` from 0 to 31, `count` from 1 to 32 - `start`; the result is float32.",
        units: "Those of the band's coding.",
        validity: BITS_VALIDITY,
        accuracy: "Exact.",
        source: "Landsat Collection 2 and Sentinel-2 quality bands.",
        example: &[("start", "0"), ("count", "2")],
    },
];

const BITS_VALIDITY: &str = "Valid where the operand is and is a whole number from 0 to 4294967295.";

/// The most numbers in the list of `isin`: every class there is, and small beside a tile.
const ISIN_VALUES_MAX: usize = 1 << 12;

/// A row: an op of one operand and constants.
#[derive(Debug)]
struct WithConstants {
    name: &'static str,
    params: &'static [Param],
    /// The constants as the kernel takes them, from those of the graft, or from such constants again.
    constants: fn(&[Literal]) -> Result<Vec<Literal>, TypeError>,
    /// Kernel for numbers; truth values too (as 0 and 1) where `bools` is absent.
    floats: SelectKernel,
    bools: Option<SelectKernel>,
    /// The same on a plain number, with the numbers of the graft; `None` where it has no value.
    scalar: fn(&Literal, &[f64]) -> Option<Literal>,
    summary: &'static str,
    shapes: &'static str,
    units: &'static str,
    validity: &'static str,
    accuracy: &'static str,
    source: &'static str,
    /// JSON of the constants in the manual's example.
    example: &'static [(&'static str, &'static str)],
}

impl WithConstants {
    fn select(&self, input: DType) -> SelectKernel {
        match (self.bools, input) {
            (Some(bools), DType::Bool) => bools,
            _ => self.floats,
        }
    }
}

impl Op for WithConstants {
    fn name(&self) -> &'static str {
        self.name
    }

    fn on_properties(&self, args: &property::Args<'_>) -> Result<property::Value, property::Fault> {
        match self.name {
            "isin" => property::is_in(args),
            _ => Err(property::Fault::new("is an op of pixels; compare properties instead")),
        }
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
        let mut graft = serde_json::json!({ "product": "made:up", "returns": "result" });
        graft["band"] = "q".into();
        graft["a"] = serde_json::json!(["mosaic", "product", "band"]);
        for (name, json) in self.example {
            graft[*name] = serde_json::from_str(json).unwrap_or_default();
        }
        let names = self.params.iter().map(|param| param.name);
        graft["result"] = std::iter::once(self.name).chain(names).collect::<Vec<_>>().into();
        graft
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (facts, props) = args[0].operand("a")?;
        let given = self.params[1..].iter().zip(&args[1..]);
        let given: Vec<Literal> =
            given.map(|(param, arg)| arg.literal(param.name).cloned()).collect::<Result<_, _>>()?;
        let params = (self.constants)(&given)?;
        if let Arg::Literal(literal) = args[0] {
            let mut numbers = Vec::new();
            given.iter().for_each(|param| param.numbers(&mut numbers));
            let no_value = TypeError::NoValue {
                what: self.name,
                left: literal.as_f64().unwrap_or(f64::NAN),
                right: None,
            };
            return (self.scalar)(literal, &numbers).map(Bound::Literal).ok_or(no_value);
        }
        self.infer(&params, &[facts])?;
        Ok(Bound::call(params, [0], props))
    }

    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let [Facts { kind, dtype }] = inputs else {
            return Err(TypeError::Argument { name: "a", expected: "one operand", got: "others" });
        };
        // What arrives with a plan is what `bind` made.
        if params.len() + 1 != self.params.len() || (self.constants)(params)? != params {
            return Err(TypeError::Argument { name: "a", expected: "checked constants", got: "others" });
        }
        Ok(Facts { kind: *kind, dtype: self.select(*dtype).result })
    }

    fn kernel(&self, _: &[Literal], inputs: &[Facts]) -> Kernel {
        Kernel::Pixel(PixelKernel::Select(self.select(inputs[0].dtype)))
    }
}

/// A constant number.
fn constant(name: &'static str, literal: &Literal) -> Result<Literal, TypeError> {
    let not = TypeError::Argument { name, expected: "a number", got: literal.kind_name() };
    Ok(Literal::Float(literal.as_f64().filter(|value| !value.is_nan()).ok_or(not)?))
}

/// Constants `lo` and `hi` of `clip`.
fn bounds(args: &[Literal]) -> Result<Vec<Literal>, TypeError> {
    let [lo, hi] = args else {
        return Err(TypeError::Argument { name: "lo", expected: "a number, as is `hi`", got: "others" });
    };
    let (lo, hi) = (constant("lo", lo)?, constant("hi", hi)?);
    match (lo.as_f64(), hi.as_f64()) {
        (Some(low), Some(high)) if low < high => Ok(vec![lo, hi]),
        _ => Err(TypeError::Value {
            name: "lo",
            expected: format!("less than `hi`, {hi}"),
            value: lo.to_string(),
        }),
    }
}

/// A constant whole number.
fn whole(name: &'static str, literal: &Literal, least: i64, most: i64) -> Result<Literal, TypeError> {
    match literal.as_int() {
        Some(value) if (least..=most).contains(&value) => Ok(Literal::Int(value)),
        _ => Err(TypeError::Value {
            name,
            expected: format!("a whole number from {least} to {most}"),
            value: literal.to_string(),
        }),
    }
}

/// Constants `start` and `count` of `bits`.
fn bit_range(args: &[Literal]) -> Result<Vec<Literal>, TypeError> {
    let [start, count] = args else {
        return Err(TypeError::Argument {
            name: "start",
            expected: "a number, as is `count`",
            got: "others",
        });
    };
    let start = whole("start", start, 0, 31)?;
    let count = whole("count", count, 1, 32 - start.as_int().unwrap_or(0))?;
    Ok(vec![start, count])
}

/// The list of `isin`: single-precision numbers, sorted, each once.
fn set(literal: &Literal) -> Result<Literal, TypeError> {
    let wrong = |value: String| TypeError::Value {
        name: "values",
        expected: format!("a quoted JSON list of at most {ISIN_VALUES_MAX} numbers, such as [[1, 2]]"),
        value,
    };
    let Literal::List(items) = literal else { return Err(wrong(literal.kind_name().to_owned())) };
    if items.len() > ISIN_VALUES_MAX {
        return Err(wrong(format!("a list of {}", items.len())));
    }
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        let value = item.as_f64().filter(|value| !value.is_nan());
        // Adding 0 makes -0 one with 0.
        values.push(f64::from(value.ok_or_else(|| wrong(item.to_string()))? as f32) + 0.0);
    }
    values.sort_by(f64::total_cmp);
    values.dedup();
    Ok(Literal::List(values.into_iter().map(Literal::Float).collect()))
}

/// The numbers of a strip's first operand, and where results go.
macro_rules! strip {
    ($strip:ident, $out:ident: $in_type:ident -> $out_type:ident) => {
        match ($strip.values[0], $out) {
            (Values::$in_type(values), ValuesMut::$out_type(out)) => (values, out),
            _ => unreachable!("operands and results have the types of the kernel"),
        }
    };
}

fn filled(strip: &Strip<'_>, out: ValuesMut<'_>, valid: &mut [u8]) {
    fn fill<T: Copy>(values: &[T], ok: &[u8], value: T, out: &mut [T]) {
        for ((out, a), ok) in out.iter_mut().zip(values).zip(ok) {
            // Loaded whatever is chosen: a load that depends on the choice does not vectorise.
            let a = *a;
            *out = if *ok != 0 { a } else { value };
        }
    }
    let value = strip.constants[0];
    match (strip.values[0], out) {
        (Values::F32(a), ValuesMut::F32(out)) => fill(a, strip.valid[0], value as f32, out),
        (Values::Bool(a), ValuesMut::Bool(out)) => fill(a, strip.valid[0], u8::from(value != 0.0), out),
        _ => unreachable!("filling keeps the type of the operand"),
    }
    valid.fill(1);
}

fn clip(strip: &Strip<'_>, out: ValuesMut<'_>, _: &mut [u8]) {
    let (values, out) = strip!(strip, out: F32 -> F32);
    let (lo, hi) = (strip.constants[0] as f32, strip.constants[1] as f32);
    for (out, a) in out.iter_mut().zip(values) {
        let above = if *a < lo { lo } else { *a };
        *out = if above > hi { hi } else { above };
    }
}

fn isin(strip: &Strip<'_>, out: ValuesMut<'_>, _: &mut [u8]) {
    /// Lists up to here are compared one number after another, which vectorises.
    const FEW: usize = 16;
    let (values, out) = strip!(strip, out: F32 -> Bool);
    if strip.constants.len() <= FEW {
        out.fill(0);
        for wanted in strip.constants.iter().map(|wanted| *wanted as f32) {
            out.iter_mut().zip(values).for_each(|(out, a)| *out |= u8::from(*a == wanted));
        }
        return;
    }
    for (out, a) in out.iter_mut().zip(values) {
        let a = f64::from(*a);
        let at = strip.constants.partition_point(|wanted| *wanted < a);
        *out = u8::from(strip.constants.get(at) == Some(&a));
    }
}

/// A number as 32 bits, and whether it has any: whole numbers from 0 to 2^32 - 1 do. Added to 2^52, they
/// are the low bits of a double; conversions one by one would be slower.
#[inline(always)]
fn bits_of(value: f32) -> (u32, bool) {
    const SHIFT: f64 = 4_503_599_627_370_496.0;
    let shifted = f64::from(value) + SHIFT;
    let is_whole = shifted - SHIFT == f64::from(value);
    (shifted.to_bits() as u32, is_whole & (0.0..4_294_967_296.0).contains(&value))
}

/// The same of a plain number.
fn whole_number(value: f64) -> Option<u32> {
    (f64::from(value as u32) == value).then_some(value as u32)
}

/// A number of so many bits that are all set.
fn ones(count: f64) -> u32 {
    u32::MAX >> (32 - (count as u32).clamp(1, 32))
}

fn bit(strip: &Strip<'_>, out: ValuesMut<'_>, valid: &mut [u8]) {
    let (values, out) = strip!(strip, out: F32 -> Bool);
    let position = strip.constants[0] as u32;
    for ((out, valid), a) in out.iter_mut().zip(valid).zip(values) {
        let (bits, has_bits) = bits_of(*a);
        *out = (bits >> position & 1) as u8;
        *valid &= u8::from(has_bits);
    }
}

fn bits(strip: &Strip<'_>, out: ValuesMut<'_>, valid: &mut [u8]) {
    let (values, out) = strip!(strip, out: F32 -> F32);
    let (start, ones) = (strip.constants[0] as u32, ones(strip.constants[1]));
    for ((out, valid), a) in out.iter_mut().zip(valid).zip(values) {
        let (bits, has_bits) = bits_of(*a);
        // Exact: a float has no more than 24 bits that matter.
        *out = (bits >> start & ones) as f32;
        *valid &= u8::from(has_bits);
    }
}

/// `where(condition, a, b)`.
#[derive(Debug)]
struct Where;

impl Op for Where {
    fn name(&self) -> &'static str {
        "where"
    }

    fn on_properties(&self, args: &property::Args<'_>) -> Result<property::Value, property::Fault> {
        property::choose(args)
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "`a` where the condition is true, `b` where it is false. Metadata is that of `a` and `b` combined as in arithmetic; names and images that only the condition has are the condition's.",
            params: const { &[required("condition"), required("a"), required("b")] },
            shapes: "A bool condition and two operands of any kind that fit each other; the result is bool if `a` and `b` are, else float32.",
            units: "Those of `a` and `b`, which have one unit.",
            validity: "Valid where the condition is and the entry that it chooses is.",
            accuracy: "Exact.",
            source: "numpy.ma.where; an invalid condition gives an invalid entry.",
        }
    }

    fn example(&self) -> serde_json::Value {
        serde_json::json!({
            "product": "made:up",
            "a_band": "a",
            "b_band": "b",
            "a": ["mosaic", "product", "a_band"],
            "b": ["mosaic", "product", "b_band"],
            "condition": ["gt", "a", "b"],
            "result": ["where", "condition", "a", "b"],
            "returns": "result",
        })
    }

    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (condition, condition_props) = args[0].operand("condition")?;
        let ((a, a_props), (b, b_props)) = (args[1].operand("a")?, args[2].operand("b")?);
        if let [Arg::Literal(condition), Arg::Literal(left), Arg::Literal(right)] = args {
            let Literal::Bool(condition) = condition else {
                return Err(TypeError::FloatLogic { op: self.name() });
            };
            let chosen = if *condition { *left } else { *right };
            return Ok(Bound::Literal(match chosen {
                Literal::Bool(value) if a.dtype != b.dtype => Literal::Int((*value).into()),
                chosen => chosen.clone(),
            }));
        }
        let mut facts = [condition, a, b];
        let inputs = spread(cx, args, &mut facts)?;
        let kind = self.infer(&[], &facts)?.kind;
        let chosen = broadcast(facts[1].kind, facts[2].kind)?;
        let mut props = combine("where", chosen, &a_props, &b_props)?;
        if chosen != kind {
            props = combine("where", kind, &props, &condition_props)?;
        } else {
            // Of the condition only the padding counts.
            let pad = joint_pad(&props, &condition_props)?;
            props = props.with("pad", Some(pad.into()));
        }
        Ok(Bound::Call { params: vec![], inputs, props })
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let [condition, a, b] = inputs else {
            return Err(TypeError::Argument {
                name: "condition",
                expected: "a condition and two operands",
                got: "others",
            });
        };
        if condition.dtype != DType::Bool {
            return Err(TypeError::FloatLogic { op: self.name() });
        }
        let kind = broadcast(broadcast(a.kind, b.kind)?, condition.kind)?;
        if kind == Kind::Number {
            return Err(TypeError::Argument { name: "a", expected: "a raster or an array", got: "numbers" });
        }
        let dtype = if a.dtype == b.dtype { a.dtype } else { DType::F32 };
        Ok(Facts { kind, dtype })
    }

    fn kernel(&self, _: &[Literal], inputs: &[Facts]) -> Kernel {
        let (operands, result): (&[DType], DType) = match (inputs[1].dtype, inputs[2].dtype) {
            (DType::Bool, DType::Bool) => (&[DType::Bool; 3], DType::Bool),
            _ => (&[DType::Bool, DType::F32, DType::F32], DType::F32),
        };
        Kernel::Pixel(PixelKernel::Select(SelectKernel { operands, result, run: choose }))
    }
}

fn choose(strip: &Strip<'_>, out: ValuesMut<'_>, valid: &mut [u8]) {
    // By masks of bits: choices between two loads do not vectorise.
    fn bytes(condition: &[u8], a: &[u8], b: &[u8], out: &mut [u8]) {
        for (((out, condition), a), b) in out.iter_mut().zip(condition).zip(a).zip(b) {
            let chosen = 0u8.wrapping_sub(*condition);
            *out = a & chosen | b & !chosen;
        }
    }
    let condition = strip.values[0].bools();
    match (strip.values[1], strip.values[2], out) {
        (Values::F32(a), Values::F32(b), ValuesMut::F32(out)) => {
            for (((out, condition), a), b) in out.iter_mut().zip(condition).zip(a).zip(b) {
                let chosen = 0u32.wrapping_sub(u32::from(*condition));
                *out = f32::from_bits(a.to_bits() & chosen | b.to_bits() & !chosen);
            }
        }
        (Values::Bool(a), Values::Bool(b), ValuesMut::Bool(out)) => bytes(condition, a, b, out),
        _ => unreachable!("operands have one type, that of the result"),
    }
    bytes(condition, strip.valid[1], strip.valid[2], valid);
    valid.iter_mut().zip(strip.valid[0]).for_each(|(valid, ok)| *valid &= ok);
}

#[cfg(test)]
mod tests;
