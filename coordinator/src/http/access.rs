//! Which address needs what: the one table of HTTP, and the layer that asks it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Http;
use super::answers::Held;
use super::error::HttpError;
use crate::access::identity::{Identity, Scope};
use crate::access::table::Needs;

/// Addresses as the router has them.
const CALLS: &[(&str, Needs)] = &[
    ("/layers", Needs::Scope(Scope::Compute)),
    ("/layers/", Needs::Scope(Scope::Compute)),
    ("/layers/{id}/aoi", Needs::Scope(Scope::Compute)),
    ("/layers/{id}/value", Needs::Scope(Scope::Compute)),
    ("/layers/{id}/statistics", Needs::Scope(Scope::Compute)),
    ("/layers/{id}", Needs::Scope(Scope::Compute)),
    ("/catalog/products", Needs::Scope(Scope::CatalogRead)),
    ("/catalog/products/{id}", Needs::Scope(Scope::CatalogRead)),
    ("/catalog/products/{id}/scenes", Needs::Scope(Scope::CatalogRead)),
    // Whoever has a layer's id has the right to see it; its tenant pays.
    ("/layers/{id}/tile/{z}/{x}/{y}", Needs::Nothing),
    ("/layers/{id}/tilejson.json", Needs::Nothing),
    ("/layers/{id}/wmts", Needs::Nothing),
    ("/layers/{id}/legend.png", Needs::Nothing),
    ("/colormaps", Needs::Nothing),
    ("/products/{*id}", Needs::Scope(Scope::CatalogRead)),
    ("/catalog/v2/products/{*id}", Needs::Scope(Scope::CatalogRead)),
    ("/products", Needs::Scope(Scope::CatalogRead)),
    ("/catalog/v2/products", Needs::Scope(Scope::CatalogRead)),
    ("/storage", Needs::Scope(Scope::Compute)),
    ("/catalog/v2/storage", Needs::Scope(Scope::Compute)),
    ("/storage/{*id}", Needs::Scope(Scope::Compute)),
    ("/catalog/v2/storage/{*id}", Needs::Scope(Scope::Compute)),
    ("/storage/upload", Needs::Scope(Scope::Compute)),
    ("/catalog/v2/storage/upload", Needs::Scope(Scope::Compute)),
    ("/storage/download/{*id}", Needs::Scope(Scope::Compute)),
    ("/catalog/v2/storage/download/{*id}", Needs::Scope(Scope::Compute)),
    ("/storage/delete", Needs::Scope(Scope::Compute)),
    ("/catalog/v2/storage/delete", Needs::Scope(Scope::Compute)),
    // Its ticket says who may: the client sends nothing else.
    ("/storage/content/{ticket}", Needs::Nothing),
    ("/catalog/v2/storage/content/{ticket}", Needs::Nothing),
    ("/", Needs::Nothing),
    ("/web/{*path}", Needs::Nothing),
    ("/healthz", Needs::Nothing),
    ("/readyz", Needs::Nothing),
    ("/api", Needs::Nothing),
];

/// Every address.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(path, _)| *path)
}

/// What an address of the router needs. What is not in the table is the administrator's: one that somebody
/// adds and forgets here is closed, not open.
fn needs(path: &str) -> Needs {
    let found = CALLS.iter().find(|(known, _)| *known == path);
    found.map_or(Needs::Scope(Scope::Admin), |(_, needs)| *needs)
}

/// Lets those in who may, and leaves who they are in the request.
pub(super) async fn check(State(http): State<Arc<Http>>, mut request: Request, next: Next) -> Response {
    // An address that does not exist needs nothing to be told so.
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let needed = needs(path.as_str());
    if needed == Needs::Nothing {
        // What it may carry is for nobody.
        request.headers_mut().remove(AUTHORIZATION);
        return next.run(request).await;
    }
    let (identity, permit) = match admit(&http, &mut request, needed, path.as_str()).await {
        Ok(admitted) => admitted,
        Err(error) => return error.into_response(),
    };
    request.extensions_mut().insert(identity);
    // The call is under way as long as its answer.
    Held::by(next.run(request).await, permit)
}

async fn admit(
    http: &Http,
    request: &mut Request,
    needed: Needs,
    path: &str,
) -> Result<(Identity, crate::access::quota::Permit), HttpError> {
    let credentials: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().cloned().collect();
    // It is not needed any more, and so cannot appear in a log.
    request.headers_mut().remove(AUTHORIZATION);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX / 2, |now| now.as_secs());
    let identity = http.access.identify_header(&credentials, now).await?;
    if let Needs::Scope(scope) = needed {
        http.access.allow(&identity, scope, path)?;
    }
    let permit = http.access.take(&identity.tenant)?;
    Ok((identity, permit))
}
