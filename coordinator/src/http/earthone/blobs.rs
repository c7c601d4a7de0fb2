//! Blobs: what a user saves, loads, shares, finds and deletes.
//!
//! Content does not go with the documents: the client is given a URL for it, and sends nothing with that
//! but the content. So the URL holds a ticket: signed, for one deed with one object, for a while.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use serde_json::{Map, Value, json};

use super::search::{Document, Search};
use super::{Named, Plain, attributes, continuation, document, found};
use crate::access::Identity;
use crate::blobs::{Attributes, Blob, BlobError, BlobId, Claims, Deed, STORAGE_TYPE};
use crate::http::Http;
use crate::http::body::Raw;
use crate::http::error::HttpError;
use crate::http::site::Site;
use crate::objects::random_name;

/// How long a URL for content counts: an upload and what follows it, a download.
const TICKET_FOR: Duration = Duration::from_secs(900);
/// Blobs deleted by one call.
const DELETED_MAX: usize = 1000;

/// Their addresses.
pub(super) fn routes(prefix: &str) -> Router<Arc<Http>> {
    let at = |path: &str| format!("{prefix}/storage{path}");
    Router::new()
        .route(&at(""), post(make).put(find))
        .route(&at("/upload"), post(upload))
        .route(&at("/download/{*id}"), get(download))
        .route(&at("/delete"), post(delete))
        .route(&at("/content/{ticket}"), put(put_content).get(content))
        .route(&at("/{*id}"), get(blob).patch(change))
}

async fn upload(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    site: Site,
    path: Uri,
    Plain(body): Plain,
) -> Result<Response, HttpError> {
    let mut upload = attributes(&mut Value::Object(body))?;
    // The blob travels as a document of its own.
    let nested = upload.get_mut("storage").ok_or_else(|| {
        HttpError::invalid("the body has no object `data.attributes.storage`").at("/data/attributes/storage")
    })?;
    let said = attributes(nested)?;
    let id = id_of(&said)?;
    // What would be refused later is refused before anything is uploaded.
    Attributes::default().apply(&said)?;
    let place = http.blobs.begin(&identity.tenant, &id, SystemTime::now()).await?;
    let end = now() + TICKET_FOR.as_secs();
    let ticket = http.tickets.sign(Deed::Put, &place, end);
    let data = json!({
        "type": "storage_upload",
        "id": random_name(),
        "attributes": {
            "resumable_url": content_url(&site, &path, &ticket),
            "signature": http.tickets.sign(Deed::Finish, &place, end),
            "storage": { "data": { "type": "storage", "id": id.to_string(), "attributes": said } },
        },
    });
    Ok(document(StatusCode::CREATED, data))
}

async fn put_content(
    State(http): State<Arc<Http>>,
    Named(ticket): Named,
    request: Request,
) -> Result<Response, HttpError> {
    // Nobody without a ticket sends megabytes.
    let place = http.tickets.check(&ticket, Deed::Put, now()).ok_or_else(unknown_url)?;
    let Raw(content) = Raw::from_request(request, &http).await?;
    http.blobs.put_content(&place, content).await?;
    Ok(StatusCode::OK.into_response())
}

async fn make(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    Plain(body): Plain,
) -> Result<Response, HttpError> {
    let said = attributes(&mut Value::Object(body))?;
    let id = id_of(&said)?;
    let signature = said.get("upload_signature").and_then(Value::as_str).unwrap_or_default();
    let place = http.tickets.check(signature, Deed::Finish, now()).ok_or_else(|| {
        let message = "`upload_signature` is none that counts (any more); ask for an upload again: `POST /storage/upload`";
        HttpError::invalid(message).at("/data/attributes/upload_signature")
    })?;
    let said_text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
    let claims = Claims { bytes: said.get("size_bytes").and_then(Value::as_u64), md5: said_text("hash") };
    let attributes = Attributes::default().apply(&said)?;
    let tenant = &identity.tenant;
    let blob = http.blobs.finish(tenant, &id, &place, attributes, &claims, SystemTime::now()).await?;
    Ok(document(StatusCode::CREATED, resource(&blob)))
}

async fn blob(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    Named(id): Named,
) -> Result<Response, HttpError> {
    let blob = http.blobs.get(&identity.tenant, &known(&id)?).await?;
    Ok(document(StatusCode::OK, resource(&blob)))
}

async fn change(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    Named(id): Named,
    Plain(body): Plain,
) -> Result<Response, HttpError> {
    let said = attributes(&mut Value::Object(body))?;
    let blob = http.blobs.change(&identity.tenant, &known(&id)?, &said, SystemTime::now()).await?;
    Ok(document(StatusCode::OK, resource(&blob)))
}

async fn download(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    site: Site,
    path: Uri,
    Named(id): Named,
) -> Result<Response, HttpError> {
    let tenant = &identity.tenant;
    let blob = http.blobs.get(tenant, &known(&id)?).await?;
    let ticket = http.tickets.sign(Deed::Get, &http.blobs.place(tenant, &blob), now() + TICKET_FOR.as_secs());
    let data = json!({
        "type": "storage_download",
        "id": random_name(),
        "attributes": { "resumable_url": content_url(&site, &path, &ticket) },
    });
    Ok(document(StatusCode::OK, data))
}

async fn content(
    State(http): State<Arc<Http>>,
    Named(ticket): Named,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let place = http.tickets.check(&ticket, Deed::Get, now()).ok_or_else(unknown_url)?;
    let (content, md5) = match http.blobs.content(&place).await {
        // It was deleted since.
        Err(BlobError::Unknown { .. }) => return Err(unknown_url()),
        found => found?,
    };
    if !is_wanted(&headers, &md5) {
        // The one answer here whose status says more than a class: HTTP has it for just this.
        let message = "the blob has other content by now; get it again";
        let mut response = HttpError::invalid(message).into_response();
        *response.status_mut() = StatusCode::PRECONDITION_FAILED;
        return Ok(response);
    }
    let etag = HeaderValue::from_str(&format!("\"{md5}\"")).map_err(HttpError::internal)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // What was saved is a document to keep, not a page to show.
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::ETAG, etag),
    ];
    Ok((headers, content).into_response())
}

/// Whether content of a hash is what a client asks for. It sends the hash without the quotes that HTTP
/// has around it.
fn is_wanted(headers: &HeaderMap, md5: &str) -> bool {
    let wanted: Vec<_> = headers.get_all(header::IF_MATCH).iter().collect();
    let is_one = |wanted: &HeaderValue| {
        let tags = wanted.to_str().unwrap_or_default().split(',').map(|tag| tag.trim().trim_matches('"'));
        tags.into_iter().any(|tag| tag == "*" || tag.eq_ignore_ascii_case(md5))
    };
    wanted.is_empty() || wanted.into_iter().any(is_one)
}

async fn find(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    site: Site,
    path: Uri,
    Plain(body): Plain,
) -> Result<Response, HttpError> {
    let search = Search::read(&body, continuation(&path))?;
    let blobs = http.blobs.list(&identity.tenant).await?;
    let page = search.page(blobs.iter().map(|blob| described(blob)).collect());
    Ok(found("storage", page, &site, &path))
}

async fn delete(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    Plain(body): Plain,
) -> Result<Response, HttpError> {
    let said = attributes(&mut Value::Object(body))?;
    let wrong = || {
        let message = format!("`data.attributes.ids` is not a list of at most {DELETED_MAX} ids");
        HttpError::invalid(message).at("/data/attributes/ids")
    };
    let ids = said.get("ids").and_then(Value::as_array).ok_or_else(wrong)?;
    let ids: Option<Vec<&str>> = ids.iter().map(Value::as_str).collect();
    let ids = ids.filter(|ids| ids.len() <= DELETED_MAX).ok_or_else(wrong)?;
    let must_be_there = said.get("raise_on_missing").and_then(Value::as_bool).unwrap_or_default();
    if must_be_there {
        // All or none.
        for id in &ids {
            http.blobs.get(&identity.tenant, &known(id)?).await?;
        }
    }
    let mut deleted = Vec::new();
    for id in ids {
        let Ok(known) = BlobId::parse(id) else { continue };
        if http.blobs.delete(&identity.tenant, &known, SystemTime::now()).await? {
            deleted.push(id);
        }
    }
    let data = json!({
        "type": "storage_delete",
        "id": random_name(),
        "attributes": { "status": "SUCCESS", "objects_deleted": deleted.len(), "ids": deleted },
    });
    Ok(document(StatusCode::CREATED, data))
}

/// The id that a new blob's attributes make.
fn id_of(said: &Map<String, Value>) -> Result<BlobId, HttpError> {
    let text = |name: &'static str| match said.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        _ => Err(HttpError::invalid(format!("the attribute `{name}` of a blob is a text"))),
    };
    let kind = text("storage_type")?;
    if kind != STORAGE_TYPE {
        let kind: String = kind.chars().take(64).collect();
        let message = format!(
            "blobs of the kind `{kind}` are not kept here, only saved computations: `{STORAGE_TYPE}`"
        );
        return Err(HttpError::new(graticule_common::error::ErrorClass::Unsupported, message));
    }
    Ok(BlobId::new(text("namespace")?, text("name")?)?)
}

/// An id in an address. What is no id is the id of no blob.
fn known(id: &str) -> Result<BlobId, HttpError> {
    let unknown = |_| BlobError::Unknown { id: id.chars().take(200).collect() }.into();
    BlobId::parse(id).map_err(unknown)
}

fn unknown_url() -> HttpError {
    HttpError::not_found("this URL does not count (any more); ask for it again")
}

/// The URL of content: below the address that the client used for its call.
fn content_url(Site(site): &Site, path: &Uri, ticket: &str) -> String {
    let (prefix, _) = path.path().split_once("/storage").unwrap_or_default();
    format!("{site}{prefix}/storage/content/{ticket}")
}

/// A blob as a resource.
fn resource(blob: &Blob) -> Value {
    let mut attributes = described(blob);
    let id = attributes.remove("id");
    json!({ "type": "storage", "id": id, "attributes": attributes })
}

/// All that is said about a blob.
fn described(blob: &Blob) -> Document {
    let Attributes { description, extra_properties, tags, readers, writers, owners } = &blob.attributes;
    let said = json!({
        "id": blob.id.to_string(),
        "namespace": blob.id.namespace(),
        "name": blob.id.name(),
        "storage_type": STORAGE_TYPE,
        "storage_state": "available",
        "description": description,
        "extra_properties": extra_properties,
        "tags": tags,
        "readers": readers,
        "writers": writers,
        "owners": owners,
        "size_bytes": blob.bytes,
        "hash": blob.md5,
        "created": blob.created().to_string(),
        "modified": blob.modified().to_string(),
    });
    match said {
        Value::Object(said) => said.into_iter().collect(),
        _ => Document::new(),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX / 2, |now| now.as_secs())
}
