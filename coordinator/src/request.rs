//! One request from graft to stream. Read this first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use graticule_common::aoi::AoiError;
use graticule_common::error::{Classify, ErrorClass, GraftPath};
use graticule_common::failpoint;
use graticule_common::graft::GraftError;
use graticule_common::limits::Limits;
use graticule_common::ops::TypeError;
use graticule_common::plan::stage::StageError;
use graticule_common::plan::{BindError, Outcome, explain};
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::status::{status_after, to_status};
use graticule_common::telemetry::{self, TraceContext, names};
use graticule_common::transform::Transform;
use graticule_common::wire::WireError;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use tracing::field::Empty;
use tracing::{Instrument, Span, info, info_span};

use crate::catalog::{CatalogError, SceneCatalog};
use crate::dispatch::{Answer, DispatchError, Dispatcher, Running, Task, Work};
use crate::fleet::{Fleet, FleetError};
use crate::heavy::{Heavy, TooHeavy};
use crate::planning::{Estimate, How, Planner, Prepared, blocking, task};
use crate::reader::Client;
use crate::stages;
use crate::sums::Sums;

/// Where a request's messages go.
pub type Out = mpsc::Sender<Result<pb::ComputeResponse, Status>>;

/// Bytes of the messages that tiles leave in: what a slow client must take for its progress to be seen.
const PIECE_BYTES: usize = 128 << 10;

/// When to come back where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// CPU time that a request is taken for before it is planned.
const COST_GUESS: Duration = Duration::from_secs(1);

/// What requests go by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What one request may ask for.
    pub limits: Limits,
    /// What one request may take; none where nobody shares the workers.
    pub heavy: Option<Heavy>,
    /// Time for one request.
    pub deadline: Duration,
    /// Time to wait for a worker when there is none.
    pub patience: Duration,
    /// A client that takes nothing for this long is cut off, and one that takes less than
    /// [`RATE_MIN`](crate::reader::RATE_MIN) somewhat later.
    pub slow_reader: Duration,
    /// Requests at a time.
    pub requests_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            limits: Limits::default(),
            heavy: None,
            deadline: Duration::from_secs(300),
            patience: Duration::from_secs(5),
            slow_reader: Duration::from_secs(60),
            requests_max: 1024,
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose request it is; empty: nobody's in particular.
    pub tenant: Arc<str>,
    /// How long the caller waits.
    pub timeout: Option<Duration>,
    /// What the request is part of, where the caller says so.
    pub parent: Option<TraceContext>,
    /// Id of the request in logs and answers, where it has one already.
    pub id: Option<Arc<str>>,
}

/// Everything a request needs.
#[derive(Clone)]
pub struct Requests {
    /// Who computes.
    pub(crate) fleet: Fleet,
    rules: Rules,
    planner: Arc<Planner>,
    dispatcher: Dispatcher,
    totals: Arc<Totals>,
}

/// Counts since the start.
#[derive(Debug, Default)]
struct Totals {
    active: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
    sheds: AtomicU64,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Asked {
    id: Arc<str>,
    tenant: Arc<str>,
    started: Instant,
    deadline: Instant,
    limit: Duration,
}

/// A message to the client.
pub fn message(message: Message) -> pb::ComputeResponse {
    pb::ComputeResponse { message: Some(message) }
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The graft.
    #[error(transparent)]
    Graft(#[from] GraftError),
    /// The AOI.
    #[error(transparent)]
    Aoi(#[from] AoiError),
    /// A selection of scenes.
    #[error("{at}: {error}")]
    Selection {
        /// Where in the graft.
        at: GraftPath,
        /// What does not fit.
        error: TypeError,
    },
    /// The catalog.
    #[error("{at}: {error}")]
    Catalog {
        /// Where in the graft.
        at: GraftPath,
        /// What it said.
        error: CatalogError,
    },
    /// The plan.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The workers.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The computation.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// A stage.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Too much for a request that somebody waits for.
    #[error(transparent)]
    Heavy(#[from] TooHeavy),
    /// Too many requests at a time.
    #[error("this coordinator answers {limit} requests, which is as many as it takes at a time; try again")]
    Crowded {
        /// The limit.
        limit: usize,
    },
    /// More stored pixels than the request's budget.
    #[error(
        "the request would read {bytes} bytes of stored pixels, its budget is {limit} (`--max-bytes`, `max_read_bytes`); ask for a smaller AOI, select fewer scenes or bands, or allow more"
    )]
    ReadBudget {
        /// Bytes.
        bytes: u64,
        /// The budget.
        limit: u64,
    },
    /// More processor time than the request's budget.
    #[error(
        "the request would take about {seconds:.1} s of processor time, its budget is {limit} s (`--max-cpu-s`, `max_cpu_s`); ask for a smaller AOI or a coarser resolution, select fewer scenes or bands, or allow more"
    )]
    CpuBudget {
        /// Seconds.
        seconds: f64,
        /// The budget.
        limit: f64,
    },
    /// Planning or merging panicked: a defect.
    #[error("planning stopped by a defect of the engine: {reason}")]
    Panicked {
        /// What is known of it.
        reason: String,
    },
}

impl Classify for RequestError {
    fn class(&self) -> ErrorClass {
        match self {
            RequestError::Wire(error) => error.class(),
            RequestError::Graft(error) => error.class(),
            RequestError::Aoi(error) => error.class(),
            RequestError::Selection { error, .. } => error.class(),
            RequestError::Catalog { error, .. } => error.class(),
            RequestError::Bind(error) => error.class(),
            RequestError::Fleet(error) => error.class(),
            RequestError::Dispatch(error) => error.class(),
            RequestError::Stage(error) => error.class(),
            RequestError::Heavy(error) => error.class(),
            RequestError::Crowded { .. } => ErrorClass::Overloaded,
            RequestError::ReadBudget { .. } | RequestError::CpuBudget { .. } => ErrorClass::LimitExceeded,
            RequestError::Panicked { .. } => ErrorClass::Internal,
        }
    }

    fn place(&self) -> Option<&GraftPath> {
        match self {
            RequestError::Graft(error) => error.place(),
            RequestError::Bind(error) => error.place(),
            RequestError::Stage(error) => error.place(),
            RequestError::Selection { at, .. } | RequestError::Catalog { at, .. } => Some(at),
            _ => None,
        }
    }
}

impl RequestError {
    /// The error as the client gets it.
    pub fn status(&self) -> Status {
        match self {
            RequestError::Dispatch(DispatchError::Overloaded { retry_after }) => {
                status_after(self.class(), &self.to_string(), *retry_after)
            }
            error if error.class() == ErrorClass::Overloaded => {
                status_after(self.class(), &self.to_string(), RETRY_AFTER)
            }
            error => to_status(error),
        }
    }
}

impl Requests {
    /// Requests over a catalog, computed by what a dispatcher reaches.
    pub fn new(
        rules: Rules,
        catalog: Arc<dyn SceneCatalog>,
        transform: Arc<dyn Transform>,
        (fleet, dispatcher): (Fleet, Dispatcher),
    ) -> Self {
        let planner = Arc::new(Planner::new(catalog, transform, rules.limits.clone()));
        Requests { fleet, rules, planner, dispatcher, totals: Arc::default() }
    }

    /// Plans a request without reading a pixel.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn explain(&self, request: pb::ComputeRequest) -> Result<pb::ExplainResponse, RequestError> {
        let fleet = self.fleet.shape();
        let prepared = self.planner.prepare(&request, fleet, self.planner.key(&request, fleet)).await?;
        let explaining = move || {
            let (text, _) = explain::outcome(&prepared.outcome);
            (prepared.expr.to_graft().to_string(), text, prepared)
        };
        let (graft, text, prepared) = blocking(explaining).await?;
        let bill = pb::Bill {
            tiles: prepared.bill.tiles,
            scenes: prepared.bill.scenes,
            read_bytes: prepared.bill.read_bytes,
            result_bytes: prepared.bill.result_bytes,
            tile_peak_bytes: prepared.bill.tile_peak_bytes,
            read_pixels: prepared.bill.read_pixels,
            cpu_s: prepared.bill.cpu_s,
        };
        Ok(pb::ExplainResponse { text, graft, bill: Some(bill), header: Some(prepared.header.clone()) })
    }

    /// Computes a request into `out`: header, pieces of tiles, summary; or an error as the last message.
    pub async fn compute(&self, request: pb::ComputeRequest, caller: Caller, out: Out) {
        let id = caller.id.clone().unwrap_or_else(|| telemetry::request_id().into());
        let span = info_span!("request", id = %id, trace = Empty);
        telemetry::follow(&span, caller.parent);
        self.answer(request, caller, id, out).instrument(span).await;
    }

    async fn answer(&self, request: pb::ComputeRequest, caller: Caller, id: Arc<str>, out: Out) {
        let started = Instant::now();
        let limit = caller.timeout.map_or(self.rules.deadline, |timeout| timeout.min(self.rules.deadline));
        let asked = Asked { id, tenant: caller.tenant, started, deadline: started + limit, limit };
        let client = Client::new(out, self.rules.slow_reader);
        let result = {
            let _active = Active::enter(&self.totals);
            tokio::select! {
                result = self.stream(&request, &asked, &client) => result,
                () = client.overdue(asked.deadline) => Err(DispatchError::Deadline { limit }.into()),
                () = client.gone() => Err(DispatchError::Gone.into()),
            }
        };
        self.totals.requests.fetch_add(1, Ordering::Relaxed);
        let total = started.elapsed();
        metrics::histogram!(names::REQUEST_SECONDS, "stage" => "total").record(total);
        let error = match result {
            Ok(summary) => {
                metrics::counter!(names::REQUESTS, "class" => "done").increment(1);
                info!(
                    request = %asked.id,
                    tenant = %asked.tenant,
                    tiles = summary.tiles,
                    cache_hits = summary.cache_hits,
                    read_bytes = summary.read_bytes,
                    cpu_ms = summary.cpu_ms,
                    read_ms = summary.read_ms,
                    eval_ms = summary.eval_ms,
                    queued_ms = summary.queued_ms,
                    wall_ms = summary.wall_ms,
                    retries = summary.retries,
                    workers = summary.workers,
                    "request done"
                );
                return;
            }
            Err(error) => error,
        };
        let class = error.class();
        self.totals.failures.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(names::REQUESTS, "class" => class.name()).increment(1);
        if class == ErrorClass::Overloaded {
            self.totals.sheds.fetch_add(1, Ordering::Relaxed);
            metrics::counter!(names::SHEDS, "reason" => "backlog").increment(1);
        }
        if matches!(error, RequestError::Dispatch(DispatchError::Slow { .. })) {
            metrics::counter!(names::SLOW_READERS).increment(1);
        }
        let wall_ms = total.as_secs_f64() * 1e3;
        info!(request = %asked.id, tenant = %asked.tenant, class = class.name(), error = %error, wall_ms, "request failed");
        client.fail(error.status()).await;
    }

    async fn stream(
        &self,
        request: &pb::ComputeRequest,
        asked: &Asked,
        client: &Client,
    ) -> Result<pb::Summary, RequestError> {
        let late = |_| DispatchError::Deadline { limit: asked.limit };
        let prepared = tokio::time::timeout_at(asked.deadline, self.prepare(request, asked))
            .instrument(info_span!("plan"));
        let prepared = prepared.await.map_err(late)??;
        record_stage("plan", asked.started.elapsed());
        let mut sums = Sums::default();
        let (header, task) = match &prepared.outcome {
            Outcome::Staged(_) => self.stages(&prepared, request, asked, &mut sums, client).await?,
            _ => (prepared.header.clone(), prepared.task.clone()),
        };
        self.send(client, Message::Header(header)).await?;
        if let Some(task) = task {
            let running = self.submit(asked, task);
            self.pass_on(running, asked, &mut sums, client).await?;
        }
        failpoint!("coordinator.before_summary", return Err(DispatchError::Ended.into()));
        if let Some(queued) = sums.queued() {
            record_stage("queue", queued);
        }
        let wall_ms = asked.started.elapsed().as_secs_f64() * 1e3;
        let summary = pb::Summary { wall_ms, request_id: asked.id.to_string(), ..sums.summary() };
        self.send(client, Message::Summary(summary.clone())).await?;
        Ok(summary)
    }

    /// Plans a request for the workers there are, unless there is too much to do already.
    async fn prepare(
        &self,
        request: &pb::ComputeRequest,
        asked: &Asked,
    ) -> Result<Arc<Prepared>, RequestError> {
        if self.totals.active.load(Ordering::Relaxed) > self.rules.requests_max {
            return Err(RequestError::Crowded { limit: self.rules.requests_max });
        }
        let fleet = self.fleet.shape();
        let key = self.planner.key(request, fleet);
        let known = self.planner.known(key);
        let own = known.as_ref().map_or(COST_GUESS, |known| {
            Duration::try_from_secs_f64(known.bill.cpu_s).unwrap_or(Duration::MAX)
        });
        if let Some(retry_after) = self.dispatcher.load(&asked.tenant, own).refused {
            return Err(DispatchError::Overloaded { retry_after }.into());
        }
        let prepared = match known {
            Some(known) => known,
            None => self.planner.prepare(request, fleet, key).await?,
        };
        check_budget(&prepared, request.options.as_ref())?;
        if let Some(heavy) = &self.rules.heavy {
            heavy.check(&prepared.bill)?;
        }
        failpoint!("coordinator.after_plan", return Err(DispatchError::Ended.into()));
        if fleet.workers > 0 {
            return Ok(prepared);
        }
        // What cannot be computed was refused without waiting; how tiles are cut depends on the workers.
        let fleet = self.fleet.wait(self.rules.patience).await?;
        self.planner.prepare(request, fleet, self.planner.key(request, fleet)).await
    }

    /// Computes the stages of a request; what the result is then known to be.
    async fn stages(
        &self,
        prepared: &Prepared,
        request: &pb::ComputeRequest,
        asked: &Asked,
        sums: &mut Sums,
        client: &Client,
    ) -> Result<(pb::Header, Option<Arc<Task>>), RequestError> {
        let how = How::of(request.options.as_ref());
        let outcome = stages::run(self, prepared.outcome.clone(), (asked, how), sums, client).await?;
        // What is read was known before the stages; values were not.
        let scenes = prepared.header.scenes.clone();
        let display_quality = prepared.header.display_quality;
        let header = pb::Header { scenes, display_quality, ..prepared.sources.header(&outcome) };
        let planning =
            move || outcome.plan().map(|plan| Arc::new(task(plan, how, Estimate::of(&explain::bill(plan)))));
        Ok((header, blocking(planning).await?))
    }

    /// Hands a task to the workers.
    pub(crate) fn submit(&self, asked: &Asked, task: Arc<Task>) -> Running {
        self.dispatcher.submit(Work {
            id: asked.id.clone(),
            tenant: asked.tenant.clone(),
            task,
            deadline: asked.deadline,
            limit: asked.limit,
            patience: self.rules.patience,
            span: Span::current(),
        })
    }

    /// Passes pieces of tiles on to the client.
    async fn pass_on(
        &self,
        mut running: Running,
        asked: &Asked,
        sums: &mut Sums,
        client: &Client,
    ) -> Result<(), RequestError> {
        let submitted = Instant::now();
        let mut is_first = true;
        while let Some(answer) = running.next().await? {
            match answer {
                Answer::Done(done) => sums.add(*done, submitted, self.fleet.shape().workers)?,
                Answer::Piece(chunk) => {
                    for at in (0..chunk.data.len().max(1)).step_by(PIECE_BYTES) {
                        let data = chunk.data.slice(at..(at + PIECE_BYTES).min(chunk.data.len()));
                        let bytes = data.len() as u64;
                        let offset = chunk.offset + at as u64;
                        self.send(client, Message::Chunk(pb::TileChunk { offset, data, ..chunk.clone() }))
                            .await?;
                        metrics::counter!(names::RESULT_BYTES).increment(bytes);
                        failpoint!("coordinator.mid_pass_on", return Err(DispatchError::Ended.into()));
                    }
                    if std::mem::take(&mut is_first) {
                        record_stage("first_byte", asked.started.elapsed());
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a message, if the client takes one in time.
    async fn send(&self, client: &Client, sent: Message) -> Result<(), DispatchError> {
        client.send(sent, || self.dispatcher.is_full()).await
    }

    /// Workers, requests and counts at this moment.
    pub async fn describe(&self) -> pb::DescribeResponse {
        let described = self.dispatcher.describe().await;
        let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = pb::Counts {
            requests: total(&self.totals.requests),
            failures: total(&self.totals.failures),
            sheds: total(&self.totals.sheds),
            ..described.counts.unwrap_or_default()
        };
        pb::DescribeResponse { counts: Some(counts), ..described }
    }
}

fn record_stage(stage: &'static str, took: Duration) {
    metrics::histogram!(names::REQUEST_SECONDS, "stage" => stage).record(took);
}

/// Counts a request while it is under way.
struct Active<'a>(&'a Totals);

impl<'a> Active<'a> {
    fn enter(totals: &'a Totals) -> Self {
        totals.active.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!(names::REQUESTS_ACTIVE).increment(1);
        Active(totals)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!(names::REQUESTS_ACTIVE).decrement(1);
    }
}

/// Refuses what would take more than the request allows.
fn check_budget(prepared: &Prepared, options: Option<&pb::Options>) -> Result<(), RequestError> {
    let (Some(options), bill) = (options, &prepared.bill) else { return Ok(()) };
    if let Some(limit) = options.max_read_bytes.filter(|limit| bill.read_bytes > *limit) {
        return Err(RequestError::ReadBudget { bytes: bill.read_bytes, limit });
    }
    // A limit that is no number allows nothing.
    if let Some(limit) = options.max_cpu_s.filter(|limit| bill.cpu_s > *limit || limit.is_nan()) {
        return Err(RequestError::CpuBudget { seconds: bill.cpu_s, limit });
    }
    Ok(())
}
