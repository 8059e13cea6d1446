"""The kernels that numba compiles, and the arguments that they share with Python."""
