//! A client of the HTTP port.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::soon;

/// What a server said.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// A header as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        let shown = || String::from_utf8_lossy(&self.body).chars().take(500).collect::<String>();
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", shown()))
    }
}

/// A server, asked over connections that stay open.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where it listens.
    pub address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Site {
    /// The server at an address.
    pub fn new(address: SocketAddr) -> Site {
        Site { address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Asks with a method, headers and a body.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = soon("an answer", self.client.request(request)).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = soon("a body", body.collect()).await.expect("a body").to_bytes();
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Asks for a path.
    pub async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, &[], Bytes::new()).await
    }

    /// Keeps a graft; the layer's id.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn layer(&self, graft: &str) -> String {
        let graft: Value = serde_json::from_str(graft).expect("a graft");
        let body = json!({ "graft": graft }).to_string();
        let headers = [("content-type", "application/json")];
        let reply = self.ask(Method::POST, "/layers/", &headers, body).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        reply.json()["layer_id"].as_str().expect("an id").to_owned()
    }
}
