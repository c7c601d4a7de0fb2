//! One tile: cache → read → eval → cache → encode. Read this first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use graticule_common::block::Block;
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::eval::{EvalError, eval};
use graticule_common::failpoint;
use graticule_common::grid::TileId;
use graticule_common::hash::{ContentHash, Hasher};
use graticule_common::ops::Facts;
use graticule_common::plan::{NodeId, Plan, TilePlan, stage};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use self::around::Around;
use crate::cache::{TileCache, TileKey};
use crate::flight::Flights;
use crate::measure;
use crate::pool::{Held, Pool, PoolError};
use crate::source::{ReadError, ReadPlace, TileSource};

mod around;
#[cfg(test)]
mod tests;

/// What computing tiles needs.
#[derive(Clone, Debug)]
pub struct Tiles {
    /// Where pixels come from.
    pub source: Arc<dyn TileSource>,
    /// Where finished blocks are remembered.
    pub cache: Arc<dyn TileCache>,
    /// Where the work is done.
    pub pool: Pool,
    /// The tiles that are being computed.
    pub flights: Flights<Outcome>,
    /// Versions of the engine and its libraries: whatever can change a pixel and is not in the plan.
    pub salt: Arc<str>,
    /// Says that the worker is ending: what has not begun by then is handed back.
    pub draining: CancellationToken,
}

/// What became of a tile.
pub type Outcome = Result<TileResult, TileError>;

/// What tiles are computed of, and for whom.
#[derive(Clone, Debug)]
pub struct Job {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Digest of its message.
    pub digest: ContentHash,
    /// Whose request it is: what is remembered is kept apart by it.
    pub tenant: Arc<str>,
    /// How.
    pub options: TileOptions,
}

/// A finished tile.
#[derive(Clone, Debug)]
pub struct TileResult {
    /// The encoded blocks, or the partials of a stage.
    pub bytes: Bytes,
    /// What it took.
    pub cost: TileCost,
    /// Sources that could not be read and are missing from it; empty unless they were to be skipped.
    pub skipped: Vec<Skipped>,
    /// The memory that it holds until it is sent.
    pub held: Arc<Held>,
}

/// How to compute tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileOptions {
    /// Whether remembered blocks are used and made.
    pub use_cache: bool,
    /// Whether a source that cannot be read leaves its pixels invalid instead of failing the tile.
    pub skip_faulty: bool,
    /// Whether the worker computes nothing else meanwhile.
    pub alone: bool,
}

impl Default for TileOptions {
    fn default() -> Self {
        TileOptions { use_cache: true, skip_faulty: false, alone: false }
    }
}

/// A source whose pixels are missing from a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Product id of the scene.
    pub product: String,
    /// Which pixels.
    pub place: ReadPlace,
    /// Why they could not be read.
    pub reason: String,
}

/// What a tile took.
#[derive(Clone, Copy, Debug, Default)]
pub struct TileCost {
    /// Whether the result itself was remembered.
    pub from_cache: bool,
    /// Blocks found in the cache.
    pub cache_hits: u32,
    /// Blocks looked for and not found.
    pub cache_misses: u32,
    /// Decoded bytes of the stored pixels that were read.
    pub read_bytes: u64,
    /// Files opened.
    pub files_opened: u64,
    /// Bands of scenes that were not read because a mask hides all of them.
    pub reads_spared: u64,
    /// Time spent reading.
    pub read: Duration,
    /// Time spent otherwise on the tile's thread: planning, evaluating, encoding.
    pub eval: Duration,
    /// Processor time of the tile's thread. Threads of GDAL and of servers' files are not in it.
    pub cpu: Duration,
    /// Time spent waiting for memory and a slot.
    pub waited: Duration,
    /// Time spent asking the cache.
    pub asked: Duration,
    /// Part of `eval`: turning blocks into bytes.
    pub encode: Duration,
    /// Whether another call for the same tile did the work; then nothing else is counted.
    pub coalesced: bool,
}

/// Why a tile has no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TileError {
    /// The tile is not part of the plan.
    #[error("tile {tile} is not part of the plan")]
    NoSuchTile {
        /// The tile.
        tile: TileId,
    },
    /// Pixels could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The work could not be done.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Nobody waits for it any more.
    #[error("the request was cancelled")]
    Cancelled,
    /// It did not end in the time that the request had left.
    #[error("the tile was not done before the request's deadline")]
    Deadline,
    /// The worker is ending and has not begun it.
    #[error("the worker is ending and has not begun the tile; another one can compute it")]
    HandedBack,
    /// The task that computed it for several calls is gone: a defect.
    #[error("the computation of the tile stopped by a defect of the engine")]
    Defect,
}

impl Classify for TileError {
    fn class(&self) -> ErrorClass {
        match self {
            TileError::NoSuchTile { .. } | TileError::Defect => ErrorClass::Internal,
            TileError::Read(error) => error.class(),
            TileError::Pool(error) => error.class(),
            TileError::Cancelled => ErrorClass::Cancelled,
            TileError::Deadline => ErrorClass::Timeout,
            TileError::HandedBack => ErrorClass::Unavailable,
        }
    }
}

/// What is known of a tile before anything is looked up.
struct Prepared {
    /// What tells it from other computations under way.
    identity: ContentHash,
    /// The remembered nodes with their keys.
    keys: Vec<(NodeId, TileKey)>,
    /// Memory that it takes when nothing is remembered.
    peak_bytes: u64,
}

/// What the cache had of a tile.
struct Found {
    /// Blocks that were remembered.
    blocks: Vec<(NodeId, Block)>,
    /// The bytes of the result, where all of it was.
    whole: Option<Bytes>,
    /// Memory that the rest takes.
    peak_bytes: u64,
}

impl Tiles {
    /// Computes a tile, or waits for somebody else's computation of the same tile. Dropping this gives it
    /// up: nobody's computation stops at its next step.
    ///
    /// # Errors
    /// [`TileError`].
    pub async fn compute(&self, job: &Job, tile: TileId) -> Outcome {
        let salt = tenant_salt(&self.salt, &job.tenant);
        let (of, options) = (job.clone(), job.options);
        let prepared = self.pool.think(move || prepare(&of, tile, &salt)).await??;
        let (tiles, plan) = (self.clone(), job.plan.clone());
        let identity = prepared.identity;
        // Of those who wait, the trace of the first one has the work.
        let span = Span::current();
        let fly =
            |cancel| async move { tiles.fly(plan, tile, options, prepared, cancel).await }.instrument(span);
        let (outcome, is_shared) = self.flights.join(identity, fly).await;
        let mut outcome = outcome.unwrap_or(Err(TileError::Defect));
        if let Ok(result) = &mut outcome
            && is_shared
        {
            result.cost = TileCost { coalesced: true, ..TileCost::default() };
        }
        outcome
    }

    /// The computation itself, for everybody who waits for it.
    async fn fly(
        self,
        plan: Arc<Plan>,
        tile: TileId,
        options: TileOptions,
        prepared: Prepared,
        cancel: CancellationToken,
    ) -> Outcome {
        let mut cost = TileCost::default();
        let Prepared { keys, peak_bytes, .. } = prepared;
        let asked = Instant::now();
        let found = self.remembered(&plan, tile, &keys, &mut cost);
        let found = found.instrument(info_span!("cache", blocks = keys.len())).await?;
        cost.asked = asked.elapsed();
        if let Some(bytes) = found.as_ref().and_then(|found| found.whole.clone()) {
            cost.from_cache = true;
            let held = Arc::new(self.pool.hold(bytes.len() as u64));
            return Ok(TileResult { bytes, cost, skipped: Vec::new(), held });
        }
        let (ready, peak_bytes) = match found {
            Some(found) => (found.blocks, found.peak_bytes),
            None => (Vec::new(), peak_bytes),
        };
        let queued = Instant::now();
        let place = tokio::select! {
            // From the moment of draining on, nothing begins.
            biased;
            () = cancel.cancelled() => return Err(TileError::Cancelled),
            () = self.draining.cancelled() => return Err(TileError::HandedBack),
            place = self.pool.admit(peak_bytes, options.alone).instrument(info_span!("wait")) => place?,
        };
        cost.waited = queued.elapsed();
        let (source, cancelled) = (self.source.clone(), cancel.clone());
        let span = info_span!("eval", read_ms = Empty, cpu_ms = Empty);
        let work = move || {
            let _busy = measure::busy();
            span.in_scope(|| evaluate(&plan, tile, options, ready, (source, cancelled, cost)))
        };
        let bytes = |done: &Result<Done, TileError>| done.as_ref().map_or(0, |done| done.bytes.len() as u64);
        let (done, held) = place.run(&cancel, bytes, work).await?;
        let Done { bytes, cost, finished, skipped } = done?;
        // What lacks a source is the answer of this request alone.
        if options.use_cache && skipped.is_empty() {
            let key = |id: NodeId| keys.iter().find(|(keyed, _)| *keyed == id).map(|(_, key)| *key);
            let entries = finished.into_iter().filter_map(|(id, bytes)| Some((key(id)?, bytes))).collect();
            self.cache.put(entries);
        }
        Ok(TileResult { bytes, cost, skipped, held: Arc::new(held) })
    }

    /// What the cache has of a tile; `None` where it has nothing.
    async fn remembered(
        &self,
        plan: &Arc<Plan>,
        tile: TileId,
        keys: &[(NodeId, TileKey)],
        cost: &mut TileCost,
    ) -> Result<Option<Found>, TileError> {
        if keys.is_empty() {
            return Ok(None);
        }
        let wanted: Vec<TileKey> = keys.iter().map(|(_, key)| *key).collect();
        let values = self.cache.get(&wanted).await;
        let values: Vec<(NodeId, Bytes)> =
            keys.iter().zip(values).filter_map(|((id, _), bytes)| Some((*id, bytes?))).collect();
        cost.cache_misses = keys.len() as u32;
        if values.is_empty() {
            return Ok(None);
        }
        let plan = plan.clone();
        let found = self.pool.think(move || recognise(&plan, tile, values)).await??;
        cost.cache_hits = found.blocks.len() as u32;
        cost.cache_misses -= cost.cache_hits;
        Ok(Some(found))
    }
}

/// What remembered tiles are kept apart by. The tenant's name stands last, so that no two of them and
/// no two engines share a salt.
fn tenant_salt(salt: &str, tenant: &str) -> String {
    format!("{salt}, tenant {tenant}")
}

/// Blocks that are looked for in one tile, those of the results first: what a cache may answer at once.
const KEYS_MAX: usize = 64;

fn prepare(job: &Job, tile: TileId, salt: &str) -> Result<Prepared, TileError> {
    let steps = job.plan.tile(tile).ok_or(TileError::NoSuchTile { tile })?;
    let options = job.options;
    let mut keys = if options.use_cache { steps.keys(salt) } else { Vec::new() };
    keys.truncate(KEYS_MAX);
    let mut hasher = Hasher::new("tile under way");
    match steps.identity(salt) {
        Some(identity) => hasher.hash(identity),
        None => hasher.hash(job.digest).int(tile.row).int(tile.col).str(salt),
    };
    for option in [options.use_cache, options.skip_faulty, options.alone] {
        hasher.int(option.into());
    }
    Ok(Prepared { identity: hasher.finish(), keys, peak_bytes: steps.peak_bytes() })
}

/// What remembered values are worth. A block of another shape than the plan's is not ours, whatever its
/// key says.
fn recognise(plan: &Plan, tile: TileId, values: Vec<(NodeId, Bytes)>) -> Result<Found, TileError> {
    let steps = plan.tile(tile).ok_or(TileError::NoSuchTile { tile })?;
    let block = |id: NodeId, bytes: &Bytes| {
        let block = Block::decode(bytes).ok()?;
        let window = steps.node_window(id);
        let facts = Facts { kind: block.kind(), dtype: block.samples().dtype() };
        let fits = facts == plan.node(id).facts && block.shape() == (window.rows, window.cols);
        fits.then_some(block)
    };
    let ready: Vec<(NodeId, Block, Bytes)> =
        values.into_iter().filter_map(|(id, bytes)| Some((id, block(id, &bytes)?, bytes))).collect();
    let whole = whole(&steps, &ready).filter(|_| !stage::is_stage(plan));
    let rest = steps.with_ready(&|id| ready.iter().any(|(ready, _, _)| *ready == id));
    let blocks = ready.into_iter().map(|(id, block, _)| (id, block)).collect();
    Ok(Found { blocks, whole, peak_bytes: rest.peak_bytes() })
}

/// A tile whose results were all remembered.
fn whole(steps: &TilePlan<'_>, ready: &[(NodeId, Block, Bytes)]) -> Option<Bytes> {
    let results = steps.plan().roots().iter().map(|root| {
        let (_, _, bytes) = ready.iter().find(|(id, _, _)| *id == root.node)?;
        // A result that another one needs with a margin was remembered with it.
        (steps.node_window(root.node) == steps.window()).then(|| bytes.clone())
    });
    results.collect::<Option<Vec<Bytes>>>().map(|results| joined(results.into_iter()))
}

/// A tile as it leaves the pool.
struct Done {
    bytes: Bytes,
    cost: TileCost,
    /// What is worth remembering.
    finished: Vec<(NodeId, Bytes)>,
    skipped: Vec<Skipped>,
}

/// A tile on a pool thread, from what is there already to its bytes.
fn evaluate(
    plan: &Plan,
    tile: TileId,
    options: TileOptions,
    ready: Vec<(NodeId, Block)>,
    (source, cancel, mut cost): (Arc<dyn TileSource>, CancellationToken, TileCost),
) -> Result<Done, TileError> {
    if cancel.is_cancelled() {
        return Err(TileError::Cancelled);
    }
    failpoint!(blocking "worker.before_open", return Err(PoolError::Closed.into()));
    let (started, cpu) = (Instant::now(), thread_cpu());
    // The tile plan borrows the plan, which this thread shares: it is made anew here.
    let steps = plan.tile(tile).ok_or(TileError::NoSuchTile { tile })?;
    let steps = steps.with_ready(&|id| ready.iter().any(|(ready, _)| *ready == id));
    cost.from_cache = steps.steps().is_empty();
    let (finished, skipped) = (Vec::new(), options.skip_faulty.then(Vec::new));
    let mut around = Around { plan, source, cancel, cost, finished, skipped, reads: 0 };
    let blocks = eval(&steps, ready, &mut around).map_err(|error| match error {
        EvalError::Read(error) => error,
        EvalError::Cancelled => TileError::Cancelled,
    })?;
    let encoding = Instant::now();
    let encode = info_span!("encode").entered();
    // Of pixels that are reduced over the whole area only the partials travel.
    let bytes = match stage::collect(plan, &blocks) {
        Some(partials) => Bytes::from(partials),
        None => {
            // What is remembered as it is sent was encoded already.
            let encoded = |node: NodeId| {
                let is_whole = steps.node_window(node) == steps.window();
                around.finished.iter().find(|(id, _)| *id == node && is_whole).map(|(_, bytes)| bytes.clone())
            };
            let results = plan.roots().iter().zip(blocks);
            joined(results.map(|(root, block)| encoded(root.node).unwrap_or_else(|| block.encode())))
        }
    };
    drop(encode);
    failpoint!(blocking "worker.after_compute", return Err(PoolError::Closed.into()));
    let Around { mut cost, finished, skipped, .. } = around;
    cost.encode = encoding.elapsed();
    cost.eval = started.elapsed().saturating_sub(cost.read);
    cost.cpu = thread_cpu().saturating_sub(cpu);
    let span = Span::current();
    span.record("read_ms", cost.read.as_secs_f64() * 1e3).record("cpu_ms", cost.cpu.as_secs_f64() * 1e3);
    Ok(Done { bytes, cost, finished, skipped: skipped.unwrap_or_default() })
}

/// Processor time of this thread since it began.
fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // Both are never negative on this clock.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// The blocks of a tile's results, one after the other.
fn joined(mut blocks: impl Iterator<Item = Bytes>) -> Bytes {
    let first = blocks.next().unwrap_or_default();
    let mut rest = blocks.peekable();
    if rest.peek().is_none() {
        return first;
    }
    let mut bytes = Vec::from(first);
    rest.for_each(|block| bytes.extend_from_slice(&block));
    Bytes::from(bytes)
}
