//! The one HTTP client: it connects only where [`Access`] lets it, and never follows a redirect by
//! itself.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::UnsyncBoxBody};
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

use super::super::ReadProblem;
use super::file::{Fetch, FetchError, Part};
use super::guard::Access;

/// Redirects followed of one request.
const REDIRECTS_MAX: usize = 3;

/// Time to connect, of the time for an attempt.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Idle connections kept for a host.
const IDLE_PER_HOST_MAX: usize = 8;

/// Bytes of a URL.
const URL_BYTES_MAX: usize = 8192;

pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Sends requests.
#[derive(Clone)]
pub(super) struct Client(legacy::Client<Connector, Body>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    pub(super) fn new(access: Access) -> Self {
        let connector = Connector { access, tls: Arc::default() };
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(IDLE_PER_HOST_MAX);
        Client(builder.build(connector))
    }

    /// Sends one request and waits for the head of the answer.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, FetchError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        self.0.request(request).await.map_err(|error| {
            let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
            let mut text = error.to_string();
            while let Some(inner) = cause {
                if let Some(refused) = inner.downcast_ref::<Refused>() {
                    return FetchError::Refused { host, reason: refused.0.clone() };
                }
                text = inner.to_string();
                cause = inner.source();
            }
            FetchError::Transient(format!("`{host}`: {text}"))
        })
    }
}

/// A file behind an `http:` or `https:` URL.
#[derive(Debug)]
pub(super) struct WebFile {
    client: Client,
    url: Uri,
}

impl WebFile {
    /// Checks the URL; connects to nobody yet.
    pub(super) fn new(client: Client, url: &str) -> Result<WebFile, ReadProblem> {
        let wrong = |reason: &str| ReadProblem::WrongAddress { reason: reason.to_owned() };
        if url.len() > URL_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        // What stands after `#` is for whoever shows a page.
        let url = url.split('#').next().unwrap_or_default();
        let parsed: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it is neither http nor https"));
        }
        match parsed.authority() {
            Some(authority) if authority.as_str().contains('@') => Err(wrong("it holds a user's name")),
            Some(authority) if !authority.host().is_empty() => Ok(WebFile { client, url: parsed }),
            _ => Err(wrong("it names no host")),
        }
    }
}

/// Where a redirect leads, if it may be followed: to the same host, and never from https to http.
fn next(url: &Uri, location: &str) -> Result<Uri, FetchError> {
    let wrong = || FetchError::Wrong("a redirect that leads nowhere".to_owned());
    let target: Uri = if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = url.clone().into_parts();
        parts.path_and_query = Some(location.parse().map_err(|_| wrong())?);
        Uri::from_parts(parts).map_err(|_| wrong())?
    } else {
        location.parse().map_err(|_| wrong())?
    };
    let host = |url: &Uri| url.host().unwrap_or_default().to_ascii_lowercase();
    let is_upgrade = target.scheme_str() == Some("https") && port(&target) == 443;
    let is_same_place = target.scheme_str() == url.scheme_str() && port(&target) == port(url);
    if host(&target) != host(url) || host(url).is_empty() || !(is_upgrade || is_same_place) {
        return Err(FetchError::Refused {
            host: target.authority().map_or_else(|| location.to_owned(), ToString::to_string),
            reason: "a redirect to another host is not followed".to_owned(),
        });
    }
    Ok(target)
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 })
}

#[async_trait]
impl Fetch for WebFile {
    async fn fetch(&self, range: Range<u64>, etag: Option<&str>) -> Result<Part, FetchError> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::get(url.clone())
                .header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1))
                .header(header::ACCEPT_ENCODING, "identity")
                .header(header::USER_AGENT, concat!("graticule/", env!("CARGO_PKG_VERSION")));
            // A weak tag never matches by the protocol; the answer's own tag is compared anyhow.
            if let Some(etag) = etag.filter(|etag| !etag.starts_with("W/")) {
                request = request.header(header::IF_MATCH, etag);
            }
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let request = request.body(body).map_err(|error| FetchError::Wrong(error.to_string()))?;
            let response = self.client.send(request).await?;
            if response.status().is_redirection() && response.status() != StatusCode::NOT_MODIFIED {
                let location = text(response.headers(), header::LOCATION);
                url = next(&url, &location.unwrap_or_default())?;
                continue;
            }
            return part(response, range, etag).await;
        }
        Err(FetchError::Wrong(format!("more than {REDIRECTS_MAX} redirects")))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Reads an answer to a request for a range: exactly that part, or an error.
async fn part(
    response: Response<Incoming>,
    range: Range<u64>,
    etag: Option<&str>,
) -> Result<Part, FetchError> {
    let (status, headers) = (response.status(), response.headers());
    match status {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK => {
            return Err(FetchError::Wrong("the server sends whole files where a part is asked for".into()));
        }
        StatusCode::PRECONDITION_FAILED => {
            return Err(FetchError::Changed {
                registered: etag.unwrap_or_default().to_owned(),
                found: text(headers, header::ETAG).unwrap_or_else(|| "another".to_owned()),
            });
        }
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(FetchError::Missing(format!("the server answers {status}")));
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => {
            return Err(FetchError::Transient(format!("the server answers {status}")));
        }
        status if status.is_server_error() => {
            return Err(FetchError::Transient(format!("the server answers {status}")));
        }
        status => return Err(FetchError::Wrong(format!("the server answers {status}"))),
    }
    let wrong = |reason: &str| FetchError::Wrong(reason.to_owned());
    if text(headers, header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(wrong("the server sends the file encoded"));
    }
    let content = text(headers, header::CONTENT_RANGE);
    let (sent, length) = content
        .as_deref()
        .and_then(content_range)
        .ok_or_else(|| wrong("it does not say which part it is"))?;
    if sent != (range.start..range.end.min(length)) {
        return Err(FetchError::Wrong(format!(
            "bytes {} to {} of {length} came where {} to {} were asked for",
            sent.start, sent.end, range.start, range.end
        )));
    }
    let (etag, changed) = (text(headers, header::ETAG), text(headers, header::LAST_MODIFIED));
    let expected = (sent.end - sent.start) as usize;
    // One byte more than asked for is an error, a body without end too.
    let body = Limited::new(response.into_body(), expected).collect().await;
    let bytes = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            return wrong("it is longer than what was asked for");
        }
        FetchError::Transient(format!("the connection broke: {error}"))
    })?;
    Ok(Part { bytes: bytes.to_bytes(), length, etag, changed })
}

/// `bytes FIRST-LAST/LENGTH`.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, length): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, length.parse().ok()?);
    (first <= last && last < length).then(|| (first..last + 1, length))
}

/// A body that is whole already.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A host that is not connected to, as an error among the connection's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// Connects, with TLS for https.
#[derive(Clone)]
struct Connector {
    access: Access,
    /// Made by the first connection that needs it: to read the system's certificates takes a while.
    tls: Arc<std::sync::OnceLock<Arc<ClientConfig>>>,
}

impl Connector {
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

impl tower_service::Service<Uri> for Connector {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_at_their_host() {
        let url: Uri = "https://a.example/x?y".parse().unwrap();
        let to = |location: &str| next(&url, location).map(|url| url.to_string());
        assert_eq!(to("/z?w").unwrap(), "https://a.example/z?w");
        assert_eq!(to("https://A.example/z").unwrap(), "https://A.example/z");
        for refused in [
            "https://b.example/x",
            "http://a.example/x",
            "https://a.example:8443/x",
            "//b.example/x",
            "file:///etc",
        ] {
            assert!(to(refused).is_err(), "{refused}");
        }
        let plain: Uri = "http://a.example/x".parse().unwrap();
        assert!(next(&plain, "https://a.example/x").is_ok());
        assert!(next(&plain, "https://a.example:8443/x").is_err());
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 0-9/20"), Some((0..10, 20)));
        for bad in ["", "bytes */20", "bytes 9-0/20", "bytes 0-20/20", "bytes 0-9/*", "items 0-9/20"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn urls_that_are_none() {
        let client = Client::new(Access::default());
        for bad in
            ["", "a.tif", "ftp://a/b", "file:///etc/passwd", "http://u:p@a/b", "http:///x", "http://a b/"]
        {
            let refused = WebFile::new(client.clone(), bad).unwrap_err();
            assert!(matches!(refused, ReadProblem::WrongAddress { .. }), "{bad}: {refused}");
        }
        assert!(WebFile::new(client, "https://a.example/b.tif?sig=1#x").is_ok());
    }
}
