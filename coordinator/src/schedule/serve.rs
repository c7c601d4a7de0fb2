//! What goes out when there is room.

use graticule_common::grid::TileId;

use super::fair::Turn;
use super::flight::{Call, Flight, State};
use super::request::Pick;
use super::workers::{Holder, Reservation, WorkerKey, spot};
use super::{Action, CallId, FlightId, Now, RequestId, Schedule};

/// Flights that are looked at to be tried again, once those before them found no worker.
const AGAIN_TRIES: usize = 16;

/// Requests that are looked at, once those before them found no worker: of one tenant, and in all.
const TENANT_TRIES: usize = 4;
const TRIES: usize = 8;

/// What became of a request's turn.
enum Tried {
    /// Something went out, or a flight was joined.
    Sent,
    /// It takes no more turns for now.
    Parked,
    /// No worker has room for it; `starved` for memory although slots are free.
    Blocked { starved: bool },
    /// The coordinator holds too much.
    Full,
}

impl Schedule {
    pub(super) fn serve(&mut self, actions: &mut Vec<Action>) {
        if !self.is_pressed() {
            while let Some(id) = self.parked.pop_first() {
                if let Some(request) = self.requests.get_mut(&id) {
                    request.is_parked = false;
                    self.settle(id, actions);
                }
            }
        }
        while let Some((worker, reservation)) = self.workers.take_due() {
            self.serve_reserved(worker, reservation, actions);
        }
        self.serve_again(actions);
        self.serve_fresh(actions);
    }

    /// Whether windows are shrunk, since the coordinator holds much.
    fn is_pressed(&self) -> bool {
        self.spool > self.rules.spool_bytes / 2
    }

    /// Whether the coordinator holds so much that a request goes on tile by tile.
    pub fn is_full(&self) -> bool {
        self.spool >= self.rules.spool_bytes
    }

    /// Tiles that a request's window has room for. The first half of what the coordinator may hold is
    /// everybody's; of the other half each request has one tile at a time. So those whose clients do not
    /// read leave room for those whose clients do.
    pub(super) fn tiles_in_window(&self, id: RequestId) -> u64 {
        let Some(request) = self.requests.get(&id) else { return 0 };
        let share = self.rules.spool_bytes / self.requests.len().max(1) as u64;
        let window = self.rules.window_bytes.min(if self.is_pressed() { share } else { u64::MAX });
        let left = self.rules.spool_bytes.saturating_sub(self.spool);
        let tiles = window.saturating_sub(request.held).min(left) / request.bytes;
        tiles.max(u64::from(request.held == 0))
    }

    /// Tiles of so many bytes that the coordinator has room for.
    fn tiles_in_spool(&self, bytes: u64) -> u64 {
        let tiles = self.rules.spool_bytes.saturating_mul(2).saturating_sub(self.spool) / bytes;
        tiles.max(u64::from(self.spool == 0))
    }

    /// A worker has become free for whom it was kept, or takes nothing any more.
    fn serve_reserved(&mut self, key: WorkerKey, kept: Reservation, actions: &mut Vec<Action>) {
        match kept.holder {
            Holder::Flight(id) => {
                let Some(flight) = self.flights.get_mut(&id) else { return };
                if flight.state != State::Reserved(key) {
                    return;
                }
                flight.state = State::Again(self.now);
                self.again.insert((self.now, id));
                if self.workers.get(key).is_some_and(|worker| worker.is_able(flight.peak_mib)) {
                    self.send_again(self.now, id, key, actions);
                }
            }
            Holder::Request(id) => {
                let Some(request) = self.requests.get_mut(&id) else { return };
                request.reserved = None;
                if self.workers.get(key).is_some_and(|worker| worker.free_mib() >= request.peak_mib)
                    && self.fair.is_ready(&request.tenant, id)
                    && !self.workers.get(key).is_some_and(|worker| worker.is_draining)
                {
                    self.send_fresh(id, 0, key, actions);
                }
            }
        }
    }

    /// Tries flights again: they had their turn before.
    fn serve_again(&mut self, actions: &mut Vec<Action>) {
        let mut after = None;
        let mut tries = 0;
        while tries < AGAIN_TRIES && (self.workers.has_room() || self.workers.may_reserve()) {
            let next = match after {
                None => self.again.first(),
                Some(after) => {
                    self.again.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)).next()
                }
            };
            let Some((from, id)) = next.copied().filter(|(from, _)| *from <= self.now) else { return };
            after = Some((from, id));
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            let (now, later) =
                self.workers.again(flight.spot, flight.peak_mib, &flight.tried, flight.is_suspect);
            if let Some(worker) = now {
                self.send_again(from, id, worker, actions);
            } else if let Some(worker) = later.filter(|_| self.workers.may_reserve()) {
                self.again.remove(&(from, id));
                flight.state = State::Reserved(worker);
                let kept = Reservation {
                    holder: Holder::Flight(id),
                    need_mib: flight.peak_mib,
                    alone: flight.is_suspect,
                };
                self.workers.change(worker, |worker| worker.reservation = Some(kept));
            } else {
                tries += 1;
            }
        }
    }

    fn send_again(&mut self, from: Now, id: FlightId, worker: WorkerKey, actions: &mut Vec<Action>) {
        self.again.remove(&(from, id));
        let alone = self.flights.get(&id).is_some_and(|flight| flight.is_suspect);
        self.send(worker, vec![id], alone, actions);
    }

    /// Sends what has not been sent before, in fair order.
    fn serve_fresh(&mut self, actions: &mut Vec<Action>) {
        let mut after: Option<Turn> = None;
        let (mut tries, mut of_tenant) = (0, 0);
        while tries < TRIES && self.workers.has_room() {
            let Some(turn) = self.fair.turn(after.as_ref(), of_tenant >= TENANT_TRIES) else { return };
            match self.try_fresh(turn.request(), actions) {
                Tried::Sent => (after, tries, of_tenant) = (None, 0, 0),
                Tried::Parked => {}
                Tried::Full => return,
                Tried::Blocked { starved } => {
                    if starved && tries == 0 {
                        self.keep_free(turn.request());
                    }
                    tries += 1;
                    let is_same = after.is_some_and(|after| after.is_same_tenant(&turn));
                    of_tenant = if is_same { of_tenant + 1 } else { 1 };
                    after = Some(turn);
                }
            }
        }
    }

    fn try_fresh(&mut self, id: RequestId, actions: &mut Vec<Action>) -> Tried {
        if self.tiles_in_window(id) == 0 {
            if let Some(request) = self.requests.get_mut(&id) {
                request.is_parked = true;
                self.parked.insert(id);
            }
            self.settle(id, actions);
            return Tried::Parked;
        }
        let Some(request) = self.requests.get_mut(&id) else { return Tried::Parked };
        let pick = request.pick(&self.workers);
        let bytes = request.bytes;
        if self.tiles_in_spool(bytes) == 0 {
            return Tried::Full;
        }
        match pick {
            Pick::At(at, worker) => {
                self.send_fresh(id, at, worker, actions);
                Tried::Sent
            }
            Pick::Nowhere { starved } => Tried::Blocked { starved },
        }
    }

    /// Keeps a worker free for the request in front: smaller tiles would always take what gets free.
    fn keep_free(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.reserved.is_some() || !self.workers.may_reserve() {
            return;
        }
        if let Some(worker) = request.roomiest(&self.workers) {
            request.reserved = Some(worker);
            let kept = Reservation { holder: Holder::Request(id), need_mib: request.peak_mib, alone: false };
            self.workers.change(worker, |worker| worker.reservation = Some(kept));
        }
    }

    /// Sends tiles of a request's head to a worker, and joins flights of others on the way.
    fn send_fresh(&mut self, id: RequestId, at: usize, worker: WorkerKey, actions: &mut Vec<Action>) {
        let Some(request) = self.requests.get(&id) else { return };
        let (bytes, cost, tenant) = (request.bytes, request.cost, std::sync::Arc::clone(&request.tenant));
        let is_home = request.home(at) == Some(worker);
        let most =
            self.workers.takes(worker, request.peak_mib, is_home).min(self.rules.batch_max.max(1)) as u64;
        let most = most.min(self.tiles_in_spool(bytes));
        let mut room = self.tiles_in_window(id);
        let mut flights = Vec::new();
        let mut at = at;
        while room > 0 && (flights.len() as u64) < most {
            let Some(request) = self.requests.get_mut(&id) else { break };
            let Some(tile) = request.take_from(&mut at) else { break };
            room -= 1;
            let key = (request.work, tile);
            match self.shared.get(&key).copied().filter(|_| request.is_shareable) {
                Some(flight) => {
                    self.counts.joins += 1;
                    self.join(id, tile, flight, actions);
                }
                None => flights.extend(self.take_off(id, tile, actions)),
            }
        }
        if let Some(request) = self.requests.get(&id)
            && let Some(kept) = request.reserved
        {
            self.workers.change(kept, |worker| worker.reservation = None);
            self.requests.entry(id).and_modify(|request| request.reserved = None);
        }
        if !flights.is_empty() {
            let tiles = flights.len() as u64;
            self.fair.charge(&tenant, id, cost.saturating_mul(tiles));
            self.retries.sent(&self.rules, self.now, tiles);
            self.send(worker, flights, false, actions);
        }
        self.settle(id, actions);
    }

    /// Makes a flight for a tile of a request, and lets others join it who wait for the same.
    fn take_off(&mut self, id: RequestId, tile: TileId, actions: &mut Vec<Action>) -> Option<FlightId> {
        let request = self.requests.get(&id)?;
        let flight = FlightId(self.next_flight);
        self.next_flight += 1;
        let (work, is_shareable) = (request.work, request.is_shareable);
        self.flights.insert(
            flight,
            Flight {
                work,
                tile,
                spot: spot(request.place, tile),
                peak_mib: request.peak_mib,
                bytes: request.bytes,
                cost: request.cost,
                requesters: Vec::new(),
                state: State::New,
                attempts: 0,
                deaths_alone: 0,
                is_suspect: false,
                tried: Vec::new(),
            },
        );
        self.spool += request.bytes;
        self.join(id, tile, flight, actions);
        if is_shareable {
            self.shared.insert((work, tile), flight);
            let wanted = (work, tile, RequestId(0))..=(work, tile, RequestId(u64::MAX));
            let others: Vec<RequestId> = self.wanted.range(wanted).map(|(.., other)| *other).collect();
            for other in others {
                if self.tiles_in_window(other) > 0 {
                    self.join_waiting(other, tile, flight, actions);
                    self.settle(other, actions);
                }
            }
        }
        Some(flight)
    }

    /// Sends flights to a worker in one call.
    fn send(&mut self, key: WorkerKey, flights: Vec<FlightId>, alone: bool, actions: &mut Vec<Action>) {
        let id = CallId(self.next_call);
        self.next_call += 1;
        let (mut tiles, mut deadline, mut work, mut peak_mib) = (Vec::new(), Now::ZERO, None, 0);
        let salt = self.workers.get(key).map(|worker| worker.salt);
        for flight_id in &flights {
            let Some(flight) = self.flights.get_mut(flight_id) else { continue };
            flight.state = State::Running(id);
            flight.attempts += 1;
            salt.into_iter().for_each(|salt| flight.remember(salt));
            (work, peak_mib) = (Some(flight.work), flight.peak_mib);
            tiles.push((*flight_id, flight.tile));
            let deadlines = flight.requesters.iter().filter_map(|id| self.requests.get(id));
            deadline = deadlines.map(|request| request.deadline).fold(deadline, Now::max);
        }
        let (Some(work), Some(worker)) = (work, self.workers.get(key)) else { return };
        let worker = worker.name.clone();
        let count = tiles.len() as u32;
        self.workers.change(key, |worker| {
            worker.tiles += count;
            worker.used_mib = worker.used_mib.saturating_add(peak_mib.saturating_mul(count));
            worker.calls.insert(id);
            worker.alone = alone.then_some(id);
        });
        self.counts.sent += u64::from(count);
        let wanted = tiles.len();
        let call = Call { worker: key, unanswered: flights, wanted, peak_mib, alone, is_cancelled: false };
        self.calls.insert(id, call);
        actions.push(Action::Send { call: id, worker, work, flights: tiles, alone, deadline });
    }
}
