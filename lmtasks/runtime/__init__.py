"""A few primitives that compute, under one ABC: a driver each for torch, ONNX Runtime and models without either."""
