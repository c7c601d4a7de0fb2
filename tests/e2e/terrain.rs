//! Slope and aspect of real elevations, against GDAL's own program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gdal::Dataset;
use graticule_common::block::Samples;
use graticule_common::transform::Proj;
use graticule_coordinator::catalog::LocalCatalog;
use graticule_tests::client::{request, with};
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::colorado::source;
use graticule_tests::world::folder;
use serde_json::json;

/// What `gdaldem` makes of a file: values by row; -9999 where there is none.
fn gdaldem(mode: &str, file: &Path, out: &Path) -> Vec<f32> {
    let done = Command::new("gdaldem").arg(mode).arg(file).arg(out).arg("-q").status();
    assert!(done.expect("gdaldem is installed").success());
    let file = Dataset::open(out).expect("what it wrote");
    file.rasterband(1).expect("a band").read_band_as::<f32>().expect("pixels").data().to_vec()
}

/// Differences: `gdaldem` sums elevations in single precision, whose last place is 0.0001 m for those
/// of mountains. A direction is the less certain the flatter the ground is.
const TOLERANCE_DEGREES: f32 = 5e-3;

async fn compare(product: &str, file: PathBuf, tile_sizes: [u32; 2]) {
    let out = tempfile::TempDir::new().unwrap();
    let catalog = LocalCatalog::open(&out.path().join("data")).unwrap();
    catalog.add(&file.parent().unwrap().join("stac"), &Proj::new()).unwrap();
    let cluster = Cluster::start(Setup::new(2, Arc::new(catalog), source())).await;
    let dataset = Dataset::open(&file).unwrap();
    let [x, width, _, y, _, height] = dataset.geo_transform().unwrap();
    let (cols, rows) = dataset.raster_size();
    let crs = dataset.spatial_ref().unwrap().to_wkt().unwrap();
    let bounds = [x, y + height * rows as f64, x + width * cols as f64, y];
    let mut slopes = Vec::new();
    for mode in ["slope", "aspect"] {
        let graft = json!({
            "product": product, "band": "elevation", "returns": "result",
            "dem": ["mosaic", "product", "band"], "result": [mode, "dem"],
        });
        let request = request(&graft.to_string(), &crs, bounds, width);
        let answers = tile_sizes.map(|size| with(request.clone(), |options| options.tile_size = size));
        let mut blocks = Vec::new();
        for request in &answers {
            blocks.push(cluster.compute(request).await.unwrap().block);
        }
        assert_eq!(blocks[0].encode(), blocks[1].encode(), "{mode} of {product}");
        let expected = gdaldem(mode, &file, &out.path().join(mode));
        let Samples::F32(values) = blocks[0].samples() else { panic!("numbers") };
        assert_eq!((values.len(), rows * cols), (expected.len(), expected.len()));
        let (mut worst, mut valid) = (0.0_f32, 0);
        for (at, ((value, ok), expected)) in values.iter().zip(blocks[0].valid()).zip(&expected).enumerate() {
            assert_eq!(*ok == 1, *expected != -9999.0, "{mode} of {product}, pixel {at}");
            if *ok == 1 {
                let off = (value - expected).abs();
                worst = worst.max(match mode {
                    "slope" => off,
                    _ => off.min(360.0 - off) * f32::to_radians(slopes[at]).sin(),
                });
                valid += 1;
            }
        }
        println!("{mode} of {product}: {valid} pixels, at most {worst} degrees from gdaldem");
        slopes.clone_from(values);
        assert!(valid > expected.len() / 4 && worst <= TOLERANCE_DEGREES, "{mode} of {product}: {worst}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ../shared"]
async fn shared_elevations_have_the_slope_and_aspect_of_gdaldem() {
    let data = folder("../../shared/data");
    compare("dem-swiss", data.join("dem-swiss/dem.tif"), [512, 64]).await;
    compare("dem-olinda", data.join("dem-olinda/olinda_dem_utm25s.tif"), [512, 16]).await;
}
