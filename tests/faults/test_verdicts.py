"""What people say of alerts reaches the device and moves its level, nothing else; for long: ``test_ninety_days.py``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.send import said
from fieldwatch_agent.send.journal import FILE, read_status
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_cloud.store import Store
from fieldwatch_contract.events import Verdicts

from tests.conftest import Broker, wait_until
from tests.delivery import alert, alert_draft, make_journal, result, stored, waiting
from tests.verdicts import GOOD, START, Site, say

BAD: list[bytes | list[dict[str, Any]]] = [
    b"\xff\x00",
    b"[]",
    b"{}",
    b"null",
    b"[" * 100_000,
    b'{"verdicts": [' + b" " * 300_000 + b"]}",
    [GOOD] * 201,
    [GOOD | {"alert_id": "../../etc"}],
    [GOOD | {"alert_id": 7}],
    [GOOD | {"model": "a/b"}],
    [GOOD | {"verdict": "x" * 99}],
    [GOOD | {"since": "soon"}],
    [{"update": "now", "command": "rm"}],
]


def test_no_document_of_verdicts_stops_delivery(
    mosquitto: Callable[..., Broker], linked: Callable[..., Uplink], taken: Callable[..., Store], tmp_path: Path
) -> None:
    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [result(0)])
    uplink = linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the first event")
    for document in BAD:
        say(broker, document)
    say(broker, b"")  # the retained message is removed
    wait_until(lambda: uplink.verdicts.refused == len(BAD), "all of it to be counted")
    wait_until(lambda: not uplink.verdicts.problem, "nothing wrong any more: there is none")
    assert uplink.verdicts.take() is None
    say(broker, [GOOD | {"more": "of a later cloud"}])
    wait_until(uplink.verdicts.take, "a good one")
    journal.enqueue([result(1), alert_draft(alert(1))])
    uplink.wake()
    wait_until(lambda: waiting(journal.path) == 0, "the events after all that")
    assert stored(store) == 2


def test_what_a_person_says_reaches_the_device_that_comes_later_and_after_a_loss(
    mosquitto: Callable[..., Broker], linked: Callable[..., Uplink], taken: Callable[..., Store], tmp_path: Path
) -> None:
    """The broker keeps it for a device that is off; a broker that has lost it gets it again."""
    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [alert_draft(alert(1)), alert_draft(alert(5))])
    uplink = linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the alerts to be stored")
    assert store.add_verdict(alert(1).alert_id, "false")

    def told() -> list[tuple[str, str | None]]:
        document = uplink.verdicts.take()
        return [(each.alert_id, each.verdict) for each in document.verdicts] if document else []

    wait_until(lambda: told() == [(alert(1).alert_id, "false")], "the verdict")
    broker.stop()
    uplink.verdicts.take()
    broker.start()  # without what it retained
    wait_until(lambda: told() == [(alert(1).alert_id, "false")], "it again")
    assert store.add_verdict(alert(1).alert_id, "unclear")
    assert store.add_verdict(alert(5).alert_id, "real")
    wait_until(lambda: told() == [(alert(5).alert_id, "real"), (alert(1).alert_id, None)], "the revision")


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-99-99T99:99:99Z"])
def test_a_time_that_is_none_of_ours_moves_nothing_before_the_next_row(tmp_path: Path, since: str) -> None:
    document = Verdicts.model_validate({"verdicts": [GOOD | {"since": since}]})
    (kept,) = said.with_new((), document, START)
    assert kept.since > START
    assert said.from_json(said.to_json((kept,))) == (kept,)


def test_a_document_that_is_none_is_a_trouble_until_a_good_one_comes(
    mosquitto: Callable[..., Broker], clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    """Also after a restart: the broker retains it, and gives it to the device again."""
    broker = mosquitto()
    site = Site(tmp_path / "site", broker, clean_env)

    def told() -> list[str]:
        """What ``status`` and the cloud are told of it."""
        health = read_status(site.state / FILE)["health"] if (site.state / FILE).exists() else None
        troubles = health["troubles"] if isinstance(health, dict) else []
        return [f"{each['detail']}; {each['remedy']}" for each in troubles if each["kind"] == "verdicts_unread"]

    site.start()
    try:
        say(broker, [GOOD])
        wait_until((site.state / FILE).exists, "the journal")
        wait_until(site.heard, "the device to listen")
        assert told() == []
        say(broker, [GOOD | {"model": "a/b"}])
        wait_until(told, "the trouble")
        assert "1 in a row" in told()[0] and "verdicts.0.model: String should match" in told()[0]
        assert "the cloud writes the document anew" in told()[0]
        site.end(signal.SIGTERM)
        say(broker, b"{}")
        site.start()
        wait_until(lambda: "verdicts: Field required" in "".join(told()), "the trouble, after a restart")
        say(broker, [GOOD | {"verdict": "false"}])
        wait_until(lambda: site.heard() == {GOOD["alert_id"]: "false"} and not told(), "its end")
    finally:
        site.end(signal.SIGKILL)
