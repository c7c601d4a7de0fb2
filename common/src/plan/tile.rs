//! A plan and a tile → steps with windows, memory and keys. The same pure function on both sides.

use super::{BindError, NodeId, NodeKind, Options, Plan, hash_place};
use crate::grid::{TileId, TileSize, Window};
use crate::hash::{ContentHash, Hasher};
use crate::limits::{Limits, READ_BLOCK_BYTES_MAX};
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
            peak = peak.max(live + self.scratch_bytes(step));
            live -= step.drops.iter().map(|id| bytes(*id)).sum::<u64>();
        }
        let encoded: u64 = self.plan.roots.iter().map(|root| bytes(root.node)).sum();
        peak.max(live + encoded) + STEP_BYTES
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
                strips.sum::<u64>() * STRIP_BYTES
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
