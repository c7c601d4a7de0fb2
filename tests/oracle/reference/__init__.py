"""What grafts mean, written from the protocol on numpy.ma: the oracle that the engine is compared with.

It recurses over the graft and holds whole arrays: it is meant to be read, not to be fast. It shares no
code with the engine. True in a mask means invalid; data under the mask of a result is never compared.

values       Raster, Array, Groups; faults; the shape and padding rules
language     names, scopes, functions, calls
sources      scenes, mosaics, filters, bands
elementwise  arithmetic, comparison, functions, masks
reductions   over images, bands and pixels
neighbours   gradients, focal windows, convolution, slope and aspect
linear       dot
properties   predicates, and functions over an image's properties
"""

from .language import Evaluator
from .values import Array, Fault, Groups, Length, Raster, is_number, names_of

__all__ = ["Array", "Evaluator", "Fault", "Groups", "Length", "Raster", "is_number", "names_of"]
