//! A catalog of a million items: `make bench-catalog`, or this test by name with `--ignored`.

use std::io::{BufReader, Read};
use std::time::{Duration, Instant};

use graticule_common::predicate::Predicate;
use graticule_common::scene::{LonLatBox, SceneQuery, Timestamp};
use graticule_common::transform::Proj;

use super::super::{AddOptions, Input, LocalCatalog, SceneCatalog};
use super::run;

/// Items, one a line, made as they are read: places on a lattice over the land between 60 degrees south
/// and north, dates over eleven years, three bands in a bucket.
struct Items {
    next: u32,
    end: u32,
    line: Vec<u8>,
    read: usize,
}

impl Items {
    fn make(&mut self) {
        let at = self.next;
        self.next += 1;
        // Multiplication by an odd number walks through all 2^32 without order.
        let mixed = at.wrapping_mul(2_654_435_761);
        let (west, south) =
            (f64::from(mixed % 3600) / 10.0 - 180.0, f64::from(mixed / 3600 % 1200) / 10.0 - 60.0);
        let (east, north) = ((west + 1.0).min(180.0), south + 1.0);
        let (year, month, day) = (2013 + at % 11, 1 + at / 11 % 12, 1 + at / 132 % 28);
        let cloud = f64::from(mixed % 1000) / 10.0;
        let assets: Vec<String> = (1..=3)
            .map(|band| {
                format!(
                    r#""B{band:02}":{{"href":"s3://imagery/scenes/{at}/B{band:02}.tif","type":"image/tiff; application=geotiff","roles":["data"],"eo:bands":[{{"name":"B{band:02}"}}],"raster:bands":[{{"nodata":0,"data_type":"uint16","scale":0.0001,"offset":-0.1}}],"proj:shape":[10980,10980],"proj:transform":[10,0,600000,0,-10,5900040]}}"#
                )
            })
            .collect();
        self.line.clear();
        self.line.extend_from_slice(
            format!(
                r#"{{"type":"Feature","stac_version":"1.0.0","id":"S2_{at:07}","collection":"sentinel-2","geometry":{{"type":"Polygon","coordinates":[[[{west},{south}],[{east},{south}],[{east},{north}],[{west},{north}],[{west},{south}]]]}},"bbox":[{west},{south},{east},{north}],"properties":{{"datetime":"{year}-{month:02}-{day:02}T10:20:30Z","platform":"sentinel-2{}","eo:cloud_cover":{cloud},"proj:epsg":32632,"gsd":10,"view:off_nadir":{}}},"links":[],"assets":{{{}}}}}"#,
                if at.is_multiple_of(2) { "a" } else { "b" },
                at % 30,
                assets.join(",")
            )
            .as_bytes(),
        );
        self.line.push(b'\n');
        self.read = 0;
    }
}

impl Read for Items {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.line.len() {
            if self.next == self.end {
                return Ok(0);
            }
            self.make();
        }
        let count = buffer.len().min(self.line.len() - self.read);
        buffer[..count].copy_from_slice(&self.line[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// Largest memory of this process so far, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn measure(items: u32) -> (u64, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = LocalCatalog::open(dir.path()).unwrap();
    let proj = Proj::new();
    let started = Instant::now();
    let mut reader = BufReader::new(Items { next: 0, end: items, line: Vec::new(), read: 0 });
    let input = Input::Lines { reader: &mut reader, name: "made up", folder: dir.path() };
    let added = catalog.add_all(&mut [input], &AddOptions::new(&proj)).unwrap();
    assert_eq!(added.products[0].new, u64::from(items));
    println!("add: {items} items in {:.1} s, peak {} MiB", started.elapsed().as_secs_f64(), peak_mib());
    let peak = peak_mib();

    let predicate = r#"[{"op": "lt", "name": "cloud_fraction", "val": 0.2}, {"op": "lt", "name": "view:off_nadir", "val": 15}]"#;
    let query = SceneQuery {
        start: Timestamp::parse("2018-01-01"),
        end: Timestamp::parse("2021-01-01"),
        predicate: Some(Predicate::parse(predicate).unwrap()),
        ..SceneQuery::all("sentinel-2")
    };
    let mut times = Vec::new();
    for at in 0..50 {
        let (west, south) = (-150.0 + f64::from(at) * 5.7, -50.0 + f64::from(at) * 1.9);
        let area = LonLatBox { west, south, east: west + 2.0, north: south + 2.0 };
        let started = Instant::now();
        let found = run(catalog.search(&query, &area, 2000)).unwrap();
        times.push(started.elapsed());
        let fits = |scene: &graticule_common::scene::Scene| {
            scene.properties["cloud_fraction"].as_f64().unwrap() < 0.2
                && scene.properties["view:off_nadir"].as_f64().unwrap() < 15.0
                && query.start.unwrap() <= scene.acquired
        };
        assert!(found.iter().all(fits));
        if at < 3 {
            println!("search: {} scenes in {:.1} ms", found.len(), times[at as usize].as_secs_f64() * 1e3);
        }
    }
    times.sort_unstable();
    println!(
        "search: median {:.1} ms, worst {:.1} ms of 50",
        times[25].as_secs_f64() * 1e3,
        times[49].as_secs_f64() * 1e3
    );
    (peak, times[49])
}

#[test]
fn memory_does_not_grow_with_the_items() {
    let (_, worst) = measure(3000);
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}

#[test]
#[ignore = "bench: takes a minute"]
fn bench_a_hundred_thousand_items() {
    measure(100_000);
}

#[test]
#[ignore = "bench: takes minutes"]
fn bench_a_million_items() {
    let (peak_mib, worst) = measure(1_000_000);
    assert!(peak_mib < 512, "{peak_mib} MiB");
    assert!(worst < Duration::from_millis(50), "{worst:?}");
}
