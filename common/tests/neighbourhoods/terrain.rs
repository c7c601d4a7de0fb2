//! `slope`, `aspect`, and the sizes of pixels on the ground.

use graticule_common::grid::Crs;
use graticule_common::literal::Literal;
use graticule_common::plan::Outcome;
use graticule_common::transform::{ByText, Transform, TransformError};
use serde_json::json;

use crate::world::{Pixels, World, graft, values, window};

/// A plane that rises by 3 m a column and falls by 4 m a row.
fn plane(_: u32, row: i64, col: i64) -> Option<f32> {
    Some((3 * col - 4 * row) as f32)
}

#[test]
fn planes_have_the_slope_of_their_angles() {
    // 10 m pixels: 0.5 of steepness, facing away from north-east: up is (3, 4), down is (-3, -4).
    let world = World::new(plane);
    for tile in [16, 3, 1] {
        let of = |name: &str| {
            values(&world.eval(&graft((1, 0), &[("result", json!([name, "a"]))]), window(0, 0, 4, 5), tile))
        };
        let steepness = 0.5_f64.atan().to_degrees() as f32;
        assert_eq!(of("slope"), [Some(steepness); 20]);
        let direction = (180.0 + (3.0_f64).atan2(4.0).to_degrees()) as f32;
        assert_eq!(of("aspect"), [Some(direction); 20]);
    }
}

#[test]
fn all_nine_pixels_are_needed() {
    let world = World::new(|band, row, col| plane(band, row, col).filter(|_| (row, col) != (2, 2)));
    for name in ["slope", "aspect"] {
        let bare =
            values(&world.eval(&graft((0, 0), &[("result", json!([name, "a"]))]), window(0, 0, 6, 6), 4));
        let valid: Vec<bool> = bare.iter().map(Option::is_some).collect();
        // The edge, and what is around (2, 2).
        let expected = (0..36).map(|at| {
            let (row, col) = (at / 6, at % 6);
            (1..5).contains(&row) && (1..5).contains(&col) && (row > 3 || col > 3)
        });
        assert_eq!(valid, expected.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn level_ground_faces_nowhere_and_north_is_zero() {
    let of = |name: &str, pixels: Pixels| {
        values(&World::new(pixels).eval(
            &graft((1, 0), &[("result", json!([name, "a"]))]),
            window(0, 0, 1, 1),
            1,
        ))[0]
    };
    assert_eq!(of("aspect", |_, _, _| Some(7.0)), None);
    assert_eq!(of("slope", |_, _, _| Some(7.0)), Some(0.0));
    assert_eq!(of("aspect", |_, row, _| Some(row as f32)), Some(0.0));
    assert_eq!(of("aspect", |_, _, col| Some(-col as f32)), Some(90.0));
    assert_eq!(of("aspect", |_, row, _| Some(-row as f32)), Some(180.0));
    assert_eq!(of("aspect", |_, _, col| Some(col as f32)), Some(270.0));
    // A hair west of north is not 360.
    assert_eq!(of("aspect", |_, row, col| Some(row as f32 + 1e-9 * col as f32)), Some(0.0));
}

/// Degrees, whatever the text.
#[derive(Debug)]
struct Degrees;

impl Transform for Degrees {
    fn canonical(&self, text: &str) -> Result<Crs, TransformError> {
        ByText.canonical(text)
    }

    fn same(&self, a: &Crs, b: &Crs) -> bool {
        a == b
    }

    fn is_geographic(&self, _: &Crs) -> Result<bool, TransformError> {
        Ok(true)
    }

    fn points(&self, from: &Crs, to: &Crs, points: &mut [(f64, f64)]) -> Result<(), TransformError> {
        ByText.points(from, to, points)
    }
}

fn in_degrees(pixels: Pixels) -> World {
    World { crs: "EPSG:4326", resolution: (0.001, 0.001), transform: Box::new(Degrees), ..World::new(pixels) }
}

/// One degree is 111.320 km by 110.574 km at the equator and 78.847 km by 111.132 km at 45 degrees, as in
/// the tables of the WGS 84 ellipsoid.
#[test]
fn degrees_are_metres_on_the_ground_row_by_row() {
    // 100 m up a pixel eastwards; another world southwards.
    let rises: [Pixels; 2] = [|_, _, col| Some(100.0 * col as f32), |_, row, _| Some(100.0 * row as f32)];
    for (row, metres) in [(0, [111.320, 110.574]), (-45_000, [78.847, 111.132])] {
        for (pixels, metres) in rises.into_iter().zip(metres) {
            let mut world = in_degrees(pixels);
            world.scenes = vec![window(row - 10, -10, 40, 40)];
            let slopes = values(&world.eval(
                &graft((1, 0), &[("result", json!(["slope", "a"]))]),
                window(row, 0, 2, 1),
                1,
            ));
            let expected = (100.0_f64 / metres).atan().to_degrees();
            assert!((f64::from(slopes[0].expect("valid")) - expected).abs() < 1e-3, "{slopes:?}, {expected}");
        }
    }
}

#[test]
fn resolutions_are_numbers() {
    let number = |world: &World, name: &str, row: i64| {
        let request = graft((0, 0), &[("result", json!([name]))]);
        match world.plan(&request, window(row, 0, 2, 2), 16) {
            Ok(Outcome::Value { literal: Literal::Float(size), .. }) => size,
            other => panic!("no number: {other:?}"),
        }
    };
    let projected = World { resolution: (20.0, 10.0), ..World::new(plane) };
    assert_eq!([number(&projected, "resolution_x", 0), number(&projected, "resolution_y", 0)], [20.0, 10.0]);
    let degrees = in_degrees(plane);
    assert!((number(&degrees, "resolution_x", -45_000) - 78.847).abs() < 0.01);
    assert!((number(&degrees, "resolution_y", -45_000) - 111.132).abs() < 0.01);
}

/// The published client's slope: gradients by resolutions.
#[test]
fn gradients_meet_resolutions() {
    let world = World::new(plane);
    let request = graft(
        (1, 0),
        &[
            ("rise", json!(["gradient_y", "a"])),
            ("height", json!(["resolution_y"])),
            ("result", json!(["truediv", "rise", "height"])),
        ],
    );
    assert_eq!(values(&world.eval(&request, window(0, 0, 2, 2), 1)), [Some(-0.4); 4]);
}
