//! Is the manual true? Every op's example runs on the made-up world.

use graticule_common::expr::{Expr, ExprNode};
use graticule_common::graft;
use graticule_common::limits::Limits;
use graticule_common::ops::object::Object;
use graticule_common::ops::{FAMILIES, Op};
use graticule_common::plan::{Options, Outcome};
use graticule_tests::world::{Failure, World};
use serde_json::Value;

/// Plans a graft and computes its rasters.
fn run(world: &World, graft: &Value) -> Result<(), Failure> {
    match world.plan(graft.to_string().as_bytes(), None, &Options::default())? {
        Outcome::Raster { plan, .. } => drop(world.evaluate(&plan)),
        Outcome::Several { plan: Some(plan), .. } => drop(world.evaluate(&plan)),
        Outcome::Several { plan: None, .. }
        | Outcome::Array { .. }
        | Outcome::Value { .. }
        | Outcome::Staged(_) => {}
    }
    Ok(())
}

fn expression(graft: &Value) -> Result<Expr, Failure> {
    graft::resolve(graft.to_string().as_bytes(), &Limits::default()).map_err(Failure::of)
}

#[test]
fn every_example_runs_and_uses_its_op() {
    let world = World::load();
    let mut wrong = Vec::new();
    let all = FAMILIES.iter().flat_map(|family| family.iter()).copied().chain([&Object as &dyn Op]);
    for op in all {
        let example = op.example();
        let uses = |expr: &Expr| {
            let is_call = |node: &ExprNode| matches!(node, ExprNode::Call { op: called, .. } if called.name() == op.name());
            expr.nodes().iter().any(is_call)
        };
        match expression(&example).and_then(|expr| run(&world, &example).map(|()| expr)) {
            Err(failure) => wrong.push(format!("{}: {failure:?}: {example}", op.name())),
            Ok(expr) if !uses(&expr) => wrong.push(format!("{}: is not in {example}", op.name())),
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} examples:\n{}", wrong.len(), wrong.join("\n"));
}
