"""ONNX models: the adapter, its session, the digest of a graph."""
