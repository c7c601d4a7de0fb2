//! Rules, one by one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::{hash, ms};

fn tiles(count: i64) -> Vec<TileId> {
    (0..count).map(|col| TileId { row: 0, col }).collect()
}

fn want(request: u64, count: i64) -> Submission {
    Submission {
        request: RequestId(request),
        tenant: Arc::from(""),
        work: hash(request as u8),
        place: hash(request as u8),
        tiles: tiles(count),
        peak_mib: 10,
        result_bytes: 1 << 20,
        cost: ms(100),
        deadline: Duration::from_secs(300),
        patience: ms(5000),
        is_shareable: true,
    }
}

fn schedule(workers: &[(&str, u32, u32)]) -> Schedule {
    let mut schedule = Schedule::new(Rules::default());
    for (name, slots, memory_mib) in workers {
        ready(&mut schedule, ms(0), name, *slots, *memory_mib);
    }
    schedule
}

fn ready(schedule: &mut Schedule, now: Now, name: &str, slots: u32, memory_mib: u32) -> Vec<Action> {
    schedule.on_event(now, Event::WorkerReady { worker: name.to_owned(), slots, memory_mib })
}

/// Calls among some actions: call, worker, flights and whether alone.
fn sent(actions: &[Action]) -> Vec<(CallId, &str, Vec<FlightId>, bool)> {
    let calls = actions.iter().filter_map(|action| match action {
        Action::Send { call, worker, flights, alone, .. } => {
            Some((*call, worker.as_str(), flights.iter().map(|(flight, _)| *flight).collect(), *alone))
        }
        _ => None,
    });
    calls.collect()
}

fn failures(actions: &[Action]) -> Vec<(u64, &Failure)> {
    let failures = actions.iter().filter_map(|action| match action {
        Action::Fail { request, reason } => Some((request.0, reason)),
        _ => None,
    });
    failures.collect()
}

fn lost(name: &str) -> Event {
    Event::WorkerLost { worker: name.to_owned() }
}

fn done(call: CallId, flight: FlightId) -> Event {
    Event::TileDone { call, flight, took: ms(100) }
}

fn failed(call: CallId, flight: FlightId, failure: TileFailure) -> Event {
    Event::TileFailed { call, flight, failure }
}

#[test]
fn credit_is_in_tiles_and_in_memory() {
    for (slots, memory_mib, tiles) in [(4, 1000, 8), (4, 35, 3), (1, 1000, 2), (1, 10, 1)] {
        let mut schedule = schedule(&[("a", slots, memory_mib)]);
        let actions = schedule.on_event(ms(0), Event::Submitted(want(1, 100)));
        let count: usize = sent(&actions).iter().map(|(_, _, flights, _)| flights.len()).sum();
        assert_eq!(count, tiles, "{slots} slots and {memory_mib} MiB");
    }
}

#[test]
fn one_flight_for_everybody_who_wants_the_same() {
    let mut schedule = schedule(&[]);
    for request in 0..500 {
        let same = Submission { request: RequestId(request), ..want(0, 1) };
        assert_eq!(schedule.on_event(ms(request), Event::Submitted(same)), []);
    }
    let actions = ready(&mut schedule, ms(600), "a", 2, 100);
    let calls = sent(&actions);
    assert_eq!(calls.len(), 1);
    let (call, _, flights, _) = calls[0].clone();
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Join { .. })).count(), 500);
    // Somebody comes late, and everybody else goes.
    let late = Submission { request: RequestId(500), ..want(0, 1) };
    let actions = schedule.on_event(ms(700), Event::Submitted(late));
    assert_eq!(actions, [Action::Join { request: RequestId(500), tile: tiles(1)[0], flight: flights[0] }]);
    for request in 0..500 {
        assert_eq!(schedule.on_event(ms(800), Event::Withdrawn { request: RequestId(request) }), []);
    }
    // Only when nobody is left it is for nothing.
    let actions = schedule.on_event(ms(900), Event::Withdrawn { request: RequestId(500) });
    assert_eq!(actions, [Action::Cancel { call }]);
    assert_eq!(schedule.on_event(ms(900), Event::CallEnded { call }), []);
    schedule.check_nothing_is_left();
}

#[test]
fn a_lost_tile_goes_to_another_worker_alone() {
    let mut schedule = schedule(&[("a", 2, 100)]);
    let actions = schedule.on_event(ms(0), Event::Submitted(want(1, 2)));
    let flights = sent(&actions)[0].2.clone();
    assert_eq!(flights.len(), 2, "neighbours go in one call");
    ready(&mut schedule, ms(1), "b", 2, 100);
    let actions = schedule.on_event(ms(2), lost("a"));
    let (call, worker, first, alone) = sent(&actions)[0].clone();
    assert_eq!((worker, first.len(), alone, sent(&actions).len()), ("b", 1, true, 1));
    // Nothing else until the call is over, and then the other one.
    assert_eq!(schedule.on_event(ms(3), Event::Submitted(want(2, 1))), []);
    assert_eq!(schedule.on_event(ms(4), done(call, first[0])), []);
    let actions = schedule.on_event(ms(5), Event::CallEnded { call });
    let (_, worker, second, alone) = sent(&actions)[0].clone();
    assert_eq!((worker, alone), ("b", true));
    assert!(second != first && flights.contains(&second[0]));
}

#[test]
fn a_worker_that_comes_back_is_the_one_that_had_it() {
    // The link to it is broken and its announcement is not: it is lost with each call, and back at once.
    for first in ["a", "b"] {
        let mut schedule = schedule(&[(first, 1, 100)]);
        let other = if first == "a" { "b" } else { "a" };
        assert_eq!(sent(&schedule.on_event(ms(0), Event::Submitted(want(1, 1))))[0].1, first);
        ready(&mut schedule, ms(1), other, 1, 100);
        let mut actions = schedule.on_event(ms(2), lost(first));
        actions.extend(ready(&mut schedule, ms(2), first, 1, 100));
        assert_eq!(sent(&actions)[0].1, other);
        // Nor by order of arrival: the other is busy, so the tile waits for it.
        let mut schedule = self::schedule(&[(first, 1, 100)]);
        schedule.on_event(ms(0), Event::Submitted(want(1, 1)));
        ready(&mut schedule, ms(1), other, 1, 100);
        let busy = schedule.on_event(ms(1), Event::Submitted(want(2, 1)));
        assert_eq!(sent(&busy)[0].1, other);
        schedule.on_event(ms(2), lost(first));
        assert_eq!(sent(&ready(&mut schedule, ms(2), first, 1, 100)), []);
    }
}

#[test]
fn a_tile_that_kills_twice_alone_is_quarantined() {
    let mut schedule = schedule(&[("w0", 1, 100)]);
    schedule.on_event(ms(0), Event::Submitted(want(1, 1)));
    for (at, alone) in [(1, true), (2, true)] {
        schedule.on_event(ms(at), lost(&format!("w{}", at - 1)));
        let actions = ready(&mut schedule, ms(at), &format!("w{at}"), 1, 100);
        assert_eq!(sent(&actions)[0].3, alone);
    }
    let actions = schedule.on_event(ms(3), lost("w2"));
    let tile = tiles(1)[0];
    assert_eq!(failures(&actions), [(1, &Failure::Crashes { tile })]);
    // Ten minutes it is refused, in whichever request; other tiles are not.
    ready(&mut schedule, ms(4), "w3", 1, 100);
    let again = |request, at: Now| {
        Event::Submitted(Submission {
            request: RequestId(request),
            deadline: at + Duration::from_secs(60),
            ..want(1, 9)
        })
    };
    let actions = schedule.on_event(ms(5), again(2, ms(5)));
    assert_eq!(failures(&actions), [(2, &Failure::Crashes { tile })]);
    let other = Submission { tiles: tiles(9)[1..].to_vec(), ..want(1, 0) };
    let other = Submission { request: RequestId(3), ..other };
    assert_eq!(sent(&schedule.on_event(ms(5), Event::Submitted(other))).len(), 1);
    let later = ms(4) + Rules::default().quarantine;
    schedule.on_event(later, Event::Withdrawn { request: RequestId(3) });
    assert_eq!(failures(&schedule.on_event(later, again(4, later))), []);
}

#[test]
fn a_source_that_fails_is_tried_elsewhere_and_not_for_ever() {
    let mut schedule = schedule(&[("a", 1, 100), ("b", 1, 100)]);
    let mut actions = schedule.on_event(ms(0), Event::Submitted(want(1, 1)));
    let mut workers = Vec::new();
    for attempt in 1..=3 {
        let (call, worker, flights, alone) = sent(&actions)[0].clone();
        assert!(!alone, "a source is not the worker's death");
        workers.push(worker.to_owned());
        let now = schedule.now;
        let mut told = schedule.on_event(now, failed(call, flights[0], TileFailure::Transient));
        schedule.on_event(now, Event::CallEnded { call });
        if attempt == 3 {
            assert_eq!(failures(&told), [(1, &Failure::Tile { flight: flights[0] })]);
        } else {
            assert_eq!(told, [], "not at once");
            let wake = schedule.next_wake().unwrap();
            assert_eq!(wake, now + ms(100) * attempt);
            told = schedule.on_event(wake, Event::Tick);
        }
        actions = told;
    }
    assert_ne!(workers[0], workers[1]);
    schedule.check_nothing_is_left();
}

#[test]
fn a_source_that_is_not_tried_again_is_named_all_the_same() {
    let mut schedule = Schedule::new(Rules { retry_floor: 0, retry_share: 0.0, ..Rules::default() });
    ready(&mut schedule, ms(0), "a", 1, 100);
    let actions = schedule.on_event(ms(0), Event::Submitted(want(1, 1)));
    let (call, _, flights, _) = sent(&actions)[0].clone();
    let told = schedule.on_event(ms(1), failed(call, flights[0], TileFailure::Transient));
    assert_eq!(failures(&told), [(1, &Failure::Tile { flight: flights[0] })]);
}

#[test]
fn handing_back_costs_no_attempt() {
    let mut schedule = schedule(&[("w0", 1, 100)]);
    let mut actions = schedule.on_event(ms(0), Event::Submitted(want(1, 1)));
    for turn in 0..10 {
        let (call, worker, flights, _) = sent(&actions)[0].clone();
        let worker = worker.to_owned();
        schedule.on_event(ms(turn), Event::WorkerDraining { worker: worker.clone() });
        let back = schedule.on_event(ms(turn), failed(call, flights[0], TileFailure::HandedBack));
        assert_eq!(back, []);
        schedule.on_event(ms(turn), Event::CallEnded { call });
        schedule.on_event(ms(turn), lost(&worker));
        actions = ready(&mut schedule, ms(turn), &format!("w{}", turn + 1), 1, 100);
    }
    let (call, _, flights, alone) = sent(&actions)[0].clone();
    assert!(!alone);
    schedule.on_event(ms(20), done(call, flights[0]));
    assert_eq!(schedule.describe().requests[0].undelivered, 1);
}

#[test]
fn a_window_bounds_what_a_client_leaves_unread_and_stops_its_clock() {
    let mut schedule = schedule(&[("a", 64, 10_000)]);
    let actions = schedule.on_event(ms(0), Event::Submitted(want(1, 100)));
    let calls = sent(&actions);
    let count: usize = calls.iter().map(|(_, _, flights, _)| flights.len()).sum();
    assert_eq!(count, 16, "16 MiB of tiles of 1 MiB");
    for (call, _, flights, _) in calls {
        for flight in flights {
            assert_eq!(sent(&schedule.on_event(ms(1000), done(call, flight))), []);
        }
        schedule.on_event(ms(1000), Event::CallEnded { call });
    }
    assert_eq!(schedule.next_wake(), None, "only the client is waited for");
    let hour = Duration::from_secs(3600);
    let read = Event::Delivered { request: RequestId(1), tile: tiles(1)[0] };
    assert_eq!(sent(&schedule.on_event(hour, read)).len(), 1);
    // Of 300 s it has used one.
    assert_eq!(schedule.next_wake(), Some(hour + Duration::from_secs(299)));
    let actions = schedule.on_event(hour + Duration::from_secs(299), Event::Tick);
    assert_eq!(failures(&actions), [(1, &Failure::Deadline)]);
}

/// Computes all that goes out.
fn compute(schedule: &mut Schedule, now: Now, mut actions: Vec<Action>) {
    loop {
        let calls: Vec<(CallId, Vec<FlightId>)> =
            sent(&actions).into_iter().map(|(call, _, flights, _)| (call, flights)).collect();
        if calls.is_empty() {
            return;
        }
        actions = Vec::new();
        for (call, flights) in calls {
            for flight in flights {
                actions.extend(schedule.on_event(now, done(call, flight)));
            }
            actions.extend(schedule.on_event(now, Event::CallEnded { call }));
        }
    }
}

#[test]
fn clients_that_do_not_read_leave_room_for_those_that_do() {
    const SLOW: u64 = 100;
    let mut schedule = schedule(&[("a", 64, 10_000)]);
    for request in 1..=SLOW {
        let actions = schedule.on_event(ms(0), Event::Submitted(want(request, 100)));
        compute(&mut schedule, ms(0), actions);
    }
    let held = |schedule: &Schedule| schedule.describe().spool_bytes >> 20;
    assert!(schedule.is_full() && held(&schedule) < 2 * 128, "{} MiB", held(&schedule));
    // One after the other, whoever reads has all of its tiles.
    let reader = SLOW + 1;
    let mut actions = schedule.on_event(ms(1), Event::Submitted(want(reader, 20)));
    for _ in 0..20 {
        let joined = actions.iter().find_map(|action| match action {
            Action::Join { request: RequestId(id), tile, .. } if *id == reader => Some(*tile),
            _ => None,
        });
        let (tile, mut next) = (joined.expect("its next tile"), Vec::new());
        assert_eq!(sent(&actions).len(), 1);
        for (call, _, flights, _) in sent(&actions) {
            next.extend(schedule.on_event(ms(1), done(call, flights[0])));
            next.extend(schedule.on_event(ms(1), Event::CallEnded { call }));
        }
        next.extend(schedule.on_event(ms(1), Event::Delivered { request: RequestId(reader), tile }));
        actions = next;
    }
    assert!(schedule.describe().requests.iter().all(|request| request.request.0 != reader), "it has ended");
}

#[test]
fn without_workers_patience_decides() {
    let mut schedule = schedule(&[]);
    schedule.on_event(ms(0), Event::Submitted(want(1, 3)));
    assert_eq!(schedule.next_wake(), Some(ms(5000)));
    assert_eq!(failures(&schedule.on_event(ms(5000), Event::Tick)), [(1, &Failure::NoWorkers)]);
    // All of them go while one computes.
    ready(&mut schedule, ms(6000), "a", 1, 100);
    schedule.on_event(ms(6000), Event::Submitted(want(2, 3)));
    schedule.on_event(ms(7000), lost("a"));
    assert_eq!(schedule.next_wake(), Some(ms(12_000)));
    // One that is too small is none; one in time saves it.
    schedule.on_event(ms(8000), Event::Submitted(want(3, 1)));
    assert_eq!(ready(&mut schedule, ms(9000), "b", 1, 5), []);
    let have = Failure::TooLarge { need_mib: 10, have_mib: 5 };
    assert_eq!(failures(&schedule.on_event(ms(12_000), Event::Tick)), [(2, &have)]);
    assert_eq!(failures(&schedule.on_event(ms(12_000), Event::Submitted(want(4, 1)))), [(4, &have)]);
    assert_eq!(sent(&ready(&mut schedule, ms(12_500), "c", 1, 10)).len(), 1);
    assert_eq!(schedule.next_wake(), Some(Duration::from_secs(300)));
}

#[test]
fn too_much_is_refused_per_tenant() {
    let mut schedule = schedule(&[("a", 1, 100)]);
    let from = |request: u64, tenant: &str| {
        Event::Submitted(Submission { tenant: Arc::from(tenant), ..want(request, 1) })
    };
    let mut refused = 0;
    for request in 0..100 {
        let load = schedule.load("flood", ms(100)).refused;
        let actions = schedule.on_event(ms(0), from(request, "flood"));
        match failures(&actions)[..] {
            [] => assert_eq!(load, None),
            [(_, Failure::Overloaded { retry_after })] => {
                assert_eq!(load, Some(*retry_after), "the same before planning");
                assert!(*retry_after >= ms(2000), "{retry_after:?}");
                refused += 1;
            }
            ref other => panic!("{other:?}"),
        }
    }
    // What waits is 2 s of tiles of 100 ms, and what such a tile may wait beyond.
    assert!((70..80).contains(&refused), "{refused}");
    assert_eq!(failures(&schedule.on_event(ms(0), from(200, "other"))), []);
    assert_eq!(schedule.describe().sheds, refused);
}

/// Of two tenants of which one floods the cluster with large and small requests, the other has its share.
#[test]
fn a_flood_leaves_the_other_tenant_its_share() {
    let mut schedule = schedule(&[("a", 2, 1000), ("b", 2, 1000)]);
    schedule.rules.wait_max = Duration::from_secs(1000);
    let (mut calls, mut owner) = (VecDeque::new(), BTreeMap::new());
    let mut next = 0;
    let mut wish = |flood: bool| {
        next += 1;
        let (tenant, count) = if flood { ("flood", [1, 1, 100][next as usize % 3]) } else { ("other", 1) };
        Event::Submitted(Submission {
            tenant: Arc::from(tenant),
            is_shareable: false,
            deadline: Duration::from_secs(100_000),
            result_bytes: 1024,
            ..want(if flood { next } else { next + OTHERS }, count)
        })
    };
    let mut events: VecDeque<Event> = (0..300).map(|_| wish(true)).collect();
    events.extend((0..8).map(|_| wish(false)));
    let (mut now, mut shares) = (ms(0), [0, 0]);
    while shares[0] + shares[1] < 2000 {
        // One call is answered at a time, and the other tenant always has as many requests.
        while let Some(event) = events.pop_front() {
            for action in schedule.on_event(now, event) {
                match action {
                    Action::Send { call, flights, .. } => calls.push_back((call, flights)),
                    Action::Join { request, flight, .. } => _ = owner.insert(flight, request),
                    action => panic!("{action:?}"),
                }
            }
        }
        now += ms(50);
        let (call, flights) = calls.pop_front().unwrap();
        for (flight, tile) in flights {
            let request: RequestId = owner[&flight];
            let is_other = request.0 > OTHERS;
            shares[usize::from(is_other)] += 1;
            events.extend([done(call, flight), Event::Delivered { request, tile }]);
            events.extend(is_other.then(|| wish(false)));
        }
        events.push_back(Event::CallEnded { call });
    }
    assert!(shares[1] * 100 >= 2000 * 40, "{shares:?}");
}

/// From where on requests are the other tenant's.
const OTHERS: u64 = 1_000_000;
