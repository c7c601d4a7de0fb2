//! Evaluates tiles of a plan over imagery.
//!
//! A worker dials coordinators only to make itself known ([`register`]); they call it back with a plan
//! and tiles ([`service`]), and each tile takes one path ([`tile`]): cache → read → eval → cache →
//! encode. Nothing is kept between calls that may not be lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use graticule_common::ENGINE_VERSION;
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::proto::v1::worker_service_server::WorkerServiceServer;
use graticule_common::telemetry::Readiness;
use graticule_common::transport::{KEEPALIVE_EVERY, KEEPALIVE_WITHIN, with_keepalive};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

use crate::cache::{MemoryCache, RedisCache, RedisSettings, Tiered, TileCache};
use crate::pool::Pool;
use crate::presence::Presence;
use crate::register::Announcement;
use crate::source::TileSource;
use crate::tile::Tiles;

pub mod cache;
pub mod pool;
pub mod presence;
pub mod register;
pub mod service;
#[cfg(feature = "gdal")]
pub mod sink;
pub mod source;
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
    /// Tiles computed at the same time.
    pub slots: u32,
    /// Memory for tiles, in bytes.
    pub memory_bytes: u64,
    /// Memory for remembered tiles, in bytes.
    pub cache_bytes: u64,
    /// Redis that workers share remembered tiles through, such as `redis://127.0.0.1/`.
    pub cache_url: Option<String>,
    /// Time for tiles in flight after a request to stop.
    pub grace: Duration,
    /// Learns whether it takes work; a clone kept by the caller tells.
    pub readiness: watch::Sender<Readiness>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            coordinators: Vec::new(),
            slots: 1,
            memory_bytes: 1 << 30,
            cache_bytes: 256 << 20,
            cache_url: None,
            grace: Duration::from_secs(10),
            readiness: watch::Sender::default(),
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
    /// A coordinator refuses this worker.
    #[error("the coordinator refuses this worker: {reason}")]
    Refused {
        /// Its reason.
        reason: String,
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
            WorkerError::Listen { .. } | WorkerError::Serve { .. } => ErrorClass::Unavailable,
            WorkerError::Address { .. } => ErrorClass::InvalidRequest,
            WorkerError::Refused { .. } => ErrorClass::Impossible,
            WorkerError::Cache(error) => error.class(),
        }
    }
}

/// Runs a worker until `shutdown`; `ready` learns the address it listens on.
///
/// # Errors
/// [`WorkerError`] when it cannot start, is refused, or its server stops.
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
    let advertised = config.advertise.clone().unwrap_or_else(|| format!("http://{address}"));
    let cache = open_cache(&config).await?;
    let tiles = Tiles {
        source,
        cache: cache.clone(),
        pool: Pool::new(config.slots, config.memory_bytes),
        salt: salt().into(),
    };
    let announcement = Announcement {
        worker: format!("{address}-{}", std::process::id()),
        address: advertised,
        slots: config.slots,
        memory_bytes: config.memory_bytes,
    };
    let presence = Presence::new(config.readiness.clone());
    let mut registrations = JoinSet::new();
    for coordinator in &config.coordinators {
        let endpoint = endpoint(coordinator)?;
        registrations.spawn(register::keep_registered(
            endpoint,
            announcement.clone(),
            presence.clone(),
            shutdown.clone(),
        ));
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<WorkerServiceServer<service::Service>>().await;
    let stop = CancellationToken::new();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
        .add_service(health)
        .add_service(
            WorkerServiceServer::new(service::Service::new(tiles)).max_decoding_message_size(PLAN_BYTES_MAX),
        )
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.clone().cancelled_owned(),
        );
    ready(address);
    let mut server = std::pin::pin!(server);
    let refused = async {
        loop {
            match registrations.join_next().await {
                Some(Ok(Err(refusal))) => return refusal.message().to_owned(),
                Some(_) => {}
                // All registrations ended by shutdown; what remains is the server's end.
                None => std::future::pending().await,
            }
        }
    };
    let result = tokio::select! {
        result = &mut server => result.map_err(|error| WorkerError::Serve { reason: error.to_string() }),
        reason = refused => Err(WorkerError::Refused { reason }),
        () = shutdown.cancelled() => {
            // Tiles in flight are finished; whoever waits for more has another worker.
            presence.drain();
            stop.cancel();
            match tokio::time::timeout(config.grace, server).await {
                Ok(result) => result.map_err(|error| WorkerError::Serve { reason: error.to_string() }),
                Err(_) => Ok(()),
            }
        }
    };
    cache.settle().await;
    result
}

/// The largest call: a plan over thousands of scenes with many files each.
const PLAN_BYTES_MAX: usize = 64 << 20;

fn endpoint(address: &str) -> Result<Endpoint, WorkerError> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|error| WorkerError::Address { address: address.to_owned(), reason: error.to_string() })?;
    Ok(with_keepalive(endpoint))
}

async fn open_cache(config: &Config) -> Result<Arc<dyn TileCache>, WorkerError> {
    let near = MemoryCache::new(config.cache_bytes);
    Ok(match &config.cache_url {
        None => Arc::new(near),
        Some(url) => Arc::new(Tiered::new(near, RedisCache::connect(url, RedisSettings::default()).await?)),
    })
}

/// What can change a pixel and is not in a plan.
fn salt() -> String {
    #[cfg(feature = "gdal")]
    let gdal = gdal::version::VersionInfo::version_num();
    #[cfg(not(feature = "gdal"))]
    let gdal = "none";
    format!("graticule {ENGINE_VERSION}, gdal {gdal}")
}
