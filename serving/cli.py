"""What the commands do: one function each, ending with one line that says what came out and where."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import verify_bundle
from level1_pipeline.errors import BundleRefused, LeaseHeld, LeaseLost, NoAnswer, RouteRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, RouteSet
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import Route
from serving import server
from serving.api import security
from serving.models import loaded_model

EXPECTED = (BundleRefused, LeaseHeld, LeaseLost, RouteRefused, NoAnswer, LookupError, OSError)


def run(settings: Settings, asked: argparse.Namespace) -> int:
    """Serve until stopped. A worker scores on one thread, because the workers share the cores among them; this has
    to be said before scikit-learn, where it has to serve, is imported."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not security.has_keys(settings) and not security.is_local(settings.serving_host):
        message = "no API key is configured, so only this machine may ask: 127.0.0.1 instead of"
        print(f"note: {message} {settings.serving_host}; make a key with: python -m serving key", file=sys.stderr)
    server.run(settings, asked.workers)
    return 0


def key(settings: Settings, asked: argparse.Namespace) -> int:
    """Make a key."""
    secret, fingerprint = security.new_key()
    print(f"key (shown only now; for the caller's header 'Authorization: Bearer ...'): {secret}")
    print("hash (set MLOPS_PREDICT_KEY_HASH or MLOPS_ADMIN_KEY_HASH; several with commas):")
    print(f"key | {fingerprint}")
    return 0


def route(settings: Settings, asked: argparse.Namespace) -> int:
    """Change the arms, under the lease of promotions and with a line in the audit log."""
    store = Store(settings.operations)
    with leases.hold(store, leases.promotion(problem.NAME), settings.lease_seconds) as lease:
        wanted = _wanted(settings, store.route(problem.NAME), asked)
        action = RouteSet(asked.mode if asked.mode != "none" else "no challenger")
        change = Change(settings.who, action, asked.reason, clock.now(settings))
        values = {name: getattr(wanted, name) for name in ("challenger", "mode", "share")}
        now = store.change_route(problem.NAME, lease, change, **values)
    message = f"challenger {now.challenger}, mode {now.mode or 'none'}, share {now.share:g}"
    print(f"route | {problem.NAME} | champion {now.champion}, {message}")
    return 0


def _wanted(settings: Settings, now: Route, asked: argparse.Namespace) -> Route:
    version = asked.challenger or now.challenger
    if asked.mode == "none":
        return replace(now, mode=None, share=0.0, challenger=version)
    if now.champion is None:
        raise RouteRefused("there is no champion yet to answer beside a challenger; train one: make level1")
    if version is None or not re.fullmatch(r"[\w.-]*\w", version):
        raise RouteRefused(f"'{version}' is no version; name a published one with --challenger")
    if version == now.champion:
        raise RouteRefused(f"version {version} is the champion already; name another one with --challenger")
    if verify_bundle(loaded_model.folder(settings, version)).get("verdict") != "pass":
        raise RouteRefused(f"version {version} has not passed the gate, so it gets no traffic, not even copies")
    share = asked.share or 0.0
    if (asked.mode == "canary") != (0 < share <= 1):
        raise RouteRefused("a canary needs --share above 0 and up to 1, and a shadow has none")
    return replace(now, challenger=version, mode=asked.mode, share=share)


def score(settings: Settings, asked: argparse.Namespace) -> int:
    """Ask a service, over HTTP, about one row of the problem."""
    case = _case(settings, asked.id)
    if asked.url:
        said = _post(asked.url, case, asked.key)
    else:
        with server.temporary(settings) as url:
            said = _post(url, case, asked.key)
    message = f"{said['score']:.6f} -> {said['decision']} | version {said['version']} ({said['arm']})"
    print(f"score over HTTP | {problem.NAME} | {asked.id} | {message}")
    return 0


def batch(settings: Settings, asked: argparse.Namespace) -> int:
    """Score a file or a folder."""
    from level1_pipeline.errors import BatchRefused, InputFileRefused
    from serving.batch import job
    from serving.batch.reader import Source

    version = asked.version or Store(settings.operations).route(problem.NAME).champion
    if version is None:
        raise RouteRefused("there is no champion yet to score with; train one (make level1) or name a --version")
    started = time.perf_counter()
    try:
        place = loaded_model.load(settings, version).bundle.folder
        found = job.score(Source(asked.input), asked.output, place, version, asked.threads)
    except (BatchRefused, InputFileRefused) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    speed = f"{found.computed / (time.perf_counter() - started):,.0f} rows/s" if found.computed else "all there already"
    message = f"{found.rows:,} rows, {found.bad:,} bad | version {version} | {speed} | {asked.output}"
    print(f"score | {problem.NAME} | {message}")
    return 0


def _case(settings: Settings, wanted: str) -> dict[str, Any]:
    import pandas as pd

    everything = pd.Timestamp.max.tz_localize("UTC").as_unit("us")
    rows = problem.load(everything, settings.source, settings.home / "cache")
    row = rows[rows[problem.ID] == wanted]
    if row.empty:
        raise LookupError(f"there is no row with {problem.ID} = {wanted!r}; an example: {rows[problem.ID].iloc[-1]}")
    return {"id": wanted, "entity_id": str(row[problem.ENTITY].iloc[0]), "record": schema.records(row)[0]}


def _post(url: str, case: dict[str, Any], secret: str) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {secret}"} if secret else {})}
    if not url.startswith(("http://", "https://")):
        raise NoAnswer(f"'{url}' is no address of a service; write for example http://127.0.0.1:8000")
    request = urllib.request.Request(f"{url.rstrip('/')}/predict", json.dumps(case).encode(), headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  (checked above)
            said: dict[str, Any] = json.load(answer)
            return said
    except urllib.error.HTTPError as error:
        raise NoAnswer(f"{url} answered {error.code}: {error.read().decode()}") from error
    except urllib.error.URLError as error:
        raise NoAnswer(f"{url} cannot be reached ({error.reason}); start the service: make serve") from error
