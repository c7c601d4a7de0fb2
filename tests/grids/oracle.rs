//! What `make.py` wrote.

use graticule_common::aoi::{Aoi, Geometry, Sampling};
use graticule_common::grid::TileSize;
use graticule_tests::world::{json, npz};
use ndarray::Array2;
use serde_json::Value;

use crate::{aoi, resolve};

fn aoi_of(case: &Value) -> Aoi {
    let number = |key: &str, at: usize| case[key][at].as_f64().expect("a number");
    let sampling = if case["shape"].is_array() {
        Sampling::Shape { rows: number("shape", 0) as u64, cols: number("shape", 1) as u64 }
    } else {
        Sampling::Resolution(number("resolution", 0), number("resolution", 1))
    };
    let bounds = std::array::from_fn(|at| number("bounds", at));
    Aoi {
        bounds_crs: case["bounds_crs"].as_str().map(str::to_owned),
        align_pixels: case["align"].as_bool().expect("align"),
        all_touched: case["all_touched"].as_bool().unwrap_or(false),
        geometry: match &case["geometry"] {
            Value::Null => Geometry::default(),
            geometry => Geometry::from_geojson(geometry).expect("a geometry"),
        },
        ..aoi(case["crs"].as_str().expect("a CRS"), bounds, sampling)
    }
}

#[test]
fn bounds_become_the_grids_that_gdal_makes_of_them() {
    let cases = json("grids/cases.json");
    let cases = cases["bounds"].as_array().expect("cases");
    assert!(cases.len() >= 60, "the cases are there");
    let mut wrong = Vec::new();
    for case in cases {
        let expect = |key: &str| case["grid"][key].as_f64().expect("a number");
        match resolve(&aoi_of(case)) {
            Err(error) => wrong.push(format!("{case}: {error}")),
            Ok((grid, _)) => {
                let ((x, y), (res_x, res_y)) = (grid.origin(), grid.lattice().resolution());
                let is_size =
                    f64::from(grid.rows()) == expect("rows") && f64::from(grid.cols()) == expect("cols");
                // Versions of PROJ differ by less than this.
                let off = ((x - expect("x")) / res_x).abs().max(((y - expect("y")) / res_y).abs());
                if !is_size || off > 0.01 {
                    wrong.push(format!("{case}: {grid}, {off} pixels off"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn outlines_hold_the_pixels_that_gdal_burns_whatever_the_tiles() {
    let cases = json("grids/cases.json");
    let cases = cases["outlines"].as_array().expect("cases");
    let mut masks = npz("grids/masks.npz");
    assert!(cases.len() >= 25, "the cases are there");
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let expected: Array2<bool> = masks.by_name(name).expect("a mask");
        let (grid, outline) = resolve(&aoi_of(case)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let outline = outline.expect("an outline");
        let window = grid.window();
        assert_eq!(expected.dim(), (window.rows as usize, window.cols as usize), "{name}");
        let outside = outline.outside(&window);
        let is_inside = |value: &u8| *value == 0;
        assert!(outside.iter().any(is_inside) && !outside.iter().all(is_inside), "{name} has both");
        let differ = outside.iter().zip(&expected).filter(|(is, expected)| (**is == 1) != **expected).count();
        if differ as u64 > case["differ"].as_u64().expect("a number") {
            wrong.push(format!("{name}: {differ} of {} pixels differ", outside.len()));
        }
        for size in [5, 32, 64] {
            let tiling = grid.tiling(TileSize::new(size).expect("a size"));
            for tile in tiling.tiles() {
                let part = tiling.window(tile).expect("a window");
                let values = outline.outside(&part);
                assert_eq!(outline.reaches(&part), values.contains(&0), "{name} {tile}");
                for (line, row) in values.chunks_exact(part.cols as usize).zip(part.row..) {
                    let at =
                        (row - window.row) as usize * window.cols as usize + (part.col - window.col) as usize;
                    assert_eq!(line, &outside[at..at + line.len()], "{name} {tile}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
