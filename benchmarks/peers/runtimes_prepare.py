"""From a shape to all that its race needs: checkpoint, packages, CTranslate2's folders, inputs. Made once."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtimes_checkpoints import GPT2_WORDS, ids_to_continue, make_shape, sentences, sources
from runtimes_works import CONTENDERS, PEERS, RECURRENT, Contender, ShapeName, Side, contenders_of
from sides import HERE, ROOT

PACKAGED = ROOT / "lmtasks" / "backbone" / "presets" / "lmtasks-mini" / "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One shape, ready to be raced."""

    shape: ShapeName
    home: Path
    texts: str
    """Where the inputs are from."""

    def folder(self, contender: Contender) -> Path:
        """What the contender opens."""
        names: Mapping[str, str] = {
            "lmtasks": "checkpoint" if contender.runtime == "torch" else _package(contender),
            "transformers": "checkpoint",
            "compiled": "checkpoint",
            "packed": "checkpoint",
            **{side: f"{side}-{contender.precision}" for side in PEERS},
            "memory": f"package-{contender.precision}",
        }
        return self.home / names[contender.side]


def prepare(shape: ShapeName, *, out: Path, data_root: Path | None, pythons: Mapping[Side, Path]) -> Prepared:
    """Make what is not there yet.

    Args:
        shape: which.
        out: a folder for all shapes.
        data_root: a mirror of the Hub, for real sentences; None: those of the starter tasks.
        pythons: of the peers that take part.
    """
    home = out / shape
    checkpoint = make_shape(home / "checkpoint", shape=shape, tokenizer=PACKAGED)
    raced = [CONTENDERS[name] for name in contenders_of(shape)]
    for contender in raced:
        if contender.side == "lmtasks" and contender.runtime != "torch" and not contender.lacks:
            export(
                checkpoint,
                home / _package(contender),
                precision=contender.precision,
                base=home / "package-fp32",
                runtime=contender.runtime,
            )
    inputs, texts = _inputs(shape, data_root=data_root)
    (home / "inputs.json").write_text(json.dumps(inputs), encoding="utf-8")
    for contender in raced:
        if contender.side in pythons:
            _convert(pythons[contender.side], contender, checkpoint, home=home)
    return Prepared(shape=shape, home=home, texts=texts)


def _package(contender: Contender) -> str:
    """The folder of a package of ours."""
    return f"package-{'' if contender.runtime == 'onnx' else f'{contender.runtime}-'}{contender.precision}"


def export(checkpoint: Path, out: Path, *, precision: str, base: Path, runtime: str = "onnx") -> None:
    """As `lmtasks export` makes it; its proof is left to the tests, and to the equal answers of this race."""
    from lmtasks.export.emit import export_model

    if out.is_dir():
        return
    aside = out.with_name(out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    export_model(
        checkpoint,
        out=aside,
        precision=precision,
        report=lambda progress: None,
        base=None if out == base else base,
        runtime=runtime,
    )
    aside.rename(out)


def _convert(python: Path, contender: Contender, checkpoint: Path, *, home: Path) -> None:
    """In the peer's own environment, by its own means."""
    out = home / f"{contender.side}-{contender.precision}"
    if out.is_dir():
        return
    aside = out.with_name(out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    script = HERE / "runtimes_convert.py"
    command = [str(python), str(script), contender.side, str(checkpoint), str(aside), contender.precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender.name} cannot be made of {checkpoint}:\n{done.stderr[-2000:]}")
    aside.rename(out)


def _inputs(shape: ShapeName, *, data_root: Path | None) -> tuple[list[list[int]], str]:
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(str(PACKAGED))
    if shape == "marian":
        return sources(), "random ids, 8 to 40 a sentence"
    if shape in {"minilm", *RECURRENT}:
        texts, where = sentences(data_root, ROOT / "tasks" / "starter", count=1000)
        if shape in RECURRENT:
            texts = list(dict.fromkeys(texts))[:512]  # the engine answers what is asked twice only once
        end = raw.token_to_id("<|endoftext|>")
        return [[*each.ids[:126], end] for each in raw.encode_batch(texts, add_special_tokens=False)], where
    words = GPT2_WORDS if shape == "gpt2" else raw.get_vocab_size(with_added_tokens=True)
    return ids_to_continue(words), "random ids, 64 a prompt"
