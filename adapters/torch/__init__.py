"""Torch models: modules, TorchScript and exported programs, weights, published networks."""
