"""Vectors become numbers: arrays in, a `Report` out.  Needs numpy and scipy, nothing else."""
