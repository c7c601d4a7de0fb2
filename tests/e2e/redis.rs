//! Workers that share what they remember through Redis, and Redis going away.

use std::process::{Command, Stdio};

use graticule_tests::colorado::{Imagery, examples};
use graticule_tests::process::{Process, run};
use tempfile::TempDir;

/// A Redis server of its own. `None` if Redis is not installed, which is a failure where
/// `GRATICULE_REQUIRE` lists `redis`.
async fn redis() -> Option<(Process, String, TempDir)> {
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        #[expect(clippy::disallowed_methods, reason = "what a test machine must have is no setting")]
        let required = std::env::var("GRATICULE_REQUIRE").unwrap_or_default();
        let is_required = required.split(',').any(|name| name.trim() == "redis");
        assert!(!is_required, "redis-server is not installed, and `GRATICULE_REQUIRE` lists `redis`");
        eprintln!("skipped: redis-server is not installed");
        return None;
    }
    // A socket needs no free port, but the engine speaks TCP: the port is asked for and then used.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let folder = TempDir::new().unwrap();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port, "--dir"]);
    command.arg(folder.path());
    let mut server = Process::of(command);
    server.prints("Ready to accept connections").await;
    Some((server, format!("redis://127.0.0.1:{port}"), folder))
}

/// Runs the main job with two workers that share a cache; the file and what is said of it.
async fn compute(imagery: &Imagery, name: &str, cache: &[&str]) -> (Vec<u8>, String) {
    let file = imagery.out().join(name);
    let (data, graft) = (imagery.data(), examples().join("ndvi_median.graft.json"));
    let [data, graft, out] = [&data, &graft, &file].map(|path| path.display().to_string());
    let arguments = ["--data", &data, "compute", &graft, "--out", &out, "--tile-size", "16"];
    let place = ["--bounds", "336375,4460595,338205,4462425", "--crs", "EPSG:32613", "--resolution", "30"];
    let ended = run(arguments.into_iter().chain(place).chain(cache.iter().copied())).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    (std::fs::read(file).unwrap(), ended.stdout)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis"]
async fn what_one_process_computed_another_remembers_until_redis_is_gone() {
    let Some((server, url, _folder)) = redis().await else { return };
    let imagery = Imagery::committed();
    imagery.register();
    let cache = ["--cache", &url];
    let (expected, _) = compute(&imagery, "plain.npz", &[]).await;
    let (first, said) = compute(&imagery, "first.npz", &cache).await;
    assert!(said.contains("0 of 25 cache look-ups hit"), "{said}");
    // Another process: nothing is in memory. It stored all before it ended.
    let (second, said) = compute(&imagery, "second.npz", &cache).await;
    assert!(said.contains("25 of 25 cache look-ups hit") && said.contains(" 0 B read"), "{said}");
    // What was remembered under another salt is disowned.
    let salted = ["--cache", &url, "--cache-salt", "2"];
    let (salted, said) = compute(&imagery, "salted.npz", &salted).await;
    assert!(said.contains("0 of 25 cache look-ups hit") && salted == expected, "{said}");
    let (no_cache, said) = compute(&imagery, "no-cache.npz", &["--cache", &url, "--no-cache"]).await;
    assert!(said.contains("0 of 0 cache look-ups hit"), "{said}");

    server.signal("KILL");
    server.ended().await;
    let (without, said) = compute(&imagery, "without.npz", &cache).await;
    assert!(said.contains("0 of 25 cache look-ups hit"), "{said}");
    for (name, bytes) in [("first", first), ("second", second), ("no cache", no_cache), ("without", without)]
    {
        assert!(bytes == expected, "{name} differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis"]
async fn redis_going_away_under_running_workers() {
    let Some((server, url, _folder)) = redis().await else { return };
    let imagery = Imagery::committed();
    imagery.register();
    let data = imagery.data().display().to_string();
    let mut coordinator = Process::start(["--data", &data, "coordinator", "--listen", "127.0.0.1:0"]);
    let endpoint = format!("http://{}", coordinator.address().await);
    let worker = || Process::start(["worker", "--coordinator", &endpoint, "--cache", &url]);
    let _workers = [worker(), worker()];
    coordinator.logs_times("worker registered", 2).await;

    let remote = ["--endpoint", &endpoint];
    let (expected, said) = compute(&imagery, "first.npz", &remote).await;
    assert!(said.contains("0 of 25 cache look-ups hit"), "{said}");
    let (again, said) = compute(&imagery, "again.npz", &remote).await;
    assert!(!said.contains(" 0 of 25 cache look-ups hit"), "{said}");
    server.signal("STOP");
    let (hanging, _) = compute(&imagery, "hanging.npz", &remote).await;
    server.signal("KILL");
    server.ended().await;
    let (without, _) = compute(&imagery, "without.npz", &remote).await;
    for (name, bytes) in [("again", again), ("hanging", hanging), ("without", without)] {
        assert!(bytes == expected, "{name} differs");
    }
}
