//! What a plan says that it takes, against what it takes.

use std::time::Instant;

use graticule_common::eval::{EvalError, eval};
use graticule_common::limits::Limits;
use graticule_common::plan::{Options, Plan};

mod counting;
mod kernels;
mod world;

use world::{Case, World};

/// Computes the first tile as a worker does: blocks are encoded one after another.
fn tile(plan: &Plan, world: &mut World) -> Vec<bytes::Bytes> {
    let tile = plan.tile(plan.tiles()[0]).expect("a tile");
    match eval(&tile, Vec::new(), world) {
        Ok(blocks) => blocks.into_iter().map(|block| block.encode()).collect(),
        Err(EvalError::Cancelled) => panic!("nobody cancels"),
        Err(EvalError::Read(never)) => match never {},
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Every allocation is counted, so this is the same on every machine.
#[test]
fn tiles_take_the_memory_that_was_said() {
    let mut ratios = Vec::new();
    for Case { name, plan } in world::matrix(&[64, 300], &[2, 17]) {
        let said = plan.tile(plan.tiles()[0]).expect("a tile").peak_bytes();
        let mut world = World::default();
        let (_, taken) = counting::peak(|| tile(&plan, &mut world));
        ratios.push((taken as f64 / said as f64, name, taken, said));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let middle = median(ratios.iter().map(|(ratio, ..)| *ratio).collect());
    println!("{} cases, median {middle:.3}", ratios.len());
    let step = (ratios.len() / 60).max(1);
    for (ratio, name, taken, said) in ratios.iter().step_by(step).chain(ratios.iter().rev().take(25)) {
        println!("{ratio:.3}  {taken:>12} of {said:>12}  {name}");
    }
    let (most, name, ..) = ratios.last().expect("cases");
    assert!(ratios.len() > 300, "only {} cases", ratios.len());
    assert!(*most <= 1.1, "{most:.3} of what was said: {name}");
    assert!((0.6..=1.0).contains(&middle), "a median of {middle:.3}");
}

/// Prints what the matrix takes against what the plan says; meant for an optimised build on an idle
/// machine: the shortest of five runs.
#[test]
#[ignore = "a measurement"]
fn processor_time() {
    let mut ratios = Vec::new();
    for Case { name, plan } in world::matrix(&[256], &[3, 24]) {
        let said = plan.tile(plan.tiles()[0]).expect("a tile").cpu().eval_s;
        let run = || {
            let mut world = World::default();
            let started = Instant::now();
            tile(&plan, &mut world);
            started.elapsed().as_secs_f64() - world.reading_s
        };
        let taken = (0..5).map(|_| run()).fold(f64::INFINITY, f64::min);
        ratios.push((taken / said, name, taken));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (ratio, name, taken) in &ratios {
        println!("{ratio:.3}  {:>9.3} ms  {name}", taken * 1e3);
    }
    let within = ratios.iter().filter(|(ratio, ..)| (0.5..=2.0).contains(ratio)).count();
    let all = ratios.iter().map(|(ratio, ..)| *ratio).collect();
    println!("median {:.3}, {within} of {} within a factor of two", median(all), ratios.len());
}

/// Medians hold their stack: tiles are cut until it fits, and take no more than was said.
#[test]
fn medians_of_a_thousand_scenes_split_space() {
    let graft = serde_json::json!({
        "product": "made:up", "bands": "a", "axis": "images",
        "scenes": ["select_scenes", "product", "bands"], "stack": ["stack_scenes", "scenes", "bands"],
        "result": ["median", "stack", "axis"], "returns": "result",
    });
    let plan = world::plan(&graft, 1000, &Options::default()).expect("a plan");
    assert!(plan.tile_size().pixels() < 512, "tiles of {}", plan.tile_size().pixels());
    assert!(plan.tile_peak_bytes() <= Limits::default().tile_peak_bytes);
    let mut world = World::default();
    let (_, taken) = counting::peak(|| tile(&plan, &mut world));
    assert!(taken <= plan.tile_peak_bytes(), "{taken} of {}", plan.tile_peak_bytes());
}
