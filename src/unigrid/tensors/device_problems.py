"""A problem on a device: boundary values, given values and means, with the methods that `stencil.compatibility` calls."""

from __future__ import annotations

from copy import copy
from functools import reduce
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..stencil.components import FreeParts
from ..stencil.problem import Poisson


def moved(array: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return a copy of an array on a device."""
    return torch.tensor(np.asarray(array), dtype=dtype, device=device)


def widest(device: torch.device) -> torch.dtype:
    """Return the widest precision that a device has."""
    return torch.float32 if device.type == "mps" else torch.float64


@final
class DeviceProblem:
    """Boundary values, and means, of a problem on a device."""

    def __init__(self, poisson: Poisson, operator: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.poisson, self.operator = poisson, operator
        self.grid, self.order, self.reaction = poisson.grid, poisson.order, poisson.reaction
        self.singular, self.has_constant_apart = poisson.singular, poisson.has_constant_apart
        self.homogeneous, self._device, self._dtype = poisson.homogeneous, device, dtype
        wide, domain = widest(device), poisson.domain
        self._weights = [moved(axis.weights / axis.weights.sum(), device, wide) for axis in poisson.grid.axes]
        self._sides = [] if self.homogeneous or poisson.varies else _sides(poisson, device, dtype)
        self._added = moved(poisson.folded(np.zeros(poisson.shape)), device, dtype) if poisson.varies else None
        self._unknown = None if domain is None else moved(domain.unknown, device)
        self._values = None if domain is None else moved(domain.values, device, dtype)
        self.parts = None if poisson.parts is None else DeviceParts(poisson.parts, device)

    def without_values(self) -> DeviceProblem:
        """Return the problem whose given values are all zero."""
        other = copy(self)
        other.homogeneous, other._sides, other._added = self._unknown is None, [], None
        other._values = None if self._values is None else torch.zeros_like(self._values)
        return other

    def empty(self) -> Tensor:
        """Return an array of its shape, without values."""
        return torch.empty(self.poisson.shape, dtype=self._dtype, device=self._device)

    def folded(self, f: Tensor) -> Tensor:
        """Return the right-hand side."""
        if self._added is not None:
            f = f + self._added
        if self._unknown is not None:
            return self.emptied(f)
        if not self._sides:
            return f
        b = f.clone()
        for axis, end, values in self._sides:
            b.select(axis, end).add_(values)
        return b

    def filled(self, u: Tensor) -> Tensor:
        """Return u with the given values, which are no unknowns."""
        return u if self._unknown is None else torch.where(self._unknown, u, self._values)  # type: ignore[arg-type]

    def emptied(self, u: Tensor) -> Tensor:
        """Return u with zero where there are no unknowns."""
        return u if self._unknown is None else torch.where(self._unknown, u, 0.0)

    def mean_there(self, u: Tensor) -> Tensor:
        """Return the mean in the cells' volumes, as a tensor: it stays on the device."""
        return reduce(torch.matmul, reversed(self._weights), u.to(self._weights[0].dtype))

    def mean(self, u: Tensor) -> float:
        """Return the mean in the cells' volumes."""
        return float(self.mean_there(u).item())

    exact_mean = mean

    def centered(self, u: Tensor) -> Tensor:
        """Return u without its mean where the constant part is found apart, and on each free component; else u."""
        if self.parts is not None:
            return self.parts.centered(u)
        return u - self.mean_there(u).to(u.dtype) if self.has_constant_apart else u

    def compatible(self, b: Tensor) -> Tensor:
        """Return b without its mean if the problem is singular, else b."""
        return self.centered(b) if self.singular else b


def _sides(poisson: Poisson, device: torch.device, dtype: torch.dtype) -> list[tuple[int, int, Tensor]]:
    """Return what boundary values add to b: along which axis, at which end, how much."""
    return [
        (number, end, moved(ghost.gain / axis.h**2 * value, device, dtype))
        for number, (axis, values) in enumerate(zip(poisson.grid.axes, poisson.side_values, strict=True))
        for end, ghost, value in zip((0, -1), axis.ghosts(), values, strict=True)
        if np.any(value)
    ]


@final
class DeviceParts:
    """The free components of a domain, as `stencil.components.FreeParts`: their means are sums on the device."""

    def __init__(self, parts: FreeParts, device: torch.device) -> None:
        wide = widest(device)
        self.reaction, self.refuse_incompatible = parts.reaction, parts.refuse_incompatible
        self._labels = moved(parts.labels, device)
        self._volumes = None if parts.volumes is None else moved(parts.volumes, device, wide)
        self._sizes = moved(parts.sizes, device, wide)

    def means(self, u: Tensor) -> Any:
        """Return the mean of u on each part, weighted by volumes, as an array of the host; entry 0 is 0."""
        return self._means(u).cpu().double().numpy()

    def _means(self, u: Tensor) -> Tensor:
        wide = u.to(self._sizes.dtype)
        weighted = wide if self._volumes is None else wide * self._volumes
        sums = torch.zeros_like(self._sizes).index_add(0, self._labels.ravel(), weighted.ravel())
        return sums / self._sizes

    def spread(self, values: Any, dtype: torch.dtype) -> Tensor:
        """Return the array that has one value on each part; values[0] where there is none."""
        return moved(values, self._labels.device, dtype)[self._labels]

    def centered(self, u: Tensor) -> Tensor:
        """Return u with mean zero on each part."""
        return u - self._means(u).to(u.dtype)[self._labels]
