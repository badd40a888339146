"""Which documents no pretraining of lmtasks sees: kept for held-out scores, and for tasks over the same corpora."""

import hashlib

HELD_OUT_PER_MILLE = 5


def held_out(text: str) -> bool:
    """True where a document is kept for evaluation: decided by its content alone, the same in any order."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 1000 < HELD_OUT_PER_MILLE
