//! The cache inside one process.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use graticule_common::telemetry::names;
use moka::sync::Cache;

use super::{CacheStats, Counters, Happened, TileCache, TileKey};

/// What an entry costs beside its bytes: key, list nodes, the cache's own bookkeeping and the allocator's. Of empty
/// values it took 370 each; `tests/cache_memory.rs` compares.
const ENTRY_OVERHEAD: usize = 400;

/// Remembers blocks in this process, up to a number of bytes; those used least make room.
pub struct MemoryCache {
    entries: Cache<TileKey, Bytes>,
    bytes_max: u64,
    counters: Counters,
}

impl MemoryCache {
    /// A cache that holds at most `bytes_max` bytes; 0 remembers nothing.
    pub fn new(bytes_max: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(bytes_max)
            .weigher(|_, value: &Bytes| u32::try_from(weight(value)).unwrap_or(u32::MAX))
            .build();
        MemoryCache { entries, bytes_max, counters: Counters::new("memory") }
    }

    /// Bytes held now, bookkeeping included.
    pub fn bytes(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.weighted_size()
    }
}

fn weight(value: &Bytes) -> usize {
    value.len().saturating_add(ENTRY_OVERHEAD)
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("bytes_max", &self.bytes_max)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TileCache for MemoryCache {
    async fn get(&self, keys: &[TileKey]) -> Vec<Option<Bytes>> {
        let found: Vec<_> = keys.iter().map(|key| self.entries.get(key)).collect();
        self.counters.answered(&found);
        found
    }

    fn put(&self, entries: Vec<(TileKey, Bytes)>) {
        for (key, value) in entries {
            // An entry of 4 GiB or more could not be weighed.
            if weight(&value) as u64 > self.bytes_max || u32::try_from(weight(&value)).is_err() {
                self.counters.add(Happened::Dropped(Some("size")), 1);
                continue;
            }
            self.counters.add(Happened::Stored, 1);
            self.entries.insert(key, value);
            // Evictions are otherwise put off for dozens of entries, which for blocks means a bound
            // that is exceeded by dozens of megabytes.
            self.entries.run_pending_tasks();
        }
        metrics::gauge!(names::CACHE_BYTES).set(self.entries.weighted_size() as f64);
    }

    async fn settle(&self) {}

    fn stats(&self) -> CacheStats {
        self.counters.snapshot(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{block_on, conformance, key, value};
    use super::*;

    #[test]
    fn conforms() {
        block_on(conformance(&MemoryCache::new(64 << 20)));
    }

    #[test]
    fn stays_within_its_bound() {
        let cache = MemoryCache::new(1 << 20);
        for i in 0..200 {
            cache.put(vec![(key(i), value(i, 50_000))]);
            assert!(cache.entries.weighted_size() <= 1 << 20);
        }
        let keys: Vec<_> = (0..200).map(key).collect();
        let kept = block_on(cache.get(&keys)).into_iter().flatten().count();
        assert!((10..=20).contains(&kept), "{kept}");
    }

    #[test]
    fn an_entry_larger_than_the_cache_displaces_nothing() {
        let cache = MemoryCache::new(10_000);
        cache.put(vec![(key(1), value(1, 100)), (key(2), value(2, 10_000))]);
        assert_eq!(block_on(cache.get(&[key(1), key(2)])), [Some(value(1, 100)), None]);
        assert_eq!((cache.stats().stored, cache.stats().dropped), (1, 1));

        let nothing = MemoryCache::new(0);
        nothing.put(vec![(key(1), Bytes::new())]);
        assert_eq!(block_on(nothing.get(&[key(1)])), [None]);
    }
}
