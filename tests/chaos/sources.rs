//! Source files that go missing or change while they are read: the pixels that were asked for, or an error that
//! says so, never a mixture.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use graticule_tests::cases;
use graticule_tests::colorado::{Imagery, examples};
use graticule_tests::fleet::{Fleet, Setup};
use graticule_tests::proxy::{Proxy, Weather};
use graticule_tests::web::Web;

use crate::turn;

/// Late in the series: it is read last.
fn files(imagery: &Imagery) -> Vec<PathBuf> {
    let scenes = imagery.file("x", "b4");
    let scenes = scenes.parent().and_then(|scene| scene.parent()).unwrap().to_owned();
    let mut found = Vec::new();
    for scene in std::fs::read_dir(scenes).unwrap() {
        for file in std::fs::read_dir(scene.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.to_string_lossy().ends_with("_b4.tif") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Expected: right or an error of the source; right again once the files are what they were.
#[tokio::test(flavor = "multi_thread")]
async fn files_go_missing_in_the_middle_and_come_back() {
    let _turn = turn().await;
    let imagery = Imagery::copy();
    let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
    let case = cases::ndvi().await.anew();
    let files = files(&imagery);
    let asking = fleet.busy_with(&case, 0).await;
    for file in &files {
        std::fs::rename(file, file.with_extension("aside")).unwrap();
    }
    asking.outcome().await.is_right_or(&["source"]);
    // Nothing of them is there any more.
    let outcome = fleet.ask(&case).await;
    assert_eq!(outcome.name(), "source", "{outcome:?}");
    for file in &files {
        std::fs::rename(file.with_extension("aside"), file).unwrap();
    }
    fleet.computes(&case).await;
}

/// Expected: right or an error of the source, never other pixels.
#[tokio::test(flavor = "multi_thread")]
async fn files_change_in_the_middle_and_back() {
    let _turn = turn().await;
    let imagery = Imagery::copy();
    let mut fleet = Fleet::start(&imagery, &Setup::default()).await;
    let case = cases::ndvi().await.anew();
    let files = files(&imagery);
    let was: Vec<(Vec<u8>, SystemTime)> = files
        .iter()
        .map(|file| (std::fs::read(file).unwrap(), file.metadata().unwrap().modified().unwrap()))
        .collect();
    for round in 0..3 {
        let asking = fleet.busy_with(&case, round % 2).await;
        // In place, in the same length: only the time of the change tells.
        for file in &files {
            invert_the_end(file);
        }
        let outcome = asking.outcome().await;
        outcome.is_right_or(&["source"]);
        let outcome = fleet.ask(&case).await;
        assert_eq!(outcome.name(), "source", "{outcome:?}");
        for (file, (bytes, modified)) in files.iter().zip(&was) {
            std::fs::write(file, bytes).unwrap();
            File::options().write(true).open(file).unwrap().set_modified(*modified).unwrap();
        }
        fleet.computes(&case).await;
    }
}

/// Expected: a server of files that is slow, gone for a moment or resets connections costs time; one that stays
/// away is an error of the source.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "chaos"]
async fn chaos_files_behind_a_bad_link() {
    let _turn = turn().await;
    let web = Web::serve(&examples().join("colorado")).await;
    let link = Proxy::before(web.address()).await;
    let imagery = Imagery::behind(&link.url("http"));
    let mut setup = Setup::default();
    setup.worker_arguments.extend(["--allow-host".into(), link.address().to_string()]);
    let mut fleet = Fleet::start(&imagery, &setup).await;
    let case = cases::focal().await.anew();
    fleet.computes(&case).await;
    assert!(web.requests() > 0, "files are read through the web");
    link.set_both(Weather { stalls: Some((0.02, Duration::from_millis(500))), ..Weather::slow(30, 20) });
    fleet.computes(&case).await;
    link.heal();
    for end in [Proxy::cut, Proxy::reset] {
        let asking = fleet.busy_with(&case, 0).await;
        end(&link);
        asking.outcome().await.is_right();
    }
    // Gone for two seconds, then back: it is waited for.
    let asking = fleet.busy_with(&case, 0).await;
    link.open(false);
    link.reset();
    tokio::time::sleep(Duration::from_secs(2)).await;
    link.heal();
    asking.outcome().await.is_right();
    link.open(false);
    link.reset();
    let outcome = fleet.ask(&case).await;
    assert!(["source", "unavailable"].contains(&outcome.name()), "{outcome:?}");
    link.heal();
    fleet.computes(&case).await;
}

/// Inverts the last tenth of a file, and has it be a minute younger.
fn invert_the_end(path: &PathBuf) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let from = length - length / 10;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&bytes).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified + Duration::from_secs(60)).unwrap();
}
