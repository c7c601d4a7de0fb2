"""The numpy oracle's golden cases: a made-up world, grafts, and the answers an engine must agree with.

    python make.py            rewrite the files beside this one
    python make.py --check    compare them with what would be written; exit 1 where they differ

The answers come from `tests/oracle/reference`, which shares no code with the engine; the cases are in
`tests/oracle/cases`.

world.json     the grid, and per product its scenes: a window of the grid each, properties
world.npz      `<product index>_<scene id>_data` float32 and `_mask` bool, (bands, rows, cols)
cases.json     graft, kind, dtype, bands, properties (`ignore`: property names not to compare) and `ulps`, the
               distance allowed between valid float32 values (0: equal, or both NaN; -0 equals 0)
expected.npz   `<case>_data` float32 or bool, `<case>_mask` bool: (b, r, c) of a mosaic, (n, b, r, c) of a
               stack, (n, b) or (b) of an array
errors.json    graft, error class, words of the message, JSON pointer of the place (null: any)

Kinds: mosaic, stack, array, number, int (the number of images), groups (pairs of a key and image ids).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from oracle.cases import expressions, faults, language, operations, shorthand, traps  # noqa: E402
from oracle.cases.world import make_world  # noqa: E402
from oracle.grafts import graft_of  # noqa: E402
from oracle.reference import Evaluator, Fault  # noqa: E402
from oracle.store import case_of, json_bytes, npz_bytes, same  # noqa: E402


def make_cases(world, arrays):
    grafts = {name: (graft_of(node), {}) for name, node in expressions.expression_cases().items()}
    grafts.update({name: (graft, {}) for name, graft in language.language_cases().items()})
    for family in (operations, traps):
        for name, node in family.cases().items():
            options = {}
            if isinstance(node, shorthand.Case):
                node, options = node.node, node.options
            graft = node if isinstance(node, dict) else graft_of(node)
            assert name not in grafts, name
            grafts[name] = (graft, options)
    cases, expected = [], {}
    for name, (graft, options) in grafts.items():
        parameters = options.get("parameters")
        results = [
            Evaluator(world, arrays, keep_product=keep, parameters=parameters).run(graft)
            for keep in (False, True)
        ]
        case, pixels = case_of(name, graft, *results, options)
        cases.append(case)
        if pixels is not None:
            expected[f"{name}_data"], expected[f"{name}_mask"] = pixels
    return cases, expected


def make_errors(world, arrays):
    errors = []
    for name, (graft, kind, contains, at) in faults.fault_cases().items():
        try:
            Evaluator(world, arrays, keep_product=True).run(graft)
        except Fault as fault:
            assert fault.kind == kind, f"{name}: {fault.kind}: {fault}"
            assert at is None or fault.at == at, f"{name}: at {fault.at}"
            assert all(word in fault.message for word in contains), f"{name}: {fault}"
        else:
            raise AssertionError(f"{name}: no fault")
        errors.append({"name": name, "graft": graft, "class": kind, "contains": contains, "at": at})
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    check = parser.parse_args().check
    world, arrays = make_world()
    cases, expected = make_cases(world, arrays)
    files = {
        "world.json": json_bytes(world),
        "world.npz": npz_bytes(arrays),
        "cases.json": json_bytes(cases),
        "expected.npz": npz_bytes(expected),
        "errors.json": json_bytes(make_errors(world, arrays)),
    }
    stale = [name for name, content in files.items() if not same(HERE / name, content)]
    if check:
        for name in stale:
            print(f"{name} differs", file=sys.stderr)
        return 1 if stale else 0
    for name, content in files.items():
        (HERE / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
