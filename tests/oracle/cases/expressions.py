"""Sources, arithmetic, masks, bands and the first reductions."""

from __future__ import annotations

from .shorthand import (
    above,
    flat,
    images,
    join,
    last,
    math,
    mosaic,
    none,
    one,
    other,
    over_images,
    pick,
    rename,
    stack,
    three,
    two,
)

REDUCERS = ("min", "max", "mean", "median")


def expression_cases():
    """Cases as name and expression."""
    a, b, ab = one("a"), one("b"), one("a b")
    ma, mb, mab, mabc = flat("a"), flat("b"), flat("a b"), flat("a b c")
    hi_a, hi_b, hi_ab = above(a, 0.25), above(b, 1), above(ab, 1)
    cases = {}

    # sources
    cases["source_all_bands"] = stack("a b c q")
    cases["source_band_order"] = stack("q b", end="2024-04-01")
    cases["source_end_excluded"] = stack("q", end="2024-03-01T10:00:00")
    cases["source_end_just_after"] = stack("q", end="2024-03-01T10:00:00.000001")
    cases["source_start_included"] = stack("q", start="2024-08-15T23:59:59")
    cases["source_start_just_after"] = stack("q", start="2024-08-15T23:59:59.000001")
    cases["source_end_offset"] = stack("q", end="2024-03-01T12:00:00+02:00")
    cases["source_start_offset"] = stack("q", start="2024-11-29T19:00:00-05:00")
    cases["source_date_only"] = stack("q", start="2024-01-05", end="2024-11-30")
    cases["source_unbounded"] = stack("q", start=None, end=None)
    cases["source_empty"] = none("a b")
    cases["source_empty_range"] = stack("a", start="2024-03-01T10:00:00", end="2024-03-01T10:00:00")
    cases["source_sort_by_acquired_descending"] = stack("q", sort_by="acquired", ascending=False)
    cases["source_descending"] = stack("q", ascending=False)
    cases["source_sort_by_cloud"] = stack("q", sort_by="cloud_fraction")
    cases["source_sort_by_id_descending"] = stack("q", sort_by="id", ascending=False)
    cases["source_other_product"] = other("n a")

    # arithmetic with numbers, both orders
    for name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv"):
        cases[f"{name}_number"] = math(name, ab, 2.5)
    cases["sub_number_first"] = math("sub", 2.5, ab)
    cases["rsub_number_first"] = math("rsub", 2.5, ab)
    cases["truediv_number_first"] = math("truediv", 1, ab)
    cases["pow_number_first"] = math("_pow", 2, a)
    cases["number_rounds_to_float32"] = math("eq", ab, 0.1)
    cases["truediv_zero"] = math("truediv", ab, 0)
    cases["rtruediv_zero"] = math("rtruediv", ab, 0)
    cases["floordiv_zero"] = math("floordiv", ab, 0)
    cases["rfloordiv_zero"] = math("rfloordiv", ab, 0)
    cases["truediv_overflow_masked"] = math("truediv", ab, 1e-30)
    cases["floordiv_tenth"] = math("floordiv", ab, 0.1)
    cases["floordiv_negative"] = math("floordiv", ab, -0.75)
    cases["pow_two"] = math("_pow", ab, 2)
    cases["pow_minus_one"] = math("_pow", ab, -1)
    cases["pow_half"] = math("_pow", ab, 0.5)
    cases["pow_zero"] = math("_pow", ab, 0)
    cases["pow_three"] = math("_pow", ab, 3)
    cases["pow_third"] = math("_pow", ab, 1 / 3)
    cases["rpow_two"] = math("rpow", ab, 2)
    cases["rpow_zero"] = math("rpow", ab, 0)
    cases["rpow_negative"] = math("rpow", ab, -2)
    cases["neg"] = math("neg", mab)
    cases["abs"] = math("_abs", ab)
    cases["mul_overflow_inf"] = math("mul", ab, 1e30)
    big = math("mul", ab, 3e8)
    cases["add_overflow_inf"] = math("add", big, big)
    huge = math("mul", ab, 1e30)
    cases["inf_minus_inf"] = math("sub", huge, huge)
    cases["nan_compared"] = math("ne", math("sub", huge, huge), 0)
    cases["nan_divided_masked"] = math("truediv", math("sub", huge, huge), 2)
    cases["inf_divided_masked"] = math("truediv", huge, 2)
    cases["number_over_inf"] = math("truediv", 1, huge)
    cases["nan_pow_zero"] = math("_pow", math("sub", huge, huge), 0)

    # numbers with numbers
    cases["number_literal"] = 2.5
    cases["number_add"] = math("add", 2, 0.5)
    cases["number_rsub"] = math("rsub", 2, 7)
    cases["number_rtruediv"] = math("rtruediv", 4, 1)
    cases["number_floordiv"] = math("floordiv", -7, 2)
    cases["number_pow"] = math("_pow", 2, 10)
    cases["number_rpow"] = math("rpow", 2, 3)
    cases["number_neg_abs"] = math("_abs", math("neg", 3))
    cases["number_chain_keeps_double"] = math("mul", a, math("sub", math("add", 16777216, 1), 16777216))
    cases["number_division_feeds"] = math("sub", math("truediv", 1, 3), ab)
    cases["number_compare_feeds"] = math("_and", hi_a, math("lt", 1, 2))

    # mosaics
    cases["mosaic_all"] = mosaic("a b c")
    cases["mosaic_bands_in_any_order"] = mosaic("q a")
    cases["mosaic_of_two"] = mosaic("a b", end="2024-05-01T00:00:00")
    cases["mosaic_whose_top_has_no_valid_pixel"] = mosaic("a b", start="2024-08-01T00:00:00")
    cases["mosaic_of_none"] = mosaic("a b", start="2024-06-01T00:00:00", end="2024-06-02T00:00:00")
    cases["mosaic_unbounded"] = mosaic("b", start=None, end=None)
    cases["mosaic_picked"] = pick(mosaic("a b c"), "c", "a")
    cases["mosaic_with_a_stack"] = math("sub", three("a b"), mosaic("a b"))
    cases["mosaic_normalized_difference"] = math(
        "truediv", math("sub", mosaic("a"), mosaic("b")), math("add", mosaic("a"), mosaic("b"))
    )
    cases["ids_in_their_order"] = images("a b", "s2", "s1", "s5")
    cases["ids_in_another_order"] = images("a b", "s5", "s1", "s2")
    cases["ids_twice"] = images("a", "s1", "s2", "s1")
    cases["ids_of_two_products"] = images("a", "s1", "o1")
    cases["ids_none"] = images("a b")

    # rasters with rasters
    for name in ("add", "rsub", "mul", "truediv", "rtruediv", "floordiv", "rfloordiv", "_pow", "rpow"):
        cases[f"{name.strip('_')}_stacks"] = math(name, three("a"), three("b"))
    cases["normalized_difference"] = math("truediv", math("sub", a, b), math("add", a, b))
    cases["same_operand_twice"] = math("sub", ab, ab)
    cases["names_pairwise_mul"] = math("mul", ab, one("b c"))
    cases["names_pairwise_cmp"] = math("le", ab, one("c a"))
    cases["names_pairwise_exp"] = math("rpow", ab, one("b c"))
    cases["names_pairwise_floordiv"] = math("rfloordiv", mab, flat("b c"))
    cases["names_pairwise_or"] = math("_or", above(ab, 0), above(one("b c"), 0))
    cases["names_pairwise_nested"] = math(
        "truediv", math("sub", ab, one("b a")), math("radd", ab, one("b a"))
    )
    cases["one_band_with_many"] = math("sub", a, one("a b c"))
    cases["many_bands_with_one"] = math("sub", mabc, ma)
    cases["one_image_with_many"] = math("sub", a, three("a"))
    cases["many_images_with_one"] = math("sub", three("a b"), ab)
    cases["stack_minus_mosaic"] = math("sub", three("a b"), mab)
    cases["mosaic_minus_stack"] = math("sub", mab, three("a b"))
    cases["one_band_mosaic_with_stack"] = math("mul", mb, two("a b"))
    cases["one_band_stack_with_mosaic"] = math("rsub", two("a"), flat("b c"))
    cases["empty_plus_number"] = math("add", none("a b"), 1)
    cases["empty_plus_mosaic"] = math("add", none("a b"), mab)
    cases["empty_plus_one_image"] = math("add", none("a b"), ab)
    cases["empty_plus_empty"] = math("truediv", none("a"), none("b c"))
    cases["products_differ_mosaics"] = math("sub", ma, over_images(other("n")))
    cases["products_differ_stacks"] = math("add", a, other("a"))
    cases["products_differ_stack_mosaic"] = math("sub", two("a"), over_images(other("n"), "min"))
    cases["products_differ_mosaic_stack"] = math("sub", over_images(other("n"), "min"), two("a"))

    # comparisons and logic
    for name in ("eq", "ne", "gt", "ge", "lt", "le"):
        cases[f"{name}_bands"] = math(name, a, b)
    cases["eq_number_first"] = math("eq", 1, ab)
    cases["lt_number_first"] = math("lt", 1, ab)
    cases["and_stacks"] = math("_and", hi_a, hi_b)
    cases["or_stacks"] = math("_or", hi_a, hi_b)
    cases["rand_stacks"] = math("rand", hi_a, hi_b)
    cases["ror_stacks"] = math("ror", hi_a, hi_b)
    cases["and_false"] = math("_and", hi_ab, False)
    cases["ror_true"] = math("ror", hi_ab, True)
    cases["invert"] = math("invert", hi_ab)
    cases["and_one_band_with_many"] = math("_and", hi_a, hi_ab)
    cases["logic_chain"] = math("_or", math("_and", hi_a, math("invert", hi_b)), above(one("q"), 3))

    # bool arithmetic
    cases["bool_add_bool"] = math("add", hi_a, hi_b)
    cases["bool_mul_bool"] = math("mul", hi_a, hi_b)
    cases["bool_add_true"] = math("add", hi_a, True)
    cases["bool_mul_false"] = math("rmul", hi_a, False)
    cases["bool_add_number"] = math("add", hi_a, 1)
    cases["bool_rsub_number"] = math("rsub", hi_ab, 1)
    cases["bool_mul_float"] = math("mul", hi_ab, ab)
    cases["float_sub_bool"] = math("sub", a, hi_b)
    cases["float_add_true"] = math("add", a, True)
    cases["bool_div_bool"] = math("truediv", hi_a, hi_b)
    cases["bool_floordiv_bool"] = math("floordiv", hi_a, hi_b)
    cases["bool_pow_bool"] = math("_pow", hi_a, hi_b)
    cases["bool_pow_minus_one"] = math("_pow", hi_a, -1)
    cases["bool_eq_bool"] = math("eq", hi_a, hi_b)
    cases["bool_gt_bool"] = math("gt", hi_a, hi_b)
    cases["bool_eq_number"] = math("eq", hi_a, 1)
    cases["bool_abs"] = math("_abs", hi_a)

    # mask
    cases["mask_stack_by_stack"] = ("mask", two("a b"), above(two("b c"), 1))
    cases["mask_stack_by_one_band_stack"] = ("mask", two("a b"), math("ge", two("q"), 3))
    cases["mask_stack_by_mosaic"] = ("mask", two("a b"), above(mab, 1))
    cases["mask_stack_by_one_band_mosaic"] = ("mask", two("a b"), math("eq", flat("q"), 4))
    cases["mask_mosaic_by_mosaic"] = ("mask", mab, above(flat("b c"), 7))
    cases["mask_mosaic_by_one_band_mosaic"] = ("mask", mabc, above(over_images(last("q")), 2))
    cases["mask_masked_entry_hides"] = ("mask", last("c"), above(last("a"), 1e35))
    cases["mask_inverted"] = ("mask", two("a"), math("invert", math("lt", two("q"), 2)))
    cases["mask_bool_data"] = ("mask", hi_ab, hi_a)
    cases["mask_twice"] = ("mask", ("mask", ab, hi_a), hi_b)
    cases["mask_empty"] = ("mask", none("a b"), above(none("q"), 2))
    cases["mask_other_product"] = ("mask", mab, above(over_images(other("n")), 0))
    cases["mask_then_median"] = over_images(("mask", stack("a b"), math("ge", stack("q"), 3)), "median")

    # bands
    cases["pick_one"] = pick(two("a b c"), "b")
    cases["pick_reorder"] = pick(two("a b c"), "c", "a")
    cases["pick_repeats"] = pick(mabc, "b", "a", "b")
    cases["pick_string"] = ("band_op", mabc, "pick_bands", '"c  a"', None)
    cases["pick_computed"] = pick(math("mul", ab, one("b c")), "b_mul_c")
    cases["pick_after_rename"] = pick(rename(mab, "x", "y"), "y")
    cases["pick_swapped_names"] = pick(rename(mab, "b", "a"), "a")
    cases["pick_empty"] = pick(none("a b c"), "b", "a")
    cases["rename_stack"] = rename(two("a b"), "x", "y")
    cases["rename_string"] = ("band_op", two("a b"), "rename_bands", '"x y"', None)
    cases["rename_lost_names"] = rename(over_images(none("a b")), "x", "y")
    cases["rename_empty"] = rename(none("a b"), "x", "y")
    cases["rename_bool"] = rename(math("gt", a, b), "more")
    cases["concat_mosaics"] = join(mab, flat("c"))
    cases["concat_stacks"] = join(two("b"), two("a q"))
    cases["concat_stacks_by_position"] = join(two("a"), last("c"))
    cases["concat_repeated_names"] = join(ma, mab)
    cases["concat_products_mosaics"] = join(ma, over_images(other("n a")))
    cases["concat_products_stacks"] = join(a, other("a n"))
    cases["concat_bool_float"] = join(hi_a, b)
    cases["concat_float_bool"] = join(mb, above(ma, 1))
    cases["concat_bool_bool"] = join(hi_a, hi_b)
    cases["concat_lost_names"] = join(over_images(none("a b")), flat("c"))
    cases["concat_empty"] = join(none("a"), none("b c"))

    # reductions
    finite = math("mul", stack("a b c"), 1)
    for reducer in REDUCERS:
        cases[f"reduce_{reducer}"] = over_images(finite, reducer)
        cases[f"reduce_{reducer}_even"] = over_images(two("a c"), reducer)
        cases[f"reduce_{reducer}_one_image"] = over_images(ab, reducer)
        cases[f"reduce_{reducer}_masked_band"] = over_images(stack("a", start="2024-11-01"), reducer)
        cases[f"reduce_{reducer}_bool"] = over_images(above(stack("a q"), 1), reducer)
        cases[f"reduce_{reducer}_empty"] = over_images(none("a b"), reducer)
        cases[f"reduce_{reducer}_inf"] = over_images(math("mul", stack("a b"), 1e30), reducer)
        wild = math("mul", stack("b"), 1e30)
        cases[f"reduce_{reducer}_nan"] = over_images(
            math("sub", wild, math("add", wild, stack("q"))), reducer
        )
    cases["reduce_mean_bool_even"] = over_images(above(two("a"), 0), "mean")
    cases["reduce_median_overflow"] = over_images(math("mul", math("mul", stack("a b"), 1e8), 3), "median")
    cases["reduce_mean_large"] = over_images(math("mul", math("mul", stack("a b"), 1e8), 3), "mean")
    cases["reduce_empty_bool"] = over_images(above(none("a"), 1), "max")
    cases["reduce_computed_names"] = over_images(math("truediv", two("a b"), two("b c")), "min")
    cases["reduce_renamed"] = over_images(rename(two("a b"), "x", "y"), "min")
    cases["reduce_descending_same"] = over_images(stack("a", sort_by="acquired", ascending=False), "min")
    cases["reduce_difference"] = math("sub", over_images(finite, "max"), over_images(finite, "min"))
    cases["stack_minus_own_median"] = math("sub", three("c"), over_images(three("c"), "median"))
    cases["empty_max_plus_number"] = math("add", over_images(none("a b")), 1)
    cases["empty_max_times_mosaic"] = math("mul", over_images(none("a b")), mab)
    return cases
