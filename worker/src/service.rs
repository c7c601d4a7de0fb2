//! The gRPC front door: decode the plan, compute its tiles, stream the answers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::failpoint;
use graticule_common::grid::TileId;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::execute_response::Outcome;
use graticule_common::proto::v1::worker_service_server::WorkerService;
use graticule_common::status::{status, to_status};
use graticule_common::{telemetry, versions, wire};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::field::Empty;
use tracing::{Instrument, Span, debug, info_span};

use crate::plans::Plans;
use crate::pool::Held;
use crate::source::ReadPlace;
use crate::tile::{self, Job, Skipped, TileError, TileOptions, Tiles};

/// Size of a piece of a tile. Every worker cuts alike, so that a retry can go on where another stopped.
const CHUNK_BYTES: usize = 512 << 10;

/// Pieces that wait for a slow reader before computing stops.
const PIECES_WAITING_MAX: usize = 4;

/// Tiles of one call; a coordinator sends far fewer.
const TILES_MAX: usize = 4096;

/// Bytes of a tenant's name.
const TENANT_BYTES_MAX: usize = 256;

/// Time in which a reader must take one piece. Coordinators give up slow clients long before.
const READER_PATIENCE: Duration = Duration::from_secs(120);

/// Computes tiles for coordinators.
#[derive(Clone, Debug)]
pub struct Service {
    tiles: Tiles,
    plans: Plans,
    calls: Calls,
}

impl Service {
    /// A service that computes with `tiles`, and hands tiles back once these are draining.
    pub fn new(tiles: Tiles) -> Self {
        Service { tiles, plans: Plans::default(), calls: Calls::default() }
    }

    /// The calls under way.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }
}

/// The calls under way.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    count: watch::Sender<usize>,
    /// Ends them all.
    stop: CancellationToken,
}

impl Calls {
    /// Returns when none is under way.
    pub async fn none(&self) {
        let mut count = self.count.subscribe();
        // The sender is here.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Ends all of them where they are.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn begin(&self) -> Call {
        self.count.send_modify(|count| *count += 1);
        Call { count: self.count.clone(), stop: self.stop.clone() }
    }
}

/// A call under way, until it is dropped.
#[derive(Debug)]
struct Call {
    count: watch::Sender<usize>,
    stop: CancellationToken,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count -= 1);
    }
}

type Answer = Result<pb::ExecuteResponse, Status>;

/// An answer on its way, with the memory that ends with it.
type Piece = (Answer, Option<Arc<Held>>);

#[tonic::async_trait]
impl WorkerService for Service {
    type ExecuteStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let arrived = Instant::now();
        // Counted from the start, so that a worker's end waits for it. A call that comes too late is not
        // refused: that would look like a worker that is lost. Its tiles are handed back one by one.
        let call = self.calls.begin();
        let span = info_span!("execute", trace = Empty, tiles = request.get_ref().tiles.len());
        telemetry::follow(&span, telemetry::parent_of(request.metadata()));
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
        if request.tenant.len() > TENANT_BYTES_MAX {
            let text = format!("the tenant's name has more than {TENANT_BYTES_MAX} bytes");
            return Err(status(ErrorClass::LimitExceeded, &text));
        }
        let plan = request.plan.ok_or_else(|| status(ErrorClass::InvalidRequest, "the call has no plan"))?;
        let plans = self.plans.clone();
        let known = self.tiles.pool.think(move || plans.decode(&plan)).await;
        let known = known.map_err(|error| to_status(&error))?.map_err(|error| to_status(&error))?;
        let ids = request.tiles.iter().map(|tile| wire::tile_from(Some(tile))).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|error| to_status(&error))?;
        span.in_scope(|| debug!(tiles = ids.len(), "computing tiles"));
        let options = TileOptions {
            use_cache: !request.no_cache,
            skip_faulty: request.skip_faulty,
            alone: request.alone,
        };
        let job = Job { plan: known.plan, digest: known.digest, tenant: request.tenant.into(), options };
        // Beyond what a clock can add there is no end either.
        let remaining = (request.remaining_ms > 0).then(|| Duration::from_millis(request.remaining_ms));
        let deadline = remaining.and_then(|remaining| arrived.checked_add(remaining));
        let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        tokio::spawn(run(self.tiles.clone(), job, ids, deadline, sender, call).instrument(span));
        // What a result holds is free when its last piece is taken.
        let answers = ReceiverStream::new(receiver).map(|(answer, _held): Piece| answer);
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Computes all tiles of a call; ends early when the caller has gone.
async fn run(
    tiles: Tiles,
    job: Job,
    ids: Vec<TileId>,
    deadline: Option<Instant>,
    sender: mpsc::Sender<Piece>,
    call: Call,
) {
    // Whatever ends this task, tiles that still run for nobody else stop at their next step.
    let mut running = JoinSet::new();
    for id in ids {
        let (tiles, job, sender) = (tiles.clone(), job.clone(), sender.clone());
        let span = info_span!("tile", tile = %id, outcome = Empty);
        let computing = async move {
            let computing = tiles.compute(&job, id);
            let result = match deadline {
                None => computing.await,
                Some(deadline) => timeout_at(deadline, computing).await.unwrap_or(Err(TileError::Deadline)),
            };
            Span::current().record("outcome", crate::measure::tile(&result));
            // A send fails only when nobody listens any more.
            answer(&sender, id, result).await.is_some()
        };
        running.spawn(computing.instrument(span));
    }
    let all = async {
        // One that cannot be sent: nobody will take the others.
        while let Some(Ok(true)) = running.join_next().await {}
    };
    tokio::select! {
        () = sender.closed() => {}
        () = call.stop.cancelled() => {}
        () = all => {}
    }
}

/// Sends a tile; `None` when nobody takes it.
async fn answer(sender: &mpsc::Sender<Piece>, id: TileId, result: tile::Outcome) -> Option<()> {
    let tile = Some(wire::tile_to(id));
    let send = async |outcome, held| {
        let answer = Ok(pb::ExecuteResponse { outcome: Some(outcome) });
        timeout(READER_PATIENCE, sender.send((answer, held))).await.ok()?.ok()
    };
    let result = match result {
        Ok(result) => result,
        Err(error) => {
            let (error_class, message) = (error.class().name().to_owned(), error.to_string());
            let handed_back = error == TileError::HandedBack;
            let failed = pb::TileFailed { tile, error_class, message, handed_back };
            return send(Outcome::Failed(failed), None).await;
        }
    };
    failpoint!("worker.before_first_piece", return None);
    let total = result.bytes.len();
    for offset in (0..total).step_by(CHUNK_BYTES) {
        let data = result.bytes.slice(offset..(offset + CHUNK_BYTES).min(total));
        let chunk = pb::TileChunk { tile, offset: offset as u64, total: total as u64, data };
        send(Outcome::Chunk(chunk), None).await?;
        failpoint!("worker.mid_pieces", return None);
    }
    failpoint!("worker.before_done", return None);
    let cost = result.cost;
    let done = pb::TileDone {
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
        cpu_ms: cost.cpu.as_secs_f64() * 1e3,
        waited_ms: cost.waited.as_secs_f64() * 1e3,
        coalesced: cost.coalesced,
    };
    send(Outcome::Done(done), Some(result.held)).await
}

fn skipped_to(Skipped { product, place, reason }: Skipped) -> pb::SkippedSource {
    let ReadPlace { scene, asset, band, path } = place;
    pb::SkippedSource { product, scene, asset, band, path, reason }
}

#[cfg(test)]
mod tests;
