"""`make bench-serving`: our service and its peers, in turns, with the same real rows.

All are started once (timed up to the first right prediction), then stopped and continued by signals, so that only
the one that is measured runs. BENCH_SECONDS is the length of each load. The machine's cores are for all, as on any
machine; with BENCH_PINNED=1 the server has one core for itself and the client another.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.settings import Settings
from level1_pipeline.steps.write_bundle import categories, typical
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import predictions
from tests.benchmarks.load import MARK, Measured, drive
from tests.support import ROOT
from tests.support.serving import set_route

OURS, THEIRS = Path(sys.executable), ROOT / ".venv-bench/bin/python"
ROUNDS, SECONDS = int(os.environ.get("BENCH_ROUNDS", "3")), float(os.environ.get("BENCH_SECONDS", "5"))
CONNECTIONS, CASES, TRAINED, YEARS = 16, 1000, 80_000, 10
ALL_CORES = os.sched_getaffinity(0)
SERVER_CORES, CLIENT_CORES = ({0}, {1}) if os.environ.get("BENCH_PINNED") else (ALL_CORES, ALL_CORES)
Records = list[dict[str, Any]]
console = Console()


def our_body(records: Records) -> bytes:
    """With ids and entities, as a caller sends them who will post outcomes."""
    cases = [
        {"id": f"{MARK.decode()}-{n}", "entity_id": f"entity-{n}", "record": member} for n, member in enumerate(records)
    ]
    return json.dumps(cases if len(cases) > 1 else cases[0]).encode()


def v2_body(records: Records) -> bytes:
    """The Open Inference Protocol: one typed tensor for each column."""
    kinds = {column.name: "BYTES" if column.text else "FP64" for column in schema.columns()}
    columns = [
        {"name": name, "shape": [len(records), 1], "datatype": kind, "data": [record[name] for record in records]}
        for name, kind in kinds.items()
    ]
    return json.dumps({"inputs": columns}).encode()


def one_or_more(answer: Any) -> list[float]:
    return [member["score"] for member in (answer if isinstance(answer, list) else [answer])]


@dataclass
class Peer:
    """A server: how it is started, asked and understood."""

    name: str
    command: Callable[[int, Path], list[str]]
    path: str = "/predict"
    body: Callable[[Records], bytes] = lambda records: json.dumps(records).encode()
    scores: Callable[[Any], list[float]] = lambda answer: answer["scores"]
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    seconds_to_start: float = 0.0
    megabytes: float = 0.0
    answered: int = 0  # rows
    rates: dict[int, list[Measured]] = field(default_factory=lambda: {1: [], 100: []})

    def rate(self, rows: int) -> float:
        """Median answers a second over the rounds."""
        return statistics.median(rate.rate for rate in self.rates[rows]) if self.rates[rows] else float("nan")

    def p99(self, rows: int = 1) -> float:
        """Median over the rounds, in milliseconds."""
        return statistics.median(rate.percentile(0.99) for rate in self.rates[rows])


def uvicorn(app: str) -> Callable[[int, Path], list[str]]:
    message = [str(OURS), "-m", "uvicorn", "--factory", f"tests.benchmarks.peers.fastapi_app:{app}", "--no-access-log"]
    return lambda port, _: [*message, "--log-level", "warning", "--port", str(port)]


def mlserver(port: int, scratch: Path) -> list[str]:
    folder = scratch / f"mlserver-{port}"
    folder.mkdir()
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    alone = {"parallel_workers": 0, "debug": False, "metrics_dir": str(folder)}  # no second process on one core
    (folder / "settings.json").write_text(json.dumps(settings | alone))
    model = {"name": "peer", "implementation": "tests.benchmarks.peers.mlserver_model.Peer"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(THEIRS.with_name("mlserver")), "start", str(folder)]


def mlflow(port: int, scratch: Path) -> list[str]:
    message = [str(THEIRS.with_name("mlflow")), "models", "serve", "--env-manager", "local", "--workers", "1"]
    return [*message, "--model-uri", str(scratch / "mlflow"), "--host", "127.0.0.1", "--port", str(port)]


def bento(port: int, _: Path) -> list[str]:
    message = [str(THEIRS.with_name("bentoml")), "serve", "tests.benchmarks.peers.bentoml_service:Peer"]
    return [*message, "--host", "127.0.0.1", "--port", str(port)]


def wrapped(records: Records) -> bytes:
    return json.dumps({"records": records}).encode()


def v2_scores(answer: Any) -> list[float]:
    return list(answer["outputs"][0]["data"])


def mlflow_scores(answer: Any) -> list[float]:
    return [prediction[1] if isinstance(prediction, list) else prediction for prediction in answer["predictions"]]


SERVE = "from serving.__main__ import main; main(['run'])"
NO_LOG = f"from serving.telemetry.prediction_log import PredictionLog; PredictionLog.add = lambda self, scored: None; {SERVE}"
OUR_SETTINGS = {"MLOPS_RATE_LIMIT": "1000000"}
COMPILED = {"PEER_ENGINE": "compiled"}
V2 = "/v2/models/peer/infer"


def peers() -> list[Peer]:
    """Us first. The last four show what is the server's and what is the engine's."""
    records: dict[str, Any] = {
        "body": lambda some: json.dumps({"dataframe_records": some}).encode(),
        "scores": mlflow_scores,
    }
    return [
        Peer("ours", lambda *_: [str(OURS), "-c", SERVE], "/predict", our_body, one_or_more),
        Peer("mlflow models serve", mlflow, "/invocations", **records),
        Peer("MLServer", mlserver, V2, v2_body, v2_scores),
        Peer("BentoML", bento, body=wrapped, scores=list),
        Peer(
            "LitServe",
            lambda port, _: [str(THEIRS), "-m", "tests.benchmarks.peers.litserve_server", str(port)],
            body=wrapped,
        ),
        Peer("FastAPI + pandas", uvicorn("usual")),
        Peer("FastAPI + our engine", uvicorn("usual"), environment=COMPILED),
        Peer("MLServer + our engine", mlserver, V2, v2_body, v2_scores, COMPILED),
        Peer("bare FastAPI route", uvicorn("bare"), scores=lambda answer: [0.0] if answer == {"ok": True} else []),
        Peer("ours without the log", lambda *_: [str(OURS), "-c", NO_LOG], "/predict", our_body, one_or_more),
    ]


@dataclass
class World:
    """A model, rows that it has not seen, and what the pipeline says about them."""

    scratch: Path
    bundle: Path
    records: Records
    expected: np.ndarray

    @classmethod
    def make(cls, scratch: Path) -> World:
        """Train on the first rows, and publish that as the champion of a home of its own."""
        rows = problem.load(pd.Timestamp.max.tz_localize("UTC").as_unit("us"), cache=Path(scratch, "cache"))
        labelled = rows[rows[problem.TARGET].notna()].head(TRAINED)
        model = problem.build_model().fit(labelled[schema.names()], labelled[problem.TARGET])
        home, unseen = Settings(home=scratch / "home").prepare(), rows.tail(CASES)
        place = home.home / "bundles" / problem.NAME / "1"
        facts = {"categories": categories(labelled), "typical": typical(labelled)}
        about = {"verdict": "pass", "run_id": "bench", **facts}
        write_bundle(place, model, labelled.tail(5000), about, pd.DataFrame({"day": ["2013-01-01"]}))
        set_route(home, champion="1")
        pd.concat([rows[schema.names()]] * YEARS).to_parquet(scratch / "rows.parquet")
        return cls(scratch, place, schema.records(unseen), predict(model, unseen))

    @property
    def environment(self) -> dict[str, str]:
        """What servers are told."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")},
            **OUR_SETTINGS,
            "MLOPS_HOME": str(self.scratch / "home"),
            "PEER_BUNDLE": str(self.bundle),
            "PEER_TRUSTED": json.dumps(problem.TRUSTED_TYPES),
            "PEER_TYPES": json.dumps(schema.dtypes()),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "BENTOML_DO_NOT_TRACK": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{THEIRS.parent}:{os.environ['PATH']}",
        }


def free_port() -> int:
    """One with two free ones above it, most likely."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started(peer: Peer, world: World) -> Iterator[psutil.Process]:
    """The server, asleep, after its first right prediction; with the time until then, and its memory."""
    peer.port = free_port()
    environment = world.environment | peer.environment | {"MLOPS_SERVING_PORT": str(peer.port)}
    command, log = peer.command(peer.port, world.scratch), world.scratch / f"{peer.name}.log"
    begun = time.perf_counter()
    with log.open("w") as file:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
            preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CORES),
        )
    process = psutil.Process(child.pid)
    try:
        while not first_answer(peer, world):
            if child.poll() is not None or time.perf_counter() - begun > 120:
                raise SystemExit(f"{peer.name} does not answer; its log:\n{log.read_text()[-3000:]}")
            time.sleep(0.02)
        peer.seconds_to_start = time.perf_counter() - begun
        send(process, signal.SIGSTOP)
        yield process
    finally:
        for member in family(process):
            member.kill()
        child.wait()


def first_answer(peer: Peer, world: World) -> bool:
    address, body = f"http://127.0.0.1:{peer.port}{peer.path}", peer.body(world.records[:1])
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            check(peer, world, 1, [(0, answer.read())])
            return True
    except OSError:
        return False


def family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(process: psutil.Process, sign: signal.Signals) -> None:
    for member in family(process):
        member.send_signal(sign)


def check(peer: Peer, world: World, rows: int, answers: list[tuple[int, bytes]]) -> None:
    """Every answer is what the pipeline says about these rows."""
    for number, answer in answers:
        output = np.array(peer.scores(json.loads(answer)))
        expected = world.expected[number * rows : (number + 1) * rows]
        if peer.name.startswith("bare"):
            expected = np.zeros(1)
        if output.shape != expected.shape or not np.abs(output - expected).max() <= 1e-12:
            raise SystemExit(f"{peer.name} gives other numbers: {output[:3]} in place of {expected[:3]}")


def measure(peer: Peer, world: World, process: psutil.Process, turn: int) -> None:
    """A short load to warm up, then one with single rows and one with a hundred rows a request."""
    send(process, signal.SIGCONT)
    for rows in (1, 100):
        if rows == 100 and peer.name.startswith("bare"):
            continue
        groups = [world.records[start : start + rows] for start in range(0, CASES, rows)]
        bodies = [peer.body(group) for group in groups]
        first = turn * 10**9 + rows * 10**7
        warm = drive(peer.port, peer.path, bodies, CONNECTIONS, min(1.0, SECONDS), first + 5 * 10**6)
        measured = drive(peer.port, peer.path, bodies, CONNECTIONS, SECONDS, first)
        for load in (warm, measured):
            check(peer, world, rows, load.answers)
            peer.answered += rows * len(load.answers)
            load.answers = [(number, b"") for number, _ in load.answers]
        peer.rates[rows].append(measured)
    peer.megabytes = max(peer.megabytes, sum(member.memory_info().rss for member in family(process)) / 1e6)
    if peer.name == "ours":
        drained(peer, world)
    send(process, signal.SIGSTOP)


def drained(peer: Peer, world: World) -> None:
    """Nothing that was answered may be missing in the log, which is written behind the answers."""
    count = sa.select(sa.func.count()).select_from(predictions)
    engine, deadline = Store(f"sqlite:///{world.scratch / 'home/operations.db'}").engine, time.monotonic() + 60
    while True:
        with engine.connect().execution_options(reads_only=True) as connection:
            logged = connection.scalar(count)
        if (logged or 0) >= peer.answered:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"our prediction log holds {logged:,} of {peer.answered:,} answered rows")
        time.sleep(0.1)


def compare_files(world: World) -> tuple[float, float]:
    """Rows a second of our whole command (start, reading, checks, decisions, files), and how many times those of
    the bare pipeline, which has its table in memory, uses all cores, and writes nothing."""
    source, ours, theirs, rows = world.scratch / "rows.parquet", [], [], 0
    environment = {name: value for name, value in world.environment.items() if name != "OMP_NUM_THREADS"}
    code = "import sys, tests.benchmarks.serving as bench; bench.bare_rows(sys.argv[1])"
    for turn in range(ROUNDS):
        output = world.scratch / f"out{turn}"
        begun = time.perf_counter()
        run([str(OURS), "-m", "serving", "batch", "--input", str(source), "--output", str(output)], environment)
        rows = json.loads((output / "scored.json").read_text())["rows"]
        ours.append(rows / (time.perf_counter() - begun))
        theirs.append(float(run([str(OURS), "-c", code, str(world.scratch)], environment)))
    return statistics.median(ours), statistics.median(own / other for own, other in zip(ours, theirs, strict=True))


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed:\n{done.stderr[-2000:]}")
    return done.stdout


def bare_rows(scratch: str) -> None:
    """Print the rows that scikit-learn scores in a second, with all its threads."""
    model = load_bundle(next(Path(scratch, "home/bundles").glob("*/1"))).pipeline
    rows = pd.read_parquet(Path(scratch, "rows.parquet")).head(300_000)
    predict(model, rows.head(1000))
    begun = time.perf_counter()
    predict(model, rows)
    print(len(rows) / (time.perf_counter() - begun))


def show(result: list[Peer]) -> None:
    """One line for each server."""
    table = Table(*("server", "req/s", "p50 ms", "p99 ms", "rows/s by 100", "p99 ms", "start s", "MB"))
    for peer in result:
        many = peer.rates[100]
        p50 = statistics.median(rate.percentile(0.5) for rate in peer.rates[1])
        cells = [f"{peer.rate(1):,.0f}", f"{p50:.2f}", f"{peer.p99():.2f}"]
        cells += [f"{100 * peer.rate(100):,.0f}", f"{peer.p99(100):.1f}"] if many else ["", ""]
        table.add_row(peer.name, *cells, f"{peer.seconds_to_start:.1f}", f"{peer.megabytes:.0f}")
    console.print(table)


def main() -> None:
    """Measure everything; print a table and one line."""
    wanted = os.environ.get("BENCH_PEERS", "")
    result = [peer for peer in peers() if not wanted or peer.name in wanted.split(",")]
    os.sched_setaffinity(0, CLIENT_CORES)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        world = World.make(Path(scratch))
        if any(peer.command is mlflow for peer in result):
            save = [str(THEIRS), "-m", "tests.benchmarks.peers.mlflow_model", str(world.scratch / "mlflow")]
            run(save, world.environment)
        processes = [running.enter_context(started(peer, world)) for peer in result]
        for turn in range(ROUNDS):
            for peer, process in zip(result, processes, strict=True):
                measure(peer, world, process, turn)
        show(result)
        running.close()
        os.sched_setaffinity(0, ALL_CORES)
        rows_a_second, ratio = compare_files(world)
    conclude({peer.name: peer for peer in result}, rows_a_second, ratio)


def conclude(by_name: dict[str, Peer], rows_a_second: float, ratio: float) -> None:
    """The line of ratios; the gain over other servers is the engine's, as the lines with our engine show."""
    ours, theirs = by_name["ours"], by_name.get("mlflow models serve")
    bare, without = by_name.get("bare FastAPI route"), by_name.get("ours without the log")
    message, facts = [f"{ours.rate(1):,.0f} req/s"], dict[str, str]()
    if theirs:
        facts["vs_mlflow"] = f"{ours.rate(1) / theirs.rate(1):.1f}"
    if bare:
        facts["vs_bare_fastapi"] = f"{ours.rate(1) / bare.rate(1):.2f}"
    facts["p99_ms"] = f"{ours.p99():.2f}"
    if theirs:
        facts["p99_vs_mlflow"] = f"1/{theirs.p99() / ours.p99():.0f}"
    facts |= {"start_s": f"{ours.seconds_to_start:.1f}", "MB": f"{ours.megabytes:.0f}"}
    if without:
        facts |= {f"log_cost_{rows}": f"{1 - ours.rate(rows) / without.rate(rows):.0%}" for rows in (1, 100)}
    message.append(" ".join(f"{name}={value}" for name, value in facts.items()))
    many = f"batch100={100 * ours.rate(100):,.0f}"
    if theirs:
        many += f" ({ours.rate(100) / theirs.rate(100):.0f} x mlflow)"
    print(
        f"bench-serving | {' | '.join(message)} | rows/s {many} files={rows_a_second:,.0f} ({ratio:.1f} x scikit-learn)"
    )


if __name__ == "__main__":
    main()
