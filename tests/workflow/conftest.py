"""The engine tests' fake runtime, the evaluation's small tasks and made timings serve here as well."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("engine", "evaluation", "bench")]
