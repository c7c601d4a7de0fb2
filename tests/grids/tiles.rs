//! Tiles of known tilings have exactly their pixels; outlines of any size; boxes for catalogs.

use std::f64::consts::PI;
use std::time::Instant;

use graticule_common::aoi::{Aoi, AoiError, Geometry, Sampling, lon_lat_box};
use graticule_common::grid::Window;
use graticule_common::limits::Limits;
use graticule_common::transform::{Proj, Transform};

use crate::{aoi, resolution, resolve};

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 20) % end
    }
}

/// As the usual libraries have it: longitude and latitude of a tile's corner.
fn corner(z: u32, x: u64, y: u64) -> (f64, f64) {
    let n = f64::from(1u32 << z);
    let lat = (PI * (1.0 - 2.0 * y as f64 / n)).sinh().atan().to_degrees();
    (x as f64 / n * 360.0 - 180.0, lat)
}

#[test]
fn map_tiles_have_256_pixels_at_every_zoom() {
    const WORLD: f64 = 2.0 * PI * 6378137.0;
    let mut numbers = Numbers(1);
    for z in 0..=26u32 {
        let tiles = 1u64 << z;
        let random: Vec<_> = (0..40).map(|_| (numbers.below(tiles), numbers.below(tiles))).collect();
        for (x, y) in random.into_iter().chain([(0, 0), (tiles - 1, tiles - 1), (0, tiles - 1)]) {
            let size = WORLD / tiles as f64;
            let ((west, north), (east, south)) = (corner(z, x, y), corner(z, x + 1, y + 1));
            let metres = |lon: f64, lat: f64| {
                let lat = (PI / 4.0 + lat.to_radians() / 2.0).tan().ln();
                (lon.to_radians() * 6378137.0, lat * 6378137.0)
            };
            let ((x0, y1), (x1, y0)) = (metres(west, north), metres(east, south));
            for (crs, bounds) in [("EPSG:3857", [x0, y0, x1, y1]), ("EPSG:4326", [west, south, east, north])]
            {
                let tile = Aoi {
                    bounds_crs: Some(crs.into()),
                    align_pixels: true,
                    ..aoi("EPSG:3857", bounds, resolution(size / 256.0))
                };
                let (grid, _) = resolve(&tile).unwrap_or_else(|error| panic!("{z}/{x}/{y} {crs}: {error}"));
                let at = format!("{z}/{x}/{y} from {crs}: {grid}");
                assert_eq!((grid.rows(), grid.cols()), (256, 256), "{at}");
                let half = 128 * tiles as i64;
                let place = (256 * y as i64 - half, 256 * x as i64 - half);
                assert_eq!((grid.window().row, grid.window().col), place, "{at}");
                assert_eq!(grid.lattice().phase(), (0.0, 0.0), "{at}");
            }
        }
    }
}

#[test]
fn utm_tiles_have_their_size_and_pad() {
    let mut numbers = Numbers(2);
    for resolution in [0.5, 1.0, 1.5, 10.0, 15.0, 20.0, 30.0, 60.0, 0.1, 100.0, 1000.0] {
        for (size, pad) in [(2048, 0), (2048, 16), (512, 3), (256, 1), (1000, 100), (1, 0)] {
            for _ in 0..10 {
                let zone = 1 + numbers.below(60);
                let (i, j) = (numbers.below(7) as f64 - 3.0, numbers.below(400) as f64 - 200.0);
                let (width, border) = (f64::from(size) * resolution, f64::from(pad) * resolution);
                let (west, south) = (500000.0 + i * width, j * width);
                let bounds = [west - border, south - border, west + width + border, south + width + border];
                let crs = format!("EPSG:{}", 32600 + zone);
                // Tiles of tiny resolutions near the origin look like degrees: the client says which CRS.
                let tile = Aoi {
                    bounds_crs: Some(crs.clone()),
                    align_pixels: true,
                    ..aoi(&crs, bounds, crate::resolution(resolution))
                };
                let (grid, _) = resolve(&tile).unwrap();
                assert_eq!((grid.rows(), grid.cols()), (size + 2 * pad, size + 2 * pad), "{grid}");
                let off = (grid.origin().0 - bounds[0]).abs().max((grid.origin().1 - bounds[3]).abs());
                assert!(off < 1e-6, "{grid}");
            }
        }
    }
}

/// Clients send tiles with their outline in degrees, of six decimals, whose straight edges are not those of the tile.
#[test]
fn an_outline_between_the_corners_of_the_grid_hides_nothing() {
    let bounds = [460_000.0, 4_300_000.0, 480_480.0, 4_320_480.0];
    let mut corners = [(0, 1), (2, 1), (2, 3), (0, 3), (0, 1)].map(|(x, y)| (bounds[x], bounds[y]));
    let transform = Proj::new();
    let [from, to] = ["EPSG:32613", "EPSG:4326"].map(|crs| transform.canonical(crs).unwrap());
    transform.points(&from, &to, &mut corners).unwrap();
    let rounded = |(lon, lat): (f64, f64)| ((lon * 1e6).round() / 1e6, (lat * 1e6).round() / 1e6);
    let ring: Vec<_> = corners.into_iter().map(rounded).collect();
    let outlined = |ring: Vec<(f64, f64)>| {
        let tile = Aoi {
            geometry: Geometry { polygons: vec![vec![ring]], lines: Vec::new() },
            bounds_crs: Some("EPSG:32613".into()),
            align_pixels: true,
            ..aoi("EPSG:32613", bounds, resolution(10.0))
        };
        let (grid, outline) = resolve(&tile).unwrap();
        assert_eq!((grid.rows(), grid.cols()), (2048, 2048));
        outline.is_some()
    };
    assert!(!outlined(ring.clone()));
    assert!(!outlined(ring.iter().rev().copied().collect()), "either way around");
    assert!(!outlined([&ring[2..4], &ring[..3]].concat()), "from any corner");
    let mut moved = ring.clone();
    moved[1].0 += 3e-6;
    assert!(outlined(moved), "a third of a metre is no rounding");
    let crossed = vec![ring[0], ring[2], ring[1], ring[3], ring[0]];
    assert!(outlined(crossed), "another order is another shape");
}

#[test]
fn the_value_at_a_place_is_one_pixel() {
    for (lon, lat) in [(14.1, 50.0), (-105.123456, 40.2), (0.0, 0.0), (179.99999999, -60.0), (33.3, 89.9)] {
        let d = 1e-7;
        let place = Aoi {
            bounds_crs: Some("EPSG:4326".into()),
            align_pixels: true,
            all_touched: true,
            ..aoi("EPSG:4326", [lon - d, lat - d, lon + d, lat + d], Sampling::Shape { rows: 1, cols: 1 })
        };
        let (grid, outline) = resolve(&place).unwrap();
        assert_eq!((grid.rows(), grid.cols(), outline), (1, 1, None));
        let (west, south, east, north) = grid.bounds();
        assert!(west < lon && lon < east && south < lat && lat < north, "{grid}");
    }
}

#[test]
fn geometries_alone_make_grids() {
    let rectangle = |west: f64, south: f64, east: f64, north: f64| {
        vec![vec![(west, south), (east, south), (east, north), (west, north), (west, south)]]
    };
    let alone = |geometry, all_touched, crs: &str, size: f64| Aoi {
        bounds: None,
        geometry,
        all_touched,
        ..aoi(crs, [0.0; 4], resolution(size))
    };
    // Cut at the antimeridian, the parts lie side by side.
    let split = Geometry::of(vec![rectangle(176.0, -3.0, 180.0, 4.0), rectangle(-180.0, -3.0, -174.0, 4.0)]);
    let (grid, outline) = resolve(&alone(split.clone(), false, "EPSG:4326", 0.5)).unwrap();
    assert_eq!((grid.origin(), grid.rows(), grid.cols()), ((176.0, 4.0), 14, 20));
    assert!(outline.unwrap().outside(&grid.window()).iter().all(|pixel| *pixel == 0));
    let (grid, _) = resolve(&alone(split, false, "EPSG:3857", 10000.0)).unwrap();
    assert!(grid.cols() < 120, "{grid}");
    // A point is one pixel.
    let point = Geometry { polygons: vec![], lines: vec![vec![(14.25, 50.75)]] };
    let (grid, outline) = resolve(&alone(point.clone(), true, "EPSG:32633", 10.0)).unwrap();
    assert_eq!((grid.rows(), grid.cols()), (1, 1));
    assert_eq!(outline.unwrap().outside(&grid.window()), [0]);
    assert_eq!(resolve(&alone(point, false, "EPSG:32633", 10.0)).unwrap_err(), AoiError::Thin);
    let nothing = resolve(&alone(Geometry::default(), false, "EPSG:32633", 10.0));
    assert_eq!(nothing.unwrap_err(), AoiError::NoPlace);
}

#[test]
fn a_geometry_far_larger_than_the_grid_is_cut() {
    let world = vec![vec![(-180.0, -90.0), (180.0, -90.0), (180.0, 90.0), (-180.0, 90.0), (-180.0, -90.0)]];
    for (crs, bounds, size) in [
        ("EPSG:32633", [400000.0, 5000000.0, 500000.0, 5100000.0], 1000.0),
        ("EPSG:32601", [100000.0, 5000000.0, 800000.0, 5100000.0], 10000.0),
        ("EPSG:3857", [-20037508.0, -20037508.0, 20037508.0, 20037508.0], 1e6),
        ("EPSG:3413", [-2e6, -2e6, 2e6, 2e6], 30000.0),
        ("EPSG:4326", [170.0, -20.0, 190.0, 10.0], 0.25),
    ] {
        let area = Aoi {
            geometry: Geometry::of(vec![world.clone()]),
            bounds_crs: Some(crs.into()),
            ..aoi(crs, bounds, resolution(size))
        };
        let (grid, outline) = resolve(&area).unwrap_or_else(|error| panic!("{crs}: {error}"));
        let outside = outline.unwrap().outside(&grid.window());
        assert_eq!(outside.iter().filter(|pixel| **pixel == 1).count(), 0, "{crs}");
    }
}

/// A ring of so many vertices, the closing one among them, like a toothed wheel.
fn wheel(vertices: usize, lon: f64, lat: f64, size: f64) -> Vec<(f64, f64)> {
    let teeth = vertices - 1;
    let at = |i: usize| {
        let i = i % teeth;
        let angle = 2.0 * PI * i as f64 / teeth as f64;
        let radius = size * if i.is_multiple_of(2) { 1.0 } else { 0.7 };
        (lon + radius * angle.cos(), lat + radius * angle.sin())
    };
    (0..vertices).map(at).collect()
}

#[test]
fn outlines_have_as_many_vertices_as_the_limit() {
    let limit = Limits::default().outline_vertices;
    assert_eq!(limit, 50_000);
    for (vertices, is_fine) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
        let area = Aoi {
            geometry: Geometry::of(vec![vec![wheel(vertices, 15.0, 50.0, 0.5)]]),
            ..aoi("EPSG:4326", [14.5, 49.5, 15.5, 50.5], resolution(0.01))
        };
        match resolve(&area) {
            Ok(_) => assert!(is_fine, "{vertices}"),
            Err(error) => {
                assert_eq!(error, AoiError::Vertices { vertices, limit });
                assert!(!is_fine, "{vertices}: {error}");
            }
        }
    }
}

#[test]
fn fifty_thousand_vertices_on_ten_thousand_pixels_squared() {
    let area = Aoi {
        geometry: Geometry::of(vec![vec![wheel(50_000, 15.0, 50.0, 0.45)]]),
        all_touched: true,
        ..aoi("EPSG:32633", [450000.0, 5490000.0, 550000.0, 5590000.0], resolution(10.0))
    };
    let started = Instant::now();
    let (grid, outline) = resolve(&area).unwrap();
    let (outline, resolved) = (outline.unwrap(), started.elapsed());
    let whole = grid.window();
    assert_eq!((whole.rows, whole.cols), (10_000, 10_000));
    let (mut inside, mut tiles) = (0, 0);
    for row in (whole.row..whole.row_end()).step_by(500) {
        for col in (whole.col..whole.col_end()).step_by(500) {
            let tile = Window { row, col, rows: 500, cols: 500 };
            let found = outline.outside(&tile).iter().filter(|pixel| **pixel == 0).count();
            assert_eq!(outline.reaches(&tile), found > 0);
            (inside, tiles) = (inside + found, tiles + 1);
        }
    }
    assert_eq!(tiles, 400);
    assert!(inside > 10_000_000, "{inside}");
    // Far above what it takes, far below what rows times vertices would.
    assert!(started.elapsed().as_secs() < 120, "{:?} after {resolved:?}", started.elapsed());
    println!("resolved in {resolved:?}, all in {:?}", started.elapsed());
}

#[test]
fn boxes_for_catalogs_go_on_beyond_180_and_hold_poles() {
    let area = |crs: &str, bounds: [f64; 4], size: f64| {
        let place = Aoi { bounds_crs: Some(crs.into()), ..aoi(crs, bounds, resolution(size)) };
        lon_lat_box(&resolve(&place).unwrap().0, &Proj::new())
    };
    let across = area("EPSG:4326", [170.0, -20.0, -170.0, 10.0], 0.25);
    assert!(across.west < 170.0 && across.west > 160.0 && across.east > 190.0 && across.east < 200.0);
    let across = area("EPSG:32601", [-400000.0, 0.0, 800000.0, 100000.0], 1000.0);
    assert!(across.west > 170.0 && across.east > 185.0 && across.east < 190.0, "{across:?}");
    let across = area("EPSG:3857", [19926188.0, -111325.0, 20148827.0, 111325.0], 1000.0);
    assert!(across.west > 178.0 && across.east > 181.0 && across.east < 182.0, "{across:?}");
    let pole = area("EPSG:3413", [-1e6, -5e5, 5e5, 1e6], 10000.0);
    assert_eq!((pole.west, pole.east, pole.north), (-180.0, 180.0, 90.0));
    assert!(pole.south < 78.0 && pole.south > 50.0, "{pole:?}");
    let beside = area("EPSG:3413", [1e5, 1e5, 5e5, 5e5], 10000.0);
    assert!(beside.east - beside.west < 180.0, "{beside:?}");
}
