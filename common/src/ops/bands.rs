//! Choosing, naming and joining bands: `pick_bands rename_bands concat_bands`.

use super::{Arg, BindCx, BlockCall, Bound, Facts, Kernel, Op, OpDoc, TypeError, required};
use crate::block::{Block, DType, Kind, Samples};
use crate::limits::{BAND_NAMES_BYTES_MAX, BANDS_MAX};
use crate::literal::Literal;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[&PickBands, &RenameBands, &ConcatBands];

/// `pick_bands(a, bands)`. As a plan node its parameter is the list of band positions.
#[derive(Debug)]
pub struct PickBands;

impl PickBands {
    /// The band positions that a plan node of this op picks.
    pub fn positions(params: &[Literal]) -> Option<Vec<u32>> {
        let [Literal::List(items)] = params else { return None };
        items.iter().map(|item| u32::try_from(item.as_int()?).ok()).collect()
    }

    /// Parameters of a plan node that picks these positions.
    pub fn params(positions: &[u32]) -> Vec<Literal> {
        vec![Literal::List(positions.iter().map(|at| Literal::Int((*at).into())).collect())]
    }
}

impl Op for PickBands {
    fn name(&self) -> &'static str {
        "pick_bands"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The named bands, in the order asked for; repeats are allowed.",
            params: const { &[required("a"), required("bands")] },
            shapes: "A raster with band names; the result has one band for each name, and its type.",
            units: "Those of each band.",
            validity: "As the picked band.",
            accuracy: "Exact.",
            source: "A selection, exactly.",
        }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (_, props) = args[0].raster("a")?;
        let names = band_names(&args[1], "bands")?;
        let known = match props.bands() {
            Some(known) => known,
            // An empty stack has no image that could name its bands: it stays empty.
            None if props.images() == Some(0) => {
                let positions = vec![0; names.len()];
                return Ok(Bound::call(PickBands::params(&positions), [0], props.clone()));
            }
            None => return Err(TypeError::NoBandNames),
        };
        let position = |name: &String| {
            known.iter().position(|known| known == name).map(|at| at as u32).ok_or_else(|| {
                TypeError::UnknownBand {
                    band: name.clone(),
                    place: "this raster".into(),
                    available: known.clone(),
                }
            })
        };
        let positions = names.iter().map(position).collect::<Result<Vec<_>, _>>()?;
        Ok(Bound::call(PickBands::params(&positions), [0], props.clone().with_bands(&names)))
    }

    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let bad = TypeError::Argument { name: "bands", expected: "positions of bands", got: "others" };
        let positions = PickBands::positions(params).filter(|p| !p.is_empty()).ok_or(bad.clone())?;
        let [input] = inputs else { return Err(bad) };
        if positions.iter().any(|at| *at >= input.kind.bands().unwrap_or(0)) {
            return Err(bad);
        }
        Ok(Facts { kind: with_bands(input.kind, positions.len() as u32), dtype: input.dtype })
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn is_imagewise(&self, _: &[Literal], _: &[Facts]) -> bool {
        true
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Block(|call| {
            let positions = PickBands::positions(call.params).unwrap_or_default();
            gather(call, |band| (0, positions[band] as usize))
        })
    }
}

/// `rename_bands(a, bands)`.
#[derive(Debug)]
pub struct RenameBands;

impl Op for RenameBands {
    fn name(&self) -> &'static str {
        "rename_bands"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The same pixels under other band names, one for each band.",
            params: const { &[required("a"), required("bands")] },
            shapes: "A raster; the result is the same.",
            units: "Those of each band.",
            validity: "As the input.",
            accuracy: "Exact.",
            source: "Metadata only.",
        }
    }

    fn example(&self) -> serde_json::Value {
        serde_json::json!({
            "product": "made:up",
            "bands": "a b",
            "image": ["mosaic", "product", "bands"],
            "names": "red nir",
            "result": ["rename_bands", "image", "names"],
            "returns": "result",
        })
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (facts, props) = args[0].raster("a")?;
        let names = band_names(&args[1], "bands")?;
        let bands = facts.kind.bands().unwrap_or(0);
        if names.len() != bands as usize {
            return Err(TypeError::NameCount { names: names.len(), bands });
        }
        Ok(Bound::Same { arg: 0, props: props.clone().with_bands(&names) })
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`rename_bands` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// `concat_bands(a, other)`.
#[derive(Debug)]
pub struct ConcatBands;

impl Op for ConcatBands {
    fn name(&self) -> &'static str {
        "concat_bands"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The bands of the first raster, then those of the second; stacks are joined image by image.",
            params: const { &[required("a"), required("other")] },
            shapes: "Two mosaics, or two stacks of as many images; the result is float32 and has the bands of both.",
            units: "Those of each band.",
            validity: "As each band was.",
            accuracy: "Exact.",
            source: "numpy.concatenate; the result is float32, truth values count as 0 and 1.",
        }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let ((a, a_props), (b, b_props)) = (args[0].raster("a")?, args[1].raster("other")?);
        let facts = self.infer(&[], &[a, b])?;
        let mut names = a_props.bands();
        let other = b_props.bands();
        if names.is_some() || other.is_some() || facts.kind.images() != Some(0) {
            // A band without a name is called by its position in the result.
            let invent = |from: u32, count: Option<u32>| -> Vec<String> {
                (from..from + count.unwrap_or(0)).map(|at| at.to_string()).collect()
            };
            let first = names.take().unwrap_or_else(|| invent(0, a.kind.bands()));
            let second = other.unwrap_or_else(|| invent(first.len() as u32, b.kind.bands()));
            let joined = [first, second].concat();
            check_names(&joined)?;
            names = Some(joined);
        }
        let second_product = b_props.product().filter(|b| a_props.product().is_some_and(|a| a != *b));
        let mut props = a_props.clone();
        if let Some(names) = &names {
            props = props.with_bands(names);
        }
        if let Some(other) = second_product {
            props = props.with_other_product(other);
        }
        Ok(Bound::call(vec![], [0, 1], props))
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let mismatch =
            |said: Kind, is: Kind| TypeError::KindMismatch { said: said.name().into(), is: is.name() };
        let sum = |a: u32, b: u32| check_count(u64::from(a) + u64::from(b));
        let [a, b] = inputs else {
            return Err(TypeError::Argument { name: "other", expected: "two rasters", got: "others" });
        };
        let kind = match (a.kind, b.kind) {
            (Kind::Mosaic { bands: a }, Kind::Mosaic { bands: b }) => Kind::Mosaic { bands: sum(a, b)? },
            (Kind::Stack { images: left, .. }, Kind::Stack { images: right, .. }) if left != right => {
                return Err(TypeError::ImageCount { left, right });
            }
            (Kind::Stack { images, bands: a }, Kind::Stack { bands: b, .. }) => {
                Kind::Stack { images, bands: sum(a, b)? }
            }
            (a, b) => return Err(mismatch(a, b)),
        };
        Ok(Facts { kind, dtype: DType::F32 })
    }

    fn is_imagewise(&self, _: &[Literal], _: &[Facts]) -> bool {
        true
    }

    fn padding(&self, inputs: &[Option<u32>]) -> Option<u32> {
        inputs.first().copied().flatten()
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Block(|call| {
            let first = call.inputs[0].kind().bands().unwrap_or(0) as usize;
            gather(call, |band| if band < first { (0, band) } else { (1, band - first) })
        })
    }
}

/// Band names as grafts write them: a JSON text of a list or of a string, a plain text with spaces,
/// or a quoted list.
pub(super) fn band_names(arg: &Arg<'_>, name: &'static str) -> Result<Vec<String>, TypeError> {
    fn split(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }
    let of_list =
        |items: &[Literal]| items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>();
    let literal = arg.literal(name)?;
    let names: Option<Vec<String>> = match literal {
        Literal::List(items) => of_list(items),
        Literal::Str(text) => match serde_json::from_str::<Literal>(text) {
            Ok(Literal::List(items)) => of_list(&items),
            Ok(Literal::Str(inner)) => Some(split(&inner)),
            // A band may well be called `1`: whatever else parses as JSON is a name.
            _ => Some(split(text)),
        },
        _ => None,
    };
    let names = names.filter(|names| !names.is_empty()).ok_or_else(|| TypeError::Value {
        name,
        expected: "names of bands, such as `red nir`".into(),
        value: literal.to_string(),
    })?;
    check_count(names.len() as u64)?;
    check_names(&names)?;
    Ok(names)
}

/// A number of bands that a value may have.
fn check_count(bands: u64) -> Result<u32, TypeError> {
    match u32::try_from(bands) {
        Ok(bands) if bands <= BANDS_MAX => Ok(bands),
        _ => Err(TypeError::TooManyBands { bands, limit: BANDS_MAX }),
    }
}

/// Refuses names that are too long together.
pub(super) fn check_names(names: &[String]) -> Result<(), TypeError> {
    match names.iter().map(String::len).sum() {
        bytes if bytes > BAND_NAMES_BYTES_MAX => {
            Err(TypeError::LongBandNames { bytes, limit: BAND_NAMES_BYTES_MAX })
        }
        _ => Ok(()),
    }
}

fn with_bands(kind: Kind, bands: u32) -> Kind {
    match kind {
        Kind::Stack { images, .. } => Kind::Stack { images, bands },
        Kind::Mosaic { .. } | Kind::Array(_) | Kind::Number => Kind::Mosaic { bands },
    }
}

/// A block whose bands come from others: `source` gives the input and its band for each band.
fn gather(call: &BlockCall<'_>, source: impl Fn(usize) -> (usize, usize)) -> Block {
    let kind = call.facts.kind;
    let (shape, pixels) = (call.inputs[0].shape(), call.inputs[0].pixels());
    let bands = kind.bands().unwrap_or(0) as usize;
    let images = kind.images().unwrap_or(1) as usize;
    let planes =
        (0..images).flat_map(|image| (0..bands).map(move |band| (image, band))).map(|(image, band)| {
            let (input, from) = source(band);
            let input = call.inputs[input];
            let plane = image * input.kind().bands().unwrap_or(0) as usize + from;
            (input, plane * pixels..(plane + 1) * pixels)
        });
    let mut valid = Vec::with_capacity(kind.planes() * pixels);
    let samples = match call.facts.dtype {
        DType::F32 => {
            let mut out = Vec::with_capacity(kind.planes() * pixels);
            for (input, range) in planes {
                valid.extend_from_slice(&input.valid()[range.clone()]);
                match input.samples() {
                    Samples::F32(values) => out.extend_from_slice(&values[range]),
                    Samples::Bool(values) => out.extend(values[range].iter().map(|v| f32::from(*v))),
                }
            }
            Samples::F32(out)
        }
        DType::Bool => {
            let mut out = Vec::with_capacity(kind.planes() * pixels);
            for (input, range) in planes {
                valid.extend_from_slice(&input.valid()[range.clone()]);
                if let Samples::Bool(values) = input.samples() {
                    out.extend_from_slice(&values[range]);
                }
            }
            Samples::Bool(out)
        }
    };
    Block::new(kind, shape, samples, valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn band_names_in_every_spelling() {
        let names = |literal: Literal| band_names(&Arg::Literal(&literal), "bands");
        let text = |text: &str| names(Literal::Str(text.into()));
        assert_eq!(text("red nir").unwrap(), ["red", "nir"]);
        assert_eq!(text(r#"["red", "nir"]"#).unwrap(), ["red", "nir"]);
        assert_eq!(text(r#""red nir""#).unwrap(), ["red", "nir"]);
        assert_eq!(text("1").unwrap(), ["1"]);
        assert_eq!(names(Literal::List(vec![Literal::Str("a b".into())])).unwrap(), ["a b"]);
        for bad in ["", "[]", "[1]"] {
            assert!(text(bad).is_err(), "{bad}");
        }
        assert!(names(Literal::Int(1)).is_err());
    }
}
