"""Local Fourier analysis: what smoothers and cycles do to errors, frequency by frequency, and what networks have learned.

On an infinite grid a constant stencil multiplies the wave exp(i theta j) by a number, its symbol. Smoothers are functions of
symbols; a cycle couples the few waves that look alike on the coarser grids, so its error propagation is a small matrix for
each base frequency. The largest spectral radius over the frequencies predicts the factor by which a cycle reduces errors,
without running it.

    symbols.py      the symbol of a stencil, and of an operator on the frequencies of a level
    smoothers.py    the error symbol of every smoother
    stencils.py     levels of stencils: the transfers, read off what they make of unit impulses, and the coarse operators
    waves.py        sets of waves that look alike on coarser grids
    arguments.py    what users give, checked
    cycles.py       `FourierAnalysis`: smoothing factor, two-grid factor, and the factor of a cycle of more levels
    measured.py     the factor of a cycle that runs, to stand beside the predicted one
    networks.py     the symbols of the A^l and B^l of a trained network

Source: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), chapter 4; R. Wienands, W. Joppich, Practical Fourier
Analysis for Multigrid Methods (2005).
"""

from .cycles import FourierAnalysis
from .measured import measured_factor
from .networks import KernelSymbol, network_symbols
from .symbols import OperatorSymbol, symbol

__all__ = ["FourierAnalysis", "KernelSymbol", "OperatorSymbol", "measured_factor", "network_symbols", "symbol"]
