//! Breaking a cluster of real processes: after each fault the pixels are those of an undisturbed run, or there
//! is a clean error in time.
//!
//! `cargo test` runs a part of it; what is ignored as `chaos` runs with `make chaos`. Faults have their own
//! time, so the tests take turns.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, helpers included")]

mod cached;
mod certificates;
mod clients;
mod coordinators;
mod links;
mod load;
mod points;
mod random;

mod sources;
mod workers;

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

/// A test's turn: one at a time, for what happens when is what they are about.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Within this time a peer that says nothing is given up.
const HUNG_NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// What any of the cases takes, after a fault and on a machine busy with other things.
const WORK: Duration = Duration::from_secs(25);
