"""The chart of a training."""

from lmtasks.report.charts import draw_curve


def test_the_chart_holds_the_losses_and_every_source() -> None:
    records: list[dict[str, object]] = [{"step": step, "loss": 9.0 - step / 10} for step in range(1, 41)]
    plain = draw_curve(records, title="mine", judged="bits per byte")
    assert plain.startswith("<svg")
    assert "loss, nats per token" in plain
    assert "bits per byte" not in plain
    for step in (20, 40):
        parts = {"novels": 2.0 - step / 100, "dialogues": 1.5}
        records[step - 1] |= {"validation": 1.9 - step / 100, "validation_parts": parts}
    whole = draw_curve(records, title="mine", judged="bits per byte")
    assert all(name in whole for name in ("mine", "bits per byte", "novels", "dialogues", ">all<"))
