"""What computes: a few primitives, written once for torch and once for ONNX Runtime."""
