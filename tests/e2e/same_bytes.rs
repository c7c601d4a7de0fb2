//! The same request gives the same bytes, however it is computed, and they are the right ones.

use std::sync::Arc;

use graticule_common::block::Samples;
use graticule_common::proto::v1 as pb;
use graticule_tests::client::{Answer, with};
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::colorado::{Imagery, main_job, ndvi_median, source};
use graticule_tests::scenes::{MadeUp, masked_index, on_area, stack};
use graticule_worker::source::Sources;

fn made_up(workers: usize) -> Setup {
    let catalog = MadeUp::default().with("made-up", 40, &["a", "b", "c"]);
    Setup::new(workers, Arc::new(catalog), Arc::new(Sources::synthetic_only()))
}

async fn colorado(workers: usize) -> (Imagery, Cluster) {
    let imagery = Imagery::committed();
    let catalog = imagery.register();
    (imagery, Cluster::start(Setup::new(workers, catalog, source())).await)
}

/// The result and its description, without what depends on how it was computed.
fn essence(answer: Answer) -> (pb::Header, bytes::Bytes) {
    let header = pb::Header { tile_size: 0, tiles: 0, ..answer.header };
    (header, answer.block.encode())
}

/// Ways to compute a request that must not show in the result.
fn ways(request: &pb::ComputeRequest) -> Vec<(String, pb::ComputeRequest)> {
    let all = ["pushdown", "fuse", "cache", "stream", "exit"].map(str::to_owned).to_vec();
    let mut ways = vec![("as planned".to_owned(), request.clone())];
    for size in [7, 16, 64, 256] {
        ways.push((format!("tiles of {size}"), with(request.clone(), |options| options.tile_size = size)));
    }
    for pass in &all {
        let off = with(request.clone(), |options| options.passes_off = vec![pass.clone()]);
        ways.push((format!("without {pass}"), off));
    }
    let plain = with(request.clone(), |options| {
        *options = pb::Options { tile_size: 32, passes_off: all, no_cache: true, ..pb::Options::default() };
    });
    ways.push(("plainly".to_owned(), plain));
    ways
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_is_what_its_definition_says() {
    let (_imagery, cluster) = colorado(2).await;
    let answer = cluster.compute(&main_job()).await.unwrap();
    let Samples::F32(values) = answer.block.samples() else { panic!("NDVI is a number") };
    let computed: Vec<Option<u32>> = values
        .iter()
        .zip(answer.block.valid())
        .map(|(value, valid)| (*valid == 1).then(|| value.to_bits()))
        .collect();
    let expected: Vec<Option<u32>> = ndvi_median().into_iter().map(|value| value.map(f32::to_bits)).collect();
    assert_eq!(computed.len(), expected.len());
    for (at, (computed, expected)) in computed.iter().zip(&expected).enumerate() {
        assert_eq!(computed, expected, "row {}, column {}", at / 61, at % 61);
    }
    assert_eq!(answer.header.scenes.len(), 105);
    assert_eq!(answer.summary.tiles, answer.header.tiles);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_in_every_way() {
    let (_imagery, cluster) = colorado(3).await;
    let expected = essence(cluster.compute(&main_job()).await.unwrap());
    for (way, request) in ways(&main_job()) {
        assert_eq!(essence(cluster.compute(&request).await.unwrap()), expected, "{way}");
    }
    let (_imagery, one) = colorado(1).await;
    assert_eq!(essence(one.compute(&main_job()).await.unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_scenes_in_every_way() {
    let (one, three) = (Cluster::start(made_up(1)).await, Cluster::start(made_up(3)).await);
    for graft in [masked_index("made-up", ["a", "b", "c"]), stack("made-up", "c a")] {
        let request = on_area(&graft);
        let expected = essence(one.compute(&request).await.unwrap());
        for (way, request) in ways(&request) {
            for cluster in [&one, &three] {
                let workers = cluster.probes.len();
                let answer = cluster.compute(&request).await.unwrap();
                assert_eq!(essence(answer), expected, "{way}, {workers} workers");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_is_what_was_computed() {
    let (_imagery, cluster) = colorado(2).await;
    let request = with(main_job(), |options| options.tile_size = 16);
    let no_cache = with(request.clone(), |options| options.no_cache = true);

    let first = cluster.compute(&no_cache).await.unwrap();
    let again = cluster.compute(&no_cache).await.unwrap();
    for answer in [&first, &again] {
        let sums = &answer.summary;
        assert_eq!((sums.cache_hits, sums.cache_misses, sums.tiles_from_cache), (0, 0, 0));
        assert!(sums.read_bytes > 0);
    }

    let cold = cluster.compute(&request).await.unwrap();
    assert_eq!((cold.summary.cache_hits, cold.summary.read_bytes), (0, first.summary.read_bytes));
    let reads = cluster.reads();
    // Which worker has a tile in memory is chance where one was faster; that any has one is not.
    let warm = cluster.compute(&request).await.unwrap();
    assert!(warm.summary.cache_hits > 0 && warm.summary.tiles_from_cache > 0, "{:?}", warm.summary);
    assert!(cluster.reads() - reads < reads);

    let expected = essence(first);
    for answer in [again, cold, warm] {
        assert_eq!(essence(answer), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explaining_reads_nothing_and_says_what_computing_does() {
    let (_imagery, cluster) = colorado(2).await;
    let reads = cluster.reads();
    let requests: Vec<_> = ways(&main_job()).into_iter().map(|(_, request)| request).collect();
    let mut explained = Vec::new();
    for request in &requests {
        explained.push(cluster.client.explain(request).await.unwrap());
    }
    assert_eq!(cluster.reads(), reads, "no pixel is read");
    for (request, explained) in requests.iter().zip(explained) {
        let answer = cluster.compute(&with(request.clone(), |o| o.no_cache = true)).await.unwrap();
        let bill = explained.bill.unwrap();
        assert_eq!(explained.header.unwrap(), answer.header);
        assert_eq!((bill.tiles, bill.scenes), (answer.summary.tiles, 105));
        // Images that clouds hide wholly are read in the bill alone.
        let (billed, read) = (bill.read_bytes, answer.summary.read_bytes);
        let spared = answer.summary.reads_spared;
        assert!(read <= billed && (read < billed) == (spared > 0), "{read} of {billed}, {spared} spared");
        assert_eq!(bill.result_bytes, 61 * 61 * 5);
        // What is explained is the same computation: its graft gives the same pixels.
        let resolved = pb::ComputeRequest { graft: explained.graft.into_bytes(), ..request.clone() };
        assert_eq!(cluster.compute(&resolved).await.unwrap().block, answer.block);
    }
}

/// Plans grow with scenes and bands; messages between the parts must be allowed to.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_scenes_of_many_bands() {
    let bands: Vec<String> = (0..40).map(|at| format!("band-{at:02}")).collect();
    let names: Vec<&str> = bands.iter().map(String::as_str).collect();
    let catalog = MadeUp::default().with("long", 2000, &names);
    let cluster = Cluster::start(Setup::new(1, Arc::new(catalog), Arc::new(Sources::synthetic_only()))).await;
    let graft = graticule_tests::scenes::reduce("long", &bands.join(" "), "max");
    let [west, _, _, north] = graticule_tests::scenes::AREA;
    let request = graticule_tests::client::request(
        &graft,
        graticule_tests::scenes::CRS,
        [west, north - 60.0, west + 60.0, north],
        30.0,
    );
    let answer = cluster.compute(&request).await.unwrap();
    assert_eq!(answer.header.scenes.len(), 2000);
    assert_eq!(answer.block.valid(), vec![1; 40 * 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_results_come_in_one_pass() {
    let (_imagery, cluster) = colorado(1).await;
    let one = main_job();
    let mut graft: serde_json::Value = serde_json::from_slice(&one.graft).unwrap();
    let result = graft["returns"].as_str().unwrap().to_owned();
    graft["seven"] = 7.into();
    graft["all"] = serde_json::json!(["object", {"first": result, "number": "seven", "second": result}]);
    graft["returns"] = "all".into();
    let several = pb::ComputeRequest { graft: graft.to_string().into_bytes(), ..one.clone() };
    let (alone, together) = (cluster.client.receive(&one).await, cluster.client.receive(&several).await);
    let header = together.header.unwrap();
    let names: Vec<&str> = header.results.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(names, ["first", "number", "second"]);
    assert!(header.results[0].shape.is_some() && header.results[1].number.is_some());
    assert!(together.summary.is_some(), "{:?}", together.error);
    let bytes = |chunks: &[pb::TileChunk]| {
        let mut tiles = std::collections::BTreeMap::<(i64, i64), Vec<u8>>::new();
        for chunk in chunks {
            let tile = chunk.tile.unwrap();
            tiles.entry((tile.row, tile.col)).or_default().extend_from_slice(&chunk.data);
        }
        tiles
    };
    let (alone, together) = (bytes(&alone.chunks), bytes(&together.chunks));
    assert!(!alone.is_empty() && alone.len() == together.len());
    for (tile, block) in alone {
        assert_eq!(together[&tile], [block.clone(), block].concat());
    }
}
