"""What a server can do is found out when it is opened; log-probabilities that cannot be right are none."""

from contextlib import closing

import pytest
from toy_server import Toy, serving

from lmtasks.endpoint.client import Client
from lmtasks.endpoint.probe import Server, probe
from lmtasks.errors import UsageError, WorkError
from lmtasks.settings.endpoint import Endpoint

QUICK = Endpoint(retries=3, request_timeout=20)


def probed(toy: Toy, settings: Endpoint = QUICK) -> Server:
    with serving(toy) as address, closing(Client(address, settings)) as client:
        return probe(client, settings, tokenizer=None)


def test_a_whole_server() -> None:
    server = probed(Toy())
    assert (server.name, server.completes, server.chats, server.scores) == ("toy", True, True, "echo")
    assert (server.tells_greedy, server.tells_own, server.takes_ids, server.context_tokens) == (True, True, False, 512)


def test_prompt_logprobs_where_echo_is_refused() -> None:
    server = probed(Toy(echo=False, prompt_logprobs=True))
    assert server.scores == "prompt_logprobs"


def test_a_first_token_that_the_server_adds() -> None:
    assert probed(Toy(first_token="<s>")).scores == "echo"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("empty", "0 of 19 tokens have a log-probability"),
        ("equal", "all 18 tokens have the same log-probability, 0"),
        ("shifted", "shifted by one token"),
        ("behind", "nats a token off those that it told while it wrote"),
        ("none", "tells no log-probabilities"),
    ],
)
def test_log_probabilities_that_are_none(told: str, why: str) -> None:
    server = probed(Toy(echo_logprobs=told))
    assert server.scores == ""
    assert why in server.why_no_scores


def test_a_text_of_its_own_that_is_cut_otherwise_when_it_is_given() -> None:
    """Behind parts of a known text the server writes what it says to be likeliest there, or it says something else."""
    assert probed(Toy(own_pairs=True)).scores == "echo"
    server = probed(Toy(own_pairs=True, echo_logprobs="behind"))
    assert server.scores == ""
    assert "are not those that it writes there" in server.why_no_scores


def test_without_its_own_tokens_nothing_shows_that_they_are_right() -> None:
    assert "held against" in probed(Toy(own_logprobs=False, tops=False)).why_no_scores


def test_a_server_of_chats_alone() -> None:
    server = probed(Toy(completions=False))
    assert (server.completes, server.chats, server.scores) == (False, True, "")


def test_a_name_that_it_does_not_have() -> None:
    with pytest.raises(UsageError, match=r"has no model 'mine' \(--served-name\)\. It has: toy\."):
        probed(Toy(), QUICK.but({"served_name": "mine"}))


def test_another_protocol() -> None:
    with pytest.raises(WorkError, match="Neither completions nor chat/completions"):
        probed(Toy(completions=False, chat=False))


def test_nobody_listens() -> None:
    settings = QUICK.but({"retries": 0})
    with (
        closing(Client("http://127.0.0.1:9/v1", settings)) as client,
        pytest.raises(WorkError, match="the connection failed"),
    ):
        probe(client, settings, tokenizer=None)
