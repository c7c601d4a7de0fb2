#!/usr/bin/env bash
# Random grafts over random small worlds: what the engine computes against what numpy computes.
# A chunk that fails is kept; its folder and seed are printed.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=$1 cases=$2 chunks=$3
echo "fuzz-oracle: SEED=$seed, $chunks chunks of $cases grafts"
folder=$PWD/target/fuzz-oracle
for chunk in $(seq "$chunks"); do
  rm -rf "$folder"
  deploy/numpy.sh tests/oracle/generate.py "$folder" --seed "$seed.$chunk" --cases "$cases"
  GRATICULE_ORACLE=$folder cargo test ${CARGO_FLAGS:---release --locked} --quiet -p graticule-tests --test oracle -- \
    --ignored --nocapture oracle_cases_of_a_folder ||
    { echo "fuzz-oracle: chunk $chunk of SEED=$seed differs; its cases are in $folder"; exit 1; }
done
echo "fuzz-oracle: $((cases * chunks)) grafts as numpy has them, SEED=$seed"
