//! From a path to everything a registration stores: follows links on disk, finds the assets' files.
//!
//! Nothing is written here, and no pixel is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use graticule_common::scene::Timestamp;
use graticule_common::transform::Transform;

use super::footprint::Edges;
use super::stac::{self, AssetFile, Document, Item};
use super::{CatalogError, HrefProblem};

/// Links from the start to a document: catalogs by mission, collection, year, month and day are 6 deep.
const DEPTH_MAX: u32 = 16;
/// Documents of one registration.
const DOCUMENTS_MAX: u64 = 200_000;
/// Size of one document. The largest items known have some hundred kilobytes of footprint.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// Size of all documents of one registration, which are in memory until they are stored as one.
const TEXT_BYTES_MAX: u64 = 1 << 30;
/// What a directory is searched for.
const INDEX_NAMES: [&str; 2] = ["catalog.json", "collection.json"];

/// All that a registration found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) collections: Vec<FoundCollection>,
    pub(super) items: Vec<FoundItem>,
}

/// A collection to store.
#[derive(Debug)]
pub(super) struct FoundCollection {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) document: String,
    file: String,
}

/// An item to store.
#[derive(Debug)]
pub(super) struct FoundItem {
    pub(super) product: String,
    pub(super) id: String,
    pub(super) acquired: Timestamp,
    pub(super) bbox: Edges,
    pub(super) bands: Vec<String>,
    pub(super) file: String,
    pub(super) document: String,
    pub(super) assets: BTreeMap<String, AssetFile>,
}

/// A document yet to be read.
struct Visit {
    path: PathBuf,
    depth: u32,
    /// The collection on the way to it, by its place in `Found::collections`.
    collection: Option<usize>,
}

/// Reads the document at `start` and all that it leads to, in the order of the documents.
pub(super) fn walk(start: &Path, transform: &dyn Transform) -> Result<Found, CatalogError> {
    let start = start_document(start)?;
    let origin = display(&start);
    let extent = |what, limit| CatalogError::Extent { file: origin.clone(), what, limit };
    let mut found = Found::default();
    let mut seen = HashSet::new();
    let mut item_files: HashMap<(String, String), usize> = HashMap::new();
    let mut text_bytes = 0;
    let mut stack = vec![Visit { path: start, depth: 0, collection: None }];
    while let Some(Visit { path, depth, collection }) = stack.pop() {
        // Links in a circle, and second links to one document.
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() as u64 > DOCUMENTS_MAX {
            return Err(extent("documents", DOCUMENTS_MAX));
        }
        let file = display(&path);
        let document = read(&path, &file)?;
        text_bytes += document.len() as u64;
        if text_bytes > TEXT_BYTES_MAX {
            return Err(extent("bytes of documents", TEXT_BYTES_MAX));
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        match stac::parse(&file, document.as_bytes())? {
            Document::Group(group) => {
                let inside = if group.is_collection {
                    if let Some(first) = found.collections.iter().find(|known| known.id == group.id) {
                        return Err(duplicate("collection", group.id, &first.file, file));
                    }
                    let (id, title) = (group.id, group.title);
                    found.collections.push(FoundCollection { id, title, document, file: file.clone() });
                    Some(found.collections.len() - 1)
                } else {
                    collection
                };
                if depth == DEPTH_MAX && !group.links.is_empty() {
                    return Err(extent("levels of links", DEPTH_MAX.into()));
                }
                for (rel, href) in group.links.iter().rev() {
                    let path = resolve(folder, href).map_err(|problem| CatalogError::Href {
                        file: file.clone(),
                        what: format!("a link of relation `{rel}`"),
                        href: href.clone(),
                        problem,
                    })?;
                    stack.push(Visit { path, depth: depth + 1, collection: inside });
                }
            }
            Document::Item(item) => {
                let product = product(&item, &file, collection.map(|i| found.collections[i].id.as_str()))?;
                let assets = assets(&item, &file, folder, transform)?;
                let at = found.items.len();
                if let Some(first) = item_files.insert((product.clone(), item.id.clone()), at) {
                    return Err(duplicate("item", item.id, &found.items[first].file, file));
                }
                found.items.push(FoundItem {
                    product,
                    bands: item.band_names().into_iter().map(str::to_owned).collect(),
                    id: item.id,
                    acquired: item.acquired,
                    bbox: item.bbox,
                    file,
                    document,
                    assets,
                });
            }
        }
    }
    if found.items.is_empty() {
        return Err(CatalogError::NoItems { file: origin });
    }
    Ok(found)
}

fn duplicate(kind: &'static str, id: String, first: &str, second: String) -> CatalogError {
    CatalogError::Duplicate { kind, id, first: first.to_owned(), second }
}

fn product(item: &Item, file: &str, linked: Option<&str>) -> Result<String, CatalogError> {
    match (&item.collection, linked) {
        (Some(claimed), Some(linked)) if claimed != linked => Err(CatalogError::ForeignItem {
            file: file.to_owned(),
            item: item.id.clone(),
            claimed: claimed.clone(),
            linked: linked.to_owned(),
        }),
        (Some(id), _) => Ok(id.clone()),
        (None, Some(id)) => Ok(id.to_owned()),
        (None, None) => Err(CatalogError::NoCollection { file: file.to_owned(), item: item.id.clone() }),
    }
}

fn assets(
    item: &Item,
    file: &str,
    folder: &Path,
    transform: &dyn Transform,
) -> Result<BTreeMap<String, AssetFile>, CatalogError> {
    let mut files = BTreeMap::new();
    for asset in &item.assets {
        let wrong = |problem| CatalogError::Href {
            file: file.to_owned(),
            what: format!("asset `{}` of item `{}`", asset.key, item.id),
            href: asset.href.clone(),
            problem,
        };
        let found = resolve(folder, &asset.href).map_err(wrong)?;
        let Some(path) = found.to_str().map(str::to_owned) else {
            return Err(wrong(HrefProblem::NotAPath { reason: "it leads to a path that is not UTF-8" }));
        };
        let metadata = fs::metadata(&found)
            .map_err(|e| wrong(HrefProblem::Missing { path: path.clone(), reason: e.to_string() }))?;
        let crs =
            match &asset.crs {
                Some((text, member)) => Some(transform.canonical(text).map_err(|source| {
                    CatalogError::Crs { file: file.to_owned(), member: member.clone(), source }
                })?),
                None => None,
            };
        let crs = crs.map(|crs| crs.as_str().to_owned());
        files.insert(asset.key.clone(), AssetFile { path, version: version_of(&metadata), crs });
    }
    Ok(files)
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

fn read(path: &Path, file: &str) -> Result<String, CatalogError> {
    let failed = |source| CatalogError::Read { file: file.to_owned(), source };
    // Opening anything but a regular file might wait for ever.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut text = String::new();
    let opened = fs::File::open(path).map_err(failed)?;
    opened.take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(CatalogError::DocumentSize { file: file.to_owned(), limit: DOCUMENT_BYTES_MAX });
    }
    Ok(text)
}

/// The regular file that an href in a document of `folder` leads to, as an absolute path.
fn resolve(folder: &Path, href: &str) -> Result<PathBuf, HrefProblem> {
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
    let decoded = percent_decoded(path);
    if path.contains('\0') || decoded.as_ref().is_some_and(|path| path.contains('\0')) {
        return not_a_path("it contains a NUL");
    }
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
    let missing = |reason: String| HrefProblem::Missing { path: display(&joined), reason };
    // The folder is resolved by the system, as `..` behind a symbolic link means; the file keeps its
    // name, so that a link that is turned elsewhere is seen as a change.
    let (Some(parent), Some(name)) = (joined.parent(), joined.file_name()) else {
        return Err(missing("it is a directory".to_owned()));
    };
    let found = parent.canonicalize().map_err(|e| missing(e.to_string()))?.join(name);
    // GDAL takes these for its virtual file systems, some of which reach into the network.
    if display(&found).starts_with("/vsi") {
        return Err(missing("`/vsi…` paths are not files on disk".to_owned()));
    }
    let metadata = fs::metadata(&found).map_err(|e| missing(e.to_string()))?;
    if !metadata.is_file() {
        return Err(missing("it is not a regular file".to_owned()));
    }
    Ok(found)
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

fn display(path: &Path) -> String {
    path.display().to_string()
}
