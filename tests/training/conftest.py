"""Data sets of a few images in the published forms, made by hand: pickles as Python 2 wrote them, records, idx files."""

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from unigrid.training.data import archives

BATCH = {"cifar10": 12, "cifar100": 130, "mnist": 15}  # images per file


@pytest.fixture
def one_thread():
    """Networks for Poisson problems are tiny."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def noisy():
    """noisy(seed, size, **config): a `PoissonNet` whose every number is something else than where it begins."""
    return _noisy


def _noisy(seed=0, size=0.03, **config):
    torch, training = pytest.importorskip("torch"), pytest.importorskip("unigrid.training")
    net, generator = training.PoissonNet(**config), torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data += size * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return net


@pytest.fixture
def python2_pickle():
    """python2_pickle({"data": array, "labels": [3, 1]}) -> what Python 2 wrote, opcode by opcode."""
    return _pickle


@pytest.fixture
def published(monkeypatch, rng):
    """published("cifar10", 0) -> the small files of that layout and what is in them; from then on they are the canonical ones.

    .files: name -> bytes, .train and .test: (images, labels), .layout, .folder(where) and .archive(where) write them.
    """

    def make(dataset, number=0):
        layout = archives.LAYOUTS[dataset][number]
        made = [_split(rng, dataset, number, part) for part in (layout.train, layout.test)]
        files = {name: data for split in made for name, data in split.files.items()}
        train, test = (tuple(_known(known, files[known.name]) for known in part) for part in layout_parts(layout))
        layout = replace(layout, train=train, test=test)
        layouts = list(archives.LAYOUTS[dataset])
        layouts[number] = layout
        monkeypatch.setitem(archives.LAYOUTS, dataset, tuple(layouts))
        contents = SimpleNamespace(files=files, train=made[0].pair, test=made[1].pair, layout=layout)
        contents.folder = lambda where: _write_folder(where / layout.folders[0], files)
        contents.archive = lambda where, names=None: _write_archive(where / layout.archive, layout.folders[0], files, names)
        return contents

    return make


def layout_parts(layout):
    return layout.train, layout.test


def _known(known, data):
    return replace(known, size=len(data), md5=hashlib.md5(data, usedforsecurity=False).hexdigest())


def _write_folder(folder, files):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def _write_archive(path, folder, files, names):
    with tarfile.open(path, "w:gz") as archive:
        extra = {"readme.html": b"<html>", "file.txt~": b"x"}  # there are such in the published archives, too
        for name, data in {**extra, **files}.items():
            if names is None or name in names:
                member = tarfile.TarInfo(f"{folder}/{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def _split(rng, dataset, number, known):
    if dataset == "mnist":
        return _mnist(rng, known)
    count, classes = BATCH[dataset], {"cifar10": 10, "cifar100": 100}[dataset]
    files, images, labels = {}, [], []
    for each in known:
        images.append(rng.integers(256, size=(count, 3, 32, 32), dtype=np.uint8))
        labels.append(rng.permutation(np.arange(count) % classes))
        coarse = rng.integers(20, size=count)
        if number == 0:
            batch = {"batch_label": "training batch", "data": images[-1].reshape(count, 3072)}
            names = ["labels"] if dataset == "cifar10" else ["fine_labels", "coarse_labels"]
            batch |= dict(zip(names, (labels[-1].tolist(), coarse.tolist()), strict=False))
            files[each.name] = _pickle(batch)
        else:
            columns = [labels[-1]] if dataset == "cifar10" else [coarse, labels[-1]]
            records = [np.stack(columns, 1).astype(np.uint8), images[-1].reshape(count, 3072)]
            files[each.name] = np.concatenate(records, 1).tobytes()
    return SimpleNamespace(files=files, pair=(np.concatenate(images), np.concatenate(labels)))


def _mnist(rng, known):
    images = rng.integers(256, size=(BATCH["mnist"], 28, 28), dtype=np.uint8)
    labels = rng.integers(10, size=BATCH["mnist"], dtype=np.uint8)
    files = {
        known[0].name: struct.pack(">IIII", 0x803, *images.shape) + images.tobytes(),
        known[1].name: struct.pack(">II", 0x801, len(labels)) + labels.tobytes(),
    }
    return SimpleNamespace(files=files, pair=(images[:, None], labels))


@pytest.fixture
def compress():
    """compress(folder): every file in it becomes a .gz."""

    def run(folder):
        for path in list(folder.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
            path.unlink()

    return run


def _pickle(batch):
    out = [b"\x80\x02}("]
    for key, value in batch.items():
        out.append(_text(key))
        if isinstance(value, str):
            out.append(_text(value))
        elif isinstance(value, np.ndarray):
            out.append(_array(value))
        else:
            out.append(b"](" + b"".join(b"J" + struct.pack("<i", item) for item in value) + b"e")
    return b"".join(out) + b"u."


def _text(text):
    return b"U" + bytes([len(text)]) + text.encode()


def _array(array):
    kind = array.dtype.str[1:]
    shape = b"".join(b"J" + struct.pack("<i", length) for length in array.shape)
    return b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85",
            _text("b"),
            b"\x87R(K\x01(" + shape + b"tcnumpy\ndtype\n",
            _text(kind),
            b"K\x00K\x01\x87R(K\x03" + _text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<i", array.nbytes) + array.tobytes(),
            b"tb",
        ]
    )
