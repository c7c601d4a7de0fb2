//! A world without files: a catalog of a few scenes whose pixels are a formula, and grids on one lattice.

use std::collections::BTreeMap;
use std::sync::Arc;

use graticule_common::block::{Block, Samples};
use graticule_common::expr::Expr;
use graticule_common::grid::{Crs, Grid, Lattice, Window};
use graticule_common::hash::Hasher;
use graticule_common::ops::Answer;
use graticule_common::plan::Read;
use graticule_common::scene::{
    Affine, Asset, AssetGrid, BandSource, Product, Properties, Scene, SceneQuery, SourceRef, Timestamp,
};

/// Products with their bands.
pub const PRODUCTS: &[(&str, &[&str])] = &[("p", &["a", "b", "c"]), ("q", &["x", "y"]), ("r", &["a"])];

/// Product, id, date, and where the scene lies: row, col, rows, cols.
pub const SCENES: &[(&str, &str, &str, [i64; 4])] = &[
    ("p", "p0", "2020-01-01", [-20, 240, 60, 60]),
    ("p", "p1", "2020-02-01", [-5, 250, 6, 5]),
    ("p", "p2", "2020-03-01", [0, 256, 40, 40]),
    ("p", "p3", "2020-04-01", [500, 500, 4, 4]),
    ("p", "p4", "2020-05-01", [-4, 252, 1, 30]),
    ("q", "q0", "2020-01-15", [-20, 240, 60, 60]),
    ("q", "q1", "2020-03-15", [1, 250, 3, 9]),
    ("r", "r0", "2020-02-15", [-2, 251, 10, 10]),
];

/// Time ranges that grafts ask for; some hold no scene.
pub const RANGES: &[(Option<&str>, Option<&str>)] = &[
    (None, None),
    (Some("2020-01-01"), Some("2020-03-01T00:00:00")),
    (Some("2020-02-01"), None),
    (None, Some("2020-01-10T12:00:00+02:00")),
    (Some("2030-01-01"), None),
];

/// Windows of the grids. The first two see the same scenes, the last sees none.
const GRIDS: &[[i64; 4]] = &[[-5, 250, 13, 11], [-7, 248, 17, 20], [2, 255, 6, 9], [900, 900, 3, 4]];

/// Number of grids.
pub const GRID_COUNT: usize = GRIDS.len();

fn crs() -> Crs {
    Crs::from_canonical("EPSG:32633")
}

fn window([row, col, rows, cols]: [i64; 4]) -> Window {
    Window { row, col, rows: rows as u32, cols: cols as u32 }
}

fn lattice() -> Lattice {
    Lattice::try_new(crs(), (10.0, 10.0), (3.0, -4.0)).expect("a lattice")
}

/// One of the grids.
pub fn grid(index: usize) -> Grid {
    Grid::from_window(lattice(), window(GRIDS[index]))
}

fn in_range(query: &SceneQuery, at: Timestamp) -> bool {
    query.start.is_none_or(|start| start <= at) && query.end.is_none_or(|end| at < end)
}

/// Ids of the images that a selection has on a grid.
pub fn images(product: &str, range: (Option<&str>, Option<&str>), grid: &Grid) -> Vec<&'static str> {
    let instant = |text: Option<&str>| text.and_then(Timestamp::parse);
    let (start, end) = (instant(range.0), instant(range.1));
    let query = SceneQuery { start, end, ..SceneQuery::all(product) };
    let found = SCENES.iter().filter(|(of, _, date, place)| {
        *of == product
            && in_range(&query, Timestamp::parse(date).expect("a date"))
            && window(*place).intersect(&grid.window()).is_some()
    });
    found.map(|(_, id, ..)| *id).collect()
}

/// Date of an image.
pub fn date(id: &str) -> &'static str {
    SCENES.iter().find(|(_, known, ..)| *known == id).expect("an image").2
}

/// Its share of clouds, where it is known.
pub fn cloud(id: &str) -> Option<f64> {
    let at = SCENES.iter().position(|(_, known, ..)| *known == id).expect("an image");
    [Some(0.0), Some(0.25), None, Some(0.5)][at % 4]
}

/// What the catalog answers to an expression's queries; `None` for a product that does not exist.
pub fn answers(expr: &Expr) -> Option<BTreeMap<SceneQuery, Answer>> {
    let queries = expr.scene_queries().ok()?;
    queries.into_iter().map(|(query, _)| answer(&query).map(|answer| (query, answer))).collect()
}

/// The images that an expression names; `None` for one that does not exist.
pub fn named_images(expr: &Expr) -> Option<BTreeMap<String, Scene>> {
    let known: Vec<Scene> = PRODUCTS
        .iter()
        .filter_map(|(id, _)| answer(&SceneQuery::all(*id)).map(|answer| answer.scenes))
        .flatten()
        .collect();
    let find = |id: &String| known.iter().find(|scene| scene.id == *id).cloned();
    let ids = expr.image_ids().ok()?;
    ids.into_iter().map(|(id, _)| find(&id).map(|scene| (id, scene))).collect()
}

fn answer(query: &SceneQuery) -> Option<Answer> {
    let (id, bands) = PRODUCTS.iter().find(|(id, _)| *id == query.product)?;
    let scenes = SCENES.iter().filter(|(of, ..)| of == id).map(|(of, name, date, place)| {
        let (place, lattice) = (window(*place), lattice());
        let raster = AssetGrid {
            crs: crs(),
            affine: Affine::upright((lattice.x(place.col as f64), lattice.y(place.row as f64)), 10.0, -10.0),
            rows: place.rows,
            cols: place.cols,
        };
        let source = SourceRef::Synthetic((*name).into());
        let asset = Arc::new(Asset { raster: Some(raster), ..Asset::new("data", source, "1") });
        let source = |band: u32| BandSource { sample_bytes: Some(4), ..BandSource::new(asset.clone(), band) };
        let mut properties: Properties =
            [("id".to_owned(), (*name).into()), ("acquired".to_owned(), (*date).into())].into();
        properties.extend(cloud(name).map(|cloud| ("cloud_fraction".to_owned(), cloud.into())));
        Scene {
            id: (*name).into(),
            product: (*of).into(),
            acquired: Timestamp::parse(date).expect("a date"),
            properties: Arc::new(properties),
            bands: bands.iter().map(|band| (*band).to_owned()).zip((1..).map(source)).collect(),
        }
    });
    let names = bands.iter().map(|band| (*band).to_owned()).collect();
    let product = Product { scenes: scenes.clone().count() as u64, ..Product::new(*id, names) };
    let asked = |scene: &Scene| {
        in_range(query, scene.acquired)
            && query.predicate.as_ref().is_none_or(|predicate| predicate.holds(&scene.properties))
    };
    Some(Answer { product, scenes: scenes.filter(asked).collect() })
}

/// Pixels of a read. What stands under an invalid pixel depends on the window: it must never matter.
pub fn read(read: &Read, image: Option<u32>, window: &Window) -> Block {
    let (scenes, kind) = read.images(image);
    let (mut samples, mut valid): (Vec<f32>, Vec<u8>) = Default::default();
    for (at, source) in scenes.iter().flat_map(|scene| &scene.bands).enumerate() {
        // In a mosaic every scene meets the planes of the one before it.
        let plane = (at % kind.planes()) * window.pixels();
        let SourceRef::Synthetic(name) = &source.asset.source else { panic!("a file in a made-up world") };
        let (.., place) = SCENES.iter().find(|(_, id, ..)| id == name).expect("a scene");
        let place = self::window(*place);
        for row in window.row..window.row_end() {
            for col in window.col..window.col_end() {
                let here = Window { row, col, rows: 1, cols: 1 };
                let pixel = pixel(name, source.band, row, col).filter(|_| place.intersect(&here).is_some());
                let garbage = if window.rows.is_multiple_of(2) { f32::NAN } else { window.col as f32 };
                let to =
                    plane + ((row - window.row) as u32 * window.cols + (col - window.col) as u32) as usize;
                if to == samples.len() {
                    samples.push(pixel.unwrap_or(garbage));
                    valid.push(u8::from(pixel.is_some()));
                } else if let Some(pixel) = pixel {
                    (samples[to], valid[to]) = (pixel, 1);
                }
            }
        }
    }
    // A mosaic of no scene.
    samples.resize(kind.planes() * window.pixels(), f32::NAN);
    valid.resize(kind.planes() * window.pixels(), 0);
    Block::new(kind, (window.rows, window.cols), Samples::F32(samples), valid)
}

/// A pixel of the formula: small numbers, zeros of both signs, fractions, now and then a number at the
/// end of the range; a quarter has no value.
fn pixel(name: &str, band: u32, row: i64, col: i64) -> Option<f32> {
    let digest = Hasher::new("pixel").str(name).int(band.into()).int(row).int(col).finish();
    let [first, second, third, ..] = *digest.as_bytes();
    let small = f32::from(second % 11) - 5.0;
    match first % 4 {
        0 => None,
        1 => Some(small),
        2 => Some(small / 8.0 + f32::from(third) / 64.0),
        _ => Some(match third % 16 {
            0 => f32::INFINITY,
            1 => f32::NEG_INFINITY,
            2 => 3e38,
            3 => -3e38,
            4 => -0.0,
            5 => 1e-40,
            6 | 7 => 0.0,
            _ => small,
        }),
    }
}
