"""A server as a model: the client, the probe at opening, and an engine that answers requests by asking it."""
