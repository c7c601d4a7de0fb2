# Layers on a map, as its tiles come to the browser.

# %%
import io

import descarteslabs.dynamic_compute as dc
import mercantile
import numpy as np
import requests
from descarteslabs.dynamic_compute.operations import value_at
from PIL import Image

# %%
m = dc.map
m.center = (52.48, 12.55)
m.zoom = 13
rgb = dc.Mosaic.from_product_bands("sentinel2-potsdam", "red green blue")
nir, red = dc.Mosaic.from_product_bands("sentinel2-potsdam", "nir red").unpack_bands("nir red")
ndvi = (nir - red) / (nir + red)

# %%
layers = [
    rgb.visualize("True colour", m, scales=[[0, 0.2], [0, 0.2], [0, 0.2]]),
    ndvi.tile_layer(name="NDVI", colormap="RdYlGn", scales=[[-0.2, 0.8]]),
    rgb.mask(ndvi > 0.2).tile_layer(name="Bare", scales=[[0, 0.2]] * 3, checkerboard=False),
]


# %%
def look(layer, at):
    """What the browser does."""
    url = layer.url.replace("{z}", str(at.z)).replace("{x}", str(at.x)).replace("{y}", str(at.y))
    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


for layer in layers:
    for zoom in (10, 13, 16):
        picture = look(layer, mercantile.tile(12.55, 52.48, zoom))
        colours = len(np.unique(picture.reshape(-1, 4), axis=0))
        print(layer.name, zoom, f"{colours} colours")
        assert picture.shape == (256, 256, 4) and colours > 20

# %%
# The pixel inspector asks again with the layer's id.
lat, lon = 52.48, 12.55
assert value_at(ndvi, lat, lon, layer_id=layers[1].layer_id) == value_at(ndvi, lat, lon)
print("NDVI", value_at(ndvi, lat, lon))
