"""What the client gives, compared with what the oracle says of the same graft."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.reference import Array, Evaluator, Length, Raster  # noqa: E402

# Results are float32; functions such as sine may differ in their last bits.
RELATIVE, ABSOLUTE = 2e-6, 1e-6


def meant(graft, place, parameters=None):
    """What the oracle says."""
    world, arrays = place.world
    return Evaluator(world, arrays, True, parameters).run(dict(graft))


def same(program, place, **parameters):
    """Computes with the client, and compares."""
    expected = meant(program, place, parameters)
    found = program.compute(place.aoi, **parameters)
    if isinstance(expected, Length):
        assert found.ndarray == int(expected) and isinstance(found.ndarray, int), found
        return found
    if isinstance(expected, Raster):
        expected = expected.with_margin(0)
        same_properties(found.properties, expected.props)
    assert isinstance(expected, (Raster, Array)), type(expected)
    same_pixels(found.ndarray, expected.data)
    return found


def same_pixels(found, expected, relative=RELATIVE, absolute=ABSOLUTE):
    assert isinstance(found, np.ma.MaskedArray), type(found)
    assert found.shape == expected.shape, f"{found.shape}, and not {expected.shape}"
    meant_bool, is_bool = expected.dtype == bool, found.dtype == bool
    assert is_bool == meant_bool and found.dtype in (np.float32, np.bool_), found.dtype
    found_mask, mask = np.ma.getmaskarray(found), np.ma.getmaskarray(expected)
    differ = np.argwhere(found_mask != mask)
    assert not len(differ), f"{len(differ)} of {mask.size} masks differ, the first at {differ[0]}"
    left, right = found.data[~mask].astype(np.float64), expected.data[~mask].astype(np.float64)
    wrong = ~np.isclose(left, right, rtol=relative, atol=absolute, equal_nan=True)
    assert not wrong.any(), (
        f"{wrong.sum()} of {wrong.size} values differ: {left[wrong][:5]}, and not {right[wrong][:5]}"
    )


# Said by both, and compared: what later ops and notebooks read.
NAMES = ("bands", "pad")


def same_properties(found, expected):
    if isinstance(expected, dict):
        assert isinstance(found, dict), type(found)
        same_names(found, expected)
        return
    assert isinstance(found, list) and len(found) == len(expected), f"{len(found)}: not {len(expected)}"
    for one, meant_one in zip(found, expected):
        assert one.get("id") == meant_one.get("id"), f"{one.get('id')}, and not {meant_one.get('id')}"
        same_names(one, meant_one)
        if "acquired" in meant_one:
            # A text: responses hold no objects but arrays.
            assert instant(one["acquired"]) == instant(meant_one["acquired"]), one["acquired"]
        if "cloud_fraction" in meant_one:
            assert abs(one["cloud_fraction"] - meant_one["cloud_fraction"]) < 1e-9, one


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def same_names(found, expected):
    for name in NAMES:
        if name in expected:
            value, meant_value = found.get(name), expected[name]
            if name == "bands":
                value, meant_value = list(value or []), list(meant_value or [])
            assert value == meant_value, f"`{name}` is {value}, and not {meant_value}"
