//! STAC documents, versions 0.9 to 1.1: tolerant of members nobody here uses, strict about the rest.
//!
//! Knows nothing of disks: hrefs stay as they are written, and [`super::walk`] finds the files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use graticule_common::grid::Crs;
use graticule_common::scene::{
    Affine, Asset, AssetGrid, BandInfo, BandSource, ClassInfo, Format, Properties, Scene, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CatalogError;
use super::digest;
use super::footprint::{self, Edges};
use super::node::{Node, RawDocument};

/// A kind of STAC document.
#[derive(Debug)]
pub(super) enum Kind {
    /// A catalog or a collection.
    Group(Group),
    /// An item.
    Item,
    /// An item collection.
    Items,
}

/// What a collection says of all its items.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Defaults {
    /// The member `item_assets`.
    assets: Map<String, Value>,
    /// The member `eo:bands` of `summaries` or `properties`, or null.
    eo_bands: Value,
}

impl Defaults {
    /// Those of a collection's document.
    pub(super) fn of(collection: &RawDocument) -> Self {
        let members = &collection.members;
        let object = |pointer| members.pointer(pointer).and_then(Value::as_object).cloned();
        let bands = ["/summaries/eo:bands", "/properties/eo:bands", "/eo:bands"];
        let eo_bands = bands.iter().find_map(|pointer| members.pointer(pointer)).cloned();
        // Up to 0.9 `item_assets` was spelled so too, in an extension.
        Defaults {
            assets: object("/item_assets").unwrap_or_default(),
            eo_bands: eo_bands.unwrap_or_default(),
        }
    }
}

/// A catalog or a collection: a document that leads to others.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: String,
    /// The title, or the id where there is none.
    pub(super) title: String,
    /// Whether this is a collection, which makes it a product.
    pub(super) is_collection: bool,
    /// Hrefs of `child` and `item` links, each with the link's relation.
    pub(super) links: Vec<(String, String)>,
}

/// An item: one scene, before its files are found.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) acquired: Timestamp,
    pub(super) bbox: Edges,
    pub(super) assets: Vec<ItemAsset>,
    properties: Properties,
}

/// A raster asset of an item.
#[derive(Debug)]
pub(super) struct ItemAsset {
    pub(super) key: String,
    pub(super) href: String,
    /// The text that names the CRS, and the member it is from.
    pub(super) crs: Option<(String, String)>,
    pub(super) bands: Vec<ItemBand>,
    /// Whether the document says how many bands there are; else one stands for all.
    pub(super) is_described: bool,
    pub(super) format: Format,
    /// The member `file:checksum`, or nothing.
    pub(super) checksum: String,
    /// Names of files beside it that belong to it.
    pub(super) sidecars: Vec<String>,
    shape: Option<(u32, u32)>,
    transform: Option<[f64; 6]>,
}

/// A band of an asset.
#[derive(Clone, Debug)]
pub(super) struct ItemBand {
    pub(super) name: String,
    nodata: Option<f64>,
    scale_offset: Option<(f64, f64)>,
    sample_bytes: Option<u32>,
    info: BandInfo,
}

/// What registration found out about an asset; stored beside the document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AssetFile {
    /// Where it is, as [`super::digest::source`] reads it.
    pub(super) href: String,
    /// See [`graticule_common::scene::Asset::version`].
    pub(super) version: String,
    /// The CRS in canonical form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crs: Option<String>,
    /// How many bands the file has, where the document does not say and there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bands: Option<u32>,
}

/// What kind of document this is.
pub(super) fn kind(file: &str, raw: &RawDocument) -> Result<Kind, CatalogError> {
    let root = Node::root(file, &raw.members);
    let not_stac = |reason: String| CatalogError::NotStac { file: file.to_owned(), reason };

    let kind = root.get("type")?.map(|kind| kind.text()).transpose()?;
    // An item collection needs no version: its items have theirs.
    if kind == Some("FeatureCollection") {
        return match raw.features {
            Some(_) => Ok(Kind::Items),
            None => Err(root.member_wrong("features", "is missing or null")),
        };
    }
    let version = match root.get("stac_version")? {
        Some(version) => version.text()?,
        None => return Err(not_stac("it has no member `stac_version`".to_owned())),
    };
    if !(version.starts_with("0.9") || version.starts_with("1.")) {
        return Err(not_stac(format!("STAC {version} is not supported; 0.9 to 1.1 are")));
    }
    // Before 1.0 only items had a type.
    let kind = match kind {
        Some(kind) => kind,
        None if root.get("extent")?.is_some() => "Collection",
        None => "Catalog",
    };
    match kind {
        "Feature" => Ok(Kind::Item),
        "Collection" | "Catalog" => group(&root, kind == "Collection").map(Kind::Group),
        other => Err(not_stac(format!("its type is `{other}`"))),
    }
}

/// The id of the collection that an item says it belongs to.
pub(super) fn collection_of(file: &str, raw: &RawDocument) -> Result<Option<String>, CatalogError> {
    Node::root(file, &raw.members).get("collection")?.map(|node| node.id()).transpose()
}

fn group(root: &Node<'_>, is_collection: bool) -> Result<Group, CatalogError> {
    let id = root.need("id")?.id()?;
    let title = match root.get("title")? {
        Some(title) => title.text()?.to_owned(),
        None => id.clone(),
    };
    let mut links = Vec::new();
    if let Some(all) = root.get("links")? {
        for link in all.items()? {
            let rel = link.need("rel")?.text()?.to_owned();
            if rel == "child" || rel == "item" {
                links.push((rel, link.need("href")?.text()?.to_owned()));
            }
        }
    }
    Ok(Group { id, title, is_collection, links })
}

/// Reads an item; its collection says what it leaves out.
pub(super) fn item(file: &str, raw: &RawDocument, defaults: &Defaults) -> Result<Item, CatalogError> {
    let root = &Node::root(file, &raw.members);
    let id = root.need("id")?.id()?;
    let all = root.need("properties")?;
    let acquired = acquired(&all)?;

    let Some(geometry) = root.get("geometry")? else {
        return Err(root.member_wrong(
            "geometry",
            "is missing or null; items without a footprint are not supported yet, give it a geometry and a bbox",
        ));
    };
    let (wkt, around) = footprint::wkt(&geometry)?;
    let bbox = root.get("bbox")?.map(|node| footprint::bbox(&node)).transpose()?.unwrap_or(around);

    let mut properties: Properties = all.object()?.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let platform = all.get("platform")?.map(|node| node.text()).transpose()?;
    properties.insert("id".to_owned(), id.clone().into());
    properties.insert("acquired".to_owned(), acquired.to_string().into());
    properties.insert("cloud_fraction".to_owned(), cloud_fraction(&all)?.into());
    properties.insert("satellite_id".to_owned(), platform.into());
    properties.insert("geometry".to_owned(), wkt.into());

    let mut rasters = Vec::new();
    for (key, value) in raw.assets.iter().flat_map(|assets| &assets.0) {
        let merged = merged(value, defaults.assets.get(key));
        let node = root.clone().member("assets", &merged).member(key, &merged);
        if is_raster(&node)? {
            rasters.push(asset(key, &node, &all, defaults)?);
        }
    }
    if rasters.is_empty() {
        return Err(CatalogError::NoRaster { file: root.file().to_owned(), item: id });
    }
    settle_names(&mut rasters).map_err(|band| CatalogError::DuplicateBand {
        file: root.file().to_owned(),
        item: id.clone(),
        band,
    })?;
    Ok(Item { id, acquired, bbox, properties, assets: rasters })
}

/// An asset with what its collection says of all assets with its key.
fn merged<'a>(asset: &'a Value, default: Option<&Value>) -> Cow<'a, Value> {
    let (Some(own), Some(default)) = (asset.as_object(), default.and_then(Value::as_object)) else {
        return Cow::Borrowed(asset);
    };
    // A description of bands in one spelling replaces that in another.
    let is_banded = ["bands", "eo:bands"].iter().any(|member| own.contains_key(*member));
    let mut all = own.clone();
    for (key, value) in default {
        if !(is_banded && (key == "bands" || key == "eo:bands")) && !all.contains_key(key) {
            all.insert(key.clone(), value.clone());
        }
    }
    Cow::Owned(Value::Object(all))
}

fn acquired(properties: &Node<'_>) -> Result<Timestamp, CatalogError> {
    let when = match properties.get("datetime")? {
        Some(when) => when,
        None => properties.get("start_datetime")?.ok_or_else(|| {
            properties
                .member_wrong("datetime", "is missing or null, and so is `start_datetime`; one is needed")
        })?,
    };
    Timestamp::parse(when.text()?).ok_or_else(|| when.wrong("must be a date and time as in RFC 3339"))
}

fn cloud_fraction(properties: &Node<'_>) -> Result<Option<f64>, CatalogError> {
    let Some(cover) = properties.get("eo:cloud_cover")? else { return Ok(None) };
    let percent = cover.number()?;
    // USGS writes -1 where the cover was not assessed.
    Ok((0.0..=100.0).contains(&percent).then_some(percent / 100.0))
}

/// Whether an asset holds pixels to compute on, rather than a picture or a description.
fn is_raster(asset: &Node<'_>) -> Result<bool, CatalogError> {
    const RASTER_TYPES: [&str; 10] = [
        "image/tiff",
        "image/jp2",
        "image/vnd.stac.geotiff",
        "image/x.geotiff",
        "application/x-geotiff",
        "application/x-netcdf",
        "application/netcdf",
        "application/vnd+zarr",
        "application/vnd.zarr",
        "application/x-gdal-vrt",
    ];
    const OTHER_TYPES: [&str; 9] =
        ["json", "xml", "html", "text/", "yaml", "pdf", "parquet", "geopackage", "video/"];
    const EVIDENCE: [&str; 7] =
        ["bands", "eo:bands", "raster:bands", "proj:shape", "proj:transform", "proj:epsg", "proj:code"];
    let roles = match asset.get("roles")? {
        Some(roles) => roles.items()?.iter().map(Node::text).collect::<Result<Vec<_>, _>>()?,
        None => Vec::new(),
    };
    let is_data = roles.contains(&"data");
    if !is_data && roles.iter().any(|role| ["thumbnail", "overview"].contains(role)) {
        return Ok(false);
    }
    let media = asset.get("type")?.map(|node| node.text()).transpose()?.unwrap_or_default();
    let media = media.to_ascii_lowercase();
    if RASTER_TYPES.iter().any(|known| media.starts_with(known)) {
        return Ok(true);
    }
    if OTHER_TYPES.iter().any(|known| media.contains(known)) {
        return Ok(false);
    }
    let evidence = EVIDENCE.iter().any(|member| asset.value().get(member).is_some_and(|v| !v.is_null()));
    Ok(is_data || evidence)
}

fn asset(
    key: &str,
    asset: &Node<'_>,
    item: &Node<'_>,
    defaults: &Defaults,
) -> Result<ItemAsset, CatalogError> {
    let href = asset.need("href")?.text()?.to_owned();
    let or_item = |member| Ok(asset.get(member)?.or(item.get(member)?));
    let shape = or_item("proj:shape")?.map(|node: Node<'_>| shape(&node)).transpose()?;
    let transform = or_item("proj:transform")?.map(|node: Node<'_>| affine(&node)).transpose()?;
    let is_described = ["bands", "eo:bands", "raster:bands"].iter().any(|member| {
        asset.value().get(member).is_some_and(|list| list.as_array().is_some_and(|l| !l.is_empty()))
    });
    let bands = bands(key, asset, item, defaults)?;
    let media = asset.get("type")?.map(|node| node.text()).transpose()?.unwrap_or_default();
    let format = format(&media.to_ascii_lowercase(), &href);
    let checksum = asset.get("file:checksum")?.map(|node| node.text()).transpose()?;
    let sidecars = asset.get("graticule:sidecars")?.map(|node| sidecars(&node)).transpose()?;
    Ok(ItemAsset {
        key: key.to_owned(),
        href,
        crs: crs(asset, item)?,
        bands,
        is_described,
        shape,
        transform,
        format,
        checksum: checksum.unwrap_or_default().to_owned(),
        sidecars: sidecars.unwrap_or_default(),
    })
}

/// The text that names an asset's CRS: its own members before those of the item.
fn crs(asset: &Node<'_>, item: &Node<'_>) -> Result<Option<(String, String)>, CatalogError> {
    for owner in [asset, item] {
        if let Some(code) = owner.get("proj:code")? {
            return Ok(Some((code.text()?.to_owned(), code.path())));
        }
        if let Some(code) = owner.get("proj:epsg")? {
            let number = code.value().as_u64().ok_or_else(|| code.wrong("must be an EPSG code or null"))?;
            return Ok(Some((format!("EPSG:{number}"), code.path())));
        }
        if let Some(wkt) = owner.get("proj:wkt2")? {
            return Ok(Some((wkt.text()?.to_owned(), wkt.path())));
        }
        if let Some(json) = owner.get("proj:projjson")? {
            let text = |pointer| match json.value().pointer(pointer) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                _ => None,
            };
            let code = text("/id/authority").zip(text("/id/code"));
            let text = code.map(|(authority, code)| format!("{authority}:{code}"));
            json.object()?;
            return Ok(Some((text.unwrap_or_else(|| json.value().to_string()), json.path())));
        }
        // An asset that says it has no code does not mean its item's.
        if ["proj:code", "proj:epsg"].iter().any(|member| owner.value().get(member).is_some()) {
            return Ok(None);
        }
    }
    Ok(None)
}

fn shape(node: &Node<'_>) -> Result<(u32, u32), CatalogError> {
    let side = |side: &Node<'_>| side.value().as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    match node.items()?.as_slice() {
        [rows, cols] => side(rows).zip(side(cols)),
        _ => None,
    }
    .ok_or_else(|| node.wrong("must be [rows, cols], both positive integers"))
}

fn affine(node: &Node<'_>) -> Result<[f64; 6], CatalogError> {
    let numbers = node.items()?.iter().map(Node::number).collect::<Result<Vec<_>, _>>()?;
    match numbers[..] {
        [a, b, c, d, e, f] => Ok([a, b, c, d, e, f]),
        [a, b, c, d, e, f, g, h, i] if (g, h, i) == (0.0, 0.0, 1.0) => Ok([a, b, c, d, e, f]),
        _ => Err(node.wrong("must be the 6 numbers of an affine transform, or 9 that end in 0, 0, 1")),
    }
}

fn bands(
    key: &str,
    asset: &Node<'_>,
    item: &Node<'_>,
    defaults: &Defaults,
) -> Result<Vec<ItemBand>, CatalogError> {
    let list = |member| asset.get(member)?.map(|node| node.items()).transpose();
    let raster = list("raster:bands")?.unwrap_or_default();
    let names = match list("bands")? {
        Some(bands) => bands,
        None => list("eo:bands")?.unwrap_or_default(),
    };
    let count = names.len().max(raster.len()).max(1);
    let mut bands = Vec::with_capacity(count);
    for i in 0..count {
        let described = names.get(i).map(|band| by_index(band, item, defaults)).transpose()?;
        let named = described.as_ref().map(band_name).transpose()?.flatten();
        let name =
            named.unwrap_or_else(|| if count == 1 { key.to_owned() } else { format!("{key}_{}", i + 1) });
        // 1.0 describes values in `raster:bands`; 1.1 in `bands`, and on the asset what all share.
        let owners: Vec<&Node<'_>> = raster.get(i).into_iter().chain(&described).chain([asset]).collect();
        bands.push(ItemBand {
            name,
            nodata: first(&owners, &["nodata"])?.map(|node| nodata(&node)).transpose()?,
            scale_offset: scale_offset(&owners)?,
            sample_bytes: match first(&owners, &["data_type"])? {
                Some(data_type) => sample_bytes(data_type.text()?),
                None => None,
            },
            info: info(&owners, described.as_ref())?,
        });
    }
    Ok(bands)
}

/// What a band means.
fn info(owners: &[&Node<'_>], described: Option<&Node<'_>>) -> Result<BandInfo, CatalogError> {
    let own: Vec<&Node<'_>> = described.into_iter().collect();
    let text = |owners: &[&Node<'_>], members: &[&str]| {
        Ok(first(owners, members)?.map(|node| node.text()).transpose()?.map(str::to_owned))
    };
    let common_name = text(&own, &["common_name", "eo:common_name"])?;
    let unit = text(owners, &["unit", "raster:unit"])?;
    let classes = match first(owners, &["classification:classes"])? {
        Some(classes) => classes.items()?.iter().map(class).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    Ok(BandInfo { common_name, unit, classes })
}

/// A class of the classification extension; 1.0 of it had `value`, `description` and `color-hint`.
fn class(node: &Node<'_>) -> Result<ClassInfo, CatalogError> {
    let value = node.need("value")?;
    let number = value.value().as_i64().ok_or_else(|| value.wrong("must be an integer"))?;
    let name = match first(&[node], &["name", "title", "description"])? {
        Some(name) => name.text()?.to_owned(),
        None => number.to_string(),
    };
    let color = match first(&[node], &["color_hint", "color-hint"])? {
        Some(hint) => {
            let text = hint.text()?.trim_start_matches('#');
            let byte = |at: usize| text.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            let rgb = byte(0).zip(byte(2)).zip(byte(4)).filter(|_| text.len() == 6);
            let ((red, green), blue) = rgb
                .ok_or_else(|| hint.wrong("must be a colour in six hexadecimal digits, such as `FF8000`"))?;
            Some([red, green, blue])
        }
        None => None,
    };
    Ok(ClassInfo { value: number, name, color })
}

/// What a file may be opened as, by its media type.
fn format(media: &str, href: &str) -> Format {
    if media.starts_with("application/x-netcdf") || media.starts_with("application/netcdf") {
        Format::NetCdf
    } else if media.starts_with("application/vnd+zarr") || media.starts_with("application/vnd.zarr") {
        Format::Zarr
    } else if media.starts_with("application/x-gdal-vrt") || href.to_ascii_lowercase().ends_with(".vrt") {
        Format::Vrt
    } else {
        Format::Image
    }
}

/// Names of files that lie beside an asset and belong to it.
fn sidecars(node: &Node<'_>) -> Result<Vec<String>, CatalogError> {
    let name = |node: &Node<'_>| {
        let name = node.id()?;
        let known = [".aux.xml", ".msk", ".ovr"].iter().any(|end| name.ends_with(end));
        if !known || name.contains(['/', '\\']) {
            return Err(node.wrong("must be the name of a .aux.xml, .msk or .ovr file beside the asset"));
        }
        Ok(name)
    };
    node.items()?.iter().map(name).collect()
}

/// Up to 0.9 an asset names its bands by their place in the item's list.
fn by_index<'a>(band: &Node<'a>, item: &Node<'a>, defaults: &'a Defaults) -> Result<Node<'a>, CatalogError> {
    let Some(index) = band.value().as_u64() else { return Ok(band.clone()) };
    let all = match item.get("eo:bands")? {
        Some(all) => all.items()?,
        None if defaults.eo_bands.is_array() => item.member("eo:bands", &defaults.eo_bands).items()?,
        None => Vec::new(),
    };
    all.into_iter()
        .nth(usize::try_from(index).unwrap_or(usize::MAX))
        .ok_or_else(|| band.wrong("is not the index of a band in `eo:bands` of the item or its collection"))
}

fn band_name(band: &Node<'_>) -> Result<Option<String>, CatalogError> {
    for member in ["name", "common_name", "eo:common_name"] {
        if let Some(name) = band.get(member)? {
            return name.id().map(Some);
        }
    }
    Ok(None)
}

fn first<'a>(owners: &[&Node<'a>], members: &[&str]) -> Result<Option<Node<'a>>, CatalogError> {
    for owner in owners {
        for member in members {
            if let Some(node) = owner.get(member)? {
                return Ok(Some(node));
            }
        }
    }
    Ok(None)
}

fn nodata(node: &Node<'_>) -> Result<f64, CatalogError> {
    match node.value().as_str() {
        Some("nan") => Ok(f64::NAN),
        Some("inf") => Ok(f64::INFINITY),
        Some("-inf") => Ok(f64::NEG_INFINITY),
        Some(_) => Err(node.wrong("must be a number, `nan`, `inf` or `-inf`")),
        None => node.number(),
    }
}

fn scale_offset(owners: &[&Node<'_>]) -> Result<Option<(f64, f64)>, CatalogError> {
    let scale = first(owners, &["scale", "raster:scale"])?;
    let offset = first(owners, &["offset", "raster:offset"])?;
    if scale.is_none() && offset.is_none() {
        return Ok(None);
    }
    let factor = scale.as_ref().map_or(Ok(1.0), Node::number)?;
    match scale {
        Some(scale) if factor == 0.0 => Err(scale.wrong("must not be 0")),
        _ => Ok(Some((factor, offset.as_ref().map_or(Ok(0.0), Node::number)?))),
    }
}

pub(super) fn sample_bytes(data_type: &str) -> Option<u32> {
    match data_type {
        "int8" | "uint8" => Some(1),
        "int16" | "uint16" | "float16" => Some(2),
        "int32" | "uint32" | "float32" | "cint16" => Some(4),
        "int64" | "uint64" | "float64" | "cint32" | "cfloat32" => Some(8),
        "cfloat64" => Some(16),
        _ => None,
    }
}

/// Gives every band of an item a name of its own, or returns the name that two would share.
///
/// Where assets use one name, the asset whose key it is keeps it, else the only asset that holds
/// nothing but that band (beside a true-colour composite, say); the others become `KEY:NAME`.
fn settle_names(assets: &mut [ItemAsset]) -> Result<(), String> {
    let mut users: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, asset) in assets.iter().enumerate() {
        for band in &asset.bands {
            let users = users.entry(band.name.clone()).or_default();
            if users.last() != Some(&i) {
                users.push(i);
            }
        }
    }
    let keeper = |name: &str, assets: &[ItemAsset]| {
        let users = &users[name];
        let own = users.iter().copied().find(|i| assets[*i].key == name);
        let mut single = users.iter().copied().filter(|i| assets[*i].bands.len() == 1);
        match (users.len(), own, single.next(), single.next()) {
            (1, ..) => Some(users[0]),
            (_, Some(own), ..) => Some(own),
            (_, None, Some(only), None) => Some(only),
            _ => None,
        }
    };
    let keepers: BTreeMap<String, Option<usize>> =
        users.keys().map(|name| (name.clone(), keeper(name, assets))).collect();
    let mut taken = BTreeSet::new();
    for (i, asset) in assets.iter_mut().enumerate() {
        for band in &mut asset.bands {
            if keepers[&band.name] != Some(i) {
                band.name = format!("{}:{}", asset.key, band.name);
            }
            if !taken.insert(band.name.clone()) {
                return Err(band.name.clone());
            }
        }
    }
    Ok(())
}

impl Item {
    /// The same item, where an asset that the document does not describe has the bands that its file has:
    /// `KEY_1`, `KEY_2`, …
    pub(super) fn with_bands_of(mut self, files: &BTreeMap<String, AssetFile>) -> Item {
        for asset in self.assets.iter_mut().filter(|asset| !asset.is_described) {
            let count = files.get(&asset.key).and_then(|file| file.bands).unwrap_or(1);
            if let ([only], true) = (&asset.bands[..], count > 1) {
                let numbered = |n| ItemBand { name: format!("{}_{n}", only.name), ..only.clone() };
                asset.bands = (1..=count).map(numbered).collect();
            }
        }
        self
    }

    /// All bands with what is known of them, in the order of the document.
    pub(super) fn bands(&self) -> Vec<(String, BandInfo)> {
        let bands = self.assets.iter().flat_map(|asset| &asset.bands);
        bands.map(|band| (band.name.clone(), band.info.clone())).collect()
    }

    /// The scene this item is, with the files that registration found. Assets without a file are left out.
    pub(super) fn scene(
        self,
        product: &str,
        files: &BTreeMap<String, AssetFile>,
    ) -> Result<Scene, CatalogError> {
        let mut bands = BTreeMap::new();
        for asset in self.assets {
            let damaged = |problem: String| CatalogError::Record { item: self.id.clone(), problem };
            let file =
                files.get(&asset.key).ok_or_else(|| damaged(format!("no file for asset `{}`", asset.key)))?;
            let source =
                digest::source(&file.href).ok_or_else(|| damaged(format!("`{}` is no place", file.href)))?;
            let raster = raster(&asset, file.crs.clone());
            let ItemAsset { key, format, sidecars, .. } = asset;
            let shared = Asset::new(key, source, file.version.clone());
            let shared = Arc::new(Asset { raster, format, sidecars, ..shared });
            for (number, band) in (1u32..).zip(asset.bands) {
                let ItemBand { name, nodata, scale_offset, sample_bytes, info } = band;
                let source = BandSource::new(Arc::clone(&shared), number);
                let is_classes = !info.classes.is_empty();
                bands.insert(name, BandSource { nodata, scale_offset, sample_bytes, is_classes, ..source });
            }
        }
        let mut properties = self.properties;
        properties.insert("product_id".to_owned(), product.into());
        properties.insert("bands".to_owned(), bands.keys().cloned().collect::<Vec<_>>().into());
        Ok(Scene {
            id: self.id,
            product: product.to_owned(),
            acquired: self.acquired,
            properties: Arc::new(properties),
            bands,
        })
    }
}

/// The pixel grid, where CRS, shape and transform are known.
pub(super) fn raster(asset: &ItemAsset, crs: Option<String>) -> Option<AssetGrid> {
    let ((rows, cols), [col_x, row_x, x, col_y, row_y, y]) = (asset.shape?, asset.transform?);
    let affine = Affine { origin: (x, y), col: (col_x, col_y), row: (row_x, row_y) };
    let crs = Crs::from_canonical(crs?);
    affine.inverse().is_some().then_some(AssetGrid { crs, affine, rows, cols })
}
