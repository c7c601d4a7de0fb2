//! Our warp against GDAL's, made exact: transformer without error, kernels of our pinned scale.

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use gdal::Dataset;
use gdal::DriverManager;
use gdal::raster::Buffer;
use graticule_common::grid::Lattice;
use graticule_common::scene::{Affine, AssetGrid, BandSource, Resampler};
use graticule_common::transform::Proj;
use tempfile::TempDir;

use super::super::tests::read_all;
use super::super::warp::scale::scale;
use super::tests::band_of;
use super::*;
use graticule_common::grid::Window;

/// A file in one CRS and a window of a grid in another that lies in it.
pub(super) struct Pair {
    pub(super) name: &'static str,
    pub(super) file: AssetGrid,
    pub(super) lattice: Lattice,
    pub(super) window: Window,
}

fn crs(text: &str) -> Crs {
    Proj::new().canonical(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

const SINUSOIDAL: &str = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs";
const ROWS: u32 = 330;
const COLS: u32 = 370;

/// A file whose middle is at a longitude and latitude, and a window of `factor` times its resolution
/// over its middle.
fn pair(
    name: &'static str,
    (from, res): (&str, f64),
    (to, grid_res): (&str, f64),
    lon_lat: (f64, f64),
) -> Pair {
    pair_of(name, (from, Affine::upright((0.0, 0.0), res, -res)), (to, grid_res), lon_lat)
}

fn pair_of(
    name: &'static str,
    (from, affine): (&str, Affine),
    (to, grid_res): (&str, f64),
    lon_lat: (f64, f64),
) -> Pair {
    let (from, to, proj) = (crs(from), crs(to), Proj::new());
    let mut middle = [lon_lat];
    proj.points(&crs("EPSG:4326"), &from, &mut middle).unwrap();
    let half = affine.place(f64::from(COLS) / 2.0, f64::from(ROWS) / 2.0);
    let origin = (middle[0].0 - half.0 + 0.123 * affine.col.0, middle[0].1 - half.1);
    let file = AssetGrid { crs: from, affine: Affine { origin, ..affine }, rows: ROWS, cols: COLS };
    let mut middle = [lon_lat];
    proj.points(&crs("EPSG:4326"), &to, &mut middle).unwrap();
    let phase = (0.37 * grid_res, -0.21 * grid_res);
    let lattice = Lattice::try_new(to, (grid_res, grid_res), phase).unwrap();
    let (rows, cols) = (190, 180);
    let (row, col) = (lattice.row(middle[0].1) as i64 - 95, lattice.col(middle[0].0) as i64 - 90);
    Pair { name, file, lattice, window: Window { row, col, rows, cols } }
}

pub(super) fn pairs() -> Vec<Pair> {
    let turned = Affine { origin: (0.0, 0.0), col: (9.0, 4.0), row: (4.5, -9.5) };
    let deg = 1.0 / 3600.0;
    vec![
        pair("UTM zone change", ("EPSG:32632", 10.0), ("EPSG:32633", 10.0), (12.1, 47.3)),
        pair("UTM to Mercator", ("EPSG:32613", 30.0), ("EPSG:3857", 38.0), (-105.9, 40.1)),
        pair("Mercator to UTM", ("EPSG:3857", 30.0), ("EPSG:32619", 20.0), (-71.0, 46.0)),
        pair("degrees to UTM", ("EPSG:4326", deg), ("EPSG:32721", 30.0), (-55.5, -11.6)),
        pair("UTM to degrees", ("EPSG:32756", 10.0), ("EPSG:4326", deg / 3.0), (151.0, -33.5)),
        pair("sinusoidal to degrees", (SINUSOIDAL, 231.656), ("EPSG:4326", 0.002), (-55.5, -11.6)),
        pair("degrees to polar", ("EPSG:4326", 0.01), ("EPSG:3413", 800.0), (-50.0, 71.0)),
        pair(
            "polar to LAEA",
            ("EPSG:3031", 500.0),
            ("+proj=laea +lat_0=-75 +lon_0=60", 510.0),
            (60.0, -72.0),
        ),
        pair("LAEA to Albers", ("EPSG:3035", 100.0), ("ESRI:102013", 95.0), (15.0, 50.0)),
        pair("antimeridian", ("EPSG:32660", 100.0), ("EPSG:32601", 100.0), (179.98, 5.0)),
        pair("antimeridian in degrees", ("EPSG:32601", 100.0), ("EPSG:4326", 0.0009), (-179.99, 5.0)),
        pair("world", ("EPSG:4326", 0.3), ("+proj=laea +lat_0=40 +lon_0=-90", 30_000.0), (-90.0, 40.0)),
        pair_of("turned", ("EPSG:32632", turned), ("EPSG:32632", 10.0), (9.5, 46.0)),
        pair_of("turned to degrees", ("EPSG:32632", turned), ("EPSG:4326", deg / 3.0), (9.5, 46.0)),
        pair_of(
            "south-up to Albers",
            ("EPSG:4326", Affine::upright((0.0, 0.0), deg, deg)),
            ("EPSG:5070", 27.0),
            (-96.3, 37.0),
        ),
        pair("same CRS", ("EPSG:32632", 10.0), ("EPSG:32632", 9.3), (9.5, 46.0)),
        pair("coarser", ("EPSG:32632", 10.0), ("EPSG:32633", 33.0), (12.1, 47.3)),
        pair("coarser, same CRS", ("EPSG:32632", 10.0), ("EPSG:32632", 37.0), (9.5, 46.0)),
        pair("a little coarser", ("EPSG:3857", 30.0), ("EPSG:32619", 25.0), (-71.0, 46.0)),
    ]
}

/// Smooth values with noise, far from the ends of their type: GDAL clamps there.
fn scenery(seed: u32) -> Vec<u16> {
    let mut state = seed;
    (0..ROWS * COLS)
        .map(|at| {
            let (row, col) = (f64::from(at / COLS), f64::from(at % COLS));
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let smooth = 5000.0 + 2000.0 * (row / 17.0).sin() * (col / 23.0).cos();
            (smooth + f64::from(state >> 22)) as u16
        })
        .collect()
}

/// Writes a file of u16.
fn write(dir: &TempDir, file: &AssetGrid, values: &[u16], nodata: Option<f64>) -> std::path::PathBuf {
    configure();
    let path = dir.path().join("file.tif");
    let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
    let (cols, rows) = (file.cols as usize, file.rows as usize);
    let mut dataset = driver.create_with_band_type::<u16, _>(&path, cols, rows, 1).unwrap();
    let Affine { origin, col, row } = file.affine;
    dataset.set_geo_transform(&[origin.0, col.0, row.0, origin.1, col.1, row.1]).unwrap();
    let reference = gdal::spatial_ref::SpatialRef::from_definition(file.crs.as_str()).unwrap();
    dataset.set_spatial_ref(&reference).unwrap();
    let mut band = dataset.rasterband(1).unwrap();
    band.set_no_data_value(nodata).unwrap();
    band.write((0, 0), (cols, rows), &mut Buffer::new((cols, rows), values.to_vec())).unwrap();
    path
}

/// What GDAL's warper gives, NaN where nothing.
#[allow(unsafe_code)]
fn gdal_warp(
    dir: &TempDir,
    path: &Path,
    pair: &Pair,
    resampler: Resampler,
    scale: Option<(f64, f64)>,
) -> Vec<f64> {
    let Pair { lattice, window, .. } = pair;
    let out = dir.path().join("warped.tif");
    let _ = std::fs::remove_file(&out);
    let edge = |x: f64, y: f64| (lattice.x(x).to_string(), lattice.y(y).to_string());
    let (west, north) = edge(window.col as f64, window.row as f64);
    let (east, south) = edge(window.col_end() as f64, window.row_end() as f64);
    let (cols, rows) = (window.cols.to_string(), window.rows.to_string());
    let mut words = vec!["-et", "0", "-ovr", "NONE", "-ot", "Float64", "-wt", "Float64", "-dstnodata", "nan"];
    words.extend(["-r", resampler.name(), "-t_srs", lattice.crs().as_str()]);
    words.extend(["-te", &west, &south, &east, &north, "-ts", &cols, &rows]);
    let scales = scale.map(|(x, y)| [format!("XSCALE={x:?}"), format!("YSCALE={y:?}")]);
    if let Some([x, y]) = &scales {
        words.extend(["-wo", x, "-wo", y]);
    }
    let words: Vec<CString> = words.into_iter().map(|word| CString::new(word).unwrap()).collect();
    let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    argv.push(ptr::null_mut());
    let source = open_local(path).unwrap();
    let name = CString::new(out.to_str().unwrap()).unwrap();
    // SAFETY: the list ends with null and outlives the call, as do name and source; options and result
    // are freed once.
    unsafe {
        let options = gdal_sys::GDALWarpAppOptionsNew(argv.as_mut_ptr(), ptr::null_mut());
        assert!(!options.is_null());
        let mut sources = [source.c_dataset()];
        let mut usage = 0;
        let warped =
            gdal_sys::GDALWarp(name.as_ptr(), ptr::null_mut(), 1, sources.as_mut_ptr(), options, &mut usage);
        gdal_sys::GDALWarpAppOptionsFree(options);
        assert!(!warped.is_null(), "{}", pair.name);
        gdal_sys::GDALClose(warped);
    }
    let dataset: Dataset = open_local(&out).unwrap();
    let size = (window.cols as usize, window.rows as usize);
    let buffer = dataset.rasterband(1).unwrap().read_as::<f64>((0, 0), size, size, None).unwrap();
    buffer.data().to_vec()
}

fn read_of<'a>(
    band: &'a BandSource,
    lattice: &'a Lattice,
    window: Window,
    resampler: Resampler,
) -> BandRead<'a> {
    BandRead { scene: "S1", band, band_name: "red", lattice, window, resampler, overviews: false }
}

fn ours(path: &Path, pair: &Pair, resampler: Resampler) -> Vec<f64> {
    ours_of(&band_of(path, 1), pair, resampler)
}

fn ours_of(band: &BandSource, pair: &Pair, resampler: Resampler) -> Vec<f64> {
    let read = read_of(band, &pair.lattice, pair.window, resampler);
    let (samples, valid) = read_all(&GdalSource::new(Arc::new(Proj::new())), &read).unwrap();
    samples.iter().zip(valid).map(|(v, ok)| if ok == 1 { f64::from(*v) } else { f64::NAN }).collect()
}

fn pinned(pair: &Pair) -> (f64, f64) {
    scale(&pair.file, &pair.lattice, &Proj::new()).unwrap()
}

#[derive(Debug, Default)]
struct Difference {
    both: usize,
    only_ours: usize,
    only_gdal: usize,
    differ: usize,
    greatest: f64,
}

fn compare(ours: &[f64], gdal: &[f64], tolerance: f64) -> Difference {
    let mut found = Difference::default();
    for (a, b) in ours.iter().zip(gdal) {
        match (a.is_nan(), b.is_nan()) {
            (false, false) => {
                found.both += 1;
                found.differ += usize::from((a - b).abs() > tolerance);
                found.greatest = found.greatest.max((a - b).abs());
            }
            (false, true) => found.only_ours += 1,
            (true, false) => found.only_gdal += 1,
            (true, true) => {}
        }
    }
    found
}

/// What the resamplers promise against GDAL: of the pixels that both have, the share that may differ by
/// more than `tolerance`.
fn promise(resampler: Resampler) -> (f64, f64) {
    match resampler {
        // A place that lies on an edge but for rounding may fall to either side of it.
        Resampler::Near
        | Resampler::Mode
        | Resampler::Max
        | Resampler::Min
        | Resampler::Med
        | Resampler::Q1
        | Resampler::Q3 => (0.0001, 0.0),
        // GDAL leaves out the last column and row of a file under its spline, sometimes.
        Resampler::CubicSpline => (0.005, 1.0),
        Resampler::Bilinear | Resampler::Cubic | Resampler::Lanczos | Resampler::Average => (0.0, 0.1),
    }
}

#[test]
fn as_gdal_has_it() {
    for pair in pairs() {
        let dir = TempDir::new().unwrap();
        let path = write(&dir, &pair.file, &scenery(1), None);
        let near = ours(&path, &pair, Resampler::Near);
        for (name, resampler) in Resampler::ALL {
            let gdal = gdal_warp(&dir, &path, &pair, resampler, Some(pinned(&pair)));
            let ours = ours(&path, &pair, resampler);
            let (share, tolerance) = promise(resampler);
            let found = compare(&ours, &gdal, tolerance);
            let place = format!("{}, {name}: {found:?}", pair.name);
            assert!(found.both > 8000, "{place}");
            assert!(found.differ as f64 <= share * found.both as f64, "{place}");
            // A pixel is valid where its nearest is; GDAL's areas go beyond the file's edge.
            assert!(ours.iter().zip(&near).all(|(a, b)| a.is_nan() == b.is_nan()), "{place}");
            assert!(found.only_ours <= 2, "{place}");
            if promise(resampler).0 == 0.0 || resampler == Resampler::Near {
                let at_edge = if resampler == Resampler::Average { 600 } else { 0 };
                assert!(found.only_gdal <= at_edge, "{place}");
            }
        }
    }
}

/// Every pixel whose nearest one is another than GDAL's lies on an edge between the two, but for less
/// than half a stored pixel.
#[test]
fn nearest_pixels_differ_only_at_ties() {
    let proj = Proj::new();
    for pair in pairs() {
        let dir = TempDir::new().unwrap();
        // Values tell rows and columns.
        for by_rows in [true, false] {
            let index = |at: u32| if by_rows { at / COLS } else { at % COLS };
            let path = write(
                &dir,
                &pair.file,
                &(0..ROWS * COLS).map(|at| index(at) as u16).collect::<Vec<_>>(),
                None,
            );
            let (ours, gdal) =
                (ours(&path, &pair, Resampler::Near), gdal_warp(&dir, &path, &pair, Resampler::Near, None));
            let mut differing = 0;
            for (at, (a, b)) in ours.iter().zip(&gdal).enumerate() {
                if a == b || (a.is_nan() && b.is_nan()) {
                    continue;
                }
                differing += 1;
                let (row, col) =
                    (at as i64 / i64::from(pair.window.cols), at as i64 % i64::from(pair.window.cols));
                let x = pair.lattice.x((pair.window.col + col) as f64 + 0.5);
                let y = pair.lattice.y((pair.window.row + row) as f64 + 0.5);
                let mut point = [(x, y)];
                proj.points(pair.lattice.crs(), &pair.file.crs, &mut point).unwrap();
                let (u, v) = pair.file.affine.inverse().unwrap().place(point[0].0, point[0].1);
                let exact = if by_rows { v } else { u };
                assert!((exact - exact.round()).abs() < 1e-3, "{}: {a} and {b} at {exact}", pair.name);
            }
            assert!(differing * 10_000 <= ours.len(), "{}: {differing}", pair.name);
        }
    }
}

/// Bit for bit the same pixels, however the window is cut, for every resampler.
#[test]
fn tiles_do_not_show() {
    let source = GdalSource::new(Arc::new(Proj::new()));
    let names = ["UTM zone change", "degrees to polar", "turned to degrees", "coarser", "coarser, same CRS"];
    for pair in pairs().into_iter().filter(|pair| names.contains(&pair.name)) {
        let dir = TempDir::new().unwrap();
        let values: Vec<u16> = scenery(7).iter().map(|v| if v % 11 == 0 { 0 } else { *v }).collect();
        let path = write(&dir, &pair.file, &values, Some(0.0));
        let band = band_of(&path, 1);
        let (res, _) = pair.lattice.resolution();
        for phase in [pair.lattice.phase(), (0.0, 0.0)] {
            let lattice = Lattice::try_new(pair.lattice.crs().clone(), (res, res), phase).unwrap();
            for (_, resampler) in Resampler::ALL {
                let whole =
                    Window { rows: 70, cols: 75, row: pair.window.row + 50, col: pair.window.col + 50 };
                let read = read_of(&band, &lattice, whole, resampler);
                let (samples, valid) = read_all(&source, &read).unwrap();
                assert!(valid.contains(&1), "{} {resampler:?}", pair.name);
                for size in [7i64, 16, 33, 50, 64] {
                    for row in (whole.row.div_euclid(size) * size..whole.row_end()).step_by(size as usize) {
                        for col in (whole.col.div_euclid(size) * size..whole.col_end()).step_by(size as usize)
                        {
                            let tile = Window { row, col, rows: size as u32, cols: size as u32 };
                            let Some(tile) = tile.intersect(&whole) else { continue };
                            let (got, ok) = read_all(&source, &BandRead { window: tile, ..read }).unwrap();
                            for at in 0..tile.pixels() {
                                let (r, c) = (at / tile.cols as usize, at % tile.cols as usize);
                                let there = (r + (tile.row - whole.row) as usize) * whole.cols as usize
                                    + c
                                    + (tile.col - whole.col) as usize;
                                assert_eq!(
                                    (got[at].to_bits(), ok[at]),
                                    (samples[there].to_bits(), valid[there]),
                                    "{} {resampler:?} {size}: {r} {c} of {tile}",
                                    pair.name
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where neighbours are missing, the others count for them: against GDAL, which does the same where
/// it has a pixel at all.
#[test]
fn nodata_is_left_out_of_every_mean() {
    for pair in pairs() {
        let dir = TempDir::new().unwrap();
        let values: Vec<u16> = scenery(3).iter().map(|v| if v % 13 == 0 { 0 } else { *v }).collect();
        let path = write(&dir, &pair.file, &values, Some(0.0));
        for resampler in
            [Resampler::Near, Resampler::Bilinear, Resampler::Cubic, Resampler::Average, Resampler::Max]
        {
            let gdal = gdal_warp(&dir, &path, &pair, resampler, Some(pinned(&pair)));
            let ours = ours(&path, &pair, resampler);
            let (share, tolerance) = promise(resampler);
            let found = compare(&ours, &gdal, tolerance);
            assert!(found.both > 7000, "{} {resampler:?} {found:?}", pair.name);
            assert!(
                found.differ as f64 <= share * found.both as f64,
                "{} {resampler:?} {found:?}",
                pair.name
            );
        }
    }
}

fn problem(path: &Path, pair: &Pair, resampler: Resampler) -> ReadProblem {
    let band = band_of(path, 1);
    let (lattice, window) = (&pair.lattice, pair.window);
    let read = read_of(&band, lattice, window, resampler);
    read_all(&GdalSource::new(Arc::new(Proj::new())), &read).expect_err("not readable").problem
}

#[test]
fn other_planets_are_refused() {
    let mut mars = pair("Mars", ("EPSG:32632", 10.0), ("EPSG:32633", 10.0), (12.1, 47.3));
    mars.file.crs = crs("+proj=eqc +lat_ts=0 +lon_0=0 +R=3396190 +units=m +no_defs");
    let dir = TempDir::new().unwrap();
    let path = write(&dir, &mars.file, &scenery(1), None);
    let refused = problem(&path, &mars, Resampler::Near);
    assert!(matches!(refused, ReadProblem::NoPlace { .. }), "{refused}");
    assert!(refused.to_string().contains("EPSG:32633"), "{refused}");
}

#[test]
fn one_pixel_over_too_many_is_refused_and_many_over_many_are_read_in_parts() {
    let dir = TempDir::new().unwrap();
    configure();
    let path = dir.path().join("large.tif");
    let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
    let options = gdal::raster::RasterCreationOptions::from_iter(["SPARSE_OK=TRUE", "TILED=YES"]);
    let (cols, rows) = (9000, 9000);
    let mut dataset =
        driver.create_with_band_type_with_options::<u8, _>(&path, cols, rows, 1, &options).unwrap();
    dataset.set_geo_transform(&[0.0, 10.0, 0.0, 90_000.0, 0.0, -10.0]).unwrap();
    dataset.set_spatial_ref(&gdal::spatial_ref::SpatialRef::from_epsg(32632).unwrap()).unwrap();
    drop(dataset);
    let file = AssetGrid {
        crs: crs("EPSG:32632"),
        affine: Affine::upright((0.0, 90_000.0), 10.0, -10.0),
        rows: rows as u32,
        cols: cols as u32,
    };
    let over = |res: f64, window: Window| {
        let lattice = Lattice::try_new(crs("EPSG:32632"), (res, res), (0.0, 0.0)).unwrap();
        Pair { name: "large", file: file.clone(), lattice, window }
    };
    let one = over(90_000.0, Window { row: -1, col: 0, rows: 1, cols: 1 });
    let refused = problem(&path, &one, Resampler::Average);
    assert!(matches!(refused, ReadProblem::TooComplex { found: 81_000_000, .. }), "{refused}");
    assert_eq!(ours(&path, &one, Resampler::Near), [0.0]);
    let four = over(45_000.0, Window { row: -2, col: 0, rows: 2, cols: 2 });
    assert_eq!(ours(&path, &four, Resampler::Average), [0.0; 4]);
}

#[test]
fn classes_never_blend() {
    let pair = pairs().remove(0);
    let dir = TempDir::new().unwrap();
    let values: Vec<u16> = scenery(5).iter().map(|v| v % 3 * 100).collect();
    let path = write(&dir, &pair.file, &values, None);
    for (name, resampler) in Resampler::ALL {
        let mut band = band_of(&path, 1);
        band.is_classes = true;
        let (lattice, window) = (&pair.lattice, pair.window);
        let read = read_of(&band, lattice, window, resampler);
        let (samples, _) = read_all(&GdalSource::new(Arc::new(Proj::new())), &read).unwrap();
        assert!(samples.iter().all(|v| [0.0, 100.0, 200.0].contains(v)), "{name}");
        let blends = ours(&path, &pair, resampler).iter().any(|v| ![0.0, 100.0, 200.0].contains(v));
        let means = ["bilinear", "cubic", "cubicspline", "lanczos", "average"];
        assert_eq!(blends, means.contains(&name), "{name}");
    }
}

/// A file that counts longitudes from 0 to 360 reads the same as one that counts from -180, on grids on
/// either side of both seams.
#[test]
fn longitudes_of_another_turn() {
    let world = |west: f64| AssetGrid {
        crs: crs("EPSG:4326"),
        affine: Affine::upright((west, 90.0), 1.0, -1.0),
        rows: 180,
        cols: 360,
    };
    let value = |row: usize, lon: i64| (row * 360) as u16 + lon.rem_euclid(360) as u16;
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let paths = [(-180, &dirs[0]), (0, &dirs[1])].map(|(west, dir)| {
        let values: Vec<u16> =
            (0..180).flat_map(|row| (0..360).map(move |col| value(row, west + col))).collect();
        write(dir, &world(west as f64), &values, None)
    });
    for (to, res, window) in [
        ("EPSG:4326", 0.5, Window { row: -100, col: 340, rows: 40, cols: 40 }),
        ("EPSG:4326", 0.5, Window { row: -100, col: -20, rows: 40, cols: 40 }),
        ("EPSG:32660", 50_000.0, Window { row: -40, col: 2, rows: 30, cols: 30 }),
        ("EPSG:32631", 50_000.0, Window { row: -40, col: 2, rows: 30, cols: 30 }),
        ("EPSG:3413", 100_000.0, Window { row: -20, col: -20, rows: 40, cols: 40 }),
    ] {
        let lattice = Lattice::try_new(crs(to), (res, res), (0.0, 0.0)).unwrap();
        let [a, b] = [-180.0, 0.0].map(|west| Pair {
            name: "world",
            file: world(west),
            lattice: lattice.clone(),
            window,
        });
        let (a, b) = (ours(&paths[0], &a, Resampler::Near), ours(&paths[1], &b, Resampler::Near));
        assert!(a.iter().all(|v| !v.is_nan()), "{to}");
        assert_eq!(a, b, "{to}");
    }
}

/// A grid in degrees with padding may go on beyond a pole, and beyond the antimeridian.
#[test]
fn beyond_a_pole_there_is_nothing() {
    let lattice = Lattice::try_new(crs("EPSG:4326"), (0.5, 0.5), (0.0, 0.0)).unwrap();
    let window = Window { row: -184, col: 356, rows: 8, cols: 8 };
    let world = AssetGrid {
        crs: crs("EPSG:4326"),
        affine: Affine::upright((-180.0, 90.0), 1.0, -1.0),
        rows: 180,
        cols: 360,
    };
    let polar = AssetGrid {
        crs: crs("EPSG:3413"),
        affine: Affine::upright((-1e6, 1e6), 10_000.0, -10_000.0),
        rows: 200,
        cols: 200,
    };
    for file in [world, polar] {
        let dir = TempDir::new().unwrap();
        let path = write(&dir, &file, &vec![7; file.rows as usize * file.cols as usize], None);
        for resampler in [Resampler::Near, Resampler::Bilinear] {
            let pair = Pair { name: "pole", file: file.clone(), lattice: lattice.clone(), window };
            let values = ours(&path, &pair, resampler);
            let expected = (0..64).map(|at| if at < 32 { f64::NAN } else { 7.0 });
            let is_same =
                |(value, expected): (&f64, f64)| *value == expected || value.is_nan() && expected.is_nan();
            assert!(values.iter().zip(expected).all(is_same), "{} {resampler:?}: {values:?}", file.crs);
        }
    }
}

mod shared {
    use super::*;

    /// Real files, each on a grid of another CRS over its middle, against GDAL.
    #[test]
    #[ignore = "needs shared"]
    fn real_files_as_gdal_has_them() {
        // As a catalog has it: without links on the way.
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").canonicalize().unwrap();
        for (name, to, res) in [
            ("tricky/cog_dateline.tif", "EPSG:32601", 100.0),
            ("tricky/cog_scale.tif", "EPSG:4326", 0.01),
            ("tricky/geomatrix.tif", "EPSG:4326", 0.0001),
            ("tricky/byte.tif", "EPSG:3857", 60.0),
            ("tricky/all-nodata.tif", "EPSG:3857", 300.0),
            ("tricky/image_geos.tif", "EPSG:4326", 0.05),
        ] {
            let path = data.join(name);
            let dataset = {
                configure();
                open_local(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
            };
            let proj = Proj::new();
            let file = Header::read(&dataset, &proj).unwrap().grid(None).unwrap().into_owned();
            let middle = file.affine.place(f64::from(file.cols) / 2.0, f64::from(file.rows) / 2.0);
            let mut middle = [middle];
            let lattice = Lattice::try_new(crs(to), (res, res), (0.0, 0.0)).unwrap();
            proj.points(&file.crs, lattice.crs(), &mut middle).unwrap();
            let (row, col) = (lattice.row(middle[0].1) as i64 - 100, lattice.col(middle[0].0) as i64 - 100);
            let pair =
                Pair { name: "real", file, lattice, window: Window { row, col, rows: 200, cols: 200 } };
            let dir = TempDir::new().unwrap();
            for resampler in [Resampler::Near, Resampler::Bilinear, Resampler::Cubic] {
                let gdal = gdal_warp(&dir, &path, &pair, resampler, Some(pinned(&pair)));
                let band = BandSource { scale_offset: Some((1.0, 0.0)), ..band_of(&path, 1) };
                let ours = ours_of(&band, &pair, resampler);
                let found = compare(&ours, &gdal, if resampler == Resampler::Near { 0.0 } else { 1.0 });
                println!("{name} {resampler:?} {found:?}");
                // Where a file has a mask and a nodata value, the mask alone says what is valid, as in
                // GDAL's mask bands; its warp takes the value instead, and interpolates less.
                let is_masked = name == "tricky/image_geos.tif";
                if resampler == Resampler::Near {
                    assert_eq!((found.only_ours > 0, found.only_gdal), (is_masked, 0), "{name}: {found:?}");
                }
                if resampler == Resampler::Near || !is_masked {
                    assert!(found.differ * 10_000 <= found.both, "{name} {resampler:?}: {found:?}");
                }
            }
        }
    }
}

/// How fast windows of a file are filled: `cargo test warp_rates -- --ignored --nocapture`, optimised.
#[test]
#[ignore = "a measurement"]
fn warp_rates() {
    let on_cpu = || -> f64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
    };
    let source = GdalSource::new(Arc::new(Proj::new()));
    for (name, to) in
        [("UTM zone change", "EPSG:32633"), ("UTM to Mercator", "EPSG:3857"), ("same CRS", "EPSG:32632")]
    {
        let dir = TempDir::new().unwrap();
        let (side, res) = (2200u32, 10.0);
        let mut pair =
            pair("", ("EPSG:32632", res), (to, if to == "EPSG:3857" { 14.7 } else { 9.9 }), (12.1, 47.3));
        pair.file.affine.origin.0 -= f64::from(side - COLS) / 2.0 * res;
        pair.file.affine.origin.1 += f64::from(side - ROWS) / 2.0 * res;
        (pair.file.rows, pair.file.cols) = (side, side);
        pair.window =
            Window { row: pair.window.row - 800, col: pair.window.col - 800, rows: 1900, cols: 1900 };
        let mut state = 1u32;
        let values: Vec<u16> = (0..side * side)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 19) as u16
            })
            .collect();
        let path = write(&dir, &pair.file, &values, Some(0.0));
        let band = band_of(&path, 1);
        for (_, resampler) in Resampler::ALL {
            let read = read_of(&band, &pair.lattice, pair.window, resampler);
            let (mut samples, mut valid) = (vec![0.0; pair.window.pixels()], vec![0; pair.window.pixels()]);
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                let start = on_cpu();
                source.read(&read, &mut samples, &mut valid).unwrap();
                best = best.min(on_cpu() - start);
            }
            println!(
                "{name:16} {:12} {:6.1} Mpx/cpu-s",
                resampler.name(),
                pair.window.pixels() as f64 / best / 1e6
            );
        }
    }
}
