"""Completions and chats: what is sent is what the engine answers, in OpenAI's form."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asker import Answered, Asker, Start
from packed import model_folder, package

from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.settings.generation import Decoding
from lmtasks.workflow.open_model import open_engine

PROMPTS = ("the cat sat", "a good film", "今天天气", "the river runs past the old mill", "a", "looked at the bird")
GREEDY = {"temperature": 0, "max_tokens": 9}


def test_a_completion_has_openais_fields_and_the_engines_text(ask: Asker, llama: Path) -> None:
    answer = ask("/v1/completions", {"model": "llama", "prompt": PROMPTS[0], **GREEDY})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    told = answer.json
    assert set(told) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert (told["object"], told["model"]) == ("text_completion", "llama")
    with open_engine(llama) as engine:
        ids = tuple(engine.tokenizer.encode(PROMPTS[0], special=True))
        (expected,) = engine.generate([GenerateRequest(prompt_ids=ids, settings=Decoding(max_new_tokens=9))])
    (choice,) = told["choices"]
    finish = "length" if expected.stopped == "length" else "stop"
    assert choice == {"index": 0, "text": expected.text, "logprobs": None, "finish_reason": finish}
    assert told["usage"] == {
        "prompt_tokens": len(ids), "completion_tokens": len(expected.ids), "total_tokens": len(ids) + len(expected.ids)
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_echoed_log_probabilities_are_the_engines(start: Start, kind: str) -> None:
    folder = model_folder("llama") if kind == "torch" else package("llama")
    with open_engine(folder) as engine, start(folder) as ask:
        for text in PROMPTS[:4]:
            ids = tuple(engine.tokenizer.encode(text, special=True))
            told = ask("/v1/completions", {"prompt": text, "max_tokens": 0, "echo": True, "logprobs": 3}).json
            (choice,) = told["choices"]
            assert choice["text"] == text
            table = choice["logprobs"]
            assert table["token_logprobs"][0] is None
            assert table["top_logprobs"][0] is None
            assert len(table["tokens"]) == len(table["text_offset"]) == len(ids)
            if len(ids) == 1:
                continue
            (scored,) = engine.score([ScoreRequest(context_ids=ids[:1], target_ids=ids[1:])])
            assert table["token_logprobs"][1:] == pytest.approx(scored.token_logprobs, abs=1e-5)
            for token, own, top in list(zip(*(table[name] for name in ("tokens", "token_logprobs", "top_logprobs")), strict=True))[1:]:  # fmt: skip  # noqa: E501
                assert top[token] == pytest.approx(own, abs=1e-5)
                assert 3 <= len(top) <= 4
                assert own <= max(top.values()) + 1e-6
            same = ask("/v1/completions", {"prompt": list(ids), "max_tokens": 0, "echo": True, "logprobs": 3}).json
            assert same["choices"][0]["logprobs"]["token_logprobs"] == table["token_logprobs"]
            named = {"prompt": text, "max_tokens": 0, "echo": True, "logprobs": 0, "return_tokens_as_token_ids": True}
            tokens = ask("/v1/completions", named).json["choices"][0]["logprobs"]["tokens"]
            assert tokens == [f"token_id:{token}" for token in ids]


def test_the_likeliest_token_of_a_place_is_what_greedy_writing_has_there(ask: Asker) -> None:
    """As lm-evaluation-harness finds out whether a continuation is greedy."""
    written = ask("/v1/completions", {"prompt": PROMPTS[0], **GREEDY, "logprobs": 1}).json["choices"][0]
    table = written["logprobs"]
    for token, own, top in zip(table["tokens"], table["token_logprobs"], table["top_logprobs"], strict=True):
        assert top == {token: own}
    whole = {"prompt": PROMPTS[0] + written["text"], "max_tokens": 0, "echo": True, "logprobs": 1}
    echoed = ask("/v1/completions", whole).json["choices"][0]["logprobs"]
    if echoed["tokens"][-len(table["tokens"]) :] == table["tokens"]:  # else the joint is cut in another way
        found = echoed["token_logprobs"][-len(table["tokens"]) :]
        assert found == pytest.approx(table["token_logprobs"], abs=1e-4)


def test_tokens_join_to_the_text_and_offsets_are_their_places(ask: Asker) -> None:
    for prompt in PROMPTS:
        choice = ask(
            "/v1/completions", {"prompt": prompt, "echo": True, "logprobs": 0, "temperature": 0, "max_tokens": 6}
        ).json["choices"][0]
        table = choice["logprobs"]
        for token, place, after in zip(table["tokens"], table["text_offset"], table["text_offset"][1:], strict=False):
            if not token.startswith("bytes:"):
                assert choice["text"][place:after] == token
        names = table["tokens"]
        data = b"".join(
            bytes.fromhex(name.removeprefix("bytes:").replace("\\x", ""))
            if name.startswith("bytes:")
            else name.encode()
            for name in names
        )
        assert data.decode("utf-8", "replace").rstrip("�") in choice["text"] + "�"


def test_a_stream_joins_to_the_whole_answer(ask: Asker) -> None:
    asked = {"prompt": list(PROMPTS[:3]), **GREEDY, "logprobs": 2, "echo": True}
    whole = ask("/v1/completions", asked).json
    streamed = ask("/v1/completions", {**asked, "stream": True, "stream_options": {"include_usage": True}})
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    *pieces, last = streamed.events
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    assert all(piece["usage"] is None for piece in pieces)
    assert len({piece["id"] for piece in pieces}) == 1
    for choice in whole["choices"]:
        mine = [piece["choices"][0] for piece in pieces if piece["choices"][0]["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in mine) == choice["text"]
        assert [piece["finish_reason"] for piece in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
        for name, values in choice["logprobs"].items():
            joined = [value for piece in mine for value in piece["logprobs"][name]]
            assert joined == pytest.approx(values, abs=1e-5) if name == "token_logprobs" else len(joined) == len(values)
        assert [value for piece in mine for value in piece["logprobs"]["text_offset"]] == (
            choice["logprobs"]["text_offset"]
        )


def test_a_seed_gives_the_same_draws_and_none_gives_others(ask: Asker) -> None:
    drawn = {"prompt": PROMPTS[0], "temperature": 1.5, "max_tokens": 12, "n": 3}

    def texts(asked: dict[str, object]) -> list[str]:
        return [choice["text"] for choice in ask("/v1/completions", asked).json["choices"]]

    first = texts({**drawn, "seed": 7})
    assert texts({**drawn, "seed": 7}) == first
    assert len(set(first)) > 1
    assert texts({**drawn, "prompt": ["a good", PROMPTS[0]], "seed": 7})[3:] == first
    assert texts(drawn) != texts(drawn)


def test_stop_strings_end_a_text_before_them(ask: Asker) -> None:
    text = ask("/v1/completions", {"prompt": PROMPTS[0], "temperature": 0, "max_tokens": 20}).json["choices"][0]["text"]
    stop = text[len(text) // 2 :][:2]
    choice = ask(
        "/v1/completions", {"prompt": PROMPTS[0], "temperature": 0, "max_tokens": 20, "stop": ["never", stop]}
    ).json["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == text[: text.index(stop)]


def test_a_bias_moves_a_token(ask: Asker) -> None:
    asked = {"prompt": PROMPTS[0], **GREEDY, "logit_bias": {"66": 100}, "max_tokens": 3}
    told = ask("/v1/completions", {**asked, "logprobs": 0, "return_tokens_as_token_ids": True}).json
    assert told["choices"][0]["logprobs"]["tokens"] == ["token_id:66"] * 3


def test_eight_clients_get_what_one_gets(ask: Asker) -> None:
    asked = [
        {"prompt": PROMPTS[number % 6], "max_tokens": 4 + number % 7, "temperature": number % 2, "seed": number,
         "logprobs": 1, "echo": number % 3 == 0}
        for number in range(40)
    ]  # fmt: skip

    def answer(body: dict[str, object]) -> list[dict[str, object]]:
        return ask("/v1/completions", body).json["choices"]  # type: ignore[no-any-return]

    alone = [answer(body) for body in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, asked))
    for one, other in zip(alone, together, strict=True):
        assert one[0]["text"] == other[0]["text"]
        scores = [each[0]["logprobs"]["token_logprobs"] for each in (one, other)]  # type: ignore[index]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.parametrize("name", ["marian", "gpt2"])
def test_other_models_write_too(start: Start, name: str) -> None:
    folder = model_folder(name)
    with open_engine(folder) as engine, start(folder) as ask:
        ids = tuple(engine.tokenizer.encode("the cat", special=True))
        (expected,) = engine.generate([GenerateRequest(prompt_ids=ids, settings=Decoding(max_new_tokens=5))])
        body = {"prompt": [list(ids), list(ids[:1])], "temperature": 0, "max_tokens": 5}
        assert ask("/v1/completions", body).json["choices"][0]["text"] == expected.text
        if name == "marian":
            refused = ask("/v1/completions", {**body, "echo": True})
            assert (refused.status, refused.error["param"]) == (400, "echo")


# --- chats

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def chatting(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chats") / "chatty"
    shutil.copytree(llama, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_a_chat_is_the_completion_of_its_template(start: Start, chatting: Path) -> None:
    messages = [{"role": "system", "content": "be good"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    with start(chatting) as ask:
        asked = {"messages": messages, "temperature": 0, "max_tokens": 7, "logprobs": True, "top_logprobs": 2}
        told = ask("/v1/chat/completions", asked).json
        assert set(told) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
        assert told["object"] == "chat.completion"
        (choice,) = told["choices"]
        written = "<system>be good\n<user>hi\n<assistant>"
        plain = ask("/v1/completions", {"prompt": written, "temperature": 0, "max_tokens": 7, "logprobs": 2}).json
        assert choice["message"] == {"role": "assistant", "content": plain["choices"][0]["text"], "refusal": None}
        content = choice["logprobs"]["content"]
        table = plain["choices"][0]["logprobs"]
        assert [each["token"] for each in content] == table["tokens"]
        assert [each["logprob"] for each in content] == pytest.approx(table["token_logprobs"], abs=1e-5)
        assert all(len(each["top_logprobs"]) == 2 for each in content)
        assert told["usage"] == plain["usage"]

        pieces = ask("/v1/chat/completions", {**asked, "stream": True}).events
        assert pieces[0]["object"] == "chat.completion.chunk"
        deltas = [piece["choices"][0]["delta"] for piece in pieces]
        assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
        assert "".join(delta.get("content", "") for delta in deltas) == choice["message"]["content"]
        assert pieces[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]
        streamed = [each for piece in pieces for each in (piece["choices"][0]["logprobs"] or {}).get("content", ())]
        assert [each["token"] for each in streamed] == table["tokens"]

        begun = [*messages, {"role": "assistant", "content": "well"}]
        more = {**asked, "messages": begun, "continue_final_message": True}
        prompt = "<system>be good\n<user>hi\n<assistant>well"
        expected = ask("/v1/completions", {"prompt": prompt, "temperature": 0, "max_tokens": 7}).json["choices"][0]
        assert ask("/v1/chat/completions", more).json["choices"][0]["message"]["content"] == expected["text"]


def test_a_model_without_a_template_says_so(ask: Asker, llama: Path) -> None:
    answer = ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
    assert answer.status == 400
    assert answer.error["message"].startswith("llama has no chat template")
    assert str(llama.parent) not in answer.error["message"]


def test_a_system_message_that_the_template_drops_is_refused(start: Start, llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deaf"
    shutil.copytree(llama, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("<{{ message.role", "{% if message.role != 'system' %}<{{ message.role").replace("\n{% endfor", "\n{% endif %}{% endfor"))  # fmt: skip  # noqa: E501
    with start(folder) as ask:
        answer = ask("/v1/chat/completions", {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]})  # fmt: skip  # noqa: E501
    assert answer.status == 400
    assert "leaves messages of the system out" in answer.error["message"]


# --- the client that people use


def test_openais_own_client_reads_every_answer(start: Start, chatting: Path) -> None:
    openai = pytest.importorskip("openai", reason="make install")
    with start(chatting) as ask:
        client = openai.OpenAI(base_url=f"{ask.server.address}/v1", api_key="none", max_retries=0)
        assert [each.id for each in client.models.list()] == ["chatty"]
        whole = client.completions.create(
            model="chatty", prompt="the cat", max_tokens=4, temperature=0, logprobs=1, echo=True
        )
        assert whole.choices[0].text.startswith("the cat")
        assert whole.choices[0].logprobs.token_logprobs[0] is None
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
        pieces = list(
            client.completions.create(model="chatty", prompt="the cat", max_tokens=4, temperature=0, stream=True)
        )
        assert "the cat" + "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
        messages = [{"role": "user", "content": "hi"}]
        chat = client.chat.completions.create(model="chatty", messages=messages, max_tokens=4, temperature=0)
        streamed = client.chat.completions.create(
            model="chatty", messages=messages, max_tokens=4, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
        chunks = list(streamed)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == chat.choices[0].message.content
        assert chunks[-1].usage == chat.usage
        vector = client.embeddings.create(model="chatty", input="the cat").data[0].embedding
        assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)
        assert vector == pytest.approx(
            client.embeddings.create(model="chatty", input="the cat", encoding_format="float").data[0].embedding
        )
        with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
            client.completions.create(model="gpt", prompt="a")
        with pytest.raises(openai.BadRequestError, match="maximum context length is 64"):
            client.completions.create(model="chatty", prompt="the cat", max_tokens=100)


def test_answers_are_json_without_nan(ask: Asker) -> None:
    def no_constant(name: str) -> float:
        raise AssertionError(name)

    answer: Answered = ask("/v1/completions", {"prompt": PROMPTS[0], **GREEDY, "logprobs": 20, "echo": True})
    json.loads(answer.body, parse_constant=no_constant)
