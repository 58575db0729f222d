"""A decision is made again bit for bit from what travels with its alert, however the log was cut; else it is told."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fieldwatch_agent.__main__ import main
from fieldwatch_agent.score.decide import EVIDENCE_ROWS, Decider
from fieldwatch_agent.score.repeat import repeat
from fieldwatch_agent.send.journal import Draft
from fieldwatch_agent.send.message import Message
from fieldwatch_agent.send.packer import BARREN, Packer
from fieldwatch_contract import clock, dossier
from fieldwatch_contract.alerts import AlertRule, RuleState, Said
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.dossier import Decision, Dossier, DossierError
from fieldwatch_contract.events import AlertData
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.level import LevelRule
from fieldwatch_contract.scoring import Scorer

from tests.bundles import make_bundle
from tests.conftest import ROOT
from tests.unit.agent.test_commands import run

DEVICE = "press-0001"
BEGIN = clock.parse_iso("2026-01-17T00:00:00Z")
LEVEL = LevelRule(ladder=tuple(float(9 * 1.1**step) for step in range(-10, 30)), start=10, rise=3, hold=40, fall=20)
BUNDLE = make_bundle(4, lookback=5, classifier=True, level=LEVEL, rule=AlertRule(persistence=3, resolve_after=5))


def transitions(cut: int, said: tuple[Said, ...] = (), rows: int = 520) -> list[AlertData]:
    """The alerts of a device whose faults come and go, grow, and repeat one that was called false."""
    rng = np.random.default_rng(5)
    ts = np.arange(rows) * clock.MINUTE + BEGIN
    values = np.round(rng.normal(10, 1, (rows, 4)), 3)
    for start in range(100, rows - 100, 100):
        values[start : start + 30, start // 100 % 2] += 30
        values[start + 20 : start + 30, start // 100 % 2] += 40
    values[rng.random(values.shape) < 0.02] = np.nan
    kept = np.ones(rows, bool)
    kept[::37] = False
    ts, values = ts[kept], values[kept]
    bundle = read_bundle(BUNDLE)
    seen = max(bundle.manifest.window, EVIDENCE_ROWS)
    grid, scorer = Grid(bundle.manifest.period, seen, 4), Scorer(bundle)
    decider = Decider(DEVICE, bundle, "on-alert")
    states: dict[str, RuleState] = {}
    drafts: list[Draft] = []
    for start in range(0, len(ts), cut):
        block = grid.place(ts[start : start + cut], values[start : start + cut])
        made = decider.decide(block, scorer.score(block.rows[seen - bundle.manifest.window :]), states, said)
        states, drafts = dict(made.alerts), drafts + made.drafts
    return [AlertData.model_validate_json(draft.data) for draft in drafts if draft.event == "alert"]


def decision_of(alert: AlertData) -> Decision:
    assert alert.evidence is not None
    return dossier.unpack(alert.evidence.exact)


@pytest.fixture(scope="module")
def alerts() -> list[AlertData]:
    """Every transition, with an alert that is like a dismissed one: one verdict holds from a row on."""
    quiet = transitions(1000)
    ids = [one.alert_id for one in quiet if one.model == "detector" and one.transition == "opened"]
    at = BEGIN + 190 * clock.MINUTE
    said = (Said(ids[0], "detector", "false", at), Said(ids[1], "detector", "real", at + 131 * clock.MINUTE))
    found = transitions(1000, said)
    assert {one.transition for one in found} == {"opened", "updated", "resolved"}
    assert {one.model for one in found} == {"detector", "classifier"}
    assert any(one.like for one in found)
    assert [(one.alert_id, one.ts, decision_of(one)) for one in transitions(1, said)] == [
        (one.alert_id, one.ts, decision_of(one)) for one in found
    ], "what an alert was made of depends on how the log was cut"
    return found


def test_every_transition_is_repeated_to_the_bit(alerts: list[AlertData]) -> None:
    bundle = read_bundle(BUNDLE)
    for alert in alerts:
        decision = decision_of(alert)
        assert decision.alert == alert.model_copy(update={"evidence": None})
        assert repeat(DEVICE, decision, bundle).differences == ()


def test_one_other_bit_is_told(alerts: list[AlertData]) -> None:
    bundle = read_bundle(BUNDLE)
    opened = decision_of(next(one for one in alerts if one.transition == "opened" and one.model == "detector"))
    rows = opened.rows
    worst = int(np.nanargmax(rows[-1]))
    value = float(rows[-1, worst])
    window = [list(row) for row in opened.window]
    for _ in range(2**20):  # a score is single precision: not every bit of a reading reaches it
        value = float(np.nextafter(value, np.inf)) if value != rows[-1, worst] else value * (1 + 2**-22)
        window[-1][worst] = value
        done = repeat(DEVICE, opened.model_copy(update={"window": window}), bundle)
        if not done.equal:
            break
    assert any(text.startswith("score: ") for text in done.differences)
    higher = opened.alert.model_copy(update={"score": float(np.nextafter(np.float32(opened.alert.score), np.inf))})
    (told,) = repeat(DEVICE, opened.model_copy(update={"alert": higher}), bundle).differences
    assert told.startswith("score: ") and "as little as two kinds of machine may differ" in told
    calm = [[10.0] * 4 for _ in window]
    assert "none now" in repeat(DEVICE, opened.model_copy(update={"window": calm}), bundle).differences[0]


def test_what_does_not_fit_the_bundle_is_told(alerts: list[AlertData]) -> None:
    bundle, decision = read_bundle(BUNDLE), decision_of(alerts[0])
    for wrong in ({"window": decision.window[1:]}, {"sensors": ["a", "b", "c", "d"]}, {"before": {"alert": 7}}):
        with pytest.raises(DossierError):
            repeat(DEVICE, decision.model_copy(update=wrong), bundle)


def test_an_alert_for_a_small_broker_leaves_first_what_it_was_made_of(alerts: list[AlertData]) -> None:
    message = Message(1, "alert", "2026-01-17T00:00:00Z", alerts[0].model_dump_json().encode())
    packer = Packer(DEVICE)

    def sent() -> AlertData:
        parcel = packer.pack("ab", [message])
        assert parcel is not None and parcel.channel == "evt/alert"
        return AlertData.model_validate(json.loads(parcel.payload)["data"])

    assert sent() == alerts[0]
    large = alerts[0].model_copy(deep=True)
    assert large.evidence is not None
    large.evidence.exact = base64.b64encode(np.random.default_rng(1).bytes(30_000)).decode()
    message = message._replace(data=large.model_dump_json().encode())
    packer.limit = 20_000
    large.evidence.exact = ""
    assert sent() == large
    for _ in range(BARREN):
        packer.slow_start(barren=True)
    assert sent().evidence is None, "no connection lasts: as small as possible"


# ---- as a person runs it --------------------------------------------------------------------------------------------


@pytest.fixture
def taken(tmp_path: Path, alerts: list[AlertData]) -> Path:
    """A dossier of one alert's whole life, with its bundle beside it."""
    life = [decision_of(one) for one in alerts if one.alert_id == alerts[0].alert_id]
    assert len(life) >= 2
    path = tmp_path / "decision.json"
    path.write_bytes(
        dossier.write(Dossier(made_at=clock.iso(BEGIN), device=DEVICE, alert_id=alerts[0].alert_id, decisions=life))[0]
    )
    (tmp_path / "any-name.zip").write_bytes(BUNDLE)
    return path


def test_replay_repeats_a_dossier(taken: Path, alerts: list[AlertData]) -> None:
    done = run("replay", taken)
    assert done.returncode == 0, done.stderr
    assert "decisions are equal, bit for bit" in done.stderr
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["equal"], first["computed"]["score"]) == (True, alerts[0].score)


def test_a_dossier_of_the_first_version_that_wrote_them_is_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its readings are quarters, its scores sums of squares of them: exact, so the same on every kind of machine."""
    for path in (ROOT / "tests" / "data" / "dossier-58c7124").iterdir():
        shutil.copy(path, tmp_path)
    file = tmp_path / "alert.dossier.json"
    assert main(["replay", str(file)]) == 0
    told = capsys.readouterr()
    assert "3 of 3 decisions are equal, bit for bit" in told.err
    made = [json.loads(line) for line in told.out.splitlines()]
    assert [(one["computed"]["transition"], one["computed"]["score"]) for one in made] == [
        ("opened", 253.02734375), ("updated", 763.70703125), ("resolved", 1.2421875)
    ]  # fmt: skip
    assert made[0]["computed"]["like"], "it resembled an alert that was called false"
    assert [answer.who for answer in dossier.read(file.read_bytes()).answers] == ["anna@lab.example"]
    file.write_bytes(changed(file.read_bytes(), False))
    assert main(["replay", str(file)]) == 3


def changed(content: bytes, fitting: bool) -> bytes:
    """The dossier with another score and reading, and with the digest that fits or not."""
    value = json.loads(content)
    value["decisions"][0]["alert"]["score"] *= 1.5
    if fitting:
        value["sha256"] = dossier._digest(value)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("make", "more", "code", "says"),
    [
        (lambda data: data, ["--bundle", "away/bundle.zip"], 0, "equal, bit for bit"),
        (lambda data: data, ["--bundle", "away"], 0, "equal, bit for bit"),
        (lambda data: data, [], 2, "give it with --bundle FILE"),
        (lambda data: data, ["--bundle", "other.zip"], 2, "expected"),
        (lambda data: data, ["--bundle", "nowhere.zip"], 1, "nowhere.zip"),
        (lambda data: changed(data, False), ["--bundle", "away"], 3, "changed after it was written"),
        (lambda data: changed(data, True), ["--bundle", "away"], 3, "score: "),
        (lambda data: data[:3000], ["--bundle", "away"], 1, "damaged"),
        (lambda data: data, ["readings.csv", "--bundle", "away"], 2, "alone"),
        (lambda data: data, ["--html", "page.html"], 2, "alone"),
    ],
)  # fmt: skip
def test_replay_tells_what_is_wrong_with_a_dossier(
    taken: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[bytes], bytes],
    more: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(taken.parent)
    Path("away").mkdir()
    Path("any-name.zip").rename("away/bundle.zip")
    Path("other.zip").write_bytes(make_bundle(4, "v9"))
    taken.write_bytes(make(taken.read_bytes()))
    assert main(["replay", str(taken), *more]) == code
    assert says in capsys.readouterr().err
