//! Clients that go away and clients that do not read.

use std::time::{Duration, Instant};

use graticule_common::status::class_of;
use graticule_tests::cases::{self, Case};
use graticule_tests::client::request;
use graticule_tests::colorado::{Imagery, examples};
use graticule_tests::fleet::{Fleet, Setup, asking, open, receive};
use graticule_tests::proxy::{Proxy, Side, Weather};
use graticule_tests::scenes::{AREA, CRS};
use graticule_tests::{soon, until};

use crate::{WORK, turn};

/// A minute's work and more: the main job at half a metre.
fn minute() -> Case {
    let graft = std::fs::read_to_string(examples().join("ndvi_median.graft.json")).unwrap();
    Case { name: "minute", request: request(&graft, CRS, AREA, 0.5), expected: Vec::new() }.anew()
}

/// Expected: the workers stop within two seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_the_work() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let mut fleet = Fleet::start(&imagery, &Setup::default().proxied()).await;
    // It says that it goes, or it does not.
    for is_polite in [true, false] {
        let before = fleet.worker_cpu();
        let asking = fleet.busy_with(&minute(), 0).await;
        until("the workers work", async || fleet.worker_cpu() > before + Duration::from_millis(500)).await;
        let gone = Instant::now();
        if is_polite {
            asking.abandon();
        } else {
            fleet.coordinators[0].proxy().reset();
        }
        let idle = fleet.workers_idle(gone).await;
        eprintln!("workers idle {idle:?} after the client went (polite: {is_polite})");
        assert!(idle < Duration::from_secs(2), "{idle:?}");
    }
    // Nothing of it is left in anybody's way.
    fleet.computes(&cases::focal().await.anew()).await;
}

/// Expected: who reads nothing takes nothing from the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_in_nobodys_way() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let fleet = Fleet::start(&imagery, &Setup { slots: 2, ..Setup::default() }).await;
    let case = cases::mosaic().await.anew();
    let others = cases::focal().await.anew();
    let mut stopped = Vec::new();
    for _ in 0..4 {
        let mut stream = open(&fleet.endpoint(0), &case.request).await.unwrap();
        soon("a header", stream.message()).await.unwrap();
        stopped.push(stream);
    }
    for _ in 0..5 {
        let started = Instant::now();
        fleet.computes(&others).await;
        assert!(started.elapsed() < WORK / 2, "{:?}", started.elapsed());
    }
    // Who goes on reading in time gets it all.
    let rest = soon("the rest", receive(&mut stopped[0])).await.unwrap();
    assert!(rest.summary.is_some());
}

mod chaos {
    use super::*;

    /// Expected: the right pixels, as slowly as they are read, while others are served at once.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn a_client_reads_a_mebibyte_a_second() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let fleet = Fleet::start(&imagery, &Setup::default().proxied()).await;
        let case = cases::mosaic().await.anew();
        let direct = format!("http://{}", fleet.coordinators[0].address);
        fleet.coordinators[0].proxy().set(Side::Server, Weather::narrow(8 << 20));
        let started = Instant::now();
        let slow = fleet.asking(&case);
        for _ in 0..3 {
            let asked = Instant::now();
            asking(direct.clone(), &cases::focal().await.anew(), WORK).outcome().await.is_right();
            assert!(asked.elapsed() < WORK / 2, "{:?}", asked.elapsed());
        }
        slow.outcome().await.is_right();
        assert!(started.elapsed() > Duration::from_secs(8), "{:?}", started.elapsed());
    }

    /// Expected: cut off after its time without progress, with an error of its own; then nothing is kept.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn a_client_that_stopped_reading_is_cut_off() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut setup = Setup::default().proxied();
        setup.coordinator_arguments.extend(["--slow-reader-s".into(), "5".into()]);
        let fleet = Fleet::start(&imagery, &setup).await;
        let case = cases::mosaic().await.anew();
        let mut stream = open(&fleet.endpoint(0), &case.request).await.unwrap();
        soon("a header", stream.message()).await.unwrap();
        fleet.coordinators[0].proxy().set(Side::Server, Weather::HELD);
        let given_up =
            async || fleet.coordinators[0].describe().await.is_ok_and(|fleet| fleet.requests.is_empty());
        until("the coordinator gives it up", given_up).await;
        fleet.coordinators[0].proxy().heal();
        let ended = soon("an end", receive(&mut stream)).await;
        let status = ended.expect_err("cut off");
        eprintln!("cut off: {status:?}");
        fleet.computes(&cases::focal().await).await;
    }

    /// Expected: they are cut off with an error of their own although they always take something; meanwhile
    /// everybody else is served at once, one who takes a mebibyte a second too.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn clients_that_read_too_slowly_are_cut_off_and_in_nobodys_way() {
        const SLOW: u32 = 40;
        /// A piece of 128 KiB in this time is half of what must be taken.
        const PAUSE: Duration = Duration::from_secs(8);
        /// Afterwards they read what waits for them, as fast as anybody.
        const SLOWLY: Duration = Duration::from_secs(40);
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut setup = Setup { slots: 2, ..Setup::default() };
        setup.coordinator_arguments.extend(["--slow-reader-s".into(), "10".into()]);
        let fleet = Fleet::start(&imagery, &setup).await;
        let (large, small) = (cases::mosaic().await.anew(), cases::focal().await.anew());
        let started = Instant::now();
        let mut slow = Vec::new();
        for at in 0..SLOW {
            // Each has tiles of its own.
            let case = large.clone().with(|options| options.tile_size = 200 + at);
            let mut stream = open(&fleet.endpoint(0), &case.request).await.unwrap();
            slow.push(tokio::spawn(async move {
                loop {
                    match stream.message().await {
                        Ok(Some(_)) if started.elapsed() < SLOWLY => tokio::time::sleep(PAUSE).await,
                        Ok(Some(_)) => {}
                        Ok(None) => return None,
                        Err(status) => return Some(status),
                    }
                }
            }));
        }
        let metered = Proxy::before(fleet.coordinators[0].address).await;
        metered.set(Side::Server, Weather::narrow(8 << 20));
        let steady = asking(metered.url("http"), &large, graticule_tests::PATIENCE);
        let mut served = 0;
        while started.elapsed() < SLOWLY {
            let asked = Instant::now();
            fleet.computes(&small).await;
            assert!(asked.elapsed() < WORK / 2, "{:?}", asked.elapsed());
            served += 1;
        }
        let all_gone =
            async || fleet.coordinators[0].describe().await.is_ok_and(|fleet| fleet.requests.is_empty());
        until("nothing is left of them", all_gone).await;
        let mut cut = 0;
        for slow in slow {
            // Whose tiles had no turn while it read slowly has been let finish.
            let Some(status) = soon("the end of a slow client", slow).await.unwrap() else { continue };
            assert_eq!(class_of(&status).name(), "timeout", "{status:?}");
            assert!(status.message().contains("too slowly"), "{status:?}");
            cut += 1;
        }
        eprintln!("{cut} of {SLOW} slow clients were cut off, {served} others were served meanwhile");
        assert!(cut >= SLOW / 2, "{cut} of {SLOW}");
        steady.outcome().await.is_right();
    }
}
