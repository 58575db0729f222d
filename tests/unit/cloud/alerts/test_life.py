"""The life of an incident: a stateful property test of the two rules, and each hush by example."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fieldwatch_cloud.alerts.life import (
    LATE,
    QUIET,
    REOPEN,
    SIGNALS_KEPT,
    SNOOZE_LIMIT,
    TRANSITIONS,
    TURNS,
    Acknowledged,
    Assigned,
    Closed,
    Commented,
    Incident,
    News,
    NotNowError,
    Passed,
    Seen,
    Signal,
    Snoozed,
    begin,
    belongs,
    home,
    step,
)
from fieldwatch_contract import clock
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

T0 = clock.parse_iso("2026-11-26T08:00:00Z")
MINUTE = clock.MINUTE
FAR = 400 * clock.DAY


def signal(minute: int = 0, source: str = "detector", **more: object) -> Signal:
    at = T0 + minute * MINUTE
    return replace(Signal(f"{source}@{at}", source, "warning", at, sensors=("flow",)), **more)


def over(one: Signal, minute: int) -> Signal:
    return replace(one, ended_at=T0 + minute * MINUTE)


def seen(one: Signal, delay: int = 0, **more: int) -> Seen:
    return Seen((one.opened_at if one.ended_at is None else one.ended_at) + delay, one, **more)


def told(news: list[News]) -> list[str]:
    return [one.what for one in news if one.tell]


class Lives(RuleBasedStateMachine):
    """One incident under any order of devices, people and time; the model is what people have heard."""

    @initialize(severity=st.sampled_from(["warning", "critical"]), maintenance=st.booleans())
    def open_one(self, severity: str, maintenance: bool) -> None:
        self.now = T0
        self.number = 0
        self.heard: str = "nothing"
        self.reopened = 0
        self.flaps: list[int] = []
        first = signal(severity=severity)
        self.signals = {first.key: first}
        window = self.now + 10 * MINUTE if maintenance else None
        self.incident, news = begin(Seen(self.now, first, window))
        self.hear(news)
        assert told(news) == ([] if maintenance else ["opened"])

    def hear(self, news: list[News]) -> None:
        for one in news:
            assert one.at == self.now
            self.reopened += one.what == "reopened"
            if not one.tell:
                continue
            if one.what == "flapping":
                assert not self.flaps or self.now - self.flaps[-1] >= QUIET, "told once until it is quiet"
                self.flaps.append(self.now)
            if one.what in ("opened", "reopened", "grew", "flapping", "quiet", "hush over", "resolved", "closed"):
                self.heard = "open" if self.incident.live else "over"

    def apply(self, event: object) -> list[News]:
        before = self.incident
        self.incident, news = step(before, event)  # type: ignore[arg-type]
        self.hear(news)
        if before.maintenance_until is not None and self.incident.maintenance_until is not None:
            assert not set(told(news)) & {"reopened", "resolved", "grew", "flapping", "quiet", "hush over"}
        return news

    @rule(minutes=st.sampled_from([1, 5, 29, 31, 61, 24 * 60]))
    def pass_time(self, minutes: int) -> None:
        self.now += minutes * MINUTE
        self.apply(Passed(self.now, self.incident.maintenance_until))
        assert self.incident.wake_at is None or self.incident.wake_at > self.now, "no hush outlives its end"

    @rule(
        source=st.sampled_from(["detector", "classifier"]),
        severity=st.sampled_from(["warning", "critical"]),
        back=st.sampled_from([0, 0, 0, 3, 20]),
        sensor=st.sampled_from(["flow", "oil"]),
        window=st.sampled_from([None, None, 30]),
    )
    def raise_one(self, source: str, severity: str, back: int, sensor: str, window: int | None) -> None:
        self.number += 1
        one = Signal(f"s{self.number}", source, severity, self.now - back * MINUTE, sensors=(sensor,))  # type: ignore[arg-type]
        if home([self.incident], one) is None:
            return
        was, hushed = self.incident.live, self.incident.hushed
        self.signals[one.key] = one
        news = self.apply(Seen(self.now, one, self.now + window * MINUTE if window else None))
        if not was and self.incident.live and not hushed and not window:
            assert told(news) in (["reopened"], ["flapping"]), "nobody is never told"

    @precondition(lambda self: any(one.ended_at is None for one in self.signals.values()))
    @rule(data=st.data())
    def clear_one(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([one for one in self.signals.values() if one.ended_at is None]))
        self.signals[one.key] = replace(one, ended_at=self.now)
        self.apply(Seen(self.now, self.signals[one.key]))

    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        """A redelivery changes nothing and tells nobody."""
        one = data.draw(st.sampled_from(list(self.signals.values())))
        before = self.incident
        if one.key not in {mine.key for mine in before.signals}:
            return  # so old that it was let go
        news = self.apply(Seen(self.now, one, before.maintenance_until))
        assert told(news) == []
        assert (self.incident.state, self.incident.occurrences) == (before.state, before.occurrences)

    @rule()
    def acknowledge(self) -> None:
        self.by_person(Acknowledged(self.now, "ana", "mine"), "acknowledge")

    @rule()
    def close(self) -> None:
        self.by_person(Closed(self.now, "ana", "seen"), "close")

    def by_person(self, event: Acknowledged | Closed, turn: str) -> None:
        before = self.incident
        if turn not in TRANSITIONS[before.state]:
            with pytest.raises(NotNowError):
                step(before, event)
            return
        self.apply(event)
        assert self.incident.state == TRANSITIONS[before.state][turn]  # type: ignore[index]

    @precondition(lambda self: self.incident.live)
    @rule(minutes=st.sampled_from([5, 90]))
    def snooze(self, minutes: int) -> None:
        self.apply(Snoozed(self.now, "ana", self.now + minutes * MINUTE, "lunch"))

    @invariant()
    def the_state_follows_from_signals_and_people(self) -> None:
        newest: dict[str, Signal] = {}
        for one in self.signals.values():
            held = newest.get(one.source)
            if held is None or (held.opened_at, held.key) <= (one.opened_at, one.key):
                newest[one.source] = one
        still = any(one.ended_at is None for one in newest.values())
        assert self.incident.live <= still
        assert self.incident.live or not still or self.incident.state == "closed"
        assert (self.incident.ended_at is None) == self.incident.live
        assert self.incident.occurrences == 1 + self.reopened
        assert self.incident.known == self.heard

    @invariant()
    def in_the_end_people_know_what_is(self) -> None:
        """Whatever was hushed is told when the hush ends."""
        later, news = step(self.incident, Passed(self.now + FAR))
        assert not later.hushed
        truth = "open" if later.live else "over"
        heard = truth if told(news) else self.heard
        assert heard == truth or (heard == "nothing" and not later.live)


TestLives = Lives.TestCase


@given(st.data())
def test_whatever_the_order_of_arrival_what_is_open_in_the_end_is_told(data: st.DataObject) -> None:
    """Openings and ends of one device, each delivered in order of its own signal, mixed as a backlog mixes them."""
    sources = data.draw(st.lists(st.sampled_from(["detector", "classifier"]), min_size=1, max_size=6))
    deliveries: list[Signal] = []
    newest: dict[str, Signal] = {}
    for number, source in enumerate(sources):
        one = signal(data.draw(st.integers(0, 300)), source, key=f"s{number}")
        ended = data.draw(st.booleans())
        final = over(one, (one.opened_at - T0) // MINUTE + data.draw(st.integers(1, 200))) if ended else one
        deliveries += [one, final]
        if source not in newest or (newest[source].opened_at, newest[source].key) <= (final.opened_at, final.key):
            newest[source] = final
    order = data.draw(st.permutations(range(len(deliveries))))
    first: dict[str, int] = {}
    incidents: list[Incident] = []
    heard = 0
    for place in order:
        one = deliveries[place]
        turn = first.setdefault(one.key, place)
        one = deliveries[max(turn, place) if turn == place and place % 2 == 0 else place | 1]
        found = home(incidents, one)
        event = Seen(T0 + FAR, one)
        if found is None:
            made, news = begin(event)
            incidents.append(made)
        else:
            incidents[found], news = step(incidents[found], event)
        heard += len(told(news))
    assert heard
    if any(one.ended_at is None for one in newest.values()):
        assert any(one.live for one in incidents)


def test_two_models_see_one_fault() -> None:
    incident, news = begin(seen(signal(0)))
    assert told(news) == ["opened"]
    assert home([incident], signal(40, "classifier")) == 0
    incident, news = step(incident, seen(signal(40, "classifier")))
    assert (told(news), len(incident.signals), incident.occurrences) == ([], 2, 1)
    incident, news = step(incident, seen(over(signal(0), 60)))
    assert (told(news), incident.state) == ([], "open"), "the other model still sees it"
    incident, news = step(incident, seen(over(signal(40, "classifier"), 61)))
    assert (told(news), incident.state) == (["resolved"], "resolved")


def test_a_worse_or_wider_fault_is_told_though_somebody_has_it() -> None:
    incident, _ = begin(seen(signal(0)))
    incident, _ = step(incident, Acknowledged(T0, "ana"))
    incident, news = step(incident, seen(signal(1, "classifier", sensors=("oil",))))
    assert (told(news), incident.state) == (["grew"], "acknowledged")
    incident, _ = step(incident, Snoozed(T0 + MINUTE, "ana", T0 + 90 * MINUTE))
    incident, news = step(incident, Seen(T0 + 2 * MINUTE, signal(0, severity="critical")))
    assert told(news) == ["grew"], "a rise breaks through"
    assert incident.snoozed_until is None


@pytest.mark.parametrize(("minutes", "same"), [(REOPEN // MINUTE, True), (REOPEN // MINUTE + 1, False)])
def test_what_returns_soon_is_the_same(minutes: int, same: bool) -> None:
    incident, _ = begin(seen(signal(0)))
    incident, _ = step(incident, seen(over(signal(0), 10)))
    again = signal(10 + minutes)
    assert belongs(incident, again) == same
    if same:
        incident, news = step(incident, seen(again))
        assert (told(news), incident.occurrences, incident.state) == (["reopened"], 2, "open")


def test_a_rebuilt_journal_opens_the_same_fault_again_and_the_old_opening_does_not_stay_for_ever() -> None:
    incident, _ = begin(seen(signal(0)))
    again = signal(7)  # the journal is gone; the agent reads the log again and opens at another row
    assert home([incident], again) == 0
    incident, news = step(incident, seen(again))
    assert (told(news), len(incident.signals)) == ([], 2)
    incident, news = step(incident, seen(over(again, 30)))
    assert (told(news), incident.state) == (["resolved"], "resolved"), "though the first opening was never ended"


def test_a_fault_of_many_openings_keeps_the_newest() -> None:
    found, _ = begin(seen(signal(0)))
    for minute in range(1, 2 * SIGNALS_KEPT):
        found, _ = step(found, seen(signal(minute)))
    assert len(found.signals) == SIGNALS_KEPT
    assert found.signals[-1] == signal(2 * SIGNALS_KEPT - 1)
    found, news = step(found, seen(over(found.signals[-1], 500)))
    assert (found.state, told(news)) == ("resolved", ["resolved"])


def test_flapping_is_told_once_and_what_is_when_it_is_quiet() -> None:
    incident, news = begin(seen(signal(0)))
    heard = told(news)
    for minute in range(0, 50, 10):
        if minute:
            incident, news = step(incident, seen(signal(minute)))
            heard += told(news)
        incident, news = step(incident, seen(over(signal(minute), minute + 5)))
        heard += told(news)
    assert heard == ["opened", "resolved", "reopened", "flapping"]
    assert len(incident.turns) == TURNS
    assert incident.wake_at == T0 + 45 * MINUTE + QUIET
    incident, news = step(incident, seen(signal(50)))
    assert told(news) == []
    incident, news = step(incident, Passed(T0 + 50 * MINUTE + QUIET))
    assert (told(news), incident.known) == (["quiet"], "open"), "people had heard that it was over"


def test_maintenance_hushes_and_tells_afterwards_what_remains() -> None:
    incident, news = begin(seen(signal(0), maintenance=T0 + 60 * MINUTE))
    assert told(news) == []
    gone, news = step(incident, seen(over(signal(0), 30)))
    assert told(news) == []
    assert told(step(gone, Passed(T0 + 60 * MINUTE))[1]) == [], "nobody ever heard of it"
    assert told(step(incident, Passed(T0 + 60 * MINUTE))[1]) == ["hush over"]


@pytest.mark.parametrize("until", [0, -5, SNOOZE_LIMIT // MINUTE + 1])
def test_a_snooze_has_an_end(until: int) -> None:
    incident, _ = begin(seen(signal(0)))
    with pytest.raises(NotNowError, match="a snooze ends"):
        step(incident, Snoozed(T0, "ana", T0 + until * MINUTE))


def test_old_news_and_what_was_dismissed_before_is_for_the_digest() -> None:
    for event in (seen(signal(0), LATE + 1), seen(signal(0, like=True))):
        _, (news,) = begin(event)
        assert (news.tell, news.digest) == (True, True)
    _, (news,) = begin(seen(signal(0), LATE))
    assert not news.digest


def test_words_and_names_are_kept() -> None:
    incident, _ = begin(seen(signal(0)))
    incident, (news,) = step(incident, Assigned(T0, "ana", "ben"))
    assert (incident.assignee, news.text, news.tell) == ("ben", "ben", True)
    after, (news,) = step(incident, Commented(T0, "ben", "the pump was loud"))
    assert (after, news.text, news.tell) == (incident, "the pump was loud", False)
    incident, _ = step(incident, Closed(T0, "ben", "pump changed"))
    assert incident.closed is not None
    assert incident.closed.why == "pump changed"
    with pytest.raises(NotNowError, match="closed"):
        step(incident, Assigned(T0, "ana", "cy"))
    incident, news2 = step(incident, seen(signal(0)))
    assert (incident.state, told(news2)) == ("closed", []), "the opening that was closed stays closed"
    incident, news2 = step(incident, seen(signal(3)))
    assert (incident.state, told(news2)) == ("open", ["reopened"])
