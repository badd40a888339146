"""Queries that are one query in other letters, and those that are not."""

import pytest

from lmtasks.metric import make_metric
from lmtasks.metric.base import value_of
from lmtasks.metric.match import plain_sql
from lmtasks.records import Text

QUERY = (
    "SELECT CITYalias0.NAME FROM CITY AS CITYalias0 , RIVER AS RIVERalias0 "
    'WHERE CITYalias0.POP >= 1.5 AND x = "New York" ;'
)


@pytest.mark.parametrize(
    "same",
    [
        QUERY.lower().replace("new york", "New York"),
        QUERY.removesuffix(" ;"),
        QUERY.replace('"', "'"),
        QUERY.replace(" , ", ",").replace(" >= ", ">=").replace(" = ", "="),
        QUERY.replace("CITYalias0", "c").replace("RIVERalias0", "r"),
        "  " + QUERY.replace(" AS ", "\n AS  "),
    ],
)
def test_a_query_in_other_letters_is_the_same(same: str) -> None:
    assert plain_sql(same) == plain_sql(QUERY)


@pytest.mark.parametrize(
    "other",
    [
        QUERY.replace("New York", "new york"),
        QUERY.replace("New York", "NewYork"),
        QUERY.replace(">=", ">"),
        QUERY.replace("1.5", "15"),
        QUERY.replace("CITY AS", "STATE AS"),
        QUERY.replace("CITYalias0.POP", "RIVERalias0.POP"),
        QUERY + " LIMIT 1",
        "",
    ],
)
def test_another_query_is_another_one(other: str) -> None:
    metric = make_metric("sql_match")
    rows = [Text(references=(QUERY,), prediction=other), Text(references=("x", QUERY), prediction=QUERY)]
    assert metric.per_example(metric.statistics(rows)).tolist() == [0.0, 1.0]
    assert value_of(metric, metric.statistics(rows)) == 0.5
