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
