//! `GET /layers/{id}/value`: what is under a click.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use graticule_common::aoi::{Aoi, Geometry, LON_LAT, Sampling};
use graticule_common::assembly::{Finished, Outcome};
use graticule_common::block::{Block, Kind, Samples};
use graticule_common::literal::Literal;
use graticule_common::proto::v1 as pb;
use serde_json::{Map, Value, json};

use super::Http;
use super::aoi::request;
use super::around::RequestId;
use super::error::HttpError;
use super::formats::{properties, props_of};
use super::gather::gather;
use super::layers::open;
use super::query::{Pairs, wrong};
use crate::access::Identity;
use crate::request::Caller;

/// Degrees on either side of the point: what the published client asks about.
const HALF_DEGREES: f64 = 0.5e-7;
/// Half the width of the world in EPSG:3857, in metres.
const HALF_WORLD: f64 = std::f64::consts::PI * 6_378_137.0;
/// The latitude at which that world ends, in degrees.
const WEB_LAT_MAX: f64 = 85.051_128;
/// Side of a tile in pixels.
const TILE: f64 = 256.0;

/// One pixel: without `z` as small as a point, with it the one that a tile of that zoom shows.
pub(super) async fn value(
    State(http): State<Arc<Http>>,
    Extension(identity): Extension<Identity>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Result<axum::Json<Value>, HttpError> {
    let (lon, lat) = place(&pairs)?;
    let parameters = pairs.parameters()?;
    let zoom = pairs.whole("z", 0, http.rules.zoom_max.into())?;
    let layer = open(&http, &id).await?;
    let aoi = zoom.map_or_else(|| point(lon, lat), |zoom| pixel(lon, lat, zoom));
    let options = pb::Options { display_quality: zoom.is_some(), ..pb::Options::default() };
    let caller = Caller { tenant: identity.tenant, timeout: None, parent: None, id: Some(request_id) };
    let gathered = gather(&http, request(&layer.graft, &aoi, &parameters, options), caller).await?;
    let mut answer = Map::from_iter([
        ("lon".to_owned(), json!(lon)),
        ("lat".to_owned(), json!(lat)),
        ("quality".to_owned(), gathered.quality().into()),
    ]);
    match &gathered.results[..] {
        [only] if only.name.is_empty() => answer.extend(described(only)),
        results => {
            let of = |result: &Finished| (result.name.clone(), Value::Object(described(result)));
            answer.insert("results".to_owned(), Value::Object(results.iter().map(of).collect()));
        }
    }
    Ok(axum::Json(Value::Object(answer)))
}

fn place(pairs: &Pairs) -> Result<(f64, f64), HttpError> {
    let within = |name: &str, most: f64| match pairs.number(name)? {
        Some(degrees) if degrees.abs() <= most => Ok(degrees),
        Some(degrees) => Err(wrong(name, &degrees.to_string(), &format!("degrees from -{most} to {most}"))),
        None => Err(HttpError::invalid(format!("say where: `{name}` in degrees"))),
    };
    Ok((within("lon", 360.0)?, within("lat", 90.0)?))
}

/// A pixel as small as a point.
fn point(lon: f64, lat: f64) -> Aoi {
    // At the poles it is as far as it gets.
    let lat = lat.clamp(HALF_DEGREES - 90.0, 90.0 - HALF_DEGREES);
    let bounds = [lon - HALF_DEGREES, lat - HALF_DEGREES, lon + HALF_DEGREES, lat + HALF_DEGREES];
    aoi(LON_LAT, bounds, Sampling::Shape { rows: 1, cols: 1 })
}

/// The pixel of the tiles of a zoom level that holds a point.
fn pixel(lon: f64, lat: f64, zoom: u64) -> Aoi {
    let lat = lat.clamp(-WEB_LAT_MAX, WEB_LAT_MAX).to_radians();
    let x = (lon + 180.0).rem_euclid(360.0) / 360.0;
    let y = 0.5 - (std::f64::consts::FRAC_PI_4 + lat / 2.0).tan().ln() / std::f64::consts::TAU;
    let pixels = TILE * (zoom as f64).exp2();
    let size = 2.0 * HALF_WORLD / pixels;
    let at = |fraction: f64| (fraction * pixels).floor().clamp(0.0, pixels - 1.0);
    let (west, north) = (at(x) * size - HALF_WORLD, HALF_WORLD - at(y) * size);
    aoi("EPSG:3857", [west, north - size, west + size, north], Sampling::Resolution(size, size))
}

fn aoi(crs: &str, bounds: [f64; 4], sampling: Sampling) -> Aoi {
    Aoi {
        geometry: Geometry::default(),
        bounds: Some(bounds),
        bounds_crs: Some(crs.to_owned()),
        crs: crs.to_owned(),
        sampling,
        align_pixels: true,
        all_touched: true,
    }
}

fn described(result: &Finished) -> Map<String, Value> {
    let members = match &result.outcome {
        Outcome::Value { literal, .. } => json!({ "kind": "number", "value": number_of(literal) }),
        Outcome::Array { block, .. } => {
            let values: Vec<Value> = (0..block.valid().len()).map(|at| sample(block, at)).collect();
            json!({ "kind": "array", "shape": super::formats::axes(block), "values": values })
        }
        Outcome::Raster { block, props, .. } => match block.kind() {
            Kind::Stack { images, bands } => {
                let bands = bands as usize;
                let dicts = match properties(props) {
                    Value::Array(dicts) => dicts,
                    _ => Vec::new(),
                };
                let image = |at: usize| {
                    let values: Vec<Value> =
                        (0..bands).map(|band| sample(block, (at * bands + band) * block.pixels())).collect();
                    let of = |name: &str| dicts.get(at).and_then(|dict| dict.get(name)).cloned();
                    json!({ "id": of("id"), "acquired": of("acquired"), "values": values })
                };
                let images: Vec<Value> = (0..images as usize).map(image).collect();
                json!({ "kind": "stack", "bands": bands_of(result, bands), "images": images })
            }
            kind => {
                let mut bands = bands_of(result, kind.planes());
                for (at, band) in bands.iter_mut().enumerate() {
                    band["value"] = sample(block, at * block.pixels());
                }
                json!({ "kind": "mosaic", "bands": bands })
            }
        },
    };
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Names of bands, and what they mean.
fn bands_of(result: &Finished, count: usize) -> Vec<Value> {
    let known = props_of(&result.outcome).bands().filter(|names| names.len() == count);
    let names = known.unwrap_or_else(|| (1..=count).map(|at| format!("band {at}")).collect());
    let band = |(at, name): (usize, String)| {
        let meaning = result.bands.get(at).filter(|_| result.bands.len() == count);
        let unit = meaning.map(|meaning| meaning.unit.as_str()).filter(|unit| !unit.is_empty());
        let class = |class: &pb::ClassMeaning| json!({ "value": class.value, "name": class.name });
        let classes: Vec<Value> =
            meaning.map(|meaning| meaning.classes.iter().map(class).collect()).unwrap_or_default();
        json!({ "name": name, "unit": unit, "classes": classes })
    };
    names.into_iter().enumerate().map(band).collect()
}

/// A value of a block; null where it is invalid.
fn sample(block: &Block, at: usize) -> Value {
    match (block.valid().get(at), block.samples()) {
        (Some(1), Samples::F32(values)) => values.get(at).map_or(Value::Null, |value| float(*value)),
        (Some(1), Samples::Bool(values)) => values.get(at).is_some_and(|value| *value != 0).into(),
        _ => Value::Null,
    }
}

/// A number with no more digits than it takes. JSON has none that are not finite: they are texts.
pub(super) fn float(value: f32) -> Value {
    match value {
        value if value.is_nan() => "NaN".into(),
        f32::INFINITY => "Infinity".into(),
        f32::NEG_INFINITY => "-Infinity".into(),
        value => value.to_string().parse::<f64>().map_or(Value::Null, Value::from),
    }
}

fn number_of(literal: &Literal) -> Value {
    match literal {
        Literal::Float(value) if !value.is_finite() => float(*value as f32),
        Literal::List(items) => items.iter().map(number_of).collect(),
        value => value.to_json(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pixel_of_a_zoom_level_holds_the_point() {
        let world = 2.0 * HALF_WORLD;
        let aoi = pixel(0.1, 0.1, 0);
        let [west, south, east, north] = aoi.bounds.unwrap();
        assert!(west.abs() < 1e-6 && south.abs() < 1e-6, "{west} {south}");
        assert!((east - world / 256.0).abs() < 1e-6 && (north - world / 256.0).abs() < 1e-6);
        // The corners of the world, and what lies beyond its poles.
        for (lon, lat) in [(-180.0, 90.0), (180.0, -90.0), (179.999_999, 89.0), (360.0, -89.9)] {
            for zoom in [0, 1, 26] {
                let [west, south, east, north] = pixel(lon, lat, zoom).bounds.unwrap();
                assert!(west >= -HALF_WORLD - 1.0 && east <= HALF_WORLD + 1.0 && west < east, "{lon} {zoom}");
                assert!(south >= -HALF_WORLD - 1.0 && north <= HALF_WORLD + 1.0 && south < north, "{lat}");
            }
        }
    }

    #[test]
    fn numbers_have_no_more_digits_than_it_takes() {
        assert_eq!(float(0.1).to_string(), "0.1");
        assert_eq!(float(1e10).to_string(), "10000000000.0");
        assert_eq!(float(f32::NAN), "NaN");
        assert_eq!(float(f32::MIN_POSITIVE).as_f64().map(|value| value as f32), Some(f32::MIN_POSITIVE));
    }
}
