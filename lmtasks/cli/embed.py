"""`lmtasks embed`: texts to vectors, which `pretrain --teacher` learns from."""

from pathlib import Path
from typing import Annotated

from lmtasks.cli.progress import progress_bars
from lmtasks.cli.values import data_options
from lmtasks.settings.base import Setting
from lmtasks.settings.data import DataAccess
from lmtasks.settings.runs_on import Device
from lmtasks.settings.training import EmbedText


def command(
    *,
    texts: EmbedText,
    out: Annotated[Path, Setting("File of the vectors (safetensors).", metavar="FILE")],
    device: Device = "cpu",
    access: DataAccess,
) -> None:
    """Make vectors of texts with an encoder or a program; the same command again goes on where it stopped."""
    from lmtasks.workflow.embed import EmbedRequest, embed_texts

    request = EmbedRequest(text=texts, out=out, device=device, data=data_options(access))
    with progress_bars() as report:
        embedded = embed_texts(request, report=report)
    if embedded is None:
        print(f"{out} is finished: it holds these vectors already.")
        return
    before = f", {embedded.known:,} of them from before" if embedded.known else ""
    print(f"{out} holds the vectors of {embedded.count:,} texts, {embedded.width} numbers each{before}.")
    data = " ".join(f"--data {each}" for each in texts.data) or f"--data TEXT --tokenizer {texts.vocabulary}"
    use = "teacher" if texts.data else "embeddings"
    print(f"Next: lmtasks pretrain {data} --objective mixed --{use} {out} --out runs/backbone")
