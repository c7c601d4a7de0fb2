//! Evaluates tiles of a plan over imagery.
//!
//! A worker dials coordinators only to make itself known ([`register`]); they call it back with a plan
//! and tiles ([`service`]), and each tile takes one path ([`tile`]): cache → read → eval → cache →
//! encode. Nothing is kept between calls that may not be lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::proto::v1::Versions;
use graticule_common::proto::v1::worker_service_server::WorkerServiceServer;
use graticule_common::telemetry::Readiness;
use graticule_common::transport::{self, Target, Trust};
use graticule_common::{tls, versions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cache::{MemoryCache, RedisCache, RedisSettings, Tiered, TileCache};
use crate::flight::Flights;
use crate::pool::Pool;
use crate::presence::Presence;
use crate::register::{ANSWER_WITHIN, Announcement, Refusals};
use crate::resolve::Pace;
use crate::source::TileSource;
use crate::tile::Tiles;

pub mod cache;
pub mod flight;
mod measure;
pub mod plans;
pub mod pool;
pub mod presence;
pub mod register;
pub mod resolve;
pub mod service;
#[cfg(feature = "gdal")]
pub mod sink;
pub mod source;
#[cfg(test)]
mod testing;
pub mod tile;

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address that coordinators call; absent: the one listened on.
    pub advertise: Option<String>,
    /// Coordinators to register with, such as `http://127.0.0.1:4000`.
    pub coordinators: Vec<String>,
    /// How it shows coordinators who it is, and whom of them it trusts.
    pub trust: Trust,
    /// Tiles computed at the same time.
    pub slots: u32,
    /// Memory for tiles, in bytes.
    pub memory_bytes: u64,
    /// Memory for remembered tiles, in bytes.
    pub cache_bytes: u64,
    /// Redis that workers share remembered tiles through, such as `redis://127.0.0.1/`.
    pub cache_url: Option<String>,
    /// A text that enters the key of every remembered tile: another one disowns all that is remembered.
    pub cache_salt: String,
    /// Time for tiles in flight after a request to stop.
    pub grace: Duration,
    /// Learns whether it takes work; a clone kept by the caller tells.
    pub readiness: watch::Sender<Readiness>,
    /// Time after which a worker ends all of whose slots are written off. A read of a slow server gives up
    /// after a minute, and its slot comes back.
    pub lost_patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            coordinators: Vec::new(),
            trust: Trust::default(),
            slots: 1,
            memory_bytes: 1 << 30,
            cache_bytes: 256 << 20,
            cache_url: None,
            cache_salt: String::new(),
            grace: Duration::from_secs(10),
            readiness: watch::Sender::default(),
            lost_patience: Duration::from_secs(75),
        }
    }
}

/// Why a worker cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// An address that is none.
    #[error("`{address}` is not an address such as `http://127.0.0.1:4000`: {reason}")]
    Address {
        /// The text.
        address: String,
        /// Why.
        reason: String,
    },
    /// The cache's address is none.
    #[error(transparent)]
    Cache(#[from] cache::CacheError),
    /// Every coordinator refuses this worker.
    #[error("the coordinator refuses this worker: {reason}")]
    Refused {
        /// Its reason, or that of one of them.
        reason: String,
    },
    /// No slot is left.
    #[error(
        "all {slots} slots are held by computations that do not stop, for {seconds} s: start the worker again"
    )]
    Stuck {
        /// All of them.
        slots: u32,
        /// For so long.
        seconds: u64,
    },
    /// Calls were still under way when the time for them was over.
    #[error("{calls} calls were cut off: they took longer than the grace period of {} s", grace.as_secs())]
    Cut {
        /// How many.
        calls: usize,
        /// The time they had.
        grace: Duration,
    },
    /// The server stopped.
    #[error("the worker's server stopped: {reason}")]
    Serve {
        /// Why.
        reason: String,
    },
}

impl Classify for WorkerError {
    fn class(&self) -> ErrorClass {
        match self {
            WorkerError::Listen { .. } | WorkerError::Serve { .. } | WorkerError::Stuck { .. } => {
                ErrorClass::Unavailable
            }
            WorkerError::Address { .. } => ErrorClass::InvalidRequest,
            WorkerError::Cut { .. } => ErrorClass::Timeout,
            WorkerError::Refused { .. } => ErrorClass::Impossible,
            WorkerError::Cache(error) => error.class(),
        }
    }
}

/// Runs a worker until `shutdown`; `ready` learns the address it listens on.
///
/// From `shutdown` on it takes no new tiles, hands back those that it has not begun, and finishes the others
/// within [`Config::grace`]. It stays registered until then, so that nobody takes it for lost.
///
/// # Errors
/// [`WorkerError`] when it cannot start, is refused by every coordinator, has no slot left, or its server
/// stops, or calls had to be cut off.
pub async fn run(
    config: Config,
    source: Arc<dyn TileSource>,
    shutdown: CancellationToken,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), WorkerError> {
    let failed =
        |reason: std::io::Error| WorkerError::Listen { address: config.listen, reason: reason.to_string() };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let advertised =
        config.advertise.clone().unwrap_or_else(|| format!("{}://{address}", config.trust.scheme()));
    let cache = open_cache(&config).await?;
    let pool = Pool::new(config.slots, config.memory_bytes);
    let tiles = Tiles {
        source,
        cache: cache.clone(),
        pool: pool.clone(),
        flights: Flights::default(),
        salt: salt(&config.cache_salt).into(),
        draining: shutdown.clone(),
    };
    let presence = Presence::new(config.readiness.clone());
    let announcement = Announcement {
        // In containers all listen at the same address with the same process id; and one that is started
        // again is another.
        worker: format!("{advertised}-{:08x}", fastrand::u32(..)),
        address: advertised,
        slots: config.slots,
        memory_bytes: config.memory_bytes,
        pool: pool.clone(),
        draining: shutdown.clone(),
        answer_within: ANSWER_WITHIN,
        presence: presence.clone(),
    };
    let refusals = Refusals::default();
    let mut registrations = JoinSet::new();
    let coordinators: BTreeSet<&String> = config.coordinators.iter().collect();
    for coordinator in &coordinators {
        // They end with this function.
        let wrong = |reason| WorkerError::Address { address: coordinator.to_string(), reason };
        let (origin, never) = (config.trust.target(coordinator).map_err(wrong)?, CancellationToken::new());
        let (announcement, refusals) = (announcement.clone(), refusals.clone());
        match resolve::name_of(origin.uri()) {
            None => registrations.spawn(register::keep_registered(origin, announcement, refusals, never)),
            Some(name) => registrations.spawn(follow(origin, name, announcement, refusals)),
        };
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut watching = JoinSet::new();
    watching.spawn(presence::report(config.readiness.subscribe(), reporter));
    watching.spawn(measure::capacity(pool.clone(), config.slots, config.memory_bytes));
    let service = service::Service::new(tiles);
    let calls = service.calls().clone();
    let stop = CancellationToken::new();
    let Trust { server: server_tls, client: client_tls, .. } = config.trust.clone();
    watching.spawn(tls::follow(server_tls.clone(), client_tls, stop.clone()));
    let server = transport::server()
        .add_service(health)
        .add_service(WorkerServiceServer::new(service).max_decoding_message_size(PLAN_BYTES_MAX))
        .serve_with_incoming_shutdown(
            transport::incoming(listener, server_tls),
            stop.clone().cancelled_owned(),
        );
    ready(address);
    let mut server = std::pin::pin!(server);
    let served = |result: Result<(), tonic::transport::Error>| {
        result.map_err(|error| WorkerError::Serve { reason: error.to_string() })
    };
    let result = tokio::select! {
        result = &mut server => served(result),
        reason = refused(&refusals, coordinators.len()) => Err(WorkerError::Refused { reason }),
        () = stuck(&pool, &config) => {
            Err(WorkerError::Stuck { slots: config.slots, seconds: config.lost_patience.as_secs() })
        }
        () = shutdown.cancelled() => {
            presence.drain();
            info!(calls = calls.count(), grace_s = config.grace.as_secs(), "draining");
            let end = tokio::time::Instant::now() + config.grace;
            // Whoever asks too late is refused by the service, and not by a connection that is gone.
            let drained = tokio::time::timeout_at(end, calls.none());
            let mut ended = None;
            let mut cut = 0;
            tokio::select! {
                drained = drained => if drained.is_err() {
                    cut = calls.count();
                    warn!(calls = cut, "the grace period is over: tiles in flight are left to other workers");
                    calls.stop();
                },
                result = &mut server => ended = Some(served(result)),
            }
            stop.cancel();
            let result = match ended {
                Some(result) => result,
                // What was sent last is on its way.
                None => tokio::time::timeout(FAREWELL, server).await.map_or(Ok(()), served),
            };
            if cut > 0 { Err(WorkerError::Cut { calls: cut, grace: config.grace }) } else { result }
        }
    };
    drop(registrations);
    cache.settle().await;
    result
}

/// Returns when every coordinator refuses the worker, with a reason.
async fn refused(refusals: &Refusals, coordinators: usize) -> String {
    let mut refusals = refusals.subscribe();
    let all = refusals.wait_for(|refusals| coordinators > 0 && refusals.len() >= coordinators);
    let reason = all.await.ok().and_then(|refusals| refusals.values().next().cloned());
    match reason {
        Some(reason) => reason,
        // The sender is this worker's: it outlives this.
        None => std::future::pending().await,
    }
}

/// Returns when no slot has been left for too long.
async fn stuck(pool: &Pool, config: &Config) {
    let mut lost = pool.lost_slots();
    let slots = config.slots.max(1);
    // The sender is this worker's: there is always another change to wait for.
    while lost.wait_for(|lost| *lost >= slots).await.is_ok() {
        let back = lost.wait_for(|lost| *lost < slots);
        if tokio::time::timeout(config.lost_patience, back).await.is_err() {
            return;
        }
    }
}

/// The largest call: a plan over thousands of scenes with many files each.
const PLAN_BYTES_MAX: usize = 64 << 20;

/// Time for the last bytes of the last calls.
const FAREWELL: Duration = Duration::from_secs(2);

/// Keeps the worker registered with every coordinator behind a name.
async fn follow(origin: Target, (host, port): (String, u16), announcement: Announcement, refusals: Refusals) {
    let look_up = || resolve::look_up(&host, port);
    let register = |address: SocketAddr, refusals, stop| {
        let announcement = announcement.clone();
        // Its certificate is still to be for the name.
        register::keep_registered(origin.at(address), announcement, refusals, stop)
    };
    resolve::keep_registered_with_all(origin.address(), Pace::default(), look_up, register, refusals).await;
}

async fn open_cache(config: &Config) -> Result<Arc<dyn TileCache>, WorkerError> {
    let near = MemoryCache::new(config.cache_bytes);
    Ok(match &config.cache_url {
        None => Arc::new(near),
        Some(url) => Arc::new(Tiered::new(near, RedisCache::connect(url, RedisSettings::default()).await?)),
    })
}

/// What can change a pixel and is not in a plan, and what the operator says.
fn salt(own: &str) -> String {
    let Versions { engine, ops, gdal, proj } = versions::own();
    format!("graticule {engine}, ops {ops}, gdal {gdal}, proj {proj}, salt {own:?}")
}

#[cfg(test)]
mod tests;
