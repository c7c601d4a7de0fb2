//! Results as numpy arrays.

use std::fs::File;
use std::path::Path;

use graticule_common::block::{Block, Kind, Samples};
use graticule_common::error::ErrorClass;
use graticule_common::literal::Literal;
use ndarray::{ArrayD, IxDyn};
use ndarray_npy::{NpzWriter, WritableElement, WriteNpyExt};

use crate::failure::Failure;
use crate::receive::Outcome;

/// What numpy holds. `mask` is true where a value is invalid.
enum Arrays {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
}

fn arrays(outcome: &Outcome, shown: &Path) -> Result<(Vec<usize>, Arrays, Vec<bool>), Failure> {
    let numbers = |items: &[Literal]| {
        let number = |item: &Literal| match item {
            Literal::Int(_) | Literal::Float(_) | Literal::Bool(_) => item.as_f64(),
            _ => None,
        };
        items.iter().map(number).collect::<Option<Vec<f64>>>()
    };
    let literal = match outcome {
        Outcome::Value { literal, .. } => literal,
        Outcome::Array { block, .. } | Outcome::Raster { block, .. } => return Ok(of_block(block)),
    };
    match literal {
        Literal::Bool(value) => Ok((vec![], Arrays::Bool(vec![*value]), vec![false])),
        Literal::List(items) if numbers(items).is_some() => {
            let values = numbers(items).unwrap_or_default();
            let mask = vec![false; values.len()];
            Ok((vec![values.len()], Arrays::F64(values), mask))
        }
        value => match numbers(std::slice::from_ref(value)) {
            Some(number) => Ok((vec![], Arrays::F64(number), vec![false])),
            None => {
                let message = format!(
                    "`{}`: {} is no array of numbers; write it to .json",
                    shown.display(),
                    value.kind_name()
                );
                Err(Failure::new(ErrorClass::Impossible, message))
            }
        },
    }
}

fn of_block(block: &Block) -> (Vec<usize>, Arrays, Vec<bool>) {
    let (rows, cols) = block.shape();
    let (rows, cols) = (rows as usize, cols as usize);
    let shape = match block.kind() {
        Kind::Number => vec![],
        Kind::Array(shape) => shape.axes().iter().map(|axis| *axis as usize).collect(),
        Kind::Mosaic { bands } => vec![bands as usize, rows, cols],
        Kind::Stack { images, bands } => vec![images as usize, bands as usize, rows, cols],
    };
    // numpy.ma's masks say what is invalid.
    let mask = block.valid().iter().map(|valid| *valid == 0).collect();
    let values = match block.samples() {
        Samples::F32(values) => Arrays::F32(values.clone()),
        Samples::Bool(values) => Arrays::Bool(values.iter().map(|value| *value != 0).collect()),
    };
    (shape, values, mask)
}

fn shaped<T>(shape: &[usize], values: Vec<T>) -> Result<ArrayD<T>, Failure> {
    ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|error| Failure::new(ErrorClass::Internal, error))
}

/// Writes `data` and `mask`.
pub fn write_npz(file: &Path, shown: &Path, outcome: &Outcome) -> Result<(), Failure> {
    fn write<T: WritableElement>(file: &Path, data: ArrayD<T>, mask: ArrayD<bool>) -> std::io::Result<()> {
        let mut npz = NpzWriter::new_compressed(File::create(file)?);
        npz.add_array("data", &data).map_err(std::io::Error::other)?;
        npz.add_array("mask", &mask).map_err(std::io::Error::other)?;
        npz.finish().map(drop).map_err(std::io::Error::other)
    }
    let (shape, values, mask) = arrays(outcome, shown)?;
    let mask = shaped(&shape, mask)?;
    let written = match values {
        Arrays::F32(values) => write(file, shaped(&shape, values)?, mask),
        Arrays::F64(values) => write(file, shaped(&shape, values)?, mask),
        Arrays::Bool(values) => write(file, shaped(&shape, values)?, mask),
    };
    written.map_err(|error| Failure::file(shown, "write", error))
}

/// Writes one array, which has no mask: `fill` stands where a pixel is invalid, or NaN where that says it
/// without doubt.
pub fn write_npy(file: &Path, shown: &Path, outcome: &Outcome, fill: Option<f64>) -> Result<(), Failure> {
    fn write<T: WritableElement>(file: &Path, data: ArrayD<T>) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(File::create(file)?);
        data.write_npy(&mut out).map_err(std::io::Error::other)?;
        std::io::Write::flush(&mut out)
    }
    let (shape, mut values, mask) = arrays(outcome, shown)?;
    let invalid = mask.iter().filter(|invalid| **invalid).count();
    let refused = |why: &str| {
        let message = format!(
            "`{}`: {invalid} pixels are invalid, and {why}; give `--fill VALUE`, or write .npz, which has a mask",
            shown.display()
        );
        Failure::new(ErrorClass::Impossible, message)
    };
    let unfit = |dtype: &str, value: f64| {
        Failure::usage(format!("--fill {value} is no {dtype} value, which `{}` has", shown.display()))
    };
    if invalid > 0 {
        let invalid_at = || mask.iter().enumerate().filter(|(_, invalid)| **invalid).map(|(at, _)| at);
        match (&mut values, fill) {
            (Arrays::F32(values), Some(fill)) => {
                if !fill.is_nan() && f64::from(fill as f32) != fill {
                    return Err(unfit("float32", fill));
                }
                invalid_at().for_each(|at| values[at] = fill as f32);
            }
            (Arrays::F32(values), None) => {
                if values.iter().zip(&mask).any(|(value, invalid)| !invalid && value.is_nan()) {
                    return Err(refused("NaN, which would say so, is a valid value here"));
                }
                invalid_at().for_each(|at| values[at] = f32::NAN);
            }
            (Arrays::Bool(values), Some(fill)) if fill == 0.0 || fill == 1.0 => {
                invalid_at().for_each(|at| values[at] = fill == 1.0);
            }
            (Arrays::Bool(_), Some(fill)) => return Err(unfit("bool", fill)),
            (Arrays::Bool(_), None) => return Err(refused("truth values have nothing to say so")),
            // Numbers and lists are valid.
            (Arrays::F64(_), _) => {}
        }
    }
    let written = match values {
        Arrays::F32(values) => write(file, shaped(&shape, values)?),
        Arrays::F64(values) => write(file, shaped(&shape, values)?),
        Arrays::Bool(values) => write(file, shaped(&shape, values)?),
    };
    written.map_err(|error| Failure::file(shown, "write", error))
}
