"""A package with another version is shown, and another behaviour of a library is caught by the models that it makes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from level1_pipeline import problem
from level1_pipeline.errors import ReleaseRefused
from level2_cicd import cli
from level2_cicd.delivery import comparison
from level2_cicd.delivery.release import PIPELINE_LOCK, PYTHON, Release, write_index

# An interpreter that trains and scores as its release says: `golden.json` is what it writes, `scores` what it answers.
FAKE_UV = """#!/bin/sh
if [ "$1" = venv ]; then
  mkdir -p "$4/bin"
  cat > "$4/bin/python" <<'PYTHON'
#!/bin/sh
release="$(dirname "$0")/../.."
case "$3" in
  train) [ -e "$release/fails" ] && { echo "the gate failed" >&2; exit 3; }
         mkdir -p "$MLOPS_HOME/bundles/PROBLEM/1"
         echo '{"records": [{"a": 1}, {"a": 2}]}' > "$MLOPS_HOME/bundles/PROBLEM/1/golden.json" ;;
  score) grep -q '"a": 2' "$5" && cat "$release/scores" ;;
esac
PYTHON
  chmod +x "$4/bin/python"
fi
""".replace("PROBLEM", problem.NAME)


def release(home: Path, lock: str, scores: str, **more: str) -> Release:
    folder = home / "making"
    folder.mkdir(parents=True)
    files = {PIPELINE_LOCK: lock, "scores": scores, "a.whl": "", PYTHON: "3.11\n"}
    for name, text in {**files, **more}.items():
        (folder / name).write_text(text)
    made = write_index(folder, "commit")
    return Release(folder.rename(home / "releases" / problem.NAME / made.id), made.commit, made.files)


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "releases" / problem.NAME).mkdir(parents=True)
    (tmp_path / "uv").write_text(FAKE_UV)
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("UV", str(tmp_path / "uv"))
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "uv")


ALIKE, LAST_DIGIT, OTHER = (
    f'[{{"score": 0.25}}, {{"score": {score}}}]' for score in ("0.5", "0.5000000000000001", "0.501")
)


@pytest.mark.evidence("Monitor 1", "Checklist 14")
@pytest.mark.integration
@pytest.mark.parametrize(("scores", "beyond"), [(ALIKE, 0), (LAST_DIGIT, 0), (OTHER, 1)])
def test_models_of_the_same_window_are_compared_record_by_record(
    tmp_path: Path, uv: str, scores: str, beyond: int
) -> None:
    base = release(tmp_path, "numpy==2.3\npandas==3.0\n", ALIKE)
    new = release(tmp_path, "numpy==2.4\nscipy==1.17\n", scores, **{PYTHON: "3.12\n"})
    result = comparison.compare(base, new, tmp_path, uv, date(2013, 4, 1), lambda _: None)
    assert result.packages == {
        "python": ("3.11", "3.12"),
        "numpy": ("2.3", "2.4"),
        "pandas": ("3.0", None),
        "scipy": (None, "1.17"),
    }
    assert (result.beyond, result.records, result.alike) == (beyond, 2, not beyond)


@pytest.mark.evidence("Checklist 14")
@pytest.mark.integration
def test_a_release_that_makes_no_model_is_no_answer(tmp_path: Path, uv: str) -> None:
    base, new = release(tmp_path, "", ALIKE), release(tmp_path, "", ALIKE, fails="yes")
    with pytest.raises(ReleaseRefused, match="train ended with exit code 3: the gate failed"):
        comparison.compare(base, new, tmp_path, uv, date(2013, 4, 1), lambda _: None)


@pytest.mark.evidence("Monitor 1")
@pytest.mark.integration
def test_the_command_says_how_many_predictions_differ(
    tmp_path: Path, uv: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = release(tmp_path, "numpy==2.3\n", ALIKE), release(tmp_path, "numpy==2.4\n", OTHER)
    assert cli.main(["delivery", "compare", base.id, "--release", new.id]) == 3
    shown = capsys.readouterr().out
    assert "1 packages changed | 1 of 2 predictions differ by more than 1e-09, the largest by 0.001" in shown
    assert cli.main(["delivery", "compare", base.id, "--release", base.id]) == 0
