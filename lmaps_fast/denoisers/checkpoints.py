"""Fetching public checkpoints, on an explicit command only."""

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lmaps_fast.errors import InputError

BLOCK = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A public file: sha256 and size in bytes as its users report them; None where there is no such report."""

    file: str
    url: str
    sha256: str | None
    size: int | None


CHECKPOINTS = {
    "ffhq": Checkpoint(
        "ffhq_10m.pt",
        "https://drive.usercontent.google.com/download?id=1BGwhRWUoguF-D8wlZ65tf227gp3cDUDh&confirm=t",
        None,
        None,
    ),
    "imagenet": Checkpoint(
        "256x256_diffusion_uncond.pt",
        "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt",
        "a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
        2_211_383_297,
    ),
}


def folder() -> Path:
    """Where checkpoints lie: the environment variable LMAPS_FAST_MODELS, or ~/.cache/lmaps_fast."""
    return Path(os.environ.get("LMAPS_FAST_MODELS") or Path.home() / ".cache" / "lmaps_fast")


def download(name: str, sha256: str | None = None, to: Path | None = None) -> Path:
    """Fetch a public checkpoint and check it. A transfer that broke off is taken up again.

    Args:
        name: a name of `CHECKPOINTS`.
        sha256: what the file must hash to, where none is published (of "ffhq"), or in place of the published one.
        to: a folder; default: `folder()`.

    Returns: the path of the file. Nothing is fetched if it is there already.
    Errors: InputError for an unknown name, without a connection, and where the file is not what it should be (it is
    removed then).
    """
    if name not in CHECKPOINTS:
        raise InputError(f"unknown checkpoint {name!r}: choose one of {', '.join(CHECKPOINTS)}")
    checkpoint = CHECKPOINTS[name]
    target = (to or folder()) / checkpoint.file
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    _fetch(checkpoint.url, part, checkpoint.file)
    digest, wanted = _sha256(part), sha256 or checkpoint.sha256
    if wanted is not None and digest != wanted.lower():
        part.unlink()
        raise InputError(f"{checkpoint.url}: the file has SHA-256 {digest}, not {wanted}, and was removed: try again")
    part.replace(target)
    print(f"SHA-256 {digest}" + ("" if wanted else ", which is checked against nothing: none is published"))
    return target


def _fetch(url: str, part: Path, title: str) -> None:
    """Append to `part` what is missing of the file at url."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if done and answer.status != 206:  # the server begins anew
                done = 0
            rest = int(answer.headers.get("Content-Length") or 0)
            with (
                open(part, "ab" if done else "wb") as file,
                tqdm(total=done + rest or None, initial=done, unit="B", unit_scale=True, desc=title) as bar,
            ):
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # there is nothing after what we have: it is whole
            raise InputError(f"{url}: the server answers {error.code} {error.reason}: fetch it by hand") from None
    except (OSError, urllib.error.URLError) as error:
        raise InputError(f"{url}: the transfer broke off ({error}): run the command again to go on") from None
    else:
        if rest and part.stat().st_size < done + rest:
            raise InputError(f"{url}: the transfer broke off: run the command again to go on")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
