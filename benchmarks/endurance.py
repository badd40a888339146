"""Does `lmtasks serve` hold its latency, its memory and every request for ten minutes, and say 429 beyond?

    python benchmarks/endurance.py                          600 s at 80 % of the best rate over lmtasks-mini
    python benchmarks/endurance.py --seconds 120 --out runs/endurance.json
    python benchmarks/endurance.py --model runs/mine-onnx --threads 2 --share 0.9

The best rate is what as many clients as the server writes texts at once get out of it, each asking again as soon as it
is answered. Then requests come by a schedule (Poisson), as `bench --rate` lets them come, and the first half is held
against the second; the server's memory is read each second. At last they come at five times the best rate for a few
seconds, and one that is asked alone behind that is answered as before.

The server has a process of its own, and everything ends with this command. Exit code 3: something grew, was lost, or
was not refused. Run it on a machine that does nothing else.
"""

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from lmtasks.bench.load import LoadSpeed, time_load
from lmtasks.bench.server import MeteredClient, TimedServer
from lmtasks.bench.workload import Load, Workload, WorkRequest, asked
from lmtasks.endpoint.engine import EndpointEngine
from lmtasks.endpoint.probe import probe
from lmtasks.settings.endpoint import Endpoint

TASKS = Path(__file__).resolve().parents[1] / "tasks" / "starter"
SETTINGS = Endpoint(concurrent=1024, retries=0, request_timeout=120)
MOST_SLOWER = 1.5
"""Of the second half's median and 95th percentile against the first one's."""
MOST_GROWTH_MB = 16.0
"""From the end of the first tenth to the end."""
BEYOND, BEYOND_SECONDS = 5.0, 6.0
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, kw_only=True)
class Half:
    """Latencies of one half of the requests, in ms."""

    requests: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class Endured:
    """What was found."""

    model: str
    seconds: float
    best_rate: float
    """Texts a second."""
    rate: float
    requests: int
    lost: int
    halves: tuple[Half, Half]
    ttft_p95_ms: float
    memory_mb: tuple[float, ...]
    """Of the server at the ends of ten equal parts of the time."""
    beyond_rate: float
    beyond_requests: int
    beyond_refused: int
    """With 429."""
    beyond_lost: int
    """In any other way."""
    alone_before_ms: float
    alone_after_ms: float
    memory_after_mb: float

    def faults(self) -> list[str]:
        """Sentences on what did not hold."""
        first, second = self.halves
        found = [f"{self.lost} requests were lost"] if self.lost else []
        found += [
            f"the {name} of the second half is {two:.0f} ms, and was {one:.0f} ms"
            for name, one, two in (("median", first.p50, second.p50), ("95th percentile", first.p95, second.p95))
            if two > MOST_SLOWER * one
        ]
        if (grown := self.memory_mb[-1] - self.memory_mb[0]) > MOST_GROWTH_MB:
            found.append(f"the server's memory grew by {grown:.0f} MB")
        if not self.beyond_refused:
            found.append("nothing was refused beyond its best rate")
        if self.beyond_lost:
            found.append(f"{self.beyond_lost} requests beyond its best rate had neither an answer nor 429")
        return found


@contextmanager
def served(model: str, *, threads: int, rows: int, queue: int) -> Iterator[tuple[psutil.Process, str]]:
    """A server in a process of its own, and its address."""
    options = ["--threads", str(threads), "--rows", str(rows), "--queue", str(queue), "--port", "0", "--offline"]
    command = [sys.executable, "-m", "lmtasks", "serve", "--model", model, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"is served at (http://\S+)\. Try:", process.stdout.readline())
            if found is None:
                raise SystemExit(f"{' '.join(command)} did not start")
            yield psutil.Process(process.pid), f"{found[1]}/v1"
        finally:
            process.terminate()
            process.wait(timeout=60)


def prompts() -> list[str]:
    """Texts of the starter tasks, some words each."""
    rows = (TASKS / "sentiment_en" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return [str(json.loads(row)["text"])[:160] for row in rows][:64]


def best_rate(engine: TimedServer, workload: Workload, *, clients: int, seconds: float) -> float:
    """Texts a second with so many clients that wait for nothing but their answers."""
    end = time.perf_counter() + seconds

    def client(first: int) -> int:
        count = 0
        while time.perf_counter() < end:
            request = workload.requests[(first + count * clients) % len(workload.requests)]
            list(engine.generate([asked(workload, request)], on_token=lambda event: None))
            count += 1
        return count

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answered = sum(pool.map(client, range(clients)))
    return answered / (time.perf_counter() - began)


def alone_ms(engine: TimedServer, workload: Workload, *, times: int = 9) -> float:
    """Median time of a request that nothing else runs beside."""
    took = []
    for request in workload.requests[:times]:
        began = time.perf_counter()
        list(engine.generate([asked(workload, request)], on_token=lambda event: None))
        took.append(1000 * (time.perf_counter() - began))
    return float(np.median(took))


def half(latencies: Sequence[float]) -> Half:
    """Percentiles of latencies."""
    p50, p95, p99 = (float(np.percentile(latencies, p)) for p in PERCENTILES)
    return Half(requests=len(latencies), p50=p50, p95=p95, p99=p99)


def watched(process: psutil.Process, work: "threading.Thread") -> list[float]:
    """The process's memory in MB, each second while the work goes on."""
    found = [process.memory_info().rss / 2**20]
    work.start()
    while work.is_alive():
        work.join(1.0)
        found.append(process.memory_info().rss / 2**20)
    return found


def endured(options: argparse.Namespace) -> Endured:
    """Everything, in its order."""
    with (
        served(options.model, threads=options.threads, rows=options.rows, queue=options.queue) as (process, address),
        closing(MeteredClient(address, SETTINGS)) as client,
    ):
        engine = EndpointEngine(client, probe(client, SETTINGS, tokenizer=None), settings=SETTINGS, tokenizer=None)
        requests = tuple(WorkRequest(ids=tuple(engine.tokenizer.encode(text))) for text in prompts())
        workload = Workload(task="endurance", kind="generate", new_tokens=options.new_tokens, requests=requests)
        timed = TimedServer(client, engine)
        best_rate(timed, workload, clients=options.rows, seconds=options.warm)
        best = best_rate(timed, workload, clients=options.rows, seconds=options.warm)
        before = alone_ms(timed, workload)
        rate = options.share * best
        found: list[LoadSpeed] = []

        def come(rate: float, seconds: float) -> None:
            load = Load(rate=rate, count=max(20, round(rate * seconds)))
            found.append(time_load(timed, workload=workload, load=load, rows=options.rows, apart=True))

        memory = watched(process, threading.Thread(target=come, args=(rate, options.seconds)))
        come(BEYOND * best, BEYOND_SECONDS)
        after = alone_ms(timed, workload)
        held, beyond = found
        middle = len(held.latency_ms) // 2
        refused = beyond.failed if all("429" in flag for flag in beyond.flags) else 0
        return Endured(
            model=options.model,
            seconds=held.seconds,
            best_rate=best,
            rate=rate,
            requests=held.load.count,
            lost=held.load.count - held.answered,
            halves=(half(held.latency_ms[:middle]), half(held.latency_ms[middle:])),
            ttft_p95_ms=float(np.percentile(held.ttft_ms, 95)),
            memory_mb=tuple(memory[(len(memory) - 1) * part // 10] for part in range(1, 11)),
            beyond_rate=beyond.load.rate,
            beyond_requests=beyond.load.count,
            beyond_refused=refused,
            beyond_lost=beyond.load.count - beyond.answered - refused,
            alone_before_ms=before,
            alone_after_ms=after,
            memory_after_mb=process.memory_info().rss / 2**20,
        )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lmtasks-mini")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the load at a share of the best rate")
    parser.add_argument("--warm", type=float, default=10.0, help="seconds in which the best rate is found, twice")
    parser.add_argument("--share", type=float, default=0.8, help="of the best rate")
    parser.add_argument("--threads", type=int, default=1, help="of the server's runtime")
    parser.add_argument("--rows", type=int, default=8, help="texts that are written at once")
    parser.add_argument("--queue", type=int, default=64, help="requests that may wait")
    parser.add_argument("--new-tokens", type=int, default=24, help="of each text")
    parser.add_argument("--out", type=Path, help="a JSON file with everything that was found")
    options = parser.parse_args()
    found = endured(options)
    told = {name: value for name, value in asdict(found).items()}
    content = json.dumps(told, indent=2)
    print(content)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(content + "\n", encoding="utf-8")
    faults = found.faults()
    for fault in faults:
        print(f"{fault}.")
    return 3 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
