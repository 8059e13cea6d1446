"""One grid on several processes: each holds a block of it, and the cycle is that of one process."""
