//! A provider's keys over https: one small client, bounded in bytes and time, that follows no redirect.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use graticule_common::tls::{ClientTls, Servers};
use graticule_common::transport::{Target, causes};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use super::jwks::{DOCUMENT_BYTES_MAX, Documents};

/// Time for all of it.
const WITHIN: Duration = Duration::from_secs(5);

/// Bytes of an address.
const URL_BYTES_MAX: usize = 2048;

/// The address of a JWKS document.
#[derive(Clone, Debug)]
pub struct JwksUrl {
    url: Uri,
    target: Target,
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
        let is_here = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if url.scheme_str() != Some("https") && !is_here {
            return Err("keys are fetched over `https:` only, for who hands out keys can make tokens".into());
        }
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("it holds a user's name".into());
        }
        let tls = match url.scheme_str() {
            Some("https") => {
                let tls = ClientTls::web(Servers::Public).map_err(|error| error.to_string())?;
                Some(Arc::new(tls))
            }
            _ => None,
        };
        Ok(JwksUrl { target: Target::new(text, tls.as_ref())?, url })
    }

    async fn get(&self) -> Result<Vec<u8>, String> {
        let stream = self.target.stream().await.map_err(|error| causes(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| causes(&error))?;
        // It ends with the answer, or when this does.
        let mut connection = tokio::task::JoinSet::from_iter([async move { _ = connection.await }]);
        let authority = self.url.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("graticule/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| causes(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the server answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX).collect().await;
        let body = body.map_err(|error| causes(error.as_ref()))?;
        connection.abort_all();
        Ok(body.to_bytes().into())
    }
}

#[async_trait]
impl Documents for JwksUrl {
    async fn load(&self) -> Result<Vec<u8>, String> {
        let got = tokio::time::timeout(WITHIN, self.get()).await;
        let got = got.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())));
        got.map_err(|reason| format!("`{}`: {reason}", self.target.address()))
    }
}
