"""Troubles with the bundle and updates that follow from the stored state alone.

===================================================  ==================  =============================================
state                                                kind                since
===================================================  ==================  =============================================
``activation.json`` cannot be read                   ``bundle_failing``  unknown
no bundle, as far as it can be read                  ``no_bundle``       start of the updater's trouble, if there is one
``activation.json`` cannot be written                ``update_failing``  unknown
the last update failed, or what it found may not     ``update_failing``  the first update that ended this way
run here
===================================================  ==================  =============================================

A bundle that does not load or score is reported by :mod:`.update.takeup`.
"""

from __future__ import annotations

from fieldwatch_contract import clock
from fieldwatch_contract.events import Trouble

from fieldwatch_agent.update.states import State

READ = "check that the agent's account may read its state folder, and that no virus scanner holds its files"
WRITE = "check that the agent's account may write all files of its state folder, and that the disk has room"
FETCH = "'fieldwatch-agent update --config F' shows why; or bring it on a USB stick: update --from DIR"
REMEDY = {
    "absent": "correct updates.url",
    "blocked": "move what is in this place out of the state folder: the next update makes it anew",
    "configuration": "correct [updates] in the configuration",
    "damaged": "nothing, if it does not persist; otherwise tell the release engineers",
    "ending": "tell the release engineers: the job that renews their signatures has stopped",
    "disk": "make room on the disk, and check that the agent's account may write there",
    "down": "check that this computer can reach the update server: network, proxy, updates.url",
    "hostile": "ask the release engineers whether updates.url and root.json are right",
    "memory": "close other programs; the next update tries it again",
    "misfit": "correct the configuration, or install a newer agent",
    "nothing": "ask the release engineers: is device.type right, and updates.channel?",
    "portal": "log in to this network, or have the update server allowed through the proxy",
    "refused": "tell the release engineers",
    "revoked": "ask the release engineers for a release that may run",
    "shadow": "nothing: the next update tests it again",
    "slow": "check that the network is not overloaded; the next update resumes the download",
    "stale": "check this computer's clock; if it is right, tell the release engineers",
    "truncated": "nothing: the next update resumes the download",
    "waiting": "nothing, if the release engineers have not admitted this device yet",
}
"""Remedies by the kind of an update's failure (:attr:`.states.State.trouble`)."""


def of(state: State, unreadable: OSError | None, unwritable: OSError | None = None) -> list[Trouble]:
    """Return the troubles that follow from a state, worst first; at most one of each kind."""
    found = []
    since = clock.iso(state.trouble_since) if state.trouble_since else None
    if unreadable is not None:
        found.append(
            Trouble(kind="bundle_failing", detail=f"activation.json cannot be read ({unreadable})", remedy=READ)
        )
    if state.current is None and unreadable is not None:
        return found  # whether there is one is not known
    if state.current is None:
        detail = f"no bundle yet: {state.note or 'waiting for the update server'}"
        remedy = REMEDY.get(state.trouble, FETCH)
        return [*found, Trouble(kind="no_bundle", detail=detail, remedy=remedy, since=since)]
    if unwritable is not None:
        detail = f"activation.json cannot be written ({unwritable}): what becomes of bundles is kept in memory alone"
        found.append(Trouble(kind="update_failing", detail=detail, remedy=WRITE))
    elif state.trouble:
        remedy = REMEDY.get(state.trouble, FETCH)
        found.append(Trouble(kind="update_failing", detail=state.note, remedy=remedy, since=since))
    return found
