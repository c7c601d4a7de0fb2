"""The client over the products of `../shared/data`, compared with numpy on what rasterio reads."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import numpy as np
import rasterio
from compare import same_pixels
from places import Place
from test_tiles import tile

DATA = Path(os.environ["GRATICULE_SHARED"]) / "data"
P = eo.catalog.properties


def read(name, bands=None):
    with rasterio.open(DATA / name) as file:
        data = file.read(bands, masked=True).astype(np.float32)
        return np.ma.masked_invalid(data), file.bounds, file.res[0]


class Shared(unittest.TestCase):
    def test_slope_and_aspect(self):
        data, bounds, size = read("dem-swiss/dem.tif")
        place = Place(2056, tuple(bounds), size)
        dem = dc.Mosaic.from_product_bands("dem-swiss", "elevation", pad=1)
        # At the edges of the file padding is masked, and so is what needs it.
        inner = (slice(None), slice(1, -1), slice(1, -1))
        south, east = np.gradient(data[0].astype(np.float64), size)
        slope = np.degrees(np.arctan(np.hypot(east, south)))[None]
        found = dem.slope().compute(place.aoi).ndarray
        same_pixels(found[inner], np.ma.array(slope[inner].astype(np.float32)), absolute=1e-3)
        aspect = np.degrees(np.arctan2(east, -south))[None]
        found = dem.aspect().compute(place.aoi).ndarray
        flat = np.hypot(east, south)[None] < 1e-3
        turned = np.abs((found.data - aspect + 180) % 360 - 180)
        self.assertLess(turned[inner][~flat[inner]].max(), 0.1)

    def test_clear_ndvi(self):
        data, bounds, size = read("s2-l2a-southtyrol/S2_L2A_sample.tif")
        place = Place(32632, tuple(bounds), size)
        red, _, _, nir, scene = data
        s2 = dc.Mosaic.from_product_bands("s2-l2a-southtyrol", "B08 B04 SCL")
        n, r, classes = s2.unpack_bands("B08 B04 SCL")
        found = ((n - r) / (n + r)).mask((classes >= 8) & (classes <= 10)).compute(place.aoi).ndarray
        clouds = (scene.filled(0) >= 8) & (scene.filled(0) <= 10)
        meant = np.ma.masked_where(clouds | np.ma.getmaskarray(scene), (nir - red) / (nir + red))[None]
        same_pixels(found, meant.astype(np.float32))

    def test_radar(self):
        files = sorted(DATA.glob("sentinel1-rtc-california/*T137-292318*_VV.tif"))
        layers = [read(path.relative_to(DATA), [1]) for path in files]
        _, bounds, size = layers[0]
        place = Place(32611, tuple(bounds), size)
        stack = dc.ImageStack.from_product_bands("sentinel1-rtc-california", "VV", "2021-01-01", "2026-01-01")
        ids = [image["id"] for image in stack.properties.compute(place.aoi) if "T137-292318" in image["id"]]
        self.assertEqual(len(ids), len(files))
        data = np.ma.concatenate([layer for layer, _, _ in layers])
        found = stack.filter_by_id(ids).mean("images").compute(place.aoi).ndarray
        same_pixels(found, data.mean(axis=0, dtype=np.float64).astype(np.float32)[None], relative=1e-5)

    def test_the_whole_earth(self):
        data, bounds, size = read("modis-ndvi-global/MOD13A2_M_NDVI_2014-01-01.TIFF")
        ndvi = dc.Mosaic.from_product_bands("modis-ndvi-global", "ndvi", "2014-01-01", "2014-01-02")
        place = Place(4326, (0.0, 30.0, 40.0, 60.0), 0.1)
        found = ndvi.compute(place.aoi).ndarray
        window = data[:, 300:600, 1800:2200]
        self.assertEqual(found.shape, window.shape)
        np.testing.assert_array_equal(np.ma.getmaskarray(found), np.ma.getmaskarray(window))
        self.assertGreater(np.corrcoef(found.compressed(), window.compressed())[0, 1], 0.999999)

    def test_a_crs_of_no_authority(self):
        evi = dc.ImageStack.from_product_bands("modis-sinop-ts", "ndvi evi", "2013-09-01", "2014-09-01")
        place = eo.geo.DLTile.from_latlon(-11.65, -55.5, resolution=250.0, tilesize=64, pad=0)
        found = evi.filter(P.acquired < "2014-01-01").mean("images").compute(place).ndarray
        self.assertEqual(found.shape, (2, 64, 64))
        # Some pixels of the files have a value for none that they do not declare.
        self.assertTrue(0.1 < np.ma.median(found[1]) < np.ma.median(found[0]) < 1, found.mean(axis=(1, 2)))

    def test_land_cover(self):
        import mercantile

        with rasterio.open(DATA / "landcover-nlcd/lc.tif") as file:
            values = sorted(set(np.unique(file.read(1))) - {0})
        cover = dc.Mosaic.from_product_bands("landcover-nlcd", "landcover")
        classes = [{"name": str(value), "value": int(value)} for value in values]
        layer = cover.tile_layer(name="cover", classes=classes, checkerboard=False)
        found, _ = tile(layer, mercantile.tile(-66.4, 18.2, 9))
        self.assertGreater(len(np.unique(found.reshape(-1, 4), axis=0)), 3)


if __name__ == "__main__":
    unittest.main()
