"""Download published data sets from their own sites: resumable, checked, and under the final name only when complete.

Source: https://www.cs.toronto.edu/~kriz/cifar.html for CIFAR and the MD5 of its archives; torchvision's list for MNIST.
"""

from __future__ import annotations

import hashlib
import http
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from tqdm import tqdm

from ...files import one_line
from ...version import __version__
from .archives import DatasetError

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte


@final
@dataclass(frozen=True)
class Remote:
    """A file on a site: where it goes below the data folder, its size in bytes and its MD5."""

    name: str
    size: int
    md5: str


SITES = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
    "cifar100": "https://www.cs.toronto.edu/~kriz/",
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
}
REMOTES = {
    "cifar10": (Remote("cifar-10-python.tar.gz", 170498071, "c58f30108f718f92721af3b95e74349a"),),
    "cifar100": (Remote("cifar-100-python.tar.gz", 169001437, "eb9058c3a382ffc7106e4002c42a8d85"),),
    "mnist": (
        Remote("MNIST/raw/train-images-idx3-ubyte.gz", 9912422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        Remote("MNIST/raw/train-labels-idx1-ubyte.gz", 28881, "d53e105ee54ea40749a09fcbcd1e9432"),
        Remote("MNIST/raw/t10k-images-idx3-ubyte.gz", 1648877, "9fb629c4189551a2d022fa330f9573f3"),
        Remote("MNIST/raw/t10k-labels-idx1-ubyte.gz", 4542, "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
}


def megabytes(dataset: str) -> int:
    """Return the size of a data set's download, rounded up."""
    return -(-sum(remote.size for remote in REMOTES[dataset]) // 10**6)


def fetch_dataset(dataset: str, directory: Path) -> None:
    """Download the missing files of a data set into a directory, which is created if necessary."""
    for remote in REMOTES[dataset]:
        path = directory / remote.name
        if not path.exists():
            fetch(SITES[dataset] + path.name, path, remote.size, remote.md5)


def fetch(url: str, path: Path, size: int, md5: str) -> None:
    """Download a file, which takes its name once its MD5 is checked. An interrupted transfer, kept in `.part`, is continued.

    Raises DatasetError if the site cannot be reached or does not have the file, if the transfer breaks off (its part is kept),
    if the disk is full, or if the file is not the published one (it is then removed).
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not part.exists() or part.stat().st_size < size:
            _transfer(url, part, size)
        found = _md5(part)
        if found != md5:
            part.unlink()
            raise DatasetError(f"{path}: what {url} sent has MD5 {found} instead of {md5}; it was removed, try once more")
        os.replace(part, path)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # the part is longer than the site's file
            part.unlink(missing_ok=True)
        raise DatasetError(f"{path}: {url} failed (HTTP {error.code} {error.reason}); {_advice(part)}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = one_line(getattr(error, "reason", None) or error)
        raise DatasetError(f"{path}: {url} failed ({reason}); {_advice(part)}") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror or error}); {_advice(part)}") from None


def _transfer(url: str, part: Path, size: int) -> None:
    """Append the rest to the part; start from the beginning where the server does not send ranges."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"unigrid/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        looks: dict[str, Any] = {"unit": "B", "unit_scale": True, "dynamic_ncols": True, "disable": None}  # None: on a terminal
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(desc=part.stem, total=size, initial=file.tell(), **looks) as bar,
        ):
            _copy(answer, file, size, bar)


def _copy(answer: Any, file: BinaryIO, size: int, bar: Any) -> None:
    """Copy until the end of the answer; a file that is too long is cut off, and its hash is then wrong."""
    while data := answer.read(min(CHUNK, size + 1 - file.tell())):
        file.write(data)
        bar.update(len(data))
    if file.tell() < size:
        raise ConnectionError(f"broken off after {file.tell()} of {size} bytes")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _advice(part: Path) -> str:
    if part.exists():
        return f"{part.stat().st_size} bytes are kept, run the same command again to continue"
    return "try again later, or put the file there by other means"
