//! Rasters of a server read through GDAL as local ones do, or not at all.

use graticule_common::file::Inspect;

use super::super::super::remote::tests::{Answer, Server};
use super::*;

/// A tiled file larger than what is fetched of its head.
fn raster(dir: &TempDir) -> (PathBuf, Vec<u8>) {
    let stored: Vec<u16> = (0..256 * 256u32).map(|i| (i * 7 % 65521) as u16).collect();
    let tif = Tif { options: &["TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"], ..Tif::default() };
    let path = tif.write(dir, 256, &[stored]);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

fn read(source: &GdalSource, server: &Server, version: &str) -> Result<(ReadStats, Vec<f32>), ReadError> {
    let asset = Asset::new("B04", SourceRef::Http(server.url()), version);
    let (band, lattice) = (BandSource::new(Arc::new(asset), 1), lattice(10.0));
    let window = native(256, 256);
    let (mut samples, mut valid) = (vec![0.0; window.pixels()], vec![0; window.pixels()]);
    let stats = source.read(&read_with(&band, &lattice, window), &mut samples, &mut valid)?;
    assert!(valid.iter().all(|ok| *ok == 1));
    Ok((stats, samples))
}

fn source_of(server: &Server) -> GdalSource {
    GdalSource::with_remote(Arc::new(CodeOnly), server.remote())
}

#[test]
fn a_good_file_reads_as_the_local_one() {
    let dir = TempDir::new().unwrap();
    let (path, bytes) = raster(&dir);
    let local: Vec<f32> =
        pixels(&band_of(&path, 1), native(256, 256)).unwrap().into_iter().flatten().collect();
    let server = Server::start(bytes, |_, _| Answer::Good);
    let source = source_of(&server);
    let (stats, samples) = read(&source, &server, "\"one\"").unwrap();
    assert_eq!((stats.opened, &samples), (1, &local));
    // The handle is kept, for the contents are known by a version. Without one it is not.
    assert_eq!(read(&source, &server, "\"one\"").unwrap().0.opened, 0);
    assert_eq!(read(&source, &server, "").unwrap().0.opened, 1);
    assert_eq!(read(&source, &server, "").unwrap(), (ReadStats { bytes: 131_072, opened: 1 }, local));
    let asset = Asset::new("B04", SourceRef::Http(server.url()), "");
    let info = source.inspect(&asset, true).unwrap();
    assert_eq!((info.version.as_str(), info.shape), ("\"one\"", (256, 256)));
}

#[test]
fn failures_on_the_way_are_no_pixels() {
    let dir = TempDir::new().unwrap();
    let (_, bytes) = raster(&dir);
    let (gone, faulty) = (ErrorClass::Unavailable, ErrorClass::Source);
    for (bad, class) in [
        (Answer::Status(503), gone),
        (Answer::Status(429), gone),
        (Answer::Cut, gone),
        (Answer::Silence, gone),
        (Answer::Status(404), faulty),
        (Answer::Status(403), faulty),
        (Answer::Less, faulty),
        (Answer::Tagged("\"two\""), faulty),
        (Answer::Whole, faulty),
    ] {
        let shown = format!("{bad:?}");
        let server =
            Server::start(bytes.clone(), move |n, _| if n == 0 { Answer::Good } else { bad.clone() });
        let error = read(&source_of(&server), &server, "\"one\"").unwrap_err();
        assert_eq!(error.class(), class, "{shown}: {error}");
        assert!(!matches!(error.problem, ReadProblem::Corrupt { .. }), "{shown}: {error}");
        // The address stands in the message, a signature in it does not.
        assert!(error.to_string().contains("/scene/B04.tif`"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let twice = Server::start(bytes, |n, _| if n % 3 < 2 { Answer::Status(503) } else { Answer::Good });
    assert!(read(&source_of(&twice), &twice, "\"one\"").is_ok());
}

#[test]
fn what_is_not_read_from_servers() {
    let dir = TempDir::new().unwrap();
    let (_, bytes) = raster(&dir);
    let server = Server::start(bytes, |_, _| Answer::Good);
    let source = source_of(&server);
    let problem = |asset: Asset| {
        let (band, lattice) = (BandSource::new(Arc::new(asset), 1), lattice(10.0));
        read_all(&source, &read_with(&band, &lattice, native(1, 1))).unwrap_err().problem
    };
    let asset = Asset::new("B04", SourceRef::Http(server.url()), "");
    let vrt = Asset { format: graticule_common::scene::Format::Vrt, ..asset.clone() };
    assert!(matches!(problem(vrt), ReadProblem::RemoteFormat { .. }));
    let beside = Asset { sidecars: vec!["B04.tif.msk".to_owned()], ..asset };
    assert!(matches!(problem(beside), ReadProblem::Sidecar { .. }));
    assert_eq!(server.count(), 0);
    // A name of our file system that nobody mounted, as a file might hold it.
    for name in ["/vsigraticule/999999", "/vsigraticule/", "/vsigraticule/x"] {
        assert!(Dataset::open(name).is_err(), "{name}");
    }
}
