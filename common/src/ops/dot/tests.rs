//! Every form against numpy, the mask rule, metadata and refusals.

use super::*;
use crate::block::ArrayShape;
use crate::grid::Window;
use crate::ops::Cancelled;
use crate::ops::testing::bind;

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
    dot(&BlockCall {
        cancelled: Cancelled::by(&|| false),
        window,
        input_window: window,
        params: &[],
        inputs: &[a, b],
        facts,
    })
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
    assert_eq!(properties((stack(2, 2), &images), (array(&[2]), &none)), [dict(std::slice::from_ref(&pad))]);
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
