"""Defaults of training, in a module without torch: the command line prints them in its help."""

IMAGE_MODEL, IMAGE_PROTOCOL = "mgnet-64-Bl", "fast"
RUNS = "runs"  # the folder of the command line's runs
POISSON, POISSON_PROTOCOL = "poisson", "fourier"  # the name that `unigrid.train` and `unigrid train` forward by
POISSON_SIZE = 63  # unknowns along either axis
