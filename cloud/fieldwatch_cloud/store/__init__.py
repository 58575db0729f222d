"""The store: what the devices reported and people said, in one database.

:class:`Store` takes it in; :mod:`.fleet` reads the devices as they are, :mod:`.export` gives rows to other programs;
the tables are in :mod:`.tables`, made and brought forward by :mod:`.migrate`.
"""

from fieldwatch_cloud.store.database import Database, StoreError, sqlite_url
from fieldwatch_cloud.store.packed import unpack_evidence
from fieldwatch_cloud.store.results import ratio
from fieldwatch_cloud.store.store import USER_VERDICTS, Outcome, Store, UserVerdict

__all__ = [
    "USER_VERDICTS",
    "Database",
    "Outcome",
    "Store",
    "StoreError",
    "UserVerdict",
    "ratio",
    "sqlite_url",
    "unpack_evidence",
]
