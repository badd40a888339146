"""Long texts as windows that a model can read, for rolling perplexity.

Every token is predicted once; every window but the first is full. Exactly as in lm-evaluation-harness with
context_len 1 (`get_rolling_token_windows`, `make_disjoint_window`).

>>> for window in rolling_windows(range(10), prefix=99, max_length_tokens=4):
...     print(list(window.context_ids), list(window.target_ids))
[99] [0, 1, 2, 3]
[3] [4, 5, 6, 7]
[5, 6, 7] [8, 9]
"""

from collections.abc import Sequence

from lmtasks.engine.requests import ScoreRequest
from lmtasks.errors import UsageError


def rolling_windows(ids: Sequence[int], *, prefix: int, max_length_tokens: int) -> tuple[ScoreRequest, ...]:
    """The requests whose log-probabilities sum to that of the text; none for a text of no tokens.

    Args:
        ids: the text's tokens.
        prefix: what stands before the first token: BOS, or else EOS.
        max_length_tokens: how many tokens the model can read at once.
    """
    if max_length_tokens < 1:
        raise UsageError(f"a model must be able to read at least 1 token, was {max_length_tokens}.")
    text = tuple(ids)
    windows: list[ScoreRequest] = []
    done = 0
    while done < len(text):
        end = min(done + max_length_tokens, len(text))
        if done == 0:
            context: tuple[int, ...] = (prefix,)
        else:
            context = text[max(0, end - max_length_tokens - 1) : done]
        windows.append(ScoreRequest(context_ids=context, target_ids=text[done:end]))
        done = end
    return tuple(windows)
