//! A request's tiles: those that wait, and those under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use graticule_common::grid::TileId;
use graticule_common::hash::ContentHash;

use super::fair::Cost;
use super::workers::{Candidates, Room, WorkerKey, Workers, neighbourhood, spot};
use super::{FlightId, Now, Submission};

/// Neighbourhoods that a request's next tiles are chosen among: enough for each worker of a small
/// cluster to find some of its own.
const LOOKAHEAD: usize = 8;

/// A request of at most as many tiles is entered under each, so that it joins flights of others while
/// it waits. Larger ones join when a tile's turn comes.
const SMALL: usize = 64;

/// Least cost of a tile: sending it costs something too.
const COST_MIN: Duration = Duration::from_micros(100);

/// Most cost of a tile: an estimate beyond is no estimate.
const COST_MAX: Duration = Duration::from_secs(3600);

/// Least bytes of an answer: what is known about a tile under way takes memory too.
const RESULT_BYTES_MIN: u64 = 1 << 10;

/// Most bytes of an answer: a larger one goes out alone as this one does.
const RESULT_BYTES_MAX: u64 = 1 << 40;

/// A tile under way.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) flight: FlightId,
    pub(super) is_done: bool,
    pub(super) is_delivered: bool,
}

/// Tiles of one neighbourhood, and who may take them.
#[derive(Debug)]
struct Head {
    tiles: VecDeque<TileId>,
    candidates: Candidates,
    epoch: u64,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) tenant: Arc<str>,
    pub(super) work: ContentHash,
    pub(super) place: ContentHash,
    pub(super) peak_mib: u32,
    /// Bytes of one tile's answer.
    pub(super) bytes: u64,
    /// CPU time of one tile.
    pub(super) cost: Cost,
    pub(super) patience: Duration,
    pub(super) is_shareable: bool,
    pub(super) deadline: Now,
    /// Since when only the client is waited for.
    pub(super) paused: Option<Now>,
    /// When it gives up for want of a worker.
    pub(super) stranded: Option<Now>,
    /// Whether it waits for its client because the coordinator holds too much.
    pub(super) is_parked: bool,
    /// The worker that is kept free for its next tile.
    pub(super) reserved: Option<WorkerKey>,
    pub(super) total: usize,
    /// All tiles, neighbourhood by neighbourhood; those before `next` are in `heads` or gone.
    tiles: Vec<TileId>,
    next: usize,
    heads: VecDeque<Head>,
    waiting: usize,
    pub(super) out: BTreeMap<TileId, Out>,
    /// Bytes of the tiles that are not delivered.
    pub(super) held: u64,
    /// Tiles that are not done.
    pub(super) running: usize,
}

/// Where a request's next tiles go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// Those of the head at this place to this worker.
    At(usize, WorkerKey),
    /// Nowhere now; `starved` for memory although slots are free.
    Nowhere { starved: bool },
}

/// Puts tiles in the order that requests are worked through: neighbourhood by neighbourhood. The
/// scheduler does it too; who does it before spares everybody else the wait for a large request.
pub fn neighbours_first(tiles: &mut Vec<TileId>) {
    let place = |tile: &TileId| (neighbourhood(*tile), *tile);
    if !tiles.is_sorted_by_key(place) {
        tiles.sort_unstable_by_key(place);
    }
    tiles.dedup();
}

impl Request {
    pub(super) fn new(submission: Submission) -> Self {
        let mut tiles = submission.tiles;
        neighbours_first(&mut tiles);
        Request {
            tenant: submission.tenant,
            work: submission.work,
            place: submission.place,
            peak_mib: submission.peak_mib,
            bytes: submission.result_bytes.clamp(RESULT_BYTES_MIN, RESULT_BYTES_MAX),
            cost: submission.cost.clamp(COST_MIN, COST_MAX).as_nanos() as Cost,
            patience: submission.patience,
            is_shareable: submission.is_shareable,
            deadline: submission.deadline,
            paused: None,
            stranded: None,
            is_parked: false,
            reserved: None,
            total: tiles.len(),
            next: 0,
            heads: VecDeque::new(),
            waiting: tiles.len(),
            tiles,
            out: BTreeMap::new(),
            held: 0,
            running: 0,
        }
    }

    /// Tiles that wait for a worker.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether it joins others' flights while it waits.
    pub(super) fn is_small(&self) -> bool {
        self.is_shareable && self.total <= SMALL
    }

    /// The tiles that wait; of a small request.
    pub(super) fn waiting_tiles(&self) -> impl Iterator<Item = TileId> {
        self.heads.iter().flat_map(|head| &head.tiles).chain(&self.tiles[self.next..]).copied()
    }

    /// Whether a tile waits.
    pub(super) fn waits_for(&self, tile: TileId) -> bool {
        let place = (neighbourhood(tile), tile);
        self.heads.iter().any(|head| head.tiles.contains(&tile))
            || self.tiles[self.next..]
                .binary_search_by_key(&place, |tile| (neighbourhood(*tile), *tile))
                .is_ok()
    }

    /// Takes a waiting tile out of turn; of a small request.
    pub(super) fn take(&mut self, tile: TileId) -> bool {
        for at in 0..self.heads.len() {
            if let Some(place) = self.heads[at].tiles.iter().position(|known| *known == tile) {
                self.heads[at].tiles.remove(place);
                if self.heads[at].tiles.is_empty() {
                    self.heads.remove(at);
                }
                self.waiting -= 1;
                return true;
            }
        }
        match self.tiles[self.next..].iter().position(|known| *known == tile) {
            Some(place) => {
                self.tiles.remove(self.next + place);
                self.waiting -= 1;
                true
            }
            None => false,
        }
    }

    /// The home of a head's tiles.
    pub(super) fn home(&self, at: usize) -> Option<WorkerKey> {
        self.heads.get(at)?.candidates[0]
    }

    /// Takes the next tile of a head, or of a later one with the same home.
    pub(super) fn take_from(&mut self, at: &mut usize) -> Option<TileId> {
        let head = self.heads.get_mut(*at)?;
        let tile = head.tiles.pop_front()?;
        self.waiting -= 1;
        if head.tiles.is_empty() {
            let home = head.candidates[0];
            self.heads.remove(*at);
            let later = self.heads.iter().skip(*at).position(|head| head.candidates[0] == home);
            *at = later.map_or(usize::MAX, |later| *at + later);
        }
        Some(tile)
    }

    /// Chooses among the next neighbourhoods and the workers with room: an idle home first, then any
    /// idle worker for the one in front, then a place in the queue of one that had it or would have it.
    pub(super) fn pick(&mut self, workers: &Workers) -> Pick {
        self.look_ahead(workers);
        let room = |key: Option<WorkerKey>| workers.room(key, self.peak_mib);
        let mut starved = false;
        if workers.has_idle() {
            for (at, head) in self.heads.iter().enumerate() {
                if let Some(home) = head.candidates[0].filter(|home| room(Some(*home)) == Room::Idle) {
                    return Pick::At(at, home);
                }
            }
            let others = self.heads.front().map_or(&[][..], |head| &head.candidates[1..]);
            let other = others.iter().flatten().copied().find(|other| room(Some(*other)) == Room::Idle);
            if let Some(other) = other.or_else(|| workers.least_loaded(self.peak_mib)) {
                return Pick::At(0, other);
            }
            starved = true;
        }
        for (at, head) in self.heads.iter().enumerate() {
            let next = head.candidates[..2].iter().flatten().copied();
            if let Some(worker) = next.into_iter().find(|key| room(Some(*key)) == Room::Queue) {
                return Pick::At(at, worker);
            }
        }
        Pick::Nowhere { starved }
    }

    /// The candidate with the most free memory, to be kept free for the tile in front.
    pub(super) fn roomiest(&self, workers: &Workers) -> Option<WorkerKey> {
        let able = self.heads.front()?.candidates.into_iter().flatten();
        let free = able.filter_map(|key| workers.get(key).map(|worker| (key, worker)));
        let free = free.filter(|(_, worker)| !worker.is_taken());
        free.max_by_key(|(_, worker)| worker.free_mib()).map(|(key, _)| key)
    }

    fn look_ahead(&mut self, workers: &Workers) {
        while self.heads.len() < LOOKAHEAD
            && let Some(first) = self.tiles.get(self.next)
        {
            let place = neighbourhood(*first);
            let same = self.tiles[self.next..].iter().take_while(|tile| neighbourhood(**tile) == place);
            let tiles: VecDeque<TileId> = same.copied().collect();
            self.next += tiles.len();
            let candidates = workers.candidates(spot(self.place, tiles[0]), self.peak_mib);
            self.heads.push_back(Head { tiles, candidates, epoch: workers.epoch });
        }
        for head in &mut self.heads {
            if head.epoch != workers.epoch {
                head.candidates = workers.candidates(spot(self.place, head.tiles[0]), self.peak_mib);
                head.epoch = workers.epoch;
            }
        }
    }
}
