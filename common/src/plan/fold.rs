//! What can be known without looking at a pixel is computed once: arrays made of arrays and numbers.

use std::sync::Arc;

use super::{Builder, NodeId, NodeKind, Plan};
use crate::block::{Block, Kind};
use crate::eval;

pub(super) fn run(plan: Plan) -> Plan {
    let mut builder = Builder::like(&plan);
    let mut moved: Vec<NodeId> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let kind = node.kind.clone().on(|id| moved[id.index()]);
        let is_array = matches!(node.facts.kind, Kind::Array(_));
        let known = if is_array { known(&builder, &kind) } else { None };
        let kind = known.map_or(kind, |array| NodeKind::Constant(Arc::new(array)));
        moved
            .push(builder.add(kind, Some(node.hash)).expect("a known array has the type it was inferred to"));
    }
    let mut roots = plan.roots;
    roots.iter_mut().for_each(|root| root.node = moved[root.node.index()]);
    builder.finish(plan.grid, roots)
}

/// The value of an array node whose inputs are known.
fn known(builder: &Builder, kind: &NodeKind) -> Option<Block> {
    if matches!(kind, NodeKind::Constant(_)) {
        return None;
    }
    let mut inputs = Vec::new();
    let mut is_known = true;
    kind.clone().on(|id| {
        match &builder.node(id).kind {
            NodeKind::Constant(array) => inputs.push(array.clone()),
            _ => is_known = false,
        }
        id
    });
    is_known.then(|| eval::array(kind, &inputs))?
}
