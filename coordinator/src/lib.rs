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
use graticule_common::transform::Transform;
use graticule_common::transport::{KEEPALIVE_EVERY, KEEPALIVE_WITHIN};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::catalog::SceneCatalog;
use crate::dispatch::Dispatcher;
use crate::fleet::Fleet;
use crate::request::Requests;

pub mod catalog;
pub mod catalog_service;
mod colormaps;
pub mod dispatch;
pub mod fleet;
mod header;
pub mod heavy;
mod planning;
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
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            requests: request::Rules::default(),
            schedule: schedule::Rules::default(),
            fleet: Fleet::default(),
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
    let dispatcher = Dispatcher::start(config.schedule, config.fleet.clone());
    let requests = Requests::new(config.requests, catalog, transform, (config.fleet, dispatcher));
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ComputeServiceServer<service::Compute>>().await;
    extra.add_service(health);
    extra.add_service(FleetServiceServer::new(service::Workers(requests.clone())));
    // A graft of the largest size with its AOI must fit one message.
    extra.add_service(
        ComputeServiceServer::new(service::Compute(requests)).max_decoding_message_size(REQUEST_BYTES_MAX),
    );
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
        .add_routes(extra.routes())
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
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
