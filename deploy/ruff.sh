#!/usr/bin/env bash
# Runs ruff on the project's Python files; installs it into .venv the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
ruff_version=0.14.5
if ! .venv/bin/ruff --version 2>/dev/null | grep -q "$ruff_version"; then
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check "ruff==$ruff_version"
fi
mapfile -t files < <(git ls-files '*.py')
exec .venv/bin/ruff "$@" --line-length 110 "${files[@]}"
