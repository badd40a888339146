"""A name as part of a file's name."""

import re


def slug(name: str) -> str:
    """Lower case, with one hyphen for whatever a file name had better not hold.

    >>> slug("onnx int8")
    'onnx-int8'
    """
    return re.sub(r"[^\w.]+", "-", name).strip("-").lower()
