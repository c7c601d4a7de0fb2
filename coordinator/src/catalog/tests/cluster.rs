//! Several coordinators on one store: each with an index of its own, none with a say over others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use graticule_common::transform::Proj;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::super::conformance::{self, collection, item, save};
use super::super::{AddOptions, Added, CatalogError, Input, LocalCatalog, SceneCatalog};
use super::run;
use crate::objects::Objects;
use crate::objects::tests::Moto;

/// Time for what others did to be noticed.
const SOON: Duration = Duration::from_secs(20);

/// A store, and a folder for documents and indexes.
struct Cluster {
    dir: TempDir,
    objects: Objects,
}

impl Cluster {
    /// One for each kind of store.
    fn all() -> Vec<Cluster> {
        let dir = tempfile::tempdir().unwrap();
        let folder = Objects::folder(&dir.path().join("store"), false).unwrap();
        vec![
            Cluster { dir, objects: folder },
            Cluster { dir: tempfile::tempdir().unwrap(), objects: Objects::memory() },
        ]
    }

    fn index_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("index-{name}"))
    }

    fn coordinator(&self, name: &str) -> LocalCatalog {
        LocalCatalog::open_in(self.objects.clone(), &self.index_dir(name)).unwrap()
    }

    fn stac(&self) -> PathBuf {
        let stac = self.dir.path().join("stac");
        fs::create_dir_all(&stac).unwrap();
        stac
    }

    /// Items, one a line.
    fn lines(&self, ids: &[String], change: impl Fn(&mut Value)) -> String {
        let line = |id: &String| {
            let mut item = item(&self.stac(), id, "p", "2024-01-05T10:00:00Z", super::BBOX);
            change(&mut item);
            item.to_string() + "\n"
        };
        ids.iter().map(line).collect()
    }

    fn add_lines(&self, catalog: &LocalCatalog, text: &str) -> Result<Added, CatalogError> {
        let (folder, proj) = (self.stac(), Proj::new());
        let mut reader = text.as_bytes();
        let input = Input::Lines { reader: &mut reader, name: "-", folder: &folder };
        catalog.add_all(&mut [input], &AddOptions::new(&proj))
    }

    fn add(&self, catalog: &LocalCatalog, ids: &[&str]) -> Added {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        self.add_lines(catalog, &self.lines(&ids, |_| ())).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let listed =
            self.objects.wait(|objects| async move { objects.list("catalog/segments").await }).unwrap();
        let end = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        listed.iter().map(|object| end(&object.name)).filter(|name| name.ends_with(".ndjson")).collect()
    }
}

/// The ids of a product's items.
fn ids(catalog: &LocalCatalog) -> Vec<String> {
    let mut ids: Vec<String> = all(catalog).into_iter().map(|scene| scene.id).collect();
    ids.sort();
    ids
}

fn all(catalog: &LocalCatalog) -> Vec<graticule_common::scene::Scene> {
    let world = graticule_common::scene::LonLatBox { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };
    let query = graticule_common::scene::SceneQuery::all("p");
    run(catalog.search(&query, &world, 10_000)).unwrap_or_default()
}

/// Everything that catalogs answer.
fn answers(catalog: &LocalCatalog) -> String {
    let products = run(catalog.products()).unwrap();
    let scenes: Vec<_> = all(catalog).into_iter().map(|scene| format!("{scene:?}")).collect();
    format!("{products:?} {scenes:?}")
}

fn generation(catalog: &LocalCatalog) -> u64 {
    catalog.generation().expect("it is known")
}

#[test]
fn a_catalog_conforms_on_every_store() {
    Cluster::all().iter().for_each(check_a_catalog_conforms_on_every_store);
}

fn check_a_catalog_conforms_on_every_store(cluster: &Cluster) {
    let (one, two) = (cluster.coordinator("one"), cluster.coordinator("two"));
    let path = conformance::write(&cluster.stac());
    one.add(&path, &Proj::new()).unwrap();
    run(conformance::check(&one));
    // The other, which was open before, and a third, whose index is new.
    two.refresh().unwrap();
    run(conformance::check(&two));
    run(conformance::check(&cluster.coordinator("three")));
    assert_eq!(
        one.document("conformance", Some("a")).unwrap(),
        two.document("conformance", Some("a")).unwrap()
    );
    // Again, by the other: nothing is new.
    let added = two.add(&path, &Proj::new()).unwrap();
    assert_eq!(added.products.iter().map(|product| product.unchanged).sum::<u64>(), 5);
    assert_eq!(cluster.names().len(), 1, "{:?}", cluster.names());
}

#[test]
fn what_one_adds_the_other_answers_within_seconds() {
    for cluster in Cluster::all() {
        let (one, two) = (cluster.coordinator("one"), cluster.coordinator("two"));
        let before = generation(&two);
        assert_eq!(before, generation(&one));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let watch = runtime.spawn(two.clone().watch(Duration::from_millis(50), stop.clone()));
        cluster.add(&one, &["a", "b"]);
        assert_eq!(ids(&one), ["a", "b"], "who registers sees it at once");
        runtime.block_on(async {
            let noticed = async {
                while two.generation() == Some(before) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, noticed).await.expect("it is noticed");
        });
        assert_eq!(ids(&two), ["a", "b"]);
        assert_eq!(generation(&two), generation(&one));
        assert_ne!(generation(&two), before);
        stop.cancel();
        runtime.block_on(watch).unwrap();
        // Removals, too, and the other way round.
        two.remove("p", &["a".to_owned()], &|_| ()).unwrap();
        one.refresh().unwrap();
        assert_eq!(ids(&one), ["b"]);
    }
}

#[test]
fn both_add_at_once() {
    Cluster::all().iter().for_each(check_both_add_at_once);
}

fn check_both_add_at_once(cluster: &Cluster) {
    const EACH: usize = 12;
    let names = ["one", "two", "three"];
    std::thread::scope(|scope| {
        for name in names {
            scope.spawn(move || {
                let catalog = cluster.coordinator(name);
                for at in 0..EACH {
                    let id = format!("{name}-{at}");
                    let text = cluster.lines(&[id.clone(), "common".to_owned()], |_| ());
                    cluster.add_lines(&catalog, &text).unwrap();
                    assert!(ids(&catalog).contains(&id), "{id} was registered");
                }
            });
        }
    });
    let expected: BTreeSet<String> = names
        .iter()
        .flat_map(|name| (0..EACH).map(move |at| format!("{name}-{at}")))
        .chain(["common".to_owned()])
        .collect();
    let fresh = cluster.coordinator("fresh");
    assert_eq!(ids(&fresh).into_iter().collect::<BTreeSet<_>>(), expected);
    for name in names {
        let catalog = cluster.coordinator(name);
        assert_eq!(answers(&catalog), answers(&fresh), "{name}");
    }
    // One segment for each registration, in one order.
    assert_eq!(cluster.names().len(), names.len() * EACH);
}

/// Registers while another registration comes first, and says what came of it.
fn overtaken(cluster: &Cluster, text: &str, first: impl Fn(&LocalCatalog)) -> (Added, LocalCatalog) {
    let (slow, quick) = (cluster.coordinator("slow"), cluster.coordinator("quick"));
    let (folder, proj) = (cluster.stac(), Proj::new());
    // The other registration takes place when this one reads the end of its documents.
    struct Then<'a>(&'a [u8], &'a dyn Fn());
    impl std::io::Read for Then<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            if count == 0 {
                (self.1)();
            }
            Ok(count)
        }
    }
    let then = || first(&quick);
    let mut reader = std::io::BufReader::new(Then(text.as_bytes(), &then));
    let input = Input::Lines { reader: &mut reader, name: "-", folder: &folder };
    let added = slow.add_all(&mut [input], &AddOptions::new(&proj)).unwrap();
    quick.refresh().unwrap();
    assert_eq!(answers(&slow), answers(&quick));
    (added, slow)
}

#[test]
fn who_is_overtaken_starts_over_from_what_is_new() {
    Cluster::all().iter().for_each(check_who_is_overtaken_starts_over_from_what_is_new);
}

fn check_who_is_overtaken_starts_over_from_what_is_new(cluster: &Cluster) {
    let start = cluster.coordinator("start");
    cluster.add(&start, &["same", "gone"]);
    let both = ["same", "gone", "mine"].map(str::to_owned);
    let text = cluster.lines(&both, |_| ());
    // What was unchanged when it was looked at has changed, or gone, since.
    let (added, slow) = overtaken(cluster, &text, |quick| {
        let change = |item: &mut Value| item["properties"]["gsd"] = json!(7);
        let changed = cluster.lines(&["same".to_owned(), "theirs".to_owned()], change);
        cluster.add_lines(quick, &changed).unwrap();
        quick.remove("p", &["gone".to_owned()], &|_| ()).unwrap();
    });
    let product = &added.products[0];
    assert_eq!((product.new, product.updated, product.unchanged), (2, 1, 0), "on top of the other's");
    assert_eq!(ids(&slow), ["gone", "mine", "same", "theirs"]);
    let document = slow.document("p", Some("same")).unwrap().unwrap();
    assert!(!document.contains("gsd"), "the later registration wins: {document}");
}

#[test]
fn a_collection_that_is_overtaken_still_lists_all_of_its_items() {
    for cluster in Cluster::all() {
        for id in ["a", "b"] {
            save(
                &cluster.stac(),
                &format!("{id}.json"),
                &item(&cluster.stac(), id, "p", "2024-01-05", super::BBOX),
            );
        }
        let whole = save(&cluster.stac(), "collection.json", &collection("p", &["a", "b"]));
        let (slow, quick) = (cluster.coordinator("slow"), cluster.coordinator("quick"));
        let (folder, proj) = (cluster.stac(), Proj::new());
        struct Last<'a>(&'a dyn Fn());
        impl std::io::Read for Last<'_> {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                (self.0)();
                Ok(0)
            }
        }
        let then = || _ = cluster.add(&quick, &["stranger"]);
        let mut reader = std::io::BufReader::new(Last(&then));
        let input = Input::Lines { reader: &mut reader, name: "-", folder: &folder };
        let added = slow.add_all(&mut [Input::Path(&whole), input], &AddOptions::new(&proj)).unwrap();
        assert_eq!((added.products[0].new, added.products[0].removed), (2, 1));
        quick.refresh().unwrap();
        assert_eq!((ids(&slow), ids(&quick)), (ids(&quick), vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(answers(&slow), answers(&cluster.coordinator("fresh")));
    }
}

#[test]
fn who_is_overtaken_for_ever_is_told() {
    for cluster in Cluster::all() {
        let (one, two) = (cluster.coordinator("one"), cluster.coordinator("two"));
        one.overtake(true);
        let text = cluster.lines(&["a".to_owned()], |_| ());
        let error = cluster.add_lines(&one, &text).unwrap_err();
        assert!(matches!(error, CatalogError::Contended { .. }), "{error}");
        one.overtake(false);
        two.refresh().unwrap();
        assert!(ids(&two).is_empty() && ids(&one).is_empty());
        cluster.add_lines(&one, &text).unwrap();
        assert_eq!(ids(&one), ["a"]);
    }
}

#[test]
fn killed_between_segment_and_index() {
    for cluster in Cluster::all() {
        let one = cluster.coordinator("one");
        cluster.add(&one, &["a"]);
        // What another process wrote before it died: its segment, and nothing in any index.
        let ids_before = ids(&one);
        let place = |objects: Objects| async move {
            let first = objects.get("catalog/segments/0000000001.ndjson", 1 << 20).await?;
            let second = String::from_utf8_lossy(&first).replace("\"a\"", "\"late\"");
            objects.put_new("catalog/segments/0000000002.ndjson", second.into()).await
        };
        cluster.objects.wait(place).unwrap();
        // A draft in a folder, as a process leaves it that is killed while it writes.
        fs::write(cluster.index_dir("one").join("journal-1.draft"), "half a li").unwrap();
        assert_eq!(ids(&one), ids_before);
        one.refresh().unwrap();
        assert_eq!(ids(&one), ["a", "late"]);
        cluster.add(&one, &["b"]);
        assert_eq!(cluster.names().len(), 3);
        let left = fs::read_dir(cluster.index_dir("one")).unwrap().flatten();
        let drafts = left.filter(|entry| entry.path().extension().is_some_and(|end| end == "draft"));
        assert_eq!(drafts.count(), 0);
    }
}

#[test]
fn an_index_that_is_lost_or_behind_is_made_again() {
    Cluster::all().iter().for_each(check_an_index_that_is_lost_or_behind_is_made_again);
}

fn check_an_index_that_is_lost_or_behind_is_made_again(cluster: &Cluster) {
    let one = cluster.coordinator("one");
    cluster.add(&one, &["a", "b"]);
    let answered = answers(&one);
    let behind = cluster.coordinator("behind");
    for at in 0..3 {
        cluster.add(&one, &[&format!("c{at}")]);
    }
    behind.refresh().unwrap();
    assert_eq!(answers(&behind), answers(&one));
    assert_ne!(answers(&one), answered);
    drop(behind);
    fs::remove_dir_all(cluster.index_dir("behind")).unwrap();
    assert_eq!(answers(&cluster.coordinator("behind")), answers(&one));
    // Copies of segments are only copies.
    let copies = cluster.index_dir("behind").join("copies");
    if cluster.objects.as_folder().is_none() {
        assert!(fs::read_dir(&copies).unwrap().count() > 0);
        for copy in fs::read_dir(&copies).unwrap().flatten() {
            fs::write(copy.path(), "").unwrap();
        }
        let catalog = cluster.coordinator("behind");
        catalog.reindex(&|_| ()).unwrap();
        assert_eq!(answers(&catalog), answers(&one));
    }
}

/// Makes so many segments that they are written anew.
fn pile_up(cluster: &Cluster, catalog: &LocalCatalog, rounds: usize) {
    for at in 0..rounds {
        let bands = |item: &mut Value| {
            item["properties"]["gsd"] = json!(at);
            // Bands appear and go: their order is that of the documents, not of an index's history.
            let band = format!("band{}", at % 3);
            item["assets"][band.as_str()] = item["assets"]["b1"].clone();
        };
        let text = cluster.lines(&[format!("i{}", at % 7)], bands);
        cluster.add_lines(catalog, &text).unwrap();
    }
}

#[test]
fn compaction_is_seen_by_all_and_loses_nothing() {
    for cluster in Cluster::all() {
        let (one, two, late) =
            (cluster.coordinator("one"), cluster.coordinator("two"), cluster.coordinator("late"));
        let stac = cluster.stac();
        one.add(&save(&stac, "c.json", &collection("c", &[])), &Proj::new()).unwrap();
        std::thread::scope(|scope| {
            // One registers until segments are written anew; two registers all the while, and looks.
            let other = scope.spawn(|| {
                for at in 0..40 {
                    cluster.add(&two, &[&format!("two-{at}")]);
                }
            });
            pile_up(&cluster, &one, 240);
            other.join().unwrap();
        });
        let names = cluster.names();
        let bases: Vec<_> = names.iter().filter(|name| name.contains("base")).collect();
        assert_eq!(bases.len(), 1, "{names:?}");
        // What was replaced is there still: somebody may be reading it.
        assert!(names.len() > 256, "{}", names.len());
        one.refresh().unwrap();
        two.refresh().unwrap();
        let fresh = cluster.coordinator("fresh");
        assert_eq!(ids(&fresh).len(), 40 + 7);
        assert_eq!(answers(&one), answers(&fresh));
        assert_eq!(answers(&two), answers(&fresh));
        assert_eq!(generation(&one), generation(&fresh));
        // One that saw nothing of it all, and documents wherever they are now.
        late.refresh().unwrap();
        assert_eq!(answers(&late), answers(&fresh));
        for catalog in [&one, &two, &late] {
            for id in ids(&fresh) {
                assert!(catalog.document("p", Some(&id)).unwrap().unwrap().contains(&id), "{id}");
            }
            assert!(catalog.document("c", None).unwrap().unwrap().contains("Collection"));
        }
        // Segments that were replaced go at last; who never read them does without.
        for name in names.iter().filter(|name| name.as_str() < bases[0].as_str()) {
            let name = format!("catalog/segments/{name}");
            cluster.objects.wait(|objects| async move { objects.remove(&name).await }).unwrap();
        }
        cluster.add(&two, &["after"]);
        one.refresh().unwrap();
        late.refresh().unwrap();
        assert!(ids(&one).contains(&"after".to_owned()));
        assert_eq!(answers(&late), answers(&cluster.coordinator("fresher")));
    }
}

#[test]
fn a_number_that_was_replaced_long_ago_is_not_taken_again() {
    for cluster in Cluster::all() {
        let one = cluster.coordinator("one");
        cluster.add(&one, &["a"]);
        let text = cluster.lines(&["mine".to_owned()], |_| ());
        // While this one stands still, segments come, are written anew, and go: its number is free again.
        let (added, slow) = overtaken(&cluster, &text, |quick| {
            cluster.add(quick, &["b"]);
            let replace = |objects: Objects| async move {
                let mut all = Vec::new();
                for number in 1..=2 {
                    let name = format!("catalog/segments/{number:010}.ndjson");
                    all.extend_from_slice(&objects.get(&name, 1 << 20).await?);
                    objects.remove(&name).await?;
                }
                objects.put_new("catalog/segments/0000000002.base.ndjson", all.into()).await
            };
            cluster.objects.wait(replace).unwrap();
        });
        assert_eq!(added.products[0].new, 1);
        assert_eq!(ids(&slow), ["a", "b", "mine"]);
        assert_eq!(cluster.names(), ["0000000002.base.ndjson", "0000000003.ndjson"]);
    }
}

#[test]
fn a_store_that_lost_a_segment_says_so() {
    let cluster = Cluster::all().remove(1);
    let one = cluster.coordinator("one");
    for id in ["a", "b", "c"] {
        cluster.add(&one, &[id]);
    }
    let lost = "catalog/segments/0000000002.ndjson";
    cluster.objects.wait(|objects| async move { objects.remove(lost).await }).unwrap();
    let error = one.refresh().unwrap_err();
    assert!(matches!(error, CatalogError::Gap { number: 2, .. }), "{error}");
    assert_eq!(ids(&one), ["a", "b", "c"], "who has an index goes on answering");
    assert!(LocalCatalog::open_in(cluster.objects.clone(), &cluster.index_dir("new")).is_err());
    let mend = |objects: Objects| async move { objects.put_new(lost, bytes::Bytes::new()).await };
    cluster.objects.wait(mend).unwrap();
    one.refresh().unwrap();
    assert_eq!(ids(&one), ["a", "c"]);
}

#[test]
fn a_data_directory_is_a_store() {
    // A directory written without a store is read through one, and the other way round.
    let dir = tempfile::tempdir().unwrap();
    let data: &Path = &dir.path().join("data");
    let cluster = Cluster { objects: Objects::folder(data, false).unwrap(), dir };
    let local = LocalCatalog::open(data).unwrap();
    cluster.add(&local, &["a"]);
    let shared = cluster.coordinator("one");
    assert_eq!(ids(&shared), ["a"]);
    cluster.add(&shared, &["b"]);
    local.refresh().unwrap();
    assert_eq!(ids(&local), ["a", "b"]);
    assert_eq!(ids(&LocalCatalog::open(data).unwrap()), ["a", "b"]);
    let started = Instant::now();
    assert_eq!(answers(&local), answers(&shared));
    assert!(started.elapsed() < SOON);
}

#[test]
#[ignore = "needs moto"]
fn moto_s3_is_a_store_for_several() {
    let moto = Moto::start();
    let checks: [fn(&Cluster); 4] = [
        check_a_catalog_conforms_on_every_store,
        check_both_add_at_once,
        check_an_index_that_is_lost_or_behind_is_made_again,
        check_who_is_overtaken_starts_over_from_what_is_new,
    ];
    for (at, check) in checks.iter().enumerate() {
        let objects = moto.bucket(&format!("catalog-{at}"));
        check(&Cluster { dir: tempfile::tempdir().unwrap(), objects });
    }
}
