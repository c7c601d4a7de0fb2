//! The one HTTP client, of worker and coordinator: it connects only where [`Access`] lets it, and never
//! follows a redirect by itself. [`Connector`] hands it to `object_store`, whose protocols of stores run
//! over it.

mod guard;
mod store;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

pub use self::guard::{Access, HostError};
pub use self::store::{Connector, NotSent};

/// Time to connect, of the time for an attempt.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Idle connections kept for a host.
const IDLE_PER_HOST_MAX: usize = 8;

/// What a request carries.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Why a request had no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// A host that is not to be connected to.
    #[error("`{host}` is not connected to: {reason}")]
    Refused {
        /// The host.
        host: String,
        /// Why not.
        reason: String,
    },
    /// It may work later.
    #[error("{0}")]
    Failed(String),
}

/// Sends requests.
#[derive(Clone)]
pub struct Client(legacy::Client<Dialer, Body>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client that connects where `access` lets it.
    pub fn new(access: Access) -> Self {
        let dialer = Dialer { access, tls: Arc::default() };
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(IDLE_PER_HOST_MAX);
        Client(builder.build(dialer))
    }

    /// Sends one request and waits for the head of the answer.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        self.0.request(request).await.map_err(|error| {
            let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
            let mut text = error.to_string();
            while let Some(inner) = cause {
                if let Some(refused) = inner.downcast_ref::<Refused>() {
                    return SendError::Refused { host, reason: refused.0.clone() };
                }
                text = inner.to_string();
                cause = inner.source();
            }
            SendError::Failed(format!("`{host}`: {text}"))
        })
    }
}

/// The port of a URL, or its scheme's.
pub fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 })
}

/// A body that is whole already.
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A host that is not connected to, as an error among the connection's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// Connects, with TLS for https.
#[derive(Clone)]
struct Dialer {
    access: Access,
    /// Made by the first connection that needs it: to read the system's certificates takes a while.
    tls: Arc<std::sync::OnceLock<Arc<ClientConfig>>>,
}

impl Dialer {
    fn tls(&self) -> io::Result<TlsConnector> {
        if let Some(config) = self.tls.get() {
            return Ok(TlsConnector::from(config.clone()));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(self.tls.get_or_init(|| Arc::new(config)).clone()))
    }

    async fn connect(self, url: Uri) -> Result<TokioIo<Stream>, Box<dyn Error + Send + Sync>> {
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = port(&url);
        // What is checked is what is connected to: a second look-up could answer otherwise.
        let found = tokio::net::lookup_host((host.as_str(), port)).await?;
        let allowed = self.access.addresses(&host, port, found).map_err(Refused)?;
        let stream = connect_any(&allowed).await?;
        stream.set_nodelay(true)?;
        if url.scheme_str() != Some("https") {
            return Ok(TokioIo::new(Stream::Plain(stream)));
        }
        let name = ServerName::try_from(host)?;
        let stream = self.tls()?.connect(name, stream).await?;
        Ok(TokioIo::new(Stream::Tls(Box::new(stream))))
    }
}

async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let connect = TcpStream::connect(addresses);
    tokio::time::timeout(CONNECT_WITHIN, connect)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")))
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        Box::pin(self.clone().connect(url))
    }
}

/// A connection.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
