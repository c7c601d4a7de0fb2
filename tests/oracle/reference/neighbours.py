"""Values that depend on their neighbours. The edge is that of the value's domain."""

from __future__ import annotations

import json

import numpy as np

from .elementwise import like
from .reductions import over_entries
from .sources import metres
from .values import Array, Fault, raster

WINDOW_MAX = 99


def shifted(data, rows, cols, fill):
    """The values so many rows and columns further on; `fill` beyond the edge."""
    out = np.full_like(data, fill)
    height, width = data.shape[-2:]
    if abs(rows) < height and abs(cols) < width:
        to = (..., slice(max(-rows, 0), height - max(rows, 0)), slice(max(-cols, 0), width - max(cols, 0)))
        of = (..., slice(max(rows, 0), height - max(-rows, 0)), slice(max(cols, 0), width - max(-cols, 0)))
        out[to] = data[of]
    return out


def window(data, valid, height, width):
    """The pixels of the window around each, in row order, and which are there."""
    offsets = [
        (r, c) for r in range(-(height // 2), height // 2 + 1) for c in range(-(width // 2), width // 2 + 1)
    ]
    values = np.stack([shifted(data, r, c, data.dtype.type(0)) for r, c in offsets])
    return values, np.stack([shifted(valid, r, c, False) for r, c in offsets])


def parts(a):
    return a.data.data, ~np.ma.getmaskarray(a.data)


def gradient(ev, at, name, a):
    raster(at, "a", a)
    axis = -1 if name == "gradient_x" else -2
    data, valid = parts(a)
    data = data.astype(np.float32)
    n = data.shape[axis]
    if n < 2:
        return like(a, np.ma.array(np.zeros_like(data), mask=True))
    at_ = lambda i: (..., i) if axis == -1 else (..., i, slice(None))  # noqa: E731
    out, ok = np.zeros_like(data), np.zeros_like(valid)
    inner, after, before = at_(slice(1, -1)), at_(slice(2, None)), at_(slice(None, -2))
    out[inner] = (data[after] - data[before]) / np.float32(2)
    ok[inner] = valid[after] & valid[before]
    for edge, high, low in ((0, 1, 0), (-1, -1, -2)):
        out[at_(edge)] = data[at_(high)] - data[at_(low)]
        ok[at_(edge)] = valid[at_(high)] & valid[at_(low)]
    return like(a, np.ma.array(out, mask=~ok))


def window_size(at, size):
    if isinstance(size, list):
        if len(size) == 1 and isinstance(size[0], list):
            size = size[0]
        ok = len(size) == 2
    else:
        size, ok = [size, size], True
    for side in size:
        if not ok or isinstance(side, bool) or not isinstance(side, int) or side % 2 == 0 or side < 1:
            raise Fault("invalid_request", at, f"`size` {size} is not odd")
    return size


def focal(name):
    def op(ev, at, a, size):
        raster(at, "a", a)
        height, width = window_size(at, size)
        data, valid = parts(a)
        if name in ("mean", "median"):
            data = data.astype(np.float32)
        values, there = window(data, valid, height, width)
        if name == "mean":
            total = np.zeros(data.shape, np.float64)
            for value, ok in zip(values, there):
                total = np.where(ok, total + value.astype(np.float64), total)
            count = there.sum(axis=0)
            out, mask = (total / np.maximum(count, 1)).astype(np.float32), count == 0
        else:
            out, mask = over_entries(name, values, there)
        return like(a, np.ma.array(out, mask=mask))

    return op


def spread_mask(name):
    def op(ev, at, mask, size):
        raster(at, "mask", mask)
        if mask.data.dtype != bool:
            raise Fault("impossible", at, f"`{name}` needs a bool operand")
        height, width = window_size(at, 3 if size is None else size)
        values, there = window(*parts(mask), height, width)
        out, hidden = over_entries("any" if name == "dilate" else "all", values, there)
        return like(mask, np.ma.array(out, mask=hidden))

    return op


def convolve(ev, at, a, kernel):
    raster(at, "a", a)
    if isinstance(kernel, str):
        kernel = json.loads(kernel)
    weights = kernel.data.data if isinstance(kernel, Array) else np.array(kernel, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[0] % 2 == 0 or weights.shape[1] % 2 == 0:
        raise Fault("invalid_request", at, f"a kernel of shape {weights.shape}; both sides must be odd")
    weights = weights.astype(np.float64)[::-1, ::-1]
    data, valid = parts(a)
    height, width = weights.shape
    half = [(0, 0)] * (data.ndim - 2) + [(height // 2,) * 2, (width // 2,) * 2]
    wide, there = np.pad(data.astype(np.float32), half, mode="edge"), np.pad(valid, half, mode="edge")
    total, ok = np.zeros(data.shape, np.float64), np.ones(data.shape, bool)
    for r in range(height):
        for c in range(width):
            if weights[r, c] != 0:
                part = (..., slice(r, r + data.shape[-2]), slice(c, c + data.shape[-1]))
                total = total + weights[r, c] * wide[part].astype(np.float64)
                ok &= there[part]
    return like(a, np.ma.array(total.astype(np.float32), mask=~ok))


def horn(ev, at, a):
    """Rise per metre eastward and southward by Horn's weights, and where all nine pixels are there."""
    raster(at, "a", a)
    data, valid = parts(a)
    values, there = window(data.astype(np.float32), valid, 3, 3)
    values = values.astype(np.float64)
    nw, n, ne, w, _, e, sw, s, se = values
    rows = data.shape[-2]
    sizes = np.array([metres(ev, r - a.margin + 0.5) for r in range(rows)])
    east = ((ne + 2 * e + se) - (nw + 2 * w + sw)) / (8 * sizes[:, 0][:, None])
    south = ((sw + 2 * s + se) - (nw + 2 * n + ne)) / (8 * sizes[:, 1][:, None])
    return east, south, there.all(axis=0)


def slope(ev, at, a):
    east, south, ok = horn(ev, at, a)
    data = np.degrees(np.arctan(np.sqrt(east * east + south * south))).astype(np.float32)
    return like(a, np.ma.array(data, mask=~ok))


def aspect(ev, at, a):
    """The direction that the slope faces, downhill, as gdaldem has it."""
    east, south, ok = horn(ev, at, a)
    # Uphill is (east, -south) in (x, y); downhill is its opposite. Clockwise from north: atan2(x, y).
    angle = np.degrees(np.arctan2(-east, south))
    angle = np.where(angle < 0, angle + 360, angle).astype(np.float32)
    angle = np.where(angle == 360, np.float32(0), angle)
    return like(a, np.ma.array(angle, mask=~ok | ((east == 0) & (south == 0))))


def gradient_op(name):
    return lambda ev, at, a: gradient(ev, at, name, a)


OPS = {
    "gradient_x": (gradient_op("gradient_x"), ("a",), 1),
    "gradient_y": (gradient_op("gradient_y"), ("a",), 1),
    **{f"focal_{name}": (focal(name), ("a", "size"), 2) for name in ("mean", "min", "max", "median")},
    "dilate": (spread_mask("dilate"), ("mask", "size"), 1),
    "erode": (spread_mask("erode"), ("mask", "size"), 1),
    "convolve": (convolve, ("a", "kernel"), 2),
    "slope": (slope, ("a",), 1),
    "aspect": (aspect, ("a",), 1),
}
