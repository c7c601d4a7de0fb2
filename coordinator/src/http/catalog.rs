//! What there is: products and scenes.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use graticule_common::limits::Limits;
use graticule_common::scene::{LonLatBox, Product, Scene, SceneQuery, Timestamp};
use graticule_common::transform::{Transform, Unit};
use serde_json::{Value, json};

use super::Http;
use super::error::HttpError;
use super::query::{Pairs, wrong};
use crate::catalog::Listed;

/// Scenes of an answer, unless the client says otherwise.
const SCENES: u64 = 100;
/// Scenes of an answer, at most.
const SCENES_MAX: u64 = 10_000;
/// Scenes that are looked at to know a product's resolution.
const LOOKED_AT: usize = 8;
/// Metres in a degree of latitude.
const DEGREE_METRES: f64 = 111_195.0;
/// The whole world.
pub(super) const WORLD: LonLatBox = LonLatBox { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/catalog/products", get(products))
        .route("/catalog/products/{id}", get(product))
        .route("/catalog/products/{id}/scenes", get(scenes))
}

async fn products(State(http): State<Arc<Http>>) -> Result<axum::Json<Value>, HttpError> {
    let mut described = Vec::new();
    for product in http.catalog.products().await? {
        described.push(describe(&http, &product).await?);
    }
    Ok(axum::Json(described.into()))
}

async fn product(
    State(http): State<Arc<Http>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, HttpError> {
    let product = http.catalog.product(&id).await?;
    Ok(axum::Json(describe(&http, &product).await?))
}

async fn describe(http: &Http, product: &Product) -> Result<Value, HttpError> {
    let bands = product.bands.iter().map(|name| {
        let info = product.band_info.get(name).cloned().unwrap_or_default();
        let classes = info.classes.iter().map(|class| {
            let color = class.color.map(|[red, green, blue]| format!("#{red:02x}{green:02x}{blue:02x}"));
            json!({ "value": class.value, "name": class.name, "color": color })
        });
        json!({
            "name": name, "common_name": info.common_name, "unit": info.unit,
            "classes": classes.collect::<Vec<_>>(),
        })
    });
    Ok(json!({
        "id": product.id,
        "title": product.title,
        "bands": bands.collect::<Vec<_>>(),
        "scenes": product.scenes,
        "acquired": product.acquired.map(|(first, last)| [first.to_string(), last.to_string()]),
        "footprint": http.catalog.footprint(&product.id).await?,
        "resolution": resolution(http, &product.id).await?,
    }))
}

/// Size of a product's finest pixels in metres, where its documents say it.
pub(crate) async fn resolution(http: &Http, product: &str) -> Result<Option<f64>, HttpError> {
    let (scenes, _) = http.catalog.list(&SceneQuery::all(product), &WORLD, LOOKED_AT).await?;
    let transform = http.transform.clone();
    let sizes = scenes.iter().filter_map(|listed| pixel_metres(&listed.scene, transform.as_ref()));
    Ok(sizes.reduce(f64::min))
}

/// Size of a scene's finest pixels in metres.
fn pixel_metres(scene: &Scene, transform: &dyn Transform) -> Option<f64> {
    let of_grid = |band: &graticule_common::scene::BandSource| {
        let grid = band.asset.raster.as_ref()?;
        let (x, y) = grid.affine.col;
        let size = x.hypot(y);
        match transform.unit(&grid.crs).ok()? {
            Unit::Metres(metres) => Some(size * metres),
            Unit::Radians(radians) => Some(size * radians.to_degrees() * DEGREE_METRES),
        }
    };
    let finest = scene.bands.values().filter_map(of_grid).reduce(f64::min);
    finest.or_else(|| scene.properties.get("gsd")?.as_f64()).filter(|size| *size > 0.0 && size.is_finite())
}

async fn scenes(
    State(http): State<Arc<Http>>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Result<axum::Json<Value>, HttpError> {
    let area = match pairs.numbers::<4>("bbox")? {
        None => WORLD,
        Some([west, south, east, north]) => {
            let is_box = south <= north && [west, east].iter().all(|edge| edge.abs() <= 360.0);
            if !is_box {
                let text = pairs.get("bbox").unwrap_or_default();
                return Err(wrong("bbox", text, "west,south,east,north in degrees, south below north"));
            }
            LonLatBox { west, south, east: if east < west { east + 360.0 } else { east }, north }
        }
    };
    let (start, end) = interval(&pairs)?;
    let limit = pairs.whole("limit", 1, SCENES_MAX)?.unwrap_or(SCENES);
    let query = SceneQuery { start, end, ..SceneQuery::all(id) };
    let limit = usize::try_from(limit).unwrap_or(Limits::default().scenes);
    let (scenes, is_all) = http.catalog.list(&query, &area, limit).await?;
    let scenes: Vec<Value> = scenes.iter().map(scene).collect();
    Ok(axum::Json(json!({ "scenes": scenes, "more": !is_all })))
}

fn scene(listed: &Listed) -> Value {
    let Listed { scene, bbox } = listed;
    json!({
        "id": scene.id,
        "acquired": scene.acquired.to_string(),
        "bbox": bbox,
        "properties": *scene.properties,
    })
}

/// `A/B`, either of which may be `..` or left out; a date or an instant alone is that one.
fn interval(pairs: &Pairs) -> Result<(Option<Timestamp>, Option<Timestamp>), HttpError> {
    let Some(text) = pairs.get("datetime") else { return Ok((None, None)) };
    let refused = || wrong("datetime", text, "two dates such as `2024-06-01/2024-07-01`, or `..` for none");
    let instant = |text: &str| match text.trim() {
        "" | ".." => Ok(None),
        text => Timestamp::parse(text).map(Some).ok_or_else(refused),
    };
    match text.split_once('/') {
        Some((start, end)) => {
            let (start, end) = (instant(start)?, instant(end)?);
            match (start, end) {
                (Some(start), Some(end)) if start > end => Err(refused()),
                range => Ok(range),
            }
        }
        None => {
            let Some(start) = instant(text)? else { return Ok((None, None)) };
            // The whole of a day that is named without a time; else that instant.
            let is_day = !text.contains([':', 'T']);
            Ok((Some(start), Some(Timestamp(start.0 + if is_day { 86_400_000_000 } else { 1 }))))
        }
    }
}
