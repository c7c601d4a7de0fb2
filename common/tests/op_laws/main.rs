//! The laws of the engine, over random grafts of the whole language on a world without files.

use std::cell::Cell;

use bytes::Bytes;
use graticule_common::block::{Block, Samples};
use graticule_common::eval::{EvalError, Surroundings, eval};
use graticule_common::expr::Expr;
use graticule_common::graft::{GraftError, resolve};
use graticule_common::grid::{TileSize, Window};
use graticule_common::limits::Limits;
use graticule_common::ops::BindCx;
use graticule_common::plan::stage::{self, RoundEnd};
use graticule_common::plan::{self, NodeId, Options, Outcome, PASSES, Plan, Read, TilePlan};
use graticule_common::transform::ByText;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::Value;

mod faulty;
mod generate;
mod laws;
mod long;
mod several;
mod spelling;
mod world;

use generate::Case;

/// Checks a law on random requests whose result is a raster.
#[track_caller]
fn law(name: &str, cases: u32, check: impl Fn(&Case) -> Result<(), TestCaseError>) {
    law_of_all(name, cases, |case| match plan_of(case, &Options::default()) {
        Some(_) => check(case),
        None => Ok(()),
    });
}

/// Checks a law on random requests, the same ones in every run. Nearly all of them must have a type,
/// or the law would say little.
#[track_caller]
fn law_of_all(name: &str, cases: u32, check: impl Fn(&Case) -> Result<(), TestCaseError>) {
    let mut seed = [0u8; 32];
    seed.iter_mut().zip(name.bytes()).for_each(|(seed, byte)| *seed = byte);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let (all, typed) = (Cell::new(0u32), Cell::new(0u32));
    let requests = vec(any::<u32>(), 10..200).prop_map(|words| Case::new(&words));
    let outcome = runner.run(&requests, |case| {
        all.set(all.get() + 1);
        if expr_of(&case.graft).is_ok_and(|expr| outcome(&expr, &case).is_some()) {
            typed.set(typed.get() + 1);
            check(&case)?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(typed.get() * 100 >= all.get() * 80, "only {} of {} grafts have a type", typed.get(), all.get());
}

fn expr_of(graft: &Value) -> Result<Expr, GraftError> {
    resolve(graft.to_string().as_bytes(), &Limits::default())
}

fn outcome_of(expr: &Expr, case: &Case, grid: usize, options: &Options) -> Option<Outcome> {
    let (grid, answers, images) = (world::grid(grid), world::answers(expr)?, world::named_images(expr)?);
    let cx = BindCx { grid: &grid, transform: &ByText, answers: &answers, images: &images };
    plan::build(expr, &cx, case.outline.clone(), &Limits::default(), options).ok()
}

/// What a request is, as far as planning alone tells.
fn outcome(expr: &Expr, case: &Case) -> Option<Outcome> {
    outcome_of(expr, case, case.grid, &Options::default())
}

/// The result of a request, whatever it is, as bytes.
fn result_of(case: &Case, options: &Options) -> Bytes {
    let expr = expr_of(&case.graft).expect("a graft");
    match settled(outcome_of(&expr, case, case.grid, options).expect("a type")) {
        Outcome::Raster { plan, .. } => evaluate(&plan),
        Outcome::Array { array, .. } => array.encode(),
        Outcome::Value { literal, .. } => Bytes::from(literal.to_string()),
        Outcome::Several { .. } | Outcome::Staged(_) => panic!("several results, or none yet"),
    }
}

/// The plan of a request, if it is one and its value is a raster.
fn plan_of(case: &Case, options: &Options) -> Option<Plan> {
    plan_on(case, case.grid, options)
}

fn plan_on(case: &Case, grid: usize, options: &Options) -> Option<Plan> {
    match settled(outcome_of(&expr_of(&case.graft).ok()?, case, grid, options)?) {
        Outcome::Raster { plan, .. } => Some(plan),
        Outcome::Value { .. } | Outcome::Array { .. } | Outcome::Several { .. } | Outcome::Staged(_) => None,
    }
}

/// An outcome after its stages: values that depend on all pixels are known. Tiles come in another order
/// than they were asked for.
fn settled(mut outcome: Outcome) -> Outcome {
    while let Outcome::Staged(staged) = outcome {
        let mut rounds = staged.rounds();
        let values = loop {
            let plan = rounds.plan().clone();
            for id in plan.tiles().into_iter().rev() {
                let tile = plan.tile(id).expect("a tile of the plan");
                let blocks = eval_all(&tile, Vec::new()).0;
                let partials = stage::collect(&plan, &blocks).expect("a stage");
                assert!(partials.len() as u64 <= stage::partial_bytes(&plan), "more than was said");
                rounds.merge(&partials).expect("partials of this round");
            }
            match rounds.end().expect("a round that ends") {
                RoundEnd::Again(next) => {
                    let (first, then) = (plan.tile_peak_bytes(), next.plan().tile_peak_bytes());
                    assert!(then <= first, "a later round takes {then} bytes, the first {first}");
                    rounds = next;
                }
                RoundEnd::Done(values) => break values,
            }
        };
        outcome = staged.resume(values).expect("what was planned");
    }
    outcome
}

fn options(tile_size: u32, passes_off: Vec<String>) -> Options {
    Options { tile_size: TileSize::new(tile_size), passes_off, ..Options::default() }
}

/// Every subset of the passes, as what is left out.
fn pass_subsets() -> Vec<Vec<String>> {
    let chosen = |set: usize| PASSES.iter().enumerate().filter(move |(at, _)| set >> at & 1 == 1);
    (0..1usize << PASSES.len())
        .map(|set| chosen(set).map(|(_, pass)| pass.name.to_owned()).collect())
        .collect()
}

/// The same plan with every node remembered.
fn remembering_all(plan: &Plan) -> Plan {
    let parts = plan.nodes().iter().map(|node| (node.kind.clone(), node.hash, true)).collect();
    Plan::from_parts(plan.grid().clone(), parts, plan.roots().to_vec(), plan.tile_size())
        .expect("a plan's own parts")
        .with_exits(plan.exits())
}

/// The world as the interpreter sees it; keeps what is worth remembering.
#[derive(Default)]
struct Around {
    finished: Vec<(NodeId, Block)>,
}

impl Surroundings for Around {
    type Error = std::convert::Infallible;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, Self::Error> {
        Ok(world::read(read, image, window))
    }

    fn finished(&mut self, node: NodeId, block: &Block) {
        self.finished.push((node, block.clone()));
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn eval_tile(tile: &TilePlan<'_>, ready: Vec<(NodeId, Block)>) -> (Block, Vec<(NodeId, Block)>) {
    let (mut blocks, finished) = eval_all(tile, ready);
    (blocks.swap_remove(0), finished)
}

fn eval_all(tile: &TilePlan<'_>, ready: Vec<(NodeId, Block)>) -> (Vec<Block>, Vec<(NodeId, Block)>) {
    let mut around = Around::default();
    match eval(tile, ready, &mut around) {
        Ok(blocks) => (blocks, around.finished),
        Err(EvalError::Cancelled) => panic!("nobody cancels"),
        Err(EvalError::Read(never)) => match never {},
    }
}

/// The whole grid, encoded; where there is no tile, nothing is valid.
fn evaluate(plan: &Plan) -> Bytes {
    evaluate_result(plan, 0)
}

fn evaluate_result(plan: &Plan, at: usize) -> Bytes {
    let (grid, facts) = (plan.grid().window(), plan.node(plan.roots()[at].node).facts);
    let whole = Block::invalid(facts.kind, facts.dtype, (grid.rows, grid.cols));
    let (mut samples, mut valid) = whole.into_parts();
    for id in plan.tiles() {
        let tile = plan.tile(id).expect("a tile of the plan");
        let (block, window) = (eval_all(&tile, Vec::new()).0.swap_remove(at), tile.window());
        let plane_rows = facts.kind.planes() * window.rows as usize;
        for line in 0..plane_rows {
            let (plane, row) = (line / window.rows as usize, line % window.rows as usize);
            let below = plane * grid.rows as usize + (window.row - grid.row) as usize + row;
            let to = below * grid.cols as usize + (window.col - grid.col) as usize;
            let from = line * window.cols as usize..(line + 1) * window.cols as usize;
            let to = to..to + window.cols as usize;
            valid[to.clone()].copy_from_slice(&block.valid()[from.clone()]);
            match (&mut samples, block.samples()) {
                (Samples::F32(out), Samples::F32(values)) => out[to].copy_from_slice(&values[from]),
                (Samples::Bool(out), Samples::Bool(values)) => out[to].copy_from_slice(&values[from]),
                _ => panic!("a tile of another type than its plan"),
            }
        }
    }
    Block::new(facts.kind, (grid.rows, grid.cols), samples, valid).encode()
}

/// Through the encoding in which blocks are remembered.
fn remembered(block: &Block) -> Block {
    Block::decode(&block.encode()).expect("what was encoded")
}
