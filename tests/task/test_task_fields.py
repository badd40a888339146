"""Fields of the harness' task files: each is carried out, or refused by name with its reason."""

from pathlib import Path

import pytest

from lmtasks.data.files import read_file
from lmtasks.data.rows import open_rows
from lmtasks.errors import UsageError
from lmtasks.settings.data import DataAccess
from lmtasks.task import Task, apply_filters, build_prompt, lm_eval_shots, load_task, pick_shots
from lmtasks.task.aliases import MOVED, STAND_INS
from lmtasks.task.filters import FILTERS, REFUSED
from lmtasks.task.schema import TaskFile
from lmtasks.task.task import FilterPipeline, FilterStep, ReaderOptions

BARE = "task: t\ntest_split: test\n"
SMALL = BARE + "dataset_path: a/b\ndoc_to_text: q\ndoc_to_target: a\n"
CHOICE = SMALL + "output_type: multiple_choice\ndoc_to_choice: [x, y]\n"
HARNESS_FIELDS = (
    "task task_alias tag custom_dataset dataset_path dataset_name dataset_kwargs training_split validation_split "
    "test_split fewshot_split process_docs doc_to_text doc_to_target doc_to_image doc_to_audio unsafe_code "
    "doc_to_choice process_results use_prompt description target_delimiter fewshot_delimiter fewshot_config "
    "num_fewshot metric_list output_type generation_kwargs repeats filter_list should_decontaminate "
    "doc_to_decontamination_query gen_prefix metadata"
)
"""`TaskConfig` of lm-evaluation-harness 0.4.13 (`config/task.py`)."""


def _task(tmp_path: Path, text: str) -> Task:
    file = tmp_path / "task.yaml"
    file.write_text(text, encoding="utf-8")
    return load_task(file)


def test_every_field_of_the_harness_is_known() -> None:
    assert set(HARNESS_FIELDS.split()) <= set(TaskFile.model_fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("doc_to_image: picture", r"doc_to_image asks models that see or hear, and the models here read text"),
        ("doc_to_audio: [sound]", r"doc_to_audio asks models that see or hear"),
        (
            "use_prompt: 'promptsource:*'",
            r"use_prompt names a prompt of promptsource.*write its wording into doc_to_text",
        ),
        ("task_list: [{task: x}]", r"task_list is read and dropped .*write a group"),
        ("fewshot_config: {fewshot_indices: [1]}", r"fewshot_indices is read and never used .*fewshot_config\.samples"),
        (
            "metric_list: [{metric: f1, hf_evaluate: true}]",
            r"hf_evaluate asks for the metric f1 from the package evaluate",
        ),
        ("metric_list: [{metric: acc, aggregation: meen}]", r"unknown aggregation of the metric acc of task t 'meen'"),
        ("generation_kwargs: {penalty_alpha: 0.6}", r"penalty_alpha is a setting of transformers that no"),
        ("generation_kwargs: {max_length: 2}", r"max_length is a setting .*max_gen_toks bounds the length"),
        ("generation_kwargs: {presence_penalty: 1}", r"presence_penalty is a setting of servers"),
        ("generation_kwargs: {think_end_token: x}", r"think_end_token cuts off what a model thinks; a filter"),
        ("generation_kwargs: {min_p: 2}", r"min_p must be between 0 and 1, was: 2"),
        ("dataset_kwargs: {split: test}", r"dataset_kwargs\.split leaves .* without splits"),
        ("dataset_kwargs: {features: x}", r"dataset_kwargs\.features changes the types of columns"),
        ("dataset_kwargs: {token: x}", r"dataset_kwargs\.token is a secret"),
        ("dataset_kwargs: {langs: x}", r"unknown key of dataset_kwargs of task t 'langs'.*own loading script"),
        ("dataset_kwargs: {header: 3}", r"header must be null .* or 0 .*was: 3"),
        ("dataset_kwargs: {header: null}", r"header is null, so column_names must name the columns"),
        ("dataset_kwargs: {column_names: q}", r"column_names must be a list of names, was: 'q'"),
        ("fewshot_config: {sampler: balanced}", r"fewshot_config\.sampler of task t 'balanced'.*default, first_n"),
        (
            "filter_list: [{name: x, filter: [{function: regx}]}]",
            r"unknown filter in filter_list \(x\) of task t 'regx'; did",
        ),
        ("filter_list: [{name: x, filter: [{function: decontaminate}]}]", r"filter decontaminate yields no answers"),
        (
            "filter_list: [{name: x, filter: [{function: regex, patern: x}]}]",
            r"unknown option of the filter regex in filter_list \(x\) of task t 'patern'.*regex_pattern",
        ),
        (
            "filter_list: [{name: x, filter: [{function: regex, regex_pattern: '('}]}]",
            r"regex_pattern of the filter regex is no regular expression \(missing \)",
        ),
        (
            "filter_list: [{name: x, filter: [{function: regex, group_select: one}]}]",
            r"group_select of the filter regex must be a whole number, was: 'one'",
        ),
        ("filter_list: [{name: x, filter: [{function: take_first_k}]}]", r"the filter take_first_k needs k"),
        (
            "filter_list: [{name: x, filter: [{function: take_first_k, k: 0}]}]",
            r"k of the .* must be at least 1, was: 0",
        ),
        (
            "filter_list: [{name: x, filter: [{function: map, mapping_dict: [a]}]}]",
            r"mapping_dict .* must be a mapping",
        ),
        (
            "filter_list: [{name: x, filter: [{function: custom, filter_fn: f}]}]",
            r"filter_fn of the filter custom must be !function module\.name, was: 'f'",
        ),
        ("filter_list: [{name: x, filter: []}, {name: x, filter: []}]", r"filter_list names the pipeline 'x' twice"),
        ("filter_list: [{nme: x, filter: []}]", r"unknown key of filter_list 'nme'; did you mean 'name'"),
        (
            "filter_list: [{name: x, filter: [{functon: regex}]}]",
            r"task\.yaml:6: filter_list.*function: Field required",
        ),
        ("repeats: 0", r"repeats: Input should be greater than or equal to 1, was: 0"),
    ],
)
def test_what_is_refused_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        _task(tmp_path, f"{SMALL}{text}\n")
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_filters_of_texts_have_no_place_where_none_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the filter x works on texts, and multiple_choice yields log-probabilities"):
        _task(tmp_path, CHOICE + "filter_list: [{name: x, filter: [{function: lowercase}]}]\n")
    named = _task(tmp_path, CHOICE + "filter_list: [{name: first, filter: [{function: take_first}]}]\n")
    assert [line.name for line in named.filters] == ["first"]


def test_metrics_that_would_never_be_called_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(CHOICE + "metric_list: [{metric: !function u.f}]\n")
    with pytest.raises(UsageError, match=r"metric !function u\.f would never be called.*this task is multiple_choice"):
        load_task(file, trust_code=True)
    # Nor is the package evaluate asked for anything there.
    assert _task(tmp_path, CHOICE + "metric_list: [{metric: f1, hf_evaluate: true}]\n").metrics[0].name == "f1"


def test_what_is_carried_out_stands_in_the_task(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        SMALL + "repeats: 8\ncluster: passage\n"
        "generation_kwargs: {temperature: 0.5, min_p: 0.1, seed: 7, length_penalty: 0.5, use_cache: true}\n"
        "filter_list: [{name: maj@8, filter: [{function: regex, regex_pattern: x}, {function: majority_vote}]}]\n"
        "metric_list: [{metric: exact_match, aggregation: median}, {metric: f1, aggregation: f1}]\n",
    )
    assert (task.repeats, task.cluster) == (8, "passage")
    made = task.generation
    assert (made.min_p, made.seed, made.length_penalty) == (0.1, 7, 0.5)
    regex = FilterStep(function="regex", options={"regex_pattern": "x"})
    assert task.filters == (FilterPipeline(name="maj@8", steps=(regex, FilterStep(function="majority_vote"))),)
    assert [(use.name, use.aggregation) for use in task.metrics] == [("exact_match", "median"), ("f1", None)]


@pytest.mark.parametrize(
    "text",
    [
        "repeats: 1",
        "filter_list: [{name: none, filter: [{function: take_first}]}]",
        "generation_kwargs: {min_p: 0, length_penalty: 1.0}",
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]",
        "dataset_kwargs: {trust_remote_code: true, streaming: true, num_proc: 2}",
        "dataset_name: ''",
        "unsafe_code: false",
    ],
)
def test_defaults_that_are_written_out_change_no_hash(tmp_path: Path, text: str) -> None:
    assert _task(tmp_path, f"{SMALL}{text}\n").hash == _task(tmp_path, SMALL).hash


@pytest.mark.parametrize(
    "text",
    [
        "repeats: 2",
        "cluster: passage",
        "filter_list: [{name: x, filter: [{function: take_first}]}]",
        "generation_kwargs: {min_p: 0.1}",
        "generation_kwargs: {seed: 0}",
        "metric_list: [{metric: exact_match, aggregation: median}]",
        "dataset_kwargs: {data_dir: x}",
        "dataset_kwargs: {column_names: [q, a]}",
    ],
)
def test_what_a_score_depends_on_changes_the_hash(tmp_path: Path, text: str) -> None:
    assert _task(tmp_path, f"{SMALL}{text}\n").hash != _task(tmp_path, SMALL).hash


@pytest.mark.parametrize(
    ("kwargs", "reading"),
    [
        ("{column_names: [q, a], header: null}", ReaderOptions(column_names=("q", "a"), header=False)),
        ("{column_names: [q, a]}", ReaderOptions(column_names=("q", "a"), header=False)),
        ("{column_names: [q, a], header: 0, sep: ';'}", ReaderOptions(column_names=("q", "a"), delimiter=";")),
        ("{field: rows}", ReaderOptions(field="rows")),
    ],
)
def test_how_files_are_read(tmp_path: Path, kwargs: str, reading: ReaderOptions) -> None:
    assert _task(tmp_path, f"{SMALL}dataset_kwargs: {kwargs}\n").sources["test"].reading == reading


def test_files_that_do_not_say_how_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "test.csv"
    file.write_text("1;one\n2;two\n")
    named = ReaderOptions(column_names=("q", "a"), header=False, delimiter=";")
    assert read_file(file, reading=named) == [{"q": 1, "a": "one"}, {"q": 2, "a": "two"}]
    assert read_file(file, reading=ReaderOptions(column_names=("q", "a"), delimiter=";")) == [{"q": 2, "a": "two"}]
    with pytest.raises(UsageError, match=r"test\.csv has 2 columns, but column_names names 1 \(q\)"):
        read_file(file, reading=ReaderOptions(column_names=("q",), delimiter=";"))
    (tmp_path / "test.json").write_text('{"rows": [{"q": 1}], "more": [{"q": 2}]}')
    assert read_file(tmp_path / "test.json", reading=ReaderOptions(field="rows")) == [{"q": 1}]
    with pytest.raises(UsageError, match=r"unknown field of .*test\.json 'row'; did you mean 'rows'"):
        read_file(tmp_path / "test.json", reading=ReaderOptions(field="row"))


def test_data_in_a_folder_of_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "set" / "inner").mkdir(parents=True)
    (tmp_path / "set" / "inner" / "test.jsonl").write_text('{"q": "inner", "a": "x"}\n')
    (tmp_path / "set" / "test.jsonl").write_text('{"q": "outer", "a": "x"}\n')
    for path in ("json", "set"):
        folder = "set/inner" if path == "json" else "inner"
        task = _task(tmp_path, SMALL.replace("a/b", path) + f"dataset_kwargs: {{data_dir: {folder}}}\n")
        assert open_rows(task.sources["test"], options=DataAccess(offline=True)).rows[0]["q"] == "inner"
    task = _task(tmp_path, SMALL.replace("a/b", "json") + "dataset_kwargs: {data_dir: none}\n")
    with pytest.raises(UsageError, match=r"none \(dataset_kwargs\.data_dir\) holds no data files"):
        open_rows(task.sources["test"], options=DataAccess(offline=True))


def test_data_sets_that_moved(tmp_path: Path) -> None:
    for old, new in MOVED.items():
        task = _task(tmp_path, SMALL.replace("a/b", old))
        assert task.sources["test"].path == new
        assert task.hash == _task(tmp_path, SMALL.replace("a/b", new)).hash, "the rows are the same"
    assert not {path for path, _ in STAND_INS} & set(MOVED)


def test_the_table_of_filters_is_the_harness_s() -> None:
    """Its registry, 0.4.13: `grep -rh register_filter lm_eval/filters`."""
    registry = "custom decontaminate format_span lowercase majority_vote map multi_choice_regex regex regex_pos"
    registry += " remove_whitespace take_first take_first_k uppercase"
    assert {*FILTERS, *REFUSED} == set(registry.split())


def _filtered(answers: list[list[str]], *steps: FilterStep) -> list[list[str]]:
    return apply_filters(FilterPipeline(name="x", steps=steps), answers, [{}] * len(answers))


def test_filters_where_the_original_would_stop_or_go_astray() -> None:
    # Fewer matches than group_select asks for: an IndexError there.
    step = FilterStep(function="regex", options={"regex_pattern": "[0-9]", "group_select": 1})
    assert _filtered([["1 2", "1"]], step) == [["2", "[invalid]"]]
    # A step behind take_first would see single characters there.
    assert _filtered([["ab", "c"]], FilterStep(function="take_first"), FilterStep(function="uppercase")) == [["AB"]]
    table = FilterStep(function="map", options={"mapping_dict": {"A": 0}, "default_value": None})
    assert _filtered([["A", "B"]], table) == [["0", ""]]


def test_faults_of_filters_name_the_pipeline() -> None:
    with pytest.raises(UsageError, match=r"take_first_k of x: k is 3, but each request has 2 answers; raise .*repeats"):
        _filtered([["a", "b"]], FilterStep(function="take_first_k", options={"k": 3}))
    with pytest.raises(UsageError, match=r"multi_choice_regex of x: it needs a column choices"):
        _filtered([["a"]], FilterStep(function="multi_choice_regex"))


POOL = [{"q": str(number), "a": "x"} for number in range(4)]


def test_shots_of_the_harness_need_enough_rows(tmp_path: Path) -> None:
    unnamed = _task(tmp_path, SMALL.replace("test_split", "validation_split"))
    assert unnamed.shots_may_be_asked
    with pytest.raises(UsageError, match=r"4 worked examples were asked for \(5 are drawn, since the asked row may be"):
        lm_eval_shots(unnamed, pool=POOL, rows=POOL, count=4)
    twins = [POOL[0]] * 6 + [POOL[1]]
    with pytest.raises(UsageError, match=r"2 worked examples were asked for, but only 1 rows other than the asked one"):
        lm_eval_shots(unnamed, pool=twins, rows=twins[:1], count=2)
    named = _task(tmp_path, SMALL + "training_split: train\n")
    assert not named.shots_may_be_asked
    assert sorted(row["q"] for row in lm_eval_shots(named, pool=POOL, rows=POOL[:1], count=4)[0]) == list("0123")
    assert lm_eval_shots(named, pool=(), rows=POOL, count=0) == ((),) * 4
    for draw in (
        lambda: lm_eval_shots(named, pool=(), rows=POOL, count=1),
        lambda: pick_shots(named, pool=(), row=POOL[0], row_number=0, count=1, seed=1),
    ):
        with pytest.raises(UsageError, match=r"task t has no rows for worked examples; name a fewshot_split"):
            draw()


def test_a_gold_that_is_no_choice_says_why_it_is_refused(tmp_path: Path) -> None:
    task = _task(tmp_path, CHOICE)
    for gold, message in (
        (2, r"from 0 to 1, was: 2; no answer could be right"),
        ("z", r"not among the choices 'x', 'y'; no"),
    ):
        with pytest.raises(UsageError, match=rf"row 5: .*{message}.*lm-evaluation-harness does"):
            build_prompt(task, {"q": "?", "a": gold}, row_number=5)


def test_wording_of_worked_examples_reaches_their_answers(tmp_path: Path) -> None:
    task = _task(tmp_path, CHOICE + "fewshot_config: {doc_to_target: b, doc_to_choice: [u, v]}\n")
    shots = [{"q": "1", "a": 9, "b": 1}, {"q": "2", "a": 9, "b": "as it is"}]
    assert build_prompt(task, {"q": "?", "a": 0}, shots=shots).context == "1 v\n\n2 as it is\n\n?"
