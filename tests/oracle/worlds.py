"""Random small worlds: grids of one pixel and of one row, scenes that miss the grid, masks of every density."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

UNDER_MASK = 7777.0
COMMON = np.array([-8, -2.5, -1, -0.5, 0, 0, 0.1, 0.25, 1 / 3, 0.5, 1, 1, 2, 2.5, 3, 7, 10, 100], np.float32)
RARE = np.array([1e30, -1e30, 3e20, 1e-30, -1e-30, 1e-40, 16777216, 1234.567], np.float32)
# Grids far from zero, so that rounding of coordinates shows.
RESOLUTIONS = (10.0, 30.0, 0.5, [10.0, 20.0])


def random_world(rng, largest):
    rows, cols = grid_size(rng, largest)
    res = rng.choice(RESOLUTIONS)
    grid = {"epsg": 32633, "upper_left": [500000.0, 5000000.0], "resolution": res, "rows": rows, "cols": cols}
    if rng.random() < 0.15:
        # Degrees, in steps that are exact in binary: nothing but the metres of a degree is to be tested.
        place = [rng.choice([7.0, -120.0]), rng.choice([46.0, -33.0, 0.5])]
        grid.update(
            epsg=4326, geographic=True, upper_left=place, resolution=rng.choice([2**-10, [2**-9, 2**-8]])
        )
    products = []
    for name, bands, most in (("w:one", "abcq", 6), ("w:two", "abn", 3), ("w:three", "q", 2)):
        scenes = [random_scene(rng, name, i, list(bands), rows, cols) for i in range(rng.randint(0, most))]
        products.append({"id": name, "bands": list(bands), "scenes": scenes})
    return {"grid": grid, "products": products}


def grid_size(rng, largest):
    shape = rng.choice(["pixel", "row", "column", "small", "small", "any", "any", "any", "any"])
    if shape == "pixel":
        return 1, 1
    if shape == "row":
        return 1, rng.randint(2, largest)
    if shape == "column":
        return rng.randint(2, largest), 1
    most = min(largest, 6) if shape == "small" else largest
    return rng.randint(2, most), rng.randint(2, most)


def random_scene(rng, product, number, bands, rows, cols):
    height, width = rng.randint(1, rows + 4), rng.randint(1, cols + 4)
    whole = rng.random() < 0.65
    row, col = (-2, -2) if whole else (rng.randint(-3, rows), rng.randint(-3, cols))
    if whole:
        height, width = rows + 4, cols + 4
    moment = datetime(2024, 1, 1) + timedelta(days=rng.randint(0, 12) * 30, hours=rng.choice([0, 0, 7, 23]))
    return {
        "id": f"{product[2:]}-{number}",
        "product": product,
        "acquired": moment.isoformat() + "Z",
        "row": row,
        "col": col,
        "rows": height,
        "cols": width,
        "bands": bands if rng.random() < 0.7 else bands[::-1],
        "properties": {
            "cloud_fraction": rng.choice([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]),
            "satellite_id": rng.choice("ABC"),
            "tags": rng.choice([[], ["x"], ["x", "y"]]),
            "view_angle": rng.choice([None, 0.0, -3.5, 12.25]),
        },
    }


def random_pixels(rng, scene):
    """Values and mask of a scene, (bands, rows, cols)."""
    numpy = np.random.default_rng(rng.getrandbits(64))
    shape = (scene["rows"], scene["cols"])
    hidden_part, rare_part = rng.choice([0, 0.1, 0.1, 0.1, 0.2, 0.5, 1]), rng.choice([0, 0.05, 0.05, 0.3])
    data, mask = [], []
    for band in scene["bands"]:
        if band == "q":
            values = numpy.integers(0, 5, shape).astype(np.float32)
        else:
            values = numpy.choice(COMMON, shape)
            values = np.where(numpy.random(shape) < rare_part, numpy.choice(RARE, shape), values)
        data.append(values)
        mask.append(numpy.random(shape) < hidden_part)
    mask = np.stack(mask)
    return np.where(mask, np.float32(UNDER_MASK), np.stack(data)).astype(np.float32), mask


def random_outline(rng, grid):
    """A triangle or a quadrangle over part of a grid, as corners in columns and rows from its upper left.

    No corner and no edge runs through the centre of a pixel.
    """
    rows, cols = grid["rows"], grid["cols"]

    def anywhere():
        return [rng.uniform(-0.3, 1.3) * cols + 1e-3, rng.uniform(-0.3, 1.3) * rows + 1e-3]

    return [anywhere() for _ in range(rng.choice([3, 4]))]


def outside_of(outline, grid):
    """True for the pixels whose centre is outside, by the even-odd rule."""
    rows, cols = np.mgrid[: grid["rows"], : grid["cols"]]
    x, y = cols + 0.5, rows + 0.5
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]]):
        crosses = (y0 > y) != (y1 > y)
        if y0 != y1:
            inside ^= crosses & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return ~inside
