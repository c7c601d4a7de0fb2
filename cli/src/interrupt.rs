//! Being asked to stop, by Ctrl-C or by the system.

use std::time::Duration;

use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::status::exit_code;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// How a server stops.
#[derive(Args, Clone, Copy, Debug)]
pub struct StopArgs {
    /// Seconds for what is under way after the first SIGTERM or Ctrl-C; the second ends the process at once
    #[arg(
        long = "grace-s",
        value_name = "SECONDS",
        env = "GRATICULE_GRACE_S",
        default_value_t = 30,
        help_heading = "Operation",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    grace_s: u64,
}

impl StopArgs {
    /// Time for what is under way.
    pub fn grace(self) -> Duration {
        Duration::from_secs(self.grace_s)
    }
}

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
            end_now(exit_code(ErrorClass::Cancelled).into());
        });
    }

    /// A token that the next signal cancels; the one after it ends the process.
    pub fn token(mut self) -> CancellationToken {
        let stop = CancellationToken::new();
        let token = stop.clone();
        tokio::spawn(async move {
            self.next().await;
            token.cancel();
            self.end_at_next();
        });
        stop
    }
}

/// Ends the process without whatever libraries do at its end: GDAL's must not meet a read that is under
/// way, which would crash.
fn end_now(code: i32) -> ! {
    // SAFETY: the call never returns and runs nothing of this process; what is half written is a draft.
    #[expect(unsafe_code, reason = "the standard library has no word for it")]
    unsafe {
        libc::_exit(code)
    }
}
