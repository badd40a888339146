"""A checkpoint in CTranslate2's own format, made in CTranslate2's own environment.

    python runtimes_convert.py CHECKPOINT OUT float32|int8

Nothing of lmtasks is imported here.
"""

import sys

import ctranslate2

if __name__ == "__main__":
    checkpoint, out, precision = sys.argv[1:]
    ctranslate2.converters.TransformersConverter(checkpoint).convert(out, quantization=precision, force=True)
