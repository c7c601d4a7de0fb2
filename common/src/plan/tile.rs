//! A plan and a tile → steps with windows, memory and keys. The same pure function on both sides.

use super::exit::Guard;
use super::{BindError, NodeId, NodeKind, Options, Plan, exit, hash_place, stream};
use crate::grid::{TileId, TileSize, Window};
use crate::hash::{ContentHash, Hasher};
use crate::limits::{Limits, READ_BLOCK_BYTES_MAX};
use crate::ops::{Facts, Footprint, Kernel};
use crate::scene::Layout;

/// Sizes the planner chooses from. Multiples of 256 match the blocks of most files; the smaller ones
/// are for stacks that do not fit otherwise.
const SIZES: [u32; 10] = [2048, 1024, 768, 512, 256, 128, 64, 32, 24, 16];

/// One tile of a plan: what to do, in order.
#[derive(Clone, Debug)]
pub struct TilePlan<'p> {
    plan: &'p Plan,
    tile: TileId,
    window: Window,
    /// The window each node is needed on.
    windows: Vec<Window>,
    /// The loop that each node belongs to.
    loops: Vec<Option<NodeId>>,
    /// Masks that can spare reads.
    guards: Vec<Guard>,
    steps: Vec<Step>,
}

/// One step of a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub work: Work,
    /// Nodes whose pixels nobody needs after this step.
    pub drops: Vec<NodeId>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A node, whole.
    Node(NodeId),
    /// One image after another: of each, all steps in order. The folds among them take it, and have
    /// their results after the last.
    Images {
        /// How many images.
        count: u32,
        /// The steps; each is a node.
        steps: Vec<Step>,
    },
}

impl Step {
    /// The nodes that it computes, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        match &self.work {
            Work::Node(id) => vec![*id],
            Work::Images { steps, .. } => steps.iter().flat_map(Step::nodes).collect(),
        }
    }

    /// Those of its nodes whose blocks are there after it.
    pub fn results(&self, plan: &Plan) -> Vec<NodeId> {
        match &self.work {
            Work::Node(id) => vec![*id],
            Work::Images { .. } => {
                let mut nodes = self.nodes();
                nodes.retain(|id| plan.node(*id).facts.kind.images().is_none());
                nodes
            }
        }
    }
}

impl Plan {
    /// The steps of a tile; `None` if the tile is not part of the grid.
    pub fn tile(&self, tile: TileId) -> Option<TilePlan<'_>> {
        let window = self.grid.tiling(self.tile_size).window(tile)?;
        Some(TilePlan::new(self, tile, window))
    }

    /// The tiles that can have a valid pixel: none lies wholly outside the outline.
    pub fn tiles(&self) -> Vec<TileId> {
        let tiling = self.grid.tiling(self.tile_size);
        let is_inside = |tile: &TileId| match (self.outline(), tiling.window(*tile)) {
            (Some(outline), Some(window)) => outline.reaches(&window),
            _ => true,
        };
        tiling.tiles().filter(is_inside).collect()
    }
}

impl<'p> TilePlan<'p> {
    fn new(plan: &'p Plan, tile: TileId, window: Window) -> Self {
        let windows = windows(plan, window);
        let (loops, guards) = (stream::loops(plan), exit::guards(plan));
        let mut tile_plan = TilePlan { plan, tile, window, windows, loops, guards, steps: Vec::new() };
        tile_plan.steps = tile_plan.order(&|_| false);
        tile_plan
    }

    /// The plan.
    pub fn plan(&self) -> &'p Plan {
        self.plan
    }

    /// The tile.
    pub fn tile(&self) -> TileId {
        self.tile
    }

    /// The pixels of the tile.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The window a node is needed on.
    pub fn node_window(&self, node: NodeId) -> Window {
        self.windows[node.index()]
    }

    /// The masks that can spare a read.
    pub(crate) fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// Whether two nodes are in one loop.
    pub(crate) fn in_one_loop(&self, one: NodeId, other: NodeId) -> bool {
        self.loops[one.index()].is_some() && self.loops[one.index()] == self.loops[other.index()]
    }

    /// What to do, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The same tile when the blocks of some nodes are there already: what only they needed is gone.
    pub fn with_ready(&self, is_ready: &dyn Fn(NodeId) -> bool) -> TilePlan<'p> {
        TilePlan { steps: self.order(is_ready), ..self.clone() }
    }

    /// The remembered nodes of this tile with their keys, the result first: nodes below one that is
    /// found need not be looked at.
    pub fn keys(&self, salt: &str) -> Vec<(NodeId, ContentHash)> {
        let nodes = self.steps.iter().rev().flat_map(|step| step.results(self.plan).into_iter().rev());
        let cached = nodes.filter(|id| self.plan.node(*id).cached);
        cached.map(|id| (id, self.key(id, salt))).collect()
    }

    /// What a node's block on this tile is filed under. The node's hash holds ops and versions,
    /// constants and sources; lattice and windows place it; `salt` names the engine and its libraries.
    fn key(&self, id: NodeId, salt: &str) -> ContentHash {
        let node = self.plan.node(id);
        let mut hasher = Hasher::new("tile");
        hasher.str(salt).hash(node.hash);
        // Input windows say where a halo met the grid's edge.
        let inputs = self.input_windows(id);
        hash_place(
            &mut hasher,
            self.plan.grid.lattice(),
            std::iter::once(self.windows[id.index()]).chain(inputs),
        );
        hasher.finish()
    }

    /// Windows of everything below a node that has a halo somewhere; empty where no halo makes a
    /// difference, so that equal pixels have equal keys on any grid.
    fn input_windows(&self, id: NodeId) -> Vec<Window> {
        let mut below = vec![false; self.plan.nodes.len()];
        below[id.index()] = true;
        for at in (0..=id.index()).rev() {
            if below[at] {
                self.plan.nodes[at].inputs().into_iter().for_each(|input| below[input.index()] = true);
            }
        }
        let own = self.windows[id.index()];
        let others = (0..id.index()).filter(|at| below[*at]).map(|at| self.windows[at]);
        others.filter(|window| *window != own).collect()
    }

    /// Steps in depth-first order, which keeps few blocks alive, with the moment each can be dropped.
    fn order(&self, is_ready: &dyn Fn(NodeId) -> bool) -> Vec<Step> {
        let plan = self.plan;
        let mut needed = vec![false; plan.nodes.len()];
        plan.roots.iter().for_each(|root| needed[root.node.index()] = true);
        for at in (0..plan.nodes.len()).rev() {
            needed[at] &= !is_ready(NodeId(at as u32));
            if needed[at] {
                plan.nodes[at].inputs().into_iter().for_each(|input| needed[input.index()] = true);
            }
        }
        // A loop is one step; it stands for all of its nodes.
        let loops = &self.loops;
        let unit = |id: NodeId| loops[id.index()].unwrap_or(id);
        let members = |unit: NodeId| -> Vec<NodeId> {
            let ids = (0..plan.nodes.len()).filter(|at| needed[*at] && loops[*at] == Some(unit));
            ids.map(|at| NodeId(at as u32)).collect()
        };
        // Masks before what they hide.
        let masks_first = |mut inputs: Vec<NodeId>| {
            let masks = |id: &NodeId| self.guards.iter().any(|guard| guard.mask.inputs.contains(id));
            inputs.sort_by_key(|id| !masks(id));
            inputs
        };
        let inputs = |id: NodeId| -> Vec<NodeId> {
            let nodes = if loops[id.index()].is_some() { members(id) } else { vec![id] };
            let inputs = nodes.into_iter().flat_map(|id| plan.node(id).inputs());
            let inputs = inputs.filter(|input| needed[input.index()]);
            masks_first(inputs.collect()).into_iter().map(unit).filter(|input| *input != id).collect()
        };
        let tops = plan.roots.iter().map(|root| root.node).filter(|root| needed[root.index()]).map(unit);
        let order = depth_first(plan, tops.collect(), &inputs);
        let work = |id: NodeId| match loops[id.index()] {
            None => Work::Node(id),
            Some(_) => {
                let members = members(id);
                let inside = |id: NodeId| -> Vec<NodeId> {
                    let inputs = plan.node(id).inputs().into_iter();
                    masks_first(inputs.filter(|id| members.contains(id)).collect())
                };
                let is_fold = |id: &NodeId| plan.node(*id).facts.kind.images().is_none();
                let folds = members.iter().copied().filter(is_fold).collect();
                let order = depth_first(plan, folds, &inside);
                let images = members.iter().filter_map(|id| plan.node(*id).facts.kind.images()).next();
                let steps = with_drops(plan, order.into_iter().map(Work::Node).collect(), &|id| {
                    !is_fold(&id) && members.contains(&id)
                });
                Work::Images { count: images.unwrap_or(0), steps }
            }
        };
        with_drops(plan, order.into_iter().map(work).collect(), &|id| !plan.is_root(id))
    }

    /// Bytes of a node's block on this tile; of a stack inside a loop, those of one image.
    fn block_bytes(&self, id: NodeId, in_loop: bool) -> u64 {
        let node = self.plan.node(id);
        let facts = if in_loop { stream::one_image(node.facts) } else { node.facts };
        facts.pixel_bytes() * node.pixels(&self.windows[id.index()]) as u64
    }

    /// Most memory that the tile takes at any moment, in bytes: live blocks, those that were ready among
    /// them, the scratch space of the running step, and at the end the encoded result.
    pub fn peak_bytes(&self) -> u64 {
        let bytes = |id: NodeId| self.block_bytes(id, false);
        // What is used and never computed was ready.
        let mut ready: Vec<NodeId> = self.steps.iter().flat_map(|step| step.drops.iter().copied()).collect();
        ready.extend(self.plan.roots.iter().map(|root| root.node));
        ready.sort_unstable();
        ready.dedup();
        let mut computed = vec![false; self.plan.nodes.len()];
        self.steps.iter().flat_map(Step::nodes).for_each(|id| computed[id.index()] = true);
        let mut live: u64 = ready.into_iter().filter(|id| !computed[id.index()]).map(bytes).sum();
        let mut peak = live;
        for step in &self.steps {
            let results: u64 = step.results(self.plan).into_iter().map(bytes).sum();
            peak = peak.max(live + self.step_bytes(step, results));
            live += results;
            live -= step.drops.iter().map(|id| bytes(*id)).sum::<u64>();
        }
        let encoded: u64 = self.plan.roots.iter().map(|root| bytes(root.node)).sum();
        peak.max(live + encoded) + STEP_BYTES
    }

    /// The most that a step takes beside the blocks that are there before it, its results included.
    fn step_bytes(&self, step: &Step, results: u64) -> u64 {
        let Work::Images { steps, .. } = &step.work else {
            return results + step.nodes().iter().map(|id| self.scratch_bytes(*id, false)).sum::<u64>();
        };
        let is_fold = |id: NodeId| self.plan.node(id).facts.kind.images().is_none();
        let folds: Vec<NodeId> = step.nodes().into_iter().filter(|id| is_fold(*id)).collect();
        let states: u64 = folds.iter().map(|id| self.scratch_bytes(*id, true)).sum();
        let (mut live, mut peak) = (0, 0);
        for step in steps {
            for id in step.nodes().into_iter().filter(|id| !is_fold(*id)) {
                live += self.block_bytes(id, true);
                peak = peak.max(live + self.scratch_bytes(id, true));
            }
            live -= step.drops.iter().map(|id| self.block_bytes(*id, true)).sum::<u64>();
        }
        states + peak.max(results)
    }

    /// What a node needs while it is computed beside its inputs and its result; in a loop, for one image.
    fn scratch_bytes(&self, id: NodeId, in_loop: bool) -> u64 {
        let (node, window) = (self.plan.node(id), self.windows[id.index()]);
        let of = |facts: Facts| if in_loop { stream::one_image(facts) } else { facts };
        let planes = of(node.facts).kind.planes() as u64;
        // Stacks that are there as a whole are taken apart.
        let images = if in_loop { self.image_bytes(id) } else { 0 };
        images
            + match &node.kind {
                NodeKind::Read(read) => {
                    let pixels = window.pixels() as u64;
                    let stored = (read.stored_per_pixel() * pixels as f64).ceil() as u64;
                    // The mask that may spare it, and the image that is put beside the others.
                    let guarded =
                        self.guards.iter().filter(|guard| guard.reads.iter().any(|(read, _)| *read == id));
                    let mask = guarded.map(|guard| of(guard.facts).pixel_bytes()).max();
                    let spared = mask.map_or(0, |mask| mask + stream::one_image(node.facts).pixel_bytes());
                    let layer = if read.layout == Layout::Mosaic { LAYER_PIXEL_BYTES } else { 0 };
                    stored.saturating_mul(STORED_BYTES).min(READ_BLOCK_BYTES_MAX)
                        + pixels * (PLACE_BYTES + layer + spared)
                }
                NodeKind::Outline(_) => window.pixels() as u64,
                NodeKind::Constant(_) => 0,
                // Where each value comes from.
                NodeKind::Spread { .. } => 16 * planes * node.pixels(&window) as u64,
                NodeKind::Program(program) => {
                    let strips = program.instrs.iter().map(|instr| 1 + instr.operands.len() as u64);
                    strips.sum::<u64>() * STRIP_BYTES
                }
                NodeKind::Call { op, params, inputs } => {
                    let facts: Vec<_> = inputs
                        .iter()
                        .filter_map(|input| super::pushdown::facts(self.plan, input))
                        .map(of)
                        .collect();
                    match op.kernel(params, &facts) {
                        Kernel::Pixel(_) | Kernel::Pixels(_) | Kernel::Bind => 0,
                        Kernel::Fold(fold) => fold.state_bytes * planes * window.pixels() as u64,
                        // Sums and counts in double precision; truth values become numbers first.
                        Kernel::PerBand(_) | Kernel::Block(_) => {
                            let from: u64 = facts.iter().map(|facts| 4 * facts.kind.planes() as u64).sum();
                            let converted = if facts.iter().any(|f| f.dtype == crate::block::DType::Bool) {
                                from
                            } else {
                                0
                            };
                            (12 * planes + converted) * window.pixels() as u64
                        }
                    }
                }
            }
    }

    /// One image of each stack from outside the loop that a node of the loop takes.
    fn image_bytes(&self, id: NodeId) -> u64 {
        let loops = &self.loops;
        let inputs = self.plan.node(id).inputs().into_iter();
        let outer = inputs.filter(|input| loops[input.index()] != loops[id.index()]);
        let stacks = outer.filter(|input| self.plan.node(*input).facts.kind.images().is_some());
        stacks.map(|input| self.block_bytes(input, true)).sum()
    }
}

/// Nodes with everything that they need, inputs first, those of the first first.
fn depth_first(plan: &Plan, tops: Vec<NodeId>, inputs: &dyn Fn(NodeId) -> Vec<NodeId>) -> Vec<NodeId> {
    let mut is_placed = vec![false; plan.nodes.len()];
    let mut order = Vec::new();
    let mut stack: Vec<(NodeId, bool)> = tops.into_iter().rev().map(|top| (top, false)).collect();
    while let Some((id, inputs_done)) = stack.pop() {
        if is_placed[id.index()] {
            continue;
        }
        if inputs_done {
            is_placed[id.index()] = true;
            order.push(id);
            continue;
        }
        stack.push((id, true));
        stack.extend(inputs(id).into_iter().rev().map(|input| (input, false)));
    }
    order
}

/// Steps with what can be dropped after each, as far as it may be dropped at all.
fn with_drops(plan: &Plan, work: Vec<Work>, may_drop: &dyn Fn(NodeId) -> bool) -> Vec<Step> {
    let mut steps: Vec<Step> = work.into_iter().map(|work| Step { work, drops: Vec::new() }).collect();
    let mut last_use = vec![None; plan.nodes.len()];
    for (at, step) in steps.iter().enumerate() {
        let nodes = step.nodes();
        let inputs = nodes.iter().flat_map(|id| plan.node(*id).inputs());
        // What comes and goes inside a loop is dropped there.
        inputs.filter(|id| !nodes.contains(id)).for_each(|input| last_use[input.index()] = Some(at));
    }
    for (id, last) in (0..).map(NodeId).zip(last_use) {
        if let Some(at) = last.filter(|_| may_drop(id)) {
            steps[at].drops.push(id);
        }
    }
    steps
}

/// The strips that numbers are converted in, the columns of a median, a decoder's block: small and the same for every tile.
const STEP_BYTES: u64 = 2 << 20;

/// The most that one strip of a program takes: numbers with their validity.
const STRIP_BYTES: u64 = crate::eval::STRIP as u64 * 5;

/// A stored pixel with its mask, in double precision at worst.
const STORED_BYTES: u64 = 9;

/// Where a pixel lies in a file of another CRS: polynomials for whole cells, and the points they are
/// made from.
const PLACE_BYTES: u64 = 2;

/// One plane of a scene before it is painted into a mosaic: a value and its validity.
const LAYER_PIXEL_BYTES: u64 = 5;

/// The window every node is needed on when the result is wanted on one: halos add up, the grid's edge
/// clips them.
fn windows(plan: &Plan, window: Window) -> Vec<Window> {
    let mut needed: Vec<Option<Window>> = vec![None; plan.nodes.len()];
    plan.roots.iter().for_each(|root| needed[root.node.index()] = Some(window));
    for at in (0..plan.nodes.len()).rev() {
        let Some(own) = needed[at] else { continue };
        let wanted = input_window(plan, &own, plan.nodes[at].footprint());
        for input in plan.nodes[at].inputs() {
            let slot = &mut needed[input.index()];
            *slot = Some(slot.map_or(wanted, |window| window.union(&wanted)));
        }
    }
    needed.into_iter().map(|needed| needed.unwrap_or(window)).collect()
}

/// The window of its inputs that a node needs for a window of its own.
fn input_window(plan: &Plan, own: &Window, footprint: Footprint) -> Window {
    match footprint {
        Footprint::Pixel => *own,
        Footprint::Halo { rows, cols } => own.pad(rows, cols).intersect(&plan.grid.window()).unwrap_or(*own),
    }
}

/// Most memory that any tile of a size takes: that of a whole one.
pub(super) fn peak_bytes(plan: &Plan, size: TileSize) -> u64 {
    let grid = plan.grid.window();
    let whole = Window { rows: grid.rows.min(size.pixels()), cols: grid.cols.min(size.pixels()), ..grid };
    TilePlan::new(plan, TileId { row: 0, col: 0 }, whole).peak_bytes()
}

/// Sets the tile size: the largest whose tiles fit into memory and leave every slot of the fleet
/// something to do.
pub(super) fn choose_size(plan: &mut Plan, limits: &Limits, options: &Options) -> Result<(), BindError> {
    let tiles = |size: TileSize| plan.grid.tiling(size).len();
    let fits = |size: TileSize| peak_bytes(plan, size) <= limits.tile_peak_bytes;
    let sizes = || SIZES.into_iter().filter_map(TileSize::new);
    let size = match options.tile_size {
        Some(size) => Some(size).filter(|size| fits(*size)),
        None => {
            // Two tiles a slot even out their differences; tiles below 256 pixels cost more than they even out.
            let is_shared =
                |size: &TileSize| tiles(*size) >= 2 * u64::from(options.slots) || size.pixels() <= 256;
            sizes().filter(is_shared).find(|size| fits(*size))
        }
    };
    let Some(size) = size else {
        let smallest = options.tile_size.unwrap_or(TileSize::SMALLEST_PLANNED);
        let (tile, bytes) = (smallest.pixels(), peak_bytes(plan, smallest));
        return Err(BindError::Memory { tile, bytes, limit: limits.tile_peak_bytes });
    };
    if tiles(size) > limits.tiles {
        return Err(BindError::Tiles { tiles: tiles(size), size: size.pixels(), limit: limits.tiles });
    }
    plan.tile_size = size;
    plan.tile_peak_bytes = peak_bytes(plan, size);
    Ok(())
}
