//! Statistics and weighted sums over windows, against the plainest code that computes them.

use graticule_common::block::{ArrayShape, Block, Kind, Samples};
use graticule_common::grid::Window;
use serde_json::{Value, json};

use crate::world::{World, graft, values, window};

/// A quarter of the pixels is invalid; among the others are zeros of both signs and, in band 2, numbers
/// that are not finite.
fn rough(band: u32, row: i64, col: i64) -> Option<f32> {
    let hash = (row * 7_919 + col * 104_729 + i64::from(band) * 31).rem_euclid(1_009);
    match hash % 16 {
        0..4 => None,
        4 => Some(-0.0),
        5 => Some(0.0),
        6 if band == 2 && hash > 600 => Some(f32::NAN),
        7 if band == 2 => Some(f32::INFINITY),
        _ => Some(hash as f32 / 8.0 - 60.0),
    }
}

/// A statistic of the valid pixels of each window, in row order, that a domain has.
fn reference(
    band: u32,
    (domain, place): (Window, Window),
    (high, wide): (u32, u32),
    statistic: impl Fn(&[f32]) -> f32,
) -> Vec<Option<f32>> {
    let (up, left) = (i64::from(high / 2), i64::from(wide / 2));
    let mut out = Vec::new();
    for row in place.row..place.row_end() {
        for col in place.col..place.col_end() {
            let mut found = Vec::new();
            for row in (row - up..=row + up).filter(|row| (domain.row..domain.row_end()).contains(row)) {
                for col in (col - left..=col + left).filter(|c| (domain.col..domain.col_end()).contains(c)) {
                    found.extend(rough(band, row, col));
                }
            }
            out.push((!found.is_empty()).then(|| statistic(&found)));
        }
    }
    out
}

fn bits(values: &[Option<f32>]) -> Vec<Option<u32>> {
    // One NaN for all.
    values.iter().map(|v| v.map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() })).collect()
}

fn mean(found: &[f32]) -> f32 {
    (found.iter().map(|v| f64::from(*v)).fold(0.0, |a, b| a + b) / found.len() as f64) as f32
}

fn median(found: &[f32]) -> f32 {
    let mut sorted = found.to_vec();
    sorted.sort_by(f32::total_cmp);
    let middle = sorted.len() / 2;
    match found {
        _ if found.iter().any(|v| v.is_nan()) => f32::NAN,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

fn min(found: &[f32]) -> f32 {
    if found.iter().any(|v| v.is_nan()) {
        f32::NAN
    } else {
        found.iter().copied().min_by(f32::total_cmp).expect("a value")
    }
}

fn max(found: &[f32]) -> f32 {
    if found.iter().any(|v| v.is_nan()) {
        f32::NAN
    } else {
        found.iter().copied().max_by(f32::total_cmp).expect("a value")
    }
}

/// Windows larger than the grid among them, and grids of one row.
#[test]
fn statistics_are_those_of_each_window() {
    type Statistic = fn(&[f32]) -> f32;
    let ops: [(&str, Statistic); 4] =
        [("focal_mean", mean), ("focal_median", median), ("focal_min", min), ("focal_max", max)];
    let world = World::new(rough);
    for (name, statistic) in ops {
        for (size, sides) in [
            (json!(3), (3, 3)),
            (json!([[1, 5]]), (1, 5)),
            (json!([[7, 3]]), (7, 3)),
            (json!(21), (21, 21)),
            (json!(1), (1, 1)),
        ] {
            for (band, pad) in [("a", 0), ("b", 0), ("b", 2)] {
                for place in [window(-4, 3, 9, 8), window(2, 2, 1, 6), window(0, 0, 1, 1)] {
                    let request =
                        graft((pad, pad), &[("size", size.clone()), ("result", json!([name, band, "size"]))]);
                    let domain = place.pad(pad, pad);
                    let band = if band == "a" { 1 } else { 2 };
                    let expected = reference(band, (domain, place), sides, statistic);
                    for tile in [64, 4, 1] {
                        let found = values(&world.eval(&request, place, tile));
                        assert_eq!(
                            bits(&found),
                            bits(&expected),
                            "{name} {sides:?}, pad {pad}, tile {tile}, {place}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn masks_grow_and_shrink() {
    // One true pixel at (2, 2); column 5 has none.
    let world = World::new(|_, row, col| (col != 5).then_some(if (row, col) == (2, 2) { 1.0 } else { 0.0 }));
    let of = |name: &str, op: &str| {
        let steps = [("mask", json!([op, "a", "0"])), ("result", json!([name, "mask"]))];
        values(&world.eval(&graft((0, 0), &steps), window(0, 0, 5, 8), 3))
    };
    let near = |at: usize, reach: i64| {
        let (row, col) = ((at / 8) as i64, (at % 8) as i64);
        (row - 2).abs() <= reach && (col - 2).abs() <= reach
    };
    let grown = of("dilate", "gt");
    assert!((0..40).all(|at| grown[at] == Some(f32::from(u8::from(near(at, 1))))), "{grown:?}");
    // True but for (2, 2): shrinking it makes the hole as large. Column 5 takes the value of its neighbours.
    let shrunk = of("erode", "eq");
    assert!((0..40).all(|at| shrunk[at] == Some(f32::from(u8::from(!near(at, 1))))), "{shrunk:?}");
    // The same as the smallest and largest of truth values.
    for (own, other) in [("dilate", "focal_max"), ("erode", "focal_min")] {
        let steps = |name| {
            graft((0, 0), &[("mask", json!(["gt", "a", "0"])), ("result", json!([name, "mask", "size"]))])
        };
        let on = |graft: Value| world.eval(&graft, window(0, 0, 5, 8), 3);
        assert_eq!(on(steps(own)).encode(), on(steps(other)).encode());
    }
    let numbers = graft((0, 0), &[("result", json!(["dilate", "a"]))]);
    let error = world.plan(&numbers, window(0, 0, 5, 8), 3).expect_err("no mask").to_string();
    assert!(error.contains("`dilate` needs bool values"), "{error}");
}

#[test]
fn sizes_are_odd_and_bounded() {
    let world = World::new(rough);
    for size in [
        json!(2),
        json!(0),
        json!(-3),
        json!(3.5),
        json!("3"),
        json!([[3]]),
        json!([[3, 4]]),
        json!(103),
        json!(null),
    ] {
        let request =
            graft((0, 0), &[("size", size.clone()), ("result", json!(["focal_mean", "a", "size"]))]);
        let error = world.plan(&request, window(0, 0, 4, 4), 4).expect_err("a wrong size").to_string();
        assert!(error.contains("`size`"), "{size}: {error}");
    }
    let kernels = [
        json!([[[1, 2]]]),
        json!([[[1], [2]]]),
        json!([[[1, 2, 3], [1]]]),
        json!([[]]),
        json!([[[1, "2", 3]]]),
        json!(3),
        json!([[1, 2, 3]]),
    ];
    for kernel in kernels {
        let request =
            graft((0, 0), &[("kernel", kernel.clone()), ("result", json!(["convolve", "a", "kernel"]))]);
        let error = world.plan(&request, window(0, 0, 4, 4), 4).expect_err("a wrong kernel").to_string();
        assert!(error.contains("`kernel`"), "{kernel}: {error}");
    }
}

fn convolved(world: &World, kernel: &Value, place: Window, tile: u32) -> Vec<Option<f32>> {
    let request =
        graft((0, 0), &[("kernel", json!([kernel])), ("result", json!(["convolve", "a", "kernel"]))]);
    values(&world.eval(&request, place, tile))
}

/// The examples of scipy.ndimage.convolve's manual with `mode="nearest"`, and the inner pixels of its
/// first example, where the mode makes no difference.
#[test]
fn convolutions_are_scipys() {
    fn of(rows: &[&[f32]], row: i64, col: i64) -> Option<f32> {
        Some(*rows.get(usize::try_from(row).ok()?)?.get(usize::try_from(col).ok()?)?)
    }
    let column = json!([[0, 1, 0], [0, 1, 0], [0, 1, 0]]);
    let taller = json!([[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]]);
    let b = World::new(|_, row, col| of(&[&[2.0, 0.0, 0.0], &[1.0, 0.0, 0.0], &[0.0, 0.0, 0.0]], row, col));
    let c = World::new(|_, row, col| of(&[&[2.0, 0.0, 1.0], &[1.0, 0.0, 0.0], &[0.0, 0.0, 0.0]], row, col));
    let a = World::new(|_, row, col| {
        let rows: [&[f32]; 4] =
            [&[1.0, 2.0, 0.0, 0.0], &[5.0, 3.0, 0.0, 4.0], &[0.0, 0.0, 0.0, 7.0], &[9.0, 3.0, 0.0, 0.0]];
        of(&rows, row, col)
    });
    let some = |numbers: &[f32]| numbers.iter().copied().map(Some).collect::<Vec<_>>();
    for tile in [8, 2, 1] {
        let place = window(0, 0, 3, 3);
        assert_eq!(convolved(&b, &column, place, tile), some(&[5.0, 0.0, 0.0, 3.0, 0.0, 0.0, 1.0, 0.0, 0.0]));
        assert_eq!(convolved(&c, &taller, place, tile), some(&[7.0, 0.0, 3.0, 5.0, 0.0, 2.0, 3.0, 0.0, 1.0]));
        let all = convolved(&a, &json!([[1, 1, 1], [1, 1, 0], [1, 0, 0]]), window(0, 0, 4, 4), tile);
        assert_eq!([all[5], all[6], all[9], all[10]], [Some(3.0), Some(11.0), Some(12.0), Some(14.0)]);
    }
}

#[test]
fn weights_of_zero_use_nothing() {
    // Column 2 has no pixel.
    let world = World::new(|_, _, col| (col != 2).then_some(col as f32));
    let row = convolved(&world, &json!([[0, 2, 0]]), window(0, 0, 1, 5), 2);
    assert_eq!(row, [Some(0.0), Some(2.0), None, Some(6.0), Some(8.0)]);
    // The weight on the left meets the neighbour on the right.
    let row = convolved(&world, &json!([[1, 0, 0]]), window(0, 0, 1, 5), 2);
    assert_eq!(row, [Some(1.0), None, Some(3.0), Some(4.0), Some(4.0)]);
}

/// An array may be a kernel; so may one that is computed from arrays.
#[test]
fn kernels_may_be_arrays() {
    let world = World::new(rough);
    let shape = ArrayShape::new(&[1, 3], false).expect("a shape");
    let array = Block::new(Kind::Array(shape), (1, 1), Samples::F32(vec![1.0, -2.0, 0.5]), vec![1; 3]);
    let npy = npy(&array, &[1, 3]);
    let place = window(0, 0, 4, 6);
    let listed = convolved(&world, &json!([[2, -4, 1]]), place, 3);
    for off in [&[][..], &["fold"], &["pushdown"]] {
        let request = graft(
            (0, 0),
            &[
                ("npy", json!(npy)),
                ("weights", json!(["array", "npy"])),
                ("kernel", json!(["mul", "weights", "2"])),
                ("both", json!(["concat_bands", "a", "b"])),
                ("done", json!(["convolve", "both", "kernel"])),
                ("first", json!("0")),
                ("names", json!("x y")),
                ("named", json!(["rename_bands", "done", "names"])),
                ("x", json!("x")),
                ("result", json!(["pick_bands", "named", "x"])),
            ],
        );
        match world.plan_without(&request, place, 3, off) {
            Ok(graticule_common::plan::Outcome::Raster { plan, .. }) => {
                assert_eq!(values(&world.eval_plan(&plan)), listed, "without {off:?}");
            }
            other => panic!("no raster: {other:?}"),
        }
    }
}

/// Base64 of a version 1.0 `.npy` file.
fn npy(array: &Block, axes: &[u32]) -> String {
    let Samples::F32(values) = array.samples() else { panic!("numbers") };
    let shape = axes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}");
    header += &" ".repeat(63 - (10 + header.len()) % 64);
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let word =
            three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        (0..4)
            .map(move |at| (at, word >> (18 - 6 * at) & 63))
            .map(|(at, six)| if at > three.len() { '=' } else { char::from(alphabet[six as usize]) })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
