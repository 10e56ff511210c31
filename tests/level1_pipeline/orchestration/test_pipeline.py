"""The whole of Level 1 as people and machines start it, on real flights, in one home that grows from test to test."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import cli as command_line
from level1_pipeline import flights, problem, schema
from level1_pipeline.bundle.load import EVALUATION_MODEL, GOLDEN, GOLDEN_TOLERANCE, MODEL, bundle_checksum
from level1_pipeline.bundle.predict import predict
from level1_pipeline.errors import PromotionRefused
from level1_pipeline.orchestration import lineage
from level1_pipeline.orchestration.conclusion import Result
from level1_pipeline.orchestration.run import Request, run_training
from level1_pipeline.registry import CHAMPION, Registry
from level1_pipeline.registry.mlflow_pages import NOTE
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, RouteSet
from level1_pipeline.store.days import start_of
from tests.support.homes import run_level1

pytestmark = [pytest.mark.flights, pytest.mark.integration]

AS_OF = "2013-03-01"
FLIGHT = "UA-1545-EWR-2013-03-04"
LINE = re.compile(
    r"^level 1 \| flight_delay \| log_loss=0\.\d{4} roc_auc=0\.\d{4} brier=0\.\d{4} "
    r"\| gate PASS \| models:/flight_delay/1 -> champion \| \d+s$"
)


@dataclass(frozen=True)
class Trained:
    """A home after its first training, and what that said."""

    settings: Settings
    code: int
    output: str
    errors: str

    @property
    def registry(self) -> Registry:
        return Registry(self.settings)

    @property
    def last_line(self) -> str:
        return self.output.strip().splitlines()[-1]

    @property
    def runs(self) -> list[Any]:
        """All MLflow runs of the problem's own experiment, newest first."""
        return list(self.registry.client.search_runs([self.registry.experiment(problem.NAME)]))

    def actions(self) -> list[str]:
        return [line.text for line in self.registry.store.audit_log(problem.NAME)]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prefect: dict[str, str], rows: pd.DataFrame, cache: Path
) -> Trained:
    home = tmp_path_factory.mktemp("pipeline") / "home"
    home.mkdir()
    (home / "cache").symlink_to(cache)
    done = run_level1(home, "train", "--as-of", AS_OF, MLOPS_ACTOR="tester", **prefect)
    return Trained(Settings(home=home, actor="tester"), done.returncode, done.stdout, done.stderr)


@pytest.fixture
def command(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """A command in this process, against the trained home; returns the exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_HOME", str(trained.settings.home))
    monkeypatch.setenv("MLOPS_ACTOR", "tester")
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: str) -> tuple[int, str]:
        code = command_line.main(list(arguments))
        output = capsys.readouterr()
        return code, output.err + output.out

    return run


@pytest.fixture
def unchanged(trained: Trained) -> Iterator[None]:
    """Whatever a test does, the champion and the aliases stay as they are."""
    registry = trained.registry
    before = registry.route(), registry.client.get_registered_model(problem.NAME).aliases
    yield
    assert (registry.route(), registry.client.get_registered_model(problem.NAME).aliases) == before


# ---- the first training


@pytest.mark.evidence("Checklist 3")
def test_a_training_ends_with_exit_code_0_and_one_line_that_says_it_all(trained: Trained) -> None:
    assert trained.code == 0, trained.errors
    assert LINE.match(trained.last_line), trained.last_line
    assert "Traceback" not in trained.errors
    for step in ("extract", "validate", "split", "train", "evaluate", "refit", "register", "publish"):
        assert re.search(rf"done {step} +\d+\.\d\ds", trained.output)


def test_the_route_the_aliases_and_the_audit_log_say_the_same(trained: Trained) -> None:
    registry = trained.registry
    route = registry.route()
    assert (route.champion, route.challenger, route.previous, route.mode) == ("1", None, None, None)
    result = registry.client.get_registered_model(problem.NAME).aliases
    assert {alias: str(version) for alias, version in result.items()} == {"champion": "1"}
    frozen, promoted, gate = registry.store.audit_log(problem.NAME)[:3]
    assert frozen.text == "trusted set: frozen"
    assert (promoted.text, promoted.from_version, promoted.to_version) == ("promote to champion", None, "1")
    assert (gate.text, gate.to_version, gate.actor) == ("train: gate pass", "1", "tester")
    assert gate.evidence["trigger"] == "on demand"
    assert gate.evidence["as_of"] == start_of(AS_OF).isoformat()


@pytest.mark.evidence("Checklist 8")
def test_the_mlflow_run_holds_everything_that_is_needed_to_repeat_it(trained: Trained) -> None:
    run = trained.runs[-1]
    version = trained.registry.client.get_model_version(problem.NAME, "1")
    assert (run.info.status, run.info.run_id) == ("FINISHED", version.run_id)
    metrics = re.search(r"log_loss=(\S+) roc_auc=(\S+) brier=(\S+)", trained.last_line)
    assert metrics is not None
    for name, value in zip(("log_loss", "roc_auc", "brier"), metrics.groups(), strict=True):
        assert run.data.metrics[name] == pytest.approx(float(value), abs=5e-5)
    for step in ("extract", "validate", "split", "train", "evaluate", "refit", "register", "publish"):
        assert run.data.metrics[f"seconds_{step}"] > 0
    assert run.data.params["model__max_iter"] == "120"
    assert int(run.data.params["rows_train"]) > int(run.data.params["rows_holdout"]) > 10_000
    assert run.data.params["train_max"] < run.data.params["holdout_min"]
    who = lineage.identity()
    for name in ("source_digest", "lock_digest", "python"):
        assert run.data.tags[name] == who[name] != "unknown"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", run.data.tags["code_revision"])
    assert re.fullmatch(r"[0-9a-f]{64}", run.data.tags["data_digest"])
    assert run.data.tags["previous_champion"] == ""
    assert run.data.tags["verdict"] == "pass"
    about = f"{run.data.tags['as_of'][:10]} · gate PASS · {problem.PRIMARY_METRIC} "
    assert run.data.tags[NOTE].startswith(about)
    version = trained.registry.client.get_model_version(problem.NAME, run.data.tags["version"])
    assert version.run_id == run.info.run_id
    assert version.description.startswith(about)
    assert version.description.endswith(f"/runs/{run.info.run_id}/artifacts/model_card.md)")
    contexts = {tag.value for item in run.inputs.dataset_inputs for tag in item.tags}
    assert contexts == {"train", "holdout"}


def artifact(trained: Trained, name: str) -> Path:
    run = trained.runs[-1].info
    return trained.settings.home / "mlartifacts" / problem.NAME / run.run_id / "artifacts" / name


def test_the_runs_files_are_complete_and_readable(trained: Trained) -> None:
    for name in ("calibration", "roc", "slices", "importance"):  # as of March nobody knows yet what age costs
        assert artifact(trained, f"plots/{name}.png").read_bytes().startswith(b"\x89PNG")
    verdict = json.loads(artifact(trained, "verdict.json").read_text())
    assert verdict["status"] == "pass"
    card = artifact(trained, "model_card.md").read_text()
    for message in (
        "log_loss",
        "trained on",
        "judged on",
        "data digest",
        "By slice",
        "Gaps between groups",
        "JFK",
        "Against simpler models",
        "Dollars lost, and saved against the best constant decision",
    ):
        assert message in card, message
    assert not re.search(r"\| *nan *\|", card)


class Addresses(HTMLParser):
    """Everything that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_the_page_of_the_data_checks_needs_no_network(trained: Trained) -> None:
    page = artifact(trained, "checks.html").read_text()
    reader = Addresses()
    reader.feed(page)
    assert reader.found == []
    assert not re.search(r"https?://|@import|url\(", page)
    assert "expectations hold" in page
    kept = trained.settings.home / "reports" / "level1" / problem.NAME / AS_OF / "checks.html"
    assert kept.exists()


def test_one_training_is_one_version_with_the_evaluation_model_in_its_bundle(trained: Trained) -> None:
    registry = trained.registry
    (version,) = registry.client.search_model_versions(f"name = '{problem.NAME}'")
    served = registry.load("1")
    judged = served.evaluation_model
    assert judged is not None
    assert (judged.manifest["kind"], served.manifest["kind"]) == ("evaluation model", "served model")
    assert judged.manifest["trained_until"] < served.manifest["trained_until"] < start_of(AS_OF).isoformat()
    assert served.manifest["rows"] > judged.manifest["rows"]
    assert served.manifest["data_digest"] == trained.runs[-1].data.tags["data_digest"]
    folder = registry.bundle_folder("1")
    assert version.tags["bundle_sha256"] == bundle_checksum(folder)
    for model in (MODEL, f"{EVALUATION_MODEL}/{MODEL}"):
        assert hashlib.sha256((folder / model).read_bytes()).hexdigest() == served.manifest["files"][model]


def test_what_a_user_of_the_registered_model_reads_is_about_the_model(trained: Trained) -> None:
    description = trained.registry.client.get_registered_model(problem.NAME).description
    card = artifact(trained, "model_card.md").read_text()
    for text in (description, card):
        assert "probability that a flight" in text
        assert "cloner" not in text.lower()


def test_the_model_in_mlflow_predicts_the_same_bits_as_the_published_one(trained: Trained, rows: pd.DataFrame) -> None:
    import mlflow

    mlflow.set_tracking_uri(trained.settings.tracking)
    kept = mlflow.sklearn.load_model(f"models:/{problem.NAME}@champion")
    some = rows.iloc[60_000:60_200]
    published = trained.registry.load("1")
    assert np.array_equal(predict(kept, some), predict(published.pipeline, some))
    served = published.predict(schema.records(some))
    np.testing.assert_allclose(served, predict(kept, some), rtol=0, atol=GOLDEN_TOLERANCE)


def test_a_flight_is_scored_through_the_champion_with_the_pipelines_number(
    trained: Trained, command: Callable[..., tuple[int, str]], rows: pd.DataFrame
) -> None:
    wanted = rows.iloc[[70_000]]
    name = wanted[problem.ID].item()
    code, answer = command("score", "--id", name)
    p = trained.registry.load("1").predict(schema.records(wanted)).item()
    assert code == 0
    assert f"{name} | {p:.6f} -> {problem.choose_action(p)} | models:/{problem.NAME}/1" in answer
    golden = json.loads((trained.registry.bundle_folder("1") / GOLDEN).read_text())
    file = Path("golden.json")
    file.write_text(json.dumps(golden["records"]))
    code, answer = command("score", "--json", str(file))
    assert re.findall(r"\| (0\.\d{6}) ->", answer) == [f"{p:.6f}" for p in golden["predictions"]]


def test_a_flight_that_does_not_exist_or_a_record_out_of_bounds_is_answered_with_what_to_do(
    command: Callable[..., tuple[int, str]], rows: pd.DataFrame
) -> None:
    code, answer = command("score", "--id", "XX-1-JFK-2013-01-01")
    assert (code, "there is no row with flight_id" in answer, "Traceback" in answer) == (1, True, False)
    Path("bad.json").write_text(json.dumps(schema.records(rows.iloc[[0]])[0] | {"humid": 180.0}))
    code, answer = command("score", "--json", "bad.json")
    assert (code, "humid" in answer) == (1, True)


def test_nothing_is_kept_for_a_resume_after_a_success(trained: Trained) -> None:
    assert not list((trained.settings.home / "runs").rglob("*.parquet"))
    storage = trained.settings.home / "prefect" / "storage"
    key = trained.runs[-1].data.tags["run_key"]
    assert not list(storage.glob(f"{key}*"))


# ---- asked in other ways


@pytest.mark.slow
def test_the_same_day_again_is_no_gain_and_ends_with_exit_code_3(
    trained: Trained, command: Callable[..., tuple[int, str]], unchanged: None
) -> None:
    before = len(trained.runs)
    code, answer = command("train", "--as-of", AS_OF)
    assert code == 3, answer
    assert "identical" in answer
    assert "| gate FAIL | MLflow run" in answer.strip().splitlines()[-1]
    assert len(trained.runs) == before + 1
    assert trained.runs[0].data.tags["previous_champion"] == "1"
    assert trained.actions()[-1] == "train: gate fail"
    assert "identical" in trained.registry.store.audit_log(problem.NAME)[-1].reason


def ask(trained: Trained, **changes: Any) -> Result:
    return run_training(trained.settings, Request(start_of(AS_OF), **changes))


@pytest.mark.evidence("Checklist 20")
@pytest.mark.slow
def test_until_stops_after_that_step_and_leaves_its_files_to_look_at(trained: Trained, unchanged: None) -> None:
    runs = len(trained.runs)
    done: list[str] = []
    request = Request(start_of(AS_OF), until="split", tune=1)  # another request, so nothing of an earlier run is reused
    result = run_training(trained.settings, request, lambda step: done.append(step.step))
    assert (result.code, done) == (0, ["extract", "validate", "split"])
    folder = Path(result.line.rsplit(" ", 1)[1])
    assert "stopped after split, as asked" in result.line
    assert (folder / "train.parquet").exists()
    assert not (folder / "predictions.parquet").exists()
    assert len(trained.runs) == runs
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_changed_file_between_two_steps_is_noticed(trained: Trained, unchanged: None) -> None:
    from level1_pipeline.errors import StepFileChanged

    stopped = ask(trained, until="split", promote_to="none", tune=2)
    folder = Path(stopped.line.rsplit(" ", 1)[1])
    with (folder / "holdout.parquet").open("ab") as file:
        file.write(b"one more byte")
    with pytest.raises(StepFileChanged, match=r"holdout\.parquet was changed or removed .* delete .* and run again"):
        ask(trained, promote_to="none", tune=2)
    shutil.rmtree(folder)  # as the message says
    assert ask(trained, until="split", promote_to="none", tune=2).code == 0
    assert (folder / "holdout.parquet").exists()
    shutil.rmtree(folder)


@pytest.mark.slow
def test_an_experiment_registers_nothing_and_touches_no_alias(trained: Trained, unchanged: None) -> None:
    versions = len(trained.registry.client.search_model_versions(f"name = '{problem.NAME}'"))
    actions, runs = trained.actions(), len(trained.runs)
    result = run_training(trained.settings, Request(start_of("2013-03-15"), experiment="try it"))
    assert "no version" in result.line
    assert len(trained.registry.client.search_model_versions(f"name = '{problem.NAME}'")) == versions
    assert (trained.actions(), len(trained.runs)) == (actions, runs)
    measured = trained.registry.client.get_experiment_by_name(f"{problem.NAME}/try it")
    assert len(trained.registry.client.search_runs([measured.experiment_id])) == 1


@pytest.mark.slow
def test_promote_to_none_registers_and_publishes_but_serves_nothing_new_and_to_challenger_only_names_it(
    trained: Trained,
) -> None:
    registry = trained.registry
    result = run_training(trained.settings, Request(start_of("2013-03-29"), promote_to="none"))
    assert result.results is not None
    assert result.results.registered.status == "pass", result.line
    version = result.results.registered.version
    assert version is not None
    assert f"models:/{problem.NAME}/{version} -> no alias" in result.line
    assert registry.load(version).manifest["verdict"] == "pass"
    assert (registry.route().champion, registry.route().challenger) == ("1", None)
    result = run_training(trained.settings, Request(start_of("2013-03-29"), promote_to="challenger"))
    assert result.results is not None
    version = result.results.registered.version
    assert (result.code, registry.route().champion, registry.route().challenger) == (0, "1", version)
    assert str(registry.client.get_model_version_by_alias(problem.NAME, "challenger").version) == version


def test_while_a_rollout_is_active_level_1_does_not_touch_the_champion(
    trained: Trained, command: Callable[..., tuple[int, str]]
) -> None:
    registry = trained.registry
    set_mode(registry, "shadow")
    try:
        with pytest.raises(PromotionRefused, match="in shadow: Level 1 does not change the champion"):
            ask(trained)
        code, answer = command("train", "--as-of", AS_OF)
        assert (code, "--promote-to none" in answer, "Traceback" in answer) == (1, True, False)
        assert registry.route().champion == "1"
    finally:
        set_mode(registry, None)


def set_mode(registry: Registry, mode: str | None) -> None:
    with registry.promotion() as lease:
        change = Change("tester", RouteSet("canary"), "", clock.now(registry.settings))
        registry.store.change_route(problem.NAME, lease, change, mode=mode)


def test_a_second_trigger_while_a_training_is_going_on_skips_and_says_so(trained: Trained, unchanged: None) -> None:
    runs = len(trained.runs)
    with leases.hold(trained.registry.store, f"train {problem.NAME}", 30):
        result = ask(trained)
    assert (result.code, result.results) == (0, None)
    assert "skipped: another training is going on" in result.line
    assert len(trained.runs) == runs


# ---- bad data


@pytest.fixture(scope="module")
def good_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw files, with the flights up to 5 March only: enough, and quicker."""
    folder = tmp_path_factory.mktemp("source")
    for name in flights.SOURCE_FILES:
        shutil.copyfile(flights.source_folder() / name, folder / name)
    change(folder, "flights.csv.zip", lambda t: t[(t["month"] < 3) | ((t["month"] == 3) & (t["day"] < 5))])
    return folder


def change(folder: Path, name: str, how: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    how(pd.read_csv(folder / name)).to_csv(folder / name, index=False)


def cut(folder: Path) -> None:
    path = folder / "flights.csv.zip"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "another unit": (lambda f: change(f, "weather.csv", lambda t: t.assign(temp=t["temp"] * 1.8 + 32)), "temp: "),
    "a column without values": (lambda f: change(f, "weather.csv", lambda t: t.assign(humid=np.nan)), "humid: "),
    "a truncated file": (cut, "flights"),
    "a missing file": (lambda f: (f / "weather.csv").unlink(), "weather.csv"),
    "a word for a number": (
        lambda f: change(
            f, "weather.csv", lambda t: t.astype({"temp": object}).replace({"temp": {t["temp"][5]: "abc"}})
        ),
        "temp holds 'abc' in row",
    ),
    "no flights": (lambda f: change(f, "flights.csv.zip", lambda t: t.head(0)), "has no rows"),
    "a missing column": (lambda f: change(f, "flights.csv.zip", lambda t: t.drop(columns="dep_delay")), "dep_delay"),
    "flights twice": (lambda f: change(f, "flights.csv.zip", lambda t: pd.concat([t, t.head(9)])), "flight_id: "),
}


@pytest.mark.evidence("Checklist 4", "the data are broken")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_bad_data_stop_the_run_before_anything_is_trained(
    fault: str,
    trained: Trained,
    unchanged: None,
    good_source: Path,
    tmp_path: Path,
    command: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil, message = FAULTS[fault]
    folder = Path(shutil.copytree(good_source, tmp_path / "source"))
    spoil(folder)
    monkeypatch.setenv("MLOPS_SOURCE", str(folder))
    runs = len(trained.runs)
    code, answer = command("train", "--as-of", AS_OF)
    assert code == 4, answer
    assert message in answer
    assert "STOPPED before training" in answer.strip().splitlines()[-1]
    assert len(trained.runs) == runs
    assert not list((trained.settings.home / "runs").rglob("predictions.parquet"))
    last = trained.registry.store.audit_log(problem.NAME)[-1]
    assert last.text == "train: stopped"
    assert message in last.reason


@pytest.mark.slow
def test_the_unspoiled_copy_of_the_source_is_fine(trained: Trained, unchanged: None, good_source: Path) -> None:
    """So it is the planted fault that stops the runs above."""
    settings = trained.settings.changed({"source": good_source})
    assert run_training(settings, Request(start_of(AS_OF), until="split")).code == 0


def test_without_the_raw_files_the_message_names_the_missing_one(
    command: Callable[..., tuple[int, str]], unchanged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_SOURCE", str(tmp_path / "nowhere"))
    code, answer = command("train", "--as-of", AS_OF)
    assert (code, "flights.csv.zip" in answer, "Traceback" in answer) == (1, True, False)


@pytest.mark.slow
def test_too_early_a_day_stops_with_the_counts(command: Callable[..., tuple[int, str]], unchanged: None) -> None:
    code, answer = command("train", "--as-of", "2013-01-10")
    assert code == 4
    assert "choose a later --as-of" in answer


def test_the_last_champion_is_still_the_first_one(trained: Trained) -> None:
    """After everything above that was not meant to change it."""
    assert trained.registry.route().champion == "1"
    assert trained.actions().count("promote to champion") == 1
    assert CHAMPION in trained.registry.client.get_registered_model(problem.NAME).aliases
