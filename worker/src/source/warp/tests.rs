use graticule_common::grid::Crs;
use graticule_common::scene::Affine;

use super::*;

fn lattice(res: f64, phase: (f64, f64)) -> Lattice {
    Lattice::try_new(Crs::from_canonical("EPSG:32613"), (res, res), phase).expect("a lattice")
}

/// A file of 3 × 4 pixels of 10 m whose west edge is at 100, between y = 170 and y = 200.
fn file(north_up: bool) -> AssetGrid {
    let (y, step_y) = if north_up { (200.0, -10.0) } else { (170.0, 10.0) };
    let crs = Crs::from_canonical("EPSG:32613");
    AssetGrid { crs, affine: Affine::upright((100.0, y), 10.0, step_y), rows: 3, cols: 4 }
}

/// Row and column of the nearest stored pixel of each pixel of a window.
fn nearest(lattice: &Lattice, window: &Window, file: &AssetGrid) -> Vec<Option<(u32, u32)>> {
    let to_stored = ToStored::new(file, false).expect("an affine with an inverse");
    let (places, nearest) = (Places::same_crs(lattice, window, &to_stored), Nearest::new(file));
    let (mut us, mut vs) = (vec![0.0; window.cols as usize], vec![0.0; window.cols as usize]);
    let mut pixels = Vec::new();
    for row in 0..window.rows {
        places.row(row, 0..window.cols, CENTRE, &mut us, &mut vs);
        pixels.extend(us.iter().zip(&vs).map(|(u, v)| nearest.of(*u, *v)));
    }
    pixels
}

#[test]
fn aligned_windows_map_one_to_one() {
    let window = Window { row: -21, col: 9, rows: 5, cols: 6 };
    for north_up in [true, false] {
        let found = nearest(&lattice(10.0, (0.0, 0.0)), &window, &file(north_up));
        for (at, pixel) in found.into_iter().enumerate() {
            let (row, col) = (at as i64 / 6 - 1, at as i64 % 6 - 1);
            let is_inside = (0..3).contains(&row) && (0..4).contains(&col);
            let stored_row = if north_up { row } else { 2 - row };
            assert_eq!(pixel, is_inside.then_some((stored_row as u32, col as u32)), "{row} {col}");
        }
    }
}

#[test]
fn edges_belong_to_the_east_and_the_south() {
    // Pixels of 20 m: every centre lies on an edge between two stored pixels.
    let window = Window { row: -10, col: 4, rows: 1, cols: 4 };
    for (north_up, error) in [(true, -1e-9), (true, 0.0), (true, 1e-9), (false, 0.0), (false, 1e-9)] {
        let mut file = file(north_up);
        file.affine.origin.0 += error;
        file.affine.origin.1 += error;
        let found = nearest(&lattice(20.0, (0.0, 0.0)), &window, &file);
        assert_eq!(found, [None, Some((1, 1)), Some((1, 3)), None], "{north_up} {error}");
    }
    // The northern edge of the file belongs to its first row, the southern one to nobody.
    let edges = Window { row: -21, col: 9, rows: 4, cols: 1 };
    for north_up in [true, false] {
        let south = |row: u32| Some((if north_up { row } else { 2 - row }, 0));
        let found = nearest(&lattice(10.0, (5.0, -5.0)), &edges, &file(north_up));
        assert_eq!(found, [south(0), south(1), south(2), None], "north up: {north_up}");
    }
}

#[test]
fn far_away_is_outside() {
    let window = Window { row: 1 << 40, col: -(1 << 40), rows: 2, cols: 2 };
    assert_eq!(nearest(&lattice(10.0, (0.0, 0.0)), &window, &file(true)), [None; 4]);
}

/// Places from cells are those of PROJ, one by one, within the tolerance and rounding.
#[cfg(feature = "gdal")]
#[test]
fn cells_err_less_than_they_promise() {
    use graticule_common::transform::Proj;

    let proj = Proj::new();
    let crs = |text: &str| proj.canonical(text).expect("a CRS");
    let sinusoidal = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs";
    for (from, affine, to, res, corner) in [
        ("EPSG:32632", Affine::upright((6e5, 5.3e6), 10.0, -10.0), "EPSG:32633", 10.0, (1.6e5, 5.25e6)),
        (sinusoidal, Affine::upright((-6e6, -1.2e6), 1000.0, -1000.0), "EPSG:4326", 0.01, (-56.0, -11.0)),
        ("EPSG:4326", Affine::upright((-180.0, 90.0), 0.01, -0.01), "EPSG:3413", 1000.0, (-2e5, 1e5)),
        ("EPSG:4326", Affine::upright((0.0, 90.0), 0.25, -0.25), "EPSG:3857", 30_000.0, (-6e5, 9e6)),
        ("EPSG:4267", Affine::upright((-100.0, 45.0), 0.001, -0.001), "EPSG:32614", 100.0, (4e5, 4.9e6)),
    ] {
        let file = AssetGrid { crs: crs(from), affine, rows: 4000, cols: 4000 };
        let lattice = Lattice::try_new(crs(to), (res, res), (0.3 * res, 0.0)).expect("a lattice");
        let (row, col) = (lattice.row(corner.1) as i64, lattice.col(corner.0) as i64);
        let window = Window { row, col, rows: 150, cols: 170 };
        let is_geographic = proj.is_geographic(&file.crs).expect("a CRS");
        let to_stored = ToStored::new(&file, is_geographic).expect("an inverse");
        let places = Places::other_crs(&lattice, &window, &to_stored, &proj, true);
        let (mut us, mut vs) = (vec![0.0; 170], vec![0.0; 170]);
        for point in [NORTH_WEST, CENTRE, SOUTH_EAST] {
            for row in 0..window.rows {
                places.row(row, 0..170, point, &mut us, &mut vs);
                let y = lattice.y((window.row + i64::from(row)) as f64 + point);
                let mut points: Vec<_> =
                    (0..170).map(|c| (lattice.x((window.col + c) as f64 + point), y)).collect();
                proj.points_or_nan(lattice.crs(), &file.crs, &mut points);
                for (at, xy) in points.into_iter().enumerate() {
                    let (u, v) = to_stored.place(xy);
                    let error = (us[at] - u).abs().max((vs[at] - v).abs());
                    assert!(error <= 2.0 * places::TOLERANCE_PIXELS, "{from} {to}: {error} at {row} {at}");
                }
            }
        }
    }
}
