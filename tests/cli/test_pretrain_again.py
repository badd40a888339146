"""The command that pretrains, given again: what is finished stays, whatever a kill left undone beside it."""

from pathlib import Path

from said import Say

OPTIONS = (
    "--backbone", "llama:width=16,layers=1,heads=2,inner=24,context=32", "--vocabulary", "270", "--window", "16",
    "--steps", "4", "--batch-rows", "4", "--accumulate", "2", "--evaluate-every", "2", "--offline",
)  # fmt: skip


def test_a_finished_backbone_is_found_again_and_nobody_is_told_to_delete_it(say: Say, tmp_path: Path) -> None:
    """Killed between the rename of its folder and the drawing of its curve, it was refused with that advice."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"the river runs past mill number {number} to the sea.\n" for number in range(1200)))
    out = tmp_path / "backbone"
    first = say("pretrain", "--data", text, *OPTIONS, "--out", out)
    assert first.code == 0, first.err
    assert (out / "curve.svg").is_file()
    weights = (out / "model.safetensors").read_bytes()
    (out / "curve.svg").unlink()
    again = say("pretrain", "--data", text, *OPTIONS, "--out", out)
    assert (again.code, again.out) == (
        0,
        f"{out} is finished: it was trained with these settings before. Another --out trains anew.\n",
    )
    assert (out / "model.safetensors").read_bytes() == weights
    other = say("pretrain", "--data", text, *OPTIONS, "--seed", "7", "--out", out)
    assert other.code == 2
    assert "was not made by this command; give another --out" in other.sentence
    assert "delete" not in again.err + other.err
    assert not list(tmp_path.glob("*.lock"))
