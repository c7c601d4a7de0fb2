//! Whether the server lives, and takes work.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

use super::Http;

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready))
}

async fn alive() -> axum::Json<Value> {
    axum::Json(json!({ "status": "alive" }))
}

async fn ready(State(http): State<Arc<Http>>) -> (StatusCode, axum::Json<Value>) {
    let workers = http.fleet.shape().workers;
    let readiness = http.drain.readiness(workers);
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "status": readiness.name(), "workers": workers })))
}
