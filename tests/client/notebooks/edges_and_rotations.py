# Gradients, slopes and a rotation of bands: a surface made of an image's brightness.

# %%
import descarteslabs.dynamic_compute as dc
import earthdaily.earthone as eo
import numpy as np

# %%
aoi = eo.geo.AOI(
    bounds=(333000, 5816000, 334280, 5817280), bounds_crs="EPSG:32633", crs="EPSG:32633", resolution=10.0
)
brightness = dc.Mosaic.from_product_bands("sentinel2-potsdam", "nir", pad=1) * 1000

# %%
slope = brightness.slope().compute(aoi).ndarray
aspect = brightness.aspect().compute(aoi).ndarray
east = dc.Mosaic(dc.gradient_x(brightness)).compute(aoi).ndarray
print(f"slope {slope.min():.1f} to {slope.max():.1f} degrees")
assert slope.shape == aspect.shape == east.shape == (1, 128, 128)
assert 0 <= slope.min() and slope.max() < 90 and -180 <= aspect.min() and aspect.max() <= 180

# %%
# Principal components, with weights computed here and applied there.
bands = dc.Mosaic.from_product_bands("sentinel2-potsdam", "red green blue nir")
pixels = bands.ndarray.compute(aoi).data.reshape(4, -1)
weights = np.linalg.svd(np.cov(pixels))[0].T
rotated = dc.dot(weights, bands).compute(aoi).ndarray
assert np.allclose(rotated.reshape(4, -1), weights @ pixels, atol=1e-5)
spread = rotated.reshape(4, -1).std(axis=1)
print("spread of the components", spread)
assert (np.diff(spread) < 0).all()
