//! The bounded CPU pool: so many tiles at a time, and no more memory than there is.

use std::any::Any;
use std::sync::Arc;

use graticule_common::error::{Classify, ErrorClass};
use tokio::sync::Semaphore;

/// Memory is handed out in these units.
const UNIT_BYTES: u64 = 1 << 20;

/// Where tiles are computed. Async threads wait, pool threads compute.
#[derive(Clone, Debug)]
pub struct Pool {
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    memory_units: u32,
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
    /// The pool is shut down.
    #[error("the worker is shutting down")]
    Closed,
}

impl Classify for PoolError {
    fn class(&self) -> ErrorClass {
        match self {
            PoolError::TooLarge { .. } => ErrorClass::LimitExceeded,
            PoolError::Panicked { .. } => ErrorClass::Internal,
            PoolError::Closed => ErrorClass::Unavailable,
        }
    }
}

impl Pool {
    /// A pool of `slots` threads with `memory_bytes` for all of them together.
    pub fn new(slots: u32, memory_bytes: u64) -> Self {
        let memory_units = u32::try_from(memory_bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let permits = |n: u32| Arc::new(Semaphore::new((n as usize).min(Semaphore::MAX_PERMITS)));
        Pool { slots: permits(slots.max(1)), memory: permits(memory_units), memory_units }
    }

    /// Runs `work` on a pool thread once `bytes` of memory and a slot are free. What waits longest is
    /// served first, so large tiles are not overtaken for ever.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let units = bytes.div_ceil(UNIT_BYTES);
        let too_large = PoolError::TooLarge { need: bytes, have: u64::from(self.memory_units) * UNIT_BYTES };
        let units = u32::try_from(units).ok().filter(|units| *units <= self.memory_units).ok_or(too_large)?;
        let memory = self.memory.clone().acquire_many_owned(units).await.map_err(|_| PoolError::Closed)?;
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| PoolError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            // Held until the work is done, even if nobody waits for it any more.
            drop((memory, slot));
            result
        });
        task.await.map_err(|error| match error.try_into_panic() {
            Ok(payload) => PoolError::Panicked { reason: panic_text(payload) },
            // The process is ending: another worker can do this.
            Err(_) => PoolError::Closed,
        })
    }
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().map_or("no message".into(), |text| (*text).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_runs_at_once_than_memory_allows() {
        let pool = Pool::new(8, 4 * UNIT_BYTES);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let (pool, running, most) = (pool.clone(), running.clone(), most.clone());
                tokio::spawn(async move {
                    pool.run(2 * UNIT_BYTES, move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                    })
                    .await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn what_can_never_run_is_refused_and_a_panic_is_an_error() {
        let pool = Pool::new(1, 4 * UNIT_BYTES);
        assert!(matches!(pool.run(5 * UNIT_BYTES, || ()).await, Err(PoolError::TooLarge { .. })));
        let panicked = pool.run(1, || panic!("a defect")).await;
        assert_eq!(panicked, Err::<(), _>(PoolError::Panicked { reason: "a defect".into() }));
        assert_eq!(pool.run(1, || 7).await, Ok(7));
    }

    #[test]
    fn work_that_a_dying_process_drops_can_be_done_elsewhere() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let pool = Pool::new(1, UNIT_BYTES);
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _inside = handle.enter();
        let mut run = std::pin::pin!(pool.run(1, || 7));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert_eq!(run.as_mut().poll(&mut context), std::task::Poll::Ready(Err(PoolError::Closed)));
    }
}
