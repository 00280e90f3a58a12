"""Products and comparisons of one tile, by numpy, numba, torch, CUDA or Triton."""
