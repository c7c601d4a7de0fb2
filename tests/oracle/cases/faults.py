"""Grafts that must be refused."""

from __future__ import annotations

from ..grafts import Key, array, function, quoted, written
from .shorthand import (
    above,
    flat,
    images,
    join,
    math,
    mosaic,
    none,
    one,
    over_images,
    pick,
    rename,
    select,
    stack,
    three,
    two,
)


def fault_cases():
    """Faults as name: (graft, class, words of the message, place or None)."""
    source = {"m": two("a b")}
    cases = {}

    def fault(name, kind, contains, at, body, **named):
        graft = body if not isinstance(body, dict) else written(body, **named)
        cases[name] = (graft, kind, contains, at)

    def wrong(name, contains, at, body, **named):
        fault(name, "invalid_request", contains, at, body, **named)

    wrong("not_an_object", [], None, [1, 2])
    wrong("missing_returns", ["returns"], None, {"x": 1})
    wrong("returns_not_a_name", ["returns"], None, {"returns": 5, "x": 1})
    wrong("returns_unknown", ["nowhere"], None, {"returns": "nowhere", "x": 1})
    wrong("empty_application", [], "/x", {"returns": "x", "x": []})
    wrong("inline_argument", [], None, {"returns": "x", "n": "add", "x": ["math", "n", "m", 1]}, **source)
    wrong("unreachable_malformed", [], "/lost", {"returns": "x", "x": 1, "lost": []})
    wrong("nested_missing_returns", ["returns"], "/f", {"returns": "x", "f": {"y": 1}, "x": ["f"]})
    wrong("unknown_function", ["nope"], "/x", {"returns": "x", "a": 1, "x": ["nope", "a"]})
    wrong("unknown_argument", ["gone"], "/x/2", {"returns": "x", "n": "neg", "x": ["math", "n", "gone", "n"]})
    body = {"returns": "x", "n": "add", "x": ["math", "n", "returns", "n"]}
    wrong("returns_as_a_key", ["returns"], "/x/2", body)
    wrong("not_a_function", [], "/x", {"returns": "x", "k": 3, "x": ["k", "k"]})
    body = {"returns": "x", "n": "add", "x": ["math", "n", "y", "y"], "y": ["math", "n", "x", "x"]}
    wrong("cycle", ["cycle"], None, body)
    wrong("cycle_of_one", ["cycle"], None, {"returns": "x", "n": "add", "x": ["math", "n", "x", "x"]})
    wrong("few_arguments", ["math"], "/x", {"returns": "x", "n": "neg", "x": ["math", "n"]})
    body = {"returns": "x", "n": "add", "x": ["math", "n", "m", "m", "m"]}
    wrong("many_arguments", ["math"], "/x", body, **source)
    body = {"returns": "x", "f": {"parameters": ["v"], "returns": "v"}}
    wrong("function_few_arguments", ["v"], "/x", {**body, "x": ["f"]})
    wrong("function_many_arguments", [], "/x", {**body, "x": ["f", "m", "m"]}, **source)
    wrong("bound_twice", ["v"], "/x", {**body, "x": ["f", "m", {"v": "m"}]}, **source)
    wrong("no_such_parameter", ["w"], "/x", {**body, "x": ["f", {"w": "m"}]}, **source)
    body = {"returns": "x", "f": {"parameters": ["v", "v"], "returns": "v"}, "x": ["f", "m", "m"]}
    wrong("repeated_parameter", [], None, body, **source)
    body = {"returns": "x", "n": "xor", "x": ["math", "n", "m", "m"]}
    wrong("unknown_math", ["xor"], "/x", body, **source)
    body = {"returns": "x", "n": 5, "x": ["math", "n", "m", "m"]}
    wrong("math_name_not_a_string", [], "/x", body, **source)
    wrong(
        "product_not_a_string",
        [],
        "/x",
        {"returns": "y"},
        y=("stack_scenes", Key("x"), "a", {"pad": 0, "resampler": "near"}),
        x=select("a", None, None, 5),
    )
    wrong(
        "date_not_a_date",
        ["someday"],
        "/x",
        {"returns": "y"},
        y=("stack_scenes", Key("x"), "a", {"pad": 0, "resampler": "near"}),
        x=select("a", "someday", None, "made:up"),
    )
    wrong("bands_not_names", [], "/x", {"returns": "x"}, x=("band_op", two("a b"), "pick_bands", "[1]", None))
    wrong("string_as_operand", [], "/x", {"returns": "x"}, x=math("add", two("a"), "a"))
    wrong(
        "unknown_reducer_axis",
        ["rows"],
        "/x",
        {"returns": "x"},
        x=("reduction", two("a"), "max", "rows", "ImageStack"),
    )

    def impossible(name, contains, node):
        fault(name, "impossible", contains, "/x", {"returns": "x"}, x=node)

    impossible("mosaic_unknown_band", ["zz"], mosaic("a zz"))
    impossible("ids_unknown_band", ["c"], images("a c", "s1", "o1"))
    fault("ids_unknown", "not_found", ["s9"], "/x", {"returns": "x"}, x=images("a", "s1", "s9"))
    bools = above(two("a"), 1)
    impossible(
        "unknown_band",
        ["zz"],
        ("stack_scenes", select("a", None, None, "made:up"), "a zz", {"pad": 0, "resampler": "near"}),
    )
    impossible("band_counts_differ", ["2", "3"], math("add", two("a b"), two("a b c")))
    impossible("band_counts_differ_mosaic", ["3", "2"], math("mul", flat("a b c"), two("a b")))
    impossible("image_counts_differ", ["2", "3"], math("add", two("a"), three("a")))
    impossible("image_counts_differ_empty", ["0", "3"], math("add", none("a"), three("a")))
    impossible("bool_minus_bool", ["bool"], math("sub", bools, bools))
    impossible("bool_rsub_true", ["bool"], math("rsub", bools, True))
    impossible("neg_of_bool", ["bool"], math("neg", bools))
    impossible("and_of_float", ["bool"], math("_and", two("a"), bools))
    impossible("or_with_a_number", ["bool"], math("_or", bools, 1))
    impossible("invert_of_float", ["bool"], math("invert", two("a")))
    impossible("mask_not_bool", ["bool"], ("mask", two("a b"), two("q")))
    impossible("mask_mosaic_by_stack", [], ("mask", flat("a"), bools))
    impossible("mask_band_count", ["3", "2"], ("mask", two("a b"), above(two("a b c"), 1)))
    impossible("mask_one_band_by_two", ["2", "1"], ("mask", two("a"), above(two("a b"), 1)))
    impossible("mask_image_count", [], ("mask", three("a"), bools))
    impossible("mask_one_image_on_many", [], ("mask", three("a"), above(one("a"), 1)))
    impossible("pick_unknown", ["zz"], pick(two("a b"), "a", "zz"))
    impossible("pick_lost_names", ["a"], pick(over_images(none("a b")), "a"))
    impossible("pick_old_name", ["a"], pick(rename(two("a b"), "x", "y"), "a"))
    impossible("rename_count", ["3", "2"], rename(two("a b"), "x", "y", "z"))
    impossible("concat_image_counts", ["2", "3"], join(two("a"), three("b")))
    impossible("concat_one_image_with_many", ["1", "3"], join(one("a"), three("b")))
    impossible("concat_kinds", [], join(two("a"), flat("b")))
    impossible("reduction_kind", ["Mosaic"], ("reduction", two("a"), "max", "images", "Mosaic"))
    impossible("reduction_of_mosaic", [], ("reduction", flat("a"), "max", "images", "ImageStack"))
    body = {
        "returns": "x",
        "f": {"parameters": ["v"], "returns": "y", "n": "neg", "z": None, "y": ["math", "n", "v", "z"]},
        "x": ["f", "m"],
    }
    fault("neg_of_bool_in_a_function", "impossible", ["bool"], "/f/y", body, m=bools)

    # What the whole language adds.
    m, s = mosaic("a b"), two("a b")
    pickle = "gAWVtAEAAAAAAACMF2Nsb3VkcGlja2xlLmNsb3VkcGlja2xllIwOX21ha2VfZnVuY3Rpb26Uk5Qu"
    array_parameter, image = Key("a"), Key("image")

    def at_x(name, kind, contains, node):
        fault(name, kind, contains, "/x", {"returns": "x"}, x=node)

    def refused(name, contains, node):
        at_x(name, "invalid_request", contains, node)

    at_x("pickled_predicate", "unsupported", ["callable"], ("filter_data", s, pickle))
    at_x("pickled_key_function", "unsupported", ["callable"], ("groupby_data", s, pickle))
    at_x("pickled_reducer", "unsupported", ["callable"], ("reduction", s, pickle, "images", "ImageStack"))
    impossible("two_pads", ["1", "2"], math("add", mosaic("a", pad=1), mosaic("b", pad=2)))
    impossible("two_pads_of_stacks", ["1", "3"], math("mul", stack("a", pad=1), stack("b", pad=3)))
    refused("unknown_reducer", ["variance"], ("reduction", s, "variance", "images", "ImageStack"))
    refused("unknown_axis", ["images"], ("reduction", s, "max", "image", "ImageStack"))
    refused("unknown_axis_own_name", ["rows"], ("sum", s, "rows"))
    impossible("argmax_over_pixels", ["argmax"], ("reduction", s, "argmax", "pixels", "ImageStack"))
    impossible("argmin_over_pixels", ["argmin"], ("argmin", m, "pixels"))
    impossible("first_over_pixels", ["first"], ("first", s, "pixels"))
    impossible("last_over_pixels", ["last"], ("last", s, "pixels"))
    impossible("ptp_of_bool", ["bool"], ("ptp", above(s, 1), "images"))
    impossible("mosaic_over_images", ["images"], ("median", m, "images"))
    refused("percentile_above_100", ["101"], ("percentile", s, "images", 101))
    refused("percentile_below_0", ["-1"], ("percentile", s, "pixels", -1))
    refused("percentile_without_q", ["q"], ("reduction", s, "percentile", "images", "ImageStack"))
    refused("index_too_large", ["2"], ("index", s, 2))
    refused("index_too_negative", ["-3"], ("index", s, -3))
    refused("index_of_an_empty_stack", ["0"], ("index", none("a"), 0))
    refused("index_of_a_mosaic", ["Mosaic"], ("index", m, 0))
    refused("length_of_a_mosaic", ["Mosaic"], ("length", m))
    refused("filter_of_a_mosaic", ["Mosaic"], ("filter_data", m, "{}"))
    refused("clip_reversed", ["1", "0"], ("clip", s, 1, 0))
    refused("clip_empty", ["1"], ("clip", s, 1, 1))
    refused("bit_out_of_range", ["32"], ("bit", s, 32))
    refused("bits_out_of_range", ["13"], ("bits", s, 20, 13))
    refused("focal_even", ["4"], ("focal_mean", m, 4))
    refused("focal_zero", ["0"], ("focal_max", m, 0))
    refused("kernel_even", ["2"], ("convolve", m, quoted([[1, 2]])))
    impossible("dilate_of_numbers", ["bool"], ("dilate", m, 3))
    impossible("where_of_numbers", ["bool"], ("where", m, m, m))
    impossible("dot_lengths", ["2", "3"], ("dot", m, array([1, 2, 3]), "Mosaic", "ndarray"))
    impossible("dot_matrix_lengths", ["3", "2"], ("dot", array([[1, 2, 3]]), m, "ndarray", "Mosaic"))
    impossible("dot_stacks_lengths", ["2", "3"], ("dot", s, three("a b"), "ImageStack", "ImageStack"))
    impossible("dot_kinds", ["Mosaic"], ("dot", s, array([1, 2]), "Mosaic", "ndarray"))
    impossible("vector_fits_nothing", ["5"], math("add", m, array([1, 2, 3, 4, 5])))
    impossible("matrix_fits_nothing", ["3"], math("add", m, array([[1, 2, 3], [4, 5, 6]])))
    impossible("mask_array_of_numbers", ["bool"], ("mask", m, array([[1.0]])))
    impossible("pixels_of_other_bands", ["2", "3"], math("add", m, ("max", mosaic("a b c"), "pixels")))
    refused("array_of_no_npy", [], ("array", "bm90IG51bXB5"))
    keep = function(["a", "axis"], math("add", array_parameter, 1))
    impossible("function_that_does_not_reduce", [], ("reduction", s, keep, "images", "ImageStack"))
    few = function(["a"], ("max", array_parameter, "images"))
    refused("reducer_of_one_parameter", [], ("reduction", s, few, "images", "ImageStack"))
    wrong(
        "function_unknown_property_op",
        ["name"],
        None,
        {"returns": "x"},
        x=("filter_data", s, function(["image"], ("attr", image))),
    )

    fault(
        "unknown_product",
        "not_found",
        ["made:none"],
        "/x",
        {"returns": "y"},
        y=("stack_scenes", Key("x"), "a", {"pad": 0, "resampler": "near"}),
        x=select("a", None, None, "made:none"),
    )
    return cases
