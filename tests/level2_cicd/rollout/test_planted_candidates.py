"""Real candidates with planted faults, on real flights, through the real service, under load all the while.

Tuesday 22 October 2013 on: three days of shadow whose outcomes arrive, then the canary begins on a Sunday.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, keep
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import predictions
from level2_cicd.rollout import advance
from level2_cicd.rollout.state_machine import Decision
from level2_cicd.rollout.states import CHAMPION, ROLLED_BACK
from serving.models.routing import in_canary
from tests.support.planted import TYPE, Planted
from tests.support.serving import eventually, serve, set_route

pytestmark = [pytest.mark.flights, pytest.mark.slow]

START = pd.Timestamp("2013-10-22", tz="America/New_York")
TOGETHER = 16  # cases in one request


@dataclass
class Answer:
    """One request: when it was sent and answered, and who answered each case."""

    sent: float
    done: float
    status: int
    said: list[tuple[str, str, str]]  # entity, version, arm


@dataclass
class Load:
    """Asks without a pause: first what is planned, and between that the same flights again under other ids."""

    url: str
    planned: list[list[dict[str, Any]]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    extra: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> None:
        number = 0
        with httpx2.Client(base_url=self.url, timeout=60) as client:
            while not self.stop.is_set():
                cases = self.planned[0] if self.planned else []
                if not cases:
                    number += 1
                    cases = [{**case, "id": f"extra-{number}-{case['id']}"} for case in self.extra[:2]]
                self.ask(client, cases)
                if self.planned and cases is self.planned[0]:
                    self.planned.pop(0)
                time.sleep(0.02)

    def ask(self, client: httpx2.Client, cases: list[dict[str, Any]]) -> None:
        sent = time.monotonic()
        try:
            answer = client.post("/predict", json=cases)
        except httpx2.HTTPError as error:
            self.trouble.append(repr(error))
            return
        seen_before = answer.json() if answer.status_code == 200 else []
        output = [
            (case["entity_id"], line["version"], line["arm"]) for case, line in zip(cases, seen_before, strict=False)
        ]
        self.answers.append(Answer(sent, time.monotonic(), answer.status_code, output))


@dataclass
class Stage:
    """The service, the load, and the days that go by."""

    settings: Settings
    rows: pd.DataFrame
    client: httpx2.Client
    load: Load
    today: pd.Timestamp = START
    routes: list[tuple[float, float, Route]] = field(default_factory=list)  # changed from, followed by, what
    asked: int = 0  # lines of the log that the planned cases have to leave

    @property
    def store(self) -> Store:
        return Store(self.settings.operations)

    def pass_day(self) -> None:
        local = self.rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.normalize()
        cases = self.rows[local == self.today].iloc[::2]
        noon = (self.today + pd.Timedelta("12h")).tz_convert("UTC").to_pydatetime()
        self.store.set_replay_time(noon)
        request = [
            {"id": str(row[problem.ID]), "entity_id": str(row[problem.ENTITY]), "record": record}
            for (_, row), record in zip(cases.iterrows(), schema.records(cases), strict=True)
        ]
        shadow = self.store.route(problem.NAME).mode == "shadow"
        self.asked += len(request) * (2 if shadow else 1)
        self.load.extra = request
        self.load.planned.extend(request[at : at + TOGETHER] for at in range(0, len(request), TOGETHER))
        eventually(lambda: not self.load.planned, 120)
        self.wait_for_the_log()
        seen_before = cases[cases[problem.TARGET].notna()]
        self.today += pd.Timedelta("1D")
        midnight = self.today.tz_convert("UTC").to_pydatetime()
        truth = [Reported(str(row[problem.ID]), float(row[problem.TARGET]), noon) for _, row in seen_before.iterrows()]
        keep(self.store, truth, midnight)
        self.store.set_replay_time(midnight)

    def wait_for_the_log(self) -> None:
        """Until no row of the day is written any more, answer or copy, however slow this machine is."""
        planned = predictions.c.id.not_like("extra-%")
        count, before, since = sa.select(sa.func.count()).select_from(predictions).where(planned), -1, time.monotonic()
        shadow = self.store.route(problem.NAME).mode == "shadow"
        while time.monotonic() < since + 1:
            with self.store.engine.connect() as connection:
                logged = connection.scalar(count) or 0
            if shadow and logged == self.asked:
                return  # each answer and each copy is there; in a canary, answers that fail leave a line more
            if logged != before:
                before, since = logged, time.monotonic()
            time.sleep(0.1)

    def look(self, act: Callable[[], Decision | None]) -> Decision:
        """Let the driver act, and note when the route changed and when the service had followed."""
        before, changed = self.store.route(problem.NAME), time.monotonic()
        decision = act()
        assert decision
        route = self.store.route(problem.NAME)
        if route != before:
            eventually(lambda: self.serves(route), 60)
            self.routes.append((changed, time.monotonic(), route))
        return decision

    def serves(self, route: Route) -> bool:
        card = self.client.get("/model").json()
        beside = route.challenger if route.mode else None
        return (card["version"], card["challenger"], card["mode"], card["share"]) == (
            route.champion,
            beside,
            route.mode,
            route.share,
        )

    def roll_out(self) -> list[Decision]:
        """Start version 2 and live until its rollout is over."""
        self.store.set_replay_time(self.today.tz_convert("UTC").to_pydatetime())
        decisions = [self.look(lambda: advance.start(self.settings, "2", "a test"))]
        while decisions[-1].step.state not in (CHAMPION, ROLLED_BACK):
            assert len(decisions) < 20, decisions[-1].reason
            self.pass_day()
            decisions.append(self.look(lambda: advance.advance(self.settings)))
        time.sleep(0.5)
        return decisions

    def violations(self) -> list[str]:
        """Failed requests, and answers by a version or arm that no route of that time allowed."""
        wrong = [*self.load.trouble, *(f"status {line.status}" for line in self.load.answers if line.status != 200)]
        for answer in self.load.answers:
            allowed = [
                route
                for place, (changed, _, route) in enumerate(self.routes)
                if answer.done >= changed
                and (place + 1 == len(self.routes) or answer.sent <= self.routes[place + 1][1])
            ]
            for entity, version, arm in answer.said:
                if not any(may_answer(route, entity, version, arm) for route in allowed):
                    wrong.append(f"version {version} ({arm}) answered {entity}, but {allowed} was allowed")
        return wrong


def may_answer(route: Route, entity: str, version: str, arm: str) -> bool:
    """By the route: the champion always (it answers where the canary fails), the canary for its share."""
    if arm == "champion":
        return version == route.champion
    return route.mode == "canary" and version == route.challenger and in_canary(route, entity)


@pytest.fixture(scope="module")
def bundles(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Path]]:
    """Makes a bundle of the old (January) or the new (summer) model with a fault; each model is fitted once."""
    folder, fitted = tmp_path_factory.mktemp("planted"), {}
    seen_before = rows[rows[problem.TARGET].notna()].set_index(problem.EVENT_TIME, drop=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem, "TRUSTED_TYPES", (*problem.TRUSTED_TYPES, TYPE))

        def make(model: str, fault: str) -> Path:
            span = {"old": ("2013-01-01", "2013-01-31"), "new": ("2013-06-01", "2013-08-31")}[model]
            if model not in fitted:
                fitted[model] = fit_model(seen_before.loc[slice(*span)])
            pipeline = fitted[model]
            wrapped = type(pipeline)([*pipeline.steps[:-1], ("model", Planted(pipeline[-1], fault))])
            target = folder / f"{model}-{fault}".replace(" ", "-")
            golden = seen_before.loc["2013-09-04"].query("departure_minute < 600").head(50)  # no fault shows on these
            info = {"kind": "refitted", "verdict": "pass", "metrics": {}}
            write_bundle(target, wrapped, golden, info, pd.DataFrame({"day": ["2013-09-04"]}))
            return target

        yield make


@pytest.fixture
def stage(home: Settings, rows: pd.DataFrame, bundles: Callable[[str, str], Path]) -> Iterator[Callable[[str], Stage]]:
    """Version 1 (old, without fault) serves; version 2 is the candidate with a fault."""
    running: list[Any] = []

    def prepare(fault: str) -> Stage:
        settings = home.changed(
            {
                "clock": "replay",
                "watch_seconds": 0.1,
                "flush_seconds": 0.1,
                "rate_limit": 0.0,
                "predict_seconds": 30.0,  # a busy machine is no fault of a candidate
                "tracking_uri": "sqlite:////nowhere/mlflow.db",
                "canary_shares": "0.25,0.5",
            }
        )
        folder = settings.home / "bundles" / problem.NAME
        shutil.copytree(bundles("old", "none"), folder / "1")
        shutil.copytree(bundles("new", fault), folder / "2")
        Store(settings.operations).set_replay_time(START.tz_convert("UTC").to_pydatetime())
        set_route(settings, champion="1")
        served = serve(settings)
        client = served.__enter__()
        load = Load(str(client.base_url))
        thread = threading.Thread(target=load.run)
        running_stage = Stage(settings, rows, client, load)
        running_stage.routes.append((0.0, time.monotonic(), Route("1")))
        local = rows[problem.EVENT_TIME] >= START
        first = rows[local].head(2)
        load.extra = [
            {"id": str(row[problem.ID]), "entity_id": str(row[problem.ENTITY]), "record": record}
            for (_, row), record in zip(first.iterrows(), schema.records(first), strict=True)
        ]
        thread.start()
        running.extend([load, thread, served])
        return running_stage

    yield prepare
    if running:
        load, thread, served = running
        load.stop.set()
        thread.join()
        served.__exit__(None, None, None)


def test_the_good_candidate_becomes_champion_and_no_request_fails_or_is_answered_by_another_version(
    stage: Callable[[str], Stage],
) -> None:
    scene = stage("none")
    decisions = scene.roll_out()
    assert decisions[-1].step.state == CHAMPION, decisions[-1].reason
    assert scene.violations() == []
    steps = [(route.mode, route.share) for _, _, route in scene.routes]
    assert steps == [(None, 0.0), ("shadow", 0.0), ("canary", 0.25), ("canary", 0.5), (None, 0.0)]
    assert {version for answer in scene.load.answers for _, version, _ in answer.said} == {"1", "2"}


@pytest.mark.parametrize(
    ("fault", "reason", "reached"),
    [
        ("crash", "errors: ", "shadow"),
        ("biased", "quality: ", "shadow"),
        ("one airport", "origin=LGA", "shadow"),
        ("crash on sunday", "planted on sunday", "canary"),
        ("nan on sunday", "the score is not a finite number", "canary"),
        (
            "slow on sunday",
            "latency: ",
            "canary",
        ),  # in shadow, whose copies wait and are scored together, chance decides
    ],
)
def test_a_bad_candidate_is_rolled_back_by_itself_and_never_serves_more_than_the_canary(
    stage: Callable[[str], Stage], fault: str, reason: str, reached: str
) -> None:
    scene = stage(fault)
    decisions = scene.roll_out()
    assert decisions[-1].step.state == ROLLED_BACK, [decision.reason for decision in decisions]
    assert reason in decisions[-1].reason
    assert scene.store.route(problem.NAME) == Route("1")
    assert scene.violations() == []
    assert scene.routes[-2][2].mode == reached, "it was stopped in this step"
    assert max(route.share for *_, route in scene.routes) <= 0.25
    answered = {arm for answer in scene.load.answers for _, version, arm in answer.said if version == "2"}
    assert answered <= {"canary"}
    if reached == "shadow":
        assert not answered, "nobody was served by it"
