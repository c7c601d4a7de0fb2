"""Cases and worlds as files."""

from __future__ import annotations

import io
import json

import numpy as np

from .reference import Array, Groups, Length, is_number, names_of


def differing_keys(one_props, other_props):
    """The keys, of a dict or of any dict in a list, by which two property values differ."""
    pairs = [(one_props, other_props)] if isinstance(one_props, dict) else list(zip(one_props, other_props))
    absent = object()
    return sorted({k for p, q in pairs for k in {*p, *q} if p.get(k, absent) != q.get(k, absent)})


def json_bytes(value):
    """A list one item a line, anything else indented."""
    if isinstance(value, list):
        lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
        return f"[\n{lines}\n]\n".encode()
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def npz_bytes(arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return buffer.getvalue()


def same(path, content):
    """Whether the file holds this content; archives are compared array by array."""
    if not path.exists():
        return False
    if path.suffix != ".npz":
        return path.read_bytes() == content
    with np.load(path) as old, np.load(io.BytesIO(content)) as new:
        return set(old) == set(new) and all(
            old[k].dtype == new[k].dtype and np.array_equal(old[k], new[k], equal_nan=old[k].dtype != bool)
            for k in new
        )


# Units in the last place by which an engine's float32 may differ, by the op that makes the difference:
# functions come from each side's own libm; sums in float64 are rounded once.
ULPS = {
    **dict.fromkeys("_pow pow rpow sqrt cos sin tan arccos arcsin arctan log log10 exp arctan2".split(), 2),
    **dict.fromkeys("slope aspect".split(), 2),
    **dict.fromkeys("std var dot".split(), 1),
    "sqrt": 0,
}


def texts(node):
    """Every text of a graft: names of ops, and literals that may be such names."""
    if isinstance(node, dict):
        return {text for value in node.values() for text in texts(value)}
    if isinstance(node, list):
        return {text for value in node for text in texts(value)}
    return {node} if isinstance(node, str) else set()


def ulps_of(graft):
    return max((ULPS.get(text, 0) for text in texts(graft)), default=0)


def plain(value):
    """A key of a group as JSON has it."""
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def case_of(name, graft, result, kept, options):
    """The record of a case, and its values and mask. `kept`: the result where a product meets itself and is
    kept, which nothing settles."""
    case = {"name": name, "graft": graft}
    case.update({key: value for key, value in options.items() if key in ("parameters", "outline") and value})
    if isinstance(result, Groups):
        pairs = [[plain(key), ids] for key, ids in result.pairs]
        case.update(kind="groups", dtype=None, bands=None, properties={}, groups=pairs)
        return case, None
    if isinstance(result, Length):
        properties = {"return_type": "int"}
        case.update(kind="int", dtype=None, bands=None, properties=properties, number=int(result))
        return case, None
    if is_number(result):
        case.update(kind="number", dtype="float64", bands=None, properties={}, number=float(result))
        return case, None
    is_array = isinstance(result, Array)
    if not is_array:
        result, kept = result.with_margin(0), kept.with_margin(0)
    mask = np.ma.getmaskarray(result.data)
    if not is_array and options.get("outside") is not None:
        mask = mask | options["outside"]
    data = np.where(mask, result.data.dtype.type(0), result.data.data)
    assert data.dtype in (np.float32, bool) and data.shape == mask.shape, name
    is_list = isinstance(result.props, list)
    assert not is_list or len(result.props) == len(data), name
    case.update(
        kind="array" if is_array else "stack" if is_list else "mosaic",
        dtype=str(data.dtype),
        bands=names_of(result.first_props()),
        properties=result.props,
        ignore=sorted({*differing_keys(result.props, kept.props), *options.get("ignore", [])}),
        ulps=options.get("ulps", ulps_of(graft)),
    )
    return case, (data, mask)
