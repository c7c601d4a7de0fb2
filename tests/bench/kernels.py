"""The programs of `common/tests/bill/kernels.rs` with numpy, on the same data, beside what they took there.

Reads the lines that begin with `kernel` from standard input. Mpixel/s are pixels of the result's grid for
each second of processor time of one core. numpy stands for what people write: numpy.ma where it has the
operation, else windows and shifts; its peak is what tracemalloc sees.
"""

import json
import sys
import time
import tracemalloc
import warnings

import numpy as np

EDGE = 512
BANDS = "abcq"
LONG_ENOUGH = 0.4


def band(scene, name):
    """A band of a scene, as `kernels.rs` makes it."""
    pixels = EDGE * EDGE
    at = BANDS.index(name)
    bits = np.arange(pixels, dtype=np.uint32) + np.uint32((scene * len(BANDS) + at) * pixels)
    bits *= np.uint32(2_654_435_761)
    bits ^= bits >> 16
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> 13
    data = ((bits >> 8).astype(np.float32) / np.float32(1 << 24)).reshape(EDGE, EDGE)
    mask = np.zeros(data.shape, bool) if name == "c" else ((bits & 0xFF) < 90).reshape(EDGE, EDGE)
    return np.ma.array(data, mask=mask)


def images(count, name="a"):
    bands = [band(scene, name) for scene in range(count)]
    return np.ma.array([one.data for one in bands], mask=[one.mask for one in bands])


def windows(a, fill):
    return np.lib.stride_tricks.sliding_window_view(np.pad(a, 2, constant_values=fill), (5, 5))


def shifts(a, rows, cols):
    """The same pixels as seen from the places of a window, one after another."""
    height, width = a.shape[0] - rows + 1, a.shape[1] - cols + 1
    for row in range(rows):
        for col in range(cols):
            yield row, col, a[row : row + height, col : col + width]


def ndvi(a, b, c, q):
    return np.ma.masked_where((q > 0.5).filled(True), (b - a) / (b + a))


def six(a, b, c, q):
    return np.ma.abs(((a + b) * c - a) / (b + c))


def choose(a, b, c, q):
    return np.ma.where(a > 0.5, a.clip(0.2, 0.8), b.filled(0))


def focal_mean(a, b, c, q):
    padded, valid = np.pad(a.filled(0), 2), np.pad(~a.mask, 2)
    total, count = np.zeros(a.shape), np.zeros(a.shape)
    for _, _, shifted in shifts(padded, 5, 5):
        total += shifted
    for _, _, shifted in shifts(valid, 5, 5):
        count += shifted
    return np.ma.array(total, mask=count == 0) / count


def focal_median(a, b, c, q):
    return np.ma.masked_invalid(np.nanmedian(windows(a.filled(np.nan), np.nan), axis=(-2, -1)))


def convolve(a, b, c, q):
    kernel = np.arange(1, 26).reshape(5, 5)[::-1, ::-1]
    total = np.zeros(c.shape)
    for row, col, shifted in shifts(np.pad(c.data, 2, mode="edge"), 5, 5):
        total += kernel[row, col] * shifted.astype(np.float64)
    return np.ma.array(total)


def slope(a, b, c, q):
    """Horn's method on pixels of 10 m."""
    z = c.data.astype(np.float64)
    (nw, n, ne), (w, _, e), (sw, s, se) = (
        [z[row : EDGE - 2 + row, col : EDGE - 2 + col] for col in range(3)] for row in range(3)
    )
    east = ((ne + 2 * e + se) - (nw + 2 * w + sw)) / 80
    south = ((sw + 2 * s + se) - (nw + 2 * n + ne)) / 80
    return np.ma.array(np.degrees(np.arctan(np.hypot(east, south))))


NUMPY = {
    "ndvi, masked": (1, ndvi),
    "graph of 6 ops": (1, six),
    "where, clip, filled": (1, choose),
    "sqrt + log": (1, lambda a, b, c, q: np.ma.sqrt(a) + np.ma.log(b)),
    "median of 24 images": (24, lambda stack: np.ma.median(stack, axis=0)),
    "median of 60 images": (60, lambda stack: np.ma.median(stack, axis=0)),
    "percentile of 24 images": (
        24,
        lambda stack: np.nanpercentile(stack.filled(np.nan), 90, axis=0),
    ),
    "mean of 24 images": (24, lambda stack: stack.mean(axis=0)),
    "std of 24 images": (24, lambda stack: stack.std(axis=0)),
    "max of 24 images": (24, lambda stack: stack.max(axis=0)),
    "mean of 4 bands": (1, lambda *bands: np.ma.array(bands).mean(axis=0)),
    "focal_mean 5 x 5": (1, focal_mean),
    "focal_median 5 x 5": (1, focal_median),
    "convolve 5 x 5": (1, convolve),
    "gradient_x": (1, lambda a, b, c, q: np.gradient(c.data, axis=1)),
    "slope": (1, slope),
    "mean over pixels": (1, lambda a, b, c, q: a.mean()),
    "median over pixels": (1, lambda a, b, c, q: np.ma.median(a)),
}


def measured(count, function):
    """Processor time and peak memory of a program, and what its result is like."""
    inputs = [images(count)] if count > 1 else [band(0, name) for name in BANDS]
    tracemalloc.start()
    result = np.ma.masked_invalid(np.ma.asarray(function(*inputs)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    runs, started = 0, time.process_time()
    while runs == 0 or time.process_time() - started < LONG_ENOUGH:
        function(*inputs)
        runs += 1
    seconds = (time.process_time() - started) / runs
    return seconds, peak, result.count(), float(result.sum(dtype=np.float64))


def main():
    lines = [line.partition("kernel ")[2] for line in sys.stdin if "kernel {" in line]
    if not lines:
        sys.exit("no measurement arrived")
    wrong = []
    heads = ("Mpixel/s", "wall ms", "peak MB", "numpy", "peak MB", "ratio")
    print(f"{EDGE} x {EDGE} pixels, 35 % masked; Mpixel/s for each second of one core")
    print(f"{'':26}" + "".join(f"{head:>10}" for head in heads))
    for ours in map(json.loads, lines):
        seconds, peak, valid, total = measured(*NUMPY[ours["name"]])
        speed, other = (EDGE * EDGE / 1e6 / time for time in (ours["cpu_s"], seconds))
        row = (
            speed,
            ours["wall_s"] * 1e3,
            ours["peak_bytes"] / 1e6,
            other,
            peak / 1e6,
            speed / other,
        )
        print(
            f"{ours['name']:26}" + "".join(f"{value:10.2f}" for value in row),
            flush=True,
        )
        if valid != ours["valid"] or abs(total - ours["sum"]) > 1e-5 * abs(total):
            wrong.append(
                f"{ours['name']}: {ours['valid']} values of sum {ours['sum']}, numpy {valid} of {total}"
            )
    if wrong:
        sys.exit("another result than numpy's:\n" + "\n".join(wrong))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    main()
