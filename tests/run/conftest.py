"""The fake runtime of the engine's tests, the small tasks of the evaluation's, and made timings serve here as well."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("engine", "evaluation", "bench")]
