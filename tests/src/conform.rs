//! Is what the engine computes what the numpy oracle computed? For the golden cases, the random grafts
//! and the captured ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

use graticule_common::aoi::Outline;
use graticule_common::block::{Block, Kind, Samples};
use graticule_common::graft::Parameters;
use graticule_common::grid::TileSize;
use graticule_common::ops::Props;
use graticule_common::plan::{Options, Outcome, PASSES};
use ndarray::{Array1, Array3, ArrayD};
use serde_json::Value;

use crate::world::{World, folder};

/// Values that numpy computed, and its mask (true = invalid).
#[derive(Debug)]
pub struct Answer {
    /// Numbers; truth values are 0 and 1.
    pub values: Vec<f32>,
    /// True where there is no value.
    pub mask: Vec<bool>,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
}

/// Every case is planned with passes and whole, without passes and in small tiles, with some.
pub fn ways() -> [Options; 3] {
    let tiles = |pixels, off: Vec<String>| Options {
        tile_size: TileSize::new(pixels),
        passes_off: off,
        ..Options::default()
    };
    let all_off = PASSES.iter().map(|pass| pass.name.to_owned()).collect();
    [tiles(1024, vec![]), tiles(7, all_off), tiles(16, vec!["fuse".into()])]
}

/// What is wrong with one case, planned and computed in one way; empty if it is as numpy has it.
pub fn problems(world: &World, case: &Value, answer: Option<&Answer>, options: &Options) -> Vec<String> {
    // A defect that panics is one problem of one case; the others still count.
    match catch_unwind(AssertUnwindSafe(|| compared(world, case, answer, options))) {
        Ok(problems) => problems,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            vec![format!("panics: {}", text.unwrap_or_default())]
        }
    }
}

fn compared(world: &World, case: &Value, answer: Option<&Answer>, options: &Options) -> Vec<String> {
    let graft = case["graft"].to_string();
    let parameters: Parameters = match &case["parameters"] {
        Value::Null => Parameters::default(),
        given => serde_json::from_value(given.clone()).expect("parameters by name"),
    };
    let outline = outline(world, &case["outline"]);
    let outcome = match world.plan_with(graft.as_bytes(), &parameters, &world.grid, outline, options) {
        Ok(outcome) => world.settle(outcome),
        Err(failure) => return vec![format!("{failure:?}")],
    };
    let (block, props) = match (outcome, case["kind"].as_str()) {
        (Outcome::Value { literal, props }, Some("number" | "int" | "groups")) => {
            let kind = case["kind"].as_str().unwrap_or_default();
            let expected = if kind == "groups" { &case["groups"] } else { &case["number"] };
            let is = literal.to_json();
            let differs = match kind {
                "groups" => is != *expected,
                _ => literal.as_f64() != expected.as_f64(),
            };
            let values = differs.then(|| format!("{is}, expected {expected}"));
            return [values, properties_differ(&props, case)].into_iter().flatten().collect();
        }
        (Outcome::Array { array, props }, Some("array")) => (array, props),
        (Outcome::Raster { plan, props }, Some("mosaic" | "stack")) => (world.evaluate(&plan), props),
        (outcome, kind) => return vec![format!("is {outcome:?}, expected {kind:?}")],
    };
    let Some(answer) = answer else { return vec!["the case has no arrays".into()] };
    [properties_differ(&props, case), pixels_differ(&block, case, answer)].into_iter().flatten().collect()
}

/// An outline from its corners, in columns and rows from the grid's upper left.
fn outline(world: &World, corners: &Value) -> Option<Outline> {
    let grid = world.grid.window();
    let place = |corner: &Value| {
        let (x, y) = (corner[0].as_f64().expect("x"), corner[1].as_f64().expect("y"));
        (grid.col as f64 + x, grid.row as f64 + y)
    };
    let mut ring: Vec<(f64, f64)> = corners.as_array()?.iter().map(place).collect();
    ring.push(ring[0]);
    Some(Outline::from_polygons(vec![vec![ring]]))
}

fn properties_differ(props: &Props, case: &Value) -> Option<String> {
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
    (is != expected).then(|| format!("properties {is}, expected {expected}"))
}

fn pixels_differ(block: &Block, case: &Value, answer: &Answer) -> Option<String> {
    let (rows, cols) = block.shape();
    let shape: Vec<u32> = match block.kind() {
        Kind::Stack { images, bands } => vec![images, bands, rows, cols],
        Kind::Mosaic { bands } => vec![bands, rows, cols],
        Kind::Array(shape) => shape.axes().to_vec(),
        Kind::Number => vec![],
    };
    let shape: Vec<usize> = shape.into_iter().map(|n| n as usize).collect();
    if shape != answer.shape {
        return Some(format!("shape {shape:?}, expected {:?}", answer.shape));
    }
    let values: Vec<f32> = match (block.samples(), case["dtype"].as_str()) {
        (Samples::F32(values), Some("float32")) => values.clone(),
        (Samples::Bool(values), Some("bool")) => values.iter().map(|v| f32::from(*v)).collect(),
        (samples, dtype) => return Some(format!("{:?}, expected {dtype:?}", samples.dtype())),
    };
    let ulps = case["ulps"].as_i64().unwrap_or(0);
    let (mut wrong, mut first) = (0, None);
    for (at, (is, valid)) in values.iter().zip(block.valid()).enumerate() {
        let (expected, hidden) = (answer.values[at], answer.mask[at]);
        let problem = if (*valid == 0) != hidden {
            format!("valid {valid}, numpy's mask {hidden}, {is} / {expected}")
        } else if *valid == 1 && !is_close(*is, expected, ulps) {
            format!("{is:?}, numpy has {expected:?}")
        } else {
            continue;
        };
        wrong += 1;
        first.get_or_insert_with(|| format!("value at {:?}: {problem}", place(at, &shape)));
    }
    first.map(|first| format!("{first} ({wrong} of {})", values.len()))
}

/// Indices of a value along the axes.
fn place(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut indices: Vec<usize> = shape
        .iter()
        .rev()
        .map(|len| {
            let index = at % len;
            at /= len;
            index
        })
        .collect();
    indices.reverse();
    indices
}

fn is_close(a: f32, b: f32, ulps: i64) -> bool {
    // Floats as integers in the same order; neighbours differ by one.
    let order = |v: f32| {
        let bits = i64::from(v.to_bits() as i32);
        if bits < 0 { i64::from(i32::MIN) - bits } else { bits }
    };
    (a.is_nan() && b.is_nan()) || a == b || (ulps > 0 && (order(a) - order(b)).abs() <= ulps)
}

/// A folder of cases with worlds of their own, as `oracle/generate.py` writes it.
pub struct Folder {
    /// The worlds, by position.
    pub worlds: Vec<World>,
    /// The cases: each names its world.
    pub cases: Vec<Value>,
    numbers: Vec<f32>,
    bools: Vec<bool>,
    masks: Vec<bool>,
}

impl Folder {
    /// Reads a folder; relative names are those of this crate.
    ///
    /// # Panics
    /// When it does not hold what it should.
    pub fn read(name: &str) -> Folder {
        let path = folder(name);
        let json = |name: &str| -> Vec<Value> {
            let text = std::fs::read(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let arrays = |name: &str| {
            let file = std::fs::File::open(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            ndarray_npy::NpzReader::new(file).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let mut pixels = arrays("worlds.npz");
        let data: Array1<f32> = pixels.by_name("data").expect("data");
        let mask: Array1<bool> = pixels.by_name("mask").expect("mask");
        let scene = |_: &str, scene: &Value| {
            let whole = |key: &str| scene[key].as_u64().expect("a number") as usize;
            let shape = (scene["bands"].as_array().expect("bands").len(), whole("rows"), whole("cols"));
            let at = whole("at")..whole("at") + shape.0 * shape.1 * shape.2;
            let cut = "the scene's pixels";
            (
                Array3::from_shape_vec(shape, data.as_slice().expect("flat")[at.clone()].to_vec())
                    .expect(cut),
                Array3::from_shape_vec(shape, mask.as_slice().expect("flat")[at].to_vec()).expect(cut),
            )
        };
        let worlds = json("worlds.json").iter().map(|document| World::build(document, scene)).collect();
        let mut expected = arrays("expected.npz");
        let numbers: Array1<f32> = expected.by_name("numbers").expect("numbers");
        let bools: Array1<bool> = expected.by_name("bools").expect("bools");
        let masks: Array1<bool> = expected.by_name("masks").expect("masks");
        let (numbers, bools, masks) = (numbers.to_vec(), bools.to_vec(), masks.to_vec());
        Folder { worlds, cases: json("cases.json"), numbers, bools, masks }
    }

    /// The world of a case, and its answer where that is an array.
    pub fn answer(&self, case: &Value) -> (&World, Option<Answer>) {
        let whole = |value: &Value| value.as_u64().expect("a number") as usize;
        let world = &self.worlds[whole(&case["world"])];
        let Some(shape) = case["shape"].as_array() else { return (world, None) };
        let shape: Vec<usize> = shape.iter().map(whole).collect();
        let len: usize = shape.iter().product();
        let (data, mask) = (whole(&case["data_at"]), whole(&case["mask_at"]));
        let values = match case["dtype"].as_str() {
            Some("bool") => self.bools[data..data + len].iter().map(|v| f32::from(u8::from(*v))).collect(),
            _ => self.numbers[data..data + len].to_vec(),
        };
        (world, Some(Answer { values, mask: self.masks[mask..mask + len].to_vec(), shape }))
    }

    /// Compares every case in every way, on all cores; gives the number of evaluations and what is wrong.
    pub fn check(&self) -> (usize, Vec<String>) {
        let ways = ways();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let part = self.cases.len().div_ceil(threads).max(1);
        let one = |case: &Value| {
            let (world, answer) = self.answer(case);
            let of_way = |(way, options): (usize, &Options)| {
                let name = case["name"].as_str().unwrap_or_default();
                let problems = problems(world, case, answer.as_ref(), options);
                problems
                    .into_iter()
                    .map(move |text| format!("{name} (way {way}): {text}"))
                    .collect::<Vec<_>>()
            };
            ways.iter().enumerate().flat_map(of_way).collect::<Vec<_>>()
        };
        let wrong = std::thread::scope(|scope| {
            let parts = self.cases.chunks(part);
            let work: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().flat_map(one).collect::<Vec<_>>()))
                .collect();
            work.into_iter().flat_map(|part| part.join().expect("panics are caught")).collect()
        });
        (self.cases.len() * ways.len(), wrong)
    }
}

/// The answer of a case in an archive of named arrays.
pub fn named_answer(case: &Value, arrays: &mut ndarray_npy::NpzReader<std::fs::File>) -> Option<Answer> {
    let name = case["name"].as_str()?;
    if !matches!(case["kind"].as_str(), Some("mosaic" | "stack" | "array")) {
        return None;
    }
    let mask: ArrayD<bool> = arrays.by_name(&format!("{name}_mask")).expect("a mask");
    let shape = mask.shape().to_vec();
    let data = format!("{name}_data");
    let values = match case["dtype"].as_str() {
        Some("bool") => {
            let data: ArrayD<bool> = arrays.by_name(&data).expect("data");
            data.into_iter().map(|v| f32::from(u8::from(v))).collect()
        }
        _ => {
            let data: ArrayD<f32> = arrays.by_name(&data).expect("data");
            data.into_iter().collect()
        }
    };
    Some(Answer { values, mask: mask.into_iter().collect(), shape })
}
