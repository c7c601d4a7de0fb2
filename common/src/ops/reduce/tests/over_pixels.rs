//! Reductions over pixels: parts in any order are the whole, and the whole is what it says.

use proptest::prelude::*;

use super::{NAN, facts, literals, only_with, stack};
use crate::block::{Block, DType, Kind, Samples};
use crate::literal::Literal;
use crate::ops::reduce::OPS;
use crate::ops::reduce::order::{self, Order};
use crate::ops::{Kernel, OverPixels, PixelsKernel, TypeError, find};

/// The kernel over pixels and the reduction before its first round.
fn start(name: &str, params: &[Literal], block: &Block) -> (PixelsKernel, Box<dyn OverPixels>) {
    let op = find(name).unwrap();
    op.infer(params, &[facts(block)]).unwrap();
    let Kernel::Pixels(kernel) = op.kernel(params, &[facts(block)]) else { panic!("{name}") };
    (kernel, (kernel.start)(params, facts(block)))
}

/// The reduction of tiles, merged in their order, as the coordinator runs it.
fn reduce(name: &str, params: &[Literal], tiles: &[Block]) -> Block {
    let (kernel, mut over) = start(name, params, &tiles[0]);
    for _ in 0..kernel.rounds {
        let round = over.round();
        for tile in tiles {
            let partial = (kernel.collect)(params, &round, tile);
            let planes = tile.kind().planes() as u64;
            assert!(partial.len() as u64 <= 6 + kernel.plane_bytes * planes, "{name}: {}", partial.len());
            over.merge(&partial).unwrap();
        }
        if let Some(result) = over.end_round().expect("the same pixels") {
            assert_eq!(result.kind(), super::super::planes(tiles[0].kind()).unwrap());
            return result;
        }
    }
    panic!("{name} needs more rounds than it says");
}

/// The pixels of a block that `parts` says are in each part; a part is one row.
fn split(block: &Block, parts: &[usize], count: usize) -> Vec<Block> {
    let (planes, pixels) = (block.kind().planes(), block.pixels());
    let part = |wanted: usize| {
        let chosen: Vec<usize> = (0..pixels).filter(|at| parts[*at] == wanted).collect();
        let at = || (0..planes).flat_map(|plane| chosen.iter().map(move |at| plane * pixels + at));
        let samples = match block.samples() {
            Samples::F32(values) => Samples::F32(at().map(|at| values[at]).collect()),
            Samples::Bool(values) => Samples::Bool(at().map(|at| values[at]).collect()),
        };
        let valid = at().map(|at| block.valid()[at]).collect();
        Block::new(block.kind(), (1, chosen.len() as u32), samples, valid)
    };
    (0..count).map(part).collect()
}

/// Values of all magnitudes, among them those that rounding gets wrong.
fn wild() -> impl Strategy<Value = f32> {
    let special = [0.0, -0.0, 1.0, -1.0, 0.1, 1e30, -1e30, 3e38, -3e38, 1e-45, -1e-40, 16777216.0];
    prop_oneof![
        4 => any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |value| value.is_finite()),
        4 => prop::sample::select(special.to_vec()),
        2 => -100.0f32..100.0,
    ]
}

/// Now and then values that are not finite.
fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![60 => wild(), 1 => prop::sample::select(vec![NAN, f32::INFINITY, f32::NEG_INFINITY])]
}

prop_compose! {
    fn any_block()(images in 0u32..3, bands in 1u32..3, pixels in 1u32..40, shape in 0..4)
        (
            kind in Just(if shape % 2 == 0 { Kind::Stack { images, bands } } else { Kind::Mosaic { bands } }),
            is_bool in Just(shape / 2 == 0), pixels in Just(pixels),
            entries in proptest::collection::vec((any_value(), 0u8..4), 4 * 40),
        ) -> Block {
        let entries = &entries[..kind.planes() * pixels as usize];
        let samples = if is_bool {
            Samples::Bool(entries.iter().map(|(value, _)| u8::from(*value > 0.0)).collect())
        } else {
            Samples::F32(entries.iter().map(|(value, _)| *value).collect())
        };
        Block::new(kind, (1, pixels), samples, entries.iter().map(|(_, ok)| u8::from(*ok > 0)).collect())
    }
}

/// The ops that reduce pixels of a type, with their parameters.
fn reducers(dtype: DType, q: f64) -> impl Iterator<Item = (&'static str, Vec<Literal>)> {
    let names = OPS.iter().map(|op| op.name());
    let names = names.filter(|name| !matches!(*name, "argmax" | "argmin" | "first" | "last"));
    let names = names.filter(move |name| dtype == DType::F32 || *name != "ptp");
    names.map(move |name| (name, literals("pixels", (name == "percentile").then_some(q))))
}

/// The numbers of a plane that are valid.
fn entries(block: &Block, plane: usize) -> Vec<f32> {
    let range = plane * block.pixels()..(plane + 1) * block.pixels();
    let number = |at: usize| match block.samples() {
        Samples::F32(values) => values[at],
        Samples::Bool(values) => f32::from(values[at]),
    };
    range.filter(|at| block.valid()[*at] != 0).map(number).collect()
}

/// What a reduction gives that has a naive form which is exact; `None` where it is masked.
fn naive(name: &str, q: f64, mut entries: Vec<f32>) -> Option<f32> {
    let sorted = {
        let mut sorted: Vec<f32> = entries.iter().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_by(f32::total_cmp);
        sorted
    };
    let truth = |truth: bool| f32::from(u8::from(truth));
    let numbers = |f: &dyn Fn(&[f32]) -> f32| if sorted.len() < entries.len() { NAN } else { f(&sorted) };
    match name {
        "count" => return Some(entries.len() as f32),
        _ if entries.is_empty() => return None,
        _ => {}
    }
    Some(match name {
        "max" => numbers(&|sorted| sorted[sorted.len() - 1]),
        "min" => numbers(&|sorted| sorted[0]),
        "ptp" => numbers(&|sorted| sorted[sorted.len() - 1] - sorted[0]),
        "any" => truth(entries.iter().any(|value| *value != 0.0)),
        "all" => truth(entries.iter().all(|value| *value != 0.0)),
        "median" => order::select(Order::Median, &mut entries),
        "percentile" => order::select(Order::Percentile(q), &mut entries),
        _ => unreachable!("{name}"),
    })
}

/// Whether a number is the correctly rounded one of what `side` compares numbers with: less, equal or
/// greater than the exact value. `exact` says it of numbers with 25 bits.
fn is_nearest(value: f32, exact: impl Fn(f64) -> std::cmp::Ordering) -> bool {
    let middle = |neighbour: f32| (f64::from(value) + f64::from(neighbour)) / 2.0;
    let is_even = value.to_bits() & 1 == 0;
    let (above, below) = (exact(middle(value.next_down())), exact(middle(value.next_up())));
    (above.is_lt() || is_even && above.is_eq()) && (below.is_gt() || is_even && below.is_eq())
}

fn ulps(a: f32, b: f32) -> u32 {
    super::super::pixels::key(a).abs_diff(super::super::pixels::key(b))
}

proptest! {
    #[test]
    fn parts_in_any_order_are_the_whole(
        block in any_block(),
        parts in proptest::collection::vec((0usize..5, any::<u32>()), 40),
        q in 0.0..=100.0,
    ) {
        let places: Vec<usize> = parts.iter().map(|(part, _)| *part).collect();
        let mut tiles = split(&block, &places, 5);
        let mut shuffled: Vec<(u32, Block)> = parts.iter().map(|(_, at)| *at).zip(tiles.clone()).collect();
        shuffled.sort_by_key(|(at, _)| *at);
        let shuffled: Vec<Block> = shuffled.into_iter().map(|(_, tile)| tile).collect();
        tiles.reverse();
        for (name, params) in reducers(block.samples().dtype(), q) {
            let whole = reduce(name, &params, std::slice::from_ref(&block));
            prop_assert_eq!(reduce(name, &params, &tiles).encode(), whole.encode(), "{}", name);
            prop_assert_eq!(reduce(name, &params, &shuffled).encode(), whole.encode(), "{}", name);
        }
    }

    #[test]
    fn the_whole_is_what_a_naive_reduction_gives(block in any_block(), q in 0.0..=100.0) {
        for (name, params) in reducers(block.samples().dtype(), q) {
            if matches!(name, "sum" | "mean" | "var" | "std") {
                continue;
            }
            let result = reduce(name, &params, std::slice::from_ref(&block));
            for plane in 0..block.kind().planes() {
                let expected = naive(name, q, entries(&block, plane));
                let is = entries(&result, plane).first().copied();
                let bits = |value: Option<f32>| value.map(|v| if v.is_nan() { NAN } else { v }.to_bits());
                prop_assert_eq!(bits(is), bits(expected), "{} {:?} {:?}", name, is, expected);
            }
        }
    }

    /// Whole numbers, whose sums any integer holds, times a power of two that comes out again.
    #[test]
    fn sums_are_correctly_rounded(
        entries in proptest::collection::vec(-1000i32..1000, 1..60),
        power in -120i32..70,
    ) {
        let scale = f64::from(power).exp2();
        let values: Vec<f32> = entries.iter().map(|value| (f64::from(*value) * scale) as f32).collect();
        let (n, sum) = (entries.len() as f64, entries.iter().sum::<i32>());
        let squares: i64 = entries.iter().map(|value| i64::from(*value).pow(2)).sum();
        let unscaled = |name: &str, power: f64| only(name, &values).map(|value| (f64::from(value) / power) as f32);
        prop_assert_eq!(unscaled("sum", scale), Some(sum as f32));
        let mean = unscaled("mean", scale).unwrap();
        prop_assert!(is_nearest(mean, |middle| (middle * n).total_cmp(&f64::from(sum))), "mean {mean}");
        // Times n²: below 2^32, and the middles have 25 bits.
        let variance = entries.len() as i64 * squares - i64::from(sum).pow(2);
        let std = unscaled("std", scale).unwrap();
        let squared = |middle: f64| {
            let middle = (middle * 40f64.exp2()) as i128;
            middle * middle.abs() * (entries.len() as i128).pow(2)
        };
        let exact = |middle: f64| squared(middle).cmp(&(i128::from(variance) << 80));
        prop_assert!(variance == 0 && std == 0.0 || is_nearest(std, exact), "std {std} of {variance}");
        if power > -50 && power < 50 {
            let var = unscaled("var", scale * scale).unwrap();
            let exact = |middle: f64| (middle * n * n).total_cmp(&(variance as f64));
            prop_assert!(variance == 0 && var == 0.0 || is_nearest(var, exact), "var {var} of {variance}");
        }
    }

    /// What images are folded to, in double precision, is near what their exact sums say.
    #[test]
    fn folds_agree_with_exact_sums(values in proptest::collection::vec(wild(), 1..60)) {
        let images: Vec<Option<f32>> = values.iter().copied().map(Some).collect();
        for name in ["sum", "mean", "var", "std"] {
            let exact = only(name, &values);
            let folded = only_with(name, None, &stack(&images));
            let is_near = match (folded, exact) {
                (Some(folded), Some(exact)) => ulps(folded, exact) <= 1,
                // At the edge of what is finite.
                (a, b) => a.or(b).is_none_or(|value| value.abs() == f32::MAX),
            };
            prop_assert!(is_near, "{} {:?} {:?}", name, folded, exact);
        }
    }

    /// Whatever arrives, it is merged or refused, and a result follows.
    #[test]
    fn bytes_that_are_no_partial_are_refused_or_harmless(
        block in any_block(),
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        damage in (any::<prop::sample::Index>(), any::<u8>()),
        cut in 1usize..20,
    ) {
        for (name, params) in reducers(block.samples().dtype(), 30.0) {
            let (kernel, mut over) = start(name, &params, &block);
            let partial = (kernel.collect)(&params, &over.round(), &block);
            let before = over.round();
            for wrong in [&noise[..], &partial[..partial.len().saturating_sub(cut)], &[&partial[..], &[0]].concat()] {
                prop_assert!(over.merge(wrong).is_err(), "{}", name);
            }
            prop_assert_eq!(over.round(), before);
            let mut damaged = partial.clone();
            damaged[damage.0.index(partial.len())] ^= damage.1;
            let _ = over.merge(&damaged);
            let _ = over.merge(&partial);
            for _ in 0..kernel.rounds {
                if over.end_round().is_ok_and(|end| end.is_some()) {
                    break;
                }
            }
        }
    }
}

fn mosaic(values: &[f32]) -> Block {
    let valid = vec![1; values.len()];
    Block::new(Kind::Mosaic { bands: 1 }, (1, values.len() as u32), Samples::F32(values.to_vec()), valid)
}

fn only(name: &str, values: &[f32]) -> Option<f32> {
    super::entries_of(&reduce(name, &literals("pixels", None), &[mosaic(values)]))[0]
}

#[test]
fn sums_over_pixels_are_exact_before_they_are_rounded() {
    // Three magnitudes that no double holds together.
    assert_eq!(only("sum", &[1e30, 1e10, 1e-40, -1e30, -1e10]), Some(1e-40));
    let tiny = f32::from_bits(1);
    // Half of the smallest number goes to even, one and a half of it to two.
    assert_eq!(only("mean", &[tiny, 0.0]), Some(0.0));
    assert_eq!(only("mean", &[3.0 * tiny, 0.0]), Some(2.0 * tiny));
    assert_eq!(only("std", &[tiny, -tiny]), Some(tiny));
    assert_eq!(only("var", &[tiny, -tiny]), Some(0.0));
    let most = f32::MAX;
    assert_eq!(only("mean", &[most, most, most]), Some(most));
    assert_eq!((only("var", &[most, -most]), only("std", &[most, -most])), (None, Some(most)));
    assert_eq!(only("sum", &[most, most]), Some(f32::INFINITY));
    assert_eq!(only("sum", &[-most, -most]), Some(f32::NEG_INFINITY));
    assert_eq!(only("sum", &[f32::INFINITY, 1.0]), Some(f32::INFINITY));
    assert!(only("sum", &[f32::INFINITY, f32::NEG_INFINITY]).is_some_and(f32::is_nan));
    assert_eq!(only("mean", &[f32::INFINITY, 1.0]), None);
    assert_eq!(only("std", &[NAN, 1.0]), None);
    assert_eq!(only("std", &[0.1]), Some(0.0));
}

#[test]
fn planes_without_a_valid_pixel_are_masked_but_counted() {
    let block = Block::invalid(Kind::Stack { images: 2, bands: 3 }, DType::F32, (4, 5));
    for (name, params) in reducers(DType::F32, 30.0) {
        let result = reduce(name, &params, std::slice::from_ref(&block));
        let expected = if name == "count" { Some(0.0) } else { None };
        assert_eq!(super::entries_of(&result), vec![expected; 6], "{name}");
        let empty = Block::invalid(Kind::Stack { images: 0, bands: 3 }, DType::F32, (4, 5));
        let none = reduce(name, &params, &[empty]);
        assert!(matches!(none.kind(), Kind::Array(shape) if shape.axes() == [0, 3] && shape.is_leading()));
    }
}

#[test]
fn more_planes_than_an_array_holds_are_a_static_error() {
    let many = crate::ops::Facts { kind: Kind::Stack { images: 2000, bands: 1024 }, dtype: DType::F32 };
    let error = find("mean").unwrap().infer(&literals("pixels", None), &[many]).unwrap_err();
    assert!(matches!(&error, TypeError::Value { value, .. } if value == "2000 x 1024"), "{error}");
}
