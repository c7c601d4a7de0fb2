use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gdal::raster::{Buffer, GdalType, RasterCreationOptions};
use gdal::spatial_ref::SpatialRef;
use gdal::{Dataset, DatasetOptions, DriverManager, GdalOpenFlags};
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::grid::{Lattice, Window};
use graticule_common::scene::{Affine, Asset, AssetGrid, BandSource, Resampler, SourceRef};
use graticule_common::transform::TransformError;
use tempfile::TempDir;

use super::super::tests::{conformance, read_all};
use super::super::version_of;
use super::*;

mod beside;
mod hostile;
mod remote;
mod shared;

/// Knows CRSs by the EPSG code at the end of their WKT, and nothing else.
struct CodeOnly;

impl Transform for CodeOnly {
    fn canonical(&self, text: &str) -> Result<Crs, TransformError> {
        let code = text.rsplit_once("AUTHORITY[\"EPSG\",\"").and_then(|(_, rest)| rest.split_once('"'));
        match code {
            Some((code, _)) => Ok(Crs::from_canonical(format!("EPSG:{code}"))),
            None => Err(TransformError::UnknownCrs { text: text.to_owned(), reason: "no code".to_owned() }),
        }
    }
    fn same(&self, a: &Crs, b: &Crs) -> bool {
        a == b
    }
    fn is_geographic(&self, _: &Crs) -> Result<bool, TransformError> {
        Ok(false)
    }
    fn points(&self, from: &Crs, to: &Crs, points: &mut [(f64, f64)]) -> Result<(), TransformError> {
        let (x, y) = points[0];
        Err(TransformError::NoPlace { x, y, from: from.clone(), to: to.clone() })
    }
}

fn source() -> GdalSource {
    GdalSource::new(Arc::new(CodeOnly))
}

/// A GeoTIFF to write: by default north-up, its corner at (1000, 2000) in EPSG:32613, pixels of 10 m.
struct Tif<'a> {
    transform: [f64; 6],
    epsg: Option<u32>,
    nodata: Option<f64>,
    scale_offset: Option<(f64, f64)>,
    options: &'a [&'a str],
}

impl Default for Tif<'_> {
    fn default() -> Self {
        Tif {
            transform: [1000.0, 10.0, 0.0, 2000.0, 0.0, -10.0],
            epsg: Some(32613),
            nodata: None,
            scale_offset: None,
            options: &[],
        }
    }
}

impl Tif<'_> {
    /// Writes a band per item of `bands`.
    fn write<T: GdalType + Copy>(&self, dir: &TempDir, cols: usize, bands: &[Vec<T>]) -> PathBuf {
        configure();
        let path = dir.path().join("band.tif");
        let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
        let options = RasterCreationOptions::from_iter(self.options.iter().copied());
        let rows = bands[0].len() / cols;
        let mut dataset = driver
            .create_with_band_type_with_options::<T, _>(&path, cols, rows, bands.len(), &options)
            .unwrap();
        if self.transform != [0.0; 6] {
            dataset.set_geo_transform(&self.transform).unwrap();
        }
        if let Some(code) = self.epsg {
            dataset.set_spatial_ref(&SpatialRef::from_epsg(code).unwrap()).unwrap();
        }
        for (i, values) in bands.iter().enumerate() {
            let mut band = dataset.rasterband(i + 1).unwrap();
            if self.nodata.is_some() {
                band.set_no_data_value(self.nodata).unwrap();
            }
            if let Some((scale, offset)) = self.scale_offset {
                band.set_scale(scale).unwrap();
                band.set_offset(offset).unwrap();
            }
            band.write((0, 0), (cols, rows), &mut Buffer::new((cols, rows), values.clone())).unwrap();
        }
        path
    }
}

pub(super) fn band_of(path: &Path, band: u32) -> BandSource {
    let source = SourceRef::Local(path.to_str().unwrap().to_owned());
    let version = std::fs::metadata(path).map_or(String::new(), |metadata| version_of(&metadata));
    BandSource::new(Arc::new(Asset::new("B04", source, version)), band)
}

fn lattice(res: f64) -> Lattice {
    Lattice::try_new(Crs::from_canonical("EPSG:32613"), (res, res), (0.0, 0.0)).unwrap()
}

/// The window of `rows` × `cols` pixels of 10 m from the default file's corner on.
fn native(rows: u32, cols: u32) -> Window {
    Window { row: -200, col: 100, rows, cols }
}

fn read_with<'a>(band: &'a BandSource, lattice: &'a Lattice, window: Window) -> BandRead<'a> {
    BandRead {
        scene: "S1",
        band,
        band_name: "red",
        lattice,
        window,
        resampler: Resampler::Near,
        overviews: false,
    }
}

/// Pixels as options, of a read at 10 m.
fn pixels(band: &BandSource, window: Window) -> Result<Vec<Option<f32>>, ReadError> {
    let (samples, valid) = read_all(&source(), &read_with(band, &lattice(10.0), window))?;
    Ok(samples.into_iter().zip(valid).map(|(v, ok)| (ok == 1).then_some(v)).collect())
}

#[track_caller]
fn check<T: GdalType + Copy>(tif: &Tif<'_>, stored: Vec<T>, expect: &[Option<f32>]) {
    let dir = TempDir::new().unwrap();
    let len = stored.len();
    let path = tif.write(&dir, len, &[stored]);
    assert_eq!(pixels(&band_of(&path, 1), native(1, len as u32)).unwrap(), expect);
}

#[track_caller]
fn problem(band: &BandSource) -> ReadProblem {
    let error = pixels(band, native(1, 1)).expect_err("not readable");
    let text = error.to_string();
    let path = band.asset.source.to_string();
    for part in ["band `red`", "scene `S1`", "asset `B04`", path.as_str()] {
        assert!(text.contains(part), "{text}");
    }
    error.problem
}

#[test]
fn every_type_with_its_nodata() {
    let tag = |nodata| Tif { nodata: Some(nodata), ..Tif::default() };
    check(&tag(255.0), vec![0u8, 7, 255], &[Some(0.0), Some(7.0), None]);
    // The quickstart's Fmask: a nodata that the type cannot hold masks nothing.
    check(&tag(-9999.0), vec![0u8, 7, 255], &[Some(0.0), Some(7.0), Some(255.0)]);
    check(&tag(0.5), vec![0i16, 1], &[Some(0.0), Some(1.0)]);
    check(&tag(-9999.0), vec![-9999i16, -9998, 16000], &[None, Some(-9998.0), Some(16000.0)]);
    check(&tag(65535.0), vec![65535u16, 65534], &[None, Some(65534.0)]);
    check(&tag(16_777_217.0), vec![16_777_217i32, 16_777_216], &[None, Some(16_777_216.0)]);
    check(&tag(4e9), vec![4_000_000_000u32, u32::MAX], &[None, Some(4_294_967_296.0)]);
    check(&tag(0.1), vec![0.1f64, 0.1 + 1e-12], &[None, Some(0.1)]);
    check(&tag(0.1), vec![0.1f32, 0.2], &[None, Some(0.2)]);
    check(&tag(f64::from(f32::MIN)), vec![f32::MIN, 1.0], &[None, Some(1.0)]);
    check(&tag(1e40), vec![f32::INFINITY, f32::MAX, f32::NAN], &[None, Some(f32::MAX), None]);
    check(&Tif::default(), vec![f32::INFINITY, f32::NAN], &[Some(f32::INFINITY), None]);
    check(&tag(f64::NAN), vec![f32::NAN, 0.0], &[None, Some(0.0)]);
    check(&Tif::default(), vec![f64::NAN, 1e300], &[None, Some(f32::INFINITY)]);
    check(&Tif::default(), vec![i64::MAX, 3], &[Some(9.223_372e18), Some(3.0)]);
    check(&Tif::default(), vec![u64::MAX, 3], &[Some(1.844_674_4e19), Some(3.0)]);
    let signed = Tif { options: &["PIXELTYPE=SIGNEDBYTE"], nodata: Some(-1.0), ..Tif::default() };
    check(&signed, vec![255u8, 128, 127], &[None, Some(-128.0), Some(127.0)]);
}

#[test]
fn scale_and_offset_of_the_file_and_of_the_catalog() {
    let tif = Tif { nodata: Some(-9999.0), scale_offset: Some((0.0001, 0.5)), ..Tif::default() };
    check(&tif, vec![-9999i16, 5000, -20], &[None, Some(1.0), Some((-20.0 * 0.0001 + 0.5) as f32)]);
    let dir = TempDir::new().unwrap();
    let path = tif.write(&dir, 3, &[vec![-9999i16, 5000, -20]]);
    let band = BandSource { nodata: Some(5000.0), scale_offset: Some((2.0, 1.0)), ..band_of(&path, 1) };
    assert_eq!(pixels(&band, native(1, 3)).unwrap(), [Some(-19997.0), None, Some(-39.0)]);
    let plain = BandSource { scale_offset: Some((1.0, 0.0)), ..band_of(&path, 1) };
    assert_eq!(pixels(&plain, native(1, 3)).unwrap(), [None, Some(5000.0), Some(-20.0)]);
}

/// 6 rows × 5 columns whose value tells row and column.
fn numbered() -> Vec<i16> {
    (0..6).flat_map(|row| (0..5).map(move |col| 10 * row + col)).collect()
}

#[test]
fn windows_beside_and_beyond_the_file() {
    let dir = TempDir::new().unwrap();
    let tile = Tif { options: &["TILED=YES", "BLOCKXSIZE=16", "BLOCKYSIZE=16"], ..Tif::default() };
    let band = band_of(&tile.write(&dir, 5, &[vec![0i16; 30], numbered()]), 2);
    let window = Window { row: -202, col: 98, rows: 4, cols: 4 };
    let expect =
        |row: i16, col: i16| (row >= 0 && col >= 0 && row < 6 && col < 5).then(|| f32::from(10 * row + col));
    let all = |top: i16, left: i16| -> Vec<_> {
        (0..4).flat_map(|r| (0..4).map(move |c| expect(top + r, left + c))).collect()
    };
    assert_eq!(pixels(&band, window).unwrap(), all(-2, -2));
    assert_eq!(pixels(&band, Window { row: -196, col: 103, ..window }).unwrap(), all(4, 3));
    assert_eq!(pixels(&band, Window { row: 500, ..window }).unwrap(), [None; 16]);
    conformance(&source(), &read_with(&band, &lattice(10.0), Window { rows: 10, cols: 9, ..window }));
}

#[test]
fn south_up_files_read_the_same() {
    let (dir, south_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let north = Tif::default().write(&dir, 5, &[numbered()]);
    let south = Tif { transform: [1000.0, 10.0, 0.0, 1940.0, 0.0, 10.0], ..Tif::default() };
    let flipped: Vec<i16> = numbered().chunks(5).rev().flatten().copied().collect();
    let south = south.write(&south_dir, 5, &[flipped]);
    let window = Window { row: -202, col: 98, rows: 10, cols: 9 };
    for (res, window) in [
        (10.0, window),
        (20.0, Window { row: -101, col: 49, ..window }),
        (4.0, Window { row: -505, col: 248, ..window }),
    ] {
        let (lattice, north, south) = (lattice(res), band_of(&north, 1), band_of(&south, 1));
        let read = |band| read_all(&source(), &read_with(band, &lattice, window)).unwrap();
        assert_eq!(read(&south), read(&north), "{res}");
        assert!(read(&north).1.contains(&1));
        conformance(&source(), &read_with(&south, &lattice, window));
    }
}

#[test]
fn other_resolutions_take_the_pixel_under_the_centre() {
    let dir = TempDir::new().unwrap();
    let band = band_of(&Tif::default().write(&dir, 5, &[numbered()]), 1);
    let near = |res: f64, window| read_all(&source(), &read_with(&band, &lattice(res), window)).unwrap();
    // Twice as fine: every stored pixel four times.
    let (samples, valid) = near(5.0, Window { row: -400, col: 200, rows: 4, cols: 4 });
    assert_eq!(valid, [1; 16]);
    assert_eq!(samples, [0., 0., 1., 1., 0., 0., 1., 1., 10., 10., 11., 11., 10., 10., 11., 11.]);
    // Twice as coarse: centres lie on corners and belong to the south-east.
    let (samples, valid) = near(20.0, Window { row: -100, col: 50, rows: 3, cols: 3 });
    assert_eq!(samples, [11., 13., 0., 31., 33., 0., 51., 53., 0.]);
    assert_eq!(valid, [1, 1, 0, 1, 1, 0, 1, 1, 0]);
    // On the file's own pixels there is nothing to interpolate.
    let fine = lattice(10.0);
    for resampler in [Resampler::Bilinear, Resampler::Cubic, Resampler::Lanczos, Resampler::Average] {
        let read = BandRead { resampler, ..read_with(&band, &fine, native(2, 2)) };
        assert_eq!(read_all(&source(), &read).unwrap().0, [0., 1., 10., 11.], "{resampler:?}");
    }
}

#[test]
fn a_coarse_grid_over_a_fine_file_reads_row_by_row() {
    let dir = TempDir::new().unwrap();
    let (cols, rows) = (3000usize, 700usize);
    let stored: Vec<u32> = (0..(rows * cols) as u32).collect();
    let path = Tif { options: &["COMPRESS=DEFLATE"], ..Tif::default() }.write(&dir, cols, &[stored]);
    let band = band_of(&path, 1);
    for res in [70.0, 12_000.0] {
        let lattice = lattice(res);
        let (north, west) = ((-2000.0 / res) as i64 - 1, (1000.0 / res) as i64);
        let window = Window { row: north, col: west, rows: 12, cols: 10 };
        let read = read_with(&band, &lattice, window);
        let (samples, valid) = read_all(&source(), &read).unwrap();
        for at in 0..window.pixels() {
            let x = lattice.x((window.col + at as i64 % 10) as f64 + 0.5);
            let y = lattice.y((window.row + at as i64 / 10) as f64 + 0.5);
            let (col, row) = (((x - 1000.0) / 10.0).floor(), ((2000.0 - y) / 10.0).floor());
            let inside = col >= 0.0 && row >= 0.0 && col < cols as f64 && row < rows as f64;
            let expect = if inside { (row * cols as f64 + col) as f32 } else { 0.0 };
            assert_eq!((samples[at], valid[at]), (expect, u8::from(inside)), "{res}: pixel {at}");
        }
        conformance(&source(), &read);
    }
}

#[test]
fn a_mask_inside_the_file_counts() {
    let dir = TempDir::new().unwrap();
    let path = Tif::default().write(&dir, 3, &[vec![1u8, 2, 3]]);
    gdal::config::set_thread_local_config_option("GDAL_TIFF_INTERNAL_MASK", "YES").unwrap();
    let options = DatasetOptions { open_flags: GdalOpenFlags::GDAL_OF_UPDATE, ..DatasetOptions::default() };
    let dataset = Dataset::open_ex(&path, options).unwrap();
    let mut band = dataset.rasterband(1).unwrap();
    band.create_mask_band(true).unwrap();
    let mut mask = band.open_mask_band().unwrap();
    mask.write((0, 0), (3, 1), &mut Buffer::new((3, 1), vec![255u8, 0, 255])).unwrap();
    drop(dataset);
    assert_eq!(pixels(&band_of(&path, 1), native(1, 3)).unwrap(), [Some(1.0), None, Some(3.0)]);
}

#[test]
fn what_was_read_is_counted_and_headers_are_remembered() {
    let dir = TempDir::new().unwrap();
    let band = band_of(&Tif::default().write(&dir, 5, &[numbered()]), 1);
    let (source, lattice) = (source(), lattice(10.0));
    let stats = |window: Window| {
        let (mut samples, mut valid) = (vec![0.0; window.pixels()], vec![0; window.pixels()]);
        source.read(&read_with(&band, &lattice, window), &mut samples, &mut valid).unwrap()
    };
    assert_eq!(stats(native(2, 3)), ReadStats { bytes: 12, opened: 1 });
    assert_eq!(stats(Window { row: 0, ..native(2, 3) }), ReadStats { bytes: 0, opened: 0 });
}

#[test]
fn missing_and_changed_files() {
    let dir = TempDir::new().unwrap();
    let path = Tif::default().write(&dir, 5, &[numbered()]);
    let band = band_of(&path, 1);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(1)).unwrap();
    let changed = problem(&band);
    assert!(matches!(&changed, ReadProblem::Changed { found, .. } if found.ends_with("-1")), "{changed}");
    assert!(changed.to_string().contains("graticule catalog add"), "{changed}");
    assert_eq!(changed.class(), ErrorClass::Source);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(problem(&band), ReadProblem::Missing { .. }));
    assert!(matches!(problem(&band_of(dir.path(), 1)), ReadProblem::Missing { .. }));
}

/// However a file is cut, it reads as before or not at all.
#[test]
fn truncated_files_never_read_wrong() {
    let stored: Vec<i16> = (0..64 * 64).map(|i| if i % 7 == 0 { -1 } else { i }).collect();
    for options in [
        &[][..],
        &["COMPRESS=DEFLATE"],
        &["TILED=YES", "BLOCKXSIZE=16", "BLOCKYSIZE=16", "COMPRESS=LZW"],
        &["STREAMABLE_OUTPUT=YES"],
    ] {
        let dir = TempDir::new().unwrap();
        let tif = Tif { options, nodata: Some(-1.0), scale_offset: Some((2.0, 3.0)), ..Tif::default() };
        let path = tif.write(&dir, 64, std::slice::from_ref(&stored));
        let bytes = std::fs::read(&path).unwrap();
        let whole = pixels(&band_of(&path, 1), native(64, 64)).unwrap();
        assert_eq!(whole[..3], [None, Some(5.0), Some(7.0)]);
        let cuts = (0..1200).step_by(3).chain((1200..bytes.len()).step_by(97)).chain([bytes.len() - 1]);
        let mut failed = 0;
        for len in cuts.filter(|len| *len < bytes.len()) {
            std::fs::write(&path, &bytes[..len]).unwrap();
            match pixels(&band_of(&path, 1), native(64, 64)) {
                Ok(pixels) => assert_eq!(pixels, whole, "{options:?} cut to {len} of {}", bytes.len()),
                Err(error) => {
                    assert_eq!(error.class(), ErrorClass::Source, "{options:?} cut to {len}: {error}");
                    failed += 1;
                }
            }
        }
        assert!(failed > 400, "{options:?}: {failed}");
    }
}

#[test]
fn only_geotiffs_of_the_file_system_are_opened() {
    let dir = TempDir::new().unwrap();
    let secret = Tif::default().write(&dir, 5, &[numbered()]);
    let disguised = dir.path().join("innocent.tif");
    let vrt = format!(
        r#"<VRTDataset rasterXSize="5" rasterYSize="6"><VRTRasterBand dataType="Int16" band="1">
        <SimpleSource><SourceFilename>{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"#,
        secret.display()
    );
    std::fs::write(&disguised, vrt).unwrap();
    assert!(matches!(problem(&band_of(&disguised, 1)), ReadProblem::Corrupt { .. }));
    for path in [
        "/vsicurl/http://localhost/a.tif",
        "/vsimem/a.tif",
        "MEM:::DATAPOINTER=1,PIXELS=1,LINES=1",
        "GTIFF_DIR:1:/data/a.tif",
        "a.tif",
        "",
    ] {
        assert_eq!(problem(&band_of(Path::new(path), 1)), ReadProblem::NotLocal, "{path}");
    }
    let mut drivers = drivers();
    // Another test of this process may have allowed it.
    drivers.retain(|name| name != "netCDF");
    assert_eq!(drivers, ["VRT", "GTiff", "COG", "PNG", "JPEG", "JP2OpenJPEG"]);
    for (key, value) in SETTINGS {
        assert_eq!(gdal::config::get_config_option(key, "").unwrap(), *value, "{key}");
    }
    // And none comes from the environment, where there always is this one.
    assert_eq!(gdal::config::get_config_option("PATH", "nothing").unwrap(), "nothing");
}

#[test]
fn headers_that_are_refused() {
    let refused = |tif: Tif<'_>, band: u32| {
        let dir = TempDir::new().unwrap();
        let path = tif.write(&dir, 5, &[numbered()]);
        problem(&band_of(&path, band))
    };
    assert_eq!(refused(Tif { transform: [0.0; 6], ..Tif::default() }, 1), ReadProblem::NoGeotransform);
    let collapsed = [1000.0, 10.0, 10.0, 2000.0, 10.0, 10.0];
    assert_eq!(refused(Tif { transform: collapsed, ..Tif::default() }, 1), ReadProblem::NoGeotransform);
    assert!(matches!(refused(Tif { epsg: None, ..Tif::default() }, 1), ReadProblem::UnknownCrs { .. }));
    let other = refused(Tif { epsg: Some(32614), ..Tif::default() }, 1);
    assert!(other.to_string().contains("EPSG:32614") && other.to_string().contains("EPSG:32613"), "{other}");
    for band in [0, 2] {
        assert_eq!(refused(Tif::default(), band), ReadProblem::NoSuchBand { band, bands: 1 });
    }
}

/// A file of a few hundred bytes that declares a block of more than 64 MiB, and one of complex numbers:
/// made by changing tags of a written file, little-endian and without compression.
#[test]
fn headers_that_lie_or_are_not_read() {
    let patched = |tag: u16, value: u32| {
        let dir = TempDir::new().unwrap();
        let path = Tif { options: &["TILED=YES", "ENDIANNESS=LITTLE", "SPARSE_OK=TRUE"], ..Tif::default() }
            .write(&dir, 5, &[vec![1u32; 30]]);
        let mut bytes = std::fs::read(&path).unwrap();
        let word = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let at = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let entries = usize::from(word(&bytes, at));
        let entry = (0..entries).map(|i| at + 2 + 12 * i).find(|at| word(&bytes, *at) == tag).unwrap();
        bytes[entry + 2..entry + 4].copy_from_slice(&4u16.to_le_bytes());
        bytes[entry + 8..entry + 12].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        problem(&band_of(&path, 1))
    };
    const TILE_WIDTH: u16 = 322;
    const SAMPLE_FORMAT: u16 = 339;
    let large = patched(TILE_WIDTH, 1 << 18);
    assert!(matches!(large, ReadProblem::TooComplex { .. }), "{large}");
    assert_eq!(large.class(), ErrorClass::LimitExceeded);
    assert_eq!(patched(SAMPLE_FORMAT, 5), ReadProblem::ComplexType);
}
