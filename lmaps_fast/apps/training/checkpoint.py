"""A run on disk: its state, from which it goes on exactly, and the weights that it exports."""

import copy
import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from lmaps_fast.denoisers.natural import UNet
from lmaps_fast.errors import InputError
from lmaps_fast.files.image import write_bytes

Settings = dict[str, Any]  # of numbers, strings and lists of them, so that it can be compared and written
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


def fresh_network(channels: tuple[int, ...], blocks: int) -> UNet:
    """A network that starts as F = 0, with each residual block as the identity."""
    network = UNet(channels, blocks)
    for name, parameter in network.named_parameters():
        if name.split(".")[-2] in ("b", "f", "out"):
            nn.init.zeros_(parameter)
    return network


class Run:
    """A network in training, with all that its next step depends on besides the data.

    network: in float32; ema: its exponential moving average, which is what is exported; step: how many are done;
    seconds: how long they took. Random numbers are functions of the seed and of the step, so no generator is kept.
    """

    def __init__(self, network: UNet, learning_rate: float, device: str) -> None:
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), learning_rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
        )
        self.step, self.seconds = 0, 0.0

    def save(self, path: Path, settings: Settings) -> None:
        """Write the state, whole or not at all. Raises InputError if the disk refuses; the old file is then intact."""
        buffer = io.BytesIO()
        parts = {name: getattr(self, name).state_dict() for name in ("network", "ema", "optimizer")}
        torch.save({"settings": settings, "step": self.step, "seconds": self.seconds, **parts}, buffer)
        write_bytes(path, buffer.getvalue())

    def resume(self, path: Path, settings: Settings) -> None:
        """Go on from a state of the same settings. Raises InputError for a file that is damaged or hostile, and, naming
        what differs, for one of other settings."""
        cure = "remove it to start anew, or name another output"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            saved = state["settings"]
            differing = sorted(key for key in saved.keys() | settings.keys() if saved.get(key) != settings.get(key))
        except (pickle.UnpicklingError, *UNREADABLE):
            raise InputError(f"{path}: this state of a training run is damaged, or no such state: {cure}") from None
        if differing:
            changes = ", ".join(f"{key} {saved.get(key)!r}, not {settings.get(key)!r}" for key in differing)
            raise InputError(f"{path} is the state of a run with {changes}: give the same settings, {cure}")
        try:
            self.network.load_state_dict(state["network"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._check_optimizer()
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except UNREADABLE:
            raise InputError(f"{path}: this state of a training run does not fit its network: {cure}") from None

    def _check_optimizer(self) -> None:
        # The fused optimizer trusts the sizes and the memory layout of its moments.
        for parameter, moments in self.optimizer.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                moment = moments[name]
                if moment.shape != parameter.shape or moment.stride() != parameter.stride():
                    raise ValueError(name)

    def export(self, path: Path, metadata: Mapping[str, object], half: bool) -> None:
        """Write the moving average as safetensors, whole or not at all, in float32 or (half) float16.

        metadata: for the file's header, as JSON unless they are strings. Raises InputError if the disk refuses.
        """
        dtype = torch.float16 if half else torch.float32
        tensors: dict[str, Tensor] = {
            name: tensor.to("cpu", dtype).contiguous() for name, tensor in self.ema.state_dict().items()
        }
        header = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
        write_bytes(path, save(tensors, {"format": "pt", **header}))
