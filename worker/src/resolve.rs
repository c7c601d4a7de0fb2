//! All coordinators behind one name: a name may stand for many addresses that come and go, such as that of
//! a headless Service of Kubernetes, and a worker registers with each.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Uri;
use tracing::{info, warn};

use crate::register::Refusals;

/// Time for an answer.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);
/// Coordinators behind a name; those beyond are left out.
const ADDRESSES_MAX: usize = 64;

/// How a name is followed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often it is looked up: a coordinator that comes has its workers within this time.
    pub every: Duration,
    /// The same while nothing is known of it.
    pub first: Duration,
    /// Time for which an address is kept that the name no longer stands for. A coordinator that drains may be
    /// taken out of its name at once, and needs its workers for what is under way.
    pub kept: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { every: Duration::from_secs(5), first: Duration::from_secs(1), kept: Duration::from_secs(150) }
    }
}

/// Host and port of an address that has to be looked up; none if it has not.
pub fn name_of(uri: &Uri) -> Option<(String, u16)> {
    let host = uri.host()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // This machine has two addresses for itself, and a server listens at one of them.
    (bare.parse::<IpAddr>().is_err() && host != "localhost").then(|| (host.to_owned(), port))
}

/// What a name stands for. Where it has addresses of both families, each coordinator has two: the older
/// family alone is taken, so that nobody is registered with twice.
///
/// # Errors
/// The system's, and a time-out.
pub async fn look_up(host: &str, port: u16) -> io::Result<BTreeSet<SocketAddr>> {
    let found = timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((host, port))).await??;
    Ok(of_one_family(found.collect()))
}

fn of_one_family(found: BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
    let is_older = found.iter().any(SocketAddr::is_ipv4);
    found.into_iter().filter(|address| address.is_ipv4() == is_older).take(ADDRESSES_MAX).collect()
}

/// The addresses that are registered with. Decides, and does nothing.
#[derive(Debug, Default)]
struct Addresses {
    /// When each was last among those found.
    seen: BTreeMap<SocketAddr, Instant>,
}

impl Addresses {
    /// Takes in what was found now: what is new, and what is given up.
    fn learn(
        &mut self,
        now: Instant,
        found: BTreeSet<SocketAddr>,
        kept: Duration,
    ) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let mut new = Vec::new();
        for address in found {
            if self.seen.insert(address, now).is_none() {
                new.push(address);
            }
        }
        let is_over = |last: Instant| now.saturating_duration_since(last) >= kept;
        let gone: Vec<_> = self.seen.iter().filter(|(_, last)| is_over(**last)).map(|(a, _)| *a).collect();
        self.seen.retain(|_, last| !is_over(*last));
        (new, gone)
    }
}

/// Registers with every address of a name, as they come and go, until it is dropped. `register` ends when its
/// token is cancelled.
///
/// That a coordinator refuses the worker is passed on only where it is the one behind the name: while a
/// cluster is upgraded, one of the right version is on its way.
pub async fn keep_registered_with_all<L, R>(
    name: &str,
    pace: Pace,
    look_up: impl Fn() -> L,
    register: impl Fn(SocketAddr, Refusals, CancellationToken) -> R,
    refusals: Refusals,
) where
    L: Future<Output = io::Result<BTreeSet<SocketAddr>>>,
    R: Future<Output = ()> + Send + 'static,
{
    let mut addresses = Addresses::default();
    let mut stops = BTreeMap::new();
    // Dropped with this future, and all registrations with it.
    let mut registrations = JoinSet::new();
    let refused = Refusals::default();
    let mut refused_now = refused.subscribe();
    loop {
        match look_up().await {
            Ok(found) => {
                let (new, gone) = addresses.learn(Instant::now(), found, pace.kept);
                for address in new {
                    info!(coordinator = name, %address, "a coordinator to register with");
                    let stop = CancellationToken::new();
                    registrations.spawn(register(address, refused.clone(), stop.clone()));
                    stops.insert(address, stop);
                }
                for address in gone {
                    info!(coordinator = name, %address, "the coordinator is gone for good");
                    if let Some(stop) = stops.remove(&address) {
                        stop.cancel();
                    }
                }
            }
            // Those that are known stay known: it is the names that cannot be had, not the coordinators.
            Err(error) => warn!(coordinator = name, %error, "the name cannot be looked up, trying again"),
        }
        while registrations.try_join_next().is_some() {}
        let pause = sleep(if addresses.seen.is_empty() { pace.first } else { pace.every });
        let mut pause = std::pin::pin!(pause);
        loop {
            let reason = refused_now.borrow_and_update().values().next().cloned();
            refusals.send_if_modified(|all| match reason.filter(|_| addresses.seen.len() == 1) {
                Some(reason) => all.insert(name.to_owned(), reason.clone()) != Some(reason),
                None => all.remove(name).is_some(),
            });
            tokio::select! {
                () = &mut pause => break,
                // The sender is ours: it is not closed.
                _ = refused_now.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::watch;

    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<SocketAddr> {
        addresses.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn only_names_are_looked_up() {
        let name = |text: &'static str| name_of(&Uri::from_static(text));
        assert_eq!(name("http://coordinators:4000"), Some(("coordinators".into(), 4000)));
        assert_eq!(name("https://a.b.example"), Some(("a.b.example".into(), 443)));
        assert_eq!(name("http://127.0.0.1:4000"), None);
        assert_eq!(name("http://[::1]:4000"), None);
        assert_eq!(name("http://localhost:4000"), None);
    }

    #[test]
    fn nobody_is_registered_with_twice() {
        let both = set(&["10.0.0.1:4000", "[fd00::1]:4000", "10.0.0.2:4000"]);
        assert_eq!(of_one_family(both), set(&["10.0.0.1:4000", "10.0.0.2:4000"]));
        let newer = set(&["[fd00::1]:4000", "[fd00::2]:4000"]);
        assert_eq!(of_one_family(newer.clone()), newer);
    }

    #[test]
    fn an_address_is_given_up_only_when_it_stays_away() {
        let (mut addresses, start) = (Addresses::default(), Instant::now());
        let kept = Duration::from_secs(150);
        let at = |s| start + Duration::from_secs(s);
        let [one, two] =
            ["10.0.0.1:4000", "10.0.0.2:4000"].map(|a| a.parse::<SocketAddr>().expect("an address"));
        assert_eq!(addresses.learn(at(0), [one, two].into(), kept), (vec![one, two], vec![]));
        assert_eq!(addresses.learn(at(5), [two].into(), kept), (vec![], vec![]), "it may be draining");
        assert_eq!(
            addresses.learn(at(100), [one, two].into(), kept),
            (vec![], vec![]),
            "it was back in time"
        );
        assert_eq!(addresses.learn(at(249), [two].into(), kept), (vec![], vec![]));
        assert_eq!(addresses.learn(at(250), [two].into(), kept), (vec![], vec![one]));
        assert_eq!(addresses.learn(at(255), [one, two].into(), kept), (vec![one], vec![]), "it is new again");
    }

    /// What a name stands for, who is registered with, and a worker that follows it.
    struct Following {
        answers: watch::Sender<Option<BTreeSet<SocketAddr>>>,
        asked: watch::Receiver<u32>,
        registered: watch::Receiver<BTreeSet<SocketAddr>>,
        /// What registrations say of coordinators that refuse.
        refused: Arc<Mutex<Option<Refusals>>>,
        refusals: watch::Receiver<BTreeMap<String, String>>,
        _task: JoinSet<()>,
    }

    impl Following {
        async fn registers_with(&mut self, addresses: &[&str]) {
            let expected = set(addresses);
            let all = self.registered.wait_for(|now| *now == expected);
            let all = timeout(Duration::from_secs(20), all).await;
            assert!(all.is_ok_and(|all| all.is_ok()), "not registered with {addresses:?}");
        }
    }

    fn follow(kept: Duration) -> Following {
        let (answers, answer) = watch::channel(None);
        let (count, asked) = watch::channel(0);
        let (register, registered) = watch::channel(BTreeSet::new());
        let (all, refused) = (Refusals::default(), Arc::new(Mutex::new(None)));
        let (refusals, shared) = (all.subscribe(), refused.clone());
        let (first, every) = (Duration::from_millis(1), Duration::from_millis(2));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let look_up = || {
                count.send_modify(|count| *count += 1);
                let answer = answer.borrow().clone();
                async { answer.ok_or_else(|| io::Error::other("no such name")) }
            };
            let register = |address, refused, stop: CancellationToken| {
                *shared.lock().expect("the lock") = Some(refused);
                let register = register.clone();
                async move {
                    register.send_modify(|all| _ = all.insert(address));
                    stop.cancelled().await;
                    register.send_modify(|all| _ = all.remove(&address));
                }
            };
            let pace = Pace { every, first, kept };
            keep_registered_with_all("coordinators", pace, look_up, register, all).await;
        });
        Following { answers, asked, registered, refused, refusals, _task: task }
    }

    /// Longer than any test takes.
    const FOR_EVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_worker_registers_with_all_that_come() {
        let mut following = follow(FOR_EVER);
        following.asked.wait_for(|count| *count >= 3).await.expect("it runs");
        // The name is there later than the worker.
        following.answers.send_replace(Some(set(&["10.0.0.1:4000", "10.0.0.2:4000"])));
        following.registers_with(&["10.0.0.1:4000", "10.0.0.2:4000"]).await;
        // A coordinator is replaced: the new one is found, the old one keeps its worker while it drains.
        following.answers.send_replace(Some(set(&["10.0.0.2:4000", "10.0.0.3:4000"])));
        following.registers_with(&["10.0.0.1:4000", "10.0.0.2:4000", "10.0.0.3:4000"]).await;
    }

    #[tokio::test]
    async fn a_worker_leaves_those_that_went_and_nobody_when_names_cannot_be_had() {
        let mut following = follow(Duration::from_millis(10));
        following.answers.send_replace(Some(set(&["10.0.0.1:4000", "10.0.0.2:4000"])));
        following.registers_with(&["10.0.0.1:4000", "10.0.0.2:4000"]).await;
        following.answers.send_replace(Some(set(&["10.0.0.2:4000"])));
        following.registers_with(&["10.0.0.2:4000"]).await;
        following.answers.send_replace(None);
        // Many times longer than an address is kept: each look-up takes 2 ms or more.
        let until = *following.asked.borrow() + 50;
        following.asked.wait_for(|count| *count >= until).await.expect("it runs");
        following.registers_with(&["10.0.0.2:4000"]).await;
    }

    #[tokio::test]
    async fn a_refusal_counts_where_there_is_no_other() {
        let mut following = follow(FOR_EVER);
        following.answers.send_replace(Some(set(&["10.0.0.1:4000"])));
        following.registers_with(&["10.0.0.1:4000"]).await;
        let refused = following.refused.lock().expect("the lock").clone().expect("registered");
        refused.send_modify(|all| _ = all.insert("http://10.0.0.1:4000/".into(), "another version".into()));
        let passed_on = following.refusals.wait_for(|all| !all.is_empty()).await.expect("it runs").clone();
        assert_eq!(passed_on["coordinators"], "another version");
        // One of the right version comes.
        following.answers.send_replace(Some(set(&["10.0.0.1:4000", "10.0.0.2:4000"])));
        following.refusals.wait_for(BTreeMap::is_empty).await.expect("it runs");
    }
}
