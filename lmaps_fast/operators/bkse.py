"""The blur network of BKSE, "KernelWizard" (Tran et al., CVPR 2021, arXiv 2104.00317): (image, code) -> blurred image.

The names of its parts are the keys of the public weights file, GOPRO_wVAE.pth of
github.com/VinAIResearch/blur-kernel-space-exploring. The extractor of codes, also in that file, is not needed.
"""

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lmaps_fast.errors import InputError

CHANNELS, CODE_CHANNELS = 64, 512
IMAGE_MULTIPLE = 4  # two strides of the feature extractor
FEATURE_MULTIPLE = 32  # five strides of the adapter
SMALLEST_SIDE = 5  # leaves features of 2x2, which can still be reflected
PREFIXES = ("module.", "netG.")  # what training wrappers put before the keys


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


class AdapterLevel(nn.Module):
    """One level of the adapter's U-Net: h = down(x), then up(relu([deeper level of h, h])).

    The deepest level gets [h, code] instead. The code is the same in all calls, so its share of the transposed
    convolution is an argument, computed once by `code_term`.
    """

    def __init__(
        self, outer: int, inner: int, submodule: "AdapterLevel | None" = None, outermost: bool = False
    ) -> None:
        super().__init__()
        down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=False)
        up = nn.ConvTranspose2d(2 * inner, outer, 4, stride=2, padding=1, bias=outermost)
        self.down = nn.Sequential(down) if outermost else nn.Sequential(nn.LeakyReLU(0.2), down)
        self.up = nn.Sequential(nn.ReLU(inplace=True), up)
        self.submodule = submodule

    def forward(self, x: Tensor, code_term: Tensor) -> Tensor:
        h = self.down(x)
        if self.submodule is None:
            image_weight = self.up.get_parameter("1.weight")[: h.shape[1]]
            return F.conv_transpose2d(F.relu(h), image_weight, stride=2, padding=1) + code_term
        return self.up(torch.cat([self.submodule(h, code_term), h], 1))

    def code_term(self, code: Tensor) -> Tensor:
        if self.submodule is not None:
            return self.submodule.code_term(code)
        code_weight = self.up.get_parameter("1.weight")[-code.shape[1] :]
        return F.conv_transpose2d(F.relu(code), code_weight, stride=2, padding=1)


class Adapter(nn.Module):
    """tanh of a five-level U-Net on features [B, 64, h, w], the code [1, 512, h/32, w/32] joined at its bottom."""

    def __init__(self) -> None:
        super().__init__()
        level = None
        for outer, inner in ((512, 512), (256, 512), (128, 256), (64, 128)):
            level = AdapterLevel(outer, inner, level)
        self.model = AdapterLevel(CHANNELS, CHANNELS, level, outermost=True)

    def forward(self, x: Tensor, code_term: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return torch.tanh(self.model(reflect_to(x, FEATURE_MULTIPLE), code_term))[..., :height, :width]


class KernelWizard(nn.Module):
    """x + trunk(adapter(features(x), code)); x: [B, 3, H, W] in [0, 1], any size from 5x5.

    Where strides do not divide the size, the image (to a multiple of 4) and the features (to a multiple of 32) are
    reflected at the right and bottom border for the call; sizes that are multiples of 128 need neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            *(ResidualBlock() for _ in range(10)),
        )
        self.adapter = Adapter()
        self.recon_trunk = nn.Sequential(
            *(ResidualBlock() for _ in range(20)),
            nn.Conv2d(CHANNELS, 4 * CHANNELS, 3, padding=1),
            nn.PixelShuffle(2),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, 4 * CHANNELS, 3, padding=1),
            nn.PixelShuffle(2),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, 3, 3, padding=1),
        )

    def forward(self, x: Tensor, code_term: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = reflect_to(x, IMAGE_MULTIPLE)
        residual = self.recon_trunk(self.adapter(self.feature_extractor(padded), code_term))
        return x + residual[..., :height, :width]

    def code_term(self, code: Tensor, height: int, width: int) -> Tensor:
        """What the code [1, 512, 2, 2] adds at the bottom of the adapter, for images of this size.

        The code belongs to 256x256 images, where the bottom is 2x2; it is resized, bilinearly, to that of other sizes.
        """
        bottom = (-(-height // 128), -(-width // 128))
        return self.adapter.model.code_term(F.interpolate(code, bottom, mode="bilinear", align_corners=False))


def reflect_to(x: Tensor, multiple: int) -> Tensor:
    """x with height and width continued to multiples, by reflections without repeating the edge."""
    height, width = (-(-n // multiple) * multiple for n in x.shape[2:])
    while x.shape[2:] != (height, width):  # one reflection adds at most n - 1 to a side of n
        rows, columns = (min(m - n, n - 1) for m, n in zip((height, width), x.shape[2:], strict=True))
        x = F.pad(x, (0, columns, 0, rows), mode="reflect")
    return x


def random(seed: int) -> KernelWizard:
    """The network with weights drawn from `seed`: variances of He et al. (2015), no biases.

    What ends a residual branch is scaled by .1, so that the output is the image with a pattern of about that height.
    """
    network = without_weights().to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            overlap = module.stride[0] ** 2 if isinstance(module, nn.ConvTranspose2d) else 1
            taps = module.in_channels * module.kernel_size[0] ** 2 / overlap  # that one output value sees
            scale = 0.1 if name.endswith("conv2") or name == "recon_trunk.28" else 1.0
            nn.init.normal_(module.weight, std=scale * (2 / taps) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def load(path: str | os.PathLike) -> KernelWizard:
    """The network with the weights of a file: the public GOPRO_wVAE.pth, or its tensors as safetensors.

    Keys of other parts are ignored. Raises InputError for a file that cannot be read and, naming what differs, for one
    that lacks tensors of this network or has them in other shapes.
    """
    state = read(Path(path))
    network = without_weights()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    missing = [key for key in shapes if key not in state]
    misshapen = [
        f"{key} is {list(state[key].shape)} instead of {list(shape)}"
        for key, shape in shapes.items()
        if key in state and state[key].shape != shape
    ]
    if missing or misshapen:
        differs = [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
        differs += [f"{len(misshapen)} of another shape, such as {misshapen[0]}"] if misshapen else []
        raise InputError(
            f"{path}: of {len(shapes)} tensors of the blur network {' and '.join(differs)}: give GOPRO_wVAE.pth"
        )
    network.load_state_dict({key: state[key].float() for key in shapes}, assign=True)
    return network


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a file of torch.save, without what training wrappers add to them."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such weights file")
    content: object
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load lets through whatever its unpickler trips over
        raise InputError(f"{path}: this is not a weights file that can be read ({type(error).__name__})") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise InputError(f"{path}: this file holds no table of named weights: give GOPRO_wVAE.pth")
    return {bare(key): value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def bare(key: str) -> str:
    """A key without the prefixes of wrappers, in whatever order they were put on."""
    while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), None):
        key = key.removeprefix(prefix)
    return key


def without_weights() -> KernelWizard:
    """The network on the "meta" device: no memory, and torch's global generator is left alone."""
    with torch.device("meta"):
        return KernelWizard().float()  # whatever torch's default type is
