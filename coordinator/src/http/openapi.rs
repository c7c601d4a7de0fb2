//! `GET /api`: what this port answers, as OpenAPI 3.1. Tests keep it true: of the table of addresses here, of
//! methods, statuses and bodies in `tests/http/api.rs`.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Http;

/// The description.
const DESCRIPTION: &str = include_str!("openapi.json");

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new().route("/api", get(api))
}

async fn api() -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([kind], DESCRIPTION).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::access::paths;
    use super::*;

    fn documented() -> BTreeSet<String> {
        let description: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        description["paths"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_address_is_described_and_no_other() {
        // Of a rest of an address OpenAPI knows nothing.
        let known: BTreeSet<String> = paths().map(|path| path.replace("{*", "{")).collect();
        assert_eq!(known, documented());
    }

    /// An address that is in neither table is found here, in the text of the program.
    #[test]
    fn every_route_has_a_row() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http");
        let known: Vec<&str> = paths().collect();
        let mut routes = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for rest in text.split(".route(\"").skip(1) {
                let route = rest.split('"').next().unwrap_or_default();
                assert!(known.contains(&route) || route.is_empty(), "`{route}` has no row in access.rs");
                routes += 1;
            }
        }
        assert!(routes > 15, "{routes}");
    }
}
