"""The rows of a training come back under their digest, whatever became of the source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.load import sha256
from level1_pipeline.inputs import source, training_data
from level1_pipeline.orchestration.run import Request, new_run
from level1_pipeline.settings import Settings
from level1_pipeline.steps.extract import extract

AS_OF = pd.Timestamp("2013-02-01", tz="America/New_York")


@pytest.mark.parametrize("asked", [True, False])
def test_the_rows_are_kept_once_for_each_digest_if_the_settings_ask_for_it(
    home: Settings, rows: pd.DataFrame, asked: bool
) -> None:
    settings = home.changed({"keep_training_data": asked})
    run = new_run(settings, Request(as_of=AS_OF))
    few = rows.head(500)
    with source.changed(lambda loaded, until: few):
        first, again = extract(run), extract(replace(run, folder=f"{run.folder}-again"))
    assert first.data_digest == again.data_digest
    kept = training_data.files(settings)
    assert [file.stem for file in kept] == [first.data_digest] * asked
    with source.changed(lambda loaded, until: few.head(400)):
        other = extract(run)
    assert len(training_data.files(settings)) == 2 * asked
    if asked:
        assert pd.read_parquet(kept[0])[problem.TARGET].equals(few[problem.TARGET])
        assert training_data.where(settings, other.data_digest).endswith(f"{other.data_digest}.parquet")
    else:
        assert "not kept (MLOPS_KEEP_TRAINING_DATA" in training_data.where(settings, first.data_digest)


def test_a_file_that_was_changed_is_not_taken_for_the_rows(home: Settings, tmp_path: Path) -> None:
    settings = home.changed({"keep_training_data": True})
    (tmp_path / "rows").write_text("rows")
    digest = sha256(tmp_path / "rows")
    training_data.keep(settings, tmp_path / "rows", digest)
    file = training_data.file_of(settings, digest)
    assert training_data.where(settings, digest) == str(file)
    file.write_text("other rows")
    assert "DAMAGED" in training_data.where(settings, digest)
