//! What a worker counts, for whoever scrapes it; `graticule_common::telemetry::names` says what each means.

use std::convert::Infallible;
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::telemetry::names;
use metrics::{counter, gauge, histogram};

use crate::pool::Pool;
use crate::tile::{Outcome, TileError};

/// Time between looks at what is in use.
const EVERY: Duration = Duration::from_secs(1);

/// A tile that was answered.
pub(crate) fn tile(outcome: &Outcome) {
    let label = match outcome {
        Ok(result) if result.cost.coalesced => "coalesced",
        Ok(result) if result.cost.from_cache => "cached",
        Ok(_) => "done",
        Err(TileError::HandedBack) => "handed_back",
        Err(TileError::Cancelled | TileError::Deadline) => "cancelled",
        Err(_) => "failed",
    };
    counter!(names::WORKER_TILES, "outcome" => label).increment(1);
    match outcome {
        Err(TileError::Read(error)) => {
            let class = if error.class() == ErrorClass::Unavailable { "unavailable" } else { "source" };
            counter!(names::READ_ERRORS, "class" => class).increment(1);
        }
        // What was done once for several is counted once.
        Ok(result) if !result.cost.coalesced => {
            let cost = result.cost;
            counter!(names::READ_ERRORS, "class" => "source").increment(result.skipped.len() as u64);
            counter!(names::READ_BYTES).increment(cost.read_bytes);
            counter!(names::FILES_OPENED).increment(cost.files_opened);
            histogram!(names::TILE_CPU_SECONDS).record(cost.cpu.as_secs_f64());
            let steps = [
                ("wait", cost.waited),
                ("cache", cost.cache),
                ("read", cost.read),
                ("eval", cost.eval.saturating_sub(cost.encode)),
                ("encode", cost.encode),
            ];
            for (step, time) in steps {
                histogram!(names::TILE_SECONDS, "step" => step).record(time.as_secs_f64());
            }
        }
        _ => {}
    }
}

/// What of a pool is in use, again and again.
pub(crate) async fn pool(pool: Pool, slots: u32, memory_bytes: u64) -> Infallible {
    gauge!(names::WORKER_SLOTS).set(slots);
    gauge!(names::WORKER_MEMORY_BYTES).set(memory_bytes as f64);
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let lost = *pool.lost_slots().borrow();
        gauge!(names::WORKER_BUSY_SLOTS).set(slots.saturating_sub(pool.free_slots()).saturating_sub(lost));
        gauge!(names::WORKER_LOST_SLOTS).set(lost);
        gauge!(names::WORKER_FREE_BYTES).set(pool.free_bytes() as f64);
    }
}
