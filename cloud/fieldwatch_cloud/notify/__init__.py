"""Telling people: messages are taken from the outbox of the store, worded, and handed to channels until one takes them.

:class:`.Worker` sends, :class:`.Watch` lets time pass and looks at the devices' states; :class:`Telling` is both.
:mod:`.letters` words a message, :mod:`.channels` makes the channels of a configuration, :mod:`.guard` says where a
webhook may lead.
"""

from fieldwatch_cloud.notify.channels import Channels
from fieldwatch_cloud.notify.routes import routing_of
from fieldwatch_cloud.notify.telling import Telling
from fieldwatch_cloud.notify.worker import Worker

__all__ = ["Channels", "Telling", "Worker", "routing_of"]
