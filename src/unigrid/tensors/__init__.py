"""Tensors through the solver, with gradients by the adjoint solve. It needs torch, and is loaded when a tensor arrives."""
