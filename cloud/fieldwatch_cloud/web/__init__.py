"""The dashboard and the REST API: people see what the devices reported and judge it; scripts read the same data.

:func:`create_app` makes the ASGI application on a store and a live feed; :func:`make_server` the server that runs it.
Nothing here changes what a device reported: the only thing that a page writes is a verdict.
"""

from fieldwatch_cloud.web.app import create_app, make_server
from fieldwatch_cloud.web.settings import WebSettings

__all__ = ["WebSettings", "create_app", "make_server"]
