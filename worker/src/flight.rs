//! One computation for everybody who asks for the same at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graticule_common::hash::ContentHash;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The computations under way, by what they compute. A computation belongs to nobody in particular: it
/// goes on as long as somebody waits for it, and is cancelled when the last one has gone.
#[derive(Debug)]
pub struct Flights<T>(Arc<Mutex<Flying<T>>>);

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Flights(self.0.clone())
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights(Arc::new(Mutex::new(Flying { by_key: HashMap::new(), epoch: 0 })))
    }
}

#[derive(Debug)]
struct Flying<T> {
    by_key: HashMap<ContentHash, Flight<T>>,
    /// Tells a computation from an earlier one of the same.
    epoch: u64,
}

#[derive(Debug)]
struct Flight<T> {
    epoch: u64,
    waiting: usize,
    cancel: CancellationToken,
    outcome: watch::Receiver<Option<T>>,
}

/// Somebody who waits; the last one to go cancels.
struct Passenger<T> {
    flights: Flights<T>,
    key: ContentHash,
    epoch: u64,
}

impl<T> Drop for Passenger<T> {
    fn drop(&mut self) {
        let mut flying = self.flights.lock();
        if let Some(flight) = flying.by_key.get_mut(&self.key).filter(|flight| flight.epoch == self.epoch) {
            flight.waiting -= 1;
            if flight.waiting == 0 {
                flight.cancel.cancel();
                // Whoever asks from here on starts anew.
                flying.by_key.remove(&self.key);
            }
        }
    }
}

impl<T> Flights<T> {
    fn lock(&self) -> MutexGuard<'_, Flying<T>> {
        // What is in it is whole after every statement, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait now.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().by_key.values().map(|flight| flight.waiting).sum()
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// What `key` stands for, and whether somebody else's computation gave it. Where none is under way
    /// `start` makes one, which is told when nobody waits for it any more. `None` when it panicked.
    pub async fn join<F: Future<Output = T> + Send + 'static>(
        &self,
        key: ContentHash,
        start: impl FnOnce(CancellationToken) -> F,
    ) -> (Option<T>, bool) {
        let (passenger, mut outcome, is_shared) = self.board(key, start);
        let outcome = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        drop(passenger);
        (outcome, is_shared)
    }

    fn board<F: Future<Output = T> + Send + 'static>(
        &self,
        key: ContentHash,
        start: impl FnOnce(CancellationToken) -> F,
    ) -> (Passenger<T>, watch::Receiver<Option<T>>, bool) {
        let mut flying = self.lock();
        if let Some(flight) = flying.by_key.get_mut(&key) {
            flight.waiting += 1;
            let passenger = Passenger { flights: self.clone(), key, epoch: flight.epoch };
            return (passenger, flight.outcome.clone(), true);
        }
        flying.epoch += 1;
        let epoch = flying.epoch;
        let (sender, outcome) = watch::channel(None);
        let cancel = CancellationToken::new();
        let computation = start(cancel.clone());
        let landing = Landing { flights: self.clone(), key, epoch };
        tokio::spawn(async move {
            let result = computation.await;
            // Before it is told: who asks afterwards finds the cache.
            drop(landing);
            let _ = sender.send(Some(result));
        });
        flying.by_key.insert(key, Flight { epoch, waiting: 1, cancel, outcome: outcome.clone() });
        (Passenger { flights: self.clone(), key, epoch }, outcome, false)
    }
}

/// Takes a computation off the list when it ends, in whatever way.
struct Landing<T> {
    flights: Flights<T>,
    key: ContentHash,
    epoch: u64,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut flying = self.flights.lock();
        if flying.by_key.get(&self.key).is_some_and(|flight| flight.epoch == self.epoch) {
            flying.by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use graticule_common::hash::Hasher;
    use tokio::sync::Notify;

    use super::*;

    fn key(n: i64) -> ContentHash {
        Hasher::new("flight test").int(n).finish()
    }

    /// A computation that ends when it is told, or is cancelled; how often one was started.
    #[derive(Clone, Default)]
    struct Work {
        started: Arc<AtomicU32>,
        cancelled: Arc<AtomicU32>,
        go: Arc<Notify>,
    }

    impl Work {
        async fn ask(self, flights: Flights<u32>, key: ContentHash) -> (Option<u32>, bool) {
            let work = self.clone();
            let start = |cancel: CancellationToken| async move {
                let number = work.started.fetch_add(1, Ordering::SeqCst);
                tokio::select! {
                    () = work.go.notified() => number,
                    () = cancel.cancelled() => {
                        work.cancelled.fetch_add(1, Ordering::SeqCst);
                        u32::MAX
                    }
                }
            };
            flights.join(key, start).await
        }
    }

    /// Lets everything happen that can, on this one thread.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn five_hundred_who_ask_at_once_share_one_computation() {
        let (flights, work) = (Flights::default(), Work::default());
        let asked: Vec<_> =
            (0..500).map(|_| tokio::spawn(work.clone().ask(flights.clone(), key(1)))).collect();
        let other = tokio::spawn(work.clone().ask(flights.clone(), key(2)));
        settle().await;
        assert_eq!(work.started.load(Ordering::SeqCst), 2);
        work.go.notify_waiters();
        let mut alone = 0;
        for asked in asked {
            let (answer, is_shared) = asked.await.unwrap();
            assert_eq!(answer, Some(0));
            alone += u32::from(!is_shared);
        }
        assert_eq!(alone, 1);
        assert_eq!(other.await.unwrap(), (Some(1), false));
        assert!(flights.lock().by_key.is_empty());
    }

    #[tokio::test]
    async fn who_began_may_go_and_the_last_one_to_go_cancels() {
        let (flights, work) = (Flights::default(), Work::default());
        let first = tokio::spawn(work.clone().ask(flights.clone(), key(1)));
        settle().await;
        let second = tokio::spawn(work.clone().ask(flights.clone(), key(1)));
        settle().await;
        first.abort();
        settle().await;
        assert_eq!(work.cancelled.load(Ordering::SeqCst), 0);
        work.go.notify_waiters();
        assert_eq!(second.await.unwrap(), (Some(0), true));

        let only = tokio::spawn(work.clone().ask(flights.clone(), key(1)));
        settle().await;
        only.abort();
        settle().await;
        assert_eq!(work.cancelled.load(Ordering::SeqCst), 1);
        // A cancelled one is nobody's answer.
        let late = tokio::spawn(work.clone().ask(flights.clone(), key(1)));
        settle().await;
        work.go.notify_waiters();
        assert_eq!(late.await.unwrap(), (Some(2), false));
    }

    #[tokio::test]
    async fn a_panic_is_no_answer_and_is_forgotten() {
        let flights: Flights<u32> = Flights::default();
        let panicking = |_: CancellationToken| async { panic!("a defect") };
        assert_eq!(flights.join(key(1), panicking).await, (None, false));
        assert_eq!(flights.join(key(1), |_| async { 7 }).await, (Some(7), false));
    }
}
