//! Moves `pick_bands`, `pick_images` and `index` toward the reads, so that only the bands and images that
//! a graft uses are read.
//!
//! From the result downward, each node is asked for whole or for some of its images and bands. A stack of
//! its own replaces recursion: chains are as long as a graft may be.

use std::collections::HashMap;
use std::sync::Arc;

use super::builder::identity;
use super::{Builder, Input, Node, NodeId, NodeKind, Plan, Read, ReadScene};
use crate::hash::ContentHash;
use crate::literal::Literal;
use crate::ops::bands::PickBands;
use crate::ops::images::{Index, PickImages};
use crate::ops::{Facts, Kernel, Op};

pub(super) fn run(plan: Plan) -> Plan {
    let uses = plan.uses();
    let picks = picks(&plan, &uses);
    let whole = used_whole(&plan, &uses);
    let pushdown = Pushdown { plan: &plan, uses, picks, whole };
    let mut builder = Builder::like(&plan);
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

/// A node of the old plan, whole or some of its images and bands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Want {
    node: NodeId,
    some: Selection,
}

/// Positions of images and bands; `None`: all of them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Selection {
    images: Option<Vec<u32>>,
    bands: Option<Vec<u32>>,
}

impl Selection {
    /// What choosing `outer` from what was chosen here gives.
    fn then(&self, outer: &Selection) -> Selection {
        let compose = |inner: &Option<Vec<u32>>, outer: &Option<Vec<u32>>| match (inner, outer) {
            (Some(inner), Some(outer)) => Some(outer.iter().map(|at| inner[*at as usize]).collect()),
            (inner, outer) => inner.clone().or_else(|| outer.clone()),
        };
        Selection { images: compose(&self.images, &outer.images), bands: compose(&self.bands, &outer.bands) }
    }

    /// Without what chooses everything in order.
    fn of(&self, facts: &Facts) -> Selection {
        let proper = |chosen: &Option<Vec<u32>>, count: Option<u32>| {
            let is_all = |chosen: &Vec<u32>| chosen.iter().copied().eq(0..count.unwrap_or(0));
            chosen.clone().filter(|chosen| !is_all(chosen))
        };
        Selection {
            images: proper(&self.images, facts.kind.images()),
            bands: proper(&self.bands, facts.kind.bands()),
        }
    }
}

impl Want {
    fn whole(node: NodeId) -> Want {
        Want { node, some: Selection::default() }
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
    /// For each pick: the node from which it picks in the end, and what.
    picks: Vec<Option<(NodeId, Selection)>>,
    /// Whether a node is used by anything but picks of its images.
    whole: Vec<bool>,
}

impl Pushdown<'_> {
    fn answer(&self, want: &Want) -> Answer {
        let node = self.plan.node(want.node);
        let some = want.some.of(&node.facts);
        if some != want.some {
            return Answer::Same(Want { node: want.node, some });
        }
        if some != Selection::default() {
            return self.some(want.node, node, &some);
        }
        if let Some((from, some)) = &self.picks[want.node.index()] {
            return Answer::Same(Want { node: *from, some: some.clone() });
        }
        match self.one_image(node, &None) {
            Some((kind, input)) => Answer::Make(kind, vec![input], node.hash),
            None => {
                let inputs = node.inputs().into_iter().map(Want::whole).collect();
                Answer::Make(node.kind.clone(), inputs, node.hash)
            }
        }
    }

    /// Images and bands of a node, computed as early as possible.
    fn some(&self, id: NodeId, node: &Node, some: &Selection) -> Answer {
        let hash = name(node, some);
        if let NodeKind::Read(read) = &node.kind {
            // Images that are read anyway are not read twice.
            return match (&some.images, self.whole[id.index()]) {
                (Some(_), true) => pick(id, node, some),
                _ => Answer::Make(NodeKind::Read(Arc::new(narrow(read, some))), vec![], hash),
            };
        }
        // A node that others use too is computed whole anyway; reads are not, however they are reached.
        let is_sole = self.uses[id.index()] == 1;
        if let Some((from, inner)) = &self.picks[id.index()]
            && (is_sole || matches!(self.plan.node(*from).kind, NodeKind::Read(_)))
        {
            return Answer::Same(Want { node: *from, some: inner.then(some) });
        }
        if !is_sole {
            return pick(id, node, some);
        }
        if let Some((kind, input)) = self.one_image(node, &some.bands) {
            return Answer::Make(kind, vec![input], hash);
        }
        let NodeKind::Call { op, params, inputs } = &node.kind else { return pick(id, node, some) };
        let facts: Vec<_> = inputs.iter().filter_map(|input| facts(self.plan, input)).collect();
        let kernel = op.kernel(params, &facts);
        let is_bandwise = matches!(kernel, Kernel::Pixel(_) | Kernel::PerBand(_) | Kernel::Fold(_));
        // Where one band, or image, serves for all, there is nothing to choose from.
        let has_bands = facts.iter().any(|facts| facts.kind.bands().is_some_and(|bands| bands != 1));
        let has_images = facts.iter().any(|facts| facts.kind.images().is_some_and(|images| images != 1));
        let sinks = Selection {
            images: some.images.clone().filter(|_| has_images && op.is_imagewise(params, &facts)),
            bands: some.bands.clone().filter(|_| has_bands && is_bandwise),
        };
        if sinks != *some {
            // What cannot go further down is picked here, from what could.
            return if sinks == Selection::default() {
                pick(id, node, some)
            } else {
                rest(id, some, sinks, hash)
            };
        }
        let wants = node.inputs().into_iter().map(|input| {
            let kind = self.plan.node(input).facts.kind;
            let images = sinks.images.clone().filter(|_| kind.images().is_some_and(|images| images != 1));
            let bands = sinks.bands.clone().filter(|_| kind.bands().is_some_and(|bands| bands != 1));
            Want { node: input, some: Selection { images, bands } }
        });
        Answer::Make(node.kind.clone(), wants.collect(), hash)
    }

    /// Where a node takes one image of a stack of which the others need not be there: the same node on a
    /// stack of this image alone.
    fn one_image(&self, node: &Node, bands: &Option<Vec<u32>>) -> Option<(NodeKind, Want)> {
        let (at, stack) = indexed(node)?;
        let some = Selection { images: Some(vec![at]), bands: bands.clone() };
        if some.of(&self.plan.node(stack).facts).images.is_none() || self.stays(stack) {
            let bands = bands.is_some().then(|| Selection { images: None, bands: bands.clone() })?;
            return Some((node.kind.clone(), Want { node: stack, some: bands }));
        }
        let kind = NodeKind::Call { op: &Index, params: Index::params(0), inputs: vec![Input::Node(stack)] };
        Some((kind, Want { node: stack, some }))
    }

    /// Whether some images of a node would be picked from the whole of it.
    fn stays(&self, id: NodeId) -> bool {
        let node = self.plan.node(id);
        match (&node.kind, &self.picks[id.index()]) {
            (NodeKind::Read(_), _) => self.whole[id.index()],
            (_, Some((from, _))) if matches!(self.plan.node(*from).kind, NodeKind::Read(_)) => false,
            _ if self.uses[id.index()] != 1 => true,
            (_, Some(_)) => false,
            (_, None) => !is_imagewise(self.plan, node),
        }
    }
}

/// A pick on top of the whole node.
fn pick(id: NodeId, node: &Node, some: &Selection) -> Answer {
    match (&some.images, &some.bands) {
        (Some(_), Some(_)) => {
            let images = Selection { images: some.images.clone(), bands: None };
            rest(id, some, images, name(node, some))
        }
        (Some(images), None) => Answer::Make(
            picking(&PickImages, PickImages::params(images), id),
            vec![Want::whole(id)],
            name(node, some),
        ),
        (None, bands) => {
            let params = PickBands::params(bands.as_deref().unwrap_or_default());
            Answer::Make(picking(&PickBands, params, id), vec![Want::whole(id)], name(node, some))
        }
    }
}

/// What `below` leaves to be picked of `some`, on top of the node chosen by `below`.
fn rest(id: NodeId, some: &Selection, below: Selection, hash: ContentHash) -> Answer {
    let kind = match (&below.images, &below.bands) {
        (Some(_), _) => picking(&PickBands, PickBands::params(some.bands.as_deref().unwrap_or_default()), id),
        (None, _) => picking(&PickImages, PickImages::params(some.images.as_deref().unwrap_or_default()), id),
    };
    Answer::Make(kind, vec![Want { node: id, some: below }], hash)
}

fn picking(op: &'static dyn Op, params: Vec<Literal>, from: NodeId) -> NodeKind {
    NodeKind::Call { op, params, inputs: vec![Input::Node(from)] }
}

/// What images and bands of a node are filed under: the same name whatever is done to get there.
fn name(node: &Node, some: &Selection) -> ContentHash {
    let images =
        some.images.as_ref().map(|images| picking(&PickImages, PickImages::params(images), NodeId(0)));
    let bands = some.bands.as_ref().map(|bands| picking(&PickBands, PickBands::params(bands), NodeId(0)));
    let mut stand_in = [node.clone()];
    for pick in [images, bands].into_iter().flatten() {
        stand_in[0].hash = identity(&pick, &stand_in);
    }
    stand_in[0].hash
}

/// The kind of a node whose inputs are in the new plan.
fn on_inputs(kind: NodeKind, wants: &[Want], moved: &HashMap<Want, NodeId>) -> NodeKind {
    let mut wants = wants.iter().map(|want| moved[want]);
    kind.on(|id| wants.next().unwrap_or(id))
}

/// What each pick picks from: through other picks as far as nobody else uses them, or all the way where a
/// read is at the end.
fn picks(plan: &Plan, uses: &[usize]) -> Vec<Option<(NodeId, Selection)>> {
    let mut picks: Vec<Option<(NodeId, Selection)>> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let pick = picked(node).map(|(some, from)| match &picks[from.index()] {
            Some((base, inner))
                if uses[from.index()] == 1 || matches!(plan.node(*base).kind, NodeKind::Read(_)) =>
            {
                (*base, inner.then(&some))
            }
            _ => (from, some),
        });
        picks.push(pick);
    }
    picks
}

/// Which nodes are used by anything but picks of their images, directly or through what picks sink through.
fn used_whole(plan: &Plan, uses: &[usize]) -> Vec<bool> {
    let mut whole = vec![false; plan.nodes.len()];
    plan.roots.iter().for_each(|root| whole[root.node.index()] = true);
    for (at, node) in plan.nodes.iter().enumerate().rev() {
        let is_choice = indexed(node).is_some()
            || match picked(node) {
                Some((some, _)) => some.images.is_some() || !whole[at],
                None => !whole[at] && uses[at] == 1 && is_imagewise(plan, node),
            };
        if !is_choice {
            node.inputs().into_iter().for_each(|input| whole[input.index()] = true);
        }
    }
    whole
}

fn is_imagewise(plan: &Plan, node: &Node) -> bool {
    let NodeKind::Call { op, params, inputs } = &node.kind else { return false };
    let facts: Vec<_> = inputs.iter().filter_map(|input| facts(plan, input)).collect();
    op.is_imagewise(params, &facts)
}

/// Facts of an input; `None` for a constant that is no number.
pub(super) fn facts(plan: &Plan, input: &Input) -> Option<Facts> {
    match input {
        Input::Node(id) => Some(plan.node(*id).facts),
        Input::Number(literal) => Facts::number(literal),
    }
}

/// What a `pick_bands` or `pick_images` chooses, and its input.
fn picked(node: &Node) -> Option<(Selection, NodeId)> {
    let NodeKind::Call { op, params, inputs } = &node.kind else { return None };
    let [Input::Node(from)] = inputs[..] else { return None };
    let some = if op.name() == PickBands.name() {
        Selection { images: None, bands: Some(PickBands::positions(params)?) }
    } else if op.name() == PickImages.name() {
        Selection { images: Some(PickImages::positions(params)?), bands: None }
    } else {
        return None;
    };
    Some((some, from))
}

/// Position and stack of an `index`.
fn indexed(node: &Node) -> Option<(u32, NodeId)> {
    match &node.kind {
        NodeKind::Call { op, params, inputs } if op.name() == Index.name() => match inputs[..] {
            [Input::Node(stack)] => Some((Index::position(params)?, stack)),
            _ => None,
        },
        _ => None,
    }
}

fn narrow(read: &Read, some: &Selection) -> Read {
    /// The chosen ones of several.
    fn chosen<T: Clone>(all: &[T], positions: &Option<Vec<u32>>) -> Vec<T> {
        match positions {
            Some(positions) => positions.iter().map(|at| all[*at as usize].clone()).collect(),
            None => all.to_vec(),
        }
    }
    let scene = |scene: ReadScene| ReadScene { bands: chosen(&scene.bands, &some.bands), ..scene };
    Read {
        bands: chosen(&read.bands, &some.bands),
        scenes: chosen(&read.scenes, &some.images).into_iter().map(scene).collect(),
        ..read.clone()
    }
}
