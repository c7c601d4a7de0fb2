//! Constants that are no single number: `array`.

use super::{Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, TypeError, required};
use crate::block::{ArrayShape, Block, Kind, Samples};
use crate::limits::ARRAY_VALUES_MAX;
use crate::literal::Literal;

mod npy;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[&Array];

/// `array(npy)`: the base64 of a `.npy` file.
#[derive(Debug)]
pub struct Array;

impl Op for Array {
    fn name(&self) -> &'static str {
        "array"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "A constant array: a vector along bands or images, or rows and columns of the grid.",
            params: const { &[required("npy")] },
            shapes: "The base64 of a `.npy` file (format 1 to 3) of rank 0 to 4; the result is an array: float32, or bool of bools.",
            units: "As given.",
            validity: "Valid everywhere; NaN is a valid value.",
            accuracy: "Numbers are rounded to float32 once.",
            source: "numpy.save.",
        }
    }

    fn example(&self) -> serde_json::Value {
        serde_json::json!({
            "product": "made:up",
            "bands": "a b",
            "rgb": ["mosaic", "product", "bands"],
            "npy": "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAADgPwAAAAAAAABA",
            "gains": ["array", "npy"],
            "result": ["mul", "rgb", "gains"],
            "returns": "result",
        })
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let text = args[0].text("npy")?;
        let wrong = |reason: String| TypeError::Value {
            name: "npy",
            expected: format!("the base64 of a .npy file of numbers or bools ({reason})"),
            value: text.chars().take(40).collect(),
        };
        let npy::Npy { axes, samples } = npy::parse(text).map_err(wrong)?;
        let shape = ArrayShape::new(&axes, false)
            .ok_or_else(|| wrong(format!("rank 0 to 4 and at most {ARRAY_VALUES_MAX} values")))?;
        let valid = vec![1; samples.len()];
        Ok(Bound::Array(Block::new(Kind::Array(shape), (1, 1), samples, valid)))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`array` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// Samples of numbers rounded to single precision once.
fn numbers(values: impl Iterator<Item = f64>) -> Samples {
    Samples::F32(values.map(|value| value as f32).collect())
}
