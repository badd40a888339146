"""Backbones turn token ids into vectors and next-token scores. They know nothing of tasks."""
