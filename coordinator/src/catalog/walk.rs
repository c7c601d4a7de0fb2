//! From a path to everything a registration stores: follows links on disk, finds the assets' files.
//!
//! No pixel is read. Memory is bounded by the largest documents on one way of links.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use graticule_common::aoi::LON_LAT;
use graticule_common::file::Inspect;
use graticule_common::grid::Crs;
use graticule_common::scene::{Asset, AssetGrid, Format, LonLatBox, SourceRef};
use graticule_common::transform::Transform;

use super::add::Registration;
use super::footprint::parts;
use super::node::{self, RawDocument, Stop};
use super::stac::{self, AssetFile, Group, Item, ItemAsset, Kind};
use super::{CatalogError, HrefProblem};

/// Links from the start to a document: catalogs by mission, collection, year, month and day are 6 deep.
const DEPTH_MAX: usize = 16;
/// Size of one document. The largest items known have some hundred kilobytes of footprint.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// What a directory is searched for.
pub(super) const INDEX_NAMES: [&str; 2] = ["catalog.json", "collection.json"];
/// Ends of names of files that hold one document a line.
const LINES_ENDS: [&str; 4] = ["ndjson", "jsonl", "geojsonl", "geojsons"];

/// How documents are taken.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) transform: &'a dyn Transform,
    /// Whether items are registered whose files are missing.
    pub(super) may_miss: bool,
    /// Whether VRTs are registered, which read other files.
    pub(super) allow_vrt: bool,
    /// The folders that local files must be in; `None`: anywhere.
    pub(super) roots: Option<&'a [PathBuf]>,
    /// Who counts the bands of files that documents do not describe.
    pub(super) inspect: Option<&'a dyn Inspect>,
}

/// A catalog or collection whose links are being followed.
struct Frame {
    file: String,
    folder: PathBuf,
    links: std::vec::IntoIter<(String, String)>,
    /// Id of the collection that the links are in.
    collection: Option<String>,
}

/// Registers the document at `start` and all that it leads to, in the order of the documents.
pub(super) fn walk(
    start: &Path,
    rules: Rules<'_>,
    registration: &mut Registration<'_>,
) -> Result<(), CatalogError> {
    let start = start_document(start)?;
    let is_lines =
        start.extension().and_then(|end| end.to_str()).is_some_and(|end| LINES_ENDS.contains(&end));
    if is_lines {
        let failed = |source| CatalogError::Read { file: display(&start), source };
        let file = File::open(&start).map_err(failed)?;
        let folder = start.parent().unwrap_or(Path::new("/")).to_owned();
        return lines(BufReader::new(file), &display(&start), &folder, rules, registration);
    }
    let before = registration.items();
    let mut walker = Walker { rules, seen: HashSet::new(), stack: Vec::new() };
    let is_group = walker.visit(&start, None, registration)?;
    while let Some(frame) = walker.stack.last_mut() {
        let Some((rel, href)) = frame.links.next() else {
            walker.stack.pop();
            continue;
        };
        let path = resolve(&frame.folder, &href, rules.roots).map_err(|problem| CatalogError::Href {
            file: frame.file.clone(),
            what: format!("a link of relation `{rel}`"),
            href: href.clone(),
            problem,
        })?;
        let collection = frame.collection.clone();
        walker.visit(&path, collection.as_deref(), registration)?;
    }
    if is_group && registration.items() == before {
        return Err(CatalogError::NoItems { file: display(&start) });
    }
    Ok(())
}

struct Walker<'a> {
    rules: Rules<'a>,
    /// Device and inode of every document met: links in a circle, and second links to one document.
    seen: HashSet<(u64, u64)>,
    stack: Vec<Frame>,
}

impl Walker<'_> {
    /// Takes one document; whether it led to others.
    fn visit(
        &mut self,
        path: &Path,
        collection: Option<&str>,
        registration: &mut Registration<'_>,
    ) -> Result<bool, CatalogError> {
        let file = display(path);
        let metadata =
            fs::metadata(path).map_err(|source| CatalogError::Read { file: file.clone(), source })?;
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(false);
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let taker = &mut Taker { file: &file, folder, rules: self.rules, linked: collection, follows: true };
        let Some(document) = read(path, &file, taker, registration)? else { return Ok(false) };
        let Some(group) = taker.take(document, registration)? else { return Ok(false) };
        if self.stack.len() == DEPTH_MAX && !group.links.is_empty() {
            let origin = self.stack.first().map_or(&file, |frame| &frame.file);
            return Err(CatalogError::Extent {
                file: origin.clone(),
                what: "levels of links",
                limit: DEPTH_MAX as u64,
            });
        }
        let is_lone_collection = group.is_collection && group.links.is_empty();
        let collection = if group.is_collection { Some(group.id) } else { collection.map(str::to_owned) };
        let links = group.links.into_iter();
        self.stack.push(Frame { file, folder: folder.to_owned(), links, collection });
        Ok(!is_lone_collection)
    }
}

/// Takes the documents of one file.
struct Taker<'a> {
    file: &'a str,
    /// What relative hrefs start at.
    folder: &'a Path,
    rules: Rules<'a>,
    /// Id of the collection that links here.
    linked: Option<&'a str>,
    /// Whether links of collections are followed: then they list all of their items.
    follows: bool,
}

impl Taker<'_> {
    /// Registers an item or a collection, or the items of an item collection; a group is returned.
    fn take(
        &mut self,
        document: RawDocument,
        registration: &mut Registration<'_>,
    ) -> Result<Option<Group>, CatalogError> {
        match stac::kind(self.file, &document)? {
            Kind::Group(group) => {
                if group.is_collection {
                    registration.collection(self.file, &group, document, self.follows)?;
                }
                Ok(Some(group))
            }
            Kind::Items => {
                for feature in document.features.into_iter().flatten() {
                    self.item(feature, registration)?;
                }
                Ok(None)
            }
            Kind::Item => self.item(document, registration).map(|()| None),
        }
    }

    fn item(&self, document: RawDocument, registration: &mut Registration<'_>) -> Result<(), CatalogError> {
        let file = self.file;
        if !matches!(stac::kind(file, &document)?, Kind::Item) {
            let reason = "a feature of an item collection is not an item".to_owned();
            return Err(CatalogError::NotStac { file: file.to_owned(), reason });
        }
        let claimed = stac::collection_of(file, &document)?;
        let id = || document.members.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
        let product = product(claimed, self.linked, file, id)?;
        let defaults = registration.defaults(&product)?;
        let item = stac::item(file, &document, &defaults)?;
        let files = assets(&item, file, self.folder, self.rules, registration)?;
        registration.item(product, item, file, document, files)
    }
}

/// Takes one document a line, from a file or a pipe.
pub(super) fn lines(
    mut reader: impl BufRead,
    name: &str,
    folder: &Path,
    rules: Rules<'_>,
    registration: &mut Registration<'_>,
) -> Result<(), CatalogError> {
    let mut line = Vec::new();
    for number in 1u64.. {
        let file = format!("{name}:{number}");
        line.clear();
        let failed = |source| CatalogError::Read { file: file.clone(), source };
        let length =
            (&mut reader).take(DOCUMENT_BYTES_MAX + 1).read_until(b'\n', &mut line).map_err(failed)?;
        if length == 0 {
            break;
        }
        if length as u64 > DOCUMENT_BYTES_MAX {
            return Err(CatalogError::DocumentSize { file, limit: DOCUMENT_BYTES_MAX });
        }
        // A text sequence (RFC 8142) begins each line with a record separator.
        let text = line.strip_prefix(b"\x1e").unwrap_or(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        let document = parse(text, &file)?;
        let mut taker = Taker { file: &file, folder, rules, linked: None, follows: false };
        taker.take(document, registration)?;
    }
    Ok(())
}

fn parse(text: &[u8], file: &str) -> Result<RawDocument, CatalogError> {
    serde_json::from_slice(text).map_err(|source| CatalogError::NotJson { file: file.to_owned(), source })
}

fn product(
    claimed: Option<String>,
    linked: Option<&str>,
    file: &str,
    item: impl Fn() -> String,
) -> Result<String, CatalogError> {
    match (claimed, linked) {
        (Some(claimed), Some(linked)) if claimed != linked => Err(CatalogError::ForeignItem {
            file: file.to_owned(),
            item: item(),
            claimed,
            linked: linked.to_owned(),
        }),
        (Some(id), _) => Ok(id),
        (None, Some(id)) => Ok(id.to_owned()),
        (None, None) => Err(CatalogError::NoCollection { file: file.to_owned(), item: item() }),
    }
}

fn assets(
    item: &Item,
    file: &str,
    folder: &Path,
    rules: Rules<'_>,
    registration: &mut Registration<'_>,
) -> Result<BTreeMap<String, AssetFile>, CatalogError> {
    let mut files = BTreeMap::new();
    // Assets of an item often share a pixel grid; each is looked at once.
    let mut grids: Vec<(AssetGrid, Option<String>)> = Vec::new();
    for asset in &item.assets {
        let wrong = |problem| CatalogError::Href {
            file: file.to_owned(),
            what: format!("asset `{}` of item `{}`", asset.key, item.id),
            href: asset.href.clone(),
            problem,
        };
        if asset.format == Format::Vrt && !rules.allow_vrt {
            return Err(wrong(HrefProblem::Vrt));
        }
        let crs = match &asset.crs {
            Some((text, member)) => match rules.transform.canonical(text) {
                Ok(crs) => Some(crs.as_str().to_owned()),
                // PROJJSON that PROJ's text parser does not take: the file itself says it as well.
                Err(_) if text.starts_with('{') => None,
                Err(source) => {
                    return Err(CatalogError::Crs { file: file.to_owned(), member: member.clone(), source });
                }
            },
            None => None,
        };
        let crs = match stac::raster(asset, crs.clone()) {
            Some(raster) => {
                let known = grids.iter().find(|(grid, _)| *grid == raster);
                let elsewhere = match known {
                    Some((_, elsewhere)) => elsewhere.clone(),
                    None => elsewhere(&raster, item, rules),
                };
                if known.is_none() {
                    grids.push((raster, elsewhere.clone()));
                }
                match elsewhere {
                    Some(problem) => {
                        registration.warn(format!(
                            "`{file}`: asset `{}` of item `{}`: {problem}; where the file says it is counts",
                            asset.key, item.id
                        ));
                        None
                    }
                    None => crs,
                }
            }
            None => crs,
        };
        let (href, version) = if let Some(url) = remote(&asset.href).map_err(wrong)? {
            (url, asset.checksum.clone())
        } else {
            match local(folder, &asset.href, rules.roots) {
                Ok(found) => found,
                Err(HrefProblem::Missing { path, reason })
                    if rules.may_miss
                        && !Path::new(&path).components().any(|part| part.as_os_str() == "..") =>
                {
                    registration.warn(format!(
                        "`{file}`: asset `{}` of item `{}`: there is no file `{path}`: {reason}",
                        asset.key, item.id
                    ));
                    (path, String::new())
                }
                Err(problem) => return Err(wrong(problem)),
            }
        };
        let bands = counted(asset, &href, &version, rules);
        files.insert(asset.key.clone(), AssetFile { href, version, crs, bands });
    }
    Ok(files)
}

/// How many bands a local file has, where its document does not say and there are several.
fn counted(asset: &ItemAsset, href: &str, version: &str, rules: Rules<'_>) -> Option<u32> {
    let inspect = rules.inspect.filter(|_| !asset.is_described && href.starts_with('/'))?;
    let file = Asset::new(asset.key.clone(), SourceRef::Local(href.to_owned()), version);
    let file = Asset { format: asset.format, sidecars: asset.sidecars.clone(), ..file };
    // A file that does not open says so when it is checked, or read.
    let found = inspect.inspect(&file, false).ok()?.bands.len() as u32;
    Some(found).filter(|count| *count > 1)
}

/// What is wrong with a pixel grid that lies nowhere near its item: pixels would be looked for where they
/// are not, and nothing would say so.
fn elsewhere(raster: &AssetGrid, item: &Item, rules: Rules<'_>) -> Option<String> {
    /// Boxes are rounded, and edges bend between the places looked at.
    const MARGIN_DEGREES: f64 = 0.1;
    let (cols, rows) = (f64::from(raster.cols), f64::from(raster.rows));
    let corner = |at: i32| (cols * f64::from(at % 3) / 2.0, rows * f64::from(at / 3) / 2.0);
    let mut places: Vec<(f64, f64)> =
        (0..9).map(corner).map(|(col, row)| raster.affine.place(col, row)).collect();
    rules.transform.points_or_nan(&raster.crs, &Crs::from_canonical(LON_LAT), &mut places);
    let inside = places.into_iter().filter(|(lon, lat)| lon.is_finite() && lat.is_finite());
    let around = inside.fold(None, |known: Option<LonLatBox>, (lon, lat)| {
        let known = known.unwrap_or(LonLatBox { west: lon, south: lat, east: lon, north: lat });
        Some(LonLatBox {
            west: known.west.min(lon),
            south: known.south.min(lat),
            east: known.east.max(lon),
            north: known.north.max(lat),
        })
    });
    let LonLatBox { west, south, east, north } = around?;
    let margin = MARGIN_DEGREES + (east - west).max(north - south);
    let wide = parts([west - margin, south - margin, east + margin, north + margin]);
    let own = parts(item.bbox);
    let is_near = wide.iter().any(|part| own.iter().any(|own| own.intersects(part)));
    (!is_near).then(|| {
        let [w, s, e, n] = item.bbox;
        format!(
            "its CRS, `proj:transform` and `proj:shape` place it at {west:.3}, {south:.3}, {east:.3}, {north:.3} \
             (west, south, east, north in degrees), the item's bbox at {w:.3}, {s:.3}, {e:.3}, {n:.3}"
        )
    })
}

/// Absolute path and version of a local file.
fn local(folder: &Path, href: &str, roots: Option<&[PathBuf]>) -> Result<(String, String), HrefProblem> {
    let found = resolve(folder, href, roots)?;
    let Some(path) = found.to_str().map(str::to_owned) else {
        return Err(HrefProblem::NotAPath { reason: "it leads to a path that is not UTF-8" });
    };
    let metadata = fs::metadata(&found)
        .map_err(|e| HrefProblem::Missing { path: path.clone(), reason: e.to_string() })?;
    Ok((path, version_of(&metadata)))
}

/// The URL that an href is, in the spelling that the catalog keeps; `None` for a local file.
fn remote(href: &str) -> Result<Option<String>, HrefProblem> {
    let not_a_place = |reason| Err(HrefProblem::NotAPath { reason });
    let Some(scheme) = scheme(href).map(str::to_ascii_lowercase) else { return Ok(None) };
    if scheme == "file" {
        return Ok(None);
    }
    let Some(rest) = href[scheme.len() + 1..].strip_prefix("//") else {
        return Err(HrefProblem::Remote { scheme });
    };
    if rest.chars().any(|c| c.is_control() || c.is_whitespace() || ['\\', '<', '>', '"'].contains(&c)) {
        return not_a_place("it has a character that has no place in a URL");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || path.is_empty() {
        return not_a_place("it lacks a host or bucket, or a path");
    }
    if path.split('/').any(|part| part == "..") {
        return not_a_place("it has a `..`");
    }
    match scheme.as_str() {
        "http" | "https" if host.contains('@') => not_a_place("it has a user name in it"),
        "http" | "https" => Ok(Some(format!("{scheme}://{rest}"))),
        "s3" | "gs" | "az" => {
            if path.contains(['?', '#']) {
                return not_a_place("it has a query or a fragment");
            }
            Ok(Some(format!("{scheme}://{rest}")))
        }
        // abfs[s]://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY or abfs://CONTAINER/KEY: the account is
        // the operator's setting.
        "abfs" | "abfss" => {
            let container = host.split_once('@').map_or(host, |(container, _)| container);
            Ok(Some(format!("az://{container}/{path}")))
        }
        _ => Err(HrefProblem::Remote { scheme }),
    }
}

/// What identifies the contents of a local file, as `Asset::version` holds it.
pub(super) fn version_of(metadata: &fs::Metadata) -> String {
    graticule_common::scene::file_version(metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// The document that a path given by the user means.
fn start_document(path: &Path) -> Result<PathBuf, CatalogError> {
    let none = |reason: String| CatalogError::NoDocument { path: display(path), reason };
    let path = path.canonicalize().map_err(|e| none(e.to_string()))?;
    if !path.is_dir() {
        return Ok(path);
    }
    INDEX_NAMES.iter().map(|name| path.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        none("the directory has neither `catalog.json` nor `collection.json`; name a document".to_owned())
    })
}

/// Reads a document. One that is too long to be held is an item collection, or refused: its items are
/// registered as they are read, and nothing is left of it.
fn read(
    path: &Path,
    file: &str,
    taker: &mut Taker<'_>,
    registration: &mut Registration<'_>,
) -> Result<Option<RawDocument>, CatalogError> {
    let failed = |source| CatalogError::Read { file: file.to_owned(), source };
    // Opening anything but a regular file might wait for ever.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut text = Vec::new();
    let opened = File::open(path).map_err(failed)?;
    opened.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 <= DOCUMENT_BYTES_MAX {
        return parse(&text, file).map(Some);
    }
    drop(text);
    let bytes = std::cell::Cell::new(0);
    let reader = Bounded {
        reader: BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?),
        bytes: &bytes,
    };
    let mut stopped = None;
    let mut each = |feature: RawDocument| {
        bytes.set(0);
        taker.item(feature, registration).map_err(|error| {
            stopped = Some(error);
            Stop
        })
    };
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let streamed =
        node::stream(&mut deserializer, &mut each).and_then(|read| deserializer.end().map(|()| read));
    if let Some(error) = stopped {
        return Err(error);
    }
    let (document, has_features) = match streamed {
        Err(source) if source.is_io() => {
            return Err(CatalogError::DocumentSize { file: file.to_owned(), limit: DOCUMENT_BYTES_MAX });
        }
        Err(source) => return Err(CatalogError::NotJson { file: file.to_owned(), source }),
        Ok(read) => read,
    };
    let document = RawDocument { features: has_features.then(Vec::new), ..document };
    match stac::kind(file, &document)? {
        Kind::Items => Ok(None),
        Kind::Item | Kind::Group(_) => {
            let reason = "it has features, but is no FeatureCollection".to_owned();
            Err(CatalogError::NotStac { file: file.to_owned(), reason })
        }
    }
}

/// A reader that fails once more than one document's worth is read since the count was set back.
struct Bounded<'a, R> {
    reader: R,
    bytes: &'a std::cell::Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.get() > DOCUMENT_BYTES_MAX {
            return Err(io::Error::other("too long"));
        }
        let count = self.reader.read(buffer)?;
        self.bytes.set(self.bytes.get() + count as u64);
        Ok(count)
    }
}

/// The regular file that an href in a document of `folder` leads to, as an absolute path.
fn resolve(folder: &Path, href: &str, roots: Option<&[PathBuf]>) -> Result<PathBuf, HrefProblem> {
    let not_a_path = |reason| Err(HrefProblem::NotAPath { reason });
    let (path, is_url) = match scheme(href) {
        Some(scheme) if scheme.eq_ignore_ascii_case("file") => {
            let rest = &href[scheme.len() + 1..];
            let path = rest.strip_prefix("//localhost").or(rest.strip_prefix("//")).unwrap_or(rest);
            if !path.starts_with('/') {
                return not_a_path("a `file:` URL needs an absolute path on this machine");
            }
            (path, true)
        }
        Some(scheme) => return Err(HrefProblem::Remote { scheme: scheme.to_ascii_lowercase() }),
        None => (href, false),
    };
    if path.is_empty() {
        return not_a_path("it is empty");
    }
    if path.starts_with("//") {
        return Err(HrefProblem::Remote { scheme: "//".to_owned() });
    }
    if path.contains(['?', '#']) {
        return not_a_path("it has a query or a fragment");
    }
    if path.contains(['\\', '<', '>', '|', '"']) {
        return not_a_path("it has a backslash, a quote, an angle or a bar in it");
    }
    let decoded = percent_decoded(path);
    if path.contains('\0') || decoded.as_ref().is_some_and(|path| path.contains('\0')) {
        return not_a_path("it contains a NUL");
    }
    let existing = |folder: &Path, path: &str| {
        // Outside of the open folders, nobody learns what is there and what is not.
        let named = folder.join(path);
        let is_open = |root: &PathBuf| {
            named.starts_with(root) && !named.components().any(|part| part.as_os_str() == "..")
        };
        if roots.is_some_and(|roots| !roots.iter().any(is_open)) {
            return Err(HrefProblem::Outside);
        }
        existing(folder, path).and_then(|found| inside(found, roots))
    };
    // Hrefs are URI references by the letter of STAC, plain paths by the habit of many tools.
    let plain = (!is_url).then(|| existing(folder, path));
    match (plain, decoded) {
        (Some(Ok(found)), _) => Ok(found),
        (Some(Err(problem)), Some(decoded)) if decoded != path => existing(folder, &decoded).or(Err(problem)),
        (Some(Err(problem)), _) => Err(problem),
        (None, Some(decoded)) => existing(folder, &decoded),
        (None, None) => not_a_path("its percent escapes are not UTF-8"),
    }
}

fn existing(folder: &Path, path: &str) -> Result<PathBuf, HrefProblem> {
    let joined = folder.join(path);
    // GDAL takes these for its virtual file systems, some of which reach into the network.
    let is_virtual = |path: &Path| path.to_str().is_none_or(|path| path.starts_with("/vsi"));
    if is_virtual(&joined) {
        return Err(HrefProblem::NotAPath { reason: "`/vsi…` paths are not files on disk" });
    }
    let missing_at = |path: &Path, reason| HrefProblem::Missing { path: display(path), reason };
    let missing = |reason: String| missing_at(&joined, reason);
    // The folder is resolved by the system, as `..` behind a symbolic link means; the file keeps its
    // name, so that a link that is turned elsewhere is seen as a change.
    let (Some(parent), Some(name)) = (joined.parent(), joined.file_name()) else {
        return Err(missing("it is a directory".to_owned()));
    };
    let found = parent.canonicalize().map_err(|e| missing(e.to_string()))?.join(name);
    if is_virtual(&found) {
        return Err(HrefProblem::NotAPath { reason: "`/vsi…` paths are not files on disk" });
    }
    let metadata = fs::metadata(&found).map_err(|e| missing_at(&found, e.to_string()))?;
    if !metadata.is_file() {
        return Err(missing("it is not a regular file".to_owned()));
    }
    Ok(found)
}

/// Refuses what is not in one of the folders, wherever a symbolic link leads.
fn inside(found: PathBuf, roots: Option<&[PathBuf]>) -> Result<PathBuf, HrefProblem> {
    let Some(roots) = roots else { return Ok(found) };
    let missing = |e: io::Error| HrefProblem::Missing { path: display(&found), reason: e.to_string() };
    let real = found.canonicalize().map_err(missing)?;
    if roots.iter().any(|root| real.starts_with(root)) { Ok(real) } else { Err(HrefProblem::Outside) }
}

/// The scheme of a URI reference (RFC 3986, section 3.1).
fn scheme(href: &str) -> Option<&str> {
    let (scheme, _) = href.split_once(':')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || ['+', '-', '.'].contains(&c);
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(legal)).then_some(scheme)
}

/// `None` where the escapes do not decode to UTF-8. A `%` that begins no escape stays.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

pub(super) fn display(path: &Path) -> String {
    path.display().to_string()
}
