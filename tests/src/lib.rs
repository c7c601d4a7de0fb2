//! What the end-to-end and golden tests share: a made-up world of scenes whose pixels are known, a
//! cluster in this process, and the real binary in processes of its own.

pub mod cases;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod colorado;
pub mod conform;
pub mod fake;
pub mod fleet;
pub mod load;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod rest;
pub mod scenes;
pub mod web;
pub mod world;

use std::time::Duration;

/// Long enough for anything that works; what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must happen.
///
/// # Panics
/// When it does not happen within [`PATIENCE`].
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {} s", PATIENCE.as_secs()),
    }
}

/// Waits until something holds that nothing announces: what is asked is asked again and again.
///
/// # Panics
/// When it does not hold within [`PATIENCE`].
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let waiting = async {
        while !holds().await {
            again.tick().await;
        }
    };
    soon(what, waiting).await;
}
