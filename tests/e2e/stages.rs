//! Results that depend on all pixels: the same values however they are computed, and whatever goes wrong.

use std::sync::Arc;

use graticule_common::block::{Block, Samples};
use graticule_common::proto::v1 as pb;
use graticule_common::wire;
use graticule_tests::client::{Received, with};
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::colorado::{Imagery, graft, main_job, source};
use graticule_tests::probe::Behaviour;
use graticule_tests::process::{Ended, Process};
use graticule_tests::scenes::{MadeUp, on_area, over_pixels};
use graticule_worker::source::Sources;

use crate::processes::Fleet;

fn made_up(workers: usize) -> Setup {
    let catalog = MadeUp::default().with("made-up", 9, &["a", "b"]);
    Setup::new(workers, Arc::new(catalog), Arc::new(Sources::synthetic_only()))
}

fn request(returns: &str) -> pb::ComputeRequest {
    on_area(&over_pixels("made-up", "a b", returns))
}

/// A whole answer: what the results are, in their order, and the bytes of the tiles, by tile.
fn essence(received: Received) -> (Vec<pb::Result>, Vec<Block>) {
    assert!(received.summary.is_some(), "{:?}", received.error);
    let header = received.header.expect("a header");
    let rasters = header.results.iter().filter(|result| result.shape.is_some()).count();
    let blocks =
        if rasters == 0 { Vec::new() } else { graticule_tests::client::blocks(&header, received.chunks) };
    (header.results, blocks)
}

/// The values of a result that is an array, as they arrived.
fn array(result: &pb::Result) -> (Block, Vec<f32>) {
    let block = Block::decode(result.array.as_ref().expect("an array")).unwrap();
    let Samples::F32(values) = block.samples() else { panic!("numbers") };
    let values = values.clone();
    (block, values)
}

/// Valid values of a band, in the order of the pixels.
fn valid(block: &Block, band: usize) -> Vec<f32> {
    let Samples::F32(values) = block.samples() else { panic!("numbers") };
    let range = band * block.pixels()..(band + 1) * block.pixels();
    let pairs = values[range.clone()].iter().zip(&block.valid()[range]);
    pairs.filter(|(_, ok)| **ok == 1).map(|(value, _)| *value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_all_sorts_in_every_way() {
    let (one, three) = (Cluster::start(made_up(1)).await, Cluster::start(made_up(3)).await);
    let request = request("all");
    let expected = essence(one.client.receive(&request).await);
    // Against the definition, from the pixels that arrived.
    let (results, blocks) = &expected;
    let names: Vec<&str> = results.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(names, ["each", "less", "m", "mean", "nested", "seven"]);
    let (less, m) = (&blocks[0], &blocks[1]);
    let (means, nested) = (array(&results[3]).1, array(&results[4]).1);
    for band in 0..2 {
        let values = valid(m, band);
        // Halves, and few of them: their sum is exact in double precision, in any order.
        let mean = (values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64) as f32;
        assert_eq!(means[band], mean);
        let differences: Vec<f32> = values.iter().map(|value| value - mean).collect();
        assert_eq!(valid(less, band), differences);
        let mut sizes: Vec<f32> = differences.iter().map(|value| value.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let middle = sizes.len() / 2;
        let median =
            if sizes.len() % 2 == 1 { sizes[middle] } else { (sizes[middle - 1] + sizes[middle]) / 2.0 };
        assert_eq!(nested[band], median);
    }
    let each = array(&results[0]).0;
    assert_eq!((each.kind().to_string().as_str(), results[0].properties.len()), ("array[9, 2]", 9));
    assert!(results[0].property_list && !results[3].property_list);
    for size in [7, 16, 256] {
        for off in [vec![], vec!["fold", "pushdown", "fuse", "cache"]] {
            for cluster in [&one, &three] {
                let way = with(request.clone(), |options| {
                    options.tile_size = size;
                    options.passes_off = off.iter().map(|name| (*name).to_owned()).collect();
                });
                let answer = essence(cluster.client.receive(&way).await);
                assert_eq!(answer, expected, "tiles of {size}, without {off:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_sums_are_those_of_all_stages() {
    let cluster = Cluster::start(made_up(2)).await;
    let request = with(request("nested"), |options| (options.tile_size, options.no_cache) = (32, true));
    let explained = cluster.client.explain(&request).await.unwrap();
    assert!(explained.text.contains("stage   1 of 2, 1 round\n"), "{}", explained.text);
    assert!(explained.text.contains("stage   2 of 2, at most 4 rounds\n"), "{}", explained.text);
    let received = cluster.client.receive(&request).await;
    let (summary, bill) = (received.summary.unwrap(), explained.bill.unwrap());
    // What the bill counts is what is done when every round is needed, and nothing is remembered.
    assert_eq!((summary.tiles, summary.read_bytes), (bill.tiles, bill.read_bytes));
    assert_eq!(received.header.unwrap().scenes, explained.header.unwrap().scenes);
    assert!(received.chunks.is_empty());
    let last = received.progress.last().expect("progress");
    assert_eq!((last.stage, last.stages), (2, 2));
    let order: Vec<(u32, u64)> = received.progress.iter().map(|p| (p.stage, p.done)).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert!(received.progress.iter().all(|progress| progress.done <= progress.tiles));
}

/// Later rounds, and the pixels of the last stage, take what the first round remembered.
#[tokio::test(flavor = "multi_thread")]
async fn pixels_are_read_once_for_all_rounds() {
    let cluster = Cluster::start(made_up(1)).await;
    let once = cluster.client.receive(&with(request("m"), |options| options.no_cache = true)).await;
    let once = once.summary.unwrap().read_bytes;
    for (returns, rounds) in [("median", 4), ("less", 1)] {
        let cold = with(request(returns), |options| options.no_cache = true);
        let cold = cluster.client.receive(&cold).await.summary.unwrap();
        let fresh = Cluster::start(made_up(1)).await;
        let warm = fresh.client.receive(&request(returns)).await.summary.unwrap();
        assert_eq!(warm.read_bytes, once, "`{returns}`, {rounds} rounds");
        assert!(cold.read_bytes > once && warm.cache_hits > 0, "{warm:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_crashes_in_a_stage() {
    let setup = made_up(2);
    let mut cluster = Cluster::start(setup).await;
    let request = with(request("less"), |options| (options.tile_size, options.no_cache) = (8, true));
    let expected = cluster.compute(&request).await.unwrap();
    cluster.probes[0].set(Behaviour::Hold);
    let client = cluster.client.clone();
    let answer = {
        let request = request.clone();
        tokio::spawn(async move { client.compute(&request).await })
    };
    cluster.probes[0].held().await;
    cluster.kill_worker(0);
    let answer = graticule_tests::soon("the answer", answer).await.unwrap().unwrap();
    assert_eq!(answer.block, expected.block);
    assert_eq!(answer.header, expected.header);
    assert!(answer.summary.retries > 0, "{:?}", answer.summary);
    assert_eq!(answer.summary.tiles, expected.summary.tiles);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_stage_is_the_answer() {
    let cluster = Cluster::start(made_up(1)).await;
    cluster.probes[0].set(Behaviour::FailAfter(3));
    let received = cluster.client.receive(&request("mean")).await;
    assert!(received.header.is_none() && received.summary.is_none());
    let failure = graticule_tests::client::failure(&received.error.unwrap());
    assert_eq!(failure.class, "source", "{}", failure.message);
}

/// A client that goes away during a stage stops it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_stage() {
    let cluster = Cluster::start(Setup { slots: 1, ..made_up(1) }).await;
    let probe = &cluster.probes[0];
    probe.set(Behaviour::Hold);
    let whole = with(request("mean"), |options| options.tile_size = 256);
    let client = cluster.client.clone();
    let leaving = tokio::spawn(async move { client.receive(&whole).await });
    probe.held().await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    // The only slot is free again as soon as the tile has stopped.
    probe.set(Behaviour::Pass);
    let answer = essence(cluster.client.receive(&request("mean")).await);
    assert_eq!(array(&answer.0[0]).1.len(), 2);
}

/// A source that cannot be read is missing from every stage, and listed once.
#[tokio::test(flavor = "multi_thread")]
async fn skipped_sources_of_all_stages() {
    const SCENE: &str = "LE70350322010155EDC00";
    let imagery = Imagery::copy();
    let (file, catalog) = (imagery.file(SCENE, "b4"), imagery.register());
    let cluster = Cluster::start(Setup::new(2, catalog, source())).await;
    let mut graft: serde_json::Value = serde_json::from_slice(&main_job().graft).unwrap();
    let result = graft["returns"].as_str().unwrap().to_owned();
    for (key, value) in [("p", "pixels"), ("of", "Mosaic"), ("how", "mean"), ("minus", "sub")] {
        graft[format!("over {key}")] = value.into();
    }
    graft["over mean"] = serde_json::json!(["reduction", result, "over how", "over p", "over of"]);
    graft["less"] = serde_json::json!(["math", "over minus", result, "over mean"]);
    graft["returns"] = "less".into();
    let request = pb::ComputeRequest { graft: graft.to_string().into_bytes(), ..main_job() };
    let whole = cluster.compute(&request).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let again = with(request.clone(), |options| options.no_cache = true);
    assert_eq!(cluster.compute(&again).await.unwrap_err().class, "source");
    let skipping = with(again, |options| (options.skip_faulty, options.tile_size) = (true, 32));
    let part = cluster.compute(&skipping).await.unwrap();
    let [skipped] = &part.summary.skipped[..] else { panic!("{:?}", part.summary.skipped) };
    assert_eq!((skipped.scene.as_str(), skipped.band.as_str()), (SCENE, "nir"));
    assert_ne!(part.block, whole.block);
}

/// What needs no pixel reads none.
#[tokio::test(flavor = "multi_thread")]
async fn values_without_pixels() {
    let cluster = Cluster::start(made_up(1)).await;
    let reads = cluster.reads();
    let graft = r#"{"list": [[1, 2.5, "x"]], "n": 3, "both": ["object", {"a": "list", "b": "n"}], "returns": "both"}"#;
    let (results, blocks) = essence(cluster.client.receive(&on_area(graft)).await);
    let values: Vec<String> = results
        .iter()
        .map(|result| wire::literal_from(result.number.as_ref().expect("a value")).to_string())
        .collect();
    assert_eq!(values, [r#"[1,2.5,"x"]"#, "3"]);
    assert!(blocks.is_empty());
    let (results, blocks) = essence(cluster.client.receive(&request("images of")).await);
    let [length] = &results[..] else { panic!("{results:?}") };
    assert_eq!(wire::literal_from(length.number.as_ref().expect("a number")).to_string(), "9");
    let properties: Vec<_> = length.properties.iter().map(wire::properties_from).collect();
    assert_eq!(serde_json::to_value(properties).unwrap(), serde_json::json!([{"return_type": "int"}]));
    assert!(blocks.is_empty() && cluster.reads() == reads);
}

#[track_caller]
fn done(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// One process and three write the same files, and they say the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_numbers_from_one_process_and_from_three() {
    let imagery = Imagery::committed();
    imagery.register();
    let fleet = Fleet::start(&imagery, &[]).await;
    let mut graft: serde_json::Value = serde_json::from_str(&graft()).unwrap();
    let result = graft["returns"].as_str().unwrap().to_owned();
    for (key, value) in [("p", "pixels"), ("of", "Mosaic"), ("mean", "mean"), ("median", "median")] {
        graft[format!("over {key}")] = value.into();
    }
    for how in ["mean", "median"] {
        graft[how] = serde_json::json!(["reduction", result, format!("over {how}"), "over p", "over of"]);
    }
    graft["all"] = serde_json::json!(["object", {"ndvi": result, "mean": "mean", "median": "median"}]);
    graft["returns"] = "all".into();
    let file = imagery.data().join("graft.json");
    std::fs::write(&file, graft.to_string()).unwrap();
    let compute = |name: &str, more: &[&str]| {
        let mut arguments = vec!["--data".into(), imagery.data().into_os_string(), "compute".into()];
        arguments.push(file.clone().into_os_string());
        let place =
            ["--bounds", "336375,4460595,338205,4462425", "--crs", "EPSG:32613", "--resolution", "30"];
        arguments.extend(place.iter().chain(more).map(Into::into));
        for (result, ending) in [("mean", "json"), ("median", "npz"), ("ndvi", "npy")] {
            let path = imagery.out().join(format!("{name}-{result}.{ending}"));
            arguments.extend(["--out".into(), format!("{result}={}", path.display()).into()]);
        }
        arguments.extend(["--out".into(), "median=-".into()]);
        Process::start(arguments)
    };
    let one = compute("one", &[]).ended().await;
    let three = compute("three", &["--endpoint", &fleet.endpoint, "--tile-size", "16"]).ended().await;
    done(&one);
    done(&three);
    assert_eq!(one.stdout, three.stdout);
    let read = |name: &str| std::fs::read(imagery.out().join(name)).unwrap();
    for file in ["mean.json", "median.npz", "ndvi.npy"] {
        assert!(read(&format!("one-{file}")) == read(&format!("three-{file}")), "{file} differs");
    }
    // A list of one band, as text and as arrays.
    let median: Vec<f32> = serde_json::from_str(&one.stdout).unwrap();
    let path = imagery.out().join("one-median.npz");
    let mut npz = ndarray_npy::NpzReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let data: ndarray::Array1<f32> = npz.by_name("data").unwrap();
    let mask: ndarray::Array1<bool> = npz.by_name("mask").unwrap();
    assert_eq!((data.to_vec(), mask.to_vec()), (median, vec![false]));
    let refused = compute("tif", &["--out", "mean=mean.tif"]).ended().await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(refused.stderr.contains("not a raster"), "{}", refused.stderr);
}
