//! Layers: grafts that are kept, and what is computed of them.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use graticule_common::graft;
use graticule_common::literal::Literal;
use serde_json::json;

use super::body::Json;
use super::capability::unknown;
use super::error::HttpError;
use super::{Http, capability};
use crate::access::Identity;
use crate::layers::{LayerError, LayerKey};
use crate::planning::blocking;

/// A layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Its id: who has it may see its tiles.
    pub(crate) id: Arc<str>,
    /// Whose it is, and who pays.
    pub(crate) tenant: Arc<str>,
    /// Its graft: JSON in normal form, parameters without values.
    pub(crate) graft: Bytes,
    /// Where it is kept.
    pub(crate) key: LayerKey,
}

/// The layer of an id.
///
/// # Errors
/// One message for everything that is no id of a layer here; those of the store.
pub(crate) async fn open(http: &Http, id: &str) -> Result<Layer, HttpError> {
    let key = http.capabilities.check(id)?;
    match http.layers.get(key).await {
        Ok(kept) => Ok(Layer { id: id.into(), tenant: kept.tenant, graft: kept.graft, key }),
        Err(LayerError::Unknown) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new().route("/layers", post(make)).route("/layers/", post(make))
}

async fn make(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    Json(members): Json,
) -> Result<axum::Json<serde_json::Value>, HttpError> {
    let missing = || HttpError::invalid("the body has no `graft`").at("/graft");
    let graft = members.into_iter().find(|(name, _)| name == "graft").ok_or_else(missing)?.1;
    let id = keep(&http, &identity.tenant, graft).await?;
    Ok(axum::Json(json!({ "layer_id": id })))
}

/// Keeps a graft, in normal form, for a tenant. The answer is the layer's id.
///
/// # Errors
/// Those of the graft and of the store.
pub(crate) async fn keep(http: &Http, tenant: &str, graft: Literal) -> Result<String, HttpError> {
    let limits = http.limits.clone();
    let resolving = move || {
        let text = graft.to_json().to_string();
        graft::resolve_open(text.as_bytes(), &limits).map(|expr| expr.to_graft())
    };
    let normal = blocking(resolving).await??;
    let space = http.capabilities.tenant(tenant);
    let key = http.layers.put(space, tenant, normal).await?;
    Ok(http.capabilities.id(&key))
}

/// Whether a text has the length of an id.
pub(crate) fn is_like_id(text: &str) -> bool {
    text.len() == capability::ID_CHARS
}
