"""Products and comparisons of one tile: numpy, numba, torch, CUDA, Triton."""
