"""Versions and routes: one winner, one true log, a way back that needs nothing but the disk."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import skops.io

from level1_pipeline import problem
from level1_pipeline.bundle.load import GOLDEN, MANIFEST, MODEL, PROFILE, load_bundle, verify_bundle
from level1_pipeline.bundle.write import seal_bundle
from level1_pipeline.errors import BundleRefused, LeaseHeld, PromotionRefused
from level1_pipeline.registry import CHALLENGER, CHAMPION, Registry, tracking
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.audit import Change, RolloutMoved, RouteSet
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import local
from level1_pipeline.store.routes import Route
from tests.support import ROOT
from tests.support.bundles import make_bundle
from tests.support.homes import Done, Models, environment
from tests.support.serving import edit_manifest


@pytest.fixture
def three(models: Callable[[], Models]) -> tuple[Models, list[str]]:
    """Three blessed and published versions; nothing is served yet."""
    made = models()
    return made, [made.register(strength) for strength in (0.001, 0.01, 1.0)]


def aliases(registry: Registry) -> dict[str, str]:
    result = registry.client.get_registered_model(problem.NAME).aliases
    return {alias: str(version) for alias, version in result.items()}


def moves(registry: Registry) -> list[tuple[str, Any, Any]]:
    lines = registry.store.audit_log(problem.NAME)
    return [(line.text, line.from_version, line.to_version) for line in lines]


def test_promotions_rollback_and_history_tell_one_story(three: tuple[Models, list[str]]) -> None:
    made, (earliest, two, _) = three
    registry = made.registry
    registry.promote(earliest, CHAMPION, "first")
    first = made.answers()
    registry.promote(two, CHALLENGER, "to be tried")
    assert (registry.route().champion, registry.route().challenger) == (earliest, two)
    assert aliases(registry) == {"champion": earliest, "challenger": two}
    registry.promote(two, CHAMPION, "tried")
    assert aliases(registry) == {"champion": two, "previous": earliest}
    assert made.answers() != first
    registry.rollback("the desk complains", evidence={"complaints": 3})
    assert made.answers() == first
    assert registry.reconcile()
    assert aliases(registry) == {"champion": earliest}
    assert moves(registry) == [
        ("promote to champion", None, earliest),
        ("promote to challenger", earliest, earliest),
        ("promote to champion", earliest, two),
        ("roll back", two, earliest),
    ]
    last = registry.store.audit_log(problem.NAME)[-1]
    assert (last.actor, last.reason) == ("tester", "the desk complains")
    assert (last.evidence["complaints"], last.evidence["route_after"]["champion"]) == (3, earliest)
    with pytest.raises(PromotionRefused, match="no other version to go back to"):
        registry.rollback("again")
    with pytest.raises(PromotionRefused, match=f"judged against champion {two}, but now {earliest} serves"):
        registry.promote(two, CHAMPION, "it was trained before the rollback", judged_against=two)
    named = registry.store.audit_log(problem.NAME)[1].evidence
    assert (named["route_before"]["challenger"], named["route_after"]["challenger"]) == (None, two)


def test_the_commands_promote_roll_back_and_show_the_history(
    three: tuple[Models, list[str]], level1: Callable[..., Done]
) -> None:
    made, (earliest, two, _) = three
    home = made.registry.settings.home
    made.registry.promote(earliest, CHAMPION, "first")
    done = level1(home, "promote", two, "--reason", "tried by hand", MLOPS_ACTOR="ann")
    assert (done.returncode, made.registry.route().champion) == (0, two), done.stderr
    assert f"champion {two}, challenger None, previous {earliest}" in done.stdout
    done = level1(home, "rollback", "--reason", "too many warnings", MLOPS_ACTOR="bob")
    assert (done.returncode, made.registry.route().champion) == (0, earliest), done.stderr
    assert f"champion {two} -> {earliest}" in done.stdout
    done = level1(home, "history")
    assert done.returncode == 0
    for part in ("ann", "tried by hand", "bob", "too many warnings", f"3 entries | champion {earliest}"):
        assert part in done.stdout
    (typed,) = (line for line in made.registry.store.audit_log(problem.NAME) if line.reason == "tried by hand")
    assert any(line.split()[1] == str(typed.id) for line in done.stdout.splitlines() if "tried by hand" in line)
    done = level1(home, "promote", "99", "--reason", "no such version")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert level1(home, "rollback").returncode == 2  # a reason is asked for
    assert made.registry.route().champion == earliest


def test_one_line_of_the_history_is_shown_whole_with_its_evidence(home: Settings, level1: Callable[..., Done]) -> None:
    seen = {
        "order": {"trigger": "a drop", "as_of": "2013-05-01"},
        "checks": [{"name": "scores", "message": "[x] " * 99}],
        "candidate": "2",
    }
    registry = Registry(home)
    change = Change("tester", RolloutMoved("2", "rolled back"), "it was worse", datetime(2013, 5, 2, tzinfo=UTC), seen)
    registry.store.record("another problem", change)
    registry.store.record(problem.NAME, change, "1", "2")
    (line,) = registry.store.audit_log(problem.NAME)
    done = level1(home.home, "history", "--show", str(line.id))
    assert done.returncode == 0, done.stderr
    told, evidence = done.stdout.split("evidence", 1)
    assert json.loads(evidence[: evidence.rindex("}") + 1]) == seen
    for part in (local(change.at), "tester", "rollout: rolled back", "it was worse"):
        assert part in told
    (as_json,) = json.loads(level1(home.home, "history", "--json").stdout)
    assert (as_json["id"], as_json["action"], as_json["evidence"]) == (line.id, "rollout: rolled back", seen)
    done = level1(home.home, "history", "--show", str(line.id - 1))  # of the other problem
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the history of {problem.NAME} has no line {line.id - 1}" in done.stderr


@pytest.mark.evidence("Infra 4", "Level 1: the gate decides")
@pytest.mark.parametrize("verdict", ["fail", "inconclusive", "error", None])
def test_a_version_without_the_gates_blessing_is_refused(models: Callable[[], Models], verdict: str | None) -> None:
    made = models()
    version = made.register(0.5, verdict=verdict)
    for alias in (CHAMPION, CHALLENGER):
        with pytest.raises(PromotionRefused, match="has not passed the gate"):
            made.registry.promote(version, alias, "because")
    good = made.register(0.7)
    made.registry.promote(good, CHAMPION, "good")
    with pytest.raises(PromotionRefused, match="never passed the gate"):
        made.registry.rollback("because", version)
    assert made.registry.route().champion == good


def test_nothing_is_promoted_while_a_rollout_is_active_and_a_rollback_stops_it(three: tuple[Models, list[str]]) -> None:
    made, (earliest, two, other) = three
    registry = made.registry
    registry.promote(earliest, CHAMPION, "first")
    registry.promote(two, CHAMPION, "second")
    begin_rollout(registry, other)
    for alias in (CHAMPION, CHALLENGER):
        with pytest.raises(PromotionRefused, match=f"version {other} is in shadow"):
            registry.promote(earliest, alias, "no")
    route = registry.rollback("stop everything")
    assert (route.champion, route.challenger, route.mode, route.share) == (earliest, None, None, 0.0)


def test_without_an_older_champion_a_rollback_still_stops_what_is_being_tried(
    three: tuple[Models, list[str]],
) -> None:
    made, (earliest, two, _) = three
    registry = made.registry
    registry.promote(earliest, CHAMPION, "the first ever")
    begin_rollout(registry, two)
    manifest = registry.bundle_folder(earliest) / MANIFEST
    manifest.unlink()  # whatever happened to the champion's files: it stays in any case
    assert registry.rollback("stop everything") == Route(earliest)
    assert moves(registry)[-1] == ("roll back", earliest, earliest)
    with pytest.raises(PromotionRefused, match="no other version to go back to"):
        registry.rollback("and once more")


def begin_rollout(registry: Registry, version: str) -> None:
    with registry.promotion() as lease:
        change = Change("tester", RouteSet("shadow"), "begins", clock.now(registry.settings))
        registry.store.change_route(problem.NAME, lease, change, challenger=version, mode="shadow")


# ---- damaged and hostile artifacts


def artifact(registry: Registry, version: str) -> Path:
    """The registered files of a version in MLflow's artifact store."""
    registered = registry.client.get_model_version(problem.NAME, version)
    folder = registry.settings.home / "mlartifacts" / problem.NAME / registered.run_id / "artifacts"
    return folder / registered.tags["bundle"]


@pytest.mark.parametrize("name", [MODEL, GOLDEN, PROFILE])
def test_a_tampered_byte_in_the_registry_is_refused_when_published(models: Callable[[], Models], name: str) -> None:
    made = models()
    version = made.register(0.5, publish=False)
    path = artifact(made.registry, version) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleRefused, match="SHA-256 differs"):
        made.registry.publish(version)
    folder = made.registry.bundle_folder(version)
    assert list(folder.parent.glob("*")) + list(folder.parent.glob(".*")) == []  # nothing half-published is left


def test_another_manifest_than_the_registered_one_is_refused_even_when_its_sums_fit(
    models: Callable[[], Models],
) -> None:
    made = models()
    version = made.register(0.5, publish=False, verdict="fail")
    folder = artifact(made.registry, version)
    forged = seal_bundle(folder, folder.with_name("forged"), {"verdict": "pass"})
    shutil.rmtree(folder)
    forged.rename(folder)
    verify_bundle(folder)  # consistent in itself
    with pytest.raises(BundleRefused, match="holds another bundle"):
        made.registry.publish(version)


def test_a_tampered_byte_in_a_published_version_stops_its_promotion_and_a_rollback_to_it(
    three: tuple[Models, list[str]],
) -> None:
    made, (earliest, two, other) = three
    made.registry.promote(earliest, CHAMPION, "first")
    made.registry.promote(two, CHAMPION, "second")
    for version in (earliest, other):
        path = made.registry.bundle_folder(version) / MODEL
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleRefused, match="SHA-256 differs"):
        made.registry.promote(other, CHAMPION, "no")
    with pytest.raises(BundleRefused, match="SHA-256 differs"):
        made.registry.rollback("no")
    assert made.registry.route().champion == two
    assert len(moves(made.registry)) == 2


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.evidence("a model file is an attack")
def test_a_pickle_in_the_place_of_the_model_is_refused_and_never_runs(
    models: Callable[[], Models], tmp_path: Path
) -> None:
    made, trace = models(), tmp_path / "it-ran"
    version = made.register(0.5)
    folder = made.registry.bundle_folder(version)
    (folder / MODEL).write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(BundleRefused, match="SHA-256 differs"):
        made.registry.load(version)
    edit_manifest(folder)  # sums that fit
    with pytest.raises(BundleRefused, match="holds another bundle"):
        made.registry.load(version)
    with pytest.raises(BundleRefused, match="not a readable skops file"):
        load_bundle(folder)
    assert not trace.exists()
    pickle.loads((folder / MODEL).read_bytes())  # the payload is a real one
    assert trace.exists()


def test_a_type_that_nobody_reviewed_is_refused_when_loaded(
    models: Callable[[], Models], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.preprocessing import FunctionTransformer

    made = models()
    strange = Pipeline_with(FunctionTransformer(sorted_columns), made)
    folder = made.registry.settings.home / "strange"
    make_bundle(folder, strange, made.rows.tail(5))
    name = f"{sorted_columns.__module__}.sorted_columns"
    assert name in skops.io.get_untrusted_types(file=folder / MODEL)
    with pytest.raises(BundleRefused, match="TRUSTED_TYPES"):
        load_bundle(folder)
    monkeypatch.setattr(problem, "TRUSTED_TYPES", (*problem.TRUSTED_TYPES, name))
    assert load_bundle(folder).manifest["verdict"] == "pass"


def sorted_columns(table: Any) -> Any:
    return table


def Pipeline_with(first: Any, made: Models) -> Any:
    from level1_pipeline import schema

    plain = made.fit(0.3)
    plain.steps.insert(0, ("strange", first))
    return plain.fit(made.rows[schema.names()], made.rows[problem.TARGET])


# ---- MLflow away, crashes, races


@pytest.mark.evidence("the registry cannot be reached", "Level 1: a way back")
def test_a_rollback_needs_no_mlflow_and_the_aliases_are_reconciled_afterwards(
    three: tuple[Models, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    made, (earliest, two, _) = three
    made.registry.promote(earliest, CHAMPION, "first")
    before = made.answers()
    made.registry.promote(two, CHAMPION, "second")
    assert made.answers() != before
    settings = made.registry.settings
    broken = settings.home / "not-a-database"
    broken.write_text("this is no database")
    away = Registry(Settings(home=settings.home, actor="tester", tracking_uri=f"sqlite:///{broken}"))
    route = away.rollback("MLflow is down, and the new one is bad")
    assert (route.champion, made.answers()) == (earliest, before)
    assert not away.reconcile()
    assert "aliases could not be updated" in caplog.text
    back = Registry(settings)
    assert aliases(back)["champion"] == two  # the mirror is behind, the route is right
    assert back.reconcile()
    assert aliases(back) == {"champion": earliest}


@pytest.mark.evidence("a process is killed during a promotion")
@pytest.mark.slow
def test_a_crash_between_the_route_and_the_aliases_is_repaired(three: tuple[Models, list[str]]) -> None:
    """The process ends between the two writes, as a kill would end it."""
    made, (earliest, two, _) = three
    registry = made.registry
    registry.promote(earliest, CHAMPION, "first")
    crash = (
        "import os, sys; from level1_pipeline.registry import Registry, tracking; from level1_pipeline.settings import Settings\n"
        "tracking.mirror = lambda client, route: os._exit(9)\n"
        "Registry(Settings()).promote(sys.argv[1], 'champion', 'crashes')"
    )
    died = subprocess.run(
        [sys.executable, "-c", crash, two],
        cwd=ROOT,
        env=environment(registry.settings.home, MLOPS_LEASE_SECONDS="1"),
        check=False,
    )
    assert died.returncode == 9
    assert registry.route().champion == two
    assert aliases(registry) == {"champion": earliest}
    assert registry.reconcile()
    assert aliases(registry) == {"champion": two, "previous": earliest}
    assert registry.reconcile()  # and once more changes nothing
    assert aliases(registry) == {"champion": two, "previous": earliest}


@pytest.mark.evidence("two processes write the alias")
def test_a_late_writer_of_the_aliases_sees_the_newer_route_and_writes_again(
    three: tuple[Models, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process has read the route and is about to write; meanwhile another promotes and writes the aliases."""
    made, (earliest, two, other) = three
    late = made.registry
    late.promote(earliest, CHAMPION, "first")
    write = late.client.set_registered_model_alias
    write(problem.NAME, CHAMPION, other)  # so that there is something to write

    def overtaken(name: str, alias: str, version: str) -> None:
        if late.route().champion == earliest:
            Registry(late.settings).promote(two, CHAMPION, "second")
        write(name, alias, version)

    monkeypatch.setattr(late.client, "set_registered_model_alias", overtaken)
    assert late.reconcile()
    assert aliases(late) == {"champion": two, "previous": earliest}


def test_aliases_that_agree_are_read_once_and_left_alone(
    three: tuple[Models, list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, (earliest, *_) = three
    registry = made.registry
    reads: list[str] = []
    registry.promote(earliest, CHAMPION, "first")
    read = registry.client.get_registered_model

    def counted(name: str) -> Any:
        reads.append(name)
        return read(name)

    monkeypatch.setattr(registry.client, "get_registered_model", counted)
    for writes in ("set_registered_model_alias", "delete_registered_model_alias"):
        monkeypatch.setattr(registry.client, writes, lambda *_: pytest.fail("there is nothing to write"))
    caplog.clear()
    assert registry.reconcile()
    assert (reads, caplog.records) == ([problem.NAME], [])


def test_before_the_first_promotion_mlflow_is_not_even_asked(home: Settings) -> None:
    assert Registry(home.changed({"tracking_uri": "http://127.0.0.1:9"})).reconcile()


def test_aliases_are_written_after_the_lease_is_given_back(
    three: tuple[Models, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that hangs must not keep the next change waiting."""
    made, (earliest, *_) = three
    free = []

    def hangs(*_: object) -> bool:
        with made.registry.promotion():
            free.append(made.registry.route().champion)
        return False

    monkeypatch.setattr(tracking, "mirror", hangs)
    made.registry.promote(earliest, CHAMPION, "first")
    assert free == [earliest]


@pytest.mark.evidence("two processes write the alias")
@pytest.mark.slow
def test_two_promotions_at_once_leave_one_winner_and_a_true_log(three: tuple[Models, list[str]]) -> None:
    """Both start at the same moment; the one that meets the lease is refused, or comes second in good order."""
    made, (earliest, two, other) = three
    made.registry.promote(earliest, CHAMPION, "first")
    race = (
        "import sys; from level1_pipeline.registry import Registry; from level1_pipeline.settings import Settings\n"
        "from level1_pipeline.store.leases import LeaseHeld\n"
        "registry = Registry(Settings()); registry.route(); registry.client\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try: registry.promote(sys.argv[1], 'champion', 'race'); print('promoted')\n"
        "except LeaseHeld as held: print('refused', held)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", race, version],
            cwd=ROOT,
            env=environment(made.registry.settings.home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for version in (two, other)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answer = [child.communicate(timeout=120)[0] for child in children]
    assert all(child.returncode == 0 for child in children), answer
    promoted = [v for v, message in zip((two, other), answer, strict=True) if "promoted" in message]
    lines = moves(made.registry)[1:]
    assert sorted(to for _, _, to in lines) == sorted(promoted)
    assert promoted
    chain = [earliest, *(to for _, _, to in lines)]
    assert [(before, to) for _, before, to in lines] == list(itertools.pairwise(chain))
    route = made.registry.route()
    assert (route.champion, route.previous) == (chain[-1], chain[-2])
    assert aliases(made.registry) == {"champion": chain[-1], "previous": chain[-2]}


def test_a_promotion_during_a_promotion_is_refused_and_says_who_holds_the_lease(
    three: tuple[Models, list[str]], home: Settings
) -> None:
    made, (earliest, *_) = three
    with Registry(home).promotion(), pytest.raises(LeaseHeld, match="is held by"):
        made.registry.promote(earliest, CHAMPION, "second hand")
    assert Store(home.operations).audit_log(problem.NAME) == []


def test_a_server_of_mlflow_is_told_which_logged_model_a_version_is() -> None:
    """A server refuses the address of a logged model without its id; a database does not."""
    client = Mock(search_registered_models=lambda _: [1])
    for uri in ("models:/m-0123abc", "runs:/0123/model"):
        tracking.create_version(client, uri, "0123", {}, lambda _: True)
    assert [call.kwargs["model_id"] for call in client.create_model_version.call_args_list] == ["m-0123abc", None]
