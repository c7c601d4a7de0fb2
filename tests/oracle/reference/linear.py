"""dot: contractions of bands or images with masks."""

from __future__ import annotations

import numpy as np

from .elementwise import common_pad
from .values import Array, Fault, Raster, names_of


def kind_of(value):
    if isinstance(value, Raster):
        return value.kind
    return "ndarray" if isinstance(value, Array) else None


def contracted(at, entries, weights):
    """`sum_k entries[k] * weights[k]` in float64 in order; masked where any entry is."""
    if len(entries) != len(weights):
        raise Fault("impossible", at, f"dot of {len(entries)} and {len(weights)} entries")
    total, mask = 0.0, False
    for x, y in zip(entries, weights):
        total = total + x.data.astype(np.float64) * np.asarray(y.data).astype(np.float64)
        mask = mask | np.ma.getmaskarray(x) | np.ma.getmaskarray(y)
    return total.astype(np.float32), mask


def dot(ev, at, a, b, kind_a, kind_b):
    for name, value, said in (("a", a, kind_a), ("b", b, kind_b)):
        if kind_of(value) is None:
            raise Fault("invalid_request", at, f"`{name}` must be a raster or an array")
        if said is not None and said != kind_of(value):
            raise Fault("impossible", at, f"the graft says {said}, `{name}` is {kind_of(value)}")
    margin = common_pad(at, [a, b])
    a, b = (v.with_margin(margin) if isinstance(v, Raster) else v for v in (a, b))
    kinds = kind_of(a), kind_of(b)
    if kinds == ("Mosaic", "Mosaic"):
        data, mask = contracted(at, a.data, b.data)
        return Raster(np.ma.array(data[None], mask=mask[None]), product_props(a, b), margin)
    if kinds == ("ImageStack", "ImageStack"):
        if a.band_count != b.band_count:
            raise Fault("impossible", at, f"dot of {a.band_count} and {b.band_count} bands")
        data, mask = contracted(at, a.data, b.data)
        return Raster(np.ma.array(data, mask=mask), stacks_props(at, a, b), margin)
    if "ndarray" not in kinds or kinds == ("ndarray", "ndarray"):
        raise Fault("impossible", at, f"dot of {kinds[0]} and {kinds[1]}")
    of, array = (a, b) if isinstance(a, Raster) else (b, a)
    # Columns of a matrix on the right, rows of one on the left.
    weights = array.data
    if weights.ndim == 1:
        columns = [weights]
    elif weights.ndim == 2:
        columns = list(weights.T) if of is a else list(weights)
    else:
        raise Fault("impossible", at, f"dot with an array of rank {weights.ndim}")
    made = [contracted(at, of.data, column) for column in columns]
    data, mask = (np.stack([m[i] for m in made]) for i in (0, 1))
    data = np.ma.array(data, mask=mask)
    if not of.is_stack:
        return Raster(data, product_props(of), margin)
    if weights.ndim == 1:
        return Raster(data[0], {"pad": margin}, margin)
    shared = {k: v for k, v in of.first_props().items() if all(k in p and p[k] == v for p in of.props)}
    return Raster(data, [dict(shared) for _ in columns], margin)


def product_props(*rasters):
    products = [r.first_props().get("product_id") for r in rasters]
    products = [p for p in products if p]
    props = {"pad": max(r.margin for r in rasters)}
    if products:
        props["product_id"] = products[0]
    if len(set(products)) > 1:
        props["other_product_id"] = products[1]
    return props


def stacks_props(at, a, b):
    first, second = a.first_props(), b.first_props()
    props = {"pad": a.margin}
    if first.get("product_id"):
        props["product_id"] = first["product_id"]
    other = second.get("product_id")
    if other and other != first.get("product_id"):
        props["other_product_ids"] = [other]
    p, q = names_of(first), names_of(second)
    if p is not None and q is not None:
        props["bands"] = p if p == q else [f"{x}_dot_{y}" for x, y in zip(p, q)]
    return props


OPS = {"dot": (dot, ("a", "b", "kind_a", "kind_b"), 2)}
