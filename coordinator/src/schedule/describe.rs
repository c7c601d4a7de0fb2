//! What the scheduler tells about itself.

use std::sync::Arc;
use std::time::Duration;

use super::{RequestId, WorkerId};

/// How much waits, as one tenant sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests of the tenant that wait for their first tile.
    pub waiting: usize,
    /// Estimated wait of the tenant's next request for its first tile.
    pub wait: Duration,
    /// When to come again, if a request would be refused now.
    pub refused: Option<Duration>,
}

/// The scheduler's state in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Workers by name.
    pub workers: Vec<WorkerState>,
    /// Requests by number.
    pub requests: Vec<RequestState>,
    /// Tiles that wait.
    pub tiles_waiting: u64,
    /// Estimated CPU time of the tiles that wait or are computed.
    pub outstanding: Duration,
    /// Tiles sent since the start, retries included.
    pub sent: u64,
    /// Retries since the start.
    pub retries: u64,
    /// Requests refused since the start because too much waited.
    pub sheds: u64,
    /// Requests answered by another's flight, tile by tile, since the start.
    pub joins: u64,
    /// Bytes of answers under way, by estimate.
    pub spool_bytes: u64,
    /// Tiles that are refused because they killed workers.
    pub quarantined: usize,
}

/// A worker in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// The worker.
    pub worker: WorkerId,
    /// Tiles it computes at the same time.
    pub slots: u32,
    /// Tiles it has.
    pub tiles: u32,
    /// Memory it announced, in MiB.
    pub memory_mib: u32,
    /// Memory its tiles take, in MiB.
    pub used_mib: u32,
    /// Whether it takes nothing new.
    pub is_draining: bool,
    /// Tiles it has done.
    pub done: u64,
}

/// A request in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestState {
    /// The request.
    pub request: RequestId,
    /// Who pays.
    pub tenant: Arc<str>,
    /// All its tiles.
    pub tiles: u64,
    /// Tiles that wait for a worker.
    pub waiting: u64,
    /// Tiles with a worker.
    pub running: u64,
    /// Tiles whose bytes its consumer has yet to take.
    pub undelivered: u64,
}
