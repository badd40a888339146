"""Settings of generation that stand in place of a task file's: only those that are given change anything."""

from collections.abc import Mapping

import pytest

from lmtasks.errors import UsageError
from lmtasks.settings.generation import Decoding
from lmtasks.task.generation import changed, generation_of, with_generation
from lmtasks.task.index import default_index

OWN = Decoding(max_new_tokens=9, stop=("\n",), temperature=0.7, top_p=0.9, num_beams=1, seed=5)


@pytest.mark.parametrize(
    ("given", "other"),
    [
        ({}, {}),
        ({"num_beams": "4", "length_penalty": "0.6"}, {"num_beams": 4, "length_penalty": 0.6}),
        ({"max_new_tokens": 3}, {"max_new_tokens": 3}),
        ({"do_sample": "false"}, {"temperature": 0.0}),
        ({"do_sample": True}, {}),
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"until": ["a", "b"]}, {"stop": ("a", "b")}),
        ({"until": []}, {"stop": ()}),
        ({"top_k": 5, "min_p": 0.1, "seed": 1}, {"top_k": 5, "min_p": 0.1, "seed": 1}),
        ({"use_cache": True}, {}),
    ],
)
def test_what_is_not_given_stays(given: Mapping[str, object], other: Mapping[str, object]) -> None:
    have, own = vars(changed(OWN, given)), vars(OWN)
    assert {name: value for name, value in have.items() if value != own[name]} == other


def test_drawing_alone_means_temperature_1_where_the_task_is_greedy() -> None:
    assert changed(Decoding(), {"do_sample": True}).temperature is None  # the model's own, else 1
    assert generation_of({"do_sample": True}, delimiter="").temperature is None


def test_tasks_keep_their_hash_and_those_that_write_nothing_stay() -> None:
    tasks = default_index().find("starter_translation_en_zh,starter_sentiment_en")
    written, chosen = with_generation(tasks, {"num_beams": 2})
    assert (written.generation.num_beams, written.hash) == (2, tasks[0].hash)
    assert chosen == tasks[1]
    assert with_generation(tasks, {}) == tasks
    with pytest.raises(UsageError, match="no text is written for starter_sentiment_en"):
        with_generation(tasks[1:], {"num_beams": 2})
