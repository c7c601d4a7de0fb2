//! What is refused at the door, and how much waits.

use std::time::Duration;

use super::fair::Cost;
use super::request::Request;
use super::{Failure, Load, Schedule};

/// What a refused client is told to wait, at least and at most.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

impl Schedule {
    /// Why a request is not taken in, if it is not.
    pub(super) fn refusal(&mut self, request: &Request) -> Option<Failure> {
        if request.deadline <= self.now {
            return Some(Failure::Deadline);
        }
        if let Some(have_mib) = self.workers.largest_mib.filter(|mib| *mib < request.peak_mib) {
            return Some(Failure::TooLarge { need_mib: request.peak_mib, have_mib });
        }
        let killers = self.quarantine.tiles(self.now, request.work);
        if let Some(tile) = killers.into_iter().find(|tile| request.waits_for(*tile)) {
            return Some(Failure::Crashes { tile });
        }
        // What others compute anyway costs nothing.
        let joins = |tile| self.shared.contains_key(&(request.work, tile));
        if request.is_small() && request.waiting_tiles().all(joins) {
            return None;
        }
        let tiles = request.total as u64;
        let all = request.cost.saturating_mul(tiles) / self.workers.slots.max(1);
        let patience = request.deadline.saturating_sub(self.now) / 2;
        let retry_after = self.overload(&request.tenant, self.paced(all.max(request.cost)), patience)?;
        Some(Failure::Overloaded { retry_after })
    }

    /// How much waits, as a tenant sees it, and whether its next request would be refused if it took
    /// `own` to compute on all workers; nothing, when that is not known yet.
    pub fn load(&self, tenant: &str, own: Duration) -> Load {
        Load {
            waiting: self.fair.waiting(tenant),
            wait: self.wait(tenant),
            refused: self.overload(tenant, own, Duration::MAX),
        }
    }

    /// When to come again, if too much waits for a request that takes `own` and can wait for `patience`.
    fn overload(&self, tenant: &str, own: Duration, patience: Duration) -> Option<Duration> {
        let wait = self.wait(tenant);
        let most = self.rules.wait_max.saturating_add(own.saturating_mul(self.rules.wait_factor));
        let is_over = wait > most.min(patience) || self.fair.waiting(tenant) >= self.rules.waiting_max;
        is_over.then(|| wait.clamp(RETRY_AFTER.0, RETRY_AFTER.1))
    }

    /// Estimated wait for the first tile of a tenant's next request; without workers nobody knows, and
    /// patience decides.
    fn wait(&self, tenant: &str) -> Duration {
        match self.workers.slots {
            0 => Duration::ZERO,
            slots => self.paced(self.fair.in_front(tenant) / slots),
        }
    }

    /// What an estimated time turns out to be, by what tiles took lately.
    fn paced(&self, cost: Cost) -> Duration {
        Duration::from_nanos((cost as f64 * self.pace) as u64)
    }
}
