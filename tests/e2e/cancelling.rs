//! A client that goes away stops the work it asked for.

use std::sync::Arc;

use graticule_common::proto::v1::compute_response::Message;
use graticule_tests::client::{Client, request, with};
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::probe::Behaviour;
use graticule_tests::scenes::{AREA, CRS, MadeUp, on_area, reduce, stack};
use graticule_tests::soon;
use graticule_worker::source::Sources;

/// The worker has one slot, which the first request's only tile holds until it has read a thousand
/// scenes, or until it is cancelled. Only then can the second request's tile begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_its_tiles() {
    const SCENES: u64 = 1000;
    let catalog = MadeUp::default().with("long", SCENES as usize, &["a"]).with("short", 1, &["a"]);
    let setup = Setup::new(1, Arc::new(catalog), Arc::new(Sources::synthetic_only()));
    let cluster = Cluster::start(Setup { slots: 1, ..setup }).await;
    let probe = &cluster.probes[0];
    probe.set(Behaviour::Hold);
    let before = probe.reads();

    let mut first = cluster.client.stream(&on_area(&reduce("long", "a", "max"))).await;
    let header = soon("the header", first.message()).await.unwrap().unwrap();
    assert!(matches!(header.message, Some(Message::Header(_))));
    assert!(probe.held().await.starts_with("long"));
    drop(first);

    let client = cluster.client.clone();
    let second = tokio::spawn(async move { client.compute(&on_area(&reduce("short", "a", "max"))).await });
    let nudge = on_area(&reduce("short", "a", "min"));
    // The news travels while one read after the other goes through, each after a round trip.
    while probe.held().await.starts_with("long") {
        cluster.client.explain(&nudge).await.unwrap();
        probe.step();
    }
    let reads = probe.reads() - before;
    assert!(reads < SCENES / 2, "{reads} reads for nobody");
    probe.set(Behaviour::Pass);
    assert!(soon("the second answer", second).await.unwrap().is_ok());
}

/// All requests of a coordinator share one connection to each worker; what a slow client has not taken
/// must not fill it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_nobody_else() {
    let catalog = MadeUp::default().with("made-up", 60, &["a", "b", "c"]);
    let setup = Setup::new(2, Arc::new(catalog), Arc::new(Sources::synthetic_only()));
    let cluster = Cluster::start(setup).await;
    // Results of 24 MB in tiles of 3 MB: more than every buffer on their way.
    let large = request(&stack("made-up", "a b c"), CRS, AREA, 10.0);
    let large = with(large, |options| options.tile_size = 64);
    let mut idle = Vec::new();
    for _ in 0..6 {
        let client = Client::connect(cluster.address).await;
        idle.push(client.stream(&large).await);
    }
    let answer = cluster.compute(&large).await.expect("an answer in the midst of slow clients");
    assert_eq!(answer.summary.tiles, answer.header.tiles);
    // Those who come back late get everything.
    for mut stream in idle {
        let mut last = None;
        while let Some(answer) = soon("the next message", stream.message()).await.unwrap() {
            last = answer.message;
        }
        assert!(matches!(last, Some(Message::Summary(_))));
    }
}
