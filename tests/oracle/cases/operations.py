"""Every op beyond the first: plainly, on what is easy and on what is not."""

from __future__ import annotations

import json

from ..grafts import Key, array, function, quoted
from .shorthand import (
    above,
    case,
    finite,
    flat,
    join,
    math,
    mosaic,
    none,
    one,
    other,
    over_images,
    reduced,
    stack,
    tame,
    three,
)

CLIENT_FUNCTIONS = "sqrt cos sin tan arccos arcsin arctan log log10".split()
REDUCERS = "max min mean median sum std argmax argmin count any all first last var ptp".split()


def cases():
    found = {}
    for family in (functions, reductions, pixels, stacks, dots, paddings, windows, properties):
        for name, node in family().items():
            assert name not in found, name
            found[name] = node
    return found


def wild():
    """Infinities of both signs and NaN among the values."""
    huge = math("mul", stack("a b"), 1e30)
    return math("sub", huge, math("add", huge, stack("c q")))


def functions():
    a, ab, q = one("a"), one("a b"), one("q")
    bools = above(ab, 0.25)
    found = {}
    for name in CLIENT_FUNCTIONS:
        found[f"functional_{name}"] = ("functional", ab, name)
        found[f"own_{name}"] = (name, three("c"))
    for name in ("exp", "floor", "ceil", "round"):
        found[f"own_{name}"] = (name, ab)
    for name in ("sqrt", "arcsin", "exp", "round"):
        found[f"{name}_bool"] = (name, bools)
    for name in ("sqrt", "sin", "arctan", "log", "exp", "floor"):
        found[f"{name}_wild"] = (name, wild())
    found["functional_number"] = math("mul", a, ("functional", 2.25, "sqrt"))
    found["round_half_to_even"] = ("round", math("truediv", math("sub", q, 2), 2))
    found["arctan2_bands"] = math("arctan2", one("a"), one("b"))
    found["arctan2_own"] = ("arctan2", ab, one("b c"))
    found["arctan2_number"] = math("arctan2", a, 2)
    found["mod_bands"] = ("mod", three("a"), three("b"))
    found["mod_number"] = ("mod", ab, 0.75)
    found["mod_negative"] = ("mod", ab, -2.5)
    found["mod_zero"] = ("mod", ab, 0)
    found["minimum_bands"] = ("minimum", one("a"), one("b"))
    found["maximum_number"] = ("maximum", ab, 1)
    found["minimum_nan_wins"] = ("minimum", wild(), stack("q"))
    found["maximum_nan_wins"] = ("maximum", stack("q"), wild())
    found["maximum_bool"] = ("maximum", above(a, 0), above(one("b"), 0))
    found["clip"] = ("clip", ab, -1, 2.5)
    found["clip_bool"] = ("clip", bools, 0.25, 0.75)
    found["clip_wild"] = ("clip", wild(), -100, 100)
    found["filled"] = ("filled", three("a b"), -1)
    found["filled_empty_max"] = ("filled", over_images(none("a b")), 7)
    found["where_stacks"] = case(("where", above(three("a"), 0), three("b"), three("c")))
    found["where_numbers"] = case(("where", above(ab, 0), 1, 0.5))
    found["where_bools"] = case(("where", above(a, 0), above(one("b"), 1), math("lt", one("c"), 1)))
    found["where_bool_and_number"] = case(("where", above(a, 0), above(one("b"), 1), 2))
    found["isin"] = ("isin", q, quoted([1, 3, 4.5]))
    found["isin_none"] = ("isin", q, quoted([]))
    found["normalized_difference_op"] = ("normalized_difference", one("a"), one("b"))
    found["bit"] = ("bit", three("q"), 1)
    found["bit_of_anything"] = ("bit", ab, 2)
    found["bits"] = ("bits", math("mul", three("q"), 37), 2, 4)
    found["bits_large"] = ("bits", math("add", math("mul", q, 1000000), 16777216), 0, 32)
    return found


def reductions():
    found = {}
    for reducer in REDUCERS:
        wide = {"ulps": 1} if reducer in ("std", "var") else {}
        for axis, source, kind in (
            ("images", stack("a b c"), "ImageStack"),
            ("bands", stack("c a q"), "ImageStack"),
            ("bands", flat("a b c q"), "Mosaic"),
        ):
            name = f"{reducer}_over_{axis}_{'m' if kind == 'Mosaic' else 's'}"
            found[name] = case(reduced(source, reducer, axis, kind), **wide)
        found[f"{reducer}_own_name"] = case((reducer, three("a b"), "images"), **wide)
        if reducer != "ptp":
            found[f"{reducer}_of_bool"] = case(reduced(above(stack("a q"), 1), reducer, "images"), **wide)
        found[f"{reducer}_of_wild"] = case(reduced(wild(), reducer, "images"), **wide)
        found[f"{reducer}_empty_bands"] = case(reduced(none("a b"), reducer, "bands"), **wide)
        if reducer not in ("argmax", "argmin", "count"):
            found[f"{reducer}_empty_images"] = case(reduced(none("a b"), reducer, "images"), **wide)
    for q in (0, 10, 37.5, 50, 90, 100):
        found[f"percentile_{q}"] = reduced(finite(stack("a b c")), "percentile", "images", q=q)
    found["percentile_bands"] = ("percentile", flat("a b c q"), "bands", 25)
    found["percentile_own_kind"] = ("percentile", three("a"), "images", 75, "ImageStack")
    found["percentile_bool"] = ("percentile", above(stack("a"), 1), "images", 40)
    found["percentile_empty"] = ("percentile", none("a"), "images", 40)
    a, axis = Key("a"), Key("axis")
    spread = function(["a", "axis"], math("sub", ("max", a, axis), ("min", a, axis)))
    found["reducer_function_images"] = reduced(three("a b"), spread, "images")
    found["reducer_function_bands"] = reduced(three("a b"), spread, "bands")
    found["reducer_function_mosaic"] = reduced(flat("a b c"), spread, "bands", "Mosaic")
    found["reducer_function_pixels"] = reduced(tame(three("a b")), spread, "pixels")
    named = function(["a", "axis"], ("reduction", a, "max", axis, None))
    found["reducer_function_old_spelling"] = reduced(three("a b"), named, "images")
    found["reducer_function_empty"] = reduced(none("a b"), spread, "images")
    inside = function(["a", "axis"], ("mean", ("mask", a, math("gt", a, ("median", a, axis))), axis))
    found["reducer_function_lower_mean"] = reduced(tame(three("a b")), inside, "images")
    return found


def pixels():
    found = {}
    over = [r for r in REDUCERS if r not in ("argmax", "argmin", "first", "last")]
    for reducer in over:
        # Rounded once from exact sums: nothing is left to differ.
        wide = {"ulps": 0}
        found[f"{reducer}_over_pixels"] = case(reduced(stack("a b c"), reducer, "pixels"), **wide)
        found[f"{reducer}_over_pixels_m"] = case(reduced(flat("a q"), reducer, "pixels", "Mosaic"), **wide)
        found[f"{reducer}_over_pixels_wild"] = case((reducer, wild(), "pixels"), **wide)
        found[f"{reducer}_over_pixels_empty"] = case((reducer, none("a b"), "pixels"), **wide)
        if reducer != "ptp":
            found[f"{reducer}_over_pixels_bool"] = case((reducer, above(stack("a q"), 1), "pixels"), **wide)
    for q in (0, 12.5, 50, 99, 100):
        found[f"percentile_{q}_over_pixels"] = ("percentile", finite(stack("a b")), "pixels", q)
    m, s = tame(mosaic("a b")), tame(three("a b"))
    found["pixels_back_mosaic"] = math("sub", m, ("max", m, "pixels"))
    found["pixels_back_stack"] = math("mul", s, ("median", s, "pixels"))
    found["pixels_of_mosaic_back_to_stack"] = math("add", s, ("min", m, "pixels"))
    found["pixels_of_stack_back_to_mosaic"] = math("sub", m, ("max", s, "pixels"))
    found["pixels_arithmetic"] = math("truediv", ("max", s, "pixels"), math("add", ("count", s, "pixels"), 1))
    found["pixels_compared"] = math("gt", s, ("median", s, "pixels"))
    found["pixels_of_both"] = math("sub", ("max", s, "pixels"), ("max", m, "pixels"))
    found["pixels_square_root"] = ("sqrt", ("max", s, "pixels"))
    found["pixels_stretch"] = math(
        "truediv",
        math("sub", m, ("min", m, "pixels")),
        math("sub", ("max", m, "pixels"), ("min", m, "pixels")),
    )
    found["pixels_zscore"] = case(
        math("truediv", math("sub", m, ("mean", m, "pixels")), ("std", m, "pixels")), ulps=8
    )
    found["pixels_times_vector_of_images"] = math("mul", ("max", s, "pixels"), array([1, 2, 4]))
    found["pixels_times_vector_of_bands"] = math("mul", ("max", s, "pixels"), array([1, 2]))
    found["pixels_twice"] = math("sub", m, ("max", math("sub", m, ("min", m, "pixels")), "pixels"))
    return found


def stacks():
    s = stack("a b")
    late = '{"op": "gte", "name": "acquired", "val": "2024-05-20"}'
    clear = {"name": "cloud_fraction", "val": 0.5, "op": "lt"}
    both = [clear, {"op": "eq", "name": "satellite_id", "val": "B"}]
    nested = {
        "or": [
            {"and": [clear, {"op": "prefix", "name": "id", "val": "s1"}]},
            {"op": "eq", "name": "tags", "val": "y"},
        ]
    }
    found = {
        "filter_data": ("filter_data", s, json.dumps(clear)),
        "filter_data_time": ("filter_data", s, late),
        "filter_data_list_means_and": ("filter_data", s, json.dumps(both)),
        "filter_data_nested": ("filter_data", s, json.dumps(nested)),
        "filter_data_quoted": ("filter_data", s, quoted(clear)),
        "filter_data_computed": ("filter_data", math("add", s, 1), json.dumps(clear)),
        "filter_data_masked_then_max": over_images(
            ("filter_data", ("mask", s, above(s, 2)), json.dumps(clear))
        ),
        "filter_data_none": ("filter_data", s, '{"op": "eq", "name": "satellite_id", "val": "Z"}'),
        "filter_data_none_max": over_images(("filter_data", s, '{"op": "isnull", "name": "id"}')),
        "filter_data_missing_is_false": ("filter_data", s, '{"op": "lt", "name": "view_angle", "val": 100}'),
        "filter_data_missing_ne_is_true": ("filter_data", s, '{"op": "ne", "name": "view_angle", "val": 0}'),
        "filter_data_isnull": ("filter_data", s, '{"op": "isnull", "name": "view_angle"}'),
        "filter_data_like": ("filter_data", s, '{"op": "ilike", "name": "id", "val": "S_"}'),
        "filter_twice": ("filter_data", ("filter_data", s, late), json.dumps(clear)),
        "predicate_filter": stack("a", predicate_filter=json.dumps(nested)),
        "predicate_filter_sorted": stack(
            "a", predicate_filter=late, sort_by="cloud_fraction", ascending=False
        ),
        "filter_by_id": ("filter_by_id", s, '["s5", "s1", "nobody"]'),
        "filter_by_id_none": ("filter_by_id", s, "[]"),
        "filter_by_id_of_computed": over_images(("filter_by_id", math("mul", s, 2), '["s2", "s3"]')),
        "index_first": ("index", s, 0),
        "index_last": ("index", s, -1),
        "index_of_computed": ("index", math("gt", s, 1), 2),
        "length": ("length", s),
        "length_of_none": ("length", none("a")),
        "length_of_filtered": ("length", ("filter_data", s, late)),
        "length_divides": math("truediv", reduced(tame(s), "sum", "images"), ("length", s)),
    }
    return found


def dots():
    m, other_m = tame(mosaic("a b c")), tame(mosaic("b c q"))
    s = tame(three("a b"))
    matrix = [[1, 0.5, -2], [0, 3, 0.25]]
    square = [[1, 0.5, -2], [0, 3, 0.25], [2, -1, 4]]
    return {
        "dot_mosaics": ("dot", m, other_m, "Mosaic", "Mosaic"),
        "dot_mosaic_vector": ("dot", m, array([1, -2, 0.5]), "Mosaic", "ndarray"),
        "dot_vector_mosaic": ("dot", array([1, -2, 0.5]), m, "ndarray", "Mosaic"),
        "dot_mosaic_matrix": ("dot", m, array(list(zip(*matrix))), "Mosaic", "ndarray"),
        "dot_matrix_mosaic": ("dot", array(matrix, "<f4"), m, "ndarray", "Mosaic"),
        "dot_stacks": ("dot", s, tame(three("b c")), "ImageStack", "ImageStack"),
        "dot_stack_itself": ("dot", s, s, "ImageStack", "ImageStack"),
        "dot_stack_vector": ("dot", s, array([1, 2, -1], "<i8"), "ImageStack", "ndarray"),
        "dot_vector_stack": ("dot", array([1, 2, -1]), s, "ndarray", "ImageStack"),
        "dot_stack_matrix": ("dot", s, array(list(zip(*matrix))), "ImageStack", "ndarray"),
        "dot_matrix_stack": ("dot", array(matrix), s, "ndarray", "ImageStack"),
        "dot_fortran_order": ("dot", m, array(square, order="F"), "Mosaic", "ndarray"),
        "dot_bool": ("dot", above(m, 1), array([1, 2, 4]), "Mosaic", "ndarray"),
        "dot_products_differ": (
            "dot",
            tame(flat("a")),
            tame(over_images(other("n"))),
            "Mosaic",
            "Mosaic",
        ),
        "dot_stack_products_differ": (
            "dot",
            tame(one("a b")),
            tame(other("a n")),
            "ImageStack",
            "ImageStack",
        ),
    }


def paddings():
    padded, plain = mosaic("a b", pad=3), mosaic("a b")
    s = stack("a b", end="2024-08-01T00:00:00", pad=2)
    return {
        "pad_mosaic": padded,
        "pad_stack": s,
        "pad_with_none": math("add", padded, plain),
        "pad_images": over_images(s),
        "pad_over_pixels": ("sum", tame(padded), "pixels"),
        "pad_gradient": math("gradient_x", padded),
        "pad_gradient_y": math("gradient_y", s),
        "pad_gradient_of_sum": math("gradient_x", math("add", padded, plain)),
        "pad_gradient_wins": math("gradient_x", math("sub", plain, padded)),
        "pad_focal": ("focal_mean", tame(padded), 5),
        "pad_filled_focal": ("focal_mean", ("filled", tame(padded), 2), 5),
        "pad_filled_then_unpadded_focal": ("focal_max", math("add", ("filled", tame(plain), 2), 1), 3),
        "pad_convolve": (
            "convolve",
            ("filled", tame(padded), 0),
            quoted([[1, 2, 4], [8, 16, 32], [64, 128, 256]]),
        ),
        "pad_dot": ("dot", tame(padded), array([1, 2]), "Mosaic", "ndarray"),
        "pad_mask": ("mask", padded, above(plain, 1)),
        "pad_masked_by_padded": math("gradient_x", ("mask", plain, above(padded, 1))),
        "pad_concat": join(padded, mosaic("c", pad=3)),
        "pad_where": case(("where", above(padded, 0), padded, plain)),
        "pad_empty_stack": over_images(stack("a", "2024-06-01", "2024-06-02", pad=2)),
        "pad_index": math("gradient_x", ("index", s, 1)),
        "pad_columns": math("mul", plain, array(list(range(53)))),
        "pad_columns_of_padded": math("mul", mosaic("a b", pad=1), array(list(range(55)))),
        "pad_bands_reduced": math("gradient_y", reduced(s, "max", "bands")),
        "pad_dilate": ("dilate", above(padded, 2)),
    }


def windows():
    m, s = tame(mosaic("a b")), tame(three("a c"))
    bools = above(s, 0.25)
    kernel = [[0, 1, 2], [3, 0, -1], [0.5, 0, 4]]
    found = {
        "gradient_x": math("gradient_x", m),
        "gradient_y": math("gradient_y", m),
        "gradient_own_name": ("gradient_y", s),
        "gradient_bool": math("gradient_x", bools),
        "gradient_over_resolution": math("truediv", math("gradient_x", m), ("resolution_x",)),
        "resolution_x": ("resolution_x",),
        "resolution_y": ("resolution_y",),
        "focal_wide": ("focal_max", m, 9),
        "focal_one": ("focal_median", m, 1),
        "focal_larger_than_grid": ("focal_min", m, 75),
        "dilate": ("dilate", bools),
        "dilate_five": ("dilate", bools, 5),
        "erode": ("erode", bools),
        "erode_five": ("erode", bools, 5),
        "dilate_filled": ("dilate", ("filled", bools, 0), 3),
        "convolve": ("convolve", m, quoted(kernel)),
        "convolve_array": ("convolve", s, array(kernel)),
        "convolve_row": ("convolve", m, quoted([[1, -2, 4, 0, 1]])),
        "convolve_one": ("convolve", m, quoted([[2]])),
        "convolve_filled": ("convolve", ("filled", m, 0), array([[1], [2], [-1]])),
        "slope": ("slope", m),
        "slope_filled": ("slope", ("filled", m, 3)),
        "aspect": ("aspect", m),
        "aspect_filled": ("aspect", ("filled", m, 3)),
        "client_slope": case(
            math(
                "mul",
                (
                    "functional",
                    (
                        "functional",
                        math(
                            "add",
                            math("_pow", math("truediv", math("gradient_x", m), ("resolution_x",)), 2),
                            math("_pow", math("truediv", math("gradient_y", m), ("resolution_y",)), 2),
                        ),
                        "sqrt",
                    ),
                    "arctan",
                ),
                57.29577951308232,
            ),
            ulps=8,
        ),
        "client_aspect": case(
            math(
                "mul",
                math(
                    "arctan2",
                    math("truediv", math("gradient_x", m), ("resolution_x",)),
                    math("neg", math("truediv", math("gradient_y", m), ("resolution_y",))),
                ),
                57.29577951308232,
            ),
            ulps=6,
        ),
    }
    for name in ("mean", "min", "max", "median"):
        for size in (3, 7):
            found[f"focal_{name}_{size}"] = (f"focal_{name}", m, size)
        found[f"focal_{name}_oblong"] = (f"focal_{name}", s, quoted([3, 5]))
        found[f"focal_{name}_bool"] = (f"focal_{name}", bools, 3)
    return found


def properties():
    s, image = stack("a"), Key("image")

    def attr(name, of=image):
        return ("attr", of, name)

    when = attr("acquired")

    def group(node):
        return ("groupby_data", s, function(["image"], node))

    def keep(node):
        return ("filter_data", s, function(["image"], node))

    found = {
        f"group_{part}": group(attr(part, when))
        for part in "year month day hour minute second microsecond weekday isoweekday dayofyear week date isoformat".split()
    }
    found.update(
        {
            "group_id": group(attr("id")),
            "group_satellite": group(attr("satellite_id")),
            "group_missing": group(("is_null", attr("view_angle"))),
            "group_season": group(("floordiv", attr("month", when), 3)),
            "group_tuple": group(("tuple", attr("year", when), attr("satellite_id"))),
            "group_item_of_tuple": group(("item", ("tuple", attr("id"), attr("month", when)), 1)),
            "group_slice": group(("slice", attr("id"), 0, 1)),
            "group_text": group(("add", ("str", attr("month", when)), attr("satellite_id"))),
            "group_strftime": group(("strftime", when, "%Y-%m")),
            "group_upper": group(("upper", attr("id"))),
            "group_replace": group(("replace", attr("id"), "s", "image-")),
            "group_split": group(("item", ("split", ("strftime", when, "%Y-%m-%d"), "-"), 1)),
            "group_int": group(("int", ("slice", attr("id"), 1, 2))),
            "group_len": group(("len", attr("tags"))),
            "group_where": group(("where", ("lt", attr("cloud_fraction"), 0.5), "clear", "cloudy")),
            "group_none": ("groupby_data", none("a"), function(["image"], attr("id"))),
            "group_of_computed": (
                "groupby_data",
                ("mask", math("add", s, 1), above(s, 0)),
                function(["image"], attr("satellite_id")),
            ),
            "keep_function": keep(
                math("_and", ("lt", attr("cloud_fraction"), 0.3), ("ge", attr("month", when), 2))
            ),
            "keep_startswith": keep(("startswith", attr("id"), "s")),
            "keep_endswith": keep(("or", ("endswith", attr("id"), "1"), ("endswith", attr("id"), "4"))),
            "keep_contains": keep(("contains", attr("tags"), "x")),
            "keep_isin": keep(("isin", attr("satellite_id"), quoted(["B", "C"]))),
            "keep_missing_is_false": keep(("ge", attr("view_angle"), 0)),
            "keep_missing_ne_is_true": keep(("ne", attr("view_angle"), 0)),
            "keep_invert": keep(("invert", ("eq", attr("satellite_id"), "A"))),
            "keep_absent_attribute": keep(("is_null", attr("nowhere"))),
            "keep_time": keep(("ge", when, "2024-05-20T09:30:15")),
            "keep_arithmetic": keep(("eq", ("mod", ("mul", attr("day", when), 2), 3), 1)),
            "keep_then_median": over_images(keep(("lt", attr("cloud_fraction"), 0.6)), "median"),
        }
    )
    return found
