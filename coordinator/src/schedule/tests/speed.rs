//! How many events a coordinator can take in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::*;
use super::{hash, ms};

/// Answers every call at once, in the order in which they were sent, until nothing is left; the number
/// of events.
fn run(schedule: &mut Schedule, submissions: Vec<Submission>) -> u64 {
    let (mut events, mut now) = (VecDeque::new(), Now::from_secs(1));
    let mut told = 0;
    events.extend(submissions.into_iter().map(Event::Submitted));
    let mut of_flight = std::collections::HashMap::<FlightId, Vec<(RequestId, TileId)>>::new();
    while let Some(event) = events.pop_front() {
        now += Duration::from_micros(10);
        told += 1;
        if let Event::TileDone { flight, .. } = &event {
            let readers = of_flight.remove(flight).unwrap_or_default();
            events.extend(readers.into_iter().map(|(request, tile)| Event::Delivered { request, tile }));
        }
        for action in schedule.on_event(now, event) {
            match action {
                Action::Send { call, flights, .. } => {
                    let done = |(flight, _)| Event::TileDone { call, flight, took: ms(1) };
                    events.extend(flights.into_iter().map(done));
                    events.push_back(Event::CallEnded { call });
                }
                Action::Join { request, tile, flight } => {
                    of_flight.entry(flight).or_default().push((request, tile));
                }
                action => panic!("{action:?}"),
            }
        }
    }
    told
}

fn schedule(workers: u32) -> Schedule {
    let mut schedule = Schedule::new(Rules::default());
    for worker in 0..workers {
        let ready = Event::WorkerReady { worker: format!("w{worker}"), slots: 2, memory_mib: 4000 };
        schedule.on_event(Now::ZERO, ready);
    }
    schedule
}

fn submission(request: u64, tiles: i64) -> Submission {
    Submission {
        request: RequestId(request),
        tenant: Arc::from(["a", "b", "c", "d"][request as usize % 4]),
        work: hash(request as u8),
        place: hash(request as u8),
        tiles: (0..tiles)
            .map(|at| TileId { row: at / 1000, col: at % 1000 + request as i64 * 1000 })
            .collect(),
        peak_mib: 10,
        result_bytes: 1024,
        cost: ms(1),
        deadline: Duration::from_secs(1_000_000),
        patience: ms(5000),
        is_shareable: true,
    }
}

/// Prints figures, which mean something with `--config profile.dev.package.graticule-coordinator.opt-level=3`
/// as cargo's first argument, and `-- --ignored --nocapture` as its last ones.
#[test]
#[ignore = "a measurement"]
fn speed_of_the_schedule() {
    for (what, requests, tiles) in [
        ("one request of 100,000 tiles", 1, 100_000),
        ("100 requests of 1,000 tiles", 100, 1000),
        ("20,000 requests of a tile", 20_000, 1),
        ("one request of 1,000,000 tiles", 1, 1_000_000),
    ] {
        let mut schedule = schedule(200);
        schedule.rules.waiting_max = usize::MAX;
        schedule.rules.wait_max = Duration::MAX;
        let submissions = (0..requests).map(|request| submission(request, tiles)).collect();
        let start = Instant::now();
        let events = run(&mut schedule, submissions);
        let took = start.elapsed();
        let tiles = requests as i64 * tiles;
        println!(
            "{what}, 200 workers: {:.2} s, {:.0} events/s, {:.0} tiles/s",
            took.as_secs_f64(),
            events as f64 / took.as_secs_f64(),
            tiles as f64 / took.as_secs_f64()
        );
        schedule.check_nothing_is_left();
        // 100,000 tiles in a minute is what the cluster is to do; here it must be next to nothing.
        assert!(took.as_secs_f64() * 100_000.0 / (tiles as f64) < 30.0, "too slow, if this is optimized");
    }
}
