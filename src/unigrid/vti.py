"""Grids for ParaView and others that read VTK's image data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

TYPES = {"f4": "Float32", "f8": "Float64"}


class Lattice(NamedTuple):
    """Points of a grid: the first one, and their distance along each axis."""

    origin: Sequence[float]
    spacing: Sequence[float]


def write_vti(file: BinaryIO, array: NDArray[Any], name: str, lattice: Lattice) -> None:
    """Write an array as values at the points of a lattice; leading axes count several arrays: name0, name1, ...

    Source: VTK file formats, section "XML file formats"; https://docs.vtk.org
    """
    shape = array.shape[array.ndim - len(lattice.spacing) :]
    parts = array.reshape(-1, *shape)
    names = [name] if parts.shape[1:] == array.shape else [f"{name}{number}" for number in range(len(parts))]
    extent = " ".join(f"0 {n - 1}" for n in _padded(shape, 1))
    origin, spacing = (
        " ".join(map(repr, _padded(map(float, each), fill))) for each, fill in zip(lattice, (0.0, 1.0), strict=True)
    )
    kind = f"<f{array.dtype.itemsize}"
    size = 8 + parts[0].size * array.dtype.itemsize
    arrays = "".join(
        f'<DataArray type="{TYPES[kind[1:]]}" Name="{each}" format="appended" offset="{number * size}"/>'
        for number, each in enumerate(names)
    )
    head = (
        '<?xml version="1.0"?>\n<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f'<ImageData WholeExtent="{extent}" Origin="{origin}" Spacing="{spacing}">\n<Piece Extent="{extent}">'
        f'<PointData Scalars="{names[0]}">{arrays}</PointData></Piece>\n</ImageData>\n<AppendedData encoding="raw">_'
    )
    file.write(head.encode())
    for part in parts:
        file.write(np.uint64(size - 8).astype("<u8").tobytes())
        file.write(part.astype(kind).tobytes(order="F"))  # x varies fastest
    file.write(b"</AppendedData>\n</VTKFile>\n")


def _padded(values: Any, fill: Any) -> list[Any]:
    """Return values of three axes."""
    given = list(values)
    return given + [fill] * (3 - len(given))
