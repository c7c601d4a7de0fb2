//! Layers for other programs: TileJSON and WMTS 1.0.0, which say where the tiles of `tiles.rs` are.
//!
//! Without ranges or classes the tiles are stretched alike over the layer (`stretch=layer`): a map of these
//! programs is no patchwork.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use graticule_common::aoi::xyz::HALF_WORLD;
use serde_json::json;

use super::around::RequestId;
use super::describe::{self, Described};
use super::error::HttpError;
use super::layers;
use super::site::Site;
use super::tile_query::{Auto, SIZE, TileQuery};
use super::{Http, tiles};
use crate::render::Colours;

/// Name of the tile matrix set.
const MATRIX_SET: &str = "WebMercatorQuad";
/// Scale denominator of zoom 0, with pixels of 0.28 mm and 256 of them a tile.
const SCALE_0: f64 = 559_082_264.028_717_8;

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new().route("/layers/{id}/tilejson.json", get(tilejson)).route("/layers/{id}/wmts", get(wmts))
}

/// The parameters of the tiles' addresses, as the caller asks for them, of a layer of so many bands. Bands that
/// have no range have the layer's: neighbours are to fit. The size is that of the tile matrices.
fn style(query: &TileQuery, bands: usize) -> String {
    let mut style = query.clone().without_size().to_text();
    let look = &query.look;
    let is_open = (0..bands.max(1)).any(|band| look.scales.get(band).copied().flatten().is_none())
        && (bands > 1 || matches!(look.colours, Colours::Map(_)));
    if is_open && look.auto == Auto::Tile && !style.contains("stretch=") {
        style.push_str(if style.is_empty() { "stretch=layer" } else { "&stretch=layer" });
    }
    style
}

/// A box in degrees for standards that know none across the antimeridian.
fn within_world([west, south, east, north]: [f64; 4]) -> [f64; 4] {
    match west < -180.0 || east > 180.0 {
        true => [-180.0, south, 180.0, north],
        false => [west, south, east, north],
    }
}

/// What describes a layer, and how its tiles are asked for.
struct Answer {
    described: Described,
    /// Address of the layer.
    layer: String,
    style: String,
}

async fn answer(
    http: &Http,
    path: Result<Path<String>, PathRejection>,
    query: &str,
    Site(base): &Site,
) -> Result<Answer, HttpError> {
    let Path(id) = path.map_err(|_| HttpError::invalid("the address is no text"))?;
    let layer = layers::open(http, &id).await?;
    let query = TileQuery::parse(query)?;
    // It is planned for, as tiles are.
    let _turn = http.admit_layer(&layer).await?;
    let described = describe::describe(http, &layer).await?;
    let bands = described.bands.as_ref().map_or(1, Vec::len);
    Ok(Answer { described, layer: format!("{base}/layers/{id}"), style: style(&query, bands) })
}

async fn tilejson(
    State(http): State<Arc<Http>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    site: Site,
) -> Result<Response, HttpError> {
    let query = query.unwrap_or_default();
    let Answer { described, layer, style } = answer(&http, path, &query, &site).await?;
    let [west, south, east, north] = within_world(described.bounds);
    let [left, _, right, _] = described.bounds;
    let middle = [((left + right) / 2.0 + 180.0).rem_euclid(360.0) - 180.0, (south + north) / 2.0];
    let document = json!({
        "tilejson": "3.0.0",
        "name": described.products.join(", "),
        "scheme": "xyz",
        "tiles": [format!("{layer}/tile/{{z}}/{{x}}/{{y}}.png?{style}")],
        "tileSize": SIZE,
        "minzoom": 0,
        "maxzoom": described.max_zoom,
        "bounds": [west, south, east, north],
        "center": [middle[0], middle[1], described.max_zoom.saturating_sub(5)],
        "vector_layers": [],
    });
    let store = (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(([store], Json(document)).into_response())
}

async fn wmts(
    State(http): State<Arc<Http>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    site: Site,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    // Names of the standard's own parameters are in any case.
    let mut said: HashMap<String, String> = HashMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        said.insert(name.to_ascii_lowercase(), value.into_owned());
    }
    let get = |name: &str| said.get(name).map(String::as_str);
    match get("request") {
        None | Some("GetCapabilities") => match answer(&http, path, &query, &site).await {
            Ok(answer) => {
                let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
                let store = (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                ([kind, store], capabilities(&answer)).into_response()
            }
            Err(error) => error.into_response(),
        },
        Some("GetTile") => {
            let Ok(Path(id)) = path else {
                return HttpError::invalid("the address is no text").into_response();
            };
            let [z, x, y] = ["tilematrix", "tilecol", "tilerow"].map(get);
            let (Some(z), Some(x), Some(y)) = (z, x, y) else {
                let message = "GetTile needs `TileMatrix`, `TileCol` and `TileRow`";
                return HttpError::invalid(message).into_response();
            };
            let extension = match get("format") {
                None | Some("image/png") => "png",
                Some("image/jpeg") => "jpg",
                Some(_) => {
                    return HttpError::invalid("`format` must be `image/png` or `image/jpeg`")
                        .into_response();
                }
            };
            let row = format!("{y}.{extension}");
            // What the capabilities say stands in it already.
            let query = TileQuery::parse(&query).map(|parsed| style(&parsed, 1)).unwrap_or(query);
            tiles::respond(&http, (&id, [z, x, &row]), &query, &headers, &request_id).await
        }
        Some(_) => HttpError::invalid("`request` must be `GetCapabilities` or `GetTile`").into_response(),
    }
}

/// A text in XML.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // Other characters below the space are none of XML.
            c if c < ' ' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn capabilities(Answer { described, layer, style }: &Answer) -> String {
    let (layer, style) = (xml(layer), xml(style));
    let title = match described.products.is_empty() {
        true => "layer".to_owned(),
        false => xml(&described.products.join(", ")),
    };
    let [west, south, east, north] = within_world(described.bounds);
    // The limit of the projection.
    let (south, north) = (south.clamp(-85.051_128, 85.051_128), north.clamp(-85.051_128, 85.051_128));
    let mut matrices = String::new();
    for zoom in 0..=described.max_zoom {
        let tiles = 1u64 << zoom;
        let scale = SCALE_0 / tiles as f64;
        // Writing to a string does not fail.
        _ = write!(
            matrices,
            "
      <TileMatrix>
        <ows:Identifier>{zoom}</ows:Identifier>
        <ScaleDenominator>{scale}</ScaleDenominator>
        <TopLeftCorner>-{HALF_WORLD} {HALF_WORLD}</TopLeftCorner>
        <TileWidth>{SIZE}</TileWidth>
        <TileHeight>{SIZE}</TileHeight>
        <MatrixWidth>{tiles}</MatrixWidth>
        <MatrixHeight>{tiles}</MatrixHeight>
      </TileMatrix>"
        );
    }
    let kvp = format!("{layer}/wmts?{style}{}", if style.is_empty() { "" } else { "&amp;" });
    let operation = |name: &str| {
        format!(
            "
    <ows:Operation name=\"{name}\">
      <ows:DCP><ows:HTTP><ows:Get xlink:href=\"{kvp}\">
        <ows:Constraint name=\"GetEncoding\"><ows:AllowedValues><ows:Value>KVP</ows:Value></ows:AllowedValues></ows:Constraint>
      </ows:Get></ows:HTTP></ows:DCP>
    </ows:Operation>"
        )
    };
    let resources: String = [("image/png", "png"), ("image/jpeg", "jpg")]
        .map(|(kind, extension)| {
            format!(
                "
      <ResourceURL format=\"{kind}\" resourceType=\"tile\" template=\"{layer}/tile/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.{extension}?{style}\"/>"
            )
        })
        .concat();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<Capabilities xmlns=\"http://www.opengis.net/wmts/1.0\" xmlns:ows=\"http://www.opengis.net/ows/1.1\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" version=\"1.0.0\">
  <ows:ServiceIdentification>
    <ows:Title>Graticule</ows:Title>
    <ows:ServiceType>OGC WMTS</ows:ServiceType>
    <ows:ServiceTypeVersion>1.0.0</ows:ServiceTypeVersion>
  </ows:ServiceIdentification>
  <ows:OperationsMetadata>{}{}
  </ows:OperationsMetadata>
  <Contents>
    <Layer>
      <ows:Title>{title}</ows:Title>
      <ows:WGS84BoundingBox>
        <ows:LowerCorner>{west} {south}</ows:LowerCorner>
        <ows:UpperCorner>{east} {north}</ows:UpperCorner>
      </ows:WGS84BoundingBox>
      <ows:Identifier>layer</ows:Identifier>
      <Style isDefault=\"true\"><ows:Identifier>default</ows:Identifier></Style>
      <Format>image/png</Format>
      <Format>image/jpeg</Format>
      <TileMatrixSetLink><TileMatrixSet>{MATRIX_SET}</TileMatrixSet></TileMatrixSetLink>{resources}
    </Layer>
    <TileMatrixSet>
      <ows:Identifier>{MATRIX_SET}</ows:Identifier>
      <ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>
      <WellKnownScaleSet>http://www.opengis.net/def/wkss/OGC/1.0/GoogleMapsCompatible</WellKnownScaleSet>{matrices}
    </TileMatrixSet>
  </Contents>
</Capabilities>
",
        operation("GetCapabilities"),
        operation("GetTile"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_other_programs_are_no_patchwork() {
        let style_of = |query: &str, bands| style(&TileQuery::parse(query).unwrap(), bands);
        let of = |query: &str| style_of(query, 1);
        assert_eq!(of(""), "stretch=layer");
        assert_eq!(of("colormap=magma"), "colormap=magma&stretch=layer");
        assert_eq!(of("stretch=tile"), "stretch=tile");
        assert_eq!(of("stretch=0,1"), "stretch=0%2C1");
        assert!(!of("scales=[[0,1]]").contains("stretch"));
        assert_eq!(of("request=GetCapabilities&service=WMTS"), "stretch=layer");
        // Every band without a range needs the layer's, and the matrices have the size.
        assert!(style_of("scales=[[0,1]]", 3).contains("stretch=layer"));
        assert!(!style_of("scales=[[0,1],[0,1],[0,1]]", 3).contains("stretch"));
        assert_eq!(of("size=512"), "stretch=layer");
    }

    #[test]
    fn boxes_end_at_the_antimeridian() {
        assert_eq!(within_world([170.0, -20.0, 190.0, -10.0]), [-180.0, -20.0, 180.0, -10.0]);
        assert_eq!(within_world([10.0, 1.0, 20.0, 2.0]), [10.0, 1.0, 20.0, 2.0]);
    }
}
