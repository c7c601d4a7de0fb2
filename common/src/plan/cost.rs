//! How much processor time a tile takes, before anything is read: for budgets and for people.
//!
//! Nanoseconds on one core of a server at about 3 GHz, optimised build; the ignored test
//! `processor_time` of `common/tests/bill`, which they were fitted with, compares them with the machine at
//! hand. They are meant to be right within a factor of two, not to rank machines. What reading takes
//! (`OPEN_NS`, `DECODE_NS`, `DECODE_JP2_NS`, `WARP_NS`, `PAINT_NS`) was fitted to the small local files of the
//! examples: what a server on the network takes is not processor time.

use super::tile::{Step, TilePlan};
use super::{Input, NodeId, NodeKind, Program, Read, stream};
use crate::block::DType;
use crate::ops::{Footprint, Kernel, Op};
use crate::scene::{BandSource, Layout, SourceRef};

/// Processor time of a tile, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// Opening, decoding and resampling files.
    pub read_s: f64,
    /// Everything else.
    pub eval_s: f64,
}

/// Opening a file for one of its bands and asking for its blocks; of the first of its bands also
/// understanding the CRS, which takes several times as long.
pub(super) const OPEN_NS: f64 = 200_000.0;

/// Decoding a stored byte: between none and deflate.
const DECODE_NS: f64 = 1.5;

/// Decoding a stored byte of JPEG 2000; tiles read blocks of it that they share more than once.
const DECODE_JP2_NS: f64 = 130.0;

/// Placing a pixel of the grid in a file and taking its value.
const WARP_NS: f64 = 3.0;

/// Painting one pixel of a mosaic's scene.
const PAINT_NS: f64 = 1.0;

/// One value through one op of a program, with its validity.
const OP_NS: f64 = 0.35;

/// One value of a program's input or result.
const STRIP_NS: f64 = 0.1;

/// One value taken by a fold, for each byte of its state.
const FOLD_NS_BYTE: f64 = 0.12;

/// One value moved to another place.
const MOVE_NS: f64 = 0.7;

/// One value of a column that is sorted, for each doubling of its length.
const SORT_NS: f64 = 0.35;

/// One value of a neighbourhood.
const WINDOW_NS: f64 = 4.0;

/// The direction of a slope.
const ANGLE_NS: f64 = 12.0;

/// One number of a result, encoded; a truth value has fewer bytes.
const ENCODE_NS: f64 = 0.3;

/// One value whose place among the entries is kept.
const PLACE_NS: f64 = 4.0;

/// One value of an array that is laid out.
const SPREAD_NS: f64 = 10.0;

/// A tile by itself.
const TILE_NS: f64 = 10_000.0;

/// One number of a block that is too large for the caches: its memory is fetched anew.
const FRESH_NS: f64 = 0.8;

/// Values of a block that is.
const FRESH_VALUES: f64 = 1e6;

/// One value of a column of which a percentile is taken, at least.
const PERCENTILE_NS: f64 = 2.2;

/// One value of a window that is sorted: a hundred to ten thousand of them, 9 to 17.
const WINDOW_SORT_NS: f64 = 13.0;

/// One value of a window that is added.
const WINDOW_SUM_NS: f64 = 0.3;

/// One value of a window that is multiplied and added.
const WINDOW_PRODUCT_NS: f64 = 1.0;

/// One product of a `dot`, and its validity.
const PRODUCT_NS: f64 = 1.5;

/// What decoding a stored byte of a band takes, as far as its file's name tells.
fn decode_ns(band: &BandSource) -> f64 {
    let path = match &band.asset.source {
        SourceRef::Local(path) | SourceRef::Http(path) | SourceRef::Object { key: path, .. } => path.as_str(),
        SourceRef::Synthetic(_) => "",
    };
    let is_jp2 = path.rsplit('.').next().is_some_and(|ending| ending.eq_ignore_ascii_case("jp2"));
    if is_jp2 { DECODE_JP2_NS } else { DECODE_NS }
}

/// One value through an op, where that is not [`OP_NS`]: what is computed by `libm`.
fn op_ns(op: &dyn Op) -> f64 {
    match op.name() {
        "sin" | "cos" | "tan" | "arcsin" | "arccos" | "arctan" | "arctan2" => 8.0,
        "exp" | "log" | "log10" => 9.0,
        "pow" | "rpow" => 40.0,
        "mod" | "floordiv" | "rfloordiv" => 4.0,
        "truediv" | "rtruediv" | "normalized_difference" | "isin" | "bit" | "bits" => 0.6,
        _ => OP_NS,
    }
}

impl TilePlan<'_> {
    /// Processor time that the tile takes, in seconds.
    pub fn cpu(&self) -> Cpu {
        let plan = self.plan();
        let (mut read_ns, mut eval_ns) = (0.0, TILE_NS);
        for id in self.steps().iter().flat_map(Step::nodes) {
            match &plan.node(id).kind {
                NodeKind::Read(read) => read_ns += self.read_ns(id, read),
                _ => eval_ns += self.node_ns(id),
            }
            if self.is_fresh(id) {
                eval_ns += FRESH_NS * self.numbers(id);
            }
            if plan.node(id).cached {
                eval_ns += ENCODE_NS * self.numbers(id);
            }
        }
        let results = plan.roots().iter().filter(|root| root.partials.is_empty());
        eval_ns += results.map(|root| ENCODE_NS * self.numbers(root.node)).sum::<f64>();
        let partials = plan.roots().iter().map(|root| root.partials.len() as f64 * self.values(root.node));
        eval_ns += MOVE_NS * partials.sum::<f64>();
        Cpu { read_s: read_ns * 1e-9, eval_s: eval_ns * 1e-9 }
    }

    /// Whether a block is too large for the caches; the images of a loop come and go.
    fn is_fresh(&self, id: NodeId) -> bool {
        self.values(id) >= FRESH_VALUES && !self.in_one_loop(id, id)
    }

    fn values(&self, id: NodeId) -> f64 {
        let node = self.plan().node(id);
        node.facts.kind.planes() as f64 * node.pixels(&self.node_window(id)) as f64
    }

    /// As many numbers as have the bytes of its values.
    fn numbers(&self, id: NodeId) -> f64 {
        let bytes = |dtype: DType| 1.0 + dtype.bytes() as f64;
        self.values(id) * bytes(self.plan().node(id).facts.dtype) / bytes(DType::F32)
    }

    /// Reading a node's pixels, in nanoseconds.
    pub(super) fn read_ns(&self, id: NodeId, read: &Read) -> f64 {
        let window = self.node_window(id);
        let mut ns = 0.0;
        for scene in read.scenes.iter().filter(|scene| scene.touches(&window)) {
            let covered = scene.reach.and_then(|reach| reach.intersect(&window)).unwrap_or(window);
            let pixels = covered.pixels() as f64;
            for band in &scene.bands {
                let (stored, bytes) = super::explain::stored(self.plan(), read, scene, band);
                let paint = if read.layout == Layout::Mosaic { PAINT_NS } else { 0.0 };
                ns += OPEN_NS + pixels * (WARP_NS + paint + stored * bytes as f64 * decode_ns(band));
            }
        }
        ns
    }

    /// Computing a node from its inputs, in nanoseconds.
    pub(super) fn node_ns(&self, id: NodeId) -> f64 {
        let (plan, values) = (self.plan(), self.values(id));
        let node = plan.node(id);
        let taken: f64 = node.inputs().into_iter().map(|input| self.values(input)).sum();
        match &node.kind {
            NodeKind::Read(_) | NodeKind::Constant(_) => 0.0,
            NodeKind::Outline(_) => WINDOW_NS * values,
            NodeKind::Spread { .. } => SPREAD_NS * values,
            NodeKind::Program(program) => values * program_ns(program),
            NodeKind::Call { op, params, inputs } => {
                let facts: Vec<_> =
                    inputs.iter().filter_map(|input: &Input| super::pushdown::facts(plan, input)).collect();
                match op.kernel(params, &facts) {
                    Kernel::Pixel(_) => values * (op_ns(*op) + STRIP_NS * (1 + facts.len()) as f64),
                    Kernel::Fold(_) if ["argmax", "argmin"].contains(&op.name()) => taken * PLACE_NS,
                    Kernel::Fold(_) => {
                        let state = stream::fold(plan, node).map_or(0, |fold| fold.state_bytes);
                        taken * FOLD_NS_BYTE * state as f64
                    }
                    // Those that look at every pixel of the window, for each pixel of the result.
                    Kernel::PerBand(_) | Kernel::Block(_)
                        if ["focal_median", "focal_mean", "convolve"].contains(&op.name()) =>
                    {
                        let (rows, cols) = match op.footprint(params) {
                            Footprint::Pixel => (0, 0),
                            Footprint::Halo { rows, cols } => (rows, cols),
                        };
                        let window = f64::from(2 * rows + 1) * f64::from(2 * cols + 1);
                        let each = match op.name() {
                            "focal_median" => WINDOW_SORT_NS,
                            "focal_mean" => WINDOW_SUM_NS,
                            _ => WINDOW_PRODUCT_NS,
                        };
                        values * (each * window).max(WINDOW_NS)
                    }
                    // Every plane of the result is a sum over planes.
                    Kernel::PerBand(_) | Kernel::Block(_) if op.name() == "dot" => {
                        let planes = taken / (node.pixels(&self.node_window(id)) as f64).max(1.0);
                        values * planes * PRODUCT_NS + MOVE_NS * (values + taken)
                    }
                    Kernel::PerBand(_) | Kernel::Block(_)
                        if self.node_window(id) != self.input_window(id) =>
                    {
                        values * if op.name() == "aspect" { ANGLE_NS } else { WINDOW_NS }
                    }
                    Kernel::PerBand(_) | Kernel::Block(_)
                        if ["median", "percentile"].contains(&op.name()) =>
                    {
                        let column = (taken / values.max(1.0)).max(2.0);
                        let least = if op.name() == "percentile" { PERCENTILE_NS } else { 0.0 };
                        taken * (SORT_NS * (1.0 + column.log2())).max(least)
                    }
                    Kernel::PerBand(_) | Kernel::Block(_) => MOVE_NS * (values + taken),
                    Kernel::Pixels(_) | Kernel::Bind => 0.0,
                }
            }
        }
    }
}

fn program_ns(program: &Program) -> f64 {
    let ops: f64 = program.instrs.iter().map(|instr| op_ns(instr.op)).sum();
    ops + STRIP_NS * (1 + program.inputs.len()) as f64
}
