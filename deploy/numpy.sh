#!/usr/bin/env bash
# Runs a Python file of the project with numpy; installs it into .venv the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
numpy_version=2.4.6
if ! .venv/bin/python -c "import numpy; assert numpy.__version__ == '$numpy_version'" 2>/dev/null; then
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check "numpy==$numpy_version"
fi
exec .venv/bin/python "$@"
