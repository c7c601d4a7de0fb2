"""Programs of the client, each compared with the oracle on the pixels that rasterio reads."""

from __future__ import annotations

import datetime
import unittest

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import numpy as np
from compare import same
from places import EDGE, LAKE, LANDSAT, PART, SENTINEL, SERIES

P = eo.catalog.properties
RS = eo.catalog.ResampleAlgorithm
# Dates of the series that the programs use, so that stacks stay small.
YEAR = ("2010-04-01", "2010-11-01")
MONTHS = ("2010-06-01", "2010-09-01")


def stack(bands, dates=MONTHS, **more):
    return dc.ImageStack.from_product_bands(LANDSAT, bands, *dates, **more)


def mosaic(bands, dates=YEAR, **more):
    return dc.Mosaic.from_product_bands(LANDSAT, bands, *dates, **more)


def image(bands, **more):
    return dc.Mosaic.from_product_bands(SENTINEL, bands, **more)


def ndvi(rasters):
    nir, red = rasters.unpack_bands("nir red")
    return (nir - red) / (nir + red)


class Mosaics(unittest.TestCase):
    def test_bands(self):
        same(image("red green blue"), LAKE)
        same(image(["nir", "red"]), LAKE)
        same(image("coastal rededge1 swir16 red"), LAKE)
        same(image("red"), EDGE)

    def test_dates(self):
        same(mosaic("red nir"), PART)
        same(mosaic("red", (datetime.date(2009, 1, 1), datetime.datetime(2009, 7, 1, 12, 30))), PART)
        same(mosaic("red", ("1990-01-01", "1991-01-01")), PART)

    def test_ndvi(self):
        same(ndvi(image("red nir")), LAKE)
        same(ndvi(mosaic("nir red")), SERIES)

    def test_picked_and_named(self):
        same(image("red green blue nir").pick_bands("nir red"), LAKE)
        same((image("red green blue nir") * 2).pick_bands(["nir", "green"]), LAKE)
        same(image("red nir").rename_bands("a b"), LAKE)
        same(image("red green").concat_bands(image("nir")), LAKE)
        same(image("red green").concat_bands("green"), LAKE)

    def test_operators(self):
        m, n = image("red"), image("nir")
        same((m + n) * 2 - m / n, LAKE)
        same((1 - m) * (2 / (m + 1)) + 3**m - (5 // (m + 0.5)) + 1 * m + (0.5 + m), LAKE)
        same(abs(-m) ** 2 // 0.01, LAKE)
        same(m / (m - m), LAKE)

    def test_conditions(self):
        m, n = image("red"), image("nir")
        same(n >= 0.1, LAKE)
        same((n > 0.1) & ~(m >= 0.08) | (n == 0.05), LAKE)
        same(True & (n < m) | (False | (n != m)), LAKE)

    def test_functions(self):
        x = image("nir")
        out = dc.sin(x * 3)
        for f in (dc.cos, dc.tan, dc.arcsin, dc.arccos, dc.arctan, dc.sqrt, dc.log, dc.log10):
            out = out.concat_bands(f(x * 30 - 1.5))
        same(out, LAKE)

    def test_masks_clips_and_fillings(self):
        m = image("red green blue nir")
        few = m.pick_bands("red green blue").mask(ndvi(m) < 0.1)
        same(few, LAKE)
        same(few.filled(-1), LAKE)
        same(((few - 0.02) / 0.28).clip(0, 1), LAKE)
        same(mosaic("red nir").mask(mosaic("fmask") != 0), PART)

    def test_over_bands(self):
        m = image("red green blue nir")
        for name in ("max", "min", "mean", "median", "sum", "std", "argmax", "argmin"):
            with self.subTest(name):
                same(getattr(m, name)(axis="bands"), LAKE)
        same((m - m.mean(axis="bands")) / m.std(axis="bands"), LAKE)
        same(m.reduce("min"), LAKE)

    def test_arrays(self):
        m = image("red green blue")
        same(m * np.array([1.0, 2.0, 3.0]), LAKE)
        same(m + np.array([0.5], dtype="float32"), LAKE)
        same(dc.dot(m, np.array([0.3, 0.59, 0.11], dtype="float32")), LAKE)
        weights = np.array([[0.5, 0.5, 0.5], [0.5, -0.5, 0.5]])
        same(dc.dot(weights, m), LAKE)
        same(dc.dot(m, m), LAKE)

    def test_neighbours(self):
        m = image("red", pad=1)
        same(dc.Mosaic(dc.gradient_x(m)), LAKE)
        same(dc.Mosaic(dc.gradient_y(m)), LAKE)
        same(m.gradient_x(resolution=10.0), LAKE)
        same((m * 5000).slope(), LAKE)
        same((m * 5000).aspect(), LAKE)
        same(image("red") * dc.resolution_x() + dc.resolution_y(), LAKE)
        same(dc.Mosaic(dc.gradient_x(image("red", pad=2))), EDGE)

    def test_ids(self):
        ids = ["LE70350322010187EDC01", "LE70350322010171EDC00"]
        same(dc.Mosaic.from_image_ids(ids, "red nir"), PART)
        same(dc.Mosaic.from_image_ids(ids[::-1], "nir") * 2, PART)

    def test_saved_as_text(self):
        text = ((image("nir") - image("red")) / 2).serialize()
        same(dc.Mosaic.deserialize(text) + dc.Mosaic.deserialize(text) * 3, LAKE)

    def test_two_products(self):
        # One has no pixels here: masked, and named.
        same(image("red nir") - mosaic("red nir", ("2010-01-01", "2011-01-01")), LAKE)

    def test_parameters(self):
        first, last = dc.parameter("first", dc.Datetime), dc.parameter("last", dc.Datetime)
        program = dc.Mosaic.from_product_bands(LANDSAT, "red", first, last) * 10
        same(program, PART, first="2010-07-01", last="2010-08-01T00:00:00")
        other = same(program, PART, first="2011-07-01", last="2011-08-01T00:00:00", unused=[1, {"a": 2}])
        self.assertFalse(np.ma.getmaskarray(other.ndarray).all())

    def test_only_pixels_or_only_properties(self):
        m = image("red nir")
        self.assertEqual(m.ndarray.compute(LAKE.aoi).shape, (2, 64, 80))
        self.assertEqual(m.properties.compute(LAKE.aoi)["product_id"], SENTINEL)


class Stacks(unittest.TestCase):
    def test_images(self):
        found = same(stack("red nir"), PART)
        self.assertGreater(len(found.properties), 4)
        self.assertTrue(all(image["product_id"] == LANDSAT for image in found.properties))
        same(stack("red", ("1990-01-01", "1991-01-01")), PART)

    def test_ordered_and_filtered_at_the_source(self):
        clear = P.cloud_fraction < 0.5
        same(stack("red", predicate_filter=clear, sort_by="cloud_fraction", ascending=False), PART)

    def test_filters(self):
        s = stack("red nir", YEAR)
        same(s.filter(P.cloud_fraction < 0.3), PART)
        spring = (P.acquired >= "2010-05-01") & (P.acquired < "2010-06-15")
        same(s.filter(spring | (P.cloud_fraction <= 0.05)), PART)
        same(s.filter(P.id.in_(["LE70350322010187EDC01", "nothing"])), PART)
        same(s.filter((0.01 < P.cloud_fraction) & (P.cloud_fraction < 0.5)).filter(P.id != "x"), PART)

    def test_by_id(self):
        s = stack("red nir", YEAR)
        ids = [image["id"] for image in s.properties.compute(PART.aoi)]
        self.assertGreater(len(ids), 5)
        same(s.filter_by_id([ids[4], ids[1]]), PART)
        same(s.filter_by_id(ids[1:4]).max("images"), PART)
        same(s.filter_by_id([]).max("images"), PART)

    def test_reductions(self):
        s = stack("red nir swir1").mask(stack("fmask") != 0)
        for axis in ("images", "bands", "pixels"):
            for name in ("max", "min", "mean", "median", "sum", "std"):
                with self.subTest(f"{name} over {axis}"):
                    same(getattr(s, name)(axis=axis), PART)
        for axis in ("images", "bands"):
            for name in ("argmax", "argmin"):
                with self.subTest(f"{name} over {axis}"):
                    same(getattr(s, name)(axis=axis), PART)

    def test_the_main_job(self):
        clear = stack("nir red fmask", ("2008-01-01", "2014-01-01"))
        nir, red, fmask = clear.unpack_bands("nir red fmask")
        same(((nir - red) / (nir + red)).mask(fmask != 0).median(axis="images"), SERIES)

    def test_bands(self):
        s = stack("red nir swir1")
        same(s.pick_bands("nir"), PART)
        same(s.filter(P.cloud_fraction < 0.5).pick_bands("nir"), PART)
        same((s / 2).pick_bands("nir red"), PART)
        same(s.rename_bands(["r", "n", "s"]), PART)
        same(s.rename_bands("r n s"), PART)
        same(stack("red").concat_bands(stack("nir swir1")), PART)
        same(s.unpack_bands("nir red swir1")[2], PART)

    def test_with_mosaics(self):
        same(stack("red nir") - mosaic("red nir"), PART)
        same(stack("red nir").mask(mosaic("fmask") > 1), PART)
        same(ndvi(stack("nir red")).std("images") / ndvi(mosaic("nir red")), PART)

    def test_one_image(self):
        same(stack("red nir").get(-1), PART)
        same(stack("red nir").get(0) * 2, PART)

    def test_length(self):
        self.assertGreater(same(stack("red").length(), PART).ndarray, 4)
        same(stack("red").filter(P.cloud_fraction < 0.2).length(), PART)
        same(stack("red", ("1990-01-01", "1991-01-01")).length(), PART)

    def test_pixels_meet_pixels(self):
        s = stack("red nir")
        same(s - s.mean(axis="pixels"), PART)

    def test_dots(self):
        s = stack("red nir")
        same(dc.dot(s, s), PART)

    def test_counts(self):
        same((stack("fmask") == 0).sum(axis="images"), PART)
        same(stack("nir").filled(0).argmax(axis="images"), PART)

    def test_padding(self):
        same(stack("red nir", pad=2).median("images"), PART)
        same(stack("red", pad=1) + 1, PART)

    def test_parameters(self):
        start = dc.parameter("start", dc.Datetime)
        program = dc.ImageStack.from_product_bands(LANDSAT, "red", start, "2010-09-01").max("images")
        for day in ("2010-06-01", "2010-08-01"):
            same(program, PART, start=day)


if __name__ == "__main__":
    unittest.main()
