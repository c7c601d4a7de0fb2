//! Workers that go away: the right bytes or a clear error in bounded time, never a wrong result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use graticule_common::proto::v1 as pb;
use graticule_tests::client::with;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::probe::Behaviour;
use graticule_tests::scenes::{MadeUp, masked_index, on_area};
use graticule_worker::source::Sources;

fn made_up(workers: usize) -> Setup {
    let catalog = MadeUp::default().with("made-up", 20, &["a", "b", "c"]);
    let setup = Setup::new(workers, Arc::new(catalog), Arc::new(Sources::synthetic_only()));
    Setup { patience: Duration::from_millis(300), ..setup }
}

fn request() -> pb::ComputeRequest {
    with(on_area(&masked_index("made-up", ["a", "b", "c"])), |options| {
        options.tile_size = 8;
        options.no_cache = true;
    })
}

/// Loses a worker that holds tiles, computes on with the others, compares.
async fn losing_one(lose: impl AsyncFnOnce(&mut Cluster)) {
    let mut cluster = Cluster::start(made_up(2)).await;
    let expected = cluster.compute(&request()).await.unwrap();
    assert_eq!(expected.summary.retries, 0);
    cluster.probes[0].set(Behaviour::Hold);
    let client = cluster.client.clone();
    let answer = tokio::spawn(async move { client.compute(&request()).await });
    cluster.probes[0].held().await;
    lose(&mut cluster).await;
    let answer = graticule_tests::soon("the answer", answer).await.unwrap().unwrap();
    assert_eq!(answer.block, expected.block);
    assert_eq!(answer.header, expected.header);
    assert!(answer.summary.retries > 0, "{:?}", answer.summary);
    assert_eq!(answer.summary.tiles, answer.header.tiles);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_crashes() {
    losing_one(async |cluster| cluster.kill_worker(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop() {
    losing_one(async |cluster| cluster.stop_worker(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_finishes_its_tiles_and_ends_when_it_is_told_to() {
    let mut cluster = Cluster::start(made_up(1)).await;
    cluster.probes[0].set(Behaviour::Hold);
    let client = cluster.client.clone();
    let answer = tokio::spawn(async move { client.compute(&request()).await });
    cluster.probes[0].held().await;
    cluster.stop_worker(0);
    cluster.probes[0].set(Behaviour::Pass);
    cluster.worker_ended(0).await;
    // With no worker left the request is an error or, had all tiles been sent, a result; never half.
    if let Err(failure) = graticule_tests::soon("the answer", answer).await.unwrap() {
        assert_eq!(failure.class, "unavailable", "{}", failure.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_worker() {
    let mut cluster = Cluster::start(made_up(2)).await;
    cluster.probes.iter().for_each(|probe| probe.set(Behaviour::Hold));
    let client = cluster.client.clone();
    let answer = tokio::spawn(async move { client.compute(&request()).await });
    for at in 0..2 {
        cluster.probes[at].held().await;
    }
    let started = Instant::now();
    cluster.kill_worker(0);
    cluster.kill_worker(1);
    let failure = graticule_tests::soon("the answer", answer).await.unwrap().unwrap_err();
    assert_eq!(failure.class, "unavailable", "{}", failure.message);
    assert!(failure.message.contains("no worker is connected"), "{}", failure.message);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_while_a_request_waits_for_one() {
    let setup = Setup { patience: Duration::from_secs(30), ..made_up(1) };
    let mut cluster = Cluster::start(setup.clone()).await;
    let expected = cluster.compute(&request()).await.unwrap();
    cluster.probes[0].set(Behaviour::Hold);
    let client = cluster.client.clone();
    let answer = tokio::spawn(async move { client.compute(&request()).await });
    cluster.probes[0].held().await;
    cluster.kill_worker(0);
    cluster.add_worker(&setup).await;
    let answer = graticule_tests::soon("the answer", answer).await.unwrap().unwrap();
    assert_eq!(answer.block, expected.block);
    assert!(answer.summary.retries > 0);
}

/// What a worker holds is bounded, so a worker that joins finds something to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_joins_helps() {
    let setup = made_up(1);
    let mut cluster = Cluster::start(setup.clone()).await;
    cluster.probes[0].set(Behaviour::Hold);
    let client = cluster.client.clone();
    let answer = tokio::spawn(async move { client.compute(&request()).await });
    cluster.probes[0].held().await;
    cluster.add_worker(&setup).await;
    cluster.probes[1].until("the new worker reads", |seen| seen.reads > 0).await;
    cluster.probes[0].set(Behaviour::Pass);
    let answer = graticule_tests::soon("the answer", answer).await.unwrap().unwrap();
    assert_eq!((answer.summary.retries, answer.summary.workers), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_at_all() {
    let cluster = Cluster::start(made_up(0)).await;
    let failure = cluster.compute(&request()).await.unwrap_err();
    assert_eq!(failure.class, "unavailable");
    assert!(failure.message.contains("graticule worker --coordinator"), "{}", failure.message);
    // What is wrong with a graft is said without waiting, and explaining needs no worker.
    let nonsense = pb::ComputeRequest { graft: b"{".to_vec(), ..request() };
    assert_eq!(cluster.compute(&nonsense).await.unwrap_err().class, "invalid_request");
    assert!(cluster.client.explain(&request()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_crashes_ends_the_stream_with_an_error() {
    let mut cluster = Cluster::start(made_up(1)).await;
    cluster.probes[0].set(Behaviour::Hold);
    let client = cluster.client.clone();
    let received = tokio::spawn(async move { client.receive(&request()).await });
    cluster.probes[0].held().await;
    cluster.kill_coordinator();
    let received = graticule_tests::soon("the end of the stream", received).await.unwrap();
    assert!(received.error.is_some() && received.summary.is_none(), "{received:?}");
}
