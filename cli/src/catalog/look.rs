//! `graticule catalog list | show | search | check`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::predicate::Predicate;
use graticule_common::scene::{BandInfo, LonLatBox, Product, Scene, SceneQuery, Timestamp};
use graticule_common::transform::Proj;
use graticule_coordinator::catalog::{Checked, Fault, SceneCatalog};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Where, blocking, counted, day, instant, remote};
use crate::Global;
use crate::failure::{Failure, say};
use crate::request::FileArgs;
use crate::serve::inspector;

/// Scenes that a search of the command line may find; `--limit` says how many are shown.
const SCENES_MAX: usize = 100_000;

/// List products.
#[derive(Args, Debug)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

impl List {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let products = match &self.place.endpoint {
            Some(endpoint) => {
                remote::Remote::connect(endpoint, &self.place.connect).await?.products().await?
            }
            None => self.place.store.open(global).await?.products().await.map_err(Failure::of)?,
        };
        if self.json {
            say!("{}", products.iter().map(product_json).collect::<Value>());
            return Ok(());
        }
        if products.is_empty() {
            eprintln!("the catalog is empty; `graticule catalog add SOURCE` registers imagery");
        }
        for product in products {
            let dates = product
                .acquired
                .map_or(String::new(), |(first, last)| format!("  {} .. {}", day(first), day(last)));
            say!("{}  {}{dates}", product.id, counted(product.scenes));
            say!("    {}", product.title);
            say!("    bands: {}", product.bands.join(" "));
        }
        Ok(())
    }
}

fn product_json(product: &Product) -> Value {
    let bands = product.bands.iter().map(|name| {
        let info = product.band_info.get(name);
        let classes = info.map(|info| {
            let class = |class: &graticule_common::scene::ClassInfo| {
                json!({"value": class.value, "name": class.name, "color": class.color})
            };
            info.classes.iter().map(class).collect::<Vec<_>>()
        });
        json!({
            "name": name, "common_name": info.and_then(|info| info.common_name.as_deref()),
            "unit": info.and_then(|info| info.unit.as_deref()), "classes": classes.unwrap_or_default(),
        })
    });
    json!({
        "id": product.id, "title": product.title, "scenes": product.scenes,
        "start": product.acquired.map(|(first, _)| first.to_string()),
        "end": product.acquired.map(|(_, last)| last.to_string()),
        "bands": bands.collect::<Vec<_>>(),
    })
}

/// Show a product, or an item.
#[derive(Args, Debug)]
pub struct Show {
    /// Product id
    product: String,
    /// Item id
    item: Option<String>,
    /// Print JSON; of an item, its STAC document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

impl Show {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let Show { product: id, item, json, place } = self;
        let (product, extent, scene, document) = match (&place.endpoint, &item) {
            (Some(endpoint), None) => {
                let (product, extent) =
                    remote::Remote::connect(endpoint, &place.connect).await?.product(&id).await?;
                (product, extent, None, None)
            }
            (Some(endpoint), Some(item)) => {
                let mut remote = remote::Remote::connect(endpoint, &place.connect).await?;
                let (scene, document) = remote.scene(&id, item).await?;
                let (product, extent) = remote.product(&id).await?;
                (product, extent, Some(scene), Some(document))
            }
            (None, item) => {
                let (catalog, id, item) = (place.store.open(global).await?, id.clone(), item.clone());
                blocking(move || {
                    let (product, extent) = (catalog.product_now(&id)?, catalog.extent(&id)?);
                    let scene = item.as_deref().map(|item| catalog.scene(&id, item)).transpose()?;
                    let document = item.as_deref().map(|item| catalog.document(&id, Some(item)));
                    Ok::<_, graticule_coordinator::catalog::CatalogError>((
                        product,
                        extent,
                        scene,
                        document.transpose()?.flatten(),
                    ))
                })
                .await?
            }
        };
        match (scene, json) {
            (Some(_), true) => say!("{}", document.unwrap_or_default()),
            (Some(scene), false) => show_scene(&scene)?,
            (None, true) => {
                let mut shown = product_json(&product);
                shown["extent"] = json!(extent);
                say!("{shown}");
            }
            (None, false) => show_product(&product, extent)?,
        }
        Ok(())
    }
}

fn show_product(product: &Product, extent: Option<[f64; 4]>) -> Result<(), Failure> {
    say!("{}", product.id);
    say!("  title   {}", product.title);
    say!("  scenes  {}", product.scenes);
    if let Some((first, last)) = product.acquired {
        say!("  dates   {first} .. {last}");
    }
    if let Some([west, south, east, north]) = extent {
        say!("  extent  {west:.5} {south:.5} {east:.5} {north:.5}  (west, south, east, north in degrees)");
    }
    say!("  bands");
    let width = product.bands.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for name in &product.bands {
        let nothing = BandInfo::default();
        let info = product.band_info.get(name).unwrap_or(&nothing);
        let words = [info.common_name.clone(), info.unit.as_ref().map(|unit| format!("in {unit}"))];
        let words: Vec<String> = words.into_iter().flatten().collect();
        say!("    {name:width$}  {}", words.join(", "));
        for class in &info.classes {
            let color = class
                .color
                .map_or(String::new(), |[red, green, blue]| format!("  #{red:02X}{green:02X}{blue:02X}"));
            say!("    {:width$}    {} {}{color}", "", class.value, class.name);
        }
    }
    say!("  a graft that takes the median of all scenes of an area:");
    let bands: Vec<&str> = product.bands.iter().take(3).map(String::as_str).collect();
    let graft = json!({
        "product": product.id, "bands": [bands], "none": null, "zero": 0, "yes": true, "near": "near",
        "scenes": ["select_scenes", "product", "bands", {
            "start_datetime": "none", "end_datetime": "none", "predicate_filter": "none",
            "sort_by": "none", "ascending": "yes", "pad": "zero",
        }],
        "stack": ["stack_scenes", "scenes", "bands", {"pad": "zero", "resampler": "near"}],
        "over": "images", "middle": "median", "of": "ImageStack",
        "result": ["reduction", "stack", "middle", "over", "of"], "returns": "result",
    });
    say!("    {graft}");
    Ok(())
}

fn show_scene(scene: &Scene) -> Result<(), Failure> {
    say!("{}  of {}", scene.id, scene.product);
    say!("  acquired  {}", scene.acquired);
    say!("  bands");
    for (name, band) in &scene.bands {
        say!("    {name}  {} band {}", band.asset.source, band.band);
    }
    say!("  properties");
    for (name, value) in scene.properties.iter() {
        say!("    {name}  {value}");
    }
    Ok(())
}

/// Find scenes.
#[derive(Args, Debug)]
pub struct Search {
    /// Product id
    product: String,
    /// Rectangle in degrees; west above east crosses 180 degrees
    #[arg(long, value_name = "W,S,E,N", allow_hyphen_values = true, value_parser = bounds)]
    bounds: Option<LonLatBox>,
    /// GeoJSON file; the box around it counts
    #[arg(long, value_name = "FILE.geojson", conflicts_with = "bounds")]
    geometry: Option<PathBuf>,
    /// First date that counts
    #[arg(long, value_name = "DATE", value_parser = instant)]
    start: Option<Timestamp>,
    /// First date that no longer counts
    #[arg(long, value_name = "DATE", value_parser = instant)]
    end: Option<Timestamp>,
    /// Condition on properties: `cloud_fraction<0.2`, several joined by ` and `, or JSON
    #[arg(long = "where", value_name = "CONDITION", value_parser = condition)]
    condition: Option<Predicate>,
    /// Scenes to show
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print JSON: a list of scenes with properties and files
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

fn condition(text: &str) -> Result<Predicate, String> {
    Predicate::parse_simple(text).map_err(|error| error.to_string())
}

fn bounds(text: &str) -> Result<LonLatBox, String> {
    let numbers: Vec<f64> = text
        .split(',')
        .map(|part| part.trim().parse().map_err(|_| format!("`{part}` is not a number")))
        .collect::<Result<_, _>>()?;
    let [west, south, east, north] = numbers[..] else {
        return Err("four numbers are needed: west, south, east, north".to_owned());
    };
    if !numbers.iter().all(|number| number.is_finite()) || south > north {
        return Err("finite numbers with south <= north are needed".to_owned());
    }
    if west.abs() > 540.0 || east.abs() > 540.0 {
        return Err("degrees are needed".to_owned());
    }
    let east = if east < west { east + 360.0 } else { east };
    Ok(LonLatBox { west, south, east, north })
}

impl Search {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let world = LonLatBox { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };
        let area = match (&self.bounds, &self.geometry) {
            (Some(bounds), _) => *bounds,
            (None, Some(path)) => box_around(path)?,
            (None, None) => world,
        };
        let query = SceneQuery {
            start: self.start,
            end: self.end,
            predicate: self.condition,
            ..SceneQuery::all(self.product)
        };
        let mut is_all = true;
        let scenes = match &self.place.endpoint {
            Some(endpoint) => {
                remote::Remote::connect(endpoint, &self.place.connect)
                    .await?
                    .search(&query, &area, SCENES_MAX)
                    .await?
            }
            None => {
                let catalog = self.place.store.open(global).await?;
                let found = blocking(move || catalog.some(&query, &area, SCENES_MAX)).await?;
                is_all = found.1;
                found.0
            }
        };
        let shown = &scenes[..self.limit.min(scenes.len())];
        if self.json {
            say!("{}", shown.iter().map(scene_json).collect::<Value>());
        } else {
            for scene in shown {
                let cloud = scene.properties.get("cloud_fraction").and_then(Value::as_f64);
                let cloud = cloud.map_or(String::new(), |cloud| format!("  cloud {cloud:.2}"));
                say!("{}  {}{cloud}", scene.acquired, scene.id);
            }
        }
        if !is_all {
            eprintln!(
                "there are more than {SCENES_MAX} scenes; {} of those are shown that were found first, which need not be the earliest: ask for a shorter time or a smaller area",
                shown.len()
            );
        } else if shown.len() < scenes.len() {
            eprintln!("{} of {} scenes are shown; `--limit` shows more", shown.len(), scenes.len());
        } else if scenes.is_empty() {
            eprintln!("no scene is like that");
        }
        Ok(())
    }
}

fn scene_json(scene: &Scene) -> Value {
    let bands: serde_json::Map<String, Value> = scene
        .bands
        .iter()
        .map(|(name, band)| (name.clone(), json!({"href": band.asset.source.to_string(), "band": band.band})))
        .collect();
    json!({
        "id": scene.id, "product": scene.product, "acquired": scene.acquired.to_string(),
        "properties": *scene.properties, "bands": bands,
    })
}

/// The box around all positions of a GeoJSON file.
fn box_around(path: &std::path::Path) -> Result<LonLatBox, Failure> {
    let text = std::fs::read(path).map_err(|error| Failure::file(path, "read", error))?;
    let bad = |reason: &str| {
        let message = format!("`{}` is not an area: {reason}", path.display());
        Failure::new(ErrorClass::InvalidRequest, message)
    };
    let document: Value = serde_json::from_slice(&text).map_err(|error| bad(&error.to_string()))?;
    let mut area: Option<LonLatBox> = None;
    let mut waiting = vec![&document];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(items) => match (items.first(), items.get(1)) {
                (Some(Value::Number(x)), Some(Value::Number(y))) => {
                    let (x, y) = (x.as_f64().unwrap_or(f64::NAN), y.as_f64().unwrap_or(f64::NAN));
                    let known = area.unwrap_or(LonLatBox { west: x, south: y, east: x, north: y });
                    area = Some(LonLatBox {
                        west: known.west.min(x),
                        south: known.south.min(y),
                        east: known.east.max(x),
                        north: known.north.max(y),
                    });
                }
                _ => waiting.extend(items),
            },
            Value::Object(members) => {
                let inner = ["features", "geometry", "geometries", "coordinates"];
                waiting.extend(inner.iter().filter_map(|member| members.get(*member)));
            }
            _ => {}
        }
    }
    area.ok_or_else(|| bad("it holds no position"))
}

/// Check files.
#[derive(Args, Debug)]
pub struct Check {
    /// Product id; without one, all products
    product: Option<String>,
    /// Decode all pixels, too
    #[arg(long)]
    pixels: bool,
    /// Print JSON: one fault a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    place: Where,
}

impl Check {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let Check { product, pixels, json, files, place } = self;
        let mut sum = Checked::default();
        if let Some(endpoint) = &place.endpoint {
            let mut remote = remote::Remote::connect(endpoint, &place.connect).await?;
            sum = remote.check(product.as_deref(), pixels, &|fault| print(fault, json)).await?;
        } else {
            let (catalog, inspect) = (place.store.open(global).await?, inspector(&files));
            let products = match product {
                Some(product) => vec![catalog.product(&product).await.map_err(Failure::of)?],
                None => catalog.products().await.map_err(Failure::of)?,
            };
            let bar = ProgressBar::new(products.iter().map(|product| product.scenes).sum());
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} items  {elapsed} elapsed, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(120));
            for product in products {
                let (catalog, bar, inspect) = (catalog.clone(), bar.clone(), inspect.clone());
                let (checked, failure) = blocking(move || {
                    let proj = Proj::new();
                    let mut failure = None;
                    let found = &mut |fault: Fault| {
                        failure = bar.suspend(|| print(&fault, json)).err();
                        failure.is_none()
                    };
                    let before = bar.position();
                    let looked = &mut |checked: &Checked| {
                        bar.set_position(before + checked.items);
                        true
                    };
                    let checked =
                        catalog.check(&product.id, pixels, inspect.as_ref(), &proj, found, looked)?;
                    Ok::<_, graticule_coordinator::catalog::CatalogError>((checked, failure))
                })
                .await?;
                if let Some(failure) = failure {
                    return Err(failure);
                }
                sum.items += checked.items;
                sum.assets += checked.assets;
                sum.faults += checked.faults;
            }
            bar.finish_and_clear();
        }
        let Checked { items, assets, faults } = sum;
        match sum.class() {
            None => {
                eprintln!("{assets} files of {items} items are as registered");
                Ok(())
            }
            Some(class) => {
                let plural = if faults == 1 { "" } else { "s" };
                let message =
                    format!("{faults} fault{plural}; {assets} files of {items} items were looked at");
                Err(Failure::new(class, message))
            }
        }
    }
}

fn print(fault: &Fault, json: bool) -> Result<(), Failure> {
    let Fault { product, item, asset, href, kind, reason } = fault;
    if json {
        let line = json!({"product": product, "item": item, "asset": asset, "href": href, "kind": kind, "reason": reason});
        say!("{line}");
    } else {
        say!("{kind}: `{href}` (asset `{asset}` of item `{item}` of `{product}`): {reason}");
    }
    Ok(())
}
