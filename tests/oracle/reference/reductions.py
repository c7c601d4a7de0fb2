"""Reductions over images, bands and pixels, by name or by a graft function."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .values import Array, Fault, Function, Raster, expect, is_number, raster

AXES = ("images", "bands", "pixels")
REDUCERS = "max min mean median sum std argmax argmin count any all first last var ptp percentile".split()
NOT_OVER_PIXELS = ("argmax", "argmin", "first", "last")


# ---------------------------------------------------------------- exact sums


class Exact:
    """The exact sum, and sum of squares, of float32 values."""

    # Every float32 is a multiple of 2 ** -149.
    SCALE = 149

    def __init__(self, values):
        self.values = values.astype(np.float64)
        self.count = len(values)
        self.is_finite = bool(np.isfinite(self.values).all())
        if self.is_finite:
            whole = [int(v) for v in np.ldexp(self.values, self.SCALE)]
            self.sum = Fraction(sum(whole), 1 << self.SCALE)
            self.squares = Fraction(sum(v * v for v in whole), 1 << 2 * self.SCALE)

    def total(self):
        return round_f32(self.sum) if self.is_finite else np.float32(self.values.sum())

    def mean(self):
        return round_f32(self.sum / self.count) if self.is_finite else np.float32(np.nan)

    def variance(self):
        mean = self.sum / self.count
        return self.squares / self.count - mean * mean

    def var(self):
        return round_f32(self.variance()) if self.is_finite else np.float32(np.nan)

    def std(self):
        return round_root_f32(self.variance()) if self.is_finite else np.float32(np.nan)


LARGEST = Fraction(float(np.finfo(np.float32).max))
# Halfway to the float that would come next.
TOO_LARGE = LARGEST + Fraction(2) ** 103


def around(near):
    """A float32 and its neighbours, those that are finite."""
    near = np.float32(near)
    if not np.isfinite(near):
        near = np.float32(np.copysign(np.finfo(np.float32).max, near))
    inf = np.float32(np.inf)
    found = [np.nextafter(near, -inf), near, np.nextafter(near, inf)]
    return [v for v in found if np.isfinite(v)]


def is_even(value):
    return int(np.float32(value).view(np.uint32)) % 2 == 0


def round_f32(exact):
    """The float32 nearest to an exact number; ties to even."""
    if abs(exact) >= TOO_LARGE:
        return np.float32(np.inf if exact > 0 else -np.inf)
    return min(around(float(exact)), key=lambda v: (abs(Fraction(float(v)) - exact), not is_even(v)))


def round_root_f32(exact):
    """The float32 nearest to the square root of an exact number."""
    if exact <= 0:
        return np.float32(0)
    # A power of four brings it where float64 neither overflows nor underflows.
    candidates = [v for v in around(root_f64(exact)) if v >= 0]
    best = candidates[0]
    for value in candidates[1:]:
        middle = (Fraction(float(best)) + Fraction(float(value))) / 2
        if exact > middle * middle or (exact == middle * middle and is_even(value)):
            best = value
    return best


def root_f64(exact):
    shift = (exact.numerator.bit_length() - exact.denominator.bit_length()) // 2
    return math.ldexp(math.sqrt(float(exact / Fraction(4) ** shift)), shift)


# ---------------------------------------------------------------- over the first axis


def over_entries(name, data, valid, q=None):
    """Entries along axis 0 to one: values and mask."""
    count = valid.sum(axis=0)
    empty = count == 0
    shape = data.shape[1:]
    if name == "count":
        return count.astype(np.float32), np.zeros(shape, bool)
    if name in ("any", "all"):
        true = data if data.dtype == bool else data != 0
        seen = (true & valid).any(axis=0) if name == "any" else (true | ~valid).all(axis=0)
        return seen, empty
    if name in ("first", "last"):
        out = np.zeros(shape, data.dtype)
        order = zip(data, valid) if name == "last" else zip(data[::-1], valid[::-1])
        for values, ok in order:
            out = np.where(ok, values, out)
        return out, empty
    if name in ("argmax", "argmin"):
        return position(data.astype(np.float32), valid, name == "argmax"), np.zeros(shape, bool)
    if name in ("max", "min"):
        return extreme(data, valid, name == "max"), empty
    floats = data.astype(np.float32)
    if name == "ptp":
        return extreme(floats, valid, True) - extreme(floats, valid, False), empty
    if name in ("sum", "mean", "std", "var"):
        return moments(name, floats, valid, count, empty)
    return ordered(name, floats, valid, count, q), empty


def extreme(data, valid, largest):
    if data.dtype == bool:
        return (data & valid).any(axis=0) if largest else (data | ~valid).all(axis=0)
    neutral = np.float32(-np.inf if largest else np.inf)
    # np.maximum and np.minimum propagate NaN.
    fold = (np.maximum if largest else np.minimum).reduce
    return fold(np.where(valid, data, neutral), axis=0, initial=neutral).astype(np.float32)


def position(data, valid, largest):
    best = np.zeros(data.shape[1:], np.float32)
    place = np.zeros(data.shape[1:], np.float32)
    has = np.zeros(data.shape[1:], bool)
    for i, (values, ok) in enumerate(zip(data, valid)):
        beats = values > best if largest else values < best
        wins = ok & (~has | (~np.isnan(best) & (beats | np.isnan(values))))
        best = np.where(wins, values, best)
        place = np.where(wins, np.float32(i), place)
        has |= ok
    return place


def exact_sums(entries):
    """Sums along axis 0, rounded to float64 once."""
    total, is_exact = np.zeros(entries.shape[1:], np.float64), np.ones(entries.shape[1:], bool)
    for values in entries:
        # Knuth's two-sum: what the addition rounds away.
        added = total + values
        part = added - total
        lost = (total - (added - part)) + (values - part)
        total, is_exact = added, is_exact & (lost == 0)
    for place in np.argwhere(~is_exact & np.isfinite(entries).all(axis=0)):
        total[tuple(place)] = math.fsum(entries[(slice(None), *place)])
    return total


def moments(name, data, valid, count, empty):
    total = exact_sums(np.where(valid, data, np.float32(0)).astype(np.float64))
    if name == "sum":
        return total.astype(np.float32), empty
    number = count.astype(np.float64)
    # This division masks what is not finite, as numpy.ma's mean does.
    mean = np.ma.true_divide(np.ma.array(total, mask=empty), number)
    if name == "mean":
        return mean.data.astype(np.float32), np.ma.getmaskarray(mean)
    squares = np.zeros(data.shape[1:], np.float64)
    for values, ok in zip(data, valid):
        squares = np.where(ok, squares + (values.astype(np.float64) - mean.data) ** 2, squares)
    var = squares / np.where(empty, 1, number)
    out = (np.sqrt(var) if name == "std" else var).astype(np.float32)
    return out, empty | np.ma.getmaskarray(mean) | ~np.isfinite(out)


def ordered(name, data, valid, count, q):
    """Median and percentile. Masked entries sort behind the valid ones; a valid NaN decides by itself."""
    has_nan = (np.isnan(data) & valid).any(axis=0)
    order = np.sort(np.where(valid, data, np.float32(np.inf)), axis=0)
    if not len(order):
        return np.zeros(data.shape[1:], np.float32)

    def at(place):
        return np.take_along_axis(order, np.clip(place, 0, len(order) - 1)[None], axis=0)[0]

    if name == "median":
        low, high = at((np.maximum(count, 1) - 1) // 2), at(count // 2)
        out = np.where(count % 2 == 0, (low + high) / np.float32(2), high)
    else:
        h = np.maximum(count - 1, 0) * float(q) / 100
        below = np.floor(h).astype(int)
        low = at(below).astype(np.float64)
        high = at(np.minimum(below + 1, np.maximum(count - 1, 0))).astype(np.float64)
        out = low + (high - low) * (h - below)
    return np.where(has_nan, np.float32(np.nan), out).astype(np.float32)


def over_pixels(name, data, valid, q=None):
    """The entries of one plane to one number and its mask; sums are exact."""
    values = data[valid]
    if name in ("sum", "mean", "std", "var") and len(values):
        exact = Exact(values.astype(np.float32))
        out = exact.total() if name == "sum" else getattr(exact, name)()
        return out, name != "sum" and not np.isfinite(out)
    out, mask = over_entries(name, values[:, None], np.ones((len(values), 1), bool), q)
    return out[0], bool(mask[0])


# ---------------------------------------------------------------- the ops


def reduced_props(a, axis):
    if axis == "pixels":
        return a.props
    if axis == "bands":
        if a.is_stack:
            return [{k: v for k, v in image.items() if k != "bands"} for image in a.props]
        return {k: v for k, v in a.props.items() if k != "bands"}
    if not a.props:
        return {}
    first = a.first_props()
    product = first.get("product_id", "")
    return {"bands": first.get("bands", []), "pad": first.get("pad", 0), "product_id": product}


def check_axis(at, a, axis, kind):
    raster(at, "a", a)
    expect(at, "axis", axis, str)
    if axis not in AXES:
        raise Fault("invalid_request", at, f"no axis `{axis}`; there are images, bands and pixels")
    if kind is not None and kind not in ("Mosaic", "ImageStack"):
        raise Fault("invalid_request", at, f"no kind `{kind}`")
    if kind is not None and kind != a.kind:
        raise Fault("impossible", at, f"kind `{kind}` does not match the {a.kind} given")
    if axis == "images" and not a.is_stack:
        raise Fault("impossible", at, "a Mosaic has no axis `images`")


def reduce(ev, at, a, name, axis, kind, q=None):
    check_axis(at, a, axis, kind)
    if axis == "pixels" and name in NOT_OVER_PIXELS:
        raise Fault("impossible", at, f"`{name}` over `pixels` is not defined")
    if name == "ptp" and a.data.dtype == bool:
        raise Fault("impossible", at, "`ptp` of bool")
    if name == "percentile" and (not is_number(q) or not 0 <= q <= 100):
        raise Fault("invalid_request", at, f"`q` is {q}, not 0 to 100")
    props = reduced_props(a, axis)
    data, valid = a.data.data, ~np.ma.getmaskarray(a.data)
    if axis == "pixels":
        inner = a.with_margin(0).data
        data, valid = inner.data, ~np.ma.getmaskarray(inner)
        if ev.outside is not None:
            valid = valid & ~ev.outside
        planes = data.shape[:-2]
        cells = [over_pixels(name, data[i], valid[i], q) for i in np.ndindex(planes)]
        dtype = result_dtype(name, data.dtype)
        values = np.array([c[0] for c in cells], dtype=dtype).reshape(planes)
        mask = np.array([c[1] for c in cells], dtype=bool).reshape(planes)
        return Array(np.ma.array(values, mask=mask), props, leading=True)
    first = 0 if axis == "images" else a.data.ndim - 3
    values, mask = over_entries(name, np.moveaxis(data, first, 0), np.moveaxis(valid, first, 0), q)
    if axis == "images" and not len(data) and name != "count":
        mask = np.ones_like(mask)
    if axis == "bands":
        values, mask = values[..., None, :, :], mask[..., None, :, :]
    assert values.dtype == result_dtype(name, data.dtype), name
    return Raster(np.ma.array(values, mask=mask), props, a.margin).on_domain()


def result_dtype(name, dtype):
    if name in ("any", "all"):
        return np.dtype(bool)
    return dtype if name in ("max", "min", "first", "last") else np.dtype(np.float32)


def looks_pickled(text):
    """The client sends a Python function as the base64 of its pickle."""
    return len(text) > 40 and text.startswith("gA")


def callable_fault(at, instead):
    message = f"a pickled callable is never run; use {instead} or a graft function"
    return Fault("unsupported", at, message)


def reduction(ev, at, a, reducer, axis, kind, q):
    if isinstance(reducer, Function):
        return by_function(ev, at, a, reducer, axis, kind)
    expect(at, "reducer", reducer, str)
    if reducer not in REDUCERS:
        if looks_pickled(reducer):
            raise callable_fault(at, "a named reducer")
        raise Fault("invalid_request", at, f"no reducer `{reducer}`")
    return reduce(ev, at, a, reducer, axis, kind, q)


def by_function(ev, at, a, function, axis, kind):
    check_axis(at, a, axis, kind)
    props = reduced_props(a, axis)
    if axis == "images" and not a.props:
        shape = a.data.shape[1:]
        return Raster(np.ma.array(np.zeros(shape, np.float32), mask=True), props, a.margin).on_domain()
    out = ev.apply(function, [a, axis], {}, at)
    if axis == "pixels":
        if not isinstance(out, Array) or out.data.shape != a.data.shape[:-2]:
            raise Fault("impossible", at, "the function does not reduce over pixels")
        return Array(out.data, props, leading=True)
    shape = list(a.data.shape)
    if axis == "images":
        del shape[0]
    else:
        shape[-3] = 1
    if not isinstance(out, Raster) or list(out.data.shape) != shape:
        raise Fault("impossible", at, f"the function does not reduce over {axis}")
    return Raster(out.data, props, out.margin).on_domain()


def named(name):
    if name == "percentile":
        return lambda ev, at, a, axis, q, kind: reduce(ev, at, a, name, axis, kind, q)
    return lambda ev, at, a, axis, kind: reduce(ev, at, a, name, axis, kind)


OPS = {
    "reduction": (reduction, ("a", "reducer", "axis", "kind", "q"), 3),
    **{name: (named(name), ("a", "axis", "kind"), 2) for name in REDUCERS if name != "percentile"},
    "percentile": (named("percentile"), ("a", "axis", "q", "kind"), 3),
}
