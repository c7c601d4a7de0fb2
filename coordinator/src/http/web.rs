//! The map page: the files of `web/`, built into the program.
//!
//! They ask nobody but this server, and browsers are told to see to that. An operator's base map is the one
//! exception, for pictures of its origin alone.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::Http;
use super::error::HttpError;

/// A base map of the page, made by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basemap {
    /// Address of its tiles with `{z}`, `{x}` and `{y}`.
    url: String,
    /// Who made it, in words.
    attribution: String,
    /// Scheme, host and port of another server, where it is one.
    origin: Option<String>,
}

impl Basemap {
    /// A base map of tiles at a URL with `{z}`, `{x}` and `{y}`: of `http`, `https`, or a path of this server.
    ///
    /// # Errors
    /// What the URL must be.
    pub fn new(url: &str, attribution: &str) -> Result<Self, String> {
        let wanted = "a base map is an http or https URL, or a path of this server, with {z}, {x} and {y}";
        if !["{z}", "{x}", "{y}"].iter().all(|part| url.contains(part)) {
            return Err(wanted.into());
        }
        let scheme = ["https://", "http://"].into_iter().find(|scheme| url.starts_with(scheme));
        let origin = match scheme {
            Some(scheme) => {
                let host = url[scheme.len()..].split('/').next().unwrap_or_default();
                // It becomes part of a header that lists what browsers may ask.
                let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte);
                if host.is_empty() || !host.bytes().all(is_host) {
                    return Err(format!("{wanted}; its host is named, without {{s}}"));
                }
                Some(format!("{scheme}{host}"))
            }
            None if url.starts_with('/') && !url.starts_with("//") => None,
            None => return Err(wanted.into()),
        };
        Ok(Basemap { url: url.to_owned(), attribution: attribution.to_owned(), origin })
    }
}

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! file {
    ($path:literal, $kind:ident) => {
        File { path: $path, kind: $kind, bytes: include_bytes!(concat!("../../../web/", $path)) }
    };
}

/// Every file that is served; a test compares the list with the folder.
const FILES: &[File] = &[
    file!("api.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("area.js", SCRIPT),
    file!("colormaps.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("draw.js", SCRIPT),
    file!("editor.js", SCRIPT),
    file!("geo.js", SCRIPT),
    file!("graticule.js", SCRIPT),
    file!("icon.svg", SVG),
    file!("index.html", HTML),
    file!("inspect.js", SCRIPT),
    file!("json.js", SCRIPT),
    file!("layers.js", SCRIPT),
    file!("map.js", SCRIPT),
    file!("numbers.js", SCRIPT),
    file!("page.js", SCRIPT),
    file!("permalink.js", SCRIPT),
    file!("products.js", SCRIPT),
    file!("range.js", SCRIPT),
    file!("state.js", SCRIPT),
    file!("stretch.js", SCRIPT),
    file!("style.css", STYLE),
    file!("templates.js", SCRIPT),
    file!("theme.js", SCRIPT),
    file!("tiles.js", SCRIPT),
    file!("timeline.js", SCRIPT),
    file!("vendor/leaflet/LICENSE", TEXT),
    file!("vendor/leaflet/leaflet.css", STYLE),
    file!("vendor/leaflet/leaflet.js", SCRIPT),
];

/// The tag of each file: a hash of its bytes.
static TAGS: LazyLock<Vec<HeaderValue>> =
    LazyLock::new(|| FILES.iter().map(|file| tag(file.bytes)).collect());

fn tag(bytes: &[u8]) -> HeaderValue {
    let hash = blake3::hash(bytes).to_hex();
    // Hexadecimal digits in quotes are a header's value, always.
    HeaderValue::from_str(&format!("\"{}\"", &hash[..32])).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new().route("/", get(page)).route("/web/{*path}", get(file))
}

async fn page(State(http): State<Arc<Http>>, headers: HeaderMap) -> Response {
    answer(&http, "index.html", &headers)
}

async fn file(State(http): State<Arc<Http>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    match path.as_str() {
        "settings.json" => settings(&http).into_response(),
        path => answer(&http, path, &headers),
    }
}

/// What the operator chose for the page.
fn settings(http: &Http) -> impl IntoResponse + use<> {
    let basemap = http.basemap.as_ref();
    let basemap = basemap.map(|map| json!({ "url": map.url, "attribution": map.attribution }));
    let body = json!({ "basemap": basemap, "version": env!("CARGO_PKG_VERSION") });
    ([(header::CACHE_CONTROL, "no-cache")], axum::Json(body))
}

fn answer(http: &Http, path: &str, asked: &HeaderMap) -> Response {
    let Some((file, tag)) = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.path == path) else {
        return HttpError::not_found("the map page has no such file").into_response();
    };
    let common = [
        (header::ETAG, tag.clone()),
        // A tag is compared each time, so that a new version is whole from its first request on.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, policy(http.basemap.as_ref())),
        (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
    ];
    let is_known = asked.get_all(header::IF_NONE_MATCH).iter().any(|value| matches(value, tag));
    if is_known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, file.kind)], file.bytes).into_response()
}

/// Whether a header `If-None-Match` names a tag.
fn matches(value: &HeaderValue, tag: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let mut listed = text.split(',').map(|one| one.trim().trim_start_matches("W/"));
    listed.any(|one| one == "*" || one.as_bytes() == tag.as_bytes())
}

/// What browsers let the page do: run and ask what is here, and nothing else.
fn policy(basemap: Option<&Basemap>) -> HeaderValue {
    // Tiles arrive as blobs. Leaflet empties a base map's pictures with one that is data.
    let pictures = match basemap {
        None => "'self' blob:".to_owned(),
        Some(Basemap { origin: None, .. }) => "'self' blob: data:".to_owned(),
        Some(Basemap { origin: Some(origin), .. }) => format!("'self' blob: data: {origin}"),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src {pictures}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    // An origin holds no character that a header cannot.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path, into) } else { into.push(path) }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served_but_what_is_for_readers() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web");
        let mut found = Vec::new();
        below(&folder, &mut found);
        let for_readers = ["package.json", "vendor/leaflet/README.md"];
        let found: BTreeSet<String> = found
            .iter()
            .map(|path| path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned())
            .filter(|path| !for_readers.contains(&path.as_str()))
            .collect();
        let served: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(found, served);
    }

    #[test]
    fn nothing_in_the_page_is_inline_or_from_elsewhere() {
        let page = FILES.iter().find(|file| file.path == "index.html").unwrap();
        let text = std::str::from_utf8(page.bytes).unwrap();
        assert!(!text.contains(" style=") && !text.contains("<style") && !text.contains(" onclick="));
        for (at, _) in text.match_indices("<script") {
            assert!(text[at..].starts_with("<script src=\"web/"), "a script without a file");
        }
        // Words for namespaces are not requests.
        let away = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!away.contains("http:") && !away.contains("https:") && !away.contains("\"//"));
    }

    #[test]
    fn the_policy_allows_a_base_maps_origin_and_nothing_more() {
        let text = |basemap: Option<&Basemap>| policy(basemap).to_str().unwrap().to_owned();
        assert!(text(None).contains("img-src 'self' blob:;"));
        assert!(!text(None).contains("unsafe") && !text(None).contains("http"));
        let map = Basemap::new("https://tiles.example.org:8443/a/{z}/{x}/{y}.png", "by us").unwrap();
        assert!(text(Some(&map)).contains("img-src 'self' blob: data: https://tiles.example.org:8443;"));
        let own = Basemap::new("/base/{z}/{x}/{y}.png", "by us").unwrap();
        assert!(text(Some(&own)).contains("img-src 'self' blob: data:;"));
    }

    #[test]
    fn a_base_map_is_a_url_whose_host_can_stand_in_a_header() {
        let faulty = [
            "https://tiles.example.org/{z}/{x}.png",
            "https://{s}.example.org/{z}/{x}/{y}.png",
            "https://a.org;script-src/{z}/{x}/{y}.png",
            "https:///{z}/{x}/{y}.png",
            "//a.org/{z}/{x}/{y}.png",
            "javascript:{z}{x}{y}",
        ];
        for url in faulty {
            assert!(Basemap::new(url, "").is_err(), "{url}");
        }
    }

    #[test]
    fn tags_are_compared_as_lists_and_weakly() {
        let tag = tag(b"a");
        let listed = format!("\"b\", W/{}", tag.to_str().unwrap());
        assert!(matches(&HeaderValue::from_str(&listed).unwrap(), &tag));
        assert!(matches(&HeaderValue::from_static("*"), &tag));
        assert!(!matches(&HeaderValue::from_static("\"b\""), &tag));
    }
}
