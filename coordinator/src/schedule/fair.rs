//! Whose turn it is: fair queueing by estimated CPU time, over tenants and over the requests of each.
//!
//! Everybody with something to send has a tag, which grows by the cost of what is sent; the lowest tag
//! is next. A clock grows by that cost over the number of those who take turns: it is where a tag would
//! be that had always had its share, and where newcomers begin. So nobody saves up turns while it has
//! nothing to send, a large request does not keep small ones waiting, and any number of small ones that
//! come and go leave a large one its share. What deficit round robin gives, without its rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::RequestId;

/// CPU time in nanoseconds.
pub(super) type Cost = u64;

/// How far a tag may be behind the clock: what somebody may catch up on who could not be served.
const LAG_MAX: Cost = 1_000_000_000;

/// Tenants, their requests, and the order among them.
#[derive(Debug, Default)]
pub(super) struct Fair {
    tenants: BTreeMap<Arc<str>, Tenant>,
    order: BTreeSet<(Cost, Arc<str>)>,
    clock: Cost,
    front: Cost,
}

#[derive(Debug, Default)]
struct Tenant {
    flows: BTreeMap<RequestId, Flow>,
    order: BTreeSet<(Cost, RequestId)>,
    tag: Cost,
    clock: Cost,
    /// One tile of each request in `order`.
    front: Cost,
    /// Requests that have no tile under way yet.
    waiting: usize,
}

#[derive(Debug)]
struct Flow {
    tag: Cost,
    /// Cost of one tile.
    tile: Cost,
    is_ready: bool,
    is_waiting: bool,
}

/// A place in the order.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    tenant: (Cost, Arc<str>),
    request: (Cost, RequestId),
}

impl Turn {
    /// Whose turn it is.
    pub(super) fn request(&self) -> RequestId {
        self.request.1
    }

    /// Whether another turn is the same tenant's.
    pub(super) fn is_same_tenant(&self, other: &Turn) -> bool {
        self.tenant.1 == other.tenant.1
    }
}

impl Fair {
    /// A request comes, with the cost of one of its tiles. It takes no turns yet.
    pub(super) fn enter(&mut self, name: &Arc<str>, request: RequestId, tile: Cost) {
        let tenant = self.tenants.entry(Arc::clone(name)).or_default();
        tenant.flows.insert(request, Flow { tag: 0, tile, is_ready: false, is_waiting: true });
        tenant.waiting += 1;
    }

    /// A request ends.
    pub(super) fn leave(&mut self, name: &Arc<str>, request: RequestId) {
        self.set_ready(name, request, false);
        self.started(name, request);
        if let Some(tenant) = self.tenants.get_mut(name) {
            tenant.flows.remove(&request);
            if tenant.flows.is_empty() {
                self.tenants.remove(name);
            }
        }
    }

    /// A request has its first tile under way.
    pub(super) fn started(&mut self, name: &Arc<str>, request: RequestId) {
        if let Some(tenant) = self.tenants.get_mut(name)
            && let Some(flow) = tenant.flows.get_mut(&request)
            && std::mem::take(&mut flow.is_waiting)
        {
            tenant.waiting -= 1;
        }
    }

    /// A request takes turns from now on, or no more.
    pub(super) fn set_ready(&mut self, name: &Arc<str>, request: RequestId, is_ready: bool) {
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        let Some(flow) = tenant.flows.get_mut(&request) else { return };
        if flow.is_ready == is_ready {
            return;
        }
        flow.is_ready = is_ready;
        if is_ready {
            flow.tag = flow.tag.max(tenant.clock);
            if tenant.order.is_empty() {
                tenant.tag = tenant.tag.max(self.clock);
                self.order.insert((tenant.tag, Arc::clone(name)));
            }
            tenant.order.insert((flow.tag, request));
            tenant.front += flow.tile;
            self.front += flow.tile;
        } else {
            tenant.order.remove(&(flow.tag, request));
            if tenant.order.is_empty() {
                self.order.remove(&(tenant.tag, Arc::clone(name)));
            }
            tenant.front -= flow.tile;
            self.front -= flow.tile;
        }
    }

    /// Whether a request takes turns.
    pub(super) fn is_ready(&self, name: &str, request: RequestId) -> bool {
        let flow = self.tenants.get(name).and_then(|tenant| tenant.flows.get(&request));
        flow.is_some_and(|flow| flow.is_ready)
    }

    /// A request that takes turns has sent something.
    pub(super) fn charge(&mut self, name: &Arc<str>, request: RequestId, cost: Cost) {
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        let Some(flow) = tenant.flows.get_mut(&request) else { return };
        if !flow.is_ready {
            return;
        }
        tenant.order.remove(&(flow.tag, request));
        flow.tag = flow.tag.max(tenant.clock.saturating_sub(LAG_MAX)).saturating_add(cost);
        tenant.order.insert((flow.tag, request));
        tenant.clock += (cost / tenant.order.len() as u64).max(1);
        self.order.remove(&(tenant.tag, Arc::clone(name)));
        tenant.tag = tenant.tag.max(self.clock.saturating_sub(LAG_MAX)).saturating_add(cost);
        self.order.insert((tenant.tag, Arc::clone(name)));
        self.clock += (cost / self.order.len() as u64).max(1);
    }

    /// Whose turn it is: first of all, or after somebody who could not be served; with `leap`, after all
    /// of that one's tenant.
    pub(super) fn turn(&self, after: Option<&Turn>, leap: bool) -> Option<Turn> {
        if let Some(after) = after
            && !leap
            && let Some(tenant) = self.tenants.get(&after.tenant.1)
            && let Some(request) = tenant.order.range((Excluded(after.request), Unbounded)).next()
        {
            return Some(Turn { tenant: after.tenant.clone(), request: *request });
        }
        let place = match after {
            Some(after) => self.order.range((Excluded(after.tenant.clone()), Unbounded)).next(),
            None => self.order.first(),
        }?;
        let request = self.tenants.get(&place.1)?.order.first()?;
        Some(Turn { tenant: place.clone(), request: *request })
    }

    /// Requests of a tenant that wait for their first tile.
    pub(super) fn waiting(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).map_or(0, |tenant| tenant.waiting)
    }

    /// What is sent before the first tile of a tenant's next request: a tile of each of its requests,
    /// and as much of every other tenant, but not more than they have.
    pub(super) fn in_front(&self, tenant: &str) -> Cost {
        let own = self.tenants.get(tenant).map_or(0, |tenant| tenant.front);
        let others = self.order.iter().take(TENANTS_COUNTED).filter(|(_, name)| **name != *tenant).count();
        self.front.min(own.saturating_mul(1 + others as u64))
    }

    /// Whether nobody is left.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty() && self.order.is_empty() && self.front == 0
    }
}

/// Tenants that are counted for an estimate; with more, the sum of all decides.
const TENANTS_COUNTED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Cost = 1_000_000;

    /// Serves whoever's turn it is, `rounds` times, and counts by request; all always have more.
    fn serve(
        fair: &mut Fair,
        names: &BTreeMap<RequestId, Arc<str>>,
        rounds: usize,
    ) -> BTreeMap<RequestId, usize> {
        let mut served = BTreeMap::new();
        for _ in 0..rounds {
            let request = fair.turn(None, false).unwrap().request();
            *served.entry(request).or_default() += 1;
            fair.charge(&names[&request], request, if request.0 == 0 { 8 * MS } else { MS });
        }
        served
    }

    #[test]
    fn tenants_share_by_cost_and_so_do_their_requests() {
        let (mut fair, mut names) = (Fair::default(), BTreeMap::new());
        for (id, tenant) in [(0, "a"), (1, "a"), (2, "a"), (3, "b")] {
            let (request, tenant) = (RequestId(id), Arc::<str>::from(tenant));
            fair.enter(&tenant, request, MS);
            fair.set_ready(&tenant, request, true);
            names.insert(request, tenant);
        }
        let served = serve(&mut fair, &names, 4000);
        let cost = |id| served[&RequestId(id)] as u64 * if id == 0 { 8 } else { 1 };
        let all: u64 = (0..4).map(cost).sum();
        for (id, share) in [(0, 6), (1, 6), (2, 6), (3, 2)] {
            assert!((all / share).abs_diff(cost(id)) <= 16, "{id}: {} of {all}", cost(id));
        }
    }

    /// A large request beside small ones that never end to come gets the share of one request.
    #[test]
    fn newcomers_do_not_starve_who_is_there() {
        let mut fair = Fair::default();
        let tenant = Arc::<str>::from("a");
        let large = RequestId(0);
        fair.enter(&tenant, large, MS);
        fair.set_ready(&tenant, large, true);
        let (mut next, mut turns) = (1, 0);
        for _ in 0..4 {
            fair.enter(&tenant, RequestId(next), MS);
            fair.set_ready(&tenant, RequestId(next), true);
            next += 1;
        }
        for _ in 0..1000 {
            let request = fair.turn(None, false).unwrap().request();
            fair.charge(&tenant, request, MS);
            if request == large {
                turns += 1;
                continue;
            }
            fair.leave(&tenant, request);
            fair.enter(&tenant, RequestId(next), MS);
            fair.set_ready(&tenant, RequestId(next), true);
            next += 1;
        }
        assert!((190..=260).contains(&turns), "{turns} of 1000 beside 4 others");
    }
}
