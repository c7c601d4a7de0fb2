//! Files of web servers: ranges over the one HTTP client, redirects within their host.

use std::ops::Range;

use async_trait::async_trait;
use graticule_common::web::{Client, SendError, port};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;

use super::super::ReadProblem;
use super::file::{Fetch, FetchError, Part};

/// Redirects followed of one request.
const REDIRECTS_MAX: usize = 3;

/// Bytes of a URL.
const URL_BYTES_MAX: usize = 8192;

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

impl From<SendError> for FetchError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Refused { host, reason } => FetchError::Refused { host, reason },
            SendError::Failed(reason) => FetchError::Transient(reason),
        }
    }
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

#[cfg(test)]
mod tests {
    use graticule_common::web::Access;

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
