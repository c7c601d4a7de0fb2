//! What the interpreter asks for while it computes a tile: pixels, and whether to go on.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use graticule_common::block::{Block, Samples};
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::eval::Surroundings;
use graticule_common::failpoint;
use graticule_common::grid::Window;
use graticule_common::plan::{NodeId, Plan, Read, ReadScene};
use graticule_common::scene::Layout;
use tokio_util::sync::CancellationToken;

use super::{Skipped, TileCost, TileError};
use crate::source::{BandRead, ReadError, TileSource};

/// Sources that one tile may skip; one more fails it, so that the list stays a list.
const SKIPPED_MAX: usize = 1024;

/// The interpreter's surroundings on a pool thread.
pub(super) struct Around<'a> {
    pub(super) plan: &'a Plan,
    pub(super) source: Arc<dyn TileSource>,
    pub(super) cancel: CancellationToken,
    pub(super) cost: TileCost,
    pub(super) finished: Vec<(NodeId, Bytes)>,
    /// The sources that were skipped; `None` where each must be read.
    pub(super) skipped: Option<Vec<Skipped>>,
    /// Reads so far.
    pub(super) reads: u32,
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
        // One that cannot be reached too: who skips does not wait for it to come back.
        let is_faulty = matches!(error.class(), ErrorClass::Source | ErrorClass::Unavailable);
        let Some(skipped) = self.skipped.as_mut().filter(|_| is_faulty) else {
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

/// Reads of one tile that have a span of their own: a stack may have thousands.
const READ_SPANS_MAX: u32 = 16;

impl Surroundings for Around<'_> {
    type Error = TileError;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, TileError> {
        let started = Instant::now();
        let _span = (self.reads < READ_SPANS_MAX).then(|| tracing::info_span!("read").entered());
        self.reads += 1;
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
        failpoint!(blocking "worker.mid_read", return Err(crate::pool::PoolError::Closed.into()));
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
