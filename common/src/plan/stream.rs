//! Reductions that take one image after another, and what goes along with them: the nodes of a loop over
//! images hold one image each, however many scenes there are.

use super::{Input, Node, NodeId, NodeKind, Plan};
use crate::block::Kind;
use crate::ops::{Facts, FoldKernel, Kernel};

/// The pass: lets tiles run loops. What is inside a loop is never whole, and so never remembered.
pub(super) fn run(mut plan: Plan) -> Plan {
    plan.streams = true;
    let loops = loops(&plan);
    for (at, node) in plan.nodes.iter_mut().enumerate() {
        let is_inside = loops[at].is_some() && node.facts.kind.images().is_some();
        node.cached &= !is_inside;
    }
    plan
}

/// For each node, the loop that it belongs to, named by one of its folds: folds, and the stacks that
/// nobody but them needs and that can be computed image by image. A fold without such a stack has no
/// loop: what it takes is there as a whole.
///
/// Folds share a loop when they share a stack and none needs what another gives: a stack between folds
/// that follow one another is held.
pub(super) fn loops(plan: &Plan) -> Vec<Option<NodeId>> {
    let mut loops: Vec<Option<usize>> = vec![None; plan.nodes.len()];
    if plan.streams {
        let depths = depths(plan);
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); plan.nodes.len()];
        for (at, node) in plan.nodes.iter().enumerate() {
            node.inputs().into_iter().for_each(|id| users[id.index()].push(at));
        }
        let mut has_stack = vec![false; plan.nodes.len()];
        for at in (0..plan.nodes.len()).rev() {
            let node = &plan.nodes[at];
            if fold(plan, node).is_some() {
                loops[at] = Some(at);
                continue;
            }
            let Some(images) = images_of(plan, node).filter(|_| !plan.is_root(NodeId(at as u32))) else {
                continue;
            };
            let taken = |user: &usize| {
                let fits = match plan.nodes[*user].facts.kind.images() {
                    Some(of) => of == images,
                    None => fold(plan, &plan.nodes[*user]).is_some(),
                };
                loops[*user].filter(|_| fits)
            };
            let joined: Option<Vec<usize>> = users[at].iter().map(taken).collect();
            let Some((first, others)) = joined.as_deref().and_then(<[usize]>::split_first) else { continue };
            if others.iter().any(|other| depths[*other] != depths[*first]) {
                continue;
            }
            // What was in any of them is in the first from now on.
            for name in loops.iter_mut().flatten().filter(|name| others.contains(name)) {
                *name = *first;
            }
            loops[at] = Some(*first);
            has_stack[*first] = true;
        }
        loops.iter_mut().for_each(|name| *name = name.filter(|name| has_stack[*name]));
    }
    loops.into_iter().map(|name| name.map(|at| NodeId(at as u32))).collect()
}

/// How many folds follow one another below each node.
fn depths(plan: &Plan) -> Vec<u32> {
    let mut depths: Vec<u32> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let below = |id: NodeId| depths[id.index()] + u32::from(fold(plan, plan.node(id)).is_some());
        depths.push(node.inputs().into_iter().map(below).max().unwrap_or(0));
    }
    depths
}

/// Images of a stack whose images can be computed one after another, each from the same image of what
/// it needs.
pub(super) fn images_of(plan: &Plan, node: &Node) -> Option<u32> {
    let images = node.facts.kind.images()?;
    let is_imagewise = match &node.kind {
        NodeKind::Read(_) | NodeKind::Spread { .. } | NodeKind::Program(_) => true,
        NodeKind::Call { op, params, inputs } => op.is_imagewise(params, &facts(plan, inputs)?),
        NodeKind::Outline(_) | NodeKind::Constant(_) => false,
    };
    is_imagewise.then_some(images)
}

/// The kernel of a node that takes one image after another.
pub(crate) fn fold(plan: &Plan, node: &Node) -> Option<FoldKernel> {
    let NodeKind::Call { op, params, inputs } = &node.kind else { return None };
    match op.kernel(params, &facts(plan, inputs)?) {
        Kernel::Fold(kernel) => Some(kernel),
        _ => None,
    }
}

fn facts(plan: &Plan, inputs: &[Input]) -> Option<Vec<Facts>> {
    inputs.iter().map(|input| super::pushdown::facts(plan, input)).collect()
}

/// Facts of one image of a stack; of anything else, its own.
pub(crate) fn one_image(facts: Facts) -> Facts {
    match facts.kind {
        Kind::Stack { bands, .. } => Facts { kind: Kind::Stack { images: 1, bands }, ..facts },
        Kind::Number | Kind::Array(_) | Kind::Mosaic { .. } => facts,
    }
}
