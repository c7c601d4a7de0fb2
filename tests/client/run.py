"""Runs tests of the published client against a server that is there.

run.py http://127.0.0.1:8080 test_programs test_tiles
run.py http://127.0.0.1:8080 notebooks
"""

from __future__ import annotations

import runpy
import sys
import unittest
import warnings
from pathlib import Path

import connect

HERE = Path(__file__).parent


def main(url, *names):
    connect.to(url)
    sys.path.insert(0, str(HERE))
    warnings.simplefilter("ignore")
    import watch

    watch.start()
    tests = [name for name in names if name.startswith("test_")]
    suite = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromName(name) for name in tests)
    is_good = True
    if tests:
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        is_good = result.wasSuccessful() and result.testsRun > 0
    if "notebooks" in names:
        for path in sorted((HERE / "notebooks").glob("*.py")):
            print(f"notebook {path.stem}", flush=True)
            runpy.run_path(str(path), run_name="__main__")
    print(f"{watch.seen['pickles']} pickles looked at, {len(watch.seen['errors'])} errors")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
