//! Marks the nodes whose tiles are worth remembering: those that take clearly longer to compute again than to
//! store and fetch (`docs/decisions/0014-what-is-remembered.md`).
//!
//! Both are estimated for all pixels of the grid together, cut as if into tiles of [`NOMINAL`] pixels: the
//! real tile size is chosen later, and depends on what is remembered. Inputs first: what a node takes is
//! counted down to what is remembered below it, which is fetched instead. So a result that is a cheap step
//! away from a remembered reduction is not remembered too.

use super::tile::TilePlan;
use super::{Node, NodeId, NodeKind, Plan, Read, stream};
use crate::grid::TileId;
use crate::scene::{BandSource, SourceRef};

/// Edge of the tiles that costs are counted for, in pixels.
const NOMINAL: u32 = 512;

/// Storing a byte of a block, and fetching one, in nanoseconds: encoded, sealed and sent; received, checked and
/// decoded. Redis 7 over loopback moves 0.6 a byte each way in values of half a MiB, BLAKE3 takes 0.15, coding
/// a block the rest; on a processor of about 3 GHz.
const BYTE_NS: f64 = 1.0;

/// Fetching a value of any length: a missing key took 60 to 70 microseconds over loopback, one of 64 KiB 125.
/// Nobody waits while it is stored.
const FETCH_NS: f64 = 100_000.0;
const STORE_NS: f64 = 20_000.0;

/// The first byte of a range of a file on a server, and one more byte. Nobody's processor time, but time that
/// somebody waits: what is typical of an object store in the same region, not a measurement.
const REMOTE_NS: f64 = 30_000_000.0;
const REMOTE_BYTE_NS: f64 = 10.0;

/// How many times as long computing must take: estimates are right within a factor of two, and what is
/// remembered pushes out something else.
const WORTH: f64 = 1.5;

/// The most that a block of 256 x 256 pixels may have: larger values are not stored (`RedisSettings`), and
/// hold memory while the tile is computed.
const BLOCK_BYTES_MAX: f64 = 8.0 * 1024.0 * 1024.0;

pub(super) fn run(mut plan: Plan) -> Plan {
    // What will be streamed is never there as a whole.
    plan.streams = true;
    let loops = stream::loops(&plan);
    plan.streams = false;
    let kept = {
        let costs = Costs::of(&plan);
        let mut kept: Vec<bool> = plan.nodes.iter().map(|node| node.cached).collect();
        for at in 0..plan.nodes.len() {
            let id = NodeId(at as u32);
            let is_streamed = loops[at].is_some() && plan.node(id).facts.kind.images().is_some();
            kept[at] = kept[at] || (!is_streamed && is_candidate(&plan, id) && costs.are_worth(id, &kept));
        }
        kept
    };
    plan.nodes.iter_mut().zip(kept).for_each(|(node, kept)| node.cached = kept);
    plan
}

/// Whether a node may be remembered at all: pixels that somebody computed or a server holds, for a local file
/// is a cache itself; and no stack, unless it is a result or puts several images into one.
fn is_candidate(plan: &Plan, id: NodeId) -> bool {
    let node = plan.node(id);
    let is_raster = node.facts.kind.is_raster()
        && match &node.kind {
            NodeKind::Outline(_) | NodeKind::Spread { .. } | NodeKind::Constant(_) => false,
            NodeKind::Read(read) => is_remote(read) || plan.rounds_of(id) > 1,
            NodeKind::Call { .. } | NodeKind::Program(_) => true,
        };
    let images = |id: NodeId| plan.node(id).facts.kind.images().unwrap_or(0);
    let most = node.inputs().into_iter().map(images).max().unwrap_or(0);
    let is_small = node.facts.kind.images().is_none_or(|images| images < most) || plan.is_root(id);
    let bytes = 256.0 * 256.0 * node.facts.kind.planes() as f64 * value_bytes(node);
    is_raster && is_small && bytes <= BLOCK_BYTES_MAX
}

/// Bytes of one encoded value: with its validity.
fn value_bytes(node: &Node) -> f64 {
    node.facts.dtype.bytes() as f64 + 0.125
}

fn is_remote(read: &Read) -> bool {
    read.scenes.iter().flat_map(|scene| &scene.bands).any(is_on_server)
}

fn is_on_server(band: &BandSource) -> bool {
    matches!(band.asset.source, SourceRef::Http(_) | SourceRef::Object { .. })
}

/// What nodes cost, all pixels of the grid together.
struct Costs<'p> {
    plan: &'p Plan,
    /// The grid as one tile.
    whole: TilePlan<'p>,
    /// Computing each from its inputs, in nanoseconds.
    own_ns: Vec<f64>,
}

impl<'p> Costs<'p> {
    fn of(plan: &'p Plan) -> Costs<'p> {
        let whole = TilePlan::new(plan, TileId { row: 0, col: 0 }, plan.grid.window());
        let own_ns = (0..plan.nodes.len() as u32).map(NodeId).map(|id| match &plan.node(id).kind {
            NodeKind::Read(read) => read_ns(plan, &whole, id, read),
            _ => whole.node_ns(id),
        });
        let own_ns = own_ns.collect();
        Costs { plan, whole, own_ns }
    }

    /// Storing a node's blocks, or fetching them.
    fn moving_ns(&self, id: NodeId, value_ns: f64) -> f64 {
        let (node, window) = (self.plan.node(id), self.whole.node_window(id));
        let values = node.facts.kind.planes() as f64 * node.pixels(&window) as f64;
        value_ns * tiles(window.rows, window.cols) + BYTE_NS * values * value_bytes(node)
    }

    /// Whether computing a node from what is `kept` takes clearly longer than storing it once and fetching it
    /// when it is needed again: once more, or in all further rounds of a stage.
    fn are_worth(&self, id: NodeId, kept: &[bool]) -> bool {
        let uses = self.plan.rounds_of(id).max(2) - 1;
        let store_ns = self.moving_ns(id, STORE_NS) / f64::from(uses);
        let enough = WORTH * (store_ns + self.moving_ns(id, FETCH_NS));
        let mut is_counted = vec![false; id.index() + 1];
        let (mut ns, mut open) = (0.0, vec![id]);
        while let Some(next) = open.pop() {
            if std::mem::replace(&mut is_counted[next.index()], true) {
                continue;
            }
            if kept[next.index()] {
                ns += self.moving_ns(next, FETCH_NS);
            } else {
                ns += self.own_ns[next.index()];
                open.extend(self.plan.node(next).inputs());
            }
            if ns > enough {
                return true;
            }
        }
        false
    }
}

/// Tiles that so many pixels are cut into.
fn tiles(rows: u32, cols: u32) -> f64 {
    f64::from(rows.div_ceil(NOMINAL)) * f64::from(cols.div_ceil(NOMINAL))
}

/// Reading all pixels: every tile opens the files that touch it.
fn read_ns(plan: &Plan, whole: &TilePlan<'_>, id: NodeId, read: &Read) -> f64 {
    let window = whole.node_window(id);
    let mut ns = whole.read_ns(id, read);
    for scene in read.scenes.iter().filter(|scene| scene.touches(&window)) {
        let covered = scene.reach.and_then(|reach| reach.intersect(&window)).unwrap_or(window);
        let tiles = tiles(covered.rows, covered.cols);
        for band in &scene.bands {
            ns += (tiles - 1.0) * super::cost::OPEN_NS;
            if is_on_server(band) {
                let (stored, bytes) = super::explain::stored(plan, read, scene, band);
                let stored_bytes = covered.pixels() as f64 * stored * bytes as f64;
                ns += tiles * REMOTE_NS + stored_bytes * REMOTE_BYTE_NS;
            }
        }
    }
    ns
}
