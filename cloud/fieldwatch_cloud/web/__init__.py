"""The dashboard and the REST API: people see what the devices said, judge it, and scripts read the same.

:func:`create_app` makes the ASGI application over a store and a live feed; :func:`make_server` the server that runs
it. Nothing here changes what a device said: the one thing that a page writes is a verdict.
"""

from fieldwatch_cloud.web.app import create_app, make_server
from fieldwatch_cloud.web.settings import WebSettings

__all__ = ["WebSettings", "create_app", "make_server"]
