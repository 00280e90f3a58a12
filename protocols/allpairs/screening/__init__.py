"""Low-precision products with a proven error bound, and the pairs that they leave undecided."""
