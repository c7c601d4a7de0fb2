//! One stretch for all tiles of a layer, from its statistics; legends and colour maps.
//!
//! Statistics are computed on an overview grid of the layer's products: at most 512 x 512 pixels of
//! EPSG:3857 around their footprints, in display quality. They are computed once: by whoever asks first,
//! and kept in the object store for all coordinators, by layer, parameters and generation of the catalog.
//! What was kept for older generations stays; it is small, and nothing reads it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use graticule_common::aoi::xyz::{HALF_WORLD, WEB_MERCATOR};
use graticule_common::aoi::{Aoi, Geometry, Sampling};
use graticule_common::assembly::Outcome;
use graticule_common::block::{Block, DType, Samples};
use graticule_common::graft::Parameters;
use graticule_common::hash::{ContentHash, Hasher};
use graticule_common::proto::v1 as pb;
use graticule_common::wire;
use moka::sync::Cache;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::error::HttpError;
use super::gather::gather;
use super::layers::{self, Layer};
use super::tile_query::{Range, TileQuery};
use super::{Http, aoi, describe, tiles};
use crate::objects::{Made, ObjectError};
use crate::planning::blocking;
use crate::render::{Colormap, legend};
use crate::request::Caller;

/// Rows or columns of the overview grid.
const SIDE_MAX: f64 = 512.0;
/// Latitude at which EPSG:3857 ends.
const LAT_MAX: f64 = 85.051_128_779_806_6;
/// Bins of a histogram.
const BINS: usize = 64;
/// The percentiles that a layer is stretched between.
const STRETCH: [(&str, f64); 2] = [("2", 0.02), ("98", 0.98)];
/// Time for statistics.
const WITHIN: Duration = Duration::from_secs(60);
/// Where statistics are in the store.
const PREFIX: &str = "statistics";
/// Bytes of a document there: of 1,024 bands.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of statistics that are remembered.
const REMEMBERED_BYTES_MAX: u64 = 16 << 20;
/// Colours of a swatch.
const SWATCH: usize = 16;

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/layers/{id}/statistics", get(statistics))
        .route("/layers/{id}/legend.png", get(legend_of))
        .route("/colormaps", get(colormaps))
}

/// Statistics of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Statistics {
    /// Where the values are from.
    grid: GridOf,
    /// That overviews may have been read.
    quality: String,
    dtype: String,
    bands: Vec<BandStatistics>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct GridOf {
    crs: String,
    /// West, south, east, north.
    bounds: [f64; 4],
    rows: u32,
    cols: u32,
}

/// Statistics of a band's valid, finite values, in all images of a stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BandStatistics {
    name: String,
    /// Values.
    valid: u64,
    /// Pixels.
    count: u64,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    /// Of the population.
    std: Option<f64>,
    /// The values at these shares of the sorted ones, the nearest rank.
    percentiles: HashMap<String, Option<f64>>,
    histogram: Histogram,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Histogram {
    /// Lower end of the first bin and upper end of the last.
    edges: [Option<f64>; 2],
    counts: Vec<u64>,
}

/// Statistics that are known, and those that are being computed.
#[derive(Debug)]
pub(crate) struct Known {
    remembered: Cache<ContentHash, Arc<Statistics>>,
    under_way: Mutex<HashMap<ContentHash, Cell>>,
}

impl Default for Known {
    fn default() -> Self {
        let band_bytes = size_of::<BandStatistics>() + 8 * BINS + 512;
        let weight = move |_: &ContentHash, statistics: &Arc<Statistics>| {
            u32::try_from(statistics.bands.len() * band_bytes + 256).unwrap_or(u32::MAX)
        };
        let remembered = Cache::builder().max_capacity(REMEMBERED_BYTES_MAX).weigher(weight).build();
        Known { remembered, under_way: Mutex::default() }
    }
}

impl Known {
    fn under_way(&self) -> MutexGuard<'_, HashMap<ContentHash, Cell>> {
        // Consistent after every statement, so a panic elsewhere does not spoil it.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Cell = Arc<OnceCell<Arc<Statistics>>>;

/// Everybody who waits for the same statistics; the last one clears up.
struct Sharing {
    http: Arc<Http>,
    key: ContentHash,
    cell: Cell,
}

impl Drop for Sharing {
    fn drop(&mut self) {
        let mut under_way = self.http.statistics.under_way();
        // Given up under the lock: of two that end at once, one is the last.
        self.cell = Cell::default();
        if under_way.get(&self.key).is_some_and(|cell| Arc::strong_count(cell) == 1) {
            under_way.remove(&self.key);
        }
    }
}

/// The ranges of a layer's bands: from their 2nd to their 98th percentile; truth values from false to true.
///
/// # Errors
/// Those of [`of_layer`].
pub(super) async fn ranges(
    http: &Arc<Http>,
    layer: &Layer,
    parameters: &Parameters,
) -> Result<Vec<Range>, HttpError> {
    let statistics = of_layer(http, layer, parameters).await?;
    let is_bool = statistics.dtype == DType::Bool.name();
    let range = |band: &BandStatistics| {
        let at = |name: &str| band.percentiles.get(name).copied().flatten();
        match STRETCH.map(|(name, _)| at(name)) {
            [Some(low), Some(high)] if !is_bool => (low, high),
            _ => (0.0, 1.0),
        }
    };
    Ok(statistics.bands.iter().map(range).collect())
}

/// Statistics of a layer with values for its parameters. Once begun they are finished, though those who asked
/// have gone: a tile may have less time than they take, and the next one finds them.
///
/// # Errors
/// Those of computing the layer; what is no raster has none.
pub(super) async fn of_layer(
    http: &Arc<Http>,
    layer: &Layer,
    parameters: &Parameters,
) -> Result<Arc<Statistics>, HttpError> {
    let parameters = used(layer, parameters);
    let Some(generation) = http.catalog.generation() else {
        return compute(http, layer, &parameters).await.map(Arc::new);
    };
    let key = {
        let mut hasher = Hasher::new("statistics");
        hasher.str(&layer.id);
        for (name, value) in &parameters {
            hasher.str(name).bytes(&wire::literal_to(value).encode_to_vec());
        }
        hasher.bytes(&generation.to_le_bytes()).bytes(tiles::engine());
        hasher.finish()
    };
    if let Some(statistics) = http.statistics.remembered.get(&key) {
        return Ok(statistics);
    }
    let cell = http.statistics.under_way().entry(key).or_default().clone();
    let (sharing, layer) = (Sharing { http: http.clone(), key, cell }, layer.clone());
    let making = async move {
        let http = &sharing.http;
        let made = sharing.cell.get_or_try_init(|| async {
            let statistics = match parameters.is_empty() {
                true => kept(http, &layer, key).await?,
                // Of as many as there are values: they are not kept for good.
                false => compute(http, &layer, &parameters).await?,
            };
            let statistics = Arc::new(statistics);
            http.statistics.remembered.insert(key, statistics.clone());
            Ok::<_, HttpError>(statistics)
        });
        made.await.cloned()
    };
    tokio::spawn(making).await.map_err(HttpError::internal)?
}

/// The parameters whose names stand in a graft: others change nothing, and would be statistics of their own.
fn used(layer: &Layer, parameters: &Parameters) -> Parameters {
    let stands = |name: &str| {
        let name = Value::from(name).to_string();
        layer.graft.windows(name.len()).any(|window| window == name.as_bytes())
    };
    let used = parameters.iter().filter(|(name, _)| stands(name));
    used.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Statistics from the store; if there are none yet, computed, and kept there.
async fn kept(http: &Http, layer: &Layer, key: ContentHash) -> Result<Statistics, HttpError> {
    let name = format!("{PREFIX}/{key}.json");
    if let Some(statistics) = stored(http, &name).await? {
        return Ok(statistics);
    }
    let statistics = compute(http, layer, &Parameters::new()).await?;
    let document = serde_json::to_vec(&statistics).map_err(HttpError::internal)?;
    match http.objects.put_new(&name, Bytes::from(document)).await? {
        Made::Created | Made::Same => Ok(statistics),
        // Somebody else was first: all show what that one found.
        Made::Taken => Ok(stored(http, &name).await?.unwrap_or(statistics)),
    }
}

async fn stored(http: &Http, name: &str) -> Result<Option<Statistics>, HttpError> {
    match http.objects.get(name, DOCUMENT_BYTES_MAX).await {
        // What cannot be read is computed again.
        Ok(document) => Ok(serde_json::from_slice(&document).ok()),
        Err(ObjectError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn compute(http: &Http, layer: &Layer, parameters: &Parameters) -> Result<Statistics, HttpError> {
    let bounds = describe::describe(http, layer).await?.bounds;
    let area = overview(bounds);
    let options = pb::Options { display_quality: true, ..pb::Options::default() };
    let request = aoi::request(&layer.graft, &area, parameters, options);
    let caller = Caller { tenant: layer.tenant.clone(), timeout: Some(WITHIN), parent: None, id: None };
    let gathered = gather(http, request, caller).await?;
    let counting = move || -> Result<Statistics, HttpError> {
        let (block, finished) = tiles::raster(&gathered)?;
        let Outcome::Raster { grid, .. } = &finished.outcome else {
            return Err(HttpError::internal("a raster is none"));
        };
        let grid = GridOf {
            crs: WEB_MERCATOR.to_owned(),
            bounds: area.bounds.unwrap_or_default(),
            rows: grid.rows(),
            cols: grid.cols(),
        };
        let bands = bands(block, &tiles::band_names(finished, block));
        let dtype = block.samples().dtype().name().to_owned();
        Ok(Statistics { grid, quality: "display".to_owned(), dtype, bands })
    };
    blocking(counting).await?
}

/// The overview grid of an area in degrees: square pixels of EPSG:3857, at most [`SIDE_MAX`] a side.
fn overview([west, south, east, north]: [f64; 4]) -> Aoi {
    // Across the antimeridian: all around.
    let is_across = west > east || east > 180.0 || west < -180.0;
    let (west, east) = if is_across { (-180.0, 180.0) } else { (west, east) };
    let x = |lon: f64| lon / 180.0 * HALF_WORLD;
    let y = |lat: f64| {
        let lat = lat.clamp(-LAT_MAX, LAT_MAX).to_radians();
        (lat / 2.0 + std::f64::consts::FRAC_PI_4).tan().ln() / std::f64::consts::PI * HALF_WORLD
    };
    /// A place without extent has a pixel of this size, in metres.
    const EXTENT_MIN: f64 = 1.0;
    let (left, right, bottom, top) = (x(west), x(east), y(south), y(north));
    let (right, top) = (right.max(left + EXTENT_MIN), top.max(bottom + EXTENT_MIN));
    let resolution = (right - left).max(top - bottom) / SIDE_MAX;
    let pixels = |extent: f64| ((extent / resolution).round() as u64).clamp(1, SIDE_MAX as u64);
    let (cols, rows) = (pixels(right - left), pixels(top - bottom));
    Aoi {
        geometry: Geometry::default(),
        bounds: Some([left, bottom, right, top]),
        bounds_crs: Some(WEB_MERCATOR.to_owned()),
        crs: WEB_MERCATOR.to_owned(),
        sampling: Sampling::Shape { rows, cols },
        align_pixels: false,
        all_touched: false,
    }
}

/// Statistics of every band.
fn bands(block: &Block, names: &[String]) -> Vec<BandStatistics> {
    let plane = block.pixels();
    let planes = block.kind().planes();
    let value = |at: usize| match block.samples() {
        Samples::F32(values) => values[at],
        Samples::Bool(values) => f32::from(values[at]),
    };
    let of_band = |(band, name): (usize, &String)| {
        let mut values: Vec<f32> = Vec::new();
        for image in (band..planes).step_by(names.len()) {
            let here = image * plane..(image + 1) * plane;
            let shown = here.filter(|at| block.valid()[*at] == 1).map(value);
            values.extend(shown.filter(|value| value.is_finite()));
        }
        let count = (band..planes).step_by(names.len()).count() * plane;
        values.sort_unstable_by(f32::total_cmp);
        statistics_of(name, count, &values)
    };
    names.iter().enumerate().map(of_band).collect()
}

fn statistics_of(name: &str, count: usize, sorted: &[f32]) -> BandStatistics {
    let number = sorted.len() as f64;
    let some = |value: f64| (!sorted.is_empty()).then_some(value);
    let mean = sorted.iter().map(|value| f64::from(*value)).sum::<f64>() / number;
    let squares = sorted.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();
    let min = sorted.first().map(|value| f64::from(*value));
    let max = sorted.last().map(|value| f64::from(*value));
    let at = |share: f64| {
        let last = sorted.len().checked_sub(1)?;
        Some(f64::from(sorted[(share * last as f64).round() as usize]))
    };
    let mut counts = vec![0; BINS];
    if let (Some(min), Some(max)) = (min, max) {
        let width = (max - min) / BINS as f64;
        for value in sorted {
            let bin = if width > 0.0 { ((f64::from(*value) - min) / width) as usize } else { 0 };
            counts[bin.min(BINS - 1)] += 1;
        }
    }
    BandStatistics {
        name: name.to_owned(),
        valid: sorted.len() as u64,
        count: count as u64,
        min,
        max,
        mean: some(mean),
        std: some((squares / number).sqrt()),
        percentiles: STRETCH.iter().map(|(name, share)| ((*name).to_owned(), at(*share))).collect(),
        histogram: Histogram { edges: [min, max], counts },
    }
}

async fn statistics(
    State(http): State<Arc<Http>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<Statistics>, HttpError> {
    let Path(id) = path.map_err(|_| HttpError::invalid("the address is no text"))?;
    let layer = layers::open(&http, &id).await?;
    let query = TileQuery::parse(query.as_deref().unwrap_or_default())?;
    let computing = of_layer(&http, &layer, &query.parameters);
    Ok(Json(Statistics::clone(&*computing.await?)))
}

async fn legend_of(
    State(http): State<Arc<Http>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpError> {
    let Path(id) = path.map_err(|_| HttpError::invalid("the address is no text"))?;
    let layer = layers::open(&http, &id).await?;
    let query = TileQuery::parse(query.as_deref().unwrap_or_default())?;
    let ranges = match query.look.needs_layer() {
        true => {
            let _turn = http.admit_layer(&layer).await?;
            ranges(&http, &layer, &query.parameters).await?
        }
        false => Vec::new(),
    };
    let picture = legend(&query.look.style(&ranges)).png()?;
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
    let store = (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
    Ok(([kind, store], picture).into_response())
}

async fn colormaps() -> Response {
    let map = |map: Colormap| {
        let colours = map.colours();
        let last = colours.len() - 1;
        let colour = |at: usize| {
            let [red, green, blue] = colours[at * last / (SWATCH - 1)];
            format!("#{red:02x}{green:02x}{blue:02x}")
        };
        json!({ "name": map.name(), "colors": (0..SWATCH).map(colour).collect::<Vec<_>>() })
    };
    let maps: Vec<Value> = Colormap::all().map(map).collect();
    let store = (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    ([store], Json(maps)).into_response()
}

#[cfg(test)]
mod tests {
    use graticule_common::block::Kind;

    use super::*;

    #[test]
    fn statistics_are_those_of_valid_finite_values() {
        let mut values: Vec<f32> = (0..=100).map(|value| value as f32).collect();
        values.extend([1000.0, f32::INFINITY, f32::NAN]);
        let mut valid = vec![1; values.len()];
        valid[101] = 0;
        let names = ["a".to_owned()];
        let block = Block::new(Kind::Mosaic { bands: 1 }, (1, 104), Samples::F32(values), valid);
        let band = bands(&block, &names).remove(0);
        assert_eq!((band.valid, band.count), (101, 104));
        assert_eq!((band.min, band.max, band.mean), (Some(0.0), Some(100.0), Some(50.0)));
        assert_eq!(band.std, Some((((101.0f64 * 101.0) - 1.0) / 12.0).sqrt()));
        assert_eq!((band.percentiles["2"], band.percentiles["98"]), (Some(2.0), Some(98.0)));
        assert_eq!(band.histogram.counts.iter().sum::<u64>(), 101);
        assert_eq!(band.histogram.counts.len(), BINS);
        let empty = Block::invalid(Kind::Mosaic { bands: 1 }, DType::F32, (2, 2));
        let band = bands(&empty, &names).remove(0);
        assert_eq!((band.valid, band.count, band.min, band.mean), (0, 4, None, None));
        assert_eq!(band.percentiles["2"], None);
    }

    #[test]
    fn bands_of_a_stack_are_taken_over_its_images() {
        let values = vec![1.0, 10.0, 3.0, 30.0];
        let block = Block::new(Kind::Stack { images: 2, bands: 2 }, (1, 1), Samples::F32(values), vec![1; 4]);
        let found = bands(&block, &["a".to_owned(), "b".to_owned()]);
        assert_eq!((found[0].min, found[0].max), (Some(1.0), Some(3.0)));
        assert_eq!((found[1].min, found[1].max), (Some(10.0), Some(30.0)));
    }

    #[test]
    fn overview_grids_are_small_and_in_the_world() {
        for bounds in [
            [-180.0, -90.0, 180.0, 90.0],
            [10.0, 46.0, 11.0, 47.0],
            [10.0, 46.0, 10.0, 46.0],
            [170.0, -20.0, 190.0, -10.0],
            [0.0, 88.0, 1.0, 89.0],
            [-0.001, -80.0, 0.001, 80.0],
        ] {
            let area = overview(bounds);
            let Sampling::Shape { rows, cols } = area.sampling else { panic!("a shape") };
            assert!((1..=512).contains(&rows) && (1..=512).contains(&cols), "{bounds:?}: {rows} x {cols}");
            assert!(rows.max(cols) == 512, "{bounds:?}: {rows} x {cols}");
            let [west, south, east, north] = area.bounds.unwrap();
            assert!(west < east && south < north, "{bounds:?}");
            assert!([west, south, east].iter().all(|edge| edge.abs() <= HALF_WORLD * 1.0001), "{bounds:?}");
        }
    }
}
