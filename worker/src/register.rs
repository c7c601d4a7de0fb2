//! Makes the worker known to every coordinator and keeps it known.

use std::collections::BTreeMap;
use std::time::Duration;

use graticule_common::failpoint;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::transport::Target;
use graticule_common::versions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{info, warn};

use crate::pool::Pool;
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
    /// Where it computes: what is free and what is lost changes.
    pub pool: Pool,
    /// Says that it takes no new tiles.
    pub draining: CancellationToken,
    /// Time for the answer to an announcement: [`ANSWER_WITHIN`].
    pub answer_within: Duration,
    /// Learns that a coordinator knows the worker.
    pub presence: Presence,
}

impl Announcement {
    fn message(&self, lost_slots: u32) -> pb::RegisterRequest {
        pb::RegisterRequest {
            worker: self.worker.clone(),
            address: self.address.clone(),
            slots: self.slots,
            memory_bytes: self.memory_bytes,
            versions: Some(versions::own()),
            draining: self.draining.is_cancelled(),
            free_bytes: self.pool.free_bytes(),
            lost_slots,
        }
    }
}

/// Which coordinators refuse the worker now, and why; those that do not have no entry.
pub type Refusals = watch::Sender<BTreeMap<String, String>>;

/// Pauses between attempts: up to the first, twice that after each further failure, up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// Time for the answer to an announcement. Pings notice a machine that is gone; this notices a coordinator
/// that hangs while its machine lives.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Bounds on what a coordinator may ask for as the time between announcements.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// The longest pause after so many failures in a row. The pause itself is drawn between nothing and this,
/// so that a fleet that lost its coordinator does not come back all at once.
fn longest_pause(failures: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_LAST)
}

/// Announces the worker to one coordinator until `shutdown`; comes back after every break. Its name is
/// looked up anew each time.
pub async fn keep_registered(
    coordinator: Target,
    announcement: Announcement,
    refusals: Refusals,
    shutdown: CancellationToken,
) {
    let name = coordinator.address().to_owned();
    let mut failures = 0u32;
    loop {
        let is_known = || {
            failures = 0;
            let known = |refusals: &mut BTreeMap<_, _>| refusals.remove(&name).is_some();
            refusals.send_if_modified(known);
        };
        let error = tokio::select! {
            () = shutdown.cancelled() => return,
            Err(error) = register(&coordinator, &announcement, is_known) => error,
        };
        failures = failures.saturating_add(1);
        let longest = longest_pause(failures);
        let is_refusal = matches!(
            error.code(),
            Code::FailedPrecondition | Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied
        );
        if is_refusal {
            warn!(coordinator = %name, error = %error.message(), "refused, asking again");
            refusals.send_modify(|refusals| _ = refusals.insert(name.clone(), error.message().to_owned()));
        } else {
            warn!(coordinator = %name, error = %error.message(), "not registered, trying again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(longest.mul_f64(fastrand::f64())) => {}
        }
    }
}

/// One registration; returns when it ends, which is always an error.
async fn register(
    coordinator: &Target,
    announcement: &Announcement,
    mut is_known: impl FnMut(),
) -> Result<std::convert::Infallible, Status> {
    let ended = || Status::unavailable("the registration ended");
    let within = announcement.answer_within;
    let silent = |_| Status::unavailable(format!("no answer within {} s", within.as_secs_f64()));
    let mut lost = announcement.pool.lost_slots();
    let (sender, receiver) = mpsc::channel(1);
    let announce = |lost_slots: u32| {
        // Announcements are answered one by one, so there is room.
        let message = announcement.message(lost_slots);
        let says_draining = message.draining;
        sender.try_send(message).map(|()| says_draining).map_err(|_| ended())
    };
    let mut has_said_draining = announce(*lost.borrow_and_update())?;
    let opening = async {
        let channel = coordinator.connect().await.map_err(Status::unavailable)?;
        FleetServiceClient::new(channel).register(ReceiverStream::new(receiver)).await
    };
    let mut answers = timeout(within, opening).await.map_err(silent)??.into_inner();
    let mut registered = None;
    loop {
        let answer = timeout(within, answers.next()).await.map_err(silent)?.ok_or_else(ended)??;
        if registered.is_none() {
            info!(coordinator = %coordinator.address(), "registered");
            registered = Some(announcement.presence.registered());
        }
        is_known();
        let pause = Duration::from_millis(answer.heartbeat_ms.into()).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        let next = Instant::now() + pause;
        // News is told at once, and the end of the stream is news too.
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = announcement.draining.cancelled(), if !has_said_draining => {}
            Ok(()) = lost.changed() => {}
            unasked = answers.next() => {
                unasked.ok_or_else(ended)??;
                return Err(Status::internal("an answer that was not asked for"));
            }
        }
        failpoint!("register.before_heartbeat", return Err(ended()));
        has_said_draining = announce(*lost.borrow_and_update())?;
    }
}

#[cfg(test)]
mod tests;
