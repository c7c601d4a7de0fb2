//! The pixels that values have: grids, and grids with padding.

use graticule_common::graft::resolve;
use graticule_common::grid::Window;
use graticule_common::limits::Limits;
use graticule_common::plan::Outcome;
use serde_json::{Value, json};

use crate::world::{World, graft, values, window};

fn uneven(band: u32, row: i64, col: i64) -> Option<f32> {
    let hash = (row * 31 + col * 17 + i64::from(band) * 7).rem_euclid(23);
    (hash != 5).then_some(hash as f32 * 1.5 - 9.0)
}

/// A chain of two gradients over padded pixels, with a mask in between.
fn chain(pad: u32) -> Value {
    graft(
        (pad, pad),
        &[
            ("dx", json!(["gradient_x", "a"])),
            ("steep", json!(["gt", "dx", "2"])),
            ("seen", json!(["mask", "b", "steep"])),
            ("dy", json!(["gradient_y", "seen"])),
            ("sum", json!(["add", "dy", "a"])),
            ("result", json!(["gradient_x", "sum"])),
        ],
    )
}

#[test]
fn tiles_change_nothing() {
    let world = World::new(uneven);
    for pad in [0, 1, 2, 9] {
        for place in [window(-3, 4, 9, 11), window(0, 0, 1, 12), window(5, 5, 12, 1), window(-1, -1, 1, 1)] {
            let whole = world.eval(&chain(pad), place, 64).encode();
            for tile in [1, 2, 3, 5, 7] {
                assert_eq!(world.eval(&chain(pad), place, tile).encode(), whole, "pad {pad}, tile {tile}");
            }
        }
    }
}

#[test]
fn passes_change_nothing() {
    let world = World::new(uneven);
    let place = window(-3, 4, 9, 11);
    let of = |off: &[&str]| match world.plan_without(&mixed(), place, 4, off) {
        Ok(Outcome::Raster { plan, .. }) => world.eval_plan(&plan).encode(),
        other => panic!("no raster: {other:?}"),
    };
    for off in [&["fold"][..], &["pushdown"], &["fuse"], &["cache"], &["fuse", "pushdown"]] {
        assert_eq!(of(off), of(&[]), "without {off:?}");
    }
}

/// Padding is computing on a larger grid and cropping.
#[test]
fn padding_is_a_larger_grid_that_is_cropped() {
    let world = World::new(uneven);
    for pad in [1, 2, 4] {
        for place in [window(2, 3, 6, 5), window(-7, 0, 1, 9), window(0, 0, 1, 1)] {
            let large = place.pad(pad, pad);
            let cropped = world.eval(&chain(0), large, 64).crop(&large, &place);
            assert_eq!(world.eval(&chain(pad), place, 3).encode(), cropped.encode(), "pad {pad}");
        }
    }
}

/// A value with padding that meets one without.
fn mixed() -> Value {
    graft(
        (0, 3),
        &[
            ("is low", json!(["lt", "a", "0"])),
            ("sum", json!(["add", "a", "b"])),
            ("dx", json!(["gradient_x", "sum"])),
            ("low", json!(["gradient_y", "a"])),
            ("masked", json!(["mask", "b", "is low"])),
            ("dy", json!(["gradient_y", "masked"])),
            ("both", json!(["add", "dx", "dy"])),
            ("result", json!(["add", "both", "low"])),
        ],
    )
}

#[test]
fn a_value_without_padding_ends_at_the_grid() {
    let world = World::new(|band, row, col| Some((row * 10 + col) as f32 * band as f32));
    let sum = graft((0, 3), &[("sum", json!(["add", "a", "b"])), ("result", json!(["gradient_x", "sum"]))]);
    // The sum has a wider domain, in which there is nothing beyond the grid: no one-sided edge.
    let row = values(&world.eval(&sum, window(0, 0, 1, 4), 2));
    assert_eq!(row, [None, Some(3.0), Some(3.0), None]);
    let alone = graft((0, 3), &[("result", json!(["gradient_x", "a"]))]);
    assert_eq!(values(&world.eval(&alone, window(0, 0, 1, 4), 2)), [Some(1.0); 4]);
    let place = window(-2, -2, 7, 6);
    let whole = world.eval(&mixed(), place, 64).encode();
    for tile in [1, 2, 3, 4] {
        assert_eq!(world.eval(&mixed(), place, tile).encode(), whole, "tiles of {tile}");
    }
}

/// What is masked keeps the padding of the data, as its metadata say.
#[test]
fn a_mask_gives_no_padding_to_its_data() {
    let world = World::new(|_, row, col| Some((row * 10 + col) as f32));
    let of = |result: &str, data: &str, other: &str| {
        let mut graft = graft((0, 3), &[("joined", json!(["concat_bands", data, other]))]);
        graft["low"] = json!(["lt", other, "0"]);
        graft["masked"] = json!(["mask", data, "low"]);
        graft["result"] = json!(["gradient_x", result]);
        let place = window(0, 0, 1, 4);
        let whole = world.eval(&graft, place, 64);
        assert_eq!(world.eval(&graft, place, 1).encode(), whole.encode());
        values(&whole)
    };
    assert_eq!(of("masked", "a", "b"), [Some(1.0); 4]);
    // The mask ends at the grid, and what ends hides.
    assert_eq!(of("masked", "b", "a"), [None, Some(1.0), Some(1.0), None]);
    assert_eq!(of("joined", "a", "b"), [Some(1.0); 8]);
    let second = [None, Some(1.0), Some(1.0), None];
    assert_eq!(of("joined", "b", "a"), [[Some(1.0); 4], second].concat());
}

#[test]
fn two_pads_are_refused() {
    let world = World::new(uneven);
    let graft = graft((2, 3), &[("result", json!(["add", "a", "b"]))]);
    let error = world.plan(&graft, window(0, 0, 2, 2), 4).expect_err("two pads").to_string();
    assert!(error.contains("pad"), "{error}");
}

/// A constant along the bands goes on beyond the grid; one along rows and columns has those of the
/// padded grid.
#[test]
fn constants_meet_padded_pixels() {
    let world = World::new(|_, row, col| Some((row + col * col) as f32));
    let padded =
        graft((2, 0), &[("sum", json!(["add", "a", "1"])), ("result", json!(["gradient_x", "sum"]))]);
    assert_eq!(values(&world.eval(&padded, window(0, 0, 1, 2), 1)), [Some(0.0), Some(2.0)]);
}

/// A halo at the edge of one grid and in the middle of another must not share a key.
#[test]
fn keys_know_where_a_halo_ends() {
    let world = World::new(uneven);
    let key = |pad: u32, place: Window, of: Window| {
        let Ok(Outcome::Raster { plan, .. }) = world.plan(&chain(pad), place, 4) else { panic!("no raster") };
        let id = plan.tiles().into_iter().find(|id| plan.tile(*id).expect("a tile").window() == of);
        let keys = plan.tile(id.expect("the tile is part of the grid")).expect("a tile").keys("salt");
        keys.first().expect("the result is remembered").1
    };
    let tile = window(0, 0, 4, 4);
    let (edge, inside) = (key(0, tile, tile), key(0, window(-4, -4, 12, 12), tile));
    assert_ne!(edge, inside);
    // Far enough from every edge, the grid makes no difference.
    assert_eq!(inside, key(0, window(-8, -8, 24, 24), tile));
    assert_eq!(key(4, tile, tile), key(4, window(-8, -8, 24, 24), tile));
    assert_ne!(key(1, tile, tile), key(2, tile, tile));
}

/// Scenes in the padding alone are part of a mosaic; a stack has an image for each scene on the grid
/// itself, whatever its padding.
#[test]
fn padding_finds_scenes_for_mosaics_and_adds_no_images() {
    let mut world = World::new(|_, row, col| Some((row * 10 + col) as f32));
    world.scenes = vec![window(-50, -50, 100, 52), window(-50, 2, 100, 100)];
    let place = window(0, 0, 2, 2);
    let x = |pad| graft((pad, 0), &[("result", json!(["gradient_x", "a"]))]);
    // Column 2 is in the second scene, beyond the grid.
    assert_eq!(values(&world.eval(&x(1), place, 1)), [Some(1.0); 4]);
    let reads = |pad| match world.plan(&x(pad), place, 2) {
        Ok(Outcome::Raster { plan, .. }) => plan.reads().map(|read| read.scenes.len()).sum::<usize>(),
        other => panic!("no raster: {other:?}"),
    };
    assert_eq!([reads(0), reads(1)], [1, 2]);
    for pad in [0, 1] {
        let stack = stack(pad, json!(["gradient_x", "stack"]));
        let block = world.eval(&stack, place, 1);
        assert_eq!(block.kind().images(), Some(1), "pad {pad}");
        // Its own image ends where the other scene begins: nothing to take a difference to.
        let right = values(&block)[1];
        assert_eq!(right, if pad == 0 { Some(1.0) } else { None });
    }
}

fn stack(pad: u32, result: Value) -> Value {
    graft(
        (pad, pad),
        &[
            ("scenes", json!(["select_scenes", "p", "name a", { "pad": "pad a" }])),
            ("stack", json!(["stack_scenes", "scenes", "name a", { "pad": "pad a" }])),
            ("images", json!("images")),
            ("largest", json!(["max", "stack", "images"])),
            ("result", result),
        ],
    )
}

/// The largest of several images keeps their padding, and so does what is masked.
#[test]
fn padding_goes_through_reductions_and_masks() {
    let mut world = World::new(uneven);
    world.scenes = vec![window(-50, -50, 100, 53), window(-50, -50, 100, 100), window(-50, 1, 100, 100)];
    for (place, pad) in [(window(0, 0, 5, 6), 2), (window(-1, 1, 1, 4), 1)] {
        let request = |pad| {
            let mut graft = stack(pad, json!(["gradient_y", "masked"]));
            graft["dx"] = json!(["gradient_x", "largest"]);
            graft["steep"] = json!(["gt", "dx", "1"]);
            graft["masked"] = json!(["mask", "dx", "steep"]);
            graft
        };
        let large = place.pad(pad, pad);
        let cropped = world.eval(&request(0), large, 64).crop(&large, &place).encode();
        for tile in [64, 2, 1] {
            assert_eq!(world.eval(&request(pad), place, tile).encode(), cropped, "pad {pad}, tile {tile}");
        }
    }
}

/// Two selections that differ only in padding are two questions.
#[test]
fn selections_know_their_padding() {
    let both = graft((0, 7), &[("sum", json!(["add", "a", "b"])), ("result", json!(["gradient_x", "sum"]))]);
    let expr = resolve(both.to_string().as_bytes(), &Limits::default()).expect("a graft");
    let queries = expr.scene_queries().expect("constant selections");
    let pads: Vec<u32> = queries.iter().map(|(query, _)| query.pad).collect();
    assert_eq!(pads.len(), 2);
    assert!(pads.contains(&0) && pads.contains(&7), "{pads:?}");
    let expr =
        resolve(stack(7, json!(["max", "stack", "images"])).to_string().as_bytes(), &Limits::default());
    let queries = expr.expect("a graft").scene_queries().expect("constant selections");
    assert_eq!(queries.iter().map(|(query, _)| query.pad).collect::<Vec<_>>(), [0]);
}
