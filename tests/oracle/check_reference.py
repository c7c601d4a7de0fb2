"""Compares the reference with numpy, where numpy has the same thing under another name.

    python check_reference.py

What the reference computes in its own way (exact sums, windows, contractions, Horn's slopes) is compared
with a second way: numpy's own functions, numpy.ma, rationals, or planes whose slope is known.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.reference import Array, Evaluator, Raster  # noqa: E402
from oracle.reference.language import OPS  # noqa: E402
from oracle.reference.reductions import Exact, exact_sums, round_f32, round_root_f32  # noqa: E402

ROWS, COLS = 9, 11
RNG = np.random.default_rng(7)


def evaluator(geographic=False, resolution=10.0):
    grid = {"rows": ROWS, "cols": COLS, "resolution": resolution, "upper_left": [7.0, 46.0]}
    return Evaluator({"grid": {**grid, "geographic": geographic}, "products": []}, {}, True)


def op(name, *arguments, ev=None):
    run, parameters, _ = OPS[name]
    given = dict(zip(parameters, arguments))
    return run(ev or evaluator(), "", *(given.get(p) for p in parameters))


def stack(hidden=0.3):
    shape = (5, 2, ROWS, COLS)
    data = np.ma.array(RNG.normal(size=shape).astype(np.float32), mask=RNG.random(shape) < hidden)
    return Raster(data, [{"id": str(i)} for i in range(5)])


def mosaic(data):
    return Raster(np.ma.array(np.asarray(data, np.float32)[None], mask=False), {})


def agree(found, meant, distance):
    found, meant = found.data if isinstance(found, (Raster, Array)) else found, meant
    assert found.shape == meant.shape, (found.shape, meant.shape)
    assert np.array_equal(np.ma.getmaskarray(found), np.ma.getmaskarray(meant))
    difference = np.abs(found.filled(0).astype(np.float64) - np.ma.filled(meant, 0).astype(np.float64))
    assert difference.max(initial=0) <= distance, difference.max()


def check_reductions():
    s = stack()
    wide = s.data.astype(np.float64)
    for axis, numpy_axis in (("images", 0), ("bands", 1), ("pixels", (2, 3))):
        keep = axis == "bands"
        for name in "sum mean std var".split():
            agree(op(name, s, axis), getattr(wide, name)(axis=numpy_axis, keepdims=keep), 1e-6)
        for name in ("max", "min", "ptp"):
            agree(op(name, s, axis), getattr(s.data, name)(axis=numpy_axis, keepdims=keep), 0)
        agree(op("median", s, axis), np.ma.median(s.data, axis=numpy_axis, keepdims=keep), 1e-7)
        agree(op("count", s, axis), np.ma.array(s.data.count(axis=numpy_axis, keepdims=keep)), 0)
        agree(op("any", s, axis), s.data.any(axis=numpy_axis, keepdims=keep), 0)
        agree(op("all", s, axis), s.data.all(axis=numpy_axis, keepdims=keep), 0)
        for q in (0, 10, 50, 99, 100):
            empty = s.data.count(axis=numpy_axis, keepdims=keep) == 0
            filled = np.where(
                np.broadcast_to(empty, s.data.shape) if keep or axis == "images" else False,
                0,
                wide.filled(np.nan),
            )
            meant = np.nanpercentile(filled, q, axis=numpy_axis, keepdims=keep)
            agree(op("percentile", s, axis, q), np.ma.array(meant, mask=empty), 1e-6)
    for name in ("argmax", "argmin"):
        for axis, numpy_axis in (("images", 0), ("bands", 1)):
            meant = getattr(s.data, name)(axis=numpy_axis)
            meant = meant[:, None] if axis == "bands" else meant
            agree(op(name, s, axis), np.ma.array(np.asarray(meant, np.float32), mask=False), 0)


def check_exact_sums():
    values = np.array([1e30, 1, 1e-30, -1e30, 3e20, 1e-40], np.float32)
    exact = sum(Fraction(float(v)) for v in values)
    assert Exact(values).total() == round_f32(exact)
    assert exact_sums(values.astype(np.float64)[:, None])[0] == float(exact)
    for value in (2.0, 1 / 3, 1e-41, 3.4e38, 7.25):
        # Of a square of a float32 the root is that float32.
        value = np.float32(value)
        assert round_root_f32(Fraction(float(value)) ** 2) == value
        assert round_f32(Fraction(float(value))) == value
    between = Fraction(1) + Fraction(1, 1 << 24)
    assert round_f32(between) == 1 and round_f32(between + Fraction(1, 1 << 60)) > 1


def check_neighbours():
    data = RNG.normal(size=(ROWS, COLS)).astype(np.float32)
    m = mosaic(data)
    for name, axis in (("gradient_x", 1), ("gradient_y", 0)):
        agree(op(name, m), np.ma.array(np.gradient(data, axis=axis)[None], mask=False), 1e-6)
    padded = np.pad(data, 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    kernel = [[1.0, 2, 3], [4, 5, 6], [7, 8, 10]]
    flipped = np.array(kernel)[::-1, ::-1]
    agree(op("convolve", m, kernel), np.ma.array((windows * flipped).sum((-2, -1))[None], mask=False), 1e-4)
    with_nan = np.lib.stride_tricks.sliding_window_view(np.pad(data, 1, constant_values=np.nan), (3, 3))
    for name in ("mean", "min", "max", "median"):
        meant = getattr(np, f"nan{name}")(with_nan, axis=(-2, -1))
        agree(op(f"focal_{name}", m, 3), np.ma.array(meant[None], mask=False), 1e-6)
    # A plane that rises 3 in 10 to the east and 4 in 10 to the north: half of it is at the edge.
    rows, cols = np.mgrid[:ROWS, :COLS]
    plane = mosaic(3 * cols - 4 * rows)
    slope, aspect = op("slope", plane).data, op("aspect", plane).data
    assert np.allclose(slope.compressed(), np.degrees(np.arctan(0.5)), atol=1e-4)
    # Downhill is to the south-west: south is 180, and the west of it more.
    assert np.allclose(aspect.compressed(), 180 + np.degrees(np.arctan2(3, 4)), atol=1e-4)
    assert slope.count() == (ROWS - 2) * (COLS - 2)
    assert op("aspect", mosaic(np.zeros((ROWS, COLS)))).data.count() == 0
    # One degree at the equator and at 60 north, to a metre (WGS 84).
    ev = evaluator(True, 1.0)
    ev.world["grid"]["upper_left"] = [0, 4.5]
    assert abs(op("resolution_x", ev=ev) - 111319.49) < 1 and abs(op("resolution_y", ev=ev) - 110574.28) < 1
    ev.world["grid"]["upper_left"] = [0, 64.5]
    assert abs(op("resolution_x", ev=ev) - 55800.0) < 1 and abs(op("resolution_y", ev=ev) - 111412.3) < 1


def check_dot():
    s = stack(0)
    matrix = RNG.normal(size=(5, 3)).astype(np.float32)
    left = Array(np.ma.array(matrix.T, mask=False), {})
    right = Array(np.ma.array(matrix, mask=False), {})
    vector = Array(np.ma.array(matrix[:, 0], mask=False), {})
    data = s.data.data.astype(np.float64)
    for found, meant in (
        (op("dot", s, right), np.einsum("ibrc,ij->jbrc", data, matrix)),
        (op("dot", left, s), np.einsum("ij,jbrc->ibrc", matrix.T, data)),
        (op("dot", s, vector), np.einsum("ibrc,i->brc", data, matrix[:, 0])),
        (op("dot", s, s), np.einsum("ibrc,ibrc->brc", data, data)),
    ):
        agree(found, np.ma.array(meant, mask=False), 1e-5)


def main():
    with np.errstate(all="ignore"):
        for check in (check_reductions, check_exact_sums, check_neighbours, check_dot):
            check()
    print("the reference agrees with numpy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
