//! Load: the right pixels while many ask, and figures with `make bench-load`.

use std::time::{Duration, Instant};

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_tests::cases::{self, Case};
use graticule_tests::client::with;
use graticule_tests::colorado::Imagery;
use graticule_tests::fake::FakeWorker;
use graticule_tests::fleet::{Fleet, Setup, connect, open};
use graticule_tests::load::{Load, Usage, quantile};
use graticule_tests::soon;
use tokio::task::JoinSet;

use crate::turn;

/// Expected: all right, some seconds of a hundred clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_get_the_right_pixels() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let fleet = Fleet::start(&imagery, &Setup { slots: 2, ..Setup::default() }).await;
    let load = Load::on(&[fleet.endpoint(0)], cases::tiles(12).await);
    let tally = load.closed(100, Duration::from_secs(3), true).await;
    eprintln!("{tally}");
    assert_eq!((tally.wrong, tally.failures_but("overloaded")), (0, 0), "{tally}");
    assert!(tally.right.len() > 100, "{tally}");
}

/// Expected: one computation, whoever asks; everybody gets it.
#[tokio::test(flavor = "multi_thread")]
async fn one_cold_tile_is_computed_once_for_all() {
    let _turn = turn().await;
    one_cold_tile(100).await;
}

async fn one_cold_tile(clients: usize) {
    let imagery = Imagery::committed();
    let fleet = Fleet::start(&imagery, &Setup { slots: 2, ..Setup::default() }).await;
    // A hundred scenes: long enough for all to be there.
    let case = cases::ndvi().await.with(|options| options.tile_size = 64);
    let load = Load::on(&[fleet.endpoint(0)], vec![case.clone()]);
    let computed = async || fleet.coordinators[0].describe().await.expect("a description").counts;
    let before = computed().await.unwrap_or_default();
    let started = Instant::now();
    let tally = load.once_each(clients).await;
    let took = started.elapsed();
    let after = computed().await.unwrap_or_default();
    let tiles = after.tiles - before.tiles;
    eprintln!("{clients} requests of one cold area: {tiles} tiles computed in {took:?}; {tally}");
    assert_eq!((tally.right.len(), tally.wrong), (clients, 0), "{tally}");
    // As many as one request has.
    assert_eq!(tiles, fleet.computes(&case).await.tiles);
}

/// Expected: no request fails that one retry does not mend, while everybody is restarted in turn.
async fn rolling(clients: usize) {
    let imagery = Imagery::committed();
    let setup = Setup { coordinators: 2, slots: 2, ..Setup::default() };
    let mut fleet = Fleet::start(&imagery, &setup).await;
    let load = Load::on(&[fleet.endpoint(0), fleet.endpoint(1)], cases::tiles(24).await);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(async move { load.closed_until(clients, stopped, true).await });
    for at in 0..fleet.workers.len() {
        fleet.workers[at].signal("TERM");
        let ended = fleet.workers[at].ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        fleet.workers[at].restart().await;
        fleet.everybody_is_known().await;
    }
    for at in 0..fleet.coordinators.len() {
        fleet.coordinators[at].signal("TERM");
        let ended = fleet.coordinators[at].ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        fleet.coordinators[at].restart().await;
        fleet.everybody_is_known().await;
    }
    stop.send_replace(true);
    let tally = soon("the last answers", running).await.unwrap();
    eprintln!("rolling restart of 2 workers and 2 coordinators: {tally}");
    assert_eq!((tally.wrong, tally.failed.len()), (0, 0), "{tally}");
    assert!(tally.right.len() > clients, "{tally}");
}

mod chaos {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "chaos"]
    async fn everybody_is_restarted_under_load() {
        let _turn = turn().await;
        rolling(8).await;
    }
}

fn seconds() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "how long to measure is no setting of the engine")]
    let text = std::env::var("LOAD_SECONDS").unwrap_or_default();
    Duration::from_secs(text.parse().unwrap_or(60))
}

/// The shipped binary, on all processors.
fn shipped() -> Setup {
    Setup { slots: 1, has_failpoints: false, ..Setup::default() }
}

/// More than there are clients: what two of them ask for at the same time is computed once, and would make the
/// peak look higher than it is.
const DISTINCT_TILES: usize = 720;

/// Two hundred clients, then open loops at half of what they reached and at four times as much.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "bench"]
async fn bench_load_small_tiles() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let fleet = Fleet::start(&imagery, &shipped()).await;
    for (name, cases) in [
        ("remembered tiles", cases::tiles(DISTINCT_TILES).await),
        // All of one kind, so that as many answers are as much work whichever are refused.
        (
            "computed tiles",
            cases::tiles(DISTINCT_TILES).await.into_iter().step_by(3).map(Case::anew).collect(),
        ),
    ] {
        let load = Load::on(&[fleet.endpoint(0)], cases);
        load.closed(4, Duration::from_secs(5), false).await;
        println!("{name}");
        let mut peak = 0.0;
        for (what, clients) in [("32 clients", 32), ("200 clients", 200)] {
            let usage = Usage::of(fleet.processes());
            let tally = load.closed(clients, seconds() / if clients == 32 { 4 } else { 1 }, false).await;
            println!("  {what:<12} {tally}\n{}", usage.table(fleet.processes()));
            assert_eq!(tally.wrong, 0);
            peak = tally.goodput().max(peak);
        }
        for (what, factor) in [("half load", 0.5), ("4 x overload", 4.0)] {
            let usage = Usage::of(fleet.processes());
            let tally = load.open(peak * factor, seconds() / 2).await;
            println!("  {what:<12} {tally}\n{}", usage.table(fleet.processes()));
            println!(
                "    goodput {:.0} % of peak; refusals p99 {:.1} ms",
                100.0 * tally.goodput() / peak,
                1e3 * quantile(tally.failed.get("overloaded").map_or(&[][..], |all| all), 0.99).as_secs_f64()
            );
            assert_eq!(tally.wrong, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bench"]
async fn bench_load_one_cold_tile() {
    let _turn = turn().await;
    one_cold_tile(500).await;
}

/// A large result to a client that takes a mebibyte a second; memory of the coordinator.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "bench"]
async fn bench_load_slow_reader() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let fleet = Fleet::start(&imagery, &shipped()).await;
    // Seven results of 312 MiB, as many as the limit on one allows; each read at a mebibyte a second.
    let request = cases::true_colour(512);
    let aoi = pb::Aoi {
        sampling: Some(pb::aoi::Sampling::Resolution(pb::Resolution { x: 2.4, y: 2.4 })),
        ..request.aoi.clone().unwrap_or_default()
    };
    let request = with(pb::ComputeRequest { aoi: Some(aoi), ..request }, |options| options.no_cache = true);
    let usage = Usage::of(fleet.processes());
    let started = Instant::now();
    let mut readers = JoinSet::new();
    for _ in 0..7 {
        let (endpoint, request) = (fleet.endpoint(0), request.clone());
        readers.spawn(async move {
            let mut stream = open(&endpoint, &request).await.expect("a stream");
            let mut read = 0u64;
            let started = tokio::time::Instant::now();
            while started.elapsed() < seconds() {
                let Some(answer) = stream.message().await.expect("a message") else { break };
                if let Some(Message::Chunk(chunk)) = answer.message {
                    read += chunk.data.len() as u64;
                    tokio::time::sleep_until(
                        started + Duration::from_secs_f64(read as f64 / f64::from(1 << 20)),
                    )
                    .await;
                }
            }
            read
        });
    }
    let mut most = 0;
    let mut look = tokio::time::interval(Duration::from_millis(200));
    while started.elapsed() < seconds() {
        look.tick().await;
        most = most.max(fleet.processes()[0].1.memory_bytes());
    }
    let read: u64 = readers.join_all().await.into_iter().sum();
    println!("7 slow readers took {} MiB; coordinator at most {} MiB", read >> 20, most >> 20);
    println!("{}", usage.table(fleet.processes()));
    assert!(most <= 256 << 20, "{} MiB", most >> 20);
}

/// How often workers of a test announce themselves.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Tiles that take no time, by two hundred workers in this process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "bench"]
async fn bench_load_a_hundred_thousand_noops() {
    let _turn = turn().await;
    let imagery = Imagery::committed();
    let fleet = Fleet::start(&imagery, &Setup { workers: 0, ..shipped() }).await;
    let mut workers = JoinSet::new();
    for at in 0..200 {
        let address = fleet.coordinators[0].address;
        let worker = FakeWorker::start(address, &format!("noop-{at}"), 4, Some(HEARTBEAT)).await;
        workers.spawn(worker.answer_all(b"noop".to_vec()));
    }
    fleet.coordinators[0].knows(200).await;
    // About as many tiles of 16 × 16 pixels of one band as one request may have.
    let request = cases::true_colour(16);
    let graft = String::from_utf8(request.graft).expect("text").replace("red green blue", "red");
    let aoi = pb::Aoi {
        bounds: Some(pb::Bounds { west: 330_000.0, south: 5_816_984.0, east: 335_040.0, north: 5_822_024.0 }),
        sampling: Some(pb::aoi::Sampling::Resolution(pb::Resolution { x: 1.0, y: 1.0 })),
        ..request.aoi.clone().unwrap_or_default()
    };
    let request = pb::ComputeRequest { graft: graft.into_bytes(), aoi: Some(aoi), ..request };
    let request = with(request, |options| options.no_cache = true);
    let usage = Usage::of(fleet.processes());
    let started = Instant::now();
    let mut client = connect(&fleet.endpoint(0)).await.expect("a connection");
    let mut stream = client.compute(request).await.expect("a stream").into_inner();
    let (mut tiles, mut chunks, mut summary, mut first) = (0, 0u64, None, None);
    while let Some(answer) = stream.message().await.expect("a message") {
        match answer.message {
            Some(Message::Chunk(_)) => {
                first.get_or_insert(started.elapsed());
                chunks += 1;
            }
            Some(Message::Header(header)) => tiles = header.tiles,
            Some(Message::Summary(last)) => summary = Some(last),
            _ => {}
        }
    }
    let took = started.elapsed();
    let summary = summary.expect("a summary");
    println!(
        "{chunks} no-op tiles on 200 workers in {took:?}, the first after {first:?}: {} retries",
        summary.retries
    );
    println!("{}", usage.table(fleet.processes()));
    assert_eq!((chunks, summary.tiles), (tiles, tiles));
    assert!(tiles >= 99_000, "{tiles}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}
