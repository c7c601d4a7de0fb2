//! Layers in other programs: TileJSON as its specification has it, WMTS and XYZ through GDAL's own drivers.

use std::path::Path;
use std::process::Command;

use graticule_common::aoi::xyz::{HALF_WORLD, XyzTile};
use graticule_tests::rest::Reply;
use serde_json::Value;

use super::tiles::{MIDDLE, World, at, encoded, ndvi, picture};

/// Runs a program of GDAL; what it printed.
fn gdal(program: &str, arguments: &[&str]) -> String {
    // What it has asked for is kept where it runs: it is to ask anew, and to leave nothing here.
    let place = tempfile::TempDir::new().expect("a folder");
    let done = Command::new(program)
        .args(arguments)
        .env("GDAL_HTTP_TIMEOUT", "60")
        .current_dir(place.path())
        .output();
    let done = done.unwrap_or_else(|error| panic!("{program} (gdal-bin) is installed: {error}"));
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Red, green, blue and alpha of a part of a map, from its upper left pixel, as GDAL reads it.
fn through_gdal(map: &str, folder: &Path, [col, row]: [f64; 2], side: u32) -> Vec<[u8; 4]> {
    let out = folder.join("part.png");
    let out = out.to_str().expect("a path");
    let (col, row, side) = (col.to_string(), row.to_string(), side.to_string());
    gdal("gdal_translate", &["-q", "-of", "PNG", "-srcwin", &col, &row, &side, &side, map, out]);
    let body = std::fs::read(out).expect("what it wrote").into();
    let headers = [("content-type", "image/png")].map(|(name, value)| {
        (name.parse::<http::header::HeaderName>().expect("a name"), value.parse().expect("a value"))
    });
    picture(&Reply { status: 200, headers: headers.into_iter().collect(), body }).1
}

/// Compares a map with the tiles of two by two neighbours, from the upper left one at this zoom.
async fn compare(world: &World, map: &str, folder: &Path, layer: &str, style: &str, origin: [f64; 2]) {
    let (zoom, x, y) = at(14, MIDDLE);
    let resolution = XyzTile::new(zoom, x, y).expect("a tile").resolution(256);
    // Where the tile begins on the map, whose pixels are those of this zoom.
    let [west, _, _, north] = XyzTile::new(zoom, x, y).expect("a tile").bounds();
    let corner = [(west - origin[0]) / resolution, (origin[1] - north) / resolution].map(f64::round);
    let map = map.to_owned();
    let folder = folder.to_owned();
    let read = tokio::task::spawn_blocking(move || through_gdal(&map, &folder, corner, 512));
    let read = read.await.expect("GDAL reads it");
    let mut shown = 0;
    for (row, col) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let path = format!("/layers/{layer}/tile/{zoom}/{}/{}.png?{style}", x + col, y + row);
        let tile = picture(&world.site.get(&path).await).1;
        for (at, pixel) in tile.iter().enumerate() {
            let place = (row as usize * 256 + at / 256) * 512 + col as usize * 256 + at % 256;
            // What is not seen has no colour that counts.
            let seen = |pixel: [u8; 4]| if pixel[3] == 0 { [0; 4] } else { pixel };
            assert_eq!(seen(read[place]), seen(*pixel), "pixel {at} of tile {row}, {col}");
            shown += usize::from(pixel[3] == 255);
        }
    }
    assert!(shown > 10_000, "{shown} pixels are seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn gdal_reads_the_tiles_over_wmts_and_xyz() {
    let world = World::start().await;
    let layer = world.site.layer(&ndvi()).await;
    let folder = tempfile::TempDir::new().unwrap();
    let style = format!("scales={}&colormap=RdYlGn&quality=exact", encoded("[[0.1, 0.7]]"));
    let base = format!("http://{}/layers/{layer}", world.site.address);

    // The zoom level of the comparison is a level of the pyramid that GDAL makes of it.
    let wmts = format!("WMTS:{base}/wmts?{style},tilematrix=14,extendbeyonddateline=NO");
    let report: Value = {
        let wmts = wmts.clone();
        let asking = tokio::task::spawn_blocking(move || gdal("gdalinfo", &["-json", &wmts]));
        serde_json::from_str(&asking.await.unwrap()).unwrap()
    };
    assert!(report["coordinateSystem"]["wkt"].as_str().unwrap().contains("3857"), "{report}");
    let numbers: Vec<f64> = serde_json::from_value(report["geoTransform"].clone()).unwrap();
    let resolution = XyzTile::new(14, 0, 0).unwrap().resolution(256);
    assert!((numbers[1] / resolution - 1.0).abs() < 1e-6, "{numbers:?} for {resolution}");
    compare(&world, &wmts, folder.path(), &layer, &style, [numbers[0], numbers[3]]).await;

    let description = folder.path().join("xyz.xml");
    let escaped = style.replace('&', "&amp;");
    let text = format!(
        "<GDAL_WMS><Service name=\"TMS\"><ServerUrl>{base}/tile/${{z}}/${{x}}/${{y}}.png?{escaped}</ServerUrl></Service>
         <DataWindow><UpperLeftX>-{HALF_WORLD}</UpperLeftX><UpperLeftY>{HALF_WORLD}</UpperLeftY>
         <LowerRightX>{HALF_WORLD}</LowerRightX><LowerRightY>-{HALF_WORLD}</LowerRightY>
         <TileLevel>14</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY><YOrigin>top</YOrigin>
         </DataWindow><Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY>
         <BandsCount>4</BandsCount></GDAL_WMS>"
    );
    std::fs::write(&description, text).unwrap();
    let map = description.to_str().unwrap();
    compare(&world, map, folder.path(), &layer, &style, [-HALF_WORLD, HALF_WORLD]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_says_where_its_tiles_are() {
    let world = World::start().await;
    let layer = world.site.layer(&ndvi()).await;
    let reply = world.site.get(&format!("/layers/{layer}/tilejson.json?colormap=magma")).await;
    let document = reply.json();
    assert_eq!((reply.status, &document["tilejson"]), (200, &"3.0.0".into()));
    let [west, south, east, north] = serde_json::from_value::<[f64; 4]>(document["bounds"].clone()).unwrap();
    let (lon, lat) = MIDDLE;
    assert!(west < lon && lon < east && south < lat && lat < north && east - west < 1.0, "{document}");
    let zoom = document["maxzoom"].as_u64().unwrap();
    assert!((14..=20).contains(&zoom), "{document}");
    let template = document["tiles"][0].as_str().unwrap();
    assert!(template.contains("stretch=layer") && template.contains("colormap=magma"), "{template}");
    let (z, x, y) = at(13, MIDDLE);
    let path = template.strip_prefix(&format!("http://{}", world.site.address)).unwrap();
    let path =
        path.replace("{z}", &z.to_string()).replace("{x}", &x.to_string()).replace("{y}", &y.to_string());
    let tile = world.site.get(&path).await;
    assert_eq!(tile.status, 200);
    // The same tile as a call of WMTS.
    let call = format!(
        "/layers/{layer}/wmts?SERVICE=WMTS&REQUEST=GetTile&VERSION=1.0.0&LAYER=layer&STYLE=default\
         &TileMatrixSet=WebMercatorQuad&TileMatrix={z}&TileRow={y}&TileCol={x}&FORMAT=image/png&colormap=magma"
    );
    assert_eq!(world.site.get(&call).await.body, tile.body);
    for (rest, status) in [("REQUEST=GetFeatureInfo", 400), ("request=GetTile", 400), ("colormap=x", 400)] {
        let reply = world.site.get(&format!("/layers/{layer}/wmts?{rest}")).await;
        assert_eq!(reply.status, status, "{rest}");
        assert_eq!(reply.json()["code"], "invalid_request", "{rest}");
    }
    let legend = world.site.get(&format!("/layers/{layer}/legend.png?stretch=layer")).await;
    assert_eq!((legend.status, legend.header("content-type")), (200, "image/png"));
    let maps = world.site.get("/colormaps").await.json();
    let viridis = maps.as_array().unwrap().iter().find(|map| map["name"] == "viridis").unwrap();
    assert_eq!((&viridis["colors"][0], &viridis["colors"][15]), (&"#440154".into(), &"#fde724".into()));
}
