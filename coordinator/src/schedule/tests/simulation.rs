//! A coordinator's world in simulated time: workers that compute, drain, die and come back, links that
//! delay and break, tiles that fail or kill, clients that read slowly or go away. A seed is a history.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::checked::{Checked, End};
use super::{hash, ms};

/// Histories of every test run, and of the long one.
const SEEDS: u64 = 50;
const SEEDS_LONG: u64 = 2000;

/// Simulated time in which things go wrong; afterwards all workers are there for good.
const TROUBLE: Duration = Duration::from_secs(40);

/// How long a client that does not read is waited for.
const CUT_OFF: Duration = Duration::from_secs(60);

/// How long a worker may have nothing to do while somebody waits.
const STALL: Duration = Duration::from_secs(2);

enum Step {
    Tell(Event),
    /// As [`Step::Tell`], of a registration that may be over.
    Report(usize, u32, Event),
    Arrives(CallId),
    Ends(usize, u32, CallId, FlightId),
    Dies(usize, u32),
    Drains(usize),
    Breaks(usize),
    Returns(usize),
    Reads(RequestId, TileId),
}

struct Node {
    slots: u32,
    memory_mib: u32,
    is_up: bool,
    is_draining: bool,
    /// Counts its lives.
    life: u32,
    queue: VecDeque<(CallId, FlightId)>,
    running: Vec<(CallId, FlightId)>,
    calls: BTreeSet<CallId>,
    idle_since: Now,
    /// When it is there again.
    back: Now,
}

struct Call {
    node: usize,
    life: u32,
    work: ContentHash,
    left: BTreeMap<FlightId, TileId>,
    /// When the last of its reports arrives: they keep their order.
    last: Now,
}

struct Simulation {
    seed: u64,
    rng: fastrand::Rng,
    now: Now,
    steps: BTreeMap<(Now, u64), Step>,
    next: u64,
    checked: Checked,
    nodes: Vec<Node>,
    calls: BTreeMap<CallId, Call>,
    killers: BTreeSet<(ContentHash, TileId)>,
    faulty: BTreeSet<(ContentHash, TileId)>,
    /// Probability that a source is not there for a moment.
    flaky: f64,
    /// Time that each request's client takes for a tile.
    readers: BTreeMap<RequestId, Duration>,
    hungry_since: BTreeMap<RequestId, Now>,
}

fn name(node: usize) -> WorkerId {
    format!("w{node}")
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rules = Rules {
            window_bytes: 1 << 20,
            spool_bytes: if rng.bool() { 4 << 20 } else { 64 << 20 },
            waiting_max: if rng.bool() { 8 } else { 1000 },
            retry_floor: if rng.u8(..4) == 0 { 4 } else { 256 },
            ..Rules::default()
        };
        let count = rng.usize(1..=8);
        let nodes = (0..count).map(|_| Node {
            slots: rng.u32(1..=4),
            memory_mib: *rng.choice(&[200, 1000, 1000, 4000]).unwrap(),
            is_up: false,
            is_draining: false,
            life: 0,
            queue: VecDeque::new(),
            running: Vec::new(),
            calls: BTreeSet::new(),
            idle_since: Now::ZERO,
            back: Now::ZERO,
        });
        let nodes = nodes.collect();
        let flaky = if rng.bool() { 0.0 } else { 0.1 };
        let mut simulation = Simulation {
            seed,
            now: Now::ZERO,
            steps: BTreeMap::new(),
            next: 0,
            checked: Checked::new(rules),
            nodes,
            calls: BTreeMap::new(),
            killers: BTreeSet::new(),
            faulty: BTreeSet::new(),
            flaky,
            readers: BTreeMap::new(),
            hungry_since: BTreeMap::new(),
            rng,
        };
        simulation.plan();
        simulation
    }

    /// What happens from outside.
    fn plan(&mut self) {
        for node in 0..self.nodes.len() {
            let late = self.rng.u8(..3) == 0;
            let from = self.within(if late { ms(8000) } else { ms(100) });
            self.at(from, Step::Returns(node));
            self.at(TROUBLE, Step::Returns(node));
        }
        let works: Vec<ContentHash> = (0..self.rng.u8(1..6)).map(hash).collect();
        for id in 0..self.rng.u64(1..60) {
            let request = RequestId(id);
            let at = self.within(TROUBLE);
            let submission = self.submission(request, &works, at);
            if self.rng.u8(..8) == 0 {
                let gone = at + self.within(ms(5000));
                self.at(gone, Step::Tell(Event::Withdrawn { request }));
            }
            self.at(at, Step::Tell(Event::Submitted(submission)));
        }
        for _ in 0..self.rng.u32(..12) {
            let (at, node) = (self.within(TROUBLE), self.rng.usize(..self.nodes.len()));
            let step = match self.rng.u8(..4) {
                0 => Step::Drains(node),
                1 => Step::Breaks(node),
                _ => Step::Dies(node, u32::MAX),
            };
            self.at(at, step);
        }
        if self.rng.u8(..5) == 0 {
            let at = self.within(TROUBLE / 2);
            (0..self.nodes.len()).for_each(|node| self.at(at, Step::Dies(node, u32::MAX)));
        }
    }

    fn submission(&mut self, request: RequestId, works: &[ContentHash], at: Now) -> Submission {
        let work = *self.rng.choice(works).unwrap();
        let edge = *self.rng.choice(&[1, 1, 2, 4, 10]).unwrap();
        let (row, col) = (self.rng.i64(-3..3), self.rng.i64(-3..3));
        let tiles = (0..edge * edge).map(|tile| TileId { row: row + tile / edge, col: col + tile % edge });
        let tiles: Vec<TileId> = tiles.collect();
        for tile in &tiles {
            match self.rng.u32(..1500) {
                0 => _ = self.killers.insert((work, *tile)),
                1 => _ = self.faulty.insert((work, *tile)),
                _ => {}
            }
        }
        let reader = *self.rng.choice(&[ms(1), ms(1), ms(1), ms(20), ms(2000), CUT_OFF * 2]).unwrap();
        self.readers.insert(request, reader);
        let byte = work.as_bytes()[0];
        Submission {
            request,
            tenant: Arc::from(*self.rng.choice(&["", "a", "b"]).unwrap()),
            work,
            place: hash(byte / 2),
            tiles,
            // Equal work needs as much.
            peak_mib: [100, 10, 100, 900, 150, 3000][usize::from(byte % 6)],
            result_bytes: [1 << 17, 0, 1 << 19, 3 << 20, 1 << 17, 1 << 18][usize::from(byte % 6)],
            cost: ms([100, 1, 1000, 300, 20, 2000][usize::from(byte % 6)]),
            deadline: at + *self.rng.choice(&[ms(500), ms(10_000), ms(100_000)]).unwrap(),
            patience: ms(5000),
            is_shareable: byte % 6 != 3,
        }
    }

    fn within(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.rng.u64(..=limit.as_micros() as u64))
    }

    fn at(&mut self, at: Now, step: Step) {
        self.next += 1;
        self.steps.insert((at, self.next), step);
    }

    fn run(mut self) -> Checked {
        let mut count = 0;
        loop {
            let step = self.steps.first_key_value().map(|((at, _), _)| *at);
            let wake = self.checked.schedule.next_wake();
            let Some(at) = step.into_iter().chain(wake).min() else { break };
            assert!(at > self.now || step == Some(at) || wake.is_none_or(|wake| wake >= self.now));
            self.now = self.now.max(at);
            if step.is_some_and(|step| step <= self.now) {
                let (_, step) = self.steps.pop_first().unwrap();
                self.step(step);
            } else {
                self.tell(Event::Tick);
            }
            self.check_stall();
            count += 1;
            assert!(count < 200_000, "no end");
            if count % 16 == 0 {
                self.checked.check_figures();
            }
        }
        self.checked.check_figures();
        self.checked.check_nothing_is_left();
        self.checked
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Tell(event) => self.tell(event),
            Step::Report(node, life, event) => {
                // The link of a registration that is over is closed.
                if self.nodes[node].life == life {
                    self.tell(event);
                } else if self.rng.bool() {
                    // A report that had arrived already and is handled late.
                    self.tell(event);
                }
            }
            Step::Arrives(call) => {
                let Some(known) = self.calls.get(&call) else { return };
                let node = &mut self.nodes[known.node];
                if node.life == known.life && node.is_up {
                    node.queue.extend(known.left.keys().map(|flight| (call, *flight)));
                    let node = known.node;
                    if self.nodes[node].is_draining {
                        self.hand_back(node);
                    }
                    self.start(node);
                }
            }
            Step::Ends(node, life, call, flight) => self.ends(node, life, call, flight),
            Step::Dies(node, life) => {
                if self.nodes[node].is_up && (life == u32::MAX || life == self.nodes[node].life) {
                    let noticed = if self.rng.bool() { ms(5) } else { ms(12_000) };
                    self.dies(node, noticed);
                }
            }
            Step::Breaks(node) => {
                // The link is cut: the worker is lost though it lives, and registers anew.
                if self.nodes[node].is_up {
                    self.dies(node, ms(1));
                }
            }
            Step::Drains(node) => {
                if self.nodes[node].is_up {
                    self.nodes[node].is_draining = true;
                    self.tell(Event::WorkerDraining { worker: name(node) });
                    self.hand_back(node);
                    let life = self.nodes[node].life;
                    let at = self.now + ms(3000);
                    self.at(at, Step::Dies(node, life));
                }
            }
            Step::Returns(node) => {
                let known = &mut self.nodes[node];
                if !known.is_up && known.back <= self.now {
                    known.is_up = true;
                    known.idle_since = self.now;
                    let (slots, memory_mib) = (known.slots, known.memory_mib);
                    self.tell(Event::WorkerReady { worker: name(node), slots, memory_mib });
                }
            }
            Step::Reads(request, tile) => self.tell(Event::Delivered { request, tile }),
        }
    }

    fn tell(&mut self, event: Event) {
        for action in self.checked.on_event(self.now, event) {
            match action {
                Action::Send { call, worker, work, flights, .. } => {
                    let node: usize = worker[1..].parse().unwrap();
                    self.nodes[node].calls.insert(call);
                    let life = self.nodes[node].life;
                    let left = flights.into_iter().collect();
                    self.calls.insert(call, Call { node, life, work, left, last: self.now });
                    let at = self.now + self.within(ms(20));
                    self.at(at, Step::Arrives(call));
                }
                Action::Cancel { call } => {
                    let Some(known) = self.calls.remove(&call) else { continue };
                    let node = &mut self.nodes[known.node];
                    if node.life == known.life {
                        node.queue.retain(|(of, _)| *of != call);
                        node.running.retain(|(of, _)| *of != call);
                        let at = self.now.max(known.last) + self.within(ms(100));
                        self.at(at, Step::Report(known.node, known.life, Event::CallEnded { call }));
                        self.start(known.node);
                    }
                }
                Action::Join { request, tile, .. } => {
                    // Some are read while they are computed, and before they are said to be done.
                    if self.readers[&request] < ms(10) && self.rng.u8(..10) == 0 {
                        let at = self.now + self.within(ms(1000));
                        self.at(at, Step::Reads(request, tile));
                    }
                }
                Action::Fail { .. } => {}
            }
        }
        for (request, tile) in std::mem::take(&mut self.checked.done) {
            let reader = self.readers[&request];
            if reader > CUT_OFF {
                let at = self.now + CUT_OFF;
                self.at(at, Step::Tell(Event::Withdrawn { request }));
            } else {
                let at = self.now + self.within(reader);
                self.at(at, Step::Reads(request, tile));
            }
        }
    }

    fn report(&mut self, call: CallId, event: Event) {
        let delay = self.within(ms(20));
        let Some(known) = self.calls.get_mut(&call) else { return };
        known.last = known.last.max(self.now + delay);
        let (node, life, at) = (known.node, known.life, known.last);
        self.at(at, Step::Report(node, life, event));
    }

    fn start(&mut self, node: usize) {
        while self.nodes[node].running.len() < self.nodes[node].slots as usize
            && let Some((call, flight)) = self.nodes[node].queue.pop_front()
        {
            self.nodes[node].running.push((call, flight));
            let life = self.nodes[node].life;
            let known = &self.calls[&call];
            let key = (known.work, known.left[&flight]);
            let limit = ms([150, 3, 500, 400, 50, 1500][usize::from(key.0.as_bytes()[0] % 6)]);
            let took = self.within(limit);
            if self.killers.contains(&key) {
                self.at(self.now + took, Step::Dies(node, life));
            } else {
                self.at(self.now + took, Step::Ends(node, life, call, flight));
            }
        }
    }

    fn ends(&mut self, node: usize, life: u32, call: CallId, flight: FlightId) {
        let known = &mut self.nodes[node];
        let Some(at) = known.running.iter().position(|running| *running == (call, flight)) else { return };
        if known.life != life {
            return;
        }
        known.running.remove(at);
        let key = (self.calls[&call].work, self.calls[&call].left[&flight]);
        let event = if self.faulty.contains(&key) {
            Event::TileFailed { call, flight, failure: TileFailure::Final }
        } else if self.rng.f64() < self.flaky {
            Event::TileFailed { call, flight, failure: TileFailure::Transient }
        } else {
            let took = self.within(ms(100));
            Event::TileDone { call, flight, took }
        };
        self.answer(call, flight, event);
        self.start(node);
    }

    fn answer(&mut self, call: CallId, flight: FlightId, event: Event) {
        self.report(call, event);
        let Some(known) = self.calls.get_mut(&call) else { return };
        known.left.remove(&flight);
        let is_over = known.left.is_empty();
        // Some calls end before all is answered.
        let breaks_off = self.now < TROUBLE && self.rng.u8(..200) == 0;
        if is_over || breaks_off {
            self.report(call, Event::CallEnded { call });
            let node = known_node(&self.calls, call);
            self.calls.remove(&call);
            let node = &mut self.nodes[node];
            node.queue.retain(|(of, _)| *of != call);
            node.running.retain(|(of, _)| *of != call);
            node.calls.remove(&call);
        }
    }

    fn hand_back(&mut self, node: usize) {
        for (call, flight) in std::mem::take(&mut self.nodes[node].queue) {
            if self.calls.contains_key(&call) {
                self.answer(
                    call,
                    flight,
                    Event::TileFailed { call, flight, failure: TileFailure::HandedBack },
                );
            }
        }
    }

    fn dies(&mut self, node: usize, noticed: Duration) {
        let known = &mut self.nodes[node];
        known.queue.clear();
        known.running.clear();
        for call in std::mem::take(&mut known.calls) {
            self.calls.remove(&call);
        }
        known.life += 1;
        // Until it is noticed, the scheduler sends to it in vain.
        let noticed = self.now + self.within(noticed);
        self.at(noticed, Step::Tell(Event::WorkerLost { worker: name(node) }));
        let back = noticed + self.within(ms(10_000));
        self.nodes[node].is_draining = false;
        self.at(back, Step::Returns(node));
        (self.nodes[node].is_up, self.nodes[node].back) = (false, back);
    }

    /// Nobody waits while a worker that could help has nothing to do.
    fn check_stall(&mut self) {
        let hungry: BTreeSet<RequestId> = self.checked.hungry().into_iter().collect();
        self.hungry_since.retain(|id, _| hungry.contains(id));
        for id in hungry {
            let since = *self.hungry_since.entry(id).or_insert(self.now);
            let request = &self.checked.requests[&id];
            let idle: Vec<usize> = self
                .checked
                .idle_workers(request.submission.peak_mib)
                .iter()
                .map(|name| name[1..].parse().unwrap())
                .collect();
            for node in 0..self.nodes.len() {
                if !idle.contains(&node) {
                    self.nodes[node].idle_since = self.now;
                }
                let both = since.max(self.nodes[node].idle_since);
                assert!(
                    self.now.saturating_sub(both) < STALL,
                    "seed {}: {id:?} waits since {since:?} though w{node} is idle at {:?}",
                    self.seed,
                    self.now
                );
            }
        }
    }
}

fn known_node(calls: &BTreeMap<CallId, Call>, call: CallId) -> usize {
    calls[&call].node
}

/// Names the seed of a history that breaks a rule.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.0);
        }
    }
}

fn run(seeds: std::ops::Range<u64>) -> BTreeMap<&'static str, usize> {
    let mut ends: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in seeds {
        let _seed = Seed(seed);
        for end in Simulation::new(seed).run().ended.into_values() {
            let end = match end {
                End::Answered => "answered",
                End::Withdrawn => "withdrawn",
                End::Failed(Failure::Deadline) => "deadline",
                End::Failed(Failure::NoWorkers) => "no workers",
                End::Failed(Failure::TooLarge { .. }) => "too large",
                End::Failed(Failure::Lost { .. }) => "lost",
                End::Failed(Failure::Crashes { .. }) => "crashes",
                End::Failed(Failure::RetryBudget { .. }) => "retry budget",
                End::Failed(Failure::Overloaded { .. }) => "overloaded",
                End::Failed(Failure::Tile { .. }) => "tile",
            };
            *ends.entry(end).or_default() += 1;
        }
    }
    ends
}

#[test]
fn histories_keep_the_rules() {
    let ends = run(0..SEEDS);
    // The histories have in them what they are for.
    let all: usize = ends.values().sum();
    assert!(ends["answered"] > all / 3, "{ends:?}");
    for end in ["withdrawn", "deadline", "no workers", "too large", "crashes", "overloaded", "tile"] {
        assert!(ends.contains_key(end), "{end} does not occur in {ends:?}");
    }
}

#[test]
#[ignore = "long: two thousand histories"]
fn many_histories_keep_the_rules() {
    let ends = run(0..SEEDS_LONG);
    assert_eq!(ends.len(), 10, "{ends:?}");
}
