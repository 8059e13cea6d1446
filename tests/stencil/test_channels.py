"""Colors are no third axis of space: refused without `channels`, solved one by one with it."""

import argparse

import numpy as np
import pytest
from PIL import Image
from tiers import pack

import unigrid
from unigrid.cli.options import UsageError, source_of


def picture(shape=(12, 17, 3), dtype=np.uint8):
    return np.random.default_rng(0).integers(np.iinfo(dtype).max, size=shape).astype(dtype)


PICTURES = {
    "RGB": picture(), "RGBA": picture((12, 17, 4)), "gray + alpha": picture((12, 17, 2)), "16 bits": picture(dtype=np.uint16),
    "a row of pixels": picture((1, 17, 3)), "PIL": Image.fromarray(picture()), "CMYK": Image.new("CMYK", (5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_in_color_is_refused_with_the_way_out(kind):
    with pytest.raises(ValueError, match=r"like a picture of [234] channels: unigrid\.solve\(f, channels=\"last\"\)") as error:
        unigrid.solve(PICTURES[kind])
    assert "\n" not in str(error.value)
    assert unigrid.solve(PICTURES[kind], channels="last").u.shape == np.shape(PICTURES[kind])


@pytest.mark.parametrize("channels", [None, "last"])
def test_the_numbers_of_a_palette_are_no_values(channels):
    with pytest.raises(ValueError, match="a picture with a palette, whose numbers are no values"):
        unigrid.solve(Image.fromarray(picture()).convert("P"), channels=channels)


@pytest.mark.parametrize("name", ["f.npy", "f.npz"])
def test_a_picture_in_a_file_of_an_array_is_refused(tmp_path, name):
    (np.savez if name == "f.npz" else np.save)(tmp_path / name, picture())
    stated = dict.fromkeys(("array", "header", "index", "delimiter", "decimal", "columns"))
    arguments = argparse.Namespace(rhs=str(tmp_path / name), **stated)
    with pytest.raises(UsageError, match=r"f\.np[yz]: f of shape \(12, 17, 3\) looks like a picture of 3 channels"):
        source_of(arguments)


GRAY = [picture((12, 17)), Image.fromarray(picture((12, 17))), picture((4, 5, 6)), picture((4, 5, 3)).astype(float)]


@pytest.mark.parametrize("f", GRAY, ids=["gray", "PIL", "planes", "floats in 3-D"])
def test_what_is_no_picture_in_color_is_solved_as_it_is(f):
    assert np.array_equal(unigrid.solve(f).u, unigrid.solve(np.asarray(f, float)).u)


@pack
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(9, 3), (9, 1), (8, 9, 3), (8, 9, 5), (4, 5, 6, 2)])
@pytest.mark.parametrize("prepared", [False, True])
def test_channels_are_right_hand_sides(rng, shape, dtype, prepared):
    f, u0 = rng.integers(200, size=shape).astype(dtype), rng.standard_normal(shape)
    how = {"cycle": unigrid.StencilCycle(unigrid.Poisson(shape[:-1], boundary="neumann", reaction=1.0))} if prepared else {}
    found = unigrid.solve(f, channels="last", u0=u0, **how)
    assert found.u.shape == shape
    assert len(found.parts) == shape[-1]
    for channel in range(shape[-1]):
        alone = unigrid.solve(f[..., channel], u0=u0[..., channel], **how)
        assert np.array_equal(found.u[..., channel], alone.u)
        assert found.parts[channel].residuals == alone.residuals


def test_a_failure_carries_u_as_f_came():
    with pytest.raises(unigrid.ConvergenceError) as error:
        unigrid.solve(picture(), channels="last", maxiter=1, rtol=1e-13)
    solution = unigrid.solve(picture(), channels="last", maxiter=1, rtol=1e-13, raise_on_failure=False)
    assert np.array_equal(error.value.solution.u, solution.u)
    assert not solution.converged
    assert solution.u.shape == picture().shape


@pytest.mark.parametrize(
    ("f", "channels", "text"),
    [
        (picture(), "first", "unknown channels 'first'; allowed: 'last'"),
        (np.ones(5), "last", r"and an axis of channels, got shape \(5,\)"),
        (np.ones((4, 4, 4, 4, 4)), "last", r"and an axis of channels, got shape \(4, 4, 4, 4, 4\)"),
        (np.ones((4, 0)), "last", r"and an axis of channels, got shape \(4, 0\)"),
        (np.full((4, 3), np.nan), "last", r"f\[0, 0\] is nan"),
    ],
)
def test_other_channels_are_refused(f, channels, text):
    with pytest.raises(ValueError, match=text):
        unigrid.solve(f, channels=channels)


def ring(shape):
    mask = np.zeros(shape, bool)
    mask[2:-3, 1:-2] = True
    mask[4:6, 5:9] = False
    return mask


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_outside_and_fixed_ones_may_have_channels(dtype):
    shape, rng = (18, 23), np.random.default_rng(0)
    mask, (f, outside, values) = ring(shape), rng.standard_normal((3, *shape, 4)).astype(dtype)
    where = mask & (rng.random(shape) < 0.05)
    u0 = rng.standard_normal((*shape, 4))
    cases = [(outside, None), ("natural", (where, values)), (outside, (where, 2.0)), (1.5, (where, values))]
    for beyond, fixed in cases:
        found = unigrid.solve(f, mask=mask, outside=beyond, fixed=fixed, channels="last", u0=u0)
        assert found.u.shape == f.shape
        assert found.u.dtype == dtype
        for k in range(4):
            own = beyond[..., k] if np.ndim(beyond) else beyond
            held = (where, fixed[1][..., k]) if fixed is not None and np.ndim(fixed[1]) else fixed
            alone = unigrid.solve(f[..., k], mask=mask, outside=own, fixed=held, u0=u0[..., k])
            assert np.array_equal(found.u[..., k], alone.u)
            assert found.parts[k].residuals == alone.residuals


def test_bad_values_of_a_channel_are_refused():
    f, mask = np.ones((8, 9, 3)), np.zeros((8, 9), bool)
    mask[3, 4] = True
    outside = np.ones((8, 9, 3))
    outside[2, 4, 1] = np.nan
    with pytest.raises(ValueError, match=r"Dirichlet data missing: outside\[2, 4\] is NaN"):
        unigrid.solve(f, mask=mask, outside=outside, channels="last")
    with pytest.raises(ValueError, match=r"outside must be a number or an array of f's shape \(8, 9\), got shape \(8, 9, 4\)"):
        unigrid.solve(f, mask=mask, outside=np.ones((8, 9, 4)), channels="last")
    with pytest.raises(ValueError, match=r"got shape \(8, 9, 3\)"):
        unigrid.solve(f[..., 0], mask=mask, outside=outside)
