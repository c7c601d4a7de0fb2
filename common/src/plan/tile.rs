//! A plan and a tile → steps with windows, memory and keys. The same pure function on both sides.

use super::builder::hash_place;
use super::exit::Guard;
use super::{BindError, NodeId, Options, Plan, exit, stream};
use crate::grid::{TileId, TileSize, Window};
use crate::hash::{ContentHash, Hasher};
use crate::limits::Limits;
use crate::ops::Footprint;

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

    /// The pixels of each node that the results need, all tiles together.
    pub fn windows(&self) -> Vec<Window> {
        windows(self, self.grid.window())
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
    pub(super) fn new(plan: &'p Plan, tile: TileId, window: Window) -> Self {
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

    /// What the bytes of this tile's results follow from, whatever grid it is a part of; `None` in a stage,
    /// whose results are partials.
    pub fn identity(&self, salt: &str) -> Option<ContentHash> {
        let mut hasher = Hasher::new("tile result");
        self.window.hash_into(&mut hasher);
        for root in self.plan.roots() {
            if !root.partials.is_empty() {
                return None;
            }
            hasher.hash(self.key(root.node, salt));
        }
        Some(hasher.finish())
    }

    /// What a node's block on this tile is filed under. The node's hash holds ops and versions,
    /// constants and sources; lattice and windows place it; `salt` names the engine and its libraries.
    fn key(&self, id: NodeId, salt: &str) -> ContentHash {
        let node = self.plan.node(id);
        let mut hasher = Hasher::new("tile");
        hasher.str(salt).hash(node.hash);
        hash_place(&mut hasher, self.plan.grid.lattice(), [self.windows[id.index()]]);
        for (hash, windows) in self.other_windows(id) {
            hasher.hash(hash);
            windows.into_iter().for_each(|window| window.hash_into(&mut hasher));
        }
        hasher.finish()
    }

    /// The nodes that this one is computed from, itself included, on other windows than its own: what
    /// they have of these says where a halo met the edge of a domain. Empty where no edge makes a
    /// difference, so that equal pixels have equal keys on any grid. The order is that of the hashes:
    /// it does not depend on what else the plan computes.
    fn other_windows(&self, id: NodeId) -> Vec<(ContentHash, [Window; 2])> {
        let own = self.windows[id.index()];
        let needed = needed(self.plan, [(id, own)]);
        let on_others = (0..=id.index()).filter_map(|at| {
            let (node, window) = (&self.plan.nodes[at], needed[at]?);
            let windows = [window, input_window(self.plan, NodeId(at as u32), &window)];
            let is_other = node.pad.is_some() && windows.iter().any(|window| *window != own);
            is_other.then_some((node.hash, windows))
        });
        let mut others: Vec<_> = on_others.collect();
        others.sort_unstable();
        others
    }

    /// The window that a node needs its inputs on.
    pub fn input_window(&self, node: NodeId) -> Window {
        input_window(self.plan, node, &self.windows[node.index()])
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

/// The window every node is computed on when the results are wanted on one.
fn windows(plan: &Plan, window: Window) -> Vec<Window> {
    let needed = needed(plan, plan.roots.iter().map(|root| (root.node, window)));
    needed.into_iter().map(|needed| needed.unwrap_or(window)).collect()
}

/// The windows on which nodes are computed, where some are wanted on others: halos add up, and the edge
/// of a node's domain clips what is wanted of it. `None` for nodes that nothing wanted needs.
fn needed(plan: &Plan, wanted: impl IntoIterator<Item = (NodeId, Window)>) -> Vec<Option<Window>> {
    let mut needed: Vec<Option<Window>> = vec![None; plan.nodes.len()];
    let want = |slot: &mut Option<Window>, wanted: Window| {
        *slot = Some(slot.map_or(wanted, |window| window.union(&wanted)));
    };
    wanted.into_iter().for_each(|(id, window)| want(&mut needed[id.index()], window));
    for at in (0..plan.nodes.len()).rev() {
        let id = NodeId(at as u32);
        let Some(wanted) = needed[at] else { continue };
        // Every window holds pixels of the tile, which is part of every domain.
        let own = plan.domain(id).and_then(|domain| wanted.intersect(&domain)).unwrap_or(wanted);
        needed[at] = Some(own);
        let inputs = input_window(plan, id, &own);
        plan.nodes[at].inputs().into_iter().for_each(|input| want(&mut needed[input.index()], inputs));
    }
    needed
}

/// The window of its inputs that a node needs for a window of its own.
fn input_window(plan: &Plan, node: NodeId, own: &Window) -> Window {
    match (plan.node(node).footprint(), plan.domain(node)) {
        (Footprint::Pixel, _) => *own,
        (Footprint::Halo { rows, cols }, None) => own.pad(rows, cols),
        (Footprint::Halo { rows, cols }, Some(domain)) => {
            own.pad(rows, cols).intersect(&domain).unwrap_or(*own)
        }
    }
}

/// Most memory that any tile of a size takes: that of a whole one.
pub(super) fn peak_bytes(plan: &Plan, size: TileSize) -> u64 {
    let grid = plan.grid.window();
    let whole = Window { rows: grid.rows.min(size.pixels()), cols: grid.cols.min(size.pixels()), ..grid };
    // Wherever the tile lies: an edge may clip the halo on one side, on both, or on neither.
    let far = Window { row: whole.row + i64::from(grid.rows - whole.rows), ..whole };
    let far = Window { col: whole.col + i64::from(grid.cols - whole.cols), ..far };
    let within = Window { row: (whole.row + far.row) / 2, col: (whole.col + far.col) / 2, ..whole };
    let peak = |window| TilePlan::new(plan, TileId { row: 0, col: 0 }, window).peak_bytes();
    match plan.nodes.iter().all(|node| node.footprint() == Footprint::Pixel) {
        true => peak(whole),
        false => [whole, far, within].into_iter().map(peak).max().unwrap_or(0),
    }
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
