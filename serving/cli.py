"""The commands of the service. Each ends with one line that says what came out and where."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from sqlalchemy.exc import SQLAlchemyError

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import verify_bundle
from level1_pipeline.command_line import BAD_DATA, Reason, new_app, open_settings, print_result, printable
from level1_pipeline.environment import without_password
from level1_pipeline.errors import NoAnswer, NotFound, RouteRefused
from level1_pipeline.inputs import demo, source
from level1_pipeline.schema.scores import told
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, RouteSet
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import Route
from serving import server
from serving.api import security
from serving.models import loaded_model

app = new_app("The prediction service: serve the champion over HTTP, score one row, or score whole files.")
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, for scripts.")]
Mode = Literal["shadow", "canary", "none"]


@app.command()
def run(
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that answer.")] = 1,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Serve predictions until Ctrl-C. The page of the API is at /docs.

    Example: python -m serving run --workers 2
    """
    # A worker scores on one thread, because the workers share the cores among them; this has to be said before
    # scikit-learn, where it has to serve, is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    settings = open_settings()
    if not security.has_keys(settings) and not security.is_local(settings.serving_host):
        message = "no API key is configured, so only this machine may ask: 127.0.0.1 instead of"
        print(f"note: {message} {settings.serving_host}; make a key with: python -m serving key", file=sys.stderr)
    _refuse_another_clock(settings)
    if with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    server.run(settings, workers)


def _end_with_parent() -> None:
    """Whoever started us holds our standard input open, and it closes also when that process is killed."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _refuse_another_clock(settings: Settings) -> None:
    """What is predicted by another clock would spoil the log. A store that cannot be read is no reason not to serve."""
    store = Store(settings.operations)
    with suppress(SQLAlchemyError):
        clock.refuse_another(settings, store)
    store.close()


@app.command()
def key() -> None:
    """Make an API key, and print the hash to configure. The key itself is kept nowhere.

    Example: python -m serving key
    """
    secret, fingerprint = security.new_key()
    print(f"key (shown only now; for the caller's header 'Authorization: Bearer ...'): {secret}")
    print("hash (set MLOPS_PREDICT_KEY_HASH or MLOPS_ADMIN_KEY_HASH; several with commas):")
    print(f"key | {fingerprint}")


@app.command()
def route(
    mode: Annotated[Mode, typer.Option(help="shadow: copies of all requests; canary: a share of them.")],
    reason: Reason,
    challenger: Annotated[
        str | None, typer.Option(metavar="VERSION", help="A published version (default: the named challenger).")
    ] = None,
    share: Annotated[float | None, typer.Option(metavar="0.25", help="Of the entities; for the canary.")] = None,
    as_json: Json = False,
) -> None:
    """Give a challenger copies of the traffic (shadow) or a share of it (canary), or take it out again (none).

    Example: python -m serving route --mode canary --challenger 7 --share 0.1 --reason "it looks good in shadow"
    """
    settings = open_settings()
    store = Store(settings.operations)
    with leases.hold(store, leases.promotion(problem.NAME), settings.lease_seconds) as lease:
        wanted = _next_route(settings, store, mode, challenger, share)
        action = RouteSet(mode if mode != "none" else "no challenger")
        change = Change(settings.who, action, reason, clock.now(settings))
        values = {name: getattr(wanted, name) for name in ("challenger", "mode", "share")}
        route = store.change_route(problem.NAME, lease, change, **values)
    message = f"challenger {route.challenger}, mode {route.mode or 'none'}, share {route.share:g}"
    if as_json:
        print(json.dumps(asdict(route)))
    else:
        print_result("route", f"champion {route.champion}, {message}")


def _next_route(settings: Settings, store: Store, mode: Mode, challenger: str | None, share: float | None) -> Route:
    route = store.route(problem.NAME)
    version = challenger or route.challenger
    if mode == "none":
        return replace(route, mode=None, share=0.0, challenger=version)
    if route.champion is None:
        raise RouteRefused("there is no champion yet to answer beside a challenger; train one: make level1")
    if version is None or not re.fullmatch(r"[\w.-]*\w", version):
        raise RouteRefused(f"'{version}' is no version; name a published one with --challenger")
    if version == route.champion:
        raise RouteRefused(f"version {version} is the champion already; name another one with --challenger")
    folder, recorded = loaded_model.folder(settings, version), store.checksums(problem.NAME).get(version)
    if verify_bundle(folder, recorded).get("verdict") != "pass":
        raise RouteRefused(f"version {version} has not passed the gate, so it gets no traffic, not even copies")
    if (mode == "canary") != (0 < (share or 0.0) <= 1):
        raise RouteRefused("a canary needs --share above 0 and up to 1, and a shadow has none")
    return replace(route, challenger=version, mode=mode, share=share or 0.0)


@app.command()
def score(
    row_id: Annotated[
        str | None,
        typer.Option("--id", help=f"The {problem.ID} of a row of the problem's data (default: that of the demo)."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Of a running service (default: starts one for this row).")] = None,
    secret: Annotated[str, typer.Option("--key", help="API key, when the service wants one.")] = "",
    as_json: Json = False,
) -> None:
    """Score one row of the problem over HTTP, with its inputs as known at its decision time.

    Example: python -m serving score --id UA-1545-EWR-2013-04-01
    """
    settings = open_settings()
    row_id = row_id or demo.row(settings)
    request = _predict_request(settings, row_id)
    if url is None:
        _refuse_another_clock(settings)
    if url:
        prediction = _post(url, request, secret)
    else:
        with server.temporary(settings) as address:
            prediction = _post(address, request, secret)
    message = "{told} -> {decision} | version {version} ({arm})".format(told=told(prediction["score"]), **prediction)
    if as_json:
        print(json.dumps(prediction))
    else:
        print_result("score over HTTP", f"{row_id} | {message}")


@app.command()
def batch(
    source: Annotated[Path, typer.Option("--input", metavar="PATH", help="Parquet or CSV, a file or a folder.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="For scores, bad rows and what scored them.")],
    version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="A published version (default: that of a killed run, else the champion)."),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="That score (default: one for each core).")] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Log the predictions under the arm batch, to be monitored.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Score files. The same command goes on where a killed one stopped. Ends with 4 if all rows were bad.

    Example: python -m serving batch --input flights.csv --output scores
    """
    from serving.batch import job
    from serving.batch.log import BatchLog
    from serving.batch.reader import Source

    settings = open_settings()
    store = Store(settings.operations)
    version = version or job.begun_by(output) or store.route(problem.NAME).champion
    if version is None:
        raise RouteRefused("there is no champion yet to score with; train one (make level1) or name a --version")
    started, rows = time.perf_counter(), Source(source)
    if rows.aside:
        names = ", ".join(str(file.relative_to(source)) for file in rows.aside)
        print(printable(f"note: not read, because the name begins with . or _: {names}"), file=sys.stderr)
    model = loaded_model.load(settings, version, store.checksums(problem.NAME).get(version)).bundle
    logged = BatchLog(store, version, clock.now(settings)) if log else None
    if log:
        clock.live_by(settings, store)
    result = job.score(rows, output, model, version, threads, logged)
    speed = (
        f"{result.computed / (time.perf_counter() - started):,.0f} rows/s" if result.computed else "all there already"
    )
    message = f"{result.rows:,} rows, {result.bad:,} bad | version {version} | {speed} | {output}"
    facts = {**result._asdict(), "version": version, "checksum": model.checksum, "output": str(output)}
    if as_json:
        print(json.dumps(facts))
    else:
        print_result("score", message)
    return BAD_DATA if result.rows and result.rows == result.bad else 0


def _predict_request(settings: Settings, row_id: str) -> dict[str, Any]:
    rows = source.load(settings)
    row = rows[rows[problem.ID] == row_id]
    if row.empty:
        raise NotFound(f"there is no row with {problem.ID} = {row_id!r}; an example: {rows[problem.ID].iloc[-1]}")
    return {"id": row_id, "entity_id": str(row[problem.ENTITY].iloc[0]), "record": schema.records(row)[0]}


def _post(url: str, body: dict[str, Any], secret: str) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {secret}"} if secret else {})}
    if not url.startswith(("http://", "https://")):
        raise NoAnswer(f"'{url}' is no address of a service; write for example http://127.0.0.1:8000")
    request = urllib.request.Request(f"{url.rstrip('/')}/predict", json.dumps(body).encode(), headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  (checked above)
            prediction: dict[str, Any] = json.load(answer)
            return prediction
    except urllib.error.HTTPError as error:
        raise NoAnswer(f"{without_password(url)} answered {error.code}: {error.read().decode()}") from error
    except urllib.error.URLError as error:
        raise NoAnswer(
            f"{without_password(url)} cannot be reached ({error.reason}); start the service: make serve"
        ) from error
