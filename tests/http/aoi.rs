//! Whole results: every format has what `Compute` gives over gRPC.

use std::io::Cursor;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_ipc::reader::StreamReader;
use graticule_common::block::{Block, Samples};
use graticule_common::grid::Crs;
use graticule_common::transform::{Proj, Transform};
use graticule_coordinator::objects::Objects;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::colorado::{Imagery, PRODUCT, source};
use graticule_tests::rest::{Reply, Rest};
use graticule_tests::scenes::{AREA, CRS, masked_index, on_area, over_pixels, reduce, stack};
use ndarray::ArrayD;
use ndarray_npy::NpzReader;
use serde_json::{Value, json};

use crate::{area, cluster};

async fn asked(rest: &Rest, id: &str, accept: &str, body: &Value) -> Reply {
    let headers = [("accept", accept), ("content-type", "application/json")];
    let reply = rest.send("POST", &format!("/layers/{id}/aoi"), &headers, body.to_string()).await;
    if reply.status == 200 {
        assert_eq!(reply.header("graticule-quality"), "exact");
        assert_eq!(
            reply.header("content-type"),
            if accept == "*/*" { "application/octet-stream" } else { accept }
        );
    }
    reply
}

fn data(block: &Block) -> Vec<u8> {
    match block.samples() {
        Samples::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Samples::Bool(values) => values.clone(),
    }
}

fn mask(block: &Block) -> Vec<u8> {
    block.valid().iter().map(|valid| 1 - valid).collect()
}

/// BINBYTES8 of these bytes.
fn has_bytes(pickle: &[u8], bytes: &[u8]) -> bool {
    let length = (bytes.len() as u64).to_le_bytes();
    let expect = [&[0x8e][..], &length, bytes].concat();
    pickle.windows(expect.len()).any(|window| window == expect)
}

async fn expected(cluster: &Cluster, graft: &str) -> (Block, Value) {
    let answer = cluster.compute(&on_area(graft)).await.unwrap();
    let bands = &answer.header.results[0].properties;
    (answer.block, json!(bands.len()))
}

#[tokio::test]
async fn every_format_has_the_pixels_of_grpc() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    for graft in
        [stack("made-up", "a b"), masked_index("made-up", ["a", "b", "a"]), reduce("made-up", "a", "max")]
    {
        let (block, dicts) = expected(&cluster, &graft).await;
        let id = rest.layer(&graft).await;
        for accept in ["application/octet-stream", "*/*"] {
            let reply = asked(&rest, &id, accept, &area()).await;
            assert_eq!(reply.status, 200, "{:?}", reply.body);
            assert!(has_bytes(&reply.body, &data(&block)) && has_bytes(&reply.body, &mask(&block)));
            assert_eq!(reply.header("content-length"), reply.body.len().to_string(), "the length is known");
        }
        let reply = asked(&rest, &id, "application/x-npz", &area()).await;
        let mut npz = NpzReader::new(Cursor::new(reply.body)).unwrap();
        let values: ArrayD<f32> = npz.by_name("data").unwrap();
        let masked: ArrayD<bool> = npz.by_name("mask").unwrap();
        let shape = values.shape().to_vec();
        assert_eq!(shape[shape.len() - 2..], [61, 61]);
        assert_eq!((shape.len() == 4).then(|| shape[0]), block.kind().images().map(|images| images as usize));
        assert_eq!(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>(), data(&block));
        assert_eq!(masked.iter().map(|masked| u8::from(*masked)).collect::<Vec<_>>(), mask(&block));
        if block.kind().images().is_some() {
            assert_eq!(dicts, block.kind().images().unwrap());
        }
        let reply = asked(&rest, &id, "application/vnd.apache.arrow.stream", &area()).await;
        let reader = StreamReader::try_new(&reply.body[..], None).unwrap();
        let bands = block.kind().bands().unwrap() as usize;
        let first = reader.schema().fields().len() - bands;
        let pixels = block.pixels();
        let mut row = 0;
        for batch in reader.map(Result::unwrap) {
            for at in 0..batch.num_rows() {
                for band in 0..bands {
                    let place = ((row / pixels) * bands + band) * pixels + row % pixels;
                    let column = batch.column(first + band);
                    assert_eq!(column.is_valid(at), block.valid()[place] == 1, "{place}");
                    if let (true, Samples::F32(values)) = (column.is_valid(at), block.samples()) {
                        let value = column.as_primitive::<Float32Type>().value(at);
                        assert_eq!(value.to_bits(), values[place].to_bits(), "{place}");
                    }
                }
                row += 1;
            }
        }
        assert_eq!(row * bands, block.valid().len());
    }
}

#[tokio::test]
async fn truth_values_numbers_arrays_and_several_results() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    let is_high = {
        let mut graft: Value = serde_json::from_str(&reduce("made-up", "a", "max")).unwrap();
        graft["high"] = json!(["gt", "result", "limit"]);
        graft["limit"] = json!(1);
        graft["returns"] = "high".into();
        graft.to_string()
    };
    let (block, _) = expected(&cluster, &is_high).await;
    assert!(matches!(block.samples(), Samples::Bool(_)));
    let id = rest.layer(&is_high).await;
    let reply = asked(&rest, &id, "*/*", &area()).await;
    assert!(has_bytes(&reply.body, &data(&block)));
    assert!(reply.body.windows(3).any(|window| window == b"|b1"));
    let number = rest.layer(&over_pixels("made-up", "a", "images of")).await;
    let reply = asked(&rest, &number, "*/*", &area()).await;
    assert!(
        reply.body.starts_with(b"\x80\x04}(X\x05\x00\x00\x00arrayK\x08X\x0a\x00\x00\x00properties"),
        "{:?}",
        reply.body
    );
    let reply = asked(&rest, &number, "application/vnd.apache.arrow.stream", &area()).await;
    let batch = StreamReader::try_new(&reply.body[..], None).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().values(), &[8.0]);
    let reply = asked(&rest, &number, "image/png", &area()).await;
    assert_eq!((reply.status, &reply.error()["code"]), (422, &"impossible".into()));
    let all = rest.layer(&over_pixels("made-up", "a", "all")).await;
    let reply = asked(&rest, &all, "application/x-npz", &area()).await;
    let mut npz = NpzReader::new(Cursor::new(reply.body)).unwrap();
    let m: ArrayD<f32> = npz.by_name("m/data").unwrap();
    let seven: ArrayD<f64> = npz.by_name("seven/data").unwrap();
    assert_eq!((m.shape(), seven.sum()), (&[1, 61, 61][..], 7.0));
    let reply = asked(&rest, &all, "image/png", &area()).await;
    assert_eq!((reply.status, &reply.error()["path"]), (422, &"/result".into()));
    let mut one = area();
    one["result"] = "m".into();
    let reply = asked(&rest, &all, "image/png", &one).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.starts_with(b"\x89PNG"));
    one["result"] = "none".into();
    assert_eq!(asked(&rest, &all, "image/png", &one).await.status, 404);
}

/// The sample imagery, and a place in the middle of its pixel in row 20 and column 30.
async fn colorado() -> (Cluster, Imagery, (f64, f64), usize) {
    let imagery = Imagery::committed();
    let setup = Setup::new(1, imagery.register(), source()).with_http(Objects::memory());
    let (row, col) = (20, 30);
    let mut place = [(AREA[0] + 30.0 * (f64::from(col) + 0.5), AREA[3] - 30.0 * (f64::from(row) + 0.5))];
    let crs = Crs::from_canonical(CRS);
    Proj::new().points(&crs, &Crs::from_canonical("EPSG:4326"), &mut place).unwrap();
    (Cluster::start(setup).await, imagery, place[0], (row * 61 + col) as usize)
}

#[tokio::test]
async fn a_point_is_one_pixel() {
    let (cluster, _imagery, (lon, lat), at) = colorado().await;
    let rest = cluster.rest();
    let graft = stack(PRODUCT, "red nir");
    let id = rest.layer(&graft).await;
    let (block, _) = expected(&cluster, &graft).await;
    let Samples::F32(expect) = block.samples() else { panic!() };
    let (images, pixels) = (block.kind().images().unwrap() as usize, block.pixels());
    let half = 0.5e-7;
    let body = json!({
        "geometry": null, "resolution": null, "shape": [1, 1], "crs": "EPSG:4326",
        "bounds": [lon - half, lat - half, lon + half, lat + half], "bounds_crs": "EPSG:4326",
        "align_pixels": true, "all_touched": true, "parameters": {},
    });
    let reply = asked(&rest, &id, "application/x-npz", &body).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    let mut npz = NpzReader::new(Cursor::new(reply.body)).unwrap();
    let values: ArrayD<f32> = npz.by_name("data").unwrap();
    let masked: ArrayD<bool> = npz.by_name("mask").unwrap();
    assert_eq!(values.shape(), [images, 2, 1, 1]);
    // The same over the address for one value.
    let reply = rest.get(&format!("/layers/{id}/value?lon={lon}&lat={lat}")).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    let reply = reply.json();
    assert_eq!((&reply["kind"], &reply["bands"][1]["name"]), (&"stack".into(), &"nir".into()));
    let listed = reply["images"].as_array().unwrap();
    assert_eq!(listed.len(), images);
    assert!(listed.iter().all(|image| image["id"].is_string() && image["acquired"].is_string()));
    let mut valid = 0;
    for plane in 0..2 * images {
        let (image, band, place) = (plane / 2, plane % 2, plane * pixels + at);
        let (value, is_masked) = (values[[image, band, 0, 0]], masked[[image, band, 0, 0]]);
        let shown = &listed[image]["values"][band];
        assert_eq!(is_masked, block.valid()[place] == 0, "{image} {band}");
        if is_masked {
            assert!(shown.is_null(), "{shown}");
        } else {
            valid += 1;
            assert_eq!(value, expect[place], "{image} {band}");
            assert_eq!(shown.as_f64().unwrap() as f32, value);
        }
    }
    assert!(valid > images, "{valid} of {images} images");
    let far = rest.get(&format!("/layers/{id}/value?lon=10&lat=10")).await.json();
    assert_eq!(far["images"], json!([]), "no image lies there");
    let mosaic = rest.layer(&reduce(PRODUCT, "red", "max")).await;
    for zoom in ["", "&z=13"] {
        let reply = rest.get(&format!("/layers/{mosaic}/value?lon={lon}&lat={lat}{zoom}")).await.json();
        // The files have nothing coarser to read.
        assert_eq!((&reply["kind"], &reply["quality"]), (&"mosaic".into(), &"exact".into()), "{reply}");
        assert!(reply["bands"][0]["value"].is_number() && reply["bands"][0]["name"] == "red", "{reply}");
    }
}

#[tokio::test]
async fn a_geometry_hides_what_is_outside() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    let id = rest.layer(&reduce("made-up", "a", "max")).await;
    let mut body = area();
    // A triangle in the area, in longitude and latitude.
    let ring = json!([[[-106.92, 40.285], [-106.905, 40.285], [-106.905, 40.292], [-106.92, 40.285]]]);
    body["geometry"] = json!({ "type": "Polygon", "coordinates": ring });
    let reply = asked(&rest, &id, "application/x-npz", &body).await;
    let mut npz = NpzReader::new(Cursor::new(reply.body)).unwrap();
    let masked: ArrayD<bool> = npz.by_name("mask").unwrap();
    let outside = masked.iter().filter(|masked| **masked).count();
    assert!(outside > 61 * 61 / 2 && outside < 61 * 61, "{outside}");
}
