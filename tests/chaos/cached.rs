//! Redis that is killed, emptied, full, frozen, absent, slow or lying: it costs time, never a pixel.

use std::time::{Duration, Instant};

use graticule_tests::cases::{self, Case};
use graticule_tests::colorado::Imagery;
use graticule_tests::fleet::{Fleet, Setup};
use graticule_tests::proxy::{Proxy, Side, Weather};
use graticule_tests::redis::Redis;
use graticule_tests::until;
use redis::AsyncCommands;

use crate::turn;

/// Bytes in front of what is remembered, in Redis: damage there is found without a checksum.
const HEADER_BYTES: usize = 32;

/// Names of what workers remember.
const NAMES: &str = "graticule:t:*";

/// The quick cases, and how many blocks of theirs are remembered at least.
async fn remembered() -> Vec<Case> {
    vec![cases::focal().await, cases::stages().await]
}

/// A fleet whose workers forget everything but what Redis has.
async fn forgetful(imagery: &Imagery, url: &str) -> Fleet {
    Fleet::start(imagery, &Setup::default().with_cache(url)).await
}

/// Workers that remember nothing of their own.
async fn forget(fleet: &mut Fleet) {
    for worker in &mut fleet.workers {
        worker.kill().await;
        worker.restart().await;
    }
    fleet.has_workers(2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis"]
async fn redis_is_killed_emptied_frozen_and_back() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let mut server = Redis::start().await;
    let mut fleet = forgetful(&imagery, &server.url()).await;
    let case = cases::stages().await;
    fleet.computes(&case).await;
    assert!(server.entries().await > 0, "something is remembered");
    let started = Instant::now();
    fleet.computes(&case.clone().anew()).await;
    let undisturbed = started.elapsed();

    let _: () = server.run(&["FLUSHALL"]).await;
    fleet.computes(&case).await;
    server.freeze(true);
    forget(&mut fleet).await;
    let started = Instant::now();
    fleet.computes(&case).await;
    // Fifty milliseconds a look-up until it is left alone after five, at each worker.
    let limit = 3 * undisturbed + Duration::from_secs(2);
    assert!(started.elapsed() < limit, "{:?}, {undisturbed:?} undisturbed", started.elapsed());
    server.freeze(false);
    fleet.computes(&case).await;
    server.kill().await;
    forget(&mut fleet).await;
    fleet.computes(&case).await;
    server.restart().await;
    // It is used again once the workers have noticed.
    let used_again = async {
        while server.entries().await == 0 {
            forget(&mut fleet).await;
            fleet.computes(&case).await;
        }
    };
    graticule_tests::soon("something is remembered again", used_again).await;
}

/// Expected: no wrong pixel, and what is damaged is deleted or replaced.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis"]
async fn redis_lies() {
    let _turn = turn().await;
    flips(2, 7).await;
}

/// Flips one bit of every entry that was remembered, at random, then computes with what is left; so many
/// times. Returns the number of flips.
async fn flips(rounds: usize, seed: u64) -> usize {
    let imagery = Imagery::committed();
    let server = Redis::start().await;
    let mut fleet = forgetful(&imagery, &server.url()).await;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut connection = server.connection().await;
    let mut flips = 0;
    for round in 0..rounds {
        for case in remembered().await {
            fleet.computes(&case).await;
        }
        // Nobody waits for what is written: the last is there when the number stays.
        let names: Vec<String> = stable(&server).await;
        assert!(names.len() > 20, "{names:?}");
        for name in &names {
            let mut value: Vec<u8> = connection.get(name).await.unwrap();
            // The header is a small part of an entry and decides most: it gets a quarter of the flips.
            let at = if random.u8(0..4) == 0 {
                random.usize(0..HEADER_BYTES.min(value.len()))
            } else {
                random.usize(0..value.len())
            };
            value[at] ^= 1 << random.u8(0..8);
            let _: () = connection.set(name, value).await.unwrap();
            flips += 1;
        }
        forget(&mut fleet).await;
        for case in remembered().await {
            let summary = fleet.computes(&case).await;
            assert_eq!(summary.tiles_from_cache, 0, "round {round}: {} took what is damaged", case.name);
        }
    }
    flips
}

/// The names of all entries, once they stay the same.
async fn stable(server: &Redis) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut same = 0;
    let is_stable = async || {
        let mut now: Vec<String> = server.run(&["KEYS", NAMES]).await;
        now.sort();
        same = if now == names && !now.is_empty() { same + 1 } else { 0 };
        names = now;
        same == 5
    };
    until("entries that stay the same", is_stable).await;
    names
}

mod chaos {
    use super::*;
    use graticule_tests::soon;

    /// Expected: 0 wrong pixels.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn ten_thousand_flips() {
        let _turn = turn().await;
        let (mut done, mut seed) = (0, 1);
        while done < 10_000 {
            done += flips(20, seed).await;
            seed += 1;
            eprintln!("{done} flips, 0 wrong pixels");
        }
    }

    /// Expected: right, whatever is refused or evicted.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn full_and_evicting() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let server = Redis::start().await;
        let mut fleet = forgetful(&imagery, &server.url()).await;
        for (policy, memory) in
            [("noeviction", "1mb"), ("allkeys-lru", "1500kb"), ("allkeys-random", "1200kb")]
        {
            let _: () = server.run(&["CONFIG", "SET", "maxmemory-policy", policy]).await;
            let _: () = server.run(&["CONFIG", "SET", "maxmemory", memory]).await;
            for case in cases::all().await {
                fleet.computes(&case).await;
                forget(&mut fleet).await;
                fleet.computes(&case).await;
            }
        }
    }

    /// Expected: right, and not much slower, on links that do everything links do, corruption too.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn behind_a_bad_link() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let server = Redis::start().await;
        let link = Proxy::before(server.address()).await;
        let mut fleet = forgetful(&imagery, &link.url("redis")).await;
        let corrupt = Weather { corrupt_every: Some(3000), ..Weather::default() };
        for case in [cases::ndvi().await, cases::stages().await] {
            fleet.computes(&case).await;
            for (name, weather) in [
                ("200 ms", Weather::slow(200, 50)),
                ("narrow", Weather::narrow(1_000_000)),
                ("deaf", Weather::HELD),
                ("corrupt", corrupt),
            ] {
                for side in [Side::Client, Side::Server] {
                    forget(&mut fleet).await;
                    link.set(side, weather);
                    fleet.computes(&case).await;
                    link.heal();
                    eprintln!("{}: {name} from {side:?}", case.name);
                }
            }
            for end in [Proxy::cut, Proxy::reset, Proxy::half_open] {
                forget(&mut fleet).await;
                let asking = fleet.busy_with(&case.clone(), 0).await;
                end(&link);
                asking.outcome().await.is_right();
            }
            link.open(false);
            link.reset();
            forget(&mut fleet).await;
            fleet.computes(&case).await;
            link.heal();
        }
    }

    /// Expected: right, in time, while it comes and goes.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn it_comes_and_goes() {
        let _turn = turn().await;
        let imagery = Imagery::committed();
        let mut server = Redis::start().await;
        let mut fleet = forgetful(&imagery, &server.url()).await;
        for case in cases::all().await {
            let asking = fleet.busy_with(&case.clone().anew(), 0).await;
            server.kill().await;
            asking.outcome().await.is_right();
            let asking = fleet.asking(&case);
            server.restart().await;
            asking.outcome().await.is_right();
            let asking = fleet.asking(&case);
            server.freeze(true);
            asking.outcome().await.is_right();
            let asking = fleet.asking(&case);
            server.freeze(false);
            asking.outcome().await.is_right();
            let asking = fleet.asking(&case);
            let _: () = soon("a flush", server.run(&["FLUSHALL"])).await;
            asking.outcome().await.is_right();
        }
    }
}
