"""Splits are read strictly, and training data stop where they say, with an embargo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fieldwatch_trainer.data import Fold, LakeData
from fieldwatch_trainer.lake import Lake
from fieldwatch_trainer.split import Split, SplitError, choose, read_split

from tests.lakes import MINUTE, START, LakeMaker

WINDOW = 60


def data(folder: Path, split: Split, **changes: int) -> LakeData:
    return LakeData.of(Lake(LakeMaker(folder, **changes).write()), "press", WINDOW, split)


def test_rows_from_the_border_on_are_gone_and_those_just_before_are_not_used(tmp_path: Path) -> None:
    split = Split(by_device={"press-0": START + 1000 * MINUTE, "press-1": START + 500 * MINUTE})
    first, second = data(tmp_path, split)
    assert (len(first.rows), len(second.rows)) == (1000, 500)
    assert np.flatnonzero(~first.use).tolist() == list(range(1000 - WINDOW, 1000))


def test_a_device_that_ends_before_its_border_needs_no_embargo(tmp_path: Path) -> None:
    first, _ = data(tmp_path, Split(until=START + 9999 * MINUTE))
    assert first.use.all() and len(first.use) == 1500


def test_a_device_that_ends_at_its_border_keeps_its_last_rows(tmp_path: Path) -> None:
    """Run to failure: the fault is what comes last, and no later reading could share a row with it."""
    first, second = data(tmp_path, Split(by_device={"press-0": START + 1500 * MINUTE, "press-1": START + 700 * MINUTE}))
    assert first.use.all() and len(first.use) == 1500
    assert np.flatnonzero(~second.use).tolist() == list(range(700 - WINDOW, 700))


def test_the_embargo_counts_from_the_first_reading_that_is_tested(tmp_path: Path) -> None:
    maker = LakeMaker(tmp_path)
    maker.values["press-0"][1000:1020] = np.nan
    lake = Lake(maker.write())
    first = next(iter(LakeData.of(lake, "press", WINDOW, Split(until=START + 1000 * MINUTE))))
    tested = int(np.flatnonzero(lake.grid("press-0", lake.sensors("press"), WINDOW).reading[1000:])[0])
    assert np.flatnonzero(~first.use)[0] == 1000 + tested - WINDOW


def test_folds_share_no_window(tmp_path: Path) -> None:
    whole = data(tmp_path, Split())
    learn = next(iter(whole.part(Fold(("press-0",), 0.0, 0.5)))).use
    test = next(iter(whole.part(Fold(("press-0",), 0.5, 0.75, gap=WINDOW)))).use
    assert not (learn & test).any()
    assert np.flatnonzero(test)[0] - np.flatnonzero(learn)[-1] > WINDOW
    assert np.flatnonzero(test)[-1] < 0.75 * 1500


def test_rows_are_the_same_whether_kept_or_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = data(tmp_path, Split())
    assert len(list(kept)) == 2
    monkeypatch.setattr("fieldwatch_trainer.data.KEEP", 0)
    read = LakeData.of(kept.lake, "press", WINDOW, Split())
    for _ in range(2):
        for one, other in zip(kept, read, strict=True):
            np.testing.assert_array_equal(one.rows, other.rows)
    assert not read._kept.devices and len(kept._kept.devices) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must hold"),
        ('{"train_until": {}}', "must hold"),
        ('{"train_until": {"press-0": "soon"}}', "train_until of press-0: 'soon' is not a time"),
        ('{"train_until": "never"}', "'never' is not a time"),
    ],
)
def test_a_bad_split_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SplitError, match=message):
        read_split(path)


def test_a_split_that_is_not_there_or_not_a_time() -> None:
    with pytest.raises(SplitError, match="No such file"):
        choose(None, "nowhere.json")
    with pytest.raises(SplitError, match="--train-until: 'tomorrow' is not a time"):
        choose("tomorrow", None)


def test_one_time_may_stand_for_all_devices(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text('{"train_until": "2026-01-01T10:00:00Z"}', encoding="utf-8")
    assert read_split(path).border("any") == START + 600 * MINUTE


def test_a_split_must_know_the_devices() -> None:
    split = Split(by_device={"a": 1, "b": 2})
    split.check(["a", "b"], "split.json")
    with pytest.raises(SplitError, match="lacks device 'c'"):
        split.check(["a", "c"], "split.json")
    with pytest.raises(SplitError, match=r"split.json: no overlap with these devices \(c, d\)"):
        split.check(["c", "d"], "split.json")
