//! `GET /layers/{id}`: what a layer is, as far as that is known without reading a pixel.

use std::sync::Arc;

use axum::extract::{Path, State};
use graticule_common::aoi::{Aoi, Geometry, LON_LAT, Sampling};
use graticule_common::graft::{self, Parameters};
use graticule_common::proto::v1 as pb;
use graticule_common::wire;
use serde_json::{Value, json};

use super::catalog::resolution;
use super::error::HttpError;
use super::layers::{Layer, open};
use super::{Http, aoi};
use crate::planning::blocking;

/// Metres of a pixel of zoom level 0, at the equator.
const ZOOM_0_METRES: f64 = 2.0 * std::f64::consts::PI * 6_378_137.0 / 256.0;
/// Zoom levels beyond the one whose pixels are as large as the files'.
const ZOOM_BEYOND: f64 = 2.0;
/// The highest zoom level that is ever said.
const ZOOM_MAX: f64 = 24.0;
/// The zoom level where nothing is known of the files' pixels.
const ZOOM_UNKNOWN: u8 = 18;
/// The whole world, in degrees.
const WORLD: [f64; 4] = [-180.0, -90.0, 180.0, 90.0];
/// Degrees of the pixel that is planned to know what a layer gives.
const PROBE_DEGREES: f64 = 1e-4;

/// What is known of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Described {
    /// `mosaic`, `stack`, `number`, `array`, or `unknown` before its parameters have values.
    pub(crate) kind: &'static str,
    /// Names of its bands.
    pub(crate) bands: Option<Vec<String>>,
    /// Type of its values, as numpy calls it.
    pub(crate) dtype: Option<&'static str>,
    /// The products that it reads.
    pub(crate) products: Vec<String>,
    /// West, south, east and north of their scenes in degrees; the whole world where nothing is known.
    pub(crate) bounds: [f64; 4],
    /// The zoom level beyond which there is nothing more to see.
    pub(crate) max_zoom: u8,
    /// Names of its parameters.
    pub(crate) parameters: Vec<String>,
}

pub(super) async fn layer(
    State(http): State<Arc<Http>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, HttpError> {
    let layer = open(&http, &id).await?;
    let graft: Value = serde_json::from_slice(&layer.graft).map_err(HttpError::internal)?;
    let described = describe(&http, &layer).await?;
    Ok(axum::Json(json!({
        "layer_id": &*layer.id,
        "graft": graft,
        "kind": described.kind,
        "bands": described.bands,
        "dtype": described.dtype,
        "products": described.products,
        "bounds": described.bounds,
        "minzoom": 0,
        "maxzoom": described.max_zoom,
        "parameters": described.parameters,
    })))
}

/// What is known of a layer.
///
/// # Errors
/// Those of the catalog.
pub(crate) async fn describe(http: &Http, layer: &Layer) -> Result<Described, HttpError> {
    let (text, limits) = (layer.graft.clone(), http.limits.clone());
    let expr = blocking(move || graft::resolve_open(&text, &limits)).await??;
    let mut products = expr.products();
    let ids: Vec<String> = expr.image_ids().unwrap_or_default().into_iter().map(|(id, _)| id).collect();
    if !ids.is_empty() {
        // An image that has gone says nothing of the others' products.
        let scenes = http.catalog.scenes_by_id(&ids).await.unwrap_or_default();
        products.extend(scenes.into_iter().map(|scene| scene.product));
    }
    products.sort_unstable();
    products.dedup();
    let mut bounds: Option<[f64; 4]> = None;
    let mut finest: Option<f64> = None;
    for product in &products {
        // A product that has gone is an error of a tile, not of what a layer is.
        let Ok(footprint) = http.catalog.footprint(product).await else { continue };
        bounds = match (bounds, footprint) {
            (Some(all), Some(more)) => Some(union(all, more)),
            (all, more) => all.or(more),
        };
        let metres = resolution(http, product).await?;
        finest = finest.into_iter().chain(metres).reduce(f64::min);
    }
    let bounds = bounds.map_or(WORLD, normal);
    let parameters = expr.parameters();
    let header = if parameters.is_empty() { probe(http, layer, bounds).await } else { None };
    let result = header.as_ref().and_then(|header| match &header.results[..] {
        [only] => Some(only),
        _ => None,
    });
    let kind = match result {
        None => "unknown",
        Some(pb::Result { shape: Some(shape), .. }) if shape.images.is_some() => "stack",
        Some(pb::Result { shape: Some(_), .. }) => "mosaic",
        Some(pb::Result { number: Some(_), .. }) => "number",
        Some(_) => "array",
    };
    let names = result.filter(|result| result.shape.is_some()).and_then(|result| {
        let count = result.shape?.bands as usize;
        let known = result.properties.first().and_then(|dict| {
            let dict = wire::properties_from(dict);
            let names = dict.get("bands")?.as_array()?.iter();
            names.map(|name| Some(name.as_str()?.to_owned())).collect::<Option<Vec<_>>>()
        });
        let known = known.filter(|names| names.len() == count);
        Some(known.unwrap_or_else(|| (1..=count).map(|at| format!("band {at}")).collect()))
    });
    let dtype = result.and_then(|result| wire::dtype_from(result.data_type).ok()).map(|dtype| dtype.name());
    Ok(Described { kind, bands: names, dtype, products, bounds, max_zoom: max_zoom(finest), parameters })
}

/// What the result is; `None` where it cannot be planned. First all of the area, in which no image is
/// missing; where that is too much, a place in its middle.
async fn probe(http: &Http, layer: &Layer, [west, south, east, north]: [f64; 4]) -> Option<pb::Header> {
    let (lon, lat) = ((west + east) / 2.0, ((south + north) / 2.0).clamp(-89.0, 89.0));
    let half = PROBE_DEGREES / 2.0;
    // A footprint may be a point.
    let all = [west, south, east.max(west + half), north.max(south + half)];
    for bounds in [all, [lon - half, lat - half, lon + half, lat + half]] {
        let aoi = Aoi {
            geometry: Geometry::default(),
            bounds: Some(bounds),
            bounds_crs: Some(LON_LAT.to_owned()),
            crs: LON_LAT.to_owned(),
            sampling: Sampling::Shape { rows: 1, cols: 1 },
            align_pixels: false,
            all_touched: false,
        };
        let request = aoi::request(&layer.graft, &aoi, &Parameters::new(), pb::Options::default());
        if let Ok(explained) = http.requests.explain(request).await {
            return explained.header;
        }
    }
    None
}

/// The zoom level beyond which files of such pixels have nothing more to show.
fn max_zoom(metres: Option<f64>) -> u8 {
    match metres {
        Some(metres) => ((ZOOM_0_METRES / metres).log2().ceil() + ZOOM_BEYOND).clamp(0.0, ZOOM_MAX) as u8,
        None => ZOOM_UNKNOWN,
    }
}

/// Bounds around two; those that go on at the other side of the world have an east below their west.
fn union([w1, s1, e1, n1]: [f64; 4], [w2, s2, e2, n2]: [f64; 4]) -> [f64; 4] {
    match (w1 > e1, w2 > e2) {
        (false, false) | (true, true) => [w1.min(w2), s1.min(s2), e1.max(e2), n1.max(n2)],
        _ => [-180.0, s1.min(s2), 180.0, n1.max(n2)],
    }
}

/// Bounds whose east is not below their west, as clients of maps read them.
fn normal([west, south, east, north]: [f64; 4]) -> [f64; 4] {
    let east = if west > east { east + 360.0 } else { east };
    [west, south.max(-90.0), east, north.min(90.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zoom_levels_follow_the_files() {
        assert_eq!(max_zoom(None), 18);
        assert_eq!(max_zoom(Some(30.0)), 15);
        assert_eq!(max_zoom(Some(10.0)), 16);
        assert_eq!((max_zoom(Some(1e-6)), max_zoom(Some(1e9))), (24, 0));
    }

    #[test]
    fn bounds_go_around_the_world_where_they_must() {
        assert_eq!(union([0.0, 0.0, 1.0, 1.0], [2.0, -1.0, 3.0, 0.5]), [0.0, -1.0, 3.0, 1.0]);
        assert_eq!(union([170.0, 0.0, -170.0, 1.0], [175.0, 0.0, -179.0, 2.0]), [170.0, 0.0, -170.0, 2.0]);
        assert_eq!(union([170.0, 0.0, -170.0, 1.0], [0.0, 0.0, 1.0, 1.0]), [-180.0, 0.0, 180.0, 1.0]);
        assert_eq!(normal([170.0, 0.0, -170.0, 1.0]), [170.0, 0.0, 190.0, 1.0]);
    }
}
