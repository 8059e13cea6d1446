"""Training on labelled images, and trained networks in use."""
