//! Our warp against GDAL's, made exact: transformer without error, kernels of our pinned scale.

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use gdal::Dataset;
use gdal::raster::Buffer;
use graticule_common::grid::Lattice;
use graticule_common::scene::{Affine, AssetGrid, Resampler};
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
    let (rows, cols) = (300, 290);
    let (row, col) = (lattice.row(middle[0].1) as i64 - 150, lattice.col(middle[0].0) as i64 - 145);
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
        assert!(!warped.is_null(), "{}: {:?}", pair.name, MESSAGES.take());
        gdal_sys::GDALClose(warped);
    }
    let dataset: Dataset = open_local(&out).unwrap();
    let size = (window.cols as usize, window.rows as usize);
    let buffer = dataset.rasterband(1).unwrap().read_as::<f64>((0, 0), size, size, None).unwrap();
    buffer.data().to_vec()
}

fn ours(path: &Path, pair: &Pair, resampler: Resampler) -> Vec<f64> {
    let band = band_of(path, 1);
    let read = BandRead {
        scene: "S1",
        band: &band,
        band_name: "red",
        lattice: &pair.lattice,
        window: pair.window,
        resampler,
    };
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

#[test]
#[ignore = "prints"]
fn explore() {
    for pair in pairs() {
        let dir = TempDir::new().unwrap();
        let path = write(&dir, &pair.file, &scenery(1), None);
        println!("{}: scale {:?}", pair.name, pinned(&pair));
        for (_, resampler) in Resampler::ALL {
            let gdal = gdal_warp(&dir, &path, &pair, resampler, Some(pinned(&pair)));
            println!("   {:12} {:?}", resampler.name(), compare(&ours(&path, &pair, resampler), &gdal, 1.0));
        }
    }
}
