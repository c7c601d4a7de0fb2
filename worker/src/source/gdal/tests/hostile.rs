//! Files made to do harm: each is refused with a typed error, and in bounded memory.

use std::os::unix::fs::symlink;

use gdal::Metadata;
use graticule_common::scene::Format;

use super::*;

fn vrt_band(path: &Path) -> BandSource {
    let asset = Asset { format: Format::Vrt, ..Asset::clone(&band_of(path, 1).asset) };
    BandSource::new(Arc::new(asset), 1)
}

fn vrt(source: &str) -> String {
    format!(
        r#"<VRTDataset rasterXSize="5" rasterYSize="6"><SRS>EPSG:32613</SRS>
        <GeoTransform>1000, 10, 0, 2000, 0, -10</GeoTransform>
        <VRTRasterBand dataType="Int16" band="1"><SimpleSource>{source}<SourceBand>1</SourceBand>
        </SimpleSource></VRTRasterBand></VRTDataset>"#
    )
}

#[test]
fn a_vrt_reads_images_beside_it_and_nothing_else() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let image = Tif::default().write(&dir, 5, &[numbered()]);
    let outside = Tif::default().write(&elsewhere, 5, &[numbered()]);
    let path = dir.path().join("mosaic.vrt");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let name =
        |attribute: &str, name: &str| vrt(&format!("<SourceFilename{attribute}>{name}</SourceFilename>"));
    write(&name(" relativeToVRT=\"1\"", "band.tif"));
    assert_eq!(pixels(&vrt_band(&path), native(1, 3)).unwrap(), [Some(0.0), Some(1.0), Some(2.0)]);
    // Only where the catalog says that it is one.
    let undeclared = problem(&band_of(&path, 1));
    assert!(matches!(undeclared, ReadProblem::Corrupt { .. }), "{undeclared}");

    std::fs::write(dir.path().join("secret.txt"), "the secret").unwrap();
    std::fs::write(dir.path().join("nested.tif"), name(" relativeToVRT=\"1\"", "band.tif")).unwrap();
    symlink(&outside, dir.path().join("link.tif")).unwrap();
    let inside = |file: &str| dir.path().join(file).display().to_string();
    for text in [
        name("", &outside.display().to_string()),
        name("", &inside("secret.txt")),
        name("", &inside("nested.tif")),
        name("", &inside("link.tif")),
        name(" relativeToVRT=\"1\"", "../../etc/passwd"),
        name("", "/vsicurl/http://127.0.0.1:1/a.tif"),
        name("", "MEM:::DATAPOINTER=1,PIXELS=5,LINES=6"),
        name("", "&lt;VRTDataset/&gt;"),
        format!(
            "<VRTDataset rasterXSize=\"5\" rasterYSize=\"6\"><VRTRasterBand band=\"1\" \
                 subClass=\"VRTRawRasterBand\"><SourceFilename>{}</SourceFilename></VRTRasterBand>\
                 </VRTDataset>",
            inside("secret.txt")
        ),
    ] {
        write(&text);
        let refused = problem(&vrt_band(&path));
        assert!(
            matches!(refused, ReadProblem::Refers { .. } | ReadProblem::Missing { .. }),
            "{text}: {refused}"
        );
        assert!(!refused.to_string().contains("the secret"), "{refused}");
    }
    write("the secret");
    let refused = problem(&vrt_band(&path)).to_string();
    assert!(refused.contains("not a VRT") && !refused.contains("the secret"), "{refused}");
    drop(image);
}

#[test]
fn links_and_paths_that_lead_elsewhere() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = Tif::default().write(&dir, 5, &[numbered()]);
    let band = band_of(&path, 1);
    assert!(pixels(&band, native(1, 1)).is_ok());
    // Put in the file's place after it was registered.
    let outside = elsewhere.path().join("band.tif");
    std::fs::rename(&path, &outside).unwrap();
    symlink(&outside, &path).unwrap();
    assert_eq!(problem(&band), ReadProblem::Linked);
    // And in the place of its folder.
    let folder = elsewhere.path().join("folder");
    symlink(dir.path(), &folder).unwrap();
    std::fs::rename(&outside, elsewhere.path().join("real.tif")).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(elsewhere.path().join("real.tif"), &path).unwrap();
    assert_eq!(problem(&band_of(&folder.join("band.tif"), 1)), ReadProblem::Linked);
    let dotted = format!("{}/../{}", dir.path().display(), "band.tif");
    assert_eq!(problem(&band_of(Path::new(&dotted), 1)), ReadProblem::NotLocal);
}

/// GDAL would open the file that stands there as the overviews, with any driver and any file system.
#[test]
fn metadata_that_names_another_file() {
    let dir = TempDir::new().unwrap();
    let path = Tif::default().write(&dir, 5, &[numbered()]);
    let options = DatasetOptions { open_flags: GdalOpenFlags::GDAL_OF_UPDATE, ..DatasetOptions::default() };
    let mut dataset = Dataset::open_ex(&path, options).unwrap();
    dataset.set_metadata_item("OVERVIEW_FILE", "/vsicurl/http://127.0.0.1:1/a.tif", "OVERVIEWS").unwrap();
    drop(dataset);
    let refused = problem(&band_of(&path, 1));
    assert!(matches!(refused, ReadProblem::Refers { .. }), "{refused}");
}

#[test]
fn gdal_itself_reaches_no_network() {
    configure();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/a.tif", listener.local_addr().unwrap());
    for name in [
        format!("/vsicurl/{url}"),
        format!("/vsicurl?url={url}"),
        format!("/vsicurl_streaming/{url}"),
        format!("/vsicurl?header_file=/etc/hostname&url={url}"),
        "/vsis3/bucket/key".to_owned(),
        "/vsistdin/".to_owned(),
    ] {
        assert!(Dataset::open(&name).is_err(), "{name}");
    }
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

/// A TIFF of one band, little-endian, made of its tags; the first block follows them.
fn tiff(tags: &[(u16, u32)], block: &[u8]) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((tags.len() as u16).to_le_bytes());
    let start = 8 + 2 + 12 * tags.len() + 4;
    for (tag, value) in tags {
        bytes.extend(tag.to_le_bytes());
        bytes.extend([4, 0, 1, 0, 0, 0]);
        let value = if matches!(tag, 273 | 324) { start as u32 } else { *value };
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes.extend(block);
    bytes
}

/// Largest memory of this process so far, in bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Files of some bytes that declare gigabytes. The peak is the whole process's, so other tests that run
/// beside count too: the bound is far above them and far below the least of what is declared.
#[test]
fn bombs_are_refused_in_bounded_memory() {
    const NONE: u32 = 1;
    const ZSTD: u32 = 50000;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("bomb.tif");
    let base = |side: u32, bits: u32, format: u32, compression: u32| {
        vec![(256, side), (257, side), (258, bits), (259, compression), (262, 1), (277, 1), (339, format)]
    };
    let tiled = |side: u32, tile: u32, bits: u32, format: u32, compression: u32, len: u32| {
        let mut tags = base(side, bits, format, compression);
        tags.extend([(322, tile), (323, tile), (324, 0), (325, len)]);
        tags.sort_unstable();
        tags
    };
    for (name, bytes) in [
        (
            "400,000 x 400,000 doubles in blocks of 16384",
            tiff(&tiled(400_000, 16384, 64, 3, NONE, 64), &[0; 64]),
        ),
        ("one block of 2 GiB", tiff(&tiled(16384, 16384, 64, 3, NONE, 64), &[0; 64])),
        ("a ZSTD frame of zeros without end", tiff(&tiled(65536, 65536, 8, 1, ZSTD, 64), &zstd_of_zeros())),
        ("sides of nine million", tiff(&tiled(9_000_000, 4096, 8, 1, NONE, 64), &[0; 64])),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let before = peak_bytes();
        let refused = problem(&band_of(&path, 1));
        let grown = peak_bytes().saturating_sub(before);
        // By what it declares: before anything was allocated for it.
        assert!(matches!(refused, ReadProblem::TooComplex { .. }), "{name}: {refused}");
        assert!(grown < 256 << 20, "{name}: {grown} bytes");
    }
}

/// The start of a ZSTD frame, then blocks that each stand for 128 KiB of zeros.
fn zstd_of_zeros() -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    // A block header: last, type (1 is one byte repeated), size.
    let block: u32 = (1 << 1) | ((128 << 10) << 3);
    for _ in 0..1000 {
        bytes.extend(&block.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

/// A block within the limit whose few bytes unpack to far more: no more than the block is decoded.
#[test]
fn a_zstd_bomb_fills_its_block_and_no_more() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("bomb.tif");
    let zeros = zstd_of_zeros();
    let tags = [
        (256, 256),
        (257, 256),
        (258, 8),
        (259, 50000),
        (262, 1),
        (277, 1),
        (322, 256),
        (323, 256),
        (324, 0),
        (325, zeros.len() as u32),
        (339, 1),
    ];
    std::fs::write(&path, tiff(&tags, &zeros)).unwrap();
    let crs = Crs::from_canonical("EPSG:32613");
    let affine = Affine::upright((1000.0, 2000.0), 10.0, -10.0);
    let raster = Some(AssetGrid { crs, affine, rows: 256, cols: 256 });
    let asset = Asset { raster, ..Asset::clone(&band_of(&path, 1).asset) };
    let before = peak_bytes();
    let result = pixels(&BandSource::new(Arc::new(asset), 1), native(256, 256));
    assert!(peak_bytes().saturating_sub(before) < 256 << 20);
    // 125 MiB stand in the frame, 64 KiB in the block: what more there is makes it no other block.
    match result {
        Ok(pixels) => assert!(pixels.iter().all(|pixel| *pixel == Some(0.0))),
        Err(error) => assert_eq!(error.class(), ErrorClass::Source, "{error}"),
    }
}

#[test]
fn formats_that_only_an_operator_can_allow() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.zarr");
    std::fs::write(&path, "x").unwrap();
    let asset = Asset { format: Format::Zarr, ..Asset::clone(&band_of(&path, 1).asset) };
    let refused = problem(&BandSource::new(Arc::new(asset), 1));
    assert_eq!(refused, ReadProblem::FormatNotAllowed { format: Format::Zarr });
    assert!(refused.to_string().contains("--allow-format zarr"), "{refused}");
}
