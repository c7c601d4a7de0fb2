//! Where a layer has pixels, and how fine they are.

use graticule_common::graft;

use super::Http;
use super::error::HttpError;
use super::layers::Layer;
use crate::planning::blocking;

/// Where a layer has pixels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Described {
    pub(crate) products: Vec<String>,
    /// West, south, east, north in degrees.
    pub(crate) bounds: [f64; 4],
    pub(crate) minzoom: u32,
    pub(crate) maxzoom: u32,
}

pub(crate) async fn describe(http: &Http, layer: &Layer) -> Result<Described, HttpError> {
    let (limits, graft) = (http.limits.clone(), layer.graft.clone());
    let expr = blocking(move || graft::resolve_open(&graft, &limits)).await??;
    let queries = expr.scene_queries().unwrap_or_default();
    let products: std::collections::BTreeSet<String> =
        queries.into_iter().map(|(query, _)| query.product).collect();
    let products: Vec<String> = products.into_iter().collect();
    Ok(Described { products, bounds: [-180.0, -85.0, 180.0, 85.0], minzoom: 0, maxzoom: 22 })
}
