"""docs/poc.md: what it quotes is what the programs print."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import budget, poc
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "poc.md").read_text(encoding="utf-8")


def test_the_best_budget_is_where_one_more_false_alarm_costs_more_than_it_finds() -> None:
    costs = budget.Costs(failures=0.5, cost=12_000, planned=3_000, false_alarm=25, in_time=0.7)
    assert costs.saved(0.45) == pytest.approx(0.5 * 0.45 * 0.7 * 9_000)
    assert costs.worth(0.1, 0.45) == pytest.approx(costs.saved(0.45) - 365 * 0.1 * 25)
    assert costs.worth(costs.most(0.45), 0.45) == pytest.approx(0)


def test_the_worked_example_is_the_one_in_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert budget.main([]) == 0
    said = capsys.readouterr().out
    (best,) = [line for line in said.splitlines() if line.endswith("<- best")]
    assert best.split()[:2] == ["0.1", "45%"] and best.split()[4] == "505" and "worth 505 a device-year" in PAGE
    assert "above 0.16 false alarms a device-day nothing is left" in said
    assert budget.main(["--false-alarm", "5000"]) == 1
    assert "no budget of this trade pays" in capsys.readouterr().out


@pytest.mark.parametrize("curve", ["", "1", ".1:2", "0:.5", "a:b"])
def test_a_trade_that_is_none_is_refused(curve: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        budget.main(["--curve", curve])
    assert stopped.value.code == 2


@pytest.mark.realdata
def test_the_data_are_as_the_page_says(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDWATCH_DATA", str(data_dir))
    files = poc.Poc()
    found = poc.data(files, True)
    assert (found["rows"], found["faulty"], found["missing"], found["duplicates"]) == (1500, 750, 0, 0)
    assert found["latest_outside_the_box"] == 9 and "9 lie outside the box" in PAGE
    assert found["latest_conformal_p_below_.01"] == 27 and "27 have\np < .01" in PAGE
    assert max(found["ks_p_value"]) < 1e-12
    mended = poc.mended(files, True)
    assert mended["latest"]["classifier"] == {"unknown": 28, "faulty": 6, "normal": 8}
    assert "28 unknown, 6 faulty, 8 normal" in PAGE
    assert set(mended["gates"].values()) == {"passed"}
    assert mended["log_loss"] < 0.085 and mended["recall"] > 0.96
