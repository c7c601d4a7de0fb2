//! The arguments that say what to compute, where and how: shared by `compute` and `explain`.

use std::path::{Path, PathBuf};

use clap::Args;
use graticule_common::aoi::xyz::{WEB_MERCATOR, XyzTile};
use graticule_common::aoi::{Aoi, Geometry, Sampling};
use graticule_common::error::ErrorClass;
use graticule_common::limits::Limits;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_service_client::ComputeServiceClient;
use graticule_common::scene::Format;
use graticule_common::transport::Authorized;
use graticule_common::wire;
use graticule_worker::source::remote::Access;

use crate::Global;
use crate::failure::Failure;
use crate::options::HowArgs;
use crate::serve::Engine;
use crate::store::StoreArgs;
use crate::tls::ConnectArgs;

/// What to compute, where and how.
#[derive(Args, Debug)]
pub struct RequestArgs {
    /// The graft, a JSON file; `-` reads standard input
    #[arg(value_name = "GRAFT.json")]
    graft: PathBuf,
    /// Area as GeoJSON, a file or the text itself, in longitude and latitude; pixels outside are invalid
    #[arg(long, visible_alias = "aoi", value_name = "GEOJSON", help_heading = "Area")]
    geometry: Option<String>,
    /// Area as a rectangle, in --bounds-crs; in degrees, W > E crosses the antimeridian
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
    /// Take every pixel that --geometry touches, not only those whose centre it holds
    #[arg(long, help_heading = "Area", requires = "geometry")]
    all_touched: bool,
    /// A tile of a web map: 256 x 256 pixels in EPSG:3857
    #[arg(long, value_name = "Z/X/Y", help_heading = "Area", conflicts_with_all = ["bounds", "bounds_crs", "crs", "resolution", "shape", "dltile"], value_parser = xyz)]
    xyz: Option<Tile>,
    /// A tile of a UTM zone by its key
    #[arg(long, value_name = "TILESIZE:PAD:RESOLUTION:ZONE:I:J", help_heading = "Area", conflicts_with_all = ["bounds", "bounds_crs", "crs", "resolution", "shape"], value_parser = dltile)]
    dltile: Option<Tile>,
    #[command(flatten)]
    pub how: HowArgs,
    /// Coordinator to ask, such as http://127.0.0.1:4000 [default: compute on this machine]
    #[arg(long, value_name = "URL", help_heading = "Engine")]
    endpoint: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
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
    /// Planner passes to leave out: fold, pushdown, fuse, cache, stream, exit
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
    /// A text that enters the key of all that is remembered: another one disowns it
    #[arg(
        long,
        value_name = "TEXT",
        env = "GRATICULE_CACHE_SALT",
        default_value = "",
        hide_default_value = true,
        help_heading = "Engine"
    )]
    pub cache_salt: String,
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Which files may be opened.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// Formats to open beside GeoTIFF, JPEG 2000, PNG, JPEG and registered VRTs: netcdf, zarr
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', help_heading = "Engine", value_parser = optional_format)]
    pub allow_format: Vec<Format>,
    /// Host to read files from although it is not of the public internet: HOST[:PORT]. May be given
    /// several times
    #[arg(long, value_name = "HOST", value_delimiter = ',', help_heading = "Engine", value_parser = host)]
    pub allow_host: Vec<String>,
}

fn host(text: &str) -> Result<String, String> {
    Access::to_hosts(&[text.to_owned()]).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
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
        let geometry = self.geometry.as_deref().map(geometry).transpose()?.unwrap_or_default();
        let aoi = match self.xyz.as_ref().or(self.dltile.as_ref()) {
            Some(tile) => Aoi {
                geometry,
                bounds: Some(tile.bounds),
                bounds_crs: Some(tile.crs.clone()),
                crs: tile.crs.clone(),
                sampling: Sampling::Resolution(tile.resolution, tile.resolution),
                align_pixels: true,
                all_touched: self.all_touched,
            },
            None => {
                let Some(crs) = self.crs.clone().or_else(|| self.bounds_crs.clone()) else {
                    return usage("say in which CRS to compute, such as `--crs EPSG:32613`");
                };
                let sampling = match (self.resolution, self.shape) {
                    (Some((x, y)), _) => Sampling::Resolution(x, y),
                    (None, Some((rows, cols))) => Sampling::Shape { rows, cols },
                    (None, None) => {
                        return usage("say how fine: `--resolution SIZE` or `--shape ROWS,COLS`");
                    }
                };
                if geometry.is_empty() && self.bounds.is_none() {
                    return usage("say where: `--bounds W,S,E,N` or `--geometry FILE.geojson`");
                }
                Aoi {
                    geometry,
                    bounds: self.bounds,
                    bounds_crs: self.bounds_crs.clone(),
                    crs,
                    sampling,
                    align_pixels: self.align,
                    all_touched: self.all_touched,
                }
            }
        };
        if let Some(name) = self.how.repeated() {
            return usage(&format!("the parameter `{name}` is given twice"));
        }
        let mut options = pb::Options {
            tile_size: self.tile_size,
            passes_off: self.without_pass.clone(),
            no_cache: self.no_cache,
            ..pb::Options::default()
        };
        self.how.apply(&mut options);
        Ok(pb::ComputeRequest {
            graft,
            aoi: Some(wire::aoi_to(&aoi)),
            options: Some(options),
            parameters: Some(self.how.parameters()),
        })
    }

    /// The coordinator that is asked; `None`: one started for this command.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// The engine that answers: the one at `--endpoint`, or one started for this command, which runs as
    /// long as the returned value.
    pub async fn connect(
        &self,
        global: &Global,
    ) -> Result<(ComputeServiceClient<Authorized>, Option<Engine>), Failure> {
        let (address, engine) = match &self.endpoint {
            Some(endpoint) => (endpoint.clone(), None),
            None => {
                let engine = Engine::start(global, &self.engine, None).await?;
                (format!("http://{}", engine.address), Some(engine))
            }
        };
        // The engine of this command asks nobody for anything.
        let connect = if engine.is_some() { ConnectArgs::default() } else { self.connect.clone() };
        let channel = connect.connect(&address).await?;
        let client = ComputeServiceClient::new(channel).max_decoding_message_size(HEADER_BYTES_MAX);
        Ok((client.max_encoding_message_size(HEADER_BYTES_MAX), engine))
    }
}

/// A header lists scenes and their metadata: thousands at most.
const HEADER_BYTES_MAX: usize = 64 << 20;

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

/// The geometry of a GeoJSON file, or of a GeoJSON text.
fn geometry(argument: &str) -> Result<Geometry, Failure> {
    let is_text = argument.trim_start().starts_with('{');
    let name = if is_text { "--geometry" } else { argument };
    let text = if is_text { argument.as_bytes().to_vec() } else { read(Path::new(argument))? };
    let refused = |reason: String| {
        Failure::new(ErrorClass::InvalidRequest, format!("`{name}` is not an area: {reason}"))
    };
    let document = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
    Geometry::from_geojson(&document).map_err(|error| refused(error.to_string()))
}

/// A tile of a known tiling: its pixels lie on multiples of its resolution.
#[derive(Clone, Debug, PartialEq)]
struct Tile {
    crs: String,
    bounds: [f64; 4],
    resolution: f64,
}

/// Pixels along a tile of a web map.
const XYZ_PIXELS: u32 = 256;

/// `Z/X/Y`: row 0 is the northernmost.
fn xyz(text: &str) -> Result<Tile, String> {
    let bad = || "three whole numbers are needed, Z/X/Y, such as 12/2200/1343".to_owned();
    let parts: Vec<u32> =
        text.split('/').map(|part| part.parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
    let [z, x, y] = parts[..] else { return Err(bad()) };
    let tile = XyzTile::new(z, x, y).map_err(|error| error.to_string())?;
    let (bounds, resolution) = (tile.bounds(), tile.resolution(XYZ_PIXELS));
    Ok(Tile { crs: WEB_MERCATOR.into(), bounds, resolution })
}

/// `TILESIZE:PAD:RESOLUTION:ZONE:I:J`: tiles count from the zone's central meridian and the equator, in
/// coordinates of the zone's northern half on both sides of it.
fn dltile(text: &str) -> Result<Tile, String> {
    let bad =
        || "a key is needed, TILESIZE:PAD:RESOLUTION:ZONE:I:J, such as 2048:16:30.0:15:-1:81".to_owned();
    let parts: Vec<&str> = text.split(':').collect();
    let [size, pad, resolution, zone, i, j] = parts[..] else { return Err(bad()) };
    let (Ok(size), Ok(pad)) = (size.parse::<u32>(), pad.parse::<u32>()) else { return Err(bad()) };
    let (Ok(resolution), Ok(zone)) = (resolution.parse::<f64>(), zone.parse::<u32>()) else {
        return Err(bad());
    };
    let (Ok(i), Ok(j)) = (i.parse::<i32>(), j.parse::<i32>()) else { return Err(bad()) };
    if size == 0 || !(resolution > 0.0 && resolution.is_finite()) || !(1..=60).contains(&zone) {
        return Err("a tile has pixels, a resolution in metres, and a zone of 1 to 60".to_owned());
    }
    let width = f64::from(size) * resolution;
    let border = f64::from(pad) * resolution;
    let (west, south) = (500_000.0 + f64::from(i) * width, f64::from(j) * width);
    Ok(Tile {
        crs: format!("EPSG:{}", 32600 + zone),
        bounds: [west - border, south - border, west + width + border, south + width + border],
        resolution,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tiles() {
        let tile = xyz("1/1/0").unwrap();
        assert_eq!(tile.bounds, [0.0, 0.0, 20037508.342789244, 20037508.342789244]);
        assert_eq!(tile.resolution, 20037508.342789244 / 256.0);
        // As the tiling's own library has it.
        let tile = dltile("2048:16:30.0:15:-1:81").unwrap();
        assert_eq!(tile.crs, "EPSG:32615");
        assert_eq!(tile.bounds, [438080.0, 4976160.0, 500480.0, 5038560.0]);
        for text in ["1/2/0", "27/0/0", "1/1", "a/b/c", "1/1/1/1", "-1/0/0"] {
            assert!(xyz(text).is_err(), "{text}");
        }
        for text in
            ["2048:16:30.0:61:0:0", "0:16:30.0:15:0:0", "2048:16:nan:15:0:0", "2048:16:30.0:15:0", "x"]
        {
            assert!(dltile(text).is_err(), "{text}");
        }
    }

    #[test]
    fn geojson_as_text_or_file() {
        let text = r#" {"type": "Point", "coordinates": [10, 50, 7]}"#;
        assert_eq!(geometry(text).unwrap().lines, [vec![(10.0, 50.0)]]);
        let missing = geometry("no-such-file.geojson").unwrap_err();
        assert!(format!("{missing:?}").contains("no-such-file.geojson"), "{missing:?}");
        let broken = geometry("{\"type\": \"Circle\"}").unwrap_err();
        assert!(format!("{broken:?}").contains("Circle"), "{broken:?}");
    }
}
