"""The primitives over PyTorch."""
