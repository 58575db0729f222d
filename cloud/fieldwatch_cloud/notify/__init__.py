"""Telling people: messages are taken from the outbox of the store, worded, and handed to channels until one takes them.

:class:`Worker` (:mod:`.worker`) sends, :class:`Watch` (:mod:`.watch`) lets time pass and looks at the devices' states;
:mod:`.letters` words a message, :mod:`.channels` makes the channels of a configuration.
"""

from fieldwatch_cloud.notify.channels import Channels
from fieldwatch_cloud.notify.routes import routing_of
from fieldwatch_cloud.notify.worker import Worker

__all__ = ["Channels", "Worker", "routing_of"]
