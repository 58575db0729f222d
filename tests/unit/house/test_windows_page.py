"""Each command of the page for Windows is run by the test under Wine, or named there with the reason why not."""

from __future__ import annotations

from tests.packages.windows import page


def test_nothing_on_the_page_is_untried() -> None:
    assert page.untried(page.blocks(), page.within()) == []


def test_the_check_can_fail() -> None:
    lines = [["msiexec /i x.msi /qb", "fieldwatch-agent doctor"]]
    spans = ["msiexec /x", "fieldwatch-agent service start", "icacls C: /T"]
    assert page.untried(lines, spans) == ["fieldwatch-agent doctor", "fieldwatch-agent service start"]


def test_what_is_listed_is_on_the_page() -> None:
    """A command that went leaves no reason behind."""
    shown = [*(line for block in page.blocks() for line in block), *page.within()]
    for beginning in (*page.RUN, *page.RUN_TOO, *page.NOT_RUN):
        assert any(line.startswith(beginning) for line in shown), beginning
