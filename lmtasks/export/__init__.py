"""Models become ONNX graphs: emitted, quantized, packed. Proof that they are right is `prove/`'s work."""
