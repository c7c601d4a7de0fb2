use graticule_common::grid::{Lattice, Window};
use graticule_common::limits::Limits;
use tempfile::TempDir;

use super::*;

fn grid(crs: &str, rows: u64, cols: u64) -> Grid {
    let crs = Crs::from_canonical(crs);
    Grid::try_new(crs, (336375.0, 4462425.0), (30.0, 30.0), (rows, cols), &Limits::default()).unwrap()
}

/// Values with NaN, infinity, negative zero and a subnormal among them, and every fifth invalid.
fn block(kind: Kind, rows: u32, cols: u32) -> Block {
    let len = kind.planes() * (rows * cols) as usize;
    let odd = [f32::INFINITY, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, 0.1];
    let value = |i: usize| odd.get(i % 97).copied().unwrap_or(i as f32 / 7.0);
    let valid = (0..len).map(|i| u8::from(i % 5 != 4)).collect();
    Block::new(kind, (rows, cols), Samples::F32((0..len).map(value).collect()), valid)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Names of the files in a folder.
fn files(dir: &TempDir) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    fs::read_dir(dir.path()).unwrap().map(name).collect()
}

#[track_caller]
fn check(kind: Kind, rows: u32, cols: u32, band_names: &[&str], expect: &[&str]) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let (grid, block) = (grid("EPSG:32613", rows.into(), cols.into()), block(kind, rows, cols));
    let raster = RasterFile { grid: &grid, block: &block, band_names: names(band_names) };
    fs::write(&path, "an older result").unwrap();
    write_geotiff(&path, &raster).unwrap();
    let dataset = open_local(&path).unwrap();
    assert_eq!(dataset.geo_transform().unwrap(), [336375.0, 30.0, 0.0, 4462425.0, 0.0, -30.0]);
    assert_eq!(dataset.spatial_ref().unwrap().auth_code().unwrap(), 32613);
    assert_eq!(dataset.raster_count(), kind.planes());
    let Samples::F32(values) = block.samples() else { unreachable!() };
    for plane in 0..kind.planes() {
        let band = dataset.rasterband(plane + 1).unwrap();
        assert_eq!(band.description().unwrap(), expect[plane]);
        assert!(band.no_data_value().unwrap().is_nan());
        let size = (cols as usize, rows as usize);
        let found = band.read_as::<f32>((0, 0), size, size, None).unwrap();
        for (i, value) in found.data().iter().enumerate() {
            let at = plane * block.pixels() + i;
            let expect = if block.valid()[at] == 1 { values[at] } else { f32::NAN };
            assert_eq!(value.to_bits(), expect.to_bits(), "plane {plane}, pixel {i}");
        }
    }
    let bytes = fs::read(&path).unwrap();
    write_geotiff(&path, &raster).unwrap();
    assert!(fs::read(&path).unwrap() == bytes, "the same raster gives the same bytes");
    assert_eq!(files(&dir), ["out.tif"]);
}

#[test]
fn numbers_read_back_exactly() {
    check(Kind::Mosaic { bands: 1 }, 61, 61, &["ndvi"], &["ndvi"]);
    check(Kind::Mosaic { bands: 2 }, 1, 3, &["red", "nir"], &["red", "nir"]);
    check(Kind::Mosaic { bands: 1 }, 700, 530, &["ndvi"], &["ndvi"]);
    let stack = Kind::Stack { images: 2, bands: 2 };
    check(stack, 5, 4, &["red", "nir"], &["0:red", "0:nir", "1:red", "1:nir"]);
    check(stack, 5, 4, &["a", "b", "c", "d"], &["a", "b", "c", "d"]);
}

#[test]
fn truth_values_are_bytes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let block =
        Block::new(Kind::Mosaic { bands: 1 }, (1, 4), Samples::Bool(vec![0, 1, 1, 0]), vec![1, 1, 0, 0]);
    let raster = RasterFile { grid: &grid("EPSG:32613", 1, 4), block: &block, band_names: names(&["ok"]) };
    write_geotiff(&path, &raster).unwrap();
    let dataset = open_local(&path).unwrap();
    let band = dataset.rasterband(1).unwrap();
    assert_eq!((band.band_type().name().as_str(), band.no_data_value()), ("Byte", Some(255.0)));
    assert_eq!(band.read_as::<u8>((0, 0), (4, 1), (4, 1), None).unwrap().data(), [0, 1, 255, 255]);
}

#[test]
fn crs_of_every_kind() {
    let laea = SpatialRef::from_definition("+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84").unwrap();
    let tmerc =
        SpatialRef::from_definition("+proj=tmerc +lat_0=1 +lon_0=2 +k=0.5 +x_0=3 +ellps=GRS80").unwrap();
    let sinusoidal = SpatialRef::from_definition("+proj=sinu +R=6371007.181").unwrap();
    let mut texts = names(&["EPSG:4326", "EPSG:3857", "EPSG:3035", "EPSG:2154", "ESRI:54009", "OGC:CRS84"]);
    texts.extend([&laea, &tmerc, &sinusoidal].map(|crs| crs.to_wkt().unwrap()));
    for text in texts {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("out.tif");
        let lattice = Lattice::try_new(Crs::from_canonical(text.as_str()), (0.5, 0.25), (0.1, 0.0)).unwrap();
        let grid = Grid::from_window(lattice, Window { row: -3, col: 2, rows: 2, cols: 2 });
        let block = block(Kind::Mosaic { bands: 1 }, 2, 2);
        write_geotiff(&path, &RasterFile { grid: &grid, block: &block, band_names: names(&["b"]) })
            .unwrap_or_else(|error| panic!("{error}"));
        let dataset = open_local(&path).unwrap();
        assert_eq!(dataset.geo_transform().unwrap(), [1.1, 0.5, 0.0, 0.75, 0.0, -0.25]);
    }
}

#[test]
fn failures_leave_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let fail = |path: &Path, crs: &str, block: &Block, band_names: &[&str]| {
        let raster = RasterFile { grid: &grid(crs, 2, 2), block, band_names: names(band_names) };
        let error = write_geotiff(path, &raster).expect_err("not writable");
        assert!(error.to_string().contains(&format!("`{}`", path.display())), "{error}");
        assert_eq!(files(&dir), Vec::<String>::new(), "{error}");
        error
    };
    let one = block(Kind::Mosaic { bands: 1 }, 2, 2);
    let empty = block(Kind::Stack { images: 0, bands: 1 }, 2, 2);
    assert_eq!(fail(&path, "EPSG:32613", &empty, &["b"]).class(), ErrorClass::Impossible);
    assert!(matches!(fail(&path, "EPSG:32613", &one, &["b", "c"]), SinkError::Misfit { .. }));
    let other = block(Kind::Mosaic { bands: 1 }, 2, 3);
    assert!(matches!(fail(&path, "EPSG:32613", &other, &["b"]), SinkError::Misfit { .. }));
    assert!(matches!(fail(&path, "EPSG:999999", &one, &["b"]), SinkError::Crs { .. }));
    // What GDAL refuses after the file was begun: a name with NUL.
    assert!(matches!(fail(&path, "EPSG:32613", &one, &["b\0"]), SinkError::Write { .. }));
    for bad in [dir.path().join("none/out.tif"), dir.path().to_owned(), PathBuf::from("/vsimem/out.tif")] {
        assert!(matches!(fail(&bad, "EPSG:32613", &one, &["b"]), SinkError::Write { .. }));
    }
}
