//! Which worker computes which tile, and when again: a pure state machine. Events in, actions out.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use graticule_common::grid::TileId;
use graticule_common::hash::Hasher;

/// A worker's name.
pub type WorkerId = String;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker can take tiles.
    WorkerReady {
        /// The worker.
        worker: WorkerId,
        /// Tiles it computes at the same time.
        slots: u32,
    },
    /// A worker is gone, with whatever it was computing. The only way to lose one.
    WorkerLost {
        /// The worker.
        worker: WorkerId,
    },
    /// A tile is complete.
    TileDone {
        /// The tile.
        tile: TileId,
    },
    /// A worker could not take a tile now; another, or a later moment, may do.
    TileReturned {
        /// The worker.
        worker: WorkerId,
        /// The tile.
        tile: TileId,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send tiles to a worker.
    Send {
        /// The worker.
        worker: WorkerId,
        /// The tiles, neighbours first.
        tiles: Vec<TileId>,
    },
    /// Give up: a tile was tried as often as it may be.
    GiveUp {
        /// The tile.
        tile: TileId,
        /// How often.
        attempts: u32,
    },
}

/// The tiles of one request on their way.
#[derive(Debug)]
pub struct Schedule {
    /// Tiles that wait, in a queue for each worker whose share they are; without workers, in one.
    pending: BTreeMap<WorkerId, VecDeque<TileId>>,
    attempts: BTreeMap<TileId, u32>,
    workers: BTreeMap<WorkerId, Worker>,
    done: BTreeSet<TileId>,
    tiles: usize,
    /// Tiles computed more than once.
    retries: u64,
    attempts_max: u32,
}

#[derive(Debug)]
struct Worker {
    /// Tiles it may have at a time.
    credit: usize,
    running: BTreeSet<TileId>,
}

/// Tiles a worker has beyond those it computes: the next one is there when a slot gets free.
const QUEUED_PER_SLOT: usize = 1;

/// Tiles of one call: neighbours that share files, few enough to spread.
const BATCH_MAX: usize = 8;

impl Schedule {
    /// A schedule of these tiles, in their order.
    pub fn new(tiles: Vec<TileId>, attempts_max: u32) -> Self {
        Schedule {
            tiles: tiles.len(),
            pending: BTreeMap::from([(WorkerId::new(), tiles.into())]),
            attempts: BTreeMap::new(),
            workers: BTreeMap::new(),
            done: BTreeSet::new(),
            retries: 0,
            attempts_max,
        }
    }

    /// Whether every tile is done.
    pub fn is_finished(&self) -> bool {
        self.done.len() == self.tiles
    }

    /// Whether no worker is left to compute the rest.
    pub fn is_stranded(&self) -> bool {
        !self.is_finished() && self.workers.is_empty()
    }

    /// Whether a worker has this tile to compute.
    pub fn is_with(&self, worker: &str, tile: TileId) -> bool {
        self.workers.get(worker).is_some_and(|worker| worker.running.contains(&tile))
    }

    /// Tiles that were computed again.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Takes in what happened and says what is to be done.
    pub fn on_event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::WorkerReady { worker, slots } => {
                let credit = slots.max(1) as usize * (1 + QUEUED_PER_SLOT);
                match self.workers.entry(worker) {
                    Entry::Occupied(mut known) => known.get_mut().credit = credit,
                    Entry::Vacant(place) => {
                        place.insert(Worker { credit, running: BTreeSet::new() });
                        self.share_out();
                    }
                }
            }
            Event::WorkerLost { worker } => {
                if let Some(lost) = self.workers.remove(&worker) {
                    for tile in lost.running.into_iter().rev() {
                        self.give_back(tile, &mut actions);
                    }
                    self.share_out();
                }
            }
            // The first answer wins, whoever gives it: all are the same.
            Event::TileDone { tile } => {
                if self.done.insert(tile) {
                    self.workers.values_mut().for_each(|worker| _ = worker.running.remove(&tile));
                }
            }
            Event::TileReturned { worker, tile } => {
                if self.take(&worker, tile) {
                    self.give_back(tile, &mut actions);
                }
            }
        }
        if actions.is_empty() {
            self.assign(&mut actions);
        }
        actions
    }

    /// Takes a tile from a worker; false for an answer nobody waits for, as after a loss.
    fn take(&mut self, worker: &str, tile: TileId) -> bool {
        self.workers.get_mut(worker).is_some_and(|worker| worker.running.remove(&tile))
    }

    fn give_back(&mut self, tile: TileId, actions: &mut Vec<Action>) {
        let attempts = self.attempts.get(&tile).copied().unwrap_or(0);
        if attempts >= self.attempts_max {
            actions.push(Action::GiveUp { tile, attempts });
        }
        self.retries += 1;
        self.pending.entry(self.home(tile)).or_default().push_front(tile);
    }

    /// The worker whose share a tile is; no name without workers.
    fn home(&self, tile: TileId) -> WorkerId {
        home(self.workers.keys(), tile).cloned().unwrap_or_default()
    }

    /// Shares out what waits among the workers there are: once for each worker that comes or goes.
    fn share_out(&mut self) {
        let waiting: BTreeSet<TileId> = std::mem::take(&mut self.pending).into_values().flatten().collect();
        for tile in waiting {
            self.pending.entry(self.home(tile)).or_default().push_back(tile);
        }
    }

    /// Gives workers with credit tiles of their share, and those that would be idle some of another's.
    fn assign(&mut self, actions: &mut Vec<Action>) {
        let names: Vec<WorkerId> = self.workers.keys().cloned().collect();
        for name in names {
            let Some(worker) = self.workers.get(&name) else { continue };
            let room = worker.credit.saturating_sub(worker.running.len()).min(BATCH_MAX);
            let is_idle = worker.running.is_empty();
            let mut tiles = self.take_waiting(&name, room, VecDeque::pop_front);
            if tiles.is_empty() && is_idle {
                // From the far end of the longest queue: what its owner would come to last.
                let longest = self.pending.iter().max_by_key(|(_, queue)| queue.len());
                if let Some(owner) = longest.map(|(owner, _)| owner.clone()) {
                    tiles = self.take_waiting(&owner, room, VecDeque::pop_back);
                }
            }
            if tiles.is_empty() {
                continue;
            }
            if let Some(worker) = self.workers.get_mut(&name) {
                worker.running.extend(&tiles);
            }
            tiles.iter().for_each(|tile| *self.attempts.entry(*tile).or_default() += 1);
            actions.push(Action::Send { worker: name, tiles });
        }
    }

    /// Up to `room` tiles from one end of a worker's queue; what is done meanwhile is left out.
    fn take_waiting(
        &mut self,
        owner: &str,
        room: usize,
        pop: fn(&mut VecDeque<TileId>) -> Option<TileId>,
    ) -> Vec<TileId> {
        let Some(queue) = self.pending.get_mut(owner) else { return Vec::new() };
        let mut tiles = Vec::new();
        while tiles.len() < room {
            match pop(queue) {
                Some(tile) if self.done.contains(&tile) => {}
                Some(tile) => tiles.push(tile),
                None => break,
            }
        }
        tiles
    }
}

/// The worker that a tile goes to if it can, by rendezvous hashing: repeats meet warm caches, and a
/// worker that comes or goes moves only its own share. Blocks of neighbours share a home, as they
/// share files.
fn home<'a>(workers: impl Iterator<Item = &'a WorkerId>, tile: TileId) -> Option<&'a WorkerId> {
    /// Edge of a block of tiles with one home.
    const NEIGHBOURHOOD: i64 = 2;
    workers.max_by_key(|worker| {
        let mut hasher = Hasher::new("home");
        hasher.str(worker);
        hasher.int(tile.row.div_euclid(NEIGHBOURHOOD)).int(tile.col.div_euclid(NEIGHBOURHOOD));
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tiles(n: i64) -> Vec<TileId> {
        (0..n).map(|at| TileId { row: at / 7, col: at % 7 }).collect()
    }

    #[test]
    fn a_tile_is_not_tried_for_ever() {
        let mut schedule = Schedule::new(tiles(1), 2);
        for attempt in 1..=2 {
            let worker = format!("w{attempt}");
            let sent = schedule.on_event(Event::WorkerReady { worker: worker.clone(), slots: 1 });
            assert_eq!(sent, [Action::Send { worker: worker.clone(), tiles: tiles(1) }]);
            let lost = schedule.on_event(Event::WorkerLost { worker });
            let expected = (attempt == 2).then_some(Action::GiveUp { tile: tiles(1)[0], attempts: 2 });
            assert_eq!(lost, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn repeats_go_to_the_same_workers() {
        let homes = |names: &[&str]| -> Vec<String> {
            let names: Vec<WorkerId> = names.iter().map(|name| (*name).to_owned()).collect();
            tiles(49).into_iter().map(|tile| home(names.iter(), tile).unwrap().clone()).collect()
        };
        let (three, two) = (homes(&["a", "b", "c"]), homes(&["a", "b"]));
        assert!(["a", "b", "c"].iter().all(|name| three.iter().any(|home| home == name)));
        // Only what was on the lost worker moves.
        assert!(three.iter().zip(&two).all(|(before, after)| before == "c" || before == after));
    }

    proptest! {
        /// Whatever happens in whatever order: no tile is with two workers, no worker is over its
        /// credit, and with one worker left to itself everything gets done, each tile once.
        #[test]
        fn every_tile_is_answered_once(count in 1i64..60, script in proptest::collection::vec((0u8..4, 0usize..5, 0usize..64), 0..300)) {
            let mut schedule = Schedule::new(tiles(count), u32::MAX);
            let mut running: BTreeMap<WorkerId, Vec<TileId>> = BTreeMap::new();
            let mut done: Vec<TileId> = Vec::new();
            let name = |at: usize| format!("w{at}");
            let mut apply = |schedule: &mut Schedule, running: &mut BTreeMap<WorkerId, Vec<TileId>>, event: Event| {
                match &event {
                    Event::WorkerReady { worker, .. } => drop(running.entry(worker.clone()).or_default()),
                    Event::WorkerLost { worker } => drop(running.remove(worker)),
                    Event::TileReturned { worker, tile } => {
                        running.get_mut(worker).unwrap().retain(|running| running != tile);
                    }
                    Event::TileDone { tile } => {
                        running.values_mut().for_each(|tiles| tiles.retain(|running| running != tile));
                        done.push(*tile);
                    }
                }
                for action in schedule.on_event(event) {
                    match action {
                        Action::Send { worker, tiles } => running.get_mut(&worker).expect("a live worker").extend(tiles),
                        Action::GiveUp { .. } => panic!("attempts are not limited here"),
                    }
                }
                let all: Vec<TileId> = running.values().flatten().chain(&done).copied().collect();
                let distinct: BTreeSet<TileId> = all.iter().copied().collect();
                assert_eq!(all.len(), distinct.len(), "a tile is in two places");
                assert!(running.values().all(|tiles| tiles.len() <= 4), "over credit");
            };
            for (what, worker, pick) in script {
                let worker = name(worker);
                let tile = running.get(&worker).and_then(|tiles| tiles.get(pick % tiles.len().max(1)).copied());
                let event = match (what, tile) {
                    (0, _) => Event::WorkerReady { worker, slots: 2 },
                    (1, _) => Event::WorkerLost { worker },
                    (2, Some(tile)) => Event::TileReturned { worker, tile },
                    (3, Some(tile)) => Event::TileDone { tile },
                    _ => continue,
                };
                apply(&mut schedule, &mut running, event);
            }
            for at in 0..5 {
                apply(&mut schedule, &mut running, Event::WorkerLost { worker: name(at) });
            }
            prop_assert!(schedule.is_finished() || schedule.is_stranded());
            apply(&mut schedule, &mut running, Event::WorkerReady { worker: name(9), slots: 2 });
            while let Some(tile) = running[&name(9)].first().copied() {
                apply(&mut schedule, &mut running, Event::TileDone { tile });
            }
            prop_assert!(schedule.is_finished());
            prop_assert_eq!(done.len() as i64, count);
        }
    }
}
