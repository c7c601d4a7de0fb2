//! The cache that all workers share, in Redis.
//!
//! Redis may be absent, slow, full, restarted or wrong at any moment: none of it is an error, and no
//! request waits for it longer than [`RedisSettings::get_timeout`]. After some failures in a row it is
//! left alone, and a probe in the background finds out when it is back.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use graticule_common::failpoint;
use graticule_common::telemetry::names;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, RedisResult};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::breaker::{Admission, Breaker, Change, Outcome};
use super::{CacheError, CacheStats, Counters, Happened, TileCache, TileKey, envelope};

/// In front of every key, so that a server shared with others can be limited and cleaned by pattern.
const KEY_PREFIX: &str = "graticule:t:";
/// How long a connection, first or probe, may take in the background.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Writes go out in batches of about so many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// What a job in the queue costs beside its bytes.
const JOB_OVERHEAD: usize = 128;

/// How [`RedisCache`] treats its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// How long a look-up may take, connecting included; then it is a miss.
    pub get_timeout: Duration,
    /// How long writing a batch may take. Nobody waits for it.
    pub put_timeout: Duration,
    /// How long the server keeps an entry, in whole seconds.
    pub ttl: Duration,
    /// Size of the largest value that is stored, in bytes. A 1024 × 1024 tile of one band is 4 MiB;
    /// much larger ones are read no faster than they are computed, and would delay other look-ups.
    pub value_bytes_max: usize,
    /// Memory that entries on their way to the server may take, in bytes; what exceeds it is dropped.
    pub pending_bytes_max: usize,
    /// Failures in a row after which the server is left alone.
    pub failures_max: u32,
    /// Time between probes while it is left alone.
    pub probe_every: Duration,
}

impl Default for RedisSettings {
    fn default() -> Self {
        RedisSettings {
            get_timeout: Duration::from_millis(50),
            put_timeout: Duration::from_secs(2),
            ttl: Duration::from_secs(7 * 24 * 3600),
            value_bytes_max: 8 << 20,
            pending_bytes_max: 64 << 20,
            failures_max: 5,
            probe_every: Duration::from_secs(1),
        }
    }
}

/// Remembers blocks in Redis, for every worker that uses the same server.
pub struct RedisCache {
    shared: Arc<Shared>,
    /// To the task that writes. Unbounded in length, bounded in bytes by `Shared::pending_bytes`.
    jobs: mpsc::UnboundedSender<Job>,
}

impl RedisCache {
    /// A cache at `address`, such as `redis://host:6379`. Returns at once: the connection is made in
    /// the background, and whether the server is there makes no difference to the result.
    pub async fn connect(address: &str, settings: RedisSettings) -> Result<Self, CacheError> {
        let refuse = |error: RedisError| CacheError::Address { reason: error.to_string() };
        let client = Client::open(address).map_err(refuse)?;
        let links = Links::lazy(&client).map_err(refuse)?;
        let breaker = Breaker::new(settings.failures_max, settings.probe_every, 2 * CONNECT_MAX);
        let (jobs, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            client,
            settings,
            links: Mutex::new(links.clone()),
            breaker: Mutex::new(breaker),
            pending_bytes: AtomicUsize::new(0),
            counters: Counters::new("redis"),
            complained_of_value: AtomicBool::new(false),
            complained_of_refusal: AtomicBool::new(false),
        });
        let writer = shared.clone();
        tokio::spawn(async move {
            // Look-ups that come meanwhile wait for the same connection, up to their time-out.
            writer.probe(links).await;
            writer.write_behind(queue).await;
        });
        Ok(RedisCache { shared, jobs })
    }

    /// Hands a job to the writing task, unless too many bytes wait already.
    fn enqueue(&self, job: Job) {
        let bytes = job.bytes();
        let waiting = self.shared.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting.saturating_add(bytes) > self.shared.settings.pending_bytes_max
            || self.jobs.send(job).is_err()
        {
            self.shared.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.counters.add(Happened::Dropped(Some("queue")), 1);
        }
    }
}

impl fmt::Debug for RedisCache {
    /// Shows where the server is, never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache")
            .field("address", &self.shared.address())
            .field("settings", &self.shared.settings)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TileCache for RedisCache {
    async fn get(&self, keys: &[TileKey]) -> Vec<Option<Bytes>> {
        let sealed = if keys.is_empty() { None } else { self.shared.look_up(keys).await };
        let mut found = sealed.unwrap_or_else(|| vec![None; keys.len()]);
        for (key, slot) in keys.iter().zip(&mut found) {
            *slot = slot.take().and_then(|sealed| match envelope::open(key, &sealed) {
                Ok(value) => Some(value),
                Err(refusal) => {
                    self.shared.rejected(refusal);
                    self.enqueue(Job::Delete(*key));
                    None
                }
            });
        }
        self.shared.counters.answered(&found);
        found
    }

    fn put(&self, entries: Vec<(TileKey, Bytes)>) {
        for (key, value) in entries {
            if value.len() > self.shared.settings.value_bytes_max {
                self.shared.counters.add(Happened::Dropped(Some("size")), 1);
            } else {
                self.enqueue(Job::Store(key, value));
            }
        }
    }

    async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        if self.jobs.send(Job::Settle(done)).is_ok() {
            // An error means that the writing task is gone, and with it all that waited.
            let _ = settled.await;
        }
    }

    fn stats(&self) -> CacheStats {
        self.shared.counters.snapshot(true)
    }
}

/// What the cache, its writing task and its probes have in common.
struct Shared {
    client: Client,
    settings: RedisSettings,
    links: Mutex<Links>,
    breaker: Mutex<Breaker>,
    pending_bytes: AtomicUsize,
    counters: Counters,
    /// Whether the log has said that a value was refused; the counter says how many were.
    complained_of_value: AtomicBool,
    /// Whether the log has said that the server refuses to store.
    complained_of_refusal: AtomicBool,
}

impl Shared {
    /// The server's values for `keys`, still sealed; `None` if it could not be asked.
    async fn look_up(self: &Arc<Self>, keys: &[TileKey]) -> Option<Vec<Option<Bytes>>> {
        if !self.admitted() {
            self.counters.add(Happened::Skipped("breaker"), keys.len());
            return None;
        }
        let mut link = lock(&self.links).read.clone();
        // As much as a value of ours can have; a longer one comes cut and is refused. Whoever writes there, no
        // reply fills this process's memory.
        let last = (envelope::HEADER_BYTES + self.settings.value_bytes_max).saturating_sub(1);
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for key in keys {
            pipeline.cmd("GETRANGE").arg(name(key)).arg(0).arg(last);
        }
        let asking = async {
            failpoint!("cache.before_get", return Err(too_slow()));
            pipeline.query_async(&mut link).await
        };
        let reply = timeout(self.settings.get_timeout, asking).await;
        let error = match reply.map(|reply| reply.and_then(|values| values_of(values, keys.len()))) {
            Ok(Ok(sealed)) => {
                self.report(Outcome::Answered, None);
                return Some(sealed);
            }
            Ok(Err(error)) => error,
            Err(_) => too_slow(),
        };
        self.counters.add(Happened::Error(kind(&error)), 1);
        self.report(Outcome::Failed, Some(&error));
        None
    }

    /// Writes what was put, in the order it was put, until the cache is dropped.
    async fn write_behind(self: &Arc<Self>, mut queue: mpsc::UnboundedReceiver<Job>) {
        while let Some(first) = queue.recv().await {
            let mut bytes = first.bytes();
            let mut batch = vec![first];
            while bytes < BATCH_BYTES
                && let Ok(job) = queue.try_recv()
            {
                bytes += job.bytes();
                batch.push(job);
            }
            if batch.iter().any(|job| !matches!(job, Job::Settle(_))) {
                self.write(&batch).await;
            }
            self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            for job in batch {
                if let Job::Settle(done) = job {
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                }
            }
        }
    }

    /// Sends a batch of stores and deletions.
    async fn write(self: &Arc<Self>, batch: &[Job]) {
        let stores = batch.iter().filter(|job| matches!(job, Job::Store(..))).count();
        if !self.admitted() {
            self.counters.add(Happened::Dropped(Some("breaker")), stores);
            return;
        }
        let mut link = lock(&self.links).write.clone();
        let mut pipeline = redis::pipe();
        let ttl_s = self.settings.ttl.as_secs().max(1);
        for job in batch {
            match job {
                Job::Store(key, value) => {
                    let sealed = envelope::seal(key, value);
                    pipeline.cmd("SET").arg(name(key)).arg(sealed).arg("EX").arg(ttl_s);
                }
                Job::Delete(key) => {
                    pipeline.cmd("UNLINK").arg(name(key));
                }
                Job::Settle(_) => {}
            }
        }
        let storing = async {
            failpoint!("cache.before_put", return Err(too_slow()));
            pipeline.exec_async(&mut link).await
        };
        let reply = timeout(self.settings.put_timeout, storing).await;
        let error = match reply {
            Ok(Ok(())) => {
                self.counters.add(Happened::Stored, stores);
                self.report(Outcome::Answered, None);
                return;
            }
            Ok(Err(error)) => error,
            Err(_) => too_slow(),
        };
        self.counters.add(Happened::Error(kind(&error)), 1);
        self.counters.add(Happened::Dropped(None), stores);
        if error.is_io_error() || error.is_timeout() {
            self.report(Outcome::Failed, Some(&error));
        } else if !self.complained_of_refusal.swap(true, Ordering::Relaxed) {
            // A server that refuses to store, because it is full or read-only, can still be read. So
            // this says nothing about leaving it alone.
            tracing::warn!(
                "the cache at `{}` refuses to store ({error}): tiles are computed more often than need \
                 be. Give it more memory, or an eviction policy such as `allkeys-lru`",
                self.address()
            );
        }
    }

    /// Whether an operation may go to the server. Starts a probe when one is due.
    fn admitted(self: &Arc<Self>) -> bool {
        let admission = lock(&self.breaker).admit(Instant::now());
        if admission == Admission::SkipAndProbe {
            // New connections: the old ones may lead to a machine that is gone.
            match Links::lazy(&self.client) {
                Ok(links) => {
                    let shared = self.clone();
                    tokio::spawn(async move { shared.probe(links).await });
                }
                Err(error) => self.report(Outcome::ProbeFailed, Some(&error)),
            }
        }
        admission == Admission::Proceed
    }

    /// Sees whether the server answers on `links`, and if so uses them from here on.
    async fn probe(&self, links: Links) {
        match timeout(CONNECT_MAX, links.ping()).await.unwrap_or_else(|_| Err(too_slow())) {
            Ok(()) => {
                *lock(&self.links) = links;
                self.report(Outcome::ProbeAnswered, None);
            }
            Err(error) => self.report(Outcome::ProbeFailed, Some(&error)),
        }
    }

    fn report(&self, outcome: Outcome, error: Option<&RedisError>) {
        let change = lock(&self.breaker).report(outcome, Instant::now());
        let address = self.address();
        match change {
            Some(Change::Opened) => metrics::gauge!(names::CACHE_BREAKER_OPEN).set(1.0),
            Some(Change::Closed) => metrics::gauge!(names::CACHE_BREAKER_OPEN).set(0.0),
            None => {}
        }
        match (change, error) {
            (Some(Change::Opened), Some(error)) => tracing::warn!(
                "the cache at `{address}` does not answer ({error}): tiles are computed without it until \
                 it does"
            ),
            (Some(Change::Opened), None) => tracing::warn!("the cache at `{address}` is left alone"),
            (Some(Change::Closed), _) => tracing::info!("the cache at `{address}` answers again"),
            (None, _) => {}
        }
    }

    /// Takes note of a value that was refused.
    fn rejected(&self, refusal: envelope::Refusal) {
        self.counters.add(Happened::Rejected(refusal.label()), 1);
        if !self.complained_of_value.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a value in the cache at `{}` was refused and deleted: {refusal}. Its tile is computed \
                 again. If the count of rejected values keeps growing, something else writes under \
                 `{KEY_PREFIX}*`, or that machine damages data",
                self.address()
            );
        }
    }

    fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }
}

/// Connections to the server. Two, so that a look-up never queues behind megabytes being written.
#[derive(Clone)]
struct Links {
    read: ConnectionManager,
    write: ConnectionManager,
}

impl Links {
    /// Connections that are made when first used.
    fn lazy(client: &Client) -> RedisResult<Self> {
        // No retries of its own: the breaker decides when to try again. Time-outs are ours too.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(None);
        let manager = || ConnectionManager::new_lazy_with_config(client.clone(), config.clone());
        Ok(Links { read: manager()?, write: manager()? })
    }

    async fn ping(&self) -> RedisResult<()> {
        let ping = redis::cmd("PING");
        ping.exec_async(&mut self.read.clone()).await?;
        ping.exec_async(&mut self.write.clone()).await
    }
}

/// What the writing task is asked for.
enum Job {
    Store(TileKey, Bytes),
    Delete(TileKey),
    /// Answer when all jobs before this one are done.
    Settle(oneshot::Sender<()>),
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Job::Store(_, value) => value.len() + JOB_OVERHEAD,
            Job::Delete(_) => JOB_OVERHEAD,
            Job::Settle(_) => 0,
        }
    }
}

/// What was found under so many keys. Nothing is no value, and a key that holds no string is none of ours.
fn values_of(values: Vec<RedisResult<Bytes>>, keys: usize) -> RedisResult<Vec<Option<Bytes>>> {
    if values.len() != keys {
        return Err((redis::ErrorKind::UnexpectedReturnType, "not one value for each key").into());
    }
    let value = |value: RedisResult<Bytes>| match value {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(error) if error.code() == Some("WRONGTYPE") => Ok(None),
        Err(error) => Err(error),
    };
    values.into_iter().map(value).collect()
}

/// The word of the metric's label.
fn kind(error: &RedisError) -> &'static str {
    match error {
        error if error.is_timeout() => "timeout",
        error if error.is_io_error() => "connection",
        _ => "answer",
    }
}

fn name(key: &TileKey) -> String {
    format!("{KEY_PREFIX}{key}")
}

fn too_slow() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Nothing panics while holding these locks, and if it did the content would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
