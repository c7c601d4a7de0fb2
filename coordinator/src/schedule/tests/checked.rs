//! A schedule that is watched: a plain model beside it knows what every event means and checks every
//! action against the rules. It panics at the first one that breaks them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;

struct Worker {
    slots: u32,
    memory_mib: u32,
    is_draining: bool,
    calls: BTreeSet<CallId>,
}

struct Call {
    worker: WorkerId,
    unanswered: Vec<FlightId>,
    alone: bool,
    peak_mib: u32,
    is_cancelled: bool,
}

struct Flight {
    work: ContentHash,
    tile: TileId,
    bytes: u64,
    call: Option<CallId>,
    is_done: bool,
    is_shareable: bool,
    attempts: u32,
    /// Those who have joined it and are not over with it.
    requesters: BTreeSet<RequestId>,
}

pub(super) struct Request {
    pub(super) submission: Submission,
    /// The flight of each tile, whether it is done, and whether it is delivered.
    pub(super) joined: BTreeMap<TileId, (FlightId, bool, bool)>,
    finished: usize,
    pub(super) held: u64,
    running: usize,
    /// Since when it can only wait for its client, and how long it has before.
    paused: Option<Now>,
    pauses: Now,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Answered,
    Withdrawn,
    Failed(Failure),
}

pub(super) struct Checked {
    pub(super) schedule: Schedule,
    pub(super) rules: Rules,
    pub(super) now: Now,
    workers: BTreeMap<WorkerId, Worker>,
    calls: BTreeMap<CallId, Call>,
    flights: BTreeMap<FlightId, Flight>,
    pub(super) requests: BTreeMap<RequestId, Request>,
    pub(super) ended: BTreeMap<RequestId, End>,
    quarantined: BTreeMap<(ContentHash, TileId), Now>,
    /// Tiles that became done for a request since they were last taken.
    pub(super) done: Vec<(RequestId, TileId)>,
}

/// Least bytes that the scheduler counts for an answer.
const BYTES_MIN: u64 = 1 << 10;

impl Checked {
    pub(super) fn new(rules: Rules) -> Self {
        Checked {
            schedule: Schedule::new(rules.clone()),
            rules,
            now: Now::ZERO,
            workers: BTreeMap::new(),
            calls: BTreeMap::new(),
            flights: BTreeMap::new(),
            requests: BTreeMap::new(),
            ended: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            done: Vec::new(),
        }
    }

    /// Tells the schedule, and checks what it answers.
    pub(super) fn on_event(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        self.apply(&event);
        let actions = self.schedule.on_event(now, event);
        actions.iter().for_each(|action| self.check(action));
        self.requests.retain(|id, request| {
            let is_over = request.finished == request.submission.tiles.len();
            if is_over {
                assert!(self.ended.insert(*id, End::Answered).is_none(), "{id:?} ended twice");
            }
            !is_over
        });
        self.check_pauses();
        self.flights.retain(|_, flight| flight.call.is_some() || !flight.requesters.is_empty());
        actions
    }

    /// What is so at any time.
    pub(super) fn check_figures(&self) {
        let told = self.schedule.describe();
        let known: Vec<RequestId> = told.requests.iter().map(|request| request.request).collect();
        assert_eq!(known, self.requests.keys().copied().collect::<Vec<_>>(), "requests");
        for request in told.requests {
            let known = &self.requests[&request.request];
            assert_eq!(request.running as usize, known.running, "running of {:?}", request.request);
            let waiting = known.submission.tiles.len() - known.joined.len() - known.delivered_before();
            assert_eq!(request.waiting as usize, waiting, "waiting of {:?}", request.request);
        }
        for worker in told.workers {
            let known = &self.workers[&worker.worker];
            let tiles: usize = known.calls.iter().map(|call| self.calls[call].unanswered.len()).sum();
            assert_eq!(worker.tiles as usize, tiles, "tiles of {}", worker.worker);
            assert_eq!(worker.used_mib, self.used_mib(known), "memory of {}", worker.worker);
        }
    }

    /// Whether nothing is left of requests and calls.
    pub(super) fn check_nothing_is_left(&self) {
        assert!(self.requests.is_empty(), "not ended: {:?}", self.requests.keys());
        self.schedule.check_nothing_is_left();
    }

    /// Workers that take tiles and have none, and could take such a one.
    pub(super) fn idle_workers(&self, peak_mib: u32) -> Vec<WorkerId> {
        let idle = self.workers.iter().filter(|(_, worker)| {
            !worker.is_draining && worker.calls.is_empty() && worker.memory_mib >= peak_mib
        });
        idle.map(|(name, _)| name.clone()).collect()
    }

    /// Requests that could have a tile computed and have none under way.
    pub(super) fn hungry(&self) -> Vec<RequestId> {
        if self.spool() > self.rules.spool_bytes {
            return Vec::new();
        }
        let hungry = self.requests.iter().filter(|(_, request)| request.joined.is_empty());
        hungry.map(|(id, _)| *id).collect()
    }

    /// Bytes of the answers that somebody waits for, or that are still computed.
    fn spool(&self) -> u64 {
        let is_cancelled = |call: &Option<CallId>| call.is_none_or(|call| self.calls[&call].is_cancelled);
        let held = |flight: &&Flight| !flight.requesters.is_empty() || !is_cancelled(&flight.call);
        self.flights.values().filter(held).map(|flight| flight.bytes).sum()
    }

    fn used_mib(&self, worker: &Worker) -> u32 {
        let calls = worker.calls.iter().map(|call| &self.calls[call]);
        calls.map(|call| call.peak_mib * call.unanswered.len() as u32).sum()
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::WorkerReady { worker, slots, memory_mib } => {
                let known = self.workers.entry(worker.clone()).or_insert(Worker {
                    slots: 0,
                    memory_mib: 0,
                    is_draining: false,
                    calls: BTreeSet::new(),
                });
                (known.slots, known.memory_mib, known.is_draining) = (*slots, *memory_mib, false);
            }
            Event::WorkerDraining { worker } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.is_draining = true;
                }
            }
            Event::WorkerLost { worker } => {
                for call in self.workers.remove(worker).into_iter().flat_map(|worker| worker.calls) {
                    let call = self.calls.remove(&call).unwrap();
                    for flight in call.unanswered {
                        self.flights.get_mut(&flight).unwrap().call = None;
                    }
                }
            }
            Event::Submitted(submission) => {
                if !submission.tiles.is_empty() {
                    let request = Request {
                        submission: submission.clone(),
                        joined: BTreeMap::new(),
                        finished: 0,
                        held: 0,
                        running: 0,
                        paused: None,
                        pauses: Now::ZERO,
                    };
                    assert!(self.requests.insert(submission.request, request).is_none(), "used twice");
                }
            }
            Event::Withdrawn { request } => {
                if self.requests.contains_key(request) {
                    self.end(*request, End::Withdrawn);
                }
            }
            Event::Delivered { request, tile } => self.delivered(*request, *tile),
            Event::TileDone { call, flight, .. } => {
                if self.answered(*call, *flight) {
                    self.done(*flight);
                }
            }
            Event::TileFailed { call, flight, failure } => {
                if self.answered(*call, *flight) && *failure == TileFailure::HandedBack {
                    self.flights.get_mut(flight).unwrap().attempts -= 1;
                }
            }
            Event::CallEnded { call } => {
                if let Some(ended) = self.calls.remove(call) {
                    self.workers.get_mut(&ended.worker).unwrap().calls.remove(call);
                    for flight in ended.unanswered {
                        self.flights.get_mut(&flight).unwrap().call = None;
                    }
                }
            }
            Event::Tick => {}
        }
    }

    fn answered(&mut self, call: CallId, flight: FlightId) -> bool {
        let Some(call) = self.calls.get_mut(&call) else { return false };
        let Some(at) = call.unanswered.iter().position(|known| *known == flight) else { return false };
        call.unanswered.remove(at);
        self.flights.get_mut(&flight).unwrap().call = None;
        !call.is_cancelled
    }

    fn done(&mut self, id: FlightId) {
        let flight = self.flights.get_mut(&id).unwrap();
        assert!(!std::mem::replace(&mut flight.is_done, true), "{id:?} is done twice");
        let tile = flight.tile;
        for request_id in flight.requesters.clone() {
            let request = self.requests.get_mut(&request_id).unwrap();
            let joined = request.joined.get_mut(&tile).unwrap();
            joined.1 = true;
            request.running -= 1;
            self.done.push((request_id, tile));
            if joined.2 {
                self.over(request_id, tile);
            }
        }
    }

    fn delivered(&mut self, id: RequestId, tile: TileId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let bytes = request.bytes();
        let Some(joined) = request.joined.get_mut(&tile).filter(|joined| !joined.2) else { return };
        joined.2 = true;
        request.held -= bytes;
        if joined.1 {
            self.over(id, tile);
        }
    }

    /// A tile is done and delivered.
    fn over(&mut self, id: RequestId, tile: TileId) {
        let request = self.requests.get_mut(&id).unwrap();
        let (flight, ..) = request.joined[&tile];
        request.joined.remove(&tile);
        request.finished += 1;
        self.flights.get_mut(&flight).unwrap().requesters.remove(&id);
    }

    fn end(&mut self, id: RequestId, end: End) {
        let request = self.requests.remove(&id).expect("ended");
        assert!(self.ended.insert(id, end).is_none(), "{id:?} ended twice");
        for (flight, ..) in request.joined.into_values() {
            self.flights.get_mut(&flight).unwrap().requesters.remove(&id);
        }
    }

    fn check(&mut self, action: &Action) {
        match action {
            Action::Join { request, tile, flight } => self.check_join(*request, *tile, *flight),
            Action::Send { .. } => self.check_send(action),
            Action::Cancel { call } => {
                let known = self.calls.get_mut(call).expect("cancels an unknown call");
                assert!(!std::mem::replace(&mut known.is_cancelled, true), "{call:?} is cancelled twice");
                let is_wanted = |flight| !self.flights[flight].requesters.is_empty();
                assert!(!known.unanswered.iter().any(is_wanted), "{call:?} is wanted");
            }
            Action::Fail { request, reason } => {
                let known = self.requests.get(request).expect("fails what has ended");
                match reason {
                    Failure::Deadline => assert!(self.now >= known.submission.deadline, "too early"),
                    Failure::NoWorkers => {
                        assert!(self.workers.values().all(|worker| worker.is_draining), "there are workers");
                    }
                    Failure::TooLarge { need_mib, .. } => {
                        let mut able = self.workers.values().filter(|worker| !worker.is_draining);
                        assert!(able.all(|worker| worker.memory_mib < *need_mib), "a worker could");
                    }
                    Failure::Crashes { tile } => {
                        let until = self.now + self.rules.quarantine;
                        self.quarantined.entry((known.submission.work, *tile)).or_insert(until);
                    }
                    _ => {}
                }
                self.end(*request, End::Failed(reason.clone()));
            }
        }
    }

    fn check_join(&mut self, id: RequestId, tile: TileId, flight_id: FlightId) {
        let request = self.requests.get_mut(&id).expect("joins for what has ended");
        assert!(request.submission.tiles.contains(&tile), "{tile} was not asked for");
        assert!(!request.joined.contains_key(&tile), "{id:?} joins twice for {tile}");
        request.joined.insert(tile, (flight_id, false, false));
        request.running += 1;
        let bytes = request.bytes();
        request.held += bytes;
        assert!(request.held <= self.rules.window_bytes.max(bytes), "{id:?} holds {} bytes", request.held);
        let submission = &request.submission;
        let flight = self.flights.entry(flight_id).or_insert_with(|| Flight {
            work: submission.work,
            tile,
            bytes,
            call: None,
            is_done: false,
            is_shareable: submission.is_shareable,
            attempts: 0,
            requesters: BTreeSet::new(),
        });
        assert_eq!((flight.work, flight.tile), (submission.work, tile), "another tile");
        assert!(flight.requesters.is_empty() || flight.is_shareable && submission.is_shareable);
        assert!(!flight.is_done, "too late");
        flight.requesters.insert(id);
        let until = self.quarantined.get(&(submission.work, tile)).copied();
        assert!(until.is_none_or(|until| until <= self.now), "{tile} is quarantined");
        let spool = self.spool();
        assert!(spool <= (2 * self.rules.spool_bytes).max(bytes), "{spool} bytes are held");
    }

    fn check_send(&mut self, action: &Action) {
        let Action::Send { call, worker: name, work, flights, alone, deadline } = action else { return };
        let worker = self.workers.get_mut(name).expect("sends to nobody");
        assert!(!worker.is_draining, "{name} drains");
        let others = worker.calls.iter().map(|call| &self.calls[call]);
        for other in others {
            assert!(!other.alone, "{name} is to be left alone");
            assert!(!alone || other.unanswered.is_empty(), "{name} is not alone");
        }
        assert!(!flights.is_empty() && flights.len() <= self.rules.batch_max);
        assert!(!alone || flights.len() == 1);
        let mut peak_mib = 0;
        for (id, tile) in flights {
            let flight = self.flights.get_mut(id).expect("sends a flight that nobody has joined");
            assert_eq!((flight.work, flight.tile), (*work, *tile));
            assert!(flight.call.is_none(), "{id:?} is in {:?} already", flight.call);
            assert!(!flight.requesters.is_empty() && !flight.is_done, "nobody waits for {id:?}");
            let until = self.quarantined.get(&(*work, *tile));
            assert!(until.is_none_or(|until| *until <= self.now), "{tile} is quarantined");
            flight.call = Some(*call);
            flight.attempts += 1;
            assert!(flight.attempts <= self.rules.attempts_max, "{id:?} is tried too often");
            for request in &flight.requesters {
                let submission = &self.requests[request].submission;
                assert!(*deadline >= submission.deadline);
                peak_mib = submission.peak_mib;
            }
        }
        worker.calls.insert(*call);
        let unanswered = flights.iter().map(|(flight, _)| *flight).collect();
        let sent = Call { worker: name.clone(), unanswered, alone: *alone, peak_mib, is_cancelled: false };
        assert!(self.calls.insert(*call, sent).is_none(), "{call:?} is used twice");
        let worker = &self.workers[name];
        let tiles: usize = worker.calls.iter().map(|call| self.calls[call].unanswered.len()).sum();
        let credit = worker.slots * self.rules.tiles_per_slot;
        assert!(tiles <= credit as usize, "{name} has {tiles} of {credit} tiles");
        let used = self.used_mib(worker);
        assert!(used <= worker.memory_mib, "{name} has {used} of {} MiB", worker.memory_mib);
    }

    /// No request is later than its deadline and the time that it waited for its client.
    fn check_pauses(&mut self) {
        for (id, request) in &mut self.requests {
            let waits = request.running == 0 && !request.joined.is_empty();
            match (waits, request.paused) {
                (true, None) => request.paused = Some(self.now),
                (false, Some(since)) => {
                    request.pauses += self.now - since;
                    request.paused = None;
                }
                _ => {}
            }
            let paused = request.pauses + request.paused.map_or(Now::ZERO, |since| self.now - since);
            assert!(self.now <= request.submission.deadline + paused, "{id:?} is late");
        }
    }
}

impl Request {
    pub(super) fn bytes(&self) -> u64 {
        self.submission.result_bytes.max(BYTES_MIN)
    }

    fn delivered_before(&self) -> usize {
        self.finished
    }
}
