//! Ops on a few values, for the tests of the families.

use std::sync::Arc;

use super::{Arg, BindCx, Bound, TypeError, find};
use crate::block::{ArrayShape, Block, Kind, Samples};
use crate::eval;
use crate::grid::{Crs, Grid};
use crate::literal::Literal;
use crate::plan::{Input, NodeId, NodeKind};

/// What an op's type rule makes of arguments, on a grid of 2 × 3 pixels.
pub fn bind(name: &str, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
    let crs = Crs::from_canonical("EPSG:32633");
    let grid = Grid::try_new(crs, (0.0, 0.0), (1.0, 1.0), (2, 3), &Default::default()).unwrap();
    let cx = BindCx {
        grid: &grid,
        transform: &crate::transform::ByText,
        answers: &Default::default(),
        images: &Default::default(),
    };
    find(name).unwrap().bind(&cx, args)
}

/// An op of plain numbers; `None` where it has no value.
pub fn number(name: &str, args: &[Literal]) -> Option<Literal> {
    let args: Vec<Arg<'_>> = args.iter().map(Arg::Literal).collect();
    match bind(name, &args) {
        Ok(Bound::Literal(literal)) => Some(literal),
        _ => None,
    }
}

/// A vector of values with their validity.
pub fn vector(samples: Samples, valid: &[u8]) -> Block {
    let kind = Kind::Array(ArrayShape::new(&[valid.len() as u32], false).unwrap());
    Block::new(kind, (1, 1), samples, valid.to_vec())
}

/// An op with constants on vectors, as its kernel computes it.
pub fn evaluate(name: &str, params: &[Literal], inputs: &[Block]) -> Block {
    let nodes = (0..inputs.len() as u32).map(|at| Input::Node(NodeId(at))).collect();
    let call = NodeKind::Call { op: find(name).unwrap(), params: params.to_vec(), inputs: nodes };
    let inputs: Vec<Arc<Block>> = inputs.iter().cloned().map(Arc::new).collect();
    eval::array(&call, &inputs).unwrap()
}

/// An op on valid numbers: its numbers and their validity.
pub fn pixels(name: &str, params: &[Literal], operands: &[&[f32]]) -> (Vec<f32>, Vec<u8>) {
    let inputs: Vec<Block> =
        operands.iter().map(|values| vector(Samples::F32(values.to_vec()), &vec![1; values.len()])).collect();
    match evaluate(name, params, &inputs).into_parts() {
        (Samples::F32(values), valid) => (values, valid),
        (Samples::Bool(values), valid) => (values.into_iter().map(f32::from).collect(), valid),
    }
}
