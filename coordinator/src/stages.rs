//! Stages before the last: numbers that depend on all pixels of the area are computed first.
//!
//! A stage is dispatched like any other plan, round by round; its tiles are merged here instead of going
//! to the client, each as soon as it is complete.

use std::collections::HashMap;

use bytes::Bytes;
use graticule_common::grid::TileId;
use graticule_common::plan::stage::{RoundEnd, Rounds, StageError};
use graticule_common::plan::{Outcome, Staged, explain, stage};
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::wire;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{Instrument, info_span};

use crate::dispatch::{Answer, Running};
use crate::planning::{Estimate, How, blocking, task};
use crate::reader::Client;
use crate::request::{Asked, RequestError, Requests};
use crate::sums::Sums;

/// Whole tiles that wait to be merged.
const WAITING_MAX: usize = 4;

/// Computes the stages of an outcome, until its values are known and only its pixels are left.
///
/// # Errors
/// [`RequestError`].
pub(crate) async fn run(
    requests: &Requests,
    mut outcome: Outcome,
    (asked, how): (&Asked, How),
    sums: &mut Sums,
    client: &Client,
) -> Result<Outcome, RequestError> {
    while let Outcome::Staged(staged) = outcome {
        let (stage, stages) = (staged.stage() as u32, staged.stages() as u32);
        let planned = move || {
            let plan = &staged.plans()[0];
            let (bill, rounds) = (explain::bill(plan), stage::rounds(plan));
            (staged, Estimate::of(&bill), bill.tiles * u64::from(rounds))
        };
        let (staged, estimate, tiles) = blocking(planned).await?;
        let mut progress = pb::Progress { stage, stages, done: 0, tiles };
        let mut rounds = staged.rounds();
        let values = loop {
            let how = (asked, how, estimate);
            let round = round(requests, rounds, how, (client, &mut progress), sums);
            match round.instrument(info_span!("stage", stage)).await? {
                RoundEnd::Again(next) => rounds = next,
                RoundEnd::Done(values) => break values,
            }
        };
        outcome = blocking(move || Staged::resume(*staged, values)).await??;
    }
    Ok(outcome)
}

/// One round of a stage.
async fn round(
    requests: &Requests,
    rounds: Rounds,
    (asked, how, estimate): (&Asked, How, Estimate),
    client: (&Client, &mut pb::Progress),
    sums: &mut Sums,
) -> Result<RoundEnd, RequestError> {
    let planned = move || {
        let task = task(rounds.plan(), how, estimate);
        (rounds, task)
    };
    let (mut rounds, task) = blocking(planned).await?;
    let (tiles, mut whole) = mpsc::channel::<Bytes>(WAITING_MAX);
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
    let running = requests.submit(asked, task.into());
    let (merged, collected) = tokio::join!(merging, collect(requests, running, tiles, client, sums));
    // Tiles that cannot be merged stop the collecting: the reason is theirs.
    let rounds = merged?;
    collected?;
    Ok(blocking(move || rounds.end()).await??)
}

/// Puts tiles together and hands them on. Ends early when nobody takes them any more.
async fn collect(
    requests: &Requests,
    mut running: Running,
    tiles: mpsc::Sender<Bytes>,
    (client, progress): (&Client, &mut pb::Progress),
    sums: &mut Sums,
) -> Result<(), RequestError> {
    let submitted = Instant::now();
    let mut pieces: HashMap<TileId, Vec<Bytes>> = HashMap::new();
    while let Some(answer) = running.next().await? {
        match answer {
            Answer::Piece(chunk) => {
                let tile = wire::tile_from(chunk.tile.as_ref())?;
                pieces.entry(tile).or_default().push(chunk.data);
            }
            Answer::Done(done) => {
                let tile = wire::tile_from(done.done.tile.as_ref())?;
                let pieces = pieces.remove(&tile).unwrap_or_default();
                let bytes = if let [piece] = &pieces[..] { piece.clone() } else { pieces.concat().into() };
                if tiles.send(bytes).await.is_err() {
                    return Ok(());
                }
                sums.add(*done, submitted, requests.fleet.shape().workers)?;
                progress.done += 1;
                // A client that is slow to read is shown the next one.
                client.offer(Message::Progress(*progress));
            }
        }
    }
    Ok(())
}
