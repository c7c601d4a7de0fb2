# A program is saved, found by a colleague, and computed.

# %%
import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import numpy as np

# %%
tile = eo.geo.XYZTile(x=8766, y=5377, z=14)
image = dc.Mosaic.from_product_bands("sentinel2-potsdam", "green swir16")
green, swir = image.unpack_bands("green swir16")
water = ((green - swir) / (green + swir) > 0.1).rename_bands("water")

# %%
blob_id = dc.catalog.save_to_blob(
    water,
    "water-potsdam",
    description="MNDWI above a threshold",
    tags=["water"],
    extra_properties={"limit": 0.1},
)
dc.catalog.share_blob(blob_id, emails=["email:colleague@example.org"], as_readers=True)
dc.catalog.print_blobs()

# %%
found = [blob for blob in dc.catalog.find_blobs() if "water" in blob.tags]
assert [blob.id for blob in found] == [blob_id]
again = dc.catalog.load_from_blob(found[0].id)
first, second = water.compute(tile).ndarray, again.compute(tile).ndarray
assert first.dtype == bool and np.ma.allequal(first, second)
print(f"{first.mean():.1%} water")

# %%
dc.catalog.delete_blob(blob_id)
assert dc.catalog.find_blobs().filter(eo.catalog.properties.tags == "water").count() == 0
