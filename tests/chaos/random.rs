//! Random faults at random times, from a seed that is printed: `make chaos CHAOS_SEED=… CHAOS_ROUNDS=…`.

use std::time::{Duration, Instant};

use graticule_tests::cases;
use graticule_tests::colorado::Imagery;
use graticule_tests::fleet::{Fleet, Outcome, Setup, ask_again};
use graticule_tests::proxy::{Side, Weather};

use crate::{HUNG_NOTICED_WITHIN, WORK, turn};

/// What happens, and to which of the workers, coordinators or links.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillWorker(usize),
    StopWorker(usize),
    KillCoordinator(usize),
    StopCoordinator(usize),
    CutLink(usize),
    ResetLink(usize),
    HalfOpenLink(usize),
    DeafLink(usize, Side),
    SlowLink(usize),
    ClientGone,
}

impl Fault {
    fn any(random: &mut fastrand::Rng, links: usize) -> Fault {
        let (two, link) = (random.usize(0..2), random.usize(0..links));
        match random.u8(0..10) {
            0 => Fault::KillWorker(two),
            1 => Fault::StopWorker(two),
            2 => Fault::KillCoordinator(two),
            3 => Fault::StopCoordinator(two),
            4 => Fault::CutLink(link),
            5 => Fault::ResetLink(link),
            6 => Fault::HalfOpenLink(link),
            7 => Fault::DeafLink(link, if random.bool() { Side::Client } else { Side::Server }),
            8 => Fault::SlowLink(link),
            _ => Fault::ClientGone,
        }
    }
}

/// Expected: the right pixels, at the first or the second coordinator, within the time for noticing silence
/// twice; afterwards everybody is there.
async fn rounds(seed: u64, rounds: u64) {
    let _turn = turn().await;
    eprintln!("CHAOS_SEED={seed} CHAOS_ROUNDS={rounds}");
    let imagery = Imagery::committed();
    let setup = Setup { coordinators: 2, ..Setup::default() };
    let mut fleet = Fleet::start(&imagery, &setup.proxied()).await;
    let cases = cases::all().await;
    // A fault may come at any time of a request, and some after.
    let mut lasting = Vec::new();
    for case in &cases {
        let started = Instant::now();
        fleet.computes(&case.clone().anew()).await;
        lasting.push(started.elapsed().mul_f64(1.2));
    }
    for round in 0..rounds {
        // Each round has a seed of its own: one alone can be repeated.
        let mut random = fastrand::Rng::with_seed(seed + round);
        let at = random.usize(0..cases.len());
        let case = cases[at].clone().anew();
        let links = fleet.links().count();
        let fault = Fault::any(&mut random, links);
        let after = lasting[at].mul_f64(random.f64());
        eprintln!("seed {}: {} with {fault:?} after {after:?}", seed + round, case.name);
        let endpoints = [fleet.endpoint(0), fleet.endpoint(1)];
        let asked = Instant::now();
        let asking = {
            let case = case.clone();
            tokio::spawn(async move { ask_again(&endpoints, &case, 2 * (HUNG_NOTICED_WITHIN + WORK)).await })
        };
        tokio::time::sleep(after).await;
        match fault {
            Fault::KillWorker(at) => fleet.workers[at].kill().await,
            Fault::StopWorker(at) => fleet.workers[at].signal("STOP"),
            Fault::KillCoordinator(at) => fleet.coordinators[at].kill().await,
            Fault::StopCoordinator(at) => fleet.coordinators[at].signal("STOP"),
            Fault::CutLink(at) => fleet.link(at).cut(),
            Fault::ResetLink(at) => fleet.link(at).reset(),
            Fault::HalfOpenLink(at) => fleet.link(at).half_open(),
            Fault::DeafLink(at, side) => fleet.link(at).set(side, Weather::HELD),
            Fault::SlowLink(at) => fleet.link(at).set_both(Weather::slow(100, 100)),
            Fault::ClientGone => asking.abort(),
        }
        match asking.await {
            Ok(outcome) => {
                // The coordinator that was killed may have been the second.
                let is_clean = matches!(outcome, Outcome::Failed { may_retry: true, .. });
                let concerns_both = matches!(fault, Fault::KillCoordinator(1) | Fault::StopCoordinator(1));
                assert!(outcome.was_right() || is_clean && concerns_both, "{outcome:?}");
                eprintln!("  {} after {:?}", outcome.name(), asked.elapsed());
            }
            Err(_) => {
                let idle = fleet.workers_idle(Instant::now()).await;
                assert!(idle < Duration::from_secs(2), "{idle:?}");
            }
        }
        match fault {
            Fault::KillWorker(at) => fleet.workers[at].restart().await,
            Fault::StopWorker(at) => fleet.workers[at].signal("CONT"),
            Fault::KillCoordinator(at) => fleet.coordinators[at].restart().await,
            Fault::StopCoordinator(at) => fleet.coordinators[at].signal("CONT"),
            _ => fleet.links().for_each(graticule_tests::proxy::Proxy::heal),
        }
        for coordinator in 0..2 {
            fleet.coordinator_has_workers(coordinator, 2).await;
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how a run is repeated is no setting of the engine")]
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().expect("a number") }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_faults() {
    rounds(100, 3).await;
}

mod chaos {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn as_many_as_asked_for() {
        rounds(number("CHAOS_SEED", fastrand::u64(0..1_000_000)), number("CHAOS_ROUNDS", 20)).await;
    }
}
