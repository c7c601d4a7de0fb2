"""What users save, through the client's catalog."""

from __future__ import annotations

import json
import os
import unittest
import uuid

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import requests
from compare import same
from connect import ORG, USER
from places import LAKE, LANDSAT, PART, SENTINEL

P = eo.catalog.properties
HOST = os.environ["API_HOST"]


def fresh(name="ndvi"):
    """A name that no other test has."""
    return f"{name}-{uuid.uuid4().hex}"


def ndvi():
    nir, red = dc.Mosaic.from_product_bands(SENTINEL, "nir red").unpack_bands("nir red")
    return (nir - red) / (nir + red)


class Blobs(unittest.TestCase):
    def setUp(self):
        self.saved = []

    def tearDown(self):
        for blob in self.saved:
            eo.catalog.Blob.delete(blob)

    def save(self, program, name=None, **more):
        blob = dc.catalog.save_to_blob(program, name or fresh(), **more)
        self.saved.append(blob)
        return blob

    def test_saved_and_loaded(self):
        name = fresh()
        blob = self.save(ndvi(), name, description="of a lake", tags=["a", "b"])
        self.assertEqual(blob, f"dyncomp/{ORG}:{USER}/{name}")
        again = dc.catalog.load_from_blob(blob)
        self.assertIsInstance(again, dc.Mosaic)
        same(again, LAKE)
        stack = dc.ImageStack.from_product_bands(LANDSAT, "red", "2010-06-01", "2010-08-01")
        again = dc.catalog.load_from_blob(self.save(stack, namespace="projects"))
        self.assertIsInstance(again, dc.ImageStack)
        same(again.max("images"), PART)

    def test_groups_are_saved_too(self):
        stack = dc.ImageStack.from_product_bands(LANDSAT, "red", "2010-06-01", "2010-08-01")
        grouped = stack.groupby(lambda image: image.acquired.month).mean()
        again = dc.catalog.load_from_blob(self.save(grouped))
        self.assertIsInstance(again, dc.ImageStackGroupBy)
        self.assertEqual(again.groups.reducer.func, "mean")

    def test_found(self):
        name = fresh("found")
        first = self.save(ndvi(), f"{name}/1", tags=[name], description="About Lakes")
        second = self.save(ndvi() * 2, f"{name}/2", tags=[name, "other"])
        find = dc.catalog.find_blobs

        def ids(search):
            return [blob.id for blob in search]

        self.assertLessEqual({first, second}, set(ids(find())))
        tagged = find().filter(P.tags == name)
        self.assertEqual(ids(tagged), [first, second])
        self.assertEqual(ids(tagged.sort("name", ascending=False)), [second, first])
        self.assertEqual(ids(tagged.sort("created").limit(1)), [first])
        self.assertEqual(ids(tagged.filter(P.tags == "other")), [second])
        self.assertEqual(ids(find().filter(P.name.prefix(f"{name}/2"))), [second])
        self.assertEqual(ids(find().filter((P.id == first) | (P.id == second))), [first, second])
        self.assertEqual(ids(tagged.find_text("about lakes")), [first])
        self.assertEqual(tagged.count(), 2)
        self.assertEqual(find().filter(P.tags == fresh()).count(), 0)
        self.assertEqual([blob.id for blob in eo.catalog.Blob.get_many([second])], [second])
        found = eo.catalog.Blob.get(first)
        self.assertEqual(found.extra_properties["graft_type"], "Mosaic")
        self.assertEqual(found.size_bytes, len(found.data()))

    def test_shared(self):
        blob = self.save(ndvi())
        dc.catalog.share_blob(blob, emails=["email:a@example.org"], orgs=["org:x"], as_readers=True)
        dc.catalog.share_blob(blob, users=["user:u"], as_writers=True)
        found = eo.catalog.Blob.get(blob)
        self.assertEqual(set(found.readers), {"email:a@example.org", "org:x"})
        self.assertEqual(found.writers, ["user:u"])
        self.assertGreaterEqual(found.modified, found.created)

    def test_deleted(self):
        blob = dc.catalog.save_to_blob(ndvi(), fresh())
        self.assertTrue(eo.catalog.Blob.exists(blob))
        dc.catalog.delete_blob(blob)
        self.assertFalse(eo.catalog.Blob.exists(blob))
        for call in (dc.catalog.load_from_blob, dc.catalog.delete_blob):
            with self.assertRaises(eo.exceptions.NotFoundError):
                call(blob)
        self.assertIsNone(eo.catalog.Blob.delete(blob))

    def test_names(self):
        name = fresh()
        self.save(ndvi(), name)
        with self.assertRaises(eo.exceptions.BadRequestError) as caught:
            dc.catalog.save_to_blob(ndvi(), name)
        self.assertIn("already", str(caught.exception))
        for bad in ("a b", "a//b", "../a", "ä"):
            with self.assertRaises(eo.exceptions.BadRequestError, msg=bad):
                dc.catalog.save_to_blob(ndvi(), bad)
        with self.assertRaises(eo.exceptions.ValidationError):
            eo.catalog.Blob(name=fresh(), storage_type="data").upload_data("{}")

    def test_content_is_a_computation(self):
        for bad in ("not JSON", "[1]", b"\x80\x04."):
            blob = eo.catalog.Blob(name=fresh(), storage_type=eo.catalog.StorageType.DYNCOMP)
            with self.assertRaises(eo.exceptions.BadRequestError, msg=bad):
                blob.upload_data(bad)
            self.assertFalse(eo.catalog.Blob.exists(f"dyncomp/{ORG}:{USER}/{blob.name}"))

    def test_addresses_of_content_are_for_one_thing(self):
        blob = self.save(ndvi())
        answer = requests.get(f"{os.environ['EARTHONE_CATALOG_V2_URL']}/storage/download/{blob}", timeout=60)
        url = answer.json()["data"]["attributes"]["resumable_url"]
        self.assertTrue(url.startswith(HOST), "below the address that was asked")
        content = requests.get(url, timeout=60)
        self.assertIn("graft", json.loads(content.content))
        self.assertEqual(requests.get(url, headers={"If-Match": "0" * 32}, timeout=60).status_code, 412)
        self.assertEqual(requests.put(url, data=b"{}", timeout=60).status_code, 404)
        ticket = url.rsplit("/", 1)[1]
        for forged in (ticket[:-2] + "AA", ticket[:-1], "x", "..%2f..%2fetc%2fpasswd", ticket + "A"):
            forged_url = url.replace(ticket, forged)
            self.assertEqual(requests.get(forged_url, timeout=60).status_code, 404, forged)

    def test_products(self):
        with self.assertRaises(eo.exceptions.NotFoundError):
            dc.Mosaic.from_product_bands("nothing:of:that:name", "red")
        product = eo.catalog.Product.get(LANDSAT)
        self.assertIn("Colorado", product.name)
        self.assertEqual(product.start_datetime.year, 2008)
        self.assertIn(SENTINEL, [product.id for product in eo.catalog.Product.search()])


if __name__ == "__main__":
    unittest.main()
