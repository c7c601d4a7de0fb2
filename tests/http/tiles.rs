//! Tiles, against a rendering of their own of the pixels that gRPC gives.

use std::collections::HashMap;
use std::sync::Arc;

use graticule_common::aoi::xyz::XyzTile;
use graticule_common::block::{Block, Samples};
use graticule_common::grid::Crs;
use graticule_common::proto::v1 as pb;
use graticule_common::scene::{Affine, AssetGrid};
use graticule_common::wire;
use graticule_coordinator::objects::Objects;
use graticule_coordinator::render::Colormap;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::colorado::{self, Imagery};
use graticule_tests::probe::Behaviour;
use graticule_tests::rest::{Reply, Rest};
use graticule_tests::scenes::{MadeUp, reduce};
use graticule_tests::{soon, until};
use graticule_worker::source::Sources;
use serde_json::{Value, json};

/// A place in the middle of the sample imagery: longitude and latitude.
pub const MIDDLE: (f64, f64) = (-106.9142, 40.2882);

/// Column and row of a tile that holds a place.
pub fn at(zoom: u32, (lon, lat): (f64, f64)) -> (u32, u32, u32) {
    let tiles = f64::from(1u32 << zoom);
    let x = (lon + 180.0) / 360.0 * tiles;
    let y = (1.0 - lat.to_radians().tan().asinh() / std::f64::consts::PI) / 2.0 * tiles;
    (zoom, x as u32, y as u32)
}

fn address(layer: &str, (z, x, y): (u32, u32, u32), rest: &str) -> String {
    format!("/layers/{layer}/tile/{z}/{x}/{y}{rest}")
}

/// Percent-encodes what JSON has.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => (byte as char).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Rows, columns and pixels of a PNG.
pub fn picture(reply: &Reply) -> ((u32, u32), Vec<[u8; 4]>) {
    assert_eq!(reply.header("content-type"), "image/png", "{:?}", reply.headers);
    let mut decoder = png::Decoder::new(std::io::Cursor::new(&reply.body[..]));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::ALPHA);
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("pixels");
    let pixels = &pixels[..info.buffer_size()];
    let pixels = match info.color_type {
        png::ColorType::Rgba => pixels.as_chunks::<4>().0.to_vec(),
        other => panic!("{other:?}"),
    };
    ((info.height, info.width), pixels)
}

/// The tile as gRPC gives it.
async fn block(cluster: &Cluster, graft: &str, (z, x, y): (u32, u32, u32), size: u32) -> Block {
    let aoi = XyzTile::new(z, x, y).expect("a tile").aoi(size);
    let request = pb::ComputeRequest {
        graft: graft.as_bytes().to_vec(),
        aoi: Some(wire::aoi_to(&aoi)),
        options: None,
        parameters: None,
    };
    cluster.compute(&request).await.expect("pixels").block
}

fn values(block: &Block) -> Vec<Option<f32>> {
    let Samples::F32(values) = block.samples() else { panic!("numbers") };
    values.iter().zip(block.valid()).map(|(value, ok)| (*ok == 1).then_some(*value)).collect()
}

/// The sample imagery behind HTTP.
pub struct World {
    _imagery: Imagery,
    pub cluster: Cluster,
    pub site: Rest,
}

impl World {
    pub async fn start() -> World {
        World::over(Objects::memory()).await
    }

    async fn over(objects: Objects) -> World {
        let imagery = Imagery::committed();
        let setup = Setup::new(2, imagery.register(), colorado::source());
        let cluster = Cluster::start(setup.with_http(objects)).await;
        let site = Rest::new(cluster.http.expect("an HTTP port"));
        World { _imagery: imagery, cluster, site }
    }
}

/// Three bands of the sample imagery.
fn true_colour() -> String {
    json!({
        "product": colorado::PRODUCT, "bands": "red nir fmask",
        "from": "2008-07-01T00:00:00", "until": "2008-09-01T00:00:00",
        "result": ["mosaic", "product", "bands", {"start_datetime": "from", "end_datetime": "until"}],
        "returns": "result",
    })
    .to_string()
}

/// (nir - red) / (nir + red) of a summer.
pub fn ndvi() -> String {
    let band = |name: &str| json!(["band_op", "m", "pick", name, "none"]);
    json!({
        "product": colorado::PRODUCT, "bands": "red nir", "none": null, "pick": "pick_bands",
        "from": "2008-07-01T00:00:00", "until": "2008-09-01T00:00:00",
        "m": ["mosaic", "product", "bands", {"start_datetime": "from", "end_datetime": "until"}],
        "just_red": "[\"red\"]", "just_nir": "[\"nir\"]", "red": band("just_red"), "nir": band("just_nir"),
        "minus": "sub", "plus": "add", "over": "truediv",
        "difference": ["math", "minus", "nir", "red"], "total": ["math", "plus", "nir", "red"],
        "result": ["math", "over", "difference", "total"], "returns": "result",
    })
    .to_string()
}

fn one_band(band: &str) -> String {
    json!({
        "product": colorado::PRODUCT, "bands": band,
        "from": "2008-07-01T00:00:00", "until": "2008-09-01T00:00:00",
        "result": ["mosaic", "product", "bands", {"start_datetime": "from", "end_datetime": "until"}],
        "returns": "result",
    })
    .to_string()
}

/// A value between the ends of a stretch, as a byte.
fn byte(value: f32, low: f64, high: f64) -> u8 {
    ((f64::from(value) - low) / (high - low) * 255.0).clamp(0.0, 255.0).round_ties_even() as u8
}

#[tokio::test(flavor = "multi_thread")]
async fn one_band_is_shown_in_the_colours_of_its_map() {
    let world = World::start().await;
    let graft = ndvi();
    let layer = world.site.layer(&graft).await;
    for (place, size, suffix) in [(at(14, MIDDLE), 256, ".png"), (at(13, MIDDLE), 512, "@2x.png")] {
        let pixels = values(&block(&world.cluster, &graft, place, size).await);
        assert!(pixels.iter().flatten().count() > 5000 && pixels.contains(&None), "{place:?}");
        let map = Colormap::from_name("RdYlGn_r").unwrap().colours();
        let query = format!("{suffix}?scales={}&colormap=RdYlGn_r&quality=exact", encoded("[[0.1, 0.6]]"));
        let reply = world.site.get(&address(&layer, place, &query)).await;
        assert_eq!((reply.status, reply.header("graticule-quality")), (200, "exact"));
        let (shape, shown) = picture(&reply);
        assert_eq!(shape, (size, size));
        for (at, (value, shown)) in pixels.iter().zip(&shown).enumerate() {
            let expected = value.map_or([0; 4], |value| {
                let [red, green, blue] = map[usize::from(byte(value, 0.1, 0.6))];
                [red, green, blue, 255]
            });
            assert_eq!(*shown, expected, "pixel {at} of {place:?}, {value:?}");
        }
        // The same as numbers.
        let query = format!("{}?nocache=1", suffix.replace(".png", ".npy"));
        let raw = world.site.get(&address(&layer, place, &query)).await;
        assert_eq!((raw.status, raw.header("graticule-quality")), (200, "exact"));
        let numbers = raw.body[raw.body.len() - 4 * pixels.len()..].as_chunks::<4>().0;
        for (at, (value, number)) in pixels.iter().zip(numbers).enumerate() {
            let number = f32::from_le_bytes(*number);
            assert_eq!(
                value.map(f32::to_bits),
                (!number.is_nan()).then_some(number.to_bits()),
                "number {at}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_bands_checkerboard_classes_and_opacity() {
    let world = World::start().await;
    let place = at(14, MIDDLE);
    let graft = true_colour();
    let layer = world.site.layer(&graft).await;
    let bands = values(&block(&world.cluster, &graft, place, 256).await);
    let scales = encoded("[[0, 3000], [0, 5000], [0, 4]]");
    let query = format!("?scales={scales}&quality=exact&checkerboard=");
    let plain = picture(&world.site.get(&address(&layer, place, &format!("{query}False"))).await).1;
    let checkered = picture(&world.site.get(&address(&layer, place, &format!("{query}True"))).await).1;
    let colour = |at: usize| {
        let [red, nir, fmask] = [bands[at]?, bands[65536 + at]?, bands[2 * 65536 + at]?];
        Some([byte(red, 0.0, 3000.0), byte(nir, 0.0, 5000.0), byte(fmask, 0.0, 4.0), 255])
    };
    let mut hidden = 0;
    for at in 0..65536 {
        assert_eq!(plain[at], colour(at).unwrap_or([0; 4]), "pixel {at}");
        match colour(at) {
            Some(colour) => assert_eq!(checkered[at], colour, "pixel {at}"),
            None => {
                hidden += 1;
                let is_white = (at / 256 / 8 + at % 256 / 8) % 2 == 0;
                assert_eq!(
                    checkered[at],
                    if is_white { [255; 4] } else { [205, 205, 205, 255] },
                    "pixel {at}"
                );
            }
        }
    }
    assert!(hidden > 100 && hidden < 60000, "{hidden} of 65536 pixels have no value");

    let graft = one_band("fmask");
    let classes =
        json!([{"value": 0, "color": "#102030", "name": "clear"}, {"value": 4, "color": "#FFFFFF"}]);
    let flags = world.site.layer(&graft).await;
    let stored = values(&block(&world.cluster, &graft, place, 256).await);
    let query = format!("?classes={}&quality=exact", encoded(&classes.to_string()));
    let shown = picture(&world.site.get(&address(&flags, place, &query)).await).1;
    for (at, (value, shown)) in stored.iter().zip(&shown).enumerate() {
        let expected = match value {
            Some(0.0) => [16, 32, 48, 255],
            Some(4.0) => [255; 4],
            _ => [0; 4],
        };
        assert_eq!(*shown, expected, "pixel {at}: {value:?}");
    }
    assert!(stored.contains(&Some(0.0)), "{:?}", &stored[30000..30010]);

    // The red band, divided by 2,000, as opacity of the three.
    let opacity = json!({
        "product": colorado::PRODUCT, "bands": "red", "over": "truediv", "by": 2000,
        "from": "2008-07-01T00:00:00", "until": "2008-09-01T00:00:00",
        "red": ["mosaic", "product", "bands", {"start_datetime": "from", "end_datetime": "until"}], "result": ["math", "over", "red", "by"], "returns": "result",
    })
    .to_string();
    let shares = values(&block(&world.cluster, &opacity, place, 256).await);
    let alpha = world.site.layer(&opacity).await;
    let query = format!("?scales={scales}&quality=exact&alpha={alpha}");
    let faded = picture(&world.site.get(&address(&layer, place, &query)).await).1;
    for at in 0..65536 {
        let share = shares[at].map_or(0, |share| byte(share, 0.0, 1.0));
        let expected = match colour(at) {
            Some([red, green, blue, _]) if share > 0 => [red, green, blue, share],
            _ => [0; 4],
        };
        assert_eq!(faded[at], expected, "pixel {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_a_picture_with_a_status() {
    let world = World::start().await;
    let layer = world.site.layer(&ndvi()).await;
    let stack = world.site.layer(&graticule_tests::scenes::stack(colorado::PRODUCT, "red")).await;
    let (z, x, y) = at(14, MIDDLE);
    let forged = {
        let last = if layer.ends_with('A') { "B" } else { "A" };
        format!("{}{last}", &layer[..layer.len() - 1])
    };
    let nan = format!("{z}/{x}/{y}?scales={}", encoded("[[NaN, 1]]"));
    let five = format!("{z}/{x}/{y}?scales={}", encoded("[[0,1],[0,1],[0,1],[0,1],[0,1]]"));
    let size = |reply: &Reply| picture(reply).0;
    for (id, rest, status) in [
        (&layer, "27/0/0".to_owned(), 400),
        (&layer, format!("{z}/{}/{y}", 1 << z), 400),
        (&layer, "-1/0/0".to_owned(), 400),
        (&layer, "1/2.5/0".to_owned(), 400),
        (&layer, nan, 400),
        (&layer, five, 400),
        (&layer, format!("{z}/{x}/{y}?colormap=nothing"), 400),
        (&layer, format!("{z}/{x}/{y}?alpha=nothing"), 404),
        (&layer, format!("{z}/{x}/{y}@2x?size=256"), 400),
        (&stack, format!("{z}/{x}/{y}"), 422),
        (&forged, format!("{z}/{x}/{y}"), 404),
        (&layer[..20].to_owned(), format!("{z}/{x}/{y}"), 404),
    ] {
        let path = format!("/layers/{id}/tile/{rest}");
        let reply = world.site.get(&path).await;
        assert_eq!(reply.status, status, "{rest}");
        assert_eq!(reply.header("cache-control"), "no-store", "{rest}");
        assert_eq!(reply.header("etag"), "", "{rest}");
        assert!(!reply.header("x-request-id").is_empty(), "{rest}");
        let side = if rest.contains("@2x") { 512 } else { 256 };
        assert_eq!(size(&reply), (side, side), "{rest}");
        let accept = [("accept", "application/json")];
        let told = world.site.send("GET", &path, &accept, "").await;
        assert_eq!(told.status, status, "{rest}");
        assert!(told.json()["message"].as_str().is_some_and(|message| message.len() > 10), "{rest}");
    }
    let large = world.site.get(&address(&layer, (z, x, y), "@2x?colormap=nothing")).await;
    assert_eq!((large.status, size(&large)), (400, (512, 512)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_tile_is_not_computed_again() {
    let world = World::start().await;
    let layer = world.site.layer(&ndvi()).await;
    let path = address(&layer, at(14, MIDDLE), "?colormap=magma&nocache=1&stretch=0,1");
    let first = world.site.get(&path).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && first.header("cache-control").contains("max-age"), "{:?}", first.headers);
    let reads = world.cluster.reads();
    assert!(reads > 0);
    let again = world.site.send("GET", &path, &[("if-none-match", &tag)], "").await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, &*tag));
    assert_eq!(world.cluster.reads(), reads, "a tile that is known is not read again");
    let other = path.replace("magma", "magma_r");
    let changed = world.site.send("GET", &other, &[("if-none-match", &tag)], "").await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), tag);
    assert!(world.cluster.reads() > reads);
    // The same again is the same.
    assert_eq!(world.site.get(&path).await.body, first.body);
    let empty = world.site.get(&address(&layer, (14, 0, 0), "?checkerboard=True")).await;
    assert_eq!(empty.status, 200);
    assert!(picture(&empty).1.iter().all(|pixel| pixel[3] == 255), "an empty tile is all checkerboard");
    let jpeg = world.site.get(&address(&layer, at(14, MIDDLE), ".jpg?stretch=0,1")).await;
    assert_eq!((jpeg.status, jpeg.header("content-type")), (200, "image/jpeg"));
    assert!(jpeg.body.starts_with(&[0xff, 0xd8]));
}

/// With one stretch for the layer a value has one colour in all tiles; with one for each tile it has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_has_one_stretch_that_coordinators_share() {
    let objects = Objects::memory();
    let world = World::over(objects.clone()).await;
    let other = World::over(objects).await;
    let graft = ndvi();
    let layer = world.site.layer(&graft).await;
    assert_eq!(other.site.layer(&graft).await, layer, "a layer's id is the same everywhere");
    let (z, x, y) = at(16, MIDDLE);
    let tiles = [(z, x, y), (z, x + 1, y), (z, x, y + 1), (z, x + 1, y + 1)];
    let mut consistent = HashMap::new();
    for stretch in ["layer", "tile"] {
        let mut colours: HashMap<u32, [u8; 4]> = HashMap::new();
        let mut is_one = true;
        for place in tiles {
            let pixels = values(&block(&world.cluster, &graft, place, 256).await);
            let query = format!("?stretch={stretch}&quality=exact");
            let reply = world.site.get(&address(&layer, place, &query)).await;
            assert_eq!(reply.status, 200);
            for (value, shown) in pixels.iter().zip(picture(&reply).1) {
                let Some(value) = value else { continue };
                is_one &= *colours.entry(value.to_bits()).or_insert(shown) == shown;
            }
            let elsewhere = other.site.get(&address(&layer, place, &query)).await;
            assert_eq!(elsewhere.body, reply.body, "two coordinators, one tile");
        }
        assert!(colours.len() > 50, "{} values", colours.len());
        consistent.insert(stretch, is_one);
    }
    assert_eq!((consistent["layer"], consistent["tile"]), (true, false));
    let path = format!("/layers/{layer}/statistics");
    let (mine, theirs) = (world.site.get(&path).await.json(), other.site.get(&path).await.json());
    assert_eq!(mine, theirs);
    let band = &mine["bands"][0];
    let number = |value: &Value| value.as_f64().unwrap();
    let (low, high) = (number(&band["percentiles"]["2"]), number(&band["percentiles"]["98"]));
    assert!(number(&band["min"]) <= low && low < high && high <= number(&band["max"]), "{band}");
    assert!(number(&band["valid"]) > 1000.0, "{band}");
    let counted: u64 = band["histogram"]["counts"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(counted, band["valid"].as_u64().unwrap());
}

/// Statistics are found in the store by a coordinator that could not compute them.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_are_computed_once() {
    let objects = Objects::memory();
    let world = World::over(objects.clone()).await;
    let layer = world.site.layer(&ndvi()).await;
    let path = format!("/layers/{layer}/statistics");
    let asked = (0..8).map(|_| {
        let (site, path) = (world.site.clone(), path.clone());
        tokio::spawn(async move { site.get(&path).await })
    });
    let mut answers = Vec::new();
    for asked in asked.collect::<Vec<_>>() {
        answers.push(soon("statistics", asked).await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    let described = world.cluster.describe().await;
    assert!(described.counts.unwrap().requests <= 2, "the eight share one computation");
    let other = World::over(objects).await;
    other.cluster.probes.iter().for_each(|probe| probe.set(Behaviour::FailAfter(0)));
    assert_eq!(other.site.get(&path).await.json(), answers[0].json());
}

/// The worker has one slot, which the first tile holds until it is abandoned.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_tile_is_not_computed() {
    const SCENES: u64 = 1000;
    let catalog = MadeUp::default().with_everywhere("long", SCENES as usize, &["a"]);
    let setup = Setup::new(1, Arc::new(catalog), Arc::new(Sources::synthetic_only()));
    let cluster = Cluster::start(Setup { slots: 1, ..setup }.with_http(Objects::memory())).await;
    let site = Rest::new(cluster.http.unwrap());
    let layer = site.layer(&reduce("long", "a", "max")).await;
    let probe = &cluster.probes[0];
    probe.set(Behaviour::Hold);
    let before = probe.reads();
    let path = address(&layer, at(14, MIDDLE), "");
    // A connection of its own, that ends with whoever asked.
    let asking = tokio::spawn({
        let (site, path) = (Rest::new(site.address), path.clone());
        async move { site.get(&path).await }
    });
    assert!(probe.held().await.starts_with("long"));
    assert_eq!(cluster.describe().await.requests.len(), 1);
    asking.abort();
    cluster.until("nobody asks any more", |described| described.requests.is_empty()).await;
    probe.set(Behaviour::Pass);
    let busy = |described: &pb::DescribeResponse| described.workers.iter().any(|worker| worker.tiles > 0);
    cluster.until("the worker is free", |described| !busy(described)).await;
    let reads = probe.reads() - before;
    assert!(reads < SCENES, "{reads} reads for nobody");
    assert_eq!(site.get(&path).await.status, 200);
}

/// A failure that passes is not drawn: the tile waits until there is a worker.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again() {
    let catalog = Arc::new(MadeUp::default().with_everywhere("made-up", 3, &["a"]));
    let mut setup = Setup::new(0, catalog, Arc::new(Sources::synthetic_only()));
    setup = setup.with_http(Objects::memory());
    setup.patience = std::time::Duration::from_millis(1);
    let mut cluster = Cluster::start(setup.clone()).await;
    let site = Rest::new(cluster.http.unwrap());
    let layer = site.layer(&reduce("made-up", "a", "max")).await;
    let path = address(&layer, at(14, MIDDLE), "");
    let asking = tokio::spawn({
        let (site, path) = (site.clone(), path.clone());
        async move { site.get(&path).await }
    });
    until("a first failure", async || {
        cluster.describe().await.counts.is_some_and(|counts| counts.failures > 0)
    })
    .await;
    cluster.add_worker(&setup).await;
    assert_eq!(soon("a tile", asking).await.unwrap().status, 200);
    // Without one it says so, and that it may pass.
    cluster.kill_worker(0);
    cluster.until("no worker", |described| described.workers.is_empty()).await;
    let reply = site.get(&format!("{path}?nocache=1")).await;
    assert_eq!((reply.status, reply.header("cache-control")), (503, "no-store"));
    assert!(!reply.header("retry-after").is_empty());
    assert_eq!(picture(&reply).0, (256, 256));
}

/// Pictures of a large area over very many scenes read some of them, and say so; where the grid is hardly
/// coarser than the files they are exact, and say that.
#[tokio::test(flavor = "multi_thread")]
async fn low_zooms_over_many_scenes_are_of_display_quality() {
    const SIDE: usize = 100;
    let whole = XyzTile::new(3, 4, 3).unwrap();
    let [west, _, _, north] = whole.bounds();
    let step = whole.resolution(SIDE as u32);
    let grid = |at: usize| {
        let corner = (west + (at % SIDE) as f64 * step, north - (at / SIDE) as f64 * step);
        Some(AssetGrid {
            crs: Crs::from_canonical("EPSG:3857"),
            affine: Affine::upright(corner, step / 5000.0, -step / 5000.0),
            rows: 5000,
            cols: 5000,
        })
    };
    let catalog = MadeUp::default().series("many", SIDE * SIDE, &["a"], grid);
    let catalog = catalog.with_everywhere("few", 2, &["a"]);
    let setup = Setup::new(1, Arc::new(catalog), Arc::new(Sources::synthetic_only()));
    let cluster = Cluster::start(setup.with_http(Objects::memory())).await;
    let site = Rest::new(cluster.http.unwrap());
    for (graft, reads_max) in [
        (json!({"p": "many", "b": "a", "r": ["mosaic", "p", "b"], "returns": "r"}).to_string(), 1024),
        (reduce("many", "a", "median"), 1024),
    ] {
        let layer = site.layer(&graft).await;
        let before = cluster.reads();
        let reply = site.get(&address(&layer, (3, 4, 3), "?scales=%5B%5B-10,10%5D%5D")).await;
        assert_eq!((reply.status, reply.header("graticule-quality")), (200, "display"));
        let reads = cluster.reads() - before;
        assert!((100..=4 * reads_max).contains(&reads), "{reads} reads of 10,000 scenes");
        let pixels = picture(&reply).1;
        // In each corner something is seen.
        for corner in [0, 192, 192 * 256, 192 * 257] {
            let rows = (0..64).map(|row| &pixels[corner + 256 * row..][..64]);
            let shown = rows.flatten().filter(|pixel| pixel[3] == 255).count();
            assert!(shown > 64, "{shown} pixels from {corner}");
        }
        assert_eq!(
            site.get(&address(&layer, (3, 4, 3), "?scales=%5B%5B-10,10%5D%5D")).await.body,
            reply.body
        );
        let exact = site.get(&address(&layer, (3, 4, 3), "?quality=exact")).await;
        assert_eq!(exact.status, 413, "exactness has its limits");
        // Pixels of ten metres: nothing is left out.
        let fine = site.get(&address(&layer, (14, 4 << 11 | 9, 3 << 11 | 9), "")).await;
        assert_eq!((fine.status, fine.header("graticule-quality")), (200, "exact"));
    }
}
