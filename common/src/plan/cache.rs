//! Marks the nodes whose tiles are worth remembering.
//!
//! Worth it is what is small and expensive: a reduction over images (many planes in, few out), and the
//! result when no reduction stands below it. Pixels that were only read are not: the file is the cache.

use super::{NodeKind, Plan};

pub(super) fn run(mut plan: Plan) -> Plan {
    let mut below = vec![false; plan.nodes.len()];
    for at in 0..plan.nodes.len() {
        let node = &plan.nodes[at];
        if !node.facts.kind.is_raster() {
            continue;
        }
        let planes_in: usize = node.inputs().iter().map(|id| plan.node(*id).facts.kind.planes()).sum();
        let shrinks = matches!(node.kind, NodeKind::Call { .. }) && planes_in > 2 * node.facts.kind.planes();
        let has_marked = node.inputs().iter().any(|id| below[id.index()]);
        let is_bare = matches!(node.kind, NodeKind::Read(_) | NodeKind::Outline(_) | NodeKind::Spread { .. });
        // Later rounds of a stage look at the same pixels again.
        let is_again = plan.rounds_of(super::NodeId(at as u32)) > 1;
        let is_result = plan.is_root(super::NodeId(at as u32)) && !has_marked && (!is_bare || is_again);
        plan.nodes[at].cached |= shrinks || is_result;
        below[at] = has_marked || plan.nodes[at].cached;
    }
    plan
}
