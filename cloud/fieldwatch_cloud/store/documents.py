"""JSON columns with a validated type each: a value damaged on disk reads as empty and is reported once.

SQLite does not notice a changed byte in a value. Reading it must not raise: ingest reads a device's delivery record
inside the transaction that stores the whole fleet's events, and one page shows all devices. Empty is the safe default
everywhere: nothing is acknowledged that is not stored, and the device's next report replaces the rest.
"""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from typing import Any, ClassVar

from fieldwatch_contract.events import HealthData
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import JSON
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from fieldwatch_cloud.alerts.life import Incident

log = logging.getLogger("fieldwatch.store")


class Unreadable(str):
    """The text of a document that is not JSON."""


class _Document(TypeDecorator[Any]):
    """A JSON document of type ``form``."""

    impl = JSON
    cache_ok = True
    form: ClassVar[TypeAdapter[Any]]
    empty: ClassVar[Any] = None

    def __init__(self) -> None:
        super().__init__(none_as_null=True)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use the binary type on PostgreSQL."""
        kind = postgresql.JSONB if dialect.name == "postgresql" else JSON
        return dialect.type_descriptor(kind(none_as_null=True))

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Compare paths into the document with JSON's own operators."""
        return self.impl_instance.coerce_compared_value(op, value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return a valid document unchanged, anything else as empty."""
        if value is None:
            return self._copy()
        try:
            self.form.validate_python(value)
        except ValidationError:
            _report(type(self).__name__.lower(), repr(value)[:200])
            return self._copy()
        return value

    def _copy(self) -> Any:
        return None if self.empty is None else type(self.empty)()


class Texts(_Document):
    """A list of names."""

    cache_ok = True
    form = TypeAdapter(list[str])
    empty: ClassVar[Any] = []


class Numbers(_Document):
    """A list of numbers."""

    cache_ok = True
    form = TypeAdapter(list[float])
    empty: ClassVar[Any] = []


class Integers(_Document):
    """A list of whole numbers."""

    cache_ok = True
    form = TypeAdapter(list[int])
    empty: ClassVar[Any] = []


class Counts(_Document):
    """A number by name."""

    cache_ok = True
    form = TypeAdapter(dict[str, int])
    empty: ClassVar[Any] = {}


class Versions(_Document):
    """Versions by component."""

    cache_ok = True
    form = TypeAdapter(dict[str, list[str]])
    empty: ClassVar[Any] = {}


class Values(_Document):
    """A value, or none, by sensor."""

    cache_ok = True
    form = TypeAdapter(dict[str, float | None])
    empty: ClassVar[Any] = {}


class Object(_Document):
    """An object of any keys."""

    cache_ok = True
    form = TypeAdapter(dict[str, Any])
    empty: ClassVar[Any] = {}


class Health(_Document):
    """A health report; none where it was damaged."""

    cache_ok = True
    form = TypeAdapter(HealthData)


class Life(_Document):
    """The life of an incident; none where it was damaged."""

    cache_ok = True
    form = TypeAdapter(Incident)


def read(text: str | bytes) -> Any:
    """Parse a document; never raises."""
    try:
        return json.loads(text)
    except ValueError:
        return Unreadable(text if isinstance(text, str) else text.decode("utf-8", "replace"))


@lru_cache(maxsize=1000)
def _report(form: str, value: str) -> None:
    log.error("a damaged document (%s) in the store is taken as empty; look at the disk: %s", form, value)
