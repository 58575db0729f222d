"""From money to an alert budget: how many false alarms a device and day are worth having?

    python -m bench.budget                                   # the worked example of docs/poc.md
    python -m bench.budget --failures 1 --cost 20000 --planned 4000 --false-alarm 60 --curve .1:.45,.25:.63,.5:.72

A device fails ``--failures`` times a year. A failure nobody saw coming costs ``--cost`` (downtime, lost samples, an
express repair), one that is announced in time ``--planned``. Of the events found at a budget, a share ``--in-time`` is
announced early enough to act (its lead time is at least what a repair needs: take it from the delays of ``evaluate``
and the length of your faults). Looking at a false alarm costs ``--false-alarm``. A budget b (false alarms a device-day)
at which a share r(b) of events is found is worth, a device-year,

    failures x r(b) x in_time x (cost - planned)  -  365 x b x false_alarm

``--curve`` holds points b:r of the trade that ``fieldwatch-trainer backtest`` prints. The best point is marked; below
stands the budget at which false alarms would eat all that is saved: no budget above it can be right.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

DAYS = 365
CURVE = ((0.05, 0.30), (0.1, 0.45), (0.25, 0.63), (0.5, 0.72), (1.0, 0.80), (2.0, 0.84))
"""An example of a trade, not a measurement."""


@dataclass(frozen=True)
class Costs:
    """A device's year in money; ``failures`` a year, ``in_time`` a share of the found ones, the rest each time."""

    failures: float
    cost: float
    planned: float
    false_alarm: float
    in_time: float

    def saved(self, recall: float) -> float:
        """Return what announced failures save a device-year."""
        return self.failures * recall * self.in_time * (self.cost - self.planned)

    def worth(self, budget: float, recall: float) -> float:
        """Return what a budget is worth, a device-year."""
        return self.saved(recall) - DAYS * budget * self.false_alarm

    def most(self, recall: float) -> float:
        """Return the budget at which false alarms eat all that is saved."""
        return self.saved(recall) / (DAYS * self.false_alarm)


def points(text: str) -> tuple[tuple[float, float], ...]:
    """Read ``.1:.45,.25:.63``. Raises :class:`argparse.ArgumentTypeError` for anything else."""
    try:
        found = tuple((float(b), float(r)) for b, r in (part.split(":") for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be budget:recall pairs such as .1:.45,.25:.63") from None
    if not all(b > 0 and 0 <= r <= 1 for b, r in found):
        raise argparse.ArgumentTypeError("budgets must be above 0, recalls between 0 and 1")
    return found


def main(argv: list[str] | None = None) -> int:
    """Print what each budget is worth."""
    about = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(description=about, epilog="example: python -m bench.budget --cost 20000")
    parser.add_argument("--failures", type=float, default=0.5, help="a device and year")
    parser.add_argument("--cost", type=float, default=12_000, help="of a failure that nobody saw coming")
    parser.add_argument("--planned", type=float, default=3_000, help="of one that was announced in time")
    parser.add_argument("--false-alarm", type=float, default=25, help="of looking at one: a quarter of an hour, say")
    parser.add_argument("--in-time", type=float, default=0.7, help="share of found failures with lead time enough")
    parser.add_argument("--curve", type=points, default=CURVE, metavar="B:R,…", help="trade of budget and recall")
    args = parser.parse_args(argv)
    costs = Costs(args.failures, args.cost, args.planned, args.false_alarm, args.in_time)
    best = max(args.curve, key=lambda point: costs.worth(*point))
    print("false alarms a device-day   event recall   saved   false alarms cost    worth, a device-year")
    for budget, recall in args.curve:
        mark = "  <- best" if (budget, recall) == best else ""
        spent, worth = DAYS * budget * costs.false_alarm, costs.worth(budget, recall)
        print(f"{budget:>25g}{recall:>15.0%}{costs.saved(recall):>8,.0f}{spent:>20,.0f}{worth:>25,.0f}{mark}")
    print(f"above {costs.most(best[1]):.2f} false alarms a device-day nothing is left, at a recall of {best[1]:.0%}")
    if costs.worth(*best) <= 0:
        print("no budget of this trade pays: a better model, cheaper false alarms, or no alerts at all")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
