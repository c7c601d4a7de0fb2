#!/usr/bin/env bash
# Runs a Python file with the published client; installs it into .venv-client the first time (a gigabyte with
# all that it needs, of Python 3.10 to 3.12). CLIENT_PYTHON names an interpreter that has it already.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=tests/client/requirements.txt
python=${CLIENT_PYTHON:-.venv-client/bin/python}
if [[ -z "${CLIENT_PYTHON:-}" ]] && ! cmp -s "$requirements" .venv-client/requirements.txt; then
  for candidate in python3.11 python3.12 python3.10 python3; do
    if "$candidate" -c 'import sys; assert (3, 10) <= sys.version_info[:2] < (3, 13)' 2>/dev/null; then
      base=$candidate
      break
    fi
  done
  if [[ -z "${base:-}" ]]; then
    echo "the published client needs Python 3.10, 3.11 or 3.12; install one" >&2
    exit 1
  fi
  rm -rf .venv-client
  "$base" -m venv .venv-client
  .venv-client/bin/pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" .venv-client/requirements.txt
fi
exec "$python" "$@"
