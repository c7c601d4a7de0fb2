# Composites of months. `groupby` sends a pickled Python function, which this server does not run (yet); the
# same groups are made here, of what the server says about the images.

# %%
import collections
import datetime

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import requests

# %%
tile = eo.geo.DLTile.from_latlon(40.2883, -106.9140, resolution=30.0, tilesize=32, pad=0)
stack = dc.ImageStack.from_product_bands("landsat57-colorado", "nir", "2010-05-01", "2010-10-01")

# %%
try:
    stack.groupby(lambda image: image.acquired.month).max().groups.compute_all(tile)
    raise AssertionError("a pickled function was run")
except requests.HTTPError as error:
    print(error.response.json()["message"])
    assert error.response.status_code == 422

# %%
months = collections.defaultdict(list)
for image in stack.properties.compute(tile):
    months[datetime.datetime.fromisoformat(image["acquired"].replace("Z", "+00:00")).month].append(
        image["id"]
    )
groups = {month: stack.filter_by_id(ids).max(axis="images") for month, ids in sorted(months.items())}

# %%
results = {month: program.compute(tile) for month, program in groups.items()}
for month, result in results.items():
    print(month, len(months[month]), result.ndarray.mean())
assert list(results) == [5, 6, 7, 8, 9] or set(results) <= {5, 6, 7, 8, 9}
assert all(result.ndarray.shape == (1, 32, 32) for result in results.values())
