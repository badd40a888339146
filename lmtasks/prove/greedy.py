"""Does a package write the tokens that its model writes in torch, one behind the other?"""

import numpy as np

from lmtasks.records import TokenBatch
from lmtasks.results.proof import Check
from lmtasks.runtime.base import Runtime

UNDECIDED = 1e-4
"""Where torch's two best logits lie within this, either is right, and what follows is not compared."""


def check_greedy(reference: Runtime, exported: Runtime, *, prompt: int, steps: int) -> Check:
    """Greedy continuations of a prompt of one token, each by its own tokens, up to the first that differ.

    Args:
        steps: tokens to write.
    """
    batch = TokenBatch(ids=np.array([[prompt]]), mask=np.ones((1, 1), dtype=np.bool_))
    (mine, wanted), (theirs, found) = reference.prefill(batch), exported.prefill(batch)
    differences: list[float] = []
    written, undecided = 0, False
    for step in range(steps):
        token = wanted.argmax(axis=1)
        if int(found.argmax()) != int(token[0]):
            best = np.sort(wanted[0].astype(np.float64))[-2:]
            undecided = bool(best[1] - best[0] < UNDECIDED)
            break
        difference = np.abs(wanted - found)
        differences.append(float(np.where(np.isfinite(difference), difference, np.inf).max()))
        written = step + 1
        if written < steps:
            mine, wanted = reference.step(mine, token)
            theirs, found = exported.step(theirs, token)
    return Check(
        graph="decoder",
        case=f"{steps} greedy tokens",
        numbers=written,
        max_difference=max(differences, default=0.0),
        mean_difference=float(np.mean(differences)) if differences else 0.0,
        cosine=None,
        agreement=written / steps,
        open_choices=int(undecided),
        ok=written == steps or undecided,
    )
