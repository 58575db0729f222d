"""Who signs what: the roles of a repository, in the order in which they are signed (TUF, one level of delegations).

==============  =========================  =========  ========  =======================================
role            keys at the start          threshold  lifetime  what for
==============  =========================  =========  ========  =======================================
``root``        root-1…3, offline          2          395 d     says which keys count
``targets``     those of root              2          395 d     the two delegations below, nothing else
``prod``        prod-1…3, offline          2          365 d     ``prod/*/*``: bundles, what may run
``prod-policy`` policy-1…2, release job    1          30 d      ``policy/*/*``: who runs it now
``snapshot``    snapshot-1…2, online       1          14 d      no mixing of old and new
``timestamp``   timestamp-1…2, online      1          7 d       no freezing
==============  =========================  =========  ========  =======================================

Every threshold is below the number of keys: any one key can be lost and the work goes on. The second key of an online
role is a spare that stays offline until it is needed. Who holds which key *now* is in the metadata; this table is
only what ``init`` begins with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

PROD = "prod"
POLICY = "prod-policy"


@dataclass(frozen=True)
class Role:
    """What ``init`` makes of a role; ``offline`` roles sign rarely, by people."""

    keys: tuple[str, ...]
    threshold: int
    lifetime: timedelta
    offline: bool
    notice: timedelta
    """How long before the end people are told: a ceremony wants weeks, a release job that stopped two days."""
    paths: str = ""


_ROOT = ("root-1", "root-2", "root-3")
TABLE = {
    "root": Role(_ROOT, 2, timedelta(days=395), True, timedelta(days=60)),
    "targets": Role(_ROOT, 2, timedelta(days=395), True, timedelta(days=60)),
    PROD: Role(("prod-1", "prod-2", "prod-3"), 2, timedelta(days=365), True, timedelta(days=60), "prod/*/*"),
    POLICY: Role(("policy-1", "policy-2"), 1, timedelta(days=30), False, timedelta(days=12), "policy/*/*"),
    "snapshot": Role(("snapshot-1", "snapshot-2"), 1, timedelta(days=14), False, timedelta(days=9)),
    "timestamp": Role(("timestamp-1", "timestamp-2"), 1, timedelta(days=7), False, timedelta(days=4.5)),
}
ROLES = tuple(TABLE)
LIFETIME = {name: role.lifetime for name, role in TABLE.items()}
KEYS = {name: role.keys for name, role in TABLE.items()}
NAMES = tuple(dict.fromkeys(name for role in TABLE.values() for name in role.keys))
ONLINE = ("policy-1", "snapshot-1", "timestamp-1")
"""Keys that the release job needs; all others stay off line."""
OFFLINE = tuple(name for name in NAMES if name not in ONLINE)


def delegator(role: str) -> str:
    """Return the role whose metadata says which keys count for ``role``."""
    return "targets" if role in {PROD, POLICY} else "root"
