"""Training on Poisson problems. Only this part imports the stencil backend; it is loaded when it is used."""
