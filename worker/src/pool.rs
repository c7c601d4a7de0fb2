//! The bounded CPU pool: so many tiles at a time, and no more memory than there is.
//!
//! A tile is admitted first ([`Pool::admit`]), which may take long and can be given up at any moment, and
//! then runs on a thread ([`Place::run`]), which nobody can stop from outside: it is asked to. A thread that
//! does not stop when it is asked is written off with its slot and its memory until it comes back.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use graticule_common::error::{Classify, ErrorClass};
use tokio::sync::{
    OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore, watch,
};
use tokio_util::sync::CancellationToken;

/// Memory is handed out in these units.
const UNIT_BYTES: u64 = 1 << 20;

/// Time for a thread that is asked to stop; a call into a library may never return.
pub const STOPS_WITHIN: Duration = Duration::from_secs(2);

/// The share of the memory that results which wait for slow readers may hold: one in so many. The rest is
/// there for tiles, whoever reads slowly.
const RESULTS_SHARE: u32 = 2;

/// Where tiles are computed. Async threads wait, pool threads compute.
#[derive(Clone, Debug)]
pub struct Pool {
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    memory_units: u32,
    /// Memory that finished results may hold until they are sent.
    results: Arc<Semaphore>,
    /// Threads that plan, hash and decode: short work, which waits for no tile.
    thinkers: Arc<Semaphore>,
    /// Tiles share it; one that must run alone has it to itself.
    house: Arc<RwLock<()>>,
    /// Slots that are written off.
    lost: watch::Sender<u32>,
}

/// Why work was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It needs more memory than there is altogether.
    #[error("a tile needs {need} bytes of memory, this worker has {have}; use smaller tiles or fewer scenes")]
    TooLarge {
        /// What it needs.
        need: u64,
        /// What there is.
        have: u64,
    },
    /// The work panicked: a defect.
    #[error("the computation of the tile stopped by a defect of the engine: {reason}")]
    Panicked {
        /// What is known of it.
        reason: String,
    },
    /// The work was asked to stop and did not.
    #[error("the computation of the tile does not stop; its thread is written off")]
    Stuck,
    /// The pool is shut down.
    #[error("the worker is shutting down")]
    Closed,
}

impl Classify for PoolError {
    fn class(&self) -> ErrorClass {
        match self {
            PoolError::TooLarge { .. } => ErrorClass::LimitExceeded,
            PoolError::Panicked { .. } => ErrorClass::Internal,
            PoolError::Stuck => ErrorClass::Timeout,
            PoolError::Closed => ErrorClass::Unavailable,
        }
    }
}

/// A slot and memory for one tile.
#[derive(Debug)]
pub struct Place {
    pool: Pool,
    memory: OwnedSemaphorePermit,
    slot: OwnedSemaphorePermit,
    presence: Presence,
}

/// Whether a tile is alone.
#[derive(Debug)]
#[expect(dead_code, reason = "held, never looked at")]
enum Presence {
    Shared(OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
}

/// Memory that a finished result holds until it is sent.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "held, never looked at")]
pub struct Held(Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>);

impl Pool {
    /// A pool of `slots` threads with `memory_bytes` for all of them together.
    pub fn new(slots: u32, memory_bytes: u64) -> Self {
        let memory_units = u32::try_from(memory_bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let permits = |n: u32| Arc::new(Semaphore::new((n as usize).min(Semaphore::MAX_PERMITS)));
        Pool {
            slots: permits(slots.max(1)),
            memory: permits(memory_units),
            memory_units,
            results: permits(memory_units / RESULTS_SHARE),
            thinkers: permits(slots.max(1)),
            house: Arc::default(),
            lost: watch::Sender::new(0),
        }
    }

    /// Memory that no tile and no result holds, in bytes.
    pub fn free_bytes(&self) -> u64 {
        self.memory.available_permits() as u64 * UNIT_BYTES
    }

    /// The number of slots that are written off, and notice of its changes.
    pub fn lost_slots(&self) -> watch::Receiver<u32> {
        self.lost.subscribe()
    }

    /// Waits until `bytes` of memory and a slot are free. What waits longest is served first, so large
    /// tiles are not overtaken for ever. A tile that is to be `alone` also waits until no other one runs,
    /// and none begins before it has ended. Stops waiting when it is dropped.
    ///
    /// # Errors
    /// [`PoolError::TooLarge`] for what can never be admitted.
    pub async fn admit(&self, bytes: u64, alone: bool) -> Result<Place, PoolError> {
        let too_large = PoolError::TooLarge { need: bytes, have: u64::from(self.memory_units) * UNIT_BYTES };
        let units = units(bytes).filter(|units| *units <= self.memory_units).ok_or(too_large)?;
        let memory = self.memory.clone().acquire_many_owned(units).await.map_err(|_| PoolError::Closed)?;
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| PoolError::Closed)?;
        // Last: who runs needs nothing that those who wait here have.
        let presence = match alone {
            true => Presence::Alone(self.house.clone().write_owned().await),
            false => Presence::Shared(self.house.clone().read_owned().await),
        };
        Ok(Place { pool: self.clone(), memory, slot, presence })
    }

    /// Runs short work that needs no place: planning, hashing, decoding.
    ///
    /// # Errors
    /// [`PoolError::Panicked`] for a defect.
    pub async fn think<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let turn = self.thinkers.clone().acquire_owned().await.map_err(|_| PoolError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        task.await.map_err(ended)
    }

    /// What a result of `bytes` holds of the memory that it was computed in. Where results hold their share
    /// already it holds nothing: their number is bounded by what coordinators may ask for at once.
    fn held(&self, mut memory: OwnedSemaphorePermit, bytes: u64) -> Held {
        let Some(units) = units(bytes).filter(|units| *units > 0) else { return Held(None) };
        let share = self.results.clone().try_acquire_many_owned(units).ok();
        let kept = share.and_then(|share| Some((memory.split(units as usize)?, share)));
        Held(kept)
    }

    /// What a result holds that was not computed but found; nothing where no memory is free.
    pub fn hold(&self, bytes: u64) -> Held {
        let memory = units(bytes).and_then(|units| self.memory.clone().try_acquire_many_owned(units).ok());
        memory.map_or(Held(None), |memory| self.held(memory, bytes))
    }
}

fn units(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()
}

impl Place {
    /// Runs `work` on a thread of the pool. It should stop soon after `cancel`; where it does not within
    /// [`STOPS_WITHIN`], its slot is written off and this returns.
    ///
    /// Beside the result stands what it holds of the memory, as `bytes` measures it.
    ///
    /// # Errors
    /// [`PoolError`] when the work did not end as it should.
    pub async fn run<T: Send + 'static>(
        self,
        cancel: &CancellationToken,
        bytes: impl FnOnce(&T) -> u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Held), PoolError> {
        let Place { pool, memory, slot, presence } = self;
        let state = Arc::new(Mutex::new(State::Running(presence)));
        let seat = Seat { state: state.clone(), lost: pool.lost.clone(), _slot: slot };
        let mut task = tokio::task::spawn_blocking(move || {
            let result = work();
            // Slot and memory are held until the work is done, even if nobody waits for it any more.
            drop(seat);
            (result, memory)
        });
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(STOPS_WITHIN).await;
        };
        let ended_in_time = tokio::select! {
            biased;
            ended = &mut task => Some(ended),
            () = overdue => None,
        };
        let ended_at_all = match ended_in_time {
            Some(ended) => ended,
            None if write_off(&state, &pool.lost) => return Err(PoolError::Stuck),
            None => task.await,
        };
        let (result, memory) = ended_at_all.map_err(ended)?;
        let held = pool.held(memory, bytes(&result));
        Ok((result, held))
    }
}

/// Why a thread gave no result.
fn ended(error: tokio::task::JoinError) -> PoolError {
    match error.try_into_panic() {
        Ok(payload) => PoolError::Panicked { reason: panic_text(payload) },
        // The process is ending: another worker can do this.
        Err(_) => PoolError::Closed,
    }
}

/// What is known of a thread.
#[derive(Debug)]
enum State {
    Running(#[expect(dead_code, reason = "held, never looked at")] Presence),
    WrittenOff,
    Ended,
}

/// Given back when a thread is done, in whatever way.
struct Seat {
    state: Arc<Mutex<State>>,
    lost: watch::Sender<u32>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if matches!(std::mem::replace(&mut *lock(&self.state), State::Ended), State::WrittenOff) {
            self.lost.send_modify(|lost| *lost = lost.saturating_sub(1));
        }
    }
}

/// Gives a thread up, unless it has ended meanwhile. What must run alone waits for it no longer.
fn write_off(state: &Mutex<State>, lost: &watch::Sender<u32>) -> bool {
    let mut state = lock(state);
    if matches!(*state, State::Ended) {
        return false;
    }
    *state = State::WrittenOff;
    lost.send_modify(|lost| *lost += 1);
    true
}

/// A state is whole after every statement, so a panic elsewhere does not spoil it.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().map_or("no message".into(), |text| (*text).into()),
    }
}

#[cfg(test)]
mod tests;
