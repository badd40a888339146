"""n-gram models between our folders and ARPA files."""

import shutil
from dataclasses import replace
from pathlib import Path

from lmtasks.backbone.arpa import END, read_arpa, write_arpa
from lmtasks.backbone.ngram import NEVER
from lmtasks.data.continuation import end_tokens
from lmtasks.data.tokenizer import END_OF_TEXT, PADDING, SEPARATOR, load_tokenizer
from lmtasks.data.vocabulary import UNKNOWN, tokenizer_of_words
from lmtasks.errors import UsageError
from lmtasks.model.closed_form import FittedModel, Ngram, NgramSizes, fitted_family, load_fitted, save_fitted
from lmtasks.model.resolve import resolve
from lmtasks.model.store import tokenizer_folder
from lmtasks.settings.data import DataAccess
from lmtasks.training.closed_form import fitted_card

LINE = "%0A"
"""How the end of a line is written where `</s>` is the end of a text."""


def is_arpa(file: Path) -> bool:
    """By its name."""
    return file.name.endswith((".arpa", ".arpa.gz"))


def model_to_arpa(ref: str, out: Path, *, data: DataAccess) -> Ngram:
    """Write the n-grams of a model to the file `out`.

    Args:
        ref: a folder, a shipped name or a Hub id.

    Raises:
        UsageError: the folder holds no n-grams of a text, or `out` exists.
    """
    folder = resolve(ref, offline=data.offline, token=data.token)
    model = load_fitted(folder).text if fitted_family(folder) == "ngram" else None
    if model is None:
        raise UsageError(f"{folder} is no n-gram model of a text, and ARPA files hold no others; give --out a folder.")
    _check_free(out)
    tokenizer = load_tokenizer(tokenizer_folder(folder))
    aside = out.with_name(f"part.{out.name}")
    write_arpa(model, aside, words=[str(tokenizer.raw.id_to_token(token)) for token in range(model.vocabulary)])
    aside.rename(out)
    return model


def arpa_to_model(file: Path, out: Path) -> Ngram:
    """Make the model folder `out` of a file, whatever tool wrote it. Its tokens are the file's words, cut at blanks;
    `</s>` is the end of a line. Where the file has no `<unk>`, words that it lacks have a probability of 1e-99.

    Raises:
        UsageError: the file is damaged, or `out` exists.
    """
    _check_free(out)
    ngram, names = read_arpa(file, also=(END_OF_TEXT, PADDING, SEPARATOR, UNKNOWN))
    words = [name.replace(LINE, "\n") for name in names]
    if LINE not in names:
        words[names.index(END)] = "\n"
    tokenizer = tokenizer_of_words(words)
    ends = tuple(sorted({*ngram.ends, *end_tokens(tokenizer, lines=LINE not in names)}))
    ngram = replace(ngram, ends=ends)
    sizes = NgramSizes(order=ngram.order, lines=int(LINE not in names))
    model = FittedModel(
        card=fitted_card("ngram", name=out.name, tokenizer=tokenizer, predicts=True),
        sizes=sizes,
        ends=ends,
        text=ngram,
    )
    aside, part = out.with_name(out.name + ".new"), out.with_name(out.name + ".part")
    for folder in (aside, part):
        shutil.rmtree(folder, ignore_errors=True)
    aside.mkdir(parents=True)
    tokenizer.save(aside)
    unknown = bool(ngram.levels[0].logprobs[words.index(UNKNOWN)] > NEVER / 2)
    save_fitted(
        model,
        part,
        tokenizer=aside,
        provenance={
            "file": file.name,
            "knows_unknown_words": unknown,
            "ngrams": [len(level.keys) for level in ngram.levels],
        },
    )
    part.rename(out)
    shutil.rmtree(aside)
    return ngram


def _check_free(out: Path) -> None:
    if out.exists():
        raise UsageError(f"{out} exists; give another --out, or delete it.")
