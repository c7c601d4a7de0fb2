#!/usr/bin/env bash
# The committed samples: a Sentinel-2 image in true colour, and the main job: NDVI of 105 Landsat dates,
# clouds masked, median over time.
set -euo pipefail
cd "$(dirname "$0")/.."
graticule=${1:-target/release/graticule}
export GRATICULE_DATA=quickstart/data
mkdir -p quickstart

echo "registering the sample imagery"
"$graticule" catalog add examples/potsdam examples/colorado
echo
echo "a picture of Sentinel-2 in true colour"
"$graticule" compute examples/true_colour.graft.json \
  --bounds 330000,5814360,345360,5822040 --crs EPSG:32633 --resolution 10 \
  --out quickstart/true_colour.png
echo
echo "computing the median of the cloud-masked NDVI"
"$graticule" compute examples/ndvi_median.graft.json \
  --bounds 336375,4460595,338205,4462425 --crs EPSG:32613 --resolution 30 \
  --out quickstart/ndvi_median.tif --out quickstart/ndvi_median.png --colormap RdYlGn

cat <<EOF

Look at quickstart/true_colour.png, and at quickstart/ndvi_median.png: green is dense vegetation, red is
sparse.

What to try next:
  export GRATICULE_DATA=quickstart/data PATH=\$PWD/$(dirname "$graticule"):\$PATH
  graticule catalog list
  # what the engine does, without reading a pixel
  graticule explain examples/ndvi_median.graft.json --bounds 336375,4460595,338205,4462425 --crs EPSG:32613 --resolution 30
  # another place and pixel size, as numpy arrays
  graticule compute examples/ndvi_median.graft.json --bounds -106.92,40.283,-106.91,40.294 --bounds-crs EPSG:4326 \\
    --crs EPSG:32613 --resolution 60 --align --out quickstart/part.npz
  # any CRS and resampling, as a Cloud-Optimized GeoTIFF of integers
  graticule compute examples/true_colour.graft.json --bounds 12.5,52.46,12.7,52.52 --bounds-crs EPSG:4326 \\
    --crs EPSG:3035 --resolution 20 --align --out quickstart/true_colour.tif --dtype uint16 --scale 0.0001
  # the same on a map, at the address it prints; and the engine for other programs, then:
  # graticule compute ... --endpoint http://127.0.0.1:4000
  graticule serve
EOF
