"""Golden values over data sets of the mirror: metrics and hashes, no rows.

lm-evaluation-harness reads its own task files; lmtasks the ones that it ships under the same names, which say that they
mean the same.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equality import distinct_prompts
from golden_files import RESAMPLES
from peer_tasks import write_tasks
from sides import Job, Request, ask


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A task that both have."""

    peer: str
    """Its name in `peer_tasks`."""
    file: str
    """Our file, in tasks/."""
    shots: tuple[int, ...] = (0,)
    limit: int = 30


SHIPPED: tuple[Shipped, ...] = (
    Shipped(peer="arc_easy", file="multiple_choice/arc_easy.yaml", shots=(0, 5)),
    Shipped(peer="arc_challenge", file="multiple_choice/arc_challenge.yaml", shots=(0, 5)),
    Shipped(peer="openbookqa", file="multiple_choice/openbookqa.yaml", shots=(0, 5)),
    Shipped(peer="piqa", file="multiple_choice/piqa.yaml", shots=(0, 5), limit=20),
    Shipped(peer="winogrande", file="multiple_choice/winogrande.yaml", shots=(0, 5)),
    Shipped(peer="lambada_openai", file="language_modelling/lambada.yaml"),
    Shipped(peer="cola", file="classification/cola.yaml", shots=(0, 5), limit=60),
    Shipped(peer="mrpc", file="classification/mrpc.yaml", shots=(0, 5)),
    Shipped(peer="multi30k_en_de", file="translation/multi30k_en_de.yaml", shots=(0, 5), limit=10),
)


def mirror_records(work: Path, checkpoint: Path, *, peer: Path, peer_files: Path, data_root: Path) -> dict[str, Any]:
    """What lm-evaluation-harness finds for each."""
    tasks = write_tasks(work / "tasks", peer_files=peer_files, data_root=data_root)
    jobs = {
        f"{task.peer}-{shots}": (
            task,
            shots,
            Job(
                name=f"{task.peer}-{shots}",
                task_folder=str(tasks),
                tasks=(task.peer,),
                num_fewshot=shots,
                limit=task.limit,
                resamples=RESAMPLES,
            ),
        )
        for task in SHIPPED
        for shots in task.shots
    }
    request = Request(checkpoint=str(checkpoint), jobs=tuple(job for _, _, job in jobs.values()))
    answer = ask("lm-eval", request, peer=peer, folder=work / "work" / "mirror", reuse=True)
    records = [
        {
            "name": name,
            "file": task.file,
            "num_fewshot": shots,
            "limit": task.limit,
            "results": answer["jobs"][name]["results"][task.peer],
            **hashes(answer["jobs"][name]["samples"][task.peer]),
        }
        for name, (task, shots, _) in jobs.items()
    ]
    return {"versions": answer["versions"], "tasks": records}


def hashes(samples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Hashes of all prompts, and of the texts that were generated; equal prompts of a document count once."""
    prompts = [distinct_prompts(sample["prompts"]) for sample in samples]
    texts = [reply for sample in samples for reply in _flat(sample["replies"]) if isinstance(reply, str)]
    return {"prompts": _hash(prompts), "texts": _hash(texts) if texts else ""}


def _flat(replies: Any) -> list[Any]:
    return [one for reply in replies for one in _flat(reply)] if isinstance(replies, list) else [replies]


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:16]
