"""Ctrl-C in a process of its own: in the midst of a batch on several threads, and of a solve with its gradients."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

TIMES = 12
WORK = {
    "batch": """
f = np.random.default_rng(0).standard_normal((24, 127, 127))
def work():
    return unigrid.solve(f, batch_dims=1).u
""",
    "batch of coefficients": """
f = np.random.default_rng(0).standard_normal((6, 127, 127))
a = 1.0 + np.random.default_rng(1).random(f[0].shape)
def work():
    return unigrid.solve(f, batch_dims=1, coefficient=a).u
""",
    "gradients": """
import torch
f = torch.from_numpy(np.random.default_rng(0).standard_normal((63, 63)))
def work():
    own, c = f.clone().requires_grad_(), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (unigrid.solve(own, reaction=c).u ** 2).sum().backward()
    return np.append(own.grad.numpy(), c.grad.numpy())
""",
}
MAIN = """
expected = work().copy()
kept = work()
for number in range(int(sys.argv[1])):
    try:
        print("working", flush=True)
        while True:
            work()
    except KeyboardInterrupt:
        pass
    right = all(np.array_equal(each, expected) for each in (work(), kept))
    print("right" if right and unigrid.get_num_threads() == 2 else "wrong", flush=True)
"""


@pytest.mark.system
@pytest.mark.skipif(sys.platform == "win32", reason="there, a signal for Ctrl-C goes to all processes of a console")
@pytest.mark.parametrize("kind", WORK)
def test_ctrl_c_ends_the_work_and_leaves_later_work_right(kind):
    if kind == "gradients":
        pytest.importorskip("torch")
    source = f"import sys\nimport numpy as np, unigrid\nunigrid.set_num_threads(2)\n{WORK[kind]}\n{MAIN}"
    child = subprocess.Popen(
        [sys.executable, "-c", source, str(TIMES)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    rng, watchdog = np.random.default_rng(0), threading.Timer(60.0, child.kill)  # where an interrupt is lost
    watchdog.start()
    try:
        for _ in range(TIMES):
            assert child.stdout.readline() == "working\n", child.communicate()[1]
            time.sleep(float(rng.uniform(0.0, 0.08)))
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "right\n", child.communicate()[1]
        assert child.wait(60) == 0
    finally:
        watchdog.cancel()
        child.kill()
        child.communicate()
