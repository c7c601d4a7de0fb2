"""Values of the language, faults, and the rules by which shapes and paddings meet."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


class Fault(Exception):
    """A graft that cannot be evaluated: the class, the place, the reason."""

    def __init__(self, kind, at, message):
        super().__init__(message)
        self.kind, self.at, self.message = kind, at, message


@dataclass
class Raster:
    """A Mosaic (3 axes, props a dict) or an ImageStack (4 axes, props a list).

    The last two axes are the grid enlarged by `margin` pixels on every side: the value's domain.
    """

    data: np.ma.MaskedArray
    props: dict | list
    margin: int = 0

    @property
    def is_stack(self):
        return self.data.ndim == 4

    @property
    def band_count(self):
        return self.data.shape[-3]

    @property
    def kind(self):
        return "ImageStack" if self.is_stack else "Mosaic"

    def first_props(self):
        return first_of(self.props)

    def on_domain(self):
        """The same value where it has pixels: on the grid enlarged by its `pad` property."""
        return self.with_margin(pad_of(self.props))

    def with_margin(self, margin):
        """The same value on a larger domain, invalid where it had none, or on a smaller one."""
        more = margin - self.margin
        data, mask = self.data.data, np.ma.getmaskarray(self.data)
        if more < 0:
            inner = (..., slice(-more, more), slice(-more, more))
            data, mask = data[inner], mask[inner]
        elif more > 0:
            width = [(0, 0)] * (data.ndim - 2) + [(more, more)] * 2
            data = np.pad(data, width)
            mask = np.pad(mask, width, constant_values=True)
        return Raster(np.ma.array(data, mask=mask), self.props, margin)


@dataclass
class Array:
    """Numbers without a place: an `array`, or what a reduction over pixels leaves (`leading`)."""

    data: np.ma.MaskedArray
    props: dict | list
    leading: bool = False

    def first_props(self):
        return first_of(self.props)


@dataclass
class Groups:
    """Pairs of a key and the ids of its images."""

    pairs: list


class Length(int):
    """A number of images."""


@dataclass
class Scenes:
    """What `select_scenes` gives: images, not yet pixels."""

    product: dict
    images: list


@dataclass
class Builtin:
    name: str


@dataclass
class Function:
    body: dict
    parent: Scope
    at: str


@dataclass
class Scope:
    """One activation of a function body."""

    body: dict
    parent: Scope | None
    at: str
    bound: dict = field(default_factory=dict)
    memo: dict = field(default_factory=dict)
    running: set = field(default_factory=set)


def is_number(value):
    return isinstance(value, (bool, int, float))


def first_of(props):
    """The dict that speaks for the whole: of a stack, its first image's."""
    if isinstance(props, dict):
        return props
    return props[0] if props else {}


def names_of(props):
    return props.get("bands") or None


def pad_of(props):
    return first_of(props).get("pad") or 0


def step(at, key):
    return f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"


def expect(at, name, value, kind):
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Fault("invalid_request", at, f"`{name}` must be a {kind.__name__}")


def raster(at, name, value):
    if not isinstance(value, Raster):
        raise Fault("invalid_request", at, f"`{name}` must be a Mosaic or an ImageStack")


def operand(at, value):
    if not (isinstance(value, (Raster, Array)) or is_number(value)):
        raise Fault("invalid_request", at, "an operand must be a raster, an array or a number")


def as_float(x):
    return np.ma.array(x.data.astype(np.float32), mask=np.ma.getmaskarray(x))


def spread(x, shape):
    """`x` repeated to `shape`, mask included."""
    data, mask = x.data, np.ma.getmaskarray(x)
    return np.ma.array(np.broadcast_to(data, shape).copy(), mask=np.broadcast_to(mask, shape).copy())


def common_pad(at, values):
    """The padding of a combination: the one that is not zero."""
    pads = {pad_of(v.props) for v in values if isinstance(v, (Raster, Array))} - {0}
    if len(pads) > 1:
        raise Fault("impossible", at, f"operands padded by {' and '.join(map(str, sorted(pads)))} pixels")
    return pads.pop() if pads else 0


def broadcast(at, values):
    """Masked arrays of one shape for operands, and the margin of the result (protocol.md, section 4)."""
    rasters = [v for v in values if isinstance(v, Raster)]
    check_counts(at, values)
    margin = common_pad(at, values)
    plain = []
    for value in values:
        if is_number(value):
            kind = bool if isinstance(value, bool) else np.float32
            plain.append(np.ma.array(np.asarray(value, dtype=kind)))
        elif isinstance(value, Raster):
            plain.append(value.with_margin(margin).data)
        else:
            plain.append(value.data)
    if rasters:
        grid = next(p for p, v in zip(plain, values) if isinstance(v, Raster)).shape[-2:]
        for i, value in enumerate(values):
            if isinstance(value, Array) and value.leading:
                plain[i] = plain[i][..., None, None]
    lifted = []
    for i, (value, data) in enumerate(zip(values, plain)):
        if isinstance(value, Array) and not value.leading and data.ndim == 1:
            others = [p for j, p in enumerate(plain) if j != i and p.ndim > 1 and p.shape[0] == data.shape[0]]
            if others:
                data = data.reshape((-1,) + (1,) * (max(o.ndim for o in others) - 1))
        if rasters and isinstance(value, Array) and not value.leading:
            for size, of in zip(data.shape[::-1], grid[::-1]):
                if size not in (1, of):
                    raise Fault("impossible", at, f"an array of shape {data.shape} on a grid of {grid}")
        lifted.append(data)
    try:
        shape = np.broadcast_shapes(*(p.shape for p in lifted))
    except ValueError:
        shapes = " and ".join(str(p.shape) for p in lifted)
        raise Fault("impossible", at, f"shapes {shapes} do not fit") from None
    return [spread(p, shape) for p in lifted], margin


def counts(value):
    """Images and bands of a raster or of a reduction over pixels; None where there is no such axis."""
    if isinstance(value, Raster):
        return (value.data.shape[0] if value.is_stack else None), value.band_count
    if isinstance(value, Array) and value.leading:
        return (value.data.shape[0] if value.data.ndim == 2 else None), value.data.shape[-1]
    return None, None


def check_counts(at, values):
    known = [counts(v) for v in values]
    bands = [b for _, b in known if b not in (None, 1)]
    if len(set(bands)) > 1:
        raise Fault("impossible", at, f"the operands have {' and '.join(map(str, bands))} bands")
    images = [n for n, _ in known if n is not None]
    if len({n for n in images if n != 1}) > 1:
        raise Fault("impossible", at, f"the operands have {' and '.join(map(str, images))} images")
