//! What a plan says that it takes, against what it takes.

use graticule_common::eval::{EvalError, eval};
use graticule_common::plan::Plan;

mod counting;
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
    for Case { name, plan } in world::matrix(&[64, 256, 512], &[2, 7, 24]) {
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
