"""What the captured grafts of the published client are, on a made-up catalog with the products they name.

    python captured.py GRAFTS_FOLDER     rewrite ../golden/compat

The grafts themselves stay where they are; written are names, answers, and our world. Grafts that hold a
pickled callable are evaluated with its traced form (`TRACED`), which this file first compares with the
Python function.

cases.json     as generate.py writes it, without the grafts
traced.json    graft functions, by name of the graft whose pickled callable they replace
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.generate import Writer  # noqa: E402
from oracle.grafts import Key, function  # noqa: E402
from oracle.reference import Evaluator, Fault, Raster  # noqa: E402
from oracle.reference.language import OPS  # noqa: E402
from oracle.reference.reductions import looks_pickled  # noqa: E402
from oracle.reference.values import Function  # noqa: E402
from oracle.store import case_of, json_bytes  # noqa: E402

HERE = Path(__file__).parent
ROWS, COLS = 23, 31
# Products, their bands, and how many images they have, one a month.
PRODUCTS = (
    ("esa:sentinel-2:l2a:v1", "S2", "blue green red nir swir1 cloud_mask scl", 6),
    ("usgs:landsat:oli:v2", "L8", "blue green red nir swir1 thermal", 4),
    ("esa:sentinel-1:sigma0v:v1", "S1", "vv vh", 5),
    ("usda:cdl:v1", "CDL", "class", 2),
    ("srtm:dem:v1", "DEM", "elevation", 2),
)
A, AXIS, IMAGE = Key("a"), Key("axis"), Key("image")
WHEN = ("attr", IMAGE, "acquired")
# The second to last of four entries as `np.ma.sort(a)[-2]` has it: masked entries sort last.
SECOND = (
    "where",
    ("eq", ("count", A, AXIS), 4),
    ("percentile", A, AXIS, 200 / 3),
    ("mask", ("max", A, AXIS), ("ne", ("count", A, AXIS), 3)),
)
TRACED = {
    "groupby_month": function(["image"], ("attr", WHEN, "month")),
    "stack_filter_lambda": function(
        ["image"], ("and", ("lt", ("attr", IMAGE, "cloud_fraction"), 0.3), ("ge", ("attr", WHEN, "month"), 2))
    ),
    "mosaic_reduce_callable": function(["a", "axis"], SECOND),
    "stack_reduce_callable": function(["a", "axis"], ("percentile", A, AXIS, 90)),
}
# Angles near a pole of their function lose digits that each step may round differently.
ULPS = {"dem_slope": 12, "aspect_server_resolution": 8, "logic_and_functions": 8, "mosaic_band_zscore": 4}


def make_world():
    grid = {
        "epsg": 32633,
        "upper_left": [500000.0, 5000000.0],
        "resolution": 10.0,
        "rows": ROWS,
        "cols": COLS,
    }
    rng = random.Random("captured")
    products, arrays = [], {}
    for index, (product, short, bands, images) in enumerate(PRODUCTS):
        scenes = []
        for i in range(images):
            whole = i % 2 == 0
            scenes.append(
                {
                    "id": f"{product}:{short}_{i:03}",
                    "product": product,
                    "acquired": f"2024-{i + 1:02}-{5 + 3 * i:02}T10:{i}0:00Z",
                    "row": -3 if whole else 4,
                    "col": -3 if whole else -2,
                    "rows": ROWS + 6 if whole else 14,
                    "cols": COLS + 6 if whole else 27,
                    "bands": bands.split(),
                    "properties": {
                        "cloud_fraction": [0.1, 0.35, 0.2, 0.9, 0.45, 0.25][i],
                        "satellite_id": ["S2A", "S2B", "S2C"][i % 3],
                        "tags": [],
                    },
                }
            )
            data, mask = pixels(rng, scenes[-1])
            arrays[f"{index}_{scenes[-1]['id']}_data"], arrays[f"{index}_{scenes[-1]['id']}_mask"] = (
                data,
                mask,
            )
        products.append({"id": product, "bands": bands.split(), "scenes": scenes})
    return {"grid": grid, "products": products}, arrays


def pixels(rng, scene):
    numpy = np.random.default_rng(rng.getrandbits(64))
    shape = scene["rows"], scene["cols"]
    data = []
    for band in scene["bands"]:
        if band in ("cloud_mask", "class", "scl"):
            values = numpy.integers(0, {"cloud_mask": 2, "class": 4, "scl": 12}[band], shape)
        elif band == "elevation":
            values = 300 + np.cumsum(numpy.normal(0, 4, shape), axis=1)
        else:
            values = numpy.uniform(0, 0.7, shape)
        data.append(values.astype(np.float32))
    mask = numpy.random((len(data), *shape)) < 0.06
    return np.where(mask, np.float32(7777), np.stack(data)), mask


def check_callables(world, arrays):
    """The traced reducers are the Python functions, on what the graft reduces."""
    evaluator = Evaluator(world, arrays, True)
    rng = np.random.default_rng(5)
    data = np.ma.array(rng.normal(size=(4, 40, 40)).astype(np.float32), mask=rng.random((4, 40, 40)) < 0.4)

    def run(name, kind, axis):
        raster = Raster(data if kind == "Mosaic" else data[:, None], {} if kind == "Mosaic" else [{}] * 4)
        found = OPS["reduction"][0](evaluator, "", raster, Function(TRACED[name], None, ""), axis, kind, None)
        return found.data[0]

    def compare(meant, found, distance):
        assert np.array_equal(np.ma.getmaskarray(meant), np.ma.getmaskarray(found))
        assert np.abs(meant.filled(0) - found.filled(0)).max() <= distance

    compare(np.ma.sort(data, axis=0)[-2], run("mosaic_reduce_callable", "Mosaic", "bands"), 0)
    wide = np.ma.filled(data.astype("f8"), np.nan)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        percentile = np.ma.masked_invalid(np.nanpercentile(wide, 90, axis=0))
    compare(percentile, run("stack_reduce_callable", "ImageStack", "images"), 1e-6)


def traced(name, graft):
    """The graft with its pickled callable replaced."""
    pickled = [key for key, value in graft.items() if isinstance(value, str) and looks_pickled(value)]
    if not pickled:
        return graft, False
    (key,) = pickled
    return {**graft, key: TRACED[name]}, True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grafts", type=Path)
    folder = parser.parse_args().grafts
    world, arrays = make_world()
    check_callables(world, arrays)
    writer = Writer()
    writer.add_world(world, arrays)
    for path in sorted(folder.glob("*.json")):
        captured = json.loads(path.read_text())
        name, parameters = captured["name"], captured["parameters"]
        graft, has_callable = traced(name, captured["graft"])
        if has_callable:
            try:
                Evaluator(world, arrays, True, parameters).run(captured["graft"])
            except Fault as fault:
                assert "callable" in fault.message, fault
        results = [Evaluator(world, arrays, keep, parameters).run(graft) for keep in (False, True)]
        options = {"ulps": ULPS[name]} if name in ULPS else {}
        case, values = case_of(name, graft, *results, options)
        del case["graft"]
        writer.add({**case, "callable": has_callable}, values)
    out = HERE.parent / "golden" / "compat"
    writer.write(out)
    (out / "traced.json").write_bytes(json_bytes(dict(sorted(TRACED.items()))))
    print(f"{len(writer.cases)} captured grafts: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
