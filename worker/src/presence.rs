//! Whether anybody sends work here: which coordinators know this worker, and whether it is ending.

use graticule_common::proto::v1::worker_service_server::WorkerServiceServer;
use graticule_common::telemetry::{Readiness, names};
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// What a worker is to the others.
#[derive(Clone, Debug)]
pub struct Presence {
    known: watch::Sender<Known>,
    readiness: watch::Sender<Readiness>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    registrations: usize,
    is_draining: bool,
}

/// A coordinator knows this worker as long as this is.
#[derive(Debug)]
pub struct Registered(Presence);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.change(|known| known.registrations -= 1);
    }
}

impl Presence {
    /// Nobody knows it yet. `readiness` learns every change.
    pub fn new(readiness: watch::Sender<Readiness>) -> Self {
        let presence = Presence { known: watch::Sender::default(), readiness };
        presence.change(|_| ());
        presence
    }

    /// A coordinator has taken the announcement.
    pub fn registered(&self) -> Registered {
        self.change(|known| known.registrations += 1);
        Registered(self.clone())
    }

    /// The worker is ending.
    pub fn drain(&self) {
        self.change(|known| known.is_draining = true);
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        // Readiness is told inside, so that of two changes the later one is told last.
        self.known.send_modify(|known| {
            let before = known.registrations;
            change(known);
            // Workers of one process are counted together.
            let more = known.registrations as f64 - before as f64;
            metrics::gauge!(names::REGISTRATIONS).increment(more);
            self.readiness.send_replace(match known {
                Known { is_draining: true, .. } => Readiness::Draining,
                Known { registrations: 0, .. } => Readiness::Alone,
                Known { .. } => Readiness::Ready,
            });
        });
    }
}

/// Tells the health service, for as long as it is polled.
pub(crate) async fn report(mut readiness: watch::Receiver<Readiness>, reporter: HealthReporter) {
    loop {
        let is_ready = readiness.borrow_and_update().is_ready();
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", WorkerServiceServer::<crate::service::Service>::NAME] {
            reporter.set_service_status(service, status).await;
        }
        if readiness.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_is_known_and_stays() {
        let sender = watch::Sender::default();
        let readiness = sender.subscribe();
        assert_eq!(*readiness.borrow(), Readiness::Starting);
        let presence = Presence::new(sender);
        assert_eq!(*readiness.borrow(), Readiness::Alone);
        let (one, two) = (presence.registered(), presence.registered());
        drop(one);
        assert_eq!(*readiness.borrow(), Readiness::Ready);
        presence.drain();
        assert_eq!(*readiness.borrow(), Readiness::Draining);
        drop(two);
        assert_eq!(*readiness.borrow(), Readiness::Draining);
    }
}
