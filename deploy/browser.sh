#!/usr/bin/env bash
# Installs what the tests of the map page need and is missing: Chromium of the distribution, Node, and the
# library that drives the browser, pinned in tests/browser/package-lock.json. Does nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
installed=tests/browser/node_modules/.package-lock.json
is_pinned() { [ -f "$installed" ] && [ ! tests/browser/package-lock.json -nt "$installed" ]; }
is_pinned || command -v npm >/dev/null || missing+=(npm)

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "Please install: ${missing[*]}." >&2
    exit 1
  fi
  sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "Please install as root: ${missing[*]}" >&2; exit 1; }
    sudo=(sudo)
  fi
  echo "installing: ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
is_pinned || npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --silent
