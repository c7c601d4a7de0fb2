//! Does the engine compute what numpy computes? `arrays/make.py` wrote the cases and the answers.

use std::ops::ControlFlow;

use graticule_common::block::{Block, Kind, Samples};
use graticule_common::grid::TileSize;
use graticule_common::ops::Props;
use graticule_common::plan::{Options, Outcome};
use graticule_tests::world::{World, json, npz};
use ndarray::ArrayD;
use serde_json::Value;

/// Every case with passes and whole, without passes and in small tiles.
fn ways() -> [Options; 3] {
    let all_off = ["pushdown", "fuse", "cache", "stream"].map(str::to_owned).to_vec();
    [
        Options { tile_size: TileSize::new(1024), ..Options::default() },
        Options { tile_size: TileSize::new(7), passes_off: all_off, ..Options::default() },
        Options { tile_size: TileSize::new(16), passes_off: vec!["fuse".into()], ..Options::default() },
    ]
}

#[test]
fn every_case_computes_what_numpy_computes() {
    let world = World::load();
    let mut expected = npz("golden/arrays/expected.npz");
    let cases = json("golden/arrays/cases.json");
    let cases = cases.as_array().expect("cases");
    assert!(cases.len() > 200, "the cases are there");
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let graft = case["graft"].to_string();
        for (way, options) in ways().iter().enumerate() {
            let mut check = |problem: String| wrong.push(format!("{name} (way {way}): {problem}"));
            match (world.plan(graft.as_bytes(), None, options), case["kind"].as_str()) {
                (Err(failure), _) => check(format!("{failure:?}")),
                (Ok(Outcome::Number(number)), Some("number")) => {
                    if number.as_f64() != case["number"].as_f64() {
                        check(format!("{number}, expected {}", case["number"]));
                    }
                }
                (Ok(Outcome::Raster { plan, props }), Some("mosaic" | "stack")) => {
                    let block = world.evaluate(&plan);
                    let problems =
                        [compare_properties(&props, case), compare_pixels(&block, case, &mut expected)];
                    problems.into_iter().filter_map(ControlFlow::break_value).for_each(&mut check);
                }
                (Ok(outcome), kind) => check(format!("is {outcome:?}, expected {kind:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} problems:\n{}", wrong.len(), wrong.join("\n"));
}

fn compare_properties(props: &Props, case: &Value) -> ControlFlow<String> {
    let ignored: Vec<&str> =
        case["ignore"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let clean = |value: &Value| {
        let mut value = value.clone();
        let dicts = match &mut value {
            Value::Array(list) => list.iter_mut().collect::<Vec<_>>(),
            dict => vec![dict],
        };
        for dict in dicts {
            ignored.iter().for_each(|name| drop(dict.as_object_mut().and_then(|dict| dict.remove(*name))));
        }
        value
    };
    let dicts: Vec<_> = props.dicts().collect();
    let is = match props.images() {
        Some(_) => serde_json::to_value(dicts),
        None => serde_json::to_value(&dicts[0]),
    };
    let (is, expected) = (clean(&is.expect("JSON")), clean(&case["properties"]));
    if is == expected {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(format!("properties {is}, expected {expected}"))
    }
}

fn compare_pixels(
    block: &Block,
    case: &Value,
    expected: &mut ndarray_npy::NpzReader<std::fs::File>,
) -> ControlFlow<String> {
    let name = case["name"].as_str().expect("a name");
    let mask: ArrayD<bool> = expected.by_name(&format!("{name}_mask")).expect("a mask");
    let (rows, cols) = block.shape();
    let shape: Vec<usize> = match block.kind() {
        Kind::Stack { images, bands } => vec![images, bands, rows, cols],
        Kind::Mosaic { bands } => vec![bands, rows, cols],
        Kind::Number | Kind::Array(_) => vec![],
    }
    .into_iter()
    .map(|n| n as usize)
    .collect();
    if shape != mask.shape() {
        return ControlFlow::Break(format!("shape {shape:?}, expected {:?}", mask.shape()));
    }
    let ulps = case["ulps"].as_i64().unwrap_or(0);
    let values: Vec<(f32, f32)> = match (block.samples(), case["dtype"].as_str()) {
        (Samples::F32(values), Some("float32")) => {
            let expected: ArrayD<f32> = expected.by_name(&format!("{name}_data")).expect("data");
            values.iter().copied().zip(expected).collect()
        }
        (Samples::Bool(values), Some("bool")) => {
            let expected: ArrayD<bool> = expected.by_name(&format!("{name}_data")).expect("data");
            values
                .iter()
                .map(|v| f32::from(*v))
                .zip(expected.into_iter().map(|v| f32::from(u8::from(v))))
                .collect()
        }
        (samples, dtype) => return ControlFlow::Break(format!("{:?}, expected {dtype:?}", samples.dtype())),
    };
    for (at, ((is, expected), (valid, hidden))) in
        values.iter().zip(block.valid().iter().zip(&mask)).enumerate()
    {
        if (*valid == 0) != *hidden {
            return ControlFlow::Break(format!(
                "value {at}: valid {valid}, numpy's mask {hidden}, {is} / {expected}"
            ));
        }
        if *valid == 1 && !is_close(*is, *expected, ulps) {
            return ControlFlow::Break(format!("value {at}: {is:?}, numpy has {expected:?}"));
        }
    }
    ControlFlow::Continue(())
}

fn is_close(a: f32, b: f32, ulps: i64) -> bool {
    // Floats as integers in the same order; neighbours differ by one.
    let order = |v: f32| {
        let bits = i64::from(v.to_bits() as i32);
        if bits < 0 { i64::from(i32::MIN) - bits } else { bits }
    };
    (a.is_nan() && b.is_nan()) || a == b || (ulps > 0 && (order(a) - order(b)).abs() <= ulps)
}

#[test]
fn every_faulty_graft_is_refused_at_its_place() {
    let world = World::load();
    let cases = json("golden/arrays/errors.json");
    let cases = cases.as_array().expect("cases");
    assert!(cases.len() > 50, "the cases are there");
    let mut wrong = Vec::new();
    for case in cases {
        let (name, class) = (&case["name"], case["class"].as_str().expect("a class"));
        let failure = match world.plan(case["graft"].to_string().as_bytes(), None, &Options::default()) {
            Ok(_) => {
                wrong.push(format!("{name}: accepted, expected {class}"));
                continue;
            }
            Err(failure) => failure,
        };
        let words = case["contains"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let missing: Vec<&str> = words.filter(|word| !failure.message.contains(word)).collect();
        let at = case["at"].as_str().map(|at| format!("`{at}`"));
        let is_there = at.as_ref().is_none_or(|at| failure.message.contains(at));
        if failure.class != class || !missing.is_empty() || !is_there {
            wrong.push(format!("{name}: {failure:?}, expected {class} at {at:?} with {missing:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} problems:\n{}", wrong.len(), wrong.join("\n"));
}
