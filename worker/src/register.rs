//! Makes the worker known to a coordinator and keeps it known.

use std::time::Duration;

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::versions;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tracing::{info, warn};

use crate::presence::Presence;

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Name, unique among workers.
    pub worker: String,
    /// Address at which coordinators reach it.
    pub address: String,
    /// Tiles it computes at the same time.
    pub slots: u32,
    /// Memory for tiles.
    pub memory_bytes: u64,
}

/// Pauses between attempts double from the first to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// Announces the worker to one coordinator until `shutdown`; comes back after every break.
///
/// # Errors
/// The coordinator's reason when it refuses this worker for good.
pub async fn keep_registered(
    coordinator: Endpoint,
    announcement: Announcement,
    presence: Presence,
    shutdown: CancellationToken,
) -> Result<(), Status> {
    let mut pause = PAUSE_FIRST;
    loop {
        let attempt = register(&coordinator, &announcement, &presence, &mut pause);
        let error = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Err(error) = attempt => error,
        };
        if matches!(error.code(), Code::FailedPrecondition | Code::InvalidArgument) {
            return Err(error);
        }
        warn!(coordinator = %coordinator.uri(), error = %error.message(), "not registered, trying again");
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

/// One registration; returns when it ends, which is always an error.
async fn register(
    coordinator: &Endpoint,
    announcement: &Announcement,
    presence: &Presence,
    pause: &mut Duration,
) -> Result<std::convert::Infallible, Status> {
    let channel = coordinator.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let (sender, receiver) = mpsc::channel(1);
    let message = || pb::RegisterRequest {
        worker: announcement.worker.clone(),
        address: announcement.address.clone(),
        slots: announcement.slots,
        memory_bytes: announcement.memory_bytes,
        versions: Some(versions::own()),
        ..pb::RegisterRequest::default()
    };
    let ended = || Status::unavailable("the registration ended");
    sender.send(message()).await.map_err(|_| ended())?;
    let mut answers =
        FleetServiceClient::new(channel).register(ReceiverStream::new(receiver)).await?.into_inner();
    let mut registered = None;
    loop {
        let answer = answers.next().await.ok_or_else(ended)??;
        if *pause != PAUSE_FIRST || answer.heartbeat_ms == 0 {
            info!(coordinator = %coordinator.uri(), "registered");
        }
        *pause = PAUSE_FIRST;
        registered.get_or_insert_with(|| presence.registered());
        tokio::time::sleep(Duration::from_millis(answer.heartbeat_ms.max(100).into())).await;
        sender.send(message()).await.map_err(|_| ended())?;
    }
}
