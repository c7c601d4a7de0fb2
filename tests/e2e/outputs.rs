//! What `graticule compute` writes: read back with other programs' libraries, complete or not there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use gdal::{Dataset, Metadata};
use graticule_tests::colorado::{Imagery, examples, graft};
use graticule_tests::process::{Ended, Process, graticule, run};
use ndarray::{Array3, ArrayD};
use ndarray_npy::{NpzReader, ReadNpyExt};
use serde_json::Value;

const PLACE: [&str; 4] = ["--bounds", "336375,4460595,338205,4462425", "--crs", "EPSG:32613"];

/// Imagery, and a folder to write to.
struct Bench {
    imagery: Imagery,
    graft: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let imagery = Imagery::committed();
        imagery.register();
        Bench { imagery, graft: examples().join("ndvi_median.graft.json") }
    }

    /// The same imagery, another graft.
    fn with(graft: &str) -> Bench {
        let bench = Bench::new();
        let file = bench.imagery.data().join("graft.json");
        std::fs::write(&file, graft).unwrap();
        Bench { graft: file, ..bench }
    }

    /// The main job on its last three scenes, for grids of many pixels.
    fn light() -> Bench {
        Bench::with(&graft().replace("2008-01-01T00", "2013-01-01T00"))
    }

    fn out(&self, name: &str) -> PathBuf {
        self.imagery.out().join(name)
    }

    /// Arguments; those that begin with `@` name files in the folder for results.
    fn arguments(&self, resolution: &str, more: &[&str]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["--data".into(), self.imagery.data().into(), "compute".into()];
        arguments.push(self.graft.clone().into());
        arguments.extend(PLACE.iter().copied().chain(["--resolution", resolution]).map(OsString::from));
        arguments.extend(more.iter().map(|argument| match argument.strip_prefix('@') {
            Some(name) => self.out(name).into(),
            None => (*argument).into(),
        }));
        arguments
    }

    async fn compute(&self, resolution: &str, more: &[&str]) -> Ended {
        run(self.arguments(resolution, more)).await
    }

    /// Names in the folder for results, hidden ones too.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.imagery.out()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn done(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[track_caller]
fn refused(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    for part in says {
        assert!(ended.stderr.contains(part), "`{part}` is said in: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
}

fn npz(path: &Path) -> (Array3<f32>, Array3<bool>) {
    let mut npz = NpzReader::new(std::fs::File::open(path).unwrap()).unwrap();
    (npz.by_name("data").unwrap(), npz.by_name("mask").unwrap())
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn pixels<T: gdal::raster::GdalType + Copy>(dataset: &Dataset, band: usize) -> Vec<T> {
    let size = dataset.raster_size();
    dataset.rasterband(band).unwrap().read_as::<T>((0, 0), size, size, None).unwrap().data().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_result_in_every_form() {
    let bench = Bench::light();
    let more =
        ["--out", "@a.tif", "--out", "@a.npz", "--out", "@a.npy", "--out", "@a.png", "--report", "@r.json"];
    let ended = bench.compute("3", &more).await;
    done(&ended);
    // A pipe is no terminal: nothing moves, nothing is coloured.
    assert_eq!(ended.stderr, "");
    assert!(!ended.stdout.contains('\x1b') && ended.stdout.contains("wrote    "), "{}", ended.stdout);
    assert_eq!(bench.files(), ["a.npy", "a.npz", "a.png", "a.tif", "r.json"]);

    let (data, mask) = npz(&bench.out("a.npz"));
    assert_eq!(data.dim(), (1, 610, 610));
    let dataset = Dataset::open(bench.out("a.tif")).unwrap();
    assert_eq!(dataset.metadata_item("LAYOUT", "IMAGE_STRUCTURE").as_deref(), Some("COG"));
    let band = dataset.rasterband(1).unwrap();
    assert_eq!((band.block_size(), band.overview_count().unwrap()), ((512, 512), 1));
    assert_eq!(band.description().unwrap(), "ndvi");
    assert!(band.no_data_value().unwrap().is_nan());
    let array = ArrayD::<f32>::read_npy(std::fs::File::open(bench.out("a.npy")).unwrap()).unwrap();
    assert_eq!(array.shape(), [1, 610, 610]);
    let of_tif: Vec<f32> = pixels(&dataset, 1);
    assert!(mask.iter().any(|invalid| !invalid));
    for (((value, invalid), tif), npy) in data.iter().zip(&mask).zip(&of_tif).zip(&array) {
        let expected = if *invalid { f32::NAN } else { *value };
        assert_eq!(tif.to_bits(), expected.to_bits());
        assert_eq!(npy.to_bits(), expected.to_bits());
    }

    let report = json(&bench.out("r.json"));
    assert_eq!(report["grid"]["rows"], 610);
    assert_eq!(report["grid"]["bounds"], serde_json::json!([336375.0, 4460595.0, 338205.0, 4462425.0]));
    assert_eq!(report["complete"], true);
    assert_eq!(report["scenes"].as_array().unwrap().len(), 3);
    assert_eq!(report["results"][0]["bands"], serde_json::json!(["ndvi"]));
    assert_eq!(report["results"][0]["files"].as_array().unwrap().len(), 4);
    assert!(
        report["bytes_read"].as_u64().unwrap() > 0 && report["peak_memory_bytes"].as_u64() > Some(1 << 20)
    );

    assert!(report["estimate"]["cpu_s"].as_f64() > Some(0.0));
    // Never more than was said; how wide values are the catalog does not say, and clouds spare some.
    let read = report["estimate"]["actual_over_read_bytes"].as_f64().unwrap();
    assert!(read > 0.0 && read <= 1.0, "{read} of the bytes that were estimated");

    // Over the older files, and the same bytes; said to nobody.
    let first: Vec<Vec<u8>> =
        ["a.tif", "a.npz", "a.npy", "a.png"].map(|name| std::fs::read(bench.out(name)).unwrap()).to_vec();
    let again = bench.compute("3", &[&more[..], &["--quiet", "--tile-size", "128"]].concat()).await;
    done(&again);
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
    for (name, first) in ["a.tif", "a.npz", "a.npy", "a.png"].into_iter().zip(first) {
        assert!(std::fs::read(bench.out(name)).unwrap() == first, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_with_a_scale_and_nothing_silent() {
    let bench = Bench::new();
    let as_int = ["--out", "@i.tif", "--out", "@f.npz", "--dtype", "int16", "--scale", "0.0001"];
    done(&bench.compute("30", &as_int).await);
    let dataset = Dataset::open(bench.out("i.tif")).unwrap();
    let band = dataset.rasterband(1).unwrap();
    assert_eq!((band.scale(), band.no_data_value()), (Some(0.0001), Some(-32768.0)));
    let (data, mask) = npz(&bench.out("f.npz"));
    let stored: Vec<i16> = pixels(&dataset, 1);
    for ((stored, value), invalid) in stored.iter().zip(&data).zip(&mask) {
        if *invalid {
            assert_eq!(*stored, i16::MIN);
        } else {
            assert!((f64::from(*stored) * 0.0001 - f64::from(*value)).abs() <= 0.000_050_1);
        }
    }

    std::fs::write(bench.out("i.tif"), "what was there").unwrap();
    let narrow = ["--out", "@i.tif", "--dtype", "uint8", "--scale", "0.001"];
    refused(&bench.compute("30", &narrow).await, 4, &["3721 values are outside", "--clamp", "i.tif"]);
    assert_eq!(std::fs::read_to_string(bench.out("i.tif")).unwrap(), "what was there");
    assert_eq!(bench.files(), ["f.npz", "i.tif"]);
    let ended = bench.compute("30", &[&narrow[..], &["--clamp", "--quiet"]].concat()).await;
    done(&ended);
    assert!(ended.stderr.contains("3721 values stored as the nearest possible"), "{}", ended.stderr);
    let stored: Vec<u8> = pixels(&Dataset::open(bench.out("i.tif")).unwrap(), 1);
    // 255 means invalid.
    assert!(stored.iter().all(|stored| *stored == 254));
}

#[tokio::test(flavor = "multi_thread")]
async fn stacks_have_a_band_for_each_image_and_truth_values_bytes() {
    let mut document: Value = serde_json::from_str(&graft()).unwrap();
    document["returns"] = "clear_ndvi".into();
    let bench = Bench::with(&document.to_string());
    done(&bench.compute("30", &["--out", "@stack.tif"]).await);
    let dataset = Dataset::open(bench.out("stack.tif")).unwrap();
    assert_eq!(dataset.raster_count(), 105);
    let names: Vec<String> =
        (1..=105).map(|at| dataset.rasterband(at).unwrap().description().unwrap()).collect();
    assert!(names.contains(&"LE70350322010155EDC00:red".to_owned()), "{names:?}");
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), 105);
    // Before anything is computed: a stack is no picture.
    refused(&bench.compute("3", &["--out", "@stack.png"]).await, 4, &["stack.png", "reduce it over images"]);

    document["returns"] = "obscured".into();
    let bench = Bench::with(&document.to_string());
    // What lies outside an outline is invalid.
    let triangle = bench.imagery.data().join("triangle.geojson");
    let corners = "[[-106.92, 40.282], [-106.91, 40.282], [-106.91, 40.294], [-106.92, 40.282]]";
    std::fs::write(&triangle, format!(r#"{{"type": "Polygon", "coordinates": [{corners}]}}"#)).unwrap();
    let triangle = ["--aoi", triangle.to_str().unwrap()];
    done(&bench.compute("30", &[&triangle[..], &["--out", "@b.tif"]].concat()).await);
    let dataset = Dataset::open(bench.out("b.tif")).unwrap();
    assert_eq!(dataset.rasterband(1).unwrap().no_data_value(), Some(255.0));
    let values: Vec<u8> =
        (1..=dataset.raster_count()).flat_map(|band| pixels::<u8>(&dataset, band)).collect();
    assert!([0, 1, 255].iter().all(|value| values.contains(value)));
    assert!(values.iter().all(|value| matches!(value, 0 | 1 | 255)));
    let ended = bench.compute("30", &[&triangle[..], &["--out", "@b.npy"]].concat()).await;
    refused(&ended, 4, &["--fill", "b.npy"]);
    done(&bench.compute("30", &[&triangle[..], &["--out", "@b.npy", "--fill", "0"]].concat()).await);
    assert_eq!(bench.files(), ["b.npy", "b.tif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_json() {
    let bench = Bench::with(r#"{"x": 1.5, "returns": "x"}"#);
    let ended = bench.compute("30", &["--out", "-"]).await;
    done(&ended);
    assert_eq!(ended.stdout, "1.5\n");
    done(&bench.compute("30", &["--out", "@x.json", "--out", "@x.npy", "--quiet"]).await);
    assert_eq!(std::fs::read_to_string(bench.out("x.json")).unwrap(), "1.5\n");
    refused(&bench.compute("30", &["--out", "@x.tif"]).await, 4, &["x.tif", "not a raster"]);
    assert_eq!(bench.files(), ["x.json", "x.npy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_said_before_anything_is_computed() {
    let bench = Bench::new();
    // Hours of work, if any were done.
    for (more, code, says) in [
        (&["--out", "@a.tif", "--out", "@./a.tif"][..], 2, "twice"),
        (&["--out", "@a.tif", "--report", "@a.tif"], 2, "twice"),
        (&["--out", "name=a.tif"], 2, "one result"),
        (&["--out", "@a.json"], 4, "number or list"),
        (&["--dtype", "uint8", "--out", "@a.npz"], 2, "--dtype"),
        (&["--fill", "0", "--out", "@a.npz"], 2, "--fill"),
        (&["--scale-range", "0,1", "--out", "@a.npz"], 2, "--scale-range"),
        (&["--scale-range", "1,0", "--out", "@a.png"], 2, "MIN,MAX"),
        (&["--scale-range", "0,1", "--scale-range", "0,1", "--out", "@a.png"], 3, "2 ranges"),
        (&["--dtype", "int64", "--out", "@a.tif"], 2, "uint16"),
        (&["--nodata", "much", "--out", "@a.tif"], 2, "none"),
        (&["--param", "x"], 2, "NAME=VALUE"),
        (&["--param", "x=1", "--param", "x=2"], 3, "twice"),
        (&["--on-error", "hope"], 2, "skip"),
    ] {
        refused(&bench.compute("0.3", more).await, code, &[says]);
        assert_eq!(bench.files(), Vec::<String>::new());
    }
}

/// The system refuses to write more: the older file is as it was, and nothing else is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let bench = Bench::light();
    for (name, other) in [("a.tif", "b.npy"), ("a.npy", "b.npz"), ("a.npz", "b.npy")] {
        let file = bench.out(name);
        std::fs::write(&file, "what was there").unwrap();
        let mut command = Command::new("sh");
        // 64 KiB a file, enough for the catalog.
        command.args(["-c", "ulimit -f 128; exec \"$@\"", "sh"]).arg(graticule());
        command.args(bench.arguments("4", &["--out", &format!("@{name}"), "--out", &format!("@{other}")]));
        let ended = Process::of(command).ended().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("cannot write")
                && ended.stderr.contains(&*bench.imagery.out().to_string_lossy()),
            "{}",
            ended.stderr
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "what was there");
        assert_eq!(bench.files(), [name]);
        std::fs::remove_file(&file).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_explains_itself() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(["completions", shell]).await;
        done(&ended);
        assert!(ended.stdout.contains("scale-range"), "{shell}");
    }
    let folder = tempfile::TempDir::new().unwrap();
    let man = folder.path().join("man1");
    done(&run(["man".as_ref(), man.as_os_str()]).await);
    let page = std::fs::read_to_string(man.join("graticule-compute.1")).unwrap();
    assert!(page.starts_with(".ie") && page.contains("on\\-error"), "{page}");
    let codes = run(["exit-codes"]).await;
    done(&codes);
    for code in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "70", "130"] {
        assert!(codes.stdout.lines().any(|line| line.split_whitespace().next() == Some(code)), "{code}");
    }
    let typo = run(["comptue"]).await;
    assert_eq!(typo.code, Some(2));
    assert!(typo.stderr.contains("'compute'"), "{}", typo.stderr);
    for (choice, colored) in [("always", true), ("never", false), ("auto", false)] {
        let ended = run(["--color", choice, "catalog", "add", "/no/such/file"]).await;
        assert_eq!(ended.stderr.contains('\x1b'), colored, "{choice}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let unusable = run(["--data".as_ref(), file.as_os_str(), "catalog".as_ref(), "list".as_ref()]).await;
    refused(&unusable, 1, &["--data"]);
}

/// The bill is known before anything is read: what is beyond the budget writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_enforced_before_the_first_read() {
    let bench = Bench::light();
    let out = ["--out", "@a.npz"];
    let bytes = bench.compute("30", &[&out[..], &["--max-bytes", "1"]].concat()).await;
    refused(&bytes, 7, &["bytes of stored pixels, its budget is 1", "smaller AOI"]);
    let cpu = bench.compute("30", &[&out[..], &["--max-cpu-s", "0.000001"]].concat()).await;
    refused(&cpu, 7, &["s of processor time, its budget is 0.000001 s", "coarser resolution"]);
    assert!(bench.files().is_empty(), "{:?}", bench.files());
    done(
        &bench
            .compute("30", &[&out[..], &["--max-bytes", "1000000000", "--max-cpu-s", "600"]].concat())
            .await,
    );
}
