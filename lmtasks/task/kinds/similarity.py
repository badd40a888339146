"""How alike two texts are, by the angle between their vectors; right is a number on whatever scale."""

from lmtasks.task.kinds.regression import RegressionKind

SIMILARITY = RegressionKind(
    name="similarity",
    about="how alike two texts are, by the cosine of their vectors",
    answer="number",
    head="embedding",
    output_types=("generate_until",),
    roles=("text", "pair", "number"),
    answer_role="number",
    source_role="text",
    changed_roles=("text", "pair"),
    metrics=("spearman", "pearson"),
    baselines=("mean", "shared-words", "tfidf-cosine"),
    prompted=False,
)
