//! How fast the interpreter is: whole tiles of programs that people write, on pixels in memory. Prints a
//! line for each; `tests/bench/kernels.py` runs the same with numpy and compares.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use graticule_common::block::{Block, Samples};
use graticule_common::eval::{EvalError, Surroundings, eval};
use graticule_common::grid::{TileSize, Window};
use graticule_common::plan::stage::{self, RoundEnd};
use graticule_common::plan::{NodeId, Options, Outcome, Plan, Read};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::counting;
use crate::world;

/// Edge of the tile: its bands stay in the second-level cache.
const EDGE: u32 = 512;

/// How long each program is repeated, after once to warm up.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

/// Processor time of this thread.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The bits that a sample and its validity are made of; `kernels.py` has the same.
fn bits(at: u32) -> u32 {
    let mut bits = at.wrapping_mul(2_654_435_761);
    bits ^= bits >> 16;
    bits = bits.wrapping_mul(0x85eb_ca6b);
    bits ^ bits >> 13
}

/// A band of a scene: numbers from 0 to 1, and about 35 % of them masked; all of band `c` is valid.
fn band(scene: u32, band: u32) -> (Vec<f32>, Vec<u8>) {
    let pixels = EDGE * EDGE;
    let from = (scene * world::BANDS.len() as u32 + band) * pixels;
    let bits = (from..from + pixels).map(bits);
    bits.map(|bits| {
        let is_valid = world::BANDS[band as usize] == "c" || bits & 0xff >= 90;
        ((bits >> 8) as f32 / (1 << 24) as f32, u8::from(is_valid))
    })
    .unzip()
}

/// Pixels in memory.
#[derive(Default)]
struct Memory {
    bands: HashMap<(u32, u32), (Vec<f32>, Vec<u8>)>,
    /// What the coming run will read, in order; made when there is none.
    waiting: VecDeque<Block>,
    /// What the last run has read.
    asked: Vec<(Read, Option<u32>)>,
}

impl Memory {
    fn block(&mut self, read: &Read, image: Option<u32>) -> Block {
        let (scenes, kind) = read.images(image);
        let (mut samples, mut valid) = (Vec::new(), Vec::new());
        for scene in scenes {
            let number = scene.id.rsplit(':').next().and_then(|id| id.parse().ok()).expect("a number");
            for name in &read.bands {
                let at = world::BANDS.iter().position(|band| band == name).expect("a band") as u32;
                let (one, one_valid) = self.bands.entry((number, at)).or_insert_with(|| band(number, at));
                samples.extend_from_slice(one);
                valid.extend_from_slice(one_valid);
            }
        }
        Block::new(kind, (EDGE, EDGE), Samples::F32(samples), valid)
    }

    /// Has everything ready that was read last time.
    fn prepare(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.waiting = asked.iter().map(|(read, image)| self.block(read, *image)).collect();
    }
}

impl Surroundings for Memory {
    type Error = Infallible;

    fn read(&mut self, read: &Read, image: Option<u32>, _: &Window) -> Result<Block, Infallible> {
        let block = self.waiting.pop_front();
        let block = block.unwrap_or_else(|| self.block(read, image));
        self.asked.push((read.clone(), image));
        Ok(block)
    }

    fn finished(&mut self, _: NodeId, _: &Block) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A block of the only tile.
fn tile(plan: &Plan, memory: &mut Memory) -> Vec<Block> {
    match eval(&plan.tile(plan.tiles()[0]).expect("a tile"), Vec::new(), memory) {
        Ok(blocks) => blocks,
        Err(EvalError::Cancelled) => panic!("nobody cancels"),
        Err(EvalError::Read(never)) => match never {},
    }
}

/// Computes a request.
fn run(outcome: &Outcome, memory: &mut Memory) -> Block {
    let staged = match outcome {
        Outcome::Raster { plan, .. } => return tile(plan, memory).swap_remove(0),
        Outcome::Staged(staged) => staged,
        other => panic!("nothing to measure: {other:?}"),
    };
    let mut rounds = staged.rounds();
    let values = loop {
        let plan = rounds.plan().clone();
        let partials = stage::collect(&plan, &tile(&plan, memory)).expect("a stage");
        rounds.merge(&partials).expect("partials of this round");
        match rounds.end().expect("a round that ends") {
            RoundEnd::Again(next) => rounds = next,
            RoundEnd::Done(values) => break values,
        }
    };
    match Box::clone(staged).resume(values).expect("what was planned") {
        Outcome::Array { array, .. } => array,
        other => panic!("not a reduction over pixels: {other:?}"),
    }
}

/// Name, number of scenes and the steps of what is measured; `kernels.py` has the same names.
fn programs() -> Vec<(&'static str, u32, Value)> {
    let ndvi = json!({"d": ["sub", "b", "a"], "s": ["add", "b", "a"], "n": ["truediv", "d", "s"],
        "cloud": ["gt", "q", "half"], "returns": ["mask", "n", "cloud"]});
    let six = json!({"t1": ["add", "a", "b"], "t2": ["mul", "t1", "c"], "t3": ["sub", "t2", "a"],
        "t4": ["add", "b", "c"], "t5": ["truediv", "t3", "t4"], "returns": ["abs", "t5"]});
    let choose = json!({"high": ["gt", "a", "half"], "low": 0.2, "top": 0.8, "zero": 0.0,
        "x": ["clip", "a", "low", "top"], "y": ["filled", "b", "zero"],
        "returns": ["where", "high", "x", "y"]});
    let roots = json!({"x": ["sqrt", "a"], "y": ["log", "b"], "returns": ["add", "x", "y"]});
    let of_images = |op: &str| json!({"axis": "images", "returns": [op, "as", "axis"]});
    let one = |op: &str, of: &str| json!({"returns": [op, of]});
    let window = |op: &str| json!({"size": 5, "returns": [op, "a", "size"]});
    // As a graft writes a list: quoted.
    let kernel: Vec<Vec<u32>> = (0..5).map(|row| (0..5).map(|col| 1 + row * 5 + col).collect()).collect();
    vec![
        ("ndvi, masked", 1, ndvi),
        ("graph of 6 ops", 1, six),
        ("where, clip, filled", 1, choose),
        ("sqrt + log", 1, roots),
        ("median of 24 images", 24, of_images("median")),
        ("median of 60 images", 60, of_images("median")),
        (
            "percentile of 24 images",
            24,
            json!({"axis": "images", "q": 90, "returns": ["percentile", "as", "axis", "q"]}),
        ),
        ("mean of 24 images", 24, of_images("mean")),
        ("std of 24 images", 24, of_images("std")),
        ("max of 24 images", 24, of_images("max")),
        ("mean of 4 bands", 1, json!({"axis": "bands", "returns": ["mean", "m", "axis"]})),
        ("focal_mean 5 x 5", 1, window("focal_mean")),
        ("focal_median 5 x 5", 1, window("focal_median")),
        ("convolve 5 x 5", 1, json!({"kernel": [kernel], "returns": ["convolve", "c", "kernel"]})),
        ("gradient_x", 1, one("gradient_x", "c")),
        ("slope", 1, one("slope", "c")),
        ("mean over pixels", 1, json!({"axis": "pixels", "returns": ["mean", "a", "axis"]})),
        ("median over pixels", 1, json!({"axis": "pixels", "returns": ["median", "a", "axis"]})),
    ]
}

/// The steps on bands of a mosaic and of a stack.
fn graft(steps: Value) -> Value {
    let mut graft = json!({
        "product": "made:up", "bands": "a b c q", "a_": "a", "b_": "b", "c_": "c", "q_": "q",
        "m": ["mosaic", "product", "bands"],
        "scenes": ["select_scenes", "product", "bands"], "stack": ["stack_scenes", "scenes", "bands"],
        "a": ["pick_bands", "m", "a_"], "b": ["pick_bands", "m", "b_"], "c": ["pick_bands", "m", "c_"],
        "q": ["pick_bands", "m", "q_"], "as": ["pick_bands", "stack", "a_"],
        "half": 0.5,
    });
    let (Value::Object(all), Value::Object(steps)) = (&mut graft, steps) else { return graft };
    for (key, value) in steps {
        if key == "returns" {
            all.insert("result".into(), value);
        } else {
            all.insert(key, value);
        }
    }
    all.insert("returns".into(), "result".into());
    graft
}

#[test]
#[ignore = "a measurement"]
fn bench_kernels() {
    let options =
        Options { tile_size: TileSize::new(EDGE), passes_off: vec!["cache".into()], ..Options::default() };
    for (name, count, steps) in programs() {
        let outcome = world::outcome(&graft(steps), EDGE, count, &options);
        let outcome = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut memory = Memory::default();
        run(&outcome, &mut memory);
        // Blocks are made while it runs, and so counted.
        memory.asked.clear();
        let (block, peak) = counting::peak(|| run(&outcome, &mut memory));
        let (mut runs, mut cpu, mut wall) = (0u32, Duration::ZERO, Duration::ZERO);
        while wall < LONG_ENOUGH || runs < 2 {
            memory.prepare();
            let (started, started_cpu) = (Instant::now(), processor_time());
            run(&outcome, &mut memory);
            (cpu, wall) = (cpu + processor_time() - started_cpu, wall + started.elapsed());
            runs += 1;
        }
        let sum: f64 = match block.samples() {
            Samples::F32(values) => {
                let values = values.iter().zip(block.valid()).filter(|(_, valid)| **valid == 1);
                values.map(|(value, _)| f64::from(*value)).sum()
            }
            Samples::Bool(_) => panic!("{name} is a number"),
        };
        let valid = block.valid().iter().filter(|valid| **valid == 1).count();
        let line = json!({
            "name": name, "cpu_s": (cpu / runs).as_secs_f64(), "wall_s": (wall / runs).as_secs_f64(),
            "peak_bytes": peak, "valid": valid, "sum": sum,
        });
        println!("kernel {line}");
    }
}
