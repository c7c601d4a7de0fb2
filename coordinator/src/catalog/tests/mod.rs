//! Registrations, from documents on disk to scenes.

mod cluster;
mod documents;
mod million;
mod storage;

use std::fs;
use std::path::{Path, PathBuf};

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::scene::{LonLatBox, Scene, SceneQuery, SourceRef};
use graticule_common::transform::Proj;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::conformance::{self, collection, item, save};
use super::{CatalogError, HrefProblem, LocalCatalog, SceneCatalog};

const BBOX: [f64; 4] = [-107.0, 40.0, -106.0, 41.0];

struct Fixture {
    dir: TempDir,
    catalog: LocalCatalog,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = LocalCatalog::open(&dir.path().join("data")).unwrap();
        fs::create_dir(dir.path().join("stac")).unwrap();
        Fixture { dir, catalog }
    }

    fn stac(&self) -> PathBuf {
        self.dir.path().join("stac")
    }

    /// An item of product `p`, its file written.
    fn item(&self, id: &str) -> Value {
        item(&self.stac(), id, "p", "2024-01-05T10:00:00Z", BBOX)
    }

    fn save(&self, name: &str, document: &Value) -> PathBuf {
        save(&self.stac(), name, document)
    }

    fn add(&self, path: &Path) -> Result<Vec<(String, u64)>, CatalogError> {
        let added = self.catalog.add(path, &Proj::new())?;
        Ok(added.products.into_iter().map(|product| (product.id.clone(), product.items())).collect())
    }

    #[track_caller]
    fn add_item(&self, document: &Value) -> Scene {
        self.add(&self.save("item.json", document)).unwrap_or_else(|e| panic!("{e}"));
        self.scenes().pop().expect("a scene")
    }

    #[track_caller]
    fn refused(&self, document: &Value) -> CatalogError {
        self.add(&self.save("item.json", document)).expect_err(&document.to_string())
    }

    fn scenes(&self) -> Vec<Scene> {
        let world = LonLatBox { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };
        let query = SceneQuery::all("p");
        run(self.catalog.search(&query, &world, 1000)).unwrap_or_default()
    }

    fn ids(&self) -> Vec<String> {
        self.scenes().into_iter().map(|scene| scene.id).collect()
    }

    fn bands(&self) -> Vec<String> {
        run(self.catalog.products()).unwrap().remove(0).bands
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn counts(products: &[(&str, u64)]) -> Vec<(String, u64)> {
    products.iter().map(|(id, scenes)| ((*id).to_owned(), *scenes)).collect()
}

#[test]
fn the_local_catalog_conforms() {
    let fixture = Fixture::new();
    let path = conformance::write(&fixture.stac());
    assert_eq!(fixture.add(&path).unwrap(), counts(&[("conformance", 5), ("empty", 0)]));
    run(conformance::check(&fixture.catalog));
    // Again: from the directory, into a catalog that knows it all, seen through a second handle.
    fixture.add(&fixture.stac()).unwrap();
    run(conformance::check(&LocalCatalog::open(&fixture.dir.path().join("data")).unwrap()));
}

#[test]
fn adding_again_replaces() {
    let fixture = Fixture::new();
    for id in ["one", "two"] {
        fixture.save(&format!("{id}.json"), &fixture.item(id));
    }
    let path = fixture.save("collection.json", &collection("p", &["one", "two"]));
    for _ in 0..2 {
        assert_eq!(fixture.add(&path).unwrap(), counts(&[("p", 2)]));
        assert_eq!(fixture.ids(), ["one", "two"]);
    }
    // An item alone replaces itself and joins the others.
    let mut changed = fixture.item("two");
    changed["assets"]["b2"] = changed["assets"]["b1"].clone();
    changed["bbox"] = json!([0, 0, 1, 1]);
    assert_eq!(fixture.add(&fixture.save("two.json", &changed)).unwrap(), counts(&[("p", 1)]));
    assert_eq!(
        fixture.add(&fixture.save("three.json", &fixture.item("three"))).unwrap(),
        counts(&[("p", 1)])
    );
    assert_eq!(fixture.ids(), ["one", "three", "two"]);
    assert_eq!(fixture.bands(), ["b1", "b2"]);
    let query = SceneQuery::all("p");
    let area = LonLatBox { west: -106.5, south: 40.0, east: -106.4, north: 41.0 };
    assert_eq!(run(fixture.catalog.search(&query, &area, 10)).unwrap().len(), 2, "the old box is gone");
    // What a collection no longer links to is gone, its bands too.
    assert_eq!(
        fixture.add(&fixture.save("collection.json", &collection("p", &["one"]))).unwrap(),
        counts(&[("p", 1)])
    );
    assert_eq!(fixture.ids(), ["one"]);
    assert_eq!(fixture.bands(), ["b1"]);
}

#[test]
fn links_in_circles_and_catalogs_between() {
    let fixture = Fixture::new();
    fixture.save("y/m/one.json", &item(&fixture.stac(), "one", "p", "2024-01-05", BBOX));
    fs::rename(fixture.stac().join("one.tif"), fixture.stac().join("y/m/one.tif")).unwrap();
    let group = |id: &str, children: Value| {
        let links: Vec<Value> = children
            .as_array()
            .unwrap()
            .iter()
            .map(|href| json!({"rel": "child", "href": href}))
            .chain([json!({"rel": "root", "href": "https://example.com/"})])
            .collect();
        json!({"type": "Catalog", "stac_version": "1.0.0", "id": id, "description": "", "links": links})
    };
    let mut top = group("p", json!(["y/catalog.json"]));
    top["type"] = json!("Collection");
    let top = fixture.save("collection.json", &top);
    let home = format!("file://{}", top.display());
    fixture.save("y/catalog.json", &group("y", json!(["./m/one.json", home, "m/../m/one.json"])));
    assert_eq!(fixture.add(&top).unwrap(), counts(&[("p", 1)]));
    assert_eq!(fixture.ids(), ["one"]);
}

#[test]
fn hrefs_lead_to_files_on_disk_or_are_refused() {
    let fixture = Fixture::new();
    let good = fixture.item("S1");
    fs::write(fixture.stac().join("a b.tif"), "x").unwrap();
    fs::write(fixture.stac().join("c%20d.tif"), "x").unwrap();
    let with = |href: &str| {
        let mut document = good.clone();
        document["assets"]["b1"]["href"] = json!(href);
        document
    };
    let root = fixture.stac().canonicalize().unwrap();
    for (href, expect) in [
        ("a b.tif".to_owned(), "a b.tif"),
        ("a%20b.tif".to_owned(), "a b.tif"),
        ("c%20d.tif".to_owned(), "c%20d.tif"),
        (format!("{}/S1.tif", root.display()), "S1.tif"),
        (format!("file://{}/a%20b.tif", root.display()), "a b.tif"),
        (format!("file://localhost{}/S1.tif", root.display()), "S1.tif"),
    ] {
        let scene = fixture.add_item(&with(&href));
        let path = root.join(expect).to_str().unwrap().to_owned();
        assert_eq!(scene.bands["b1"].asset.source, SourceRef::Local(path), "{href}");
    }
    for (href, class) in [
        ("ftp://example.com/a.tif", ErrorClass::Unsupported),
        ("mem:a.tif", ErrorClass::Unsupported),
        ("s3://bucket", ErrorClass::InvalidRequest),
        ("s3://bucket/a/../../b.tif", ErrorClass::InvalidRequest),
        ("s3://bucket/a.tif?x", ErrorClass::InvalidRequest),
        ("https://user:pass@example.com/a.tif", ErrorClass::InvalidRequest),
        ("https://example.com/a b.tif", ErrorClass::InvalidRequest),
        ("S1.tif<x", ErrorClass::InvalidRequest),
        ("..\\S1.tif", ErrorClass::InvalidRequest),
        ("//host/a.tif", ErrorClass::Unsupported),
        ("file://host/a.tif", ErrorClass::InvalidRequest),
        ("file:S1.tif", ErrorClass::InvalidRequest),
        ("S1.tif?x=1", ErrorClass::InvalidRequest),
        ("S1.tif#x", ErrorClass::InvalidRequest),
        ("S1.tif\u{0}", ErrorClass::InvalidRequest),
        ("S1.tif%00", ErrorClass::InvalidRequest),
        ("", ErrorClass::InvalidRequest),
        ("gone.tif", ErrorClass::Source),
        ("gone/gone.tif", ErrorClass::Source),
        ("..", ErrorClass::Source),
        (".", ErrorClass::Source),
        ("/dev/null", ErrorClass::Source),
        ("/vsimem/a.tif", ErrorClass::InvalidRequest),
        ("/vsicurl/https://example.com/a.tif", ErrorClass::InvalidRequest),
    ] {
        let error = fixture.refused(&with(href));
        assert!(matches!(error, CatalogError::Href { .. }), "{href}: {error:?}");
        assert_eq!(error.class(), class, "{href}: {error}");
    }
    let message = fixture.refused(&with("gone.tif")).to_string();
    for part in ["item.json", "`b1`", "`S1`", "gone.tif"] {
        assert!(message.contains(part), "{message}");
    }
    // Links, too.
    let mut remote = collection("p", &[]);
    remote["links"] = json!([{"rel": "item", "href": "https://example.com/items/1"}]);
    let error = fixture.refused(&remote);
    assert!(matches!(error, CatalogError::Href { problem: HrefProblem::Remote { .. }, .. }), "{error:?}");
    let error = fixture.refused(&collection("p", &["nowhere"]));
    assert!(matches!(error, CatalogError::Href { problem: HrefProblem::Missing { .. }, .. }), "{error:?}");
}

#[test]
fn ids_that_clash_are_refused_and_nothing_is_half_visible() {
    let fixture = Fixture::new();
    fixture.save("one.json", &fixture.item("one"));
    fixture.save("two.json", &fixture.item("one"));
    let error = fixture.refused(&collection("p", &["one", "two"]));
    assert!(matches!(&error, CatalogError::Duplicate { kind: "item", id, .. } if id == "one"), "{error}");
    let error = fixture.refused(&collection("q", &["one"]));
    assert!(matches!(&error, CatalogError::ForeignItem { linked, .. } if linked == "q"), "{error}");
    fixture.save("a.json", &collection("p", &["one"]));
    fixture.save("b.json", &collection("p", &[]));
    let links = json!([{"rel": "child", "href": "a.json"}, {"rel": "child", "href": "b.json"}]);
    let root = json!({"type": "Catalog", "stac_version": "1.0.0", "id": "root", "links": links});
    let error = fixture.refused(&root);
    assert!(matches!(&error, CatalogError::Duplicate { kind: "collection", .. }), "{error}");
    assert!(run(fixture.catalog.products()).unwrap().is_empty());
}

#[test]
fn a_chain_of_links_has_an_end() {
    let fixture = Fixture::new();
    for i in 0..40 {
        let links = json!([{"rel": "child", "href": format!("{}.json", i + 1)}]);
        let id = format!("c{i}");
        fixture.save(
            &format!("{i}.json"),
            &json!({"type": "Catalog", "stac_version": "1.0.0", "id": id, "links": links}),
        );
    }
    let error = fixture.add(&fixture.stac().join("0.json")).unwrap_err();
    assert!(matches!(error, CatalogError::Extent { what: "levels of links", .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::LimitExceeded);
}

#[test]
fn many_at_once() {
    let fixture = Fixture::new();
    let data = fixture.dir.path().join("fresh");
    for worker in 0..4 {
        let dir = fixture.stac().join(worker.to_string());
        fs::create_dir(&dir).unwrap();
        let names: Vec<String> = (0..30).map(|i| format!("i{i}")).collect();
        for name in &names {
            save(&dir, &format!("{name}.json"), &item(&dir, name, &format!("p{worker}"), "2024-01-05", BBOX));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        save(&dir, "collection.json", &collection(&format!("p{worker}"), &names));
    }
    // Every thread opens the catalog for itself, as processes would, while none exists yet.
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (data, dir) = (&data, fixture.stac().join(worker.to_string()));
            scope.spawn(move || {
                for _ in 0..3 {
                    let catalog = LocalCatalog::open(data).unwrap();
                    catalog.add(&dir, &Proj::new()).unwrap();
                    assert!(
                        run(catalog.products()).unwrap().iter().all(|p| p.scenes == 30),
                        "half a product"
                    );
                }
            });
        }
    });
    let products = run(LocalCatalog::open(&data).unwrap().products()).unwrap();
    assert_eq!(products.iter().map(|p| p.scenes).collect::<Vec<_>>(), [30; 4]);
    let left: Vec<_> = fs::read_dir(data.join("catalog")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().contains("draft")), "{left:?}");
}

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

#[test]
#[ignore = "needs shared"]
fn shared_real_rasters_register() {
    let fixture = Fixture::new();
    let added = fixture.add(&shared().join("catalog.json")).unwrap();
    assert!(added.contains(&("landsat57-colorado-ts".to_owned(), 105)), "{added:?}");
    let world = LonLatBox { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };
    for (product, scenes) in &added {
        let query = SceneQuery::all(product);
        let found = run(fixture.catalog.search(&query, &world, 1000)).unwrap();
        assert_eq!(found.len() as u64, *scenes, "{product}");
        let known = found.iter().flat_map(|s| s.bands.values()).all(|band| band.asset.raster.is_some());
        assert!(known, "{product}: every asset has a grid");
    }
}
