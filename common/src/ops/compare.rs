//! Comparisons and logic: `eq ne lt le gt ge`, `and or invert` and the reflected forms.
//!
//! A comparison with an invalid operand is invalid, for `eq` and `ne` too.

use super::pointwise::{OnBool, Pointwise};
use super::{Op, PixelKernel};
use crate::literal::Literal;

const UNION: &str = "Valid where every operand is.";
const UNITS: &str = "Truth values.";
const EXACT: &str = "Exact.";
const NUMPY: &str = "numpy.ma.";

/// A row: name, comparison of floats, summary.
macro_rules! comparison {
    ($name:literal, $op:tt, $summary:literal) => {
        &Pointwise {
            name: $name,
            joint: "cmp",
            kernel: PixelKernel::Compare(|a, b, out| {
                for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                    *out = u8::from(a $op b);
                }
            }),
            on_bool: OnBool::AsNumbers,
            scalar: |a, b| Some(Literal::Bool(a.as_f64()? $op b.as_f64()?)),
            summary: $summary,
            units: UNITS,
            validity: UNION,
            accuracy: EXACT,
            source: NUMPY,
        }
    };
}

/// A row: name, name between bands, logic of bytes and of truth values, summary.
macro_rules! logic {
    ($name:literal, $joint:literal, $op:tt, $summary:literal) => {
        &Pointwise {
            name: $name,
            joint: $joint,
            kernel: PixelKernel::Bool2(|a, b, out| {
                for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                    *out = a $op b;
                }
            }),
            on_bool: OnBool::Only,
            scalar: |a, b| match (a, b) {
                (Literal::Bool(a), Literal::Bool(b)) => Some(Literal::Bool(a $op b)),
                _ => None,
            },
            summary: $summary,
            units: UNITS,
            validity: UNION,
            accuracy: EXACT,
            source: NUMPY,
        }
    };
}

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    comparison!("eq", ==, "Whether the operands are equal."),
    comparison!("ne", !=, "Whether the operands differ."),
    comparison!("lt", <, "Whether the first operand is smaller."),
    comparison!("le", <=, "Whether the first operand is not larger."),
    comparison!("gt", >, "Whether the first operand is larger."),
    comparison!("ge", >=, "Whether the first operand is not smaller."),
    logic!("and", "and", &, "Whether both are true."),
    logic!("rand", "and", &, "`b & a`."),
    logic!("or", "or", |, "Whether either is true."),
    logic!("ror", "or", |, "`b | a`."),
    &Pointwise {
        name: "invert",
        joint: "",
        kernel: INVERT,
        on_bool: OnBool::Only,
        scalar: |a, _| match a {
            Literal::Bool(a) => Some(Literal::Bool(!a)),
            _ => None,
        },
        summary: "Whether the operand is false.",
        units: UNITS,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
];

const INVERT: PixelKernel =
    PixelKernel::Bool1(|a, out| out.iter_mut().zip(a).for_each(|(out, a)| *out = 1 - a));
