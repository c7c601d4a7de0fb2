//! Source files that are not what they were, and sources that fail: an error that says which, never
//! wrong pixels.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use graticule_tests::client::with;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::colorado::{Imagery, main_job, source};
use graticule_tests::probe::Behaviour;
use graticule_tests::scenes::{MadeUp, masked_index, on_area};
use graticule_tests::world::Failure;
use graticule_worker::source::Sources;

const SCENE: &str = "LE70350322010155EDC00";

/// Computes the main job over imagery of which one file was damaged before or after registration.
async fn damaged(before: impl FnOnce(&Path), after: impl FnOnce(&Path)) -> Failure {
    let imagery = Imagery::copy();
    let file = imagery.file(SCENE, "b4");
    before(&file);
    let catalog = imagery.register();
    after(&file);
    let cluster = Cluster::start(Setup::new(2, catalog, source())).await;
    let failure = cluster.compute(&main_job()).await.unwrap_err();
    assert_eq!(failure.class, "source", "{}", failure.message);
    for part in [SCENE, "`nir`", &file.display().to_string()] {
        assert!(failure.message.contains(part), "{part} is named in: {}", failure.message);
    }
    // A range of dates without the scene is not concerned.
    let other = main_job().graft;
    let other = String::from_utf8(other).unwrap().replace("2008-01-01T00", "2011-01-01T00");
    assert!(cluster.compute(&on_area(&other)).await.is_ok());
    failure
}

fn cut(file: &Path) {
    let length = file.metadata().unwrap().len();
    OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file() {
    let failure = damaged(|_| {}, |file| std::fs::remove_file(file).unwrap()).await;
    assert!(failure.message.contains("No such file"), "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_before_it_was_registered() {
    let failure = damaged(cut, |_| {}).await;
    assert!(failure.message.contains("damaged"), "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_after_it_was_registered() {
    let failure = damaged(|_| {}, cut).await;
    assert!(failure.message.contains("changed since it was registered"), "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_written_again_since_it_was_registered() {
    let touch = |file: &Path| {
        let later = SystemTime::now() + Duration::from_secs(10);
        File::options().write(true).open(file).unwrap().set_modified(later).unwrap();
    };
    let failure = damaged(|_| {}, touch).await;
    assert!(failure.message.contains("changed since it was registered"), "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_image() {
    let failure = damaged(|file| std::fs::write(file, "not a GeoTIFF").unwrap(), |_| {}).await;
    assert!(failure.message.contains("damaged"), "{}", failure.message);
}

fn made_up() -> Setup {
    let catalog = MadeUp::default().with("made-up", 12, &["a", "b", "c"]);
    Setup::new(1, Arc::new(catalog), Arc::new(Sources::synthetic_only()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_ends_the_stream_without_a_summary() {
    let cluster = Cluster::start(made_up()).await;
    let request = with(on_area(&masked_index("made-up", ["a", "b", "c"])), |options| options.tile_size = 8);
    let all = cluster.client.receive(&request).await;
    assert!(all.error.is_none() && all.summary.is_some());

    let request = with(request, |options| options.no_cache = true);
    // Eight by eight tiles of 36 reads each: some are done by then, some never will be.
    cluster.probes[0].set(Behaviour::FailAfter(800));
    let part = cluster.client.receive(&request).await;
    assert!(part.header.is_some() && part.summary.is_none());
    assert!(part.chunks.len() < all.chunks.len());
    let failure = graticule_tests::client::failure(&part.error.unwrap());
    assert_eq!(failure.class, "source");
    assert!(failure.message.contains("as planned"), "{}", failure.message);

    cluster.probes[0].set(Behaviour::Pass);
    assert!(cluster.compute(&request).await.is_ok());
}

/// One worker cannot reach the server of the files: the other one computes its tiles.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_one_worker_cannot_reach_is_read_by_another() {
    let cluster = Cluster::start(Setup { workers: 2, ..made_up() }).await;
    let request = with(on_area(&masked_index("made-up", ["a", "b", "c"])), |options| {
        (options.tile_size, options.no_cache) = (32, true);
    });
    let expected = cluster.compute(&request).await.unwrap();
    let one = with(request.clone(), |options| options.tile_size = 2048);
    assert_eq!(cluster.compute(&one).await.unwrap().header.tiles, 1);
    cluster.probes[0].set(Behaviour::Unreachable);
    let answer = cluster.compute(&request).await.unwrap();
    assert!(answer.summary.retries > 0, "{:?}", answer.summary);
    assert_eq!(answer.block, expected.block);

    // Nobody reaches it: tried as often as a tile may be, then an error that names it.
    cluster.probes[1].set(Behaviour::Unreachable);
    let before = cluster.reads();
    let failure = cluster.compute(&one).await.unwrap_err();
    assert_eq!(failure.class, "unavailable", "{}", failure.message);
    for part in ["scene `made-up", "cannot be reached", "connection refused"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
    let attempts = graticule_coordinator::schedule::Rules::default().attempts_max;
    assert_eq!(cluster.reads() - before, u64::from(attempts), "one read an attempt");

    // Who skips what cannot be read does not wait for it.
    let skipping = with(request, |options| options.skip_faulty = true);
    let holes = cluster.compute(&skipping).await.unwrap();
    assert_eq!(holes.summary.retries, 0);
    assert!(!holes.summary.skipped.is_empty());
    assert!(holes.summary.skipped.iter().all(|source| source.reason.contains("cannot be reached")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_of_a_source_ends_one_request_and_no_more() {
    let cluster = Cluster::start(made_up()).await;
    let request = on_area(&masked_index("made-up", ["a", "b", "c"]));
    cluster.probes[0].set(Behaviour::Panic);
    for _ in 0..3 {
        let failure = cluster.compute(&request).await.unwrap_err();
        assert_eq!(failure.class, "internal");
        assert!(failure.message.contains("a defect of the source"), "{}", failure.message);
    }
    cluster.probes[0].set(Behaviour::Pass);
    let answer = cluster.compute(&request).await.unwrap();
    assert_eq!((answer.summary.retries, answer.summary.workers), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_file_is_a_listed_hole_that_nobody_remembers() {
    let imagery = Imagery::copy();
    let (file, catalog) = (imagery.file(SCENE, "b4"), imagery.register());
    let whole = Cluster::start(Setup::new(1, catalog.clone(), source())).await;
    let whole = whole.compute(&main_job()).await.unwrap();
    assert!(whole.summary.skipped.is_empty() && whole.summary.files_opened > 0);

    let cluster = Cluster::start(Setup::new(2, catalog, source())).await;
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    let skipping = with(main_job(), |options| (options.skip_faulty, options.tile_size) = (true, 64));
    let part = cluster.compute(&skipping).await.unwrap();
    // Several tiles and two workers met it; it is listed once.
    let [skipped] = &part.summary.skipped[..] else { panic!("{:?}", part.summary.skipped) };
    assert_eq!((skipped.scene.as_str(), skipped.band.as_str()), (SCENE, "nir"));
    assert_eq!(skipped.path, file.display().to_string());
    assert!(skipped.reason.contains("No such file"), "{}", skipped.reason);
    assert!(!skipped.product.is_empty() && !skipped.asset.is_empty());
    assert_ne!(part.block.encode(), whole.block.encode());
    // Strict is the default, whatever was computed before.
    assert_eq!(cluster.compute(&main_job()).await.unwrap_err().class, "source");

    std::fs::rename(&aside, &file).unwrap();
    let again = cluster.compute(&skipping).await.unwrap();
    assert!(again.summary.skipped.is_empty());
    assert_eq!(again.block.encode(), whole.block.encode());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_faults_of_sources_are_skipped() {
    let cluster = Cluster::start(made_up()).await;
    let request =
        with(on_area(&masked_index("made-up", ["a", "b", "c"])), |options| options.skip_faulty = true);
    cluster.probes[0].set(Behaviour::Panic);
    assert_eq!(cluster.compute(&request).await.unwrap_err().class, "internal");
}
