//! The catalog and its command line, with real processes that die.

use std::path::{Path, PathBuf};

use graticule_tests::process::{Process, run};
use graticule_tests::soon;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Items of the large registration: enough to be killed in the middle of.
const ITEMS: usize = 3000;

fn item(product: &str, id: &str, href: &str) -> Value {
    json!({
        "type": "Feature", "stac_version": "1.0.0", "id": id, "collection": product,
        "geometry": {"type": "Polygon", "coordinates": [[[10, 40], [11, 40], [11, 41], [10, 41], [10, 40]]]},
        "properties": {"datetime": "2024-02-01T00:00:00Z", "eo:cloud_cover": id.len()}, "links": [],
        "assets": {"red": {"href": href, "type": "image/tiff", "roles": ["data"]}},
    })
}

fn lines(folder: &Path, product: &str, count: usize) -> PathBuf {
    let line =
        |at| item(product, &format!("i{at}"), &format!("s3://bucket/{product}/{at}.tif")).to_string() + "\n";
    let path = folder.join(format!("{product}.ndjson"));
    std::fs::write(&path, (0..count).map(line).collect::<String>()).unwrap();
    path
}

struct Data {
    folder: TempDir,
}

impl Data {
    fn new() -> Self {
        Data { folder: tempfile::tempdir().unwrap() }
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let data = self.folder.path().join("data").display().to_string();
        ["--data".to_owned(), data, "catalog".to_owned()]
            .into_iter()
            .chain(more.iter().map(|argument| (*argument).to_owned()))
            .collect()
    }

    #[track_caller]
    fn ok(&self, ended: graticule_tests::process::Ended) -> String {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    async fn run(&self, more: &[&str]) -> String {
        self.ok(run(self.arguments(more)).await)
    }

    /// Products with their numbers of scenes.
    async fn products(&self) -> Vec<(String, u64)> {
        let list: Value = serde_json::from_str(&self.run(&["list", "--json"]).await).unwrap();
        let product = |product: &Value| {
            (product["id"].as_str().unwrap().to_owned(), product["scenes"].as_u64().unwrap())
        };
        list.as_array().unwrap().iter().map(product).collect()
    }

    /// Bytes of the segments under way, and the number of those that are done.
    fn segments(&self) -> (u64, usize) {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("data/catalog/segments")) else {
            return (0, 0);
        };
        let (mut bytes, mut done) = (0, 0);
        for entry in entries.flatten() {
            match entry.path().extension().and_then(|end| end.to_str()) {
                Some("draft") => bytes += entry.metadata().map_or(0, |metadata| metadata.len()),
                _ => done += 1,
            }
        }
        (bytes, done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_killed_at_any_moment_is_whole_or_nothing() {
    let data = Data::new();
    let small = lines(data.folder.path(), "small", 3);
    data.run(&["add", small.to_str().unwrap()]).await;
    // As it begins, with some written, and as the segment comes into its place.
    let moments: [&dyn Fn(u64, usize) -> bool; 3] =
        [&|_, _| true, &|bytes, done| bytes > 0 || done > 1, &|_, done| done > 1];
    for (round, moment) in moments.into_iter().enumerate() {
        let product = format!("large{round}");
        let path = lines(data.folder.path(), &product, ITEMS);
        let adding = Process::start(data.arguments(&["add", path.to_str().unwrap()]));
        let (_, before) = data.segments();
        soon("the moment", async {
            loop {
                let (bytes, done) = data.segments();
                if moment(bytes, 1 + done.saturating_sub(before)) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        adding.signal("KILL");
        adding.ended().await;
        let products = data.products().await;
        assert!(products.contains(&("small".to_owned(), 3)), "{products:?}");
        let large = products.iter().find(|(id, _)| *id == product);
        assert!(large.is_none_or(|(_, scenes)| *scenes == ITEMS as u64), "{products:?}");
        // Nothing is in the way of the next one.
        let again = data.run(&["add", path.to_str().unwrap()]).await;
        assert!(again.contains(&format!("{product}: {ITEMS} scenes")), "{again}");
        assert_eq!(data.segments().0, 0, "no draft is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_registrations_at_once() {
    let data = Data::new();
    let paths = ["a", "b"].map(|product| lines(data.folder.path(), product, 500));
    let adding = paths.map(|path| Process::start(data.arguments(&["add", path.to_str().unwrap()])));
    for process in adding {
        data.ok(process.ended().await);
    }
    assert_eq!(data.products().await, [("a".to_owned(), 500), ("b".to_owned(), 500)]);
}

/// Two coordinators on one store, each with its index: what is registered through one is answered by the
/// other, while the first is killed and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn coordinators_share_a_store() {
    let data = Data::new();
    let folder = data.folder.path();
    let store = format!("file://{}", folder.join("store").display());
    let start = |name: &str| {
        let index = folder.join(name).display().to_string();
        let role = ["coordinator", "--listen", "127.0.0.1:0", "--catalog-poll", "1"];
        Process::start(role.into_iter().chain(["--store", &store, "--index-dir", &index]))
    };
    let (mut one, mut two) = (start("one"), start("two"));
    let (first, second) =
        (format!("http://{}", one.address().await), format!("http://{}", two.address().await));
    let add = async |endpoint: &str, product: &str| {
        let path = lines(folder, product, 5);
        data.run(&["add", path.to_str().unwrap(), "--endpoint", endpoint]).await;
    };
    let has = async |endpoint: &str, product: &str| {
        let list = data.run(&["list", "--json", "--endpoint", endpoint]).await;
        let list: Value = serde_json::from_str(&list).unwrap();
        list.as_array().unwrap().iter().any(|known| known["id"] == product && known["scenes"] == 5)
    };
    let noticed = async |endpoint: &str, product: &str| {
        soon("the other coordinator to notice", async { while !has(endpoint, product).await {} }).await;
    };
    add(&first, "a").await;
    assert!(has(&first, "a").await, "who registers answers at once");
    noticed(&second, "a").await;
    one.signal("KILL");
    one.ended().await;
    add(&second, "b").await;
    // An index of before, and one that was lost.
    for name in ["one", "lost"] {
        let mut back = start(name);
        let endpoint = format!("http://{}", back.address().await);
        assert!(has(&endpoint, "a").await && has(&endpoint, "b").await, "{name}");
        back.signal("KILL");
        back.ended().await;
    }
    // The command without a coordinator, on the store.
    let path = lines(folder, "c", 5);
    data.run(&["add", path.to_str().unwrap(), "--store", &store]).await;
    noticed(&second, "c").await;
}

/// What the commands say, with the catalog here and with one behind a coordinator.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_commands_here_and_through_a_coordinator() {
    let data = Data::new();
    let root = data.folder.path().join("open");
    std::fs::create_dir(&root).unwrap();
    let folder = data.folder.path().display().to_string();
    let mut serve = Process::start([
        "--data",
        &format!("{folder}/data"),
        "serve",
        "--workers",
        "1",
        "--listen",
        "127.0.0.1:0",
        "--catalog-root",
        root.to_str().unwrap(),
    ]);
    let endpoint = format!("http://{}", serve.address().await);
    let remote = ["--endpoint", &endpoint];
    let with = |arguments: &[&'static str]| [arguments, &remote].concat();

    let path = lines(data.folder.path(), "p", 3);
    let add = [&["add", path.to_str().unwrap()][..], &remote].concat();
    assert_eq!(data.run(&add).await, "p: 3 scenes (3 new)\n");
    assert_eq!(data.run(&add).await, "p: 3 scenes (3 unchanged)\n");
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["show", "p"],
        &["show", "p", "i1"],
        &["show", "p", "i1", "--json"],
        &["search", "p", "--bounds", "10.5,40.5,12,42", "--where", "id like i%", "--json"],
        &["search", "p", "--end", "2024-01-01"],
    ] {
        let here = data.run(arguments).await;
        let there = data.run(&[arguments, &remote].concat()).await;
        assert_eq!(here, there, "{arguments:?}");
    }
    let found = data.run(&with(&["search", "p", "--where", "cloud_fraction=0.02 and id!=i1"])).await;
    assert_eq!(found.lines().count(), 2, "{found}");

    // Files of the server are out of reach, but for those in folders that it opened.
    std::fs::write(root.join("in.tif"), "no raster").unwrap();
    std::fs::write(data.folder.path().join("out.tif"), "no raster").unwrap();
    std::os::unix::fs::symlink(data.folder.path().join("out.tif"), root.join("link.tif")).unwrap();
    let add = async |href: String| {
        let path = data.folder.path().join("item.json");
        std::fs::write(&path, serde_json::to_string_pretty(&item("q", "local", &href)).unwrap()).unwrap();
        run(data.arguments(&[&["add", path.to_str().unwrap()][..], &remote].concat())).await
    };
    let open = root.canonicalize().unwrap().display().to_string();
    for href in [
        format!("{folder}/out.tif"),
        format!("{open}/../out.tif"),
        format!("{open}/link.tif"),
        "/etc/hostname".to_owned(),
        "item.json".to_owned(),
    ] {
        let ended = add(href.clone()).await;
        assert_eq!(ended.code, Some(3), "{href}: {}", ended.stderr);
        assert!(ended.stderr.contains("none of the folders"), "{href}: {}", ended.stderr);
    }
    data.ok(add(format!("{open}/in.tif")).await);

    // What is no raster is found out, here and there.
    for arguments in [&["check", "q"][..], &with(&["check", "q"])] {
        let ended = run(data.arguments(arguments)).await;
        assert_eq!(ended.code, Some(8), "{}", ended.stderr);
        assert!(ended.stdout.starts_with("corrupt: ") && ended.stdout.contains("in.tif"), "{}", ended.stdout);
        assert!(ended.stderr.contains("1 fault; 1 files of 1 items were looked at"), "{}", ended.stderr);
    }
    std::fs::remove_file(root.join("in.tif")).unwrap();
    let ended = run(data.arguments(&with(&["check", "q"]))).await;
    assert!(ended.stdout.starts_with("missing: "), "{}", ended.stdout);
    assert_eq!(data.run(&with(&["remove", "p", "i0"])).await, "p: 1 scene removed\n");
    assert_eq!(data.run(&with(&["remove", "p"])).await, "p: 2 scenes removed\n");
    let ended = run(data.arguments(&with(&["show", "p"]))).await;
    assert_eq!(ended.code, Some(6), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_rasters_becomes_a_product() {
    let data = Data::new();
    let imagery = graticule_tests::colorado::Imagery::committed();
    let folder = data.folder.path().join("landsat");
    std::fs::create_dir(&folder).unwrap();
    for scene in ["LE70350322008118EDC00", "LT50350322008110PAC01"] {
        for file in ["b3", "fmask"] {
            std::fs::copy(imagery.file(scene, file), folder.join(format!("{scene}_{file}.tif"))).unwrap();
        }
    }
    let path = folder.to_str().unwrap();
    assert_eq!(data.run(&["add", path]).await, "landsat: 2 scenes (2 new)\n");
    assert_eq!(data.run(&["add", path]).await, "landsat: 2 scenes (2 unchanged)\n");
    let list = data.run(&["list"]).await;
    assert!(list.contains("landsat  2 scenes  2008-04-19 .. 2008-04-27"), "{list}");
    assert!(list.contains("bands: b3 fmask"), "{list}");
    data.run(&["check", "landsat", "--pixels"]).await;

    // What cannot be guessed is listed with the option that settles it.
    std::fs::copy(imagery.file("LE70350322008118EDC00", "b3"), folder.join("dem.tif")).unwrap();
    let ended = run(data.arguments(&["add", path])).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("dem.tif") && ended.stderr.contains("--date"), "{}", ended.stderr);
    let added = data.run(&["add", path, "--date", "2020-02-03", "--product", "all", "--band", "h"]).await;
    assert_eq!(added, "all: 3 scenes (3 new)\n");
    // A link out of the folder.
    std::fs::remove_file(folder.join("dem.tif")).unwrap();
    std::os::unix::fs::symlink(imagery.file("LE70350322008118EDC00", "b3"), folder.join("20200101.tif"))
        .unwrap();
    let ended = run(data.arguments(&["add", path])).await;
    assert!(ended.stderr.contains("20200101.tif: it is a symbolic link"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graft_selects_by_a_predicate() {
    let imagery = graticule_tests::colorado::Imagery::committed();
    imagery.register();
    let data = imagery.data().display().to_string();
    let explain = async |predicate: Value| {
        let mut graft: Value = serde_json::from_str(&graticule_tests::colorado::graft()).unwrap();
        graft["condition"] = predicate;
        graft["scenes"][3]["predicate_filter"] = json!("condition");
        let path = imagery.out().join("graft.json");
        std::fs::write(&path, graft.to_string()).unwrap();
        let graft = path.display().to_string();
        let place =
            ["--bounds", "336375,4460595,338205,4462425", "--crs", "EPSG:32613", "--resolution", "30"];
        run(["--data", &data, "explain", &graft].into_iter().chain(place)).await
    };
    // As text, as clients send it; with a value that the catalog's index decides, and one that it does not.
    let id = r#"[{"op": "prefix", "name": "id", "val": "LE7"}, {"op": "lt", "name": "acquired", "val": "2008-05-01"}]"#;
    let ended = explain(json!(id)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("scenes  1 to read"), "{}", ended.stdout);
    let ended = explain(json!(r#"{"op": "is", "name": "id", "val": "LE7"}"#)).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("predicate_filter") && ended.stderr.contains("`is`"), "{}", ended.stderr);
    let ended = explain(json!("gASVHwAAAA==")).await;
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
}
