//! Performs the schedule's actions: calls workers, passes their bytes on, and stops when it should.
//!
//! Bytes of tiles are passed through undecoded. A slow client slows `out`, which stops the loop, which
//! stops the workers' streams: back-pressure needs no code of its own.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::grid::TileId;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::proto::v1::execute_response::Outcome;
use graticule_common::proto::v1::worker_service_client::WorkerServiceClient;
use graticule_common::status::class_of;
use graticule_common::{versions, wire};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;
use tracing::warn;

use crate::fleet::{Fleet, FleetError, Worker};
use crate::request_schedule::{Action, Event, Schedule, WorkerId};

/// Times a tile is tried before the request fails.
const ATTEMPTS_MAX: u32 = 3;

/// Sources that one request may skip: their list travels in one message.
pub(crate) const SKIPPED_MAX: usize = 4096;

/// Messages from workers that wait for the client.
const WAITING_MAX: usize = 4;

/// Why a request did not finish.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DispatchError {
    /// A tile has no result, and trying again would not help.
    #[error("{message}")]
    Tile {
        /// Class of its error.
        class: ErrorClass,
        /// What the worker said.
        message: String,
    },
    /// Workers were lost while they computed a tile, too often.
    #[error("tile {tile} was lost with its worker {attempts} times; see the workers' logs")]
    Lost {
        /// The tile.
        tile: TileId,
        /// How often.
        attempts: u32,
    },
    /// All workers went away.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Not done in time.
    #[error("the request took longer than {} s; ask for a smaller AOI", limit.as_secs())]
    Deadline {
        /// The limit.
        limit: Duration,
    },
    /// A worker's answer makes no sense.
    #[error("worker `{worker}` gave an answer that makes no sense: {problem}")]
    Nonsense {
        /// The worker.
        worker: WorkerId,
        /// What is wrong.
        problem: String,
    },
    /// More sources cannot be read than a list of them may have.
    #[error("more than {limit} sources cannot be read; run `graticule catalog check` and repair the catalog")]
    Faulty {
        /// The limit.
        limit: usize,
    },
    /// The client has gone.
    #[error("the client has gone")]
    Gone,
}

impl Classify for DispatchError {
    fn class(&self) -> ErrorClass {
        match self {
            DispatchError::Tile { class, .. } => *class,
            DispatchError::Lost { .. } => ErrorClass::Unavailable,
            DispatchError::Fleet(error) => error.class(),
            DispatchError::Deadline { .. } => ErrorClass::Timeout,
            DispatchError::Nonsense { .. } => ErrorClass::Internal,
            DispatchError::Faulty { .. } => ErrorClass::Source,
            DispatchError::Gone => ErrorClass::Cancelled,
        }
    }
}

/// Where a request's messages go.
pub type Out = mpsc::Sender<Result<pb::ComputeResponse, Status>>;

/// Where the bytes of tiles go.
#[derive(Debug)]
pub enum Sink {
    /// To the client, piece by piece.
    Client(Out),
    /// Whole tiles to whoever merges them.
    Merge {
        /// Each tile once, in any order.
        tiles: mpsc::Sender<Vec<u8>>,
        /// The client that waits.
        client: Out,
        /// How far the stage is.
        progress: pb::Progress,
    },
}

impl Sink {
    fn client(&self) -> &Out {
        match self {
            Sink::Client(client) | Sink::Merge { client, .. } => client,
        }
    }
}

/// Tiles to compute, and how long that may take.
#[derive(Debug)]
pub struct Work {
    /// The plan as it is sent to workers.
    pub plan: pb::Plan,
    /// The tiles.
    pub tiles: Vec<TileId>,
    /// Memory that one tile takes.
    pub tile_peak_bytes: u64,
    /// Whether remembered tiles are neither used nor made.
    pub no_cache: bool,
    /// Whether sources that cannot be read are skipped and listed.
    pub skip_faulty: bool,
    /// Time for all of it.
    pub deadline: Duration,
    /// Time to wait for a worker when there is none.
    pub patience: Duration,
}

/// A message to the client.
pub fn message(message: Message) -> pb::ComputeResponse {
    pb::ComputeResponse { message: Some(message) }
}

/// What a worker's call reports.
enum Report {
    Message(pb::ExecuteResponse),
    /// The call is over; an error means the worker is not to be trusted with more.
    Ended(Option<Status>),
}

/// Computes all tiles and passes their bytes to `sink`. The summary has no times yet.
///
/// # Errors
/// [`DispatchError`]; pieces may have been passed on by then.
pub async fn run(work: Work, fleet: &Fleet, sink: Sink) -> Result<pb::Summary, DispatchError> {
    let limit = work.deadline;
    let gone = sink.client().clone();
    let mut dispatch = Dispatch::new(&work, fleet, sink);
    tokio::select! {
        result = dispatch.run(&work) => result,
        () = gone.closed() => Err(DispatchError::Gone),
        () = tokio::time::sleep(limit) => Err(DispatchError::Deadline { limit }),
    }
}

struct Dispatch<'a> {
    fleet: &'a Fleet,
    sink: Sink,
    schedule: Schedule,
    workers: HashMap<WorkerId, Worker>,
    /// Calls in flight; dropped with this, which cancels them.
    calls: JoinSet<()>,
    reports: mpsc::Receiver<(Worker, Report)>,
    reporter: mpsc::Sender<(Worker, Report)>,
    /// How much of each tile has gone out: a retry goes on from there, since its bytes are the same.
    sent: HashMap<TileId, (u64, u64)>,
    /// What there is of tiles that are to be merged and are not complete.
    pieces: HashMap<TileId, Vec<u8>>,
    summary: pb::Summary,
    /// Reasons of the sources that were skipped, by product, scene, asset, band and path.
    skipped: BTreeMap<[String; 5], String>,
}

impl<'a> Dispatch<'a> {
    fn new(work: &Work, fleet: &'a Fleet, sink: Sink) -> Self {
        let (reporter, reports) = mpsc::channel(WAITING_MAX);
        Dispatch {
            fleet,
            sink,
            schedule: Schedule::new(work.tiles.clone(), ATTEMPTS_MAX),
            workers: HashMap::new(),
            calls: JoinSet::new(),
            reports,
            reporter,
            sent: HashMap::new(),
            pieces: HashMap::new(),
            summary: pb::Summary::default(),
            skipped: BTreeMap::new(),
        }
    }

    async fn run(&mut self, work: &Work) -> Result<pb::Summary, DispatchError> {
        let mut changes = self.fleet.changes();
        self.follow_fleet(work)?;
        while !self.schedule.is_finished() {
            if self.schedule.is_stranded() {
                let mut news = self.fleet.changes();
                self.follow_fleet(work)?;
                if self.schedule.is_stranded() {
                    let changed = tokio::time::timeout(work.patience, news.changed()).await;
                    changed.map_err(|_| self.fleet.missing())?.map_err(|_| self.fleet.missing())?;
                }
                continue;
            }
            tokio::select! {
                Some((worker, report)) = self.reports.recv() => self.on_report(work, worker, report).await?,
                // The fleet outlives the request, so a change is the only thing this can report.
                _ = changes.changed() => self.follow_fleet(work)?,
            }
        }
        self.summary.retries = self.schedule.retries();
        let skipped = std::mem::take(&mut self.skipped).into_iter();
        self.summary.skipped = skipped
            .map(|([product, scene, asset, band, path], reason)| pb::SkippedSource {
                product,
                scene,
                asset,
                band,
                path,
                reason,
            })
            .collect();
        Ok(std::mem::take(&mut self.summary))
    }

    /// Takes in workers that came and lets go of those that went.
    fn follow_fleet(&mut self, work: &Work) -> Result<(), DispatchError> {
        // A worker that cannot hold a tile of this plan has no part in it.
        let holds = |worker: &Worker| worker.tile_bytes() >= work.tile_peak_bytes;
        let fleet: Vec<Worker> = self.fleet.snapshot().into_iter().filter(holds).collect();
        let gone: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|known| !fleet.iter().any(|worker| worker.is(known)))
            .map(|known| known.id.clone())
            .collect();
        for worker in gone {
            self.workers.remove(&worker);
            self.event(work, Event::WorkerLost { worker })?;
        }
        for worker in fleet {
            if !self.workers.contains_key(&worker.id) {
                let event = Event::WorkerReady { worker: worker.id.clone(), slots: worker.slots };
                self.workers.insert(worker.id.clone(), worker);
                self.event(work, event)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, work: &Work, event: Event) -> Result<(), DispatchError> {
        for action in self.schedule.on_event(event) {
            match action {
                Action::GiveUp { tile, attempts } => return Err(DispatchError::Lost { tile, attempts }),
                Action::Send { worker, tiles } => {
                    if let Some(worker) = self.workers.get(&worker) {
                        self.call(work, worker.clone(), tiles);
                    }
                }
            }
        }
        Ok(())
    }

    fn call(&mut self, work: &Work, worker: Worker, tiles: Vec<TileId>) {
        let request = pb::ExecuteRequest {
            plan: Some(work.plan.clone()),
            tiles: tiles.iter().map(|tile| wire::tile_to(*tile)).collect(),
            versions: Some(versions::own()),
            no_cache: work.no_cache,
            skip_faulty: work.skip_faulty,
            ..pb::ExecuteRequest::default()
        };
        let reporter = self.reporter.clone();
        let mut unanswered = tiles.len();
        self.calls.spawn(async move {
            let mut client = WorkerServiceClient::new(worker.channel.clone());
            let mut end = None;
            match client.execute(request).await {
                Err(status) => end = Some(status),
                Ok(answers) => {
                    let mut answers = answers.into_inner();
                    loop {
                        match answers.message().await {
                            Ok(Some(message)) => {
                                if matches!(message.outcome, Some(Outcome::Done(_) | Outcome::Failed(_))) {
                                    unanswered = unanswered.saturating_sub(1);
                                }
                                if reporter.send((worker.clone(), Report::Message(message))).await.is_err() {
                                    return;
                                }
                            }
                            Ok(None) if unanswered > 0 => {
                                end = Some(Status::unavailable("the answer ended early"));
                                break;
                            }
                            Ok(None) => break,
                            Err(status) => {
                                end = Some(status);
                                break;
                            }
                        }
                    }
                }
            }
            // Nobody listens when the request is over; then nobody needs to know.
            let _ = reporter.send((worker, Report::Ended(end))).await;
        });
    }

    async fn on_report(&mut self, work: &Work, worker: Worker, report: Report) -> Result<(), DispatchError> {
        // A report of a worker that was lost meanwhile: its tiles are somebody else's now.
        if !self.workers.get(&worker.id).is_some_and(|known| known.is(&worker)) {
            return Ok(());
        }
        let nonsense = |problem: String| DispatchError::Nonsense { worker: worker.id.clone(), problem };
        match report {
            Report::Ended(None) => Ok(()),
            Report::Ended(Some(status)) => match class_of(&status) {
                ErrorClass::Unavailable
                | ErrorClass::Cancelled
                | ErrorClass::Internal
                | ErrorClass::Timeout => {
                    warn!(worker = %worker.id, error = %status.message(), "worker lost, its tiles go elsewhere");
                    self.fleet.give_up(&worker);
                    self.follow_fleet(work)
                }
                class => Err(DispatchError::Tile { class, message: status.message().to_owned() }),
            },
            Report::Message(message) => match message.outcome {
                None => Err(nonsense("an empty message".into())),
                Some(Outcome::Chunk(chunk)) => {
                    let tile =
                        wire::tile_from(chunk.tile.as_ref()).map_err(|error| nonsense(error.to_string()))?;
                    if !self.schedule.is_with(&worker.id, tile) {
                        return Err(nonsense(format!("tile {tile}, which it was not asked for")));
                    }
                    self.pass_on(tile, chunk)
                        .await
                        .map_err(|problem| problem.map_or(DispatchError::Gone, nonsense))
                }
                Some(Outcome::Done(done)) => {
                    let tile =
                        wire::tile_from(done.tile.as_ref()).map_err(|error| nonsense(error.to_string()))?;
                    if self.sent.get(&tile).is_none_or(|(sent, total)| sent != total) {
                        return Err(nonsense(format!("tile {tile} is done but not complete")));
                    }
                    self.add(&done);
                    self.skip(done.skipped)?;
                    self.event(work, Event::TileDone { tile })
                }
                Some(Outcome::Failed(failed)) => {
                    let class = ErrorClass::from_name(&failed.error_class).unwrap_or(ErrorClass::Internal);
                    if class.is_retryable() {
                        let tile = wire::tile_from(failed.tile.as_ref())
                            .map_err(|error| nonsense(error.to_string()))?;
                        return self.event(work, Event::TileReturned { worker: worker.id, tile });
                    }
                    Err(DispatchError::Tile { class, message: failed.message })
                }
            },
        }
    }

    /// Passes a piece of a tile on, unless it was passed on before the tile was tried again. The error is
    /// what is wrong with the piece; none means that nobody takes it any more.
    async fn pass_on(&mut self, tile: TileId, chunk: pb::TileChunk) -> Result<(), Option<String>> {
        let (sent, total) = self.sent.entry(tile).or_insert((0, chunk.total));
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        if *total != chunk.total || end > *total || chunk.offset > *sent {
            return Err(Some(format!(
                "tile {tile}: bytes {}..{end} of {} after {sent} of {total}",
                chunk.offset, chunk.total
            )));
        }
        if end <= *sent {
            return Ok(());
        }
        if chunk.offset < *sent {
            return Err(Some(format!("tile {tile}: pieces are not cut alike")));
        }
        *sent = end;
        let is_whole = end == *total;
        match &mut self.sink {
            Sink::Client(out) => out.send(Ok(message(Message::Chunk(chunk)))).await.map_err(|_| None),
            Sink::Merge { tiles, client, progress } => {
                let bytes = self.pieces.entry(tile).or_default();
                bytes.extend_from_slice(&chunk.data);
                if !is_whole {
                    return Ok(());
                }
                let bytes = self.pieces.remove(&tile).unwrap_or_default();
                tiles.send(bytes).await.map_err(|_| None)?;
                progress.done += 1;
                // A client that is slow to read is shown the next one.
                let _ = client.try_send(Ok(message(Message::Progress(*progress))));
                Ok(())
            }
        }
    }

    /// Lists sources that a tile lacks, each once: tiles and workers may report the same one.
    fn skip(&mut self, skipped: Vec<pb::SkippedSource>) -> Result<(), DispatchError> {
        for source in skipped {
            let pb::SkippedSource { product, scene, asset, band, path, reason } = source;
            self.skipped.entry([product, scene, asset, band, path]).or_insert(reason);
            if self.skipped.len() > SKIPPED_MAX {
                return Err(DispatchError::Faulty { limit: SKIPPED_MAX });
            }
        }
        Ok(())
    }

    fn add(&mut self, done: &pb::TileDone) {
        let sums = &mut self.summary;
        sums.tiles += 1;
        sums.tiles_from_cache += u64::from(done.from_cache);
        sums.cache_hits += u64::from(done.cache_hits);
        sums.cache_misses += u64::from(done.cache_misses);
        sums.read_bytes += done.read_bytes;
        sums.files_opened += done.files_opened;
        sums.reads_spared += done.reads_spared;
        sums.read_ms += done.read_ms;
        sums.eval_ms += done.eval_ms;
        sums.workers = sums.workers.max(self.workers.len() as u32);
    }
}
