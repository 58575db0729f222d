"""Gates: what a model must show before it may run, and what a challenger must show before it replaces a champion.

A gate ``passed``, ``failed``, or is ``unknown``: the data cannot tell. A bundle is sound where no gate failed. A
challenger replaces the champion only where every gate passed: with insufficient evidence the champion stays. Every gate
says in a sentence what it saw; rules here, no I/O.

Sound (:func:`sound`), for each model by itself:

* ``chance``: average precision above that of a random score, and of the same score held against labels turned around in
  time;
* ``deaf``: where there are events, an alert at one of them at least;
* ``noise``: not so many false alarms that they would hardly come by chance (:data:`CHANCE` of a Poisson count) at
  :data:`NOISE` times the budget: the lower 97.5 % limit of their rate lies above that, and people stop reading.

Fit to replace (:func:`fit_to_replace`), on the same rows, both scored now. Starting values, not evidence:

* ``unseen``: the challenger has learnt from none of these rows;
* ``range``: no sensor lies mostly outside what the challenger was trained on, unless the champion's does too;
* ``events``: at least :data:`EVENTS`;
* ``ranking``: the 95 % interval of the paired difference in average precision lies above -:data:`RANKING`;
* ``recall``: event recall not below the champion's by more than :data:`RECALL`, on no device or kind of label with
  :data:`SLICE_EVENTS` events by more than :data:`SLICE`;
* ``budget``: false alarms within the budget and within :data:`MORE_FALSE` of the champion's;
* ``steady``: no quarter of the time with more than twice the mean of false alarms, beyond chance;
* ``delay``: the 90 % delay at most one window longer;
* ``calibration``: a probability means what it says: calibration error at most :data:`ECE`, of the base rate's Brier
  score at most a share of :data:`MISCALIBRATION` lost by it, as many faulty rows as expected within a factor of
  :data:`EXPECTED`, Brier score below that of the base rate and not worse than the champion's;
* ``cost``: graphs of at most :data:`MEGABYTES` MB, a row scored within :data:`ROW_MS` ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, lgamma, log
from typing import Any, Literal

from fieldwatch_trainer.bootstrap import Interval

NOISE, CHANCE = 3.0, 0.025
EVENTS = 10
RANKING = 0.01
RECALL = 0.02
SLICE, SLICE_EVENTS = 0.05, 20
MORE_FALSE = 1.1
ECE = 0.05
MISCALIBRATION = 0.05
EXPECTED = 2.0
STRANGE = 0.5
"""Share of a sensor's normal values beyond its training range, from which on the model was not made for these data."""
MEGABYTES = 10
ROW_MS = 50

Status = Literal["passed", "failed", "unknown"]


@dataclass(frozen=True)
class Gate:
    """What one gate said of one model (of the whole bundle where ``model`` is empty)."""

    name: str
    model: str
    status: Status
    says: str

    @property
    def id(self) -> str:
        """The name by which a person accepts what it refuses: ``deaf:classifier``, or ``unseen``."""
        return f"{self.name}:{self.model}" if self.model else self.name

    def to_json(self) -> dict[str, str]:
        """Return it as a JSON object with its id."""
        return {"id": self.id} | asdict(self)


def failed(gates: Iterable[Gate]) -> list[Gate]:
    """Return the gates that failed."""
    return [gate for gate in gates if gate.status == "failed"]


# ---- sound -----------------------------------------------------------------------------------------------------


def sound(models: Mapping[str, Mapping[str, Any]], budget: float | None) -> list[Gate]:
    """Return ``chance``, ``deaf`` and ``noise`` of every model, from the figures of :mod:`.judging`.

    ``budget`` in false alarms a device-day; None for a table, whose rows have no time.
    """
    found = []
    for name, model in models.items():
        found += [_chance(name, model), _deaf(name, model)]
        if budget is not None:
            found.append(_noise(name, model, budget))
    return found


def _chance(name: str, model: Mapping[str, Any]) -> Gate:
    found = model.get("average_precision")
    if found is None:
        return Gate("chance", name, "unknown", "no labelled row: nobody knows whether it is better than chance")
    base = model["everything"]["average_precision"]  # of a constant score; draws of a random one scatter around it
    if found <= base * (1 + 1e-6):
        worse = "worse than" if found < base * (1 - 1e-6) else "no better than"
        return Gate(
            "chance", name, "failed", f"{worse} a random score: average precision {found:.3f}, random {base:.3f}"
        )
    turned = model.get("turned") or {}
    if turned.get("high") is not None and found < turned["high"]:
        return Gate(
            "chance", name, "unknown",
            f"average precision {found:.3f}: the same score against labels at other times gets up to "
            f"{turned['high']:.3f}, so it may be chance",
        )  # fmt: skip
    return Gate("chance", name, "passed", f"average precision {found:.3f}, random {base:.3f}")


def _deaf(name: str, model: Mapping[str, Any]) -> Gate:
    events, recall = model["events"], model["event_recall"]
    if not events:
        return Gate("deaf", name, "unknown", "no labelled event: nobody knows whether it would raise an alert")
    if recall > 0:
        return Gate("deaf", name, "passed", f"an alert at {round(recall * events)} of {events} events")
    peak, lowest = model.get("highest_score"), model.get("lowest_level", model["threshold"])
    if peak is None:
        why = "every row is unknown to it"
    elif peak < lowest:
        why = f"no score reaches the {lowest:.4g} that an alert needs at least, the highest is {peak:.4g}"
    else:
        why = f"{model['alerts']} alerts, all at other times"
    if peak is not None and model["unknown_share"] > 0.5:
        why += f", and {model['unknown_share']:.0%} of the rows are unknown to it"
    return Gate("deaf", name, "failed", f"deaf: an alert at none of {events} events; {why}")


def _noise(name: str, model: Mapping[str, Any], budget: float) -> Gate:
    rate, count = model["false_alarms_per_day"], model["false_alarms"]
    if rate is None:
        return Gate("noise", name, "unknown", "no normal time: nobody knows how many false alarms it would raise")
    days = model["normal_days"]
    told = f"{count} false alarms in {days:.3g} device-days, {rate:.3g} a device-day; the budget is {budget:g}"
    if _at_least(count, NOISE * budget * days) < CHANCE:
        return Gate("noise", name, "failed", f"noise: {told}, and this is no chance")
    return Gate("noise", name, "passed", told)


def _at_least(count: int, expected: float) -> float:
    """Return how probable ``count`` or more are where ``expected`` come on average, independent of one another."""
    return 1.0 - sum(exp(n * log(expected) - expected - lgamma(n + 1)) for n in range(count))


# ---- fit to replace ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """One bundle in a comparison.

    ``figures`` by model (:mod:`.judging`); ``strange`` by sensor (:class:`.evaluate.Scored`); ``seen`` says which of
    the rows it has learnt from, empty for none, None where nobody knows; ``megabytes`` and ``row_ms`` are its cost.
    """

    figures: Mapping[str, Mapping[str, Any]]
    strange: Mapping[str, float]
    seen: str | None
    megabytes: float
    row_ms: float


def fit_to_replace(
    champion: Side, challenger: Side, differences: Mapping[str, Mapping[str, Interval]], budget: float, window_s: float
) -> list[Gate]:
    """Return every gate, the most telling first.

    ``differences``: by model the paired differences of :mod:`.bootstrap`, challenger minus champion; ``budget`` in
    false alarms a device-day; ``window_s`` the challenger's window in seconds.
    """
    gates = [_unseen(challenger), _range(champion, challenger)]
    gates += sound(challenger.figures, budget)
    for name, old in champion.figures.items():
        new = challenger.figures.get(name)
        if new is None:
            gates.append(Gate("models", name, "failed", f"the challenger has no {name}, the champion has one"))
            continue
        apart = differences[name]
        gates += [
            _events(name, new),
            _calibration(name, new, apart),
            _budget(name, old, new, apart, budget),
            _steady(name, new),
            _ranking(name, apart),
            *_recall(name, old, new, apart),
            _delay(name, old, new, window_s),
        ]
    for name in challenger.figures.keys() - champion.figures.keys():
        new = challenger.figures[name]
        gates += [
            _events(name, new),
            _calibration(name, new, {}),
            _budget(name, {}, new, {}, budget),
            _steady(name, new),
        ]
    gates.append(_cost(challenger))
    return gates


def decision(gates: Sequence[Gate]) -> tuple[bool, str]:
    """Return whether the challenger may replace the champion, and the sentence that says what decided."""
    refused = failed(gates)
    open_ = [gate for gate in gates if gate.status == "unknown"]
    if refused:
        first = refused[0]
        return False, f"the champion stays: {_of(first)}{first.says}"
    if open_:
        first = open_[0]
        return False, f"insufficient evidence, the champion stays: {_of(first)}{first.says}"
    return True, "the challenger may replace the champion: every gate passed"


def _of(gate: Gate) -> str:
    return f"{gate.model}: " if gate.model else ""


def _unseen(challenger: Side) -> Gate:
    if challenger.seen is None:
        return Gate(
            "unseen", "", "unknown",
            "nobody can say which rows the challenger has learnt from: keep the run.json of its training beside it",
        )  # fmt: skip
    if challenger.seen:
        return Gate(
            "unseen", "", "failed", f"the challenger has learnt from rows on which it is judged: {challenger.seen}"
        )
    return Gate("unseen", "", "passed", "the challenger has learnt from none of these rows")


def _range(champion: Side, challenger: Side) -> Gate:
    beyond = {sensor: share for sensor, share in challenger.strange.items() if share > STRANGE}
    new = {sensor: share for sensor, share in beyond.items() if champion.strange.get(sensor, 0.0) <= STRANGE}
    if new:
        told = ", ".join(f"{sensor} ({share:.0%})" for sensor, share in list(new.items())[:5])
        return Gate(
            "range", "", "failed",
            f"drifted: the challenger was trained on other data; normal values beyond its training range: {told}",
        )  # fmt: skip
    if beyond:
        return Gate("range", "", "passed", f"beyond the range of both: {', '.join(list(beyond)[:5])}")
    return Gate("range", "", "passed", "no sensor lies mostly outside what the challenger was trained on")


def _events(name: str, new: Mapping[str, Any]) -> Gate:
    if new["events"] < EVENTS:
        return Gate("events", name, "unknown", f"{new['events']} events to judge by; at least {EVENTS} are needed")
    return Gate("events", name, "passed", f"{new['events']} events")


def _ranking(name: str, apart: Mapping[str, Interval]) -> Gate:
    one = apart["average_precision_pooled"]
    if one.value is None or one.low is None or one.high is None:
        return Gate("ranking", name, "unknown", "too few devices or stretches with an event to say which ranks better")
    told = f"average precision {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
    if one.low > -RANKING:
        return Gate("ranking", name, "passed", told)
    return Gate(
        "ranking", name, "failed" if one.high < 0 else "unknown", told + ("" if one.high < 0 else ": may be worse")
    )


def _recall(name: str, old: Mapping[str, Any], new: Mapping[str, Any], apart: Mapping[str, Interval]) -> list[Gate]:
    before, after = old["event_recall"], new["event_recall"]
    if before is None or after is None:
        return [Gate("recall", name, "unknown", "no labelled event")]
    told = f"event recall {after:.3f}, the champion {before:.3f}"
    if after < before - RECALL:
        high = apart["event_recall"].high
        sure = high is not None and high < 0
        return [Gate("recall", name, "failed" if sure else "unknown", told)]
    slices = {line["slice"]: line for line in old.get("slices", []) if line["events"] >= SLICE_EVENTS}
    for line in new.get("slices", []):
        was = slices.get(line["slice"])
        if was and line["event_recall"] < was["event_recall"] - SLICE:
            now, then = line["event_recall"], was["event_recall"]
            return [Gate("recall", name, "failed", f"{line['slice']}: event recall {now:.3f}, the champion {then:.3f}")]
    return [Gate("recall", name, "passed", told)]


def _budget(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], apart: Mapping[str, Interval], budget: float
) -> Gate:
    rate, count = new["false_alarms_per_day"], new["false_alarms"]
    if rate is None:
        return Gate("budget", name, "unknown", "no normal time to count false alarms in")
    told = f"false alarms a device-day {rate:.3f}, budget {budget:g}"
    if rate > budget and count > 1:
        low = new["intervals"].get("false_alarms_per_day", [None])[0]
        sure = low is None or low > budget
        return Gate("budget", name, "failed" if sure else "unknown", f"{told}: over it" + ("" if sure else ", perhaps"))
    if not old or old["false_alarms_per_day"] is None:
        return Gate("budget", name, "passed", told)
    before = old["false_alarms_per_day"]
    told += f", the champion {before:.3f}"
    if rate > MORE_FALSE * before and count > old["false_alarms"] + 1:
        one = apart["false_alarms_per_day"]
        sure = one.low is not None and one.low > 0
        return Gate("budget", name, "failed" if sure else "unknown", f"{told}: more" + ("" if sure else ", perhaps"))
    return Gate("budget", name, "passed", told)


def _steady(name: str, new: Mapping[str, Any]) -> Gate:
    rates = [q for q in new["quarters"] if q["false_alarms_per_day"] is not None]
    mean = new["false_alarms_per_day"] or 0.0
    for quarter in rates:
        expected = 2 * mean * quarter["normal_days"]
        if quarter["false_alarms"] > expected + 3 * max(expected, 1.0) ** 0.5:
            return Gate(
                "steady", name, "failed",
                f"false alarms a device-day in quarter {quarter['quarter']} of the time "
                f"{quarter['false_alarms_per_day']:.3f}, {mean:.3f} in all",
            )  # fmt: skip
    return Gate("steady", name, "passed", "no quarter of the time has far more false alarms than the others")


def _delay(name: str, old: Mapping[str, Any], new: Mapping[str, Any], window_s: float) -> Gate:
    before, after = old["delay_p90_s"], new["delay_p90_s"]
    if before is None or after is None:
        both = before is None and after is None
        status: Status = "unknown" if both or after is None else "passed"
        return Gate(
            "delay", name, status, "no event found by " + ("the challenger" if after is None else "the champion")
        )
    told = f"90 % of found events had their alert within {after:.0f} s, the champion's {before:.0f} s"
    return Gate("delay", name, "passed" if after <= before + window_s else "failed", told)


def _calibration(name: str, new: Mapping[str, Any], apart: Mapping[str, Interval]) -> Gate:
    if new["kind"] != "classifier":
        return Gate("calibration", name, "passed", "a detector's score is no probability")
    if "brier" not in new:
        return Gate("calibration", name, "unknown", "no judged row")
    expected, observed = new["expected_positive"], new["observed_positive"]
    told = (
        f"calibration error {new['ece']:.3f}, by which {new['miscalibration']:.1%} of the base rate's Brier score is "
        f"lost, {expected:.0f} faulty rows expected and {observed} observed, "
        f"Brier {new['brier']:.4f}"
    )
    worse = apart.get("brier", Interval(None))
    wrong = (
        new["ece"] > ECE
        or new["miscalibration"] > MISCALIBRATION
        or not observed / EXPECTED <= expected <= max(observed * EXPECTED, 1.0)
    )
    wrong = wrong or new["brier"] > new["random"]["brier"] or (worse.low is not None and worse.low > 0)
    return Gate("calibration", name, "failed" if wrong else "passed", ("miscalibrated: " if wrong else "") + told)


def _cost(challenger: Side) -> Gate:
    told = f"graphs of {challenger.megabytes:.2f} MB, {challenger.row_ms:.1f} ms a row"
    over = challenger.megabytes > MEGABYTES or challenger.row_ms > ROW_MS
    return Gate("cost", "", "failed" if over else "passed", told)
