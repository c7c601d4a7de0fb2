//! Images of a stack are chosen by their properties, and only what is chosen is read.

use graticule_common::block::{Block, Samples};
use graticule_common::eval::eval;
use graticule_common::grid::TileSize;
use graticule_common::literal::Literal;
use graticule_common::plan::{Options, Outcome};
use serde_json::{Value, json};

mod functions;
mod world;

use world::{Around, build, ids, literal, planned, reads, refused, scenes_of};

/// The ids that a condition keeps.
#[track_caller]
fn kept(predicate: Value) -> Vec<String> {
    let text = predicate.to_string();
    ids(&planned(json!({"c": text, "result": ["filter_data", "s", "c"]}), &[]).1)
}

#[test]
fn a_condition_keeps_images_in_their_order() {
    let clear = json!({"op": "lte", "name": "cloud_fraction", "val": 0.25});
    assert_eq!(kept(clear.clone()), ["LE7_b", "LC8_d"]);
    // What is missing compares as false, but differs from everything.
    assert_eq!(kept(json!({"op": "gt", "name": "cloud_fraction", "val": 0.25})), ["LE7_a", "LC8_e"]);
    assert_eq!(
        kept(json!({"op": "ne", "name": "cloud_fraction", "val": 0.25})),
        ["LE7_a", "LC8_c", "LC8_d", "LC8_e"]
    );
    assert_eq!(kept(json!({"op": "isnull", "name": "cloud_fraction"})), ["LC8_c"]);
    // Times are instants, lists contain, a list of conditions is an `and`.
    let spring = json!({"op": "gte", "name": "acquired", "val": "2024-02-11T02:00:00+02:00"});
    assert_eq!(kept(spring.clone()), ["LC8_c", "LC8_d", "LC8_e"]);
    assert_eq!(kept(json!({"op": "eq", "name": "tags", "val": "y"})), ["LE7_a", "LC8_e"]);
    assert_eq!(kept(json!({"op": "ilike", "name": "id", "val": "le7%"})), ["LE7_a", "LE7_b"]);
    assert_eq!(kept(json!([spring, clear])), ["LC8_d"]);
    assert_eq!(kept(json!([])), ["LE7_a", "LE7_b", "LC8_c", "LC8_d", "LC8_e"]);
    let none = planned(json!({"c": "{\"or\": []}", "result": ["filter_data", "s", "c"]}), &[]);
    assert_eq!((none.1.images(), none.0.root_node().facts.kind.images()), (Some(0), Some(0)));
}

#[test]
fn filters_act_on_computed_and_masked_stacks() {
    let c = "{\"op\": \"gt\", \"name\": \"cloud_fraction\", \"val\": 0.25}";
    let computed = json!({
        "c": c, "twice": ["mul", "s", "two"], "dark": ["lt", "m", "two"], "masked": ["mask", "twice", "dark"],
        "result": ["filter_data", "masked", "c"],
    });
    let (plan, props) = planned(computed.clone(), &[]);
    assert_eq!(ids(&props), ["LE7_a", "LC8_e"]);
    assert_eq!(plan.root_node().facts.kind.images(), Some(2));
    // The mosaic of all scenes stays; the stack's dropped images do not come through it.
    assert_eq!(reads(computed).len(), 10);
    let unmasked = json!({"c": c, "twice": ["mul", "s", "two"], "result": ["filter_data", "twice", "c"]});
    assert_eq!(scenes_of(&reads(unmasked)), ["LC8_e", "LE7_a"]);
}

#[test]
fn ids_choose_images_in_the_order_of_the_stack() {
    let by_id = |ids: Value| json!({"ids": ids, "result": ["filter_by_id", "s", "ids"]});
    let (plan, props) = planned(by_id("[\"LC8_d\", \"other\", \"LE7_a\", \"LE7_a\"]".into()), &[]);
    assert_eq!(ids(&props), ["LE7_a", "LC8_d"]);
    assert_eq!(plan.root_node().facts.kind.images(), Some(2));
    assert_eq!(ids(&planned(by_id(json!([["LC8_c"]])), &[]).1), ["LC8_c"]);
    assert_eq!(planned(by_id("[]".into()), &[]).1.images(), Some(0));
    for wrong in ["LC8_c", "{}", "[1]"] {
        assert!(refused(by_id(wrong.into())).contains("JSON list of image ids"), "{wrong}");
    }
}

#[test]
fn an_image_of_a_stack_is_a_mosaic_with_its_properties() {
    let at = |i: Value| json!({"i": i, "result": ["index", "s", "i"]});
    for (i, id) in [(0, "LE7_a"), (4, "LC8_e"), (-1, "LC8_e"), (-5, "LE7_a")] {
        let (plan, props) = planned(at(i.into()), &[]);
        assert_eq!((props.images(), props.get("id")), (None, Some(&json!(id))), "{i}");
        assert_eq!(plan.root_node().facts.kind.name(), "Mosaic");
    }
    for i in [5, -6] {
        let error = refused(at(i.into()));
        assert!(error.contains("`/result`") && error.contains("from -5 to 4"), "{error}");
    }
    assert!(refused(at(1.0.into())).contains("whole number"));
    assert!(refused(json!({"result": ["index", "m", "zero"]})).contains("ImageStack"));
    assert!(refused(json!({"result": ["index", "empty", "zero"]})).contains("no images"));
}

#[test]
fn lengths_need_no_pixel() {
    assert_eq!(literal(json!({"result": ["length", "s"]})), Literal::Int(5));
    assert_eq!(literal(json!({"result": ["length", "empty"]})), Literal::Int(0));
    let c = "{\"op\": \"isnotnull\", \"name\": \"cloud_fraction\"}";
    let some =
        json!({"c": c, "f": ["filter_data", "s", "c"], "n": ["length", "f"], "result": ["mul", "n", "two"]});
    assert_eq!(literal(some), Literal::Int(8));
    assert!(refused(json!({"result": ["length", "m"]})).contains("ImageStack"));
}

#[test]
fn images_that_are_dropped_are_not_read() {
    let pick = |more: Value| {
        let mut all = json!({"ends": [[1, -1]], "first": [[0]], "a": "a", "last": -1});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        reads(all)
    };
    let scenes = |more: Value| scenes_of(&pick(more)).join(" ");
    assert_eq!(scenes(json!({"result": ["pick_images", "s", "ends"]})), "LC8_e LE7_b");
    assert_eq!(scenes(json!({"result": ["index", "s", "last"]})), "LC8_e");
    // Below value-by-value ops, with numbers, mosaics and other stacks beside them.
    assert_eq!(
        scenes(json!({"x": ["mul", "s", "two"], "y": ["sub", "x", "s"], "result": ["index", "y", "one"]})),
        "LE7_b"
    );
    // Picks of picks, and of images and bands in either order.
    let both = json!({
        "x": ["pick_images", "s", "ends"], "y": ["neg", "x"], "z": ["pick_bands", "y", "a"],
        "result": ["index", "z", "zero"],
    });
    assert_eq!(pick(both), [("LE7_b".to_owned(), 1)]);
    let other = json!({
        "x": ["pick_bands", "s", "a"], "y": ["pick_images", "x", "ends"], "result": ["max", "y", "images"],
    });
    assert_eq!(pick(other), [("LC8_e".to_owned(), 1), ("LE7_b".to_owned(), 1)]);
    // Joined bands.
    let joined = json!({
        "x": ["concat_bands", "s", "s"], "y": ["pick_images", "x", "first"], "result": ["neg", "y"],
    });
    assert_eq!(scenes(joined), "LE7_a");
    // An empty choice reads nothing.
    let nothing = json!({"no": [[]], "x": ["neg", "s"], "result": ["pick_images", "x", "no"]});
    assert!(pick(nothing).is_empty());
}

#[test]
fn a_stack_that_is_used_whole_is_read_once() {
    let more = json!({"first": ["index", "s", "zero"], "result": ["sub", "s", "first"]});
    assert_eq!(reads(more.clone()).len(), 10);
    assert_eq!(planned(more, &[]).0.reads().count(), 1);
    let more = json!({"x": ["neg", "s"], "first": ["index", "x", "zero"], "result": ["sub", "x", "first"]});
    assert_eq!(reads(more.clone()).len(), 10);
    assert_eq!(planned(more, &[]).0.reads().count(), 1);
}

#[test]
fn chosen_images_hold_the_pixels_of_the_stack() {
    let tile = |more: Value| {
        let options = Options { tile_size: TileSize::new(16), ..Options::default() };
        let Ok(Outcome::Raster { plan, .. }) = build(more, &options) else { panic!("no raster") };
        let tile = plan.tile(plan.tiles()[0]).unwrap();
        eval(&tile, Vec::new(), &mut Around::default()).unwrap().swap_remove(0)
    };
    let whole = tile(json!({"result": ["neg", "s"]}));
    let some = tile(json!({"at": [[1, 3]], "x": ["neg", "s"], "result": ["pick_images", "x", "at"]}));
    let one = tile(json!({"at": 3, "x": ["neg", "s"], "result": ["index", "x", "at"]}));
    let image = |block: &Block, at: usize| {
        let Samples::F32(values) = block.samples() else { panic!("numbers") };
        (values[at * 24..][..24].to_vec(), block.valid()[at * 24..][..24].to_vec())
    };
    let bits = |(values, valid): (Vec<f32>, Vec<u8>)| {
        let pixels = values.into_iter().zip(valid);
        pixels.map(|(value, valid)| (valid != 0).then_some(value)).collect::<Vec<_>>()
    };
    assert_eq!(bits(image(&some, 0)), bits(image(&whole, 1)));
    assert_eq!(bits(image(&some, 1)), bits(image(&whole, 3)));
    assert_eq!(bits(image(&one, 0)), bits(image(&whole, 3)));
}
