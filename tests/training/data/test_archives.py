"""The published files: found, checked, read; damaged and malicious ones refused."""

import builtins
import contextlib
import gzip
import os
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from unigrid.training.data import archives
from unigrid.training.data.archives import DatasetError, find, incomplete, read, unpickle

FORMS = [("cifar10", 0), ("cifar10", 1), ("cifar100", 0), ("cifar100", 1), ("mnist", 0)]
WITH_ARCHIVE = FORMS[:4]


def refusal(function, *arguments):
    """Return the text of the DatasetError that a call ends in: always one line."""
    with pytest.raises(DatasetError) as error:
        function(*arguments)
    text = str(error.value)
    assert "\n" not in text
    return text


def assert_same(pair, expected):
    for array, other in zip(pair, expected, strict=True):
        assert array.dtype == np.uint8
        assert np.array_equal(array, other)


@pytest.mark.parametrize(("dataset", "number"), FORMS)
@pytest.mark.parametrize("inside", [False, True])
def test_folders_are_read(tmp_path, published, dataset, number, inside):
    small = published(dataset, number)
    folder = small.folder(tmp_path)
    train, test = read(find(archives.LAYOUTS[dataset], folder if inside else tmp_path))
    assert_same(train, small.train)
    assert_same(test, small.test)


@pytest.mark.parametrize(("dataset", "number"), WITH_ARCHIVE)
@pytest.mark.parametrize("inside", [False, True])
def test_archives_are_read_in_place(tmp_path, published, dataset, number, inside):
    small = published(dataset, number)
    path = small.archive(tmp_path)
    train, test = read(find(archives.LAYOUTS[dataset], path if inside else tmp_path))
    assert_same(train, small.train)
    assert_same(test, small.test)
    assert os.listdir(tmp_path) == [path.name]


def test_mnist_is_read_compressed_too(tmp_path, published, compress):
    small = published("mnist")
    compress(small.folder(tmp_path))
    train, test = read(find(archives.LAYOUTS["mnist"], tmp_path))
    assert_same(train, small.train)
    assert_same(test, small.test)


def test_a_whole_archive_comes_before_a_folder_with_holes(tmp_path, published):
    small = published("cifar10")
    folder = small.folder(tmp_path)
    (folder / "data_batch_3").unlink()
    layouts = archives.LAYOUTS["cifar10"]
    assert find(layouts, tmp_path) is None
    assert incomplete(layouts, tmp_path) == f"{folder} lacks data_batch_3"
    small.archive(tmp_path)
    assert_same(read(find(layouts, tmp_path))[0], small.train)


def test_nothing_is_found_where_nothing_is(tmp_path):
    (tmp_path / "train").mkdir()  # a folder of the name of a file of CIFAR-100
    (tmp_path / "test").mkdir()
    for layouts in archives.LAYOUTS.values():
        assert find(layouts, tmp_path) is None
        assert incomplete(layouts, tmp_path) is None


@pytest.mark.parametrize(("dataset", "number"), FORMS)
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_flipped_byte_is_noticed(tmp_path, published, dataset, number, where):
    small = published(dataset, number)
    folder = small.folder(tmp_path)
    for known in small.layout.files:
        data = bytearray(small.files[known.name])
        data[100 if where == "first" and known.size > 100 else -3] ^= 1
        (folder / known.name).write_bytes(data)
        text = refusal(read, find(archives.LAYOUTS[dataset], tmp_path))
        assert f"{folder / known.name}: damaged, or not the canonical file: its MD5" in text
        (folder / known.name).write_bytes(small.files[known.name])
    read(find(archives.LAYOUTS[dataset], tmp_path))


@pytest.mark.parametrize(("dataset", "number"), FORMS)
@pytest.mark.parametrize("records", [1, 0])
def test_truncated_and_longer_files_are_refused(tmp_path, published, dataset, number, records):
    small = published(dataset, number)
    folder = small.folder(tmp_path)
    known = small.layout.test[0]
    lost = {"cifar10": 3073, "cifar100": 3074, "mnist": 784}[dataset] if records else 5  # whole records look like whole files
    (folder / known.name).write_bytes(small.files[known.name][:-lost])
    text = refusal(read, find(archives.LAYOUTS[dataset], tmp_path))
    assert f"{known.name}: truncated, or not the canonical file: {known.size - lost} bytes instead of {known.size}" in text
    (folder / known.name).write_bytes(small.files[known.name] + bytes(lost))
    assert f"more than its {known.size} bytes" in refusal(read, find(archives.LAYOUTS[dataset], tmp_path))


def test_a_file_under_the_name_of_another_is_recognized(tmp_path, published):
    small = published("cifar10", 1)
    folder = small.folder(tmp_path)
    shutil.copy(folder / "test_batch.bin", folder / "data_batch_2.bin")
    text = refusal(read, find(archives.LAYOUTS["cifar10"], tmp_path))
    assert "data_batch_2.bin: mislabelled: this is the canonical test_batch.bin" in text


@pytest.mark.parametrize("kept", [0, 10, 1000, -1000])
def test_truncated_archives_are_refused(tmp_path, published, kept):
    path = published("cifar10").archive(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{path}: truncated or damaged" in refusal(read, find(archives.LAYOUTS["cifar10"], tmp_path))


def test_archives_that_lack_a_file_or_hold_another_are_refused(tmp_path, published):
    small = published("cifar10")
    names = sorted(set(small.files) - {"test_batch"})
    path = small.archive(tmp_path, names)
    assert f"{path}: truncated, or another archive: without test_batch" in refusal(
        read, find(archives.LAYOUTS["cifar10"], tmp_path)
    )
    small.files["test_batch"] = small.files["data_batch_1"]
    small.archive(tmp_path)
    assert "test_batch: mislabelled: this is the canonical data_batch_1" in refusal(
        read, find(archives.LAYOUTS["cifar10"], tmp_path)
    )


def test_a_damaged_compressed_file_is_named(tmp_path, published, compress):
    small = published("mnist")
    folder = small.folder(tmp_path)
    compress(folder)
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path}: truncated or damaged" in refusal(read, find(archives.LAYOUTS["mnist"], tmp_path))


def test_a_file_that_unpacks_to_too_much_is_not_unpacked_whole(tmp_path, published, monkeypatch):
    small = published("mnist")
    folder = small.folder(tmp_path)
    name = "t10k-images-idx3-ubyte"
    (folder / name).unlink()
    (folder / f"{name}.gz").write_bytes(gzip.compress(bytes(30_000_000)))
    asked, original = [], gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda file, size=-1: asked.append(size) or original(file, size))
    assert "not the canonical file: more than its" in refusal(read, find(archives.LAYOUTS["mnist"], tmp_path))
    assert asked == [len(small.files[name]) + 1]


def test_unreadable_files_are_one_line(tmp_path, published, monkeypatch):
    published("cifar10").folder(tmp_path)

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(archives, "open", refuse, raising=False)
    text = refusal(read, find(archives.LAYOUTS["cifar10"], tmp_path))
    assert text.endswith("cifar-10-batches-py: cannot be read (Permission denied)")


# The unpickler.

PIXELS = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)


def batch(**changes):
    return {"batch_label": "training batch 1 of 5", "labels": [3, 9], "data": PIXELS} | changes


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_pickled_by_python_3_are_read(protocol):
    assert np.array_equal(unpickle(pickle.dumps(batch(), protocol))["data"], PIXELS)


def test_an_array_pickled_by_columns_keeps_its_order():
    assert np.array_equal(unpickle(pickle.dumps(batch(data=np.asfortranarray(PIXELS)), 2))["data"], PIXELS)


def test_batches_pickled_by_python_2_are_read_without_a_warning(python2_pickle):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = unpickle(python2_pickle(batch()))
    assert np.array_equal(found[b"data"], PIXELS)
    assert found[b"labels"] == [3, 9]


class Attack:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def attacks(flag):
    """Return pickles that would make a folder if anything in them ran."""
    code = f"__import__('os').mkdir({str(flag)!r})"
    return {
        "os.system": pickle.dumps(Attack(os.system, f"mkdir {flag}")),
        "eval": pickle.dumps(Attack(builtins.eval, code)),
        "exec, protocol 0": pickle.dumps(Attack(builtins.exec, code), 0),
        "mkdir inside a batch": pickle.dumps(batch(labels=Attack(os.mkdir, str(flag))), 2),
        "python 2's builtins": f"c__builtin__\neval\n(V{code}\ntR.".encode(),
        "by INST": f"(V{flag}\nios\nmkdir\n.".encode(),
        "by OBJ": f"(cos\nmkdir\nV{flag}\no.".encode(),
        "a path of attributes": b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__class__.x\x93.",
        "numpy.save": f"cnumpy\nsave\n(V{flag}\nI1\ntR.".encode(),
        "numpy's loader": f"cnumpy.testing._private.utils\nrunstring\n(V{code}\n}}tR.".encode(),
        "numpy's f2py": f"cnumpy.f2py.crackfortran\nmyeval\n(V{code}\ntR.".encode(),
        "the unpickler's own getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nV__class__\ntR.",
        "copyreg": b"ccopyreg\n_reconstructor\n(cnumpy\nndarray\nNNtR.",
        "a codec that runs": b"c_codecs\nencode\n(Vx\nVzlib_codec\ntR.",
        "the state of a function": b"c_codecs\nencode\n(d(S'__defaults__'\n(I1\ntsS'a'\nI1\ntb.",
    }


@pytest.mark.parametrize("name", attacks("flag"))
def test_a_malicious_pickle_runs_nothing(tmp_path, name):
    flag = tmp_path / "flag"
    with contextlib.suppress(Exception):
        unpickle(attacks(flag)[name])
    assert not flag.exists()


def test_the_attacks_work_on_an_ordinary_unpickler(tmp_path):
    """Otherwise the test above would show nothing."""
    for name in ("os.system", "eval", "exec, protocol 0", "mkdir inside a batch", "python 2's builtins", "by INST", "by OBJ"):
        flag = tmp_path / "flag"
        pickle.loads(attacks(flag)[name])
        assert flag.is_dir(), name
        flag.rmdir()


def test_the_refusal_names_what_the_pickle_asks_for(tmp_path):
    module = os.system.__module__
    with pytest.raises(pickle.UnpicklingError, match=f"it names {module}.system, which no CIFAR file needs"):
        unpickle(attacks(tmp_path / "flag")["os.system"])


@pytest.mark.parametrize(
    "data",
    [
        b"(Va\nc_codecs\nencode\n(dS'__defaults__'\n(I1\ntsbd.",
        b"(Va\ncnumpy\ndtype\n(N(dS'__defaults__'\nN\nstbd.",
        b"(Va\ncnumpy\nndarray\n(N(dS'shape'\nI1\nstbd.",
    ],
)
def test_what_is_allowed_can_be_called_and_not_changed(data):
    with contextlib.suppress(Exception):
        unpickle(data)
    assert np.array_equal(unpickle(pickle.dumps(batch(), 2))["data"], PIXELS)  # the next one finds all as it was


def test_a_malicious_file_among_the_data_is_not_even_opened_as_a_pickle(tmp_path, published, monkeypatch):
    folder = published("cifar10").folder(tmp_path)
    (folder / "data_batch_1").write_bytes(attacks(tmp_path / "flag")["os.system"])
    monkeypatch.setattr(archives, "unpickle", lambda *arguments: pytest.fail("the hash was not checked first"))
    refusal(read, find(archives.LAYOUTS["cifar10"], tmp_path))
    assert not (tmp_path / "flag").exists()


# The real data, where they are at hand.

REAL = Path(os.environ.get("UNIGRID_DATA") or "nowhere")


def real(dataset, number):
    layout = archives.LAYOUTS[dataset][number]
    if not (REAL / layout.folders[0]).is_dir():
        pytest.skip(f"needs UNIGRID_DATA with {layout.folders[0]}")
    return archives.Found(layout, REAL / layout.folders[0])


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_both_forms_of_the_real_data_are_the_same(dataset):
    forms = [read(real(dataset, number)) for number in (0, 1)]
    for split, count in zip((0, 1), (50000, 10000), strict=True):
        assert_same(forms[0][split], forms[1][split])
        classes = {"cifar10": 10, "cifar100": 100}[dataset]
        assert np.array_equal(np.bincount(forms[0][split][1]), np.full(classes, count // classes))


@pytest.mark.parametrize("number", [0, 1])
def test_a_real_batch_under_the_name_of_another_is_recognized(tmp_path, number):
    found = real("cifar10", number)
    for known in found.layout.files:
        (tmp_path / known.name).symlink_to(found.path / known.name)
    first, second = found.layout.train[:2]
    (tmp_path / first.name).unlink()
    (tmp_path / first.name).symlink_to(found.path / second.name)
    text = refusal(read, archives.Found(found.layout, tmp_path))
    assert f"{first.name}: mislabelled: this is the canonical {second.name}" in text
