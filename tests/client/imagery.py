"""The imagery read a second way: rasterio, straight into the worlds that the oracle evaluates grafts in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio


class Imagery:
    """STAC folders: collections, and their items as far as they lie in one CRS."""

    def __init__(self, *folders):
        self.products = {}
        for folder in folders:
            collection = json.loads((Path(folder) / "collection.json").read_text())
            items = []
            for path in sorted(Path(folder).glob("items/*.json")):
                items.append((path, json.loads(path.read_text())))
            self.products[collection["id"]] = items

    def world(self, epsg, bounds, resolution):
        """The products on a grid, with their pixels by the names that the oracle looks for."""
        left, bottom, right, top = bounds
        grid = {
            "rows": round((top - bottom) / resolution),
            "cols": round((right - left) / resolution),
            "resolution": resolution,
            "upper_left": [left, top],
        }
        products, arrays = [], {}
        for at, (name, items) in enumerate(self.products.items()):
            scenes, bands = [], []
            for path, item in items:
                names = [band for asset in item["assets"].values() for band in names_of(asset)]
                bands = [*bands, *(band for band in names if band not in bands)]
                if item["properties"]["proj:epsg"] != epsg:
                    continue
                scene, data = read(path, item, grid)
                arrays[f"{at}_{item['id']}_data"] = data.filled(0)
                arrays[f"{at}_{item['id']}_mask"] = np.ma.getmaskarray(data)
                scenes.append(scene)
            products.append({"id": name, "bands": bands, "scenes": scenes})
        return {"grid": grid, "products": products}, arrays


def names_of(asset):
    return [band["name"] for band in asset.get("eo:bands", [])]


def read(path, item, grid):
    """A scene of a world: physical values as float32, masked where a file has nodata."""
    resolution, (left, top) = grid["resolution"], grid["upper_left"]
    size, names, layers = None, [], []
    for asset in item["assets"].values():
        if "proj:transform" not in asset:
            continue
        step, _, west, _, _, north = asset["proj:transform"][:6]
        rows, cols = asset["proj:shape"]
        # Coarser pixels are repeated: the grid is aligned with all of them.
        times = round(step / resolution)
        assert times * resolution == step, f"{asset['href']} is finer than the grid"
        layer = physical(path.parent / asset["href"], asset["raster:bands"][0])
        layers.append(layer.repeat(times, axis=0).repeat(times, axis=1))
        names += names_of(asset)
        place = {"row": (top - north) / resolution, "col": (west - left) / resolution}
        here = {**place, "rows": rows * times, "cols": cols * times}
        assert size in (None, here), "all bands of a scene have one extent"
        size = here
    assert size["row"] == int(size["row"]) and size["col"] == int(size["col"]), "the grid is aligned"
    properties = {key: value for key, value in item["properties"].items() if key != "datetime"}
    if "eo:cloud_cover" in properties:
        properties["cloud_fraction"] = properties["eo:cloud_cover"] / 100
    scene = {
        "id": item["id"],
        "acquired": item["properties"]["datetime"],
        "bands": names,
        "properties": properties,
        **{key: int(value) for key, value in size.items()},
    }
    return scene, np.ma.stack(layers)


def physical(path, band):
    with rasterio.open(path) as file:
        stored = file.read(1, masked=True)
    if "nodata" in band:
        stored = np.ma.masked_equal(stored, band["nodata"])
    values = stored.data.astype(np.float64) * band.get("scale", 1) + band.get("offset", 0)
    return np.ma.array(values.astype(np.float32), mask=np.ma.getmaskarray(stored))
