"""``report.html``: a run told to people, from ``run.json`` alone; ``model_card.md`` (:mod:`.card`) beside it.

The page is one file with nothing outside it: no script, no font, no picture from elsewhere, and a policy in its head
that forbids them. The same run gives the same bytes. A part of ``run`` that is absent leaves its section out, so a
plain table, a detector alone and an old run are all told with what they have.

``run`` (every key optional; times RFC 3339 unless µs are named):

=====================  =========================================================================================
``name``, ``version``, ``sha256``, ``device_type``, ``period_s``, ``window``, ``min_rows``, ``timed``, ``sensors``
                       as in the manifest; ``trained_until``
``data``               ``lake`` or ``file``, ``devices`` (count), ``readings``, ``device_days``, ``first``, ``last``,
                       ``missing_share``, ``gaps``, ``labels`` ``{kind: count}``, ``fault_share``, ``anomaly_share``
``models``             ``{name: {kind, input, lookback, bytes, threshold, alert, range, facts}}``; ``facts`` are the
                       plugin's (``importance`` ``{sensor: share}``, ``calibration``, ``notes``, …)
``budget``             ``episodes_per_device_day``
``calibration``        by model ``backtest``: figures ``unanswered`` and ``answered``
``evaluation``         see below
``gate``               what :func:`.gate.parity` returned
``table``              of a plain table: ``label``, ``rows``, ``folds`` ``[{fold, rows, log_loss, accuracy, …}]``,
                       ``mean`` and ``sd`` ``{figure: value}``
``notes``, ``advice``  sentences; the report begins with the advice
``gates``              ``[{id, status, says}]``
=====================  =========================================================================================

``evaluation``: ``scope`` (which rows), ``devices``, ``rows``, ``device_days``; ``models`` ``{name: figures}``;
``timelines``: what :func:`.outcomes.trace` returns, with ``device``, ``model``, ``missed``, ``false``. Of a model's
figures ``average_precision``, ``brier``, … are numbers; ``random``, ``variance`` and ``everything`` hold the same names
for scores that know nothing; ``intervals`` ``{name: [low, high]}``, ``curve`` ``{recall: […], precision: […]}``,
``reliability``, ``quarters``, ``missed`` and ``false`` (:func:`.outcomes.listed`), ``devices`` ``[{device, …}]``,
``notes``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from fieldwatch_contract.told import every

from fieldwatch_trainer import cases, figures
from fieldwatch_trainer.advice import advice
from fieldwatch_trainer.card import (
    KINDS,
    LABELS,
    LIMITS,
    READING,
    card,
    heading,
    number,
    plain,
    share,
    table_of,
)  # fmt: skip
from fieldwatch_trainer.checks import told

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1f2933; --soft: #56657a; --line: #dde3e9; --card: #fff; --page: #f4f6f8; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem; }
header { padding: .5rem 0 .25rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.1rem 0 .4rem; }
p, ul { margin: .4rem 0; max-width: 70ch; }
ul { padding-left: 1.2rem; }
.soft { color: var(--soft); }
.small { font-size: .875rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem;
  margin: 1rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .6rem; margin: .4rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; line-height: 1.35; display: block; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem;
  align-items: start; margin: .6rem 0; }
figure { margin: 0; max-width: 34rem; }
figcaption { color: var(--soft); margin: .1rem 0 .4rem; overflow-wrap: anywhere; }
figure svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
.records td, .records th { white-space: nowrap; }
details { margin: .8rem 0 0; }
summary { cursor: pointer; font-weight: 600; padding: .35rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.n, th.n { text-align: right; }
td.n { white-space: nowrap; }
td:first-child { min-width: 9rem; }
.good { color: #1c7c3c; } .bad { color: #b32222; } .warn { color: #8a5a00; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 .8em; }
code { font-size: .85em; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  main { padding: .6rem; } section { padding: .8rem; } td, th { padding-right: .7rem; }
  .findings th { display: none; } .findings td { display: block; border: 0; padding: .1rem 0; }
  .findings tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .findings td:nth-child(3)::before { content: "to do: "; } .findings td:nth-child(4)::before { content: "else: "; }
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ee; --soft: #9fadbd; --line: #35404d; --card: #1b232c; --page: #12181f; }
  figure svg { filter: invert(.88) hue-rotate(180deg); }
  .good { color: #6fcf8f; } .bad { color: #ff8b85; } .warn { color: #e8b55a; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } }
</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

MOST_DEVICES = 25
MOST_SENSORS = 15


def write(run_dir: Path, run: Mapping[str, Any]) -> None:
    """Write ``report.html`` and ``model_card.md`` into ``run_dir``."""
    (run_dir / "report.html").write_text(page(heading(run), run_body(run)), encoding="utf-8", newline="\n")
    (run_dir / "model_card.md").write_text(card(run), encoding="utf-8", newline="\n")


def write_evaluation(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Write an evaluation alone as a page."""
    title = f"Evaluation of {evaluation.get('bundle', 'a bundle')}"
    body = [f"<header><h1>{escape(title)}</h1></header>", _tiles({"evaluation": evaluation})]
    about = {"evaluation": evaluation, "gates": evaluation.get("gates")}
    body += [_section("What to do", _list(advice(about))), *_backtest(evaluation, {}), *_evaluation(evaluation)]
    body.append(_section("How to read the score", _reading(evaluation.get("models", {}))))
    path.write_text(page(title, "\n".join(body)), encoding="utf-8", newline="\n")


def write_check(path: Path, result: Mapping[str, Any]) -> None:
    """Write a data report (:mod:`.check`) as a page."""
    body = [f"<header><h1>Data report</h1><p class='soft'>{escape(str(result.get('lake', '')))}</p></header>"]
    for one in result.get("types", []):
        body.append(_section(str(one["device_type"]), _check(one)))
    path.write_text(page("Data report", "\n".join(body)), encoding="utf-8", newline="\n")


def page(title: str, body: str) -> str:
    """Return a whole page."""
    return PAGE.substitute(title=escape(title), body=body)


def run_body(run: Mapping[str, Any]) -> str:
    """Return the report's body: the sections for which ``run`` has something."""
    evaluation = run.get("evaluation") or {}
    figures_of = evaluation.get("models") or {}
    parts = [_header(run), _tiles(run)]
    parts.append(_section("What to do", _list(run.get("advice") or [])))
    parts.extend(_backtest(evaluation, run.get("calibration") or {}))
    parts.extend(_evaluation(evaluation))
    if run.get("notes"):
        parts.append(_section("Notes", _list(run["notes"])))
    parts.append(_section("What was trained", _models(run)))
    parts.append(_section("Data", _data(run.get("data") or {})))
    if run.get("table"):
        parts.append(_section("Cross-validation of the table", _folds(run["table"])))
    parts.append(_section("Thresholds and false-alarm budget", _thresholds(run, figures_of)))
    for name, model in (run.get("models") or {}).items():
        parts.append(_section(f"Inside the {name}", _inside(name, model.get("facts") or {})))
    parts.append(_section("Gates", _gates(run.get("gates") or [])))
    parts.append(_section("Parity gate", _gate(run.get("gate") or {})))
    parts.append(_section("How to read the score", _reading(run.get("models") or {})))
    parts.append(_section("Intended use and limits", _list(LIMITS)))
    return "\n".join(part for part in parts if part)


# -- sections ---------------------------------------------------------------------------------------------------------


def _header(run: Mapping[str, Any]) -> str:
    facts = []
    if run.get("device_type"):
        facts.append(f"device type <b>{escape(str(run['device_type']))}</b>")
    if run.get("trained_until"):
        facts.append(f"trained on rows before {escape(str(run['trained_until']))}")
    if run.get("sensors"):
        facts.append(f"{len(run['sensors'])} sensors")
    if run.get("timed", True) and run.get("period_s"):
        facts.append(f"a row every {every(run['period_s'])}")
    if run.get("window", 1) > 1:
        facts.append(f"window of {run['window']} rows")
    digest = f"<p class='soft small'>sha256 <code>{escape(str(run['sha256']))}</code></p>" if run.get("sha256") else ""
    return f"<header><h1>{escape(heading(run))}</h1><p class='soft'>{' · '.join(facts)}</p>{digest}</header>"


def _tiles(run: Mapping[str, Any]) -> str:
    """Return the few figures that most people come for, a row a model."""
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    for name, model in ((run.get("evaluation") or {}).get("models") or {}).items():
        tiles: list[tuple[str, str]] = []
        chance = (model.get("random") or {}).get("average_precision")
        beside = f"; a random score gets {number(chance)}" if chance is not None else ""
        if model.get("event_recall") is not None:
            events = f", of {model['events']} labelled events" if model.get("events") else ""
            tiles.append((f"{model['event_recall']:.0%}", f"event recall{events}"))
        if model.get("alert_precision") is not None:
            tiles.append((f"{model['alert_precision']:.0%}", "alert precision: alerts that met an event"))
        if model.get("false_alarms_per_day") is not None:
            tiles.append((number(model["false_alarms_per_day"]), f"false alarms a device-day{_beside(run, name)}"))
        if model.get("average_precision") is not None and not _all_labelled(model):
            tiles.append((number(model["average_precision"]), f"average precision{beside}"))
        groups.append((name, tiles))
    mean = (run.get("table") or {}).get("mean") or {}
    others = [
        (number(mean[key]), f"{LABELS[key]}, mean of the folds")
        for key in ("recall", "precision", "log_loss", "ece")
        if key in mean
    ]
    if run.get("gate"):
        others.append(("passed" if run["gate"].get("passed") else "FAILED", "parity gate"))
    groups.append(("", others))
    told = ""
    for name, tiles in groups:
        cells = "".join(f"<div class='tile'><b>{escape(v)}</b><span>{escape(t)}</span></div>" for v, t in tiles)
        if cells:
            told += (f"<h3>{escape(name)}</h3>" if name else "") + f"<div class='tiles'>{cells}</div>"
    return told


def _beside(run: Mapping[str, Any], name: str) -> str:
    """Return what the false alarms are where people answer, and the budget."""
    backtest = ((run.get("calibration") or {}).get(name) or {}).get("backtest") or {}
    answered = (backtest.get("answered") or {}).get("false_alarms_per_day")
    budget = (run.get("budget") or {}).get("episodes_per_device_day")
    told = "" if answered is None else f"; {number(answered)} where people answer"
    return told + (f"; budget {number(budget)}" if budget and told else "")


def _models(run: Mapping[str, Any]) -> str:
    rows = []
    for name, model in (run.get("models") or {}).items():
        facts = model.get("facts") or {}
        made = facts.get("library") or facts.get("method") or ""
        size = f"{model['bytes'] / 1024:.0f} kB" if model.get("bytes") else ""
        reach = model.get("lookback", 1) if model.get("input") == "rows" else facts.get("window", run.get("window", ""))
        rows.append([name, model.get("kind", ""), made, model.get("input", ""), str(reach), size])
    return _table(["model", "kind", "made with", "takes", "looks back (rows)", "graph"], rows, numeric={4, 5})


def _data(data: Mapping[str, Any]) -> str:
    rows: list[Sequence[Any]] = []

    def add(label: str, key: str, show: Callable[[Any], str] = str) -> None:
        if data.get(key) not in (None, "", {}):
            rows.append([label, show(data[key])])

    add("lake", "lake")
    add("file", "file")
    add("devices", "devices", lambda v: str(len(v)) if isinstance(v, list | dict) else str(v))
    add("readings", "readings", lambda v: f"{v:,}")
    add("rows", "rows", lambda v: f"{v:,}")
    add("device-days", "device_days", number)
    add("from", "first")
    add("to", "last")
    add("periods without a reading", "missing_share", share)
    add("gaps", "gaps", lambda v: f"{v:,}")
    add("labels", "labels", lambda v: ", ".join(f"{count} {kind}" for kind, count in sorted(v.items())))
    add("readings in a fault", "fault_share", share)
    add("readings in an anomaly", "anomaly_share", share)
    return _table([], rows)


def _backtest(evaluation: Mapping[str, Any], calibration: Mapping[str, Any]) -> list[str]:
    """Return a section a model: its misses, its false alarms, all of its time."""
    timelines = evaluation.get("timelines") or []
    return [
        _section(
            f"What would the {name} have done?",
            cases.section(
                name,
                model,
                [one for one in timelines if one.get("model", name) == name],
                f"b{place}",
                (calibration.get(name) or {}).get("backtest") or {},
            ),
        )
        for place, (name, model) in enumerate((evaluation.get("models") or {}).items())
    ]


def _evaluation(evaluation: Mapping[str, Any]) -> list[str]:
    parts = []
    models = evaluation.get("models") or {}
    scope = []
    if evaluation.get("scope"):
        scope.append(escape(str(evaluation["scope"])))
    scope.extend(
        f"{number(evaluation[key])} {word}"
        for key, word in (("devices", "devices"), ("rows", "rows"), ("device_days", "device-days"))
        if isinstance(evaluation.get(key), int | float)
    )
    for place, (name, model) in enumerate(models.items()):
        body = f"<p class='soft'>{' · '.join(scope)}</p>" if scope else ""
        pictures = []
        curve = model.get("curve") or {}
        if _all_labelled(model):
            body += (
                "<p class='warn'>Every row here lies in a label: precision, recall and false alarms say nothing.</p>"
            )
        elif curve.get("recall"):
            base = (model.get("random") or {}).get("average_precision", model.get("positive_share") or 0.0)
            pictures.append(figures.precision_recall(f"pr{place}", curve["recall"], curve["precision"], base))
        if model.get("reliability"):
            pictures.append(figures.reliability(f"cal{place}", model["reliability"]))
        body += _figures_table(model) + _pictures(pictures)
        body += _list(model.get("notes") or [])
        devices = model.get("devices") or []
        if isinstance(devices, list) and devices and isinstance(devices[0], dict):
            shown = _records(devices[:MOST_DEVICES])
            if len(devices) > MOST_DEVICES:
                shown += f"<p class='soft small'>… and {len(devices) - MOST_DEVICES} more in the JSON</p>"
            parted = len({one["device"] for one in devices}) < len(devices)
            body += _folded(f"By device{' and held-back part' if parted else ''} ({len(devices)})", shown)
        parts.append(_section(f"How good is the {name}?", body))
    return parts


def _all_labelled(model: Mapping[str, Any]) -> bool:
    return float(model.get("positive_share") or 0.0) > 0.999


def _figures_table(model: Mapping[str, Any]) -> str:
    """Return the numbers of one model, beside those of scores that know nothing."""
    head, rows = table_of(model)
    return _table(["", *head], rows, numeric=range(1, len(head) + 1))


def _folds(table: Mapping[str, Any]) -> str:
    folds = [dict(fold) for fold in table.get("folds") or []]
    text = f"<p>Label column <b>{escape(str(table['label']))}</b>. " if table.get("label") else "<p>"
    text += "Every row is judged by a model that was fitted without it.</p>"
    for name, key in (("all rows", "mean"), ("sd of the folds", "sd"), ("always the base rate", "random")):
        if table.get(key):
            folds.append({"fold": name} | dict(table[key]))
    return text + _records(folds)


def _thresholds(run: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    items = []
    for name, model in (run.get("models") or {}).items():
        if model.get("threshold") is None:
            continue
        item = f"<b>{escape(name)}</b>: threshold <b>{number(model['threshold'])}</b>."
        alert = model.get("alert") or {}
        if {"persistence", "resolve_after", "clear_ratio"} <= set(alert):
            item += (
                f" An alert opens after {alert['persistence']} rows in a row at or above it and ends after "
                f"{alert['resolve_after']} rows below {alert['clear_ratio']:.0%} of it."
            )
        got = (measured.get(name) or {}).get("false_alarms_per_day")
        if got is not None:
            item += f" Measured, with nobody who answers: {number(got)} false alarms per device-day."
        if within := model.get("range"):
            item += (
                f" Speaks only while the {escape(str(within['model']))}'s score is at most {number(within['limit'])}; "
                "beyond it the verdict is unknown."
            )
        items.append(f"<li>{item}</li>")
    if not items:
        return ""
    budget = run.get("budget") or {}
    text = ""
    if budget.get("episodes_per_device_day") is not None:
        text = (
            f"<p>Budget: at most <b>{number(budget['episodes_per_device_day'])}</b> false alarms per device-day, "
            "counted as the alerts that people would get, on time that the models had not seen; one that stays open "
            "counts once more every eight hours. The threshold was set on that time, so it keeps the budget there. "
            "What an alert needs begins there and moves: where nobody answers, towards alerts at twice the budget, so "
            "that faults are still heard; where people answer, towards less than half of it that are false.</p>"
        )
    return f"{text}<ul>{''.join(items)}</ul>"


def _inside(name: str, facts: Mapping[str, Any]) -> str:
    body = ""
    calibration = facts.get("calibration")
    pictures = []
    if isinstance(calibration, Mapping):
        body += (
            f"<p>Calibrated on rows held back in {calibration.get('folds', '?')} groups by "
            f"{escape(str(calibration.get('grouped_by', 'device')))}: average precision there "
            f"{number(calibration.get('average_precision'))}, Brier score {number(calibration.get('brier'))}.</p>"
        )
        if calibration.get("reliability"):
            pictures.append(figures.reliability(f"inside-{name}-cal", calibration["reliability"]))
    importance = facts.get("importance") or {}
    top = sorted(((key, value) for key, value in importance.items() if value > 0), key=lambda item: (-item[1], item[0]))
    if top:
        title = f"Sensors that the {name} uses most" if len(top) > MOST_SENSORS else f"Sensors that the {name} uses"
        pictures.append(figures.bars(f"inside-{name}-top", f"{title} (share of gain)", top[:MOST_SENSORS]))
    body += _pictures(pictures)
    body += _list(facts.get("notes") or [])
    rows = [[k.replace("_", " "), plain(v)] for k, v in facts.items() if isinstance(v, str | int | float)]
    rows += [
        [f"{k}: {inner}".replace("_", " "), plain(v)]
        for k, part in facts.items()
        if isinstance(part, Mapping) and k not in ("importance", "calibration") and len(part) <= 12
        for inner, v in part.items()
        if isinstance(v, str | int | float)
    ]
    return body + _folded("All facts", _table([], rows, numeric={1}))


def _gates(gates: Sequence[Mapping[str, str]]) -> str:
    return _table(["gate", "", "what it saw"], [[one["id"], one["status"], one["says"]] for one in gates])


def _gate(gate: Mapping[str, Any]) -> str:
    if not gate:
        return ""
    text = (
        f"<p>The bundle was run with {escape(str(gate.get('runtime', 'the runtime')))} as a device runs it and "
        f"compared with the training library. Allowed: a difference of {gate.get('tolerance', 1e-5):g} and no changed "
        "decision.</p>"
    )
    rows = [
        [
            name,
            "passed" if one.get("passed", gate.get("passed")) else "FAILED",
            f"{one.get('rows', 0):,}",
            f"{one.get('blanked_rows', 0):,}",
            f"{one.get('golden_rows', 0):,}",
            f"{one.get('max_difference', 0.0):.1e}",
            str(one.get("flips", 0)),
        ]
        for name, one in (gate.get("models") or {}).items()
    ]
    head = ["model", "", "rows", "with values blanked", "golden", "largest difference", "decisions changed"]
    return text + _table(head, rows, numeric={2, 3, 4, 5, 6})


def _reading(models: Mapping[str, Any]) -> str:
    kinds = {str(model.get("kind") or name) for name, model in models.items()}
    text = re.sub(r"\*(\w+)\*", r"<b>\1</b>", READING)
    return f"<p>{text}</p>" + "".join(f"<p>{escape(text)}</p>" for kind, text in KINDS.items() if kind in kinds)


def _check(one: Mapping[str, Any]) -> str:
    good = "<b class='good'>usable</b>" if one["usable"] else "<b class='bad'>not usable</b>"
    body = f"<p>{good} for training: {len(one['devices'])} devices, {len(one['sensors'])} sensors</p>"
    rows = "".join(
        f"<tr><td class='{'bad' if f['severity'] == 'stops' and not f['accepted'] else 'soft'}'>{escape(f['kind'])}"
        f"{' (accepted)' if f['accepted'] else ''}</td><td>{escape(told.place(f) + f['what'])}</td>"
        f"<td>{escape(f['remedy'])}</td><td>{escape(f['consequence'])}</td></tr>"
        for f in one["findings"]
    )
    if rows:
        rows = "<tr><th>finding</th><th>where, when, what</th><th>what to do</th><th>or else</th></tr>" + rows
    if rows:
        body += f"<div class='scroll'><table class='findings'>{rows}</table></div>"
    for title, key in (("Devices", "devices"), ("Sensors", "sensors")):
        if one[key]:
            body += _folded(f"{title} ({len(one[key])})", _records(one[key]))
    return body


# -- pieces -----------------------------------------------------------------------------------------------------------


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _folded(title: str, body: str) -> str:
    """Return what few people want to see, behind its title."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def _pictures(svgs: Iterable[str]) -> str:
    """Return pictures side by side where there is room."""
    inner = "".join(f"<figure>{svg}</figure>" for svg in svgs)
    return f"<div class='pictures'>{inner}</div>" if inner else ""


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Iterable[int] = ()) -> str:
    """Return a table that scrolls sideways on a narrow screen; columns that are empty everywhere are left out."""
    if not rows:
        return ""
    kept = [column for column in range(len(rows[0])) if any(str(row[column]) != "" for row in rows)]
    right = set(numeric)

    def line(tag: str, cells: Sequence[Any]) -> str:
        return "".join(
            f"<{tag}{' class=n' if column in right else ''}>{escape(str(cells[column]))}</{tag}>" for column in kept
        )

    top = f"<thead><tr>{line('th', head)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<div class='scroll'><table>{top}<tbody>{body}</tbody></table></div>"


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records of plain values as a table, a column a key."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    keys = [key for key in keys if not any(isinstance(record.get(key), dict | list) for record in records)]
    rows = [[plain(record.get(key)) for key in keys] for record in records]
    numeric = {
        place
        for place, key in enumerate(keys)
        if all(isinstance(record.get(key), int | float | None) for record in records[:3])
    }
    table = _table([key.replace("_", " ") for key in keys], rows, numeric)
    return table.replace("class='scroll'", "class='scroll records'", 1)
