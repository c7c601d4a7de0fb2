//! Links that are slow, narrow, cut, deaf in one direction, reset and half open.

use std::time::{Duration, Instant};

use graticule_tests::cases::{self, Case};
use graticule_tests::colorado::Imagery;
use graticule_tests::fleet::{Fleet, Outcome, Setup};
use graticule_tests::proxy::{Proxy, Side, Weather};

use crate::{HUNG_NOTICED_WITHIN, WORK, turn};

/// What happens to a link.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    Reset,
    HalfOpen,
    HalfClosed(Side),
    /// Nothing arrives of what one side sends, and nothing breaks.
    Deaf(Side),
    DeafBoth,
    /// Connections end and no new ones are taken.
    Refused,
}

impl Fault {
    const ALL: [Fault; 9] = [
        Fault::Cut,
        Fault::Reset,
        Fault::HalfOpen,
        Fault::HalfClosed(Side::Client),
        Fault::HalfClosed(Side::Server),
        Fault::Deaf(Side::Client),
        Fault::Deaf(Side::Server),
        Fault::DeafBoth,
        Fault::Refused,
    ];

    fn happens_to(self, link: &Proxy) {
        match self {
            Fault::Cut => link.cut(),
            Fault::Reset => link.reset(),
            Fault::HalfOpen => link.half_open(),
            Fault::HalfClosed(side) => link.half_close(side),
            Fault::Deaf(side) => link.set(side, Weather::HELD),
            Fault::DeafBoth => link.set_both(Weather::HELD),
            Fault::Refused => {
                link.open(false);
                link.reset();
            }
        }
    }
}

/// One request with a fault of a link in its middle; how it ended and how long after the fault.
async fn disturbed(
    fleet: &mut Fleet,
    case: &Case,
    fault: Fault,
    link: impl Fn(&Fleet) -> &Proxy,
) -> (Outcome, Duration) {
    let asking = fleet.busy_with(case, 0).await;
    fault.happens_to(link(fleet));
    let happened = Instant::now();
    let outcome = asking.outcome().await;
    let after = happened.elapsed();
    eprintln!("{fault:?}: {} after {after:?}", outcome.name());
    link(fleet).heal();
    (outcome, after)
}

/// Expected: the right pixels, by the other worker.
#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_worker_that_break() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let mut fleet = Fleet::start(&imagery, &Setup::default().proxied()).await;
    let case = cases::ndvi().await.anew();
    for fault in [Fault::Reset, Fault::Refused] {
        let (outcome, after) = disturbed(&mut fleet, &case, fault, |fleet| fleet.workers[0].proxy()).await;
        outcome.is_right();
        assert!(after < WORK, "{fault:?}: {after:?}");
        fleet.has_workers(2).await;
    }
}

/// Expected: slower, right, and nobody gives anybody up.
#[tokio::test(flavor = "multi_thread")]
async fn links_with_a_fifth_of_a_second() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let fleet = Fleet::start(&imagery, &Setup::default().proxied()).await;
    for link in fleet.links() {
        link.set_both(Weather::slow(200, 50));
    }
    for case in [cases::focal().await.anew(), cases::mosaic().await.anew()] {
        let summary = fleet.computes(&case).await;
        assert_eq!(summary.retries, 0, "{}", case.name);
    }
}

mod chaos {
    use super::*;

    /// Expected: the right pixels by the other worker, within the time for noticing silence; afterwards both
    /// are there.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn calls_to_a_worker_in_every_way() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup::default().proxied()).await;
        let case = cases::ndvi().await.anew();
        for fault in Fault::ALL {
            let (outcome, after) =
                disturbed(&mut fleet, &case, fault, |fleet| fleet.workers[0].proxy()).await;
            outcome.is_right();
            assert!(after < HUNG_NOTICED_WITHIN + WORK, "{fault:?}: {after:?}");
            fleet.has_workers(2).await;
        }
    }

    /// Expected: the right pixels; a worker whose announcement breaks comes back by itself.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn a_workers_announcement_in_every_way() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup::default().proxied()).await;
        let case = cases::ndvi().await.anew();
        for fault in Fault::ALL {
            let (outcome, after) =
                disturbed(&mut fleet, &case, fault, |fleet| &fleet.registrations[0][0]).await;
            outcome.is_right();
            assert!(after < HUNG_NOTICED_WITHIN + WORK, "{fault:?}: {after:?}");
            fleet.has_workers(2).await;
        }
    }

    /// Expected: an error for this client in the time for noticing silence, and none for the next one.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn a_clients_connection_in_every_way() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut fleet = Fleet::start(&imagery, &Setup::default().proxied()).await;
        let case = cases::ndvi().await.anew();
        for fault in Fault::ALL {
            let (outcome, after) =
                disturbed(&mut fleet, &case, fault, |fleet| fleet.coordinators[0].proxy()).await;
            assert!(!matches!(outcome, Outcome::Wrong | Outcome::Hung), "{fault:?}: {outcome:?}");
            assert!(after < HUNG_NOTICED_WITHIN + WORK, "{fault:?}: {after:?}");
            let idle = fleet.workers_idle(Instant::now()).await;
            assert!(idle < HUNG_NOTICED_WITHIN + Duration::from_secs(2), "{fault:?}: {idle:?}");
            fleet.computes(&case).await;
        }
    }

    /// Expected: slower and right, without retries.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn loss_and_narrow_links() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let fleet = Fleet::start(&imagery, &Setup::default().proxied()).await;
        // A packet that is lost costs its time-out.
        let lossy = Weather { stalls: Some((0.01, Duration::from_millis(400))), ..Weather::slow(20, 10) };
        for (weather, case) in [
            (lossy, cases::ndvi().await.anew()),
            (lossy, cases::mosaic().await.anew()),
            (Weather::narrow(1_000_000), cases::stages().await.anew()),
            (Weather::narrow(1_000_000), cases::focal().await.anew()),
        ] {
            for link in fleet.links() {
                link.set_both(weather);
            }
            let summary = fleet.computes(&case).await;
            assert_eq!(summary.retries, 0, "{}", case.name);
        }
    }
}
