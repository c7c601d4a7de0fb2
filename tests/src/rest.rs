//! A client of the HTTP port: one request, its whole answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::soon;

/// An HTTP port, and what is shown with every request to it.
#[derive(Clone, Debug)]
pub struct Rest {
    /// Where it listens.
    pub address: SocketAddr,
    authorization: Option<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{}: {error}: {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    /// A header; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The answer of an error: its JSON, after looking at the shape that all of them have.
    pub fn error(&self) -> Value {
        let body = self.json();
        let members: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(members, ["code", "detail", "message", "path", "request_id", "retryable"], "{body}");
        assert_eq!(body["message"], body["detail"]);
        assert!(body["message"].as_str().is_some_and(|text| text.len() > 10), "{body}");
        assert_eq!(self.header("x-request-id"), body["request_id"].as_str().expect("a text"), "{body}");
        assert!(self.status >= 400, "{} {body}", self.status);
        assert_eq!(self.header("content-type"), "application/json");
        let waits = matches!(self.status, 429 | 503);
        assert_eq!(!self.header("retry-after").is_empty(), waits, "{} {:?}", self.status, self.headers);
        body
    }
}

impl Rest {
    /// A port on this machine.
    pub fn new(address: SocketAddr) -> Rest {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Rest { address, authorization: None, client }
    }

    /// The same port, with what is shown as `authorization`.
    pub fn with(&self, authorization: &str) -> Rest {
        Rest { authorization: Some(authorization.to_owned()), ..self.clone() }
    }

    /// A request with headers and a body.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut request =
            http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let answering = async {
            let response = self.client.request(request).await.expect("an answer");
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            Reply { status: parts.status.as_u16(), headers: parts.headers, body }
        };
        soon(path, answering).await
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], Bytes::new()).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Keeps a graft; the id of its layer.
    pub async fn layer(&self, graft: &str) -> String {
        let graft: Value = serde_json::from_str(graft).expect("a graft");
        let reply = self.post("/layers/", &serde_json::json!({ "graft": graft })).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        reply.json()["layer_id"].as_str().expect("an id").to_owned()
    }
}
