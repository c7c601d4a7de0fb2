//! A folder of plain rasters as a product: STAC items made up from file names and what is in the files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use graticule_common::file::{FileInfo, Inspect};
use graticule_common::grid::Crs;
use graticule_common::scene::{Asset, AssetGrid, Format, SourceRef, Timestamp};
use graticule_common::transform::Transform;
use serde_json::{Value, json};

use super::CatalogError;
use super::add::Registration;
use super::dates;
use super::node::RawDocument;
use super::stac::{self, AssetFile};
use super::walk::{Rules, display, version_of};

/// Folders inside one another.
const DEPTH_MAX: usize = 16;
/// Rasters of one folder: their names are in memory together.
const FILES_MAX: usize = 200_000;
/// Reasons that one message lists.
const REASONS_MAX: usize = 20;
/// Points along each edge of a footprint.
const EDGE_POINTS: u32 = 16;
/// Ends of names of files that rasters may have.
const RASTERS: [&str; 3] = ["tif", "tiff", "jp2"];
/// Those of pictures, which count where a folder has no other rasters.
const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];
/// Key of the asset of an item that is one file.
const ONE_FILE: &str = "band";

/// What file names do not say.
#[derive(Clone, Debug, Default)]
pub struct FolderOptions {
    /// Product id; the folder's name where absent.
    pub product: Option<String>,
    /// When all was acquired.
    pub date: Option<Timestamp>,
    /// What dates in names look like: `%Y`, `%m`, `%d`, `%j`, `%H`, `%M`, `%S` and other characters.
    pub date_pattern: Option<String>,
    /// Names of the bands of each file, in order.
    pub bands: Vec<String>,
}

/// A file of the folder.
struct Found {
    path: PathBuf,
    /// Path within the folder, with `/`.
    inner: String,
    format: Format,
}

/// Files of one scene.
struct Group {
    /// The stem they share, and the folder within the folder.
    stem: String,
    folder: String,
    /// Band suffix and file.
    files: Vec<(String, Found)>,
}

/// Registers the rasters of a folder.
pub(super) fn register(
    root: &Path,
    options: &FolderOptions,
    inspect: &dyn Inspect,
    rules: Rules<'_>,
    registration: &mut Registration<'_>,
) -> Result<(), CatalogError> {
    let failed = |source| CatalogError::Read { file: display(root), source };
    let root = root.canonicalize().map_err(failed)?;
    let name = root.file_name().and_then(|name| name.to_str()).unwrap_or("imagery");
    let product = options.product.clone().unwrap_or_else(|| name.to_owned());
    let mut reasons = Reasons::default();
    let found = scan(&root, rules, registration, &mut reasons)?;
    if found.is_empty() && reasons.count == 0 {
        let ends = RASTERS.join(", .");
        let reason =
            format!("there is no `catalog.json`, no `collection.json` and no raster (.{ends}) in it");
        return Err(CatalogError::NoDocument { path: display(&root), reason });
    }
    let groups = group(found);
    let mut stems = BTreeMap::new();
    for group in &groups {
        *stems.entry(group.stem.clone()).or_insert(0) += 1;
    }
    for group in groups {
        // Stems that stand in several folders need their folders' names.
        let id = match stems[&group.stem] > 1 && !group.folder.is_empty() {
            true => format!("{}_{}", group.folder.replace('/', "_"), group.stem),
            false => group.stem.clone(),
        };
        let file = display(group.files[0].1.path.parent().unwrap_or(&root));
        match item(&id, &product, &group, options, inspect, rules, &mut reasons) {
            Some((document, files)) if reasons.count == 0 => {
                let document: RawDocument = serde_json::from_value(document).expect("an item made here");
                let item = stac::item(&file, &document, &*registration.defaults(&product)?)?;
                registration.item(product.clone(), item, &file, document, files)?;
            }
            _ => {}
        }
    }
    reasons.into_result(&root)
}

/// Why files cannot be registered.
#[derive(Default)]
struct Reasons {
    count: usize,
    text: String,
}

impl Reasons {
    fn add(&mut self, file: &Path, reason: impl std::fmt::Display) {
        self.count += 1;
        if self.count <= REASONS_MAX {
            self.text.push_str(&format!("\n  {}: {reason}", file.display()));
        }
    }

    fn into_result(mut self, root: &Path) -> Result<(), CatalogError> {
        if self.count == 0 {
            return Ok(());
        }
        if self.count > REASONS_MAX {
            self.text.push_str(&format!("\n  and {} more", self.count - REASONS_MAX));
        }
        Err(CatalogError::Folder { path: display(root), reasons: self.text })
    }
}

/// The rasters of a folder and the folders in it, by path.
fn scan(
    root: &Path,
    rules: Rules<'_>,
    registration: &mut Registration<'_>,
    reasons: &mut Reasons,
) -> Result<Vec<Found>, CatalogError> {
    let (mut rasters, mut pictures) = (Vec::new(), Vec::new());
    let mut waiting = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        let failed = |source| CatalogError::Read { file: display(&folder), source };
        let mut entries =
            fs::read_dir(&folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                reasons.add(&path, "its name is not UTF-8; rename it");
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
            let is_vrt = end == "vrt";
            let is_picture = PICTURES.contains(&end.as_str());
            let is_raster = RASTERS.contains(&end.as_str()) || is_picture || is_vrt;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink() {
                // A link to a folder might lead in circles; a link out of the folder was not asked for.
                let target = path.canonicalize();
                match target {
                    Ok(target) if target.is_file() && target.starts_with(root) => {}
                    _ if is_raster => {
                        reasons.add(&path, "it is a symbolic link out of the folder, or to nothing; remove it, or register what it leads to");
                        continue;
                    }
                    _ => continue,
                }
            } else if kind.is_dir() {
                if depth == DEPTH_MAX {
                    return Err(CatalogError::Extent {
                        file: display(root),
                        what: "levels of folders",
                        limit: DEPTH_MAX as u64,
                    });
                }
                waiting.push((path, depth + 1));
                continue;
            } else if !kind.is_file() {
                continue;
            }
            if !is_raster {
                continue;
            }
            if is_vrt && !rules.allow_vrt {
                registration.warn(format!(
                    "`{}` is not registered: a VRT reads other files; `--allow-vrt` registers it",
                    path.display()
                ));
                continue;
            }
            let inner = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let format = if is_vrt { Format::Vrt } else { Format::Image };
            let list = if is_picture { &mut pictures } else { &mut rasters };
            list.push(Found { path, inner, format });
            if list.len() > FILES_MAX {
                return Err(CatalogError::Extent {
                    file: display(root),
                    what: "rasters",
                    limit: FILES_MAX as u64,
                });
            }
        }
    }
    if rasters.is_empty() {
        rasters = pictures;
    } else if !pictures.is_empty() {
        registration.warn(format!(
            "{} pictures (.png, .jpg) beside the rasters of `{}` are not registered",
            pictures.len(),
            root.display()
        ));
    }
    rasters.sort_by(|a, b| a.inner.cmp(&b.inner));
    Ok(rasters)
}

/// Puts files together that differ in a band suffix only.
fn group(found: Vec<Found>) -> Vec<Group> {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    for file in found {
        let (folder, name) = file.inner.rsplit_once('/').unwrap_or(("", &file.inner));
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let (stem, band) = dates::band_suffix(stem).unwrap_or((stem, ""));
        let (folder, stem, band) = (folder.to_owned(), stem.to_owned(), band.to_owned());
        let group = groups.entry((folder.clone(), stem.clone()));
        group.or_insert(Group { stem, folder, files: Vec::new() }).files.push((band, file));
    }
    groups.into_values().collect()
}

/// The item that a group of files is, with its files. `None` where something is not known.
fn item(
    id: &str,
    product: &str,
    group: &Group,
    options: &FolderOptions,
    inspect: &dyn Inspect,
    rules: Rules<'_>,
    reasons: &mut Reasons,
) -> Option<(Value, BTreeMap<String, AssetFile>)> {
    let before = reasons.count;
    let (mut assets, mut files) = (serde_json::Map::new(), BTreeMap::new());
    let mut date = options.date;
    let mut edges: Option<Footprint> = None;
    for (band, found) in &group.files {
        let path = &found.path;
        let (Some(text), Ok(metadata)) = (path.to_str(), fs::metadata(path)) else {
            reasons.add(path, "it cannot be looked at");
            continue;
        };
        let version = version_of(&metadata);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let beside = [".aux.xml", ".msk", ".ovr"].map(|end| format!("{name}{end}"));
        let sidecars: Vec<String> =
            beside.into_iter().filter(|name| path.with_file_name(name).is_file()).collect();
        let key = if band.is_empty() { ONE_FILE } else { band };
        let asset = Asset {
            format: found.format,
            sidecars: sidecars.clone(),
            ..Asset::new(key, SourceRef::Local(text.to_owned()), version.clone())
        };
        let info = match inspect.inspect(&asset, false) {
            Ok(info) => info,
            Err(reason) => {
                reasons.add(path, reason);
                continue;
            }
        };
        let grid = match &info.grid {
            Ok(grid) => grid,
            Err(reason) => {
                let way = "describe it in a STAC item with `proj:code`, `proj:shape` and `proj:transform`";
                reasons.add(path, format!("{reason}; {way}"));
                continue;
            }
        };
        date = date.or_else(|| dates::of(&found.inner, options.date_pattern.as_deref(), &info.tags));
        match Footprint::of(grid, rules.transform) {
            Some(more) => {
                edges = Some(match edges {
                    Some(edges) => edges.joined(&more),
                    None => more,
                });
            }
            None => reasons.add(path, "its corners have no place in longitude and latitude"),
        }
        let described = describe(key, &info, grid, options, group.files.len() == 1);
        match described {
            Ok(mut asset) => {
                asset["href"] = text.into();
                if !sidecars.is_empty() {
                    asset["graticule:sidecars"] = sidecars.into();
                }
                if found.format == Format::Vrt {
                    asset["type"] = "application/x-gdal-vrt".into();
                }
                if assets.insert(key.to_owned(), asset).is_some() {
                    reasons.add(path, format!("another file of `{id}` is named `{key}`, too; rename one"));
                }
            }
            Err(reason) => reasons.add(path, reason),
        }
        let crs = Some(grid.crs.as_str().to_owned());
        files.insert(key.to_owned(), AssetFile { href: text.to_owned(), version, crs, bands: None });
    }
    if reasons.count > before {
        return None;
    }
    let Some(date) = date else {
        let pattern = options.date_pattern.as_deref();
        let told = pattern.map_or(String::new(), |pattern| format!(" that looks like `{pattern}`"));
        reasons.add(
            &group.files[0].1.path,
            format!("there is no date{told} in its name, its folders' names or its tags; say `--date 2024-06-01`, or how dates look with `--date-pattern %Y%m%d`"),
        );
        return None;
    };
    let footprint = edges?;
    let document = json!({
        "type": "Feature", "stac_version": "1.0.0", "id": id, "collection": product,
        "geometry": footprint.geometry(), "bbox": footprint.bbox(),
        "properties": {"datetime": date.to_string()}, "links": [], "assets": assets,
    });
    Some((document, files))
}

/// An asset as STAC describes it. Nodata, scale and offset stay with the file.
fn describe(
    key: &str,
    info: &FileInfo,
    grid: &AssetGrid,
    options: &FolderOptions,
    is_alone: bool,
) -> Result<Value, String> {
    let mut count = info.bands.len();
    if count > 1 && info.bands.last().is_some_and(|band| band.is_alpha) {
        count -= 1;
    }
    let own: Vec<&str> = info.bands[..count].iter().filter_map(|band| band.name.as_deref()).collect();
    let is_distinct = own.len() == count
        && own.iter().all(|name| own.iter().filter(|other| *other == name).count() == 1 && !name.is_empty());
    let names: Vec<String> = if is_alone && !options.bands.is_empty() {
        if options.bands.len() != count {
            return Err(format!(
                "it has {count} bands, and {} names were given with `--band`",
                options.bands.len()
            ));
        }
        options.bands.clone()
    } else if count > 1 && is_distinct {
        own.into_iter().map(str::to_owned).collect()
    } else if count == 1 {
        vec![key.to_owned()]
    } else {
        (1..=count).map(|number| format!("{key}_{number}")).collect()
    };
    let bands = info.bands[..count].iter();
    let raster: Vec<Value> = bands
        .map(|band| {
            let mut member = json!({"data_type": band.data_type});
            if let Some(unit) = &band.unit {
                member["unit"] = unit.as_str().into();
            }
            if !band.classes.is_empty() {
                let classes = band.classes.iter().map(|class| {
                    let mut member = json!({"value": class.value, "name": class.name});
                    if let Some([red, green, blue]) = class.color {
                        member["color_hint"] = format!("{red:02X}{green:02X}{blue:02X}").into();
                    }
                    member
                });
                member["classification:classes"] = classes.collect();
            }
            member
        })
        .collect();
    let [x, y, col_x, col_y, row_x, row_y] = grid.affine.numbers();
    let names: Vec<Value> = names.into_iter().map(|name| json!({"name": name})).collect();
    Ok(json!({
        "type": if info.driver == "JP2OpenJPEG" { "image/jp2" } else { "image/tiff; application=geotiff" },
        "roles": ["data"], "eo:bands": names, "raster:bands": raster,
        "proj:code": grid.crs.as_str().contains(':').then(|| grid.crs.as_str()),
        "proj:wkt2": (!grid.crs.as_str().contains(':')).then(|| grid.crs.as_str()),
        "proj:shape": [grid.rows, grid.cols],
        "proj:transform": [col_x, row_x, x, col_y, row_y, y],
    }))
}

/// A footprint around the world: east may be beyond 180 degrees.
#[derive(Clone, Debug)]
struct Footprint {
    ring: Vec<(f64, f64)>,
    edges: [f64; 4],
    is_box: bool,
}

impl Footprint {
    /// The outline of a grid.
    fn of(grid: &AssetGrid, transform: &dyn Transform) -> Option<Footprint> {
        let (cols, rows) = (f64::from(grid.cols), f64::from(grid.rows));
        let along = |from: (f64, f64), to: (f64, f64)| {
            (0..EDGE_POINTS).map(move |step| {
                let part = f64::from(step) / f64::from(EDGE_POINTS);
                (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part)
            })
        };
        let corners = [(0.0, 0.0), (0.0, rows), (cols, rows), (cols, 0.0), (0.0, 0.0)];
        let places = corners.windows(2).flat_map(|pair| along(pair[0], pair[1]));
        let mut ring: Vec<(f64, f64)> = places.map(|(col, row)| grid.affine.place(col, row)).collect();
        let degrees = Crs::from_canonical("EPSG:4326");
        transform.points(&grid.crs, &degrees, &mut ring).ok()?;
        // Along the ring, a step of more than half the world goes the other way round.
        let mut turn = 0.0;
        for at in 1..ring.len() {
            let step = ring[at].0 + turn - ring[at - 1].0;
            if step.abs() > 180.0 {
                turn -= 360.0 * step.signum();
            }
            ring[at].0 += turn;
        }
        let last_step = ring[0].0 - ring[ring.len() - 1].0;
        let is_around_pole = last_step.abs() > 180.0;
        let fold = |start: f64, pick: fn(f64, f64) -> f64, part: fn(&(f64, f64)) -> f64| {
            ring.iter().map(part).fold(start, pick)
        };
        let (west, east) =
            (fold(f64::INFINITY, f64::min, |p| p.0), fold(f64::NEG_INFINITY, f64::max, |p| p.0));
        let (south, north) =
            (fold(f64::INFINITY, f64::min, |p| p.1), fold(f64::NEG_INFINITY, f64::max, |p| p.1));
        let is_world = east - west >= 360.0;
        let mut edges = [west, south.max(-90.0), east, north.min(90.0)];
        if is_around_pole {
            edges = if south + north > 0.0 {
                [-180.0, south, 180.0, 90.0]
            } else {
                [-180.0, -90.0, 180.0, north]
            };
        } else if is_world {
            (edges[0], edges[2]) = (-180.0, 180.0);
        } else if west < -180.0 {
            (edges[0], edges[2]) = (west + 360.0, east + 360.0);
            ring.iter_mut().for_each(|place| place.0 += 360.0);
        }
        ring.push(ring[0]);
        Some(Footprint { ring, edges, is_box: is_around_pole || is_world })
    }

    /// The box around both.
    fn joined(self, other: &Footprint) -> Footprint {
        if self.edges == other.edges {
            return self;
        }
        let [w, s, e, n] = self.edges;
        let [w2, s2, e2, n2] = other.edges;
        Footprint { ring: Vec::new(), edges: [w.min(w2), s.min(s2), e.max(e2), n.max(n2)], is_box: true }
    }

    fn bbox(&self) -> [f64; 4] {
        self.edges
    }

    fn geometry(&self) -> Value {
        let [w, s, e, n] = self.edges;
        let ring: Vec<[f64; 2]> = match self.is_box {
            true => vec![[w, s], [e, s], [e, n], [w, n], [w, s]],
            false => self.ring.iter().map(|(x, y)| [*x, *y]).collect(),
        };
        json!({"type": "Polygon", "coordinates": [ring]})
    }
}
