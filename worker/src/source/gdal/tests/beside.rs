//! Masks, alpha, palettes, side-cars, and what a look into a file finds.

use gdal::Metadata;
use gdal::raster::{ColorEntry, ColorInterpretation, ColorTable, PaletteInterpretation};
use graticule_common::file::Inspect;

use super::*;

fn asset_of(path: &Path, sidecars: &[&str]) -> Asset {
    let sidecars = sidecars.iter().map(|name| (*name).to_owned()).collect();
    Asset { sidecars, ..Asset::clone(&band_of(path, 1).asset) }
}

fn row_of(asset: Asset, band: u32, cols: u32) -> Vec<Option<f32>> {
    pixels(&BandSource::new(Arc::new(asset), band), native(1, cols)).unwrap()
}

/// Writes `file.tif.msk`, which masks the second of three pixels.
fn mask_beside(path: &Path) {
    gdal::config::set_thread_local_config_option("GDAL_TIFF_INTERNAL_MASK", "NO").unwrap();
    let options = DatasetOptions { open_flags: GdalOpenFlags::GDAL_OF_UPDATE, ..DatasetOptions::default() };
    let dataset = Dataset::open_ex(path, options).unwrap();
    let mut band = dataset.rasterband(1).unwrap();
    band.create_mask_band(true).unwrap();
    let mut mask = band.open_mask_band().unwrap();
    mask.write((0, 0), (3, 1), &mut Buffer::new((3, 1), vec![255u8, 0, 255])).unwrap();
}

#[test]
fn a_mask_beside_the_file_counts_where_it_is_listed() {
    let dir = TempDir::new().unwrap();
    let path = Tif::default().write(&dir, 3, &[vec![1u8, 2, 3]]);
    mask_beside(&path);
    assert!(dir.path().join("band.tif.msk").exists());
    assert_eq!(row_of(asset_of(&path, &[]), 1, 3), [Some(1.0), Some(2.0), Some(3.0)]);
    assert_eq!(row_of(asset_of(&path, &["band.tif.msk"]), 1, 3), [Some(1.0), None, Some(3.0)]);
    // Reading it with the mask leaves nothing behind that the next read without would see.
    assert_eq!(row_of(asset_of(&path, &[]), 1, 3), [Some(1.0), Some(2.0), Some(3.0)]);
    let notes = source().inspect(&asset_of(&path, &[]), true).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("`band.tif.msk`")), "{notes:?}");
    assert_eq!(source().inspect(&asset_of(&path, &["band.tif.msk"]), true).unwrap().notes, [""; 0]);
}

#[test]
fn metadata_beside_the_file_counts_where_it_is_listed() {
    let dir = TempDir::new().unwrap();
    let path = Tif::default().write(&dir, 3, &[vec![1u8, 2, 3]]);
    let aux = "<PAMDataset><PAMRasterBand band=\"1\"><NoDataValue>2</NoDataValue><Scale>10</Scale>\
               <Offset>1</Offset></PAMRasterBand></PAMDataset>";
    std::fs::write(dir.path().join("band.tif.aux.xml"), aux).unwrap();
    let source = source();
    let read = |sidecars: &[&str]| {
        let band = BandSource::new(Arc::new(asset_of(&path, sidecars)), 1);
        let (lattice, window) = (lattice(10.0), native(1, 3));
        read_all(&source, &read_with(&band, &lattice, window)).unwrap()
    };
    // Alternating, so that neither handle nor header of the one serves the other.
    for _ in 0..2 {
        assert_eq!(read(&[]), (vec![1.0, 2.0, 3.0], vec![1, 1, 1]));
        assert_eq!(read(&["band.tif.aux.xml"]), (vec![11.0, 0.0, 31.0], vec![1, 0, 1]));
    }
}

#[test]
fn side_cars_that_are_no_side_cars() {
    let dir = TempDir::new().unwrap();
    let path = Tif::default().write(&dir, 3, &[vec![1u8, 2, 3]]);
    let secret = dir.path().join("secret.txt");
    std::fs::write(&secret, "the secret").unwrap();
    std::fs::write(
        dir.path().join("band.tif.msk"),
        format!("<VRTDataset rasterXSize=\"3\" rasterYSize=\"1\">{}</VRTDataset>", secret.display()),
    )
    .unwrap();
    std::fs::write(
        dir.path().join("band.tif.aux.xml"),
        "<PAMDataset><Metadata domain=\"OVERVIEWS\"><MDI key=\"OVERVIEW_FILE\">/etc/passwd</MDI>\
         </Metadata></PAMDataset>",
    )
    .unwrap();
    std::os::unix::fs::symlink(&secret, dir.path().join("band.tif.ovr")).unwrap();
    for name in ["band.tif.msk", "band.tif.aux.xml", "band.tif.ovr", "../band.tif.msk", "none.msk", "a/b"] {
        let band = BandSource::new(Arc::new(asset_of(&path, &[name])), 1);
        let refused = problem(&band);
        assert!(matches!(&refused, ReadProblem::Sidecar { name: shown, .. } if shown == name), "{refused}");
        assert!(!refused.to_string().contains("the secret"), "{refused}");
    }
}

#[test]
fn alpha_masks_all_bands_and_reads_as_a_band() {
    let dir = TempDir::new().unwrap();
    let bands = [vec![10u8, 20, 30], vec![1, 2, 3], vec![4, 5, 6], vec![0, 1, 255]];
    let path = Tif { options: &["PHOTOMETRIC=RGB", "ALPHA=YES"], ..Tif::default() }.write(&dir, 3, &bands);
    assert_eq!(row_of(asset_of(&path, &[]), 1, 3), [None, Some(20.0), Some(30.0)]);
    assert_eq!(row_of(asset_of(&path, &[]), 2, 3), [None, Some(2.0), Some(3.0)]);
    assert_eq!(row_of(asset_of(&path, &[]), 4, 3), [Some(0.0), Some(1.0), Some(255.0)]);
    let info = source().inspect(&asset_of(&path, &[]), true).unwrap();
    assert_eq!(info.bands.iter().map(|band| band.is_alpha).collect::<Vec<_>>(), [false, false, false, true]);
}

/// A mask is what the file's maker said last: where there is one, nodata is a value like any other.
#[test]
fn a_mask_counts_before_nodata_of_the_file_but_not_of_the_catalog() {
    let dir = TempDir::new().unwrap();
    let path = Tif { nodata: Some(1.0), ..Tif::default() }.write(&dir, 3, &[vec![1u8, 2, 3]]);
    mask_beside(&path);
    let asset = asset_of(&path, &["band.tif.msk"]);
    assert_eq!(row_of(asset.clone(), 1, 3), [Some(1.0), None, Some(3.0)]);
    let band = BandSource { nodata: Some(3.0), ..BandSource::new(Arc::new(asset), 1) };
    assert_eq!(pixels(&band, native(1, 3)).unwrap(), [Some(1.0), None, None]);
}

#[test]
fn types_of_few_bits_and_palettes() {
    let bits = |options: &'static [&'static str]| Tif { options, ..Tif::default() };
    check(&bits(&["NBITS=12"]), vec![4095u16, 1, 0], &[Some(4095.0), Some(1.0), Some(0.0)]);
    check(&bits(&["NBITS=1"]), vec![1u8, 0, 1], &[Some(1.0), Some(0.0), Some(1.0)]);
    check(&bits(&["NBITS=16"]), vec![0.5f32, -2.0], &[Some(0.5), Some(-2.0)]);
    check(&bits(&["NBITS=24"]), vec![0.5f32, -2.0], &[Some(0.5), Some(-2.0)]);

    let dir = TempDir::new().unwrap();
    let path = Tif::default().write(&dir, 3, &[vec![0u8, 2, 1]]);
    let options = DatasetOptions { open_flags: GdalOpenFlags::GDAL_OF_UPDATE, ..DatasetOptions::default() };
    let mut dataset = Dataset::open_ex(&path, options).unwrap();
    let mut palette = ColorTable::new(PaletteInterpretation::Rgba);
    for (at, red) in [0, 200, 100].into_iter().enumerate() {
        palette.set_color_entry(at as u16, &ColorEntry::rgba(red, 0, 0, 255));
    }
    let mut band = dataset.rasterband(1).unwrap();
    band.set_color_table(&palette);
    band.set_color_interpretation(ColorInterpretation::PaletteIndex).unwrap();
    band.set_description("cover").unwrap();
    dataset.set_metadata_item("TIFFTAG_DATETIME", "2020:01:02 03:04:05", "").unwrap();
    drop(dataset);
    assert_eq!(row_of(asset_of(&path, &[]), 1, 3), [Some(0.0), Some(2.0), Some(1.0)]);
    let info = source().inspect(&asset_of(&path, &[]), true).unwrap();
    let band = &info.bands[0];
    assert_eq!((band.data_type.as_str(), band.name.as_deref()), ("uint8", Some("cover")));
    let reds: Vec<_> = band.classes.iter().map(|class| (class.value, class.color.unwrap()[0])).collect();
    assert_eq!(reds, [(0, 0), (1, 200), (2, 100)]);
    assert_eq!(info.tags["TIFFTAG_DATETIME"], "2020:01:02 03:04:05");
    assert_eq!((info.driver.as_str(), info.shape), ("GTiff", (1, 3)));
    assert_eq!(info.grid.unwrap().affine, Affine::upright((1000.0, 2000.0), 10.0, -10.0));
    // Classes do not blend, whatever a graft asks for.
    let (band, coarse) = (band_of(&path, 1), lattice(20.0));
    let window = Window { row: -100, col: 50, rows: 1, cols: 1 };
    let read = BandRead { resampler: Resampler::Bilinear, ..read_with(&band, &coarse, window) };
    assert!(read_all(&source(), &read).is_ok());
}

#[test]
fn a_look_with_pixels_finds_the_damage() {
    let dir = TempDir::new().unwrap();
    let tif = Tif { options: &["COMPRESS=DEFLATE", "BLOCKYSIZE=1"], ..Tif::default() };
    let path = tif.write(&dir, 5, &[numbered()]);
    assert!(source().inspect(&asset_of(&path, &[]), true).is_ok());
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(2).position(|pair| pair == [0x78, 0x9c] || pair == [0x78, 0x5e]).unwrap();
    bytes[at + 2..at + 10].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    assert!(source().inspect(&asset_of(&path, &[]), false).is_ok());
    let damage = source().inspect(&asset_of(&path, &[]), true).unwrap_err();
    assert!(damage.contains("band 1, row "), "{damage}");
}

/// A file without CRS or geotransform lies where the catalog says, and nowhere otherwise.
#[test]
fn the_catalog_may_place_a_file() {
    let dir = TempDir::new().unwrap();
    let path = Tif { transform: [0.0; 6], epsg: None, ..Tif::default() }.write(&dir, 3, &[vec![1u8, 2, 3]]);
    let asset = asset_of(&path, &[]);
    let alone = problem(&BandSource::new(Arc::new(asset.clone()), 1));
    assert_eq!(alone, ReadProblem::NoGeotransform);
    let crs = Crs::from_canonical("EPSG:32613");
    let affine = Affine::upright((1000.0, 2000.0), 10.0, -10.0);
    let raster = Some(AssetGrid { crs, affine, rows: 1, cols: 3 });
    assert_eq!(row_of(Asset { raster, ..asset }, 1, 3), [Some(1.0), Some(2.0), Some(3.0)]);
}

#[test]
fn handles_are_used_again_and_never_for_another_version() {
    let dir = TempDir::new().unwrap();
    let path = Tif::default().write(&dir, 3, &[vec![1u8, 2, 3]]);
    let (source, lattice) = (source(), lattice(10.0));
    let read = |band: &BandSource| {
        let (mut samples, mut valid) = (vec![0.0; 3], vec![0; 3]);
        let read = read_with(band, &lattice, native(1, 3));
        source.read(&read, &mut samples, &mut valid).map(|stats| (stats.opened, samples))
    };
    let old = band_of(&path, 1);
    assert_eq!(read(&old).unwrap(), (1, vec![1.0, 2.0, 3.0]));
    assert_eq!(read(&old).unwrap(), (0, vec![1.0, 2.0, 3.0]));
    std::fs::remove_file(&path).unwrap();
    Tif::default().write(&dir, 3, &[vec![7u8, 8, 9]]);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    drop(file);
    assert!(matches!(read(&old).unwrap_err().problem, ReadProblem::Changed { .. }));
    assert_eq!(read(&band_of(&path, 1)).unwrap(), (1, vec![7.0, 8.0, 9.0]));
    // Many files: what stays open is bounded.
    for i in 0..300 {
        let other = dir.path().join(format!("{i}.tif"));
        std::fs::copy(&path, &other).unwrap();
        read(&band_of(&other, 1)).unwrap();
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let here = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let here: Vec<_> = here.filter(|path| path.starts_with(dir.path())).collect();
    assert!((1..=256).contains(&here.len()), "{} files are open", here.len());
}

/// Writes a copy of a file in another format.
fn copy_as(path: &Path, driver: &str, name: &str, options: &[&str]) -> PathBuf {
    let copy = path.with_file_name(name);
    let options = RasterCreationOptions::from_iter(options.iter().copied());
    let driver = DriverManager::get_driver_by_name(driver).unwrap();
    drop(Dataset::open(path).unwrap().create_copy(&driver, &copy, &options).unwrap());
    copy
}

#[test]
fn jpeg_2000_png_and_jpeg_read_too() {
    let dir = TempDir::new().unwrap();
    let values: Vec<u16> = (0..64 * 64u32).map(|i| (i * 3 % 4096) as u16).collect();
    let path = Tif::default().write(&dir, 64, std::slice::from_ref(&values));
    let expect: Vec<_> = values.iter().map(|value| Some(f32::from(*value))).collect();
    let lossless = ["QUALITY=100", "REVERSIBLE=YES", "YCBCR420=NO"];
    let jp2 = copy_as(&path, "JP2OpenJPEG", "band.jp2", &lossless);
    assert_eq!(pixels(&band_of(&jp2, 1), native(64, 64)).unwrap(), expect);
    let info = source().inspect(&asset_of(&jp2, &[]), true).unwrap();
    assert_eq!((info.driver.as_str(), info.bands[0].data_type.as_str()), ("JP2OpenJPEG", "uint16"));
    // A damaged one is not called a damaged file of another format.
    let bytes = std::fs::read(&jp2).unwrap();
    for len in [4, 16, 200, bytes.len() / 2, bytes.len() - 40] {
        std::fs::write(&jp2, &bytes[..len]).unwrap();
        let problem = pixels(&band_of(&jp2, 1), native(64, 64)).unwrap_err();
        assert_eq!(problem.class(), ErrorClass::Source, "{len}: {problem}");
        assert!(!problem.to_string().contains("GeoTIFF"), "{len}: {problem}");
    }
    // One tile of 400,000 x 400,000 pixels, declared where the sizes stand.
    let at = bytes.windows(4).position(|marker| marker == [0xff, 0x4f, 0xff, 0x51]).unwrap() + 8;
    let mut bomb = bytes.clone();
    for place in [0, 4, 16, 20] {
        bomb[at + place..at + place + 4].copy_from_slice(&400_000u32.to_be_bytes());
    }
    std::fs::write(&jp2, &bomb).unwrap();
    let problem = pixels(&band_of(&jp2, 1), native(64, 64)).unwrap_err();
    assert!(matches!(problem.problem, ReadProblem::TooComplex { .. }), "{problem}");
    assert!(problem.to_string().contains("pixels in a tile"), "{problem}");
    let png = copy_as(&path, "PNG", "band.png", &[]);
    let crs = Crs::from_canonical("EPSG:32613");
    let affine = Affine::upright((1000.0, 2000.0), 10.0, -10.0);
    let raster = Some(AssetGrid { crs, affine, rows: 64, cols: 64 });
    let read = |path: &Path| {
        let asset = Asset { raster: raster.clone(), ..asset_of(path, &[]) };
        pixels(&BandSource::new(Arc::new(asset), 1), native(64, 64))
    };
    assert_eq!(read(&png).unwrap(), expect);
    let bytes = std::fs::read(&png).unwrap();
    std::fs::write(&png, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(read(&png).unwrap_err().class(), ErrorClass::Source);

    let flat = Tif::default().write(&dir, 64, &[vec![90u8; 64 * 64]]);
    let jpeg = copy_as(&flat, "JPEG", "band.jpg", &["QUALITY=100"]);
    assert_eq!(read(&jpeg).unwrap(), vec![Some(90.0); 64 * 64]);
    let bytes = std::fs::read(&jpeg).unwrap();
    std::fs::write(&jpeg, &bytes[..bytes.len() - 30]).unwrap();
    assert_eq!(read(&jpeg).unwrap_err().class(), ErrorClass::Source);
}

#[test]
fn control_points_alone_place_nothing() {
    use gdal::Gcp;
    let dir = TempDir::new().unwrap();
    let path = Tif { transform: [0.0; 6], epsg: None, ..Tif::default() }.write(&dir, 3, &[vec![1u8, 2, 3]]);
    let options = DatasetOptions { open_flags: GdalOpenFlags::GDAL_OF_UPDATE, ..DatasetOptions::default() };
    let dataset = Dataset::open_ex(&path, options).unwrap();
    let point = |pixel: f64, x: f64, y: f64| Gcp {
        id: pixel.to_string(),
        info: String::new(),
        pixel,
        line: pixel / 2.0,
        x,
        y,
        z: 0.0,
    };
    // Not in line and uneven, so that they are no geotransform in disguise.
    let points = vec![point(0.0, 0.0, 9.0), point(1.0, 3.0, 5.0), point(2.0, 5.0, 8.0), point(3.0, 9.0, 1.0)];
    dataset.set_gcps(points, &SpatialRef::from_epsg(32613).unwrap()).unwrap();
    drop(dataset);
    let asset = asset_of(&path, &[]);
    let refused = problem(&BandSource::new(Arc::new(asset.clone()), 1));
    assert_eq!(refused, ReadProblem::OnlyPoints { what: "ground control points" });
    // Nor does the catalog's word replace them.
    let (crs, affine) = (Crs::from_canonical("EPSG:32613"), Affine::upright((1000.0, 2000.0), 10.0, -10.0));
    let raster = Some(AssetGrid { crs, affine, rows: 1, cols: 3 });
    let placed = BandSource::new(Arc::new(Asset { raster, ..asset.clone() }), 1);
    assert_eq!(problem(&placed), ReadProblem::OnlyPoints { what: "ground control points" });
    let grid = source().inspect(&asset, false).unwrap().grid;
    assert!(grid.unwrap_err().contains("ground control points"));
}

#[test]
fn of_two_images_the_first_is_read() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = Tif::default().write(&dir, 3, &[vec![1u8, 2, 3]]);
    let second = Tif::default().write(&other, 3, &[vec![7u8, 8, 9]]);
    let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
    let options = RasterCreationOptions::from_iter(["APPEND_SUBDATASET=YES"]);
    drop(Dataset::open(&second).unwrap().create_copy(&driver, &path, &options).unwrap());
    let asset = asset_of(&path, &[]);
    assert_eq!(row_of(asset.clone(), 1, 3), [Some(1.0), Some(2.0), Some(3.0)]);
    let notes = source().inspect(&asset, true).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("2 images")), "{notes:?}");
}

#[test]
fn overviews_are_read_for_display_alone() {
    let dir = TempDir::new().unwrap();
    let stored: Vec<u8> = (0..64 * 64).map(|at| if (at % 64 + at / 64) % 2 == 0 { 10 } else { 30 }).collect();
    let path = Tif::default().write(&dir, 64, &[stored]);
    let options = DatasetOptions { open_flags: GdalOpenFlags::GDAL_OF_UPDATE, ..DatasetOptions::default() };
    Dataset::open_ex(&path, options).unwrap().build_overviews("AVERAGE", &[2, 4], &[1]).unwrap();
    let (band, source) = (band_of(&path, 1), source());
    let mean = |res: f64, overviews: bool| {
        let (coarse, side) = (lattice(res), (640.0 / res) as u32);
        let window =
            Window { row: -(2000.0 / res) as i64, col: (1000.0 / res) as i64, rows: side, cols: side };
        let read = BandRead { overviews, ..read_with(&band, &coarse, window) };
        let (samples, valid) = read_all(&source, &read).unwrap();
        assert!(valid.iter().all(|ok| *ok == 1));
        (samples.iter().sum::<f32>() / samples.len() as f32, samples[0])
    };
    // The nearest pixel is 10 or 30; an overview has 20 everywhere.
    assert!(mean(20.0, false).1 != 20.0 && mean(40.0, false).1 != 20.0);
    assert_eq!(mean(20.0, true), (20.0, 20.0));
    assert_eq!(mean(40.0, true), (20.0, 20.0));
    // Where no overview has enough pixels the file itself is read.
    assert_eq!(mean(10.0, true), mean(10.0, false));
}
