"""Every public argument that takes a number takes numbers of any make, and refuses what is none in one short line.

The arguments are found in the signatures, so that a new one cannot be forgotten: it needs a row in `ARGUMENTS`, or a reason in
`EXEMPT`. A row is a value and a call that returns what became of it. The call must return the same, to the last type, for the
value in any other make.
"""

import importlib
import inspect
import re
import warnings
from decimal import Decimal
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from processes.threads import Group
from tiers import pack

torch = pytest.importorskip("torch")

import unigrid  # noqa: E402
from unigrid import analysis, conv, equivalence, plots, report, training  # noqa: E402
from unigrid.report.networks import checked_images  # noqa: E402
from unigrid.training.images.loop import ImageRun  # noqa: E402
from unigrid.training.runs.checkpoint import _checked  # noqa: E402
from unigrid.training.solvers import train as solver_training  # noqa: E402
from unigrid.training.solvers.protocols import PoissonProtocol  # noqa: E402
from unigrid.training.solvers.run import SolverRun  # noqa: E402

MODULES = (
    "", ".analysis", ".plots", ".training", ".conv", ".equivalence", ".stencil", ".iterate", ".cycle", ".solution", ".report",
)  # fmt: skip
# By the beginnings of their names: what is no argument that a user gives a number for.
EXEMPT = {
    "records that unigrid returns": (
        "Solution(", "Evaluation(", "SeedRun(", "TrainedModel(", "Prediction(", "PoissonResult(", "ImageData(", "Report(",
        "Row(", "KernelSymbol(", "OperatorSymbol(", "NamedModel(", "Claim(", "System(",
    ),
    "steps of the algorithm, which pass numbers to each other": (
        "MultigridCycle.", "Tolerance(default_rtol)", "Tolerance.target(", "predicted(", "Chebyshev.schedule(",
        "ImageProtocol.rate(", "Dirichlet.ghost(", "Neumann.ghost(", "Periodic.ghost(", "checked_count(", "Smoothing.tuned(",
        "Smoothing.one_pass(", "NewtonCycle.nested(", "GalerkinCycle.nested(", "Revisiting.visit(", "Lines.from_the_last(",
        "Course.add(", "ScaledCycle.nested(",
    ),
    "made with a Grid or modules, which checked their numbers": (
        "StencilOperator", "Poisson.homogeneous_on(", "Poisson.loses_reaction(", "Classifier(", "ConvProlongation(",
    ),
}  # fmt: skip
F, PROBLEM = np.ones((9, 9)), unigrid.Poisson((9, 9))
NONLINEAR = unigrid.Poisson((63, 63), reaction=unigrid.Nonlinear(np.sinh, np.cosh))
SMOOTH = unigrid.Poisson((9, 9), coefficient=lambda x, y: 1 + x * y)
FIVE = [[0, -1, 0], [-1, 4, -1], [0, -1, 0]]
IMAGES = torch.arange(24 * 64, dtype=torch.uint8).reshape(24, 1, 8, 8)
DATA = ((IMAGES, torch.arange(24) % 2), (IMAGES, torch.arange(24) % 2))
SMALL = unigrid.MgNetConfig(steps=(1,), features=2, in_channels=1, num_classes=2)


def solved(**arguments):
    return unigrid.solve(F, raise_on_failure=False, **arguments).residuals


def blocks_solved(**arguments):
    def solve(comm):
        cycle = unigrid.DomainCycle(unigrid.Poisson((72, 72)), comm)
        return cycle.solve(np.ones(cycle.local_shape), raise_on_failure=False, **arguments)

    return Group(1).run(solve)[0]


def block_problem(shape=(9, 9), **arguments):
    source = Group(1).run(lambda comm: unigrid.DomainProblem(shape, comm, **arguments)._source)[0]
    return source.shape, source.described.spacing, source.described.reaction


def trained(**arguments):
    """The configuration of a run that ends before it begins, as a checkpoint holds it."""
    with mock.patch.object(ImageRun, "complete", return_value="stopped"):
        protocol = training.Protocol("own", 1, batch_size=8)
        result = unigrid.train(DATA, SMALL, protocol, **{"device": "cpu", **arguments})
    return _checked(result.configuration, "configuration"), [run.seed for run in result.runs]


def solver_trained(**arguments):
    with (
        mock.patch.object(SolverRun, "complete", return_value="stopped"),
        mock.patch.object(solver_training, "measured_factor", return_value=0.5),
    ):
        return _checked(unigrid.train_solver(PROBLEM, **arguments).configuration, "configuration")


def field(kind, name, *given, **fixed):
    return lambda value: getattr(kind(*given, **fixed, **{name: value}), name)


def drawn(draw):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    draw(axes)
    return len(axes.images), len(axes.lines), axes.get_xlabel()


def predicted(top):
    names = {"name": "custom", "classes": ["a", "b"], "shape": [1, 8, 8], "mean": [0.5], "std": [0.5], "flip": False}
    protocol = {"test_flip": False, "mixed_precision": False, "accelerated": False}
    model = training.TrainedModel(SMALL.build().eval(), {"dataset": names, "protocol": protocol}, 1, 1, "file")
    return [len(one.classes) for one in model.predict([np.zeros((8, 8))], top=top)]


def reset(model, num_classes):
    model.reset_classifier(num_classes)
    return model.config, model.head


def several(name, low=1.0):
    """Of lengths or spacings, the numbers in a list."""
    return lambda value: unigrid.Poisson((9, 9), **{name: [value, low]}).spacing


MATRIX, HISTORY = [[7, 3, 0], [0, 8, 2], [0, 0, 5]], [{"epoch": 1, "train_loss": 0.5}]
SOLUTION = {"a": unigrid.solve(F)}
KERNELS = np.arange(36.0).reshape(4, 1, 3, 3)
REAL, COUNT = 0.5, 3
CYCLES = {"solve": (unigrid.StencilCycle, unigrid.GalerkinCycle), "profile": (unigrid.StencilCycle,)}
ARGUMENTS = {
    "solve(rtol)": (REAL, lambda v: solved(rtol=v)),
    "solve(atol)": (REAL, lambda v: solved(atol=v)),
    "solve(maxiter)": (COUNT, lambda v: solved(maxiter=v, rtol=0.0)),
    "solve(batch_dims)": (COUNT, lambda v: unigrid.solve(np.ones((1, 1, 1, 9)), batch_dims=v).residuals),
    "solve(threads)": (COUNT, lambda v: solved(threads=v)),
    "solve(gradient_rtol)": (REAL, lambda v: solved(gradient_rtol=v)),
    "solve(reaction)": (REAL, lambda v: solved(reaction=v)),
    "solve(lengths)": (REAL, lambda v: solved(lengths=v)),
    "solve(spacing)": (REAL, lambda v: solved(spacing=v)),
    "solve(pre)": (COUNT, lambda v: solved(pre=v)),
    "solve(post)": (COUNT, lambda v: solved(post=v)),
    **{
        f"{owner}.{method}({name})": (
            value,
            lambda v, m=method, n=name: [
                type(getattr(cycle(PROBLEM), m)(F, raise_on_failure=False, **{n: v})) for cycle in CYCLES[m]
            ],
        )
        for owner, method in (("ProblemCycle", "solve"), ("StencilCycle", "profile"))
        for name, value in {"rtol": REAL, "atol": REAL, "maxiter": COUNT, "threads": COUNT, "gradient_rtol": REAL}.items()
    },
    **{
        f"DomainCycle.solve({name})": (value, lambda v, n=name: type(blocks_solved(**{n: v})))
        for name, value in {"rtol": REAL, "atol": REAL, "maxiter": COUNT, "threads": COUNT, "gradient_rtol": REAL}.items()
    },
    **{f"SolveOptions({name})": (v, field(unigrid.SolveOptions, name))
       for name, v in {"rtol": REAL, "atol": REAL, "maxiter": COUNT, "threads": COUNT, "gradient_rtol": REAL}.items()},
    "Tolerance(rtol)": (REAL, field(unigrid.iterate.Tolerance, "rtol", atol=0.0, maxiter=9, default_rtol=0.1)),
    "Tolerance(atol)": (REAL, field(unigrid.iterate.Tolerance, "atol", rtol=None, maxiter=9, default_rtol=0.1)),
    "Tolerance(maxiter)": (COUNT, field(unigrid.iterate.Tolerance, "maxiter", rtol=None, atol=0.0, default_rtol=0.1)),
    "of_solution(rtol)": (REAL, lambda v: len(report.of_solution(SOLUTION["a"], rtol=v).html)),
    "of_run(images)": (COUNT, lambda v: checked_images(v, 24)),
    "from_matrix(shape)": (COUNT, lambda v: unigrid.from_matrix(unigrid.Poisson(3).matrix(), v).problem.shape),
    "PoissonLayer(shape)": (COUNT, lambda v: unigrid.PoissonLayer(v).shape),
    "Poisson(shape)": (COUNT, lambda v: (unigrid.Poisson(v).shape, unigrid.Poisson((v, 9)).shape)),
    "Poisson(lengths)": (REAL, several("lengths")),
    "Poisson(spacing)": (REAL, several("spacing")),
    "DomainProblem(shape)": (COUNT, lambda v: (block_problem(v), block_problem((v, 9)))),
    "DomainProblem.rows(shape)": (COUNT, lambda v: Group(1).run(lambda comm: unigrid.DomainProblem.rows((v, 9), comm))),
    "DomainProblem(lengths)": (REAL, lambda v: block_problem(lengths=v)),
    "DomainProblem(spacing)": (REAL, lambda v: block_problem(spacing=[v, 1.0])),
    "DomainProblem(reaction)": (REAL, lambda v: block_problem(reaction=v)),
    "Poisson.with_reaction(reaction)": (REAL, lambda v: PROBLEM.with_reaction(v).reaction),
    "StencilCycle.with_reaction(reaction)": (REAL, lambda v: unigrid.StencilCycle(PROBLEM).with_reaction(v).problem.reaction),
    "GalerkinCycle.with_reaction(reaction)": (REAL, lambda v: unigrid.GalerkinCycle(PROBLEM).with_reaction(v).problem.reaction),
    "Poisson(reaction)": (REAL, field(unigrid.Poisson, "reaction", (9, 9))),
    "Dirichlet(value)": (REAL, lambda v: unigrid.Poisson(9, boundary=unigrid.Dirichlet(v)).side_values),
    "Neumann(flux)": (REAL, lambda v: unigrid.Poisson(9, boundary=unigrid.Neumann(v)).side_values),
    "Robin(alpha)": (REAL, lambda v: unigrid.Poisson(9, boundary=unigrid.Robin(v)).operator.exchange),
    "Robin(value)": (REAL, lambda v: unigrid.Poisson(9, boundary=unigrid.Robin(1.0, v)).side_values),
    "StencilCycle(pre)": (COUNT, lambda v: unigrid.StencilCycle(PROBLEM, pre=v).pre),
    "StencilCycle(post)": (COUNT, lambda v: unigrid.StencilCycle(PROBLEM, post=v).post),
    "StencilCycle(max_levels)": (COUNT, lambda v: unigrid.StencilCycle(PROBLEM, max_levels=v).configuration.max_levels),
    "GalerkinCycle(steps)": (COUNT, lambda v: [unigrid.GalerkinCycle(PROBLEM, steps=each).pre for each in (v, (v, 1))]),
    "GalerkinCycle.replaced(level)": (0, lambda v: repr(unigrid.GalerkinCycle(PROBLEM).replaced(level=v, smoother=None))),
    "ScaledCycle.replaced(level)": (0, lambda v: repr(unigrid.ScaledCycle(SMOOTH).replaced(level=v, post_smoother=None))),
    "Points(omega)": (REAL, unigrid.Points),
    "Lines(axes)": (1, lambda v: unigrid.Lines((v, 0))),
    "GalerkinCycle(max_levels)": (COUNT, lambda v: len(unigrid.GalerkinCycle(unigrid.Poisson((99, 99)), max_levels=v).levels)),
    **{
        f"{name}({argument})": (value, lambda v, name=name, a=argument: getattr(unigrid, name)(NONLINEAR, **{a: v}).shapes)
        for name in ("FASCycle", "NewtonCycle")
        for argument, value in {"steps": COUNT, "max_levels": 2}.items()
    },
    "StencilCycle.replaced(level)": (0, lambda v: repr(unigrid.StencilCycle(PROBLEM).replaced(level=v, smoother="jacobi"))),
    "Smoothing(pre)": (COUNT, lambda v: unigrid.Smoothing(unigrid.Jacobi(), v, unigrid.Jacobi(), 1)),
    "Smoothing(post)": (COUNT, lambda v: unigrid.Smoothing(unigrid.Jacobi(), 1, unigrid.Jacobi(), v)),
    "Smoothing.of(pre)": (COUNT, lambda v: unigrid.Smoothing.of(None, v, None, None)),
    "Smoothing.of(post)": (COUNT, lambda v: unigrid.Smoothing.of(None, None, None, v)),
    "Steps(count)": (COUNT, lambda v: unigrid.Steps(unigrid.Jacobi(), v)),
    "Jacobi(omega)": (REAL, unigrid.Jacobi),
    "GaussSeidel(omega)": (REAL, unigrid.GaussSeidel),
    "RedBlack(omega)": (REAL, lambda v: (unigrid.RedBlack(v), unigrid.RedBlack([v, 1]), unigrid.RedBlack((1.5, v)))),
    "Chebyshev(degree)": (COUNT, unigrid.Chebyshev),
    "Chebyshev(interval)": (REAL, lambda v: unigrid.Chebyshev(3, (v, 2))),
    "set_num_threads(threads)": (unigrid.get_num_threads(), unigrid.set_num_threads),
    "measured_factor(cycles)": (9, lambda v: analysis.measured_factor(unigrid.StencilCycle(PROBLEM), cycles=v)),
    "measured_factor(last)": (COUNT, lambda v: analysis.measured_factor(unigrid.StencilCycle(PROBLEM), cycles=9, last=v)),
    "measured_factor(seed)": (COUNT, lambda v: analysis.measured_factor(unigrid.StencilCycle(PROBLEM), cycles=9, seed=v)),
    "measured_factor(shape)": (9, lambda v: analysis.measured_factor(unigrid.StencilCycle(PROBLEM), (9, v), cycles=9)),
    "FourierAnalysis(pre)": (COUNT, lambda v: analysis.FourierAnalysis(PROBLEM, pre=v).pre),
    "FourierAnalysis(post)": (COUNT, lambda v: analysis.FourierAnalysis(PROBLEM, post=v).post),
    "FourierAnalysis(samples)": (8, lambda v: analysis.FourierAnalysis(PROBLEM, samples=v).samples),
    "FourierAnalysis.of(samples)": (8, lambda v: analysis.FourierAnalysis.of(unigrid.StencilCycle(PROBLEM), samples=v).samples),
    "FourierAnalysis(spacing)": (REAL, lambda v: analysis.FourierAnalysis(FIVE, spacing=(v, 1)).factors),
    "FourierAnalysis.cycle_factor(levels)": (2, lambda v: analysis.FourierAnalysis(PROBLEM, samples=8).cycle_factor(v)),
    "FourierAnalysis.cycle_symbol(levels)": (
        2, lambda v: analysis.FourierAnalysis(PROBLEM, samples=8).cycle_symbol(0.1, 0.2, levels=v)[0].shape,
    ),
    "FourierAnalysis.smoothing_factor_of(steps)": (
        2, lambda v: analysis.FourierAnalysis(PROBLEM, samples=8).smoothing_factor_of(v),
    ),
    "FourierAnalysis.smoothing_symbol(resolution)": (
        4, lambda v: analysis.FourierAnalysis(PROBLEM, samples=8).smoothing_symbol(v)[0].tolist(),
    ),
    **{f"MgNetConfig({name})": (4, field(unigrid.MgNetConfig, name))
       for name in ("features", "data", "in_channels", "num_classes")},
    "MgNetConfig(steps)": (COUNT, lambda v: unigrid.MgNetConfig(steps=[v, 1]).steps),
    **{f"ResNetConfig({name})": (4, field(conv.ResNetConfig, name)) for name in ("channels", "in_channels", "num_classes")},
    "ResNetConfig(blocks)": (COUNT, lambda v: conv.ResNetConfig(blocks=(v, 1), channels=4).blocks),
    **{f"PlainConfig({name})": (5, field(conv.PlainConfig, name))
       for name in ("channels", "kernel", "in_channels", "num_classes")},
    "PlainConfig(steps)": (COUNT, lambda v: conv.PlainConfig(steps=(v, 1), channels=4).steps),
    "create_model(num_classes)": (COUNT, lambda v: unigrid.create_model("mgnet-2-Bl", num_classes=v).config),
    "create_model(in_channels)": (COUNT, lambda v: unigrid.create_model("mgnet-2-Bl", in_channels=v).config),
    "Classifier.reset_classifier(num_classes)": (COUNT, lambda v: reset(SMALL.build(), v)),
    **{f"ImageProtocol({name})": (v, field(training.Protocol, name, "own", **{"epochs": 1} if name != "epochs" else {}))
       for name, v in {
           "epochs": 3, "batch_size": 3, "decay_every": 3, "pad": 3, "cutout": 3, "learning_rate": REAL, "decay": REAL,
           "momentum": REAL, "label_smoothing": REAL, "average": REAL, "warmup": REAL, "weight_decay": REAL,
           "mixup": REAL, "cutmix": REAL, "clip_grad": REAL, "patience": 3,
           "first_size": 3,
       }.items()},
    "ImageProtocol(class_weights)": (REAL, lambda v: training.Protocol("own", 1, class_weights=[v, 1]).class_weights),
    "Evaluation.top(k)": (1, lambda v: training.Evaluation(1.0, 0.0, MATRIX, torch.eye(3), torch.arange(3)).top(v)),
    "load(size)": (COUNT, lambda v: training.load(DATA, size=[v, 5]).shape),
    "train(size)": (COUNT, lambda v: trained(size=[v, 5])),
    "Augmentation(pad)": (COUNT, lambda v: training.Augmentation(pad=v)),
    "Augmentation(cutout)": (COUNT, lambda v: training.Augmentation(cutout=v)),
    "PoissonProtocol(epochs)": (COUNT, lambda v: PoissonProtocol("random", v, 1, 0.1)),
    "PoissonProtocol(steps)": (COUNT, lambda v: PoissonProtocol("random", 1, v, 0.1)),
    "PoissonProtocol(learning_rate)": (REAL, lambda v: PoissonProtocol("random", 1, 1, v)),
    "PoissonProtocol(noise)": (REAL, lambda v: PoissonProtocol("random", 1, 1, 0.1, v)),
    **{f"PoissonNetConfig({name})": (2, field(training.PoissonNetConfig, name)) for name in ("pre", "post", "degree")},
    "PoissonNet.on(max_levels)": (2, lambda v: len(unigrid.PoissonNet().on(PROBLEM, v).levels)),
    "PoissonNet.network(max_levels)": (2, lambda v: len(unigrid.PoissonNet().network(PROBLEM, v).levels)),
    "anisotropic(eps)": (REAL, lambda v: training.anisotropic(v, 9)),
    "anisotropic(n)": (9, lambda v: training.anisotropic(0.5, v)),
    "Split.subset(chosen)": (COUNT, lambda v: training.Split(IMAGES, torch.arange(24)).subset(v).labels.tolist()),
    "TrainedModel.predict(top)": (1, predicted),
    "train(epochs)": (COUNT, lambda v: trained(epochs=v)),
    "train(batch_size)": (COUNT, lambda v: trained(batch_size=v)),
    "train(learning_rate)": (REAL, lambda v: trained(learning_rate=v)),
    "train(seed)": (COUNT, lambda v: (trained(seed=v), trained(seed=[0, v]))),
    "train(subset)": (16, lambda v: trained(subset=v)),
    "train(validation)": (REAL, lambda v: trained(validation=v)),
    "train_solver(seed)": (COUNT, lambda v: solver_trained(seed=v)),
    "most_confused(count)": (1, lambda v: plots.most_confused(MATRIX, v)),
    "draw_history(rtol)": (REAL, lambda v: drawn(lambda axes: plots.draw_history(axes, SOLUTION, rtol=v))),
    "plot_history(rtol)": (REAL, lambda v: len(plots.plot_history(SOLUTION, rtol=v).axes[0].lines)),
    "draw_image(limit)": (REAL, lambda v: drawn(lambda axes: plots.draw_image(axes, F, limit=v))),
    "draw_accuracy(test_accuracy)": (
        REAL, lambda v: drawn(lambda axes: plots.draw_accuracy(axes, HISTORY, test_accuracy=v)),
    ),
    "plot_training(test_accuracy)": (REAL, lambda v: len(plots.plot_training(HISTORY, test_accuracy=v).axes)),
    "draw_kernels(count)": (2, lambda v: drawn(lambda axes: plots.draw_kernels(axes, KERNELS, count=v))),
    "plot_kernels(count)": (2, lambda v: len(plots.plot_kernels(SMALL.build(), count=v).axes)),
    "draw_channels(channels)": (2, lambda v: drawn(lambda axes: plots.draw_channels(axes, KERNELS[:, 0], channels=v))),
    "plot_levels(channels)": (2, lambda v: len(plots.plot_levels(SMALL.build(), torch.zeros(1, 8, 8), channels=v).axes)),
    "report(seeds)": (COUNT, lambda v: equivalence.report([v], claims=()).seeds),
    "pooling_as_restriction(channels)": (COUNT, lambda v: str(equivalence.pooling_as_restriction(v))),
}  # fmt: skip


class Labelled:
    """A scalar as of xarray: no NumPy array, but with its attributes."""

    def __init__(self, value):
        self.value, self.shape, self.dtype = value, (), np.asarray(value).dtype

    def item(self):
        return self.value


INTEGERS = {
    "int8": np.int8, "uint64": np.uint64, "array": np.array, "tensor": torch.tensor, "labelled": Labelled,
    "Fraction": Fraction, "Decimal": Decimal,
}  # fmt: skip
REALS = {
    "float16": np.float16, "float64": np.float64, "longdouble": np.longdouble, "array": np.array, "tensor": torch.tensor,
    "bfloat16": lambda value: torch.tensor(value, dtype=torch.bfloat16),
    "requires_grad": lambda value: torch.tensor(value, requires_grad=True),
    "labelled": Labelled, "Fraction": Fraction, "Decimal": Decimal,
}  # fmt: skip
NONE_OF_THEM = {
    "True": True, "np.True_": np.True_, "true tensor": torch.tensor(True), "complex": 1j, "complex128": np.complex128(1),
    "complex array": np.array(1 + 0j), "text": "3", "nan": float("nan"), "time": np.timedelta64(5, "ns"),
    "array": np.full((40, 40), 0.25), "many": np.full(1000, 0.25), "object": object(), "ragged": [[1, 2], [3]],
    "gradients": torch.ones(3, 3, requires_grad=True), "bfloat16s": torch.ones(3, 3, dtype=torch.bfloat16),
}  # fmt: skip
HUGE = {"10^30": 10**30, "10^400": 10**400, "10^6000": 10**6000, "-10^6000": -(10**6000), "Fraction": Fraction(10**400)}
INDEX_ONLY = {"Steps(count)"}  # cycle.py imports nothing, and takes what `operator.index` does


def arguments_of_numbers():
    """Yield the public arguments whose annotation has an int or a float, as class or function (argument)."""
    for name in MODULES:
        module = importlib.import_module(f"unigrid{name}")
        for public in getattr(module, "__all__", [each for each in dir(module) if not each.startswith("_")]):
            value = getattr(module, public)
            if inspect.ismodule(value) or not callable(value) or not getattr(value, "__module__", "").startswith("unigrid"):
                continue
            members = {public: value}
            if inspect.isclass(value):
                own = [each for each in value.__mro__ if each.__module__.startswith("unigrid")]  # inherited methods too
                methods = {key: getattr(value, key) for each in own for key in vars(each) if not key.startswith("_")}
                members |= {f"{value.__name__}.{key}": each for key, each in methods.items() if inspect.isroutine(each)}
            for called in members.values():
                try:
                    parameters = inspect.signature(called).parameters.values()
                except (ValueError, TypeError):  # exceptions, which Python makes, and what is no function
                    continue
                for parameter in parameters:
                    kinds = str(parameter.annotation)
                    if re.search(r"\b(int|float)\b", kinds) and "Callable" not in kinds:
                        yield f"{called.__qualname__}({parameter.name})"


def refusal(call, value):
    """The message of the error that a call raises, nothing where it raises none; of other errors than these there are none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(value)
    except (ValueError, TypeError, IndexError) as error:
        return str(error)
    return ""


def test_no_argument_is_forgotten():
    exempt = tuple(name for names in EXEMPT.values() for name in names)
    found = set(arguments_of_numbers())
    arrays_too = {"Dirichlet(value)", "Neumann(flux)", "Robin(alpha)", "Robin(value)"}
    assert {name for name in found if not name.startswith(exempt)} == set(ARGUMENTS) - arrays_too
    assert not [name for name in exempt if not any(each.startswith(name) for each in found)]


DIFFERENTIABLE = {"solve(reaction)", "Dirichlet(value)", "Neumann(flux)", "Robin(alpha)", "Robin(value)"}


@pack
@pytest.mark.parametrize("name", ARGUMENTS)
def test_numbers_of_any_make_are_the_same(name):
    value, call = ARGUMENTS[name]
    makes = INTEGERS if type(value) is int else REALS
    expected = repr(call(value))
    for make, kind in makes.items():
        if name in INDEX_ONLY and make in ("labelled", "Fraction", "Decimal"):
            continue
        if name in DIFFERENTIABLE and make == "requires_grad":
            assert "requires grad" in refusal(call, kind(value))  # beside an array, its gradient would be lost
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert repr(call(kind(value))) == expected, make


@pack
@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_is_no_number_is_refused_in_one_short_line(name):
    _, call = ARGUMENTS[name]
    for bad, value in NONE_OF_THEM.items():
        if name in INDEX_ONLY and bad in ("true tensor", "array", "many", "complex array", "gradients", "bfloat16s"):
            continue
        text = refusal(call, value)
        assert text, f"{bad} is accepted"
        assert len(text) < 400, bad
        assert not re.search("\n|ambiguous|inhomogeneous|can be converted|Can't call|ScalarType", text), (bad, text)


@pack
@pytest.mark.parametrize("name", ARGUMENTS)
def test_huge_numbers_are_refused_in_one_short_line_or_mean_something(name):
    _, call = ARGUMENTS[name]
    before = unigrid.get_num_threads()
    for huge, value in HUGE.items():
        text = refusal(call, value)
        unigrid.set_num_threads(before)
        assert len(text) < 400, huge
        assert not re.search(r"\n|int too large|digits\) for integer", text), (huge, text)
