"""The front door behind `import lmtasks`: what the command line does, as functions with typed results."""
