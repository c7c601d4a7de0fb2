//! The arguments that say what to compute, where and how: shared by `compute` and `explain`.

use std::path::{Path, PathBuf};

use clap::Args;
use graticule_common::aoi::{Aoi, Polygon, Sampling};
use graticule_common::error::ErrorClass;
use graticule_common::limits::Limits;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_service_client::ComputeServiceClient;
use graticule_common::scene::Format;
use graticule_common::transport::with_keepalive;
use graticule_common::wire;
use tonic::transport::{Channel, Endpoint};

use crate::Global;
use crate::failure::Failure;
use crate::serve::Engine;

/// What to compute, where and how.
#[derive(Args, Debug)]
pub struct RequestArgs {
    /// The graft, a JSON file; `-` reads standard input
    #[arg(value_name = "GRAFT.json")]
    graft: PathBuf,
    /// Area as GeoJSON polygons in longitude and latitude; pixels outside are invalid
    #[arg(long, value_name = "FILE.geojson", help_heading = "Area")]
    aoi: Option<PathBuf>,
    /// Area as a rectangle, in --bounds-crs
    #[arg(long, value_name = "W,S,E,N", help_heading = "Area", allow_hyphen_values = true, value_parser = numbers::<4>)]
    bounds: Option<[f64; 4]>,
    /// CRS of --bounds [default: that of --crs]
    #[arg(long, value_name = "CRS", help_heading = "Area", allow_hyphen_values = true)]
    bounds_crs: Option<String>,
    /// CRS of the result: `EPSG:32613`, a PROJ string or WKT [default: that of --bounds-crs]
    #[arg(long, value_name = "CRS", help_heading = "Area", allow_hyphen_values = true)]
    crs: Option<String>,
    /// Pixel size in units of the CRS: one number, or width and height
    #[arg(long, value_name = "SIZE[,SIZE]", help_heading = "Area", allow_hyphen_values = true, value_parser = resolution)]
    resolution: Option<(f64, f64)>,
    /// Size of the result in pixels, instead of --resolution
    #[arg(long, value_name = "ROWS,COLS", help_heading = "Area", conflicts_with = "resolution", allow_hyphen_values = true, value_parser = shape)]
    shape: Option<(u64, u64)>,
    /// Move the edges outward to multiples of the resolution
    #[arg(long, help_heading = "Area")]
    align: bool,
    /// Coordinator to ask, such as http://127.0.0.1:4000 [default: compute on this machine]
    #[arg(long, value_name = "URL", help_heading = "Engine")]
    endpoint: Option<String>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Edge of a tile in pixels [default: what fits memory and keeps every worker busy]
    #[arg(
        long,
        value_name = "PIXELS",
        default_value_t = 0,
        hide_default_value = true,
        help_heading = "Engine"
    )]
    tile_size: u32,
    /// Planner passes to leave out: pushdown, fuse, cache
    #[arg(long, value_name = "PASS", value_delimiter = ',', help_heading = "Engine")]
    without_pass: Vec<String>,
    /// Neither use nor make remembered tiles
    #[arg(long, help_heading = "Engine")]
    no_cache: bool,
}

/// Settings of workers on this machine.
#[derive(Args, Clone, Debug)]
pub struct EngineArgs {
    /// Workers on this machine
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Engine", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// Redis that workers share intermediate results through: redis://HOST[:PORT][/DB]
    #[arg(long, value_name = "URL", help_heading = "Engine")]
    pub cache: Option<String>,
    #[command(flatten)]
    pub files: FileArgs,
}

/// Which files may be opened.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// Formats to open beside GeoTIFF, JPEG 2000, PNG, JPEG and registered VRTs: netcdf, zarr
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', help_heading = "Engine", value_parser = optional_format)]
    pub allow_format: Vec<Format>,
}

fn optional_format(name: &str) -> Result<Format, String> {
    match Format::from_name(name) {
        Some(format @ (Format::NetCdf | Format::Zarr)) => Ok(format),
        Some(_) => Err("it is always allowed".to_owned()),
        None => Err("the formats that can be allowed are netcdf and zarr".to_owned()),
    }
}

impl RequestArgs {
    /// The request these arguments make.
    pub fn message(&self) -> Result<pb::ComputeRequest, Failure> {
        let graft = read(&self.graft)?;
        let usage = |message: &str| Err(Failure::new(ErrorClass::InvalidRequest, message));
        let Some(crs) = self.crs.clone().or_else(|| self.bounds_crs.clone()) else {
            return usage("say in which CRS to compute, such as `--crs EPSG:32613`");
        };
        let sampling = match (self.resolution, self.shape) {
            (Some((x, y)), _) => Sampling::Resolution(x, y),
            (None, Some((rows, cols))) => Sampling::Shape { rows, cols },
            (None, None) => return usage("say how fine: `--resolution SIZE` or `--shape ROWS,COLS`"),
        };
        let geometry = self.aoi.as_deref().map(geometry).transpose()?.unwrap_or_default();
        if geometry.is_empty() && self.bounds.is_none() {
            return usage("say where: `--bounds W,S,E,N` or `--aoi FILE.geojson`");
        }
        let bounds_crs = self.bounds_crs.clone();
        let aoi = Aoi { geometry, bounds: self.bounds, bounds_crs, crs, sampling, align_pixels: self.align };
        let options = pb::Options {
            tile_size: self.tile_size,
            passes_off: self.without_pass.clone(),
            no_cache: self.no_cache,
            ..pb::Options::default()
        };
        Ok(pb::ComputeRequest {
            graft,
            aoi: Some(wire::aoi_to(&aoi)),
            options: Some(options),
            parameters: None,
        })
    }

    /// The engine that answers: the one at `--endpoint`, or one started for this command, which runs as
    /// long as the returned value.
    pub async fn connect(
        &self,
        global: &Global,
    ) -> Result<(ComputeServiceClient<Channel>, Option<Engine>), Failure> {
        let (address, engine) = match &self.endpoint {
            Some(endpoint) => (endpoint.clone(), None),
            None => {
                let engine = Engine::start(global, &self.engine, None).await?;
                (format!("http://{}", engine.address), Some(engine))
            }
        };
        let unreachable = |reason: String| {
            Failure::new(
                ErrorClass::Unavailable,
                format!("cannot reach a coordinator at `{address}`: {reason}"),
            )
        };
        let endpoint =
            Endpoint::from_shared(address.clone()).map_err(|error| unreachable(error.to_string()))?;
        let endpoint = with_keepalive(endpoint);
        let channel = endpoint.connect().await.map_err(|error| unreachable(chain(&error)))?;
        let client = ComputeServiceClient::new(channel).max_decoding_message_size(HEADER_BYTES_MAX);
        Ok((client.max_encoding_message_size(HEADER_BYTES_MAX), engine))
    }
}

/// A header lists scenes and their metadata: thousands at most.
const HEADER_BYTES_MAX: usize = 64 << 20;

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let limit = Limits::default().graft_bytes;
    let read = |from: &mut dyn Read| {
        let mut text = Vec::new();
        from.take(limit as u64 + 1).read_to_end(&mut text).map(|_| text)
    };
    let text = if path == Path::new("-") {
        read(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file))
    };
    let text = text.map_err(|error| Failure::file(path, "read", error))?;
    if text.len() > limit {
        let message = format!("`{}` has more than {limit} bytes, which is the limit", path.display());
        return Err(Failure::new(ErrorClass::LimitExceeded, message));
    }
    Ok(text)
}

/// The polygons of a GeoJSON file.
fn geometry(path: &Path) -> Result<Vec<Polygon>, Failure> {
    let refused = |reason: String| {
        let message = format!("`{}` is not an area: {reason}", path.display());
        Failure::new(ErrorClass::InvalidRequest, message)
    };
    let text = read(path)?;
    let document = geojson::GeoJson::from_reader(&text[..]).map_err(|error| refused(error.to_string()))?;
    let geometries: Vec<geojson::Geometry> = match document {
        geojson::GeoJson::Geometry(geometry) => vec![geometry],
        geojson::GeoJson::Feature(feature) => feature.geometry.into_iter().collect(),
        geojson::GeoJson::FeatureCollection(features) => {
            features.features.into_iter().filter_map(|feature| feature.geometry).collect()
        }
    };
    let mut polygons = Vec::new();
    let mut waiting = geometries;
    waiting.reverse();
    while let Some(geometry) = waiting.pop() {
        match geometry.value {
            geojson::GeometryValue::Polygon { coordinates } => polygons.push(
                polygon(
                    coordinates
                        .into_iter()
                        .map(|ring| ring.into_iter().map(|p| p.as_slice().to_vec()).collect())
                        .collect(),
                )
                .map_err(refused)?,
            ),
            geojson::GeometryValue::MultiPolygon { coordinates } => {
                for rings in coordinates {
                    polygons.push(
                        polygon(
                            rings
                                .into_iter()
                                .map(|ring| ring.into_iter().map(|p| p.as_slice().to_vec()).collect())
                                .collect(),
                        )
                        .map_err(refused)?,
                    );
                }
            }
            geojson::GeometryValue::GeometryCollection { geometries } => {
                waiting.extend(geometries.into_iter().rev())
            }
            other => return Err(refused(format!("it holds a {}, polygons are needed", other.type_name()))),
        }
    }
    if polygons.is_empty() { Err(refused("it holds no polygon".into())) } else { Ok(polygons) }
}

fn polygon(rings: Vec<Vec<Vec<f64>>>) -> Result<Polygon, String> {
    let point = |position: Vec<f64>| match position[..] {
        [lon, lat, ..] => Ok((lon, lat)),
        _ => Err("a position has fewer than two numbers".to_owned()),
    };
    rings.into_iter().map(|ring| ring.into_iter().map(point).collect()).collect()
}

fn numbers<const N: usize>(text: &str) -> Result<[f64; N], String> {
    let parts: Vec<f64> = text
        .split(',')
        .map(|part| part.trim().parse::<f64>().map_err(|_| format!("`{part}` is not a number")))
        .collect::<Result<_, _>>()?;
    let count = parts.len();
    parts.try_into().map_err(|_| format!("{N} numbers are needed, got {count}"))
}

fn resolution(text: &str) -> Result<(f64, f64), String> {
    match numbers::<1>(text) {
        Ok([size]) => Ok((size, size)),
        Err(_) => numbers::<2>(text).map(|[x, y]| (x, y)),
    }
}

fn shape(text: &str) -> Result<(u64, u64), String> {
    let bad = || "two whole numbers are needed: rows,columns".to_owned();
    let (rows, cols) = text.split_once(',').ok_or_else(bad)?;
    Ok((rows.trim().parse().map_err(|_| bad())?, cols.trim().parse().map_err(|_| bad())?))
}
