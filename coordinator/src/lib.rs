//! Turns requests into tiles and tiles into results.
//!
//! A request takes one path ([`request`]): bytes → expression → scenes → plan → tiles → stream. Workers
//! make themselves known ([`fleet`]); which of them computes which tile is decided by a pure state
//! machine ([`schedule`]) whose actions are performed in one place ([`dispatch`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::proto::v1::compute_service_server::ComputeServiceServer;
use graticule_common::proto::v1::fleet_service_server::FleetServiceServer;
use graticule_common::telemetry::Readiness;
use graticule_common::tls::ServerTls;
use graticule_common::transform::Transform;
use graticule_common::{tls, transport};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tracing::{info, warn};

use crate::access::Access;
use crate::access::layer::guard;
use crate::catalog::SceneCatalog;
use crate::dispatch::Dispatcher;
use crate::drain::Drain;
use crate::fleet::Fleet;
use crate::http::HttpConfig;
use crate::objects::ObjectError;
use crate::request::Requests;

pub mod access;
pub mod blobs;
pub mod catalog;
pub mod catalog_service;
pub mod dispatch;
mod drain;
pub mod fleet;
mod header;
pub mod heavy;
pub mod http;
pub mod layers;
pub mod objects;
mod planning;
pub mod reader;
pub mod render;
pub mod request;
pub mod schedule;
pub mod service;
mod stages;
mod sums;

/// Settings of a coordinator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What requests go by.
    pub requests: request::Rules,
    /// What scheduling goes by.
    pub schedule: schedule::Rules,
    /// Who computes; a clone kept by the caller tells which workers there are.
    pub fleet: Fleet,
    /// Who may call.
    pub access: Arc<Access>,
    /// TLS for all who call; without it connections are plain.
    pub tls: Option<Arc<ServerTls>>,
    /// Learns whether it takes work; a clone kept by the caller tells.
    pub readiness: watch::Sender<Readiness>,
    /// Time for requests under way after a request to stop.
    pub grace: Duration,
    /// The HTTP port; without it there is none.
    pub http: Option<HttpConfig>,
}

/// Where a coordinator listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For gRPC.
    pub grpc: SocketAddr,
    /// For HTTP.
    pub http: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            requests: request::Rules::default(),
            schedule: schedule::Rules::default(),
            fleet: Fleet::default(),
            access: Arc::new(Access::open()),
            tls: None,
            readiness: watch::Sender::default(),
            grace: Duration::from_secs(30),
            http: None,
        }
    }
}

/// Why a coordinator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The HTTP port's secret cannot be had.
    #[error(
        "the secret of layer ids cannot be read or made in the store: {0}; `--layer-secret-file` names one"
    )]
    LayerSecret(ObjectError),
    /// Requests were still under way when the time for them was over.
    #[error("{requests} requests were cut off: they took longer than the grace period of {} s", grace.as_secs())]
    Cut {
        /// How many.
        requests: usize,
        /// The time they had.
        grace: Duration,
    },
    /// The server stopped.
    #[error("the coordinator's server stopped: {reason}")]
    Serve {
        /// Why.
        reason: String,
    },
}

impl Classify for CoordinatorError {
    fn class(&self) -> ErrorClass {
        match self {
            CoordinatorError::Listen { .. } | CoordinatorError::Serve { .. } => ErrorClass::Unavailable,
            CoordinatorError::LayerSecret(error) => error.class(),
            CoordinatorError::Cut { .. } => ErrorClass::Timeout,
        }
    }
}

/// Runs a coordinator until `shutdown`; `ready` learns the addresses it listens on. `extra` are services
/// that the caller adds, such as reflection.
///
/// From `shutdown` on it takes no new requests and finishes those under way within [`Config::grace`]. Its
/// workers stay registered until then.
///
/// # Errors
/// [`CoordinatorError`] when it cannot start, its server stops, or requests had to be cut off.
pub async fn run(
    config: Config,
    catalog: Arc<dyn SceneCatalog>,
    transform: Arc<dyn Transform>,
    mut extra: RoutesBuilder,
    shutdown: CancellationToken,
    ready: impl FnOnce(Addresses),
) -> Result<(), CoordinatorError> {
    let failed = |reason: std::io::Error| CoordinatorError::Listen {
        address: config.listen,
        reason: reason.to_string(),
    };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let fleet = config.fleet;
    let fleet_tls = fleet.tls();
    let dispatcher = Dispatcher::start(config.schedule, fleet.clone());
    let limits = config.requests.limits.clone();
    let sources = (catalog.clone(), transform.clone());
    let requests = Requests::new(config.requests, catalog, transform, (fleet.clone(), dispatcher));
    let drain = Drain::default();
    let web = match config.http {
        Some(settings) => {
            let (listener, at) = listen_for_web(&settings).await?;
            let rules = settings.rules.clone();
            let with = (config.access.clone(), drain.clone());
            let http = http::Http::new(settings, requests.clone(), sources, with, limits).await;
            Some((listener, at, http::router(http.map_err(CoordinatorError::LayerSecret)?), rules))
        }
        None => None,
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    let watching = drain::watch(drain.clone(), fleet.clone(), config.readiness, reporter);
    let watching = AbortOnDrop(tokio::spawn(watching));
    extra.add_service(health);
    extra.add_service(FleetServiceServer::new(service::Workers(requests.clone(), address)));
    // A graft of the largest size with its AOI must fit one message.
    let compute = ComputeServiceServer::new(service::Compute(requests, drain.clone()));
    extra.add_service(compute.max_decoding_message_size(REQUEST_BYTES_MAX));
    let stop = CancellationToken::new();
    tokio::spawn(config.access.clone().follow(stop.clone()));
    tokio::spawn(tls::follow(config.tls.clone(), fleet_tls, stop.clone()));
    let _stops = stop.clone().drop_guard();
    let web_address = web.as_ref().map(|(_, at, _, _)| *at);
    let web = web.map(|(listener, _, router, rules)| {
        let serving = http::serve(listener, config.tls.clone(), router, rules, stop.clone());
        AbortOnDrop(tokio::spawn(serving))
    });
    let server =
        transport::server().add_routes(guard(extra.routes(), config.access)).serve_with_incoming_shutdown(
            transport::incoming(listener, config.tls),
            stop.clone().cancelled_owned(),
        );
    ready(Addresses { grpc: address, http: web_address });
    let mut server = std::pin::pin!(server);
    let served = |result: Result<(), tonic::transport::Error>| {
        result.map_err(|error| CoordinatorError::Serve { reason: error.to_string() })
    };
    tokio::select! {
        result = &mut server => return served(result),
        () = shutdown.cancelled() => drain.close(),
    }
    info!(requests = drain.requests(), grace_s = config.grace.as_secs(), "draining");
    let finished = tokio::select! {
        result = &mut server => return served(result),
        finished = tokio::time::timeout(config.grace, drain.empty()) => finished.is_ok(),
    };
    let requests = drain.requests();
    stop.cancel();
    // Registrations never end by themselves.
    fleet.snapshot().iter().for_each(|worker| fleet.give_up(worker));
    drop(watching);
    if !finished {
        return Err(CoordinatorError::Cut { requests, grace: config.grace });
    }
    // What was sent last is on its way. Connections of clients that ask for nothing may stay open.
    let web = async {
        if let Some(mut web) = web {
            // Its own failures are its connections'.
            let _ = (&mut web.0).await;
        }
    };
    let ends = async { tokio::join!(server, web).0 };
    tokio::time::timeout(FAREWELL, ends).await.map_or(Ok(()), served)
}

/// The HTTP port. A page that is expected on a port that somebody else has finds another one, where that is
/// allowed; a port that was named is not given up.
async fn listen_for_web(settings: &HttpConfig) -> Result<(TcpListener, SocketAddr), CoordinatorError> {
    let failed = |reason: std::io::Error| CoordinatorError::Listen {
        address: settings.listen,
        reason: reason.to_string(),
    };
    let listener = match TcpListener::bind(settings.listen).await {
        Err(error) if settings.may_move && error.kind() == std::io::ErrorKind::AddrInUse => {
            warn!(address = %settings.listen, "the HTTP port is in use, another one is taken");
            TcpListener::bind(SocketAddr::new(settings.listen.ip(), 0)).await
        }
        bound => bound,
    };
    let listener = listener.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// A task that ends with whoever started it.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The largest request: a graft of `Limits::graft_bytes` and an outline.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Time for the last bytes of the last requests.
const FAREWELL: Duration = Duration::from_millis(500);
