//! One computation of one tile on its way from a worker to everybody who asked for it.
//!
//! Bytes are shared, never copied: an inbox holds what its request has not taken, a flight that others may
//! join holds all of its pieces until it is done.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use graticule_common::grid::TileId;
use graticule_common::proto::v1 as pb;
use graticule_common::telemetry::names;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::DispatchError;
use crate::schedule::{CallId, RequestId};

/// Bytes of an inbox at which a tile that is larger than the request's window waits for its reader.
const INBOX_BYTES_MAX: usize = 16 << 20;

/// What a request gets, tile by tile.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A piece of a tile; pieces of a tile come in order and without gaps, those of several tiles mixed.
    Piece(pb::TileChunk),
    /// A tile is complete.
    Done(Box<TileSums>),
}

/// What a tile took.
#[derive(Clone, Debug)]
pub struct TileSums {
    /// What the worker reports; of a tile that another request had computed, nothing but its gaps.
    pub done: pb::TileDone,
    /// Times it was computed again.
    pub retries: u32,
    /// When it was sent first.
    pub sent_at: Option<Instant>,
}

/// What waits for one request's reader.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<Waiting>,
    arrived: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    answers: VecDeque<Answer>,
    bytes: usize,
    failure: Option<DispatchError>,
    is_closed: bool,
}

impl Waiting {
    fn clear(&mut self) {
        self.answers.clear();
        self.count(-(self.bytes as i64));
    }

    fn count(&mut self, bytes: i64) {
        self.bytes = self.bytes.saturating_add_signed(bytes as isize);
        metrics::gauge!(names::SPOOL_BYTES).increment(bytes as f64);
    }
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        // Consistent after every statement, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, answer: Answer) {
        let mut state = self.state();
        if state.is_closed || state.failure.is_some() {
            return;
        }
        if let Answer::Piece(chunk) = &answer {
            state.count(chunk.data.len() as i64);
        }
        state.answers.push_back(answer);
        drop(state);
        self.arrived.notify_one();
    }

    /// Ends the request with an error; what its reader has not taken is let go.
    pub(super) fn fail(&self, error: DispatchError) {
        let mut state = self.state();
        state.clear();
        state.failure.get_or_insert(error);
        drop(state);
        self.arrived.notify_one();
        self.taken.notify_waiters();
    }

    /// Nobody reads any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.clear();
        state.is_closed = true;
        drop(state);
        self.taken.notify_waiters();
    }

    /// The next answer.
    ///
    /// # Errors
    /// What the request ended with.
    pub(super) async fn next(&self) -> Result<Answer, DispatchError> {
        loop {
            {
                let mut state = self.state();
                if let Some(error) = &state.failure {
                    return Err(error.clone());
                }
                if let Some(answer) = state.answers.pop_front() {
                    if let Answer::Piece(chunk) = &answer {
                        state.count(-(chunk.data.len() as i64));
                        drop(state);
                        self.taken.notify_waiters();
                    }
                    return Ok(answer);
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Waits until its reader has taken enough for more.
    pub(super) async fn room(&self) {
        loop {
            let taken = self.taken.notified();
            {
                let state = self.state();
                if state.bytes < INBOX_BYTES_MAX || state.is_closed || state.failure.is_some() {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }
}

/// One computation of one tile.
#[derive(Debug)]
pub(super) struct Flight {
    /// The tile.
    pub(super) tile: TileId,
    /// Whether others may join: its pieces are kept until it is done.
    keeps: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The call that computes it; what others say does not count.
    call: Option<CallId>,
    sends: u32,
    sent_at: Option<Instant>,
    /// How much has come; a retry goes on from there, since its bytes are the same.
    came: u64,
    total: Option<u64>,
    pieces: Vec<pb::TileChunk>,
    readers: Vec<(RequestId, Arc<Inbox>)>,
    done: Option<Box<pb::TileDone>>,
    failure: Option<DispatchError>,
}

impl Flight {
    pub(super) fn new(tile: TileId, keeps: bool) -> Self {
        Flight { tile, keeps, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request reads it from its beginning on.
    pub(super) fn join(&self, request: RequestId, inbox: &Arc<Inbox>) {
        let mut state = self.state();
        for piece in &state.pieces {
            inbox.push(Answer::Piece(piece.clone()));
        }
        if let Some(done) = &state.done {
            inbox.push(Answer::Done(Box::new(state.sums(done, false))));
        }
        state.readers.push((request, inbox.clone()));
    }

    /// A request does not read it any more; whether nobody does.
    pub(super) fn leave(&self, request: RequestId) -> bool {
        let mut state = self.state();
        state.readers.retain(|(reader, _)| *reader != request);
        state.readers.is_empty()
    }

    /// Whether nobody reads it.
    pub(super) fn is_unread(&self) -> bool {
        self.state().readers.is_empty()
    }

    /// The requests that read it.
    pub(super) fn readers(&self) -> Vec<RequestId> {
        self.state().readers.iter().map(|(request, _)| *request).collect()
    }

    /// A call computes it from now on.
    pub(super) fn begin(&self, call: CallId) {
        let mut state = self.state();
        state.call = Some(call);
        state.sends += 1;
        state.sent_at.get_or_insert_with(Instant::now);
    }

    /// Its call is over; `was_tried` says whether that counts as having been computed.
    pub(super) fn stop(&self, call: CallId, was_tried: bool) {
        let mut state = self.state();
        if state.call == Some(call) {
            state.call = None;
            state.sends = state.sends.saturating_sub(u32::from(!was_tried));
        }
    }

    /// Times it was sent.
    pub(super) fn sends(&self) -> u32 {
        self.state().sends
    }

    /// Takes in a piece, unless it came before the tile was tried again. Returns the inbox to wait for
    /// before the next piece.
    ///
    /// # Errors
    /// What is wrong with the piece.
    pub(super) fn push(&self, call: CallId, chunk: pb::TileChunk) -> Result<Option<Arc<Inbox>>, String> {
        let mut state = self.state();
        if state.call != Some(call) {
            return Ok(None);
        }
        let (came, tile) = (state.came, self.tile);
        let total = *state.total.get_or_insert(chunk.total);
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        if total != chunk.total || end > total || chunk.offset > came {
            let (from, of) = (chunk.offset, chunk.total);
            return Err(format!("tile {tile}: bytes {from}..{end} of {of} after {came} of {total}"));
        }
        if end <= came {
            return Ok(None);
        }
        if chunk.offset < came {
            return Err(format!("tile {tile}: pieces are not cut alike"));
        }
        state.came = end;
        for (_, inbox) in &state.readers {
            inbox.push(Answer::Piece(chunk.clone()));
        }
        if self.keeps {
            state.pieces.push(chunk);
            return Ok(None);
        }
        Ok(state.readers.first().map(|(_, inbox)| inbox.clone()))
    }

    /// Its worker says that it is complete.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(super) fn finish(&self, call: CallId, done: pb::TileDone) -> Result<(), String> {
        let mut state = self.state();
        if state.call != Some(call) || state.done.is_some() {
            return Ok(());
        }
        if state.total != Some(state.came) {
            return Err(format!("tile {} is done but not complete", self.tile));
        }
        for (at, (_, inbox)) in state.readers.iter().enumerate() {
            inbox.push(Answer::Done(Box::new(state.sums(&done, at == 0))));
        }
        state.done = Some(Box::new(done));
        Ok(())
    }

    /// What a call reported of it, once that completed it.
    pub(super) fn done_by(&self, call: CallId) -> Option<pb::TileDone> {
        let state = self.state();
        state.done.as_deref().filter(|_| state.call == Some(call)).cloned()
    }

    /// Whether a call computes it.
    pub(super) fn is_under_way(&self) -> bool {
        self.state().call.is_some()
    }

    /// An attempt gave no result. The reason of the last one is what its requests hear, if there is none better.
    pub(super) fn give_up(&self, error: DispatchError) {
        self.state().failure = Some(error);
    }

    /// Why it has no result.
    pub(super) fn failure(&self) -> Option<DispatchError> {
        self.state().failure.clone()
    }
}

impl State {
    fn sums(&self, done: &pb::TileDone, is_first: bool) -> TileSums {
        let (retries, sent_at) = (self.sends.saturating_sub(1), self.sent_at);
        // What a tile took is counted once, for the first of its readers.
        let shared = || pb::TileDone {
            tile: done.tile,
            skipped: done.skipped.clone(),
            coalesced: true,
            ..pb::TileDone::default()
        };
        TileSums { done: if is_first { done.clone() } else { shared() }, retries, sent_at }
    }
}

/// Time that a tile took a worker, without waiting for a slot.
pub(super) fn took(done: &pb::TileDone) -> Duration {
    let ms = done.read_ms + done.eval_ms;
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILE: pb::TileId = pb::TileId { row: 0, col: 0 };

    fn flight(keeps: bool) -> Flight {
        Flight::new(TileId { row: 0, col: 0 }, keeps)
    }

    fn piece(offset: u64, data: &'static [u8]) -> pb::TileChunk {
        pb::TileChunk { tile: Some(TILE), offset, total: 6, data: data.into() }
    }

    fn done() -> pb::TileDone {
        pb::TileDone { tile: Some(TILE), read_bytes: 9, ..pb::TileDone::default() }
    }

    /// What is there to read now.
    async fn taken(inbox: &Inbox) -> (Vec<u8>, Option<TileSums>) {
        let mut bytes = Vec::new();
        loop {
            tokio::select! {
                biased;
                answer = inbox.next() => match answer.unwrap() {
                    Answer::Piece(chunk) => bytes.extend_from_slice(&chunk.data),
                    Answer::Done(sums) => return (bytes, Some(*sums)),
                },
                () = std::future::ready(()) => return (bytes, None),
            }
        }
    }

    #[tokio::test]
    async fn everybody_gets_everything_whenever_they_came() {
        let flight = flight(true);
        let inboxes: Vec<Arc<Inbox>> = (0..3).map(|_| Arc::new(Inbox::default())).collect();
        flight.join(RequestId(0), &inboxes[0]);
        flight.begin(CallId(1));
        flight.push(CallId(1), piece(0, b"abc")).unwrap();
        flight.join(RequestId(1), &inboxes[1]);
        flight.push(CallId(1), piece(3, b"def")).unwrap();
        flight.finish(CallId(1), done()).unwrap();
        flight.join(RequestId(2), &inboxes[2]);
        let mut read_bytes = 0;
        for inbox in &inboxes {
            assert_eq!(inbox.bytes(), 6);
            let (bytes, sums) = taken(inbox).await;
            assert_eq!((&bytes[..], inbox.bytes()), (&b"abcdef"[..], 0));
            read_bytes += sums.unwrap().done.read_bytes;
        }
        assert_eq!(read_bytes, 9, "what it took is counted once");
    }

    #[tokio::test]
    async fn a_retry_goes_on_where_the_last_one_stopped() {
        let (flight, inbox) = (flight(false), Arc::new(Inbox::default()));
        flight.join(RequestId(0), &inbox);
        flight.begin(CallId(1));
        flight.push(CallId(1), piece(0, b"abc")).unwrap();
        flight.stop(CallId(1), true);
        assert!(!flight.is_under_way());
        // What the lost worker says afterwards does not count.
        assert!(flight.push(CallId(1), piece(3, b"xyz")).unwrap().is_none());
        flight.begin(CallId(2));
        flight.push(CallId(2), piece(0, b"abc")).unwrap();
        flight.push(CallId(2), piece(3, b"def")).unwrap();
        assert!(flight.finish(CallId(1), done()).is_ok() && flight.done_by(CallId(1)).is_none());
        flight.finish(CallId(2), done()).unwrap();
        let (bytes, sums) = taken(&inbox).await;
        assert_eq!((&bytes[..], sums.unwrap().retries), (&b"abcdef"[..], 1));
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        let flight = flight(true);
        flight.begin(CallId(1));
        assert!(flight.push(CallId(1), piece(1, b"b")).is_err(), "a gap");
        assert!(flight.push(CallId(1), piece(0, b"abcdefg")).is_err(), "too much");
        flight.push(CallId(1), piece(0, b"abc")).unwrap();
        assert!(flight.push(CallId(1), piece(2, b"cd")).is_err(), "cut otherwise");
        assert!(flight.finish(CallId(1), done()).is_err(), "half of it");
    }

    #[tokio::test]
    async fn nothing_waits_for_nobody() {
        let (flight, inbox) = (flight(false), Arc::new(Inbox::default()));
        flight.join(RequestId(0), &inbox);
        flight.begin(CallId(1));
        flight.push(CallId(1), piece(0, b"abc")).unwrap();
        inbox.close();
        assert_eq!(inbox.bytes(), 0);
        flight.push(CallId(1), piece(3, b"def")).unwrap();
        assert_eq!(inbox.bytes(), 0);
        inbox.room().await;
        assert!(flight.leave(RequestId(0)));

        let inbox = Arc::new(Inbox::default());
        inbox.push(Answer::Piece(piece(0, b"abc")));
        inbox.fail(DispatchError::Gone);
        assert_eq!((inbox.bytes(), inbox.next().await.unwrap_err()), (0, DispatchError::Gone));
    }

    #[tokio::test]
    async fn a_full_inbox_lets_its_worker_wait() {
        let inbox = Arc::new(Inbox::default());
        let chunk = pb::TileChunk { data: vec![0; INBOX_BYTES_MAX].into(), ..pb::TileChunk::default() };
        inbox.push(Answer::Piece(chunk));
        let waiting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        inbox.next().await.unwrap();
        waiting.await.unwrap();
    }
}
