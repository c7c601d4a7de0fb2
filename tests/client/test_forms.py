"""The forms of a place that the client has: areas, tiles of two kinds, points."""

from __future__ import annotations

import unittest

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import numpy as np
import rasterio
import shapely
from compare import same_pixels
from descarteslabs.dynamic_compute.operations import value_at
from places import EXAMPLES, LAKE, LANDSAT, PART, SENTINEL
from pyproj import Transformer
from rasterio.features import geometry_mask
from rasterio.transform import from_bounds
from rasterio.warp import Resampling, reproject

RED = EXAMPLES / "potsdam/images/T33UUU_20170216T102101_B04.jp2"
TO_DEGREES = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
# Within LAKE.
LON, LAT = TO_DEGREES.transform(333400, 5816320)


def red():
    return dc.Mosaic.from_product_bands(SENTINEL, "red")


def warped(crs, bounds, shape):
    """The red band as rasterio puts it onto a grid."""
    with rasterio.open(RED) as file:
        stored = file.read(1)
        out = np.zeros(shape, stored.dtype)
        reproject(
            stored,
            out,
            src_transform=file.transform,
            src_crs=file.crs,
            src_nodata=0,
            dst_transform=from_bounds(*bounds, shape[1], shape[0]),
            dst_crs=crs,
            dst_nodata=0,
            resampling=Resampling.nearest,
            tolerance=0,
        )
    values = (out.astype(np.float64) * 0.0001).astype(np.float32)
    return np.ma.array(values, mask=out == 0)[None]


class Forms(unittest.TestCase):
    def alike(self, found, expected, share=0.99):
        """Equal but for pixels whose centre lies on the edge of two of the file's."""
        self.assertEqual(found.shape, expected.shape)
        mask, meant = np.ma.getmaskarray(found), np.ma.getmaskarray(expected)
        self.assertGreater(np.mean(mask == meant), share)
        both = ~mask & ~meant
        self.assertTrue(both.any())
        self.assertGreater(np.mean(np.isclose(found.data[both], expected.data[both], rtol=1e-5)), share)

    def test_dltile(self):
        for pad in (0, 4):
            tile = eo.geo.DLTile.from_latlon(LAT, LON, resolution=10.0, tilesize=64, pad=pad)
            found = red().compute(tile).ndarray
            size = 64 + 2 * pad
            self.assertEqual(found.shape, (1, size, size))
            self.alike(found, warped(tile.crs, tile.bounds, (size, size)))

    def test_xyztile(self):
        import mercantile

        for zoom in (12, 14, 15):
            at = mercantile.tile(LON, LAT, zoom)
            found = red().compute(eo.geo.XYZTile(x=at.x, y=at.y, z=zoom)).ndarray
            self.assertEqual(found.shape, (1, 256, 256))
            # Places are exact to an eighth of a pixel: the coarser, the more land on another one.
            share = 0.95 if zoom == 12 else 0.99
            self.alike(found, warped("EPSG:3857", mercantile.xy_bounds(at), (256, 256)), share)

    def test_shape_and_degrees(self):
        bounds = (LON - 0.01, LAT - 0.005, LON + 0.01, LAT + 0.005)
        aoi = eo.geo.AOI(bounds=bounds, crs="EPSG:4326", shape=(50, 100), align_pixels=False)
        self.alike(red().compute(aoi).ndarray, warped("EPSG:4326", bounds, (50, 100)))

    def test_aligned(self):
        bounds = (333003.0, 5816002.0, 333798.0, 5816637.0)
        aoi = eo.geo.AOI(
            bounds=bounds, bounds_crs="EPSG:32633", crs="EPSG:32633", resolution=10.0, align_pixels=True
        )
        found = red().compute(aoi).ndarray
        self.alike(found, warped("EPSG:32633", (333000, 5816000, 333800, 5816640), (64, 80)))

    def test_geometry(self):
        ring = [(333053, 5816051), (333697, 5816104), (333391, 5816598), (333053, 5816051)]
        outline = shapely.Polygon([TO_DEGREES.transform(*point) for point in ring])
        for all_touched in (False, True):
            aoi = eo.geo.AOI(
                geometry=outline,
                bounds=LAKE.bounds,
                bounds_crs="EPSG:32633",
                crs="EPSG:32633",
                resolution=10.0,
                align_pixels=False,
                all_touched=all_touched,
            )
            found = red().compute(aoi).ndarray
            transform = from_bounds(*LAKE.bounds, 80, 64)
            outside = geometry_mask([shapely.Polygon(ring)], (64, 80), transform, all_touched)
            hidden = np.ma.getmaskarray(found)[0]
            # Pixels whose centre is within millimetres of an edge.
            self.assertLessEqual((hidden != outside).sum(), 2)
            self.assertGreater((~hidden).sum(), 1000)

    def test_points(self):
        with rasterio.open(RED) as file:
            stored = next(file.sample([(333400 + 5, 5816320 + 5)]))[0]
        lon, lat = TO_DEGREES.transform(333405, 5816325)
        nir_red = dc.Mosaic.from_product_bands(SENTINEL, "nir red")
        found = value_at(nir_red, lat, lon)
        self.assertEqual(len(found), 2)
        self.assertAlmostEqual(float(found[1]), stored * 0.0001, places=6)
        self.assertEqual(value_at(red() > 0, lat, lon), [1])
        outside = value_at(red(), 10.0, 10.0)
        self.assertTrue(np.ma.is_masked(outside[0]) or outside[0] is np.ma.masked, outside)

    def test_what_the_map_shows(self):
        m = dc.map
        # As the browser would say.
        edges = {"west": LON - 0.01, "south": LAT - 0.005, "east": LON + 0.01, "north": LAT + 0.005}
        for name, degrees in edges.items():
            m.map.set_trait(name, degrees)
        m.center, m.zoom = (LAT, LON), 14
        shaped = m.geocontext(shape=(60, 90))
        self.assertEqual(red().compute(shaped).ndarray.shape, (1, 60, 90))
        # A CRS that PROJ writes.
        found = red().compute(m.geocontext(resolution=20.0, crs="utm")).ndarray
        self.assertLess(abs(found.shape[2] - 68), 4)
        self.assertFalse(np.ma.getmaskarray(found).any())

    def test_crs_as_text(self):
        from pyproj import CRS

        expected = red().compute(LAKE.aoi).ndarray
        for crs in (CRS.from_epsg(32633).to_wkt(), "+proj=utm +zone=33 +datum=WGS84 +units=m +no_defs"):
            aoi = eo.geo.AOI(
                bounds=LAKE.bounds, bounds_crs="EPSG:32633", crs=crs, resolution=10.0, align_pixels=False
            )
            same_pixels(red().compute(aoi).ndarray, expected)

    def test_far_too_large(self):
        import requests

        aoi = eo.geo.AOI(bounds=(-180, -80, 180, 80), crs="EPSG:4326", resolution=0.00001, align_pixels=False)
        with self.assertRaises(requests.HTTPError) as caught:
            red().compute(aoi)
        self.assertEqual(caught.exception.response.status_code, 413)
        self.assertIn("message", caught.exception.response.json())

    def test_windows_agree(self):
        whole = dc.Mosaic.from_product_bands(LANDSAT, "red", "2010-06-01", "2010-09-01")
        left, bottom, right, top = PART.bounds
        aoi = eo.geo.AOI(
            bounds=(left + 90, bottom + 60, right - 30, top - 120),
            bounds_crs="EPSG:32613",
            crs="EPSG:32613",
            resolution=30.0,
            align_pixels=False,
        )
        same_pixels(whole.compute(aoi).ndarray, whole.compute(PART.aoi).ndarray[:, 4:-2, 3:-1])


if __name__ == "__main__":
    unittest.main()
