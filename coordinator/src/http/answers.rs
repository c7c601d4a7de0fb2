//! Bodies of answers: what must last as long as they do, and what happens when nobody takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Error;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

/// A body with what must last as long as it does.
pub(super) struct Held<T> {
    body: Body,
    _until_the_end: T,
}

impl<T: Send + Unpin + 'static> Held<T> {
    /// The same answer, with what must last as long as it does.
    pub(super) fn by(response: Response, held: T) -> Response {
        response.map(|body| Body::new(Held { body, _until_the_end: held }))
    }
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends a connection; among the extensions of its requests.
#[derive(Clone, Debug)]
pub(super) struct Cut(pub(super) CancellationToken);

/// Bytes that are handed over at once: a client that takes so many in the time for progress is not cut off.
const PIECE_BYTES: usize = 256 << 10;

/// An answer whose connection ends when nothing of it is taken for so long. That the connection takes something is
/// not enough: one of HTTP/2 has many answers, and a client may take none of them and still be there.
pub(super) fn watched(response: Response, cut: Cut, within: Duration) -> Response {
    let taken = Arc::new(AtomicU64::new(0));
    let watch = Arc::downgrade(&taken);
    tokio::spawn(async move {
        let mut before = 0;
        loop {
            tokio::time::sleep(within).await;
            // The body has ended.
            let Some(taken) = watch.upgrade() else { return };
            let now = taken.load(Ordering::Relaxed);
            if now == before {
                return cut.0.cancel();
            }
            before = now;
        }
    });
    response.map(|body| Body::new(Watched { body, rest: Bytes::new(), taken }))
}

/// A body that counts its pieces.
struct Watched {
    body: Body,
    /// Of a frame that is larger than a piece.
    rest: Bytes,
    taken: Arc<AtomicU64>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            self.taken.fetch_add(1, Ordering::Relaxed);
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        } else {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        let piece = PIECE_BYTES.min(self.rest.len());
        let piece = self.rest.split_to(piece);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(60);

    fn answer(bytes: usize) -> (Body, CancellationToken) {
        let cut = CancellationToken::new();
        let response = Response::new(Body::from(vec![7; bytes]));
        (watched(response, Cut(cut.clone()), WITHIN).into_body(), cut)
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off() {
        let (body, cut) = answer(1000);
        cut.cancelled().await;
        drop(body);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_piece_now_and_then_gets_all() {
        let bytes = 4 * PIECE_BYTES + 1;
        let (mut body, cut) = answer(bytes);
        assert_eq!(body.size_hint().exact(), Some(bytes as u64));
        let mut taken = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE_BYTES);
            taken.extend_from_slice(&data);
            tokio::time::advance(WITHIN / 2).await;
            assert!(!cut.is_cancelled());
        }
        assert_eq!(taken, vec![7; bytes]);
        drop(body);
        tokio::time::advance(2 * WITHIN).await;
        assert!(!cut.is_cancelled(), "nobody waits for what has ended");
    }
}
