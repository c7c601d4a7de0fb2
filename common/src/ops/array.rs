//! Constants that are no single number: `array`.

use super::{Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, TypeError, required};
use crate::block::{ArrayShape, Block, Kind, Samples};
use crate::limits::ARRAY_VALUES_MAX;
use crate::literal::Literal;

mod npy;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[&Array];

/// `array(npy)`: the base64 of a `.npy` file, or lists of numbers.
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
            shapes: "The base64 of a `.npy` file (format 1 to 3) of rank 0 to 4, or quoted lists of numbers or bools such as `[[1, 2, 3]]`; the result is an array: float32, or bool of bools.",
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
        if let Arg::Literal(list @ Literal::List(_)) = args[0] {
            return lists(list);
        }
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

/// The array that lists in lists are: each as long as its neighbours.
fn lists(list: &Literal) -> Result<Bound, TypeError> {
    let wrong = || TypeError::Value {
        name: "npy",
        expected: format!(
            "lists of numbers, or of bools, of equal lengths: rank 1 to 4 and at most {ARRAY_VALUES_MAX} values"
        ),
        value: list.to_string().chars().take(40).collect(),
    };
    let mut axes = Vec::new();
    let mut level = vec![list];
    // Level by level: every item is a list, and all are as long, until none is.
    while let Some(Literal::List(first)) = level.first() {
        let len = first.len();
        let mut below = Vec::new();
        for item in &level {
            match item {
                Literal::List(items) if items.len() == len => below.extend(items),
                _ => return Err(wrong()),
            }
        }
        axes.push(u32::try_from(len).map_err(|_| wrong())?);
        level = below;
    }
    let shape = ArrayShape::new(&axes, false).filter(|shape| !shape.is_empty()).ok_or_else(wrong)?;
    let are_bools = level.iter().all(|item| matches!(item, Literal::Bool(_)));
    let values = level.iter().map(|item| item.as_f64()).collect::<Option<Vec<f64>>>().ok_or_else(wrong)?;
    let samples = match are_bools {
        true => Samples::Bool(values.iter().map(|value| u8::from(*value != 0.0)).collect()),
        false => numbers(values.into_iter()),
    };
    let valid = vec![1; samples.len()];
    Ok(Bound::Array(Block::new(Kind::Array(shape), (1, 1), samples, valid)))
}

/// Samples of numbers rounded to single precision once.
fn numbers(values: impl Iterator<Item = f64>) -> Samples {
    Samples::F32(values.map(|value| value as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_arrays() {
        let of = |text: &str| match lists(&serde_json::from_str(text).unwrap()) {
            Ok(Bound::Array(array)) => Ok((array.kind().to_string(), array.samples().clone())),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(of("[1, 2.5]"), Ok(("array[2]".into(), Samples::F32(vec![1.0, 2.5]))));
        assert_eq!(
            of("[[1, 2], [3, 4]]"),
            Ok(("array[2, 2]".into(), Samples::F32(vec![1.0, 2.0, 3.0, 4.0])))
        );
        assert_eq!(of("[true, false]"), Ok(("array[2]".into(), Samples::Bool(vec![1, 0]))));
        for bad in ["[]", "[[]]", "[[1], 2]", "[[1], [2, 3]]", r#"["a"]"#, "[null]", "[[[[[1]]]]]"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
