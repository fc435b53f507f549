"""Structure: A is a function of each pixel, or of each JPEG block, so that the K steps are one kernel."""

from torch import Tensor

from lmaps_fast.operators.base import Operator
from lmaps_fast.ops import PixelMap
from lmaps_fast.weights import AnyWeights


class Pixelwise(Operator):
    """An operator whose local MAP is its `pixel_map`."""

    collapses = True

    def pixel_map(self, data: Tensor) -> PixelMap:
        raise NotImplementedError

    def local_map(self, D: Tensor, data: Tensor, weights: AnyWeights) -> Tensor:
        return self.pixel_map(data)(D, weights)
