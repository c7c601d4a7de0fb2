//! Stages: where pixels are reduced over the whole area, a plan ends, and another goes on with the values.
//!
//! A bound plan that has reductions over pixels is cut below each of them. The plan of a stage computes
//! what its reductions take; workers answer with a partial of every tile, [`Rounds`] merges them, and
//! [`Staged::resume`] puts the values into the bound plan as constants. Everything that can be wrong with
//! a later stage is found out before the first pixel is read: all stages are planned in advance, with
//! arrays of the right shape in place of the values.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::{
    BindError, Builder, Input, Named, NodeId, NodeKind, Options, Outcome, Plan, Root, run_passes, settle,
    tile,
};
use crate::block::Block;
use crate::error::{Classify, ErrorClass};
use crate::hash::ContentHash;
use crate::limits::Limits;
use crate::literal::Literal;
use crate::ops::{Facts, Kernel, Op, OverPixels, PARTIAL_HEAD_BYTES, PixelsKernel, Props};

/// A reduction over the pixels of a result, tile by tile.
#[derive(Clone, Debug)]
pub struct Partial {
    /// The op; its kernel is a `Kernel::Pixels`.
    pub op: &'static dyn Op,
    /// Constants the kernel needs.
    pub params: Vec<Literal>,
    /// What earlier rounds over the same tiles have found out.
    pub round: Literal,
}

impl PartialEq for Partial {
    fn eq(&self, other: &Self) -> bool {
        let key = |partial: &Partial| (partial.op.name(), partial.op.version());
        key(self) == key(other) && self.params == other.params && self.round == other.round
    }
}

impl Partial {
    /// The code of the reduction, for pixels with these facts; `None` where the op does not reduce them.
    pub(super) fn kernel(&self, input: Facts) -> Option<PixelsKernel> {
        self.op.infer(&self.params, &[input]).ok()?;
        match self.op.kernel(&self.params, &[input]) {
            Kernel::Pixels(kernel) => Some(kernel),
            _ => None,
        }
    }
}

/// The bytes of a tile of a stage: the partials of its blocks, each after its length. `None` for a plan
/// whose results are pixels.
pub fn collect(plan: &Plan, blocks: &[Block]) -> Option<Vec<u8>> {
    if !is_stage(plan) {
        return None;
    }
    let mut bytes = Vec::new();
    for (root, block) in plan.roots.iter().zip(blocks) {
        let facts = plan.node(root.node).facts;
        for partial in &root.partials {
            let kernel = partial.kernel(facts).expect("a plan's partials were checked");
            let collected = (kernel.collect)(&partial.params, &partial.round, block);
            bytes.extend_from_slice(&(collected.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&collected);
        }
    }
    Some(bytes)
}

/// Whether a plan is that of a stage: partials of its tiles are wanted, not pixels.
pub fn is_stage(plan: &Plan) -> bool {
    plan.roots.iter().any(|root| !root.partials.is_empty())
}

/// Most bytes of the partials of one tile of a stage.
pub fn partial_bytes(plan: &Plan) -> u64 {
    let of_root = |root: &Root| {
        let facts = plan.node(root.node).facts;
        let kernels = root.partials.iter().filter_map(|partial| partial.kernel(facts));
        let planes = facts.kind.planes() as u64;
        kernels.map(|kernel| LENGTH_BYTES + PARTIAL_HEAD_BYTES + kernel.plane_bytes * planes).sum::<u64>()
    };
    plan.roots.iter().map(of_root).sum()
}

/// Bytes of a partial's length.
const LENGTH_BYTES: u64 = 4;

/// The most rounds that a stage takes; 1 for the plan of pixels.
pub fn rounds(plan: &Plan) -> u32 {
    let kernels = plan.roots.iter().flat_map(|root| {
        let facts = plan.node(root.node).facts;
        root.partials.iter().filter_map(move |partial| partial.kernel(facts))
    });
    kernels.map(|kernel| kernel.rounds).max().unwrap_or(1)
}

/// What becomes of a bound plan's results.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// They are one result, with this metadata.
    One(Props),
    /// They are results of several.
    Several(Vec<(String, Named)>),
}

/// A computation that reduces pixels over the whole area before its results are known.
#[derive(Clone, Debug)]
pub struct Staged {
    /// All of it, as it was bound.
    bound: Plan,
    form: Form,
    /// The reductions of this stage, by the hash of their node in `bound`, in the order of the plan's
    /// partials.
    reductions: Vec<ContentHash>,
    /// This stage and those after it; of these, values that they do not know yet are placeholders.
    plans: Vec<Plan>,
    /// What the results will be; values that are not known yet are placeholders.
    last: Box<Outcome>,
    /// Stages that are done.
    done: usize,
    /// What they remembered of their reductions' inputs.
    remembered: HashSet<ContentHash>,
    limits: Limits,
    options: Options,
}

/// The reductions over pixels whose input needs no other one.
fn ready(plan: &Plan) -> Vec<NodeId> {
    let mut waits = vec![false; plan.nodes.len()];
    let mut ready = Vec::new();
    for (at, node) in plan.nodes.iter().enumerate() {
        waits[at] = node.inputs().iter().any(|input| waits[input.index()]);
        if is_reduction(plan, node) {
            if !waits[at] {
                ready.push(NodeId(at as u32));
            }
            waits[at] = true;
        }
    }
    ready
}

fn is_reduction(plan: &Plan, node: &super::Node) -> bool {
    match &node.kind {
        NodeKind::Call { op, params, inputs } => match inputs[..] {
            [Input::Node(input)] => {
                matches!(op.kernel(params, &[plan.node(input).facts]), Kernel::Pixels(_))
            }
            _ => false,
        },
        _ => false,
    }
}

/// The plan of a stage before its passes: its results are the inputs of the reductions, each once. Beside
/// it the hashes of the reductions in the order of its partials.
fn cut(bound: &Plan, ready: &[NodeId]) -> (Plan, Vec<ContentHash>) {
    let mut roots: Vec<(Root, Vec<ContentHash>)> = Vec::new();
    for id in ready {
        let node = bound.node(*id);
        let NodeKind::Call { op, params, .. } = &node.kind else { continue };
        let input = node.inputs()[0];
        let facts = bound.node(input).facts;
        let Kernel::Pixels(kernel) = op.kernel(params, &[facts]) else { continue };
        let round = (kernel.start)(params, facts).round();
        let partial = Partial { op: *op, params: params.clone(), round };
        let at = roots.iter().position(|(root, _)| root.node == input).unwrap_or_else(|| {
            roots.push((Root { name: String::new(), node: input, partials: Vec::new() }, Vec::new()));
            roots.len() - 1
        });
        roots[at].0.partials.push(partial);
        roots[at].1.push(node.hash);
    }
    let (roots, hashes): (Vec<Root>, Vec<Vec<ContentHash>>) = roots.into_iter().unzip();
    (only(bound, roots), hashes.into_iter().flatten().collect())
}

/// What a plan needs for some results.
fn only(plan: &Plan, roots: Vec<Root>) -> Plan {
    let builder = Builder { nodes: plan.nodes.clone(), ..Builder::default() };
    Plan { tile_size: plan.tile_size, streams: plan.streams, ..builder.finish(plan.grid.clone(), roots) }
}

/// The bound plan with values in place of reductions. What depends on them is another computation then,
/// unless the values only stand in for those to come.
fn replace(bound: &Plan, values: &HashMap<ContentHash, Block>, are_placeholders: bool) -> Plan {
    let mut builder = Builder::default();
    let mut moved: Vec<NodeId> = Vec::with_capacity(bound.nodes.len());
    for node in &bound.nodes {
        let kind = match values.get(&node.hash) {
            Some(value) => NodeKind::Constant(Arc::new(value.clone())),
            None => node.kind.clone().on(|id| moved[id.index()]),
        };
        let hash = are_placeholders.then_some(node.hash);
        moved.push(builder.add(kind, hash).expect("a value has the type of its reduction"));
    }
    let mut roots = bound.roots.clone();
    roots.iter_mut().for_each(|root| root.node = moved[root.node.index()]);
    builder.finish(bound.grid.clone(), roots)
}

/// A plan that finds what earlier stages remembered.
fn reminded(mut plan: Plan, remembered: &HashSet<ContentHash>) -> Plan {
    plan.nodes.iter_mut().for_each(|node| node.cached = remembered.contains(&node.hash));
    plan
}

/// What a stage remembers of its results.
fn remembers(plan: &Plan) -> impl Iterator<Item = ContentHash> {
    plan.roots.iter().map(|root| plan.node(root.node)).filter(|node| node.cached).map(|node| node.hash)
}

/// The plan of a stage, ready to be cut into tiles.
fn finish_stage(plan: Plan, limits: &Limits, options: &Options) -> Result<Plan, BindError> {
    let mut plan = run_passes(plan, options);
    let bytes = partial_bytes(&plan);
    if bytes > limits.partial_bytes {
        return Err(BindError::Partials { bytes, limit: limits.partial_bytes });
    }
    tile::choose_size(&mut plan, limits, options)?;
    Ok(plan)
}

/// A stage must end: planes times tiles of its inputs are bounded, in all rounds.
fn check_work(plan: &Plan, limits: &Limits) -> Result<(), BindError> {
    let planes: usize = plan.roots.iter().map(|root| plan.node(root.node).facts.kind.planes()).sum();
    let tiles = plan.tiles().len() as u64 * u64::from(rounds(plan));
    let planes = planes as u64 * tiles;
    if planes > limits.stage_planes {
        return Err(BindError::Stage { planes, limit: limits.stage_planes });
    }
    Ok(())
}

/// Plans what was bound: in stages where it reduces pixels.
pub(super) fn plan(
    bound: Plan,
    form: Form,
    limits: &Limits,
    options: &Options,
) -> Result<Outcome, BindError> {
    if ready(&bound).is_empty() {
        return settle(bound, form, (limits, options));
    }
    let (mut plans, mut reductions, mut remembered) = (Vec::new(), Vec::new(), HashSet::new());
    let mut later = bound.clone();
    loop {
        let ready = ready(&later);
        if ready.is_empty() {
            break;
        }
        if plans.len() == limits.stages {
            return Err(BindError::Stages { limit: limits.stages });
        }
        let (plan, hashes) = cut(&later, &ready);
        let plan = finish_stage(reminded(plan, &remembered), limits, options)?;
        remembered.extend(remembers(&plan));
        plans.push(plan);
        let placeholder = |id: &NodeId| {
            let node = later.node(*id);
            (node.hash, Block::invalid(node.facts.kind, node.facts.dtype, (1, 1)))
        };
        let placeholders = ready.iter().map(placeholder).collect();
        later = replace(&later, &placeholders, true);
        if reductions.is_empty() {
            reductions = hashes;
        }
    }
    let later = reminded(later, &remembered);
    let mut last = settle(later.clone(), form.clone(), (limits, options))?;
    // One size for all: what a stage remembers serves the next.
    let sizes = plans.iter().chain(last.plan()).map(Plan::tile_size);
    let options = Options { tile_size: sizes.min(), ..options.clone() };
    for plan in &mut plans {
        tile::choose_size(plan, limits, &options)?;
        check_work(plan, limits)?;
    }
    if last.plan().is_some_and(|plan| Some(plan.tile_size()) != options.tile_size) {
        last = settle(later, form.clone(), (limits, &options))?;
    }
    let (last, limits) = (Box::new(last), limits.clone());
    let remembered = HashSet::new();
    Ok(Outcome::Staged(Box::new(Staged {
        bound,
        form,
        reductions,
        plans,
        last,
        done: 0,
        remembered,
        limits,
        options,
    })))
}

impl Staged {
    /// This stage's plan and those of the stages after it, as far as they are known: where they depend on
    /// values of this one, on arrays of the same shape.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// What the results will be: kinds, types and metadata. Values that depend on pixels are placeholders.
    pub fn last(&self) -> &Outcome {
        &self.last
    }

    /// This stage, from 1.
    pub fn stage(&self) -> usize {
        self.done + 1
    }

    /// Number of stages, with that of the result's pixels where it has some.
    pub fn stages(&self) -> usize {
        self.done + self.plans.len() + usize::from(self.last.plan().is_some())
    }

    /// Begins this stage: its first round.
    pub fn rounds(&self) -> Rounds {
        let plan = self.plans[0].clone();
        let mut open = Vec::with_capacity(self.reductions.len());
        let mut hashes = self.reductions.iter();
        for root in &plan.roots {
            let facts = plan.node(root.node).facts;
            for (partial, hash) in root.partials.iter().zip(&mut hashes) {
                let kernel = partial.kernel(facts).expect("a plan's partials were checked");
                let merged = (kernel.start)(&partial.params, facts);
                let facts = self.bound.nodes.iter().find(|node| node.hash == *hash).map(|node| node.facts);
                let facts = facts.expect("a stage's reductions are nodes of what was bound");
                open.push(Open { hash: *hash, facts, merged, rounds_left: kernel.rounds, op: partial.op });
            }
        }
        Rounds { plan, open, values: HashMap::new() }
    }

    /// Goes on with the values of this stage's reductions.
    ///
    /// # Errors
    /// [`BindError`] when a limit is exceeded that could not be known before.
    pub fn resume(self, values: Values) -> Result<Outcome, BindError> {
        let Staged { bound, form, mut plans, last, done, mut remembered, limits, options, .. } = self;
        remembered.extend(remembers(&plans[0]));
        let bound = replace(&bound, &values.0, false);
        let ready = ready(&bound);
        if ready.is_empty() {
            return settle(reminded(bound, &remembered), form, (&limits, &options));
        }
        let (plan, reductions) = cut(&bound, &ready);
        plans.remove(0);
        plans[0] = finish_stage(reminded(plan, &remembered), &limits, &options)?;
        Ok(Outcome::Staged(Box::new(Staged {
            bound,
            form,
            reductions,
            plans,
            last,
            done: done + 1,
            remembered,
            limits,
            options,
        })))
    }
}

/// The values of a stage's reductions.
#[derive(Debug)]
pub struct Values(HashMap<ContentHash, Block>);

/// A stage under way: takes the tiles of one round after the other.
pub struct Rounds {
    /// The plan of this round.
    plan: Plan,
    /// Reductions that are not done, in the order of the plan's partials.
    open: Vec<Open>,
    values: HashMap<ContentHash, Block>,
}

struct Open {
    hash: ContentHash,
    /// What it gives.
    facts: Facts,
    merged: Box<dyn OverPixels>,
    rounds_left: u32,
    op: &'static dyn Op,
}

impl fmt::Debug for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<&str> = self.open.iter().map(|open| open.op.name()).collect();
        f.debug_struct("Rounds").field("open", &open).finish_non_exhaustive()
    }
}

/// What a round led to.
#[derive(Debug)]
pub enum RoundEnd {
    /// Another round over the same tiles is needed.
    Again(Rounds),
    /// All values are known.
    Done(Values),
}

impl Rounds {
    /// What workers compute in this round.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes the bytes of one tile, each tile once, in any order.
    ///
    /// # Errors
    /// [`StageError`] for bytes that are no partials of this round.
    pub fn merge(&mut self, tile: &[u8]) -> Result<(), StageError> {
        let mut rest = tile;
        for open in &mut self.open {
            let cut = rest.split_first_chunk::<{ LENGTH_BYTES as usize }>();
            let cut =
                cut.and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
            let (partial, after) = cut.ok_or(StageError::Length)?;
            rest = after;
            let of = |problem| StageError::Partial { op: open.op.name(), problem };
            open.merged.merge(partial).map_err(of)?;
        }
        if rest.is_empty() { Ok(()) } else { Err(StageError::Length) }
    }

    /// Ends a round in which every tile was merged.
    ///
    /// # Errors
    /// [`StageError`] when a reduction does not keep to its own rules: a defect.
    pub fn end(mut self) -> Result<RoundEnd, StageError> {
        let mut is_open = Vec::with_capacity(self.open.len());
        let mut next = Vec::new();
        for mut open in self.open {
            let of = |problem: String| StageError::Partial { op: open.op.name(), problem };
            let end = open.merged.end_round().map_err(of)?;
            is_open.push(end.is_none());
            match end {
                Some(value) => {
                    let facts = Facts { kind: value.kind(), dtype: value.samples().dtype() };
                    if facts != open.facts {
                        return Err(of(format!("gave {}, planned was {}", facts.kind, open.facts.kind)));
                    }
                    self.values.insert(open.hash, value);
                }
                None if open.rounds_left <= 1 => return Err(of("needs more rounds than it said".into())),
                None => {
                    open.rounds_left -= 1;
                    next.push(open);
                }
            }
        }
        if next.is_empty() {
            return Ok(RoundEnd::Done(Values(self.values)));
        }
        // The same plan with what is still asked for.
        let (mut is_open, mut asked) = (is_open.into_iter(), next.iter());
        let mut roots = self.plan.roots.clone();
        for root in &mut roots {
            root.partials.retain(|_| is_open.next().unwrap_or(false));
            for partial in &mut root.partials {
                if let Some(open) = asked.next() {
                    partial.round = open.merged.round();
                }
            }
        }
        roots.retain(|root| !root.partials.is_empty());
        let mut plan = only(&self.plan, roots);
        plan.tile_peak_bytes = tile::peak_bytes(&plan, plan.tile_size);
        Ok(RoundEnd::Again(Rounds { plan, open: next, values: self.values }))
    }
}

/// Why a stage has no values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// Partials that are cut off, or more of them than were asked for.
    #[error("the partials of a tile have not the lengths that they say")]
    Length,
    /// A reduction cannot go on.
    #[error("`{op}` over pixels: {problem}")]
    Partial {
        /// The op.
        op: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Classify for StageError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Internal
    }
}

#[cfg(test)]
mod tests;
