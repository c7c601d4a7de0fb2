//! What the scheduler is told, and what it answers.
//!
//! A contract with whoever performs the actions ([`crate::dispatch`]):
//! * Every [`Action::Send`] ends with one [`Event::CallEnded`] or with the [`Event::WorkerLost`] of its
//!   worker, also after an [`Action::Cancel`]: until then its tiles hold the worker's credit.
//! * The bytes of a flight are taken off the worker without waiting for a client: the request's window
//!   bounds them. So a slow reader never holds a worker.
//! * [`Event::Delivered`] follows for every tile of every request that joined its flight, or else
//!   [`Event::Withdrawn`]; before or after the flight's [`Event::TileDone`].
//! * A request of which everything is done and delivered has ended without an action.

use std::sync::Arc;
use std::time::Duration;

use graticule_common::grid::TileId;
use graticule_common::hash::ContentHash;

/// A worker's name.
pub type WorkerId = String;

/// Time since the coordinator's start.
pub type Now = Duration;

/// One submission: a stage's round is a submission of its own. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One computation of one tile, for everybody who asked for it. A retry is the same flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(pub u64);

/// One Execute call: neighbouring flights of one plan on one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Tiles that a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its name.
    pub request: RequestId,
    /// Who pays.
    pub tenant: Arc<str>,
    /// Plan, options and tenant: equal work and equal tile are equal bytes.
    pub work: ContentHash,
    /// Sources and lattice: with a tile's neighbourhood, what decides where caches are warm.
    pub place: ContentHash,
    /// The tiles, each once, in any order.
    pub tiles: Vec<TileId>,
    /// Memory of one tile while it is computed, in MiB.
    pub peak_mib: u32,
    /// Estimated bytes of one tile's answer.
    pub result_bytes: u64,
    /// Estimated CPU time of one tile.
    pub cost: Duration,
    /// When all of it is to be done; moves on while only the client is waited for.
    pub deadline: Now,
    /// How long to wait for a worker while there is none.
    pub patience: Duration,
    /// Whether others may join its flights: whether their answers are kept until they are done.
    pub is_shareable: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker can take tiles, or can take more or fewer than before.
    WorkerReady {
        /// The worker.
        worker: WorkerId,
        /// Tiles it computes at the same time.
        slots: u32,
        /// Memory for tiles, in MiB.
        memory_mib: u32,
    },
    /// A worker takes no more calls; it finishes or hands back what it has.
    WorkerDraining {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker is gone, with whatever it was computing. The only way to lose one.
    WorkerLost {
        /// The worker.
        worker: WorkerId,
    },
    /// A request came.
    Submitted(Submission),
    /// A request's client is gone, or its consumer ended.
    Withdrawn {
        /// The request.
        request: RequestId,
    },
    /// A request's consumer has taken all bytes of a tile: frees the request's window.
    Delivered {
        /// The request.
        request: RequestId,
        /// The tile.
        tile: TileId,
    },
    /// A flight has its answer.
    TileDone {
        /// The call that gave it.
        call: CallId,
        /// The flight.
        flight: FlightId,
        /// Time it took, as the worker reports it.
        took: Duration,
    },
    /// A worker has no answer for a flight.
    TileFailed {
        /// The call that says so.
        call: CallId,
        /// The flight.
        flight: FlightId,
        /// Whether another try may help.
        failure: TileFailure,
    },
    /// A call is over, after its answers. What it left unanswered is tried again; a call that broke off
    /// because its worker did is an [`Event::WorkerLost`] instead.
    CallEnded {
        /// The call.
        call: CallId,
    },
    /// Time passed: [`Schedule::next_wake`](super::Schedule::next_wake) came.
    Tick,
}

/// Why a worker has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileFailure {
    /// It drains, or had no room: not the tile's fault, so no attempt counts.
    HandedBack,
    /// A source or the infrastructure, or the call's time was over: another worker may do better.
    Transient,
    /// The user's, the data's or our own fault: the same everywhere. Dispatch keeps the message.
    Final,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Call a worker.
    Send {
        /// The call.
        call: CallId,
        /// The worker.
        worker: WorkerId,
        /// Which plan.
        work: ContentHash,
        /// Its tiles, neighbours first.
        flights: Vec<(FlightId, TileId)>,
        /// Whether the worker is to run nothing else meanwhile: its tile may kill it.
        alone: bool,
        /// When nobody waits any more.
        deadline: Now,
    },
    /// A tile of this request is answered by this flight; also for the first one to ask, before the
    /// flight is sent. A request joins at most once for a tile.
    Join {
        /// The request.
        request: RequestId,
        /// The tile.
        tile: TileId,
        /// The flight.
        flight: FlightId,
    },
    /// Nobody waits for any flight of this call.
    Cancel {
        /// The call.
        call: CallId,
    },
    /// A request ends without its answer.
    Fail {
        /// The request.
        request: RequestId,
        /// Why.
        reason: Failure,
    },
}

/// Why a request ends without its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not done in time.
    Deadline,
    /// No worker came within the request's patience.
    NoWorkers,
    /// No worker there is can hold one of its tiles.
    TooLarge {
        /// Memory of a tile, in MiB.
        need_mib: u32,
        /// Memory of the largest worker, in MiB.
        have_mib: u32,
    },
    /// Workers were lost while they computed a tile, too often.
    Lost {
        /// The tile.
        tile: TileId,
        /// How often it was tried.
        attempts: u32,
    },
    /// A tile kills workers; it is not tried again for a while.
    Crashes {
        /// The tile.
        tile: TileId,
    },
    /// A tile would have to be tried again, but too many are: the cluster is in trouble.
    RetryBudget {
        /// The tile.
        tile: TileId,
    },
    /// Too much waits already.
    Overloaded {
        /// When it is worth to come again.
        retry_after: Duration,
    },
    /// A tile has no answer for good; dispatch has the message.
    Tile {
        /// Its flight.
        flight: FlightId,
    },
}
