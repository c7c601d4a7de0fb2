//! The odd files of the shared test data read to what their README says, or are refused with its reason.

use graticule_common::grid::Grid;
use graticule_common::limits::Limits;
use graticule_common::scene::Format;
use graticule_common::transform::Proj;

use super::*;

fn tricky() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/tricky");
    folder.canonicalize().expect("the shared test data beside the repository")
}

/// Where files without a place of their own are put.
fn somewhere(rows: u32, cols: u32) -> AssetGrid {
    let crs = Crs::from_canonical("EPSG:32613");
    AssetGrid { crs, affine: Affine::upright((0.0, 0.0), 1.0, -1.0), rows, cols }
}

/// Number of valid pixels, smallest and largest, of a band before scale and offset.
fn read(source: &GdalSource, name: &str, format: Format) -> Result<(usize, f32, f32), ReadProblem> {
    read_part(source, name, format, None)
}

fn read_part(
    source: &GdalSource,
    name: &str,
    format: Format,
    part: Option<Window>,
) -> Result<(usize, f32, f32), ReadProblem> {
    let path = tricky().join(name);
    let mut asset = Asset::clone(&band_of(&path, 1).asset);
    asset.format = format;
    let target = Target::of(&asset)?;
    let opened = target.open(&source.remote)?;
    let header = Header::read(&opened, source.transform.as_ref())?;
    let mut place = somewhere(header.rows, header.cols);
    if let Ok(affine) = header.affine {
        place.affine = affine;
    }
    if let Ok(crs) = header.crs {
        place.crs = crs;
    }
    asset.raster = Some(place.clone());
    let Affine { origin: (x, y), col: (res_x, _), row: (_, step_y) } = place.affine;
    let north = y.max(y + step_y * f64::from(place.rows));
    let res_y = if step_y == 0.0 { res_x } else { step_y.abs() };
    let shape = (place.rows.into(), place.cols.into());
    let grid = Grid::try_new(place.crs, (x, north), (res_x, res_y), shape, &Limits::default()).unwrap();
    let whole = grid.window();
    let window =
        part.map_or(whole, |part| Window { row: whole.row + part.row, col: whole.col + part.col, ..part });
    let band = BandSource { scale_offset: Some((1.0, 0.0)), ..BandSource::new(Arc::new(asset), 1) };
    let read = BandRead {
        scene: "tricky",
        band: &band,
        band_name: name,
        lattice: grid.lattice(),
        window,
        resampler: Resampler::Near,
        overviews: false,
    };
    let (samples, valid) = read_all(source, &read).map_err(|error| error.problem)?;
    let values = || samples.iter().zip(&valid).filter(|(_, ok)| **ok == 1).map(|(v, _)| *v);
    Ok((values().count(), values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max)))
}

#[test]
#[ignore = "needs shared"]
fn files_that_read() {
    allow(&[Format::NetCdf]);
    let source = GdalSource::new(Arc::new(Proj::new()));
    let none = (f32::INFINITY, f32::NEG_INFINITY);
    for (name, count, min, max) in [
        ("byte.tif", 400, 74.0, 255.0),
        ("byte_zstd.tif", 400, 74.0, 255.0),
        ("byte_lerc.tif", 400, 74.0, 255.0),
        ("int12.tif", 400, 74.0, 255.0),
        ("float24.tif", 400, 74.0, 255.0),
        ("byte_signed.tif", 400, -124.0, 123.0),
        ("nan32_nodata.tif", 90, 50.0, 58.0),
        ("float32_with_nodata_slightly_above_float_max.tif", 85, -1.099, 0.703_339),
        ("nodata_byte.tif", 380, 74.0, 255.0),
        ("test_with_mask_8bit.tif", 100, 127.0, 127.0),
        ("test3_with_mask_1bit_and_ovr.tif", 100, 127.0, 127.0),
        ("negative_scaley.tif", 1, 107.0, 107.0),
        ("byte_point.tif", 400, 74.0, 255.0),
        ("twoimages.tif", 400, 74.0, 255.0),
        ("bigtiff_four_strip_be_short.tif", 4, 132.0, 135.0),
        ("oddsize1bit.tif", 9801, 0.0, 1.0),
        ("separate_tiled.tif", 1295, 0.0, 70.0),
        ("byte_averaged_50pct.vrt", 100, 101.0, 196.0),
        ("int16.jp2", 400, 75.0, 254.0),
        ("scale_offset.nc", 441, -100.0, 100.0),
        ("all-nodata.tif", 0, none.0, none.1),
        ("alpha.tif", 23188, 5.0, 255.0),
        ("cog_dateline.tif", 5_475_375, 1.0, 63014.0),
        ("cog_scale.tif", 65530, -894.0, 13413.0),
        ("inverted_lat.tif", 0, none.0, none.1),
        ("cog_hirise_mars.tif", 1_881_594, 0.0, 255.0),
        ("tmmx_20190121.nc", 483_879, 287.0, 821.0),
        ("rotated_pole.nc", 5507, -3778.0, 1476.0),
        ("image_geos.tif", 846_946, 0.0, 255.0),
    ] {
        let format = match name.rsplit_once('.') {
            Some((_, "vrt")) => Format::Vrt,
            Some((_, "nc")) => Format::NetCdf,
            _ => Format::Image,
        };
        match read(&source, name, format) {
            Ok(found) => {
                let close = |a: f32, b: f32| a == b || (a - b).abs() < 1e-3;
                let is_right = found.0 == count && close(found.1, min) && close(found.2, max);
                assert!(is_right, "{name}: {found:?}, not {:?}", (count, min, max));
            }
            Err(problem) => panic!("{name}: {problem}"),
        }
    }
}

#[test]
#[ignore = "needs shared"]
fn files_that_are_refused() {
    allow(&[Format::NetCdf]);
    let source = GdalSource::new(Arc::new(Proj::new()));
    for (name, format, reason) in [
        ("byte_truncated.tif", Format::Image, "damaged"),
        ("byte_zstd_corrupted.tif", Format::Image, "damaged"),
        ("mandrilmini_12bitjpeg.tif", Format::Image, "damaged"),
        ("cfloat32.tif", Format::Image, "complex"),
        ("uint33.tif", Format::Image, "BitsPerSample"),
        ("unknown_compression.tif", Format::Image, "missing codec"),
        ("toomanyblocks.tif", Format::Image, "Too many blocks"),
        ("excessive-memory-TIFFFillTile.tif", Format::Image, "damaged"),
        ("many_blocks_truncated.tif", Format::Image, "the limit is"),
        ("tiled_bad_offset.tif", Format::Image, "damaged"),
        ("byte_gcp.tif", Format::Image, "ground control points"),
        ("cog_gcps_ovr.tif", Format::Image, "ground control points"),
        ("cint16.tif", Format::Image, "ground control points"),
        ("idontexist.vrt", Format::Vrt, "idontexist.tif"),
        ("truncated.jp2", Format::Image, "damaged"),
        ("byte_truncated.nc", Format::NetCdf, "damaged"),
        ("corrupt.tif", Format::Image, "damaged"),
        // A VRT that nobody registered as one.
        ("byte_averaged_50pct.vrt", Format::Image, "not recognized"),
    ] {
        match read(&source, name, format) {
            Ok(found) => panic!("{name} reads: {found:?}"),
            Err(problem) => assert!(problem.to_string().contains(reason), "{name}: {problem}"),
        }
    }
    let corner = Window { row: 0, col: 0, rows: 256, cols: 256 };
    let huge = read_part(&source, "huge4GB.tif", Format::Image, Some(corner)).unwrap_err();
    assert!(matches!(huge, ReadProblem::Corrupt { .. }), "{huge}");
    // The good tiles of the damaged file read.
    let tile = Window { row: 0, col: 512, rows: 512, cols: 512 };
    assert_eq!(read_part(&source, "corrupt.tif", Format::Image, Some(tile)).unwrap().0, 512 * 512);
}
