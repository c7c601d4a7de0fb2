//! What the cache in memory really takes. In a process of its own, so that nobody else's memory is in it.

use graticule_common::hash::Hasher;
use graticule_worker::cache::{MemoryCache, TileCache};

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a figure");
    let kib: u64 = line.split_whitespace().nth(1).expect("a figure").parse().expect("a number");
    kib << 10
}

/// A cache that is filled over and over takes no more than it may: keys and bookkeeping are counted.
#[test]
fn a_full_cache_takes_what_it_may_and_no_more() {
    const BOUND: u64 = 16 << 20;
    let before = resident();
    // Small values are mostly bookkeeping; large ones hardly any.
    for (len, puts) in [(0usize, 100_000u64), (100, 100_000), (40_000, 2_000)] {
        let cache = MemoryCache::new(BOUND);
        for n in 0..puts {
            let key = Hasher::new("memory test").int(n as i64).int(len as i64).finish();
            cache.put(vec![(key, vec![n as u8; len].into())]);
        }
        let (taken, counted) = (resident().saturating_sub(before), cache.bytes());
        println!("{len} bytes each: {} MiB counted, {} MiB taken", counted >> 20, taken >> 20);
        assert!(counted <= BOUND && counted > BOUND * 9 / 10, "{counted} counted");
        assert!(taken <= BOUND * 5 / 4, "values of {len} bytes: {taken} taken for {counted} counted");
    }
}
