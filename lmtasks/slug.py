"""A name as part of a file's name."""

import regex


def slug(name: str) -> str:
    """Lower case, with one hyphen for whatever a file name had better not hold.

    >>> slug("onnx int8")
    'onnx-int8'
    >>> slug("दिन दान")
    'दिन-दान'
    """
    return str(regex.sub(r"[^\p{L}\p{M}\p{N}_.]+", "-", name)).strip("-").lower()
