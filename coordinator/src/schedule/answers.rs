//! What comes back, what is tried again, and what is lost.

use std::time::Duration;

use super::flight::{Call, State};
use super::request::Request;
use super::workers::Holder;
use super::{Action, CallId, Failure, FlightId, RequestId, Schedule, TileFailure};

/// Share of one tile in the average of what tiles take.
const PACE_SHARE: f64 = 0.05;

/// How far what tiles take may be from their estimates.
const PACE_RANGE: (f64, f64) = (1e-3, 1e3);

impl Schedule {
    /// Frees what a flight took of its worker; false if the call does not have it or nobody cares.
    fn answered(&mut self, id: CallId, flight: FlightId) -> bool {
        let Some(call) = self.calls.get_mut(&id) else { return false };
        let Some(at) = call.unanswered.iter().position(|known| *known == flight) else { return false };
        call.unanswered.remove(at);
        let peak_mib = call.peak_mib;
        self.workers.change(call.worker, |worker| {
            worker.tiles -= 1;
            worker.used_mib = worker.used_mib.saturating_sub(peak_mib);
        });
        match self.flights.get(&flight) {
            Some(flight) if !flight.requesters.is_empty() => call.wanted -= 1,
            Some(_) => {}
            None => return false,
        }
        true
    }

    pub(super) fn tile_done(
        &mut self,
        call: CallId,
        id: FlightId,
        took: Duration,
        actions: &mut Vec<Action>,
    ) {
        let worker = self.calls.get(&call).map(|call| call.worker);
        if !self.answered(call, id) {
            return;
        }
        if let Some(worker) = worker {
            self.workers.change(worker, |worker| worker.done += 1);
        }
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.state = State::Done;
        let pace = (took.as_nanos() as f64 / flight.cost as f64).clamp(PACE_RANGE.0, PACE_RANGE.1);
        self.pace += (pace - self.pace) * PACE_SHARE;
        let (tile, key) = (flight.tile, (flight.work, flight.tile));
        let requesters = flight.requesters.clone();
        if self.shared.get(&key) == Some(&id) {
            self.shared.remove(&key);
        }
        if requesters.is_empty() {
            self.drop_flight(id);
        }
        for request_id in requesters {
            let Some(request) = self.requests.get_mut(&request_id) else { continue };
            request.running -= 1;
            if let Some(out) = request.out.get_mut(&tile) {
                out.is_done = true;
                if out.is_delivered {
                    request.out.remove(&tile);
                    self.leave(id, request_id, actions);
                }
            }
            self.settle(request_id, actions);
        }
        self.cancel_if_unwanted(call, actions);
    }

    pub(super) fn tile_failed(
        &mut self,
        call: CallId,
        id: FlightId,
        failure: TileFailure,
        actions: &mut Vec<Action>,
    ) {
        let worker = self.calls.get(&call).map(|call| call.worker);
        if !self.answered(call, id) {
            return;
        }
        match failure {
            TileFailure::Final => self.fail_flight(id, Failure::Tile { flight: id }, actions),
            TileFailure::Transient => self.transient(id, actions),
            TileFailure::HandedBack => {
                let drains = worker
                    .and_then(|worker| self.workers.get(worker))
                    .is_none_or(|worker| worker.is_draining);
                if let Some(flight) = self.flights.get_mut(&id) {
                    flight.attempts = flight.attempts.saturating_sub(1);
                }
                // A worker that had no room is not asked again at once.
                self.wait_again(id, if drains { Duration::ZERO } else { self.rules.retry_pause });
            }
        }
        self.cancel_if_unwanted(call, actions);
    }

    /// A worker is done with a call; what it left out is tried again.
    pub(super) fn call_ended(&mut self, id: CallId, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.remove(&id) else { return };
        let left = call.unanswered.len() as u32;
        self.workers.change(call.worker, |worker| {
            worker.tiles -= left;
            worker.used_mib = worker.used_mib.saturating_sub(call.peak_mib.saturating_mul(left));
            worker.calls.remove(&id);
            worker.alone = worker.alone.filter(|alone| *alone != id);
        });
        for flight in call.unanswered {
            self.transient(flight, actions);
        }
    }

    /// The one way to lose a worker: what it had goes elsewhere, and each of its tiles is suspected of
    /// having killed it.
    pub(super) fn worker_lost(&mut self, name: &str, actions: &mut Vec<Action>) {
        let Some((key, worker)) = self.workers.remove(name) else { return };
        match worker.reservation.map(|kept| kept.holder) {
            Some(Holder::Flight(id)) => self.wait_again(id, Duration::ZERO),
            Some(Holder::Request(id)) => {
                if let Some(request) = self.requests.get_mut(&id) {
                    request.reserved = request.reserved.filter(|kept| *kept != key);
                }
            }
            None => {}
        }
        // All of them first: what follows from one's loss must not cancel another.
        let calls: Vec<Call> = worker.calls.iter().filter_map(|call| self.calls.remove(call)).collect();
        for call in calls {
            for flight in call.unanswered {
                self.lost(flight, call.alone, actions);
            }
        }
        self.strand();
    }

    fn lost(&mut self, id: FlightId, alone: bool, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.is_suspect = true;
        flight.deaths_alone += u32::from(alone);
        let (work, tile, attempts) = (flight.work, flight.tile, flight.attempts);
        if flight.deaths_alone >= self.rules.deaths_alone_max {
            self.quarantine.add(&self.rules, self.now, work, tile);
            self.fail_flight(id, Failure::Crashes { tile }, actions);
            // Whoever else waits for it would only kill further workers.
            let waits = |request: &Request| {
                request.waits_for(tile) || request.out.get(&tile).is_some_and(|out| !out.is_done)
            };
            let others = self.requests.iter().filter(|(_, request)| request.work == work && waits(request));
            for other in others.map(|(id, _)| *id).collect::<Vec<RequestId>>() {
                self.fail(other, Failure::Crashes { tile }, actions);
            }
        } else {
            let reasons = [Failure::Lost { tile, attempts }, Failure::RetryBudget { tile }];
            self.retry(id, reasons, Duration::ZERO, actions);
        }
    }

    fn transient(&mut self, id: FlightId, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.get(&id) else { return };
        let pause = self.rules.retry_pause * 2u32.saturating_pow(flight.attempts.saturating_sub(1).min(8));
        let reason = Failure::Tile { flight: id };
        // Also of one that is not tried again: whoever asked hears what is wrong with it.
        self.retry(id, [reason.clone(), reason], pause, actions);
    }

    /// Tries a flight again if it was not tried too often and not too many are; otherwise its requests
    /// fail, for the one reason or the other.
    fn retry(
        &mut self,
        id: FlightId,
        [too_often, too_many]: [Failure; 2],
        pause: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(flight) = self.flights.get(&id) else { return };
        if flight.requesters.is_empty() {
            self.drop_flight(id);
        } else if flight.attempts >= self.rules.attempts_max {
            self.fail_flight(id, too_often, actions);
        } else if !self.retries.retry(&self.rules, self.now) {
            self.fail_flight(id, too_many, actions);
        } else {
            self.counts.retries += 1;
            self.wait_again(id, pause);
        }
    }

    /// A flight waits to be sent again; one that nobody waits for is let go.
    fn wait_again(&mut self, id: FlightId, pause: Duration) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if flight.requesters.is_empty() {
            return self.drop_flight(id);
        }
        let from = self.now.saturating_add(pause);
        flight.state = State::Again(from);
        self.again.insert((from, id));
    }

    /// Everybody who waits for a flight learns why there is no answer.
    fn fail_flight(&mut self, id: FlightId, reason: Failure, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        // In no call and no queue any more: it goes with the last of those who wait.
        flight.state = State::Done;
        let requesters = flight.requesters.clone();
        if requesters.is_empty() {
            self.drop_flight(id);
        }
        for request in requesters {
            self.fail(request, reason.clone(), actions);
        }
    }
}
