//! A request's client: how fast it takes the result, and how long it is waited for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use tokio::sync::mpsc::Permit;
use tokio::time::Instant;
use tonic::Status;

use crate::dispatch::DispatchError;
use crate::request::{Out, message};

/// What a client must take of its result while it is waited for, in bytes a second: little for any line.
/// Who takes less could hold for as long as it likes what others need.
pub const RATE_MIN: u64 = 32 << 10;

/// How many times faster patience runs out while the coordinator holds so much that others have to wait.
pub const PRESSED: u32 = 8;

/// Time for what knows of a request's deadline to say so itself.
const GRACE: Duration = Duration::from_millis(250);

/// How often a client that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a client is waited for yet. Waiting uses it up, and what the client takes gives it back at
/// [`RATE_MIN`]: so one that takes nothing is cut off after the limit, one that takes less than that rate
/// somewhat later, and one that takes more never.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    left: Duration,
    /// How long it was waited for in all, but for a wait that goes on.
    total: Duration,
    /// When that began.
    since: Option<Instant>,
}

impl Patience {
    fn new(limit: Duration) -> Patience {
        Patience { limit, left: limit, total: Duration::ZERO, since: None }
    }

    /// The client let us wait.
    fn waited(&mut self, time: Duration, is_pressed: bool) {
        let counts = if is_pressed { PRESSED } else { 1 };
        self.total = self.total.saturating_add(time);
        self.since = None;
        self.left = self.left.saturating_sub(time.saturating_mul(counts));
    }

    /// The client took bytes.
    fn taken(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / RATE_MIN as f64);
        self.left = self.left.saturating_add(earned).min(self.limit);
    }

    /// Until when a request may take that may take until `deadline`, but for the time in which its client is
    /// waited for.
    fn end(&self, deadline: Instant, now: Instant) -> Instant {
        let current = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        deadline + self.total + current
    }

    /// How long it may be waited for at once.
    fn next(&self, is_pressed: bool) -> Duration {
        (self.left / if is_pressed { PRESSED } else { 1 }).min(LOOK_EVERY)
    }
}

type Sent = Result<pb::ComputeResponse, Status>;

/// Where the messages of one request go.
#[derive(Debug)]
pub(crate) struct Client {
    out: Out,
    limit: Duration,
    patience: Mutex<Patience>,
}

impl Client {
    /// A client that is cut off when it has taken nothing for `limit`, or too little for longer.
    pub(crate) fn new(out: Out, limit: Duration) -> Client {
        Client { out, limit, patience: Patience::new(limit).into() }
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        // Two figures that are consistent after every statement.
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message, if the client takes it in time. `is_pressed` says whether others have to wait
    /// because of what is held here.
    ///
    /// # Errors
    /// [`DispatchError::Gone`], [`DispatchError::Slow`].
    pub(crate) async fn send(
        &self,
        sent: Message,
        is_pressed: impl Fn() -> bool,
    ) -> Result<(), DispatchError> {
        let bytes = if let Message::Chunk(chunk) = &sent { chunk.data.len() } else { 0 };
        let place = match self.out.try_reserve() {
            Ok(place) => place,
            Err(_) => self.place(is_pressed).await?,
        };
        place.send(Ok(message(sent)));
        self.patience().taken(bytes);
        Ok(())
    }

    /// Waits for a place among the messages under way.
    async fn place(&self, is_pressed: impl Fn() -> bool) -> Result<Permit<'_, Sent>, DispatchError> {
        let mut place = std::pin::pin!(self.out.reserve());
        loop {
            let pressed = is_pressed();
            let since = Instant::now();
            let next = {
                let mut patience = self.patience();
                patience.since = Some(since);
                patience.next(pressed)
            };
            let found = tokio::time::timeout(next, &mut place).await;
            self.patience().waited(since.elapsed(), pressed);
            match found {
                Ok(found) => return found.map_err(|_| DispatchError::Gone),
                Err(_) if next.is_zero() => return Err(DispatchError::Slow { limit: self.limit }),
                Err(_) => {}
            }
        }
    }

    /// Returns somewhat after `deadline` and the time in which the client was waited for: then something hangs
    /// that knows of no deadline itself.
    pub(crate) async fn overdue(&self, deadline: Instant) {
        loop {
            let now = Instant::now();
            let end = self.patience().end(deadline, now) + GRACE;
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    /// Sends a message unless the client would have to be waited for.
    pub(crate) fn offer(&self, sent: Message) {
        let _ = self.out.try_send(Ok(message(sent)));
    }

    /// Sends the error that the request ends with.
    pub(crate) async fn fail(&self, status: Status) {
        // Fails only when the client has gone, or reads nothing, and then nobody needs the error.
        let _ = tokio::time::timeout(self.limit, self.out.send(Err(status))).await;
    }

    /// Returns when the client has gone.
    pub(crate) async fn gone(&self) {
        self.out.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const PIECE: usize = 128 << 10;

    /// When a client is cut off that lets us wait so long for each of these pieces.
    fn cut_off(pieces: impl IntoIterator<Item = Duration>, is_pressed: bool) -> Option<Duration> {
        let (mut patience, mut now) = (Patience::new(LIMIT), Duration::ZERO);
        for mut wait in pieces {
            while !wait.is_zero() {
                let step = patience.next(is_pressed).min(wait);
                if step.is_zero() {
                    return Some(now);
                }
                patience.waited(step, is_pressed);
                (now, wait) = (now + step, wait - step);
            }
            patience.taken(PIECE);
        }
        None
    }

    fn each(wait: Duration, pieces: usize) -> impl Iterator<Item = Duration> {
        std::iter::repeat_n(wait, pieces)
    }

    fn at_rate(bytes_a_second: u64) -> Duration {
        Duration::from_secs_f64(PIECE as f64 / bytes_a_second as f64)
    }

    #[test]
    fn who_takes_nothing_is_cut_off_after_the_limit() {
        let hour = Duration::from_secs(3600);
        assert_eq!(cut_off([hour], false), Some(LIMIT));
        assert_eq!(cut_off([hour], true), Some(LIMIT / PRESSED));
    }

    #[test]
    fn who_takes_too_little_is_cut_off_although_it_takes_something() {
        // At a quarter of the rate there is a piece every 16 s, well within the limit.
        let wait = at_rate(RATE_MIN / 4);
        assert!(wait < LIMIT);
        let cut = cut_off(each(wait, 1000), false).expect("cut off");
        assert!((LIMIT..LIMIT * 2).contains(&cut), "{cut:?}");
        let pressed = cut_off(each(wait, 1000), true).expect("cut off");
        assert!(pressed < LIMIT / 4, "{pressed:?}");
    }

    #[test]
    fn who_takes_enough_never_is() {
        assert_eq!(cut_off(each(at_rate(RATE_MIN + 1024), 1000), false), None);
        // A MiB a second for 1000 s, while others have to wait.
        assert_eq!(cut_off(each(at_rate(1 << 20), 8000), true), None);
    }

    #[test]
    fn a_pause_is_no_crime() {
        // 8 MiB at once, then nothing for most of the limit, and so on.
        let turn = || [LIMIT - Duration::from_secs(2)].into_iter().chain(each(Duration::ZERO, 63));
        assert_eq!(cut_off((0..10).flat_map(|_| turn()), false), None);
    }

    #[test]
    fn waiting_for_a_client_takes_no_time_of_its_request() {
        let (begin, mut patience) = (Instant::now(), Patience::new(LIMIT));
        let at = |s| begin + Duration::from_secs(s);
        patience.since = Some(at(0));
        assert_eq!(patience.end(at(10), at(7)), at(17));
        patience.waited(Duration::from_secs(8), true);
        assert_eq!(patience.end(at(10), at(9)), at(18));
    }

    #[tokio::test]
    async fn what_hangs_is_overdue_and_a_client_that_is_waited_for_is_not() {
        let (out, _inbox) = mpsc::channel(1);
        let client = Client::new(out, LIMIT);
        let soon = Duration::from_millis(50);
        client.overdue(Instant::now() + soon).await;
        let message = || Message::Progress(pb::Progress::default());
        client.send(message(), || false).await.unwrap();
        let deadline = Instant::now() + soon;
        tokio::select! {
            biased;
            sent = client.send(message(), || false) => panic!("nobody reads: {sent:?}"),
            () = client.overdue(deadline) => panic!("only the client is waited for"),
            () = tokio::time::sleep(3 * (soon + GRACE)) => {}
        }
    }

    #[tokio::test]
    async fn who_does_not_read_is_waited_for_no_longer_and_who_has_gone_not_at_all() {
        let (out, inbox) = mpsc::channel(1);
        let limit = Duration::from_millis(50);
        let client = Client::new(out, limit);
        let message = || Message::Progress(pb::Progress::default());
        client.send(message(), || false).await.unwrap();
        let started = Instant::now();
        assert_eq!(client.send(message(), || false).await, Err(DispatchError::Slow { limit }));
        assert!(started.elapsed() >= limit);
        drop(inbox);
        assert_eq!(client.send(message(), || false).await, Err(DispatchError::Gone));
    }
}
