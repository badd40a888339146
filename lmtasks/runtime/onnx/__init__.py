"""The primitives over ONNX Runtime. Neither torch nor transformers is imported."""
