"""The classical backend: linear stencils in the slots of the cycle, on a box, for Poisson's equation.

boundary, grid -> kernels -> interpolation, operator, problem -> smoothers, transfers, coarse -> hierarchy -> iterations,
solving -> cycle -> solve; see ARCHITECTURE.md.
"""
