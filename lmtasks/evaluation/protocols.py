"""What evaluation needs of an engine, and how a task's settings reach it."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Protocol

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import Decoding, Generated, GenerateRequest, OnProgress, Scored, ScoreRequest
from lmtasks.engine.settings import not_obeyed, settled
from lmtasks.records import NOT_KEPT, Floats32, GenerationSettings, ModelCard, RuntimeCard
from lmtasks.task.task import Generation


class InferenceEngine(Protocol):
    """`lmtasks.engine.engine.Engine`, whatever its runtime's state."""

    tokenizer: Tokenizer

    @property
    def cached(self) -> Sequence[bool]:
        """Of the last call, for each request: was its answer known before? Empty: none was."""
        ...

    @property
    def model(self) -> ModelCard: ...

    @property
    def card(self) -> RuntimeCard: ...

    @property
    def max_length_tokens(self) -> int: ...

    def predict(self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None) -> list[Floats32]: ...

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None) -> list[Scored]: ...

    def generate(self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None) -> list[Generated]: ...


def decoding_of(settings: Generation) -> Decoding:
    """A task's settings of generation as the engine reads them, with nothing of a model's own."""
    asked = {field.name: getattr(settings, field.name) for field in fields(GenerationSettings)}
    if settings.own_temperature:
        asked["temperature"] = None
    return Decoding(stop=settings.stop, **asked)


def asked_of(model: ModelCard, settings: Generation) -> Decoding:
    """What a task asks of a model: its settings, with the model's own length where that counts before them.

    lm-evaluation-harness 0.4.13 tells `generate` the task's length as `max_length`, and there a `max_new_tokens` of
    generation_config.json counts first, be it more or less; prompts are cut for the task's length. A person's length
    counts before both.
    """
    asked, own = decoding_of(settings), model.generation.max_new_tokens
    if own is None or settings.insists:
        return asked
    return replace(asked, max_new_tokens=own, room_tokens=settings.max_new_tokens)


def told_decoding(model: ModelCard, settings: Generation) -> dict[str, object]:
    """How a model writes a task's texts, for who reads the scores: all settings that hold, and what its
    generation_config.json sets and is not obeyed."""
    asked = asked_of(model, settings)
    return {**asdict(settled(asked, model)), "not_obeyed": dict(not_obeyed(asked, model))}


def said_of(model: ModelCard, task: str, settings: Generation) -> list[str]:
    """Sentences on what a person would not expect of a model's own settings; mostly none."""
    said = []
    missing = not_obeyed(asked_of(model, settings), model)
    if NOT_KEPT in missing:
        said.append(
            f"{model.name} was exported by a version that kept little of {NOT_KEPT}: texts are written as if it named "
            "forced and forbidden tokens alone; export the model again if it says more."
        )
    elif missing:
        said.append(
            f"{model.name}: generation_config.json sets what is not obeyed here, so texts may differ from those of "
            f"transformers' generate: {', '.join(f'{name}={value}' for name, value in missing.items())}."
        )
    own = model.generation.max_new_tokens
    if own is not None and own != settings.max_new_tokens and not settings.insists:
        said.append(
            f"{model.name}: answers to {task} have at most {own} tokens, as its generation_config.json says "
            f"(max_new_tokens), not {settings.max_new_tokens} as the task says, as in lm-evaluation-harness; "
            f"--gen-kwargs max_gen_toks={settings.max_new_tokens} counts before both."
        )
    return said
