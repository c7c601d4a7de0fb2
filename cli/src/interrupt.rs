//! Being asked to stop, by Ctrl-C or by the system.

use graticule_common::error::ErrorClass;
use graticule_common::status::exit_code;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Listens from the moment it is made: a signal is then an event like any other.
#[derive(Debug)]
pub struct Interrupt([Signal; 2]);

impl Interrupt {
    /// Starts to listen.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(ErrorClass::Internal, format!("cannot listen for signals: {error}"))
            })
        };
        // Not SIGHUP: to listen for it would undo `nohup`.
        let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(listen);
        Ok(Interrupt([interrupt?, terminate?]))
    }

    /// Returns at the next signal.
    pub async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    /// From now on a signal ends the process at once.
    pub fn end_at_next(mut self) {
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(exit_code(ErrorClass::Cancelled).into());
        });
    }
}
