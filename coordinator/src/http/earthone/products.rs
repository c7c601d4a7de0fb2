//! Products, as the client asks for one whenever it builds something of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, put};
use graticule_common::scene::Product;
use serde_json::json;

use super::search::{Document, Search};
use super::{Named, Plain, continuation};
use crate::http::Http;
use crate::http::error::HttpError;
use crate::http::site::Site;

/// Their addresses.
pub(super) fn routes(prefix: &str) -> Router<Arc<Http>> {
    Router::new()
        .route(&format!("{prefix}/products/{{*id}}"), get(product))
        .route(&format!("{prefix}/products"), put(find))
}

async fn product(State(http): State<Arc<Http>>, Named(id): Named) -> Result<Response, HttpError> {
    let product = http.catalog.product(&id).await?;
    let mut attributes = attributes(&product);
    let id = attributes.remove("id");
    let data = json!({ "type": "product", "id": id, "attributes": attributes });
    Ok(super::document(StatusCode::OK, data))
}

async fn find(
    State(http): State<Arc<Http>>,
    site: Site,
    path: Uri,
    Plain(body): Plain,
) -> Result<Response, HttpError> {
    let search = Search::read(&body, continuation(&path))?;
    let products = http.catalog.products().await?;
    let page = search.page(products.iter().map(attributes).collect());
    Ok(super::found("product", page, &site, &path))
}

/// What is said about a product.
fn attributes(product: &Product) -> Document {
    let instant = |at: Option<String>| at.map_or(serde_json::Value::Null, Into::into);
    let (start, end) = product
        .acquired
        .map_or((None, None), |(start, end)| (Some(start.to_string()), Some(end.to_string())));
    BTreeMap::from([
        ("id".to_owned(), json!(product.id)),
        ("name".to_owned(), json!(product.title)),
        ("start_datetime".to_owned(), instant(start)),
        ("end_datetime".to_owned(), instant(end)),
        ("is_core".to_owned(), json!(false)),
        ("owners".to_owned(), json!([])),
        ("readers".to_owned(), json!([])),
        ("writers".to_owned(), json!([])),
        ("tags".to_owned(), json!([])),
        ("extra_properties".to_owned(), json!({ "bands": product.bands.join(" ") })),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use graticule_common::scene::Timestamp;

    #[test]
    fn what_is_said_about_a_product() {
        let mut product = Product::new("esa:s2", vec!["red".into(), "nir".into()]);
        product.acquired = Some((Timestamp(0), Timestamp(86_400_000_000)));
        let said = attributes(&product);
        assert_eq!(said["id"], "esa:s2");
        assert_eq!(said["start_datetime"], "1970-01-01T00:00:00Z");
        assert_eq!(said["extra_properties"]["bands"], "red nir");
        product.acquired = None;
        assert!(attributes(&product)["end_datetime"].is_null());
    }
}
