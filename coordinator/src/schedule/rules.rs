//! The figures that the scheduler goes by.

use std::time::Duration;

/// The figures that the scheduler goes by; a coordinator uses the default ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Tiles a worker has for each slot: those beyond the first are there when a slot gets free.
    pub tiles_per_slot: u32,
    /// Tiles of one call: neighbours that share files, few enough to spread.
    pub batch_max: usize,
    /// Times a tile is tried; handing back does not count.
    pub attempts_max: u32,
    /// How often a tile may lose its worker while it is alone there, before it is quarantined.
    pub deaths_alone_max: u32,
    /// How long a quarantined tile is refused.
    pub quarantine: Duration,
    /// Quarantined tiles; beyond, the one that would be let go first is.
    pub quarantine_max: usize,
    /// Retries in [`Rules::retry_period`] that are always allowed: losing a small fleet once.
    pub retry_floor: u64,
    /// Further retries, as a share of the tiles sent in that period.
    pub retry_share: f64,
    /// What the retry budget looks back at.
    pub retry_period: Duration,
    /// Wait before a tile whose source failed is tried again; doubles with each attempt.
    pub retry_pause: Duration,
    /// Bytes of answers that a request may have under way: dispatched and not taken by its consumer.
    pub window_bytes: u64,
    /// Bytes of answers that the coordinator holds before each request has one tile at a time; windows
    /// shrink from half as many on, and at twice as many nothing new goes out.
    pub spool_bytes: u64,
    /// Requests of one tenant that wait for their first tile.
    pub waiting_max: usize,
    /// Estimated wait for a first tile from which on small requests are refused.
    pub wait_max: Duration,
    /// How many times its own service time a request may wait besides.
    pub wait_factor: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            tiles_per_slot: 2,
            batch_max: 8,
            attempts_max: 3,
            deaths_alone_max: 2,
            quarantine: Duration::from_secs(600),
            quarantine_max: 1024,
            retry_floor: 256,
            retry_share: 0.1,
            retry_period: Duration::from_secs(10),
            retry_pause: Duration::from_millis(100),
            window_bytes: 16 << 20,
            spool_bytes: 128 << 20,
            waiting_max: 1024,
            wait_max: Duration::from_secs(2),
            wait_factor: 4,
        }
    }
}
