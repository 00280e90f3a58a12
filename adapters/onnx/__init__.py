"""ONNX models: adapter, session, digest of a graph."""
