use graticule_common::grid::{Lattice, Window};
use graticule_common::limits::Limits;
use tempfile::TempDir;

use super::*;
use crate::source::gdal::open_local;
use gdal::Metadata;
use graticule_common::block::Samples;
use std::fs;
use std::path::PathBuf;

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

fn names(names: &[&str]) -> Vec<BandNote> {
    names.iter().map(|name| BandNote { name: (*name).to_owned(), ..BandNote::default() }).collect()
}

fn plain() -> Encoding {
    Encoding::default()
}

/// Names of the files in a folder.
fn files(dir: &TempDir) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    fs::read_dir(dir.path()).unwrap().map(name).collect()
}

#[track_caller]
fn check(kind: Kind, rows: u32, cols: u32, expect: &[&str]) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let (grid, block) = (grid("EPSG:32613", rows.into(), cols.into()), block(kind, rows, cols));
    let raster = RasterFile { grid: &grid, block: &block, bands: names(expect), encoding: &plain() };
    write_geotiff(&path, &path, &raster).unwrap();
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
    write_geotiff(&path, &path, &raster).unwrap();
    assert!(fs::read(&path).unwrap() == bytes, "the same raster gives the same bytes");
    assert_eq!(files(&dir), ["out.tif"]);
}

#[test]
fn numbers_read_back_exactly() {
    check(Kind::Mosaic { bands: 1 }, 61, 61, &["ndvi"]);
    check(Kind::Mosaic { bands: 2 }, 1, 3, &["red", "nir"]);
    check(Kind::Mosaic { bands: 1 }, 700, 530, &["ndvi"]);
    let stack = Kind::Stack { images: 2, bands: 2 };
    check(stack, 5, 4, &["a", "b", "c", "d"]);
}

#[test]
fn truth_values_are_bytes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let block =
        Block::new(Kind::Mosaic { bands: 1 }, (1, 4), Samples::Bool(vec![0, 1, 1, 0]), vec![1, 1, 0, 0]);
    let raster = RasterFile {
        grid: &grid("EPSG:32613", 1, 4),
        block: &block,
        bands: names(&["ok"]),
        encoding: &plain(),
    };
    write_geotiff(&path, &path, &raster).unwrap();
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
    let known = ["EPSG:4326", "EPSG:3857", "EPSG:3035", "EPSG:2154", "ESRI:54009", "OGC:CRS84"];
    let mut texts = known.map(str::to_owned).to_vec();
    texts.extend([&laea, &tmerc, &sinusoidal].map(|crs| crs.to_wkt().unwrap()));
    for text in texts {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("out.tif");
        let lattice = Lattice::try_new(Crs::from_canonical(text.as_str()), (0.5, 0.25), (0.1, 0.0)).unwrap();
        let grid = Grid::from_window(lattice, Window { row: -3, col: 2, rows: 2, cols: 2 });
        let block = block(Kind::Mosaic { bands: 1 }, 2, 2);
        let raster = RasterFile { grid: &grid, block: &block, bands: names(&["b"]), encoding: &plain() };
        write_geotiff(&path, &path, &raster).unwrap_or_else(|error| panic!("{error}"));
        let dataset = open_local(&path).unwrap();
        assert_eq!(dataset.geo_transform().unwrap(), [1.1, 0.5, 0.0, 0.75, 0.0, -0.25]);
    }
}

#[test]
fn failures_name_the_file_that_was_asked_for() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let fail = |path: &Path, crs: &str, block: &Block, band_names: &[&str]| {
        let encoding = plain();
        let raster =
            RasterFile { grid: &grid(crs, 2, 2), block, bands: names(band_names), encoding: &encoding };
        let error = write_geotiff(path, Path::new("asked/for.tif"), &raster).expect_err("not writable");
        assert!(error.to_string().contains("`asked/for.tif`"), "{error}");
        error
    };
    let one = block(Kind::Mosaic { bands: 1 }, 2, 2);
    let empty = block(Kind::Stack { images: 0, bands: 1 }, 2, 2);
    assert_eq!(fail(&path, "EPSG:32613", &empty, &[]).class(), ErrorClass::Impossible);
    assert!(matches!(fail(&path, "EPSG:32613", &one, &["b", "c"]), SinkError::Misfit { .. }));
    let other = block(Kind::Mosaic { bands: 1 }, 2, 3);
    assert!(matches!(fail(&path, "EPSG:32613", &other, &["b"]), SinkError::Misfit { .. }));
    assert!(matches!(fail(&path, "EPSG:999999", &one, &["b"]), SinkError::Crs { .. }));
    assert_eq!(files(&dir), Vec::<String>::new());
    // What GDAL refuses after the file was begun: a name with NUL.
    assert!(matches!(fail(&path, "EPSG:32613", &one, &["b\0"]), SinkError::Write { .. }));
    for bad in [dir.path().join("none/out.tif"), PathBuf::from("/vsimem/out.tif")] {
        assert!(matches!(fail(&bad, "EPSG:32613", &one, &["b"]), SinkError::Write { .. }));
    }
}

/// Rows 0 to 1023 of a value each, so that an average and a most frequent value are known.
#[test]
fn overviews_average_valid_pixels_and_parts_lie_in_the_order_of_a_cog() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let (rows, cols) = (1100u32, 700u32);
    let at = |i: usize| (i / cols as usize, i % cols as usize);
    let len = (rows * cols) as usize;
    let values = (0..len).map(|i| (at(i).0 % 2 * 2 + at(i).1 % 2) as f32).collect();
    // In the left half the last pixel of each square of four is invalid.
    let valid =
        (0..len).map(|i| u8::from(at(i).1 >= 350 || i.is_multiple_of(2) || at(i).0 % 2 == 0)).collect();
    let block = Block::new(Kind::Mosaic { bands: 1 }, (rows, cols), Samples::F32(values), valid);
    let grid = grid("EPSG:32613", rows.into(), cols.into());
    let raster = RasterFile { grid: &grid, block: &block, bands: names(&["b"]), encoding: &plain() };
    write_geotiff(&path, &path, &raster).unwrap();
    let dataset = open_local(&path).unwrap();
    let band = dataset.rasterband(1).unwrap();
    assert_eq!((band.block_size(), band.overview_count().unwrap()), ((512, 512), 2));
    let overview = band.overview(0).unwrap();
    assert_eq!((overview.size(), overview.block_size()), ((350, 550), (512, 512)));
    let row = overview.read_as::<f32>((0, 7), (350, 1), (350, 1), None).unwrap();
    assert_eq!((row.data()[3], row.data()[300]), (1.0, 1.5));
    let offset = |level: usize| {
        let domain = dataset.rasterband(1).unwrap();
        let band = if level == 0 { domain } else { domain.overview(level - 1).unwrap() };
        band.metadata_item("BLOCK_OFFSET_0_0", "TIFF").unwrap().parse::<u64>().unwrap()
    };
    assert!(offset(2) < offset(1) && offset(1) < offset(0), "small overviews come first");
    assert_eq!(files(&dir), ["out.tif"]);
}

#[test]
fn classes_have_colours_and_overviews_that_do_not_blend() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let side = 600u32;
    // Squares of four hold 1, 3, 3, 3.
    let value = |i: u32| if (i / side) % 2 + i % side % 2 == 0 { 1.0 } else { 3.0 };
    let values = (0..side * side).map(value).collect();
    let valid = vec![1; (side * side) as usize];
    let block = Block::new(Kind::Mosaic { bands: 1 }, (side, side), Samples::F32(values), valid);
    let class = |value, name: &str, color| ClassNote { value, name: name.into(), color };
    let note = BandNote {
        name: "cover".into(),
        unit: "1".into(),
        classes: vec![class(1, "water", Some([0, 0, 255])), class(3, "wood", Some([0, 128, 0]))],
    };
    let grid = grid("EPSG:32613", side.into(), side.into());
    let encoding = Encoding { dtype: Some(StoredType::U8), ..plain() };
    let raster = RasterFile { grid: &grid, block: &block, bands: vec![note], encoding: &encoding };
    write_geotiff(&path, &path, &raster).unwrap();
    let dataset = open_local(&path).unwrap();
    let band = dataset.rasterband(1).unwrap();
    let table = band.color_table().expect("a colour table");
    let green = table.entry_as_rgb(3).unwrap();
    assert_eq!((green.r, green.g, green.b), (0, 128, 0));
    assert_eq!((band.unit().as_str(), band.no_data_value()), ("1", Some(255.0)));
    assert_eq!(band.metadata_item("CLASS_3", "").as_deref(), Some("wood"));
    let overview = band.overview(0).unwrap();
    assert_eq!(overview.read_as::<u8>((0, 0), (2, 1), (2, 1), None).unwrap().data(), [3, 3]);
}

#[test]
fn integers_carry_scale_and_offset() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out.tif");
    let values = Samples::F32(vec![0.25, -0.5, 0.0]);
    let block = Block::new(Kind::Mosaic { bands: 1 }, (1, 3), values, vec![1, 1, 0]);
    let grid = grid("EPSG:32613", 1, 3);
    let encoding = Encoding { dtype: Some(StoredType::U16), scale: 0.25, offset: -1.0, ..plain() };
    let raster = RasterFile { grid: &grid, block: &block, bands: names(&["b"]), encoding: &encoding };
    write_geotiff(&path, &path, &raster).unwrap();
    let dataset = open_local(&path).unwrap();
    let band = dataset.rasterband(1).unwrap();
    assert_eq!((band.scale(), band.offset()), (Some(0.25), Some(-1.0)));
    assert_eq!(band.read_as::<u16>((0, 0), (3, 1), (3, 1), None).unwrap().data(), [5, 2, 65535]);
}
