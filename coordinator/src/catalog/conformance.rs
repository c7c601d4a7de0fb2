//! What every catalog must do. Each implementation loads [`write`]'s documents and runs [`check`].

use std::fs;
use std::path::{Path, PathBuf};

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::predicate::Predicate;
use graticule_common::scene::{LonLatBox, SceneQuery, Timestamp};
use serde_json::{Value, json};

use super::{CatalogError, SceneCatalog};

/// An item of one band `b1` over a box, with its file beside it.
pub(super) fn item(dir: &Path, id: &str, product: &str, datetime: &str, bbox: [f64; 4]) -> Value {
    let [w, s, e, n] = bbox;
    fs::write(dir.join(format!("{id}.tif")), id).unwrap();
    json!({
        "type": "Feature", "stac_version": "1.0.0", "id": id, "collection": product,
        "geometry": {"type": "Polygon", "coordinates": [[[w, s], [e, s], [e, n], [w, n], [w, s]]]},
        "bbox": bbox,
        "properties": {"datetime": datetime, "proj:epsg": 32613},
        "links": [],
        "assets": {"b1": {"href": format!("./{id}.tif"), "type": "image/tiff", "roles": ["data"]}},
    })
}

pub(super) fn save(dir: &Path, name: &str, document: &Value) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, document.to_string()).unwrap();
    path
}

/// A collection that links to items of these names.
pub(super) fn collection(id: &str, items: &[&str]) -> Value {
    let links: Vec<Value> =
        items.iter().map(|name| json!({"rel": "item", "href": format!("./{name}.json")})).collect();
    json!({
        "type": "Collection", "stac_version": "1.0.0", "id": id, "title": format!("The {id}"),
        "description": "", "license": "MIT", "extent": {}, "links": links,
    })
}

/// Writes the catalog that [`check`] expects, and returns its path.
pub(super) fn write(dir: &Path) -> PathBuf {
    let items = [
        // Written out of order; `b` and `a` share an instant.
        ("late", "2024-03-01T00:00:00Z", [10.0, 40.0, 11.0, 41.0]),
        ("b", "2024-02-01T12:00:00Z", [10.0, 40.0, 11.0, 41.0]),
        ("a", "2024-02-01T13:00:00+01:00", [10.0, 40.0, 11.0, 41.0]),
        ("east", "2024-02-02T00:00:00Z", [20.0, 40.0, 21.0, 41.0]),
        ("dateline", "2024-02-03T00:00:00Z", [179.0, -1.0, -179.0, 1.0]),
    ];
    for (id, datetime, bbox) in items {
        save(dir, &format!("{id}.json"), &item(dir, id, "conformance", datetime, bbox));
    }
    save(dir, "conformance.json", &collection("conformance", &items.map(|(id, ..)| id)));
    let empty = json!({
        "type": "Collection", "stac_version": "1.0.0", "id": "empty", "description": "", "license": "MIT",
        "extent": {}, "links": [],
    });
    save(dir, "empty.json", &empty);
    let links =
        [json!({"rel": "child", "href": "conformance.json"}), json!({"rel": "child", "href": "empty.json"})];
    let root =
        json!({"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "", "links": links});
    save(dir, "catalog.json", &root)
}

/// The contract of [`SceneCatalog`], on a catalog that holds what [`write`] wrote and nothing else.
pub(super) async fn check(catalog: &dyn SceneCatalog) {
    let time = |text: &str| Some(Timestamp::parse(text).unwrap());
    let area = |west, south, east, north| LonLatBox { west, south, east, north };
    let world = area(-180.0, -90.0, 180.0, 90.0);
    let find = async |start: Option<Timestamp>, end: Option<Timestamp>, area: LonLatBox| {
        let query = SceneQuery { start, end, ..SceneQuery::all("conformance") };
        let scenes = catalog.search(&query, &area, 100).await.unwrap();
        scenes.into_iter().map(|scene| scene.id).collect::<Vec<_>>()
    };

    let products = catalog.products().await.unwrap();
    assert_eq!(products.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["conformance", "empty"]);
    assert_eq!((products[0].title.as_str(), products[1].title.as_str()), ("The conformance", "empty"));
    assert_eq!((products[0].scenes, products[1].scenes), (5, 0));
    assert_eq!(products[0].bands, ["b1"]);
    assert_eq!(products[0].acquired, time("2024-02-01T12:00:00").zip(time("2024-03-01")));
    assert_eq!(products[1].acquired, None);

    // Order: time, then id.
    assert_eq!(find(None, None, world).await, ["a", "b", "east", "dateline", "late"]);
    // Half-open time.
    assert_eq!(find(time("2024-02-01T12:00:00"), time("2024-02-02"), world).await, ["a", "b"]);
    assert_eq!(
        find(time("2024-02-01T12:00:00.000001"), time("2024-02-02T00:00:00.000001"), world).await,
        ["east"]
    );
    assert_eq!(find(time("2024-03-01"), None, world).await, ["late"]);
    assert!(find(None, time("2024-02-01T12:00:00"), world).await.is_empty());
    assert!(find(time("2024-03-01"), time("2024-02-01"), world).await.is_empty());
    // Space: edges count, the next double beyond them does not.
    assert_eq!(find(None, None, area(21.0, 41.0, 22.0, 42.0)).await, ["east"]);
    assert!(find(None, None, area(21.0_f64.next_up(), 41.0, 22.0, 42.0)).await.is_empty());
    assert!(find(None, None, area(12.0, 40.0, 19.0, 41.0)).await.is_empty());
    // The world is round.
    assert_eq!(find(None, None, area(179.5, 0.0, 179.6, 0.1)).await, ["dateline"]);
    assert_eq!(find(None, None, area(-179.6, 0.0, -179.5, 0.1)).await, ["dateline"]);
    assert_eq!(find(None, None, area(180.5, 0.0, 180.6, 0.1)).await, ["dateline"]);
    assert_eq!(find(None, None, area(-200.0, 0.0, -179.5, 0.1)).await, ["dateline"]);
    assert!(find(None, None, area(0.0, 0.0, 1.0, 0.1)).await.is_empty());

    // Predicates, those that an index may decide and others.
    let filtered = async |predicate: Value| {
        let predicate = Some(Predicate::parse(&predicate.to_string()).unwrap());
        let query = SceneQuery { predicate, ..SceneQuery::all("conformance") };
        let scenes = catalog.search(&query, &world, 3).await.unwrap();
        scenes.into_iter().map(|scene| scene.id).collect::<Vec<_>>()
    };
    let one = |op: &str, name: &str, val: Value| json!({"op": op, "name": name, "val": val});
    assert_eq!(filtered(one("eq", "id", json!("b"))).await, ["b"]);
    assert_eq!(
        filtered(json!({"or": [one("eq", "id", json!("late")), one("eq", "id", json!("a"))]})).await,
        ["a", "late"]
    );
    assert_eq!(filtered(one("like", "id", json!("%a_t"))).await, ["east"]);
    assert_eq!(
        filtered(one("gt", "acquired", json!("2024-02-02T01:00:00+01:00"))).await,
        ["dateline", "late"]
    );
    assert_eq!(
        filtered(one("lt", "cloud_fraction", json!(0.5))).await,
        ["a"; 0],
        "what is missing is not less"
    );
    assert_eq!(
        filtered(json!([one("ne", "satellite_id", json!("x")), one("eq", "id", json!("a"))])).await,
        ["a"]
    );
    assert_eq!(filtered(one("eq", "id", json!("nobody"))).await, ["a"; 0]);
    assert_eq!(filtered(one("eq", "bands", json!("b2"))).await, ["a"; 0]);
    let here = SceneQuery {
        predicate: Some(Predicate::parse(&one("eq", "id", json!("east")).to_string()).unwrap()),
        ..SceneQuery::all("conformance")
    };
    let elsewhere = area(0.0, 0.0, 1.0, 1.0);
    assert!(catalog.search(&here, &elsewhere, 5).await.unwrap().is_empty(), "an id does not move a scene");

    // All or an error.
    let all = SceneQuery::all("conformance");
    assert_eq!(catalog.search(&all, &world, 5).await.unwrap().len(), 5);
    assert_eq!(catalog.search(&all, &world, usize::MAX).await.unwrap().len(), 5);
    for limit in [0, 4] {
        let error = catalog.search(&all, &world, limit).await.unwrap_err();
        assert!(matches!(error, CatalogError::TooManyScenes { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::LimitExceeded);
    }
    let none = SceneQuery { product: "empty".to_owned(), ..all.clone() };
    assert!(catalog.search(&none, &world, 5).await.unwrap().is_empty());
    let unknown = SceneQuery { product: "nowhere".to_owned(), ..all };
    let error = catalog.search(&unknown, &world, 5).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
    let message = error.to_string();
    assert!(message.contains("`nowhere`") && message.contains("conformance, empty"), "{message}");
    assert!(message.contains("graticule catalog add"), "{message}");
}
