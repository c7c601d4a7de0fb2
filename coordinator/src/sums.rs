//! What the tiles of a request took together.

use std::collections::BTreeMap;
use std::time::Duration;

use graticule_common::proto::v1 as pb;
use tokio::time::Instant;

use crate::dispatch::{DispatchError, TileSums};

/// Sources that one request may skip: their list travels in one message.
pub(crate) const SKIPPED_MAX: usize = 4096;

/// What the tiles of a request took together, those of all its stages.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    summary: pb::Summary,
    /// Time until the first of its tiles began.
    queued: Option<Duration>,
    /// Reasons of the sources that were skipped, by product, scene, asset, band and path: tiles and
    /// workers may report the same one.
    skipped: BTreeMap<[String; 5], String>,
}

impl Sums {
    /// Adds a tile of a round that was handed in at `submitted`, while there were so many workers.
    ///
    /// # Errors
    /// [`DispatchError::Faulty`] when more sources were skipped than a list of them may have.
    pub(crate) fn add(
        &mut self,
        tile: TileSums,
        submitted: Instant,
        workers: u32,
    ) -> Result<(), DispatchError> {
        let (sums, done) = (&mut self.summary, tile.done);
        sums.tiles += 1;
        sums.tiles_from_cache += u64::from(done.from_cache);
        sums.cache_hits += u64::from(done.cache_hits);
        sums.cache_misses += u64::from(done.cache_misses);
        sums.read_bytes += done.read_bytes;
        sums.files_opened += done.files_opened;
        sums.reads_spared += done.reads_spared;
        sums.read_ms += done.read_ms;
        sums.eval_ms += done.eval_ms;
        sums.cpu_ms += done.cpu_ms;
        sums.retries += u64::from(tile.retries);
        sums.workers = sums.workers.max(workers);
        let waited = tile.sent_at.map(|sent| sent.saturating_duration_since(submitted));
        self.queued = [self.queued, waited].into_iter().flatten().min();
        for source in done.skipped {
            let pb::SkippedSource { product, scene, asset, band, path, reason } = source;
            self.skipped.entry([product, scene, asset, band, path]).or_insert(reason);
        }
        if self.skipped.len() > SKIPPED_MAX {
            return Err(DispatchError::Faulty { limit: SKIPPED_MAX });
        }
        Ok(())
    }

    /// Time until the first tile began; none where there was no tile.
    pub(crate) fn queued(&self) -> Option<Duration> {
        self.queued
    }

    /// The sums; times from the request's arrival are not among them.
    pub(crate) fn summary(self) -> pb::Summary {
        let skipped = self.skipped.into_iter().map(|([product, scene, asset, band, path], reason)| {
            pb::SkippedSource { product, scene, asset, band, path, reason }
        });
        pb::Summary {
            skipped: skipped.collect(),
            queued_ms: self.queued.unwrap_or_default().as_secs_f64() * 1e3,
            ..self.summary
        }
    }
}
