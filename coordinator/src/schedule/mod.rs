//! Which worker computes which tile, when, and when again: one pure state machine for all requests of a
//! coordinator. Events in, actions out; time comes with the events, and equal histories give equal
//! actions.
//!
//! * [`Rules`]: the figures.
//! * `fair`: whose turn it is. `request`: a request's tiles. `workers`: where a tile goes.
//! * `serve`: what goes out when there is room. `answers`: what comes back, and what is lost.
//! * `shed`: what is refused. `budget`: what is not tried again.

mod answers;
mod budget;
mod describe;
mod event;
mod fair;
mod flight;
mod request;
mod rules;
mod serve;
mod shed;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use graticule_common::grid::TileId;
use graticule_common::hash::ContentHash;

use budget::{Quarantine, RetryBudget};
pub use describe::{Description, Load, RequestState, WorkerState};
pub use event::{
    Action, CallId, Event, Failure, FlightId, Now, RequestId, Submission, TileFailure, WorkerId,
};
use fair::Fair;
use flight::{Call, Flight, State};
use request::Request;
pub use request::neighbours_first;
pub use rules::Rules;
use workers::{Holder, Workers};

/// All requests of a coordinator, and all workers it knows.
#[derive(Debug)]
pub struct Schedule {
    rules: Rules,
    now: Now,
    workers: Workers,
    requests: BTreeMap<RequestId, Request>,
    fair: Fair,
    flights: BTreeMap<FlightId, Flight>,
    calls: BTreeMap<CallId, Call>,
    /// Flights that may be joined.
    shared: BTreeMap<(ContentHash, TileId), FlightId>,
    /// Small requests under each tile that they wait for.
    wanted: BTreeSet<(ContentHash, TileId, RequestId)>,
    /// Flights that wait to be tried again, and from when on.
    again: BTreeSet<(Now, FlightId)>,
    /// Requests that wait for their clients because too much is held.
    parked: BTreeSet<RequestId>,
    timers: BTreeSet<(Now, Timer, RequestId)>,
    retries: RetryBudget,
    quarantine: Quarantine,
    /// Bytes of the answers of all flights, by estimate.
    spool: u64,
    /// What tiles took of what they were estimated at, on the average of the last ones.
    pace: f64,
    next_flight: u64,
    next_call: u64,
    counts: Counts,
}

/// What a request waits for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Its time is over.
    Deadline,
    /// Its patience without a worker is.
    Stranded,
}

/// Sums since the start.
#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    retries: u64,
    sheds: u64,
    joins: u64,
}

impl Schedule {
    /// A coordinator's schedule at its start.
    pub fn new(rules: Rules) -> Self {
        Schedule {
            workers: Workers::new(&rules),
            rules,
            now: Now::ZERO,
            requests: BTreeMap::new(),
            fair: Fair::default(),
            flights: BTreeMap::new(),
            calls: BTreeMap::new(),
            shared: BTreeMap::new(),
            wanted: BTreeSet::new(),
            again: BTreeSet::new(),
            parked: BTreeSet::new(),
            timers: BTreeSet::new(),
            retries: RetryBudget::default(),
            quarantine: Quarantine::default(),
            spool: 0,
            pace: 1.0,
            next_flight: 1,
            next_call: 1,
            counts: Counts::default(),
        }
    }

    /// Takes in what happened and says what is to be done, in this order. An event about something that
    /// has ended meanwhile changes nothing.
    pub fn on_event(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut actions = Vec::new();
        match event {
            Event::WorkerReady { worker, slots, memory_mib } => {
                self.workers.ready(worker, slots, memory_mib);
                self.strand();
            }
            Event::WorkerDraining { worker } => {
                self.workers.drain(&worker);
                self.strand();
            }
            Event::WorkerLost { worker } => self.worker_lost(&worker, &mut actions),
            Event::Submitted(submission) => self.submitted(submission, &mut actions),
            Event::Withdrawn { request } => self.end(request, &mut actions),
            Event::Delivered { request, tile } => self.delivered(request, tile, &mut actions),
            Event::TileDone { call, flight, took } => self.tile_done(call, flight, took, &mut actions),
            Event::TileFailed { call, flight, failure } => {
                self.tile_failed(call, flight, failure, &mut actions);
            }
            Event::CallEnded { call } => self.call_ended(call, &mut actions),
            Event::Tick => {}
        }
        self.expire(&mut actions);
        self.serve(&mut actions);
        actions
    }

    /// When the next [`Event::Tick`] is due, if nothing happens before.
    pub fn next_wake(&self) -> Option<Now> {
        let timer = self.timers.first().map(|(at, ..)| *at);
        // Flights that may go already wait for room, which comes with an event.
        let again =
            self.again.range((self.now + Now::from_nanos(1), FlightId(0))..).next().map(|(at, _)| *at);
        timer.into_iter().chain(again).min()
    }

    fn submitted(&mut self, submission: Submission, actions: &mut Vec<Action>) {
        let id = submission.request;
        self.end(id, actions);
        let request = Request::new(submission);
        if request.total == 0 {
            return;
        }
        if let Some(reason) = self.refusal(&request) {
            self.counts.sheds += u64::from(matches!(reason, Failure::Overloaded { .. }));
            actions.push(Action::Fail { request: id, reason });
            return;
        }
        self.fair.enter(&request.tenant, id, request.cost);
        self.timers.insert((request.deadline, Timer::Deadline, id));
        let tiles: Vec<TileId> =
            if request.is_small() { request.waiting_tiles().collect() } else { Vec::new() };
        let work = request.work;
        self.requests.insert(id, request);
        for tile in tiles {
            match self.shared.get(&(work, tile)).copied() {
                Some(flight) if self.tiles_in_window(id) > 0 => self.join_waiting(id, tile, flight, actions),
                _ => _ = self.wanted.insert((work, tile, id)),
            }
        }
        self.strand_one(id);
        self.settle(id, actions);
    }

    /// A request joins a flight for a tile that it waits for.
    fn join_waiting(&mut self, id: RequestId, tile: TileId, flight: FlightId, actions: &mut Vec<Action>) {
        if self.requests.get_mut(&id).is_some_and(|request| request.take(tile)) {
            self.counts.joins += 1;
            self.join(id, tile, flight, actions);
        }
    }

    /// A request joins a flight for a tile that does not wait any more.
    fn join(&mut self, id: RequestId, tile: TileId, flight: FlightId, actions: &mut Vec<Action>) {
        let (Some(request), Some(known)) = (self.requests.get_mut(&id), self.flights.get_mut(&flight)) else {
            return;
        };
        request.out.insert(tile, request::Out { flight, is_done: false, is_delivered: false });
        request.held += request.bytes;
        request.running += 1;
        self.fair.started(&request.tenant, id);
        self.wanted.remove(&(request.work, tile, id));
        if known.requesters.is_empty()
            && let State::Running(call) = known.state
            && let Some(call) = self.calls.get_mut(&call)
        {
            call.wanted += 1;
        }
        known.requesters.push(id);
        actions.push(Action::Join { request: id, tile, flight });
    }

    fn delivered(&mut self, id: RequestId, tile: TileId, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let Some(out) = request.out.get_mut(&tile) else { return };
        if std::mem::replace(&mut out.is_delivered, true) {
            return;
        }
        request.held -= request.bytes;
        request.is_parked = false;
        self.parked.remove(&id);
        if out.is_done {
            let flight = out.flight;
            request.out.remove(&tile);
            self.leave(flight, id, actions);
        }
        self.settle(id, actions);
    }

    /// Brings everything that follows from a request's state up to date: whether it takes turns, whether
    /// its time runs, whether it is over.
    fn settle(&mut self, id: RequestId, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.waiting() == 0 && request.out.is_empty() {
            return self.end(id, actions);
        }
        let has_window =
            request.held == 0 || request.held.saturating_add(request.bytes) <= self.rules.window_bytes;
        let is_ready = request.waiting() > 0 && has_window && !request.is_parked;
        self.fair.set_ready(&request.tenant, id, is_ready);
        // Everything that was sent is answered, and the rest waits until the client has taken it.
        let waits_for_client = request.running == 0 && !request.out.is_empty() && !is_ready;
        match (waits_for_client, request.paused) {
            (true, None) => {
                self.timers.remove(&(request.deadline, Timer::Deadline, id));
                request.paused = Some(self.now);
            }
            (false, Some(since)) => {
                request.paused = None;
                request.deadline = request.deadline.saturating_add(self.now.saturating_sub(since));
                self.timers.insert((request.deadline, Timer::Deadline, id));
            }
            _ => {}
        }
    }

    fn fail(&mut self, id: RequestId, reason: Failure, actions: &mut Vec<Action>) {
        if self.requests.contains_key(&id) {
            actions.push(Action::Fail { request: id, reason });
            self.end(id, actions);
        }
    }

    /// A request is over: nothing of it stays.
    fn end(&mut self, id: RequestId, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.remove(&id) else { return };
        self.fair.leave(&request.tenant, id);
        self.timers.remove(&(request.deadline, Timer::Deadline, id));
        if let Some(at) = request.stranded {
            self.timers.remove(&(at, Timer::Stranded, id));
        }
        self.parked.remove(&id);
        if request.is_small() {
            for tile in request.waiting_tiles() {
                self.wanted.remove(&(request.work, tile, id));
            }
        }
        if let Some(worker) = request.reserved {
            self.workers.change(worker, |worker| {
                if worker.reservation.is_some_and(|kept| kept.holder == Holder::Request(id)) {
                    worker.reservation = None;
                }
            });
        }
        for out in request.out.into_values() {
            self.leave(out.flight, id, actions);
        }
    }

    /// A requester does not need a flight any more. A flight that nobody needs is not tried again, and a
    /// call of such flights is cancelled.
    fn leave(&mut self, id: FlightId, request: RequestId, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let Some(at) = flight.requesters.iter().position(|known| *known == request) else { return };
        flight.requesters.swap_remove(at);
        if !flight.requesters.is_empty() {
            return;
        }
        match flight.state {
            State::New | State::Done => self.drop_flight(id),
            State::Again(at) => {
                self.again.remove(&(at, id));
                self.drop_flight(id);
            }
            State::Reserved(worker) => {
                self.workers.change(worker, |worker| worker.reservation = None);
                self.drop_flight(id);
            }
            State::Running(call) => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.wanted -= 1;
                }
                self.cancel_if_unwanted(call, actions);
            }
        }
    }

    fn cancel_if_unwanted(&mut self, id: CallId, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.wanted == 0 && !call.unanswered.is_empty() && !call.is_cancelled {
            call.is_cancelled = true;
            actions.push(Action::Cancel { call: id });
            // Whoever asks for one of these now needs another flight.
            for flight in call.unanswered.clone() {
                self.drop_flight(flight);
            }
        }
    }

    fn drop_flight(&mut self, id: FlightId) {
        if let Some(flight) = self.flights.remove(&id) {
            self.spool -= flight.bytes;
            let key = (flight.work, flight.tile);
            if self.shared.get(&key) == Some(&id) {
                self.shared.remove(&key);
            }
        }
    }

    /// The workers changed: requests that none of them can serve wait as long as their patience.
    fn strand(&mut self) {
        let ids: Vec<RequestId> = self.requests.keys().copied().collect();
        ids.into_iter().for_each(|id| self.strand_one(id));
    }

    fn strand_one(&mut self, id: RequestId) {
        let largest = self.workers.largest_mib;
        let Some(request) = self.requests.get_mut(&id) else { return };
        let is_stranded = largest.is_none_or(|mib| mib < request.peak_mib);
        match (is_stranded, request.stranded) {
            (true, None) => {
                let at = self.now.saturating_add(request.patience);
                request.stranded = Some(at);
                self.timers.insert((at, Timer::Stranded, id));
            }
            (false, Some(at)) => {
                request.stranded = None;
                self.timers.remove(&(at, Timer::Stranded, id));
            }
            _ => {}
        }
    }

    /// Ends requests whose time is over.
    fn expire(&mut self, actions: &mut Vec<Action>) {
        while let Some((at, timer, id)) = self.timers.first().copied()
            && at <= self.now
        {
            self.timers.remove(&(at, timer, id));
            match timer {
                Timer::Deadline => self.fail(id, Failure::Deadline, actions),
                Timer::Stranded => self.patience_over(id, actions),
            }
        }
    }

    fn patience_over(&mut self, id: RequestId, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let waits = |out: &request::Out| {
            let flight = self.flights.get(&out.flight);
            !out.is_done && flight.is_some_and(|flight| !matches!(flight.state, State::Running(_)))
        };
        // Workers that drain may yet answer all of it, or the client may have to read first.
        if request.paused.is_none() && (request.waiting() > 0 || request.out.values().any(waits)) {
            let need_mib = request.peak_mib;
            let reason = match self.workers.largest_mib {
                Some(have_mib) => Failure::TooLarge { need_mib, have_mib },
                None => Failure::NoWorkers,
            };
            request.stranded = None;
            return self.fail(id, reason, actions);
        }
        let at = self.now.saturating_add((request.patience / 2).max(PATIENCE_MIN));
        request.stranded = Some(at);
        self.timers.insert((at, Timer::Stranded, id));
    }
}

/// How often at most a request looks whether it has to give up.
const PATIENCE_MIN: Now = Now::from_millis(100);
