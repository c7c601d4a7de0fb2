//! Connections of the HTTP port: how many, how slow, and their end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::{Extension, Router};
use graticule_common::telemetry::names;
use graticule_common::tls::ServerTls;
use graticule_common::transport::{self, Connection};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::debug;

use super::HttpRules;
use super::answers::Cut;
use super::site::IsTls;

/// Bytes of a request's head that are held at a time.
const HEAD_BYTES: usize = 64 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 100;
/// Streams under way on one connection of HTTP/2.
const STREAMS_MAX: u32 = 128;

/// Answers requests until `stop`, then finishes those under way.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    router: Router,
    rules: HttpRules,
    stop: CancellationToken,
) {
    let router = router.layer(Extension(IsTls(tls.is_some())));
    let mut incoming = transport::incoming_web(listener, tls, rules.connections);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let connection = tokio::select! {
            () = stop.cancelled() => break,
            connection = incoming.next() => connection,
        };
        match connection {
            Some(Ok(connection)) => {
                connections.spawn(answer(connection, router.clone(), rules.clone(), stop.clone()));
            }
            Some(Err(error)) => debug!(%error, "a connection is not taken"),
            None => break,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn answer(connection: Connection, router: Router, rules: HttpRules, stop: CancellationToken) {
    let _counted = Counted::new();
    let is_http2 = connection.is_http2();
    let io = TokioIo::new(Patient::new(connection, rules.progress_within));
    let cut = CancellationToken::new();
    let own = Cut(cut.clone());
    let router = router.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(own.clone());
        request
    });
    let service = TowerToHyperService::new(router);
    // What ends a connection is of no interest to anybody but who was at its other end.
    let ended = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES as u32)
            .keep_alive_interval(transport::KEEPALIVE_EVERY)
            .keep_alive_timeout(transport::KEEPALIVE_WITHIN);
        let mut serving = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = cut.cancelled() => return,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = serving => ended,
                    () = cut.cancelled() => return,
                }
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(rules.header_within)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS_MAX)
            .half_close(false);
        let mut serving = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = cut.cancelled() => return,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = serving => ended,
                    () = cut.cancelled() => return,
                }
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended");
    }
}

/// A connection, in metrics.
struct Counted;

impl Counted {
    fn new() -> Counted {
        metrics::gauge!(names::HTTP_CONNECTIONS).increment(1);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(names::HTTP_CONNECTIONS).decrement(1);
    }
}

/// A connection whose other side must take what is written to it.
struct Patient {
    inner: Connection,
    within: Duration,
    /// Since nothing is taken.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(inner: Connection, within: Duration) -> Self {
        Patient { inner, within, waiting: None }
    }

    /// Gives up on a side that takes nothing for too long.
    fn judge<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let within = self.within;
        let waiting =
            self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + within)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.judge(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write_vectored(context, bytes);
        this.judge(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_flush(context);
        this.judge(context, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_shutdown(context);
        this.judge(context, polled)
    }
}
