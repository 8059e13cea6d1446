"""Local Fourier analysis: error propagation of smoothers and cycles per frequency, and the symbols of trained networks.

On an infinite grid a constant stencil multiplies the Fourier mode exp(i theta j) by a number, its symbol. The error symbols
of smoothers are functions of it; a cycle couples the few modes that coincide on the coarser grids, so its error propagation is
a small matrix per base frequency. The largest spectral radius over the frequencies predicts the convergence factor of the
cycle. The matrices come from `unigrid.cycle.MultigridCycle` itself, its slots filled with symbols.

    symbols.py      the symbol of a stencil, and of an operator on the frequencies of a level
    smoothers.py    the error symbol of every smoother
    stencils.py     stencils per level: the transfers, from their impulse responses, and the coarse operators
    levels.py       sets of Fourier modes that coincide on coarser grids, and the levels of a cycle on them
    cycles.py       `FourierAnalysis`: smoothing factor, two-grid factor, and the factor of a cycle of more levels
    measured.py     the measured factor of a cycle, for comparison
    networks.py     the symbols of the A^l and B^l of a trained network

Source: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), chapter 4; R. Wienands, W. Joppich, Practical Fourier
Analysis for Multigrid Methods (2005).
"""

from .cycles import FourierAnalysis
from .measured import measured_factor
from .networks import KernelSymbol, network_symbols
from .symbols import OperatorSymbol, symbol

__all__ = ["FourierAnalysis", "KernelSymbol", "OperatorSymbol", "measured_factor", "network_symbols", "symbol"]
