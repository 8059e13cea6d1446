"""One thread for small networks, and afterwards as many as before, whoever else asked for one meanwhile."""

import threading

import pytest
import torch

from unigrid.conv.threads import one_thread


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_one_after_the_other(four_threads):
    for error in (None, ZeroDivisionError):
        try:
            with one_thread():
                assert torch.get_num_threads() == 1
                if error:
                    raise error
        except ZeroDivisionError:
            pass
        assert torch.get_num_threads() == 4


@pytest.mark.parametrize("first", ["leaves first", "leaves last"])
def test_several_at_once_leave_the_number_that_was_there(four_threads, first):
    together, apart = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30)
    seen = []

    def run(leaves_first):
        with one_thread():
            together.wait()
            seen.append(torch.get_num_threads())
            if not leaves_first:
                apart.wait()
        if leaves_first:
            apart.wait()
        apart.wait()
        seen.append(torch.get_num_threads())

    threads = [
        threading.Thread(target=run, args=[flag]) for flag in ((True, False) if first == "leaves first" else (False, True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    new = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    new.start()
    new.join()
    assert seen == [1, 1, 4, 4, 4]
    assert torch.get_num_threads() == 4
