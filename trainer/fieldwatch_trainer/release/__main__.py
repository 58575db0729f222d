"""``fieldwatch-release``: sign bundles, put them out as static files, and steer who runs them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldwatch_trainer.release.repository import Expiry

EXAMPLE = """\
example:
  fieldwatch-release init updates              # keys go to updates-keys: keep root-* and prod-* off line
  fieldwatch-release publish run/bundle.zip --repo updates --channel stable --percent 10
  fieldwatch-release rollout set press/v2 --repo updates --channel stable --percent 100
  fieldwatch-release refresh --repo updates    # daily, or devices take the server for stale after a week
  fieldwatch-release verify updates
  python -m http.server --directory updates    # any static web server will do

exit codes: 0 done, 1 failed, 2 wrong usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(argv)
    from fieldwatch_trainer.release.errors import ReleaseError

    try:
        code: int = args.run(args)
    except ReleaseError as error:
        print(f"fieldwatch-release: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"fieldwatch-release: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "fieldwatch-release",
        description="Signs bundles, puts them out as static files, and steers who runs them.",
        epilog=EXAMPLE,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("init", help="make a repository and its keys")
    command.add_argument("folder", type=Path, metavar="DIR", help="what a web server will offer: metadata/, targets/")
    command.add_argument("--keys", type=Path, help="folder for the new keys; default: DIR-keys, beside DIR")
    command.set_defaults(run=_init)

    command = _with_repo(commands.add_parser("publish", help="sign a bundle and offer it in a channel"))
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle.zip of a training run")
    command.add_argument("--channel", required=True)
    _with_share(command, required=False)
    command.add_argument(
        "--security-floor",
        type=_floor,
        default=0,
        metavar="SEQ",
        help="devices that run this bundle never again take one with a lower release number",
    )
    command.set_defaults(run=_publish)

    command = _with_repo(commands.add_parser("refresh", help="sign snapshot and timestamp anew"))
    command.add_argument("--all", action="store_true", help="every role; needs the offline keys")
    command.set_defaults(run=_refresh)

    command = commands.add_parser("verify", help="check everything as a newly installed device would")
    command.add_argument("source", metavar="URL|DIR")
    command.add_argument("--root", type=Path, help="the root that installers embed; default for DIR: DIR/root.json")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_verify)

    rollout = commands.add_parser("rollout", help="show or set the shares of a channel's releases")
    steps = rollout.add_subparsers(required=True, metavar="STEP")
    command = _with_repo(steps.add_parser("status", help="show all channels"), keys=False)
    command.set_defaults(run=_status)
    command = _with_repo(steps.add_parser("set", help="give a release another share of a channel"))
    command.add_argument("bundle", metavar="NAME/VERSION")
    command.add_argument("--channel", required=True)
    _with_share(command, required=True)
    command.set_defaults(run=_set)

    command = _with_repo(commands.add_parser("halt", help="nobody in the channel starts anything new"))
    command.add_argument("name", metavar="NAME", help="model family, usually the device type")
    command.add_argument("--channel", required=True)
    command.add_argument("--lift", action="store_true", help="let the rollout go on")
    command.set_defaults(run=_halt)

    command = _with_repo(commands.add_parser("revoke", help="forbid a bundle: devices move to the best one left"))
    command.add_argument("bundle", metavar="NAME/VERSION")
    command.add_argument("--channel", required=True)
    command.set_defaults(run=_revoke)
    return parser


def _with_repo(command: argparse.ArgumentParser, keys: bool = True) -> argparse.ArgumentParser:
    command.add_argument(
        "--repo", type=Path, default=Path(), metavar="DIR", help="the repository; default: this folder"
    )
    if keys:
        command.add_argument(
            "--keys",
            type=Path,
            action="append",
            metavar="DIR",
            help="folder of key files, may be given several times; default: REPO-keys, beside it",
        )
    command.add_argument("--json", action="store_true")
    return command


def _with_share(command: argparse.ArgumentParser, required: bool) -> None:
    default = "" if required else "; default: all, or the share that the bundle has already"
    group = command.add_mutually_exclusive_group(required=required)
    group.add_argument(
        "--percent", type=_percent, dest="bp", metavar="P", help=f"share of the channel's devices{default}"
    )
    group.add_argument("--bp", type=_bp, dest="bp", metavar="N", help="the same in basis points, 0 to 10000")


def _percent(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write a share such as 2.5") from None
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 100")
    return round(value * 100)


def _bp(text: str) -> int:
    value = _whole(text)
    if not 0 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 10000")
    return value


def _floor(text: str) -> int:
    value = _whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is no release number; they count from 1, and 0 sets no floor")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _beside(folder: Path) -> Path:
    whole = folder.resolve()
    return whole.with_name(whole.name + "-keys")


def _keys(args: argparse.Namespace) -> list[Path]:
    return args.keys or [_beside(args.repo)]


def _tell(args: argparse.Namespace, value: dict[str, Any], text: str) -> int:
    print(json.dumps(value) if args.json else text)
    return 0


# ---- commands --------------------------------------------------------------------------------------------------


def _init(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.release import actions
    from fieldwatch_trainer.release.roles import OFFLINE, ONLINE

    keys = args.keys or _beside(args.folder)
    actions.init(args.folder, keys)
    print(f"Repository {args.folder}: offer it with any static web server.")
    print(
        f"Trust root {args.folder / actions.ROOT}: give it to the agents (updates.root); it names the keys that count."
    )
    print(f"Keys in {keys}:")
    print(f"  keep off line, apart from one another: {', '.join(f'{name}.pem' for name in OFFLINE)}")
    print(f"  needed daily by the release job:       {', '.join(f'{name}.pem' for name in ONLINE)}")
    return 0


def _publish(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.release import actions

    done = actions.publish(args.repo, _keys(args), args.bundle, args.channel, args.bp, args.security_floor)
    facts = done.facts
    policies = {(channel.name, channel.channel): channel.policy for channel in actions.channels(args.repo)}
    releases = policies[facts.name, args.channel].releases
    bp = next(release.bp for release in releases if release.sha256 == done.sha256)
    value = {"target": done.target, "sha256": done.sha256, "channel": args.channel, "bp": bp, **facts.model_dump()}
    return _tell(
        args,
        value,
        f"Published {facts.name}/{facts.version} (release {facts.release_seq}, sha256 {done.sha256[:12]}…) "
        f"in channel {args.channel} for {bp / 100:g} % of its devices.",
    )


def _refresh(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.release import actions

    expiries = actions.refresh(args.repo, _keys(args), args.all)
    return _tell(args, {"expires": _ends(expiries)}, _table(expiries))


def _verify(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.release import actions
    from fieldwatch_trainer.release.verify import verify

    remote = args.source.startswith(("http://", "https://"))
    if remote and args.root is None:
        print("fieldwatch-release: verify URL needs --root: the root.json that installers embed", file=sys.stderr)
        return 2
    root = args.root or Path(args.source) / actions.ROOT
    found = verify(args.source, root.read_bytes())
    value = {"bundles": found.bundles, "policies": found.policies, "expires": _ends(found.expiries)}
    text = f"Good: {len(found.bundles)} bundles, {len(found.policies)} policies.\n{_table(found.expiries)}"
    return _tell(args, value, text)


def _status(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.release import actions

    found = actions.channels(args.repo)
    value = {"channels": [{"name": c.name, "channel": c.channel, **c.policy.model_dump()} for c in found]}
    lines = []
    for item in found:
        lines.append(f"{item.name}, channel {item.channel}" + (": halted" if item.policy.halt else ""))
        for release in item.policy.releases:
            note = "  revoked" if release.sha256 in item.policy.revoke else ""
            lines.append(f"  {release.bp / 100:6.2f} %  {release.target}  {release.sha256[:12]}…{note}")
    return _tell(args, value, "\n".join(lines) or "Nothing is published yet.")


def _set(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.release import actions, rollout

    bundle = actions.find(args.repo, args.bundle)
    return _edit(args, bundle.facts.name, partial(rollout.share, sha256=bundle.sha256, bp=args.bp))


def _halt(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.release import rollout

    return _edit(args, args.name, partial(rollout.halt, halted=not args.lift))


def _revoke(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.release import actions, rollout

    bundle = actions.find(args.repo, args.bundle)
    return _edit(args, bundle.facts.name, partial(rollout.revoke, sha256=bundle.sha256))


def _edit(args: argparse.Namespace, name: str, edit: Any) -> int:
    from fieldwatch_trainer.release import actions

    policy = actions.change_policy(args.repo, _keys(args), name, args.channel, edit)
    state = "halted" if policy.halt else "going on"
    text = f"{name}, channel {args.channel}: {state}; devices see it at their next poll."
    return _tell(args, {"name": name, "channel": args.channel, **policy.model_dump()}, text)


def _ends(expiries: Sequence[Expiry]) -> dict[str, str]:
    return {e.role: f"{e.expires:%Y-%m-%dT%H:%M:%SZ}" for e in expiries}


def _table(expiries: Sequence[Expiry]) -> str:
    from fieldwatch_trainer.release import actions

    soon = {e.role for e in actions.ending(expiries)}
    return "\n".join(
        f"  {e.role:<12} version {e.version:<5} until {e.expires:%Y-%m-%d %H:%M} UTC"
        + ("   <- sign it anew soon" if e.role in soon else "")
        for e in expiries
    )


if __name__ == "__main__":
    sys.exit(main())
