"""Training on labelled images, and trained classifiers at work."""
