//! A source of pixels that a test watches and steers: it counts reads, holds them at a gate, fails or
//! panics.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use graticule_worker::source::{BandRead, ReadError, ReadProblem, ReadStats, TileSource};
use tokio::sync::watch;

use crate::soon;

/// What happens to the next reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// They go through.
    #[default]
    Pass,
    /// They wait until the behaviour changes or [`Probe::step`] lets one through.
    Hold,
    /// So many go through, then one after the other fails.
    FailAfter(u64),
    /// They fail as those from a server that cannot be reached.
    Unreachable,
    /// They panic.
    Panic,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Reads so far.
    pub reads: u64,
    /// Scene of the read that waits now, of one of them where several do.
    pub held: Option<String>,
    /// Times a read was held.
    pub holds: u64,
}

/// The source.
#[derive(Debug)]
pub struct Probe {
    inner: Arc<dyn TileSource>,
    gate: Mutex<Gate>,
    changed: Condvar,
    seen: watch::Sender<Seen>,
}

#[derive(Debug, Default)]
struct Gate {
    behaviour: Behaviour,
    /// Held reads that may go.
    permits: u64,
}

impl Probe {
    /// Before another source.
    pub fn new(inner: Arc<dyn TileSource>) -> Arc<Probe> {
        let seen = watch::Sender::new(Seen::default());
        Arc::new(Probe { inner, gate: Mutex::default(), changed: Condvar::new(), seen })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what happens from now on, to reads that wait too.
    pub fn set(&self, behaviour: Behaviour) {
        *self.gate() = Gate { behaviour, permits: 0 };
        self.changed.notify_all();
    }

    /// Lets one held read through.
    pub fn step(&self) {
        self.seen.send_modify(|seen| seen.held = None);
        self.gate().permits += 1;
        self.changed.notify_one();
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.seen.borrow().reads
    }

    /// Waits until what was seen fits.
    pub async fn until(&self, what: &str, fits: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        soon(what, seen.wait_for(fits)).await.expect("the probe is there").clone()
    }

    /// Waits until a read is held; its scene.
    pub async fn held(&self) -> String {
        self.until("a read at the gate", |seen| seen.held.is_some()).await.held.unwrap_or_default()
    }

    fn pass(&self, read: &BandRead<'_>) -> Result<(), ReadError> {
        self.seen.send_modify(|seen| seen.reads += 1);
        let mut gate = self.gate();
        match &mut gate.behaviour {
            Behaviour::Pass => Ok(()),
            Behaviour::Panic => {
                drop(gate);
                panic!("a defect of the source")
            }
            Behaviour::Unreachable => {
                Err(read.error(ReadProblem::Unreachable { reason: "connection refused".into() }))
            }
            Behaviour::FailAfter(0) => Err(read.error(ReadProblem::Corrupt { reason: "as planned".into() })),
            Behaviour::FailAfter(left) => {
                *left -= 1;
                Ok(())
            }
            Behaviour::Hold => {
                self.seen.send_modify(|seen| {
                    seen.holds += 1;
                    seen.held = Some(read.scene.to_owned());
                });
                while gate.behaviour == Behaviour::Hold && gate.permits == 0 {
                    gate = self.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
                }
                gate.permits = gate.permits.saturating_sub(1);
                Ok(())
            }
        }
    }
}

impl TileSource for Probe {
    fn read(
        &self,
        read: &BandRead<'_>,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<ReadStats, ReadError> {
        self.pass(read)?;
        self.inner.read(read, samples, valid)
    }
}
