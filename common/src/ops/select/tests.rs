//! What numpy does at the edges of choosing and of bits.

use super::*;
use crate::block::Samples;
use crate::ops::testing::{bind, evaluate, number, pixels, vector};
use crate::ops::{Bound, Props};
use Literal::{Bool, Float, Int, List};

/// The constants that a kernel gets for those of a graft.
fn params(name: &str, constants: &[Literal]) -> Result<Vec<Literal>, TypeError> {
    let facts = Facts { kind: Kind::Mosaic { bands: 1 }, dtype: DType::F32 };
    let props = Props::none();
    let raster = Arg::Raster(facts, &props);
    let args: Vec<Arg<'_>> = std::iter::once(raster).chain(constants.iter().map(Arg::Literal)).collect();
    match bind(name, &args)? {
        Bound::Call { params, .. } => Ok(params),
        bound => panic!("{bound:?}"),
    }
}

fn on(name: &str, constants: &[Literal], values: &[f32]) -> (Vec<f32>, Vec<u8>) {
    pixels(name, &params(name, constants).unwrap(), &[values])
}

#[test]
fn filled_leaves_nothing_invalid_and_keeps_the_type() {
    let holes = vector(Samples::F32(vec![1.0, 7.0, f32::NAN]), &[1, 0, 1]);
    let (samples, valid) = evaluate("filled", &params("filled", &[Int(-1)]).unwrap(), &[holes]).into_parts();
    let Samples::F32(values) = samples else { panic!("bool") };
    assert_eq!((&values[..2], values[2].is_nan(), valid), (&[1.0, -1.0][..], true, vec![1, 1, 1]));
}

#[test]
fn filled_casts_its_value_to_bool() {
    // numpy.ma.array([True, False], mask=[False, True]).filled(1e-50): what is not 0 is true, though
    // single precision has no such number.
    for (value, expected) in [(Float(1e-50), 1), (Int(0), 0), (Bool(true), 1), (Int(-3), 1)] {
        let holes = vector(Samples::Bool(vec![1, 0]), &[1, 0]);
        let params = params("filled", std::slice::from_ref(&value)).unwrap();
        let block = evaluate("filled", &params, &[holes]);
        assert_eq!(block.samples(), &Samples::Bool(vec![1, expected]), "{value}");
        assert_eq!(block.valid(), [1, 1]);
    }
}

#[test]
fn clip_keeps_nan_and_wants_bounds_in_order() {
    let (values, valid) = on("clip", &[Int(0), Float(2.5)], &[-1.0, 1.0, 3.0, f32::INFINITY, f32::NAN]);
    assert_eq!(values[..4], [0.0, 1.0, 2.5, 2.5]);
    assert!(values[4].is_nan());
    assert_eq!(valid, [1; 5]);
    for (lo, hi) in [(1, 1), (2, 1)] {
        let error = params("clip", &[Int(lo), Int(hi)]).unwrap_err();
        assert!(matches!(error, TypeError::Value { name: "lo", .. }), "{error}");
    }
    assert_eq!(number("clip", &[Int(5), Int(0), Int(3)]), Some(Float(3.0)));
    assert_eq!(number("clip", &[Int(2), Int(0), Int(3)]), Some(Int(2)));
}

#[test]
fn clip_counts_truth_values_as_numbers() {
    let bools = vector(Samples::Bool(vec![1, 0]), &[1, 1]);
    let block = evaluate("clip", &params("clip", &[Float(0.25), Float(0.5)]).unwrap(), &[bools]);
    assert_eq!(block.samples(), &Samples::F32(vec![0.5, 0.25]));
}

#[test]
fn isin_of_nan_is_false_and_valid() {
    let few = [List(vec![Int(1), Float(0.1), Float(-0.0)])];
    let many = [List((0..40).map(Int).chain([Float(0.1)]).collect())];
    for values in [few, many] {
        let (is_in, valid) = on("isin", &values, &[0.1, 1.0, 0.5, f32::NAN, -0.0, f32::INFINITY]);
        assert_eq!(is_in, [1.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(valid, [1; 6]);
    }
    assert_eq!(on("isin", &[List(vec![])], &[0.0]).0, [0.0]);
    assert!(params("isin", &[Int(1)]).is_err());
    assert!(params("isin", &[List(vec![Literal::Str("1".into())])]).is_err());
    assert_eq!(number("isin", &[Int(1), List(vec![Float(1.0)])]), Some(Bool(true)));
}

#[test]
fn bits_are_those_of_whole_numbers_below_2_to_the_32() {
    // 2^24 + 2 and 2^32 - 256 are floats, 2^24 + 1 and 2^32 - 1 are not.
    let values = [5.0, 16_777_218.0, 4_294_967_040.0, 4_294_967_296.0, -1.0, 0.5, f32::NAN, f32::INFINITY];
    let valid = [1, 1, 1, 0, 0, 0, 0, 0];
    let (set, ok) = on("bit", &[Int(1)], &values);
    assert_eq!((&set[..3], ok), (&[0.0, 1.0, 0.0][..], valid.to_vec()));
    let (levels, ok) = on("bits", &[Int(1), Int(2)], &values);
    assert_eq!((&levels[..3], ok), (&[2.0, 1.0, 0.0][..], valid.to_vec()));
    assert_eq!(on("bits", &[Int(0), Int(32)], &values).0[..3], values[..3]);
    assert_eq!(on("bit", &[Int(31)], &values).0[..3], [0.0, 0.0, 1.0]);
    assert_eq!(on("bits", &[Int(31), Int(1)], &values).0[..3], [0.0, 0.0, 1.0]);
    assert_eq!(on("bit", &[Int(0)], &[-0.0]), (vec![0.0], vec![1]));
}

#[test]
fn positions_of_bits_are_checked() {
    assert!(params("bit", &[Int(32)]).is_err());
    assert!(params("bit", &[Float(1.0)]).is_err());
    assert!(params("bits", &[Int(31), Int(2)]).is_err());
    assert!(params("bits", &[Int(0), Int(0)]).is_err());
    assert_eq!(number("bit", &[Int(6), Int(1)]), Some(Bool(true)));
    assert_eq!(number("bits", &[Int(0b1101), Int(2), Int(2)]), Some(Int(3)));
    assert_eq!(number("bit", &[Float(0.5), Int(1)]), None);
    assert_eq!(number("bit", &[Int(1 << 32), Int(1)]), None);
}

#[test]
fn where_with_a_masked_condition_is_masked() {
    let condition = vector(Samples::Bool(vec![1, 0, 1, 0, 1]), &[1, 1, 0, 1, 1]);
    let a = vector(Samples::F32(vec![1.0; 5]), &[1, 0, 1, 1, 0]);
    let b = vector(Samples::F32(vec![2.0; 5]), &[0, 1, 1, 0, 1]);
    let (samples, valid) = evaluate("where", &[], &[condition, a, b]).into_parts();
    assert_eq!(valid, [1, 1, 0, 0, 0]);
    let Samples::F32(values) = samples else { panic!("bool") };
    assert_eq!(values[..2], [1.0, 2.0]);
}

#[test]
fn where_is_bool_only_if_both_are() {
    let infer = |a, b, condition| {
        let facts = |dtype| Facts { kind: Kind::Mosaic { bands: 1 }, dtype };
        Where.infer(&[], &[facts(condition), facts(a), facts(b)]).map(|facts| facts.dtype)
    };
    assert_eq!(infer(DType::Bool, DType::Bool, DType::Bool), Ok(DType::Bool));
    assert_eq!(infer(DType::Bool, DType::F32, DType::Bool), Ok(DType::F32));
    assert!(infer(DType::F32, DType::F32, DType::F32).is_err());
    let (c, a, b) = (vec![1, 0], Samples::Bool(vec![1, 1]), Samples::F32(vec![5.0, 6.0]));
    let inputs = [vector(Samples::Bool(c), &[1, 1]), vector(a, &[1, 1]), vector(b, &[1, 1])];
    assert_eq!(evaluate("where", &[], &inputs).samples(), &Samples::F32(vec![1.0, 6.0]));
    assert_eq!(number("where", &[Bool(true), Bool(true), Int(2)]), Some(Int(1)));
    assert_eq!(number("where", &[Bool(false), Int(1), Float(2.5)]), Some(Float(2.5)));
}

#[test]
fn where_takes_names_and_images_from_what_it_chooses() {
    let props = |bands: &[&str], pad: i64| {
        Props::one([("bands".to_owned(), bands.into()), ("pad".to_owned(), pad.into())].into())
    };
    let bound = |condition: (u32, Props), a: (u32, Props), b: Literal| {
        let facts = |bands, dtype| Facts { kind: Kind::Mosaic { bands }, dtype };
        let condition = Arg::Raster(facts(condition.0, DType::Bool), &condition.1);
        let a = Arg::Raster(facts(a.0, DType::F32), &a.1);
        match bind("where", &[condition, a, Arg::Literal(&b)])? {
            Bound::Call { props, .. } => Ok((props.bands(), props.pad())),
            bound => panic!("{bound:?}"),
        }
    };
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let one = bound((1, props(&["cloud"], 2)), (1, props(&["red"], 0)), Int(0));
    assert_eq!(one, Ok((names(&["red"]), 2)));
    let two = bound((2, props(&["c", "d"], 0)), (1, props(&["red"], 0)), Int(0));
    assert_eq!(two, Ok((names(&["c", "d"]), 0)));
    let pads = bound((1, props(&["cloud"], 2)), (1, props(&["red"], 1)), Int(0));
    assert_eq!(pads, Err(TypeError::TwoPads { left: 1, right: 2 }));
}
