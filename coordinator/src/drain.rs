//! Ending without cutting anything off: what is under way is counted, and nothing new is let in.

use std::time::Duration;

use graticule_common::error::ErrorClass;
use graticule_common::proto::v1::compute_service_server::ComputeServiceServer;
use graticule_common::status::status_after;
use graticule_common::telemetry::{Readiness, names};
use tokio::sync::watch;
use tonic::Status;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::info;

use crate::fleet::Fleet;

/// After this time a client that was refused asks again: by then another coordinator is asked, or this
/// one's successor.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

/// The door of a coordinator.
#[derive(Clone, Debug, Default)]
pub struct Drain(watch::Sender<Inside>);

#[derive(Clone, Copy, Debug, Default)]
struct Inside {
    requests: usize,
    is_closed: bool,
}

/// A request that was let in; it is under way as long as this is.
#[derive(Debug)]
pub struct Admitted(Drain);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.0.send_modify(|inside| inside.requests -= 1);
    }
}

impl Drain {
    /// Lets a request in.
    ///
    /// # Errors
    /// A status that says when to come back, once the coordinator is ending.
    pub fn admit(&self) -> Result<Admitted, Status> {
        let is_in = self.0.send_if_modified(|inside| {
            inside.requests += usize::from(!inside.is_closed);
            !inside.is_closed
        });
        if is_in {
            return Ok(Admitted(self.clone()));
        }
        metrics::counter!(names::SHEDS, "reason" => "draining").increment(1);
        let message = "this coordinator is ending and takes no new requests; ask again, or another one";
        Err(status_after(ErrorClass::Unavailable, message, COME_BACK_AFTER))
    }

    /// Lets nothing new in from now on.
    pub fn close(&self) {
        self.0.send_modify(|inside| inside.is_closed = true);
    }

    /// Whether nothing new is let in.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().is_closed
    }

    /// Requests under way.
    pub fn requests(&self) -> usize {
        self.0.borrow().requests
    }

    /// Returns when nothing is under way.
    pub async fn empty(&self) {
        // This end keeps the other one alive.
        let _ = self.0.subscribe().wait_for(|inside| inside.requests == 0).await;
    }

    /// Returns when nothing new is let in any more.
    pub async fn closed(&self) {
        let _ = self.0.subscribe().wait_for(|inside| inside.is_closed).await;
    }

    /// Whether the coordinator takes work when so many workers take tiles.
    pub fn readiness(&self, workers: u32) -> Readiness {
        match (self.is_closed(), workers) {
            (true, _) => Readiness::Draining,
            (false, 0) => Readiness::Alone,
            (false, _) => Readiness::Ready,
        }
    }
}

/// Tells `readiness` and the health service whether the coordinator takes work, for as long as it is polled.
pub async fn watch(
    drain: Drain,
    fleet: Fleet,
    readiness: watch::Sender<Readiness>,
    reporter: HealthReporter,
) {
    let (mut changes, mut is_closed) = (fleet.changes(), false);
    loop {
        let now = drain.readiness(fleet.shape().workers);
        let status = if now.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", ComputeServiceServer::<crate::service::Compute>::NAME] {
            reporter.set_service_status(service, status).await;
        }
        if readiness.send_replace(now) != now {
            info!(readiness = now.name(), "readiness changed");
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = drain.closed(), if !is_closed => is_closed = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graticule_common::status::{class_of, retry_after};

    #[tokio::test]
    async fn what_is_in_is_finished_and_nothing_new_comes_in() {
        let drain = Drain::default();
        assert_eq!(drain.readiness(0), Readiness::Alone);
        assert_eq!(drain.readiness(1), Readiness::Ready);
        let (first, second) = (drain.admit().unwrap(), drain.admit().unwrap());
        drop(first);
        drain.close();
        assert_eq!(drain.readiness(1), Readiness::Draining);
        let refused = drain.admit().unwrap_err();
        assert_eq!(class_of(&refused), ErrorClass::Unavailable);
        assert_eq!(retry_after(&refused), Some(COME_BACK_AFTER));
        assert_eq!(drain.requests(), 1, "who was refused is not counted");
        let empty = tokio::spawn({
            let drain = drain.clone();
            async move { drain.empty().await }
        });
        tokio::task::yield_now().await;
        assert!(!empty.is_finished());
        drop(second);
        empty.await.unwrap();
    }
}
