# A cloud-free composite of a summer, and where it has no clear date.

# %%
import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import numpy as np

# %%
aoi = eo.geo.AOI(
    bounds=(336375.0, 4460595.0, 338205.0, 4462425.0),
    bounds_crs="EPSG:32613",
    crs="EPSG:32613",
    resolution=30.0,
    align_pixels=False,
)
stack = dc.ImageStack.from_product_bands("landsat57-colorado", "swir1 nir red", "2010-06-01", "2010-10-01")
fmask = dc.ImageStack.from_product_bands("landsat57-colorado", "fmask", "2010-06-01", "2010-10-01")
is_clear = fmask == 0

# %%
composite = stack.mask(~is_clear).median(axis="images")
dates = is_clear.sum(axis="images")
picture = (composite / 5000).clip(0, 1).filled(0)

# %%
found = composite.compute(aoi)
counts = dates.compute(aoi).ndarray
print(found.properties["bands"], found.ndarray.shape, f"{counts.min():.0f} to {counts.max():.0f} clear dates")
assert found.properties["bands"] == ["swir1", "nir", "red"]
hidden = np.ma.getmaskarray(found.ndarray)[0]
assert np.array_equal(hidden, counts.filled(0)[0] == 0), "without a clear date there is nothing"
assert not np.ma.getmaskarray(picture.compute(aoi).ndarray).any()
