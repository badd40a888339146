"""Models in a single file of llama.cpp (GGUF), read into a transformers folder once.

    lmtasks eval --model SmolLM2-135M-Instruct-Q4_K_M.gguf --tasks arc_easy

transformers' reader maps names of weights, configuration and tokenizer, and makes fp32 of whatever the weights are kept
in (Q4_K, Q8_0, ...), by the package `gguf`. What it yields lies in the cache folder under the hash of the file, with
`gguf.json` beside it, and is a model folder like any other: scored, timed, adapted and exported. Its answers are those
of the rounded weights; its speed and memory are those of PyTorch in fp32, and not llama.cpp's.
"""

import logging
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

from lmtasks.checksums import file_checksum
from lmtasks.errors import UsageError
from lmtasks.files import first_line, reading, slug, write_json
from lmtasks.installation import cache_folder

SUFFIX = ".gguf"
FACTS = "gguf.json"
"""In a folder that was made of a file: its name, hash, architecture, and what its weights were kept in."""
MAGIC = b"GGUF"
SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
SERVE = "serve it (llama-server -m {file}) and give --model http://127.0.0.1:8080/v1"

log = logging.getLogger(__name__)


def is_gguf(file: Path) -> bool:
    """Is it a file of that name?"""
    return file.suffix.lower() == SUFFIX and file.is_file()


def folder_of(file: Path) -> Path:
    """The transformers folder of a GGUF file; made where there is none yet. How it was read is said once a process.

    Raises:
        UsageError: it is none, is one of several parts, its architecture is none that transformers reads, or the
            package `gguf` is not installed.
    """
    _check(file)
    hash = file_checksum(file)[:16]
    folder = cache_folder() / "gguf" / hash / slug(file.stem, lower=False)
    if not (folder / FACTS).is_file():
        _convert(file, folder, hash=hash)
    _say(file, folder)
    return folder


def _check(file: Path) -> None:
    if SPLIT.search(file.name):
        raise UsageError(
            f"{file} is one of several parts; put them together (llama-gguf-split --merge {file.name} whole.gguf) and "
            "give that file."
        )
    with file.open("rb") as content:
        magic = content.read(len(MAGIC))
    if magic != MAGIC:
        raise UsageError(f"{file} is no GGUF file: it does not begin as one. Copy it again.")
    if find_spec("gguf") is None:
        raise UsageError(
            f"{file} is read by the package gguf, which is not installed: pip install 'lmtasks[gguf]'; or "
            f"{SERVE.format(file=file)}."
        )


def _convert(file: Path, folder: Path, *, hash: str) -> None:
    """Read the file with transformers, and save what that yields aside, then in its place."""
    import torch
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from lmtasks.backbone.transformer import LOADERS, traits_of

    disable_progress_bar()

    facts = _facts(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(mkdtemp(prefix=".making-", dir=folder.parent))
    place, name = str(file.resolve().parent), file.name
    try:
        with reading(f"the model in {file}"):
            try:
                config = AutoConfig.from_pretrained(place, gguf_file=name)
                loader = LOADERS[kind] if (kind := traits_of(config).kind) != "encoder" else LOADERS[""]
                tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
                model = loader.from_pretrained(  # type: ignore[attr-defined]
                    place, gguf_file=name, dtype=torch.float32
                )
            except (ImportError, NotImplementedError, AttributeError) as error:
                raise UsageError(
                    f"{file} cannot be read by transformers ({first_line(error).rstrip('.')}); "
                    f"{SERVE.format(file=file)}."
                ) from error
        strange = sorted(
            {type(module).__name__ for module in model.modules() if "gguf" in type(module).__name__.lower()}
        )
        if strange:
            raise UsageError(f"transformers keeps weights of {file} rounded ({strange[0]}); {SERVE.format(file=file)}.")
        # What it was read from no more says how it is kept.
        model.hf_quantizer = None
        model.config.__dict__.pop("quantization_config", None)
        model.save_pretrained(str(aside))
        tokenizer.save_pretrained(str(aside))
        write_json(aside / FACTS, {"file": name, "hash": hash, **facts})
        if not (folder / FACTS).is_file():
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _facts(file: Path) -> Mapping[str, object]:
    """The architecture of a file, and how many of its weights are kept in what.

    Raises:
        UsageError: it is cut short, or transformers reads no such architecture.
    """
    from gguf import GGUFReader
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    try:
        reader = GGUFReader(str(file))
        architecture = str(reader.fields["general.architecture"].contents())
        kinds = Counter[str]()
        for tensor in reader.tensors:
            kinds[tensor.tensor_type.name] += int(tensor.n_elements)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise UsageError(f"{file} is damaged or cut short: {first_line(error)}; copy it again.") from error
    readable = sorted({*GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"})
    known = {name.replace("_", "").replace("-", "") for name in readable}
    if architecture.replace("_", "").replace("-", "") not in known:
        raise UsageError(
            f"{file} is of architecture {architecture!r}, which transformers does not read from GGUF (it reads "
            f"{', '.join(readable)}); {SERVE.format(file=file)}."
        )
    return {"architecture": architecture, "weights": dict(kinds.most_common())}


def _say(file: Path, folder: Path) -> None:
    from lmtasks.files import read_object

    facts = read_object(folder / FACTS)
    weights = facts.get("weights")
    kinds = ", ".join(weights) if isinstance(weights, Mapping) else "unknown"
    sentence = (
        f"{file.name} ({facts.get('architecture')}; weights in {kinds}) is read by transformers and computed in fp32: "
        f"answers are those of its rounded weights, speed and memory not those of llama.cpp; for these {SERVE}."
    ).format(file=file)
    if sentence not in _SAID:
        _SAID.add(sentence)
        log.warning("%s", sentence)


_SAID: set[str] = set()
