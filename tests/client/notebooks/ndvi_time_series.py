# A time series: NDVI of every date, clouds masked, mean over a field.

# %%
import datetime

import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import numpy as np

# %%
field = eo.geo.AOI(
    bounds=(336615.0, 4461015.0, 337215.0, 4461855.0),
    bounds_crs="EPSG:32613",
    crs="EPSG:32613",
    resolution=30.0,
    align_pixels=False,
)
landsat = dc.ImageStack.from_product_bands("landsat57-colorado", "nir red fmask", "2009-01-01", "2012-01-01")
clear = landsat.filter(eo.catalog.properties.cloud_fraction < 0.8)

# %%
nir, red, fmask = clear.unpack_bands("nir red fmask")
ndvi = ((nir - red) / (nir + red)).mask(fmask != 0).rename_bands("ndvi")
series = ndvi.mean(axis="pixels").compute(field)

# %%
images = ndvi.properties.compute(field)
dates = [datetime.datetime.fromisoformat(image["acquired"].replace("Z", "+00:00")) for image in images]
values = series.ndarray[:, 0]
for date, value in list(zip(dates, values))[:5]:
    print(f"{date:%Y-%m-%d}  {value:.3f}")

# %%
months = np.array([date.month for date in dates])
spring, summer = values[months == 4].mean(), values[months == 7].mean()
print(f"April {spring:.3f}, July {summer:.3f}")
assert len(dates) == len(values) > 20
assert summer > spring + 0.1, "meadows are green in summer"
