//! Which worker computes which tile, when, and when again: one pure state machine for all requests of a
//! coordinator. Events in, actions out; time comes with the events.

mod describe;
mod event;
mod rules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use graticule_common::grid::TileId;

pub use describe::{Description, Load, RequestState, WorkerState};
pub use event::{
    Action, CallId, Event, Failure, FlightId, Now, RequestId, Submission, TileFailure, WorkerId,
};
pub use rules::Rules;

/// All requests of a coordinator, and all workers it knows.
#[derive(Debug)]
pub struct Schedule {
    rules: Rules,
    requests: BTreeMap<RequestId, (Submission, BTreeSet<TileId>)>,
    waiting: VecDeque<(FlightId, RequestId, TileId, u32)>,
    workers: BTreeMap<WorkerId, u32>,
    calls: BTreeMap<CallId, (WorkerId, Vec<(FlightId, RequestId, TileId, u32)>)>,
    next: u64,
}

impl Schedule {
    /// A coordinator's schedule at its start.
    pub fn new(rules: Rules) -> Self {
        Schedule {
            rules,
            requests: BTreeMap::new(),
            waiting: VecDeque::new(),
            workers: BTreeMap::new(),
            calls: BTreeMap::new(),
            next: 0,
        }
    }

    /// Takes in what happened and says what is to be done, in this order.
    pub fn on_event(&mut self, _now: Now, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::WorkerReady { worker, slots, .. } => drop(self.workers.insert(worker, slots)),
            Event::WorkerDraining { worker } => drop(self.workers.remove(&worker)),
            Event::WorkerLost { worker } => {
                self.workers.remove(&worker);
                let calls: Vec<CallId> =
                    self.calls.iter().filter(|(_, call)| call.0 == worker).map(|(id, _)| *id).collect();
                for call in calls {
                    self.end(call);
                }
            }
            Event::Submitted(submission) => {
                for tile in &submission.tiles {
                    self.next += 1;
                    let flight = FlightId(self.next);
                    actions.push(Action::Join { request: submission.request, tile: *tile, flight });
                    self.waiting.push_back((flight, submission.request, *tile, 0));
                }
                let tiles = submission.tiles.iter().copied().collect();
                self.requests.insert(submission.request, (submission, tiles));
            }
            Event::Withdrawn { request } => drop(self.requests.remove(&request)),
            Event::Delivered { .. } | Event::Tick => {}
            Event::TileDone { call, flight, .. } => {
                if let Some((_, flights)) = self.calls.get_mut(&call)
                    && let Some(at) = flights.iter().position(|known| known.0 == flight)
                {
                    let (_, request, tile, _) = flights.remove(at);
                    if let Some((_, left)) = self.requests.get_mut(&request) {
                        left.remove(&tile);
                        if left.is_empty() {
                            self.requests.remove(&request);
                        }
                    }
                }
            }
            Event::TileFailed { call, flight, failure } => {
                if let Some((_, flights)) = self.calls.get_mut(&call)
                    && let Some(at) = flights.iter().position(|known| known.0 == flight)
                {
                    let (flight, request, tile, tries) = flights.remove(at);
                    match failure {
                        TileFailure::Final => {
                            if self.requests.remove(&request).is_some() {
                                actions.push(Action::Fail { request, reason: Failure::Tile { flight } });
                            }
                        }
                        TileFailure::HandedBack => {
                            self.waiting.push_back((flight, request, tile, tries.saturating_sub(1)));
                        }
                        TileFailure::Transient => self.waiting.push_back((flight, request, tile, tries)),
                    }
                }
            }
            Event::CallEnded { call } => self.end(call),
        }
        self.pump(&mut actions);
        actions
    }

    /// When the next [`Event::Tick`] is due, if nothing happens before.
    pub fn next_wake(&self) -> Option<Now> {
        None
    }

    /// How much waits, as a tenant sees it; `own` is its next request's estimated service time.
    pub fn load(&self, _tenant: &str, _own: Duration) -> Load {
        Load::default()
    }

    /// The state in figures.
    pub fn describe(&self) -> Description {
        Description::default()
    }

    fn end(&mut self, call: CallId) {
        if let Some((_, flights)) = self.calls.remove(&call) {
            self.waiting.extend(flights);
        }
    }

    fn pump(&mut self, actions: &mut Vec<Action>) {
        for (worker, slots) in &self.workers {
            let used: usize =
                self.calls.values().filter(|call| call.0 == *worker).map(|call| call.1.len()).sum();
            for _ in used..(slots * self.rules.tiles_per_slot) as usize {
                let Some((flight, request, tile, tries)) = self.waiting.pop_front() else { return };
                let Some((submission, _)) = self.requests.get(&request) else { continue };
                if tries >= self.rules.attempts_max {
                    self.requests.remove(&request);
                    actions.push(Action::Fail { request, reason: Failure::Lost { tile, attempts: tries } });
                    continue;
                }
                self.next += 1;
                let call = CallId(self.next);
                actions.push(Action::Send {
                    call,
                    worker: worker.clone(),
                    work: submission.work,
                    flights: vec![(flight, tile)],
                    alone: false,
                    deadline: submission.deadline,
                });
                self.calls.insert(call, (worker.clone(), vec![(flight, request, tile, tries + 1)]));
            }
        }
    }
}
