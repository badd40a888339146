"""One training loop: pretraining, and the adaptation of a model to tasks."""
