#!/usr/bin/env bash
# Checks what is in deploy/: the manifests as every kubectl at hand renders them (Debian's 1.20 among them), the compose
# file, and that the binary takes the settings they give it. Installs what it needs into .venv the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/release/graticule}
validate_version=1.37.0 compose_version=0.2.0
if ! .venv/bin/python -c "
from importlib.metadata import version
assert (version('kubernetes-validate'), version('compose-spec')) == ('$validate_version', '$compose_version')" 2>/dev/null
then
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check \
    "kubernetes-validate==$validate_version" "compose-spec==$compose_version"
fi

kubectls=()
if command -v kubectl >/dev/null; then kubectls+=("$(command -v kubectl)"); fi
# The oldest that has to do is unpacked, not installed: it must not take the place of another one.
debian=.venv/kubernetes-client/usr/bin/kubectl
if [ ! -x "$debian" ] && command -v apt-get >/dev/null; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  fetch() { (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root kubernetes-client) 2>/dev/null; }
  # Package lists may never have been fetched, or be old.
  if fetch || { [ "$(id -u)" -eq 0 ] && apt-get update -qq && fetch; }; then
    dpkg -x "$folder"/kubernetes-client_*.deb .venv/kubernetes-client
  fi
fi
if [ -x "$debian" ]; then kubectls+=("$debian"); fi
if [ ${#kubectls[@]} -eq 0 ]; then
  echo "no kubectl: install kubernetes-client, or run \`apt-get update\` as root" >&2
  exit 1
fi
exec .venv/bin/python deploy/check.py "$binary" "${kubectls[@]}"
