//! A Redis server of a test's own.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::process::Process;
use crate::soon;

/// A server on a port of its own, with nothing in it, gone when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    /// Where Redis is not installed: tests that need it are ignored unless it is meant to be there.
    pub async fn start() -> Redis {
        let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        assert!(version.is_ok(), "redis-server is not installed; `make deps` installs it");
        let mut redis = Redis { process: None, port: 0, folder: TempDir::new().expect("a folder") };
        // Between asking for a free port and using it someone else may take it.
        for _ in 0..10 {
            let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            redis.port = probe.local_addr().expect("an address").port();
            drop(probe);
            if redis.try_start().await {
                return redis;
            }
        }
        panic!("redis-server did not start on ten ports");
    }

    async fn try_start(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
            &self.port.to_string(),
        ]);
        command.arg("--dir").arg(self.folder.path());
        let mut process = Process::of(command);
        let is_ready = soon("redis-server", process.prints_or_ends("Ready to accept connections")).await;
        self.process = Some(process);
        is_ready
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where it listens, as workers want it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// A connection past everything.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL");
        soon("a connection to Redis", client.get_multiplexed_async_connection()).await.expect("a connection")
    }

    /// Runs a command.
    pub async fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| _ = command.arg(word));
        let mut connection = self.connection().await;
        let answer = command.query_async(&mut connection);
        soon(&words.join(" "), answer).await.expect("an answer")
    }

    /// Entries it has.
    pub async fn entries(&self) -> usize {
        self.run(&["DBSIZE"]).await
    }

    /// Lets it do nothing, or go on: connections stay, answers do not come.
    pub fn freeze(&self, is_frozen: bool) {
        self.process.as_ref().expect("a server").signal(if is_frozen { "STOP" } else { "CONT" });
    }

    /// Ends it as a crash does.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("KILL");
            process.ended().await;
        }
    }

    /// Starts an empty one at the same place.
    pub async fn restart(&mut self) {
        self.kill().await;
        // The system may keep the port for a moment.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !self.try_start().await {
            assert!(tokio::time::Instant::now() < deadline, "redis-server did not start again");
        }
    }
}
