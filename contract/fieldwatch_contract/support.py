"""Until when this release gets security mends: the one place that says so, for agent, cloud and documents.

:data:`UNTIL` is set when a version is released, by the policy in ``docs/versioning.md``, and never to an earlier day.
The day itself is still supported; days are those of UTC.
"""

from __future__ import annotations

from datetime import date, timedelta

UNTIL = date(2027, 11, 30)
SOON = timedelta(days=90)
"""So long before the end people are told: time to plan an update."""


def says(until: date, today: date) -> str:
    """Say in words that the support has ended or will soon; "" before.

    >>> says(date(2027, 11, 30), date(2027, 12, 1)), says(date(2027, 11, 30), date(2027, 11, 30))
    ('support ended on 2027-11-30', 'support ends on 2027-11-30')
    >>> says(date(2027, 11, 30), date(2027, 8, 31))
    ''
    """
    if today > until:
        return f"support ended on {until}"
    return f"support ends on {until}" if today >= until - SOON else ""
