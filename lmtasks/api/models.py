"""Models of the front door: loaded and asked, adapted, exported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from lmtasks.api.arguments import ModelLike, PathLike, access_of, drawn, opening_of, ref_of, tasks_of
from lmtasks.api.results import Predictions, ProvedPackage, TrainedModel
from lmtasks.errors import UsageError, unknown
from lmtasks.progress_bars import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lmtasks.api.rows import GivenRows
    from lmtasks.engine.engine import Engine
    from lmtasks.records import ModelCard
    from lmtasks.settings.attention import Attention
    from lmtasks.settings.data import DataAccess, OwnKind
    from lmtasks.settings.endpoint import Endpoint
    from lmtasks.settings.evaluation import TrackerName
    from lmtasks.settings.runtimes import TorchPrecision
    from lmtasks.settings.training import Adaptation, LoraSettings, NewHeads, Pooling, ProbeSettings, Words
    from lmtasks.task.task import Task
    from lmtasks.workflow.choose_models import OpenOptions
    from lmtasks.workflow.predict import Predictor


def load_model(
    ref: ModelLike,
    *,
    adapters: Sequence[ModelLike] = (),
    runtime: str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    force: bool = False,
    batch_size: int | Literal["auto"] = "auto",
    label_map: Mapping[str, str] | None = None,
    offline: bool = False,
    token: str | None = None,
) -> LoadedModel:
    """Find a model or package: a folder, a shipped name, or a Hub id with @revision.

        with lmtasks.load_model("runs/mine") as model:
            model.predict(["very good", "rather poor"]).answers

    Several models that were adapted by `lora` over one backbone share it in memory, and are chosen by argument:

        with lmtasks.load_model("runs/topics", adapters=["runs/stars"]) as model:
            model.predict(texts, adapter="stars").answers

    Args:
        adapters: further models over the backbone of `ref`, or that backbone itself.

    Raises:
        UsageError: there is no such model, a part of it is missing or damaged, or it stands over another backbone.
        WorkError: the Hub cannot be reached.
    """
    from lmtasks.model.resolve import resolve
    from lmtasks.settings.endpoint import is_address
    from lmtasks.workflow.choose_models import labels_of
    from lmtasks.workflow.open_model import card_in

    data = access_of(None, offline=offline, token=token)
    opening = opening_of(runtime, device, precision, threads, batch_size, label_map, force=force)
    refs = [ref_of(each) for each in (ref, *adapters)]
    if servers := [each for each in refs if is_address(each)]:
        raise UsageError(f"{servers[0]} is a server, of which nothing is loaded; give it to evaluate or predict.")
    folders = {
        label: resolve(each, offline=data.offline, token=data.token)
        for label, each in zip(labels_of(refs), refs, strict=True)
    }
    cards = {label: card_in(folder) for label, folder in folders.items()}
    return LoadedModel(refs[0], folders, cards, opening=opening, data=data)


def adapt(
    backbone: ModelLike,
    tasks: PathLike | Task | Sequence[PathLike | Task] = (),
    *,
    out: PathLike,
    rows: GivenRows | None = None,
    data: PathLike | None = None,
    text: str = "text",
    label: str | None = None,
    pair: str | None = None,
    kind: OwnKind = "classification",
    name: str | None = None,
    language: str | None = None,
    encoding: str | None = None,
    drop_unlabelled: bool = False,
    method: Adaptation = "full",
    lora: LoraSettings | None = None,
    probe: ProbeSettings | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    train_rows: int | None = None,
    learning_rate: float | None = None,
    tokens_per_batch: int | None = None,
    window: int = 35,
    weight_decay: float = 0.05,
    label_smoothing: float = 0.0,
    evaluations: int | None = None,
    patience: int = 3,
    precision: TorchPrecision = "fp32",
    calibrate: bool = False,
    pooling: Pooling | None = None,
    query_prefix: str | None = None,
    text_prefix: str | None = None,
    new_heads: NewHeads | None = None,
    words: Words = "auto",
    mixture: str = "proportional",
    cache: PathLike | None = None,
    tokenizer: str | None = None,
    vectors: PathLike | None = None,
    from_scratch: bool = False,
    attention: Attention | None = None,
    device: str = "cpu",
    seed: int = 1234,
    data_root: PathLike | None = None,
    offline: bool = False,
    token: str | None = None,
    include_path: Sequence[PathLike] = (),
    trust_code: bool = False,
    track: TrackerName | None = None,
    progress: bool | Report = True,
) -> TrainedModel:
    """Train heads on a backbone, for named tasks or for rows of your own, as `lmtasks adapt` does.

        model = lmtasks.adapt("tfidf", rows=frame, text="comment", label="stars", out="runs/stars")

    Of undivided rows a fifth of each label is set aside to be scored (`evaluate(..., split="test")`). The same call
    again finds the model; after a kill it goes on where it stopped.

    Args:
        backbone: a folder, a shipped name, a Hub id; or a family that is made new, `lstm:width=200`.
        tasks: names, files or tasks; or give `rows` or `data`.
        out: folder of the new model.
        rows: a DataFrame, a list of dicts, or one of them for each of train, validation and test.
        kind: what the column `label` holds: one class, a list of them (`multi_label`), or a number (`regression`).
        train_rows: training rows of each task at most, nested by seed, each label with its share.
        attention: how heads that do not write read, `causal` or `both` ways; None: both where the backbone was
            pretrained so.
        query_prefix: of similarity and retrieval: what the encoder was trained to read before a question; None: what
            its own files say.
        text_prefix: and before a text that is looked for.
        mixture: rows of several tasks in a pass: "proportional", "uniform", or "temperature=2".
        probe: `ProbeSettings(fit="logistic")`, with `method="probe"`.
        cache: file in which features of a probe are kept; None: one in your cache folder; "off": none.
        track: also write the learning curve to mlflow, tensorboard or trackio.

    Raises:
        UsageError: an argument is wrong, or `out` holds something else.
        WorkError: training failed.
    """
    from lmtasks.settings.training import AdaptSettings
    from lmtasks.workflow.adapt import AdaptRequest, adapt_model
    from lmtasks.workflow.choose_tasks import chosen_tasks
    from lmtasks.workflow.new_backbone import Start
    from lmtasks.workflow.open_model import FEATURES, cache_file
    from lmtasks.workflow.track import check_tracker, track_training

    check_tracker(track)
    settings = AdaptSettings(
        method=method,
        lora=lora,
        probe=probe,
        epochs=epochs,
        minutes=minutes,
        learning_rate=learning_rate,
        tokens_per_batch=tokens_per_batch,
        window=window,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        evaluations=evaluations,
        patience=patience,
        precision=precision,
        calibrate=calibrate,
        pooling=pooling,
        query_prefix=query_prefix,
        text_prefix=text_prefix,
        new_heads=new_heads,
        words=words,
        mixture=mixture,
        device=device,
        seed=seed,
        rows=train_rows,
    )
    choice = tasks_of(
        tasks,
        rows=rows,
        data=data,
        text=text,
        label=label,
        pair=pair,
        kind=kind,
        name=name,
        language=language,
        encoding=encoding,
        include_path=include_path,
        trust_code=trust_code,
    )
    request = AdaptRequest(
        start=Start(
            backbone=ref_of(backbone),
            tokenizer=tokenizer,
            vectors=None if vectors is None else Path(vectors),
            from_scratch=from_scratch,
            attention=attention,
        ),
        tasks=chosen_tasks(choice, use="both" if choice.is_single else "train"),
        settings=settings.but({"rows": None}),
        data=access_of(data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled),
        rows=settings.rows,
        out=Path(out),
        cache=cache_file(None if cache is None else str(cache), name=FEATURES),
    )
    with drawn(progress) as report:
        adapted = adapt_model(request, report=report)
    if track is not None:
        track_training(track, adapted.folder)
    return TrainedModel(adapted=adapted)


def predict(
    model: ModelLike,
    texts: str | Iterable[str],
    task: PathLike | Task | Sequence[PathLike | Task] | None = None,
    *,
    new_tokens: int = 64,
    generation: Mapping[str, object] | None = None,
    explain: bool = False,
    runtime: str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    force: bool = False,
    batch_size: int | Literal["auto"] = "auto",
    label_map: Mapping[str, str] | None = None,
    server: Endpoint | None = None,
    seed: int = 1234,
    offline: bool = False,
    token: str | None = None,
    include_path: Sequence[PathLike] = (),
    trust_code: bool = False,
    progress: bool | Report = True,
) -> Predictions:
    """Answer texts, as `lmtasks predict` does.

        lmtasks.predict("runs/stars", ["arrived broken", "works well"]).answers

    Args:
        model: a model, a package, or the address of a server; one that `load_model` gave stays open, and runs as it was
            loaded.
        texts: one or several; texts of JSON where a task reads several columns.
        task: what is asked, or a list of tasks, which the model then reads a text for once (`Predictions.tasks`); None:
            the task of the model's one head, or to go on with the text.
        server: how a server is asked, `lmtasks.Endpoint(served_name="mine", api_key_env="MY_KEY")`.
        explain: of labels and tags, also the words that moved each answer, each left out in turn.

    Raises:
        UsageError: an argument is wrong, or model, task and texts do not fit.
        WorkError: the model cannot be loaded, or failed.
    """
    from lmtasks.settings.endpoint import is_address
    from lmtasks.workflow.predict import PredictRequest, open_predictor

    if isinstance(model, LoadedModel):
        return model.predict(
            texts,
            task,
            new_tokens=new_tokens,
            generation=generation,
            explain=explain,
            seed=seed,
            include_path=include_path,
            trust_code=trust_code,
            progress=progress,
        )
    ref = ref_of(model)
    if is_address(ref):
        request = PredictRequest(
            model=ref,
            tasks=tasks_of(() if task is None else task, include_path=include_path, trust_code=trust_code),
            opening=opening_of(runtime, device, precision, threads, batch_size, label_map, force=force, server=server),
            new_tokens=new_tokens,
            generation=dict(generation or {}),
            seed=seed,
            offline=offline,
            token=token,
        )
        with open_predictor(request) as predictor:
            return _predictions(predictor, texts, explain=explain, progress=progress)
    with load_model(
        model,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        force=force,
        batch_size=batch_size,
        label_map=label_map,
        offline=offline,
        token=token,
    ) as loaded:
        return predict(
            loaded,
            texts,
            task,
            new_tokens=new_tokens,
            generation=generation,
            explain=explain,
            seed=seed,
            include_path=include_path,
            trust_code=trust_code,
            progress=progress,
        )


def _predictions(
    predictor: Predictor, texts: str | Iterable[str], *, explain: bool, progress: bool | Report
) -> Predictions:
    """The answers of an open model.

    Raises:
        UsageError: one is no text.
    """
    from lmtasks.workflow.explain import explain as explained

    given = (texts,) if isinstance(texts, str) else tuple(texts)
    for number, text in enumerate(given, start=1):
        if not isinstance(text, str):
            raise UsageError(f"text {number} (counted from 1) must be a text, was {str(text)[:80]!r}.")
    if not given:
        return Predictions(texts=(), answers=())
    with drawn(progress) as report:
        answered = predictor.answer(given, report=report)
        explanations = explained(predictor, given, report=report) if explain else ()
    return Predictions(
        texts=given,
        answers=answered.answers,
        tasks=answered.tasks,
        probabilities=answered.probabilities,
        explanations=explanations,
        truncated=answered.truncated,
    )


def embed(
    model: ModelLike,
    texts: str | Iterable[str],
    *,
    prefix: str = "",
    pooling: Pooling | None = None,
    attention: Attention | None = None,
    max_length: int | None = None,
    device: str = "cpu",
    precision: TorchPrecision = "fp32",
    offline: bool = False,
    token: str | None = None,
) -> NDArray[np.float32]:
    """Make vectors of texts, as `lmtasks embed` does: (N, D), each of length one.

        encoder = "sentence-transformers/all-MiniLM-L6-v2"
        cosines = lmtasks.embed(encoder, texts) @ lmtasks.embed(encoder, query).T

    Args:
        prefix: put before each text, as E5 has it: "query: ".
        pooling: state of a text; None: the family's own.
        attention: how a causal backbone reads; None: both ways where it was pretrained so.
        max_length: tokens of a text that are read; None: 512.

    Raises:
        UsageError: there is no such model.
        WorkError: the model yields numbers that are not finite.
    """
    from lmtasks.settings.training import EmbedText
    from lmtasks.workflow.embed import open_encoder

    asked = EmbedText(
        model=ref_of(model),
        prefix=prefix,
        pooling=pooling,
        attention=attention,
        max_length=max_length,
        precision=precision,
    )
    _, encode = open_encoder(asked, device=device, data=access_of(None, offline=offline, token=token))
    return encode([texts] if isinstance(texts, str) else list(texts))


def export(
    model: ModelLike,
    tasks: PathLike | Task | Sequence[PathLike | Task] = (),
    *,
    out: PathLike,
    precision: str = "fp32",
    runtime: str = "onnx",
    rows: GivenRows | None = None,
    data: PathLike | None = None,
    text: str = "text",
    label: str | None = None,
    pair: str | None = None,
    kind: OwnKind = "classification",
    name: str | None = None,
    language: str | None = None,
    encoding: str | None = None,
    drop_unlabelled: bool = False,
    max_drop: float | None = None,
    label_map: Mapping[str, str] | None = None,
    limit: int | None = None,
    threads: int | None = None,
    force: bool = False,
    proof_seconds: float = 600.0,
    data_root: PathLike | None = None,
    offline: bool = False,
    token: str | None = None,
    include_path: Sequence[PathLike] = (),
    trust_code: bool = False,
    progress: bool | Report = True,
) -> ProvedPackage:
    """Export a model to an ONNX package, kept only if it is proved equal, as `lmtasks export` does.

        package = lmtasks.export("runs/stars", out="runs/stars-int8", precision="int8")

    Args:
        tasks: on whose texts it is proved, or give `rows` or `data`; nothing: embedded texts.
        runtime: what is to run it, `onnx` or `openvino`; it is proved there.
        max_drop: points of the main metric that rounding may cost on validation rows.
        force: also in a precision that the processor emulates.
        proof_seconds: budget of the proof; what it had no room for is named in the package's `parity.json`.

    Raises:
        UsageError: an argument is wrong, or the model is a package already.
        WorkError: the package does not answer as the model does.
        GateError: rounding costs more than `max_drop`.
    """
    from lmtasks.settings.runtimes import PRECISIONS
    from lmtasks.workflow.export import ExportRequest, export_model

    if precision not in PRECISIONS:
        raise unknown("precision", str(precision), PRECISIONS)
    request = ExportRequest(
        model=ref_of(model),
        out=Path(out),
        precision=precision,
        runtime=runtime,
        tasks=tasks_of(
            tasks,
            rows=rows,
            data=data,
            text=text,
            label=label,
            pair=pair,
            kind=kind,
            name=name,
            language=language,
            encoding=encoding,
            include_path=include_path,
            trust_code=trust_code,
        ),
        data=access_of(data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled),
        max_drop=max_drop,
        label_names=dict(label_map or {}),
        limit=limit,
        threads=threads,
        force=force,
        proof_seconds=proof_seconds,
    )
    with drawn(progress) as report:
        return ProvedPackage(exported=export_model(request, report=report))


class LoadedModel:
    """A model that was found, opened with the first text that it answers; see `load_model`.

    `with lmtasks.load_model(ref) as model:` gives its memory back at the end; `close` does so at any time.
    """

    def __init__(
        self,
        ref: str,
        folders: Mapping[str, Path],
        cards: Mapping[str, ModelCard],
        *,
        opening: OpenOptions,
        data: DataAccess,
    ) -> None:
        self.ref = ref
        self.adapters = tuple(folders)
        """Names by which the model and those over its backbone are chosen; the first answers where none is."""
        self.folder = folders[self.adapters[0]]
        self.card = cards[self.adapters[0]]
        self._folders, self._cards = folders, cards
        self._opening = opening
        self._data = data
        self._opened = ExitStack()
        self._engines: Mapping[str, Engine] = {}
        self._predictors: dict[object, Predictor] = {}

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        heads = ", ".join(head.name for head in self.card.heads) or "-"
        others = f", adapters: {', '.join(self.adapters[1:])}" if len(self.adapters) > 1 else ""
        return f"LoadedModel({self.ref!r}, {self.card.kind}, heads: {heads}{others})"

    def close(self) -> None:
        """Give the memory back; the next prediction opens the model again."""
        self._predictors.clear()
        self._engines = {}
        self._opened.close()

    def predict(
        self,
        texts: str | Iterable[str],
        task: PathLike | Task | Sequence[PathLike | Task] | None = None,
        *,
        adapter: str | None = None,
        new_tokens: int = 64,
        generation: Mapping[str, object] | None = None,
        explain: bool = False,
        seed: int = 1234,
        include_path: Sequence[PathLike] = (),
        trust_code: bool = False,
        progress: bool | Report = True,
    ) -> Predictions:
        """Answer texts as `lmtasks.predict` does; the model stays open between calls.

        Args:
            adapter: which of several models over one backbone answers (`adapters`); None: the one that was given first.

        Raises:
            UsageError: as `lmtasks.predict`, or there is no such adapter.
        """
        from lmtasks.task.task import Task
        from lmtasks.workflow.predict import PredictRequest, asked_tasks, predictor_over

        name = self.adapters[0] if adapter is None else adapter
        if name not in self._folders:
            raise unknown("adapter", name, self.adapters)
        request = PredictRequest(
            model=str(self._folders[name]),
            tasks=tasks_of(() if task is None else task, include_path=include_path, trust_code=trust_code),
            opening=self._opening,
            new_tokens=new_tokens,
            generation=dict(generation or {}),
            seed=seed,
            offline=self._data.offline,
            token=self._data.token,
        )
        given_tasks = (task,) if isinstance(task, str | Path | Task) or task is None else tuple(task)
        asked = tuple(each.hash if isinstance(each, Task) else str(each) for each in given_tasks)
        key = (name, asked, new_tokens, repr(request.generation), seed, *map(str, include_path))
        if key not in self._predictors:
            tasks = asked_tasks(request, self._cards[name])
            self._predictors[key] = predictor_over(self._engine(name), tasks, request)
        return _predictions(self._predictors[key], texts, explain=explain, progress=progress)

    def _engine(self, name: str) -> Engine:
        """The open model of that name; all are opened together, over one backbone."""
        if not self._engines:
            opened = self._opened.enter_context(self._opening.engines(tuple(self._folders.values())))
            self._engines = dict(zip(self._folders, opened, strict=True))
        return self._engines[name]
