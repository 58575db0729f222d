"""The report holds what the run says, nothing from outside, and the same bytes every time."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_contract.told import duration, every
from fieldwatch_trainer import report
from fieldwatch_trainer.card import card, figure, number
from fieldwatch_trainer.checks.finding import Finding

DAY = 86_400_000_000
START = 20_454 * DAY


def run() -> dict[str, Any]:
    return {
        "name": "press",
        "version": "20260101-abcdef01",
        "sha256": "ab" * 32,
        "device_type": "press",
        "period_s": 60.0,
        "window": 60,
        "sensors": ["flow", "heat <&>"],
        "trained_until": "2026-01-01T00:00:00Z",
        "data": {"lake": "lake", "devices": 3, "readings": 12_345, "labels": {"fault": 4}, "fault_share": 0.0123},
        "models": {
            "classifier": {
                "kind": "classifier",
                "input": "features",
                "threshold": 0.42,
                "bytes": 140_000,
                "alert": {"persistence": 3, "clear_ratio": 0.8, "resolve_after": 10},
                "range": {"model": "detector", "limit": 7.5},
                "facts": {
                    "library": "LightGBM 4",
                    "importance": {"flow": 0.9, "heat <&>": 0.1},
                    "notes": ["a <script>note</script>"],
                    "rows": {"fault": 40},
                    "calibration": {
                        "folds": 3,
                        "grouped_by": "device",
                        "average_precision": 0.81,
                        "brier": 0.01,
                        "reliability": [{"low": 0.0, "high": 0.1, "mean_score": 0.02, "rate": 0.03, "n": 100}],
                    },
                },
            }
        },
        "budget": {"episodes_per_device_day": 0.1},
        "evaluation": {
            "scope": "readings held back",
            "devices": 1,
            "rows": 100,
            "models": {
                "classifier": {
                    "kind": "classifier",
                    "threshold": 0.42,
                    "average_precision": 0.777,
                    "event_recall": 0.5,
                    "delay_median_s": 5400.0,
                    "false_alarms_per_day": None,
                    "curve": {"recall": [0.1, 1.0], "precision": [1.0, 0.2]},
                    "random": {"average_precision": 0.051},
                    "devices": [{"device": "press-0", "average_precision": 0.777, "events": 2}],
                }
            },
            "timelines": [
                {
                    "device": "press-0",
                    "model": "classifier",
                    "threshold": 0.42,
                    "ts": [START, START + DAY, START + 2 * DAY],
                    "score": [0.1, None, 0.9],
                    "labels": [[START + DAY, START + 2 * DAY, "fault"]],
                }
            ],
        },
        "gate": {
            "passed": True,
            "tolerance": 1e-5,
            "runtime": "onnxruntime 1",
            "models": {"classifier": {"passed": True, "rows": 99, "max_difference": 3.2e-7, "flips": 0}},
        },
        "table": {
            "label": "label",
            "folds": [{"fold": 1, "rows": 150, "log_loss": 0.0791}],
            "mean": {"log_loss": 0.0791},
            "sd": {"log_loss": 0.01},
        },
        "notes": ["LightGBM could not be loaded"],
    }


VOID = {"meta", "br", "path", "use", "rect", "line", "image"}


class Page(HTMLParser):
    """Checks that tags close in order; collects ids, references and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.references.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_the_page_tells_the_run(tmp_path: Path) -> None:
    report.write(tmp_path, run())
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    for told in ("12,345", "1.23%", "0.777", "0.051", "50%", "1.5 h", "0.42", "3.2e-07", "0.0791", "LightGBM 4"):
        assert told in page.text, told
    assert "Speaks only while the detector 's score is at most 7.5" in page.text.replace(" detector's", " detector 's")
    assert html.count("<svg") == 4


def test_nothing_from_outside_and_no_script(tmp_path: Path) -> None:
    report.write(tmp_path, run())
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "<script" not in html
    assert "a &lt;script&gt;note" in html
    assert "heat &lt;&amp;&gt;" in html
    assert all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<)]+", html)) <= namespaces


def test_same_run_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        report.write(tmp_path / name, run())
        pages.append([(tmp_path / name / file).read_bytes() for file in ("report.html", "model_card.md")])
    assert pages[0] == pages[1]


@pytest.mark.parametrize("absent", sorted(run()))
def test_any_part_may_be_absent(absent: str, tmp_path: Path) -> None:
    part = run()
    del part[absent]
    report.write(tmp_path, part)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "How to read the score" in page.text
    assert "<section><h2>" not in page.text


def test_an_empty_run_is_told_too(tmp_path: Path) -> None:
    report.write(tmp_path, {})
    Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert (tmp_path / "model_card.md").read_text(encoding="utf-8").startswith("# run\n")


def test_a_failed_gate_is_seen(tmp_path: Path) -> None:
    failed = run()
    failed["gate"]["passed"] = failed["gate"]["models"]["classifier"]["passed"] = False
    report.write(tmp_path, failed)
    assert "FAILED parity gate" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "classifier: FAILED" in card(failed)


def test_a_figure_that_means_nothing_is_not_shown(tmp_path: Path) -> None:
    every = run()
    every["evaluation"]["models"]["classifier"]["positive_share"] = 1.0
    report.write(tmp_path, every)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Every row here lies in a label" in html
    assert "Precision and recall" not in html


def test_an_evaluation_alone(tmp_path: Path) -> None:
    report.write_evaluation(tmp_path / "e.html", run()["evaluation"] | {"bundle": "press/1"})
    page = Page((tmp_path / "e.html").read_text(encoding="utf-8"))
    assert "Evaluation of press/1" in page.text
    assert "0.777" in page.text


def test_a_data_report(tmp_path: Path) -> None:
    finding = Finding("sentinel", "comes 9 times", "export it as missing", "a<b", "flow", 0, 60_000_000).as_json()
    one = {
        "device_type": "press",
        "usable": False,
        "devices": [],
        "sensors": [{"sensor": "flow"}],
        "findings": [finding],
    }
    report.write_check(tmp_path / "c.html", {"lake": "lake", "types": [one]})
    page = Page((tmp_path / "c.html").read_text(encoding="utf-8"))
    assert "not usable for training" in page.text
    where = "a<b / flow (1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z)"
    assert f"sentinel {where}: comes 9 times export it as missing a model takes the code" in page.text
    html = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<table class='findings'>" in html and ".findings td { display: block;" in html, (
        "one below the other on a phone"
    )


def test_the_card_is_complete_and_plain() -> None:
    text = card(run())
    for told in (
        "# press 20260101-abcdef01",
        "threshold 0.42",
        "| 0.777 | 0.051 |",
        "log loss",
        "3.2e-07",
        "not a cause",
    ):
        assert told in text
    assert "\n\n\n" not in text
    assert "<b>" not in text


def test_what_answers_are_worth_stands_beside_what_comes_of_none() -> None:
    content = run()
    figures = {"event_recall": 0.5, "events": 4, "alerts": 9, "delay_median_s": 5400.0}
    content["calibration"] = {
        "classifier": {
            "backtest": {
                "unanswered": figures | {"false_alarms_per_day": 0.71},
                "answered": figures | {"false_alarms_per_day": 0.29},
            }
        }
    }
    page = report.run_body(content)
    line = r"people answer each alert after 8 h.*?>2 of 4<.*?>9<.*?0\.29.*?1\.5 h"
    assert re.search(rf"nobody answers.*?0\.71.*?{line}", page)
    assert "people answer each alert" not in report.run_body(run())


def test_numbers_are_written_for_people() -> None:
    assert [number(x) for x in (None, 3, 12_345, 0.04567, 1234.5, 2.0)] == ["–", "3", "12,345", "0.0457", "1,234", "2"]
    assert [duration(x) for x in (5.0, 90.0, 7200.0, 172_800.0)] == ["5 s", "1.5 min", "2 h", "2 days"]
    told = ["0.5 s", "1 min", "97 s", "90 s", "90 min", "2 h", "24 h"]
    assert [every(x) for x in (0.5, 60.0, 97.0, 90.0, 5400.0, 7200.0, 86_400.0)] == told
    assert figure("unknown_share", 0.5) == "50.00%"
