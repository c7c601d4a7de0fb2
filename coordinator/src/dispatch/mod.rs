//! Performs the schedule's actions: calls workers, and hands their bytes to those who asked for them.
//!
//! One actor ([`actor`]) owns the schedule: events in, actions out. Bytes of tiles never pass it: a call's
//! task hands them to the tile's [`flight`], which hands them to the inboxes of the requests that wait for
//! it, undecoded. How much may wait there is the schedule's decision: it sends no more tiles than a
//! request's window has room for, so a slow client never holds a worker.

mod actor;
mod call;
mod flight;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::grid::TileId;
use graticule_common::hash::{ContentHash, Hasher};
use graticule_common::proto::v1 as pb;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use flight::{Answer, TileSums};

use crate::fleet::{Fleet, FleetError};
use crate::reader::{PRESSED, RATE_MIN};
use crate::schedule::{CallId, Failure, FlightId, Load, RequestId, Rules, Schedule, TileFailure};
use call::End;
use flight::Inbox;

/// Answers of at most this size are kept until they are done, so that others can join.
const SHAREABLE_BYTES_MAX: u64 = 4 << 20;

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
    /// A tile ends every worker that computes it.
    #[error(
        "tile {tile} has ended the workers that computed it and is not tried again for some minutes; \
         see the workers' logs, and ask for an area without it"
    )]
    Crashes {
        /// The tile.
        tile: TileId,
    },
    /// Too many tiles are tried again already.
    #[error("tile {tile} was lost with its worker, as so many others that it is not tried again; try later")]
    RetryBudget {
        /// The tile.
        tile: TileId,
    },
    /// No worker can hold a tile.
    #[error(
        "a tile takes {need_mib} MiB of memory and the largest worker has {have_mib}; \
         select fewer scenes or bands, or give workers more memory (`graticule worker --memory`)"
    )]
    TooLarge {
        /// What a tile takes.
        need_mib: u32,
        /// What there is.
        have_mib: u32,
    },
    /// Too much waits already.
    #[error("too much is being computed just now; try again in {:.1} s", retry_after.as_secs_f64())]
    Overloaded {
        /// When.
        retry_after: Duration,
    },
    /// All workers went away.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Not done in time.
    #[error("the request took longer than {:.0} s; ask for a smaller AOI", limit.as_secs_f64().ceil())]
    Deadline {
        /// The limit.
        limit: Duration,
    },
    /// A worker's answer makes no sense. Which one's is for the log.
    #[error("a worker gave an answer that makes no sense: {problem}; the coordinator's log names it")]
    Nonsense {
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
    /// The client does not read, or too slowly.
    #[error(
        "the client takes the result too slowly: less than {} KiB a second over {} s, or {} KiB a second over \
         {:.0} s while others have to wait for room; read faster, or ask for a smaller AOI",
        RATE_MIN >> 10, limit.as_secs(), (RATE_MIN * u64::from(PRESSED)) >> 10,
        (*limit / PRESSED).as_secs_f64()
    )]
    Slow {
        /// Time it had.
        limit: Duration,
    },
    /// The coordinator ends.
    #[error("the coordinator is shutting down; try again")]
    Ended,
}

impl Classify for DispatchError {
    fn class(&self) -> ErrorClass {
        match self {
            DispatchError::Tile { class, .. } => *class,
            DispatchError::Lost { .. } | DispatchError::RetryBudget { .. } | DispatchError::Ended => {
                ErrorClass::Unavailable
            }
            DispatchError::Crashes { .. } | DispatchError::Nonsense { .. } => ErrorClass::Internal,
            DispatchError::TooLarge { .. } => ErrorClass::LimitExceeded,
            DispatchError::Overloaded { .. } => ErrorClass::Overloaded,
            DispatchError::Fleet(error) => error.class(),
            DispatchError::Deadline { .. } | DispatchError::Slow { .. } => ErrorClass::Timeout,
            DispatchError::Faulty { .. } => ErrorClass::Source,
            DispatchError::Gone => ErrorClass::Cancelled,
        }
    }
}

/// What workers are asked: a plan, its tiles, and what one of them takes.
#[derive(Debug)]
pub struct Task {
    /// The plan as it is sent.
    pub plan: pb::Plan,
    /// Its size.
    pub message_bytes: u64,
    /// Plan and options: equal tasks and equal tiles are equal bytes.
    pub hash: ContentHash,
    /// Sources and lattice: where caches are warm.
    pub place: ContentHash,
    /// The tiles.
    pub tiles: Vec<TileId>,
    /// Memory that one tile takes, in bytes.
    pub peak_bytes: u64,
    /// Bytes of one tile's answer, at most.
    pub result_bytes: u64,
    /// CPU time of one tile, estimated.
    pub cost: Duration,
    /// Whether remembered tiles are neither used nor made.
    pub no_cache: bool,
    /// Whether sources that cannot be read are skipped and listed.
    pub skip_faulty: bool,
}

/// A task for somebody.
#[derive(Clone, Debug)]
pub struct Work {
    /// Id of the request, as log lines have it.
    pub id: Arc<str>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// What.
    pub task: Arc<Task>,
    /// When it is to be done.
    pub deadline: Instant,
    /// Time for all of the request, for messages.
    pub limit: Duration,
    /// Time to wait for a worker when there is none.
    pub patience: Duration,
    /// What calls are part of. A tile that several want is part of the first one's trace.
    pub span: tracing::Span,
}

impl Work {
    /// What is computed, and for whom: tenants share nothing.
    fn hash(&self) -> ContentHash {
        Hasher::new("work").hash(self.task.hash).str(&self.tenant).finish()
    }
}

/// What the actor is told. Never more of them wait than there are tiles under way and requests.
#[derive(Debug)]
enum Command {
    Submit { request: RequestId, work: Work, inbox: Arc<Inbox> },
    Withdraw { request: RequestId },
    Delivered { request: RequestId, tile: TileId },
    Done { call: CallId, flight: FlightId, done: Box<pb::TileDone> },
    Failed { call: CallId, flight: FlightId, failure: TileFailure },
    Ended { call: CallId, end: End },
    Describe(oneshot::Sender<pb::DescribeResponse>),
}

/// Where requests hand in their work.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    commands: mpsc::UnboundedSender<Command>,
    schedule: Arc<Mutex<Schedule>>,
    requests: Arc<AtomicU64>,
}

fn lock(schedule: &Mutex<Schedule>) -> MutexGuard<'_, Schedule> {
    // A panic of the schedule is a defect; the actor ends with it, and whoever looks at figures goes on.
    schedule.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dispatcher {
    /// Starts to perform a schedule on these workers. Ends when nobody can hand in work any more.
    pub fn start(rules: Rules, fleet: Fleet) -> Dispatcher {
        let (commands, inbound) = mpsc::unbounded_channel();
        let schedule = Arc::new(Mutex::new(Schedule::new(rules)));
        tokio::spawn(actor::run(schedule.clone(), fleet, commands.downgrade(), inbound));
        Dispatcher { commands, schedule, requests: Arc::default() }
    }

    /// Hands in work.
    pub fn submit(&self, work: Work) -> Running {
        let request = RequestId(self.requests.fetch_add(1, Ordering::Relaxed));
        let inbox = Arc::new(Inbox::default());
        let running = Running {
            request,
            unanswered: work.task.tiles.len(),
            inbox: inbox.clone(),
            commands: self.commands.clone(),
        };
        if self.commands.send(Command::Submit { request, work, inbox }).is_err() {
            running.inbox.fail(DispatchError::Ended);
        }
        running
    }

    /// How much waits, as the tenant of a request that takes `own` CPU time sees it.
    pub fn load(&self, tenant: &str, own: Duration) -> Load {
        lock(&self.schedule).load(tenant, own)
    }

    /// Whether so much is held for clients that others have to wait.
    pub fn is_full(&self) -> bool {
        lock(&self.schedule).is_full()
    }

    /// Workers and requests at this moment; counts are those of tiles.
    pub async fn describe(&self) -> pb::DescribeResponse {
        let (sender, answer) = oneshot::channel();
        // There is nothing to describe of a coordinator that ends.
        let _ = self.commands.send(Command::Describe(sender));
        answer.await.unwrap_or_default()
    }
}

/// Work under way. Dropped, it is withdrawn.
#[derive(Debug)]
pub struct Running {
    request: RequestId,
    unanswered: usize,
    inbox: Arc<Inbox>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Running {
    /// The next of its answers; `None` when all tiles are done. Asking for more says that everything
    /// before was taken.
    ///
    /// # Errors
    /// [`DispatchError`]; pieces may have been passed on by then.
    pub async fn next(&mut self) -> Result<Option<Answer>, DispatchError> {
        if self.unanswered == 0 {
            return Ok(None);
        }
        let answer = tokio::select! {
            biased;
            answer = self.inbox.next() => answer?,
            // Deadlines are the actor's: without it nobody would end this.
            () = self.commands.closed() => return Err(DispatchError::Ended),
        };
        if let Answer::Done(sums) = &answer {
            self.unanswered -= 1;
            if let Ok(tile) = graticule_common::wire::tile_from(sums.done.tile.as_ref()) {
                let _ = self.commands.send(Command::Delivered { request: self.request, tile });
            }
        }
        Ok(Some(answer))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inbox.close();
        let _ = self.commands.send(Command::Withdraw { request: self.request });
    }
}

/// The error of a request that the schedule ended.
fn failed(reason: Failure, work: &Work, fleet: &Fleet, of_tile: Option<DispatchError>) -> DispatchError {
    match reason {
        Failure::Deadline => DispatchError::Deadline { limit: work.limit },
        Failure::NoWorkers => fleet.missing().into(),
        Failure::TooLarge { need_mib, have_mib } => DispatchError::TooLarge { need_mib, have_mib },
        Failure::Lost { tile, attempts } => DispatchError::Lost { tile, attempts },
        Failure::Crashes { tile } => DispatchError::Crashes { tile },
        Failure::RetryBudget { tile } => DispatchError::RetryBudget { tile },
        Failure::Overloaded { retry_after } => DispatchError::Overloaded { retry_after },
        Failure::Tile { .. } => of_tile.unwrap_or_else(|| DispatchError::Tile {
            class: ErrorClass::Internal,
            message: "a tile has no result, and nobody knows why".into(),
        }),
    }
}
