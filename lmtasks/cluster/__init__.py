"""Work over many machines: jobs, the processes that carry them out, and what was lost on the way."""
