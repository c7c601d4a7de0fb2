//! What is around every address: ids of requests, one shape of errors, limits, access, and other sites.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use graticule_common::error::ErrorClass;
use graticule_common::telemetry::{self, names};
use http_body_util::{BodyExt, Limited};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{error, warn};

use super::answers::{Cut, Held, watched};
use super::error::HttpError;
use super::tile_query::SIZE;
use super::{Http, access, tiles};

/// Header with a request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Id of a request, in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// Puts everything around the addresses.
pub(super) fn put(routes: Router<Arc<Http>>, http: Arc<Http>) -> Router {
    let cors = cors(&http.cors);
    // Outermost last.
    let router = routes
        .fallback(nowhere)
        .method_not_allowed_fallback(async || HttpError::method())
        .layer(from_fn_with_state(http.clone(), access::check))
        .layer(from_fn_with_state(http.clone(), within_limits))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(http.clone(), finish));
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(http)
}

async fn nowhere(uri: Uri) -> HttpError {
    let path: String = uri.path().chars().take(100).collect();
    HttpError::not_found(format!("there is nothing at `{path}`; `/api` describes what there is"))
}

fn panicked(reason: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = reason.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| reason.downcast_ref::<String>().cloned()).unwrap_or_default();
    error!(reason = text, "an answer stopped by a defect");
    HttpError::internal("an answer stopped").into_response()
}

/// Gives a request its id, and errors their body.
async fn finish(mut request: Request, next: Next) -> Response {
    let id: Arc<str> = telemetry::request_id().into();
    request.extensions_mut().insert(RequestId(id.clone()));
    let (started, path) = (Instant::now(), request.extensions().get::<MatchedPath>().cloned());
    let what = path.map_or("other", |path| what(path.as_str()));
    let is_looked_at = what == "tile" && !tiles::wants_json(request.headers());
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<HttpError>() {
        // Such as the methods that an address does take.
        let allowed = response.headers_mut().remove(header::ALLOW);
        response = match is_looked_at {
            true => tiles::picture_of(&error, SIZE, &id),
            false => error.answer(&id),
        };
        response.headers_mut().extend(allowed.map(|allowed| (header::ALLOW, allowed)));
    } else if is_of_library(&response) {
        let status = response.status();
        let text = Limited::new(response.into_body(), LIBRARY_BYTES_MAX).collect().await;
        let text = text.map(|text| String::from_utf8_lossy(&text.to_bytes()).into_owned());
        response = HttpError::of_library(status, &text.unwrap_or_default()).answer(&id);
    }
    let status = match response.status().as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics::counter!(names::HTTP_REQUESTS, "what" => what, "status" => status).increment(1);
    metrics::histogram!(names::HTTP_SECONDS, "what" => what).record(started.elapsed());
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    // What comes here is never a page by guess.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What is asked for at an address of the router, in metrics.
fn what(path: &str) -> &'static str {
    let is_of =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match path {
        "/healthz" | "/readyz" => "probe",
        "/layers/{id}/aoi" => "result",
        "/layers/{id}/value" => "value",
        "/layers/{id}/statistics" => "statistics",
        _ if path.contains("/tile/") => "tile",
        _ if path.contains("/storage") => "storage",
        _ if is_of("/layers") => "layer",
        _ if is_of("/catalog") || is_of("/products") => "catalog",
        "/" => "page",
        _ if is_of("/web") => "page",
        _ => "other",
    }
}

/// Bytes of a message of a library.
const LIBRARY_BYTES_MAX: usize = 4 << 10;

/// Whether an error was answered by a library, as text.
fn is_of_library(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    is_error && kind.is_none_or(|kind| kind.starts_with("text/plain"))
}

/// Refuses what is too long and too much, and what comes when the coordinator is ending.
async fn within_limits(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    match enter(&http, request.uri()) {
        Ok(inside) => {
            let cut = request.extensions().get::<Cut>().cloned();
            let response = Held::by(next.run(request).await, inside);
            match cut {
                Some(cut) => watched(response, cut, http.rules.progress_within),
                None => response,
            }
        }
        Err(error) => error.into_response(),
    }
}

fn enter(http: &Http, uri: &Uri) -> Result<impl Send + Unpin + 'static, HttpError> {
    let rules = &http.rules;
    let query = uri.query().map_or(0, str::len);
    if uri.path().len() + query > rules.url_bytes || query > rules.query_bytes {
        let message = format!(
            "the address is too long: at most {} bytes, {} of them after `?`",
            rules.url_bytes, rules.query_bytes
        );
        return Err(HttpError::new(ErrorClass::LimitExceeded, message));
    }
    // Probes are answered whatever else there is to do.
    if matches!(uri.path(), "/healthz" | "/readyz") {
        return Ok(None);
    }
    let admitted = http.drain.admit()?;
    let place = http.places.clone().try_acquire_owned().map_err(|_| {
        let message = format!("this server answers {} requests at a time; try again", rules.requests);
        HttpError::new(ErrorClass::Overloaded, message)
    })?;
    Ok(Some((admitted, place)))
}

/// Which other sites' pages may call.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let values = origins.iter().filter_map(|origin| match HeaderValue::from_str(origin) {
            Ok(value) => Some(value),
            Err(_) => {
                warn!(%origin, "this is no origin");
                None
            }
        });
        AllowOrigin::list(values)
    };
    let exposed = ["etag", "graticule-quality", "server-timing", "x-request-id", "retry-after"];
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, header::IF_NONE_MATCH])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(std::time::Duration::from_secs(600));
    Some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_has_a_name_that_is_a_label() {
        for (path, expect) in [
            ("/layers/{id}/tile/{z}/{x}/{y}", "tile"),
            ("/layers/", "layer"),
            ("/layers/{id}/aoi", "result"),
            ("/catalog/v2/storage/{*id}", "storage"),
            ("/catalog/products", "catalog"),
            ("/web/{*path}", "page"),
            ("/colormaps", "other"),
            ("/healthz", "probe"),
        ] {
            assert_eq!(what(path), expect, "{path}");
            assert!(names::HTTP_WHAT.contains(&what(path)));
        }
    }
}
