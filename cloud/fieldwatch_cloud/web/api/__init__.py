"""REST under ``/api/v1``: what the pages show and what people do there, for scripts. A module for each subject."""

from fieldwatch_cloud.web.api import alerts, commands, devices, files, incidents, live, series

ROUTERS = (
    devices.router,
    series.router,
    alerts.router,
    commands.router,
    files.router,
    incidents.router,
    live.router,
)

__all__ = ["ROUTERS"]
