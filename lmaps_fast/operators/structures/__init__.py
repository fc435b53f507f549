"""What makes a local MAP cheap, apart from any task. An operator is a structure with its numbers filled in."""

from lmaps_fast.operators.structures.autograd import Autograd
from lmaps_fast.operators.structures.block_diagonal import BlockDiagonal
from lmaps_fast.operators.structures.dense import Dense
from lmaps_fast.operators.structures.diagonal import Diagonal
from lmaps_fast.operators.structures.fourier import Fourier
from lmaps_fast.operators.structures.kronecker import Kronecker
from lmaps_fast.operators.structures.krylov import Krylov
from lmaps_fast.operators.structures.pixelwise import Pixelwise
from lmaps_fast.operators.structures.reflect_blur import ReflectBlur
from lmaps_fast.operators.structures.spectral import Spectral

__all__ = [
    "Autograd",
    "BlockDiagonal",
    "Dense",
    "Diagonal",
    "Fourier",
    "Kronecker",
    "Krylov",
    "Pixelwise",
    "ReflectBlur",
    "Spectral",
]
