#!/usr/bin/env bash
# Installs what the build and the tests need and is missing; with `image`, what deploy/image.sh needs.
# Does nothing when all is there.
set -euo pipefail

missing=()
if [ "${1:-}" = image ]; then
  for tool in buildah debootstrap runc skopeo umoci; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  manual="buildah, debootstrap, runc, skopeo, umoci"
else
  command -v cc >/dev/null || missing+=(build-essential)
  command -v pkg-config >/dev/null || missing+=(pkg-config)
  command -v git >/dev/null || missing+=(git)
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  command -v node >/dev/null || missing+=(nodejs)
  pkg-config --exists 'gdal >= 3.5' 2>/dev/null || missing+=(libgdal-dev)
  command -v gdal_translate >/dev/null || missing+=(gdal-bin)
  manual="GDAL 3.5 or later with headers and programs, pkg-config, a C compiler, git, redis-server, Node 18 or later, Python 3 with venv"
  if ! command -v cargo >/dev/null; then
    echo "A Rust toolchain (1.88 or later) is needed: install rustup, then run this again." >&2
    exit 1
  fi
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "Please install: $manual." >&2
  echo "(Debian calls what is missing: ${missing[*]})" >&2
  exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "Please install as root: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
# Starting a server is not what an installed dependency should do.
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
