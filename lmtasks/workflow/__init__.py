"""Use cases, one a file: what the Python front door, the command line and a run call."""
