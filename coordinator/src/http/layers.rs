//! Layers: grafts that are kept, and what is computed of them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use graticule_common::assembly::{Finished, Outcome};
use graticule_common::graft;
use graticule_common::literal::Literal;
use serde_json::json;

use super::aoi::Asked;
use super::around::RequestId;
use super::body::Json;
use super::capability::unknown;
use super::error::HttpError;
use super::formats::{Format, Pieces, arrow, choose, counted, npz, pickle};
use super::gather::{Gathered, gather_copies};
use super::tile_query::Look;
use super::{Http, describe, value};
use crate::access::Identity;
use crate::http::Raster;
use crate::layers::LayerError;
use crate::planning::blocking;
use crate::render::{self, TileStyle};
use crate::request::Caller;

/// Header that says whether overviews may have been read.
pub(crate) const QUALITY: HeaderName = HeaderName::from_static("graticule-quality");

/// A layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Its id: who has it may see its tiles.
    pub(crate) id: Arc<str>,
    /// Whose it is, and who pays.
    pub(crate) tenant: Arc<str>,
    /// Its graft: JSON in normal form, parameters without values.
    pub(crate) graft: Bytes,
}

/// The layer of an id.
///
/// # Errors
/// One message for everything that is no id of a layer here; those of the store.
pub(crate) async fn open(http: &Http, id: &str) -> Result<Layer, HttpError> {
    let key = http.capabilities.check(id)?;
    match http.layers.get(key).await {
        Ok(kept) => Ok(Layer { id: id.into(), tenant: kept.tenant, graft: kept.graft }),
        Err(LayerError::Unknown) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/layers", post(make))
        .route("/layers/", post(make))
        .route("/layers/{id}", get(describe::layer))
        .route("/layers/{id}/aoi", post(aoi))
        .route("/layers/{id}/value", get(value::value))
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

/// `POST /layers/{id}/aoi`: the whole result, in the format that the client accepts.
async fn aoi(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(members): Json,
) -> Result<Response, HttpError> {
    let format = Format::accepted(&headers)?;
    let asked = Asked::read(members)?;
    let layer = open(&http, &id).await?;
    let style = Look::from_members(&asked.style)?.style(&[]);
    if format == Format::GeoTiff && http.geotiff.is_none() {
        return Err(HttpError::invalid("this server writes no GeoTIFFs; ask for another format"));
    }
    let caller = Caller { tenant: identity.tenant, timeout: None, parent: None, id: Some(request_id) };
    let gathered = gather_copies(&http, asked.request(&layer.graft), caller, format.copies()).await?;
    let quality = gathered.quality();
    let mut response = encode(&http, gathered, format, &asked, style).await?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(QUALITY, HeaderValue::from_static(quality));
    Ok(response)
}

async fn encode(
    http: &Arc<Http>,
    gathered: Gathered,
    format: Format,
    asked: &Asked,
    style: TileStyle,
) -> Result<Response, HttpError> {
    let Gathered { results, share, .. } = gathered;
    let results = match &asked.result {
        Some(name) => vec![Finished { name: String::new(), ..choose(results, Some(name))? }],
        None => results,
    };
    let file = |name: &'static str, bytes: Pieces| {
        let disposition = HeaderValue::from_static(name);
        ([(header::CONTENT_DISPOSITION, disposition)], bytes.into_body()).into_response()
    };
    Ok(match format {
        Format::Pickle => pickle::encode(results, share).into_body().into_response(),
        Format::Arrow => arrow::encode(choose(results, None)?, share)?.into_response(),
        Format::Npz => {
            let encoding = move || npz::encode(results, share);
            file("attachment; filename=\"result.npz\"", blocking(encoding).await??)
        }
        Format::GeoTiff => {
            let finished = choose(results, None)?;
            let writer = http.geotiff.clone();
            let encoding = move || {
                let Some(writer) = writer else { return Err(HttpError::internal("no writer")) };
                let Finished { outcome, bands, .. } = &finished;
                let Outcome::Raster { grid, block, props } = outcome else { return Err(no_pixels()) };
                let raster = Raster { grid, block, props, bands };
                let bytes = writer.geotiff(raster).map_err(|error| HttpError::of(&error))?;
                Ok(counted(bytes.into(), &Arc::new(share)).into())
            };
            file("attachment; filename=\"result.tif\"", blocking(encoding).await??)
        }
        Format::Png => {
            let finished = choose(results, None)?;
            let encoding = move || {
                let Outcome::Raster { block, .. } = &finished.outcome else { return Err(no_pixels()) };
                let bytes = render::paint(block, &style, None)?.png()?;
                Ok::<Pieces, HttpError>(counted(bytes, &Arc::new(share)).into())
            };
            blocking(encoding).await??.into_body().into_response()
        }
    })
}

fn no_pixels() -> HttpError {
    let class = graticule_common::error::ErrorClass::Impossible;
    HttpError::new(
        class,
        "the result has no pixels; ask for it as application/octet-stream or application/x-npz",
    )
}
