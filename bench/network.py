"""One call of the network of "natural" on a CPU, by how it is run: `python bench/network.py FOLDER_OF_PHOTOGRAPHS`

Interleaved, medians; beside each the PSNR that it costs at sigma 25/255 against float32. OpenVINO and ONNX Runtime are
timed where they are installed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from lmaps_fast.apps import evaluate
from lmaps_fast.denoisers import EDM
from lmaps_fast.denoisers.natural import WEIGHTS, read_network

SIDE, ROUNDS = 256, 15


class Exported(torch.nn.Module):
    """The network as another runtime calls it: run(x, c_noise) on numpy arrays."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def forward(self, x, c_noise):
        return torch.from_numpy(self.run(x.contiguous().numpy(), c_noise.numpy()))


def openvino(path):
    import openvino

    compiled = openvino.compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    return Exported(lambda *inputs: compiled(inputs)[0])


def onnxruntime(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return Exported(lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0])


def candidates(folder):
    """Name and denoiser, or the reason why there is none."""
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        yield f"{name}, channels_last", EDM(read_network(WEIGHTS), dtype=dtype)
        compiled = EDM(read_network(WEIGHTS), dtype=dtype)
        compiled.network = torch.compile(compiled.network)
        yield f"{name}, channels_last, torch.compile", compiled
    contiguous = EDM(read_network(WEIGHTS))
    contiguous.network.to(memory_format=torch.contiguous_format)
    yield "float32, contiguous", contiguous
    path = folder / "network.onnx"
    x, c_noise = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1)
    for name, make in (("OpenVINO", openvino), ("ONNX Runtime", onnxruntime)):
        try:
            if not path.exists():
                torch.onnx.export(read_network(WEIGHTS).eval(), (x, c_noise), str(path), dynamo=True)
            denoiser = EDM(torch.nn.Identity())
            denoiser.network = make(path)
            yield name, denoiser
        except ImportError as error:
            yield name, str(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="folder of photographs, of which the middle 256x256 is taken")
    photographs = [evaluate.centre(x, SIDE) for _, x in evaluate.photographs(parser.parse_args().images)]
    photographs = [x for x in photographs if x.shape[2:] == (SIDE, SIDE)]
    x = torch.randn(1, 3, SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        runs, times, psnr = {}, {}, {}
        for name, denoiser in candidates(Path(folder)):
            if isinstance(denoiser, str):
                print(f"{name}: not timed, {denoiser}")
                continue
            for threads in (1, 2) if name.endswith("channels_last") else (2,):
                runs[f"{name}, {threads} threads"] = (denoiser, threads)
            psnr[name] = evaluate.evaluate(denoiser, photographs, (25 / 255,))[25 / 255]
        for _ in range(ROUNDS):
            for name, (denoiser, threads) in runs.items():
                torch.set_num_threads(threads)
                start = time.perf_counter()
                denoiser(x, 0.5)
                times.setdefault(name, []).append(time.perf_counter() - start)
    exact = psnr["float32, channels_last"]
    for name, seconds in times.items():
        cost = exact - psnr[name.rpartition(",")[0]]
        print(f"{name:48} {statistics.median(seconds) * 1e3:8.1f} ms, {cost:.3f} dB below float32")


if __name__ == "__main__":
    main()
