//! Elementary functions: `sqrt cos sin tan arccos arcsin arctan log log10`, `arctan2`, and `exp floor ceil
//! round mod minimum maximum normalized_difference`.
//!
//! What has no single-precision instruction is computed in double precision and rounded once. Where
//! numpy's masked arrays have a domain, a result outside it is invalid, and so is one that is not finite.
//! Truth values count as 0 and 1.

use super::arith::{NUMPY, UNION, divide, each, exact, finite};
use super::pointwise::{OnBool, Pointwise};
use super::{Op, PixelKernel};
use crate::literal::Literal;

const EXACT: &str = "Bit for bit: rounded once, in single precision.";
const LIBM: &str = "Computed in double precision and rounded once: within 1 ulp.";
const PURE: &str = "A pure number, of a pure number.";
const RATIO: &str = "A pure number, of an angle in radians.";
const ANGLE: &str = "Radians, of a pure number.";
const SAME: &str = "Those of the operand.";
const COMMON: &str = "Those of the operands, which have one unit.";

/// A row: name, double-precision function, whether it has a domain, summary, units, validity.
macro_rules! function {
    ($name:literal, $f:expr, everywhere, $summary:literal, $units:expr) => {
        function!(
            $name,
            |a: &[f32], out: &mut [f32], _: &mut [u8]| {
                out.iter_mut().zip(a).for_each(|(out, a)| *out = $f(f64::from(*a)) as f32);
            },
            $f,
            $summary,
            $units,
            UNION,
            LIBM
        )
    };
    ($name:literal, $f:expr, in_domain, $summary:literal, $units:expr, $validity:literal) => {
        function!(
            $name,
            |a: &[f32], out: &mut [f32], valid: &mut [u8]| {
                for ((out, valid), a) in out.iter_mut().zip(valid).zip(a) {
                    // Outside their domains these functions are NaN or infinite.
                    *out = $f(f64::from(*a)) as f32;
                    *valid &= u8::from(out.is_finite());
                }
            },
            $f,
            $summary,
            $units,
            $validity,
            LIBM
        )
    };
    ($name:literal, $kernel:expr, $f:expr, $summary:literal, $units:expr, $validity:expr, $accuracy:expr) => {
        &Pointwise {
            name: $name,
            joint: "",
            kernel: PixelKernel::Float1($kernel),
            on_bool: OnBool::AsNumbers,
            scalar: |a, _| finite(a, a, |a, _| $f(a)),
            summary: $summary,
            units: $units,
            validity: $validity,
            accuracy: $accuracy,
            source: NUMPY,
        }
    };
}

/// A row: name, exact function of single and of double precision, summary, source.
macro_rules! rounding {
    ($name:literal, $single:expr, $double:expr, $summary:literal, $source:literal) => {
        &Pointwise {
            name: $name,
            joint: "",
            kernel: PixelKernel::Float1(|a, out, _| {
                out.iter_mut().zip(a).for_each(|(out, a)| *out = $single(*a));
            }),
            on_bool: OnBool::AsNumbers,
            scalar: |a, _| exact(a, a, |a, _| Some(a), |a, _| $double(a)),
            summary: $summary,
            units: SAME,
            validity: "Valid where the operand is; NaN and infinities stay as they are.",
            accuracy: "Exact.",
            source: $source,
        }
    };
}

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    function!(
        "sqrt",
        |a: &[f32], out: &mut [f32], valid: &mut [u8]| {
            for ((out, valid), a) in out.iter_mut().zip(valid).zip(a) {
                *out = a.sqrt();
                *valid &= u8::from(out.is_finite());
            }
        },
        libm::sqrt,
        "Square root.",
        "The square root of the operand's.",
        "Valid where the operand is and is not negative, and the result is finite.",
        EXACT
    ),
    function!("cos", libm::cos, everywhere, "Cosine.", RATIO),
    function!("sin", libm::sin, everywhere, "Sine.", RATIO),
    // numpy.ma's domain is |cos a| >= 1e-35. No float, single or double, comes that close to a pole.
    function!(
        "tan",
        libm::tan,
        in_domain,
        "Tangent.",
        RATIO,
        "Valid where the operand is and the result is finite; |cos a| < 1e-35 would be invalid, which no float reaches."
    ),
    function!(
        "arccos",
        libm::acos,
        in_domain,
        "Inverse cosine, 0 to pi.",
        ANGLE,
        "Valid where the operand is and lies in -1 to 1."
    ),
    function!(
        "arcsin",
        libm::asin,
        in_domain,
        "Inverse sine, -pi/2 to pi/2.",
        ANGLE,
        "Valid where the operand is and lies in -1 to 1."
    ),
    function!("arctan", libm::atan, everywhere, "Inverse tangent, -pi/2 to pi/2.", ANGLE),
    function!(
        "log",
        libm::log,
        in_domain,
        "Natural logarithm.",
        PURE,
        "Valid where the operand is and is positive, and the result is finite."
    ),
    function!(
        "log10",
        libm::log10,
        in_domain,
        "Logarithm to base 10.",
        PURE,
        "Valid where the operand is and is positive, and the result is finite."
    ),
    function!(
        "exp",
        libm::exp,
        everywhere,
        "e to the power of the operand; what overflows is infinite.",
        PURE
    ),
    rounding!("floor", floor, f64::floor, "The largest whole number that is not larger.", "numpy.floor."),
    rounding!("ceil", ceil, f64::ceil, "The smallest whole number that is not smaller.", "numpy.ceil."),
    rounding!(
        "round",
        round_even,
        f64::round_ties_even,
        "The nearest whole number; halves go to the even one.",
        "numpy.round."
    ),
    &Pointwise {
        name: "arctan2",
        joint: "arctan2",
        kernel: PixelKernel::Float2(|a, b, out, _| {
            each(a, b, out, |a, b| libm::atan2(f64::from(a), f64::from(b)) as f32)
        }),
        on_bool: OnBool::AsNumbers,
        scalar: |a, b| finite(a, b, libm::atan2),
        summary: "Angle of the point with x = `b` and y = `a`, -pi to pi.",
        units: "Radians; the operands have one unit.",
        validity: UNION,
        accuracy: LIBM,
        source: NUMPY,
    },
    &Pointwise {
        name: "mod",
        joint: "mod",
        kernel: PixelKernel::Float2(|a, b, out, valid| divide(a, b, out, valid, modulo)),
        on_bool: OnBool::AsNumbers,
        scalar: modulo_numbers,
        summary: "Remainder of the division rounded toward minus infinity; it has the sign of the divisor.",
        units: COMMON,
        validity: "Valid where both operands are, the divisor is not zero, and the result is finite.",
        accuracy: EXACT,
        source: "numpy.ma.mod.",
    },
    &Pointwise {
        name: "minimum",
        joint: "minimum",
        kernel: PixelKernel::Float2(|a, b, out, _| {
            each(a, b, out, |a, b| if a < b || a.is_nan() { a } else { b })
        }),
        on_bool: OnBool::AsNumbers,
        scalar: |a, b| Some(if a.as_f64()? < b.as_f64()? { a } else { b }.clone()),
        summary: "The smaller of the two; NaN where either is.",
        units: COMMON,
        validity: UNION,
        accuracy: "Exact.",
        source: "numpy.minimum.",
    },
    &Pointwise {
        name: "maximum",
        joint: "maximum",
        kernel: PixelKernel::Float2(|a, b, out, _| {
            each(a, b, out, |a, b| if a > b || a.is_nan() { a } else { b })
        }),
        on_bool: OnBool::AsNumbers,
        scalar: |a, b| Some(if a.as_f64()? > b.as_f64()? { a } else { b }.clone()),
        summary: "The larger of the two; NaN where either is.",
        units: COMMON,
        validity: UNION,
        accuracy: "Exact.",
        source: "numpy.maximum.",
    },
    &Pointwise {
        name: "normalized_difference",
        joint: "normalized_difference",
        kernel: PixelKernel::Float2(|a, b, out, valid| {
            for (((out, valid), a), b) in out.iter_mut().zip(valid).zip(a).zip(b) {
                let (difference, sum) = (a - b, a + b);
                *out = difference / sum;
                *valid &= u8::from(out.is_finite());
            }
        }),
        on_bool: OnBool::AsNumbers,
        scalar: |a, b| finite(a, b, |a, b| (a - b) / (a + b)),
        summary: "`(a - b) / (a + b)`, as in vegetation, water and snow indices.",
        units: "A pure number; the operands have one unit.",
        validity: "Valid where both operands are and the result is finite; a sum of zero is invalid.",
        accuracy: "Bit for bit: three operations, each rounded once, in single precision.",
        source: "numpy.ma; Rouse et al. 1974 for the vegetation index.",
    },
];

/// Half to even, as `f32::round_ties_even`, which the oldest 64-bit processors have no instruction for:
/// beyond 2^23 a float has no fraction, so adding that rounds.
#[inline(always)]
fn round_even(value: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0;
    let rounded = ((value.abs() + WHOLE) - WHOLE).copysign(value);
    if value.abs() < WHOLE { rounded } else { value }
}

#[inline(always)]
fn floor(value: f32) -> f32 {
    let near = round_even(value);
    if near > value { near - 1.0 } else { near }
}

/// The sign stays where the result is zero, as numpy has it.
#[inline(always)]
fn ceil(value: f32) -> f32 {
    let near = round_even(value);
    if near < value { (near + 1.0).copysign(value) } else { near }
}

/// numpy's `npy_remainder`: the exact remainder of C, moved by one divisor where the signs differ.
#[inline(always)]
fn modulo(a: f32, b: f32) -> f32 {
    let remainder = a % b;
    if remainder == 0.0 {
        0.0f32.copysign(b)
    } else if (b < 0.0) != (remainder < 0.0) {
        remainder + b
    } else {
        remainder
    }
}

/// Python's `%`.
fn modulo_numbers(a: &Literal, b: &Literal) -> Option<Literal> {
    let ints = |a: i128, b: i128| {
        let remainder = a.checked_rem(b)?;
        Some(if remainder != 0 && (b < 0) != (remainder < 0) { remainder + b } else { remainder })
    };
    let floats = |a: f64, b: f64| {
        let remainder = a % b;
        if remainder == 0.0 {
            0.0f64.copysign(b)
        } else if (b < 0.0) != (remainder < 0.0) {
            remainder + b
        } else {
            remainder
        }
    };
    exact(a, b, ints, floats)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{number, pixels};
    use super::*;
    use Literal::{Bool, Float, Int};

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    /// Which results are valid.
    fn valid(name: &str, a: &[f32]) -> Vec<u8> {
        pixels(name, &[], &[a]).1
    }

    #[test]
    fn results_outside_a_domain_are_invalid() {
        assert_eq!(valid("sqrt", &[-1.0, -0.0, 4.0, NAN, INF]), [0, 1, 1, 0, 0]);
        assert_eq!(valid("log", &[-1.0, 0.0, 1e-45, INF, NAN]), [0, 0, 1, 0, 0]);
        assert_eq!(valid("log10", &[-1.0, 0.0, 100.0, INF, NAN]), [0, 0, 1, 0, 0]);
        assert_eq!(valid("arcsin", &[-1.0, 1.0, 1.000_000_1, NAN]), [1, 1, 0, 0]);
        assert_eq!(valid("arccos", &[-1.0, 1.0, -1.000_000_1, NAN]), [1, 1, 0, 0]);
        assert_eq!(valid("tan", &[std::f32::consts::FRAC_PI_2, INF, NAN]), [1, 0, 0]);
    }

    #[test]
    fn functions_without_a_domain_keep_what_is_not_finite() {
        for name in ["cos", "sin", "arctan", "exp", "floor", "ceil", "round"] {
            assert_eq!(valid(name, &[NAN, INF, -INF]), [1, 1, 1], "{name}");
        }
        assert_eq!(pixels("exp", &[], &[&[1000.0, -INF]]).0, [INF, 0.0]);
        assert_eq!(pixels("round", &[], &[&[INF, -0.2]]).0, [INF, -0.0]);
    }

    #[test]
    #[expect(clippy::approx_constant, reason = "they are numpy's, whatever they are close to")]
    fn values_are_those_of_numpy() {
        // numpy.float32(numpy.f(float(x))) of numpy 2, x single precision.
        let cases: &[(&str, f32, f32)] = &[
            ("sqrt", 2.0, 1.414_213_5),
            ("cos", 1e10, 0.873_119_65),
            ("sin", 0.5, 0.479_425_55),
            ("tan", 0.5, 0.546_302_5),
            ("arccos", 0.5, 1.047_197_6),
            ("arcsin", 0.5, 0.523_598_8),
            ("arctan", 0.5, 0.463_647_6),
            ("log", 10.0, 2.302_585_1),
            ("log10", 2.0, 0.301_03),
            ("exp", 1.0, 2.718_281_7),
        ];
        for (name, x, expected) in cases {
            assert_eq!(pixels(name, &[], &[&[*x]]).0, [*expected], "{name}({x})");
        }
        assert_eq!(pixels("round", &[], &[&[0.5, 1.5, 2.5, -0.5, -1.5]]).0, [0.0, 2.0, 2.0, -0.0, -2.0]);
        assert_eq!(pixels("floor", &[], &[&[1.5, -1.5]]).0, [1.0, -2.0]);
        assert_eq!(pixels("ceil", &[], &[&[1.5, -1.5]]).0, [2.0, -1.0]);
        assert_eq!(
            pixels("arctan2", &[], &[&[1.0, -1.0, 0.0], &[0.0, -1.0, -1.0]]).0,
            [std::f32::consts::FRAC_PI_2, -2.356_194_5, std::f32::consts::PI]
        );
    }

    #[test]
    fn rounding_is_that_of_the_standard_library() {
        let halves = (-40..40).map(|n| n as f32 / 4.0);
        let large = (0..64).map(|n| f32::from_bits(0x4a80_0000 + (n << 17) + n % 3));
        let odd = [0.49999997, 8_388_607.5, 8_388_609.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, INF, 1e10];
        for value in halves.chain(large).chain(odd).flat_map(|value| [value, -value]) {
            assert_eq!(round_even(value).to_bits(), value.round_ties_even().to_bits(), "{value}");
            assert_eq!(floor(value).to_bits(), value.floor().to_bits(), "{value}");
            assert_eq!(ceil(value).to_bits(), value.ceil().to_bits(), "{value}");
        }
        assert!(round_even(NAN).is_nan() && floor(NAN).is_nan() && ceil(NAN).is_nan());
    }

    #[test]
    fn nan_wins_over_minimum_and_maximum_from_either_side() {
        for name in ["minimum", "maximum"] {
            let (values, valid) = pixels(name, &[], &[&[NAN, 1.0, NAN], &[1.0, NAN, NAN]]);
            assert!(values.iter().all(|value| value.is_nan()), "{name}");
            assert_eq!(valid, [1, 1, 1]);
        }
        assert_eq!(pixels("minimum", &[], &[&[1.0, -INF], &[2.0, 0.0]]).0, [1.0, -INF]);
        assert_eq!(pixels("maximum", &[], &[&[1.0, -INF], &[2.0, 0.0]]).0, [2.0, 0.0]);
    }

    #[test]
    fn mod_has_the_sign_of_the_divisor_and_no_zero_divisor() {
        let (values, valid) = pixels(
            "mod",
            &[],
            &[
                &[7.0, -7.0, 7.0, -7.0, 5.0, -5.0, INF, 0.0, 1.0],
                &[3.0, 3.0, -3.0, -3.0, INF, INF, 2.0, 0.0, 0.0],
            ],
        );
        assert_eq!(values[..5], [1.0, 2.0, -2.0, -1.0, 5.0]);
        // numpy.ma.mod(-5, inf) is inf, and so masked.
        assert_eq!(valid, [1, 1, 1, 1, 1, 0, 0, 0, 0]);
        assert!(modulo(6.0, -3.0).is_sign_negative());
    }

    #[test]
    fn normalized_difference_of_opposites_is_invalid() {
        let (values, valid) = pixels(
            "normalized_difference",
            &[],
            &[&[3.0, 1.0, 0.0, 3e38, NAN], &[1.0, -1.0, 0.0, 3e38, 1.0]],
        );
        assert_eq!(valid, [1, 0, 0, 1, 0]);
        // 0 / inf: each operation rounds in single precision.
        assert_eq!((values[0], values[3]), (0.5, 0.0));
    }

    #[test]
    fn plain_numbers_compute_as_python_does() {
        assert_eq!(number("sqrt", &[Int(4)]), Some(Float(2.0)));
        assert_eq!(number("sqrt", &[Int(-1)]), None);
        assert_eq!(number("log", &[Int(0)]), None);
        assert_eq!(number("arccos", &[Float(1.5)]), None);
        assert_eq!(number("round", &[Float(2.5)]), Some(Float(2.0)));
        assert_eq!(number("floor", &[Int(3)]), Some(Int(3)));
        assert_eq!(number("cos", &[Bool(false)]), Some(Float(1.0)));
        for (a, b, expected) in [(7, 3, 1), (-7, 3, 2), (7, -3, -2), (-7, -3, -1), (6, -3, 0)] {
            assert_eq!(number("mod", &[Int(a), Int(b)]), Some(Int(expected)), "{a} % {b}");
        }
        assert_eq!(number("mod", &[Int(1), Int(0)]), None);
        assert_eq!(number("mod", &[Float(-0.5), Int(2)]), Some(Float(1.5)));
        assert_eq!(number("minimum", &[Int(1), Float(0.5)]), Some(Float(0.5)));
        assert_eq!(number("maximum", &[Int(1), Bool(true)]), Some(Bool(true)));
        assert_eq!(number("normalized_difference", &[Int(3), Int(1)]), Some(Float(0.5)));
        assert_eq!(number("normalized_difference", &[Int(1), Int(-1)]), None);
        assert_eq!(number("arctan2", &[Int(0), Int(-1)]), Some(Float(std::f64::consts::PI)));
    }
}
