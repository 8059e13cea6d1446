"""The classical backend: linear stencils in the slots of the cycle, on a box, for Poisson's equation.

boundary -> grid -> interpolation -> operator, smoothers, transfers -> problem, coarse -> hierarchy -> prepared -> solve
"""
