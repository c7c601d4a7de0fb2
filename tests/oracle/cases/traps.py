"""What the protocol calls out because it is easy to get wrong, by name."""

from __future__ import annotations

from ..grafts import array, graft_of
from .shorthand import (
    above,
    case,
    flat,
    images,
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
    two,
)


def cases():
    ab, mab = one("a b"), flat("a b")
    s = three("a b")
    dead = stack("a", start="2024-11-01")  # band a of s4 has no valid pixel
    found = {
        "trap_r_variants_are_not_swapped_twice": math("rsub", ab, 10),
        "trap_r_variant_of_rasters": math("rtruediv", one("a"), one("b")),
        "trap_nir_minus_red_is_called_red": math("sub", one("a"), one("b")),
        "trap_mask_is_data_first": ("mask", ab, above(ab, 1)),
        "trap_mask_masked_entry_hides": ("mask", one("c"), above(("sqrt", one("a")), 1e30)),
        "trap_mask_rank_two": ("mask", s, array(chessboard(), "|b1")),
        "trap_mask_rank_two_on_mosaic": ("mask", mab, array(chessboard(), "|b1")),
        "trap_gradient_centre_does_not_matter": math(
            "gradient_x", ("mask", mosaic("c"), array(stripes(), "|b1"))
        ),
        "trap_gradient_y_is_positive_downward": math(
            "gradient_y", math("add", math("mul", ("filled", mosaic("q"), 0), 0), array(ramp()))
        ),
        "trap_vector_runs_along_bands_of_a_mosaic": math("mul", mab, array([1, 10])),
        "trap_vector_runs_along_images_of_a_stack": math("mul", s, array([1, 10, 100])),
        "trap_vector_that_fits_columns_alone": math("add", s, array(list(range(53)))),
        "trap_vector_first_operand": math(
            "sub", ("dot", flat("a b"), array([[1, 0], [0, 1]]), "Mosaic", "ndarray"), array([1, 10])
        ),
        "trap_vector_over_images_before_columns": math("mul", three("a b c"), array([1, 10, 100])),
        "trap_matrix_is_rows_and_columns": math("mul", mab, array(ramp())),
        "trap_other_product_id_of_images": math("add", one("a"), other("a")),
        "trap_other_product_ids_of_a_mosaic": math("add", flat("a"), over_images(other("n"))),
        "trap_argmax_of_nothing_is_zero": reduced(dead, "argmax", "images"),
        "trap_argmin_of_nothing_is_zero": reduced(dead, "argmin", "bands"),
        "trap_argmax_first_of_ties": reduced(math("mul", stack("q"), 0), "argmax", "images"),
        "trap_argmax_masked_keep_their_place": reduced(("mask", s, above(s, 2)), "argmax", "images"),
        "trap_empty_over_images": reduced(none("a b"), "max", "images"),
        "trap_empty_over_bands": reduced(none("a b"), "max", "bands"),
        "trap_empty_over_pixels": reduced(none("a b"), "max", "pixels"),
        "trap_median_of_even_count": reduced(two("a b"), "median", "images"),
        "trap_max_of_bool_stays_bool": reduced(above(s, 1), "max", "bands"),
        "trap_sum_of_bool_counts": reduced(above(s, 1), "sum", "images"),
        "trap_bands_axis_is_kept": reduced(s, "min", "bands"),
        "trap_filled_casts_to_float32": ("filled", s, 0.1),
        "trap_filled_casts_to_bool": ("filled", above(s, 1), 0.5),
        "trap_filled_bool_with_zero": ("filled", above(s, 1), 0),
        "trap_filled_then_division_is_masked": math("truediv", 1, ("filled", ab, 0)),
        "trap_division_by_zero_is_masked": math("truediv", ab, math("sub", ab, ab)),
        "trap_log_of_zero_is_masked": ("functional", math("mul", ab, 0), "log"),
        "trap_root_of_a_negative_is_masked": ("functional", math("neg", math("_abs", ab)), "sqrt"),
        "trap_arcsin_beyond_one_is_masked": ("functional", ab, "arcsin"),
        "trap_bool_plus_bool_is_or": math("add", above(one("a"), 0), above(one("b"), 0)),
        "trap_bool_times_bool_is_and": math("mul", above(one("a"), 0), above(one("b"), 0)),
        "trap_bool_over_bool_is_float": math("truediv", above(one("a"), 0), above(one("b"), 0)),
        "trap_clip_keeps_the_mask": ("clip", s, 0, 1),
        "trap_rename_of_a_stack_by_a_string": ("band_op", s, "rename_bands", '"x y"', None),
        "trap_concat_of_bool_and_float": join(above(one("a"), 1), one("b")),
        "trap_dot_is_masked_by_any_masked_entry": (
            "dot",
            tame(mosaic("a b c")),
            array([0, 0, 1]),
            "Mosaic",
            "ndarray",
        ),
        "trap_dot_of_a_matrix_keeps_what_all_images_share": (
            "dot",
            array([[1, 0, 0]]),
            tame(s),
            "ndarray",
            "ImageStack",
        ),
        "trap_pad_is_cropped": mosaic("a", pad=4),
        "trap_reduction_over_pixels_crops_the_pad": ("count", mosaic("a", pad=4), "pixels"),
        "trap_negative_index": ("index", s, -3),
        "trap_length_returns_an_int": ("length", s),
        "trap_mosaic_latest_on_top": mosaic("q"),
        "trap_ids_later_on_top": images("q", "s1", "s3"),
        "trap_comparison_keeps_the_mask": math("eq", one("a"), one("b")),
        "trap_shared_operand": math("sub", s, s),
        "trap_one_band_over_bands": math("mul", one("q"), one("a b c")),
        "trap_parameters_as_dates": case(
            stack("a", start="first", end="last"),
            parameters={"first": "2024-03-01T10:00:00", "last": "2024-08-01", "unused": 1},
        ),
        "trap_parameters_of_the_graft": case(
            {"parameters": ["gain", "spare"], "x": ["mul", "m", "gain"], **graft_of(s), "returns": "x"}
            | {"m": ["add", graft_of(s)["returns"], "zero"], "zero": 0},
            parameters={"gain": 2.5, "spare": 1},
        ),
        "trap_filter_after_arithmetic": (
            "filter_data",
            math("truediv", s, stack("b c", end="2024-08-01T00:00:00")),
            '{"op": "lt", "name": "cloud_fraction", "val": 0.6}',
        ),
        "trap_cache_ids_everywhere": graft_of(
            ("filled", ("sqrt", ("index", s, 0)), 1), first=99, stride=7, cache_ids=True
        ),
    }
    return found


def chessboard():
    return [[(r + c) % 2 == 0 for c in range(53)] for r in range(37)]


def stripes():
    return [[c % 3 == 0 for c in range(53)] for _ in range(37)]


def ramp():
    return [[r + c / 64 for c in range(53)] for r in range(37)]
