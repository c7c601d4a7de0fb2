//! Moves `pick_bands` toward the reads, so that only the bands a graft uses are read.

use std::sync::Arc;

use super::{Builder, Input, Node, NodeId, NodeKind, Plan, Read, ReadScene};
use crate::hash::ContentHash;
use crate::ops::bands::PickBands;
use crate::ops::{Kernel, Op};

pub(super) fn run(plan: Plan) -> Plan {
    let mut pass = Pushdown { uses: plan.uses(), builder: Builder::default(), moved: Vec::new() };
    for node in &plan.nodes {
        let id = pass.rebuild(&plan, node);
        pass.moved.push(id);
    }
    let root = pass.moved[plan.root.index()];
    pass.builder.finish(plan.grid, root)
}

struct Pushdown {
    uses: Vec<usize>,
    builder: Builder,
    /// Where each node of the old plan is in the new one.
    moved: Vec<NodeId>,
}

impl Pushdown {
    /// The node in the new plan.
    fn rebuild(&mut self, plan: &Plan, node: &Node) -> NodeId {
        if let Some((positions, from)) = picked(node) {
            return self.pick(plan, &positions, from, Some(node.hash));
        }
        let kind = match &node.kind {
            NodeKind::Call { op, params, inputs } => {
                let inputs = inputs.iter().map(|input| self.moved_input(input)).collect();
                NodeKind::Call { op: *op, params: params.clone(), inputs }
            }
            NodeKind::Program(program) => {
                let mut program = program.as_ref().clone();
                program.inputs.iter_mut().for_each(|id| *id = self.moved[id.index()]);
                NodeKind::Program(Arc::new(program))
            }
            kind @ (NodeKind::Read(_) | NodeKind::Outline(_)) => kind.clone(),
        };
        self.add(kind, Some(node.hash))
    }

    fn moved_input(&self, input: &Input) -> Input {
        match input {
            Input::Node(id) => Input::Node(self.moved[id.index()]),
            number @ Input::Number(_) => number.clone(),
        }
    }

    fn add(&mut self, kind: NodeKind, hash: Option<ContentHash>) -> NodeId {
        self.builder.add(kind, hash).expect("a rewrite of a typed plan is typed")
    }

    /// Bands of a node of the old plan, computed as early as possible. Recursion is over a chain of
    /// nodes with one use each, which the plan's size bounds.
    fn pick(&mut self, plan: &Plan, positions: &[u32], from: NodeId, hash: Option<ContentHash>) -> NodeId {
        let node = plan.node(from);
        if node.facts.kind.bands() == Some(positions.len() as u32)
            && positions.iter().zip(0..).all(|(p, at)| *p == at)
        {
            return self.moved[from.index()];
        }
        if let NodeKind::Read(read) = &node.kind {
            return self.add(NodeKind::Read(Arc::new(narrow(read, positions))), hash);
        }
        if let Some((inner, from)) = picked(node) {
            let positions: Vec<u32> = positions.iter().map(|at| inner[*at as usize]).collect();
            return self.pick(plan, &positions, from, hash);
        }
        // A node that others use too is computed whole anyway.
        if let (1, NodeKind::Call { op, params, inputs }) = (self.uses[from.index()], &node.kind) {
            let facts: Vec<_> = inputs.iter().filter_map(|input| facts(plan, input)).collect();
            if matches!(op.kernel(&facts), Kernel::Pixel(_) | Kernel::PerBand(_)) {
                let inputs = inputs
                    .iter()
                    .map(|input| match input {
                        // One band serves for all.
                        Input::Node(id) if plan.node(*id).facts.kind.bands() != Some(1) => {
                            Input::Node(self.pick(plan, positions, *id, None))
                        }
                        other => self.moved_input(other),
                    })
                    .collect::<Vec<_>>();
                let is_spread = facts.iter().all(|facts| facts.kind.bands().is_none_or(|bands| bands == 1));
                if !is_spread {
                    return self.add(NodeKind::Call { op: *op, params: params.clone(), inputs }, hash);
                }
            }
        }
        let inputs = vec![Input::Node(self.moved[from.index()])];
        self.add(NodeKind::Call { op: &PickBands, params: PickBands::params(positions), inputs }, hash)
    }
}

/// Facts of an input; `None` for a constant that is no number.
pub(super) fn facts(plan: &Plan, input: &Input) -> Option<crate::ops::Facts> {
    match input {
        Input::Node(id) => Some(plan.node(*id).facts),
        Input::Number(literal) => crate::ops::Facts::number(literal),
    }
}

/// Positions and input of a `pick_bands`.
fn picked(node: &Node) -> Option<(Vec<u32>, NodeId)> {
    match &node.kind {
        NodeKind::Call { op, params, inputs } if op.name() == PickBands.name() => match inputs[..] {
            [Input::Node(from)] => Some((PickBands::positions(params)?, from)),
            _ => None,
        },
        _ => None,
    }
}

fn narrow(read: &Read, positions: &[u32]) -> Read {
    let at = |position: &u32| *position as usize;
    Read {
        product: read.product.clone(),
        bands: positions.iter().map(|p| read.bands[at(p)].clone()).collect(),
        resampler: read.resampler,
        scenes: read
            .scenes
            .iter()
            .map(|scene| ReadScene {
                id: scene.id.clone(),
                bands: positions.iter().map(|p| scene.bands[at(p)].clone()).collect(),
                reach: scene.reach,
            })
            .collect(),
    }
}
