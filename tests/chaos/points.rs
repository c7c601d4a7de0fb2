//! Faults at named points of the code: processes that crash, err, hang and dawdle exactly there.

use std::time::{Duration, Instant};

use graticule_tests::cases;
use graticule_tests::colorado::{Imagery, examples};
use graticule_tests::fleet::{Fleet, Outcome, Setup, ask, ask_again, ask_by};
use graticule_tests::process::{Process, graticule_with_failpoints};
use graticule_tests::redis::Redis;

use crate::{HUNG_NOTICED_WITHIN, WORK, turn};

/// Points of a tile's way through a worker, in its order.
const TILE: [&str; 6] = [
    "worker.before_open",
    "worker.mid_read",
    "worker.after_compute",
    "worker.before_first_piece",
    "worker.mid_pieces",
    "worker.before_done",
];

/// Points of a request's way through a coordinator.
const REQUEST: [&str; 4] = [
    "coordinator.after_plan",
    "coordinator.before_send",
    "coordinator.mid_pass_on",
    "coordinator.before_summary",
];

/// Time that a client gives a request which may hang.
const DEADLINE: Duration = Duration::from_secs(8);

/// A request whose first worker has a fault at a point, once; the fleet as it is afterwards.
async fn once_at_a_worker(imagery: &Imagery, setup: &Setup, point: &str, fault: &str) -> (Fleet, Outcome) {
    let setup = setup.clone().with_worker_fault(&format!("{point}=1*off->1*return({fault})"));
    let mut fleet = Fleet::start(imagery, &setup).await;
    let started = Instant::now();
    // Tiles of several pieces, since points lie between them.
    let outcome = ask_by(&fleet.endpoint(0), &cases::mosaic().await.anew(), DEADLINE).await;
    eprintln!("{point} {fault}: {} after {:?}", outcome.name(), started.elapsed());
    fleet.workers[0].fails_at(point).await;
    (fleet, outcome)
}

/// Expected: the right pixels, by the other worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_crashes_where_it_hurts() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    for point in ["worker.mid_read", "worker.mid_pieces", "worker.before_done"] {
        let (mut fleet, outcome) = once_at_a_worker(&imagery, &Setup::default(), point, "crash").await;
        outcome.is_right();
        assert_eq!(fleet.workers[0].ended().await.signal, Some(6), "{point}: it is gone");
        fleet.workers[0].restart().await;
        fleet.has_workers(2).await;
    }
}

/// Expected: the right pixels from the other coordinator.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_crashes_in_the_middle_of_its_answer() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    once_at_a_coordinator(&imagery, "coordinator.mid_pass_on", "crash").await;
}

async fn once_at_a_coordinator(imagery: &Imagery, point: &str, fault: &str) {
    let setup = Setup {
        coordinators: 2,
        coordinator_faults: vec![format!("{point}=1*return({fault})")],
        ..Setup::default()
    };
    let mut fleet = Fleet::start(imagery, &setup).await;
    let case = cases::mosaic().await.anew();
    let started = Instant::now();
    let outcome = ask_by(&fleet.endpoint(0), &case, DEADLINE).await;
    eprintln!("{point} {fault}: {} after {:?}", outcome.name(), started.elapsed());
    fleet.coordinators[0].fails_at(point).await;
    match (fault, &outcome) {
        ("crash", Outcome::Failed { may_retry: true, .. }) => {
            assert_eq!(fleet.coordinators[0].ended().await.signal, Some(6), "{point}: it is gone");
            fleet.coordinators[0].restart().await;
            fleet.everybody_is_known().await;
        }
        ("hang", Outcome::Failed { class: "timeout", .. }) | ("error", Outcome::Failed { .. }) => {}
        ("error" | "delay:500", Outcome::Right(_)) => {}
        _ => panic!("{point} {fault}: {outcome:?}"),
    }
    // The other one, and this one afterwards.
    ask(&fleet.endpoint(1), &case, WORK).await.is_right();
    ask_again(&[fleet.endpoint(0), fleet.endpoint(0)], &case, WORK).await.is_right();
}

mod chaos {
    use super::*;

    /// Expected: a crash and an error cost a retry; a delay its time; who hangs in a thread cannot be helped
    /// before the client's deadline, and nobody else is concerned.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn every_point_of_a_tile_in_every_way() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let setup = Setup { slots: 2, ..Setup::default() };
        for point in TILE {
            for fault in ["crash", "error", "hang", "delay:500"] {
                let (mut fleet, outcome) = once_at_a_worker(&imagery, &setup, point, fault).await;
                let may_wait = if fault == "hang" { &["timeout"][..] } else { &[] };
                outcome.is_right_or(may_wait);
                if fault == "crash" {
                    assert_eq!(fleet.workers[0].ended().await.signal, Some(6), "{point}: it is gone");
                    fleet.workers[0].restart().await;
                }
                fleet.has_workers(2).await;
                ask(&fleet.endpoint(0), &cases::mosaic().await.anew(), WORK).await.is_right();
            }
        }
    }

    /// Expected: what the cache does costs time at most; a crash a retry.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn every_point_of_the_cache_in_every_way() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        for point in ["cache.before_get", "cache.before_put"] {
            for fault in ["crash", "error", "hang", "delay:500"] {
                let server = Redis::start().await;
                let setup = Setup::default()
                    .with_cache(&server.url())
                    .with_worker_fault(&format!("{point}=1*return({fault})"));
                let mut fleet = Fleet::start(&imagery, &setup).await;
                let outcome = ask_by(&fleet.endpoint(0), &cases::stages().await, WORK).await;
                eprintln!("{point} {fault}: {}", outcome.name());
                outcome.is_right();
                fleet.workers[0].fails_at(point).await;
                if fault == "crash" {
                    assert_eq!(fleet.workers[0].ended().await.signal, Some(6), "{point}: it is gone");
                }
            }
        }
    }

    /// Expected: right; a worker that crashed or hangs does not come back by itself, any other does.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn a_heartbeat_in_every_way() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let point = "register.before_heartbeat";
        for fault in ["crash", "error", "hang", "delay:500"] {
            let setup = Setup::default().with_worker_fault(&format!("{point}=1*return({fault})"));
            let mut fleet = Fleet::start(&imagery, &setup).await;
            fleet.workers[0].fails_at(point).await;
            for _ in 0..3 {
                fleet.computes(&cases::stages().await.anew()).await;
            }
            if fault == "crash" {
                fleet.workers[0].ended().await;
                fleet.workers[0].restart().await;
            }
            if fault == "hang" {
                let hung = Instant::now();
                fleet.coordinators[0].knows(1).await;
                assert!(hung.elapsed() < HUNG_NOTICED_WITHIN, "{:?}", hung.elapsed());
                fleet.computes(&cases::stages().await.anew()).await;
            } else {
                fleet.has_workers(2).await;
            }
        }
    }

    /// Expected: an error in time, which a client may mend at the other coordinator.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn every_point_of_a_request_in_every_way() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        for point in REQUEST {
            for fault in ["crash", "error", "hang", "delay:500"] {
                once_at_a_coordinator(&imagery, point, fault).await;
            }
        }
    }

    /// Expected: all or nothing of it is registered, and it can be registered again.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn registering_imagery_in_every_way() {
        let _turn = turn().await;
        for point in ["catalog.before_put", "catalog.after_put"] {
            for fault in ["crash", "error"] {
                let imagery = Imagery::committed();
                let data = imagery.data().display().to_string();
                let folder = examples().join("colorado").display().to_string();
                let add = |faults: &str| {
                    let mut command = std::process::Command::new(graticule_with_failpoints());
                    command.args(["--data", &data, "catalog", "add", &folder]).env("FAILPOINTS", faults);
                    Process::of(command)
                };
                let ended = add(&format!("{point}=1*return({fault})")).ended().await;
                assert!(ended.stderr.contains(&format!("failpoint `{point}`")), "{}", ended.stderr);
                assert_ne!(ended.code, Some(0), "{point} {fault}: {}", ended.stderr);
                let ended = add("").ended().await;
                assert_eq!(ended.code, Some(0), "{point} {fault}: {}", ended.stderr);
                let fleet = Fleet::start(&imagery, &Setup::default()).await;
                fleet.computes(&cases::stages().await).await;
            }
        }
    }

    /// Expected: a tile that kills every worker ends as an error and is not tried for ever; the others go on.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn a_tile_that_kills_workers_is_given_up() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let deadly = "worker.before_open=return(crash)".to_owned();
        let setup = Setup { worker_faults: vec![deadly.clone(); 2], ..Setup::default() };
        let mut fleet = Fleet::start(&imagery, &setup).await;
        let case = cases::focal().await.anew();
        let asking = fleet.asking(&case);
        let mut deaths = 0;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !asking.is_over() {
            for worker in &mut fleet.workers {
                if !worker.process().is_running() {
                    deaths += 1;
                    worker.ended().await;
                    worker.restart_with(&deadly).await;
                }
            }
            look.tick().await;
        }
        let outcome = asking.outcome().await;
        eprintln!("{deaths} workers died: {outcome:?}");
        assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
        assert!((2..=12).contains(&deaths), "{deaths}");
        for worker in &mut fleet.workers {
            worker.kill().await;
            worker.restart().await;
        }
        fleet.everybody_is_known().await;
        fleet.computes(&cases::mosaic().await).await;
    }
}
