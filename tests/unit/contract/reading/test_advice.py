"""What advice costs: a log whose format was not set has as many refused times as lines."""

from __future__ import annotations

import pytest
from fieldwatch_contract.reading.advice import TimeAdvice
from fieldwatch_contract.reading.times import Times


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that any format was tried on."""
    texts: list[str] = []
    one = Times.one

    def counted(self: Times, text: str) -> int | None:
        texts.append(text)
        return one(self, text)

    monkeypatch.setattr(Times, "one", counted)
    return texts


def test_all_formats_are_tried_for_the_first_time_of_a_shape_alone(tried: list[str]) -> None:
    advice = TimeAdvice("UTC")
    assert '"%d/%m/%Y %H:%M:%S" (2026-03-02T10:00:00Z)' in advice("02/03/2026 10:00:00")
    first = len(tried)
    for minute in range(1000):
        assert "%d/%m/%Y" in advice(f"02/03/2026 {10 + minute // 60 % 12:02}:{minute % 60:02}:00")
    assert len(tried) - first <= 3 * 1000, "the formats that are left"
    assert advice.fits[:2] == ("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S")
    advice("13/03/2026 10:00:00")
    assert advice.fits == ("%d/%m/%Y %H:%M:%S",)


def test_what_is_no_time_costs_little_however_it_looks(tried: list[str]) -> None:
    advice = TimeAdvice("UTC")
    for number in range(3000):
        advice(f"{'x' * (number % 60)}1234{'y' * (number // 60)}")
    assert len(tried) <= 100 * 600
