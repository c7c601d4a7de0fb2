//! What is not tried again: too many retries at a time, and tiles that kill workers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use graticule_common::grid::TileId;
use graticule_common::hash::ContentHash;

use super::{Now, Rules};

/// Retries as a share of what was sent lately: a storm of them would only add to what causes it.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    /// Sent and tried again in each of the last intervals, by the interval's number.
    intervals: VecDeque<(u128, u64, u64)>,
    sent: u64,
    retried: u64,
}

/// Intervals that the budget's period is cut into.
const INTERVALS: u128 = 10;

impl RetryBudget {
    /// Tiles were sent for the first time.
    pub(super) fn sent(&mut self, rules: &Rules, now: Now, tiles: u64) {
        self.interval(rules, now).1 += tiles;
        self.sent += tiles;
    }

    /// Whether one more retry is within the budget; it then counts.
    pub(super) fn retry(&mut self, rules: &Rules, now: Now) -> bool {
        self.interval(rules, now);
        let allowed = rules.retry_floor as f64 + self.sent as f64 * rules.retry_share;
        if self.retried as f64 >= allowed {
            return false;
        }
        self.interval(rules, now).2 += 1;
        self.retried += 1;
        true
    }

    /// The interval that is now; those that are over leave the sums.
    fn interval(&mut self, rules: &Rules, now: Now) -> &mut (u128, u64, u64) {
        let number = now.as_nanos() * INTERVALS / rules.retry_period.as_nanos().max(1);
        while self.intervals.front().is_some_and(|(first, ..)| first + INTERVALS <= number) {
            if let Some((_, sent, retried)) = self.intervals.pop_front() {
                self.sent -= sent;
                self.retried -= retried;
            }
        }
        let newest = self.intervals.back().map(|(last, ..)| *last);
        if newest.is_none_or(|last| last < number) {
            self.intervals.push_back((number, 0, 0));
        }
        let last = self.intervals.len() - 1;
        &mut self.intervals[last]
    }
}

/// Tiles that are refused for a while.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    until: BTreeMap<(ContentHash, TileId), Now>,
    order: BTreeSet<(Now, ContentHash, TileId)>,
}

impl Quarantine {
    pub(super) fn add(&mut self, rules: &Rules, now: Now, work: ContentHash, tile: TileId) {
        let until = now + rules.quarantine;
        if let Some(before) = self.until.insert((work, tile), until) {
            self.order.remove(&(before, work, tile));
        }
        self.order.insert((until, work, tile));
        while self.order.len() > rules.quarantine_max {
            self.forget_first();
        }
    }

    /// The tiles of a plan that are refused.
    pub(super) fn tiles(&mut self, now: Now, work: ContentHash) -> Vec<TileId> {
        while self.order.first().is_some_and(|(until, ..)| *until <= now) {
            self.forget_first();
        }
        let (first, last) =
            (TileId { row: i64::MIN, col: i64::MIN }, TileId { row: i64::MAX, col: i64::MAX });
        self.until.range((work, first)..=(work, last)).map(|((_, tile), _)| *tile).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }

    fn forget_first(&mut self) {
        if let Some((_, work, tile)) = self.order.pop_first() {
            self.until.remove(&(work, tile));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retries_are_a_share_of_what_was_sent_lately() {
        let rules = Rules { retry_floor: 3, ..Rules::default() };
        let at = Duration::from_secs;
        let mut budget = RetryBudget::default();
        let used = |budget: &mut RetryBudget, now| (0..100).filter(|_| budget.retry(&rules, at(now))).count();
        assert_eq!(used(&mut budget, 0), 3);
        budget.sent(&rules, at(1), 200);
        assert_eq!(used(&mut budget, 2), 20, "a tenth of what was sent, and the floor was used before");
        assert_eq!(used(&mut budget, 10), 3, "what was tried at 0 s is forgotten");
        assert_eq!(used(&mut budget, 60), 3, "only the floor when nothing was sent");
    }

    #[test]
    fn a_quarantine_ends_and_is_bounded() {
        let rules = Rules { quarantine_max: 2, ..Rules::default() };
        let (work, tile) = (ContentHash::from_bytes([1; 32]), |col| TileId { row: 0, col });
        let mut quarantine = Quarantine::default();
        (0..3).for_each(|col| quarantine.add(&rules, Duration::from_secs(col as u64), work, tile(col)));
        assert_eq!(quarantine.len(), 2);
        let now = Duration::from_secs(3);
        assert_eq!(quarantine.tiles(now, work), [tile(1), tile(2)], "the first was let go for the third");
        assert_eq!(quarantine.tiles(now, ContentHash::from_bytes([2; 32])), []);
        let later = rules.quarantine + Duration::from_secs(1);
        assert_eq!(quarantine.tiles(later, work), [tile(2)]);
    }
}
