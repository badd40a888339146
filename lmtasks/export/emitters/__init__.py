"""Graphs built block by block, one file an architecture. What they share stands in `blocks.py` and its neighbours."""
