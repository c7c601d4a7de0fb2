//! Coordinators that die, hang and come back, alone and one of two.

use std::time::{Duration, Instant};

use graticule_tests::cases;
use graticule_tests::colorado::Imagery;
use graticule_tests::fleet::{Fleet, Outcome, Setup, ask, ask_again};

use crate::{HUNG_NOTICED_WITHIN, WORK, turn};

/// Expected: an error at once; the right pixels from the other, at once; the workers stop what nobody waits
/// for; from both after it came back.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_is_killed() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let mut fleet = Fleet::start(&imagery, &Setup { coordinators: 2, ..Setup::default() }).await;
    let case = cases::ndvi().await.anew();
    let endpoints = [fleet.endpoint(0), fleet.endpoint(1)];
    let asking = fleet.busy_with(&case, 0).await;
    fleet.coordinators[0].kill().await;
    let killed = Instant::now();
    let outcome = asking.outcome().await;
    assert!(matches!(outcome, Outcome::Failed { may_retry: true, .. }), "{outcome:?}");
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    ask_again(&endpoints, &case, WORK).await.is_right();
    fleet.coordinators[0].restart().await;
    fleet.everybody_is_known().await;
    for endpoint in &endpoints {
        ask(endpoint, &case, WORK).await.is_right();
    }
}

/// Expected: workers find the new one by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_one_is_killed_and_comes_back() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
    let case = cases::stages().await;
    fleet.computes(&case).await;
    fleet.coordinators[0].kill().await;
    let outcome = fleet.ask(&case).await;
    assert!(matches!(outcome, Outcome::Failed { may_retry: true, .. }), "{outcome:?}");
    fleet.coordinators[0].restart().await;
    fleet.everybody_is_known().await;
    fleet.computes(&case).await;
}

mod chaos {
    use super::*;

    /// Expected: its clients notice within 15 s; the other one is not concerned; it goes on where it was.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn one_of_two_hangs() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup { coordinators: 2, ..Setup::default() }).await;
        let case = cases::ndvi().await.anew();
        let endpoints = [fleet.endpoint(0), fleet.endpoint(1)];
        let asking = fleet.busy_with(&case, 0).await;
        fleet.coordinators[0].signal("STOP");
        let stopped = Instant::now();
        ask(&endpoints[1], &case, WORK).await.is_right();
        let outcome = asking.outcome().await;
        assert!(matches!(outcome, Outcome::Failed { may_retry: true, .. }), "{outcome:?}");
        eprintln!("hung coordinator: noticed after {:?}", stopped.elapsed());
        assert!(stopped.elapsed() < HUNG_NOTICED_WITHIN + Duration::from_secs(3), "{:?}", stopped.elapsed());
        fleet.coordinators[0].signal("CONT");
        fleet.has_workers(2).await;
        ask(&endpoints[0], &case, WORK).await.is_right();
    }

    /// Expected: 0 when told to end, in time, in the middle of a request; its client may ask the other.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn one_of_two_is_told_to_end_in_the_middle() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup { coordinators: 2, ..Setup::default() }).await;
        let case = cases::ndvi().await.anew();
        let asking = fleet.busy_with(&case, 0).await;
        fleet.coordinators[0].signal("TERM");
        let outcome = asking.outcome().await;
        let may_retry = matches!(outcome, Outcome::Failed { may_retry: true, .. });
        assert!(outcome.was_right() || may_retry, "{outcome:?}");
        let ended = fleet.coordinators[0].ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ask(&fleet.endpoint(1), &case, WORK).await.is_right();
    }
}
