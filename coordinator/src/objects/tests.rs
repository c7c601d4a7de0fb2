//! What every store must do: one suite for a folder, memory and S3.

use std::collections::BTreeSet;
use std::fs;

use bytes::Bytes;
use graticule_common::error::{Classify, ErrorClass};

use super::make::WHOLE_BYTES_MAX;
use super::*;

fn made(objects: &Objects, name: &str, bytes: &str) -> Made {
    let (name, bytes) = (name.to_owned(), Bytes::copy_from_slice(bytes.as_bytes()));
    objects.wait(|objects| async move { objects.put_new(&name, bytes).await }).unwrap()
}

fn read(objects: &Objects, name: &str) -> Result<Bytes, ObjectError> {
    let name = name.to_owned();
    objects.wait(|objects| async move { objects.get(&name, 1 << 20).await })
}

fn names(objects: &Objects, prefix: &str) -> Vec<(String, u64)> {
    let prefix = prefix.to_owned();
    let listed = objects.wait(|objects| async move { objects.list(&prefix).await }).unwrap();
    listed.into_iter().map(|object| (object.name, object.bytes)).collect()
}

fn remove(objects: &Objects, name: &str) {
    let name = name.to_owned();
    objects.wait(|objects| async move { objects.remove(&name).await }).unwrap();
}

/// The contract of a store, on an empty one.
fn conform(objects: &Objects) {
    objects.wait(|objects| async move { objects.prove().await }).unwrap();
    objects.wait(|objects| async move { objects.prove().await }).unwrap();
    a_name_is_taken_once(objects);
    one_of_many_wins(objects);
    listings_are_ordered_and_below_their_prefix(objects);
    parts_are_those_asked_for(objects);
    what_is_missing_is_said_to_be(objects);
    sizes_are_bounded(objects);
    objects_without_bytes(objects);
    names_of_all_kinds(objects);
    removing_makes_room(objects);
    large_files(objects);
}

fn a_name_is_taken_once(objects: &Objects) {
    assert_eq!(made(objects, "once/a", "first"), Made::Created);
    assert_eq!(made(objects, "once/a", "other"), Made::Taken);
    assert_eq!(made(objects, "once/a", "secon"), Made::Taken, "of the same length");
    assert_eq!(made(objects, "once/a", "first"), Made::Same);
    assert_eq!(&read(objects, "once/a").unwrap()[..], b"first", "nothing is overwritten");
}

fn one_of_many_wins(objects: &Objects) {
    let racers = 32;
    let barrier = std::sync::Barrier::new(racers);
    let results: Vec<Made> = std::thread::scope(|scope| {
        let race = |at: usize| {
            let barrier = &barrier;
            move || {
                barrier.wait();
                made(objects, "race/a", &format!("racer {at}"))
            }
        };
        let racing: Vec<_> = (0..racers).map(|at| scope.spawn(race(at))).collect();
        racing.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let winners: Vec<usize> = (0..racers).filter(|at| results[*at] == Made::Created).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|made| **made == Made::Taken).count(), racers - 1);
    assert_eq!(read(objects, "race/a").unwrap(), format!("racer {}", winners[0]));
}

fn listings_are_ordered_and_below_their_prefix(objects: &Objects) {
    for name in ["list/b/0002", "list/b/0010", "list/b/0001", "list/bb/0001", "list/a"] {
        made(objects, name, name);
    }
    let found = names(objects, "list/b");
    let expected = ["list/b/0001", "list/b/0002", "list/b/0010"].map(|name| (name.to_owned(), 11));
    assert_eq!(found, expected);
    assert_eq!(names(objects, "list").len(), 5);
    assert!(names(objects, "list/nothing").is_empty());
    let made = objects.wait(|objects| async move { objects.list("list/b").await }).unwrap()[0].made;
    let age = made.elapsed().unwrap_or_else(|early| early.duration());
    assert!(age < Duration::from_secs(3600), "{age:?}");
}

fn parts_are_those_asked_for(objects: &Objects) {
    made(objects, "part/a", "0123456789");
    let part = |from: u64, to: u64| {
        objects.wait(move |objects| async move { objects.get_range("part/a", from..to).await })
    };
    assert_eq!(&part(2, 5).unwrap()[..], b"234");
    assert_eq!(&part(0, 10).unwrap()[..], b"0123456789");
    assert!(part(4, 4).unwrap().is_empty());
}

fn what_is_missing_is_said_to_be(objects: &Objects) {
    let error = read(objects, "nowhere").unwrap_err();
    assert!(matches!(&error, ObjectError::Missing { name, .. } if name == "nowhere"), "{error}");
    assert_eq!(error.class(), ErrorClass::NotFound);
    let error = objects.wait(|objects| async move { objects.get_range("nowhere", 0..4).await }).unwrap_err();
    assert!(matches!(error, ObjectError::Missing { .. }), "{error}");
}

fn sizes_are_bounded(objects: &Objects) {
    made(objects, "bound/a", "0123456789");
    let get = |limit| objects.wait(move |objects| async move { objects.get("bound/a", limit).await });
    assert_eq!(get(10).unwrap().len(), 10);
    let error = get(9).unwrap_err();
    assert!(matches!(error, ObjectError::TooLarge { limit: 9, .. }), "{error}");
}

fn objects_without_bytes(objects: &Objects) {
    assert_eq!(made(objects, "empty", ""), Made::Created);
    assert_eq!(made(objects, "empty", ""), Made::Same);
    assert_eq!(made(objects, "empty", "x"), Made::Taken);
    assert!(read(objects, "empty").unwrap().is_empty());
}

fn names_of_all_kinds(objects: &Objects) {
    for name in ["names/a b", "names/ä", "names/a+b=c&d", "names/0000000001.base.ndjson"] {
        assert_eq!(made(objects, name, name), Made::Created, "{name}");
        assert_eq!(read(objects, name).unwrap(), name, "{name}");
        assert!(names(objects, "names").iter().any(|(listed, _)| listed == name), "{name}");
    }
    for bad in ["names/../a", "names//a", "names/."] {
        let (name, bytes) = (bad.to_owned(), Bytes::new());
        let refused = objects.wait(|objects| async move { objects.put_new(&name, bytes).await });
        assert!(matches!(refused, Err(ObjectError::Url { .. })), "{bad}");
    }
}

fn removing_makes_room(objects: &Objects) {
    made(objects, "gone/a", "a");
    remove(objects, "gone/a");
    remove(objects, "gone/a");
    assert!(names(objects, "gone").is_empty());
    assert_eq!(made(objects, "gone/a", "b"), Made::Created);
}

/// Beyond what is sent at once: in parts, and still by one of several.
fn large_files(objects: &Objects) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = objects.as_folder().unwrap_or(scratch.path()).to_owned();
    let line = |at: u64| format!("{at:063}\n");
    let text: String = (0..(WHOLE_BYTES_MAX / 64 + 1000)).map(line).collect();
    let put = |file: &str, text: &str| {
        let path = folder.join(file);
        fs::write(&path, text).unwrap();
        objects.wait(|objects| async move { objects.put_new_file("large/a", path).await }).unwrap()
    };
    assert_eq!(put("one", &text), Made::Created);
    assert_eq!(put("two", &text), Made::Same);
    assert_eq!(put("three", &text.replacen('0', "1", 1)), Made::Taken);
    assert_eq!(names(objects, "large"), [("large/a".to_owned(), text.len() as u64)]);
    assert!(names(objects, DRAFTS).is_empty(), "what was sent in parts does not stay");
    let copy = scratch.path().join("copy");
    let (to, bytes) = (copy.clone(), text.len() as u64);
    objects.wait(|objects| async move { objects.download("large/a", bytes, to).await }).unwrap();
    assert!(fs::read_to_string(copy).unwrap() == text);
    // Small files take the short way.
    fs::write(folder.join("four"), "four").unwrap();
    let path = folder.join("four");
    let done = objects.wait(|objects| async move { objects.put_new_file("large/b", path).await }).unwrap();
    assert_eq!((done, &read(objects, "large/b").unwrap()[..]), (Made::Created, &b"four"[..]));
}

#[test]
fn a_folder_conforms() {
    for is_synced in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        conform(&Objects::folder(dir.path(), is_synced).unwrap());
        assert!(dir.path().join("list/b/0001").is_file(), "an object is a file of its name");
    }
}

#[test]
fn memory_conforms() {
    conform(&Objects::memory());
}

/// An S3 of this machine: a process of `moto_server`, which must be on the path.
pub(crate) struct Moto {
    process: std::process::Child,
    address: std::net::SocketAddr,
}

impl Moto {
    pub(crate) fn start() -> Moto {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = std::process::Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &free.port().to_string()]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let process = command.spawn().expect("moto_server, of PyPI's moto[server], on the path");
        let moto = Moto { process, address: free };
        let started = Instant::now();
        while std::net::TcpStream::connect(moto.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "moto_server does not answer");
            std::thread::yield_now();
        }
        moto
    }

    /// A bucket's store.
    pub(crate) fn bucket(&self, bucket: &str) -> Objects {
        use graticule_common::web::{Access, Client, full};
        let request = http::Request::put(format!("http://{}/{bucket}", self.address));
        let request = request.body(full(Bytes::new())).unwrap();
        let builder = object_store::aws::AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_access_key_id("test")
            .with_secret_access_key("test");
        let store = Arc::new(open::s3(builder, bucket).build().unwrap());
        let url = format!("s3://{bucket}/some/prefix");
        let objects = Objects::new(store, Path::from("some/prefix"), url, None, true).unwrap();
        let client = Client::new(Access::anywhere());
        objects
            .wait(|_| async move {
                assert!(client.send(request).await.unwrap().status().is_success());
                Ok(())
            })
            .unwrap();
        objects
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs moto"]
fn moto_s3_conforms() {
    let moto = Moto::start();
    conform(&moto.bucket("conformance"));
}

#[test]
fn stores_work_wherever_they_are_called() {
    let objects = Objects::memory();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert_eq!(objects.put_new("a", Bytes::from_static(b"a")).await.unwrap(), Made::Created);
        let clone = objects.clone();
        // The last to hold a store may be async.
        drop(objects);
        assert_eq!(clone.get("a", 1).await.unwrap(), "a");
    });
}

#[test]
fn a_folder_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = Objects::folder(&dir.path().join("file/store"), true).unwrap_err();
    assert!(matches!(error, ObjectError::File { .. }), "{error}");
    // What a disk refuses is not asked for again.
    let objects = Objects::folder(dir.path(), true).unwrap();
    let started = Instant::now();
    let error = objects
        .wait(|objects| async move { objects.put_new("file/below", Bytes::from_static(b"x")).await })
        .unwrap_err();
    assert!(matches!(error, ObjectError::File { .. }), "{error}");
    assert!(started.elapsed() < FIRST_WAIT * 10);
    assert_eq!(fs::read_dir(dir.path()).unwrap().collect::<Vec<_>>().len(), 1);
    let unique: BTreeSet<String> = (0..100).map(|_| random_name()).collect();
    assert_eq!(unique.len(), 100);
}
