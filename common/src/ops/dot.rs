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
        Arg::Literal(_) | Arg::Scenes(_) => {
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
mod tests {
    use super::super::testing::bind;
    use super::*;
    use crate::block::ArrayShape;
    use crate::grid::Window;

    fn array(axes: &[u32]) -> Kind {
        Kind::Array(ArrayShape::new(axes, false).unwrap())
    }

    const fn mosaic(bands: u32) -> Kind {
        Kind::Mosaic { bands }
    }

    const fn stack(images: u32, bands: u32) -> Kind {
        Kind::Stack { images, bands }
    }

    /// Pixels of 2 columns for rasters, all valid.
    fn block(kind: Kind, values: &[f32]) -> Block {
        let shape = if kind.is_raster() { (1, 2) } else { (1, 1) };
        Block::new(kind, shape, Samples::F32(values.to_vec()), vec![1; values.len()])
    }

    fn product(a: &Block, b: &Block) -> Block {
        let window = Window { row: 0, col: 0, rows: 1, cols: 2 };
        let facts = |block: &Block| Facts { kind: block.kind(), dtype: block.samples().dtype() };
        let facts = Dot.infer(&[], &[facts(a), facts(b)]).unwrap();
        dot(&BlockCall { window, input_window: window, params: &[], inputs: &[a, b], facts })
    }

    fn numbers(block: &Block) -> &[f32] {
        match block.samples() {
            Samples::F32(values) => values,
            Samples::Bool(_) => panic!("bool"),
        }
    }

    #[test]
    fn every_form_multiplies_as_einsum_does() {
        // numpy.einsum of arange + 1 in these shapes, with rows and columns 1 and 2.
        let count = |kind: Kind| -> Block {
            let len = kind.planes() * if kind.is_raster() { 2 } else { 1 };
            block(kind, &(1..=len).map(|value| value as f32).collect::<Vec<_>>())
        };
        let cases: &[(Kind, Kind, Kind, &[f32])] = &[
            (mosaic(2), mosaic(2), mosaic(1), &[10.0, 20.0]),
            (mosaic(2), array(&[2]), mosaic(1), &[7.0, 10.0]),
            (array(&[2]), mosaic(2), mosaic(1), &[7.0, 10.0]),
            (mosaic(2), array(&[2, 3]), mosaic(3), &[13.0, 18.0, 17.0, 24.0, 21.0, 30.0]),
            (array(&[3, 2]), mosaic(2), mosaic(3), &[7.0, 10.0, 15.0, 22.0, 23.0, 34.0]),
            (stack(2, 2), stack(2, 2), mosaic(2), &[26.0, 40.0, 58.0, 80.0]),
            (stack(2, 2), array(&[2]), mosaic(2), &[11.0, 14.0, 17.0, 20.0]),
            (array(&[2]), stack(2, 2), mosaic(2), &[11.0, 14.0, 17.0, 20.0]),
            (stack(2, 2), array(&[2, 1]), stack(1, 2), &[11.0, 14.0, 17.0, 20.0]),
            (
                stack(2, 2),
                array(&[2, 3]),
                stack(3, 2),
                &[21.0, 26.0, 31.0, 36.0, 27.0, 34.0, 41.0, 48.0, 33.0, 42.0, 51.0, 60.0],
            ),
            (
                array(&[3, 2]),
                stack(2, 2),
                stack(3, 2),
                &[11.0, 14.0, 17.0, 20.0, 23.0, 30.0, 37.0, 44.0, 35.0, 46.0, 57.0, 68.0],
            ),
            (stack(0, 2), array(&[0]), mosaic(2), &[0.0; 4]),
        ];
        for (a, b, kind, expected) in cases {
            let is = product(&count(*a), &count(*b));
            assert_eq!((is.kind(), numbers(&is)), (*kind, *expected), "{a} . {b}");
        }
    }

    #[test]
    fn any_masked_entry_that_contributes_masks_the_result() {
        let mut valid = vec![1u8; 4];
        valid[3] = 0;
        // The second pixel of the second band; its factor is 0.
        let hole = Block::new(mosaic(2), (1, 2), Samples::F32(vec![1.0; 4]), valid);
        let vector = block(array(&[2]), &[1.0, 0.0]);
        assert_eq!(product(&hole, &vector).valid(), [1, 0]);
        assert_eq!(product(&vector, &hole).valid(), [1, 0]);
        let whole = block(mosaic(2), &[1.0; 4]);
        assert_eq!(product(&whole, &hole).valid(), [1, 0]);
        // A masked entry of a matrix hides the bands that it contributes to, everywhere.
        let matrix = Block::new(array(&[2, 2]), (1, 1), Samples::F32(vec![1.0; 4]), vec![1, 0, 1, 1]);
        assert_eq!(product(&whole, &matrix).valid(), [1, 1, 0, 0]);
        assert_eq!(product(&matrix, &whole).valid(), [0, 0, 1, 1]);
    }

    #[test]
    fn sums_are_taken_in_double_precision_and_overflow_stays_valid() {
        let a = block(mosaic(3), &[16_777_216.0, 1e38, 1.0, 1e38, -16_777_216.0, 1e38]);
        let b = block(array(&[3]), &[1.0, 1.0, 1.0]);
        let big = block(array(&[3]), &[4.0, 4.0, 4.0]);
        assert_eq!(numbers(&product(&a, &b))[0], 1.0);
        let sum = product(&a, &big);
        assert_eq!((numbers(&sum)[1], sum.valid()[1]), (f32::INFINITY, 1));
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_read() {
        for (a, b, left, right) in [
            (mosaic(2), mosaic(3), 2, 3),
            (mosaic(1), mosaic(3), 1, 3),
            (mosaic(3), array(&[2]), 3, 2),
            (array(&[2, 3]), mosaic(2), 3, 2),
            (mosaic(2), array(&[3, 2]), 2, 3),
            (stack(4, 3), array(&[3]), 4, 3),
            (stack(4, 1), stack(1, 1), 4, 1),
        ] {
            assert_eq!(form(a, b).unwrap_err(), TypeError::DotLength { left, right }, "{a} . {b}");
        }
        assert_eq!(form(stack(4, 1), stack(4, 2)).unwrap_err(), TypeError::BandCount { left: 1, right: 2 });
        for (a, b) in [
            (stack(2, 2), mosaic(2)),
            (mosaic(2), stack(2, 2)),
            (array(&[2]), array(&[2])),
            (mosaic(2), array(&[])),
            (mosaic(2), array(&[2, 2, 2])),
        ] {
            assert!(matches!(form(a, b), Err(TypeError::Argument { .. })), "{a} . {b}");
        }
        let limit = BANDS_MAX + 1;
        assert!(matches!(form(mosaic(1), array(&[1, limit])), Err(TypeError::TooManyBands { .. })));
    }

    fn dict(entries: &[(&str, serde_json::Value)]) -> Properties {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn properties(a: (Kind, &Props), b: (Kind, &Props)) -> Vec<Properties> {
        let arg = |(kind, props)| Arg::Raster(Facts { kind, dtype: DType::F32 }, props);
        let null = Literal::Null;
        match bind("dot", &[arg(a), arg(b), Arg::Literal(&null), Arg::Literal(&null)]).unwrap() {
            Bound::Call { props, .. } => props.dicts().collect(),
            bound => panic!("{bound:?}"),
        }
    }

    #[test]
    fn metadata_is_that_of_the_table() {
        let of = |id: &str, bands: &[&str]| {
            dict(&[("product_id", id.into()), ("bands", bands.into()), ("pad", 2.into()), ("id", "x".into())])
        };
        let (p, q) = (Props::one(of("p", &["a", "b"])), Props::one(of("q", &["a", "c"])));
        let none = Props::none();
        let pad = ("pad", serde_json::json!(2));
        assert_eq!(
            properties((mosaic(2), &p), (mosaic(2), &q)),
            [dict(&[("product_id", "p".into()), ("other_product_id", "q".into()), pad.clone()])]
        );
        let alone = [dict(&[("product_id", "p".into()), pad.clone()])];
        assert_eq!(properties((mosaic(2), &p), (mosaic(2), &p)), alone);
        assert_eq!(properties((mosaic(2), &p), (array(&[2]), &none)), alone);
        assert_eq!(properties((array(&[3, 2]), &none), (mosaic(2), &p)), alone);

        let mut second = of("p", &["a", "b"]);
        second.insert("id".to_owned(), "y".into());
        let images = Props::many(vec![of("p", &["a", "b"]).into(), second.into()]);
        let others = Props::many(vec![of("q", &["a", "c"]).into(); 2]);
        let bands = |names: &[&str]| ("bands", names.into());
        assert_eq!(
            properties((stack(2, 2), &images), (stack(2, 2), &others)),
            [dict(&[
                ("product_id", "p".into()),
                ("other_product_ids", ["q"].as_slice().into()),
                bands(&["a_dot_a", "b_dot_c"]),
                pad.clone()
            ])]
        );
        assert_eq!(
            properties((stack(2, 2), &images), (stack(2, 2), &images)),
            [dict(&[("product_id", "p".into()), bands(&["a", "b"]), pad.clone()])]
        );
        assert_eq!(properties((stack(2, 2), &images), (array(&[2]), &none)), [dict(&[pad.clone()])]);
        // What all input images have alike; their ids differ.
        let alike = dict(&[("product_id", "p".into()), bands(&["a", "b"]), pad]);
        assert_eq!(properties((stack(2, 2), &images), (array(&[2, 3]), &none)), vec![alike.clone(); 3]);
        assert_eq!(properties((array(&[1, 2]), &none), (stack(2, 2), &images)), [alike]);
    }

    #[test]
    fn kinds_that_are_given_must_be_those_of_the_operands() {
        let props = Props::none();
        let raster = |kind| Arg::Raster(Facts { kind, dtype: DType::F32 }, &props);
        let call = |a: &str, b: &str| {
            let (a, b) = (Literal::Str(a.into()), Literal::Str(b.into()));
            let args = [raster(mosaic(2)), raster(array(&[2])), Arg::Literal(&a), Arg::Literal(&b)];
            bind("dot", &args).map(|_| ())
        };
        assert_eq!(call("Mosaic", "ndarray"), Ok(()));
        for (a, b, is) in [("ImageStack", "ndarray", "Mosaic"), ("Mosaic", "Mosaic", "ndarray")] {
            assert!(matches!(call(a, b), Err(TypeError::KindMismatch { is: kind, .. }) if kind == is));
        }
        let (number, null) = (Literal::Int(2), Literal::Null);
        let args = [raster(mosaic(2)), Arg::Literal(&number), Arg::Literal(&null), Arg::Literal(&null)];
        assert!(matches!(bind("dot", &args), Err(TypeError::Argument { name: "b", .. })));
    }
}
