//! Being told to end: what is under way is finished, nothing new is taken, and the exit code says whether
//! that was possible.

use std::time::{Duration, Instant};

use graticule_common::proto::v1::compute_response::Message;
use graticule_tests::client::{Client, request};
use graticule_tests::colorado::{Imagery, graft};
use graticule_tests::process::Process;
use graticule_tests::soon;

use crate::processes::{Fleet, bytes, check_done, main_job, native};

/// Less than any grace period here but the shortest, more than an end without work takes.
const AT_ONCE: Duration = Duration::from_secs(5);

fn registered() -> Imagery {
    let imagery = Imagery::committed();
    imagery.register();
    imagery
}

fn serve(imagery: &Imagery, more: &[&str]) -> Process {
    let data = imagery.data().display().to_string();
    let arguments = ["--data", &data, "--log", "info,graticule_worker=debug", "serve"];
    Process::start(arguments.iter().chain(&["--listen", "127.0.0.1:0"]).chain(more))
}

/// A worker ends while requests are under way: none fails.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_when_a_worker_ends_under_load() {
    let imagery = registered();
    let out = imagery.out();
    let mut fleet = Fleet::start(&imagery, &[]).await;
    let expected = out.join("expected.npz");
    check_done(&main_job(&imagery, &native("10"), &[], &[&expected]).ended().await);
    let options = ["--endpoint", &fleet.endpoint, "--tile-size", "32", "--no-cache"];
    let files = [0, 1, 2].map(|n| out.join(format!("{n}.npz")));
    let load = files.map(|file| (main_job(&imagery, &native("10"), &options, &[&file]), file));
    fleet.workers[0].logs("computing tiles").await;
    fleet.workers[0].signal("TERM");
    check_done(&fleet.workers.remove(0).ended().await);
    for (job, file) in load {
        check_done(&job.ended().await);
        assert!(bytes(&file) == bytes(&expected), "a worker's end changes nothing");
    }
}

/// An engine that ends serves who was there before, and tells who comes later. Its front ends first, then
/// its workers.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_finishes_what_it_has() {
    let imagery = registered();
    // However slow the machine: what is under way is not to be cut off here.
    let mut serve = serve(&imagery, &["--grace-s", "600"]);
    let address = serve.address().await;
    let client = Client::connect(address).await;
    // More than waits on the way: it is under way until it is read.
    let [west, north] = [336_375.0, 4_462_425.0];
    let large = request(&graft(), "EPSG:32613", [west, north - 1830.0, west + 1830.0, north], 4.0);
    let mut answers = client.stream(&large).await;
    assert!(soon("a header", answers.message()).await.unwrap().is_some());
    serve.signal("TERM");
    let log = serve.logs("draining").await;
    assert!(log.contains("requests=1"), "{log}");

    let endpoint = format!("http://{address}");
    let late = ["--endpoint", &endpoint];
    let late = main_job(&imagery, &native("30"), &late, &[&imagery.out().join("late.npz")]).ended().await;
    assert_eq!(late.code, Some(9), "{}", late.stderr);
    assert!(late.stderr.contains("is ending"), "{}", late.stderr);

    let mut last = None;
    while let Some(answer) = soon("the next message", answers.message()).await.unwrap() {
        last = answer.message;
    }
    assert!(matches!(last, Some(Message::Summary(_))), "all of it arrives");
    check_done(&serve.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let imagery = registered();
    let mut serve = serve(&imagery, &["--grace-s", "600"]);
    let endpoint = format!("http://{}", serve.address().await);
    // A minute's work.
    let job = main_job(&imagery, &native("0.5"), &["--endpoint", &endpoint], &[&imagery.out().join("a.npz")]);
    serve.logs("computing tiles").await;
    serve.signal("TERM");
    serve.logs("draining").await;
    let started = Instant::now();
    serve.signal("TERM");
    assert_eq!(serve.ended().await.code, Some(130));
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert_eq!(job.ended().await.code, Some(9), "a connection that broke");
}

/// Work that outlasts the grace period is cut off, and the exit code says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_grace_period_ends() {
    let imagery = registered();
    let out = imagery.out();
    let mut serve = serve(&imagery, &["--grace-s", "1"]);
    let endpoint = format!("http://{}", serve.address().await);
    let job = main_job(&imagery, &native("0.5"), &["--endpoint", &endpoint], &[&out.join("a.npz")]);
    serve.logs("computing tiles").await;
    let started = Instant::now();
    serve.signal("TERM");
    let ended = serve.ended().await;
    assert_eq!(ended.code, Some(10), "{}", ended.stderr);
    assert!(ended.stderr.contains("1 requests were cut off"), "{}", ended.stderr);
    assert!(started.elapsed() >= Duration::from_secs(1) && started.elapsed() < 3 * AT_ONCE);
    assert_ne!(job.ended().await.code, Some(0));
    assert!(!out.join("a.npz").exists());
}

/// A tile that is stuck, here in a worker that is stopped: the coordinator does not wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_tile_does_not_keep_a_coordinator() {
    let imagery = registered();
    let data = imagery.data().display().to_string();
    let arguments = ["--data", &data, "coordinator", "--listen", "127.0.0.1:0", "--grace-s", "2"];
    let mut coordinator = Process::start(arguments);
    let endpoint = format!("http://{}", coordinator.address().await);
    let role = ["--log", "graticule_worker=debug", "worker", "--slots", "1", "--coordinator", &endpoint];
    let mut worker = Process::start(role);
    coordinator.logs("worker registered").await;
    let file = imagery.out().join("a.npz");
    let job = main_job(&imagery, &native("2"), &["--endpoint", &endpoint], &[&file]);
    worker.logs("computing tiles").await;
    worker.signal("STOP");
    let started = Instant::now();
    coordinator.signal("TERM");
    let ended = coordinator.ended().await;
    assert_eq!(ended.code, Some(10), "{}", ended.stderr);
    assert!(ended.stderr.contains("1 requests were cut off"), "{}", ended.stderr);
    assert!(started.elapsed() < 2 * AT_ONCE, "{:?}", started.elapsed());
    assert_ne!(job.ended().await.code, Some(0));
    worker.signal("KILL");
}
