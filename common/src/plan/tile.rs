//! A plan and a tile → steps with windows, memory and keys. The same pure function on both sides.

use super::{BindError, NodeId, NodeKind, Options, Plan, hash_place, stage};
use crate::grid::{TileId, TileSize, Window};
use crate::hash::{ContentHash, Hasher};
use crate::limits::{Limits, READ_BLOCK_BYTES_MAX};
use crate::literal::Literal;
use crate::ops::{Footprint, Kernel};
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
    steps: Vec<Step>,
}

/// One step of a tile: a node on a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The node.
    pub node: NodeId,
    /// Where it is needed.
    pub window: Window,
    /// Nodes whose pixels nobody needs after this step.
    pub drops: Vec<NodeId>,
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
    fn new(plan: &'p Plan, tile: TileId, window: Window) -> Self {
        let windows = windows(plan, window);
        let mut tile_plan = TilePlan { plan, tile, window, windows, steps: Vec::new() };
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
        let cached = self.steps.iter().rev().map(|step| step.node).filter(|id| self.plan.node(*id).cached);
        cached.map(|id| (id, self.key(id, salt))).collect()
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
        let mut is_placed = vec![false; self.plan.nodes.len()];
        let mut order: Vec<NodeId> = Vec::new();
        let mut stack: Vec<(NodeId, bool)> =
            self.plan.roots.iter().rev().map(|root| (root.node, false)).collect();
        while let Some((id, inputs_done)) = stack.pop() {
            if is_placed[id.index()] || is_ready(id) {
                continue;
            }
            if inputs_done {
                is_placed[id.index()] = true;
                order.push(id);
                continue;
            }
            stack.push((id, true));
            stack.extend(self.plan.node(id).inputs().into_iter().rev().map(|input| (input, false)));
        }
        let mut last_use = vec![None; self.plan.nodes.len()];
        for (at, id) in order.iter().enumerate() {
            self.plan.node(*id).inputs().into_iter().for_each(|input| last_use[input.index()] = Some(at));
        }
        let mut drops = vec![Vec::new(); order.len()];
        for (id, last) in (0..).map(NodeId).zip(last_use) {
            // Results stay until the end.
            if let Some(step) = last.filter(|_| !self.plan.is_root(id)) {
                drops[step].push(id);
            }
        }
        let step =
            |(node, drops): (NodeId, Vec<NodeId>)| Step { node, window: self.windows[node.index()], drops };
        order.into_iter().zip(drops).map(step).collect()
    }

    /// Most memory that the tile takes at any moment, in bytes: live blocks, those that were ready among
    /// them, the scratch space of the running step, and at the end the encoded result.
    pub fn peak_bytes(&self) -> u64 {
        let bytes = |id: NodeId| {
            let node = self.plan.node(id);
            node.facts.pixel_bytes() * node.pixels(&self.windows[id.index()]) as u64
        };
        // What is used and never computed was ready.
        let mut ready: Vec<NodeId> = self.steps.iter().flat_map(|step| step.drops.iter().copied()).collect();
        ready.extend(self.plan.roots.iter().map(|root| root.node));
        ready.sort_unstable();
        ready.dedup();
        let mut computed = vec![false; self.plan.nodes.len()];
        self.steps.iter().for_each(|step| computed[step.node.index()] = true);
        let mut live: u64 = ready.into_iter().filter(|id| !computed[id.index()]).map(bytes).sum();
        let mut peak = live;
        for step in &self.steps {
            live += bytes(step.node);
            peak = peak.max(live + self.scratch_bytes(step) + self.fitted_bytes(step.node));
            live -= step.drops.iter().map(|id| bytes(*id)).sum::<u64>();
        }
        // Partials are collected one by one and joined; pixels are encoded.
        let pixels = self.plan.roots.iter().filter(|root| root.partials.is_empty());
        let encoded = pixels.map(|root| bytes(root.node)).sum::<u64>() + 2 * stage::partial_bytes(self.plan);
        peak.max(live + encoded) + STEP_BYTES
    }

    /// Copies of those inputs that are there on another window than the node needs them on.
    fn fitted_bytes(&self, id: NodeId) -> u64 {
        let wanted = self.input_window(id);
        let mut inputs = self.plan.node(id).inputs();
        inputs.sort_unstable();
        inputs.dedup();
        let others = inputs.into_iter().filter(|input| self.windows[input.index()] != wanted);
        let rasters = others.map(|input| self.plan.node(input)).filter(|node| node.facts.kind.is_raster());
        rasters.map(|node| node.facts.pixel_bytes() * wanted.pixels() as u64).sum()
    }

    fn scratch_bytes(&self, step: &Step) -> u64 {
        let node = self.plan.node(step.node);
        match &node.kind {
            NodeKind::Read(read) => {
                let pixels = step.window.pixels() as u64;
                let stored = (read.stored_per_pixel() * pixels as f64).ceil() as u64;
                let layer = if read.layout == Layout::Mosaic { LAYER_PIXEL_BYTES } else { 0 };
                stored.saturating_mul(STORED_BYTES).min(READ_BLOCK_BYTES_MAX) + pixels * (PLACE_BYTES + layer)
            }
            NodeKind::Outline(_) => step.window.pixels() as u64,
            NodeKind::Constant(_) => 0,
            // Where each value comes from.
            NodeKind::Spread { .. } => {
                16 * node.facts.kind.planes() as u64 * node.pixels(&step.window) as u64
            }
            NodeKind::Program(program) => {
                let strips = program.instrs.iter().map(|instr| 1 + instr.operands.len() as u64);
                let constants =
                    program.instrs.iter().flat_map(|instr| &instr.params).map(|param| match param {
                        Literal::List(items) => items.len() as u64,
                        _ => 1,
                    });
                strips.sum::<u64>() * STRIP_BYTES + constants.sum::<u64>() * CONSTANT_BYTES
            }
            NodeKind::Call { op, params, inputs } => {
                let facts: Vec<_> =
                    inputs.iter().filter_map(|input| super::pushdown::facts(self.plan, input)).collect();
                match op.kernel(params, &facts) {
                    Kernel::Pixel(_) | Kernel::Pixels(_) | Kernel::Bind => 0,
                    Kernel::Fold(fold) => {
                        fold.state_bytes * node.facts.kind.planes() as u64 * step.window.pixels() as u64
                    }
                    // Sums and counts in double precision; truth values become numbers first.
                    Kernel::PerBand(_) | Kernel::Block(_) => {
                        let from: u64 = facts.iter().map(|facts| 4 * facts.kind.planes() as u64).sum();
                        let converted =
                            if facts.iter().any(|f| f.dtype == crate::block::DType::Bool) { from } else { 0 };
                        (12 * node.facts.kind.planes() as u64 + converted) * step.window.pixels() as u64
                    }
                }
            }
        }
    }
}

/// The strips that numbers are converted in, the columns of a median, a decoder's block: small and the same for every tile.
const STEP_BYTES: u64 = 2 << 20;

/// The most that one strip of a program takes: numbers with their validity.
const STRIP_BYTES: u64 = crate::eval::STRIP as u64 * 5;

/// A constant of a program's kernel, in double precision.
const CONSTANT_BYTES: u64 = 8;

/// A stored pixel with its mask, in double precision at worst.
const STORED_BYTES: u64 = 9;

/// Where a pixel lies in a file of another CRS: polynomials for whole cells, and the points they are
/// made from.
const PLACE_BYTES: u64 = 2;

/// One plane of a scene before it is painted into a mosaic: a value and its validity.
const LAYER_PIXEL_BYTES: u64 = 5;

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
