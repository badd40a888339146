"""Settings of writing texts: one class from a task's file, a plan or a person to the engine.

>>> Decoding(temperature=0.7, num_beams=4).check()
Traceback (most recent call last):
...
lmtasks.errors.UsageError: beam search draws nothing: with num_beams 4 the temperature must be 0, was 0.7.
"""

from dataclasses import asdict, dataclass

from lmtasks.errors import UsageError
from lmtasks.records import GenerationSettings

NOT_OF_AN_ANSWER = ("seed", "insists")
"""Fields that say how others are chosen, and not how a text is written."""


@dataclass(frozen=True, kw_only=True)
class Decoding(GenerationSettings):
    """How a continuation is chosen. Temperature 0 is greedy, or beam search with more than one beam.

    What is None is as the model's generation_config.json has it, else as transformers has it
    (`engine.decoding_settings`). A dataclass, not a model: it is made and hashed once a request, and stored and hashed
    by its fields.
    """

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    temperature: float | None = 0.0
    """None: drawn at the model's own temperature, else at 1; where only `do_sample` was said."""
    room_tokens: int | None = None
    """So many new tokens have room behind a prompt that is cut; None: all. With it, an answer that finds less room than
    `max_new_tokens` is shorter; without, it is refused."""
    seed: int | None = None
    """Of a task's own draws; None: that of the run."""
    insists: bool = False
    """Whether `max_new_tokens` counts before the model's own: where a person says it, and not the task's file."""

    @property
    def room(self) -> int:
        """New tokens that have room behind a prompt that is cut."""
        return self.max_new_tokens if self.room_tokens is None else self.room_tokens

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(self.stop):
            raise UsageError("a stop string must not be empty.")

    def check(self) -> None:
        """Refuse what the engine cannot carry out; a task's file may still be changed by a person.

        Raises:
            UsageError: beams and a temperature.
        """
        if (self.num_beams or 1) > 1 and self.temperature != 0:
            raise UsageError(
                f"beam search draws nothing: with num_beams {self.num_beams} the temperature must be 0, "
                f"was {self.temperature}."
            )

    def stored(self) -> dict[str, object]:
        """Fields that an answer depends on, as results keep them and the cache's keys are made of them."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_OF_AN_ANSWER}
