"""What the client says when something cannot be done."""

from __future__ import annotations

import os
import unittest

import descarteslabs.dynamic_compute as dc
import requests
from compare import same
from descarteslabs.dynamic_compute.operations import encode_function
from places import LAKE, LANDSAT, PART, SENTINEL

HOST = os.environ["API_HOST"]


def stack():
    return dc.ImageStack.from_product_bands(LANDSAT, "red nir", "2010-06-01", "2010-09-01")


class Errors(unittest.TestCase):
    def refused(self, status, code, call, *words):
        """An HTTPError whose body says what is wrong."""
        with self.assertRaises(requests.HTTPError) as caught:
            call()
        answer = caught.exception.response
        body = answer.json()
        self.assertEqual((answer.status_code, body["code"]), (status, code), body)
        self.assertEqual(body["detail"], body["message"])
        self.assertEqual(body["request_id"], answer.headers["x-request-id"])
        for word in words:
            self.assertIn(word, body["message"])
        return body

    def test_callables(self):
        say = ("pickled",)
        encoded = encode_function(lambda a, axis=0: a[-1])
        by_month = stack().groupby(lambda image: image.acquired.month)
        filtered = stack().filter(lambda image: image.cloud_fraction < 0.3)
        body = self.refused(422, "unsupported", lambda: filtered.compute(PART.aoi), *say)
        self.assertTrue(body["path"].startswith("/"), "the place in the graft")
        self.refused(422, "unsupported", lambda: list(by_month.groups.compute(PART.aoi)), *say)
        self.refused(422, "unsupported", lambda: by_month.max().groups.one(PART.aoi), *say)
        self.refused(422, "unsupported", lambda: stack().reduce(encoded, "images").compute(PART.aoi), *say)

    def test_groups_by_hand(self):
        """What `groupby` does, with the groups made here."""
        images = stack().properties.compute(PART.aoi)
        months = {}
        for image in images:
            months.setdefault(image["acquired"][:7], []).append(image["id"])
        self.assertGreater(len(months), 1)
        for ids in months.values():
            same(stack().filter_by_id(ids).mean(axis="images"), PART)

    def test_parameters(self):
        start = dc.parameter("start", dc.Datetime)
        program = dc.Mosaic.from_product_bands(LANDSAT, "red", start, "2010-09-01")
        self.refused(400, "invalid_request", lambda: program.compute(PART.aoi), "start")
        self.refused(400, "invalid_request", lambda: program.compute(PART.aoi, start="soon"), "soon")

    def test_bands_and_types(self):
        red = dc.Mosaic.from_product_bands(SENTINEL, "red")
        nothing = dc.Mosaic.from_product_bands(SENTINEL, "nothing")
        self.refused(422, "impossible", lambda: nothing.compute(LAKE.aoi), "nothing")
        self.refused(422, "impossible", lambda: ((red * 2) & red).compute(LAKE.aoi))
        picked = (dc.Mosaic.from_product_bands(SENTINEL, "red nir") * 2).pick_bands("green")
        self.refused(422, "impossible", lambda: picked.compute(LAKE.aoi), "green")
        self.refused(400, "invalid_request", lambda: stack().get(99).compute(PART.aoi), "99")
        unknown = dc.Mosaic.from_image_ids(["nothing"], "red")
        self.refused(404, "not_found", lambda: unknown.compute(PART.aoi), "nothing")

    def test_grafts(self):
        for graft in (
            {},
            {"returns": "a"},
            {"returns": "a", "a": ["nothing"]},
            {"returns": "a", "a": ["neg", "b"], "b": ["neg", "a"]},
            {"returns": "a", "a": []},
            [],
            None,
        ):
            answer = requests.post(f"{HOST}/layers/", json={"graft": graft}, timeout=60)
            self.assertEqual(answer.status_code, 400, graft)
            self.assertEqual(answer.json()["code"], "invalid_request")

    def test_layers(self):
        body = {"shape": [1, 1], "crs": "EPSG:4326", "bounds": [0, 0, 1, 1], "bounds_crs": "EPSG:4326"}
        answer = requests.post(f"{HOST}/layers/unknown/aoi", json=body, timeout=60)
        self.assertEqual((answer.status_code, answer.json()["code"]), (404, "not_found"))

        def layer(graft):
            body = {"graft": graft, "python_version": "3.11"}
            return requests.post(f"{HOST}/layers/", json=body, timeout=60).json()["layer_id"]

        first = {"returns": "9", "9": ["add", "3", "4"], "3": 1, "4": 2}
        renamed = {"7": 1, "returns": "x", "x": ["add", "7", "8", {"cache_id": "c"}], "8": 2, "c": "0" * 64}
        self.assertEqual(layer(first), layer(renamed), "keys say nothing")
        self.assertNotEqual(layer(first), layer({**first, "4": 3}))


if __name__ == "__main__":
    unittest.main()
