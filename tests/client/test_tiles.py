"""Tiles, from the addresses that the client's map layers ask for: no header, only the address."""

from __future__ import annotations

import datetime
import io
import unittest

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import matplotlib
import mercantile
import numpy as np
import requests
from PIL import Image
from places import LANDSAT, SENTINEL
from test_forms import LAT, LON

AT = mercantile.tile(LON, LAT, 15)
FAR = mercantile.tile(0.0, 0.0, 15)
COLORADO = mercantile.tile(-106.914, 40.288, 14)


def image(bands):
    return dc.Mosaic.from_product_bands(SENTINEL, bands)


def ndvi():
    nir, red = image("nir red").unpack_bands("nir red")
    return (nir - red) / (nir + red)


def tile(layer, at=AT, status=200):
    """What Leaflet would show at a place."""
    url = layer.url if hasattr(layer, "url") else layer
    answer = requests.get(url.replace("{z}/{x}/{y}", f"{at.z}/{at.x}/{at.y}"), timeout=60)
    assert answer.status_code == status, f"{answer.status_code}: {answer.content[:300]}"
    assert answer.headers["content-type"] == "image/png", answer.headers
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (256, 256), picture.size
    return np.asarray(picture.convert("RGBA")).astype(int), answer


def pixels(program, at=AT, **parameters):
    return program.compute(eo.geo.XYZTile(x=at.x, y=at.y, z=at.z), **parameters).ndarray


def stretched(band, low, high):
    return np.clip((band.filled(low).astype(np.float64) - low) / (high - low), 0, 1) * 255


class Tiles(unittest.TestCase):
    def close(self, found, expected, levels=1.5, share=0.99):
        self.assertGreater(np.mean(np.abs(found - expected).max(axis=-1) <= levels), share)

    def test_true_colour(self):
        rgb = image("red green blue")
        layer = rgb.tile_layer(name="rgb", scales=[[0.0, 0.2]] * 3)
        found, answer = tile(layer)
        values = pixels(rgb)
        self.close(found[..., :3], np.stack([stretched(band, 0.0, 0.2) for band in values], axis=-1))
        self.assertTrue((found[..., 3] == 255).all())
        self.assertGreater(len(np.unique(found[..., :3].reshape(-1, 3), axis=0)), 100, "not blank")
        again = requests.get(answer.url, headers={"If-None-Match": answer.headers["etag"]}, timeout=60)
        self.assertEqual(again.status_code, 304)

    def test_colormaps(self):
        program = ndvi()
        values = pixels(program)[0]
        for name in ("viridis", "RdYlGn", "magma_r", "terrain"):
            layer = program.tile_layer(name="ndvi", scales=[[-0.5, 0.5]], colormap=name)
            found, _ = tile(layer)
            colours = matplotlib.colormaps[name](stretched(values, -0.5, 0.5) / 255)[..., :3] * 255
            seen = ~np.ma.getmaskarray(values)
            # A step of the map to either side.
            self.close(found[..., :3][seen][None], colours[seen][None], levels=8)

    def test_without_scales(self):
        found, _ = tile(image("red green blue").tile_layer(name="rgb"))
        self.assertGreater(found[..., :3].max(), 240)
        self.assertLess(found[..., :3].min(), 15)

    def test_on_the_map(self):
        # With a colormap the map's widgets need a matplotlib before 3.9.
        layer = image("red green blue").visualize("rgb", dc.map, scales=[[0, 0.2]] * 3)
        first, _ = tile(layer)
        layer.set_scales([[0, 0.4]] * 3)
        second, _ = tile(layer)
        self.assertGreater(first[..., :3].mean(), second[..., :3].mean(), "another stretch")
        again = image("nir red green").visualize("rgb", dc.map, scales=[[0, 0.4]] * 3)
        self.assertTrue((tile(again)[0] != second).any(), "another program under the same name")

    def test_changed(self):
        layer = ndvi().tile_layer(name="ndvi", scales=[[-0.5, 0.5]], colormap="viridis")
        first, _ = tile(layer)
        layer.colormap = "plasma"
        second, _ = tile(layer)
        self.assertTrue((first != second).any(), "another colormap is another picture")
        layer.set_scales((-1.0, 0.0))
        self.assertTrue((tile(layer)[0] != second).any(), "another stretch is another picture")

    def test_what_is_masked(self):
        program = image("red").mask(image("red") > 0.11)
        hidden = np.ma.getmaskarray(pixels(program))[0]
        self.assertTrue(hidden.any() and not hidden.all())
        plain, _ = tile(program.tile_layer(name="m", scales=[[0, 1]], colormap="gray", checkerboard=False))
        self.assertGreater(np.mean((plain[..., 3] == 0) == hidden), 0.99)
        checked, _ = tile(program.tile_layer(name="m", scales=[[0, 1]], colormap="gray", checkerboard=True))
        self.assertTrue((checked[..., 3][hidden] == 255).mean() > 0.99)

    def test_nothing_there(self):
        rgb = image("red green blue")
        blank, _ = tile(rgb.tile_layer(name="rgb", scales=[[0, 1]] * 3, checkerboard=False), FAR)
        self.assertTrue((blank[..., 3] == 0).all())
        checked, _ = tile(rgb.tile_layer(name="rgb", scales=[[0, 1]] * 3, checkerboard=True), FAR)
        self.assertTrue((checked[..., 3] == 255).all())

    def test_conditions(self):
        program = image("nir") > 0.1
        values = pixels(program)[0]
        found, _ = tile(program.tile_layer(name="b", scales=[[0, 1]], colormap="gray", checkerboard=False))
        bright = found[..., 0] > 127
        self.assertGreater(np.mean(bright == (values.filled(False))), 0.99)

    def test_classes(self):
        fmask = dc.Mosaic.from_product_bands(LANDSAT, "fmask", "2010-06-01", "2010-07-30")
        values = pixels(fmask, COLORADO)[0]
        clear = {"name": "clear", "value": 0, "color": "#10a020"}
        water = {"name": "water", "value": 1, "color": "#1020ff"}
        layer = fmask.tile_layer(name="c", classes=[clear, water], checkerboard=False)
        found, _ = tile(layer, COLORADO)
        is_clear = values.filled(99) == 0
        self.assertTrue(is_clear.any())
        self.assertGreater(np.mean((found[..., 1] == 0xA0) & (found[..., 3] == 255) == is_clear), 0.98)
        others = values.filled(99) > 1
        self.assertGreater(np.mean(found[..., 3][others] == 0) if others.any() else 1, 0.98)

    def test_classes_of_ranges(self):
        red = image("red")
        low = {"name": "low", "min": 0, "max": 0.11, "color": "#ff0000"}
        high = {"name": "high", "min": 0.11, "max": 1, "color": "#00ff00"}
        layer = red.tile_layer(name="c", classes=[low, high], val_range=True, checkerboard=False)
        values = pixels(red)[0].filled(0)
        found, _ = tile(layer)
        self.assertGreater(np.mean((found[..., 0] == 255) == (values < 0.11)), 0.98)
        # What was asked for counts from the next change on.
        layer.val_range = True
        found, _ = tile(layer.make_url())
        self.assertGreater(np.mean((found[..., 0] == 255) == (values < 0.11)), 0.98)

    def test_alpha(self):
        rgb = image("red green blue")
        alpha = (image("red") > 0.11) * 1.0
        layer = rgb.tile_layer(name="rgb", scales=[[0, 0.2]] * 3, alpha=alpha, checkerboard=False)
        found, _ = tile(layer)
        values = pixels(alpha)[0].filled(0)
        self.assertGreater(np.mean((found[..., 3] > 127) == (values > 0.5)), 0.98)

    def test_parameters(self):
        end = dc.parameter("end", dc.Datetime)
        program = dc.Mosaic.from_product_bands(LANDSAT, "nir", "2010-04-01", end)
        pictures = []
        for day in (datetime.date(2010, 6, 1), datetime.date(2010, 11, 2)):
            layer = program.tile_layer(
                name="p", scales=[[0, 6000]], colormap="gray", checkerboard=False, end=day
            )
            pictures.append(tile(layer, COLORADO)[0])
        self.assertTrue((pictures[0] != pictures[1]).any())

    def test_failures_are_pictures(self):
        start = dc.parameter("start", dc.Datetime)
        program = dc.Mosaic.from_product_bands(LANDSAT, "nir", start, "2010-12-01")
        layer = program.tile_layer(name="p", scales=[[0, 6000]], colormap="gray")
        found, answer = tile(layer, COLORADO, 400)
        self.assertIn("no-store", answer.headers["cache-control"])
        self.assertGreater(len(np.unique(found.reshape(-1, 4), axis=0)), 1, "there is a text")
        url = layer.url.replace("/layers/", "/layers/x")
        forged, _ = tile(url, COLORADO, 404)
        self.assertGreater(len(np.unique(forged.reshape(-1, 4), axis=0)), 1)


if __name__ == "__main__":
    unittest.main()
