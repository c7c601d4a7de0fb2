//! A near cache in front of a far one.

use async_trait::async_trait;
use bytes::Bytes;

use super::{CacheStats, MemoryCache, RedisCache, TileCache, TileKey};

/// Looks in this process first and asks a shared cache for what is missing. What the shared cache
/// has is then near; what is put goes to both.
#[derive(Debug)]
pub struct Tiered<Far = RedisCache> {
    near: MemoryCache,
    far: Far,
}

impl<Far: TileCache> Tiered<Far> {
    /// Puts `near` in front of `far`.
    pub fn new(near: MemoryCache, far: Far) -> Self {
        Tiered { near, far }
    }
}

#[async_trait]
impl<Far: TileCache> TileCache for Tiered<Far> {
    async fn get(&self, keys: &[TileKey]) -> Vec<Option<Bytes>> {
        let mut found = self.near.get(keys).await;
        let missing: Vec<usize> = (0..keys.len()).filter(|&i| found[i].is_none()).collect();
        if missing.is_empty() {
            return found;
        }
        let far_keys: Vec<TileKey> = missing.iter().map(|&i| keys[i]).collect();
        let mut fetched = Vec::new();
        for (i, value) in missing.into_iter().zip(self.far.get(&far_keys).await) {
            if let Some(value) = value {
                fetched.push((keys[i], value.clone()));
                found[i] = Some(value);
            }
        }
        self.near.put(fetched);
        found
    }

    fn put(&self, entries: Vec<(TileKey, Bytes)>) {
        self.near.put(entries.clone());
        self.far.put(entries);
    }

    async fn settle(&self) {
        self.far.settle().await;
    }

    /// Hits and misses of the two together. What was stored or dropped is that of the far cache: an
    /// entry that only the near one has is lost with this process.
    fn stats(&self) -> CacheStats {
        let far = self.far.stats();
        CacheStats { hits: self.near.stats().hits + far.hits, shared_hits: far.hits, ..far }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{block_on, conformance, key, value};
    use super::*;

    fn tiered() -> Tiered<MemoryCache> {
        Tiered::new(MemoryCache::new(64 << 20), MemoryCache::new(64 << 20))
    }

    #[test]
    fn conforms() {
        block_on(conformance(&tiered()));
    }

    #[test]
    fn what_is_far_becomes_near() {
        let cache = tiered();
        cache.far.put(vec![(key(1), value(1, 10)), (key(3), value(3, 10))]);
        cache.near.put(vec![(key(2), value(2, 10))]);
        let keys = [key(1), key(2), key(3), key(4)];
        let expected = [Some(value(1, 10)), Some(value(2, 10)), Some(value(3, 10)), None];
        assert_eq!(block_on(cache.get(&keys)), expected);
        assert_eq!(block_on(cache.near.get(&keys)), expected);
        let stats = cache.stats();
        assert_eq!((stats.shared_hits, stats.misses), (2, 1));

        // What is near is not asked for again.
        assert_eq!(block_on(cache.get(&keys[..3])), expected[..3]);
        assert_eq!(cache.stats().shared_hits, 2);
    }
}
