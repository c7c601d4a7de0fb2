//! How much of a coordinator one tenant may ask for: a token bucket and a count for each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Tenants that are remembered. Those that have not called for a while have full buckets and are
/// forgotten first; when all are busy, one more waits.
const TENANTS_MAX: usize = 10_000;

/// Calls of one tenant that wait for their turn: others need places, too.
const WAITING_MAX: usize = 128;

/// When a tenant whose calls are all under way is to come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// Bounds for each tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Calls a second, on average; as many may come at once. 0: no bound.
    pub per_second: u32,
    /// Calls under way at a time. 0: no bound.
    pub at_once: u32,
}

impl Quota {
    /// No bounds.
    pub const NONE: Quota = Quota { per_second: 0, at_once: 0 };
}

impl Default for Quota {
    fn default() -> Self {
        Quota { per_second: 100, at_once: 40 }
    }
}

/// What each tenant has used.
#[derive(Clone, Debug)]
pub struct Quotas {
    quota: Quota,
    tenants: Arc<Mutex<HashMap<Arc<str>, Used>>>,
    /// Hears of calls that end.
    ends: Arc<Notify>,
    /// Calls that wait for their turn.
    waiting: Arc<Mutex<HashMap<Arc<str>, usize>>>,
}

/// A place among the calls of a tenant that wait.
#[derive(Debug)]
pub struct Waiting(Quotas, Arc<str>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        if let Some(count) = waiting.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

#[derive(Debug)]
struct Used {
    /// Calls that may come now.
    left: f64,
    /// When that was so, since the start.
    at: Duration,
    under_way: u32,
}

/// A call under way; dropped at its end.
#[derive(Debug)]
pub struct Permit(Option<(Quotas, Arc<str>)>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((quotas, tenant)) = self.0.take()
            && let Some(used) = quotas.tenants().get_mut(&tenant)
        {
            used.under_way = used.under_way.saturating_sub(1);
            quotas.ends.notify_waiters();
        }
    }
}

impl Quotas {
    /// The same bounds for every tenant.
    pub fn new(quota: Quota) -> Quotas {
        Quotas { quota, tenants: Arc::default(), ends: Arc::default(), waiting: Arc::default() }
    }

    fn tenants(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Used>> {
        // The map is consistent after every statement.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // The map is consistent after every statement.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place to wait for a turn in; `None` where too many calls of the tenant wait already.
    pub fn wait(&self, tenant: &Arc<str>) -> Option<Waiting> {
        let mut waiting = self.waiting();
        let count = waiting.entry(tenant.clone()).or_default();
        if *count >= WAITING_MAX {
            return None;
        }
        *count += 1;
        Some(Waiting(self.clone(), tenant.clone()))
    }

    /// Returns when a call of any tenant ends after this was called.
    pub fn ended(&self) -> impl Future<Output = ()> + '_ {
        self.ends.notified()
    }

    /// Takes a call in at `now`, a time since the start.
    ///
    /// # Errors
    /// After what time to come back.
    pub fn take(&self, tenant: &Arc<str>, now: Duration) -> Result<Permit, Duration> {
        if self.quota == Quota::NONE {
            return Ok(Permit(None));
        }
        let burst = f64::from(self.quota.per_second);
        let mut tenants = self.tenants();
        if tenants.len() >= TENANTS_MAX && !tenants.contains_key(tenant) {
            tenants.retain(|_, used| used.under_way > 0 || used.refilled(burst, now) < burst);
            if tenants.len() >= TENANTS_MAX {
                return Err(COME_BACK);
            }
        }
        let used = tenants.entry(tenant.clone()).or_insert(Used { left: burst, at: now, under_way: 0 });
        if self.quota.at_once > 0 && used.under_way >= self.quota.at_once {
            return Err(COME_BACK);
        }
        if self.quota.per_second > 0 {
            let left = used.refilled(burst, now);
            (used.left, used.at) = (left, now.max(used.at));
            if left < 1.0 {
                return Err(Duration::from_secs_f64((1.0 - left) / burst));
            }
            used.left -= 1.0;
        }
        used.under_way += 1;
        Ok(Permit(Some((self.clone(), tenant.clone()))))
    }
}

impl Used {
    fn refilled(&self, burst: f64, now: Duration) -> f64 {
        (self.left + burst * now.saturating_sub(self.at).as_secs_f64()).min(burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_rate_is_kept_on_average() {
        let quotas = Quotas::new(Quota { per_second: 10, at_once: 0 });
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let taken = (0..100).filter(|_| quotas.take(&a, AT(0)).is_ok()).count();
        assert_eq!(taken, 10, "as many at once as a second has");
        assert_eq!(quotas.take(&a, AT(0)).unwrap_err(), AT(100));
        assert!(quotas.take(&b, AT(0)).is_ok(), "others have their own");
        assert!(quotas.take(&a, AT(99)).is_err() && quotas.take(&a, AT(100)).is_ok());
        assert!(quotas.take(&a, AT(50)).is_err(), "a clock that goes back gives nothing");
        let taken = (0..1000).filter(|i| quotas.take(&a, AT(200 + 10 * i)).is_ok()).count();
        assert!((99..=101).contains(&taken), "{taken} in ten seconds");
    }

    #[test]
    fn calls_under_way_are_counted_until_their_end() {
        let quotas = Quotas::new(Quota { per_second: 0, at_once: 2 });
        let tenant: Arc<str> = "a".into();
        let first = quotas.take(&tenant, AT(0)).unwrap();
        let _second = quotas.take(&tenant, AT(0)).unwrap();
        assert_eq!(quotas.take(&tenant, AT(0)).unwrap_err(), COME_BACK);
        drop(first);
        assert!(quotas.take(&tenant, AT(0)).is_ok());
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let quotas = Quotas::new(Quota { per_second: 0, at_once: 1 });
        let tenant: Arc<str> = "a".into();
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| quotas.wait(&tenant).unwrap()).collect();
        assert!(quotas.wait(&tenant).is_none());
        assert!(quotas.wait(&"b".into()).is_some(), "others have their own");
        drop(waiting);
        assert!(quotas.wait(&tenant).is_some() && quotas.waiting().is_empty());
    }

    #[test]
    fn tenants_that_are_idle_are_forgotten() {
        let quotas = Quotas::new(Quota { per_second: 10, at_once: 0 });
        for i in 0..TENANTS_MAX {
            assert!(quotas.take(&i.to_string().into(), AT(0)).is_ok());
        }
        assert_eq!(quotas.take(&"more".into(), AT(0)).unwrap_err(), COME_BACK);
        assert!(quotas.take(&"more".into(), AT(1000)).is_ok());
        assert!(quotas.tenants().len() < 10);
    }
}
