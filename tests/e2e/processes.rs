//! The real binary in processes of its own: the same files, orderly ends, nothing half-written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gdal::spatial_ref::SpatialRef;
use gdal::{Dataset, Metadata};
use graticule_tests::colorado::{Imagery, examples};
use graticule_tests::process::{Ended, Process, run};
use graticule_tests::soon;
use ndarray::Array3;
use ndarray_npy::NpzReader;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// Grid of the sample imagery, as arguments; the resolution comes after it.
const NATIVE: [&str; 5] =
    ["--bounds", "336375,4460595,338205,4462425", "--crs", "EPSG:32613", "--resolution"];

/// `graticule compute` of the main job: where, further arguments, and files to write.
pub(crate) fn main_job(imagery: &Imagery, place: &[&str], more: &[&str], out: &[&Path]) -> Process {
    let mut arguments = vec!["--data".into(), imagery.data().into_os_string(), "compute".into()];
    arguments.push(examples().join("ndvi_median.graft.json").into_os_string());
    arguments.extend(place.iter().chain(more).map(Into::into));
    for path in out {
        arguments.extend(["--out".into(), path.as_os_str().to_owned()]);
    }
    Process::start(arguments)
}

pub(crate) fn native(resolution: &str) -> Vec<&str> {
    NATIVE.into_iter().chain([resolution]).collect()
}

#[track_caller]
pub(crate) fn check_done(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Values and masks of a file of pixels.
fn arrays(path: &Path) -> (Array3<f32>, Array3<bool>) {
    let mut npz = NpzReader::new(std::fs::File::open(path).unwrap()).unwrap();
    (npz.by_name("data").unwrap(), npz.by_name("mask").unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A coordinator and two workers, each a process.
pub struct Fleet {
    /// Where to ask.
    pub endpoint: String,
    /// The coordinator.
    pub coordinator: Process,
    /// The workers.
    pub workers: Vec<Process>,
}

impl Fleet {
    /// Starts them, with further arguments for the workers.
    pub async fn start(imagery: &Imagery, more: &[&str]) -> Fleet {
        let data = imagery.data().display().to_string();
        let mut coordinator = Process::start(["--data", &data, "coordinator", "--listen", "127.0.0.1:0"]);
        let endpoint = format!("http://{}", coordinator.address().await);
        let worker = || {
            let role = ["--log", "graticule_worker=debug", "worker", "--slots", "1"];
            Process::start(role.into_iter().chain(["--coordinator", &endpoint]).chain(more.iter().copied()))
        };
        let workers = vec![worker(), worker()];
        coordinator.logs_times("worker registered", workers.len()).await;
        Fleet { endpoint, coordinator, workers }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_files_from_one_process_and_from_three() {
    let imagery = Imagery::committed();
    imagery.register();
    let fleet = Fleet::start(&imagery, &[]).await;
    let out = imagery.out();
    let names = ["ndvi.npz", "ndvi.tif", "ndvi.png"];
    let embedded = names.map(|name| out.join(format!("embedded-{name}")));
    let remote = names.map(|name| out.join(format!("remote-{name}")));
    let place = native("30");
    let one = main_job(&imagery, &place, &[], &embedded.each_ref().map(PathBuf::as_path));
    let tiles = ["--endpoint", &fleet.endpoint, "--tile-size", "16"];
    let three = main_job(&imagery, &place, &tiles, &remote.each_ref().map(PathBuf::as_path));
    let (one, three) = (one.ended().await, three.ended().await);
    check_done(&one);
    check_done(&three);
    assert!(three.stdout.contains("on 2 workers"), "{}", three.stdout);
    for (embedded, remote) in embedded.iter().zip(&remote) {
        assert!(bytes(embedded) == bytes(remote), "{} differs", remote.display());
    }
    assert_eq!(files(&out).len(), 6, "nothing is left beside the results");

    // The GeoTIFF says the same as the arrays: NaN where a pixel is invalid, the grid, the band's name.
    let (data, mask) = arrays(&embedded[0]);
    let tif = Dataset::open(&embedded[1]).unwrap();
    assert_eq!(tif.geo_transform().unwrap(), [336_375.0, 30.0, 0.0, 4_462_425.0, 0.0, -30.0]);
    assert_eq!(tif.spatial_ref().unwrap().auth_code().unwrap(), 32613);
    let band = tif.rasterband(1).unwrap();
    assert_eq!(band.description().unwrap(), "ndvi");
    let stored = band.read_band_as::<f32>().unwrap();
    assert_eq!((data.dim(), stored.data().len()), ((1, 61, 61), 61 * 61));
    for ((stored, value), invalid) in stored.data().iter().zip(&data).zip(&mask) {
        assert!(if *invalid { stored.is_nan() } else { stored.to_bits() == value.to_bits() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_computes() {
    let imagery = Imagery::committed();
    imagery.register();
    let out = imagery.out();
    let (expected, got, none) = (out.join("expected.npz"), out.join("got.npz"), out.join("none.npz"));
    // Large enough to be under way for a while when the first worker dies.
    let place = native("4");
    check_done(&main_job(&imagery, &place, &[], &[&expected]).ended().await);

    let mut fleet = Fleet::start(&imagery, &[]).await;
    let options = ["--endpoint", &fleet.endpoint, "--tile-size", "64", "--no-cache"];
    let computing = main_job(&imagery, &place, &options, &[&got]);
    fleet.workers[0].logs("computing tiles").await;
    fleet.workers[0].signal("KILL");
    let ended = computing.ended().await;
    check_done(&ended);
    assert!(bytes(&got) == bytes(&expected), "a worker's death changes nothing");

    // The other one dies too: an error, and no file.
    let before = fleet.workers[1].logs("computing tiles").await.matches("computing tiles").count();
    let computing = main_job(&imagery, &place, &options, &[&none]);
    fleet.workers[1].logs_times("computing tiles", before + 1).await;
    fleet.workers[1].signal("KILL");
    let ended = computing.ended().await;
    assert_eq!(ended.code, Some(9), "{}", ended.stderr);
    assert!(ended.stderr.contains("no worker is connected"), "{}", ended.stderr);
    assert!(!none.exists() && files(&out).len() == 2);
}

/// What ends orderly ends with 0, at once, with or without the others.
#[tokio::test(flavor = "multi_thread")]
async fn servers_end_when_they_are_told_to() {
    let imagery = Imagery::committed();
    imagery.register();
    let mut fleet = Fleet::start(&imagery, &[]).await;
    let data = imagery.data().display().to_string();
    let mut serve = Process::start(["--data", &data, "serve", "--listen", "127.0.0.1:0"]);
    serve.address().await;
    serve.logs("worker registered").await;
    let worker = fleet.workers.remove(0);
    for (signal, process) in
        [("TERM", worker), ("TERM", fleet.coordinator), ("INT", fleet.workers.remove(0)), ("TERM", serve)]
    {
        let started = Instant::now();
        process.signal(signal);
        let ended = process.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_computation_leaves_nothing() {
    let imagery = Imagery::committed();
    imagery.register();
    let out = imagery.out();
    let mut fleet = Fleet::start(&imagery, &[]).await;
    // A minute's work.
    let place = native("0.5");
    let file = out.join("ndvi.tif");
    let mut embedded = main_job(&imagery, &place, &["--log", "graticule_worker=debug"], &[&file]);
    embedded.logs("computing tiles").await;
    let remote = main_job(&imagery, &place, &["--endpoint", &fleet.endpoint], &[&file]);
    fleet.workers[0].logs("computing tiles").await;
    for process in [embedded, remote] {
        let started = Instant::now();
        process.signal("INT");
        let ended = process.ended().await;
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    assert_eq!(files(&out), Vec::<PathBuf>::new());
    // Nobody computes on: the next request does not wait for the rest of the minute.
    let started = Instant::now();
    check_done(&main_job(&imagery, &native("30"), &["--endpoint", &fleet.endpoint], &[&file]).ended().await);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// One grid, named in many ways.
#[tokio::test(flavor = "multi_thread")]
async fn places_can_be_written_in_many_ways() {
    let imagery = Imagery::committed();
    imagery.register();
    let out = imagery.out();
    let wkt = SpatialRef::from_epsg(32613).unwrap().to_wkt().unwrap();
    let bounds = "336375,4460595,338205,4462425";
    let degrees = "-106.92,40.281,-106.905,40.295";
    let by_degrees = ["--crs", "EPSG:32613", "--bounds-crs", "EPSG:4326", "--resolution", "30"];
    let joined = format!("--bounds={degrees}");
    let write = async |name: &str, place: &[&str]| {
        let file = out.join(format!("{name}.npz"));
        check_done(&main_job(&imagery, place, &[], &[&file]).ended().await);
        file
    };
    let code = write("code", &native("30")).await;
    for (name, crs) in [("proj", "+proj=utm +zone=13 +datum=WGS84"), ("wkt", &wkt)] {
        let file = write(name, &["--bounds", bounds, "--crs", crs, "--resolution", "30"]).await;
        assert!(bytes(&file) == bytes(&code), "{name} is the same CRS");
    }
    let shape = write("shape", &["--bounds", bounds, "--crs", "EPSG:32613", "--shape", "61,61"]).await;
    assert!(bytes(&shape) == bytes(&code), "a shape says how fine as well");
    let apart = write("apart", &[&["--bounds", degrees], &by_degrees[..]].concat()).await;
    let joined = write("joined", &[&[joined.as_str()], &by_degrees[..]].concat()).await;
    assert!(bytes(&apart) == bytes(&joined), "a value may begin with a minus sign");
    let (data, mask) = arrays(&apart);
    assert!(data.dim().1 > 40 && mask.iter().any(|invalid| !invalid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_tells_its_health_and_its_services() {
    let imagery = Imagery::committed();
    imagery.register();
    let data = imagery.data().display().to_string();
    let mut serve = Process::start(["--data", &data, "serve", "--listen", "127.0.0.1:0", "--workers", "1"]);
    let endpoint = format!("http://{}", serve.address().await);

    let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "graticule.v1.ComputeService"] {
        let question = HealthCheckRequest { service: service.into() };
        let answer = soon("health", health.check(question)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "`{service}`");
    }

    let mut reflection = ServerReflectionClient::new(channel);
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::iter([question])).await;
    let answer = soon("services", answers.unwrap().get_mut().message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"graticule.v1.ComputeService"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_is_computed() {
    let imagery = Imagery::committed();
    imagery.register();
    let data = imagery.data().display().to_string();
    let graft = examples().join("ndvi_median.graft.json").display().to_string();
    let list = run(["--data", &data, "catalog", "list"]).await;
    check_done(&list);
    assert!(
        list.stdout.contains("landsat57-colorado  105 scenes  2008-04-19 .. 2013-05-27"),
        "{}",
        list.stdout
    );
    let common = ["--data", &data, "explain", &graft];
    let text = run(common.into_iter().chain(native("30"))).await;
    check_done(&text);
    assert!(text.stdout.contains("scenes  105 to read"), "{}", text.stdout);
    let resolved = run(common.into_iter().chain(native("30")).chain(["--graft"])).await;
    check_done(&resolved);
    let out = imagery.out();
    let (file, again, resolved_graft) = (out.join("a.npz"), out.join("b.npz"), out.join("graft.json"));
    std::fs::write(&resolved_graft, &resolved.stdout).unwrap();
    check_done(&main_job(&imagery, &native("30"), &[], &[&file]).ended().await);
    let (graft, again_text) = (resolved_graft.display().to_string(), again.display().to_string());
    let compute = ["--data", &data, "compute", &graft, "--out", &again_text];
    check_done(&run(compute.into_iter().chain(native("30"))).await);
    assert!(bytes(&file) == bytes(&again));
}
