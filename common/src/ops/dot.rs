//! Sums of products: `dot`, pixel by pixel, of rasters with rasters, vectors and matrices.

use super::bands::check_names;
use super::pointwise::joint_pad;
use super::{
    Arg, BindCx, BlockCall, Bound, BoundInput, Facts, Kernel, Op, OpDoc, Props, TypeError, optional, required,
};
use crate::block::{Block, DType, Kind, Samples};
use crate::limits::BANDS_MAX;
use crate::literal::Literal;
use crate::scene::Properties;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[&Dot];

/// `dot(a, b, kind_a, kind_b)`.
#[derive(Debug)]
pub struct Dot;

/// What is summed: how the planes of the result are made of those of the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// Products that one entry of the result sums.
    len: u32,
    /// Kind of the result.
    kind: Kind,
    /// Which planes of the operands a product takes.
    a: Step,
    b: Step,
}

/// Where an operand's factors lie: the plane, or value of an array, for `term` of the product sum, at
/// `outer` (band of a mosaic or image of a stack) and `band` of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    term: usize,
    outer: usize,
    band: usize,
}

impl Op for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "Sum of products, pixel by pixel: over the bands of a mosaic or the images of a stack.",
            params: const { &[required("a"), required("b"), optional("kind_a"), optional("kind_b")] },
            shapes: "Two mosaics, or a mosaic and a vector: a mosaic of one band. A mosaic and a matrix: a mosaic of as many bands as the matrix has columns (rows, where it stands first). Two stacks, or a stack and a vector: a mosaic of the stack's bands. A stack and a matrix: a stack of as many images. What is summed must have one length. The kinds, where given, must be those of the operands: `Mosaic`, `ImageStack` or `ndarray`. The result is float32; truth values count as 0 and 1.",
            units: "The product of the operands' units.",
            validity: "Valid where every entry that is multiplied is valid, whatever it is multiplied with.",
            accuracy: "Products and sums in double precision, in the order of the index, rounded once: within 1 ulp where no large terms cancel.",
            source: "numpy.einsum, with the mask of numpy.ma.dot (strict).",
        }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let ((a, a_props), (b, b_props)) = (factor(&args[0], "a")?, factor(&args[1], "b")?);
        for (arg, facts, name) in [(&args[2], a, "kind_a"), (&args[3], b, "kind_b")] {
            let is = match facts.kind {
                Kind::Array(_) => "ndarray",
                kind => kind.name(),
            };
            if !arg.is_null() && arg.text(name)? != is {
                return Err(TypeError::KindMismatch { said: format!("`{}`", arg.text(name)?), is });
            }
        }
        let kind = form(a.kind, b.kind)?.kind;
        let props = metadata((a.kind, a_props), (b.kind, b_props), kind)?;
        Ok(Bound::Call { params: vec![], inputs: vec![BoundInput::Arg(0), BoundInput::Arg(1)], props })
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let [a, b] = inputs else {
            return Err(TypeError::Argument { name: "a", expected: "two operands", got: "others" });
        };
        Ok(Facts { kind: form(a.kind, b.kind)?.kind, dtype: DType::F32 })
    }

    fn kernel(&self, _: &[Literal], inputs: &[Facts]) -> Kernel {
        // The bands of stacks stay apart, those of mosaics are summed.
        if inputs.iter().any(|facts| facts.kind.images().is_some()) {
            Kernel::PerBand(dot)
        } else {
            Kernel::Block(dot)
        }
    }
}

/// Facts and metadata of an operand.
fn factor<'a>(arg: &Arg<'a>, name: &'static str) -> Result<(Facts, &'a Props), TypeError> {
    match arg {
        Arg::Raster(facts, props) => Ok((*facts, props)),
        Arg::Literal(_) | Arg::Scenes(_) | Arg::Function(_) => {
            Err(arg.not(name, "a raster or an array; for numbers there is `mul`"))
        }
    }
}

/// How two operands are multiplied (protocol.md section 6).
fn form(a: Kind, b: Kind) -> Result<Form, TypeError> {
    let one = |left: u32, right: u32| {
        if left == right { Ok(left) } else { Err(TypeError::DotLength { left, right }) }
    };
    /// Factors of a raster whose planes are summed, and of a stack, whose bands stay apart.
    const PLANES: Step = Step { term: 1, outer: 0, band: 0 };
    let images = |bands: u32| Step { term: bands as usize, outer: 0, band: 1 };
    let mosaic = |bands: u32| match bands {
        0..=BANDS_MAX => Ok(Kind::Mosaic { bands }),
        _ => Err(TypeError::TooManyBands { bands: bands.into(), limit: BANDS_MAX }),
    };
    // Of a matrix that stands second the columns, of one that stands first the rows are the result's.
    let columns = |columns: u32| Step { term: columns as usize, outer: 1, band: 0 };
    let rows = |columns: u32| Step { term: 1, outer: columns as usize, band: 0 };
    let array = |kind: Kind| match kind {
        Kind::Array(shape) => match *shape.axes() {
            [len] => Some((len, None)),
            [first, second] => Some((first, Some(second))),
            _ => None,
        },
        _ => None,
    };
    match (a, b) {
        (Kind::Mosaic { bands: left }, Kind::Mosaic { bands: right }) => {
            Ok(Form { len: one(left, right)?, kind: Kind::Mosaic { bands: 1 }, a: PLANES, b: PLANES })
        }
        (Kind::Stack { images: left, bands }, Kind::Stack { images: right, bands: others }) => {
            if bands != others {
                return Err(TypeError::BandCount { left: bands, right: others });
            }
            let (a, b) = (images(bands), images(bands));
            Ok(Form { len: one(left, right)?, kind: Kind::Mosaic { bands }, a, b })
        }
        (Kind::Mosaic { bands }, Kind::Array(_)) => match array(b) {
            Some((len, None)) => {
                Ok(Form { len: one(bands, len)?, kind: Kind::Mosaic { bands: 1 }, a: PLANES, b: PLANES })
            }
            Some((first, Some(second))) => {
                Ok(Form { len: one(bands, first)?, kind: mosaic(second)?, a: PLANES, b: columns(second) })
            }
            None => Err(no_matrix("b")),
        },
        (Kind::Array(_), Kind::Mosaic { bands }) => match array(a) {
            Some((len, None)) => {
                Ok(Form { len: one(len, bands)?, kind: Kind::Mosaic { bands: 1 }, a: PLANES, b: PLANES })
            }
            Some((first, Some(second))) => {
                Ok(Form { len: one(second, bands)?, kind: mosaic(first)?, a: rows(second), b: PLANES })
            }
            None => Err(no_matrix("a")),
        },
        (Kind::Stack { images: count, bands }, Kind::Array(_)) => match array(b) {
            Some((len, None)) => {
                let (len, kind) = (one(count, len)?, Kind::Mosaic { bands });
                Ok(Form { len, kind, a: images(bands), b: PLANES })
            }
            Some((first, Some(second))) => {
                let (len, kind) = (one(count, first)?, Kind::Stack { images: second, bands });
                Ok(Form { len, kind, a: images(bands), b: columns(second) })
            }
            None => Err(no_matrix("b")),
        },
        (Kind::Array(_), Kind::Stack { images: count, bands }) => match array(a) {
            Some((len, None)) => {
                let (len, kind) = (one(len, count)?, Kind::Mosaic { bands });
                Ok(Form { len, kind, a: PLANES, b: images(bands) })
            }
            Some((first, Some(second))) => {
                let (len, kind) = (one(second, count)?, Kind::Stack { images: first, bands });
                Ok(Form { len, kind, a: rows(second), b: images(bands) })
            }
            None => Err(no_matrix("a")),
        },
        (Kind::Stack { .. }, Kind::Mosaic { .. }) | (Kind::Mosaic { .. }, Kind::Stack { .. }) => {
            let expected =
                "of the kind of `a`, a vector or a matrix; a Mosaic and an ImageStack have no `dot`";
            Err(TypeError::Argument { name: "b", expected, got: b.name() })
        }
        _ => Err(TypeError::Argument {
            name: "a",
            expected: "a Mosaic or an ImageStack, or `b` must be one",
            got: a.name(),
        }),
    }
}

fn no_matrix(name: &'static str) -> TypeError {
    TypeError::Argument { name, expected: "a vector or a matrix", got: "an array of another rank" }
}

/// Metadata of the result, by the table of protocol.md section 6.
fn metadata((a, left): (Kind, &Props), (b, right): (Kind, &Props), result: Kind) -> Result<Props, TypeError> {
    let pad = joint_pad(left, right)?;
    let one = |entries: Properties| Props::one(entries).with("pad", Some(pad.into()));
    let (first, second) = (left.product(), right.product());
    let differ = first.zip(second).and_then(|(first, second)| (first != second).then_some(second));
    let text = |id: &str| serde_json::Value::from(id);
    Ok(match (a, b) {
        (Kind::Stack { .. }, Kind::Stack { .. }) => {
            let mut props = one(Properties::new());
            if let (Some(a), Some(b)) = (left.bands(), right.bands()) {
                let dotted = || a.iter().zip(&b).map(|(a, b)| format!("{a}_dot_{b}")).collect();
                let names: Vec<String> = if a == b { a } else { dotted() };
                check_names(&names)?;
                props = props.with_bands(&names);
            }
            if let Some(first) = first {
                props = props.with("product_id", Some(text(first)));
            }
            differ.iter().fold(props, |props, second| props.with_other_product(second))
        }
        (stack @ Kind::Stack { .. }, _) | (_, stack @ Kind::Stack { .. }) => {
            let props = if a == stack { left } else { right };
            match result.images() {
                Some(images) => Props::many(vec![common(props).into(); images as usize]),
                None => one(Properties::new()),
            }
        }
        _ => {
            let mut props = one(Properties::new());
            if let Some(id) = first.or(second) {
                props = props.with("product_id", Some(text(id)));
            }
            match differ {
                Some(second) => props.with("other_product_id", Some(text(second))),
                None => props,
            }
        }
    })
}

/// The entries that all images have, alike.
fn common(props: &Props) -> Properties {
    let mut dicts = props.dicts();
    let mut common = dicts.next().unwrap_or_default();
    dicts.for_each(|dict| common.retain(|name, value| dict.get(name) == Some(value)));
    common
}

/// The values of an operand: planes of pixels, or one value each for an array.
#[derive(Clone, Copy)]
struct Factor<'a> {
    block: &'a Block,
    /// Values of one plane.
    pixels: usize,
}

impl Factor<'_> {
    /// A strip of a plane in double precision, and whether its values are valid.
    fn strip(&self, plane: usize, start: usize, values: &mut [f64], valid: &mut [u8]) {
        if self.pixels == 1 {
            // An array's value serves for all pixels.
            values.fill(match self.block.samples() {
                Samples::F32(all) => all[plane].into(),
                Samples::Bool(all) => all[plane].into(),
            });
            let ok = self.block.valid()[plane];
            valid.iter_mut().for_each(|valid| *valid &= ok);
            return;
        }
        let range = plane * self.pixels + start..plane * self.pixels + start + values.len();
        match self.block.samples() {
            Samples::F32(all) => {
                values.iter_mut().zip(&all[range.clone()]).for_each(|(out, value)| *out = f64::from(*value))
            }
            Samples::Bool(all) => {
                values.iter_mut().zip(&all[range.clone()]).for_each(|(out, value)| *out = f64::from(*value))
            }
        }
        valid.iter_mut().zip(&self.block.valid()[range]).for_each(|(valid, ok)| *valid &= ok);
    }
}

fn dot(call: &BlockCall<'_>) -> Block {
    /// Values summed at a time: three strips of doubles stay in the first-level cache.
    const STRIP: usize = 512;
    let kind = call.facts.kind;
    let [a, b] = [call.inputs[0], call.inputs[1]];
    let shape = if a.kind().is_raster() { a.shape() } else { b.shape() };
    // The type rule has let these kinds through.
    let Ok(Form { len, a: step_a, b: step_b, .. }) = form(a.kind(), b.kind()) else {
        return Block::invalid(kind, DType::F32, shape);
    };
    let pixels = shape.0 as usize * shape.1 as usize;
    let factor = |block| Factor { block, pixels: Block::pixels(block) };
    let (a, b) = (factor(a), factor(b));
    // The planes of a mosaic are the outer axis where bands are summed, its bands where images are.
    let per_band = call.inputs.iter().any(|input| input.kind().images().is_some());
    let bands = if per_band { kind.bands().unwrap_or(1) as usize } else { 1 };
    let mut out = vec![0.0f32; kind.planes() * pixels];
    let mut valid = vec![1u8; out.len()];
    let (mut sums, mut left, mut right) = ([0.0f64; STRIP], [0.0f64; STRIP], [0.0f64; STRIP]);
    for plane in 0..kind.planes() {
        let (outer, band) = (plane / bands, plane % bands);
        let at = |step: Step, term: usize| term * step.term + outer * step.outer + band * step.band;
        for start in (0..pixels).step_by(STRIP) {
            let width = STRIP.min(pixels - start);
            let range = plane * pixels + start..plane * pixels + start + width;
            let valid = &mut valid[range.clone()];
            let (sums, left, right) = (&mut sums[..width], &mut left[..width], &mut right[..width]);
            sums.fill(0.0);
            for term in 0..len as usize {
                a.strip(at(step_a, term), start, left, valid);
                b.strip(at(step_b, term), start, right, valid);
                for ((sum, left), right) in sums.iter_mut().zip(&*left).zip(&*right) {
                    *sum += left * right;
                }
            }
            out[range].iter_mut().zip(&*sums).for_each(|(out, sum)| *out = *sum as f32);
        }
    }
    Block::new(kind, shape, Samples::F32(out), valid)
}

#[cfg(test)]
mod tests;
