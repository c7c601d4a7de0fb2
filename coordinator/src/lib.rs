//! Turns requests into tiles and tiles into results.
//!
//! A request takes one path ([`request`]): bytes → expression → scenes → plan → tiles → stream. Workers
//! make themselves known ([`fleet`]); which of them computes which tile is decided by a pure state
//! machine ([`schedule`]) whose actions are performed in one place ([`dispatch`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::limits::Limits;
use graticule_common::proto::v1::compute_service_server::ComputeServiceServer;
use graticule_common::proto::v1::fleet_service_server::FleetServiceServer;
use graticule_common::tls::ServerTls;
use graticule_common::transform::Transform;
use graticule_common::{tls, transport};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

use crate::access::Access;
use crate::access::layer::guard;
use crate::catalog::SceneCatalog;
use crate::fleet::Fleet;
use crate::request::Requests;

pub mod access;
pub mod catalog;
pub mod catalog_service;
mod colormaps;
pub mod dispatch;
pub mod fleet;
pub mod render;
pub mod request;
pub mod schedule;
pub mod service;
mod stages;

/// Settings of a coordinator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What one request may ask for.
    pub limits: Limits,
    /// Time for one request.
    pub deadline: Duration,
    /// Time to wait for a worker when there is none.
    pub patience: Duration,
    /// Who computes; a clone kept by the caller tells which workers there are.
    pub fleet: Fleet,
    /// Who may call.
    pub access: Arc<Access>,
    /// TLS for all who call; without it connections are plain.
    pub tls: Option<Arc<ServerTls>>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            limits: Limits::default(),
            deadline: Duration::from_secs(300),
            patience: Duration::from_secs(5),
            fleet: Fleet::default(),
            access: Arc::new(Access::open()),
            tls: None,
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
        }
    }
}

/// Runs a coordinator until `shutdown`; `ready` learns the address it listens on. `extra` are services
/// that the caller adds, such as reflection.
///
/// # Errors
/// [`CoordinatorError`] when it cannot start, or its server stops.
pub async fn run(
    config: Config,
    catalog: Arc<dyn SceneCatalog>,
    transform: Arc<dyn Transform>,
    mut extra: RoutesBuilder,
    shutdown: CancellationToken,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), CoordinatorError> {
    let failed = |reason: std::io::Error| CoordinatorError::Listen {
        address: config.listen,
        reason: reason.to_string(),
    };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let fleet = config.fleet;
    let fleet_tls = fleet.tls();
    let requests = Requests {
        catalog,
        transform,
        fleet: fleet.clone(),
        limits: config.limits,
        deadline: config.deadline,
        patience: config.patience,
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ComputeServiceServer<service::Compute>>().await;
    extra.add_service(health);
    extra.add_service(FleetServiceServer::new(service::Workers(fleet)));
    // A graft of the largest size with its AOI must fit one message.
    extra.add_service(
        ComputeServiceServer::new(service::Compute(requests)).max_decoding_message_size(REQUEST_BYTES_MAX),
    );
    tokio::spawn(config.access.clone().follow(shutdown.clone()));
    tokio::spawn(tls::follow(config.tls.clone(), fleet_tls, shutdown.clone()));
    let server =
        transport::server().add_routes(guard(extra.routes(), config.access)).serve_with_incoming_shutdown(
            transport::incoming(listener, config.tls),
            shutdown.clone().cancelled_owned(),
        );
    ready(address);
    let mut server = std::pin::pin!(server);
    let result = tokio::select! {
        result = &mut server => result,
        // Requests in flight get a little time; registrations of workers never end by themselves.
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    };
    result.map_err(|error| CoordinatorError::Serve { reason: error.to_string() })
}

/// The largest request: a graft of `Limits::graft_bytes` and an outline.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Time for requests in flight after a request to stop.
const GRACE: Duration = Duration::from_millis(500);
