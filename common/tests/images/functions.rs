//! Graft functions where the published client has pickled ones.

use graticule_common::graft::{GraftError, resolve};
use graticule_common::limits::Limits;
use graticule_common::literal::Literal;
use serde_json::{Value, json};

use crate::world::{build, graft, ids, literal, planned, reads, refused, scenes_of};

/// A function of the image: its keys, of which `r` is the value.
fn function(keys: Value) -> Value {
    let mut function = json!({
        "parameters": ["i"], "returns": "r", "id_": "id", "acquired_": "acquired", "cloud_": "cloud_fraction",
        "tags_": "tags", "id": ["attr", "i", "id_"], "acquired": ["attr", "i", "acquired_"],
        "cloud": ["attr", "i", "cloud_"], "tags": ["attr", "i", "tags_"],
    });
    function.as_object_mut().expect("an object").extend(keys.as_object().expect("an object").clone());
    function
}

/// The ids that a function keeps.
#[track_caller]
fn kept(keys: Value) -> String {
    let (_, props) = planned(json!({"f": function(keys), "result": ["filter_data", "s", "f"]}), &[]);
    ids(&props).join(" ")
}

/// The groups that a function makes, as JSON.
#[track_caller]
fn groups(keys: Value) -> Value {
    literal(json!({"f": function(keys), "result": ["groupby_data", "s", "f"]})).to_json()
}

/// The key of the first image, as JSON.
#[track_caller]
fn key(keys: Value) -> Value {
    let first = json!({
        "f": function(keys), "at": [[0]], "first": ["pick_images", "s", "at"],
        "result": ["groupby_data", "first", "f"],
    });
    literal(first).to_json()[0][0].clone()
}

#[track_caller]
fn fault(keys: Value) -> String {
    refused(json!({"f": function(keys), "result": ["groupby_data", "s", "f"]}))
}

#[test]
fn a_function_filters_like_the_lambda_it_stands_for() {
    // lambda i: i.cloud_fraction < 0.3 and i.acquired.month >= 2
    let lambda = json!({
        "limit": 0.3, "clear": ["lt", "cloud", "limit"], "month_": "month", "two": 2,
        "month": ["attr", "acquired", "month_"], "late": ["ge", "month", "two"], "r": ["and", "clear", "late"],
    });
    assert_eq!(kept(lambda), "LE7_b LC8_d");
    // The value of a predicate is tested for truth, as in Python.
    assert_eq!(kept(json!({"r": ["attr", "i", "cloud_"]})), "LE7_a LE7_b LC8_e");
    assert_eq!(kept(json!({"r": ["attr", "i", "tags_"]})), "LE7_a LC8_c LC8_e");
    // A comparison with a missing value is false; `ne` is true.
    assert_eq!(kept(json!({"x": 0.25, "r": ["gt", "cloud", "x"]})), "LE7_a LC8_e");
    assert_eq!(kept(json!({"x": 0.25, "r": ["ne", "cloud", "x"]})), "LE7_a LC8_c LC8_d LC8_e");
    assert_eq!(kept(json!({"r": ["is_null", "cloud"]})), "LC8_c");
    // What the first operand decides needs no second.
    let guarded = json!({
        "none": ["is_null", "cloud"], "some": ["invert", "none"], "one": 1, "low": ["sub", "one", "cloud"],
        "half": 0.5, "bright": ["ge", "low", "half"], "r": ["and", "some", "bright"],
    });
    assert_eq!(kept(guarded), "LE7_a LE7_b LC8_d");
    // Dates are instants; texts that are dates compare with them.
    assert_eq!(kept(json!({"t": "2024-02-11", "r": ["ge", "acquired", "t"]})), "LC8_c LC8_d LC8_e");
    let known = json!({"list": [["LE7_a", "LC8_d"]], "r": ["isin", "id", "list"]});
    assert_eq!(kept(known), "LE7_a LC8_d");
}

#[test]
fn images_that_a_function_drops_are_not_read() {
    let c = function(json!({"x": 0.3, "r": ["gt", "cloud", "x"]}));
    let more = json!({"f": c, "x": ["mul", "s", "two"], "y": ["filter_data", "x", "f"], "result": ["max", "y", "images"]});
    assert_eq!(scenes_of(&reads(more)), ["LC8_e", "LE7_a"]);
}

#[test]
fn groups_are_sorted_by_key_and_hold_ids_in_stack_order() {
    let month = json!({"m": "month", "r": ["attr", "acquired", "m"]});
    assert_eq!(groups(month), json!([[1, ["LE7_a", "LC8_e"]], [2, ["LE7_b", "LC8_c"]], [3, ["LC8_d"]]]));
    let tuples = json!({
        "y": "year", "m": "month", "year": ["attr", "acquired", "y"], "month": ["attr", "acquired", "m"],
        "r": ["tuple", "year", "month"],
    });
    assert_eq!(
        groups(tuples),
        json!([
            [[2024, 1], ["LE7_a"]],
            [[2024, 2], ["LE7_b", "LC8_c"]],
            [[2024, 3], ["LC8_d"]],
            [[2025, 1], ["LC8_e"]]
        ])
    );
    let sensor = json!({"from": 0, "to": 3, "r": ["slice", "id", "from", "to"]});
    assert_eq!(groups(sensor), json!([["LC8", ["LC8_c", "LC8_d", "LC8_e"]], ["LE7", ["LE7_a", "LE7_b"]]]));
    let truth = json!({"x": 0.4, "r": ["gt", "cloud", "x"]});
    assert_eq!(groups(truth), json!([[false, ["LE7_b", "LC8_c", "LC8_d"]], [true, ["LE7_a", "LC8_e"]]]));
    // Keys that Python cannot sort stay in the order of the stack.
    let missing = groups(json!({"r": ["attr", "i", "cloud_"]}));
    assert_eq!(missing[2], json!([null, ["LC8_c"]]));
    assert_eq!(missing[0], json!([0.5, ["LE7_a"]]));
    // A missing value keeps its place in a tuple.
    assert_eq!(groups(json!({"r": ["tuple", "id", "cloud"]}))[0][0], json!(["LC8_c", null]));
    // 1, 1.0 and True are one key.
    let mixed = json!({
        "e": "LC8_e", "is_e": ["eq", "id", "e"], "one": 1, "row_": "row", "row": ["attr", "i", "row_"],
        "is_b": ["eq", "row", "one"], "cloud1": ["where", "is_e", "cloud", "row"], "r": ["where", "is_b", "is_b", "cloud1"],
    });
    assert_eq!(groups(mixed)[1], json!([true, ["LE7_b", "LC8_e"]]));
    let none = json!({"f": function(json!({"r": ["neg", "id"]})), "result": ["groupby_data", "empty", "f"]});
    assert_eq!(literal(none).to_json(), json!([]));
}

#[test]
fn parts_of_dates_are_those_of_python_in_utc() {
    // datetime(2024, 1, 5, 10, 0, tzinfo=utc) in Python 3.11.
    let part = |name: &str| key(json!({"part": name, "r": ["attr", "acquired", "part"]}));
    for (name, expect) in [
        ("year", json!(2024)),
        ("month", json!(1)),
        ("day", json!(5)),
        ("hour", json!(10)),
        ("minute", json!(0)),
        ("second", json!(0)),
        ("microsecond", json!(0)),
        ("weekday", json!(4)),
        ("isoweekday", json!(5)),
        ("dayofyear", json!(5)),
        ("week", json!(1)),
        ("date", json!("2024-01-05")),
        ("isoformat", json!("2024-01-05T10:00:00+00:00")),
    ] {
        assert_eq!(part(name), expect, "{name}");
    }
    assert_eq!(key(json!({"r": ["str", "acquired"]})), "2024-01-05 10:00:00+00:00");
    assert_eq!(
        key(json!({"f": "%Y/%j %a %b %y%%", "r": ["strftime", "acquired", "f"]})),
        "2024/005 Fri Jan 24%"
    );
    assert_eq!(key(json!({"r": ["attr", "i", "acquired_"]})), "2024-01-05T10:00:00+00:00");
    let error = fault(json!({"part": "quarter", "r": ["attr", "acquired", "part"]}));
    assert!(error.contains("no attribute `quarter`") && error.contains("isoweekday"), "{error}");
}

#[test]
fn methods_of_texts_are_those_of_python() {
    // Of "LE7_a" in Python.
    let rows = [
        (json!({"x": "LE", "r": ["startswith", "id", "x"]}), json!(true)),
        (json!({"x": [["S2", "LE"]], "r": ["startswith", "id", "x"]}), json!(true)),
        (json!({"x": "b", "r": ["endswith", "id", "x"]}), json!(false)),
        (json!({"x": "7_", "r": ["contains", "id", "x"]}), json!(true)),
        (json!({"x": "y", "r": ["contains", "tags", "x"]}), json!(true)),
        (json!({"x": "_", "r": ["split", "id", "x"]}), json!(["LE7", "a"])),
        (json!({"r": ["upper", "id"]}), json!("LE7_A")),
        (json!({"r": ["lower", "id"]}), json!("le7_a")),
        (json!({"x": "La", "r": ["strip", "id", "x"]}), json!("E7_")),
        (json!({"x": "_", "y": "--", "r": ["replace", "id", "x", "y"]}), json!("LE7--a")),
        (json!({"x": -1, "r": ["item", "id", "x"]}), json!("a")),
        (json!({"x": -2, "r": ["slice", "id", "x"]}), json!("_a")),
        (json!({"x": null, "y": -2, "r": ["slice", "id", "x", "y"]}), json!("LE7")),
        (json!({"x": 9, "y": 1, "r": ["slice", "id", "x", "y"]}), json!("")),
        (json!({"r": ["len", "id"]}), json!(5)),
        (json!({"x": 2, "y": 3, "c": ["slice", "id", "x", "y"], "r": ["int", "c"]}), json!(7)),
        (json!({"r": ["str", "cloud"]}), json!("0.5")),
        (json!({"x": 1e-7, "t": ["mul", "cloud", "x"], "r": ["str", "t"]}), json!("5e-08")),
        (json!({"x": 10, "t": ["mul", "cloud", "x"], "r": ["int", "t"]}), json!(5)),
        (json!({"r": ["add", "id", "id"]}), json!("LE7_aLE7_a")),
        (json!({"x": 3, "y": "day", "d": ["attr", "acquired", "y"], "r": ["floordiv", "d", "x"]}), json!(1)),
        (json!({"x": -3, "y": "day", "d": ["attr", "acquired", "y"], "r": ["mod", "d", "x"]}), json!(-1)),
        (json!({"x": "LE6", "r": ["gt", "id", "x"]}), json!(true)),
        (json!({"n": ["neg", "cloud"], "r": ["abs", "n"]}), json!(0.5)),
    ];
    for (keys, expect) in rows {
        assert_eq!(key(keys.clone()), expect, "{keys}");
    }
}

#[test]
fn faults_name_the_op_the_place_and_the_image() {
    let error = fault(json!({"r": ["upper", "cloud"]}));
    assert!(error.contains("`upper` at `/f/r`, for image `LE7_a`: needs a text, got a number"), "{error}");
    let error = fault(json!({"one": 1, "r": ["add", "cloud", "one"]}));
    assert!(error.contains("`LC8_c`") && error.contains("a missing value"), "{error}");
    let error = fault(json!({"zero": 0, "x": ["truediv", "cloud", "zero"], "r": ["neg", "x"]}));
    assert!(error.contains("`truediv` at `/f/x`"), "{error}");
    let error = fault(json!({"one": 1, "r": ["lt", "id", "one"]}));
    assert!(error.contains("a text and a whole number have no order"), "{error}");
    let error = fault(json!({"axis": "images", "r": ["max", "id", "axis"]}));
    assert!(error.contains("`max`") && error.contains("properties alone"), "{error}");
    let error = fault(json!({"r": ["tuple", "i"]}));
    assert!(error.contains("take one of its properties"), "{error}");
    // Only what is needed must have a value.
    let error = build(
        json!({"f": function(json!({"x": ["upper", "cloud"], "r": ["is_null", "id"]})), "result": ["filter_data", "s", "f"]}),
        &Default::default(),
    );
    assert!(error.is_ok(), "{error:?}");
}

#[test]
fn a_function_sees_constants_around_it_and_no_pixels() {
    let more = json!({
        "limit": ["truediv", "one", "two"],
        "count": ["length", "s"],
        "f": function(json!({"x": ["le", "cloud", "limit"], "y": ["lt", "cloud", "count"], "r": ["and", "x", "y"]})),
        "result": ["filter_data", "s", "f"],
    });
    assert_eq!(ids(&planned(more, &[]).1), ["LE7_a", "LE7_b", "LC8_d"]);
    for captured in ["m", "scenes"] {
        let more = json!({"f": function(json!({"r": ["lt", "cloud", captured]})), "result": ["filter_data", "s", "f"]});
        let error = refused(more);
        assert!(error.contains("outside, as in `mask`"), "{captured}: {error}");
    }
    let error = refused(
        json!({"f": {"parameters": ["a", "b"], "returns": "a"}, "result": ["filter_data", "s", "f"]}),
    );
    assert!(error.contains("one argument, the image; it has 2 parameters"), "{error}");
    let inner =
        function(json!({"g": function(json!({"r": ["eq", "id", "cloud"]})), "r": ["filter_data", "s", "g"]}));
    let error = refused(json!({"f": inner, "result": ["filter_data", "s", "f"]}));
    assert!(error.contains("inside a function that is an argument"), "{error}");
    // A function that a function applies is no such thing.
    let applied = json!({
        "month": {"parameters": ["image"], "a": "acquired", "m": "month", "t": ["attr", "image", "a"], "r": ["attr", "t", "m"], "returns": "r"},
        "f": {"parameters": ["x"], "m": ["month", "x"], "two_": 2, "r": ["eq", "m", "two_"], "returns": "r"},
        "result": ["filter_data", "s", "f"],
    });
    assert_eq!(ids(&planned(applied, &[]).1), ["LE7_b", "LC8_c"]);
}

fn expr(more: Value) -> graticule_common::expr::Expr {
    resolve(graft(more).to_string().as_bytes(), &Limits::default()).expect("a graft")
}

#[test]
fn functions_print_as_grafts_and_their_names_do_not_matter() {
    let with = |name: &str, local: &str| {
        json!({
            "limit": 0.5,
            "f": {
                "parameters": [name], "c": "cloud_fraction", local: ["attr", name, "c"],
                "y": ["lt", local, "limit"], "returns": "y",
            },
            "x": ["filter_data", "s", "f"], "g": {"parameters": ["z"], "returns": "z"},
            "y": ["filter_data", "x", "g"], "result": ["max", "y", "images"],
        })
    };
    let first = expr(with("image", "x"));
    assert_eq!(expr(with("i", "cloud")).hash(), first.hash());
    let mut other = with("image", "x");
    other["limit"] = json!(0.25);
    assert_ne!(expr(other).hash(), first.hash());
    let printed = first.to_graft();
    let again = resolve(printed.to_string().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(again.hash(), first.hash(), "{printed}");
    assert_eq!(again.to_graft(), printed);
}

#[test]
fn a_reducer_may_be_a_function_of_the_array_and_the_axis() {
    let range = json!({
        "parameters": ["a", "axis"], "high": ["max", "a", "axis"], "name": "min",
        "low": ["reduction", "a", "name", "axis"], "r": ["sub", "high", "low"], "returns": "r",
    });
    for (axis, kind) in [("images", "Mosaic"), ("bands", "ImageStack")] {
        let named = json!({"axis": axis, "result": ["ptp", "s", "axis"]});
        let own = json!({"f": range, "axis": axis, "k": "ImageStack", "result": ["reduction", "s", "f", "axis", "k"]});
        let ((a, a_props), (b, b_props)) = (planned(named, &[]), planned(own.clone(), &[]));
        assert_eq!(b.root_node().facts, a.root_node().facts);
        assert_eq!(b.root_node().facts.kind.name(), kind);
        assert_eq!(b_props.dicts().collect::<Vec<_>>(), a_props.dicts().collect::<Vec<_>>());
        assert_eq!(crate::world::evaluate(&b).0, crate::world::evaluate(&a).0);
        reads(own);
    }
    let wrong = |f: Value, stack: &str, axis: &str| {
        refused(json!({"f": f, "axis": axis, "result": ["reduction", stack, "f", "axis"]}))
    };
    let keeps = json!({"parameters": ["a", "axis"], "m": ["mean", "a", "axis"], "r": ["sub", "a", "m"], "returns": "r"});
    let error = wrong(keeps, "s", "images");
    assert!(error.contains("must give") && error.contains("`images`"), "{error}");
    let error = wrong(json!({"parameters": ["a", "axis"], "five": 5, "returns": "five"}), "s", "images");
    assert!(error.contains("it gives an integer"), "{error}");
    let error = wrong(range.clone(), "m", "images");
    assert!(error.contains("no axis `images`"), "{error}");
    let error = wrong(json!({"parameters": ["a"], "returns": "a"}), "s", "images");
    assert!(error.contains("two arguments, the array and the axis"), "{error}");
}

#[test]
fn over_images_of_an_empty_stack_a_reducer_is_not_called() {
    // It would fail: there is no first image.
    let first =
        json!({"parameters": ["a", "axis"], "zero_": 0, "r": ["index", "a", "zero_"], "returns": "r"});
    let with = |stack: &str| json!({"f": first, "result": ["reduction", stack, "f", "images"]});
    assert_eq!(planned(with("s"), &[]).0.root_node().facts.kind.name(), "Mosaic");
    let (plan, props) = planned(with("empty"), &[]);
    assert_eq!(plan.root_node().facts.kind.bands(), Some(2));
    assert_eq!(props.dicts().collect::<Vec<_>>(), [Default::default()]);
    let (tiles, read) = crate::world::evaluate(&plan);
    let valid = |tile: &bytes::Bytes| {
        graticule_common::block::Block::decode(tile).expect("a block").valid().contains(&1)
    };
    assert!(read.is_empty() && !tiles.iter().any(valid));
    // A fault that is needed stays one.
    let needed = json!({"f": first, "x": ["reduction", "empty", "f", "images"], "y": ["index", "empty", "zero"], "result": ["add", "x", "y"]});
    assert!(refused(needed).contains("no images"));
}

#[test]
fn pickles_are_refused_with_the_traced_alternative() {
    // What Python's pickle.dumps(len) gives, and cloudpickle would begin with.
    let pickled = "gASVFAAAAAAAAACMCGJ1aWx0aW5zlIwDbGVulJOULg==";
    for (call, says) in [
        (json!(["filter_data", "s", "k"]), "`{\"parameters\": [\"image\"]"),
        (json!(["groupby_data", "s", "k"]), "key as a traced function"),
        (json!(["reduction", "s", "k", "images"]), "the array and the axis"),
        (json!(["code", "k", "s"]), "graft function"),
    ] {
        let error = build(json!({"k": pickled, "result": call}), &Default::default()).expect_err("a fault");
        assert_eq!(error.0, "unsupported", "{call}");
        assert!(error.1.contains("callable") && error.1.contains(says), "{call}: {}", error.1);
        assert!(error.1.contains("`/result`"), "{}", error.1);
    }
    let text = json!({"k": "month", "result": ["groupby_data", "s", "k"]});
    let error = build(text, &Default::default()).expect_err("a fault");
    assert!(error.0 == "invalid_request" && error.1.contains("neither JSON nor a callable"), "{}", error.1);
}

#[test]
fn expression_objects_of_the_catalog_client_are_conditions() {
    // cloudpickle.dumps(Properties().id.prefix("S2")), with "LE" for "S2".
    let text = "gAWVdgAAAAAAAACMPGVhcnRoZGFpbHkuZWFydGhvbmUuY29yZS5jb21tb24ucHJvcGVydHlfZmlsdGVyaW5nLmZpbHRlcmluZ5SMEFByZWZpeEV4cHJlc3Npb26Uk5QpgZR9lCiMBG5hbWWUjAJpZJSMBXZhbHVllIwCTEWUdWIu";
    let (_, props) = planned(json!({"k": text, "result": ["filter_data", "s", "k"]}), &[]);
    assert_eq!(ids(&props), ["LE7_a", "LE7_b"]);
    let error = refused(json!({"k": text, "result": ["groupby_data", "s", "k"]}));
    assert!(error.contains("callable"), "{error}");
}

#[test]
fn functions_of_many_steps_are_refused() {
    // f(x) = g(g(...)), each twice: steps double, and the resolver counts them.
    let mut more = json!({"f0": {"parameters": ["x"], "r": ["tuple", "x", "x"], "returns": "r"}});
    for level in 1..40 {
        let inner = format!("f{}", level - 1);
        more[format!("f{level}")] =
            json!({"parameters": ["x"], "a": [inner, "x"], "r": [inner, "a"], "returns": "r"});
    }
    more["result"] = json!(["filter_data", "s", "f39"]);
    let error = resolve(graft(more).to_string().as_bytes(), &Limits::default()).expect_err("a fault");
    assert!(matches!(error, GraftError::Limit { .. }), "{error}");
    // Many functions over one long body, which each of them would take anew.
    let mut more = json!({"x0": ["attr", "i", "id_"], "parameters": ["i"], "id_": "id", "returns": "r"});
    for level in 1..1000 {
        more[format!("x{level}")] = json!(["add", format!("x{}", level - 1), "id_"]);
    }
    let mut many = json!({"y0": ["neg", "s"]});
    for at in 0..3000 {
        many[format!("k{at}")] = json!(at);
        many[format!("y{}", at + 1)] = json!(["filter_data", format!("y{at}"), format!("f{at}")]);
        many[format!("f{at}")] = json!({"parameters": ["i"], "x": ["long", "i"], "r": ["ne", "x", format!("k{at}")], "returns": "r"});
    }
    more["r"] = json!(["len", "x999"]);
    (many["long"], many["result"]) = (more, json!(["length", "y3000"]));
    let error = build(many, &Default::default()).expect_err("a fault");
    assert_eq!(error.0, "limit_exceeded", "{}", error.1);
    // Values that grow by doubling are refused as soon as they are large.
    let mut keys = json!({"x0": ["tuple", "id", "id"]});
    for level in 1..40 {
        keys[format!("x{level}")] = json!(["tuple", format!("x{}", level - 1), format!("x{}", level - 1)]);
    }
    keys["r"] = json!(["len", "x39"]);
    assert!(fault(keys).contains("bytes, which is the limit"));
}

#[test]
fn ops_of_properties_work_on_constants() {
    let more = json!({"text": "a,b", "comma": ",", "result": ["split", "text", "comma"]});
    assert_eq!(literal(more), Literal::List(vec![Literal::Str("a".into()), Literal::Str("b".into())]));
    assert!(refused(json!({"result": ["upper", "m"]})).contains("inside a function"));
}
