//! How much memory a tile takes.

use super::tile::{Step, TilePlan, Work};
use super::{NodeId, NodeKind, Read, stage, stream};
use crate::limits::READ_BLOCK_BYTES_MAX;
use crate::literal::Literal;
use crate::ops::{Facts, Kernel};
use crate::scene::Layout;

impl TilePlan<'_> {
    /// Most memory that the tile takes at any moment, in bytes: live blocks, those that were ready among
    /// them, what is remembered, the scratch space of the running step, and at the end the encoded
    /// results.
    pub fn peak_bytes(&self) -> u64 {
        let plan = self.plan();
        let bytes = |id: NodeId| self.block_bytes(id, false);
        // What is used and never computed was ready.
        let mut ready: Vec<NodeId> =
            self.steps().iter().flat_map(|step| step.drops.iter().copied()).collect();
        ready.extend(plan.roots.iter().map(|root| root.node));
        ready.sort_unstable();
        ready.dedup();
        let mut computed = vec![false; plan.nodes.len()];
        self.steps().iter().flat_map(Step::nodes).for_each(|id| computed[id.index()] = true);
        let mut live: u64 = ready.into_iter().filter(|id| !computed[id.index()]).map(bytes).sum();
        let mut peak = live;
        for step in self.steps() {
            let results = step.results(plan);
            let own: u64 = results.iter().copied().map(bytes).sum();
            peak = peak.max(live + self.step_bytes(step, own));
            let remembered = results.into_iter().filter(|id| plan.node(*id).cached);
            live += own + remembered.map(|id| self.encoded_bytes(id)).sum::<u64>();
            peak = peak.max(live);
            live -= step.drops.iter().map(|id| bytes(*id)).sum::<u64>();
        }
        peak.max(live + self.end_bytes()) + STEP_BYTES
    }

    /// What is made of the results at the end.
    fn end_bytes(&self) -> u64 {
        let roots = || self.plan().roots.iter().filter(|root| root.partials.is_empty());
        // A margin that only other results need is cut off.
        let is_cut = |id: NodeId| self.node_window(id) != self.window();
        let cut = roots().map(|root| root.node).filter(|id| is_cut(*id));
        let cut = cut.map(|id| self.block_bytes(id, false)).max().unwrap_or(0);
        // Several are joined: what was joined, and while it grows its copy.
        let encoded = roots().map(|root| self.encoded_bytes(root.node)).sum::<u64>();
        let encoded = if self.plan().roots.len() > 1 { 2 * encoded } else { encoded };
        cut.max(encoded) + 2 * stage::partial_bytes(self.plan())
    }

    /// Bytes of a node's block on this tile; of a stack inside a loop, those of one image.
    fn block_bytes(&self, id: NodeId, in_loop: bool) -> u64 {
        let node = self.plan().node(id);
        let facts = if in_loop { stream::one_image(node.facts) } else { node.facts };
        facts.pixel_bytes() * node.pixels(&self.node_window(id)) as u64
    }

    /// Bytes of a node's encoded block: values, and validity as bits.
    fn encoded_bytes(&self, id: NodeId) -> u64 {
        let node = self.plan().node(id);
        let values = node.facts.kind.planes() as u64 * node.pixels(&self.node_window(id)) as u64;
        values * node.facts.dtype.bytes() + values.div_ceil(8)
    }

    /// The most that a step takes beside the blocks that are there before it, its results included.
    fn step_bytes(&self, step: &Step, results: u64) -> u64 {
        let Work::Images { steps, .. } = &step.work else {
            let scratch = |id: &NodeId| self.scratch_bytes(*id, false) + self.fitted_bytes(*id, false);
            return results + step.nodes().iter().map(scratch).sum::<u64>();
        };
        let is_fold = |id: NodeId| self.plan().node(id).facts.kind.images().is_none();
        let folds = step.nodes().into_iter().filter(|id| is_fold(*id));
        let states: u64 = folds.map(|id| self.scratch_bytes(id, true)).sum();
        let (mut live, mut peak) = (0, 0);
        for step in steps {
            for id in step.nodes() {
                let fitted = self.fitted_bytes(id, true);
                if is_fold(id) {
                    peak = peak.max(live + fitted);
                    continue;
                }
                live += self.block_bytes(id, true);
                peak = peak.max(live + fitted + self.scratch_bytes(id, true));
            }
            live -= step.drops.iter().map(|id| self.block_bytes(*id, true)).sum::<u64>();
        }
        states + peak.max(results)
    }

    /// Copies of those inputs that are there on another window than the node needs them on; in a loop,
    /// of the image at hand of those that are there as a whole.
    fn fitted_bytes(&self, id: NodeId, in_loop: bool) -> u64 {
        let wanted = self.input_window(id);
        let mut inputs = self.plan().node(id).inputs();
        inputs.sort_unstable();
        inputs.dedup();
        let copies = inputs.into_iter().map(|input| {
            let node = self.plan().node(input);
            let is_whole = in_loop && !self.in_one_loop(id, input) && node.facts.kind.images().is_some();
            let is_cut = self.node_window(input) != wanted && node.facts.kind.is_raster();
            let facts = if in_loop { stream::one_image(node.facts) } else { node.facts };
            let cut = if is_cut { facts.pixel_bytes() * wanted.pixels() as u64 } else { 0 };
            cut + if is_whole { self.block_bytes(input, true) } else { 0 }
        });
        copies.sum()
    }

    /// What a node needs while it is computed beside its inputs and its result; in a loop, for one image.
    fn scratch_bytes(&self, id: NodeId, in_loop: bool) -> u64 {
        let (node, window) = (self.plan().node(id), self.node_window(id));
        let of = |facts: Facts| if in_loop { stream::one_image(facts) } else { facts };
        let values = of(node.facts).kind.planes() as u64 * node.pixels(&window) as u64;
        match &node.kind {
            NodeKind::Read(read) => self.read_bytes(id, read, in_loop),
            NodeKind::Outline(_) => window.pixels() as u64,
            NodeKind::Constant(_) => 0,
            // Where each value comes from.
            NodeKind::Spread { .. } => 16 * values,
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
                let facts: Vec<Facts> = inputs
                    .iter()
                    .filter_map(|input| super::pushdown::facts(self.plan(), input))
                    .map(of)
                    .collect();
                match op.kernel(params, &facts) {
                    Kernel::Pixel(_) | Kernel::Pixels(_) | Kernel::Bind => 0,
                    Kernel::Fold(fold) => fold.state_bytes * values,
                    Kernel::PerBand(_) | Kernel::Block(_) => {
                        op.scratch_bytes(params, &facts, self.input_window(id).pixels() as u64)
                    }
                }
            }
        }
    }

    /// What a read needs beside its block.
    fn read_bytes(&self, id: NodeId, read: &Read, in_loop: bool) -> u64 {
        let facts = self.plan().node(id).facts;
        let pixels = self.node_window(id).pixels() as u64;
        let of = |facts: Facts| if in_loop { stream::one_image(facts) } else { facts };
        let bands = read.scenes.iter().flat_map(|scene| &scene.bands);
        let sample = bands.map(|band| band.sample_bytes.map_or(SAMPLE_BYTES_MAX, u64::from)).max();
        // With their mask.
        let stored = (read.stored_per_pixel() * pixels as f64).ceil() as u64;
        let stored = stored.saturating_mul(1 + sample.unwrap_or(0)).min(READ_BLOCK_BYTES_MAX);
        let layer =
            if read.layout == Layout::Mosaic && read.scenes.len() > 1 { LAYER_PIXEL_BYTES } else { 0 };
        // A mask that may spare it is computed at the first read, before there is any pixel; an image
        // that is not spared is read for itself and put beside the others.
        let guards = self.guards().iter().filter(|guard| guard.reads.iter().any(|(read, _)| *read == id));
        let masks: Vec<u64> = guards.map(|guard| of(guard.facts).pixel_bytes()).collect();
        let image = if masks.is_empty() || in_loop { 0 } else { stream::one_image(facts).pixel_bytes() };
        let read = stored + pixels * (PLACE_BYTES + layer + image);
        let mask = masks.into_iter().max().unwrap_or(0).saturating_sub(of(facts).pixel_bytes());
        read.max(pixels * mask)
    }
}

/// What is small and the same for every tile: the strips that numbers are converted in, columns of a
/// median, the lists of steps.
const STEP_BYTES: u64 = 64 << 10;

/// The most that one strip of a program takes: numbers with their validity.
const STRIP_BYTES: u64 = crate::eval::STRIP as u64 * 5;

/// A stored pixel where the catalog does not say.
const SAMPLE_BYTES_MAX: u64 = 8;

/// Where a pixel lies in a file of another CRS: polynomials for whole cells, and the points they are
/// made from.
const PLACE_BYTES: u64 = 2;

/// One plane of a scene before it is painted into a mosaic: a value and its validity.
const LAYER_PIXEL_BYTES: u64 = 5;

/// A constant of a program's kernel, in double precision.
const CONSTANT_BYTES: u64 = 8;
