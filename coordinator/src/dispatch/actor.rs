//! The actor that owns the schedule. Everything that happens to it takes time by what it concerns, never
//! by all there is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use graticule_common::grid::TileId;
use graticule_common::hash::ContentHash;
use graticule_common::proto::v1 as pb;
use graticule_common::telemetry::names;
use graticule_common::{versions, wire};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{Instrument, debug, info_span, warn};

use super::call::{Call, End};
use super::flight::{Flight, Inbox, took};
use super::{Command, SHAREABLE_BYTES_MAX, Work, failed, lock};
use crate::fleet::{Change, Fleet, Worker};
use crate::schedule::{
    Action, CallId, Event, FlightId, RequestId, Schedule, Submission, TileFailure, WorkerId,
};

/// Commands that are taken in before time and workers are looked at again.
const COMMANDS_AT_ONCE: usize = 256;

/// How often figures are written into gauges.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// Requests that a description lists.
const DESCRIBED_MAX: usize = 1000;

const MIB: u64 = 1 << 20;

/// Performs a schedule until nobody can tell it anything any more.
pub(super) async fn run(
    schedule: Arc<Mutex<Schedule>>,
    fleet: Fleet,
    commands: mpsc::WeakUnboundedSender<Command>,
    mut inbound: mpsc::UnboundedReceiver<Command>,
) {
    let mut changes = fleet.follow();
    let mut actor = Actor {
        schedule,
        fleet,
        commands,
        started: Instant::now(),
        workers: HashMap::new(),
        requests: HashMap::new(),
        works: HashMap::new(),
        flights: HashMap::new(),
        calls: HashMap::new(),
        counts: pb::Counts::default(),
        next: VecDeque::new(),
    };
    let mut batch = Vec::with_capacity(COMMANDS_AT_ONCE);
    let mut gauges = tokio::time::interval(GAUGES_EVERY);
    gauges.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wake = lock(&actor.schedule).next_wake().map(|wake| actor.started + wake);
        let ticking = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            taken = inbound.recv_many(&mut batch, COMMANDS_AT_ONCE) => {
                if taken == 0 {
                    return;
                }
                batch.drain(..).for_each(|command| actor.on_command(command));
            }
            Some(change) = changes.recv() => actor.on_change(change),
            () = ticking => actor.event(Event::Tick),
            _ = gauges.tick() => actor.measure(),
        }
    }
}

struct Actor {
    schedule: Arc<Mutex<Schedule>>,
    fleet: Fleet,
    /// Weak, so that the actor ends when nobody but itself could tell it anything.
    commands: mpsc::WeakUnboundedSender<Command>,
    started: Instant,
    workers: HashMap<WorkerId, Known>,
    requests: HashMap<RequestId, Request>,
    /// What is computed, as long as a request wants it.
    works: HashMap<ContentHash, Wanted>,
    flights: HashMap<FlightId, Arc<Flight>>,
    calls: HashMap<CallId, InFlight>,
    counts: pb::Counts,
    /// What follows from performing an action.
    next: VecDeque<Event>,
}

/// A worker that the schedule knows.
struct Known {
    worker: Worker,
    calls: HashSet<CallId>,
    counts: pb::Counts,
}

struct Request {
    work: Work,
    hash: ContentHash,
    inbox: Arc<Inbox>,
    flights: HashSet<FlightId>,
    done: u64,
    came_at: Instant,
}

struct Wanted {
    work: Work,
    requests: usize,
}

/// A call that was made; dropped, it is cancelled.
struct InFlight {
    worker: Worker,
    flights: Vec<FlightId>,
    task: AbortHandle,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Actor {
    fn event(&mut self, event: Event) {
        self.next.push_back(event);
        while let Some(event) = self.next.pop_front() {
            let now = self.started.elapsed();
            let actions = lock(&self.schedule).on_event(now, event);
            actions.into_iter().for_each(|action| self.perform(action));
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Submit { request, work, inbox } => self.submit(request, work, inbox),
            Command::Withdraw { request } => {
                if self.forget(request) {
                    self.event(Event::Withdrawn { request });
                }
            }
            Command::Delivered { request, tile } => self.event(Event::Delivered { request, tile }),
            Command::Done { call, flight, done } => self.done(call, flight, &done),
            Command::Failed { call, flight, failure } => {
                if let (TileFailure::HandedBack, Some(flight)) = (failure, self.flights.get(&flight)) {
                    flight.stop(call, false);
                }
                if failure == TileFailure::Final {
                    metrics::counter!(names::TILES, "outcome" => "failed").increment(1);
                }
                self.event(Event::TileFailed { call, flight, failure });
                self.tidy(flight);
            }
            Command::Ended { call, end } => self.ended(call, end),
            // Whoever asked may have gone.
            Command::Describe(answer) => _ = answer.send(self.describe()),
        }
    }

    fn submit(&mut self, request: RequestId, work: Work, inbox: Arc<Inbox>) {
        let (task, now) = (&work.task, Instant::now());
        let mib = |bytes: u64| u32::try_from(bytes.div_ceil(MIB)).unwrap_or(u32::MAX);
        let hash = work.hash();
        let submission = Submission {
            request,
            tenant: work.tenant.clone(),
            work: hash,
            place: task.place,
            tiles: task.tiles.clone(),
            peak_mib: mib(task.peak_bytes),
            result_bytes: task.result_bytes,
            cost: task.cost,
            deadline: work.deadline.saturating_duration_since(self.started),
            patience: work.patience,
            is_shareable: task.result_bytes <= SHAREABLE_BYTES_MAX,
        };
        let wanted = self.works.entry(hash).or_insert_with(|| Wanted { work: work.clone(), requests: 0 });
        wanted.requests += 1;
        let known = Request { work, hash, inbox, flights: HashSet::new(), done: 0, came_at: now };
        self.requests.insert(request, known);
        self.event(Event::Submitted(submission));
    }

    /// Lets go of a request; whether it was known.
    fn forget(&mut self, request: RequestId) -> bool {
        let Some(gone) = self.requests.remove(&request) else { return false };
        for flight in &gone.flights {
            if self.flights.get(flight).is_some_and(|flight| flight.leave(request)) {
                self.tidy(*flight);
            }
        }
        if let Some(wanted) = self.works.get_mut(&gone.hash) {
            wanted.requests -= 1;
            if wanted.requests == 0 {
                self.works.remove(&gone.hash);
            }
        }
        true
    }

    /// Lets go of a flight that nobody reads and no call computes.
    fn tidy(&mut self, id: FlightId) {
        if self.flights.get(&id).is_some_and(|flight| flight.is_unread() && !flight.is_under_way()) {
            self.flights.remove(&id);
        }
    }

    fn done(&mut self, call: CallId, id: FlightId, done: &pb::TileDone) {
        // Of a call that is over meanwhile; what it gave was counted with its end.
        if self.calls.contains_key(&call) {
            self.landed(call, id, done);
        }
    }

    /// A flight is complete: counts it and lets go of it.
    fn landed(&mut self, call: CallId, id: FlightId, done: &pb::TileDone) {
        let Some(flight) = self.flights.remove(&id) else { return };
        let retries = u64::from(flight.sends().saturating_sub(1));
        let worker = self.calls.get(&call).and_then(|call| self.workers.get_mut(&call.worker.id));
        for counts in worker.map(|known| &mut known.counts).into_iter().chain([&mut self.counts]) {
            counts.tiles += 1;
            counts.tiles_from_cache += u64::from(done.from_cache);
            counts.cache_hits += u64::from(done.cache_hits);
            counts.cache_misses += u64::from(done.cache_misses);
            counts.read_bytes += done.read_bytes;
            counts.retries += retries;
        }
        let outcome = match done {
            done if done.from_cache => "cached",
            done if done.coalesced => "coalesced",
            _ => "done",
        };
        metrics::counter!(names::TILES, "outcome" => outcome).increment(1);
        for request in flight.readers() {
            if let Some(request) = self.requests.get_mut(&request) {
                request.flights.remove(&id);
                request.done += 1;
            }
        }
        self.event(Event::TileDone { call, flight: id, took: took(done) });
    }

    fn ended(&mut self, id: CallId, end: End) {
        let Some(call) = self.calls.get(&id) else { return };
        let outcome = match &end {
            End::Over => "done",
            End::Cancelled => "cancelled",
            End::Refused => "refused",
            End::Broken(_) => "lost",
        };
        metrics::counter!(names::CALLS, "outcome" => outcome).increment(1);
        if let End::Broken(status) = end {
            let worker = &call.worker;
            let (id, address) = (&worker.id, &worker.address);
            warn!(worker = %id, %address, error = %status.message(), "worker lost, its tiles go elsewhere");
            // Its loss comes back as a change of the fleet: the one path on which workers are lost.
            self.fleet.give_up(worker);
            return;
        }
        self.event(Event::CallEnded { call: id });
        self.let_go(id);
    }

    /// Takes a call off its worker and its flights.
    fn let_go(&mut self, id: CallId) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        if let Some(known) = self.workers.get_mut(&call.worker.id) {
            known.calls.remove(&id);
        }
        for flight in std::mem::take(&mut call.flights) {
            if let Some(known) = self.flights.get(&flight) {
                known.stop(id, true);
                self.tidy(flight);
            }
        }
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Here(worker) => {
                let event = match worker.slots_left() {
                    slots if slots > 0 && !worker.is_draining => Event::WorkerReady {
                        worker: worker.id.clone(),
                        slots,
                        memory_mib: u32::try_from(worker.memory_bytes / MIB).unwrap_or(u32::MAX),
                    },
                    _ => Event::WorkerDraining { worker: worker.id.clone() },
                };
                let known = self.workers.entry(worker.id.clone()).or_insert_with(|| Known {
                    worker: worker.clone(),
                    calls: HashSet::new(),
                    counts: pb::Counts::default(),
                });
                known.worker = worker;
                self.event(event);
            }
            Change::Gone(worker) => self.lost(&worker),
        }
    }

    /// A worker is gone, with its calls.
    fn lost(&mut self, worker: &Worker) {
        let Some(known) = self.workers.get(&worker.id).filter(|known| known.worker.is(worker)) else {
            return;
        };
        let calls: Vec<CallId> = known.calls.iter().copied().collect();
        // Nothing more goes there because of the news below.
        self.event(Event::WorkerDraining { worker: worker.id.clone() });
        // What it completed is no loss, though the news of it are still on their way.
        for call in &calls {
            let flights = self.calls.get(call).map(|call| call.flights.clone()).unwrap_or_default();
            for id in flights {
                let done = self.flights.get(&id).and_then(|flight| flight.done_by(*call));
                if let Some(done) = done {
                    self.landed(*call, id, &done);
                }
            }
        }
        // Before the schedule sends their tiles elsewhere.
        calls.into_iter().for_each(|call| self.let_go(call));
        self.workers.remove(&worker.id);
        self.event(Event::WorkerLost { worker: worker.id.clone() });
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Join { request: id, tile, flight } => {
                let Some(request) = self.requests.get_mut(&id) else { return };
                let keeps = request.work.task.result_bytes <= SHAREABLE_BYTES_MAX;
                let joined = self.flights.entry(flight).or_insert_with(|| Arc::new(Flight::new(tile, keeps)));
                joined.join(id, &request.inbox);
                request.flights.insert(flight);
            }
            Action::Send { call, worker, work, flights, alone, deadline } => {
                if !self.send(call, &worker, work, &flights, alone, deadline) {
                    // A defect, which must neither cost credit nor go round for ever.
                    warn!(worker = %worker, "a call of which worker or work are not known");
                    let fail = |(flight, _)| Event::TileFailed { call, flight, failure: TileFailure::Final };
                    self.next.extend(flights.into_iter().map(fail));
                    self.next.push_back(Event::CallEnded { call });
                }
            }
            // Its task says that it has ended, which the schedule waits for.
            Action::Cancel { call } => {
                if let Some(call) = self.calls.get(&call) {
                    call.task.abort();
                }
            }
            Action::Fail { request: id, reason } => {
                let Some(request) = self.requests.get(&id) else { return };
                let of_tile = match &reason {
                    crate::schedule::Failure::Tile { flight } => self.flights.get(flight),
                    _ => None,
                };
                let of_tile = of_tile.and_then(|flight| flight.failure());
                request.inbox.fail(failed(reason, &request.work, &self.fleet, of_tile));
                self.forget(id);
            }
        }
    }

    /// Makes a call; false where its worker or its work is not known.
    fn send(
        &mut self,
        id: CallId,
        worker: &str,
        work: ContentHash,
        flights: &[(FlightId, TileId)],
        alone: bool,
        deadline: Duration,
    ) -> bool {
        let (Some(known), Some(wanted)) = (self.workers.get_mut(worker), self.works.get(&work)) else {
            return false;
        };
        let Some(commands) = self.commands.upgrade() else { return false };
        let task = &wanted.work.task;
        let keeps = task.result_bytes <= SHAREABLE_BYTES_MAX;
        let flights: Vec<(FlightId, Arc<Flight>)> = flights
            .iter()
            .map(|(flight, tile)| {
                let new = || Arc::new(Flight::new(*tile, keeps));
                (*flight, self.flights.entry(*flight).or_insert_with(new).clone())
            })
            .collect();
        flights.iter().for_each(|(_, flight)| flight.begin(id));
        let remaining = deadline.saturating_sub(self.started.elapsed());
        let request = pb::ExecuteRequest {
            plan: Some(task.plan.clone()),
            tiles: flights.iter().map(|(_, flight)| wire::tile_to(flight.tile)).collect(),
            versions: Some(versions::own()),
            no_cache: task.no_cache,
            skip_faulty: task.skip_faulty,
            // Zero would say that there is no end.
            remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1),
            tenant: wanted.work.tenant.to_string(),
            alone,
        };
        if alone {
            metrics::counter!(names::SUSPECTS).increment(flights.len() as u64);
        }
        debug!(worker, tiles = flights.len(), alone, request = %wanted.work.id, "calling");
        let span = info_span!(parent: &wanted.work.span, "call", worker, tiles = flights.len());
        let ids = flights.iter().map(|(flight, _)| *flight).collect();
        let call = Call { id, worker: known.worker.clone(), request, flights, commands };
        let task = tokio::spawn(call.run().instrument(span)).abort_handle();
        known.calls.insert(id);
        self.calls.insert(id, InFlight { worker: known.worker.clone(), flights: ids, task });
        true
    }

    /// Writes figures into gauges.
    fn measure(&self) {
        let description = lock(&self.schedule).describe();
        metrics::gauge!(names::QUEUE_TILES).set(description.tiles_waiting as f64);
        let running = description.workers.iter().map(|worker| u64::from(worker.tiles)).sum::<u64>();
        metrics::gauge!(names::RUNNING_TILES).set(running as f64);
        metrics::gauge!(names::OUTSTANDING_CORE_SECONDS).set(description.outstanding.as_secs_f64());
        metrics::counter!(names::RETRIES).absolute(description.retries);
        metrics::gauge!(names::QUARANTINED).set(description.quarantined as f64);
        let workers = || self.workers.values().map(|known| &known.worker);
        let draining = workers().filter(|worker| worker.is_draining).count();
        metrics::gauge!(names::WORKERS, "state" => "draining").set(draining as f64);
        metrics::gauge!(names::WORKERS, "state" => "ready").set((workers().count() - draining) as f64);
        metrics::gauge!(names::SLOTS).set(workers().map(|worker| f64::from(worker.slots)).sum::<f64>());
        let lost = workers().map(|worker| f64::from(worker.lost_slots)).sum::<f64>();
        metrics::gauge!(names::LOST_SLOTS).set(lost);
    }

    /// What `graticule top` shows.
    fn describe(&self) -> pb::DescribeResponse {
        let description = lock(&self.schedule).describe();
        let ms = |since: Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let workers = self.fleet.snapshot().into_iter().map(|worker| {
            let scheduled = description.workers.iter().find(|known| known.worker == worker.id);
            pb::WorkerState {
                address: worker.address.clone(),
                slots: worker.slots_left(),
                tiles: scheduled.map_or(0, |known| known.tiles),
                memory_bytes: worker.memory_bytes,
                free_bytes: worker.free_bytes,
                draining: worker.is_draining,
                counts: self.workers.get(&worker.id).map(|known| known.counts),
                worker: worker.id,
            }
        });
        let requests = description.requests.iter().take(DESCRIBED_MAX).filter_map(|state| {
            let request = self.requests.get(&state.request)?;
            Some(pb::RequestState {
                id: request.work.id.to_string(),
                tenant: state.tenant.to_string(),
                done: request.done,
                tiles: state.tiles,
                running: u32::try_from(state.running).unwrap_or(u32::MAX),
                age_ms: ms(request.came_at),
            })
        });
        pb::DescribeResponse {
            uptime_ms: ms(self.started),
            workers: workers.collect(),
            requests: requests.collect(),
            counts: Some(self.counts),
            ..pb::DescribeResponse::default()
        }
    }
}
