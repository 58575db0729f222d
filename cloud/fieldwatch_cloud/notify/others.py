"""Everything else that people use, by the library apprise: Teams, Slack, ntfy, PagerDuty, and a hundred more."""

from __future__ import annotations

import asyncio

import apprise

from fieldwatch_cloud.notify.channel import TOTAL_S, RefusedError, TryLaterError
from fieldwatch_cloud.notify.letters import word
from fieldwatch_cloud.store.outbox import Letter


class Others:
    """Sends by an apprise URL, such as ``slack://…`` or ``ntfys://host/topic``."""

    def __init__(self, url: str, base: str) -> None:
        self._url = url
        self._base = base

    def send(self, letter: Letter) -> None:
        """Send a message. The library tells only that it failed; what it logged meanwhile says why."""
        text = word(letter, self._base)
        service = apprise.Apprise()
        if not service.add(self._url):
            raise RefusedError("its url is none that apprise knows")
        kind = apprise.NotifyType.INFO if letter.batch else _kind(letter)
        with apprise.LogCapture(level=apprise.logging.WARNING) as heard:  # type: ignore[no-untyped-call]
            try:
                sending = service.async_notify(body=text.body, title=text.subject, notify_type=kind)
                taken = asyncio.run(asyncio.wait_for(sending, TOTAL_S))
            except TimeoutError:
                raise TryLaterError(f"no answer within {TOTAL_S:.0f} s") from None
            if not taken:
                lines = heard.getvalue().strip().splitlines()
                raise TryLaterError(lines[-1] if lines else "the service did not take it")


def _kind(letter: Letter) -> apprise.NotifyType:
    row = letter.items[0].incident
    if row.state in ("resolved", "closed"):
        return apprise.NotifyType.SUCCESS
    return apprise.NotifyType.FAILURE if row.severity == "critical" else apprise.NotifyType.WARNING
