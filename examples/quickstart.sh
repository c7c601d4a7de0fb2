#!/usr/bin/env bash
# The main job on the committed sample: NDVI of 105 Landsat dates, clouds masked, median over time.
set -euo pipefail
cd "$(dirname "$0")/.."
graticule=${1:-target/release/graticule}
export GRATICULE_DATA=quickstart/data
mkdir -p quickstart

echo "registering the sample imagery"
"$graticule" catalog add examples/colorado
echo
echo "computing the median of the cloud-masked NDVI"
"$graticule" compute examples/ndvi_median.graft.json \
  --bounds 336375,4460595,338205,4462425 --crs EPSG:32613 --resolution 30 \
  --out quickstart/ndvi_median.tif --out quickstart/ndvi_median.png --colormap RdYlGn

cat <<EOF

Look at quickstart/ndvi_median.png: green is dense vegetation, red is sparse.

What to try next:
  export GRATICULE_DATA=quickstart/data PATH=\$PWD/$(dirname "$graticule"):\$PATH
  graticule catalog list
  # what the engine does, without reading a pixel
  graticule explain examples/ndvi_median.graft.json --bounds 336375,4460595,338205,4462425 --crs EPSG:32613 --resolution 30
  # another place and pixel size, as numpy arrays
  graticule compute examples/ndvi_median.graft.json --bounds -106.92,40.283,-106.91,40.294 --bounds-crs EPSG:4326 \\
    --crs EPSG:32613 --resolution 60 --align --out quickstart/part.npz
  # coordinator and workers for other programs, then: graticule compute ... --endpoint http://127.0.0.1:4000
  graticule serve
EOF
