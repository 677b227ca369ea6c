"""Measures the daemon as a process: one core for it, the other for everything else."""
