"""Local MAPs that one kernel makes of each pixel or each JPEG block on its own, as data."""

from typing import NamedTuple

from torch import Tensor

from lmaps_fast.ops import jpeg_codec
from lmaps_fast.ops.clip_map import OPERATION as CLIP_MAP
from lmaps_fast.ops.diagonal_map import OPERATION as DIAGONAL_MAP
from lmaps_fast.ops.jpeg_map import OPERATION as JPEG_MAP
from lmaps_fast.ops.operation import Operation
from lmaps_fast.ops.quantization_map import OPERATION as QUANTIZATION_MAP
from lmaps_fast.weights import AnyWeights, table

# Each is an operation with D, y, one tensor of numbers, and of JPEG what its codec has fixed.
KINDS: dict[str, Operation] = {op.name: op for op in (DIAGONAL_MAP, CLIP_MAP, QUANTIZATION_MAP, JPEG_MAP)}


class PixelMap(NamedTuple):
    """A local MAP for `step` to take in, or to be called with D and weights.

    kind: one of KINDS; or "given", where y is the local MAP, made elsewhere. y: what the operation takes beside D.
    numbers: its tensor of numbers: s, parameters or tables. subsampling, average: of jpeg_map.
    """

    kind: str
    y: Tensor
    numbers: tuple[Tensor, ...] = ()
    subsampling: tuple[int, int] = (1, 1)
    average: bool = False

    def __call__(self, D: Tensor, weights: AnyWeights, backend: str | None = None) -> Tensor:
        known = table(weights, D.device)
        fixed = (list(jpeg_codec.MATRICES), list(self.subsampling), self.average) if self.kind == "jpeg_map" else ()
        return KINDS[self.kind](backend, D.contiguous(), self.y, *self.numbers, *fixed, known.values, known.most)
