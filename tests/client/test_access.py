"""A server that asks who calls: keys in the look of tokens. Tokens come in by variables of their own."""

from __future__ import annotations

import os
import unittest

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import requests
from connect import token
from descarteslabs.dynamic_compute.operations import UnauthorizedUserError
from places import LAKE, SENTINEL


def as_user(credentials):
    """From now on the client sends these."""
    auth = eo.auth.Auth(jwt_token=credentials, token_info_path=None, _suppress_warning=True)
    eo.auth.Auth.set_default_auth(auth)
    client = eo.catalog.CatalogClient(auth=auth)
    eo.catalog.CatalogClient.set_default_client(client)


class Access(unittest.TestCase):
    def test_a_key_counts(self):
        as_user(os.environ["TOKEN_OF_A"])
        red = dc.Mosaic.from_product_bands(SENTINEL, "red")
        self.assertEqual(red.compute(LAKE.aoi).ndarray.shape, (1, 64, 80))
        blob = dc.catalog.save_to_blob(red, "red")
        self.assertEqual(blob, "dyncomp/a:notebooks/red")
        layer = red.tile_layer(name="red", scales=[[0, 1]], colormap="gray")
        url = layer.url.replace("{z}/{x}/{y}", "0/0/0")
        self.assertEqual(requests.get(url, timeout=60).status_code, 200, "a tile needs its address alone")
        # Another tenant sees nothing of it.
        as_user(os.environ["TOKEN_OF_B"])
        self.assertEqual(list(dc.catalog.find_blobs()), [])
        with self.assertRaises(eo.exceptions.NotFoundError):
            dc.catalog.load_from_blob(blob)
        layer_id = url.split("/layers/")[1].split("/")[0]
        forged = requests.post(
            f"{os.environ['API_HOST']}/layers/{layer_id[:-4]}AAAA/aoi",
            json={"shape": [1, 1], "crs": "EPSG:4326", "bounds": [0, 0, 1, 1], "bounds_crs": "EPSG:4326"},
            headers={"Authorization": os.environ["TOKEN_OF_B"]},
            timeout=60,
        )
        self.assertEqual(forged.status_code, 404)
        as_user(os.environ["TOKEN_OF_A"])
        self.assertEqual([found.id for found in dc.catalog.find_blobs()], [blob])
        dc.catalog.delete_blob(blob)

    def test_who_may_not_compute(self):
        as_user(os.environ["TOKEN_OF_A"])
        red = dc.Mosaic.from_product_bands(SENTINEL, "red")
        as_user(os.environ["TOKEN_OF_READER"])
        dc.Mosaic.from_product_bands(SENTINEL, "nir")
        with self.assertRaises(UnauthorizedUserError):
            red.compute(LAKE.aoi)
        with self.assertRaises(UnauthorizedUserError):
            red.tile_layer(name="red", scales=[[0, 1]], colormap="gray")
        with self.assertRaises(eo.exceptions.ForbiddenError):
            list(dc.catalog.find_blobs())

    def test_tokens_that_nobody_signed(self):
        as_user(os.environ["TOKEN_OF_A"])
        red = dc.Mosaic.from_product_bands(SENTINEL, "red")
        as_user(token())
        with self.assertRaises(eo.exceptions.UnauthorizedError):
            dc.Mosaic.from_product_bands(SENTINEL, "red")
        with self.assertRaises(requests.HTTPError) as caught:
            red.compute(LAKE.aoi)
        self.assertEqual(caught.exception.response.status_code, 401)


if __name__ == "__main__":
    unittest.main()
