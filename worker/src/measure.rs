//! What a worker counts, for whoever scrapes it. Names and meanings are in `telemetry::names`.

use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::telemetry::names;
use metrics::{counter, gauge, histogram};

use crate::pool::Pool;
use crate::tile::{Outcome, TileError};

/// How often free memory is told. What it was between two looks nobody knows.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Counts a tile that was answered; what became of it.
pub(crate) fn tile(outcome: &Outcome) -> &'static str {
    let label = match outcome {
        Ok(result) if result.cost.coalesced => "coalesced",
        Ok(result) if result.cost.from_cache => "cached",
        Ok(_) => "done",
        Err(TileError::HandedBack) => "handed_back",
        Err(TileError::Cancelled | TileError::Deadline) => "cancelled",
        Err(_) => "failed",
    };
    counter!(names::WORKER_TILES, "outcome" => label).increment(1);
    let cost = match outcome {
        Ok(result) => result.cost,
        Err(error @ TileError::Read(_)) => {
            if let class @ (ErrorClass::Source | ErrorClass::Unavailable | ErrorClass::Timeout) =
                error.class()
            {
                counter!(names::READ_ERRORS, "class" => class.name()).increment(1);
            }
            return label;
        }
        Err(_) => return label,
    };
    if cost.coalesced {
        return label;
    }
    counter!(names::READ_BYTES).increment(cost.read_bytes);
    counter!(names::FILES_OPENED).increment(cost.files_opened);
    histogram!(names::TILE_SECONDS, "step" => "cache").record(cost.asked);
    if !cost.cpu.is_zero() {
        let steps = [
            ("wait", cost.waited),
            ("read", cost.read),
            ("eval", cost.eval.saturating_sub(cost.encode)),
            ("encode", cost.encode),
        ];
        for (step, time) in steps {
            histogram!(names::TILE_SECONDS, "step" => step).record(time);
        }
        histogram!(names::TILE_CPU_SECONDS).record(cost.cpu);
    }
    label
}

/// A slot that computes, as long as it lives.
pub(crate) struct Busy;

/// Counts a slot that computes.
pub(crate) fn busy() -> Busy {
    gauge!(names::WORKER_BUSY_SLOTS).increment(1.0);
    Busy
}

impl Drop for Busy {
    fn drop(&mut self) {
        gauge!(names::WORKER_BUSY_SLOTS).decrement(1.0);
    }
}

/// What a worker has added to the process's gauges: workers of one process are told together.
#[derive(Default)]
struct Told([(&'static str, f64); 4]);

impl Told {
    fn tell(&mut self, now: [(&'static str, f64); 4]) {
        for ((_, before), (name, value)) in self.0.iter().zip(now) {
            gauge!(name).increment(value - before);
        }
        self.0 = now;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        for (name, value) in self.0 {
            gauge!(name).decrement(value);
        }
    }
}

/// Tells what a worker has, for as long as it is polled.
pub(crate) async fn capacity(pool: Pool, slots: u32, memory_bytes: u64) {
    let mut told = Told::default();
    let lost = pool.lost_slots();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        told.tell([
            (names::WORKER_SLOTS, f64::from(slots)),
            (names::WORKER_MEMORY_BYTES, memory_bytes as f64),
            (names::WORKER_FREE_BYTES, pool.free_bytes() as f64),
            (names::WORKER_LOST_SLOTS, f64::from(*lost.borrow())),
        ]);
    }
}
