//! The workers, what they have, and which of them a tile goes to.

use std::collections::{BTreeMap, BTreeSet};

use graticule_common::grid::TileId;
use graticule_common::hash::ContentHash;

use super::{CallId, FlightId, RequestId, Rules, WorkerId};

/// One registration of a worker; a name that comes back is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WorkerKey(u32);

/// Edge of a block of tiles with one home, as they share files.
const NEIGHBOURHOOD: i64 = 2;

/// Workers that are remembered for a neighbourhood, best first: its home, and where it goes when the
/// home is busy, so that repeats meet warm caches there too.
const CANDIDATES: usize = 4;

/// The first workers of a neighbourhood's ranking.
pub(super) type Candidates = [Option<WorkerKey>; CANDIDATES];

/// What a worker can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing now.
    #[default]
    None,
    /// Tiles that wait there for a slot.
    Queue,
    /// Tiles that are computed at once.
    Idle,
}

/// Whom a worker is kept free for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A request whose next tile needs much memory.
    Request(RequestId),
    /// A flight that is tried again, alone or in much memory.
    Flight(FlightId),
}

/// A worker that takes nothing else until somebody's tile fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    pub(super) holder: Holder,
    pub(super) need_mib: u32,
    /// Whether it has to be empty.
    pub(super) alone: bool,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: WorkerId,
    pub(super) salt: u64,
    pub(super) slots: u32,
    pub(super) memory_mib: u32,
    pub(super) tiles: u32,
    pub(super) used_mib: u32,
    pub(super) calls: BTreeSet<CallId>,
    pub(super) is_draining: bool,
    /// The call that has the worker to itself.
    pub(super) alone: Option<CallId>,
    pub(super) reservation: Option<Reservation>,
    pub(super) done: u64,
    room: Room,
    load: u64,
}

impl Worker {
    pub(super) fn free_mib(&self) -> u32 {
        self.memory_mib.saturating_sub(self.used_mib)
    }

    /// Whether it is somebody's alone, now or next.
    pub(super) fn is_taken(&self) -> bool {
        self.reservation.is_some() || self.alone.is_some()
    }

    /// Whether it could compute such a tile if it had nothing else.
    pub(super) fn is_able(&self, peak_mib: u32) -> bool {
        !self.is_draining && self.memory_mib >= peak_mib
    }
}

/// All workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    by_key: BTreeMap<WorkerKey, Worker>,
    by_name: BTreeMap<WorkerId, WorkerKey>,
    /// Workers with a free slot, least loaded first.
    idle: BTreeSet<(u64, WorkerKey)>,
    /// Workers without a free slot where enough tiles can wait to be worth a call.
    queue: BTreeSet<WorkerKey>,
    /// Workers that have become free for whom they are reserved.
    due: BTreeSet<WorkerKey>,
    /// Workers that are reserved, or have a call to themselves.
    reserved: usize,
    next: u32,
    /// Changes when a ranking may.
    pub(super) epoch: u64,
    /// Slots of all workers that take tiles.
    pub(super) slots: u64,
    /// Memory of the largest worker that takes tiles; none without one.
    pub(super) largest_mib: Option<u32>,
    tiles_per_slot: u32,
}

impl Workers {
    pub(super) fn new(rules: &Rules) -> Self {
        Workers { tiles_per_slot: rules.tiles_per_slot.max(1), ..Workers::default() }
    }

    pub(super) fn get(&self, key: WorkerKey) -> Option<&Worker> {
        self.by_key.get(&key)
    }

    pub(super) fn key(&self, name: &str) -> Option<WorkerKey> {
        self.by_name.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.by_key.values()
    }

    /// A worker comes, or says anew what it can take.
    pub(super) fn ready(&mut self, name: WorkerId, slots: u32, memory_mib: u32) {
        let slots = slots.max(1);
        let key = match self.by_name.get(&name) {
            Some(key) => *key,
            None => {
                let key = WorkerKey(self.next);
                self.next += 1;
                self.by_name.insert(name.clone(), key);
                let salt = name.bytes().fold(0, |salt, byte| mix(salt ^ u64::from(byte)));
                let worker = Worker {
                    name,
                    salt,
                    slots,
                    memory_mib,
                    tiles: 0,
                    used_mib: 0,
                    calls: BTreeSet::new(),
                    is_draining: false,
                    alone: None,
                    reservation: None,
                    done: 0,
                    room: Room::None,
                    load: 0,
                };
                self.by_key.insert(key, worker);
                key
            }
        };
        self.change(key, |worker| {
            (worker.slots, worker.memory_mib, worker.is_draining) = (slots, memory_mib, false);
        });
        self.recount();
    }

    /// A worker takes nothing more.
    pub(super) fn drain(&mut self, name: &str) {
        if let Some(key) = self.key(name) {
            self.change(key, |worker| worker.is_draining = true);
            self.recount();
        }
    }

    /// A worker is gone.
    pub(super) fn remove(&mut self, name: &str) -> Option<(WorkerKey, Worker)> {
        let key = self.by_name.remove(name)?;
        // Out of every set before it goes.
        self.change(key, |worker| worker.is_draining = true);
        self.due.remove(&key);
        let worker = self.by_key.remove(&key)?;
        self.reserved -= usize::from(worker.is_taken());
        self.recount();
        Some((key, worker))
    }

    fn recount(&mut self) {
        self.epoch += 1;
        let able = || self.by_key.values().filter(|worker| !worker.is_draining);
        self.slots = able().map(|worker| u64::from(worker.slots)).sum();
        self.largest_mib = able().map(|worker| worker.memory_mib).max();
    }

    /// Changes a worker, and what is known about its room with it. Every change goes through here.
    pub(super) fn change(&mut self, key: WorkerKey, change: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.by_key.get_mut(&key) else { return };
        match worker.room {
            Room::Idle => _ = self.idle.remove(&(worker.load, key)),
            Room::Queue => _ = self.queue.remove(&key),
            Room::None => {}
        }
        self.due.remove(&key);
        self.reserved -= usize::from(worker.is_taken());
        change(worker);
        worker.load = (u64::from(worker.tiles) << 16) / u64::from(worker.slots);
        let credit = worker.slots.saturating_mul(self.tiles_per_slot);
        let free = credit.saturating_sub(worker.tiles);
        // Tiles that only wait go out some at a time: neighbours in one call share files.
        let worth = (credit - worker.slots).div_ceil(2).max(1);
        worker.room = if worker.is_draining || worker.is_taken() {
            Room::None
        } else if worker.tiles < worker.slots {
            Room::Idle
        } else if free >= worth {
            Room::Queue
        } else {
            Room::None
        };
        match worker.room {
            Room::Idle => _ = self.idle.insert((worker.load, key)),
            Room::Queue => _ = self.queue.insert(key),
            Room::None => {}
        }
        self.reserved += usize::from(worker.is_taken());
        if let Some(reservation) = worker.reservation
            && worker.alone.is_none()
            && (worker.is_draining
                || worker.tiles == 0
                || !reservation.alone && free > 0 && worker.free_mib() >= reservation.need_mib)
        {
            self.due.insert(key);
        }
    }

    /// A worker that is free for whom it is reserved, or never will be; the reservation ends.
    pub(super) fn take_due(&mut self) -> Option<(WorkerKey, Reservation)> {
        let key = *self.due.first()?;
        let reservation = self.by_key.get(&key)?.reservation?;
        self.change(key, |worker| worker.reservation = None);
        Some((key, reservation))
    }

    /// Whether another worker may be reserved: half of them, and always one.
    pub(super) fn may_reserve(&self) -> bool {
        self.reserved < (self.by_key.len() / 2).max(1)
    }

    /// Whether any worker takes anything.
    pub(super) fn has_room(&self) -> bool {
        !self.idle.is_empty() || !self.queue.is_empty()
    }

    /// Whether a worker has a free slot.
    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// What a worker can take of such tiles.
    pub(super) fn room(&self, key: Option<WorkerKey>, peak_mib: u32) -> Room {
        match key.and_then(|key| self.by_key.get(&key)) {
            Some(worker) if worker.free_mib() >= peak_mib => worker.room,
            _ => Room::None,
        }
    }

    /// The least loaded worker with a free slot and room for such a tile.
    pub(super) fn least_loaded(&self, peak_mib: u32) -> Option<WorkerKey> {
        /// Workers that are looked at: a tile so large that none of these has room can wait.
        const LOOK: usize = 16;
        let fits = |key: &WorkerKey| self.room(Some(*key), peak_mib) == Room::Idle;
        self.idle.iter().take(LOOK).map(|(_, key)| *key).find(fits)
    }

    /// Tiles that a worker takes in one call, if it takes any: all its credit if it is their home and
    /// nobody else is idle, and its slots otherwise.
    pub(super) fn takes(&self, key: WorkerKey, peak_mib: u32, is_home: bool) -> usize {
        let Some(worker) = self.by_key.get(&key) else { return 0 };
        let credit = worker.slots.saturating_mul(self.tiles_per_slot);
        let only_slots = worker.room == Room::Idle && (self.idle.len() > 1 || !is_home);
        let limit = if only_slots { worker.slots } else { credit };
        let by_memory = worker.free_mib().checked_div(peak_mib).unwrap_or(u32::MAX);
        limit.saturating_sub(worker.tiles).min(by_memory) as usize
    }

    /// The first workers for a neighbourhood: one look at each worker, once for each neighbourhood.
    pub(super) fn candidates(&self, spot: u64, peak_mib: u32) -> Candidates {
        let mut best: [(u64, Option<WorkerKey>); CANDIDATES] = [(0, None); CANDIDATES];
        for (key, worker) in &self.by_key {
            let score = mix(spot ^ worker.salt);
            if !worker.is_able(peak_mib) {
                continue;
            }
            if let Some(at) = best.iter().position(|(lowest, known)| known.is_none() || score > *lowest) {
                best[at..].rotate_right(1);
                best[at] = (score, Some(*key));
            }
        }
        best.map(|(_, key)| key)
    }

    /// The worker to try a flight again on: not one that had it, unless there is no other. The second
    /// says who is to be kept free for it when all are too busy.
    pub(super) fn again(
        &self,
        spot: u64,
        peak_mib: u32,
        tried: &[u64],
        alone: bool,
    ) -> (Option<WorkerKey>, Option<WorkerKey>) {
        let able = || self.by_key.iter().filter(|(_, worker)| worker.is_able(peak_mib));
        let has_other = able().any(|(_, worker)| !tried.contains(&worker.salt));
        let score = |worker: &Worker| {
            (worker.room == Room::Idle, !tried.contains(&worker.salt), mix(spot ^ worker.salt))
        };
        let open = able().filter(|(_, worker)| {
            (!has_other || !tried.contains(&worker.salt))
                && !worker.is_taken()
                && (!alone || worker.tiles == 0)
        });
        let takes = |worker: &Worker| {
            worker.tiles < worker.slots.saturating_mul(self.tiles_per_slot) && worker.free_mib() >= peak_mib
        };
        let now = open.filter(|(_, worker)| takes(worker)).max_by_key(|(_, worker)| score(worker));
        let now = now.map(|(key, _)| *key);
        if now.is_some() {
            return (now, None);
        }
        let later =
            able().filter(|(_, worker)| (!has_other || !tried.contains(&worker.salt)) && !worker.is_taken());
        // With credit and without memory, others would always take what gets free.
        let later = later.filter(|(_, worker)| alone || worker.room != Room::None);
        (None, later.min_by_key(|(_, worker)| (worker.tiles, worker.used_mib)).map(|(key, _)| *key))
    }
}

/// Where a tile's neighbourhood lies among the workers.
pub(super) fn spot(place: ContentHash, tile: TileId) -> u64 {
    let (row, col) = neighbourhood(tile);
    let mut word = [0; 8];
    word.copy_from_slice(&place.as_bytes()[..8]);
    mix(mix(u64::from_le_bytes(word) ^ row as u64) ^ col as u64)
}

/// The block of tiles that a tile is in.
pub(super) fn neighbourhood(tile: TileId) -> (i64, i64) {
    (tile.row.div_euclid(NEIGHBOURHOOD), tile.col.div_euclid(NEIGHBOURHOOD))
}

/// SplitMix64's finaliser: every bit of the input moves every bit of the output. The same on every
/// coordinator, so that all send a tile to the same worker.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes(names: &[&str]) -> Vec<String> {
        let mut workers = Workers::new(&Rules::default());
        names.iter().for_each(|name| workers.ready((*name).to_owned(), 1, 100));
        let place = ContentHash::from_bytes([7; 32]);
        let tiles = (0..4096).map(|at| TileId { row: at / 64, col: at % 64 });
        let home = |tile| workers.candidates(spot(place, tile), 1)[0].unwrap();
        tiles.map(|tile| workers.get(home(tile)).unwrap().name.clone()).collect()
    }

    #[test]
    fn a_worker_that_goes_moves_only_its_own_share() {
        let all = homes(&["a", "b", "c", "d"]);
        for name in ["a", "b", "c", "d"] {
            let share = all.iter().filter(|home| *home == name).count();
            assert!((820..1230).contains(&share), "{name} has {share} of 4096");
        }
        // In another order, as another coordinator may have come to know them.
        let fewer = homes(&["d", "b", "a"]);
        assert!(all.iter().zip(&fewer).all(|(before, after)| before == "c" || before == after));
    }

    #[test]
    fn candidates_are_ranked_and_able() {
        let mut workers = Workers::new(&Rules::default());
        for at in 0..10 {
            workers.ready(format!("w{at}"), 1, if at < 3 { 100 } else { 10 });
        }
        let small = workers.candidates(5, 10);
        let score = |key: Option<WorkerKey>| mix(5 ^ workers.get(key.unwrap()).unwrap().salt);
        assert!(small.windows(2).all(|pair| score(pair[0]) > score(pair[1])));
        assert_eq!(workers.candidates(5, 50).iter().flatten().count(), 3);
        assert_eq!(workers.candidates(5, 101), [None; CANDIDATES]);
    }
}
