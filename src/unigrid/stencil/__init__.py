"""The classical backend: linear stencils in the slots of the cycle, on a box, for Poisson's equation.

grid -> kernels -> operator, coupled, transfers, problem -> smoothers, coarse -> slots, hierarchy -> iterations, solving ->
cycle, galerkin -> solve; see ARCHITECTURE.md.
"""
