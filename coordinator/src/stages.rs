//! Stages before the last: numbers that depend on all pixels of the area are computed first.
//!
//! A stage is dispatched like any other plan, round by round; its tiles are merged here instead of going
//! to the client, each as soon as it is complete.

use std::collections::BTreeMap;

use graticule_common::plan::stage::{RoundEnd, Rounds, StageError};
use graticule_common::plan::{Outcome, Staged, stage};
use graticule_common::proto::v1 as pb;
use tokio::sync::mpsc;

use crate::dispatch::{self, DispatchError, Out, SKIPPED_MAX, Sink};
use crate::request::{How, RequestError, Requests};

/// Whole tiles that wait to be merged.
const WAITING_MAX: usize = 4;

/// Computes the stages of an outcome, until its values are known and only its pixels are left.
///
/// # Errors
/// [`RequestError`].
pub(crate) async fn run(
    requests: &Requests,
    mut outcome: Outcome,
    how: How,
    client: &Out,
) -> Result<(Outcome, Sums), RequestError> {
    let mut sums = Sums::default();
    while let Outcome::Staged(staged) = outcome {
        let (stage, stages) = (staged.stage() as u32, staged.stages() as u32);
        let tiles = {
            let plan = &staged.plans()[0];
            plan.tiles().len() as u64 * u64::from(stage::rounds(plan))
        };
        let mut progress = pb::Progress { stage, stages, done: 0, tiles };
        let mut rounds = staged.rounds();
        let values = loop {
            let (end, done) = round(requests, rounds, how, (client, progress), &mut sums).await?;
            progress.done += done;
            match end {
                RoundEnd::Again(next) => rounds = next,
                RoundEnd::Done(values) => break values,
            }
        };
        outcome = blocking(move || Staged::resume(*staged, values)).await??;
    }
    Ok((outcome, sums))
}

/// One round of a stage; beside its end the number of its tiles.
async fn round(
    requests: &Requests,
    mut rounds: Rounds,
    how: How,
    (client, progress): (&Out, pb::Progress),
    sums: &mut Sums,
) -> Result<(RoundEnd, u64), RequestError> {
    let work = requests.work(rounds.plan(), how);
    let count = work.tiles.len() as u64;
    let (tiles, mut whole) = mpsc::channel::<Vec<u8>>(WAITING_MAX);
    let merging = async move {
        let mut batch = Vec::new();
        while whole.recv_many(&mut batch, WAITING_MAX).await > 0 {
            let tiles = std::mem::take(&mut batch);
            rounds = blocking(move || {
                tiles.iter().try_for_each(|tile| rounds.merge(tile))?;
                Ok::<_, StageError>(rounds)
            })
            .await??;
        }
        Ok::<_, RequestError>(rounds)
    };
    let sink = Sink::Merge { tiles, client: client.clone(), progress };
    let (merged, dispatched) = tokio::join!(merging, dispatch::run(work, &requests.fleet, sink));
    // Tiles that cannot be merged stop the dispatch: the reason is theirs.
    let rounds = merged?;
    sums.add(dispatched?)?;
    Ok((blocking(move || rounds.end()).await??, count))
}

/// Merging, planning and counting what a plan takes are computing: async threads only wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RequestError> {
    let panicked = |error: tokio::task::JoinError| RequestError::Panicked { reason: error.to_string() };
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}

/// What all stages of a request took together.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    summary: pb::Summary,
    /// Reasons of the sources that were skipped, by product, scene, asset, band and path.
    skipped: BTreeMap<[String; 5], String>,
}

impl Sums {
    /// Adds a plan's sums.
    ///
    /// # Errors
    /// [`DispatchError::Faulty`] when more sources were skipped than a list of them may have.
    pub(crate) fn add(&mut self, summary: pb::Summary) -> Result<(), DispatchError> {
        let sums = &mut self.summary;
        sums.tiles += summary.tiles;
        sums.tiles_from_cache += summary.tiles_from_cache;
        sums.cache_hits += summary.cache_hits;
        sums.cache_misses += summary.cache_misses;
        sums.read_bytes += summary.read_bytes;
        sums.files_opened += summary.files_opened;
        sums.reads_spared += summary.reads_spared;
        sums.read_ms += summary.read_ms;
        sums.eval_ms += summary.eval_ms;
        sums.retries += summary.retries;
        sums.workers = sums.workers.max(summary.workers);
        for source in summary.skipped {
            let pb::SkippedSource { product, scene, asset, band, path, reason } = source;
            self.skipped.entry([product, scene, asset, band, path]).or_insert(reason);
        }
        if self.skipped.len() > SKIPPED_MAX {
            return Err(DispatchError::Faulty { limit: SKIPPED_MAX });
        }
        Ok(())
    }

    /// The sums; times from the request's arrival are not among them.
    pub(crate) fn summary(self) -> pb::Summary {
        let skipped = self.skipped.into_iter().map(|([product, scene, asset, band, path], reason)| {
            pb::SkippedSource { product, scene, asset, band, path, reason }
        });
        pb::Summary { skipped: skipped.collect(), ..self.summary }
    }
}
