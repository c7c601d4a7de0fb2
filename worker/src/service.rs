//! The gRPC front door: decode the plan once, compute its tiles, stream the answers.

use std::pin::Pin;
use std::sync::Arc;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::grid::TileId;
use graticule_common::plan::Plan;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::execute_response::Outcome;
use graticule_common::proto::v1::worker_service_server::WorkerService;
use graticule_common::status::{status, to_status};
use graticule_common::{versions, wire};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::source::ReadPlace;
use crate::tile::{Skipped, TileError, TileOptions, TileResult, Tiles};

/// Size of a piece of a tile. Every worker cuts alike, so that a retry can go on where another stopped.
const CHUNK_BYTES: usize = 512 << 10;

/// Pieces that wait for a slow reader before computing stops.
const PIECES_WAITING_MAX: usize = 4;

/// Tiles of one call; a coordinator sends far fewer.
const TILES_MAX: usize = 4096;

/// Computes tiles for coordinators.
#[derive(Debug)]
pub struct Service {
    tiles: Tiles,
}

impl Service {
    /// A service that computes with `tiles`.
    pub fn new(tiles: Tiles) -> Self {
        Service { tiles }
    }
}

type Answer = Result<pb::ExecuteResponse, Status>;

#[tonic::async_trait]
impl WorkerService for Service {
    type ExecuteStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let request = request.into_inner();
        let theirs = request.versions.clone().unwrap_or_default();
        if let Some(difference) = versions::difference(&versions::own(), &theirs) {
            return Err(status(ErrorClass::Internal, &format!("the coordinator has {difference} here")));
        }
        if request.tiles.len() > TILES_MAX {
            return Err(status(
                ErrorClass::LimitExceeded,
                &format!("more than {TILES_MAX} tiles in one call"),
            ));
        }
        let plan = request.plan.ok_or_else(|| status(ErrorClass::InvalidRequest, "the call has no plan"))?;
        let plan = Arc::new(wire::plan_from(&plan).map_err(|error| to_status(&error))?);
        let tiles =
            request.tiles.iter().map(|tile| wire::tile_from(Some(tile))).collect::<Result<Vec<_>, _>>();
        let tiles = tiles.map_err(|error| to_status(&error))?;
        debug!(tiles = tiles.len(), "computing tiles");
        let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        let options = TileOptions { use_cache: !request.no_cache, skip_faulty: request.skip_faulty };
        tokio::spawn(run(self.tiles.clone(), plan, tiles, options, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Computes all tiles of a call; ends early when the caller has gone.
async fn run(
    tiles: Tiles,
    plan: Arc<Plan>,
    ids: Vec<TileId>,
    options: TileOptions,
    sender: mpsc::Sender<Answer>,
) {
    let cancel = CancellationToken::new();
    // Whatever ends this task, tiles that still run stop at their next step.
    let _cancel_on_exit = cancel.clone().drop_guard();
    let mut running = JoinSet::new();
    for id in ids {
        let (tiles, plan, cancel, sender) = (tiles.clone(), plan.clone(), cancel.clone(), sender.clone());
        running.spawn(async move {
            let result = tiles.compute(&plan, id, options, cancel).await;
            // A send fails only when nobody listens any more.
            let _ = answer(&sender, id, result).await;
        });
    }
    tokio::select! {
        () = sender.closed() => {}
        () = async { while running.join_next().await.is_some() {} } => {}
    }
}

async fn answer(
    sender: &mpsc::Sender<Answer>,
    id: TileId,
    result: Result<TileResult, TileError>,
) -> Result<(), mpsc::error::SendError<Answer>> {
    let tile = Some(wire::tile_to(id));
    let send = |outcome| sender.send(Ok(pb::ExecuteResponse { outcome: Some(outcome) }));
    let result = match result {
        Ok(result) => result,
        Err(error) => {
            let (error_class, message) = (error.class().name().to_owned(), error.to_string());
            return send(Outcome::Failed(pb::TileFailed { tile, error_class, message, handed_back: false }))
                .await;
        }
    };
    let total = result.bytes.len();
    for offset in (0..total).step_by(CHUNK_BYTES) {
        let data = result.bytes.slice(offset..(offset + CHUNK_BYTES).min(total));
        send(Outcome::Chunk(pb::TileChunk { tile, offset: offset as u64, total: total as u64, data }))
            .await?;
    }
    let cost = result.cost;
    send(Outcome::Done(pb::TileDone {
        tile,
        from_cache: cost.from_cache,
        cache_hits: cost.cache_hits,
        cache_misses: cost.cache_misses,
        read_bytes: cost.read_bytes,
        read_ms: cost.read.as_secs_f64() * 1e3,
        eval_ms: cost.eval.as_secs_f64() * 1e3,
        files_opened: cost.files_opened,
        reads_spared: cost.reads_spared,
        skipped: result.skipped.into_iter().map(skipped_to).collect(),
        ..pb::TileDone::default()
    }))
    .await
}

fn skipped_to(Skipped { product, place, reason }: Skipped) -> pb::SkippedSource {
    let ReadPlace { scene, asset, band, path } = place;
    pb::SkippedSource { product, scene, asset, band, path, reason }
}
