//! Arithmetic: `add sub mul truediv floordiv pow neg abs` and the reflected forms.
//!
//! IEEE single precision, one rounding an operation. Where numpy's masked arrays hide a result outside
//! an op's domain, the result is invalid here, whatever the operands were.

use super::pointwise::{OnBool, Pointwise};
use super::{Op, PixelKernel};
use crate::literal::Literal;

pub(super) const UNION: &str = "Valid where every operand is.";
const FINITE: &str = "Valid where both operands are and the result is finite; division by zero is invalid.";
const SUM: &str = "Those of the operands, which have one unit.";
const PRODUCT: &str = "The product of the operands' units.";
const QUOTIENT: &str = "The quotient of the operands' units; a pure number of equal ones.";
const POWER: &str = "The base's to the power of the exponent, which is a pure number.";
const SAME: &str = "Those of the operand.";
const EXACT: &str = "Bit for bit: each operation rounds once, in single precision.";
pub(super) const NUMPY: &str = "numpy.ma.";

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    &Pointwise {
        name: "add",
        joint: "sum",
        kernel: PixelKernel::Float2(|a, b, out, _| each(a, b, out, |a, b| a + b)),
        on_bool: OnBool::Kernel(OR),
        scalar: |a, b| exact(a, b, i128::checked_add, |a, b| a + b),
        summary: "Sum; of truth values, whether either is true.",
        units: SUM,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "radd",
        joint: "sum",
        kernel: PixelKernel::Float2(|a, b, out, _| each(a, b, out, |a, b| b + a)),
        on_bool: OnBool::Kernel(OR),
        scalar: |a, b| exact(b, a, i128::checked_add, |a, b| a + b),
        summary: "`b + a`.",
        units: SUM,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "sub",
        joint: "sub",
        kernel: PixelKernel::Float2(|a, b, out, _| each(a, b, out, |a, b| a - b)),
        on_bool: OnBool::Refuse("`ne` for the exclusive or"),
        scalar: |a, b| exact(a, b, i128::checked_sub, |a, b| a - b),
        summary: "Difference.",
        units: SUM,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "rsub",
        joint: "sub",
        kernel: PixelKernel::Float2(|a, b, out, _| each(a, b, out, |a, b| b - a)),
        on_bool: OnBool::Refuse("`ne` for the exclusive or"),
        scalar: |a, b| exact(b, a, i128::checked_sub, |a, b| a - b),
        summary: "`b - a`.",
        units: SUM,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "mul",
        joint: "mul",
        kernel: PixelKernel::Float2(|a, b, out, _| each(a, b, out, |a, b| a * b)),
        on_bool: OnBool::Kernel(AND),
        scalar: |a, b| exact(a, b, i128::checked_mul, |a, b| a * b),
        summary: "Product; of truth values, whether both are true.",
        units: PRODUCT,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "rmul",
        joint: "mul",
        kernel: PixelKernel::Float2(|a, b, out, _| each(a, b, out, |a, b| b * a)),
        on_bool: OnBool::Kernel(AND),
        scalar: |a, b| exact(b, a, i128::checked_mul, |a, b| a * b),
        summary: "`b * a`.",
        units: PRODUCT,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "truediv",
        joint: "div",
        kernel: PixelKernel::Float2(|a, b, out, valid| divide(a, b, out, valid, |a, b| a / b)),
        on_bool: OnBool::AsNumbers,
        scalar: |a, b| finite(a, b, |a, b| a / b),
        summary: "Quotient.",
        units: QUOTIENT,
        validity: FINITE,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "rtruediv",
        joint: "div",
        kernel: PixelKernel::Float2(|a, b, out, valid| divide(b, a, out, valid, |b, a| b / a)),
        on_bool: OnBool::AsNumbers,
        scalar: |a, b| finite(b, a, |b, a| b / a),
        summary: "`b / a`.",
        units: QUOTIENT,
        validity: FINITE,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "floordiv",
        joint: "floordiv",
        kernel: PixelKernel::Float2(|a, b, out, valid| divide(a, b, out, valid, floor_divide)),
        on_bool: OnBool::AsNumbers,
        scalar: floor_divide_numbers,
        summary: "Quotient rounded toward minus infinity.",
        units: QUOTIENT,
        validity: FINITE,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "rfloordiv",
        joint: "floordiv",
        kernel: PixelKernel::Float2(|a, b, out, valid| divide(b, a, out, valid, floor_divide)),
        on_bool: OnBool::AsNumbers,
        scalar: |a, b| floor_divide_numbers(b, a),
        summary: "`b // a`.",
        units: QUOTIENT,
        validity: FINITE,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "pow",
        joint: "exp",
        kernel: PixelKernel::Float2(power),
        on_bool: OnBool::AsNumbers,
        scalar: power_numbers,
        summary: "Power.",
        units: POWER,
        validity: "Valid where both operands are and the result is finite.",
        accuracy: "Computed in double precision and rounded once: within 1 ulp.",
        source: NUMPY,
    },
    &Pointwise {
        name: "rpow",
        joint: "exp",
        kernel: PixelKernel::Float2(|a, b, out, valid| power(b, a, out, valid)),
        on_bool: OnBool::AsNumbers,
        scalar: |a, b| power_numbers(b, a),
        summary: "`b ** a`.",
        units: POWER,
        validity: "Valid where both operands are and the result is finite.",
        accuracy: "Computed in double precision and rounded once: within 1 ulp.",
        source: NUMPY,
    },
    &Pointwise {
        name: "neg",
        joint: "",
        kernel: PixelKernel::Float1(|a, out, _| out.iter_mut().zip(a).for_each(|(out, a)| *out = -a)),
        on_bool: OnBool::Refuse("`invert`"),
        scalar: |a, _| exact(&Literal::Int(0), a, i128::checked_sub, |_, a| -a),
        summary: "Negation.",
        units: SAME,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
    &Pointwise {
        name: "abs",
        joint: "",
        kernel: PixelKernel::Float1(|a, out, _| out.iter_mut().zip(a).for_each(|(out, a)| *out = a.abs())),
        on_bool: OnBool::Kernel(PixelKernel::Bool1(|a, out| out.copy_from_slice(a))),
        scalar: |a, _| exact(a, &Literal::Int(0), |a, _| a.checked_abs(), |a, _| a.abs()),
        summary: "Absolute value.",
        units: SAME,
        validity: UNION,
        accuracy: EXACT,
        source: NUMPY,
    },
];

const OR: PixelKernel = PixelKernel::Bool2(|a, b, out| each(a, b, out, |a, b| a | b));
const AND: PixelKernel = PixelKernel::Bool2(|a, b, out| each(a, b, out, |a, b| a & b));

/// `f` on every pair. Zipped, not indexed: this is what vectorises.
#[inline(always)]
pub(super) fn each<T: Copy, R>(a: &[T], b: &[T], out: &mut [R], f: impl Fn(T, T) -> R) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = f(*a, *b);
    }
}

/// Division with numpy.ma's domain: what it calls unsafe, and every result that is not finite, is invalid.
#[inline(always)]
pub(super) fn divide(a: &[f32], b: &[f32], out: &mut [f32], valid: &mut [u8], f: impl Fn(f32, f32) -> f32) {
    for (((out, valid), a), b) in out.iter_mut().zip(valid).zip(a).zip(b) {
        let quotient = f(*a, *b);
        // numpy.ma's `_DomainSafeDivide`: |a| * tiny >= |b|, with the tiny of double precision. For
        // single precision operands that is b = 0 or an infinite a, and neither leaves a finite
        // quotient, except 0 / 0 by `floor_divide`.
        *valid &= u8::from(quotient.is_finite() && *b != 0.0);
        *out = quotient;
    }
}

/// numpy's `npy_floor_divide`: from the exact remainder, so that no rounding crosses an integer.
#[inline(always)]
fn floor_divide(a: f32, b: f32) -> f32 {
    if b == 0.0 {
        return a / b;
    }
    let mut remainder = a % b;
    let mut quotient = (a - remainder) / b;
    if remainder != 0.0 {
        if (b < 0.0) != (remainder < 0.0) {
            remainder += b;
            quotient -= 1.0;
        }
    } else {
        remainder = 0.0f32.copysign(b);
    }
    debug_assert!(remainder.is_nan() || remainder.abs() <= b.abs());
    if quotient == 0.0 {
        return 0.0f32.copysign(a / b);
    }
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

#[inline(always)]
fn power(base: &[f32], exponent: &[f32], out: &mut [f32], valid: &mut [u8]) {
    for (((out, valid), base), exponent) in out.iter_mut().zip(valid).zip(base).zip(exponent) {
        *out = libm::pow(f64::from(*base), f64::from(*exponent)) as f32;
        *valid &= u8::from(out.is_finite());
    }
}

/// Integers stay exact as long as 64 bits hold them, as in Python; everything else is a double.
pub(super) fn exact(
    a: &Literal,
    b: &Literal,
    ints: fn(i128, i128) -> Option<i128>,
    floats: fn(f64, f64) -> f64,
) -> Option<Literal> {
    let int = |literal: &Literal| match literal {
        Literal::Bool(value) => Some(i128::from(*value)),
        Literal::Int(value) => Some(i128::from(*value)),
        _ => None,
    };
    if let (Some(a), Some(b)) = (int(a), int(b))
        && let Some(exact) = ints(a, b).and_then(|value| i64::try_from(value).ok())
    {
        return Some(Literal::Int(exact));
    }
    finite(a, b, floats)
}

/// On doubles; no value where the result is not finite (Python raises there).
pub(super) fn finite(a: &Literal, b: &Literal, f: fn(f64, f64) -> f64) -> Option<Literal> {
    let value = f(a.as_f64()?, b.as_f64()?);
    value.is_finite().then_some(Literal::Float(value))
}

fn floor_divide_numbers(a: &Literal, b: &Literal) -> Option<Literal> {
    let ints = |a: i128, b: i128| Some(a.checked_div_euclid(b)? - i128::from(b < 0 && a % b != 0));
    // By the remainder, as Python does it: the rounded quotient may have crossed an integer.
    let floats = |a: f64, b: f64| {
        let remainder = a % b;
        let quotient = (a - remainder) / b - f64::from(remainder != 0.0 && (b < 0.0) != (remainder < 0.0));
        let floor = quotient.floor();
        if b == 0.0 {
            f64::NAN
        } else if quotient - floor > 0.5 {
            floor + 1.0
        } else {
            floor
        }
    };
    exact(a, b, ints, floats)
}

fn power_numbers(a: &Literal, b: &Literal) -> Option<Literal> {
    let ints = |a: i128, b: i128| a.checked_pow(u32::try_from(b).ok()?);
    exact(a, b, ints, libm::pow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Block;
    use Literal::{Bool, Float, Int};

    fn scalar(name: &str, a: Literal, b: Literal) -> Option<Literal> {
        crate::ops::testing::number(name, &[a, b])
    }

    #[test]
    fn numbers_compute_as_python_does() {
        assert_eq!(scalar("add", Int(1), Int(2)), Some(Int(3)));
        assert_eq!(scalar("add", Bool(true), Bool(true)), Some(Int(2)));
        assert_eq!(scalar("rsub", Int(1), Float(2.5)), Some(Float(1.5)));
        assert_eq!(scalar("truediv", Int(7), Int(2)), Some(Float(3.5)));
        assert_eq!(scalar("truediv", Int(7), Int(0)), None);
        for (a, b, floor) in [(7, 2, 3), (-7, 2, -4), (7, -2, -4), (-7, -2, 3), (6, -2, -3)] {
            assert_eq!(scalar("floordiv", Int(a), Int(b)), Some(Int(floor)), "{a} // {b}");
        }
        assert_eq!(scalar("floordiv", Float(1.0), Float(0.1)), Some(Float(9.0)));
        assert_eq!(scalar("floordiv", Float(-6.0), Float(0.1)), Some(Float(-60.0)));
        assert_eq!(scalar("floordiv", Float(1.0), Int(0)), None);
        assert_eq!(scalar("pow", Int(2), Int(10)), Some(Int(1024)));
        assert_eq!(scalar("rpow", Int(-1), Int(2)), Some(Float(0.5)));
        assert_eq!(scalar("pow", Int(-8), Float(0.5)), None);
        assert_eq!(scalar("mul", Int(i64::MAX), Int(2)), Some(Float(i64::MAX as f64 * 2.0)));
    }

    fn pixels(name: &str, a: &[f32], b: &[f32]) -> (Vec<f32>, Vec<u8>) {
        crate::ops::testing::pixels(name, &[], &[a, b])
    }

    #[test]
    fn reflected_forms_swap_their_operands() {
        let (a, b) = ([2.0, 7.0, 0.0, -4.0], [3.0, -2.0, 5.0, 0.5]);
        for name in ["add", "sub", "mul", "truediv", "floordiv", "pow"] {
            let ((is, is_valid), (expected, valid)) =
                (pixels(&format!("r{name}"), &a, &b), pixels(name, &b, &a));
            assert_eq!(is_valid, valid, "r{name}");
            let valid = |values: Vec<f32>| -> Vec<f32> {
                values.into_iter().zip(&valid).filter(|(_, ok)| **ok == 1).map(|(value, _)| value).collect()
            };
            assert_eq!(valid(is), valid(expected), "r{name}");
        }
        assert_eq!(pixels("rsub", &[2.0], &[10.0]).0, [8.0]);
        assert_eq!(pixels("rtruediv", &[0.0, 4.0], &[1.0, 1.0]), (vec![f32::INFINITY, 0.25], vec![0, 1]));
        assert_eq!(pixels("rpow", &[0.5, 2.0], &[-1.0, 3.0]).1, [0, 1]);
    }

    #[test]
    fn division_and_powers_hide_what_numpy_hides_and_sums_do_not() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let (a, b) = ([1.0, 0.0, inf, 1.0, nan, 3e38], [0.0, 0.0, 2.0, inf, 1.0, 1e-3]);
        assert_eq!(pixels("truediv", &a, &b).1, [0, 0, 0, 1, 0, 0]);
        assert_eq!(pixels("floordiv", &a, &b).1, [0, 0, 0, 1, 0, 0]);
        let (base, exponent) = ([-1.0, 0.0, 10.0, -8.0], [0.5, -1.0, 39.0, 3.0]);
        assert_eq!(pixels("pow", &base, &exponent).1, [0, 0, 0, 1]);
        for name in ["add", "mul"] {
            let (values, valid) = pixels(name, &[3e38, nan], &[3e38, 1.0]);
            assert_eq!((values[0], values[1].is_nan(), valid), (inf, true, vec![1, 1]), "{name}");
        }
    }

    #[test]
    fn truth_values_follow_numpy() {
        use crate::block::Samples;
        use crate::ops::testing::{evaluate, vector};
        let [a, b] = [[1, 1, 0, 0], [1, 0, 1, 0]].map(|bits| vector(Samples::Bool(bits.to_vec()), &[1; 4]));
        let of = |name: &str, inputs: &[Block]| evaluate(name, &[], inputs).into_parts();
        let both = [a.clone(), b];
        assert_eq!(of("add", &both).0, Samples::Bool(vec![1, 1, 1, 0]));
        assert_eq!(of("mul", &both).0, Samples::Bool(vec![1, 0, 0, 0]));
        let (Samples::F32(quotients), valid) = of("truediv", &both) else { panic!("bool") };
        assert_eq!((quotients[0], quotients[2], valid), (1.0, 0.0, vec![1, 0, 1, 0]));
        // The absolute value of a bool is a bool, its root is a number.
        assert_eq!(of("abs", std::slice::from_ref(&a)).0, Samples::Bool(vec![1, 1, 0, 0]));
        assert_eq!(of("sqrt", std::slice::from_ref(&a)).0, Samples::F32(vec![1.0, 1.0, 0.0, 0.0]));
        assert_eq!(of("log", std::slice::from_ref(&a)).1, [1, 1, 0, 0]);
        assert_eq!(of("minimum", &both).0, Samples::F32(vec![1.0, 0.0, 0.0, 0.0]));
    }

    #[test]
    fn floor_division_of_floats_is_numpys() {
        // numpy.floor_divide(numpy.float32(a), numpy.float32(b)) for these pairs.
        for (a, b, expected) in
            [(7.0f32, 2.0f32, 3.0f32), (-7.0, 2.0, -4.0), (1.0, 0.1, 9.0), (-1.0, 3.0, -1.0), (0.3, 0.1, 3.0)]
        {
            assert_eq!(floor_divide(a, b), expected, "{a} // {b}");
        }
        assert!(floor_divide(-0.0, 5.0).is_sign_negative());
    }
}
