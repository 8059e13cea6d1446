"""Downloads from a server on this machine: whole, broken off and continued, wrong, missing."""

import contextlib
import hashlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from unigrid.training.data import archives, download
from unigrid.training.data.archives import DatasetError
from unigrid.training.data.datasets import load

BODY = np.random.default_rng(0).integers(256, size=300_001, dtype=np.uint8).tobytes()
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """What the server does is set by the test on the server object."""

    def do_GET(self):
        site = self.server.site
        asked = self.headers.get("Range")
        site.requests.append((self.path, asked))
        site.agents.append(self.headers.get("User-Agent"))
        body = site.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + site.shift}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        sent = site.breaks.pop(0) if site.breaks else len(body)
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[start : start + sent])

    def log_message(self, *arguments):
        pass


class Site:
    def __init__(self, url):
        self.url = url
        self.files = {"/data.bin": BODY}
        self.requests, self.agents = [], []
        self.breaks = []  # after how many bytes each next answer breaks off
        self.ranges = True
        self.shift = 0  # by how much it answers with another range than was asked for

    @property
    def asked(self):
        return [asked for _, asked in self.requests]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = Site(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "data.bin"


@pytest.fixture
def part(path):
    return path.with_name("data.bin.part")


def fetch(site, path, name="data.bin"):
    download.fetch(site.url + name, path, len(BODY), MD5)


def failure(*arguments, **keywords):
    with pytest.raises(DatasetError) as error:
        fetch(*arguments, **keywords)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_file_is_fetched_whole(site, path):
    fetch(site, path)
    assert path.read_bytes() == BODY
    assert [each.name for each in path.parent.iterdir()] == ["data.bin"]
    assert site.requests == [("/data.bin", None)]
    assert site.agents[0].startswith("unigrid/")


def test_what_broke_off_is_kept_and_continued(site, path, part):
    site.breaks = [100_000, 50_000]
    text = failure(site, path)
    assert text.startswith(f"{path}: {site.url}data.bin failed (broken off after 100000 of 300001 bytes)")
    assert "100000 bytes are kept, run the same command again to continue" in text
    assert part.read_bytes() == BODY[:100_000]
    assert not path.exists()
    assert "broken off after 150000 of 300001" in failure(site, path)
    fetch(site, path)
    assert path.read_bytes() == BODY
    assert not part.exists()
    assert site.asked == [None, "bytes=100000-", "bytes=150000-"]


@pytest.mark.parametrize("behavior", ["no ranges", "another range"])
def test_a_server_that_does_not_continue_begins_anew(site, path, part, behavior):
    site.breaks = [100_000]
    failure(site, path)
    if behavior == "no ranges":
        site.ranges = False
        fetch(site, path)
        assert path.read_bytes() == BODY
        assert site.asked == [None, "bytes=100000-"]
    else:  # what it sends is not where the part ends, so it must not be appended
        site.shift = 7
        assert "broken off after 200001" in failure(site, path)
        assert part.read_bytes() == BODY[100_000:]
        assert not path.exists()


def test_a_wrong_file_is_removed_and_the_next_try_begins_anew(site, path, part):
    site.files["/data.bin"] = BODY[:-1] + bytes([BODY[-1] ^ 1])
    text = failure(site, path)
    assert f"instead of {MD5}; it was removed" in text
    assert not path.exists()
    assert not part.exists()
    site.files["/data.bin"] = BODY
    fetch(site, path)
    assert path.read_bytes() == BODY


def test_a_part_of_another_file_is_found_out(site, path, part):
    part.parent.mkdir()
    part.write_bytes(bytes(1000))
    assert "it was removed" in failure(site, path)
    assert not part.exists()
    fetch(site, path)
    assert path.read_bytes() == BODY


def test_a_whole_part_needs_no_server(site, path, part):
    part.parent.mkdir()
    part.write_bytes(BODY)
    fetch(site, path)
    assert path.read_bytes() == BODY
    assert site.requests == []


def test_an_endless_file_is_cut_off(site, path, part):
    site.files["/data.bin"] = BODY * 20
    read = []
    original = download._md5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "_md5", lambda file: read.append(file.stat().st_size) or original(file))
        assert "it was removed" in failure(site, path)
    assert read == [len(BODY) + 1]
    assert not part.exists()


def test_a_part_longer_than_what_the_site_has_is_given_up(site, path, part):
    site.files["/data.bin"] = BODY[:1000]
    part.parent.mkdir()
    part.write_bytes(BODY[:2000])
    assert "failed (HTTP 416" in failure(site, path)
    assert not part.exists()


def test_a_missing_file_is_one_line(site, path):
    text = failure(site, path, name="other.bin")
    assert text.startswith(f"{path}: {site.url}other.bin failed (HTTP 404 Not Found)")
    assert not path.exists()


def test_no_server_is_one_line(path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/data.bin"
    with pytest.raises(
        DatasetError, match=r"/data.bin failed \(.*refused.*\); try again later, or put the file there"
    ) as error:
        download.fetch(url, path, 10, MD5)
    assert "\n" not in str(error.value)


def test_a_server_that_falls_silent_is_one_line(path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/data.bin"
        with pytest.raises(DatasetError, match="timed out"):
            download.fetch(url, path, 10, MD5)


def test_a_full_disk_is_one_line(site, path, part, monkeypatch):
    def full(answer, file, size, bar):
        file.write(answer.read(1000))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_copy", full)
    text = failure(site, path)
    assert text.startswith(f"{path}: cannot be written (No space left on device); 1000 bytes are kept")
    assert not path.exists()


def test_a_folder_that_is_a_file_is_one_line(site, tmp_path):
    (tmp_path / "folder").touch()
    assert "cannot be written" in failure(site, tmp_path / "folder" / "data.bin")


def test_ctrl_c_leaves_a_part_that_is_continued(site, path, part, monkeypatch):
    original = download._copy

    def interrupted(answer, file, size, bar):
        file.write(answer.read(70_000))
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(site, path)
    assert part.stat().st_size == 70_000
    assert not path.exists()
    monkeypatch.setattr(download, "_copy", original)
    fetch(site, path)
    assert path.read_bytes() == BODY
    assert site.asked[-1] == "bytes=70000-"


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown_on_a_terminal_only(site, path, capsys, monkeypatch, terminal):
    site.breaks = [100_000]
    failure(site, path)
    capsys.readouterr()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    fetch(site, path)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("data.bin" in printed.err and "100%" in printed.err) == terminal
    assert bool(printed.err) == terminal


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "mnist"])
def test_a_data_set_is_fetched_and_found(site, tmp_path, monkeypatch, published, compress, dataset):
    """From the site's own files to images in memory, by the public call; only the addresses and hashes are the test's."""
    small = published(dataset)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if dataset == "mnist":
        folder = small.folder(elsewhere)
        compress(folder)
    else:
        small.archive(elsewhere)
        folder = elsewhere
    remotes = []
    for remote in download.REMOTES[dataset]:
        data = (folder / remote.name.rpartition("/")[2]).read_bytes()
        site.files["/" + remote.name.rpartition("/")[2]] = data
        remotes.append(download.Remote(remote.name, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()))
    monkeypatch.setitem(download.REMOTES, dataset, tuple(remotes))
    monkeypatch.setitem(download.SITES, dataset, site.url)
    site.breaks = [1000]
    with pytest.raises(DatasetError, match="broken off after 1000"):
        load(dataset, tmp_path / "data", download=True)
    data = load(dataset, tmp_path / "data", download=True)
    assert np.array_equal(data.train.images.numpy(), small.train[0])
    assert np.array_equal(data.test.labels.numpy(), small.test[1])
    assert len(site.requests) == len(remotes) + 1
    load(dataset, tmp_path / "data", download=True)
    assert len(site.requests) == len(remotes) + 1  # nothing is fetched twice
    (tmp_path / "data" / remotes[-1].name).unlink()
    load(dataset, tmp_path / "data", download=True)
    assert len(site.requests) == len(remotes) + 2  # nor what is there of several files


def test_addresses_and_hashes_are_the_published_ones():
    assert download.SITES["cifar10"] == download.SITES["cifar100"] == "https://www.cs.toronto.edu/~kriz/"
    assert set(download.REMOTES) == set(download.SITES) == set(archives.LAYOUTS)
    for dataset, remotes in download.REMOTES.items():
        for layout in archives.LAYOUTS[dataset][:1]:  # what is fetched is what is then looked for
            places = {f"{folder}/{known.name}.gz" for folder in layout.folders for known in layout.files} | {layout.archive}
            assert {remote.name for remote in remotes} <= places
        assert all(len(remote.md5) == 32 and int(remote.md5, 16) for remote in remotes)
    assert [download.megabytes(dataset) for dataset in ("cifar10", "cifar100", "mnist")] == [171, 170, 12]
