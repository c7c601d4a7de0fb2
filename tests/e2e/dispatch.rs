//! What requests share and what bounds them: credit, flights, time, memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::status::{class_of, retry_after};
use graticule_coordinator::fleet::Timing;
use graticule_tests::client::{Client, Received, request, with};
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::fake::FakeWorker;
use graticule_tests::probe::Behaviour;
use graticule_tests::scenes::{AREA, CRS, MadeUp, on_area, reduce};
use graticule_tests::soon;
use graticule_worker::source::Sources;
use tokio::task::JoinSet;

/// Often enough that a fake worker is never taken for silent.
const HEARTBEAT: Duration = Duration::from_secs(5);

fn made_up(workers: usize) -> Setup {
    let catalog = MadeUp::default().with("made-up", 4, &["a", "b"]);
    let setup = Setup::new(workers, Arc::new(catalog), Arc::new(Sources::synthetic_only()));
    Setup { patience: Duration::from_millis(300), ..setup }
}

/// One pixel, and so one tile.
fn one_tile() -> pb::ComputeRequest {
    let [west, _, _, north] = AREA;
    let pixel = [west, north - 30.0, west + 30.0, north];
    with(request(&reduce("made-up", "a", "max"), CRS, pixel, 30.0), |options| options.no_cache = true)
}

/// Tiles of 8 x 8 pixels.
fn many_tiles(band: &str) -> pb::ComputeRequest {
    with(on_area(&reduce("made-up", band, "max")), |options| {
        (options.tile_size, options.no_cache) = (8, true);
    })
}

async fn fake(cluster: &Cluster, name: &str, slots: u32) -> FakeWorker {
    FakeWorker::start(cluster.address, name, slots, Some(HEARTBEAT)).await
}

fn class(received: &Received) -> &'static str {
    received.error.as_ref().map_or("none", |status| class_of(status).name())
}

/// The bytes of the only tile, whose pieces must come in order and without gaps.
fn bytes(received: &Received) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in &received.chunks {
        assert_eq!(chunk.offset, bytes.len() as u64);
        bytes.extend_from_slice(&chunk.data);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_identical_requests_are_one_computation() {
    const REQUESTS: usize = 500;
    let cluster = Cluster::start(made_up(1)).await;
    let before = cluster.reads();
    let expected = cluster.compute(&one_tile()).await.unwrap();
    let reads = cluster.reads() - before;
    cluster.probes[0].set(Behaviour::Hold);
    let mut asking = JoinSet::new();
    for at in 0..REQUESTS {
        // Streams of one connection are limited.
        let client =
            if at % 100 == 0 { Client::connect(cluster.address).await } else { cluster.client.clone() };
        asking.spawn(async move { client.compute(&one_tile()).await });
    }
    cluster.until("all requests wait", |state| state.requests.len() == REQUESTS).await;
    let before = cluster.reads();
    cluster.probes[0].set(Behaviour::Pass);
    let mut cpu_tiles = 0;
    while let Some(answer) = soon("an answer", asking.join_next()).await {
        let answer = answer.unwrap().unwrap();
        assert_eq!(answer.block, expected.block);
        cpu_tiles += u64::from(answer.summary.files_opened > 0 || answer.summary.read_bytes > 0);
    }
    // The reads that were held had been counted already: at most one computation all together.
    assert!(cluster.reads() - before <= reads, "{} reads", cluster.reads() - before);
    assert_eq!(cpu_tiles, 1, "what a tile took is one request's");
    let counts = cluster.describe().await.counts.unwrap();
    assert!(counts.requests >= REQUESTS as u64 && counts.failures == 0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_gets_the_whole_tile_and_who_leaves_takes_nothing_away() {
    let cluster = Cluster::start(made_up(0)).await;
    let mut worker = fake(&cluster, "fake", 1).await;
    let mut first = cluster.client.stream(&one_tile()).await;
    let call = worker.call().await;
    let tile = call.request.tiles[0];
    assert!(call.piece(tile, 0, 8, b"half").await);
    // The first has its piece: the second comes late.
    loop {
        let message = soon("a piece", first.message()).await.unwrap().unwrap().message;
        if let Some(Message::Chunk(chunk)) = message {
            assert_eq!(&chunk.data[..], b"half");
            break;
        }
    }
    let mut second = cluster.client.stream(&one_tile()).await;
    assert!(matches!(
        soon("the header", second.message()).await.unwrap().unwrap().message,
        Some(Message::Header(_))
    ));
    let chunk = soon("the first piece", second.message()).await.unwrap().unwrap().message;
    assert!(matches!(&chunk, Some(Message::Chunk(chunk)) if &chunk.data[..] == b"half"), "{chunk:?}");
    drop(first);
    cluster.until("the first is gone", |state| state.requests.len() == 1).await;
    assert!(call.piece(tile, 4, 8, b"rest").await && call.done(tile).await);
    drop(call);
    let chunk = soon("the second piece", second.message()).await.unwrap().unwrap().message;
    assert!(matches!(&chunk, Some(Message::Chunk(chunk)) if &chunk.data[..] == b"rest"), "{chunk:?}");
    let summary = soon("the summary", second.message()).await.unwrap().unwrap().message;
    assert!(matches!(&summary, Some(Message::Summary(summary)) if summary.tiles == 1), "{summary:?}");
    assert!(worker.try_call().is_none(), "one call was enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_cancelled() {
    let cluster = Cluster::start(made_up(0)).await;
    let mut worker = fake(&cluster, "fake", 1).await;
    let stream = cluster.client.stream(&one_tile()).await;
    let call = worker.call().await;
    let started = Instant::now();
    drop(stream);
    call.dropped().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    cluster.until("nothing is left", |state| state.requests.is_empty() && state.workers[0].tiles == 0).await;
}

/// One slot is two tiles of credit, whoever asks; and who comes second need not wait for all of the first.
#[tokio::test(flavor = "multi_thread")]
async fn requests_share_a_workers_credit() {
    let cluster = Cluster::start(made_up(0)).await;
    let mut worker = fake(&cluster, "fake", 1).await;
    let each = cluster.client.explain(&many_tiles("a")).await.unwrap().bill.unwrap().tiles;
    let mut asking = JoinSet::new();
    for band in ["a", "b"] {
        let client = cluster.client.clone();
        asking.spawn(async move { client.receive(&many_tiles(band)).await });
    }
    cluster.until("both wait", |state| state.requests.len() == 2).await;
    let (mut held, mut works, mut tiles) = (Vec::new(), Vec::new(), 0);
    while tiles < 2 * each {
        // Everything that is there, then one more: a call answered makes room for another.
        if held.is_empty() {
            held.push(worker.call().await);
        }
        while let Some(call) = worker.try_call() {
            held.push(call);
        }
        let out: usize = held.iter().map(|call| call.request.tiles.len()).sum();
        assert!(out <= 2, "{out} tiles for one slot");
        let call = held.remove(0);
        works.push(call.request.plan.as_ref().unwrap().nodes[0].hash.clone());
        for tile in &call.request.tiles {
            assert!(call.whole(*tile, b"x").await);
            tiles += 1;
        }
    }
    let begun: BTreeSet<_> = works.iter().take(8).collect();
    assert_eq!(begun.len(), 2, "both have their turn");
    while let Some(received) = soon("an answer", asking.join_next()).await {
        assert_eq!(received.unwrap().summary.unwrap().tiles, each);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_where_the_lost_worker_stopped() {
    let cluster = Cluster::start(made_up(0)).await;
    let mut first = fake(&cluster, "first", 1).await;
    let client = cluster.client.clone();
    let asking = tokio::spawn(async move { client.receive(&one_tile()).await });
    let call = first.call().await;
    let tile = call.request.tiles[0];
    assert!(!call.request.alone && call.request.remaining_ms > 0);
    assert!(call.piece(tile, 0, 8, b"half").await);
    let mut second = fake(&cluster, "second", 1).await;
    call.break_off().await;
    let call = second.call().await;
    assert_eq!(call.request.tiles, [tile]);
    assert!(call.request.alone, "a tile that was with a lost worker is tried alone");
    assert!(call.piece(tile, 0, 8, b"half").await && call.piece(tile, 4, 8, b"rest").await);
    assert!(call.done(tile).await);
    let received = soon("the answer", asking).await.unwrap();
    assert_eq!(bytes(&received), b"halfrest");
    assert_eq!(received.summary.unwrap().retries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hands_back_costs_no_attempt() {
    let cluster = Cluster::start(made_up(0)).await;
    let mut worker = fake(&cluster, "fake", 1).await;
    let client = cluster.client.clone();
    let asking = tokio::spawn(async move { client.receive(&one_tile()).await });
    for _ in 0..5 {
        let call = worker.call().await;
        let failed =
            pb::TileFailed { tile: Some(call.request.tiles[0]), handed_back: true, ..Default::default() };
        assert!(call.say(pb::execute_response::Outcome::Failed(failed)).await);
    }
    let call = worker.call().await;
    assert!(call.whole(call.request.tiles[0], b"x").await);
    let received = soon("the answer", asking).await.unwrap();
    assert_eq!((bytes(&received), received.summary.unwrap().retries), (b"x".to_vec(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_is_lost() {
    let timing = Timing { heartbeat: Duration::from_millis(100), silence_max: Duration::from_millis(500) };
    let cluster = Cluster::start(Setup { timing, ..made_up(0) }).await;
    let mut worker = FakeWorker::start(cluster.address, "fake", 1, None).await;
    let client = cluster.client.clone();
    let asking = tokio::spawn(async move { client.receive(&one_tile()).await });
    let call = worker.call().await;
    call.dropped().await;
    let received = soon("the answer", asking).await.unwrap();
    assert_eq!(class(&received), "unavailable");
    let described = cluster.describe().await;
    assert!(described.workers.is_empty());
    assert_eq!(described.coordinator, cluster.address.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_waits_no_longer_gets_an_error_in_time() {
    let cluster = Cluster::start(made_up(1)).await;
    cluster.probes[0].set(Behaviour::Hold);
    let started = Instant::now();
    let received =
        Client::read(cluster.client.stream_within(&one_tile(), Duration::from_millis(400)).await).await;
    assert_eq!(class(&received), "timeout", "{:?}", received.error);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    cluster.until("nothing is left", |state| state.requests.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_is_cut_off_and_holds_no_more_than_a_window() {
    const TILE_BYTES: usize = 1 << 20;
    let mut setup = made_up(0);
    setup.requests.slow_reader = Duration::from_millis(700);
    setup.schedule.window_bytes = 4 << 20;
    let cluster = Cluster::start(setup).await;
    let worker = fake(&cluster, "fake", 64).await;
    let answering = tokio::spawn(worker.answer_all(vec![7; TILE_BYTES]));
    // Tiles of 512 x 512 values with their validity: 1.25 MiB by estimate, 36 of them.
    let request = with(request(&reduce("made-up", "a", "max"), CRS, AREA, 0.6), |options| {
        (options.tile_size, options.no_cache) = (512, true);
    });
    let stream = cluster.client.stream(&request).await;
    let mut most = 0;
    soon("the end of the request", async {
        loop {
            let state = cluster.describe().await;
            most = most.max(state.counts.unwrap_or_default().tiles);
            if state.requests.is_empty() && state.counts.unwrap_or_default().failures > 0 {
                break;
            }
        }
    })
    .await;
    // A window of 4 MiB, and what left it for buffers of the connection.
    assert!((1..=8).contains(&most), "{most} tiles were computed for nobody");
    let received = Client::read(stream).await;
    assert_eq!(class(&received), "timeout", "{:?}", received.error);
    assert!(received.error.unwrap().message().contains("too slowly"));
    assert!(received.summary.is_none());
    answering.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_at_once_with_a_time_to_come_back() {
    let mut setup = made_up(1);
    setup.schedule.waiting_max = 4;
    let cluster = Cluster::start(setup).await;
    cluster.probes[0].set(Behaviour::Hold);
    let mut streams = Vec::new();
    let mut refused = None;
    for at in 0..64 {
        // Each is another area, so that none is answered by another's tiles.
        let [west, south, east, north] = AREA;
        let area = [west + 30.0 * f64::from(at % 8), south, east, north - 30.0 * f64::from(at / 8)];
        let request = request(&reduce("made-up", "a", "max"), CRS, area, 30.0);
        let started = Instant::now();
        let mut stream = cluster.client.stream(&request).await;
        match soon("a header or an error", stream.message()).await {
            Err(status) => refused = Some((status, started.elapsed())),
            Ok(Some(message)) if matches!(message.message, Some(Message::Header(_))) => {}
            other => panic!("{other:?}"),
        }
        if refused.is_some() {
            break;
        }
        streams.push(stream);
    }
    let (status, took) = refused.expect("a bound");
    assert_eq!(class_of(&status).name(), "overloaded", "{status:?}");
    assert!(retry_after(&status).is_some_and(|after| after > Duration::ZERO), "{status:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(cluster.describe().await.counts.unwrap().sheds > 0);
    // Those who were let in get their answers.
    cluster.probes[0].set(Behaviour::Pass);
    for mut stream in streams {
        let mut last = None;
        while let Some(message) = soon("a message", stream.message()).await.unwrap() {
            last = message.message;
        }
        assert!(matches!(last, Some(Message::Summary(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_heavy_is_refused_with_its_estimate() {
    let mut setup = made_up(1);
    setup.requests.heavy = Some(graticule_coordinator::heavy::Heavy { cpu_s: 60.0, scenes: 3 });
    let cluster = Cluster::start(Setup { workers: 0, ..setup }).await;
    // Without waiting for a worker.
    let failure = cluster.compute(&one_tile()).await.unwrap_err();
    assert_eq!(failure.class, "limit_exceeded", "{}", failure.message);
    for part in ["4 scenes", "allows 3", "smaller AOI"] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    // Explaining says what it would take.
    assert_eq!(cluster.client.explain(&one_tile()).await.unwrap().bill.unwrap().scenes, 4);
}

/// Ignored: a benchmark. Prints what a small tile takes from end to end that workers remember.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "benchmark"]
async fn bench_small_tiles_that_are_remembered() {
    const REQUESTS: usize = 1000;
    let cluster = Cluster::start(made_up(2)).await;
    let [west, _, _, north] = AREA;
    let area = [west, north - 256.0, west + 256.0, north];
    let small = request(&reduce("made-up", "a", "max"), CRS, area, 1.0);
    cluster.compute(&small).await.unwrap();
    let mut took = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let started = Instant::now();
        cluster.client.receive(&small).await.summary.expect("a result");
        took.push(started.elapsed());
    }
    took.sort_unstable();
    println!("p50 {:?}, p99 {:?}", took[REQUESTS / 2], took[REQUESTS * 99 / 100]);
}
