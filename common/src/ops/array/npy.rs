//! Arrays as numpy saves them (NEP 1: the `.npy` format), in base64.

use base64::Engine as _;

use super::numbers;
use crate::block::{ArrayShape, Samples};
use crate::limits::ARRAY_VALUES_MAX;

/// A parsed array, in C order.
pub(super) struct Npy {
    pub axes: Vec<u32>,
    pub samples: Samples,
}

/// Reads the base64 of a `.npy` file; the error says what is wrong.
pub(super) fn parse(text: &str) -> Result<Npy, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .map_err(|error| format!("not base64: {error}"))?;
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("it does not begin as a .npy file does")?;
    let (&[major, _minor], rest) = rest.split_first_chunk::<2>().ok_or("it is cut short")?;
    let (len, rest) = match major {
        1 => {
            let (len, rest) = rest.split_first_chunk::<2>().ok_or("it is cut short")?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        2 | 3 => {
            let (len, rest) = rest.split_first_chunk::<4>().ok_or("it is cut short")?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        _ => return Err(format!("format {major} is not known")),
    };
    let (header, data) = rest.split_at_checked(len).ok_or("it is cut short")?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is no text")?;
    let Header { descr, fortran, axes } = header_of(header)?;
    // Before its values are looked at: how they are ordered takes a step for each axis of each of them.
    let shape = ArrayShape::new(&axes, false);
    let count = shape.ok_or_else(|| format!("it has more than 4 axes or {ARRAY_VALUES_MAX} values"))?.len();
    let samples = samples(&descr, data, count)?;
    let samples = if fortran { in_c_order(samples, &axes) } else { samples };
    Ok(Npy { axes, samples })
}

struct Header {
    descr: String,
    fortran: bool,
    axes: Vec<u32>,
}

/// The three entries of the header, a Python dict of literals.
fn header_of(text: &str) -> Result<Header, String> {
    let after = |key: &str| {
        let at = text.find(key).ok_or_else(|| format!("its header has no {key}"))?;
        let rest = text[at + key.len()..].trim_start();
        rest.strip_prefix(':').map(str::trim_start).ok_or_else(|| format!("its header has no {key}"))
    };
    let descr = after("'descr'")?;
    let descr = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
    let descr = descr.ok_or("records are not numbers")?.to_owned();
    let fortran = after("'fortran_order'")?.starts_with("True");
    let axes = after("'shape'")?.strip_prefix('(').and_then(|rest| rest.split(')').next());
    let axes =
        axes.ok_or("its header has no shape")?.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    let axes = axes.map(|axis| axis.parse::<u32>().map_err(|_| format!("`{axis}` is no length")));
    Ok(Header { descr, fortran, axes: axes.collect::<Result<_, _>>()? })
}

/// The values in the order of the file.
fn samples(descr: &str, data: &[u8], count: usize) -> Result<Samples, String> {
    let (order, kind) = descr.split_at_checked(1).ok_or("it has no type")?;
    let big = match order {
        "<" | "|" | "=" => false,
        ">" => true,
        _ => return Err(format!("the type `{descr}` is not a number or bool")),
    };
    let size: usize = kind.get(1..).and_then(|size| size.parse().ok()).unwrap_or(0);
    if size == 0 || count.checked_mul(size) != Some(data.len()) {
        return Err("its length does not fit its shape".into());
    }
    let words = data.chunks_exact(size).map(|word| {
        let mut bytes = [0u8; 8];
        let place = bytes.get_mut(..size)?;
        place.copy_from_slice(word);
        if big {
            place.reverse();
        }
        Some(u64::from_le_bytes(bytes))
    });
    let words: Option<Vec<u64>> = words.collect();
    let words = words.ok_or_else(|| format!("the type `{descr}` is not a number or bool"))?;
    let words = words.into_iter();
    Ok(match kind {
        "b1" => Samples::Bool(words.map(|word| u8::from(word != 0)).collect()),
        "f8" => numbers(words.map(f64::from_bits)),
        "f4" => numbers(words.map(|word| f64::from(f32::from_bits(word as u32)))),
        "f2" => numbers(words.map(|word| half(word as u16))),
        "i1" | "i2" | "i4" | "i8" => {
            let unused = 64 - 8 * size as u32;
            numbers(words.map(|word| ((word << unused) as i64 >> unused) as f64))
        }
        "u1" | "u2" | "u4" | "u8" => numbers(words.map(|word| word as f64)),
        _ => return Err(format!("the type `{descr}` is not a number or bool")),
    })
}

/// A number in half precision (IEEE 754 binary16).
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * (-24f64).exp2(),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// Values that run fastest along the first axis, so that they run fastest along the last.
fn in_c_order(samples: Samples, axes: &[u32]) -> Samples {
    fn reorder<T: Copy>(values: &[T], axes: &[u32]) -> Vec<T> {
        let mut place = vec![0u32; axes.len()];
        let mut out = Vec::with_capacity(values.len());
        for _ in values {
            let at =
                place.iter().zip(axes).rev().fold(0usize, |at, (i, axis)| at * *axis as usize + *i as usize);
            out.push(values[at]);
            for (i, axis) in place.iter_mut().zip(axes).rev() {
                *i += 1;
                if *i < *axis {
                    break;
                }
                *i = 0;
            }
        }
        out
    }
    match samples {
        Samples::F32(values) => Samples::F32(reorder(&values, axes)),
        Samples::Bool(values) => Samples::Bool(reorder(&values, axes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> String {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    fn floats(text: &str) -> (Vec<u32>, Vec<f32>) {
        match parse(text) {
            Ok(Npy { axes, samples: Samples::F32(values) }) => (axes, values),
            other => panic!("{:?}", other.map(|npy| npy.axes)),
        }
    }

    #[test]
    fn every_type_in_either_order() {
        assert_eq!(floats(&file("<f8", "False", "(1,)", &0.1f64.to_le_bytes())), (vec![1], vec![0.1]));
        assert_eq!(floats(&file(">f4", "False", "()", &2.5f32.to_be_bytes())), (vec![], vec![2.5]));
        assert_eq!(floats(&file("<i2", "False", "(2,)", &[0xff, 0xff, 1, 0])), (vec![2], vec![-1.0, 1.0]));
        assert_eq!(floats(&file("|u1", "False", "(2,)", &[255, 1])), (vec![2], vec![255.0, 1.0]));
        // numpy.float16(1.5), (-0.1), (6e-8)
        let halves = [0x3e00u16, 0xae66, 0x0001].map(u16::to_le_bytes).concat();
        assert_eq!(floats(&file("<f2", "False", "(3,)", &halves)).1, [1.5, -0.099975586, 5.9604645e-8]);
        assert!(matches!(
            parse(&file("|b1", "False", "(2,)", &[0, 7])),
            Ok(Npy { samples: Samples::Bool(values), .. }) if values == [0, 1]
        ));
    }

    #[test]
    fn fortran_order_is_undone() {
        let data: Vec<u8> = (0u8..6).collect();
        // numpy.arange(6).reshape(2, 3, order="F")
        assert_eq!(floats(&file("|u1", "True", "(2, 3)", &data)).1, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in ["", "AAAA", "!"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for (descr, shape, data) in [
            ("<f8", "(2,)", &[0u8; 8][..]),
            ("|O", "(1,)", &[0; 8]),
            ("<c8", "(1,)", &[0; 8]),
            ("<f8", "(-1,)", &[0; 8]),
        ] {
            assert!(parse(&file(descr, "False", shape, data)).is_err(), "{descr} {shape}");
        }
        assert!(parse(&file("<f8", "False", "(4294967295, 4294967295, 4294967295)", &[])).is_err());
        let many = format!("(1000, 1000{})", ", 1".repeat(10_000));
        assert!(parse(&file("|u1", "True", &many, &[0; 1_000_000])).is_err());
    }
}
