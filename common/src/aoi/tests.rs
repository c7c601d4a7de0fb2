//! The rule and the outline, without PROJ.

use super::*;
use crate::grid::{Lattice, TileSize, Window};

/// Knows two CRSs, in which one unit is one unit.
struct Flat;

impl Transform for Flat {
    fn canonical(&self, text: &str) -> Result<Crs, TransformError> {
        match text {
            "EPSG:4326" | "EPSG:32633" => Ok(Crs::from_canonical(text)),
            _ => Err(TransformError::UnknownCrs { text: text.into(), reason: "made up".into() }),
        }
    }
    fn same(&self, a: &Crs, b: &Crs) -> bool {
        a == b
    }
    fn is_geographic(&self, crs: &Crs) -> Result<bool, TransformError> {
        Ok(crs.as_str() == "EPSG:4326")
    }
    fn points(&self, _: &Crs, _: &Crs, _: &mut [(f64, f64)]) -> Result<(), TransformError> {
        Ok(())
    }
}

fn aoi(bounds: [f64; 4], sampling: Sampling, align_pixels: bool) -> Aoi {
    Aoi {
        geometry: Geometry::default(),
        bounds: Some(bounds),
        bounds_crs: None,
        crs: "EPSG:32633".into(),
        sampling,
        align_pixels,
        all_touched: false,
    }
}

#[test]
fn the_rule_by_examples() {
    let grid = |bounds, sampling, align| {
        let (grid, _) = aoi(bounds, sampling, align).resolve(&Flat, &Limits::default()).unwrap();
        (grid.origin(), (grid.rows(), grid.cols()))
    };
    let res = |r| Sampling::Resolution(r, r);
    assert_eq!(grid([1000.0, 0.0, 2000.0, 500.0], res(10.0), false), ((1000.0, 500.0), (50, 100)));
    assert_eq!(grid([1003.0, 0.0, 2000.0, 500.0], res(10.0), false), ((1003.0, 500.0), (50, 100)));
    assert_eq!(grid([1003.0, -4.0, 2000.0, 497.0], res(10.0), true), ((1000.0, 500.0), (51, 100)));
    assert_eq!(
        grid([1000.0, 0.0, 2000.0, 500.0], Sampling::Shape { rows: 5, cols: 4 }, false),
        ((1000.0, 500.0), (5, 4))
    );
    assert_eq!(grid([1000.0, 0.0, 1001.0, 500.0], res(1000.0), false), ((1000.0, 500.0), (1, 1)));
}

#[test]
fn bad_places_are_refused() {
    let resolve = |aoi: Aoi| aoi.resolve(&Flat, &Limits::default()).map(|_| ());
    let res = Sampling::Resolution(10.0, 10.0);
    assert!(matches!(resolve(aoi([2000.0, 0.0, 1000.0, 500.0], res, false)), Err(AoiError::Bounds { .. })));
    assert!(matches!(resolve(aoi([0.0, 0.0, f64::NAN, 500.0], res, false)), Err(AoiError::Bounds { .. })));
    assert!(matches!(resolve(aoi([10.0, 50.0, 11.0, 51.0], res, false)), Err(AoiError::Degrees { .. })));
    let nowhere = Aoi { bounds: None, ..aoi([0.0; 4], res, false) };
    assert_eq!(resolve(nowhere), Err(AoiError::NoPlace));
    let negative = aoi([1000.0, 0.0, 2000.0, 500.0], Sampling::Resolution(-1.0, 1.0), false);
    assert!(matches!(resolve(negative), Err(AoiError::Grid(GridError::NotFinite { .. }))));
    let huge = aoi([0.0, 0.0, 1e9, 500.0], Sampling::Resolution(0.1, 0.1), false);
    assert!(matches!(resolve(huge), Err(AoiError::Grid(GridError::TooLarge { .. }))));
}

#[test]
fn an_outline_is_the_same_for_every_tiling() {
    let hole = vec![(4.0, 4.0), (8.0, 4.0), (8.0, 8.0), (4.0, 8.0), (4.0, 4.0)];
    let outside = vec![(0.2, 0.3), (20.7, 3.1), (17.0, 19.0), (2.0, 15.5), (0.2, 0.3)];
    let outline = Outline::from_polygons(vec![vec![outside, hole]]);
    let whole = Window { row: -3, col: -3, rows: 27, cols: 27 };
    let all = outline.outside(&whole);
    assert!(all.contains(&0) && all.contains(&1));
    assert_eq!(all[(5 + 3) * 27 + 5 + 3], 1, "the hole");
    let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32633"), (1.0, 1.0), (0.0, 0.0)).unwrap();
    for size in [1, 4, 7] {
        let tiling = Grid::from_window(lattice.clone(), whole).tiling(TileSize::new(size).unwrap());
        for tile in tiling.tiles() {
            let window = tiling.window(tile).unwrap();
            let part = outline.outside(&window);
            for (i, value) in part.iter().enumerate() {
                let (row, col) = (
                    window.row + (i as u32 / window.cols) as i64,
                    window.col + (i as u32 % window.cols) as i64,
                );
                assert_eq!(*value, all[((row + 3) * 27 + col + 3) as usize]);
            }
        }
    }
}

#[test]
fn edges_of_pixels_touch_neither_side() {
    let square = vec![vec![(2.0, 3.0), (6.0, 3.0), (6.0, 5.0), (2.0, 5.0), (2.0, 3.0)]];
    let window = Window { row: 0, col: 0, rows: 8, cols: 8 };
    let inside = |geometry: Geometry, all_touched: bool| {
        let outside = Outline::new(geometry, all_touched).outside(&window);
        outside.iter().filter(|pixel| **pixel == 0).count()
    };
    for all_touched in [false, true] {
        assert_eq!(inside(Geometry::of(vec![square.clone()]), all_touched), 8);
    }
    let moved = vec![square[0].iter().map(|(x, y)| (x + 0.25, y + 0.25)).collect()];
    assert_eq!(inside(Geometry::of(vec![moved.clone()]), false), 8);
    assert_eq!(inside(Geometry::of(vec![moved]), true), 15);
    let line = |line: &[(f64, f64)]| inside(Geometry { polygons: vec![], lines: vec![line.to_vec()] }, true);
    assert_eq!(line(&[(1.5, 1.5)]), 1);
    // On a border: the pixel east and south.
    assert_eq!(line(&[(0.0, 0.0)]), 1);
    assert_eq!(line(&[(8.0, 8.0)]), 0);
    assert_eq!(line(&[(1.5, 1.5), (4.5, 1.5)]), 4);
    assert_eq!(line(&[(1.5, 6.5), (1.5, 2.5)]), 5);
    assert_eq!(line(&[(1.25, 1.5), (2.75, 2.25)]), 3);
}

#[test]
fn geojson_of_every_kind() {
    let read = |text: &str| Geometry::from_geojson(&serde_json::from_str(text).unwrap());
    let ring = "[[0,0],[1,0],[1,1,250],[0,0]]";
    let polygon = format!(r#"{{"type": "Polygon", "coordinates": [{ring}]}}"#);
    let feature = format!(r#"{{"type": "Feature", "properties": null, "geometry": {polygon}}}"#);
    for (text, polygons, lines) in [
        (polygon.clone(), 1, 0),
        (format!(r#"{{"type": "MultiPolygon", "coordinates": [[{ring}], [{ring}, {ring}]]}}"#), 2, 0),
        (feature.clone(), 1, 0),
        (
            format!(
                r#"{{"type": "FeatureCollection", "features": [{feature}, {{"type": "Feature", "geometry": null}}]}}"#
            ),
            1,
            0,
        ),
        (r#"{"type": "LineString", "coordinates": [[0, 0], [1, 1]]}"#.to_owned(), 0, 1),
        (
            r#"{"type": "MultiLineString", "coordinates": [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]}"#.to_owned(),
            0,
            2,
        ),
        (r#"{"type": "MultiPoint", "coordinates": [[0, 0], [1, 1]]}"#.to_owned(), 0, 2),
        (
            format!(
                r#"{{"type": "GeometryCollection", "geometries": [{polygon}, {{"type": "Point", "coordinates": [1, 2]}}]}}"#
            ),
            1,
            1,
        ),
    ] {
        let geometry = read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((geometry.polygons.len(), geometry.lines.len()), (polygons, lines), "{text}");
    }
    let deep = format!(
        "{}{polygon}{}",
        r#"{"type":"GeometryCollection","geometries":["#.repeat(40),
        "]}".repeat(40)
    );
    for (text, says) in [
        ("[]", "`type`"),
        (r#"{"type": "Circle"}"#, "Circle"),
        (r#"{"type": "Polygon"}"#, "no `coordinates`"),
        (r#"{"type": "Polygon", "coordinates": []}"#, "no rings"),
        (r#"{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 0]]]}"#, "at least four"),
        (r#"{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}"#, "equal to the first"),
        (r#"{"type": "Polygon", "coordinates": [[[0], [1, 0], [1, 1], [0]]]}"#, "fewer than two"),
        (r#"{"type": "Polygon", "coordinates": [[["a", 0], [1, 0], [1, 1], [0, 1]]]}"#, "not of numbers"),
        (r#"{"type": "Point", "coordinates": [500000, 4400000]}"#, "WGS 84"),
        (r#"{"type": "LineString", "coordinates": []}"#, "no vertices"),
        (r#"{"type": "FeatureCollection"}"#, "`features`"),
        (r#"{"type": "FeatureCollection", "features": []}"#, "no geometry"),
        (
            r#"{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "X"}}]}"#,
            "features[0].geometry",
        ),
        (&deep, "inside one another"),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
#[cfg(feature = "net")]
fn messages_hold_all_of_an_aoi() {
    let geometry = Geometry {
        polygons: vec![vec![vec![(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)]]],
        lines: vec![vec![(0.5, 0.5)], vec![(0.0, 0.0), (2.0, 1.0)]],
    };
    let area = Aoi {
        geometry,
        all_touched: true,
        bounds_crs: Some("EPSG:4326".into()),
        ..aoi([170.0, -20.0, -170.0, 10.0], Sampling::Shape { rows: 3, cols: 4 }, true)
    };
    assert_eq!(crate::wire::aoi_from(&crate::wire::aoi_to(&area)), Ok(area));
}
