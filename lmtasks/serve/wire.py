"""OpenAI's wire format, as far as it is spoken here: requests as they are checked, answers as they are sent.

Fields are those of OpenAI's reference (https://platform.openai.com/docs/api-reference, November 2026); those that
vLLM has beside them, and that mean something here, are marked. What is not carried out is refused by name: a setting
that is passed over would be another text under the same name.

>>> asked = read(CompletionRequest, b'{"prompt": "One", "max_token": 3}')
Traceback (most recent call last):
...
lmtasks.serve.wire.Refused: unknown field 'max_token'; did you mean 'max_tokens' ...
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lmtasks.errors import unknown
from lmtasks.settings.base import explain, place_of, refusal
from lmtasks.settings.generation import Decoding

MOST_CHOICES = 128
MOST_TOP = 20
MOST_PROMPTS = 2048
"""Prompts or texts of one request, as OpenAI has it for vectors."""
DEFAULT_TOKENS = 16
"""Of a completion that does not say."""
LOWEST = -9999.0
"""Stands for minus infinity, which JSON does not have; so do OpenAI and vLLM."""
FORMS: Mapping[str, str] = {
    "prompt": "must be a text, a list of texts, a list of token ids, or a list of such lists",
    "input": "must be a text, a list of texts, a list of token ids, or a list of such lists",
    "stop": "must be a text or a list of at most 16 texts, none of them empty",
    "messages": "must be a list of messages, each with a role (system, developer, user or assistant) and a content, a "
    "text or a list of parts of the type text",
    "rows": "must be a list of texts, or of objects with the columns that the task reads",
    "presence_penalty": "is not carried out here; leave it out, or take repetition_penalty",
    "frequency_penalty": "is not carried out here; leave it out, or take repetition_penalty",
    "suffix": "is not carried out here: texts go on behind a prompt alone; leave it out",
    "dimensions": "is not carried out here: vectors have the model's own width; leave it out",
    "logit_bias": "must be an object of token ids with numbers between -100 and 100",
}
"""Fields of several forms, of which pydantic would complain once for each."""


class Refused(Exception):
    """A request that is not answered, as OpenAI's clients are told.

    Args:
        message: for people.
        status: of HTTP.
        param: the field that is wrong.
        code: for programs.
        headers: of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """OpenAI's name for errors of this status."""
        named = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return named.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self) -> dict[str, object]:
        """The error object."""
        told = {"message": str(self), "type": self.type, "param": self.param, "code": self.code}
        return {"error": told}


class Wire(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Count = Annotated[int, Field(ge=1, le=1 << 30)]
TokenId = Annotated[int, Field(ge=0, le=1 << 31)]
Several = (
    str
    | Annotated[tuple[TokenId, ...], Field(min_length=1)]
    | Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_PROMPTS)]
    | Annotated[tuple[Annotated[tuple[TokenId, ...], Field(min_length=1)], ...], Field(min_length=1)]
)
Stop = (
    Annotated[str, Field(min_length=1)]
    | Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=16)]
)
Bias = Annotated[float, Field(ge=-100, le=100)]
Nothing = Annotated[float, Field(ge=0, le=0)]


class StreamOptions(Wire):
    """`stream_options`."""

    include_usage: bool = False
    continuous_usage_stats: Literal[False] = False
    include_obfuscation: Literal[False] = False


class Writing(Wire):
    """Fields of completions and chats."""

    model: str | None = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    n: Annotated[int | None, Field(ge=1, le=MOST_CHOICES)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**64)] = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Nothing | None = None
    frequency_penalty: Nothing | None = None
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Bias] | None = None
    user: str | None = None
    """Taken, and told nobody."""
    top_k: Annotated[int | None, Field(ge=-1)] = None
    """vLLM's, as the next ones."""
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0)] = None
    min_tokens: Annotated[int | None, Field(ge=0)] = None

    @model_validator(mode="after")
    def _streamed(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise refusal("stream_options go with stream: true.")
        return self

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings before which a text ends."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop or ()

    def decoding(self, *, max_new_tokens: int) -> Decoding:
        """The settings of the engine; what is not said is the model's own, as everywhere.

        Raises:
            UsageError: a value that the engine refuses.
        """
        bias = tuple(((int(token),), value) for token, value in (self.logit_bias or {}).items())
        return Decoding(
            max_new_tokens=max_new_tokens,
            stop=self.stops,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=0 if self.top_k == -1 else self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            min_new_tokens=self.min_tokens,
            sequence_bias=bias or None,
            num_beams=1,
        )


class CompletionRequest(Writing):
    """`POST /v1/completions`."""

    prompt: Several
    max_tokens: Annotated[int | None, Field(ge=0, le=1 << 30)] = None
    logprobs: Annotated[int | None, Field(ge=0, le=MOST_TOP)] = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: None = None
    add_special_tokens: bool = True
    """vLLM's: whether the tokenizer puts its own tokens around a prompt that is a text."""
    return_tokens_as_token_ids: bool = False
    """vLLM's: tokens of `logprobs` are called `token_id:17`."""

    @model_validator(mode="after")
    def _carried_out(self) -> Self:
        if self.best_of not in (None, self.n or 1):
            raise refusal("best_of is not carried out here; leave it out, or give what n has.")
        if self.max_tokens == 0 and not self.echo:
            raise refusal("max_tokens is 0, so that nothing would be answered; with echo the prompt is.")
        if self.max_tokens == 0 and self.stream:
            raise refusal("nothing is written that could be streamed: max_tokens is 0; leave stream out.")
        return self


class TextPart(Wire):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(Wire):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[TextPart, ...]
    name: None = None

    @property
    def text(self) -> str:
        """All of its parts."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ResponseFormat(Wire):
    """`response_format`: texts alone."""

    type: Literal["text"]


class ChatRequest(Writing):
    """`POST /v1/chat/completions`."""

    messages: Annotated[tuple[ChatMessage, ...], Field(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MOST_TOP)] = None
    response_format: ResponseFormat | None = None
    continue_final_message: bool = False
    """vLLM's: the last message is the beginning of the answer."""

    @model_validator(mode="after")
    def _asked(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise refusal("top_logprobs go with logprobs: true.")
        if self.continue_final_message and self.messages[-1].role != "assistant":
            raise refusal("continue_final_message goes on with a last message of the assistant; the last is another's.")
        return self

    @property
    def top(self) -> int | None:
        """Likeliest tokens of each place; None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


class EmbeddingRequest(Wire):
    """`POST /v1/embeddings`."""

    model: str | None = None
    input: Several
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: None = None
    user: str | None = None
    input_type: Literal["query", "document"] = "document"
    """Ours, as other servers have it: which of a model's prefixes stands before the texts, where it was trained to read
    one."""


class PredictBody(Wire):
    """`POST /predict`: texts, or rows of several columns, for heads of the model.

    {"rows": ["a good film"], "tasks": ["starter_sentiment_en"]}
    """

    model: str | None = None
    rows: Annotated[tuple[str | dict[str, object], ...], Field(min_length=1, max_length=MOST_PROMPTS)]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Of those that the server answers; None: all of them."""


class TokenizeRequest(Wire):
    """`POST /tokenize`, as vLLM has it."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class DetokenizeRequest(Wire):
    """`POST /detokenize`, as vLLM has it."""

    model: str | None = None
    tokens: tuple[TokenId, ...]


Body = TypeVar("Body", bound=Wire)


def read(schema: type[Body], body: bytes) -> Body:
    """A request's body, checked.

    Raises:
        Refused: it is no JSON, or not what is spoken here; the first complaint in one sentence.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        first, place = error.errors(include_url=False)[0], place_of(error)
        field = str(place[0]) if place else ""
        if first["type"] == "json_invalid":
            raise Refused(f"the body is no JSON that can be read: {first['ctx']['error']}.") from None
        if first["type"] == "model_type":
            raise Refused("the body must be a JSON object.") from None
        if first["type"] == "extra_forbidden" and len(place) == 1:
            raise Refused(str(unknown("field", field, schema.model_fields)), param=field) from None
        if field in FORMS:
            raise Refused(f"{field} {FORMS[field]}.", param=field) from None

        def name(place: Sequence[int | str]) -> str:
            return ".".join(map(str, place))

        raise Refused(explain(error, schema=schema, name=name, what="field"), param=field or None) from None


def encoded(content: Mapping[str, object]) -> bytes:
    """JSON; numbers that JSON does not have are a fault, and never sent.

    Raises:
        ValueError: NaN or an infinity is among them.
    """
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def event(content: Mapping[str, object]) -> bytes:
    """A server-sent event."""
    return b"data: " + encoded(content) + b"\n\n"


DONE = b"data: [DONE]\n\n"
