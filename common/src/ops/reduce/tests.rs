use std::sync::Arc;

use super::*;
use crate::block::Samples;
use crate::grid::{Crs, Grid, Lattice, Window};
use crate::ops::{Cancelled, Values, find};
use crate::transform::ByText;

mod over_pixels;

const NAN: f32 = f32::NAN;

fn literals(axis: &str, q: Option<f64>) -> Vec<Literal> {
    std::iter::once(Literal::Str(axis.into())).chain(q.map(Literal::Float)).collect()
}

/// The reduction of a block, as the interpreter runs it.
fn reduce(name: &str, params: &[Literal], block: &Block) -> Block {
    let op = find(name).unwrap();
    let input = Facts { kind: block.kind(), dtype: block.samples().dtype() };
    let facts = op.infer(params, &[input]).unwrap();
    match op.kernel(params, &[input]) {
        Kernel::Fold(kernel) => {
            let len = facts.kind.planes() * block.pixels();
            let mut fold = (kernel.start)(params, input.dtype, len);
            for image in 0..block.kind().images().unwrap() as usize {
                let range = image * len..(image + 1) * len;
                let values = match block.samples() {
                    Samples::F32(values) => Values::F32(&values[range.clone()]),
                    Samples::Bool(values) => Values::Bool(&values[range.clone()]),
                };
                fold.add(values, &block.valid()[range]);
            }
            let (samples, valid) = fold.finish();
            assert_eq!(samples.dtype(), facts.dtype, "{name}");
            Block::new(facts.kind, block.shape(), samples, valid)
        }
        Kernel::PerBand(kernel) | Kernel::Block(kernel) => {
            let window = Window { row: 0, col: 0, rows: block.shape().0, cols: block.shape().1 };
            kernel(&BlockCall {
                cancelled: Cancelled::by(&|| false),
                window,
                input_window: window,
                params,
                inputs: &[block],
                facts,
            })
        }
        other => panic!("{name}: {other:?}"),
    }
}

/// A stack of one band and one pixel, an image for each entry.
fn stack(entries: &[Option<f32>]) -> Block {
    let kind = Kind::Stack { images: entries.len() as u32, bands: 1 };
    let samples = Samples::F32(entries.iter().map(|entry| entry.unwrap_or(7777.0)).collect());
    Block::new(kind, (1, 1), samples, entries.iter().map(|entry| u8::from(entry.is_some())).collect())
}

/// The same of truth values.
fn truths(entries: &[Option<bool>]) -> Block {
    let kind = Kind::Stack { images: entries.len() as u32, bands: 1 };
    let samples = Samples::Bool(entries.iter().map(|entry| u8::from(entry.unwrap_or(true))).collect());
    Block::new(kind, (1, 1), samples, entries.iter().map(|entry| u8::from(entry.is_some())).collect())
}

/// The entries of a stack as the bands of one mosaic.
fn as_bands(block: &Block) -> Block {
    let (samples, valid) = block.clone().into_parts();
    Block::new(Kind::Mosaic { bands: valid.len() as u32 }, (1, 1), samples, valid)
}

/// The only value of a reduction over images, which is also that over bands.
fn only(name: &str, block: &Block) -> Option<f32> {
    only_with(name, None, block)
}

/// Values as numbers; `None` where they are invalid.
fn entries_of(block: &Block) -> Vec<Option<f32>> {
    let number = |at: usize| match block.samples() {
        Samples::F32(values) => values[at],
        Samples::Bool(values) => f32::from(values[at]),
    };
    (0..block.valid().len()).map(|at| (block.valid()[at] != 0).then(|| number(at))).collect()
}

fn only_with(name: &str, q: Option<f64>, block: &Block) -> Option<f32> {
    let images = entries_of(&reduce(name, &literals("images", q), block))[0];
    let bands = entries_of(&reduce(name, &literals("bands", q), &as_bands(block)))[0];
    assert_eq!(images.map(f32::to_bits), bands.map(f32::to_bits), "{name}: images and bands differ");
    images
}

#[test]
fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
    let entries = stack(&[Some(9.0), None, Some(1.0), Some(2.0), Some(4.0)]);
    assert_eq!(only("median", &entries), Some(3.0));
    assert_eq!(only_with("percentile", Some(50.0), &entries), Some(3.0));
    // numpy.percentile([1, 2, 4, 9], 90) == 7.5
    assert_eq!(only_with("percentile", Some(90.0), &entries), Some(7.5));
    assert_eq!(only("median", &truths(&[Some(true), Some(false)])), Some(0.5));
}

#[test]
fn argmax_takes_the_first_of_ties_and_the_first_nan() {
    assert_eq!(only("argmax", &stack(&[Some(1.0), Some(3.0), Some(3.0)])), Some(1.0));
    assert_eq!(only("argmin", &stack(&[Some(2.0), Some(1.0), Some(1.0)])), Some(1.0));
    assert_eq!(only("argmax", &stack(&[Some(5.0), Some(NAN), Some(9.0), Some(NAN)])), Some(1.0));
    assert_eq!(only("argmin", &stack(&[Some(5.0), Some(NAN), Some(-9.0)])), Some(1.0));
    assert_eq!(only("argmax", &stack(&[Some(0.0), Some(-0.0)])), Some(0.0));
    assert_eq!(only("argmin", &stack(&[Some(0.0), Some(-0.0)])), Some(0.0));
    // What is invalid keeps its place and never wins.
    assert_eq!(only("argmax", &stack(&[None, Some(-2.0), None])), Some(1.0));
    assert_eq!(only("argmax", &stack(&[None, None])), Some(0.0));
    assert_eq!(only("argmin", &stack(&[None])), Some(0.0));
}

#[test]
fn a_valid_nan_wins_and_what_is_under_the_mask_never_shows() {
    let entries = stack(&[Some(1.0), Some(NAN), Some(3.0)]);
    for name in ["max", "min", "median", "sum", "ptp"] {
        assert!(only(name, &entries).is_some_and(f32::is_nan), "{name}");
    }
    // numpy.ma divides, and a division hides what is not finite.
    for name in ["mean", "var", "std"] {
        assert_eq!(only(name, &entries), None, "{name}");
    }
    let kind = Kind::Stack { images: 3, bands: 1 };
    let hidden = Block::new(kind, (1, 1), Samples::F32(vec![NAN, 2.0, f32::INFINITY]), vec![0, 1, 0]);
    for (name, expected) in [
        ("max", 2.0),
        ("min", 2.0),
        ("mean", 2.0),
        ("median", 2.0),
        ("sum", 2.0),
        ("std", 0.0),
        ("argmax", 1.0),
        ("argmin", 1.0),
        ("count", 1.0),
        ("any", 1.0),
        ("all", 1.0),
        ("first", 2.0),
        ("last", 2.0),
        ("var", 0.0),
        ("ptp", 0.0),
    ] {
        assert_eq!(only(name, &hidden), Some(expected), "{name}");
    }
}

#[test]
fn one_value_has_no_spread() {
    for value in [0.1, -3e38, 1e-45, 16777216.0] {
        assert_eq!(only("std", &stack(&[None, Some(value)])), Some(0.0), "{value}");
        assert_eq!(only("var", &stack(&[Some(value), None, Some(value)])), Some(0.0), "{value}");
    }
    // numpy.var([1, 2, 4]) is 14 / 9.
    assert_eq!(only("var", &stack(&[Some(1.0), Some(2.0), Some(4.0)])), Some((14.0 / 9.0f64) as f32));
    assert_eq!(only("std", &stack(&[Some(1.0), Some(2.0), Some(4.0)])), Some((14.0f64 / 9.0).sqrt() as f32));
    // The variance leaves float32, its root does not.
    let wide = stack(&[Some(-3e38), Some(3e38)]);
    assert_eq!((only("var", &wide), only("std", &wide)), (None, Some(3e38)));
    assert_eq!(only("var", &stack(&[Some(f32::INFINITY)])), None);
}

#[test]
fn sums_survive_cancellation_and_overflow_to_infinity() {
    let entries = stack(&[Some(1e30), Some(1.5), Some(-1e30), Some(1e-3)]);
    assert_eq!(only("sum", &entries), Some(1.501));
    assert_eq!(only("mean", &entries), Some((1.501f64 / 4.0) as f32));
    let most = Some(f32::MAX);
    assert_eq!(only("sum", &stack(&[most, most])), Some(f32::INFINITY));
    assert_eq!(only("mean", &stack(&[most, most])), most);
    assert_eq!(only("sum", &stack(&[Some(f32::INFINITY), Some(1.0)])), Some(f32::INFINITY));
    assert!(only("sum", &stack(&[Some(f32::INFINITY), Some(f32::NEG_INFINITY)])).is_some_and(f32::is_nan));
}

#[test]
fn truth_values_count_in_sums_and_stay_truth_values_in_extremes() {
    let entries = truths(&[Some(true), None, Some(false), Some(true)]);
    for (name, expected) in [
        ("sum", 2.0),
        ("count", 3.0),
        ("mean", 2.0 / 3.0),
        ("median", 1.0),
        ("argmin", 2.0),
        ("first", 1.0),
        ("last", 1.0),
        ("max", 1.0),
        ("min", 0.0),
        ("any", 1.0),
        ("all", 0.0),
        ("var", 2.0 / 9.0),
    ] {
        assert_eq!(only(name, &entries), Some(expected), "{name}");
    }
    for name in ["max", "min", "first", "last", "any", "all"] {
        assert_eq!(
            reduce(name, &literals("images", None), &entries).samples().dtype(),
            DType::Bool,
            "{name}"
        );
    }
    let ptp = find("ptp").unwrap().infer(&literals("images", None), &[facts(&entries)]);
    assert!(matches!(ptp, Err(TypeError::BoolArithmetic { op: "ptp", .. })), "{ptp:?}");
    // NaN is true, as in Python.
    assert_eq!(only("all", &stack(&[Some(NAN), Some(0.5)])), Some(1.0));
    assert_eq!(only("any", &stack(&[Some(0.0), Some(-0.0)])), Some(0.0));
}

fn facts(block: &Block) -> Facts {
    Facts { kind: block.kind(), dtype: block.samples().dtype() }
}

fn q_of(name: &str) -> Option<f64> {
    (name == "percentile").then_some(30.0)
}

#[test]
fn nothing_valid_is_invalid_but_for_counts_and_positions() {
    for op in OPS {
        let expected = matches!(op.name(), "count" | "argmax" | "argmin").then_some(0.0);
        assert_eq!(only_with(op.name(), q_of(op.name()), &stack(&[None, None])), expected, "{}", op.name());
    }
}

#[test]
fn an_empty_stack_reduces_along_every_axis() {
    let empty = Block::invalid(Kind::Stack { images: 0, bands: 3 }, DType::F32, (2, 2));
    for op in OPS {
        let images = reduce(op.name(), &literals("images", q_of(op.name())), &empty);
        assert_eq!(images.kind(), Kind::Mosaic { bands: 3 }, "{}", op.name());
        let is_valid = op.name() == "count";
        assert!(images.valid().iter().all(|ok| (*ok != 0) == is_valid), "{}", op.name());
        let bands = reduce(op.name(), &literals("bands", q_of(op.name())), &empty);
        assert_eq!((bands.kind(), bands.shape()), (Kind::Stack { images: 0, bands: 1 }, (2, 2)));
    }
}

/// Bands of a stack are reduced image by image, and a strip's edge shows nowhere.
#[test]
fn over_bands_equals_over_images_of_the_same_entries() {
    let (images, bands, shape) = (3usize, 5usize, (70u32, 90u32));
    let pixels = (shape.0 * shape.1) as usize;
    let value = |at: usize| ((at.wrapping_mul(2654435761) >> 7) % 23) as f32 - 11.0;
    let samples: Vec<f32> = (0..images * bands * pixels).map(value).collect();
    let valid: Vec<u8> = (0..samples.len()).map(|at| u8::from(value(at * 31 + 5) < 7.0)).collect();
    let kind = Kind::Stack { images: images as u32, bands: bands as u32 };
    let block = Block::new(kind, shape, Samples::F32(samples.clone()), valid.clone());
    for op in OPS {
        let params = |axis| literals(axis, q_of(op.name()));
        let whole = reduce(op.name(), &params("bands"), &block);
        for image in 0..images {
            let range = image * bands * pixels..(image + 1) * bands * pixels;
            let kind = Kind::Stack { images: bands as u32, bands: 1 };
            let one =
                Block::new(kind, shape, Samples::F32(samples[range.clone()].to_vec()), valid[range].to_vec());
            let one = reduce(op.name(), &params("images"), &one);
            let place = image * pixels..(image + 1) * pixels;
            assert_eq!(&whole.valid()[place.clone()], one.valid(), "{}", op.name());
            let same = match (whole.samples(), one.samples()) {
                (Samples::F32(a), Samples::F32(b)) => a[place] == b[..],
                (Samples::Bool(a), Samples::Bool(b)) => a[place] == b[..],
                _ => false,
            };
            assert!(same, "{}", op.name());
        }
    }
}

#[test]
fn wrong_axes_and_percentages_are_static_errors() {
    let stack = Facts { kind: Kind::Stack { images: 2, bands: 3 }, dtype: DType::F32 };
    let mosaic = Facts { kind: Kind::Mosaic { bands: 3 }, dtype: DType::F32 };
    let infer = |name: &str, axis: &str, q, facts| find(name).unwrap().infer(&literals(axis, q), &[facts]);
    assert!(matches!(infer("max", "images", None, mosaic), Err(TypeError::NoAxis { kind: "Mosaic", .. })));
    assert!(matches!(infer("max", "rows", None, stack), Err(TypeError::Argument { .. })));
    assert!(matches!(infer("max", "bands", Some(1.0), stack), Err(TypeError::Argument { .. })));
    for q in [None, Some(-1.0), Some(100.5), Some(f64::NAN)] {
        assert!(infer("percentile", "bands", q, stack).is_err(), "{q:?}");
    }
    for name in ["argmax", "argmin", "first", "last"] {
        let error = infer(name, "pixels", None, stack).unwrap_err().to_string();
        assert!(error.contains("pixels have no order"), "{error}");
    }
}

fn bind(name: &str, facts: Facts, props: &Props, rest: &[Literal]) -> Result<Bound, TypeError> {
    let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32633"), (10.0, 10.0), (0.0, 0.0)).unwrap();
    let grid = Grid::from_window(lattice, Window { row: 0, col: 0, rows: 2, cols: 2 });
    let (answers, images) = Default::default();
    let cx = BindCx { grid: &grid, transform: &ByText, answers: &answers, images: &images };
    let args: Vec<Arg<'_>> =
        std::iter::once(Arg::Raster(facts, props)).chain(rest.iter().map(Arg::Literal)).collect();
    find(name).unwrap().bind(&cx, &args)
}

fn text(text: &str) -> Literal {
    Literal::Str(text.into())
}

/// protocol.md section 5.
#[test]
fn properties_follow_the_axis() {
    let image = |id: &str| {
        let entries =
            [("id", id.into()), ("bands", serde_json::json!(["a", "b"])), ("product_id", "p".into())];
        Arc::new(entries.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Properties>())
    };
    let props = Props::many(vec![image("s1"), image("s2")]);
    let stack = Facts { kind: Kind::Stack { images: 2, bands: 2 }, dtype: DType::F32 };
    let of = |axis: &str, props: &Props| match bind("max", stack, props, &[text(axis), Literal::Null]) {
        Ok(Bound::Call { props, params, .. }) => {
            assert_eq!(params, [text(axis)]);
            props
        }
        other => panic!("{other:?}"),
    };
    let json = |props: &Props| serde_json::json!(props.dicts().collect::<Vec<_>>());
    let images = of("images", &props);
    assert_eq!(images.images(), None);
    assert_eq!(json(&images), serde_json::json!([{"bands": ["a", "b"], "pad": 0, "product_id": "p"}]));
    let bands = of("bands", &props);
    assert_eq!((bands.images(), bands.bands()), (Some(2), None));
    assert_eq!(json(&bands)[1], serde_json::json!({"id": "s2", "product_id": "p"}));
    assert_eq!(of("pixels", &props), props);
    let none = Props::many(vec![]);
    assert_eq!(json(&of("images", &none)), serde_json::json!([{}]));
    assert_eq!(of("bands", &none).images(), Some(0));
}

#[test]
fn the_kind_must_be_that_of_the_value() {
    let mosaic = Facts { kind: Kind::Mosaic { bands: 2 }, dtype: DType::F32 };
    let bind = |name: &str, rest: &[Literal]| bind(name, mosaic, &Props::none(), rest);
    assert!(bind("sum", &[text("bands"), text("Mosaic")]).is_ok());
    let said = bind("sum", &[text("bands"), text("ImageStack")]);
    assert!(matches!(said, Err(TypeError::KindMismatch { is: "Mosaic", .. })), "{said:?}");
    let axis = bind("sum", &[text("rows"), Literal::Null]);
    assert!(matches!(axis, Err(TypeError::Value { name: "axis", .. })), "{axis:?}");
    // Whole and fractional percentages are the same constant.
    for q in [Literal::Int(50), Literal::Float(50.0)] {
        match bind("percentile", &[text("bands"), q, text("Mosaic")]) {
            Ok(Bound::Call { params, .. }) => assert_eq!(params, [text("bands"), Literal::Float(50.0)]),
            other => panic!("{other:?}"),
        }
    }
    for q in [Literal::Null, Literal::Bool(true), Literal::Int(101), text("50")] {
        let error = bind("percentile", &[text("bands"), q.clone(), Literal::Null]).unwrap_err();
        assert!(matches!(error, TypeError::Value { name: "q", .. }), "{q}: {error}");
    }
}

#[test]
fn both_spellings_are_one_computation_and_unknown_reducers_are_listed() {
    let resolve = |call: serde_json::Value| {
        let graft = serde_json::json!({
            "product": "p", "bands": "a", "axis": "bands", "kind": "Mosaic", "q": 30, "none": null,
            "r1": "max", "r2": "percentile", "r3": "mode", "m": ["mosaic", "product", "bands"],
            "x": call, "returns": "x",
        });
        crate::graft::resolve(graft.to_string().as_bytes(), &Default::default()).map(|expr| expr.hash())
    };
    let same =
        |a: serde_json::Value, b: serde_json::Value| assert_eq!(resolve(a).unwrap(), resolve(b).unwrap());
    same(
        serde_json::json!(["reduction", "m", "r1", "axis", "kind"]),
        serde_json::json!(["max", "m", "axis", "kind"]),
    );
    same(
        serde_json::json!(["reduction", "m", "r2", "axis", "kind", {"q": "q"}]),
        serde_json::json!(["percentile", "m", "axis", "q", "kind"]),
    );
    let error = resolve(serde_json::json!(["reduction", "m", "r3", "axis", "kind"])).unwrap_err().to_string();
    assert!(
        error.contains("`mode`") && error.contains("max min mean median") && error.contains("percentile")
    );
    let error = resolve(serde_json::json!(["reduction", "m", "r1", "axis", "kind", {"q": "q"}])).unwrap_err();
    assert!(error.to_string().contains("takes no `q`"), "{error}");
    for op in OPS {
        let example = op.example().to_string();
        assert!(crate::graft::resolve(example.as_bytes(), &Default::default()).is_ok(), "{example}");
    }
}
