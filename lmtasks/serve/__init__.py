"""A model behind HTTP: OpenAI's interface to texts and vectors, and our own to heads, over the engine."""
