"""Labelled images: data sets by name or from arrays (`datasets`), their files (`archives`, `download`), and `augmentation`."""
