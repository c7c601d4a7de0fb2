//! Moves `pick_bands` toward the reads, so that only the bands a graft uses are read.
//!
//! From the result downward, each node is asked for whole or for some of its bands. A stack of its own
//! replaces recursion: chains are as long as a graft may be.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Builder, Input, Node, NodeId, NodeKind, Plan, Read, ReadScene, identity};
use crate::hash::ContentHash;
use crate::ops::bands::PickBands;
use crate::ops::{Kernel, Op};

pub(super) fn run(plan: Plan) -> Plan {
    let uses = plan.uses();
    let picks = picks(&plan, &uses);
    let pushdown = Pushdown { plan: &plan, uses, picks };
    let mut builder = Builder::default();
    // Where each want of the old plan is in the new one.
    let mut moved: HashMap<Want, NodeId> = HashMap::new();
    let mut stack: Vec<Want> = plan.roots.iter().rev().map(|root| Want::whole(root.node)).collect();
    while let Some(want) = stack.last() {
        if moved.contains_key(want) {
            stack.pop();
            continue;
        }
        let answer = pushdown.answer(want);
        let missing: Vec<Want> =
            answer.needs().into_iter().filter(|need| !moved.contains_key(*need)).cloned().collect();
        if !missing.is_empty() {
            stack.extend(missing.into_iter().rev());
            continue;
        }
        let id = match answer {
            Answer::Same(other) => moved[&other],
            Answer::Make(kind, inputs, hash) => {
                let kind = on_inputs(kind, &inputs, &moved);
                builder.add(kind, Some(hash)).expect("a rewrite of a typed plan is typed")
            }
        };
        moved.insert(want.clone(), id);
        stack.pop();
    }
    let mut roots = plan.roots.clone();
    roots.iter_mut().for_each(|root| root.node = moved[&Want::whole(root.node)]);
    builder.finish(plan.grid, roots)
}

/// A node of the old plan, whole or some of its bands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Want {
    node: NodeId,
    bands: Option<Vec<u32>>,
}

impl Want {
    fn whole(node: NodeId) -> Want {
        Want { node, bands: None }
    }

    fn some(node: NodeId, bands: &[u32]) -> Want {
        Want { node, bands: Some(bands.to_vec()) }
    }
}

/// How a want is met.
enum Answer {
    /// It is what another want gives.
    Same(Want),
    /// A node on what wants give, in the order of its inputs; what it is filed under.
    Make(NodeKind, Vec<Want>, ContentHash),
}

impl Answer {
    fn needs(&self) -> Vec<&Want> {
        match self {
            Answer::Same(want) => vec![want],
            Answer::Make(_, inputs, _) => inputs.iter().collect(),
        }
    }
}

struct Pushdown<'p> {
    plan: &'p Plan,
    uses: Vec<usize>,
    /// For each `pick_bands`: the node whose bands it picks in the end, and which.
    picks: Vec<Option<(NodeId, Vec<u32>)>>,
}

impl Pushdown<'_> {
    fn answer(&self, want: &Want) -> Answer {
        let node = self.plan.node(want.node);
        match &want.bands {
            Some(bands) => self.some(want.node, node, bands),
            None => match &self.picks[want.node.index()] {
                Some((from, bands)) => Answer::Same(Want::some(*from, bands)),
                None => {
                    let inputs = node.inputs().into_iter().map(Want::whole).collect();
                    Answer::Make(node.kind.clone(), inputs, node.hash)
                }
            },
        }
    }

    /// Bands of a node, computed as early as possible.
    fn some(&self, id: NodeId, node: &Node, bands: &[u32]) -> Answer {
        let is_all = node.facts.kind.bands() == Some(bands.len() as u32);
        if is_all && bands.iter().zip(0..).all(|(band, at)| *band == at) {
            return Answer::Same(Want::whole(id));
        }
        // The same name whatever is done to get there.
        let pick = NodeKind::Call {
            op: &PickBands,
            params: PickBands::params(bands),
            inputs: vec![Input::Node(id)],
        };
        let hash = identity(&pick, &self.plan.nodes);
        if let NodeKind::Read(read) = &node.kind {
            return Answer::Make(NodeKind::Read(Arc::new(narrow(read, bands))), vec![], hash);
        }
        // A node that others use too is computed whole anyway; reads are not, however they are reached.
        let is_sole = self.uses[id.index()] == 1;
        if let Some((from, inner)) = &self.picks[id.index()]
            && (is_sole || matches!(self.plan.node(*from).kind, NodeKind::Read(_)))
        {
            return Answer::Same(Want::some(*from, &compose(inner, bands)));
        }
        if let (true, NodeKind::Call { op, params, inputs }) = (is_sole, &node.kind) {
            let facts: Vec<_> = inputs.iter().filter_map(|input| facts(self.plan, input)).collect();
            let is_spread = facts.iter().all(|facts| facts.kind.bands().is_none_or(|bands| bands == 1));
            if !is_spread
                && matches!(
                    op.kernel(params, &facts),
                    Kernel::Pixel(_) | Kernel::PerBand(_) | Kernel::Fold(_)
                )
            {
                let wants = node.inputs().into_iter().map(|input| {
                    // One band serves for all, and so does an array.
                    let is_one = self.plan.node(input).facts.kind.bands().is_none_or(|bands| bands == 1);
                    if is_one { Want::whole(input) } else { Want::some(input, bands) }
                });
                return Answer::Make(node.kind.clone(), wants.collect(), hash);
            }
        }
        Answer::Make(pick, vec![Want::whole(id)], hash)
    }
}

/// The kind of a node whose inputs are in the new plan.
fn on_inputs(kind: NodeKind, wants: &[Want], moved: &HashMap<Want, NodeId>) -> NodeKind {
    let mut wants = wants.iter().map(|want| moved[want]);
    kind.on(|id| wants.next().unwrap_or(id))
}

/// What each `pick_bands` picks from: through other picks as far as nobody else uses them, or all the
/// way where a read is at the end.
fn picks(plan: &Plan, uses: &[usize]) -> Vec<Option<(NodeId, Vec<u32>)>> {
    let mut picks: Vec<Option<(NodeId, Vec<u32>)>> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let pick = picked(node).map(|(bands, from)| match &picks[from.index()] {
            Some((base, inner))
                if uses[from.index()] == 1 || matches!(plan.node(*base).kind, NodeKind::Read(_)) =>
            {
                (*base, compose(inner, &bands))
            }
            _ => (from, bands),
        });
        picks.push(pick);
    }
    picks
}

/// The bands that picking `outer` from those picked as `inner` gives.
fn compose(inner: &[u32], outer: &[u32]) -> Vec<u32> {
    outer.iter().map(|at| inner[*at as usize]).collect()
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
        overviews: read.overviews,
        layout: read.layout,
        scenes: read
            .scenes
            .iter()
            .map(|scene| ReadScene {
                product: scene.product.clone(),
                id: scene.id.clone(),
                bands: positions.iter().map(|p| scene.bands[at(p)].clone()).collect(),
                reach: scene.reach,
            })
            .collect(),
    }
}
