//! A provider's keys over https: bounded in bytes and time, and no redirect is followed.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use graticule_common::web::{Access, Client, full};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};

use super::jwks::{DOCUMENT_BYTES_MAX, Documents};

/// Time for all of it.
const WITHIN: Duration = Duration::from_secs(5);

/// Bytes of an address.
const URL_BYTES_MAX: usize = 2048;

/// The address of a JWKS document.
#[derive(Clone, Debug)]
pub struct JwksUrl {
    url: Uri,
    client: Client,
}

impl JwksUrl {
    /// An address of `https:`. Without TLS whoever stands between could hand out keys, and so make tokens:
    /// `http:` is for this machine alone.
    ///
    /// # Errors
    /// Why it is none.
    pub fn new(text: &str) -> Result<JwksUrl, String> {
        if text.len() > URL_BYTES_MAX {
            return Err("it is too long".into());
        }
        let url: Uri = text.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if is_here => {}
            _ => {
                return Err("keys are fetched over `https:` only, for who hands out keys makes tokens".into());
            }
        }
        if url.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err("it holds a user's name, or no host".into());
        }
        // The operator names it, and nobody else: it may be an address of an inner network.
        Ok(JwksUrl { url, client: Client::new(Access::anywhere()) })
    }

    async fn get(&self) -> Result<Vec<u8>, String> {
        let request = Request::get(self.url.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("graticule/", env!("CARGO_PKG_VERSION")))
            .body(full(Bytes::new()))
            .map_err(|error| error.to_string())?;
        let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the server answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes().into())
    }
}

#[async_trait]
impl Documents for JwksUrl {
    async fn load(&self) -> Result<Vec<u8>, String> {
        let got = tokio::time::timeout(WITHIN, self.get()).await;
        let got = got.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())));
        got.map_err(|reason| format!("`{}`: {reason}", self.url))
    }
}
