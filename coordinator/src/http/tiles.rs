//! Tiles of layers: pictures for maps, and arrays.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use graticule_common::aoi::xyz::XyzTile;
use graticule_common::assembly::{Finished, Outcome};
use graticule_common::block::{Block, Kind, Samples};
use graticule_common::error::{ErrorClass, listing};
use graticule_common::hash::Hasher;
use graticule_common::proto::v1 as pb;
use graticule_common::versions;
use prost::Message as _;
use tokio::time::Instant;

use super::answers::Held;
use super::around::RequestId;
use super::error::HttpError;
use super::gather::{Gathered, Share, gather};
use super::layers::{self, Layer, QUALITY};
use super::raster::Raster;
use super::tile_query::{SIZE, SIZE_2X, TileQuery};
use super::{Http, aoi, formats, stretch};
use crate::planning::blocking;
use crate::render::{self, RenderError, TileStyle};
use crate::request::Caller;

/// Time for a tile: who looks at a map has moved on by then.
const TILE_WITHIN: Duration = Duration::from_secs(30);
/// Attempts at a tile after failures that pass.
const RETRIES_MAX: u32 = 2;
/// How long a client may show a tile before it asks whether it is still the same, in seconds. The answer to
/// that costs no computation.
const FRESH_SECONDS: u32 = 60;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new().route("/layers/{id}/tile/{z}/{x}/{y}", get(tile))
}

/// What a tile is given out as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Npy,
    GeoTiff,
}

impl Format {
    const NAMES: [(&'static str, Format); 6] = [
        ("png", Format::Png),
        ("jpg", Format::Jpeg),
        ("jpeg", Format::Jpeg),
        ("npy", Format::Npy),
        ("tif", Format::GeoTiff),
        ("tiff", Format::GeoTiff),
    ];

    fn is_picture(self) -> bool {
        matches!(self, Format::Png | Format::Jpeg)
    }

    fn media_type(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::Npy => "application/x-npy",
            Format::GeoTiff => "image/tiff; application=geotiff",
        }
    }
}

/// Which tile, and as what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) tile: XyzTile,
    pub(super) format: Format,
    /// Whether the address asks for twice the resolution.
    is_2x: bool,
}

impl Place {
    /// Reads `{z}/{x}/{y}[@2x][.EXTENSION]`.
    pub(super) fn parse(z: &str, x: &str, y: &str) -> Result<Place, HttpError> {
        let (y, format) = match y.split_once('.') {
            None => (y, Format::Png),
            Some((y, extension)) => {
                let known = Format::NAMES.iter().find(|(name, _)| *name == extension);
                let names = || listing(Format::NAMES.iter().map(|(name, _)| format!(".{name}")));
                let unknown = || HttpError::invalid(format!("tiles end with {}, or with nothing", names()));
                (y, known.ok_or_else(unknown)?.1)
            }
        };
        let (y, is_2x) = match y.strip_suffix("@2x") {
            Some(y) => (y, true),
            None => (y, false),
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| digits)
        };
        let numbers =
            || HttpError::invalid("a tile is three whole numbers, `{z}/{x}/{y}`, such as 12/2200/1343");
        let [z, x, y] = [z, x, y].map(|text| number(text).ok_or_else(numbers));
        let tile = XyzTile::new(z?, x?, y?).map_err(|error| HttpError::invalid(error.to_string()))?;
        Ok(Place { tile, format, is_2x })
    }
}

/// A tile that is asked for.
struct Asked {
    layer: Layer,
    place: Place,
    query: TileQuery,
    size: u32,
    /// When it must be there.
    deadline: Instant,
    /// Id of the request.
    request_id: Arc<str>,
}

async fn tile(
    State(http): State<Arc<Http>>,
    path: Result<Path<(String, String, String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
) -> Response {
    let Ok(Path((id, z, x, y))) = path else {
        return HttpError::invalid("the address is no text").into_response();
    };
    respond(&http, (&id, [&z, &x, &y]), query.as_deref().unwrap_or_default(), &headers, &request_id).await
}

/// A tile or, where it fails, a picture of why.
pub(super) async fn respond(
    http: &Arc<Http>,
    (id, [z, x, y]): (&str, [&str; 3]),
    query: &str,
    headers: &HeaderMap,
    request_id: &Arc<str>,
) -> Response {
    let deadline = Instant::now() + TILE_WITHIN;
    // Pictures of errors have the size that was asked for, as far as that could be read.
    let mut size = SIZE;
    let answering = async {
        let layer = layers::open(http, id).await?;
        let place = Place::parse(z, x, y)?;
        size = if place.is_2x { SIZE_2X } else { SIZE };
        let query = TileQuery::parse(query)?;
        size = match (query.size, place.is_2x) {
            (Some(SIZE), true) => {
                return Err(HttpError::invalid("`@2x` is a size of 512; leave `size=256` out, or `@2x`"));
            }
            (asked, _) => asked.unwrap_or(size),
        };
        let request_id = request_id.clone();
        answer(http, Asked { layer, place, query, size, deadline, request_id }, headers).await
    };
    let answered = tokio::time::timeout_at(deadline, answering).await.unwrap_or_else(|_| {
        let message = format!(
            "the tile took longer than {} s; look at a smaller area, or select fewer scenes",
            TILE_WITHIN.as_secs()
        );
        Err(HttpError::new(ErrorClass::Timeout, message))
    });
    match answered {
        Ok(response) => response,
        Err(error) if wants_json(headers) => error.into_response(),
        Err(error) => picture_of(&error, size, request_id),
    }
}

/// Whether the caller reads errors as JSON instead of looking at them.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.contains("application/json") && !accept.contains("image/")
}

/// An error as a picture: who looks at a map sees nothing else.
pub(super) fn picture_of(error: &HttpError, size: u32, request_id: &str) -> Response {
    let status = error.status();
    let title = format!("{} {}", status.as_u16(), error.class.name().replace('_', " "));
    let foot = format!("request {request_id}");
    let Ok(picture) = render::message(size, &title, &error.message, &foot).png() else {
        return error.clone().into_response();
    };
    let mut response = (status, picture).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Format::Png.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = error.retry_after_header() {
        headers.insert(header::RETRY_AFTER, after);
    }
    response
}

async fn answer(http: &Arc<Http>, asked: Asked, headers: &HeaderMap) -> Result<Response, HttpError> {
    let tag = tag(http, &asked);
    if let Some(tag) = tag.as_ref().filter(|tag| is_known(headers, tag)) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        cacheable(&mut response, Some(tag));
        return Ok(response);
    }
    let turn = http.admit_layer(&asked.layer).await?;
    let is_display = asked.query.is_display.unwrap_or(asked.place.format.is_picture());
    let made = make(http, &asked, is_display).await?;
    let timing = made.timing;
    let mut response = made.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asked.place.format.media_type()));
    let quality = if made.is_display { "display" } else { "exact" };
    headers.insert(QUALITY, HeaderValue::from_static(quality));
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        headers.insert(SERVER_TIMING, timing);
    }
    cacheable(&mut response, tag.as_ref());
    // Under way, and in memory, until it is sent.
    Ok(Held::by(response, (turn, made.share)))
}

/// What can change a pixel without a change of layer or catalog. To ask all ops takes longer than a tile may.
pub(super) fn engine() -> &'static [u8] {
    static ENGINE: LazyLock<Vec<u8>> = LazyLock::new(|| versions::own().encode_to_vec());
    &ENGINE
}

/// What a tile's bytes follow from; `None` where the catalog does not know whether its answers changed.
fn tag(http: &Http, asked: &Asked) -> Option<HeaderValue> {
    let generation = http.catalog.generation()?;
    let (zoom, col, row) = asked.place.tile.numbers();
    let mut hasher = Hasher::new("tile");
    hasher.bytes(engine()).str(&asked.layer.id).bytes(&generation.to_le_bytes());
    [zoom, col, row, asked.size].into_iter().for_each(|number| _ = hasher.int(number.into()));
    hasher.str(asked.place.format.media_type()).bytes(asked.query.hash().as_bytes());
    HeaderValue::from_str(&format!("\"{}\"", hasher.finish())).ok()
}

/// Whether the client has what a tag stands for.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let mut known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.any(|list| {
        let mut tags = list.split(',').map(|known| known.trim().trim_start_matches("W/"));
        tags.any(|known| known == "*" || known.as_bytes() == tag.as_bytes())
    })
}

fn cacheable(response: &mut Response, tag: Option<&HeaderValue>) {
    let headers = response.headers_mut();
    match tag {
        Some(tag) => {
            headers.insert(header::ETAG, tag.clone());
            let text = format!("private, max-age={FRESH_SECONDS}");
            if let Ok(text) = HeaderValue::from_str(&text) {
                headers.insert(header::CACHE_CONTROL, text);
            }
        }
        None => _ = headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    }
}

/// A tile, ready to be sent.
struct Made {
    bytes: Bytes,
    /// Its memory.
    share: Share,
    is_display: bool,
    /// How long it took, as `Server-Timing` has it.
    timing: String,
}

async fn make(http: &Arc<Http>, asked: &Asked, is_display: bool) -> Result<Made, HttpError> {
    let look = &asked.query.look;
    let is_picture = asked.place.format.is_picture();
    let own = computed(http, asked, &asked.layer, is_display);
    let opacity = async {
        let Some(id) = asked.query.alpha.as_ref().filter(|_| is_picture) else { return Ok(None) };
        let layer = layers::open(http, id).await?;
        computed(http, asked, &layer, is_display).await.map(Some)
    };
    let ranges = async {
        if !is_picture || !look.needs_layer() {
            return Ok(Vec::new());
        }
        stretch::ranges(http, &asked.layer, &asked.query.parameters).await
    };
    let (own, opacity, ranges) = tokio::try_join!(own, opacity, ranges)?;
    let is_display = own.is_display || opacity.as_ref().is_some_and(|opacity| opacity.is_display);
    let summary = own.summary.clone();
    let (style, format) = (look.style(&ranges), asked.place.format);
    let geotiff = http.geotiff.clone();
    let started = Instant::now();
    let encoding = move || -> Result<(Bytes, Share), HttpError> {
        let opacity = opacity.as_ref().map(raster).transpose()?.map(|(block, _)| block);
        let bytes = match format {
            Format::Png | Format::Jpeg => picture(raster(&own)?.0, &style, opacity, format)?.into(),
            Format::Npy => npy(raster(&own)?.0).into(),
            Format::GeoTiff => {
                let writer = geotiff.ok_or_else(|| {
                    let message = "this server writes no GeoTIFF; ask for `.npy`";
                    HttpError::new(ErrorClass::Unsupported, message)
                })?;
                let (block, finished) = raster(&own)?;
                let Outcome::Raster { grid, props, .. } = &finished.outcome else {
                    return Err(HttpError::internal("a raster is none"));
                };
                let raster = Raster { grid, block, props, bands: &finished.bands };
                writer.geotiff(raster).map_err(|error| HttpError::of(&error))?
            }
        };
        Ok((bytes, own.share))
    };
    let (bytes, share) = blocking(encoding).await??;
    let timing = format!(
        "compute;dur={:.1}, queue;dur={:.1}, read;dur={:.1}, eval;dur={:.1}, encode;dur={:.1}",
        summary.wall_ms,
        summary.queued_ms,
        summary.read_ms,
        summary.eval_ms,
        started.elapsed().as_secs_f64() * 1e3
    );
    Ok(Made { bytes, share, is_display, timing })
}

/// Computes a layer on a tile; what fails and may pass is tried again.
async fn computed(
    http: &Http,
    asked: &Asked,
    layer: &Layer,
    is_display: bool,
) -> Result<Gathered, HttpError> {
    let options =
        pb::Options { display_quality: is_display, no_cache: asked.query.no_cache, ..pb::Options::default() };
    let area = asked.place.tile.aoi(asked.size);
    let request = aoi::request(&layer.graft, &area, &asked.query.parameters, options);
    let mut retries = 0;
    loop {
        let timeout = Some(asked.deadline.saturating_duration_since(Instant::now()));
        let id = Some(asked.request_id.clone());
        let caller = Caller { tenant: layer.tenant.clone(), timeout, parent: None, id };
        let error = match gather(http, request.clone(), caller).await {
            Err(error) if error.is_retryable() && retries < RETRIES_MAX => error,
            ended => return ended,
        };
        retries += 1;
        let again = Instant::now() + error.retry_after.unwrap_or(Duration::from_secs(1));
        if again >= asked.deadline {
            return Err(error);
        }
        tokio::time::sleep_until(again).await;
    }
}

/// The one raster of a result.
pub(super) fn raster(gathered: &Gathered) -> Result<(&Block, &Finished), HttpError> {
    let [finished] = &gathered.results[..] else {
        let names = listing(gathered.results.iter().map(|result| &result.name));
        let message =
            format!("the layer has several results ({names}), a tile shows one; make a layer of that");
        return Err(HttpError::new(ErrorClass::Impossible, message));
    };
    let kind = match &finished.outcome {
        Outcome::Raster { block, .. } => return Ok((block, finished)),
        Outcome::Array { block, .. } => block.kind(),
        Outcome::Value { .. } => Kind::Number,
    };
    Err(RenderError::NotAMosaic { kind }.into())
}

/// Names of the bands of a raster: those it has, else their numbers, from 1.
pub(super) fn band_names(finished: &Finished, block: &Block) -> Vec<String> {
    let count = block.kind().bands().unwrap_or(0) as usize;
    let named = match &finished.outcome {
        Outcome::Raster { props, .. } => props.dicts().next().and_then(|dict| {
            let names = dict.get("bands")?.as_array()?.iter();
            let names: Vec<String> = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
            (names.len() == count).then_some(names)
        }),
        Outcome::Value { .. } | Outcome::Array { .. } => None,
    };
    named.unwrap_or_else(|| (1..=count).map(|band| format!("band {band}")).collect())
}

fn picture(
    block: &Block,
    style: &TileStyle,
    opacity: Option<&Block>,
    format: Format,
) -> Result<Vec<u8>, RenderError> {
    let picture = render::paint(block, style, opacity)?;
    match format {
        Format::Jpeg => picture.jpeg(),
        Format::Png | Format::Npy | Format::GeoTiff => picture.png(),
    }
}

/// A block as an `.npy` file: float32 of shape (bands, rows, columns), for a stack (images, bands, rows,
/// columns). What is not valid is NaN, truth values are 0 and 1.
fn npy(block: &Block) -> Vec<u8> {
    let (rows, cols) = block.shape();
    let kind = block.kind();
    let axes = kind.images().into_iter().chain(kind.bands()).chain([rows, cols]).map(u64::from);
    let mut out = formats::npy::header("<f4", &axes.collect::<Vec<_>>());
    out.reserve(4 * block.valid().len());
    let mut put = |value: f32, valid: &u8| {
        let value = if *valid == 1 { value } else { f32::NAN };
        out.extend_from_slice(&value.to_le_bytes());
    };
    match block.samples() {
        Samples::F32(values) => {
            values.iter().zip(block.valid()).for_each(|(value, valid)| put(*value, valid))
        }
        Samples::Bool(values) => {
            values.iter().zip(block.valid()).for_each(|(value, valid)| put(f32::from(*value), valid));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_tiles() {
        let place = |text: &str| {
            let parts: Vec<&str> = text.splitn(3, '/').collect();
            Place::parse(parts[0], parts[1], parts[2])
        };
        for (text, format, is_2x) in [
            ("3/7/0", Format::Png, false),
            ("3/7/0.png", Format::Png, false),
            ("3/7/0@2x.png", Format::Png, true),
            ("3/7/0@2x", Format::Png, true),
            ("3/7/0.jpg", Format::Jpeg, false),
            ("3/7/0.npy", Format::Npy, false),
            ("3/7/0@2x.tif", Format::GeoTiff, true),
        ] {
            let tile = XyzTile::new(3, 7, 0).unwrap();
            assert_eq!(place(text), Ok(Place { tile, format, is_2x }), "{text}");
        }
        for text in [
            "3/8/0",
            "3/0/8",
            "27/0/0",
            "-1/0/0",
            "+1/0/0",
            "a/0/0",
            "3//0",
            "3/0/",
            "3/0/0.gif",
            "3/0/0.",
            "3/0/0@3x",
            "3/0/@2x",
            "3/0/0@2x@2x",
            "99999999999/0/0",
            "3/4294967297/0",
            "3/1.5/0",
            "3/0/0.png.png",
        ] {
            let error = place(text).unwrap_err();
            assert_eq!(error.status().as_u16(), 400, "{text}: {}", error.message);
        }
    }

    #[test]
    fn arrays_are_npy_with_nan_for_what_is_not_valid() {
        let block = Block::new(Kind::Mosaic { bands: 1 }, (1, 2), Samples::F32(vec![1.5, 9.0]), vec![1, 0]);
        let bytes = npy(&block);
        assert_eq!(bytes.len() % 64, 8);
        let text = String::from_utf8_lossy(&bytes[10..bytes.len() - 8]).into_owned();
        assert_eq!(text.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2,), }");
        let values = bytes[bytes.len() - 8..].as_chunks::<4>().0;
        assert_eq!(f32::from_le_bytes(values[0]), 1.5);
        assert!(f32::from_le_bytes(values[1]).is_nan());
    }

    #[test]
    fn a_known_tag_is_recognised() {
        let tag = HeaderValue::from_static("\"abc\"");
        let asked = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            is_known(&headers, &tag)
        };
        assert!(asked("\"abc\"") && asked("W/\"abc\"") && asked("\"x\", \"abc\"") && asked("*"));
        assert!(!asked("\"abd\"") && !asked("abc") && !is_known(&HeaderMap::new(), &tag));
    }
}
