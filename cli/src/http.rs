//! The HTTP port: layers, tiles and the map page, beside gRPC.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use graticule_common::error::{Classify, ErrorClass};
use graticule_coordinator::http::{
    Basemap, HttpConfig, HttpRules, LayerSecret, Raster, RasterError, RasterWriter,
};
use graticule_coordinator::objects::Objects;
use graticule_worker::sink::{Encoding, RasterFile, write_geotiff};

use crate::failure::Failure;
use crate::output::band_notes;

/// Where `serve` listens unless it is told otherwise.
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// How the HTTP port is opened.
#[derive(Args, Clone, Debug)]
pub struct HttpArgs {
    /// Address for HTTP: layers, tiles and the map page; `none` for none. TLS as the gRPC port's
    /// [default: `serve` 127.0.0.1:8080, or a free port where that is in use; `coordinator` none]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "GRATICULE_HTTP",
        hide_env_values = true,
        help_heading = "HTTP"
    )]
    http: Option<Place>,
    /// Another site whose pages may call over HTTP, such as https://maps.example.org; `*` for all; may be
    /// given several times [default: none]
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "GRATICULE_CORS",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = origin,
        help_heading = "HTTP"
    )]
    cors: Vec<String>,
    /// File with the secret that layer ids are made with, of at least 32 characters; the same for all
    /// coordinators of a store [default: one that is made in the store]
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_LAYER_SECRET_FILE",
        hide_env_values = true,
        help_heading = "HTTP"
    )]
    layer_secret_file: Option<PathBuf>,
    /// Memory for whole results that are put together for clients of HTTP, in MiB
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 512,
        env = "GRATICULE_HTTP_MEMORY",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=1 << 20),
        help_heading = "HTTP"
    )]
    http_memory: u64,
    /// Base map of the page: a URL with {z}, {x} and {y} that browsers ask for pictures [default: none]
    #[arg(
        long,
        value_name = "URL",
        env = "GRATICULE_BASEMAP",
        hide_env_values = true,
        value_parser = basemap,
        help_heading = "HTTP"
    )]
    basemap: Option<String>,
    /// The address under which clients reach this server, such as https://maps.example.org/engine, where a
    /// proxy stands before it [default: the one that each client names]
    #[arg(
        long,
        value_name = "URL",
        env = "GRATICULE_PUBLIC_URL",
        hide_env_values = true,
        value_parser = public_url,
        help_heading = "HTTP"
    )]
    public_url: Option<String>,
    /// Who made the base map, as its licence wants it said
    #[arg(
        long,
        value_name = "TEXT",
        env = "GRATICULE_BASEMAP_ATTRIBUTION",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true,
        requires = "basemap",
        help_heading = "HTTP"
    )]
    basemap_attribution: String,
}

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    None,
    At(SocketAddr),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Place::None),
            text => text
                .parse()
                .map(Place::At)
                .map_err(|_| "an address such as `127.0.0.1:8080` is needed, or `none`".to_owned()),
        }
    }
}

/// An origin: scheme, host and port, and nothing after them.
fn origin(text: &str) -> Result<String, String> {
    let text = text.trim();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b))
    };
    match rest {
        _ if text == "*" => Ok(text.to_owned()),
        Some(rest) if is_host(rest) => Ok(text.to_owned()),
        _ => Err("an origin such as `https://maps.example.org` is needed, without a path, or `*`".into()),
    }
}

fn basemap(text: &str) -> Result<String, String> {
    Basemap::new(text, "").map(|_| text.to_owned())
}

/// An address with a path or without, and nothing after that.
fn public_url(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('/');
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let (host, path) = rest.map_or(("", ""), |rest| rest.split_once('/').unwrap_or((rest, "")));
    let is_path = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b);
    match !host.is_empty() && host.bytes().all(is_host) && path.bytes().all(is_path) {
        true => Ok(text.to_owned()),
        false => Err("an address such as `https://maps.example.org/engine` is needed".into()),
    }
}

impl HttpArgs {
    /// Settings for `serve`, which opens the port without being asked.
    pub fn of_serve(&self, objects: Objects) -> Result<Option<HttpConfig>, Failure> {
        self.config(self.http.unwrap_or(Place::At(DEFAULT)), self.http.is_none(), objects)
    }

    /// Settings for a coordinator, which opens it where it is asked to.
    pub fn of_coordinator(&self, objects: Objects) -> Result<Option<HttpConfig>, Failure> {
        self.config(self.http.unwrap_or(Place::None), false, objects)
    }

    fn config(&self, place: Place, may_move: bool, objects: Objects) -> Result<Option<HttpConfig>, Failure> {
        let Place::At(listen) = place else { return Ok(None) };
        let secret = self.layer_secret_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, "read", error))?;
            let short = || {
                let least = LayerSecret::CHARS_MIN;
                Failure::file(path, "use", format!("a secret has at least {least} characters"))
            };
            LayerSecret::from_text(&text).ok_or_else(short)
        });
        let basemap = self.basemap.as_ref().map(|url| Basemap::new(url, &self.basemap_attribution));
        Ok(Some(HttpConfig {
            listen,
            may_move,
            objects,
            cors: self.cors.clone(),
            layer_secret: secret.transpose()?,
            geotiff: Some(Arc::new(GeoTiffs)),
            public_url: self.public_url.clone(),
            basemap: basemap.transpose().map_err(Failure::usage)?,
            rules: HttpRules { results_bytes: self.http_memory << 20, ..HttpRules::default() },
        }))
    }
}

/// The worker's writer, for the coordinator of this process.
#[derive(Debug)]
struct GeoTiffs;

impl RasterWriter for GeoTiffs {
    fn geotiff(&self, raster: Raster<'_>) -> Result<Bytes, RasterError> {
        let failed = |error: std::io::Error| RasterError {
            class: ErrorClass::Internal,
            message: format!("a GeoTIFF cannot be put together: {error}"),
        };
        let folder = tempfile::tempdir().map_err(failed)?;
        let path = folder.path().join("result.tif");
        let encoding = Encoding::default();
        let bands = band_notes(raster.block.kind(), raster.props, raster.bands);
        let file = RasterFile { grid: raster.grid, block: raster.block, bands, encoding: &encoding };
        write_geotiff(&path, "result.tif".as_ref(), &file)
            .map_err(|error| RasterError { class: error.class(), message: error.to_string() })?;
        Ok(Bytes::from(std::fs::read(&path).map_err(failed)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_origins_and_maps() {
        assert_eq!("none".parse(), Ok(Place::None));
        assert_eq!("127.0.0.1:8080".parse(), Ok(Place::At(DEFAULT)));
        for text in ["", "8080", "localhost:8080", "None"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        for text in ["*", "https://maps.example.org", "http://localhost:3000", "http://[::1]:80"] {
            assert!(origin(text).is_ok(), "{text}");
        }
        for text in ["", "maps.example.org", "https://", "https://a/b", "https://a b", "null"] {
            assert!(origin(text).is_err(), "{text}");
        }
        assert!(basemap("https://tile.example.org/{z}/{x}/{y}.png").is_ok());
        assert_eq!(public_url("https://maps.example.org/a/").unwrap(), "https://maps.example.org/a");
        for text in
            ["", "maps.example.org", "https://", "https://a b", "https://u@a/", "https://a/?x", "ftp://a"]
        {
            assert!(public_url(text).is_err(), "{text}");
        }
        assert!(basemap("https://tile.example.org/").is_err() && basemap("javascript:{z}{x}{y}").is_err());
    }
}
