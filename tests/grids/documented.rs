//! The tables of `docs/grids.md`.

use graticule_common::aoi::{Aoi, Sampling};
use graticule_tests::world::folder;

use crate::{aoi, resolution, resolve};

/// Rows of the table whose last column has this head.
fn table(last: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(folder("../docs/grids.md")).expect("docs/grids.md");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text.lines().skip_while(|line| {
        let cells = cells(line);
        !(cells.first().is_some_and(|cell| cell == "crs") && cells.last().is_some_and(|cell| cell == last))
    });
    lines.by_ref().take(2).for_each(drop);
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn numbers(cell: &str) -> Vec<f64> {
    cell.split(',').map(|number| number.trim().parse().expect("a number")).collect()
}

fn aoi_of(row: &[String]) -> Aoi {
    let sampling = match (row[3].as_str(), row[4].as_str()) {
        ("-", shape) => {
            let shape = numbers(shape);
            Sampling::Shape { rows: shape[0] as u64, cols: shape[1] as u64 }
        }
        (size, "-") => match numbers(size)[..] {
            [x, y] => Sampling::Resolution(x, y),
            _ => resolution(numbers(size)[0]),
        },
        _ => panic!("a row has a resolution or a shape: {row:?}"),
    };
    let bounds = numbers(&row[1]).try_into().expect("four numbers");
    Aoi {
        bounds_crs: Some(row[2].clone()).filter(|crs| crs != "-"),
        align_pixels: row[5] == "yes",
        ..aoi(&row[0], bounds, sampling)
    }
}

#[test]
fn every_documented_grid_is_made() {
    let rows = table("cols");
    assert!(rows.len() >= 15, "the table is there");
    for row in rows {
        let (grid, _) = resolve(&aoi_of(&row)).unwrap_or_else(|error| panic!("{row:?}: {error}"));
        let (x, y) = grid.origin();
        let size = (grid.rows().to_string(), grid.cols().to_string());
        assert_eq!((&size.0, &size.1), (&row[8], &row[9]), "{row:?}: {grid}");
        let (expect_x, expect_y) = (numbers(&row[6])[0], numbers(&row[7])[0]);
        // Projected numbers are written to a millimetre.
        let tolerance = if row[2] == "-" || row[2] == row[0] { 1e-9 * expect_x.abs() } else { 1e-3 };
        assert!((x - expect_x).abs() <= tolerance && (y - expect_y).abs() <= tolerance, "{row:?}: {grid}");
    }
}

#[test]
fn every_documented_refusal_says_so() {
    let rows = table("says");
    assert!(rows.len() >= 12, "the table is there");
    for row in rows {
        let error = resolve(&aoi_of(&row)).expect_err(&format!("{row:?}"));
        assert!(error.to_string().contains(&row[6]), "{row:?}: {error}");
    }
}
