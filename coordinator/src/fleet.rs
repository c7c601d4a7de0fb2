//! Which workers there are. They make themselves known; when their announcement ends, they are lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::proto::v1 as pb;
use graticule_common::tls::ClientTls;
use graticule_common::transport::Target;
use graticule_common::versions;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::schedule::WorkerId;

/// A worker that can be called.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name.
    pub id: WorkerId,
    /// Tiles it computes at the same time.
    pub slots: u32,
    /// Memory for tiles, in bytes.
    pub memory_bytes: u64,
    /// Memory for tiles that no tile has, in bytes, as it said last.
    pub free_bytes: u64,
    /// Slots that a computation which cannot be stopped holds for good.
    pub lost_slots: u32,
    /// Whether it takes nothing new.
    pub is_draining: bool,
    /// Where it says it is called.
    pub address: String,
    /// How it is called.
    pub channel: Channel,
    /// Tells this registration from an earlier one under the same name.
    epoch: u64,
    /// Ends the registration from this side.
    lost: CancellationToken,
}

/// Bytes of one call that may wait here for a slow client.
const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes of all calls to one worker that may wait here: the most that HTTP/2 knows, so that slow
/// clients do not use up what the others' tiles come through. It bounds nothing; the calls do.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Workers of one coordinator; what announces more of them is no fleet but an attack.
const WORKERS_MAX: usize = 4096;

/// Workers with less memory for a tile are not planned for.
const SHARE_BYTES_MIN: u64 = 128 << 20;

/// Every worker, and notice of changes.
#[derive(Clone, Debug)]
pub struct Fleet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// How workers are called whose addresses ask for TLS; then plain ones are on this machine only.
    tls: Option<Arc<ClientTls>>,
    workers: Mutex<Workers>,
    changes: watch::Sender<u64>,
    timing: Timing,
}

#[derive(Debug, Default)]
struct Workers {
    by_id: BTreeMap<WorkerId, Worker>,
    epoch: u64,
    shape: Shape,
    followers: Vec<mpsc::UnboundedSender<Change>>,
    /// Whether a worker was given up because calls to it failed.
    has_given_up: bool,
}

/// How often workers announce themselves, and how long one may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time from one announcement to the next.
    pub heartbeat: Duration,
    /// A worker that says nothing for this long is lost.
    pub silence_max: Duration,
}

impl Default for Timing {
    /// Three heartbeats, less than the 15 s in which a hung worker must be noticed.
    fn default() -> Self {
        Timing { heartbeat: Duration::from_secs(5), silence_max: Duration::from_secs(14) }
    }
}

/// What planning needs to know of a fleet: of workers that take tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Workers.
    pub workers: u32,
    /// Tiles that they compute at the same time, all together.
    pub slots: u32,
    /// Memory that a tile may take to have a place everywhere, in bytes; of a dwarf only where there is
    /// none else.
    pub tile_bytes: u64,
}

/// A change of the fleet. The registrations of one name come one after the other.
#[derive(Clone, Debug)]
pub enum Change {
    /// A worker came, or says something else of itself than before.
    Here(Worker),
    /// A worker is lost.
    Gone(Worker),
}

/// Why a worker is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// It means other things by the same ops.
    #[error(
        "worker `{worker}` has {difference} here, and its pixels could differ; run the same versions everywhere"
    )]
    Version {
        /// The worker.
        worker: WorkerId,
        /// What differs.
        difference: String,
    },
    /// Its announcement makes no sense.
    #[error("worker `{worker}` announces `{address}`, which is no address such as `http://10.0.0.5:4001`")]
    Address {
        /// The worker.
        worker: WorkerId,
        /// What it announced.
        address: String,
    },
    /// Plans and pixels would travel where everybody can read and change them.
    #[error(
        "worker `{worker}` announces `{address}`, and this coordinator calls workers over TLS only; start it \
         with `--tls-cert`, `--tls-key` and `--tls-ca`"
    )]
    Plain {
        /// The worker.
        worker: WorkerId,
        /// What it announced.
        address: String,
    },
    /// There are too many.
    #[error("this coordinator has {limit} workers, which is as many as it takes; start another coordinator")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// There is no worker.
    #[error("no worker is connected; start one with `graticule worker --coordinator URL`")]
    Empty,
    /// There is no worker that can be called. Which one was and where is for the log: clients learn no
    /// addresses.
    #[error(
        "no worker is connected that can be reached: calls to the last one failed, since it has ended or announces \
         an address that cannot be called (`graticule worker --advertise URL`); the coordinator's log names it"
    )]
    Unreachable,
}

impl Classify for FleetError {
    fn class(&self) -> ErrorClass {
        match self {
            FleetError::Version { .. } | FleetError::Plain { .. } => ErrorClass::Impossible,
            FleetError::Address { .. } => ErrorClass::InvalidRequest,
            FleetError::Full { .. } => ErrorClass::Overloaded,
            FleetError::Empty | FleetError::Unreachable => ErrorClass::Unavailable,
        }
    }
}

/// A worker's place in the fleet; the worker is lost when this is dropped.
#[derive(Debug)]
pub struct Registration {
    fleet: Fleet,
    id: WorkerId,
    epoch: u64,
    /// Cancelled when the coordinator gives the worker up.
    pub lost: CancellationToken,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.fleet.remove(&self.id, self.epoch);
    }
}

impl Registration {
    /// Takes in a further announcement.
    pub fn heard(&self, request: &pb::RegisterRequest) {
        let mut workers = self.fleet.workers();
        let Some(worker) = workers.by_id.get_mut(&self.id).filter(|worker| worker.epoch == self.epoch) else {
            return;
        };
        worker.free_bytes = request.free_bytes;
        if (worker.lost_slots, worker.is_draining) == (request.lost_slots, request.draining) {
            return;
        }
        (worker.lost_slots, worker.is_draining) = (request.lost_slots, request.draining);
        let worker = worker.clone();
        self.fleet.changed(&mut workers, Change::Here(worker));
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Fleet::new(Timing::default())
    }
}

impl Fleet {
    /// A fleet without workers.
    pub fn new(timing: Timing) -> Self {
        Fleet::with_tls(timing, None)
    }

    /// A fleet whose workers are called over TLS, each known by the role in its certificate.
    pub fn with_tls(timing: Timing, tls: Option<Arc<ClientTls>>) -> Fleet {
        Fleet(Arc::new(Shared { tls, workers: Mutex::default(), changes: watch::Sender::new(0), timing }))
    }

    /// How workers are called over TLS.
    pub fn tls(&self) -> Option<Arc<ClientTls>> {
        self.0.tls.clone()
    }

    /// How often its workers announce themselves.
    pub fn timing(&self) -> Timing {
        self.0.timing
    }

    fn workers(&self) -> MutexGuard<'_, Workers> {
        // The map is consistent after every statement, so a panic elsewhere does not spoil it.
        self.0.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a worker in.
    ///
    /// # Errors
    /// [`FleetError`] when it does not fit.
    pub fn register(&self, request: &pb::RegisterRequest) -> Result<Registration, FleetError> {
        let theirs = request.versions.clone().unwrap_or_default();
        if let Some(difference) = versions::difference(&versions::own(), &theirs) {
            return Err(FleetError::Version { worker: request.worker.clone(), difference });
        }
        let bad_address =
            || FleetError::Address { worker: request.worker.clone(), address: request.address.clone() };
        let target = Target::new(&request.address, self.0.tls.as_ref()).map_err(|_| bad_address())?;
        if self.0.tls.is_some() && !target.is_encrypted() && !target.is_on_this_machine() {
            let (worker, address) = (request.worker.clone(), request.address.clone());
            return Err(FleetError::Plain { worker, address });
        }
        if request.worker.is_empty() || request.slots == 0 {
            return Err(bad_address());
        }
        let windows = |endpoint: Endpoint| {
            endpoint
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
        };
        let channel = target.tuned(windows).channel();
        let lost = CancellationToken::new();
        let mut workers = self.workers();
        if workers.by_id.len() >= WORKERS_MAX && !workers.by_id.contains_key(&request.worker) {
            return Err(FleetError::Full { limit: WORKERS_MAX });
        }
        workers.epoch += 1;
        let epoch = workers.epoch;
        let worker = Worker {
            id: request.worker.clone(),
            slots: request.slots,
            memory_bytes: request.memory_bytes,
            free_bytes: request.free_bytes,
            lost_slots: request.lost_slots,
            is_draining: request.draining,
            address: request.address.clone(),
            channel,
            epoch,
            lost: lost.clone(),
        };
        if let Some(earlier) = workers.by_id.insert(request.worker.clone(), worker.clone()) {
            earlier.lost.cancel();
            self.changed(&mut workers, Change::Gone(earlier));
        }
        self.changed(&mut workers, Change::Here(worker));
        drop(workers);
        Ok(Registration { fleet: self.clone(), id: request.worker.clone(), epoch, lost })
    }

    /// Gives up a worker whose calls fail. Its registration ends; if it lives, it comes back by itself.
    pub fn give_up(&self, worker: &Worker) {
        self.workers().has_given_up = true;
        self.remove(&worker.id, worker.epoch);
    }

    fn remove(&self, id: &str, epoch: u64) {
        let mut workers = self.workers();
        if workers.by_id.get(id).is_some_and(|worker| worker.epoch == epoch)
            && let Some(worker) = workers.by_id.remove(id)
        {
            worker.lost.cancel();
            self.changed(&mut workers, Change::Gone(worker));
        }
    }

    /// Tells everybody who follows, in the order in which things happen.
    fn changed(&self, workers: &mut Workers, change: Change) {
        workers.shape = shape(workers.by_id.values());
        workers.followers.retain(|follower| follower.send(change.clone()).is_ok());
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Every change from now on, beginning with the workers there are. There are as many at a time as
    /// workers come, go or drain: each is a connection of its own.
    pub fn follow(&self) -> mpsc::UnboundedReceiver<Change> {
        let (sender, changes) = mpsc::unbounded_channel();
        let mut workers = self.workers();
        for worker in workers.by_id.values() {
            // The receiver is right here.
            let _ = sender.send(Change::Here(worker.clone()));
        }
        workers.followers.push(sender);
        changes
    }

    /// What planning needs to know of it.
    pub fn shape(&self) -> Shape {
        self.workers().shape
    }

    /// The workers there are now.
    pub fn snapshot(&self) -> Vec<Worker> {
        self.workers().by_id.values().cloned().collect()
    }

    /// Notice of changes to the fleet.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Why there is no worker.
    pub fn missing(&self) -> FleetError {
        if self.workers().has_given_up { FleetError::Unreachable } else { FleetError::Empty }
    }

    /// Waits for a worker that takes tiles.
    ///
    /// # Errors
    /// [`Fleet::missing`] when there is none within `patience`.
    pub async fn wait(&self, patience: Duration) -> Result<Shape, FleetError> {
        let mut changes = self.changes();
        let some_worker = async {
            loop {
                let shape = self.shape();
                if shape.workers > 0 {
                    return shape;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(patience, some_worker).await.map_err(|_| self.missing())
    }
}

fn shape<'a>(workers: impl Iterator<Item = &'a Worker>) -> Shape {
    let able: Vec<&Worker> =
        workers.filter(|worker| !worker.is_draining && worker.slots_left() > 0).collect();
    let shares = || able.iter().map(|worker| worker.tile_bytes());
    // One dwarf must not shrink everybody's tiles; it takes part where tiles are small enough.
    let smallest = shares().filter(|share| *share >= SHARE_BYTES_MIN).min();
    Shape {
        workers: able.len() as u32,
        slots: able.iter().fold(0, |sum, worker| sum.saturating_add(worker.slots_left())),
        tile_bytes: smallest.or(shares().max()).unwrap_or(0),
    }
}

impl Worker {
    /// Slots that compute.
    pub fn slots_left(&self) -> u32 {
        self.slots.saturating_sub(self.lost_slots)
    }

    /// Memory for one tile when all slots are in use.
    pub fn tile_bytes(&self) -> u64 {
        self.memory_bytes / u64::from(self.slots.max(1))
    }

    /// Whether two are the same registration.
    pub fn is(&self, other: &Worker) -> bool {
        self.id == other.id && self.epoch == other.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(worker: &str) -> pb::RegisterRequest {
        pb::RegisterRequest {
            worker: worker.into(),
            address: "http://127.0.0.1:9".into(),
            slots: 1,
            memory_bytes: 1 << 30,
            versions: Some(versions::own()),
            ..pb::RegisterRequest::default()
        }
    }

    #[tokio::test]
    async fn a_worker_is_there_as_long_as_its_registration() {
        let fleet = Fleet::default();
        let registration = fleet.register(&announcement("a")).unwrap();
        assert_eq!(fleet.wait(Duration::ZERO).await.unwrap().workers, 1);
        drop(registration);
        assert_eq!(fleet.wait(Duration::ZERO).await.unwrap_err(), FleetError::Empty);
    }

    #[tokio::test]
    async fn a_new_registration_replaces_an_old_one_whose_end_changes_nothing() {
        let fleet = Fleet::default();
        let old = fleet.register(&announcement("a")).unwrap();
        let new = fleet.register(&announcement("a")).unwrap();
        assert!(old.lost.is_cancelled() && !new.lost.is_cancelled());
        drop(old);
        assert_eq!(fleet.snapshot().len(), 1);
        fleet.give_up(&fleet.snapshot()[0]);
        assert!(new.lost.is_cancelled() && fleet.snapshot().is_empty());
        let missing = fleet.wait(Duration::ZERO).await.unwrap_err();
        assert_eq!(missing, FleetError::Unreachable);
    }

    #[tokio::test]
    async fn other_versions_are_refused() {
        let versions = Some(pb::Versions { engine: "0.0.0".into(), ..versions::own() });
        let other = pb::RegisterRequest { versions, ..announcement("a") };
        assert!(matches!(Fleet::default().register(&other), Err(FleetError::Version { .. })));
    }
}
