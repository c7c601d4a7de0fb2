//! Workers that die, hang, come back and are of another version.

use std::time::{Duration, Instant};

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::versions;
use graticule_tests::cases;
use graticule_tests::colorado::Imagery;
use graticule_tests::fleet::{Fleet, Setup};
use graticule_tests::soon;
use tonic::Code;

use crate::{HUNG_NOTICED_WITHIN, WORK, turn};

/// Expected: the right pixels, by the other worker; and by both again after it came back.
#[tokio::test(flavor = "multi_thread")]
async fn one_is_killed_in_the_middle() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
    for case in [cases::ndvi().await.anew(), cases::stages().await.anew()] {
        let asking = fleet.busy_with(&case, 0).await;
        fleet.workers[0].kill().await;
        asking.outcome().await.is_right();
        fleet.workers[0].restart().await;
        fleet.has_workers(2).await;
        assert_eq!(fleet.computes(&case).await.workers, 2);
    }
}

/// Expected: the right pixels of other rasters, too.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs shared"]
async fn shared_rasters_while_workers_are_killed() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    cases::register_with(&imagery, &cases::shared_folders());
    let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
    for case in cases::shared().await {
        for at in 0..2 {
            let asking = fleet.busy_with(&case.clone().anew(), at).await;
            fleet.workers[at].kill().await;
            asking.outcome().await.is_right();
            fleet.workers[at].restart().await;
            fleet.has_workers(2).await;
        }
    }
}

/// Expected: an error that says so, within ten seconds and the time for noticing; the right pixels once
/// workers are back.
#[tokio::test(flavor = "multi_thread")]
async fn all_are_killed_and_come_back() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
    let case = cases::ndvi().await.anew();
    let asking = fleet.busy_with(&case, 0).await;
    for worker in &mut fleet.workers {
        worker.kill().await;
    }
    let killed = Instant::now();
    asking.outcome().await.is_right_or(&["unavailable"]);
    assert!(killed.elapsed() < Duration::from_secs(12), "{:?}", killed.elapsed());
    // Who asks now gets an error in time, too, and who waits when one comes back is served.
    let asked = Instant::now();
    let outcome = fleet.ask(&case).await;
    assert_eq!(outcome.name(), "unavailable", "{outcome:?}");
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
    let asking = fleet.asking(&case);
    fleet.workers[1].restart().await;
    asking.outcome().await.is_right();
    fleet.workers[0].restart().await;
    fleet.has_workers(2).await;
    fleet.computes(&case).await;
}

/// Expected: refused with a reason; the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_another_version_is_refused() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let fleet = Fleet::start(&imagery, &Setup { workers: 1, ..Setup::default() }).await;
    let other = |versions| pb::RegisterRequest {
        worker: "another".into(),
        address: "http://127.0.0.1:9".into(),
        slots: 64,
        memory_bytes: 64 << 30,
        versions: Some(versions),
        ..pb::RegisterRequest::default()
    };
    let own = versions::own();
    for (what, versions) in [
        ("engine", pb::Versions { engine: "0.0.0-other".into(), ..own.clone() }),
        ("ops", pb::Versions { ops: "0.0.0-other".into(), ..own.clone() }),
        ("GDAL", pb::Versions { gdal: "0.0.0-other".into(), ..own.clone() }),
        ("PROJ", pb::Versions { proj: "0.0.0-other".into(), ..own.clone() }),
    ] {
        let mut client = FleetServiceClient::connect(fleet.endpoint(0)).await.unwrap();
        let refusal = soon("a refusal", client.register(tokio_stream::iter([other(versions)]))).await;
        let refusal = refusal.expect_err("a refusal");
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert!(refusal.message().contains(&format!("{what} 0.0.0-other")), "{}", refusal.message());
    }
    assert_eq!(fleet.computes(&cases::focal().await).await.workers, 1);
}

mod chaos {
    use super::*;

    /// Expected: noticed within 15 s, then the right pixels by the other worker; by both after it goes on.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn one_hangs_and_goes_on() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
        let case = cases::ndvi().await.anew();
        let undisturbed = Instant::now();
        fleet.computes(&case).await;
        let undisturbed = undisturbed.elapsed();
        let asking = fleet.busy_with(&case, 0).await;
        fleet.workers[0].signal("STOP");
        let stopped = Instant::now();
        asking.outcome().await.is_right();
        let noticed = stopped.elapsed().saturating_sub(2 * undisturbed);
        eprintln!(
            "hung worker: answered {:?} after it stopped, {undisturbed:?} undisturbed",
            stopped.elapsed()
        );
        assert!(noticed < HUNG_NOTICED_WITHIN + Duration::from_secs(2), "{noticed:?}");
        fleet.workers[0].signal("CONT");
        fleet.has_workers(2).await;
        assert_eq!(fleet.computes(&case).await.workers, 2);
    }

    /// Expected: the right pixels, however short the time between its ends.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn one_stumbles_again_and_again() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
        let case = cases::ndvi().await.anew();
        let asking = fleet.busy_with(&case, 0).await;
        while !asking.is_over() {
            fleet.workers[0].signal("STOP");
            tokio::time::sleep(Duration::from_millis(300)).await;
            fleet.workers[0].signal("CONT");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        asking.outcome().await.is_right();
    }

    /// Expected: SIGTERM in the middle ends with 0 in time, and the request has the right pixels.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn each_is_told_to_end_in_the_middle() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
        for case in cases::all().await {
            for at in 0..2 {
                let asking = fleet.busy_with(&case.clone().anew(), at).await;
                fleet.workers[at].signal("TERM");
                asking.outcome().await.is_right();
                let ended = fleet.workers[at].ended().await;
                assert_eq!(ended.code, Some(0), "{}", ended.stderr);
                fleet.workers[at].restart().await;
                fleet.has_workers(2).await;
            }
        }
    }

    /// Expected: the right pixels although all workers die in turn, as each tile has three attempts.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn all_die_in_turn_while_there_is_always_one() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
        let case = cases::ndvi().await.anew();
        let asking = fleet.busy_with(&case, 0).await;
        for at in [0, 1] {
            fleet.workers[at].kill().await;
            fleet.workers[at].restart().await;
            fleet.has_workers(2).await;
        }
        let started = Instant::now();
        asking.outcome().await.is_right_or(&["unavailable"]);
        assert!(started.elapsed() < WORK, "{:?}", started.elapsed());
        fleet.computes(&case).await;
    }
}
