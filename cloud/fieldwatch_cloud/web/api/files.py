"""Files to take away: decisions that ``fieldwatch-agent replay`` repeats, people's verdicts as labels for training.

Who took what is in the audit trail.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import Request
from fastapi.responses import Response
from fieldwatch_contract import clock
from fieldwatch_contract.dossier import SUFFIX, Dossier, write

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.store import Store, audit, export
from fieldwatch_cloud.store.dossiers import dossier
from fieldwatch_cloud.web.api.alerts import AlertId
from fieldwatch_cloud.web.api.common import NOT_FOUND, make_router
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import needs, person

PARQUET = "application/vnd.apache.parquet"

router = make_router()


@router.get(
    "/alerts/{alert_id}/dossier",
    summary="The dossier of an alert's decisions",
    response_class=Response,
    responses=NOT_FOUND | {200: {"model": Dossier, "description": "a file; formatting it otherwise does no harm"}},
)
@needs(Permission.EXPORT)
def take(request: Request, alert_id: AlertId) -> Response:
    """Return what the alert was made of, so that ``fieldwatch-agent replay FILE --bundle BUNDLE`` repeats it.

    404 where there is no such alert, or where the device did not send what a dossier needs; the problem says why.
    """
    store: Store = request.app.state.store
    now = clock.now()
    with store.write() as db:
        found = dossier(db, alert_id, now)
        if found is None:
            raise ProblemError(404, "Unknown alert", "There is no such alert.")
        if isinstance(found, str):
            raise ProblemError(404, "No dossier", f"This alert has no dossier: {found}.")
        content, digest = write(found)
        target = f"alert {alert_id} of {found.device}"
        audit.record(db, person(request).name, "dossier.take", target, f"sha256 {digest}", now)
    opened = found.decisions[0].alert.opened_at[:16].replace(":", "").replace("-", "")
    name = f"{found.device}-{opened}-{alert_id[:8]}{SUFFIX}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, media_type="application/json", headers=headers)


@router.get(
    "/labels.parquet",
    summary="The newest verdict on each alert as a lake's labels.parquet",
    response_class=Response,
    responses={200: {"content": {PARQUET: {}}, "description": "a row an alert: device, start, end, label, sensors, …"}},
)
@needs(Permission.EXPORT)
def labels_file(request: Request) -> Response:
    """Return what ``fieldwatch-cloud export labels --format parquet`` writes, for ``LAKE/labels.parquet``."""
    store: Store = request.app.state.store
    with TemporaryDirectory(prefix="fieldwatch-") as folder:
        path = Path(folder) / "labels.parquet"
        count = export.write_parquet(export.rows(store, "labels", None, None), "labels", path)
        content = path.read_bytes()
    with store.write() as db:
        audit.record(db, person(request).name, "labels.take", f"{count} labels")
    headers = {"Content-Disposition": 'attachment; filename="labels.parquet"', "Cache-Control": "no-store"}
    return Response(content, media_type=PARQUET, headers=headers)
