//! [`RedisCache`] against a server of its own, healthy and not.

use super::super::testing::{RedisServer, block_on, conformance, eventually, key, value};
use super::super::{MemoryCache, Tiered};
use super::*;

/// Time-outs for a machine busy with other tests: only tests of slowness are about milliseconds.
fn patient() -> RedisSettings {
    RedisSettings {
        get_timeout: Duration::from_secs(10),
        put_timeout: Duration::from_secs(10),
        ..RedisSettings::default()
    }
}

async fn connect(server: &RedisServer, settings: RedisSettings) -> RedisCache {
    RedisCache::connect(&server.address(), settings).await.unwrap()
}

/// Whether the cache remembers what it is given now.
async fn works(cache: &RedisCache) -> bool {
    cache.put(vec![(key(77), value(77, 10))]);
    cache.settle().await;
    cache.get(&[key(77)]).await == [Some(value(77, 10))]
}

#[test]
fn an_address_that_cannot_be_used_is_refused_without_its_password() {
    for address in
        ["", "host:6379", "http://secret@host", "redis://", "rediss://:secret@host", "redis://:secret@h/x"]
    {
        let error = block_on(RedisCache::connect(address, RedisSettings::default())).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("redis://host:6379") && !message.contains("secret"), "{address}: {message}");
    }
    block_on(async {
        let cache = RedisCache::connect("redis://:secret@127.0.0.1:1", RedisSettings::default()).await;
        let shown = format!("{:?}", cache.unwrap());
        assert!(shown.contains("127.0.0.1:1") && !shown.contains("secret"), "{shown}");
    });
}

#[test]
fn without_a_server_everything_is_a_miss() {
    block_on(async {
        // Nothing listens on port 1.
        let cache = RedisCache::connect("redis://127.0.0.1:1", patient()).await.unwrap();
        for n in 0..20 {
            cache.put(vec![(key(n), value(n, 10))]);
            assert_eq!(cache.get(&[key(n), key(n + 1)]).await, [None, None]);
        }
        cache.settle().await;
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.stored, stats.dropped), (0, 40, 0, 20));
        // The first refused connection is enough to leave the server alone.
        assert!(stats.errors <= 5 && stats.skipped >= 30, "{stats:?}");
    });
}

#[test]
fn what_waits_to_be_written_is_bounded() {
    block_on(async {
        let settings = RedisSettings { pending_bytes_max: 1000, value_bytes_max: 600, ..patient() };
        let cache = RedisCache::connect("redis://127.0.0.1:1", settings).await.unwrap();
        // One fits; one more would not; one is too large by itself. This task has not yielded, so
        // nothing was written in between.
        cache.put(vec![(key(1), value(1, 600)), (key(2), value(2, 600)), (key(3), value(3, 601))]);
        assert_eq!(cache.stats().dropped, 2);
        cache.settle().await;
        assert_eq!(cache.stats().dropped, 3);
        assert_eq!(cache.shared.pending_bytes.load(Ordering::Relaxed), 0);
    });
}

#[test]
#[ignore = "needs redis"]
fn conforms() {
    block_on(async {
        let server = RedisServer::start().await;
        conformance(&connect(&server, patient()).await).await;
    });
}

#[test]
#[ignore = "needs redis"]
fn conforms_behind_a_near_cache() {
    block_on(async {
        let server = RedisServer::start().await;
        let far = connect(&server, patient()).await;
        conformance(&Tiered::new(MemoryCache::new(64 << 20), far)).await;
    });
}

#[test]
#[ignore = "needs redis"]
fn caches_share_what_they_store_and_the_server_forgets_it_in_time() {
    block_on(async {
        let server = RedisServer::start().await;
        let one = connect(&server, patient()).await;
        one.put(vec![(key(1), value(1, 10_000))]);
        one.settle().await;
        // The very first look-up of another process waits for its connection and hits.
        let other = connect(&server, patient()).await;
        assert_eq!(other.get(&[key(1)]).await, [Some(value(1, 10_000))]);
        assert_eq!(other.stats().shared_hits, 1);

        let mut direct = server.direct().await;
        let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut direct).await.unwrap();
        assert_eq!(names, [name(&key(1))]);
        let ttl_s: i64 = redis::cmd("TTL").arg(&names[0]).query_async(&mut direct).await.unwrap();
        assert!((7 * 86_400 - 600..=7 * 86_400).contains(&ttl_s), "{ttl_s}");
    });
}

#[test]
#[ignore = "needs redis"]
fn a_value_of_any_doubt_is_a_miss_and_deleted() {
    block_on(async {
        let server = RedisServer::start().await;
        let cache = connect(&server, patient()).await;
        assert!(works(&cache).await);
        let mut direct = server.direct().await;
        let good = envelope::seal(&key(1), &value(1, 20));
        let mut bad: Vec<Vec<u8>> = (0..good.len())
            .map(|at| {
                let mut flipped = good.clone();
                flipped[at] ^= 0x10;
                flipped
            })
            .collect();
        bad.extend((1..good.len()).map(|len| good[..len].to_vec()));
        bad.push([&good[..], &[0]].concat());
        bad.push(envelope::seal(&key(2), &value(2, 20)));
        // Sealed rightly, and longer than what is ever stored: it is not even fetched whole.
        bad.push(envelope::seal(&key(1), &value(1, cache.shared.settings.value_bytes_max + 1)));
        bad.push(b"hello".to_vec());
        let count = bad.len();
        for bad in bad {
            let name = name(&key(1));
            redis::cmd("SET").arg(&name).arg(&bad).exec_async(&mut direct).await.unwrap();
            let shown = &bad[..bad.len().min(100)];
            assert!(cache.get(&[key(1), key(3)]).await.iter().all(Option::is_none), "{shown:?}");
            cache.settle().await;
            let left: i64 = redis::cmd("EXISTS").arg(&name).query_async(&mut direct).await.unwrap();
            assert_eq!(left, 0, "{shown:?}");
        }
        let stats = cache.stats();
        assert_eq!((stats.rejected, stats.hits, stats.errors), (count as u64, 1, 0));

        // A key that holds no string at all is a miss; putting replaces it.
        redis::cmd("LPUSH").arg(name(&key(1))).arg("x").exec_async(&mut direct).await.unwrap();
        assert_eq!(cache.get(&[key(1)]).await, [None]);
        cache.put(vec![(key(1), value(1, 20))]);
        cache.settle().await;
        assert_eq!(cache.get(&[key(1)]).await, [Some(value(1, 20))]);
    });
}

#[test]
#[ignore = "needs redis"]
fn a_killed_server_costs_misses_and_is_used_again_when_it_is_back() {
    block_on(async {
        let mut server = RedisServer::start().await;
        let settings = RedisSettings { probe_every: Duration::from_millis(50), ..patient() };
        let cache = connect(&server, settings).await;
        assert!(works(&cache).await);

        server.kill();
        for _ in 0..50 {
            assert_eq!(cache.get(&[key(77)]).await, [None]);
        }
        let stats = cache.stats();
        assert_eq!(stats.errors, 5, "{stats:?}");
        assert_eq!(stats.skipped, 45, "{stats:?}");

        server.restart().await;
        eventually("the cache works again", || works(&cache)).await;
        assert_eq!(cache.stats().rejected, 0);
    });
}

#[test]
#[ignore = "needs redis"]
fn a_server_that_starts_late_is_found() {
    block_on(async {
        let mut server = RedisServer::start().await;
        server.kill();
        let settings = RedisSettings { probe_every: Duration::from_millis(50), ..patient() };
        let cache = connect(&server, settings).await;
        assert!(!works(&cache).await);
        server.restart().await;
        eventually("the cache works", || works(&cache)).await;
    });
}

#[test]
#[ignore = "needs redis"]
fn a_quick_restart_is_not_even_noticed_for_long() {
    block_on(async {
        let mut server = RedisServer::start().await;
        // Would leave the server alone for an hour, but for the connections mending themselves.
        let settings =
            RedisSettings { probe_every: Duration::from_secs(3600), failures_max: 1000, ..patient() };
        let cache = connect(&server, settings).await;
        assert!(works(&cache).await);
        server.restart().await;
        eventually("the cache works again", || works(&cache)).await;
        assert_eq!(cache.stats().skipped, 0);
    });
}

#[test]
#[ignore = "needs redis"]
fn a_server_that_hangs_costs_no_more_than_the_time_out() {
    block_on(async {
        let server = RedisServer::start().await;
        let settings = RedisSettings {
            get_timeout: Duration::from_millis(50),
            probe_every: Duration::from_millis(50),
            ..patient()
        };
        let cache = connect(&server, settings).await;
        eventually("the cache works", || works(&cache)).await;

        server.pause(true);
        let start = Instant::now();
        for _ in 0..200 {
            assert_eq!(cache.get(&[key(77)]).await, [None]);
        }
        // Five time-outs and 195 look-ups that ask nobody; the rest is room for a busy machine.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let stats = cache.stats();
        assert!(stats.errors >= 5 && stats.skipped >= 190, "{stats:?}");

        server.pause(false);
        eventually("the cache works again", || works(&cache)).await;
    });
}

#[test]
#[ignore = "needs redis"]
fn a_full_server_is_still_read() {
    block_on(async {
        let server = RedisServer::start().await;
        let cache = connect(&server, patient()).await;
        assert!(works(&cache).await);
        let mut direct = server.direct().await;
        for (name, setting) in [("maxmemory-policy", "noeviction"), ("maxmemory", "1")] {
            redis::cmd("CONFIG").arg("SET").arg(name).arg(setting).exec_async(&mut direct).await.unwrap();
        }
        for n in 0..10 {
            cache.put(vec![(key(n), value(n, 10))]);
            cache.settle().await;
            assert_eq!(cache.get(&[key(77), key(n)]).await, [Some(value(77, 10)), None]);
        }
        let stats = cache.stats();
        assert_eq!((stats.dropped, stats.errors, stats.skipped), (10, 10, 0), "{stats:?}");
    });
}

#[test]
#[ignore = "needs redis"]
fn a_server_that_evicts_answers_rightly_or_not_at_all() {
    block_on(async {
        let server = RedisServer::start().await;
        let cache = connect(&server, patient()).await;
        assert!(works(&cache).await);
        let mut direct = server.direct().await;
        for (name, setting) in [("maxmemory-policy", "allkeys-lru"), ("maxmemory", "8mb")] {
            redis::cmd("CONFIG").arg("SET").arg(name).arg(setting).exec_async(&mut direct).await.unwrap();
        }
        // 20 MB into 8.
        for n in 0..200 {
            cache.put(vec![(key(n), value(n, 100_000))]);
            cache.settle().await;
        }
        let keys: Vec<_> = (0..200).map(key).collect();
        let found = cache.get(&keys).await;
        let right = (0..200).filter(|&n| found[n] == Some(value(n, 100_000))).count();
        let absent = found.iter().filter(|found| found.is_none()).count();
        assert_eq!((right + absent, cache.stats().rejected), (200, 0));
        assert!(right > 0 && absent > 100, "{right} found");
    });
}

/// Answers every connection with the same bytes, again and again.
async fn speaks(bytes: &'static [u8]) -> String {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            taken.push(tokio::spawn(async move { while stream.write_all(bytes).await.is_ok() {} }));
        }
    });
    address
}

#[test]
fn what_is_no_redis_costs_misses() {
    block_on(async {
        for bytes in
            [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"+OK\r\n", b"*-1\r\n", b"$3\r\nabc\r\n", b"\0\xff"]
        {
            let settings =
                RedisSettings { get_timeout: Duration::from_millis(200), ..RedisSettings::default() };
            let cache = RedisCache::connect(&speaks(bytes).await, settings).await.unwrap();
            for n in 0..20 {
                cache.put(vec![(key(n), value(n, 10))]);
                assert_eq!(cache.get(&[key(n), key(n + 1)]).await, [None, None], "{bytes:?}");
            }
            assert_eq!(cache.stats().hits, 0);
        }
    });
}
