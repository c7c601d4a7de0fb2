//! What a document says, and which documents are refused.

use std::fs;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::grid::Crs;
use graticule_common::scene::{Affine, AssetGrid, SourceRef};
use serde_json::{Value, json};

use super::super::node::RawDocument;
use super::super::stac::{self, Defaults, Kind};
use super::super::walk::version_of;
use super::super::{CatalogError, SceneCatalog};
use super::{Fixture, run, shared};

#[test]
fn a_scene_has_what_the_item_says() {
    let fixture = Fixture::new();
    let mut document = fixture.item("S1");
    fs::create_dir(fixture.stac().join("deep")).unwrap();
    document["properties"] = json!({
        "datetime": "2024-01-05T11:00:00.250000+01:00", "eo:cloud_cover": 25, "platform": "landsat-7",
        "gsd": 30, "proj:epsg": 32613,
    });
    document["assets"] = json!({
        "red": {
            "href": "../stac/deep/.././S1.tif", "type": "image/tiff; application=geotiff", "roles": ["data"],
            "proj:shape": [61, 62], "proj:transform": [30, 0, 336375, 0, -30, 4462425, 0, 0, 1],
            "eo:bands": [{"name": "b3", "common_name": "red"}],
            "raster:bands": [{"data_type": "int16", "nodata": -9999, "scale": 0.0001}],
        },
        "thumbnail": {"href": "https://example.com/a.png", "type": "image/png", "roles": ["thumbnail"]},
        "notes": {"href": "gone.txt", "type": "text/plain"},
    });
    let scene = fixture.add_item(&document);
    assert_eq!((scene.id.as_str(), scene.product.as_str()), ("S1", "p"));
    assert_eq!(scene.acquired.to_string(), "2024-01-05T10:00:00.25Z");
    for (name, expect) in [
        ("id", json!("S1")),
        ("product_id", json!("p")),
        ("acquired", json!("2024-01-05T10:00:00.25Z")),
        ("cloud_fraction", json!(0.25)),
        ("satellite_id", json!("landsat-7")),
        ("geometry", json!("POLYGON ((-107 40, -106 40, -106 41, -107 41, -107 40))")),
        ("gsd", json!(30)),
        ("eo:cloud_cover", json!(25)),
    ] {
        assert_eq!(scene.properties[name], expect, "{name}");
    }
    assert_eq!(scene.bands.keys().collect::<Vec<_>>(), ["b3"]);
    let band = &scene.bands["b3"];
    assert_eq!((band.band, band.nodata, band.sample_bytes), (1, Some(-9999.0), Some(2)));
    assert_eq!(band.scale_offset, Some((0.0001, 0.0)));
    let file = fixture.stac().canonicalize().unwrap().join("S1.tif");
    assert_eq!(band.asset.source, SourceRef::Local(file.to_str().unwrap().to_owned()));
    assert_eq!(band.asset.version, version_of(&fs::metadata(&file).unwrap()));
    assert!(band.asset.version.starts_with("2-1"), "{}", band.asset.version);
    let crs = Crs::from_canonical("EPSG:32613");
    let grid =
        AssetGrid { crs, affine: Affine::upright((336375.0, 4462425.0), 30.0, -30.0), rows: 61, cols: 62 };
    assert_eq!(band.asset.raster, Some(grid));
}

#[test]
fn absent_values_are_null() {
    let fixture = Fixture::new();
    let mut document = fixture.item("S1");
    document["properties"] =
        json!({"datetime": null, "start_datetime": "2012-01-01T00:00:00Z", "eo:cloud_cover": -1});
    let scene = fixture.add_item(&document);
    assert_eq!(scene.acquired.to_string(), "2012-01-01T00:00:00Z");
    assert_eq!(scene.properties["cloud_fraction"], Value::Null);
    assert_eq!(scene.properties["satellite_id"], Value::Null);
    let band = &scene.bands["b1"];
    assert_eq!((band.nodata, band.scale_offset, band.sample_bytes), (None, None, None));
    assert_eq!(band.asset.raster, None);
}

/// The bands of an item with these assets, as `NAME=NUMBER`.
#[track_caller]
fn check_bands(assets: Value, expect: &[&str]) {
    let fixture = Fixture::new();
    let mut document = fixture.item("S1");
    document["assets"] = assets;
    document["properties"]["eo:bands"] = json!([{"name": "blue"}, {"name": "green"}]);
    for asset in document["assets"].as_object_mut().unwrap().values_mut() {
        asset["href"] = json!("S1.tif");
    }
    let scene = fixture.add_item(&document);
    let bands: Vec<String> = scene.bands.iter().map(|(name, band)| format!("{name}={}", band.band)).collect();
    assert_eq!(bands, expect);
}

#[test]
fn band_names() {
    let tiff = "image/tiff";
    // Asset key; common name; name; STAC 1.1; numbered; STAC 0.9.
    check_bands(json!({"x": {"type": tiff}}), &["x=1"]);
    check_bands(json!({"x": {"type": tiff, "eo:bands": [{"common_name": "red"}]}}), &["red=1"]);
    check_bands(json!({"x": {"type": tiff, "eo:bands": [{"name": "b", "common_name": "red"}]}}), &["b=1"]);
    check_bands(
        json!({"x": {"type": tiff, "bands": [{"name": "a"}, {"eo:common_name": "b"}]}}),
        &["a=1", "b=2"],
    );
    check_bands(json!({"x": {"type": tiff, "raster:bands": [{}, {}]}}), &["x_1=1", "x_2=2"]);
    check_bands(
        json!({"x": {"type": tiff, "raster:bands": [{}, {}], "eo:bands": [{"name": "a"}]}}),
        &["a=1", "x_2=2"],
    );
    check_bands(json!({"x": {"type": tiff, "eo:bands": [1]}}), &["green=1"]);
    // One name in two assets.
    let red = json!([{"name": "red"}]);
    check_bands(
        json!({"x": {"type": tiff, "eo:bands": red}, "y": {"type": tiff, "eo:bands": red}}),
        &["x:red=1", "y:red=1"],
    );
    check_bands(
        json!({"red": {"type": tiff, "eo:bands": red}, "red-jp2": {"type": "image/jp2", "eo:bands": red}}),
        &["red=1", "red-jp2:red=1"],
    );
    let visual = json!({"type": tiff, "eo:bands": [{"name": "red"}, {"name": "green"}]});
    check_bands(
        json!({"B04": {"type": tiff, "eo:bands": red}, "visual": visual}),
        &["green=2", "red=1", "visual:red=1"],
    );
    // What is a raster.
    check_bands(
        json!({
            "a": {"roles": ["data"]},
            "b": {"type": "image/png", "proj:shape": [1, 1]},
            "c": {"type": "IMAGE/TIFF; application=geotiff"},
            "d": {"type": "application/json", "roles": ["data"]},
            "e": {"type": "image/png"},
            "f": {"type": "image/tiff", "roles": ["thumbnail"]},
            "g": {},
            "h": {"type": "image/vnd.stac.geotiff; cloud-optimized=true", "roles": ["metadata"]},
        }),
        &["a=1", "b=1", "c=1", "h=1"],
    );
}

#[test]
fn values_of_bands() {
    let fixture = Fixture::new();
    let mut document = fixture.item("S1");
    document["stac_version"] = json!("1.1.0");
    document["assets"] = json!({"x": {
        "href": "S1.tif", "type": "image/tiff", "nodata": 0, "data_type": "uint8",
        "bands": [
            {"name": "a"},
            {"name": "b", "nodata": "nan", "data_type": "float32"},
            {"name": "c", "nodata": "-inf", "raster:offset": 5},
        ],
    }});
    let scene = fixture.add_item(&document);
    let band = |name: &str| &scene.bands[name];
    assert_eq!((band("a").nodata, band("a").sample_bytes), (Some(0.0), Some(1)));
    assert!(band("b").nodata.unwrap().is_nan());
    assert_eq!(band("b").sample_bytes, Some(4));
    assert_eq!((band("c").nodata, band("c").scale_offset), (Some(f64::NEG_INFINITY), Some((1.0, 5.0))));
}

#[test]
fn grids_of_assets() {
    let check = |asset: Value, expect: Option<&str>| {
        let fixture = Fixture::new();
        let mut document = fixture.item("S1");
        // Anywhere: what is looked at is how the grid reads.
        document["bbox"] = json!([-180, -90, 180, 90]);
        let assets = &mut document["assets"]["b1"];
        assets["proj:shape"] = json!([2, 3]);
        assets["proj:transform"] = json!([10, 0, 0, 0, -10, 0]);
        for (key, value) in asset.as_object().unwrap() {
            assets[key] = value.clone();
        }
        let scene = fixture.add_item(&document);
        let raster = scene.bands["b1"].asset.raster.clone();
        assert_eq!(raster.as_ref().map(|raster| raster.crs.as_str()), expect, "{asset}");
    };
    check(json!({}), Some("EPSG:32613"));
    check(json!({"proj:epsg": 4326}), Some("EPSG:4326"));
    check(json!({"proj:code": "ESRI:54009"}), Some("ESRI:54009"));
    check(json!({"proj:epsg": null}), None);
    check(json!({"proj:transform": [10, 0.5, 0, 0, -10, 0]}), Some("EPSG:32613"));
    check(json!({"proj:transform": [-10, 0, 0, 0, -10, 0]}), Some("EPSG:32613"));
    check(json!({"proj:transform": [10, 10, 0, 10, 10, 0]}), None);
    check(json!({"proj:transform": [10, 0, 0, 0, 10, 0]}), Some("EPSG:32613"));
    check(json!({"proj:shape": null}), None);
    let wkt = "GEOGCS[\"WGS 84\",DATUM[\"WGS_1984\",SPHEROID[\"WGS 84\",6378137,298.257223563]],\
               PRIMEM[\"Greenwich\",0],UNIT[\"degree\",0.0174532925199433]]";
    check(json!({"proj:epsg": null, "proj:wkt2": wkt}), Some("EPSG:4326"));
}

/// Pixels would be looked for where they are not, and nothing would say so.
#[test]
fn a_grid_far_from_its_item_does_not_count() {
    let fixture = Fixture::new();
    let mut document = fixture.item("S1");
    let asset = &mut document["assets"]["b1"];
    asset["proj:shape"] = json!([100, 100]);
    asset["proj:transform"] = json!([10, 0, 380000, 0, -10, 4480000]);
    assert!(fixture.add_item(&document).bands["b1"].asset.raster.is_some(), "it is there");
    document["assets"]["b1"]["proj:epsg"] = json!(32633);
    let added = fixture
        .catalog
        .add(&fixture.save("item.json", &document), &graticule_common::transform::Proj::new())
        .unwrap();
    let [warning] = &added.warnings[..] else { panic!("{:?}", added.warnings) };
    assert!(warning.contains("`b1`") && warning.contains("`S1`") && warning.contains("bbox"), "{warning}");
    assert_eq!(fixture.scenes()[0].bands["b1"].asset.raster, None);
}

#[test]
fn malformed_documents_are_refused_by_member() {
    let fixture = Fixture::new();
    let good = fixture.item("S1");
    let member = |pointer: &str, value: Value| {
        let mut document = good.clone();
        match document.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                document.pointer_mut(parent).unwrap()[key] = value;
            }
        }
        document
    };
    for (pointer, value) in [
        ("/id", json!(7)),
        ("/id", json!("")),
        ("/id", json!("a\u{0}b")),
        ("/id", Value::Null),
        ("/collection", json!(["p"])),
        ("/geometry", Value::Null),
        ("/geometry", json!({"type": "Polygon", "coordinates": "x"})),
        ("/bbox", json!([1, 2, 3])),
        ("/bbox", json!([0, 5, 1, 4])),
        ("/bbox", json!([300000, 4400000, 300100, 4400100])),
        ("/properties", Value::Null),
        ("/properties/datetime", Value::Null),
        ("/properties/datetime", json!("last summer")),
        ("/properties/datetime", json!(2024)),
        ("/properties/eo:cloud_cover", json!("low")),
        ("/properties/platform", json!(7)),
        ("/properties/proj:epsg", json!("32613")),
        ("/assets/b1", json!("b1.tif")),
        ("/assets/b1/href", Value::Null),
        ("/assets/b1/roles", json!("data")),
        ("/assets/b1/eo:bands", json!({"name": "b"})),
        ("/assets/b1/eo:bands", json!([7])),
        ("/assets/b1/eo:bands", json!([{"name": 7}])),
        ("/assets/b1/raster:bands", json!([{"nodata": "none"}])),
        ("/assets/b1/raster:bands", json!([{"scale": 0}])),
        ("/assets/b1/raster:bands", json!([{"data_type": 16}])),
        ("/assets/b1/proj:shape", json!([0, 10])),
        ("/assets/b1/proj:shape", json!([1.5, 10])),
        ("/assets/b1/proj:transform", json!([1, 2, 3])),
        ("/assets/b1/proj:transform", json!([10, 0, 0, 0, -10, 0, 0, 0, 2])),
    ] {
        let error = fixture.refused(&member(pointer, value.clone()));
        let CatalogError::Member { file, member, .. } = &error else {
            panic!("{pointer} = {value}: {error:?}")
        };
        assert!(file.ends_with("item.json"), "{file}");
        let near = pointer.trim_end_matches("/datetime");
        assert!(member.starts_with(near), "{pointer} = {value}: {member}");
        assert_eq!(error.class(), ErrorClass::InvalidRequest);
    }
    let error = fixture.refused(&member("/properties/proj:epsg", json!(999_999)));
    assert!(
        matches!(&error, CatalogError::Crs { member, .. } if member == "/properties/proj:epsg"),
        "{error}"
    );
    let error = fixture.refused(&member("/assets/b1/proj:code", json!("/etc/hostname")));
    assert!(matches!(&error, CatalogError::Crs { .. }), "{error}");
    let error = fixture.refused(&member("/collection", Value::Null));
    assert!(matches!(&error, CatalogError::NoCollection { item, .. } if item == "S1"), "{error}");
    for assets in [json!({}), Value::Null, json!({"a": {"href": "a.txt", "type": "text/plain"}})] {
        let error = fixture.refused(&member("/assets", assets));
        assert!(matches!(&error, CatalogError::NoRaster { .. }), "{error}");
    }
    let band = json!({"href": "S1.tif", "type": "image/tiff", "eo:bands": [{"name": "b"}, {"name": "b"}]});
    let error = fixture.refused(&member("/assets", json!({"x": band})));
    assert!(matches!(&error, CatalogError::DuplicateBand { band, .. } if band == "b"), "{error}");
    assert!(run(fixture.catalog.products()).unwrap().is_empty(), "a refused document leaves nothing");
}

#[test]
fn what_is_not_stac_is_refused() {
    let fixture = Fixture::new();
    let refused = |text: &str| {
        let path = fixture.stac().join("x.json");
        fs::write(&path, text).unwrap();
        fixture.add(&path).unwrap_err()
    };
    for text in
        ["", "{", "[1]", "7", "{\"assets\": []}", "{\"assets\": {\"a\": {}, \"a\": {}}}", "{\"x\": NaN}"]
    {
        let error = refused(text);
        assert!(matches!(error, CatalogError::NotJson { .. }), "{text}: {error:?}");
    }
    let deep =
        format!("{{\"stac_version\": \"1.0.0\", \"x\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(matches!(refused(&deep), CatalogError::NotJson { .. }));
    for text in [
        r#"{"type": "Feature", "id": "a"}"#,
        r#"{"stac_version": "0.6.0", "id": "a"}"#,
        r#"{"stac_version": "1.0.0", "type": "Circle", "features": []}"#,
    ] {
        assert!(matches!(refused(text), CatalogError::NotStac { .. }), "{text}");
    }
    let empty = r#"{"stac_version": "1.0.0", "type": "Catalog", "id": "a", "links": []}"#;
    assert!(matches!(refused(empty), CatalogError::NoItems { .. }));
    assert!(matches!(refused("\u{0}"), CatalogError::NotJson { .. }));
    fs::write(fixture.stac().join("bytes.json"), [0xff, 0xfe]).unwrap();
    assert!(matches!(fixture.add(&fixture.stac().join("bytes.json")), Err(CatalogError::NotJson { .. })));
    for nowhere in [fixture.stac().join("nowhere.json"), fixture.stac()] {
        let error = fixture.add(&nowhere).unwrap_err();
        assert!(matches!(error, CatalogError::NoDocument { .. }), "{error:?}");
        assert_eq!(error.class(), ErrorClass::NotFound);
    }
}

#[test]
#[ignore = "needs shared"]
fn shared_real_items_parse() {
    let mut items = 0;
    for entry in fs::read_dir(shared().join("stac-items-real")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.display().to_string();
        let document: RawDocument = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        match stac::kind(&name, &document).unwrap_or_else(|e| panic!("{e}")) {
            Kind::Item => {
                items += 1;
                let item =
                    stac::item(&name, &document, &Defaults::default()).unwrap_or_else(|e| panic!("{e}"));
                let bands = item.bands();
                assert!(!bands.is_empty(), "{name}");
                assert!(bands.iter().all(|(band, _)| band != "thumbnail"), "{name}");
            }
            Kind::Group(group) => assert!(group.is_collection, "{name}"),
            Kind::Items => panic!("{name}"),
        }
    }
    assert_eq!(items, 10);
}
