//! Bad input: one message that says what, where and how to go on, an exit code of its own, no file.

use std::path::Path;

use graticule_tests::colorado::{Imagery, examples};
use graticule_tests::process::run;
use serde_json::{Value, json};

const PLACE: [&str; 6] =
    ["--bounds", "336375,4460595,338205,4462425", "--crs", "EPSG:32613", "--resolution", "30"];

/// A way to go wrong.
struct Case {
    name: &'static str,
    /// The graft.
    graft: String,
    /// Where, and whatever else.
    arguments: Vec<&'static str>,
    /// Exit code.
    code: i32,
    /// What the message must hold.
    says: &'static [&'static str],
}

fn case(name: &'static str, graft: impl ToString, code: i32, says: &'static [&'static str]) -> Case {
    Case { name, graft: graft.to_string(), arguments: PLACE.to_vec(), code, says }
}

/// The main job with definitions added or replaced.
fn main_job(changes: Value) -> String {
    let mut graft: Value = serde_json::from_str(&graticule_tests::colorado::graft()).unwrap();
    let (Some(graft), Value::Object(changes)) = (graft.as_object_mut(), changes) else { unreachable!() };
    graft.extend(changes);
    serde_json::to_string(graft).unwrap()
}

/// A graft whose functions call one another, twice each: 2^40 steps in 40 lines.
fn exploding() -> String {
    let mut graft = json!({"one": 1, "plus": "add", "returns": "result", "result": ["f40", "one"]});
    graft["f0"] = json!({"parameters": ["x"], "returns": "y", "y": ["math", "plus", "x", "x"]});
    for at in 1..=40 {
        let inner = format!("f{}", at - 1);
        graft[format!("f{at}")] = json!({
            "parameters": ["x"], "returns": "y",
            "a": [inner, "x"], "b": [inner, "a"], "y": ["math", "plus", "a", "b"],
        });
    }
    graft.to_string()
}

fn grafts() -> Vec<Case> {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    vec![
        case("no JSON", "{\"returns\": ", 3, &["JSON", "line 1"]),
        case("nothing", "", 3, &["JSON"]),
        case("another value", "[1, 2]", 3, &["object"]),
        case("duplicate keys", r#"{"a": 1, "a": 2, "returns": "a"}"#, 3, &["`a`", "twice"]),
        case("depth", format!(r#"{{"a": {deep}, "returns": "a"}}"#), 7, &["256"]),
        case(
            "an unknown op",
            main_job(json!({"ndvi": ["frobnicate", "nir", "red"]})),
            3,
            &["frobnicate", "/ndvi"],
        ),
        case(
            "an unknown key",
            main_job(json!({"ndvi": ["math", "minus", "nir", "rde"]})),
            3,
            &["`rde`", "/ndvi"],
        ),
        case("a cycle", main_job(json!({"red": ["math", "minus", "nir", "ndvi"]})), 3, &["ndvi"]),
        case("too few arguments", main_job(json!({"ndvi": ["math", "minus", "nir"]})), 3, &["/ndvi"]),
        case("an unknown reduction", main_job(json!({"middle_value": "modal"})), 3, &["modal"]),
        case(
            "an unknown product",
            main_job(json!({"product": "sentinel-9"})),
            6,
            &["sentinel-9", "landsat57-colorado"],
        ),
        case("an unknown band", main_job(json!({"just_red": "[\"rad\"]"})), 4, &["rad", "red, nir, fmask"]),
        case("an unknown band to select", main_job(json!({"bands": "red nir fmask cirrus"})), 4, &["cirrus"]),
        case("an unknown function", main_job(json!({"divided_by": "modulus"})), 3, &["modulus", "/ndvi"]),
        case(
            "a pickled reducer",
            main_job(json!({"middle_value": "gAVLAS4="})),
            5,
            &["callable", "graft function"],
        ),
        case("an explosion", exploding(), 7, &["100000"]),
    ]
}

fn places() -> Vec<Case> {
    let graft = graticule_tests::colorado::graft();
    let place = |name, arguments: &[&'static str], code, says| Case {
        name,
        graft: graft.clone(),
        arguments: arguments.to_vec(),
        code,
        says,
    };
    let bounds = PLACE[1];
    vec![
        place(
            "too large",
            &["--bounds", bounds, "--crs", "EPSG:32613", "--resolution", "0.001"],
            7,
            &["1830000 rows", "the limit is"],
        ),
        place(
            "no such CRS",
            &["--bounds", bounds, "--crs", "EPSG:99999", "--resolution", "30"],
            3,
            &["EPSG:99999"],
        ),
        place(
            "inside out",
            &["--bounds", "2,2,1,1", "--crs", "EPSG:32613", "--resolution", "30"],
            3,
            &["bounds"],
        ),
        place("no resolution", &["--bounds", bounds, "--crs", "EPSG:32613"], 3, &["--resolution"]),
        place("no place", &["--crs", "EPSG:32613", "--resolution", "30"], 3, &["--bounds", "--geometry"]),
        place("no CRS", &["--bounds", bounds, "--resolution", "30"], 3, &["--crs"]),
        place(
            "three bounds",
            &["--bounds", "1,2,3", "--crs", "EPSG:32613", "--resolution", "30"],
            2,
            &["4 numbers"],
        ),
        place("an unknown option", &["--frobnicate"], 2, &["--frobnicate"]),
        place("an unknown ending", &["--out", "result.doc"], 2, &[".tif"]),
        place("an unknown pass", &[&PLACE[..], &["--without-pass", "magic"]].concat(), 3, &["magic"]),
        place("tile size", &[&PLACE[..], &["--tile-size", "9999999"]].concat(), 3, &["tile_size"]),
        place(
            "nobody there",
            &[&PLACE[..], &["--endpoint", "http://127.0.0.1:1"]].concat(),
            9,
            &["http://127.0.0.1:1"],
        ),
        place(
            "no address",
            &[&PLACE[..], &["--endpoint", "not an address"]].concat(),
            9,
            &["not an address"],
        ),
        place(
            "no folder",
            &[&PLACE[..], &["--out", "/no/such/folder/a.tif"]].concat(),
            1,
            &["/no/such/folder"],
        ),
        place(
            "no AOI file",
            &[&PLACE[..], &["--aoi", "/no/such/area.geojson"]].concat(),
            1,
            &["/no/such/area"],
        ),
    ]
}

async fn check(case: &Case, data: &Path, folder: &Path) -> Result<(), String> {
    let (graft, out) = (folder.join("graft.json"), folder.join("out"));
    std::fs::write(&graft, &case.graft).unwrap();
    std::fs::create_dir_all(&out).unwrap();
    let [data, graft, file] = [data, &graft, &out.join("result.npz")].map(|path| path.display().to_string());
    let arguments = ["--data", &data, "compute", &graft, "--out", &file];
    let ended = run(arguments.into_iter().chain(case.arguments.iter().copied())).await;
    let problem = |what: &str| Err(format!("{}: {what}: {ended:?}", case.name));
    if ended.code != Some(case.code) {
        return problem(&format!("expected exit code {}", case.code));
    }
    if let Some(part) = case.says.iter().find(|part| !ended.stderr.contains(**part)) {
        return problem(&format!("`{part}` is not said"));
    }
    if ended.stderr.contains("panicked") || !ended.stdout.is_empty() {
        return problem("more than one message");
    }
    if case.code != 2 && ended.stderr.trim_end().lines().count() != 1 {
        return problem("not one line");
    }
    if std::fs::read_dir(&out).unwrap().next().is_some() {
        return problem("a file is left");
    }
    Ok(())
}

async fn check_all(imagery: &Imagery, cases: Vec<Case>) {
    let mut problems = Vec::new();
    for case in cases {
        if let Err(problem) = check(&case, &imagery.data(), &imagery.out()).await {
            problems.push(problem);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_grafts() {
    let imagery = Imagery::committed();
    imagery.register();
    check_all(&imagery, grafts()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_places_and_command_lines() {
    let imagery = Imagery::committed();
    imagery.register();
    check_all(&imagery, places()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_source_file_and_what_may_not_be_registered() {
    let imagery = Imagery::copy();
    imagery.register();
    std::fs::remove_file(imagery.file("LE70350322010155EDC00", "fmask")).unwrap();
    let graft = graticule_tests::colorado::graft();
    check_all(&imagery, vec![case("a missing file", graft, 8, &["LE70350322010155EDC00", "fmask"])]).await;

    let data = imagery.data().display().to_string();
    let nothing = run(["--data", &data, "catalog", "add", "/no/such/catalog.json"]).await;
    assert_eq!(nothing.code, Some(6), "{nothing:?}");
    assert!(nothing.stderr.contains("/no/such/catalog.json"), "{}", nothing.stderr);

    let graft = examples().join("ndvi_median.graft.json").display().to_string();
    let empty = imagery.out().join("empty").display().to_string();
    let arguments = ["--data", &empty, "compute", &graft];
    let ended = run(arguments.into_iter().chain(PLACE)).await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("graticule catalog add"), "{}", ended.stderr);
}
