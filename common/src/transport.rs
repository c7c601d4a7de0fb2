//! How connections between the engine's parts behave: one place for all of them, both sides.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream, rustls};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};
use tracing::{debug, warn};

use crate::telemetry::names;
use crate::tls::{ALPN, ClientTls, Role, ServerTls, reason, role_of};

/// HTTP/2 pings: a peer that is gone without a word is noticed within the sum of the two.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// Time for the answer to a ping.
pub const KEEPALIVE_WITHIN: Duration = Duration::from_secs(5);

/// The system's own probes of a connection on which nothing is under way: after so long, so often, so many.
/// They notice within the same time a peer that has gone before it said what pings could be sent to, and one
/// whose connection outlives its server here.
const PROBES: (Duration, Duration, u32) = (Duration::from_secs(9), Duration::from_secs(2), 3);

/// Time for a connection to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Time for a client's handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Handshakes under way at a time; more clients wait.
const HANDSHAKES_MAX: usize = 256;

/// Connections of one server; more clients wait.
const CONNECTIONS_MAX: usize = 8192;

/// Pause after the system has refused to take a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time in which a server that has taken a connection says something.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(1);

/// Calls under way on one connection.
const STREAMS_MAX: u32 = 1024;

/// Calls that were taken back before they were looked at, on one connection: more is an attack.
const RESETS_MAX: usize = 64;

/// Calls that were answered with an error of the protocol, on one connection: more is an attack.
const LOCAL_RESETS_MAX: usize = 256;

/// Bytes of a call's headers.
const HEADER_BYTES_MAX: u32 = 32 << 10;

/// A client's side of a connection that notices a silent peer.
pub fn with_keepalive(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}

/// A server that notices silent peers and bounds what one connection may ask for.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
}

/// Connections that a listener takes, with or without TLS. Handshakes go on beside each other, within
/// their time and number; one that fails is logged with its reason and costs the others nothing.
pub fn incoming(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
) -> ReceiverStream<io::Result<Connection>> {
    take_from(listener, tls.map(|tls| (tls, Protocols::Grpc)), CONNECTIONS_MAX)
}

/// The same for browsers and other clients of HTTP, at most `connections` at a time.
pub fn incoming_web(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    connections: usize,
) -> ReceiverStream<io::Result<Connection>> {
    take_from(listener, tls.map(|tls| (tls, Protocols::Web)), connections)
}

/// What is spoken over connections with TLS.
#[derive(Clone, Copy, Debug)]
enum Protocols {
    /// HTTP/2.
    Grpc,
    /// HTTP/2 or HTTP/1.1, as the client has it.
    Web,
}

fn take_from(
    listener: TcpListener,
    tls: Option<(Arc<ServerTls>, Protocols)>,
    connections: usize,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let handshakes_left = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let connections_left = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        let mut handshakes = JoinSet::new();
        loop {
            // Neither is ever closed.
            let Ok(place) = connections_left.clone().acquire_owned().await else { return };
            let Ok(turn) = handshakes_left.clone().acquire_owned().await else { return };
            while handshakes.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The system's files are used up, or a client was quicker to leave.
                    debug!(%error, "a connection is not taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, sender) = (tls.clone(), sender.clone());
            handshakes.spawn(async move {
                let taken = tokio::time::timeout(HANDSHAKE_WITHIN, take(stream, tls)).await;
                match taken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok((stream, role)) => {
                        let peer = Peer { address: Some(address), role };
                        drop(turn);
                        // Nobody takes it when the server has stopped.
                        let _ = sender.send(Ok(Connection { stream, peer, _place: Some(place) })).await;
                    }
                    Err(error) => {
                        metrics::counter!(names::CONNECTIONS_REFUSED).increment(1);
                        // Probes and scans come and go without a word.
                        let is_gone = matches!(
                            error.kind(),
                            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                        );
                        match is_gone {
                            true => debug!(peer = %address, "a client left before it had said who it is"),
                            false => {
                                warn!(peer = %address, reason = cause(&error), "a connection is refused")
                            }
                        }
                    }
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// Settings of every connection, on both sides. tonic's own are for its own listener alone.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    let (idle, interval, count) = PROBES;
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

async fn take(
    stream: TcpStream,
    tls: Option<(Arc<ServerTls>, Protocols)>,
) -> io::Result<(Stream, Option<Role>)> {
    prepare(&stream)?;
    let Some((tls, protocols)) = tls else { return Ok((Stream::Plain(stream), None)) };
    let config = match protocols {
        Protocols::Grpc => tls.config(),
        Protocols::Web => tls.web_config(),
    };
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let role = role_of(stream.get_ref().1.peer_certificates());
    Ok((Stream::Tls { stream: Box::new(stream.into()), first: None }, role))
}

/// How a part of the engine shows who it is, and whom it trusts.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// For those who call it; absent: connections are plain.
    pub server: Option<Arc<ServerTls>>,
    /// For those whom it calls.
    pub client: Option<Arc<ClientTls>>,
    /// What it shows of itself with every call.
    pub credentials: Credentials,
}

impl Trust {
    /// An address that is called.
    ///
    /// # Errors
    /// Why it is none.
    pub fn target(&self, address: &str) -> Result<Target, String> {
        Ok(Target::new(address, self.client.as_ref())?.with(self.credentials.clone()))
    }

    /// How addresses at which it is called begin.
    pub fn scheme(&self) -> &'static str {
        if self.server.is_some() { "https" } else { "http" }
    }
}

/// Who is at the other end of a connection; in the extensions of every request that comes over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: Option<SocketAddr>,
    /// What its certificate says it is, where it showed one that counts.
    pub role: Option<Role>,
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: Peer,
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls {
        stream: Box<TlsStream<TcpStream>>,
        /// What was read while the connection came about.
        first: Option<Box<[u8]>>,
    },
}

impl Connection {
    /// Whether both sides agreed on HTTP/2.
    pub fn is_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls { stream, .. } => stream.get_ref().1.alpn_protocol() == Some(ALPN),
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls { first: Some(bytes), .. } if buffer.remaining() < bytes.len() => {
                let count = buffer.remaining();
                buffer.put_slice(&bytes[..count]);
                *bytes = bytes[count..].into();
                Poll::Ready(Ok(()))
            }
            Stream::Tls { stream, first } => match first.take() {
                Some(bytes) => {
                    buffer.put_slice(&bytes);
                    Poll::Ready(Ok(()))
                }
                None => Pin::new(stream).poll_read(context, buffer),
            },
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// An address that a client calls, and how.
#[derive(Clone, Debug)]
pub struct Target {
    address: String,
    uri: Uri,
    endpoint: Endpoint,
    /// For `https:`.
    tls: Option<(Arc<ClientTls>, ServerName<'static>)>,
    credentials: Credentials,
}

impl Target {
    /// An address such as `http://127.0.0.1:4000`, or `https:` with `tls`.
    ///
    /// # Errors
    /// Why it is no such address.
    pub fn new(address: &str, tls: Option<&Arc<ClientTls>>) -> Result<Target, String> {
        let uri: Uri = address.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let host = uri.host().ok_or("it names no host")?.trim_matches(['[', ']']).to_owned();
        let authority = uri.authority().ok_or("it names no host")?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => {
                let tls = tls.ok_or("it asks for TLS, which is not set up here: say `--tls-ca FILE`")?;
                let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
                Some((tls.clone(), name))
            }
            _ => return Err("it begins with neither `http://` nor `https://`".into()),
        };
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let endpoint = endpoint(&format!("{}:{port}", authority.host()), &uri)?;
        let credentials = Credentials::default();
        Ok(Target { address: address.to_owned(), uri, endpoint, tls, credentials })
    }

    /// One of the machines behind the address: it is connected to, and known by the name of all of them.
    pub fn at(&self, machine: SocketAddr) -> Target {
        let scheme = if self.is_encrypted() { "https" } else { "http" };
        Target {
            address: format!("{scheme}://{machine}"),
            // An address of a socket is always one of a URL.
            endpoint: endpoint(&machine.to_string(), &self.uri).unwrap_or_else(|_| self.endpoint.clone()),
            ..self.clone()
        }
    }

    /// The address as it was given, with its parts.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The address as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether what is sent is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether what is sent never leaves this machine.
    pub fn is_on_this_machine(&self) -> bool {
        let host = self.endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The same with other settings of the connection.
    pub fn tuned(self, tune: impl FnOnce(Endpoint) -> Endpoint) -> Target {
        Target { endpoint: tune(self.endpoint), ..self }
    }

    /// The same with what the client shows of itself.
    pub fn with(self, credentials: Credentials) -> Target {
        Target { credentials, ..self }
    }

    /// Connects.
    ///
    /// # Errors
    /// Why not, with its cause.
    pub async fn connect(&self) -> Result<Authorized, String> {
        let connected = self.endpoint.connect_with_connector(Connector(self.tls.clone())).await;
        Ok(InterceptedService::new(connected.map_err(|error| causes(&error))?, self.credentials.clone()))
    }

    /// Connects at the first call, and again after a break.
    pub fn connect_lazy(&self) -> Authorized {
        InterceptedService::new(self.channel(), self.credentials.clone())
    }

    /// Connects at the first call, and again after a break; shows no credentials.
    pub fn channel(&self) -> Channel {
        self.endpoint.connect_with_connector_lazy(Connector(self.tls.clone()))
    }
}

/// To tonic every connection is a plain one: the TLS is ours, so that certificates can change.
fn endpoint(authority: &str, origin: &Uri) -> Result<Endpoint, String> {
    let plain = Endpoint::from_shared(format!("http://{authority}")).map_err(|error| causes(&error))?;
    Ok(with_keepalive(plain.origin(origin.clone())))
}

#[derive(Clone)]
struct Connector(Option<(Arc<ClientTls>, ServerName<'static>)>);

impl Connector {
    async fn connect(self, uri: Uri) -> io::Result<TokioIo<Connection>> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
        prepare(&stream)?;
        let peer = Peer { address: stream.peer_addr().ok(), role: None };
        let stream = match self.0 {
            None => Stream::Plain(stream),
            Some((tls, name)) => {
                let connector = TlsConnector::from(tls.config());
                let mut stream = connector.connect(name, stream).await?;
                // The server judges our certificate when we are done. Its first word, which HTTP/2 has it
                // say at once, means that it takes us, or why it does not: said now, and not lost in a
                // connection that breaks under the first call.
                let mut first = vec![0; 4096];
                let word = tokio::time::timeout(FIRST_WORD_WITHIN, stream.read(&mut first));
                let count = match word.await {
                    Ok(Ok(0)) => return Err(io::Error::other("the other side ends the connection at once")),
                    Ok(count) => count?,
                    // A server that waits for ours.
                    Err(_) => 0,
                };
                first.truncate(count);
                let first = (count > 0).then(|| first.into_boxed_slice());
                Stream::Tls { stream: Box::new(stream.into()), first }
            }
        };
        Ok(TokioIo::new(Connection { stream, peer, _place: None }))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection over which every call carries credentials.
pub type Authorized = InterceptedService<Channel, Credentials>;

/// What a client shows of itself with every call: an API key or token, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Option<MetadataValue<Ascii>>);

impl Credentials {
    /// A key or token.
    ///
    /// # Errors
    /// Why it is none.
    pub fn new(token: &str) -> Result<Credentials, String> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| "it holds characters that no token has")?;
        // It appears in no log.
        value.set_sensitive(true);
        Ok(Credentials(Some(value)))
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// An error with its causes.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| (*error).source());
    let mut texts: Vec<String> = Vec::new();
    for error in all {
        let text = cause(error);
        // Some say what their cause says.
        if texts.last().is_none_or(|last| *last != text) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

/// One error's text; of TLS, what it means.
fn cause(error: &(dyn Error + 'static)) -> String {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => reason(error),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
