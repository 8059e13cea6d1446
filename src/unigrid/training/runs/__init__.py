"""What runs of either kind share: their course (`run`), checkpoints, logs, folders, random numbers, devices."""
