"""One backbone, its heads, its adapters: assembled, saved, loaded."""
