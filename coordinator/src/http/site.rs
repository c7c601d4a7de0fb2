//! Under which address a client reaches this server: what URLs in answers begin with.

use std::sync::Arc;

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use super::Http;
use super::error::HttpError;

/// Whether the port itself speaks TLS; in each request's extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsTls(pub(super) bool);

/// The address, such as `https://maps.example.org/engine`, without a `/` at its end.
///
/// It is what `--public-url` says. Without that it is the host that the client named, as it named it: it
/// goes back to that client and nobody else. `X-Forwarded-*` is not looked at: anybody can send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site(pub(crate) String);

impl FromRequestParts<Arc<Http>> for Site {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, http: &Arc<Http>) -> Result<Self, HttpError> {
        if let Some(url) = &http.public_url {
            return Ok(Site(url.clone()));
        }
        let is_tls = Option::<Extension<IsTls>>::from_request_parts(parts, http).await;
        let is_tls = is_tls.ok().flatten().is_some_and(|Extension(IsTls(is_tls))| is_tls);
        let host = host(&parts.uri, &parts.headers);
        let host = host.ok_or_else(|| HttpError::invalid("the request names no host, or more than one"))?;
        Ok(Site(format!("{}://{host}", if is_tls { "https" } else { "http" })))
    }
}

/// The host that a request names, with its port.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let named = match uri.authority() {
        Some(authority) => authority.clone(),
        None => {
            let mut values = headers.get_all(header::HOST).iter();
            let (Some(value), None) = (values.next(), values.next()) else { return None };
            Authority::try_from(value.as_bytes()).ok()?
        }
    };
    // A name before the host would be somebody's credentials.
    let is_plain = !named.host().is_empty() && !named.as_str().contains('@');
    is_plain.then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn host_of(uri: &str, values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::HOST, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        host(&uri.parse().unwrap(), &headers).map(|host| host.to_string())
    }

    #[test]
    fn the_host_is_the_one_that_the_client_named() {
        for good in ["maps.example.org", "127.0.0.1:8080", "[::1]:80", "localhost:1"] {
            assert_eq!(host_of("/layers", &[good]).as_deref(), Some(good));
            assert_eq!(
                host_of(&format!("http://{good}/layers"), &["other"]).as_deref(),
                Some(good),
                "HTTP/2"
            );
        }
        for bad in ["", "a/b", "a b", "user@host", "a?b", "a\\b", "ä", "a:b:c"] {
            assert_eq!(host_of("/layers", &[bad]), None, "{bad}");
        }
        assert_eq!(host_of("/layers", &[]), None);
        assert_eq!(host_of("/layers", &["a", "b"]), None);
    }
}
