//! Computations of tiles, and the calls they are in.

use graticule_common::grid::TileId;
use graticule_common::hash::ContentHash;

use super::fair::Cost;
use super::workers::WorkerKey;
use super::{CallId, FlightId, Now, RequestId};

/// Workers a flight avoids: those that had it last.
const TRIED_MAX: usize = 8;

/// Where a flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// About to be sent.
    New,
    /// In a call.
    Running(CallId),
    /// Waits to be tried again, from this time on.
    Again(Now),
    /// Waits for a worker that is kept free for it.
    Reserved(WorkerKey),
    /// Answered; somebody has yet to take its bytes.
    Done,
}

/// One computation of one tile.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) work: ContentHash,
    pub(super) tile: TileId,
    pub(super) spot: u64,
    pub(super) peak_mib: u32,
    pub(super) bytes: u64,
    pub(super) cost: Cost,
    /// Who waits for its answer, or has yet to take it.
    pub(super) requesters: Vec<RequestId>,
    pub(super) state: State,
    pub(super) attempts: u32,
    /// How often it lost its worker while it was alone there.
    pub(super) deaths_alone: u32,
    /// Whether it was with a worker that was lost.
    pub(super) is_suspect: bool,
    /// Salts of the workers that had it: of their names, since one that comes back is the same one, whatever
    /// broke between.
    pub(super) tried: Vec<u64>,
}

impl Flight {
    pub(super) fn remember(&mut self, worker: u64) {
        self.tried.retain(|known| *known != worker);
        if self.tried.len() == TRIED_MAX {
            self.tried.remove(0);
        }
        self.tried.push(worker);
    }
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) worker: WorkerKey,
    pub(super) unanswered: Vec<FlightId>,
    /// Unanswered flights that somebody waits for.
    pub(super) wanted: usize,
    /// Memory of one of its tiles.
    pub(super) peak_mib: u32,
    pub(super) alone: bool,
    pub(super) is_cancelled: bool,
}
