"""The made-up world of the golden cases."""

from __future__ import annotations

import numpy as np

SEED = 20240105
ROWS, COLS = 37, 53
# What lies under a mask of the world: visible at once if it leaks into a result.
UNDER_MASK = 7777.0


def scene(product, name, acquired, window, bands, properties):
    row, col, rows, cols = window
    return {
        "id": name,
        "product": product,
        "acquired": acquired,
        "row": row,
        "col": col,
        "rows": rows,
        "cols": cols,
        "bands": bands,
        "properties": properties,
    }


def make_world():
    """Returns the description of the world, and its arrays by name."""
    up, one = "made:up", "made:one"
    abcq = ["a", "b", "c", "q"]

    def own(cloud, satellite, tags, view):
        return {"cloud_fraction": cloud, "satellite_id": satellite, "tags": tags, "view_angle": view}

    scenes = [
        scene(up, "s1", "2024-03-01T10:00:00Z", (0, 0, 20, 30), abcq, own(0.25, "A", ["x"], 1.5)),
        scene(up, "s2", "2024-08-15T23:59:59Z", (5, 10, 32, 43), abcq, own(0.0, "B", [], None)),
        scene(up, "s3", "2024-01-05T10:00:00Z", (0, 20, 37, 33), abcq, own(0.5, "A", ["x", "y"], -3.0)),
        scene(up, "s4", "2024-11-30T00:00:00Z", (12, 0, 15, 53), abcq, own(0.125, "B", [], 0.0)),
        scene(up, "s5", "2024-05-20T09:30:15Z", (8, 16, 8, 20), abcq, own(1.0, "A", [], 12.25)),
    ]
    lone = [scene(one, "o1", "2024-04-10T12:00:00Z", (3, 4, 30, 44), ["a", "n"], own(0.75, "C", [], 2.0))]
    grid = {
        "epsg": 32633,
        "upper_left": [500000.0, 5000000.0],
        "resolution": 10.0,
        "rows": ROWS,
        "cols": COLS,
    }
    world = {
        "grid": grid,
        "products": [
            {"id": up, "bands": abcq, "scenes": scenes},
            {"id": one, "bands": ["a", "n"], "scenes": lone},
        ],
    }

    rng = np.random.default_rng(SEED)
    common = np.array(
        [-8, -2.5, -1, -0.5, 0, 0, 0.1, 0.25, 1 / 3, 0.5, 1, 1, 2, 2.5, 3, 7, 10, 100], dtype=np.float32
    )
    rare = np.array([1e30, -1e30, 3e20, 1e-30, -1e-30, 1e-40, 16777216, 1234.567], dtype=np.float32)
    arrays = {}
    for index, product in enumerate(world["products"]):
        for item in product["scenes"]:
            shape = (item["rows"], item["cols"])
            data, mask = [], []
            for band in item["bands"]:
                if band == "q":
                    values = rng.integers(0, 5, shape).astype(np.float32)
                else:
                    values = rng.choice(common, shape)
                    values = np.where(rng.random(shape) < 0.06, rng.choice(rare, shape), values)
                    if band == "b":  # so that a - b == 0 happens often
                        values = np.where(rng.random(shape) < 0.3, data[0], values)
                data.append(values)
                hidden = rng.random(shape) < 0.12
                mask.append(
                    np.full(shape, item["id"] == "s4") if band == "a" and item["id"] == "s4" else hidden
                )
            mask = np.stack(mask)
            data = np.where(mask, np.float32(UNDER_MASK), np.stack(data)).astype(np.float32)
            arrays[f"{index}_{item['id']}_data"] = data
            arrays[f"{index}_{item['id']}_mask"] = mask
    return world, arrays
