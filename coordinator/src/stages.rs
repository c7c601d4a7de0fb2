//! Stages before the last: numbers that depend on all pixels of the area are computed first.
//!
//! A stage is dispatched like any other plan, round by round; its tiles are merged here instead of going
//! to the client, each as soon as it is complete. Merging is computing, so it has a thread of its own.

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
    let panicked = |error: tokio::task::JoinError| RequestError::Panicked { reason: error.to_string() };
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
        outcome = tokio::task::spawn_blocking(move || Staged::resume(*staged, values))
            .await
            .map_err(panicked)??;
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
    let (finish, is_complete) = tokio::sync::oneshot::channel::<()>();
    let merging = tokio::task::spawn_blocking(move || {
        while let Some(tile) = whole.blocking_recv() {
            rounds.merge(&tile)?;
        }
        // A round whose tiles did not all come has no end.
        match is_complete.blocking_recv() {
            Ok(()) => rounds.end().map(Some),
            Err(_) => Ok(None),
        }
    });
    let sink = Sink::Merge { tiles, client: client.clone(), progress };
    let dispatched = dispatch::run(work, &requests.fleet, sink).await;
    if dispatched.is_ok() {
        // Fails only when merging has ended early; its error follows.
        let _ = finish.send(());
    } else {
        drop(finish);
    }
    let merged = merging.await.map_err(|error| RequestError::Panicked { reason: error.to_string() })?;
    // Tiles that cannot be merged stop the dispatch: the reason is theirs.
    match (merged?, dispatched) {
        (_, Err(error)) => Err(error.into()),
        (Some(end), Ok(summary)) => {
            sums.add(summary)?;
            Ok((end, count))
        }
        (None, Ok(_)) => Err(StageError::Length.into()),
    }
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
