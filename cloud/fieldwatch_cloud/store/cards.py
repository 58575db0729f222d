"""What people call a device: its name, site and tags. Devices know nothing of it; their ids stay what they are.

A site that is set here replaces the one that the configuration's patterns give; routes and maintenance windows follow
it from then on, also for what is live.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, delete, select, update

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.sql import upsert

NAME_LIMIT = 80
SITE_LIMIT = 64
TAG_LIMIT = 40
TAGS = 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Card:
    """``name`` and ``site`` "" where none is set; ``tags`` in the order of their letters."""

    name: str = ""
    site: str = ""
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = {"name": self.name, "site": self.site, "tags": " ".join(self.tags)}
        return ", ".join(f"{key} {value}" for key, value in said.items() if value) or "nothing"

    def has(self, text: str) -> bool:
        """Tell whether ``text``, in lower case, is a part of it."""
        return any(text in one.lower() for one in (self.name, self.site, *self.tags))


def parse(name: str, site: str, tags: str) -> Card:
    """Return the card that a person writes; ``tags`` stand between spaces or commas.

    Raises :class:`ValueError` with words for that person.

    >>> parse(" Cold room ", "berlin", "gmp, night gmp")
    Card(name='Cold room', site='berlin', tags=('gmp', 'night'))
    """
    return make(name, site, re.split(r"[\s,]+", tags))


def make(name: str, site: str, tags: Iterable[str]) -> Card:
    """Return the card of these words. Raises :class:`ValueError` as :func:`parse` does."""
    name, site = " ".join(name.split()), " ".join(site.split())
    words = tuple(sorted(set(tags) - {""}))
    for what, text, limit in (("name", name, NAME_LIMIT), ("site", site, SITE_LIMIT)):
        if len(text) > limit:
            raise ValueError(f"A {what} has at most {limit} characters, this one {len(text)}.")
    if len(words) > TAGS:
        raise ValueError(f"A device has at most {TAGS} tags, these are {len(words)}.")
    if long := next((one for one in words if len(one) > TAG_LIMIT), None):
        raise ValueError(f"A tag has at most {TAG_LIMIT} characters: {long[:TAG_LIMIT]}… has {len(long)}.")
    if any(_CONTROL.search(text) for text in (name, site, *words)) or "*" in site:
        raise ValueError("Names, sites and tags are plain words; a site with * in it would be a pattern of sites.")
    return Card(name, site, words)


def card(db: Connection, device: str) -> Card:
    """Return the card of a device, an empty one where nobody wrote one."""
    return cards(db, [device]).get(device, Card())


def cards(db: Connection, devices: Sequence[str] | None = None) -> dict[str, Card]:
    """Return the cards of these devices, or all, by device; a few hundred devices at most where they are named."""
    query = select(t.card)
    if devices is not None:
        query = query.where(t.card.c.device.in_(devices))
    return {row.device: of_row(row) for row in db.execute(query)}


def of_row(row: Row[*tuple[object, ...]]) -> Card:
    """Return the card in a row that has its columns, null where there is none."""
    return Card(row.name or "", row.site or "", tuple((row.tags or "").split()))


def write(db: Connection, device: str, new: Card) -> None:
    """Keep a card; an empty one is none."""
    if new == Card():
        db.execute(delete(t.card).where(t.card.c.device == device))
        return
    row = {"name": new.name, "site": new.site, "tags": " ".join(new.tags)}
    statement = upsert(db, t.card)
    db.execute(statement.on_conflict_do_update(index_elements=["device"], set_=row), row | {"device": device})


def move(db: Connection, device: str, site: str) -> None:
    """Let the live incidents of a device be of this site: what is told next goes to the site's routes."""
    i = t.incident.c
    live = i.state.in_(("open", "acknowledged"))
    db.execute(update(t.incident).where(i.device == device, live).values(site=site))
