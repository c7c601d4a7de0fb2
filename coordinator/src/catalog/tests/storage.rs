//! What is on disk: full disks, damaged indexes, garbage, and large inputs.

use std::fs;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::transform::Proj;
use serde_json::{Value, json};

use super::super::conformance::{self, collection};
use super::super::{AddOptions, CatalogError, Input, LocalCatalog};
use super::{Fixture, counts, run};

impl Fixture {
    fn reopened(&self) -> LocalCatalog {
        LocalCatalog::open(&self.dir.path().join("data")).unwrap()
    }

    /// Files in the catalog's folder whose names end so.
    fn files(&self, folder: &str, end: &str) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("data/catalog").join(folder)).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.to_str().unwrap().ends_with(end));
        paths.sort();
        paths
    }

    /// Documents of `count` items, one a line.
    fn lines(&self, count: usize, change: impl Fn(usize, &mut Value)) -> String {
        let scratch = tempfile::tempdir().unwrap();
        let base = conformance::item(scratch.path(), "i", "p", "2024-01-05T10:00:00Z", super::BBOX);
        let file = self.stac().join("i.tif");
        if !file.exists() {
            fs::write(file, "i").unwrap();
        }
        let line = |at: usize| {
            let mut item = base.clone();
            item["id"] = json!(format!("i{at}"));
            change(at, &mut item);
            item.to_string() + "\n"
        };
        (0..count).map(line).collect()
    }

    fn add_lines(&self, text: &str) -> Result<Vec<(u64, u64, u64)>, CatalogError> {
        let (folder, proj) = (self.stac(), Proj::new());
        let mut reader = text.as_bytes();
        let input = Input::Lines { reader: &mut reader, name: "-", folder: &folder };
        let added = self.catalog.add_all(&mut [input], &AddOptions::new(&proj))?;
        Ok(added.products.iter().map(|product| (product.new, product.updated, product.unchanged)).collect())
    }
}

#[test]
fn what_is_new_updated_and_unchanged() {
    let fixture = Fixture::new();
    assert_eq!(fixture.add_lines(&fixture.lines(3, |_, _| ())).unwrap(), [(3, 0, 0)]);
    assert_eq!(fixture.add_lines(&fixture.lines(3, |_, _| ())).unwrap(), [(0, 0, 3)]);
    assert_eq!(fixture.files("segments", "").len(), 1, "what is unchanged is not written again");
    let changed = |at: usize, item: &mut Value| item["properties"]["gsd"] = json!(at.min(1));
    assert_eq!(fixture.add_lines(&fixture.lines(3, changed)).unwrap(), [(0, 3, 0)]);
    let again = |at: usize, item: &mut Value| item["properties"]["gsd"] = json!(at);
    assert_eq!(fixture.add_lines(&fixture.lines(4, again)).unwrap(), [(1, 1, 2)]);
    // A file that changed is a change, too.
    fs::write(fixture.stac().join("i.tif"), "other contents").unwrap();
    assert_eq!(fixture.add_lines(&fixture.lines(4, again)).unwrap(), [(0, 4, 0)]);
    assert_eq!(fixture.add_lines("\n\n").unwrap(), []);
}

#[test]
fn a_full_disk_leaves_what_was() {
    let fixture = Fixture::new();
    fixture.add_lines(&fixture.lines(2, |_, _| ())).unwrap();
    fixture.catalog.fill_disk_after(3000);
    let error = fixture.add_lines(&fixture.lines(50, |_, item| item["collection"] = json!("q"))).unwrap_err();
    assert!(matches!(error, CatalogError::Write { .. }), "{error}");
    assert!(error.to_string().contains("space") && error.to_string().contains("unchanged"), "{error}");
    assert_eq!(fixture.files("segments", "").len(), 1, "no draft is left");
    assert_eq!(fixture.ids(), ["i0", "i1"]);
    assert!(fixture.catalog.document("q", None).is_err());
    fixture.catalog.fill_disk_after(u64::MAX);
    assert_eq!(fixture.add_lines(&fixture.lines(3, |_, _| ())).unwrap(), [(1, 0, 2)]);
}

#[test]
fn an_error_in_the_last_line_leaves_nothing_of_the_others() {
    let fixture = Fixture::new();
    let mut text = fixture.lines(3, |_, _| ());
    text.push_str("{\"type\": \"Feature\"}\n");
    let error = fixture.add_lines(&text).unwrap_err();
    assert!(error.to_string().contains("`-:4`"), "{error}");
    assert!(run(super::SceneCatalog::products(&fixture.catalog)).unwrap().is_empty());
    let twice = fixture.lines(1, |_, _| ()).repeat(2);
    let error = fixture.add_lines(&twice).unwrap_err();
    let CatalogError::Duplicate { first, second, .. } = &error else { panic!("{error}") };
    assert_eq!((first.as_str(), second.as_str()), ("-:1", "-:2"));
}

#[test]
fn the_index_is_made_again_from_the_documents() {
    let fixture = Fixture::new();
    fixture.add(&conformance::write(&fixture.stac())).unwrap();
    // Some history: items that change, and go.
    fixture.add_lines(&fixture.lines(5, |_, item| item["collection"] = json!("other"))).unwrap();
    fixture.catalog.remove("other", &["i1".to_owned()], &|_| ()).unwrap();
    fixture.catalog.remove("other", &[], &|_| ()).unwrap();
    let index = fixture.files("", ".sqlite").remove(0);
    let damages: [&dyn Fn(); 5] = [
        &|| fs::remove_file(&index).unwrap(),
        &|| fs::write(&index, "not a database, but long enough to be taken for one".repeat(20)).unwrap(),
        &|| fs::write(&index, "").unwrap(),
        &|| {
            let newer = rusqlite::Connection::open(&index).unwrap();
            newer.pragma_update(None, "user_version", 99).unwrap();
        },
        // Of fewer segments: as when a process is killed between segment and index.
        &|| {
            let older = rusqlite::Connection::open(&index).unwrap();
            older.execute_batch("DELETE FROM segments WHERE number = 3").unwrap();
        },
    ];
    for damage in damages {
        for path in fixture.files("", ".sqlite") {
            if path != index {
                fs::rename(&path, &index).unwrap();
            }
        }
        for path in fixture.files("", "-wal").into_iter().chain(fixture.files("", "-shm")) {
            fs::remove_file(path).unwrap();
        }
        damage();
        let catalog = fixture.reopened();
        run(conformance::check(&catalog));
        catalog.reindex(&|_| ()).unwrap();
        run(conformance::check(&catalog));
    }
}

#[test]
fn a_segment_that_is_not_indexed_yet_is_found() {
    let fixture = Fixture::new();
    fixture.add_lines(&fixture.lines(2, |_, _| ())).unwrap();
    // A process that was killed before its index was committed leaves a segment; before that, a draft.
    let segment = fs::read_to_string(&fixture.files("segments", ".ndjson")[0]).unwrap();
    let line = segment.lines().next().unwrap().replace("i0", "late");
    let folder = fixture.dir.path().join("data/catalog/segments");
    fs::write(folder.join("0000000002.ndjson"), line.clone() + "\n").unwrap();
    fs::write(folder.join("0000000003.draft"), &line[..20]).unwrap();
    let catalog = fixture.reopened();
    assert!(catalog.document("p", Some("late")).unwrap().unwrap().contains("late"));
    assert_eq!(fixture.ids(), ["i0", "i1", "late"], "whoever had it open sees it too");
    assert_eq!(fixture.add_lines(&fixture.lines(3, |_, _| ())).unwrap(), [(1, 0, 2)]);
    assert!(fixture.files("segments", ".draft").is_empty());
}

#[test]
fn garbage_goes() {
    let fixture = Fixture::new();
    fixture.save("one.json", &fixture.item("one"));
    fixture.add(&fixture.save("c.json", &collection("c", &[]))).unwrap();
    // One file for each registration would be a million files in time.
    for at in 0..300 {
        let changed = |_: usize, item: &mut Value| item["properties"]["gsd"] = json!(at);
        fixture.add_lines(&fixture.lines(1, changed)).unwrap();
    }
    let segments = fixture.files("segments", ".ndjson");
    assert!(segments.len() < 100, "{}", segments.len());
    assert!(segments[0].to_str().unwrap().ends_with(".base.ndjson"), "{segments:?}");
    let check = |catalog: &LocalCatalog| {
        let document = catalog.document("p", Some("i0")).unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&document).unwrap()["properties"]["gsd"], 299);
        assert!(catalog.document("c", None).unwrap().unwrap().contains("Collection"));
    };
    check(&fixture.catalog);
    fixture.catalog.reindex(&|_| ()).unwrap();
    check(&fixture.catalog);
    check(&fixture.reopened());
}

#[test]
fn item_collections_of_any_size() {
    let fixture = Fixture::new();
    let features: Vec<Value> =
        fixture.lines(3, |_, _| ()).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let small = json!({"type": "FeatureCollection", "features": features});
    assert_eq!(fixture.add(&fixture.save("small.json", &small)).unwrap(), counts(&[("p", 3)]));
    // Longer than what is held at once.
    let path = fixture.stac().join("large.json");
    let padding = "x".repeat(3 << 20);
    let items = fixture.lines(8, |_, item| item["properties"]["note"] = json!(padding));
    let items: Vec<&str> = items.lines().collect();
    fs::write(&path, format!(r#"{{"features": [{}], "type": "FeatureCollection"}}"#, items.join(",")))
        .unwrap();
    assert_eq!(fixture.add(&path).unwrap(), counts(&[("p", 8)]));
    let broken = fs::read_to_string(&path).unwrap().replacen("\"i5\"", "5", 1);
    fs::write(&path, broken).unwrap();
    assert!(matches!(fixture.add(&path), Err(CatalogError::Member { .. })));
    fs::write(&path, format!(r#"{{"type": "Feature", "x": "{}"}}"#, "x".repeat(17 << 20))).unwrap();
    let error = fixture.add(&path).unwrap_err();
    assert_eq!(error.class(), ErrorClass::LimitExceeded, "{error}");
}

#[test]
fn a_collection_says_what_items_leave_out() {
    let fixture = Fixture::new();
    fixture.add_lines(&fixture.lines(2, |_, _| ())).unwrap();
    assert_eq!(fixture.scenes()[0].bands["b1"].nodata, None);
    let mut document = collection("p", &[]);
    document["item_assets"] = json!({"b1": {"nodata": -1, "eo:bands": [{"name": "red", "common_name": "red"}],
        "classification:classes": [{"value": 3, "name": "snow", "color_hint": "FFffF0"}], "unit": "m"}});
    fixture.add(&fixture.save("c.json", &document)).unwrap();
    let check = |catalog: &LocalCatalog| {
        let product = catalog.product_now("p").unwrap();
        assert_eq!((product.bands.as_slice(), product.scenes), (&["red".to_owned()][..], 2));
        let info = &product.band_info["red"];
        assert_eq!((info.common_name.as_deref(), info.unit.as_deref()), (Some("red"), Some("m")));
        assert_eq!((info.classes[0].value, info.classes[0].color), (3, Some([255, 255, 240])));
        for scene in fixture.scenes() {
            assert_eq!(scene.bands["red"].nodata, Some(-1.0));
            assert!(scene.bands["red"].is_classes);
            assert_eq!(scene.properties["bands"], json!(["red"]));
        }
    };
    check(&fixture.catalog);
    fixture.catalog.reindex(&|_| ()).unwrap();
    check(&fixture.catalog);
    // The item's own word counts more.
    let own = |_: usize, item: &mut Value| item["assets"]["b1"]["nodata"] = json!(7);
    fixture.add_lines(&fixture.lines(2, own)).unwrap();
    assert_eq!(fixture.scenes()[0].bands["red"].nodata, Some(7.0));
}

#[test]
fn removals() {
    let fixture = Fixture::new();
    fixture.add_lines(&fixture.lines(3, |_, _| ())).unwrap();
    let remove = |product: &str, items: &[&str]| {
        let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
        fixture.catalog.remove(product, &items, &|_| ())
    };
    assert!(matches!(remove("q", &[]), Err(CatalogError::UnknownProduct { .. })));
    assert!(matches!(remove("p", &["i0", "i7"]), Err(CatalogError::UnknownItem { .. })));
    assert_eq!(fixture.ids().len(), 3, "nothing is removed where one is unknown");
    assert_eq!(remove("p", &["i0", "i2"]).unwrap(), 2);
    assert_eq!(fixture.ids(), ["i1"]);
    assert_eq!(remove("p", &[]).unwrap(), 1);
    assert!(matches!(remove("p", &[]), Err(CatalogError::UnknownProduct { .. })));
}
