//! Events in any order, also such as make no sense: whatever happens, no action breaks a rule, and with
//! workers left to themselves everything ends.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::checked::{Checked, End};
use super::{hash, ms};

/// A request in a history: work, tiles in a row and where they begin, seconds until its deadline.
type Wish = (u8, i64, i64, u64);

#[derive(Clone, Debug)]
enum Move {
    Ready(u8, u32, u32),
    Drain(u8),
    Lose(u8),
    Submit(Wish),
    Withdraw(u64),
    Deliver(u64, i64),
    /// An answer of one of the calls there are: which, which flight, and how it ends.
    Answer(usize, usize, u8),
    EndCall(usize),
    Wait(u64),
    /// Answers about calls and flights that may never have been.
    Nonsense(u64, u64),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        2 => (0u8..5, 1u32..4, prop_oneof![Just(50u32), Just(1000)]).prop_map(|(w, s, m)| Move::Ready(w, s, m)),
        1 => (0u8..5).prop_map(Move::Drain),
        1 => (0u8..5).prop_map(Move::Lose),
        4 => (0u8..4, 1i64..20, 0i64..30, 1u64..300).prop_map(Move::Submit),
        1 => (0u64..40).prop_map(Move::Withdraw),
        4 => (0u64..40, 0i64..40).prop_map(|(request, col)| Move::Deliver(request, col)),
        10 => (0usize..20, 0usize..8, 0u8..10).prop_map(|(call, flight, how)| Move::Answer(call, flight, how)),
        2 => (0usize..20).prop_map(Move::EndCall),
        2 => (0u64..3000).prop_map(Move::Wait),
        1 => (0u64..60, 0u64..60).prop_map(|(call, flight)| Move::Nonsense(call, flight)),
    ]
}

/// A history under way.
struct History {
    checked: Checked,
    now: Duration,
    calls: Vec<(CallId, Vec<FlightId>)>,
    next: u64,
}

impl History {
    fn tell(&mut self, event: Event) {
        let actions = self.checked.on_event(self.now, event);
        for action in actions {
            if let Action::Send { call, flights, .. } = action {
                self.calls.push((call, flights.into_iter().map(|(flight, _)| flight).collect()));
            }
        }
    }

    fn make(&mut self, step: Move) {
        match step {
            Move::Ready(worker, slots, memory_mib) => {
                // A worker that announces less than it has is a new one.
                self.tell(Event::WorkerLost { worker: format!("w{worker}") });
                self.tell(Event::WorkerReady { worker: format!("w{worker}"), slots, memory_mib });
            }
            Move::Drain(worker) => self.tell(Event::WorkerDraining { worker: format!("w{worker}") }),
            Move::Lose(worker) => self.tell(Event::WorkerLost { worker: format!("w{worker}") }),
            Move::Submit((work, count, from, seconds)) => {
                let request = RequestId(self.next);
                self.next += 1;
                let tiles = (from..from + count).map(|col| TileId { row: 0, col }).collect();
                let submission = Submission {
                    request,
                    tenant: Arc::from(if work == 0 { "a" } else { "b" }),
                    work: hash(work),
                    place: hash(work),
                    tiles,
                    peak_mib: [20, 40, 100, 600][usize::from(work)],
                    result_bytes: [0, 1 << 20, 6 << 20, 1 << 16][usize::from(work)],
                    cost: ms(100),
                    deadline: self.now + Duration::from_secs(seconds),
                    patience: ms(5000),
                    is_shareable: work != 2,
                };
                self.tell(Event::Submitted(submission));
            }
            Move::Withdraw(request) => self.tell(Event::Withdrawn { request: RequestId(request) }),
            Move::Deliver(request, col) => {
                self.tell(Event::Delivered { request: RequestId(request), tile: TileId { row: 0, col } });
            }
            Move::Answer(call, flight, how) => {
                let Some((call, flights)) = self.calls.get(call % self.calls.len().max(1)) else { return };
                let (call, flight) = (*call, flights[flight % flights.len()]);
                let failed = |failure| Event::TileFailed { call, flight, failure };
                self.tell(match how {
                    0 => failed(TileFailure::HandedBack),
                    1 => failed(TileFailure::Transient),
                    2 => failed(TileFailure::Final),
                    _ => Event::TileDone { call, flight, took: ms(80) },
                });
            }
            Move::EndCall(call) => {
                if !self.calls.is_empty() {
                    let (call, _) = self.calls.swap_remove(call % self.calls.len());
                    self.tell(Event::CallEnded { call });
                }
            }
            Move::Wait(time) => {
                let until = self.now + ms(time);
                self.wake(until);
                self.now = until;
                self.tell(Event::Tick);
            }
            Move::Nonsense(call, flight) => {
                let (call, flight) = (CallId(call), FlightId(flight));
                if !self.calls.iter().any(|(known, _)| *known == call) {
                    self.tell(Event::TileDone { call, flight, took: Duration::MAX });
                    self.tell(Event::CallEnded { call });
                }
            }
        }
    }

    /// Wakes the schedule whenever it asks for it, until some time.
    fn wake(&mut self, until: Now) {
        while let Some(at) = self.checked.schedule.next_wake().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tell(Event::Tick);
        }
    }

    /// All workers but one that can do everything are gone, and everybody reads: everything ends, and
    /// long before its deadline.
    fn finish(&mut self) {
        (0..5).for_each(|worker| self.tell(Event::WorkerLost { worker: format!("w{worker}") }));
        self.calls.clear();
        self.tell(Event::WorkerReady { worker: "last".to_owned(), slots: 2, memory_mib: 1000 });
        let mut rounds = 0;
        while !self.checked.requests.is_empty() {
            let requests = self.checked.requests.iter();
            let read: Vec<(RequestId, TileId)> =
                requests.flat_map(|(id, request)| request.joined.keys().map(|tile| (*id, *tile))).collect();
            for (request, tile) in read {
                self.tell(Event::Delivered { request, tile });
            }
            match self.calls.pop() {
                Some((call, flights)) => {
                    for flight in flights {
                        self.tell(Event::TileDone { call, flight, took: ms(1) });
                    }
                    self.tell(Event::CallEnded { call });
                }
                // Only what waits for a moment may be left.
                None if !self.checked.requests.is_empty() => self.wake(self.now + ms(1000)),
                None => {}
            }
            rounds += 1;
            assert!(rounds < 2000, "no end: {:?}", self.checked.schedule.describe());
        }
        while let Some((call, _)) = self.calls.pop() {
            self.tell(Event::CallEnded { call });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_events_keep_the_rules(script in proptest::collection::vec(moves(), 0..120)) {
        let rules = Rules {
            window_bytes: 4 << 20,
            spool_bytes: 12 << 20,
            waiting_max: 12,
            ..Rules::default()
        };
        let mut history =
            History { checked: Checked::new(rules), now: Now::ZERO, calls: Vec::new(), next: 0 };
        let submitted = script.iter().filter(|step| matches!(step, Move::Submit(_))).count();
        for step in script {
            history.make(step);
            history.checked.check_figures();
        }
        let before = history.now;
        let late = |end: &&End| **end == End::Failed(Failure::Deadline);
        let late_before = history.checked.ended.values().filter(late).count();
        history.finish();
        prop_assert!(history.now - before < ms(20_000), "it took {:?}", history.now - before);
        // Those that were close to their deadlines before may have met them.
        let late_after = history.checked.ended.values().filter(late).count();
        prop_assert!(late_after == late_before || history.now > before);
        prop_assert_eq!(history.checked.ended.len(), submitted);
        history.checked.check_nothing_is_left();
    }
}
