//! Where finished blocks are remembered between requests: in this process, or in Redis, which all
//! workers share. A cache can only save time: a lost entry, a dead server or a damaged value is a
//! miss, and the tile is computed.

mod breaker;
mod envelope;
mod memory;
mod redis;
#[cfg(test)]
mod testing;
mod tiered;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::hash::ContentHash;
use graticule_common::telemetry::names;
use metrics::counter;

pub use memory::MemoryCache;
pub use redis::{RedisCache, RedisSettings};
pub use tiered::Tiered;

/// What a block is filed under: the digest of everything that can change one of its bytes.
pub type TileKey = ContentHash;

/// Where finished blocks are remembered between requests. Losing an entry is always allowed;
/// answering with other bytes than were put under the key never is.
#[async_trait]
pub trait TileCache: Debug + Send + Sync {
    /// What is remembered under `keys`, in their order, with one round trip. A cache that fails or
    /// is too slow has nothing to offer: that is counted in [`stats`](Self::stats) and logged, and is
    /// never an error of the request, hence no `Result`.
    async fn get(&self, keys: &[TileKey]) -> Vec<Option<Bytes>>;

    /// Remembers `entries`, or some of them. Not `async`, because no request waits for it: what needs
    /// the network happens in the background. The bytes should own their memory; a slice of a larger
    /// buffer keeps all of it alive.
    fn put(&self, entries: Vec<(TileKey, Bytes)>);

    /// Returns when everything put so far is stored or given up. For a process about to end, and for
    /// tests; a request has no reason to call it.
    async fn settle(&self);

    /// Counts since the cache was made.
    fn stats(&self) -> CacheStats;
}

/// What a cache did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Keys asked for and found.
    pub hits: u64,
    /// Those of the hits that came from a cache shared with other processes.
    pub shared_hits: u64,
    /// Keys asked for and not found, for whatever reason. Every key asked for is a hit or a miss.
    pub misses: u64,
    /// Round trips that failed or took too long.
    pub errors: u64,
    /// Values found and refused: damaged, filed under a wrong key, or of a format not known here.
    pub rejected: u64,
    /// Keys not even looked up because the server had failed a moment ago.
    pub skipped: u64,
    /// Entries stored.
    pub stored: u64,
    /// Entries not stored: too large, too many waiting, or the server failed.
    pub dropped: u64,
}

/// A cache that cannot be used as it was configured. What goes wrong later is never an error.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The address cannot be used. It is not repeated: it may hold a password.
    #[error(
        "the cache address cannot be used: {reason}. Write `redis://host:6379` or `redis://:password@host:6379/0`, or leave the address out to remember tiles in memory only"
    )]
    Address {
        /// What is wrong with it.
        reason: String,
    },
}

impl Classify for CacheError {
    fn class(&self) -> ErrorClass {
        match self {
            CacheError::Address { .. } => ErrorClass::InvalidRequest,
        }
    }
}

/// [`CacheStats`] while they are being counted, and the same for whoever scrapes metrics.
#[derive(Debug)]
struct Counters {
    /// Which cache: the label of its metrics.
    cache: &'static str,
    hits: AtomicU64,
    misses: AtomicU64,
    errors: AtomicU64,
    rejected: AtomicU64,
    skipped: AtomicU64,
    stored: AtomicU64,
    dropped: AtomicU64,
}

/// What can happen to a key, a value or a round trip; where it says why, with the word of the metric's label.
#[derive(Clone, Copy, Debug)]
enum Happened {
    Hit,
    Miss,
    Error(&'static str),
    Rejected(&'static str),
    /// Not looked up.
    Skipped(&'static str),
    Stored,
    /// Not stored; `None` where an error says it already.
    Dropped(Option<&'static str>),
}

impl Counters {
    fn new(cache: &'static str) -> Self {
        let zero = || AtomicU64::new(0);
        Counters {
            cache,
            hits: zero(),
            misses: zero(),
            errors: zero(),
            rejected: zero(),
            skipped: zero(),
            stored: zero(),
            dropped: zero(),
        }
    }

    fn add(&self, what: Happened, count: usize) {
        if count == 0 {
            return;
        }
        let tier = self.cache;
        let (counter, metric) = match what {
            Happened::Hit => (&self.hits, Some(counter!(names::CACHE_HITS, "tier" => tier))),
            Happened::Miss => (&self.misses, Some(counter!(names::CACHE_MISSES, "tier" => tier))),
            Happened::Error(kind) => (&self.errors, Some(counter!(names::CACHE_ERRORS, "kind" => kind))),
            Happened::Rejected(reason) => {
                (&self.rejected, Some(counter!(names::CACHE_REJECTED, "reason" => reason)))
            }
            Happened::Skipped(reason) => {
                (&self.skipped, Some(counter!(names::CACHE_SKIPPED, "reason" => reason)))
            }
            Happened::Stored => (&self.stored, None),
            Happened::Dropped(reason) => {
                (&self.dropped, reason.map(|reason| counter!(names::CACHE_SKIPPED, "reason" => reason)))
            }
        };
        counter.fetch_add(count as u64, Ordering::Relaxed);
        if let Some(metric) = metric {
            metric.increment(count as u64);
        }
    }

    /// Counts the answer to one `get`.
    fn answered(&self, found: &[Option<Bytes>]) {
        let hits = found.iter().flatten().count();
        self.add(Happened::Hit, hits);
        self.add(Happened::Miss, found.len() - hits);
    }

    fn snapshot(&self, shared: bool) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let hits = read(&self.hits);
        CacheStats {
            hits,
            shared_hits: if shared { hits } else { 0 },
            misses: read(&self.misses),
            errors: read(&self.errors),
            rejected: read(&self.rejected),
            skipped: read(&self.skipped),
            stored: read(&self.stored),
            dropped: read(&self.dropped),
        }
    }
}
