"""Requests over any runtime: scheduling, decoding, and answers from logits. NumPy only."""
