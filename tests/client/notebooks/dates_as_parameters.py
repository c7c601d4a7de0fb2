# A composite whose dates are asked for when it is computed, and chosen by sliders on a map.

# %%
import datetime

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import numpy as np

# %%
aoi = eo.geo.AOI(
    bounds=(-106.92, 40.283, -106.91, 40.294),
    bounds_crs="EPSG:4326",
    crs="EPSG:32613",
    resolution=30.0,
)
start, end = dc.parameter("start", dc.Datetime), dc.parameter("end", dc.Datetime)
stack = dc.ImageStack.from_product_bands("landsat57-colorado", "nir", start, end)
greenest = stack.max(axis="images")

# %%
means = {}
for year in (2009, 2010, 2011):
    found = greenest.compute(aoi, start=f"{year}-06-01", end=f"{year}-09-01")
    means[year] = float(found.ndarray.mean())
    print(year, f"{means[year]:.0f}")
assert len(set(means.values())) == 3

# %%
layer = greenest.tile_layer(
    name="greenest",
    colormap="viridis",
    scales=[[0, 6000]],
    start=datetime.date(2010, 6, 1),
    end=datetime.date(2010, 9, 1),
)
first = layer.url
layer.parameters = {"start": datetime.date(2011, 6, 1), "end": datetime.date(2011, 9, 1)}
assert layer.make_url() != first
assert np.isfinite(list(means.values())).all()
