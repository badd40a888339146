"""Requests and their log-probabilities against the rules of lm-evaluation-harness 0.4.13, written out plainly.

The plain form takes a transformers model and tokenizer, one request at a time: `TemplateLM._encode_pair`,
`HFLM._loglikelihood_tokens`, `utils.get_rolling_token_windows` and greedy `generate`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from small_tasks import TASKS, small_task
from tiny import tiny_checkpoint, tiny_tokenizer
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.records import Json
from lmtasks.settings.data import DataAccess
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import MetricUse, Task
from lmtasks.workflow.open_model import open_engine

CONTEXT = 48


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A model, asked the plain way."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    solver: EngineSolver

    @property
    def decodes(self) -> bool:
        return bool(self.model.config.is_encoder_decoder)

    @property
    def prefix(self) -> int:
        first = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if first is None else first)

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context == "":
            ids = self.tokenizer.encode(continuation, add_special_tokens=False)
            return ([self.prefix], ids) if ids[0] != self.prefix else (ids[:1], ids[1:])
        spaces = len(context) - len(context.rstrip())
        if spaces:
            continuation, context = context[-spaces:] + continuation, context[:-spaces]
        alone = self.tokenizer.encode(context)
        if self.decodes:
            return alone, self.tokenizer.encode(continuation, add_special_tokens=False)
        return alone, self.tokenizer.encode(context + continuation)[len(alone) :]

    @torch.no_grad()
    def score(self, context: Sequence[int], target: Sequence[int]) -> tuple[float, bool]:
        if self.decodes:
            start = self.model.config.decoder_start_token_id
            logits = self.model(
                input_ids=torch.tensor([list(context)[-CONTEXT:]]),
                decoder_input_ids=torch.tensor([[start, *target[:-1]]]),
            ).logits[0]
        else:
            row = [*context, *target][-(CONTEXT + 1) :]
            logits = self.model(input_ids=torch.tensor([row[:-1]])).logits[0][-len(target) :]
        logprobs = torch.log_softmax(logits, dim=-1)
        wanted = torch.tensor(list(target))
        return float(logprobs.gather(1, wanted[:, None]).sum()), bool((logits.argmax(-1) == wanted).all())

    def rolling(self, text: str) -> float:
        ids = self.tokenizer.encode(text)
        total, done = 0.0, min(CONTEXT, len(ids))
        total += self.score([self.prefix], ids[:done])[0]
        while done < len(ids):
            count = min(len(ids) - done, CONTEXT)
            end = done + count
            total += self.score(ids[end - CONTEXT - 1 : done], ids[done:end])[0]
            done = end
        return total

    @torch.no_grad()
    def write(self, context: str, *, new: int, stops: Sequence[str]) -> str:
        ids = self.tokenizer.encode(context)
        ids = ids[-(CONTEXT if self.decodes else CONTEXT - new) :]
        made = self.model.generate(torch.tensor([ids]), max_new_tokens=new, do_sample=False, pad_token_id=1)[0]
        text = self.tokenizer.decode(made if self.decodes else made[len(ids) :], skip_special_tokens=True)
        for stop in stops:
            text = text.split(stop)[0]
        return str(text)


def t5(folder: Path) -> Path:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=tokenizer.vocabulary, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2,
            num_heads=4, pad_token_id=1, eos_token_id=0, decoder_start_token_id=1, n_positions=CONTEXT,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module", params=["gpt2", "llama", "t5"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    folder = tmp_path_factory.mktemp("models") / str(request.param)
    if request.param == "t5":
        t5(folder)
    else:
        tiny_checkpoint(folder, str(request.param), context=CONTEXT)
    kind = AutoModelForSeq2SeqLM if request.param == "t5" else AutoModelForCausalLM
    with open_engine(folder, threads=1) as engine:
        assert engine.max_length_tokens >= CONTEXT
        if engine.max_length_tokens != CONTEXT:
            pytest.skip(f"the runtime reads {engine.max_length_tokens} tokens of such a checkpoint")
        yield Plain(
            model=kind.from_pretrained(folder).eval(),
            tokenizer=AutoTokenizer.from_pretrained(folder),
            solver=EngineSolver(engine),
        )


def samples(plain: Plain, task: Task) -> list[Json]:
    options = EvalOptions(data=DataAccess(offline=True), resamples=10)
    (result,) = evaluate(solver=plain.solver, tasks=[task], options=options)
    return list(result.samples)


@pytest.mark.parametrize("name", ["multiple_choice", "blanks", "classification"])
def test_choices(plain: Plain, name: str, tmp_path: Path) -> None:
    """With white space at the end of the context, several inputs, and every choice behind nothing."""
    task = small_task(tmp_path, name, more='description: "Choose.\\n"')
    task = replace(task, metrics=(MetricUse(name="acc"), MetricUse(name="acc_mutual_info")))
    spaced = replace(task.templates.asked, question=f"{task.templates.asked.question} \n")
    if name == "multiple_choice":
        task = replace(task, templates=replace(task.templates, asked=spaced))
    for sample, row in zip(samples(plain, task), TASKS[name][0]["test"], strict=True):
        prompt = build_prompt(task, row)
        pairs = [(context, prompt.delimiter + prompt.target) for context in prompt.contexts] or [
            (prompt.context, prompt.delimiter + choice) for choice in prompt.choices
        ]
        expected = [plain.score(*plain.pair(*pair)) for pair in pairs]
        assert sample["raw"] == pytest.approx([logprob for logprob, _ in expected], abs=1e-4)
        outcome = sample["outcome"]
        assert isinstance(outcome, dict)
        assert outcome["greedy"] == [greedy for _, greedy in expected]
        behind_nothing = [plain.score(*plain.pair("", prompt.delimiter + choice))[0] for choice in prompt.choices]
        assert outcome["unconditional"] == pytest.approx(behind_nothing, abs=1e-4)


def test_given_texts(plain: Plain, tmp_path: Path) -> None:
    task = small_task(tmp_path, "last_words")
    for sample, row in zip(samples(plain, task), TASKS["last_words"][0]["test"], strict=True):
        prompt = build_prompt(task, row)
        logprob, greedy = plain.score(*plain.pair(prompt.context, prompt.target))
        assert sample["raw"] == pytest.approx(logprob, abs=1e-4)
        assert isinstance(sample["outcome"], dict)
        assert sample["outcome"]["greedy"] == greedy


def test_whole_texts(plain: Plain, tmp_path: Path) -> None:
    task = small_task(tmp_path, "language_modelling")
    found = samples(plain, task)
    assert max(len(plain.tokenizer.encode(str(sample["target"]))) for sample in found) > CONTEXT  # several windows
    for sample in found:
        assert sample["raw"] == pytest.approx(plain.rolling(str(sample["target"])), abs=2e-4)


def test_written_texts(plain: Plain, tmp_path: Path) -> None:
    task = small_task(tmp_path, "summarization", more='fewshot_delimiter: "e"')
    for sample, row in zip(samples(plain, task), TASKS["summarization"][0]["test"], strict=True):
        context = build_prompt(task, row).context
        assert sample["raw"] == plain.write(context, new=5, stops=task.generation.stop)
