//! `gradient_x`, `gradient_y`.

use serde_json::json;

use crate::world::{World, graft, values, window};

/// Rows 0 to 2 and columns 0 to 3 of the worked example; numpy's numbers below are
/// `numpy.gradient(numpy.array([[1, 4, 9, 16], [2, 2, 2, 8], [0, 5, 1, 7]], numpy.float32), axis=...)`.
fn example(_: u32, row: i64, col: i64) -> Option<f32> {
    let rows = [[1.0, 4.0, 9.0, 16.0], [2.0, 2.0, 2.0, 8.0], [0.0, 5.0, 1.0, 7.0]];
    Some(rows[usize::try_from(row).ok()? % 3][usize::try_from(col).ok()? % 4])
}

fn all(numbers: &[f32]) -> Vec<Option<f32>> {
    numbers.iter().copied().map(Some).collect()
}

#[test]
fn numbers_are_numpys_and_y_points_south() {
    let world = World::new(example);
    for tile in [64, 3, 2, 1] {
        let of = |name: &str| {
            values(&world.eval(&graft((0, 0), &[("result", json!([name, "a"]))]), window(0, 0, 3, 4), tile))
        };
        assert_eq!(of("gradient_x"), all(&[3.0, 4.0, 6.0, 7.0, 0.0, 0.0, 3.0, 6.0, 5.0, 0.5, 1.0, 6.0]));
        let down = [1.0, -2.0, -7.0, -8.0, -0.5, 0.5, -4.0, -4.5, -2.0, 3.0, -1.0, -1.0];
        assert_eq!(of("gradient_y"), all(&down));
    }
}

#[test]
fn the_older_spelling_is_the_same_op() {
    let world = World::new(example);
    let older = graft(
        (0, 0),
        &[("n", json!("gradient_y")), ("none", json!(null)), ("result", json!(["math", "n", "a", "none"]))],
    );
    let own = graft((0, 0), &[("result", json!(["gradient_y", "a"]))]);
    let on = |graft| world.eval(&graft, window(0, 0, 3, 4), 2);
    assert_eq!(on(older).encode(), on(own).encode());
}

#[test]
fn only_the_pixels_that_are_used_need_to_be_valid() {
    // Column 2 has no pixel.
    let world = World::new(|_, _, col| (col != 2).then_some((col * col) as f32));
    let x = graft((0, 0), &[("result", json!(["gradient_x", "a"]))]);
    let row = values(&world.eval(&x, window(0, 0, 1, 6), 2));
    // The centre's own mask counts at edges alone.
    assert_eq!(row, [Some(1.0), None, Some(4.0), None, Some(8.0), Some(9.0)]);
    let edge = values(&world.eval(&x, window(0, 2, 1, 3), 2));
    assert_eq!(edge, [None, None, Some(7.0)]);
}

#[test]
fn fewer_than_two_pixels_have_no_gradient() {
    let world = World::new(|_, row, col| Some((10 * row + col) as f32));
    let of = |name: &str, pad, place| {
        values(&world.eval(&graft((pad, 0), &[("result", json!([name, "a"]))]), place, 2))
    };
    assert_eq!(of("gradient_y", 0, window(3, 0, 1, 3)), [None; 3]);
    assert_eq!(of("gradient_x", 0, window(3, 0, 1, 3)), [Some(1.0); 3]);
    assert_eq!(of("gradient_x", 0, window(3, 0, 3, 1)), [None; 3]);
    assert_eq!(of("gradient_y", 0, window(3, 0, 2, 1)), [Some(10.0); 2]);
    // With padding the row has neighbours.
    assert_eq!(of("gradient_y", 1, window(3, 0, 1, 3)), [Some(10.0); 3]);
}

#[test]
fn truth_values_count_as_numbers() {
    let world = World::new(example);
    let graft =
        graft((0, 0), &[("high", json!(["gt", "a", "2"])), ("result", json!(["gradient_x", "high"]))]);
    // True from column 1 on.
    assert_eq!(values(&world.eval(&graft, window(0, 0, 1, 4), 2)), all(&[1.0, 0.5, 0.0, 0.0]));
}
