//! What a worker counts, for whoever scrapes it. Names and meanings are in `docs/operate.md`.

use metrics::{counter, histogram};

use crate::tile::{Outcome, TileError};

/// A tile that was answered.
pub(crate) fn tile(outcome: &Outcome) {
    let label = match outcome {
        Ok(result) if result.cost.coalesced => "coalesced",
        Ok(result) if result.cost.from_cache => "remembered",
        Ok(_) => "computed",
        Err(TileError::HandedBack) => "handed_back",
        Err(TileError::Cancelled | TileError::Deadline) => "given_up",
        Err(_) => "failed",
    };
    counter!("graticule_worker_tiles_total", "outcome" => label).increment(1);
    let Ok(result) = outcome else { return };
    let cost = result.cost;
    if cost.coalesced {
        return;
    }
    counter!("graticule_source_read_bytes").increment(cost.read_bytes);
    counter!("graticule_source_opened_files").increment(cost.files_opened);
    counter!("graticule_source_spared_reads").increment(cost.reads_spared);
    counter!("graticule_source_skipped_files").increment(result.skipped.len() as u64);
    let stages = [("wait", cost.waited), ("read", cost.read), ("eval", cost.eval), ("cpu", cost.cpu)];
    for (stage, time) in stages {
        histogram!("graticule_worker_tile_seconds", "stage" => stage).record(time.as_secs_f64());
    }
}
