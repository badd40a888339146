"""Heads turn hidden states into answers. They know nothing of the backbone's kind."""
