"""Multigrid that learns its smoothers: what it has learned, runs that repeat bit for bit, and what goes wrong."""

import copy
import json
import signal

import numpy as np
import pytest
import torch

import unigrid
from unigrid.analysis import measured_factor
from unigrid.conv.weights import load_weights
from unigrid.files import FileError
from unigrid.training import PoissonNet, PoissonNetConfig, PoissonProtocol, TrainingError, anisotropic, load_trained
from unigrid.training.runs import checkpoint
from unigrid.training.solvers.loss import FourierLoss, RandomLoss

D, N, P = "dirichlet", "neumann", "periodic"
pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = unigrid.Poisson((15, 15))
FOURIER = {"protocol": "fourier", "epochs": 3, "steps": 3, "progress": False}
RANDOM = {"protocol": "random", "epochs": 3, "steps": 4, "progress": False}
SHORT = {**RANDOM, "epochs": 1, "steps": 1}
PROTOCOLS = pytest.mark.parametrize("options", [FOURIER, RANDOM], ids=["fourier", "random"])
# What is resumed is shared; that of "fourier" is tested in the fast tier by fewer runs.
RESUMED = pytest.mark.parametrize("options", [pytest.param(FOURIER, marks=pytest.mark.slow), RANDOM], ids=["fourier", "random"])
TIMES = ("seconds",)


# ----------------------------------------------------------------------------------------------------- what it has learned


@pytest.fixture(scope="module")
def trained():
    """18 numbers, 63 x 63 unknowns, three epochs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    result = unigrid.train("poisson", epochs=3, steps=40, progress=False)
    torch.set_num_threads(before)
    return result


@pytest.mark.slow
def test_eighteen_numbers_smooth_as_they_should_on_every_size(trained):
    net = trained.model
    assert sum(parameter.numel() for parameter in net.parameters()) == 18
    factors = {n: measured_factor(net.on(unigrid.Poisson((n, n))), cycles=30) for n in (63, 255, 511)}
    assert factors[255] <= 0.12
    assert factors[511] <= 1.1 * factors[255]
    assert trained.factor == pytest.approx(factors[63], rel=0.05)


@pytest.mark.slow
def test_it_beats_damped_jacobi_and_takes_fewer_cycles(trained, rng):
    f = rng.standard_normal((127, 127))
    learned = unigrid.solve(f, cycle=trained.model, start="zero")
    jacobi = unigrid.solve(f, smoother="jacobi", pre=1, post=1, start="zero")
    assert learned.converged
    assert learned.iterations <= 0.6 * jacobi.iterations


def test_the_result_tells_what_came_out():
    trained = unigrid.train_solver(epochs=3, steps=8, progress=False)
    assert trained.reason == "completed"
    assert trained.folder is trained.checkpoint is None
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]
    assert [row["step"] for row in trained.history] == sorted(row["step"] for row in trained.history)
    for row in trained.history:
        assert row["predicted_factor"] == pytest.approx(row["measured_factor"], rel=0.2)
    assert f"convergence factor {trained.factor:.4f} per cycle; 18 numbers trained in" in str(trained)
    assert trained.model.problem.shape == (63, 63)
    assert trained.seconds == trained.history[-1]["seconds"] > 0


@pytest.mark.slow
def test_learned_for_an_anisotropy_it_beats_jacobi_and_chebyshev_at_equal_work():
    """Per work unit, in which a step of a learned kernel counts twice one of Jacobi, and Chebyshev's its degree."""
    problem = anisotropic(0.1, 127)

    def per_work_unit(cycle):
        return measured_factor(cycle, cycles=50) ** (1 / cycle.work_units)

    learned = unigrid.train(anisotropic(0.1, 63), degree=2, epochs=2, steps=20, progress=False).model
    others = [(unigrid.Jacobi(omega), count) for omega in (0.7, 0.8, 0.9) for count in (1, 2)]
    others += [(unigrid.Chebyshev(degree), 1) for degree in (1, 2, 3)]
    cycles = [unigrid.StencilCycle(problem, smoother=smoother, pre=count, post=count) for smoother, count in others]
    assert per_work_unit(learned.on(problem)) < 0.97 * min(map(per_work_unit, cycles))


# ------------------------------------------------------------------------------------------------------------- runs


def run(folder=None, **options):
    return unigrid.train(options.pop("problems", SMALL), options.pop("model", None), out=folder, **options)


def numbers(result):
    return {name: value.numpy().tobytes() for name, value in result.model.state_dict().items()}


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def bits(value):
    """Make a state comparable by ==: tensors as bytes, times left out."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items() if name not in TIMES}
    return [bits(item) for item in value] if isinstance(value, (list, tuple)) else value


def left_behind(result):
    folder = result.folder
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {
        "numbers": numbers(result),
        "factors": result.factors,
        "history": without_times(result.history),
        "state": bits(checkpoint.load(result.checkpoint)),
        "log": without_times(rows),
        "weights": (folder / "weights.safetensors").read_bytes(),
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """straight(options) -> what a run without any interruption leaves behind."""
    kept = {}

    def get(options):
        name = options["protocol"]
        if name not in kept:
            kept[name] = left_behind(run(tmp_path_factory.mktemp("straight"), **options))
        return kept[name]

    return get


@PROTOCOLS
def test_a_seed_gives_the_same_numbers_and_another_gives_others(options):
    one, two = (run(seed=3, **options) for _ in range(2))
    assert numbers(one) == numbers(two)
    assert without_times(one.history) == without_times(two.history)
    assert numbers(run(seed=4, **options)) != numbers(one)


@PROTOCOLS
def test_torch_draws_as_if_there_had_been_no_run(options):
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    run(**options)
    assert torch.equal(torch.rand(3), wanted)


def interrupt_after(epoch, error=KeyboardInterrupt):
    def callback(row):
        if row["epoch"] == epoch:
            raise error

    return callback


@pytest.mark.parametrize("epoch", [1, 2, 3])
@RESUMED
def test_resumed_after_any_epoch_it_is_the_uninterrupted_run(options, epoch, tmp_path, straight):
    pytest.importorskip("safetensors")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", callback=interrupt_after(epoch), **options)
    assert left_behind(run(tmp_path / "cut", resume=True, **options)) == straight(options)


@pytest.mark.parametrize("step", [2, 5, 9])
@RESUMED
def test_resumed_after_an_interrupt_in_mid_epoch(options, step, tmp_path, monkeypatch, straight):
    """Ctrl-C before the k-th evaluation of the loss: that epoch is lost, those before it are not."""
    pytest.importorskip("safetensors")
    loss, name = (FourierLoss if options is FOURIER else RandomLoss), "__call__"
    evaluate, count = getattr(loss, name), iter(range(1, 1000))

    def interrupted(self, *arguments):
        if next(count) == step:
            signal.raise_signal(signal.SIGINT)
        return evaluate(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loss, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", **options)
    assert left_behind(run(tmp_path / "cut", resume=True, **options)) == straight(options)


@PROTOCOLS
def test_an_interrupt_gives_a_given_net_back_as_it_was_after_the_last_epoch(noisy, options, monkeypatch):
    net, kept, seen = noisy(), [], []
    loss, name = (FourierLoss if options is FOURIER else RandomLoss), "__call__"
    evaluate = getattr(loss, name)

    def interrupted(self, *arguments):
        if kept:
            seen.append(bits(dict(net.state_dict())))
            if len(seen) == 3:
                signal.raise_signal(signal.SIGINT)
        return evaluate(self, *arguments)

    monkeypatch.setattr(loss, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model=net, callback=lambda row: kept.append(bits(dict(net.state_dict()))), **options)
    assert len(kept) == 1
    assert seen[-1] != kept[0]  # in mid-epoch the kernels were others
    assert bits(dict(net.state_dict())) == kept[0]


@PROTOCOLS
def test_an_interrupt_after_the_last_step_is_not_swallowed(options, tmp_path, straight):
    pytest.importorskip("safetensors")

    def press(row):
        if row["epoch"] == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", callback=press, **options)
    again = left_behind(run(tmp_path / "cut", resume=True, **options))
    assert again == straight(options)


def test_stopped_by_the_callback_and_gone_on_with(tmp_path, straight):
    pytest.importorskip("safetensors")
    seen = []

    def stop(row):
        seen.append(row)
        if row["epoch"] == 2:
            raise StopIteration

    stopped = run(tmp_path / "cut", callback=stop, seed=0, **FOURIER)
    assert stopped.reason == "stopped"
    assert [row["seed"] for row in seen] == [0, 0]
    assert len(stopped.history) == 2
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    assert left_behind(run(tmp_path / "cut", resume=True, **FOURIER)) == straight(FOURIER)
    assert run(callback=interrupt_after(1, StopIteration), **SHORT).reason == "completed"


@PROTOCOLS
def test_the_folder_is_read_back_as_the_same_net(options, tmp_path, rng):
    pytest.importorskip("safetensors")
    result = run(tmp_path / "run", degree=1, pre=2, **options)
    f = rng.standard_normal((20, 31))
    for place in (result.folder, result.checkpoint, str(result.folder)):
        net = load_trained(place)
        net = getattr(net, "model", net)
        assert isinstance(net, PoissonNet)
        assert net.config == result.model.config
        np.testing.assert_array_equal(net(f), result.model(f))
    weights = PoissonNet(degree=1, pre=2)
    load_weights(weights, result.folder / "weights.safetensors")
    np.testing.assert_array_equal(weights(f), result.model(f))


def test_a_stopped_runs_folder_is_read_back_too(tmp_path, rng):
    pytest.importorskip("safetensors")
    result = run(tmp_path / "run", callback=interrupt_after(1, StopIteration), **FOURIER)
    net = load_trained(tmp_path / "run")
    f = rng.standard_normal((15, 15))
    np.testing.assert_array_equal(getattr(net, "model", net)(f), result.model(f))


def test_a_finished_run_resumed_is_the_same_again(tmp_path):
    pytest.importorskip("safetensors")
    first = run(tmp_path / "run", **FOURIER)
    again = run(tmp_path / "run", resume=True, **FOURIER)
    assert numbers(again) == numbers(first)
    assert again.factors == first.factors
    assert again.reason == "completed"
    assert again.checkpoint == first.checkpoint


OTHERS = [
    {"seed": 1}, {"steps": 4}, {"epochs": 2}, {"noise": 0.01}, {"pre": 2}, {"degree": 1},
    {"problems": unigrid.Poisson((31, 31))},
    {"problems": [SMALL, SMALL]}, {"problems": unigrid.Poisson((15, 15), boundary=[D, (D, N)])}, {"protocol": "random"},
    {"problems": unigrid.Poisson((15, 15), lengths=(1.0, 2.0))}, {"problems": unigrid.Poisson((15, 15), reaction=1.0)},
]  # fmt: skip


def test_another_run_is_not_resumed(tmp_path, subtests):
    pytest.importorskip("safetensors")
    run(tmp_path, callback=interrupt_after(1, StopIteration), **FOURIER)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for changed in OTHERS:
        with subtests.test(changed=str(changed)):
            with pytest.raises(FileError, match="holds another run"):
                run(tmp_path, resume=True, **{**FOURIER, **changed})
            assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    for changed in ({}, OTHERS[0]):
        with pytest.raises(FileError, match=r"holds a run already; resume=True \(--resume\) goes on with it"):
            run(tmp_path, **{**FOURIER, **changed})


def test_a_given_net_is_trained_in_place_from_the_kernels_it_has(noisy):
    net = noisy(seed=7)
    before = copy.deepcopy(net.state_dict())
    result = run(model=net, **FOURIER)
    assert result.model is net
    assert bits(dict(net.state_dict())) != bits(dict(before))
    other = PoissonNet()
    other.load_state_dict(before)
    assert numbers(run(model=other, seed=5, **FOURIER)) == numbers(result)  # nothing is drawn: the noise is for new nets
    assert measured_factor(net.on(SMALL)) < measured_factor(noisy(seed=7).on(SMALL))
    fresh = run(model=PoissonNetConfig(pre=2), **SHORT)
    assert fresh.model.config.pre == 2
    assert run(model=PoissonNetConfig(pre=2), degree=1, **SHORT).model.config == PoissonNetConfig(pre=2, degree=1)


def test_one_net_for_several_problems():
    problems = [SMALL, anisotropic(0.1, 15), unigrid.Poisson((16, 16), boundary=P)]
    for options in (FOURIER, RANDOM):
        result = run(problems=problems, degree=2, **{**options, "epochs": 1})
        assert len(result.factors) == 3
        assert result.factor == max(result.factors)
        assert "the largest of 3 problems" in str(result)
        wanted = [measured_factor(result.model.on(problem), cycles=60, last=5) for problem in problems]
        assert result.factors == pytest.approx(wanted)
        measured = [measured_factor(result.model.on(problem)) for problem in problems]
        assert result.history[-1]["measured_factor"] == pytest.approx(max(measured))


@pytest.mark.parametrize(
    "problem",
    [
        unigrid.Poisson((16, 16), boundary=P),
        unigrid.Poisson((17, 17), boundary=N),
        unigrid.Poisson((16, 16), centering="cell", boundary=[D, N]),
    ],
    ids=["periodic", "neumann", "cells"],
)
@PROTOCOLS
def test_problems_with_other_sides(options, problem):
    result = run(problems=problem, **options)
    assert 0 < result.factor < 0.6


def test_grids_that_do_not_nest_are_for_the_fourier_loss_alone():
    assert run(problems=unigrid.Poisson((30, 20)), **FOURIER).factor < 0.6
    with pytest.raises(ValueError, match="nest"):
        run(problems=unigrid.Poisson((30, 20)), **RANDOM)


# --------------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({**RANDOM, "noise": 50.0}, TrainingError),
        ({**RANDOM, "learning_rate": 1e6}, TrainingError),
        ({**FOURIER, "noise": 1e200}, TrainingError),
    ],
    ids=["noise", "learning rate", "overflow"],
)
def test_lost_training_says_so_and_gives_the_kernels_back(noisy, options, error):
    net = noisy(seed=2)
    if "noise" in options:
        options = dict(options)
        with torch.no_grad():
            net.pre.add_(options.pop("noise"))
    before = bits(dict(net.state_dict()))
    with pytest.raises(error, match=r"take less noise than|smaller learning rate"):
        run(model=net, **options)
    assert bits(dict(net.state_dict())) == before


@PROTOCOLS
def test_a_loss_that_is_no_number_in_mid_epoch_gives_the_kernels_back(noisy, options, monkeypatch):
    net, kept, count = noisy(), [], iter(range(1, 1000))
    loss, name = (FourierLoss if options is FOURIER else RandomLoss), "__call__"
    evaluate = getattr(loss, name)

    def spoilt(self, *arguments):
        kept.append(bits(dict(net.state_dict())))
        return evaluate(self, *arguments) * (np.nan if next(count) == 3 else 1.0)

    monkeypatch.setattr(loss, name, spoilt)
    with pytest.raises(TrainingError, match=r"the loss became nan in step 2: take less noise"):
        run(model=net, **options)
    assert kept[-1] != kept[0] == bits(dict(net.state_dict()))


def test_a_new_net_of_too_much_noise_is_lost_too():
    with pytest.raises(TrainingError, match="take less noise than 50"):
        run(noise=50.0, **RANDOM)


def test_the_last_good_checkpoint_is_kept(tmp_path, monkeypatch, straight):
    pytest.importorskip("safetensors")
    forward, count = RandomLoss.__call__, iter(range(1, 1000))
    monkeypatch.setattr(RandomLoss, "__call__", lambda self: forward(self) * (np.nan if next(count) == 6 else 1.0))
    with pytest.raises(TrainingError, match=r"nan in step 5.*the last good checkpoint in .* is kept") as caught:
        run(tmp_path / "run", **RANDOM)
    assert caught.value.args
    monkeypatch.undo()
    assert left_behind(run(tmp_path / "run", resume=True, **RANDOM)) == straight(RANDOM)


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"protocol": "furier"}, ValueError, "fourier"),
        ({"protocol": "paper"}, ValueError, "protocol for Poisson problems"),
        ({"protocol": 3}, TypeError, "protocol must be one of 'fourier', 'random' or a PoissonProtocol, got 3"),
        ({"step": 3}, TypeError, "no 'step'.*steps"),
        ({"degre": 3}, TypeError, "no 'degre'.*degree"),
        ({"weight_decay": 0.1}, TypeError, "no 'weight_decay'"),
        ({"epochs": 6}, ValueError, "epochs of protocol 'fourier' must be an integer from 1 to 5, got 6"),
        ({"epochs": 0}, ValueError, "epochs of protocol 'fourier'"),
        ({"steps": 0}, ValueError, "steps of protocol 'fourier' must be an integer >= 1, got 0"),
        ({"steps": True}, ValueError, "steps"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be a finite number >= 0, got -1.0"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate"),
        ({"noise": "much"}, ValueError, "noise must be"),
        ({"batch_size": 3}, TypeError, "batch_size: for images alone"),
        ({"subset": 3}, TypeError, "subset: for images alone"),
        ({"validation": 0.1}, TypeError, "validation: for images alone"),
        ({"data_dir": "x"}, TypeError, "data_dir: for images alone"),
        ({"download": True, "device": "cuda"}, TypeError, "download, device: for images alone"),
        ({"seed": [1, 2]}, ValueError, r"one seed, got \[1, 2\]; call train once for each"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"resume": True}, ValueError, "resume=True needs out="),
        ({"model": "mgnet-64-Bl"}, TypeError, "model must be a PoissonNetConfig or a PoissonNet"),
        ({"model": PoissonNet(), "degree": 1}, TypeError, "a PoissonNet brings its own degree"),
        ({"pre": 0}, ValueError, "pre must be an integer >= 1"),
        ({"callback": 3}, TypeError, "callable"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(options, error, reason):
    with pytest.raises(error, match=f"(?s){reason}"):
        unigrid.train("poisson", **{"epochs": 1, "steps": 1, "progress": False, **options})


@pytest.mark.parametrize(
    "harmless", [{"device": "cpu"}, {"device": torch.device("cpu")}, {"seed": [4]}, {"validation": 0}], ids=str
)
def test_what_says_nothing_new_is_taken(harmless):
    assert run(**{**SHORT, **harmless}).reason == "completed"


def test_a_protocol_may_be_ones_own():
    own = PoissonProtocol("random", epochs=2, steps=3, learning_rate=0.01, noise=0.0)
    result = run(protocol=own, progress=False)
    assert len(result.history) == 2
    assert result.configuration["protocol"]["noise"] == 0.0
    with pytest.raises(ValueError, match=r"fourier|random"):
        PoissonProtocol("adam", epochs=2, steps=3, learning_rate=0.01)


def test_the_data_set_may_be_misspelled():
    with pytest.raises(ValueError, match="poisson"):
        unigrid.train("poison", epochs=1)


def test_rows_are_logged_and_shown(tmp_path, capsys):
    pytest.importorskip("safetensors")
    result = run(tmp_path / "run", **{**RANDOM, "progress": True})
    assert "epoch 3 of 3, factor 0." in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert without_times(rows)[-1].items() >= without_times(result.history[-1]).items()
    configuration = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "poisson" in json.dumps(configuration)


# ------------------------------------------------------------------------------------------- the function and its results


def test_train_forwards_to_train_solver():
    tiny = {"protocol": "fourier", "epochs": 1, "steps": 1, "progress": False}
    direct = unigrid.train_solver(SMALL, seed=3, **tiny)
    for problems in (SMALL, [SMALL], (SMALL,)):
        assert numbers(unigrid.train(problems, seed=3, **tiny)) == numbers(direct)
    named = unigrid.train("poisson", seed=3, **tiny)
    assert numbers(named) == numbers(unigrid.train_solver(seed=3, **tiny))
    assert named.model.problem.shape == (63, 63)


@pytest.mark.parametrize("problems", ["poisson", [], [SMALL, "poisson"], np.ones((3, 3))], ids=str)
def test_problems_must_be_problems(problems):
    with pytest.raises(TypeError, match=r"problems must be a unigrid\.Poisson, or several, at least one, got"):
        unigrid.train_solver(problems, epochs=1)


def test_a_result_has_a_short_repr():
    result = unigrid.train_solver(SMALL, protocol="random", epochs=1, steps=2, progress=False)
    assert repr(result) == f"PoissonResult(protocol random, completed: {result})"


def test_a_checkpoint_has_no_fields_of_images(tmp_path):
    pytest.importorskip("safetensors")
    result = unigrid.train_solver(SMALL, protocol="random", epochs=1, steps=2, progress=False, out=tmp_path)
    state = checkpoint.load(result.checkpoint)
    assert set(state) == {"configuration", "progress", "model", "optimizer", "random"}
    assert set(state["configuration"]) == {"model", "dataset", "protocol", "seed"}
    assert set(state["configuration"]["dataset"]) == {"name", "problems"}
    assert set(state["configuration"]["protocol"]) == {"name", "epochs", "steps", "learning_rate", "noise"}


def test_a_loaded_solver_classifies_nothing(tmp_path):
    pytest.importorskip("safetensors")
    unigrid.train_solver(SMALL, protocol="random", epochs=1, steps=2, progress=False, out=tmp_path)
    trained = load_trained(tmp_path)
    assert trained.solves
    assert repr(trained).startswith("TrainedModel(PoissonNet, 18 parameters, trained on poisson, epoch 1: ")
    for use in (
        lambda: trained.evaluate(), lambda: trained.data("shapes"), lambda: trained.classes,
        lambda: trained.predict([np.zeros((3, 3), np.uint8)]), trained.require_pictures,
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"its network solves Poisson's equation"):
            use()
