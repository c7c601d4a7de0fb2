"""What must be there after a restart. Run twice: `BEFORE_RESTART=1` leaves something, without it is found."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import requests
from compare import same
from places import LAKE, SENTINEL

NOTE = Path(os.environ["RESTART_NOTE"])


def program():
    return dc.Mosaic.from_product_bands(SENTINEL, "nir") / 2


class Restart(unittest.TestCase):
    @unittest.skipUnless("BEFORE_RESTART" in os.environ, "the second time")
    def test_before(self):
        blob = dc.catalog.save_to_blob(program(), "lasting", tags=["a"])
        gone = dc.catalog.save_to_blob(program(), "gone")
        dc.catalog.delete_blob(gone)
        dc.catalog.share_blob(blob, orgs=["org:x"], as_readers=True)
        layer = program().tile_layer(name="nir", scales=[[0, 0.2]], colormap="viridis", checkerboard=False)
        NOTE.write_text(f"{blob}\n{layer.url.split('/layers/')[1]}")

    @unittest.skipIf("BEFORE_RESTART" in os.environ, "the first time")
    def test_after(self):
        blob, layer = NOTE.read_text().split("\n")
        found = eo.catalog.Blob.get(blob)
        self.assertEqual((found.tags, found.readers), (["a"], ["org:x"]))
        self.assertEqual([one.id for one in dc.catalog.find_blobs()], [blob])
        same(dc.catalog.load_from_blob(blob), LAKE)
        again = program().tile_layer(name="nir", scales=[[0, 0.2]], colormap="viridis", checkerboard=False)
        self.assertEqual(again.url.split("/layers/")[1], layer, "the same graft is the same layer")
        url = f"{os.environ['API_HOST']}/layers/{layer.replace('{z}/{x}/{y}', '12/2201/1342')}"
        self.assertEqual(requests.get(url, timeout=60).status_code, 200)


if __name__ == "__main__":
    unittest.main()
