//! The catalog calls of the published client: products, and blobs, its saved computations.
//!
//! JSON:API documents (jsonapi.org), below the root and below `/catalog/v2`, since users name either as
//! the client's catalog.

mod blobs;
mod products;
mod search;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use graticule_common::error::ErrorClass;
use serde_json::{Map, Value, json};

use super::Http;
use super::around::RequestId;
use super::body::Json;
use super::error::HttpError;
use super::site::Site;
use crate::blobs::BlobError;

/// Where the calls are: at the root, and where EarthOne has them.
pub(super) const PREFIXES: [&str; 2] = ["", "/catalog/v2"];

/// The kind of JSON:API documents.
const KIND: HeaderValue = HeaderValue::from_static("application/vnd.api+json");

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    let below = |prefix| products::routes(prefix).merge(blobs::routes(prefix));
    PREFIXES.into_iter().map(below).fold(Router::new(), Router::merge).layer(from_fn(json_api))
}

/// Errors as JSON:API has them, beside the members that all errors have.
async fn json_api(Extension(id): Extension<RequestId>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<HttpError>() else { return response };
    let mut body = error.json(&id.0);
    let status = response.status();
    let title = if error.class == ErrorClass::NotFound {
        "Object not found".to_owned()
    } else {
        error.class.name().replace('_', " ")
    };
    body["errors"] = json!([{ "status": status.as_str(), "title": title, "detail": error.message }]);
    let mut answer = error.answer(&id.0);
    *answer.status_mut() = status;
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    *answer.body_mut() = Body::from(body.to_string());
    answer
}

/// A document.
fn document(status: StatusCode, data: Value) -> Response {
    let body = json!({ "data": data, "jsonapi": { "version": "1.0" } });
    let store = HeaderValue::from_static("no-store");
    (status, [(header::CONTENT_TYPE, KIND), (header::CACHE_CONTROL, store)], body.to_string()).into_response()
}

/// What was found, with where there is more of it.
fn found(kind: &str, page: search::Page, Site(site): &Site, path: &Uri) -> Response {
    let resource = |mut attributes: search::Document| {
        let id = attributes.remove("id");
        json!({ "type": kind, "id": id, "attributes": attributes })
    };
    let mut links = Map::new();
    if let Some(continuation) = page.continuation {
        let next = format!("{site}{}?continuation={continuation}", path.path());
        links.insert("next".to_owned(), next.into());
    }
    let body = json!({
        "data": page.documents.into_iter().map(resource).collect::<Vec<_>>(),
        "meta": { "count": page.count },
        "links": links,
        "jsonapi": { "version": "1.0" },
    });
    ([(header::CONTENT_TYPE, KIND)], body.to_string()).into_response()
}

/// The body of a call: a JSON object.
struct Plain(Map<String, Value>);

impl FromRequest<Arc<Http>> for Plain {
    type Rejection = HttpError;

    async fn from_request(request: Request, http: &Arc<Http>) -> Result<Self, HttpError> {
        let Json(members) = Json::from_request(request, http).await?;
        Ok(Plain(members.into_iter().map(|(name, value)| (name, value.to_json())).collect()))
    }
}

/// What an address ends with: an id or a ticket.
struct Named(String);

impl FromRequestParts<Arc<Http>> for Named {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, http: &Arc<Http>) -> Result<Self, HttpError> {
        let named = Path::<String>::from_request_parts(parts, http).await;
        let Path(named) = named.map_err(|_| HttpError::invalid("the address is no text in UTF-8"))?;
        Ok(Named(named))
    }
}

/// What a search goes on with: it is in the address, as this server put it there.
fn continuation(path: &Uri) -> Option<&str> {
    path.query()?.split('&').find_map(|member| member.strip_prefix("continuation="))
}

/// The attributes of the resource in a body: `data.attributes`.
fn attributes(body: &mut Value) -> Result<Map<String, Value>, HttpError> {
    match body.pointer_mut("/data/attributes").map(Value::take) {
        Some(Value::Object(attributes)) => Ok(attributes),
        _ => Err(HttpError::invalid("the body has no object `data.attributes`").at("/data/attributes")),
    }
}

impl From<BlobError> for HttpError {
    fn from(error: BlobError) -> Self {
        HttpError::of(&error)
    }
}

impl From<search::SearchError> for HttpError {
    fn from(error: search::SearchError) -> Self {
        match error {
            search::SearchError::Filter(error) => HttpError::of(&error).at("/filter"),
            search::SearchError::Member { name, .. } => {
                HttpError::invalid(error.to_string()).at(format!("/{name}"))
            }
            search::SearchError::Unsupported { name } => {
                HttpError::new(ErrorClass::Unsupported, error.to_string()).at(format!("/{name}"))
            }
        }
    }
}
