//! One tile: cache → read → eval → cache → encode. Read this first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use graticule_common::block::{Block, Samples};
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::eval::{EvalError, Surroundings, eval};
use graticule_common::grid::{TileId, Window};
use graticule_common::ops::Facts;
use graticule_common::plan::{NodeId, Plan, Read, ReadScene, TilePlan, stage};
use graticule_common::scene::Layout;
use tokio_util::sync::CancellationToken;

use crate::cache::{TileCache, TileKey};
use crate::pool::{Pool, PoolError};
use crate::source::{BandRead, ReadError, ReadPlace, TileSource};

/// What computing tiles needs.
#[derive(Clone, Debug)]
pub struct Tiles {
    /// Where pixels come from.
    pub source: Arc<dyn TileSource>,
    /// Where finished blocks are remembered.
    pub cache: Arc<dyn TileCache>,
    /// Where the work is done.
    pub pool: Pool,
    /// Versions of the engine and its libraries: whatever can change a pixel and is not in the plan.
    pub salt: Arc<str>,
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
}

/// How to compute tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileOptions {
    /// Whether remembered blocks are used and made.
    pub use_cache: bool,
    /// Whether a source that cannot be read leaves its pixels invalid instead of failing the tile.
    pub skip_faulty: bool,
}

impl Default for TileOptions {
    fn default() -> Self {
        TileOptions { use_cache: true, skip_faulty: false }
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

/// Sources that one tile may skip; one more fails it, so that the list stays a list.
const SKIPPED_MAX: usize = 1024;

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
    /// Time spent evaluating, without reading.
    pub eval: Duration,
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
}

impl Classify for TileError {
    fn class(&self) -> ErrorClass {
        match self {
            TileError::NoSuchTile { .. } => ErrorClass::Internal,
            TileError::Read(error) => error.class(),
            TileError::Pool(error) => error.class(),
            TileError::Cancelled => ErrorClass::Cancelled,
        }
    }
}

impl Tiles {
    /// Computes a tile.
    ///
    /// # Errors
    /// [`TileError`]. `cancel` takes effect between two steps of the tile.
    pub async fn compute(
        &self,
        plan: &Arc<Plan>,
        tile: TileId,
        options: TileOptions,
        cancel: CancellationToken,
    ) -> Result<TileResult, TileError> {
        let steps = plan.tile(tile).ok_or(TileError::NoSuchTile { tile })?;
        let keys = if options.use_cache { steps.keys(&self.salt) } else { Vec::new() };
        let mut cost = TileCost::default();
        let ready = self.remembered(&steps, &keys, &mut cost).await;
        if let Some(bytes) = whole(&steps, &ready).filter(|_| !stage::is_stage(plan)) {
            cost.from_cache = true;
            return Ok(TileResult { bytes, cost, skipped: Vec::new() });
        }
        let peak = steps.with_ready(&|id| ready.iter().any(|(ready, _, _)| *ready == id)).peak_bytes();
        let (plan, source) = (plan.clone(), self.source.clone());
        let work = move || {
            // The tile plan borrows the plan, which the other thread owns: it is made anew there.
            let steps = plan.tile(tile).ok_or(TileError::NoSuchTile { tile })?;
            let steps = steps.with_ready(&|id| ready.iter().any(|(ready, _, _)| *ready == id));
            cost.from_cache = steps.steps().is_empty();
            let blocks = ready.into_iter().map(|(id, block, _)| (id, block)).collect();
            let (finished, skipped) = (Vec::new(), options.skip_faulty.then(Vec::new));
            let mut around = Around { plan: &plan, source, cancel, cost, finished, skipped };
            let started = Instant::now();
            let blocks = eval(&steps, blocks, &mut around).map_err(|error| match error {
                EvalError::Read(error) => error,
                EvalError::Cancelled => TileError::Cancelled,
            })?;
            // Of pixels that are reduced over the whole area only the partials travel.
            let bytes = match stage::collect(&plan, &blocks) {
                Some(partials) => Bytes::from(partials),
                None => joined(blocks.into_iter().map(|block| block.encode())),
            };
            around.cost.eval = started.elapsed().saturating_sub(around.cost.read);
            Ok::<_, TileError>((bytes, around.cost, around.finished, around.skipped.unwrap_or_default()))
        };
        let (bytes, cost, finished, skipped) = self.pool.run(peak, work).await??;
        // What lacks a source is the answer of this request alone.
        if options.use_cache && skipped.is_empty() {
            let key = |id: NodeId| keys.iter().find(|(keyed, _)| *keyed == id).map(|(_, key)| *key);
            let entries = finished.into_iter().filter_map(|(id, bytes)| Some((key(id)?, bytes))).collect();
            self.cache.put(entries);
        }
        Ok(TileResult { bytes, cost, skipped })
    }

    /// What the cache has of a tile, the result first. A block of another shape than the plan's is not
    /// ours, whatever its key says.
    async fn remembered(
        &self,
        steps: &TilePlan<'_>,
        keys: &[(NodeId, TileKey)],
        cost: &mut TileCost,
    ) -> Vec<(NodeId, Block, Bytes)> {
        if keys.is_empty() {
            return Vec::new();
        }
        let wanted: Vec<TileKey> = keys.iter().map(|(_, key)| *key).collect();
        let found = self.cache.get(&wanted).await;
        let ready: Vec<_> = keys
            .iter()
            .zip(found)
            .filter_map(|((id, _), bytes)| {
                let bytes = bytes?;
                let block = Block::decode(&bytes).ok()?;
                let window = steps.node_window(*id);
                let facts = Facts { kind: block.kind(), dtype: block.samples().dtype() };
                let fits =
                    facts == steps.plan().node(*id).facts && block.shape() == (window.rows, window.cols);
                fits.then_some((*id, block, bytes))
            })
            .collect();
        cost.cache_hits = ready.len() as u32;
        cost.cache_misses = (keys.len() - ready.len()) as u32;
        ready
    }
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

impl Around<'_> {
    /// One band of one scene into a plane that arrives zeroed.
    fn read_band(
        &mut self,
        read: &Read,
        scene: &ReadScene,
        band: usize,
        window: &Window,
        (samples, valid): (&mut [f32], &mut [u8]),
    ) -> Result<(), TileError> {
        // A request that nobody waits for stops here too: a stack may take long to read.
        if self.cancel.is_cancelled() {
            return Err(TileError::Cancelled);
        }
        if !scene.touches(window) {
            return Ok(());
        }
        let read = BandRead {
            scene: &scene.id,
            band: &scene.bands[band],
            band_name: &read.bands[band],
            lattice: self.plan.grid().lattice(),
            window: *window,
            resampler: read.resampler,
            overviews: read.overviews,
        };
        match self.source.read(&read, samples, valid) {
            Ok(stats) => {
                self.cost.read_bytes += stats.bytes;
                self.cost.files_opened += stats.opened;
                Ok(())
            }
            Err(error) => {
                // What a failed read wrote means nothing.
                samples.fill(0.0);
                valid.fill(0);
                self.skip(&scene.product, error)
            }
        }
    }

    /// Goes on without a source, where that was asked for and the source is at fault.
    fn skip(&mut self, product: &str, error: ReadError) -> Result<(), TileError> {
        let Some(skipped) = self.skipped.as_mut().filter(|_| error.class() == ErrorClass::Source) else {
            return Err(error.into());
        };
        let is_known = |known: &Skipped| known.product == product && known.place == *error.place;
        if skipped.iter().any(is_known) {
            return Ok(());
        }
        if skipped.len() == SKIPPED_MAX {
            return Err(error.into());
        }
        let reason = error.problem.to_string();
        skipped.push(Skipped { product: product.to_owned(), place: *error.place, reason });
        Ok(())
    }

    /// One band of all scenes on one plane. From the top downwards, so that what is covered is never
    /// read: a plane of scratch is all it takes, however many scenes there are.
    fn paint(
        &mut self,
        read: &Read,
        band: usize,
        window: &Window,
        (samples, valid): (&mut [f32], &mut [u8]),
    ) -> Result<(), TileError> {
        let mut scenes = read.scenes.iter().rev().filter(|scene| scene.touches(window));
        let Some(top) = scenes.next() else { return Ok(()) };
        self.read_band(read, top, band, window, (samples, valid))?;
        let (mut below, mut below_valid) = (Vec::new(), Vec::new());
        for scene in scenes {
            if !valid.contains(&0) {
                break;
            }
            below.clear();
            below.resize(samples.len(), 0.0);
            below_valid.clear();
            below_valid.resize(valid.len(), 0);
            self.read_band(read, scene, band, window, (&mut below, &mut below_valid))?;
            for ((sample, ok), (other, other_ok)) in
                samples.iter_mut().zip(valid.iter_mut()).zip(below.iter().zip(&below_valid))
            {
                if *ok == 0 {
                    (*sample, *ok) = (*other, *other_ok);
                }
            }
        }
        Ok(())
    }
}

/// The interpreter's surroundings on a pool thread.
struct Around<'a> {
    plan: &'a Plan,
    source: Arc<dyn TileSource>,
    cancel: CancellationToken,
    cost: TileCost,
    finished: Vec<(NodeId, Bytes)>,
    /// The sources that were skipped; `None` where each must be read.
    skipped: Option<Vec<Skipped>>,
}

impl Surroundings for Around<'_> {
    type Error = TileError;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, TileError> {
        let started = Instant::now();
        let (scenes, kind) = read.images(image);
        let pixels = window.pixels();
        let (mut samples, mut valid) =
            (vec![0.0f32; kind.planes() * pixels], vec![0u8; kind.planes() * pixels]);
        let planes = samples.chunks_exact_mut(pixels).zip(valid.chunks_exact_mut(pixels));
        match read.layout {
            Layout::Stack => {
                let places = scenes.iter().flat_map(|scene| (0..read.bands.len()).map(move |b| (scene, b)));
                for ((scene, band), (samples, valid)) in places.zip(planes) {
                    self.read_band(read, scene, band, window, (samples, valid))?;
                }
            }
            Layout::Mosaic => {
                for (band, (samples, valid)) in planes.enumerate() {
                    self.paint(read, band, window, (samples, valid))?;
                }
            }
        }
        self.cost.read += started.elapsed();
        Ok(Block::new(kind, (window.rows, window.cols), Samples::F32(samples), valid))
    }

    fn spared(&mut self, read: &Read, image: Option<u32>, window: &Window) {
        let scenes = read.images(image).0.iter().filter(|scene| scene.touches(window));
        self.cost.reads_spared += (scenes.count() * read.bands.len()) as u64;
    }

    fn finished(&mut self, node: NodeId, block: &Block) {
        self.finished.push((node, block.encode()));
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
