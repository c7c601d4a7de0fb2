//! The admin port of real processes: probes and metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use graticule_common::telemetry::names::{METRICS, Metric};
use graticule_tests::colorado::Imagery;
use graticule_tests::process::Process;
use graticule_tests::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::processes::{check_done, main_job, native};

/// Where a process says its admin port is.
async fn admin_of(process: &mut Process) -> SocketAddr {
    let log = process.logs("admin port open").await;
    let line = log.lines().find(|line| line.contains("admin port open")).unwrap();
    let (_, address) = line.split_once("address=").unwrap();
    address.split_whitespace().next().unwrap().parse().unwrap()
}

/// Status and body of a page.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Whoever speaks another protocol may just hang up.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = soon(path, asking).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Values of all series.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| line.starts_with("graticule_"));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(k, v)| (k.into(), v.parse().unwrap())).collect()
}

/// The metric a series is of.
fn metric_of(series: &str) -> Option<&'static Metric> {
    let name = series.split('{').next().unwrap();
    let is_of = |metric: &&Metric| {
        let of_histogram =
            || ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(metric.name));
        metric.name == name || of_histogram()
    };
    METRICS.iter().find(is_of)
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_say_how_a_fleet_is() {
    let imagery = Imagery::committed();
    imagery.register();
    let data = imagery.data().display().to_string();
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut coordinator = Process::start(["--data", &data, "coordinator"].iter().chain(&listen));
    let front = coordinator.address().await;
    let endpoint = format!("http://{front}");
    let at = admin_of(&mut coordinator).await;
    assert_eq!(get(at, "/livez").await.0, 200);
    assert_eq!(get(at, "/readyz").await, (503, "alone\n".into()));
    let (status, version) = get(at, "/version").await;
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    assert_eq!((status, version["engine"].as_str()), (200, Some(graticule_common::ENGINE_VERSION)));

    let mut worker = Process::start(["worker", "--coordinator", &endpoint].iter().chain(&listen));
    let worker_at = admin_of(&mut worker).await;
    worker.logs("registered").await;
    coordinator.logs("readiness=\"ready\"").await;
    assert_eq!(get(at, "/readyz").await, (200, "ready\n".into()));
    let file = imagery.out().join("a.npz");
    check_done(&main_job(&imagery, &native("30"), &["--endpoint", &endpoint], &[&file]).ended().await);

    let of_coordinator = series(&get(at, "/metrics").await.1);
    let of_worker = series(&get(worker_at, "/metrics").await.1);
    for name in of_coordinator.keys().chain(of_worker.keys()) {
        let metric = metric_of(name).unwrap_or_else(|| panic!("`{name}` is in no list"));
        for (label, values) in metric.labels.iter().filter(|(_, values)| !values.is_empty()) {
            let said = name.split_once(&format!("{label}=\"")).and_then(|(_, rest)| rest.split('"').next());
            assert!(said.is_some_and(|said| values.contains(&said)), "{name}");
        }
    }
    assert_eq!(of_coordinator["graticule_requests_total{class=\"done\"}"], 1.0);
    assert_eq!(of_coordinator["graticule_requests_total{class=\"internal\"}"], 0.0);
    assert_eq!(of_coordinator["graticule_request_seconds_count{stage=\"total\"}"], 1.0);
    assert_eq!(of_coordinator["graticule_ready"], 1.0);
    assert!(of_coordinator["graticule_result_bytes_total"] > 0.0);
    assert!(of_worker["graticule_worker_tiles_total{outcome=\"done\"}"] >= 1.0);
    assert!(of_worker["graticule_read_bytes_total"] > 0.0);
    assert_eq!(of_worker["graticule_registrations"], 1.0);
    for metrics in [&of_coordinator, &of_worker] {
        assert!(metrics["graticule_process_cpu_seconds_total"] > 0.0);
        assert!(metrics["graticule_process_resident_bytes"] > 1e6);
    }

    // None of it is for clients.
    for path in ["/metrics", "/readyz", "/version"] {
        assert_ne!(get(front, path).await.0, 200, "{path}");
    }

    worker.signal("KILL");
    coordinator.logs_times("readiness=\"alone\"", 2).await;
    assert_eq!(get(at, "/readyz").await, (503, "alone\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_json_where_that_is_asked_for() {
    let imagery = Imagery::committed();
    imagery.register();
    let data = imagery.data().display().to_string();
    let arguments = ["--data", &data, "--log-format", "json", "serve", "--listen", "127.0.0.1:0"];
    let mut serve = Process::start(arguments);
    let endpoint = format!("http://{}", serve.address().await);
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let file = imagery.out().join("a.npz");
    let options = ["--endpoint", &endpoint, "--traceparent", given];
    check_done(&main_job(&imagery, &native("30"), &options, &[&file]).ended().await);
    serve.logs("request done").await;
    serve.signal("TERM");
    let log = serve.ended().await.stderr;
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let done = lines.iter().find(|line| line["message"] == "request done").unwrap();
    assert_eq!(done["span"]["trace"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(done["span"]["id"].as_str().map(str::len), Some(16));
    for sum in [
        "tiles",
        "cache_hits",
        "read_bytes",
        "read_ms",
        "eval_ms",
        "queued_ms",
        "wall_ms",
        "retries",
        "workers",
    ] {
        assert!(done[sum].is_number(), "{sum}: {done}");
    }
}
