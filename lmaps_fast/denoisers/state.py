"""Files of weights: read without running code, and checked against the network that they are for."""

import os
import pickle

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lmaps_fast.errors import InputError

AVERAGED, RAW = "ema", "net"


def read_state(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a checkpoint of torch, which is not allowed to run code.

    Of a checkpoint of training, with its averaged weights under "ema" and the raw ones under "net", the averaged ones.
    """
    try:
        safe = str(path).endswith(".safetensors")
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: the file holds more than weights or is damaged, and loading it could run code: get it from its "
            f"publisher, or save its weights alone"
        ) from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise InputError(f"{path}: this is not a whole checkpoint ({str(error).splitlines()[0]})") from None
    if isinstance(state, dict):
        inner = state.get(AVERAGED, state.get(RAW))
        state = inner if isinstance(inner, dict) else state
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise InputError(f"{path}: a checkpoint must be a dictionary of tensors: save its weights alone")
    return state


@torch.inference_mode(False)  # weights that are made inside could have no gradients outside
def load_exactly(network: nn.Module, state: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Give a network, which may be on the device "meta", copies of these tensors: floating ones in float32.

    Args:
        network: any, whose own weights are dropped. Made on "meta" it draws no random numbers, unlike elsewhere.
        state: with the keys and shapes of the network.
        path: the file, for the message.

    Raises:
        InputError: naming what differs, for other keys or shapes.
    """
    own = network.state_dict()
    shapes = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    for what, keys in (
        ("it lacks", own.keys() - state.keys()),
        ("it also has", state.keys() - own.keys()),
        ("of another shape is", shapes),
    ):
        if keys:
            first = ", ".join(sorted(keys)[:3])
            raise InputError(f"{path}: these are the weights of another network: {what} {first} ({len(keys)} in all)")
    copies = {key: t.to(torch.float32 if t.is_floating_point() else t.dtype, copy=True) for key, t in state.items()}
    network.load_state_dict(copies, assign=True)
