"""The channels of a configuration, by the names under which the outbox knows them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fieldwatch_contract.fields import Evidence
from sqlalchemy import select

from fieldwatch_cloud.alerts.routing import SELF_TEST
from fieldwatch_cloud.config import AlertmanagerChannel, AppriseChannel, Config, EmailChannel, WebhookChannel
from fieldwatch_cloud.notify.channel import Channel, RefusedError
from fieldwatch_cloud.notify.routes import targets
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.packed import unpack_evidence

if TYPE_CHECKING:
    from fieldwatch_cloud.store.database import Database

log = logging.getLogger("fieldwatch.notify")


class Channels:
    """All channels. A name that is no longer configured is an error of the message, not of the worker."""

    def __init__(self, config: Config, store: Database, arrived: Channel | None = None) -> None:
        """``arrived``: the end of the self-test's chain."""
        self._store = store
        self._found: dict[str, Channel] = {SELF_TEST: arrived} if arrived is not None else {}
        for name in config.notify.channels:
            for target in targets(name, config):
                self._found[target] = self._make(config, name, target)

    def find(self, name: str) -> Channel:
        """Return a channel. Raises :class:`.RefusedError` for one that is no longer there."""
        if name not in self._found:
            raise RefusedError(f"channel {name!r} is no longer in the configuration")
        return self._found[name]

    def _make(self, config: Config, name: str, target: str) -> Channel:
        notify = config.notify
        match notify.channels[name]:
            case EmailChannel():
                from fieldwatch_cloud.notify.mail import Mail

                assert notify.smtp is not None
                return Mail(notify.smtp, target.removeprefix(f"{name} "), notify.url, self._evidence)
            case WebhookChannel() as hook:
                from fieldwatch_cloud.notify.hook import Webhook

                return Webhook(hook.url.get_secret_value(), hook.secret_file, hook.allow, notify.url)
            case AlertmanagerChannel() as manager:
                from fieldwatch_cloud.notify.hook import Alertmanager

                return Alertmanager(manager.url.get_secret_value(), manager.allow, notify.url)
            case AppriseChannel() as other:
                from fieldwatch_cloud.notify.others import Others

                return Others(other.url.get_secret_value(), notify.url)

    def _evidence(self, incident_id: int) -> Evidence | None:
        """Return the newest evidence of an incident's alerts that is not of the recovery; None where none came."""
        e, s = t.alert_event.c, t.incident_signal.c
        query = (
            select(e.evidence)
            .where(e.alert_id.in_(select(s.key).where(s.incident_id == incident_id)), e.evidence.is_not(None))
            .order_by(e.transition == "resolved", e.ts.desc())
            .limit(1)
        )
        with self._store.read() as db:
            blob = db.execute(query).scalar()
        try:
            return unpack_evidence(blob) if blob is not None else None
        except ValueError as error:
            log.error("the evidence of incident %d cannot be read: %s", incident_id, error)
            return None
