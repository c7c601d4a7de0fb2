//! What every [`TileCache`] must do, and a Redis server of one's own.

use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use graticule_common::hash::Hasher;
use tempfile::TempDir;

use super::{TileCache, TileKey};

/// How long a test waits for something that takes milliseconds, on a machine busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A key like any other, different for each `n`.
pub(crate) fn key(n: usize) -> TileKey {
    Hasher::new("cache test").int(n as i64).finish()
}

/// A value of `len` bytes, different for each `n` unless it is very short.
pub(crate) fn value(n: usize, len: usize) -> Bytes {
    (0..len).map(|i| ((n + 1) * 31 + i * 7 + (i >> 8) * 13) as u8).collect()
}

/// Asks until `done` says so.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What callers of any cache rely on. Wants an empty cache with room for some megabytes.
pub(crate) async fn conformance(cache: &dyn TileCache) {
    // Nothing asked, nothing answered; unknown keys are misses.
    assert!(cache.get(&[]).await.is_empty());
    assert_eq!(cache.get(&[key(0), key(1)]).await, [None, None]);
    cache.put(Vec::new());

    // Answers come in the order of the keys; a key asked twice is answered twice; an empty value is
    // a value.
    let values = [value(1, 100), value(2, 0), value(3, 3), value(4, 1 << 20)];
    cache.put(values.iter().enumerate().map(|(i, value)| (key(i + 1), value.clone())).collect());
    cache.settle().await;
    let asked = [key(4), key(9), key(2), key(1), key(3), key(1)];
    let some = |i: usize| Some(values[i - 1].clone());
    let expected = [some(4), None, some(2), some(1), some(3), some(1)];
    assert_eq!(cache.get(&asked).await, expected);

    // Putting the same entry again is harmless, one at a time too.
    for i in 1..=4 {
        cache.put(vec![(key(i), values[i - 1].clone())]);
    }
    cache.settle().await;
    assert_eq!(cache.get(&asked).await, expected);

    // Many users at once never see another key's value.
    let users = (0..8).map(|user| async move {
        for round in 0..20 {
            let n = 100 + (user * 7 + round) % 40;
            cache.put(vec![(key(n), value(n, n * 10))]);
            for (i, found) in cache.get(&[key(n), key(n + 1)]).await.into_iter().enumerate() {
                assert!(found.is_none_or(|found| found == value(n + i, (n + i) * 10)));
            }
        }
    });
    join_all(users.collect()).await;
    cache.settle().await;
    let all: Vec<TileKey> = (100..140).map(key).collect();
    for (n, found) in (100..140).zip(cache.get(&all).await) {
        assert_eq!(found, Some(value(n, n * 10)), "{n}");
    }

    // Every key asked for was a hit or a miss; nothing went wrong on the way.
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, 2 + 2 * 6 + 8 * 20 * 2 + 40, "{stats:?}");
    assert!(stats.hits >= 10 + 40 && stats.misses >= 4, "{stats:?}");
    assert_eq!((stats.errors, stats.rejected, stats.skipped, stats.dropped), (0, 0, 0, 0), "{stats:?}");
    assert_eq!(stats.stored, 4 + 4 + 8 * 20, "{stats:?}");
}

/// Runs the futures together, on this task.
async fn join_all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// A Redis server on a port of its own, with nothing in it, gone when dropped.
pub(crate) struct RedisServer {
    process: Option<Child>,
    port: u16,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one. Tests that call this are ignored unless Redis is meant to be there, so its absence
    /// is a failure.
    pub(crate) async fn start() -> RedisServer {
        let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        assert!(version.is_ok(), "redis-server is not installed; `make deps` installs it");
        // Between asking for a free port and using it someone else may take it.
        for _ in 0..10 {
            let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = probe.local_addr().unwrap().port();
            drop(probe);
            let mut server = RedisServer { process: None, port, folder: TempDir::new().unwrap() };
            if server.try_restart().await {
                return server;
            }
        }
        panic!("redis-server did not start on ten ports");
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection that does not go through the cache.
    pub(crate) async fn direct(&self) -> ::redis::aio::MultiplexedConnection {
        let client = ::redis::Client::open(self.address()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts an empty server on the same port.
    pub(crate) async fn restart(&mut self) {
        assert!(self.try_restart().await, "redis-server did not start again on port {}", self.port);
    }

    /// Stops the process from running, or lets it run again: connections stay, answers do not come.
    pub(crate) fn pause(&self, paused: bool) {
        let id = self.process.as_ref().unwrap().id().to_string();
        let signal = if paused { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    async fn try_restart(&mut self) -> bool {
        self.kill();
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
        let client = ::redis::Client::open(self.address()).unwrap();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(mut link) = client.get_multiplexed_async_connection().await {
                let id: Result<String, _> = ::redis::cmd("INFO").arg("server").query_async(&mut link).await;
                // Another server may have taken the port.
                let ours = format!("process_id:{}\r", self.process.as_ref().unwrap().id());
                if let Ok(info) = id {
                    return info.contains(&ours);
                }
            }
            if let Ok(Some(_)) = self.process.as_mut().unwrap().try_wait() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
