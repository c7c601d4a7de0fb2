//! Rules one by one, histories at random, a simulated world, and how fast it is.

mod checked;
mod histories;
mod rules;
mod simulation;
mod speed;

use std::time::Duration;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn hash(byte: u8) -> ContentHash {
    ContentHash::from_bytes([byte; 32])
}

impl Schedule {
    /// Whether nothing is left when all requests have ended and all calls too.
    fn check_nothing_is_left(&self) {
        assert!(self.requests.is_empty() && self.flights.is_empty() && self.calls.is_empty());
        assert!(self.shared.is_empty() && self.wanted.is_empty() && self.again.is_empty());
        assert!(self.parked.is_empty() && self.timers.is_empty() && self.fair.is_empty());
        assert_eq!(self.spool, 0);
        for worker in self.workers.iter() {
            assert_eq!((worker.tiles, worker.used_mib), (0, 0), "{}", worker.name);
            assert!(worker.calls.is_empty() && !worker.is_taken(), "{}", worker.name);
        }
    }
}
