//! What the scheduler tells about itself.

use std::sync::Arc;
use std::time::Duration;

use super::request::Request;
use super::{RequestId, Schedule, WorkerId};

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
    /// Tiles since the start that were answered by a flight of another request.
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

impl Schedule {
    /// The state in figures: a look at every worker and every request.
    pub fn describe(&self) -> Description {
        let mut workers: Vec<WorkerState> = self
            .workers
            .iter()
            .map(|worker| WorkerState {
                worker: worker.name.clone(),
                slots: worker.slots,
                tiles: worker.tiles,
                memory_mib: worker.memory_mib,
                used_mib: worker.used_mib,
                is_draining: worker.is_draining,
                done: worker.done,
            })
            .collect();
        workers.sort_by(|one, other| one.worker.cmp(&other.worker));
        let cost = |request: &Request| {
            let tiles = (request.waiting() + request.running) as u64;
            Duration::from_nanos(request.cost.saturating_mul(tiles))
        };
        let requests = self.requests.iter().map(|(id, request)| RequestState {
            request: *id,
            tenant: Arc::clone(&request.tenant),
            tiles: request.total as u64,
            waiting: request.waiting() as u64,
            running: request.running as u64,
            undelivered: request.out.values().filter(|out| !out.is_delivered).count() as u64,
        });
        Description {
            workers,
            requests: requests.collect(),
            tiles_waiting: self.requests.values().map(|request| request.waiting() as u64).sum(),
            outstanding: self.requests.values().map(cost).fold(Duration::ZERO, Duration::saturating_add),
            sent: self.counts.sent,
            retries: self.counts.retries,
            sheds: self.counts.sheds,
            joins: self.counts.joins,
            spool_bytes: self.spool,
            quarantined: self.quarantine.len(),
        }
    }
}
