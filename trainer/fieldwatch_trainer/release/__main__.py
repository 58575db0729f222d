"""``fieldwatch-release``: sign bundles, put them out as static files, and steer who runs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fieldwatch_trainer.release.storage import place

EXAMPLE = """\
example:
  fieldwatch-release init updates              # keys go to updates-keys: keep root-* and prod-* off line
  fieldwatch-release publish run/bundle.zip --repo updates --channel stable --percent 10 --dry-run
  fieldwatch-release rollout set press/v2 --repo updates --channel stable --percent 100
  fieldwatch-release rollback press --repo updates --channel stable
  fieldwatch-release refresh --repo updates    # daily, or devices take the server for stale after a week
  fieldwatch-release verify updates            # daily from outside; exit code 3: something ends soon
  fieldwatch-release drill lost-key --repo updates
  python -m http.server --directory updates    # any static web server will do

exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, or something wants attention
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(argv)
    from fieldwatch_trainer.release import commands
    from fieldwatch_trainer.release.errors import Misused, Refused, ReleaseError

    try:
        code: int = getattr(commands, args.run)(args)
    except Refused as error:
        print(f"fieldwatch-release: refused: {error}", file=sys.stderr)
        return 3
    except Misused as error:
        print(f"fieldwatch-release: {error}", file=sys.stderr)
        return 2
    except ReleaseError as error:
        print(f"fieldwatch-release: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"fieldwatch-release: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nfieldwatch-release: stopped; devices see all of this command or nothing, 'status' tells which",
            file=sys.stderr,
        )
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fieldwatch-release",
        description="Signs bundles, puts them out as static files, and steers who runs them.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _bundles(commands)
    _rollout(commands)
    _signing(commands)
    _health(commands)
    return parser


if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def _bundles(commands: Commands) -> None:
    command = commands.add_parser("init", help="make a repository and its keys")
    command.add_argument("folder", type=place, metavar="DIR|URL", help="what will be offered: metadata/, targets/")
    command.add_argument("--keys", type=Path, help="folder for the new keys; default: DIR-keys, beside DIR")
    command.add_argument("--channel", action="append", metavar="C", help="channel to make; default: stable")
    command.add_argument("--encrypt", action="store_true", help="encrypt the key files by a passphrase")
    command.add_argument("--dry-run", action="store_true", help="say what would be done")
    command.set_defaults(run="init")

    command = _with_repo(commands.add_parser("publish", help="sign and offer a bundle, or put out a signed proposal"))
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle.zip of a training run, or a proposal")
    command.add_argument("--channel", help="needed for a bundle")
    _with_share(command, required=False)
    _with_offer(command)
    command.set_defaults(run="publish")

    command = _with_repo(commands.add_parser("promote", help="publish here what another channel has proven"))
    command.add_argument("bundle", metavar="NAME/VERSION")
    command.add_argument("--from", dest="source", metavar="URL|DIR", help="the other repository; default: this one")
    command.add_argument("--from-root", type=Path, metavar="FILE", help="its root.json; default for DIR: DIR/root.json")
    command.add_argument("--from-channel", required=True, metavar="C")
    command.add_argument("--channel", required=True)
    _with_share(command, required=False)
    command.set_defaults(run="promote")


def _rollout(commands: Commands) -> None:
    rollout = commands.add_parser("rollout", help="show or set the shares of a channel's releases")
    steps = rollout.add_subparsers(required=True, metavar="STEP")
    command = _with_repo(steps.add_parser("status", help="show all channels"), keys=False)
    command.set_defaults(run="rollout_status")
    command = _with_repo(steps.add_parser("set", help="give a release another share of a channel"))
    command.add_argument("bundle", metavar="NAME/VERSION")
    command.add_argument("--channel", required=True)
    _with_share(command, required=True)
    command.set_defaults(run="rollout_set")

    command = _with_repo(commands.add_parser("rollback", help="bring a channel back to an earlier release"))
    command.add_argument("name", metavar="NAME", help="model family, usually the device type")
    command.add_argument("--channel", required=True)
    command.add_argument("--to", metavar="VERSION", help="default: the release for all before the newest")
    command.set_defaults(run="rollback")

    command = _with_repo(commands.add_parser("halt", help="nothing new starts; new devices get what is proven"))
    command.add_argument("name", metavar="NAME", help="model family, usually the device type")
    command.add_argument("--channel", required=True)
    command.add_argument("--lift", action="store_true", help="let the rollout go on")
    command.set_defaults(run="halt")

    command = _with_repo(commands.add_parser("revoke", help="forbid a bundle: devices move to the best one left"))
    command.add_argument("bundle", metavar="NAME/VERSION")
    command.add_argument("--channel", required=True)
    command.set_defaults(run="revoke")

    channel = commands.add_parser("channel", help="create or delete a channel")
    steps = channel.add_subparsers(required=True, metavar="STEP")
    command = _with_repo(steps.add_parser("create", help="make a channel to publish into"))
    command.add_argument("channel", metavar="CHANNEL")
    command.set_defaults(run="channel_create")
    command = _with_repo(steps.add_parser("delete", help="delete a channel"))
    command.add_argument("channel", metavar="CHANNEL")
    command.add_argument("--force", action="store_true", help="although devices follow it")
    command.set_defaults(run="channel_delete")


def _signing(commands: Commands) -> None:
    keys = commands.add_parser("keys", help="who signs: list, replace, add, remove")
    steps = keys.add_subparsers(required=True, metavar="STEP")
    command = _with_repo(steps.add_parser("list", help="every role's keys, and which are at hand"))
    command.set_defaults(run="keys_list")
    command = steps.add_parser(
        "new", help="make a key file or a reference to a token's key; the public half goes to whoever adds it"
    )
    command.add_argument("name", metavar="NAME", help="such as prod-4")
    command.add_argument("--keys", type=Path, required=True, metavar="DIR")
    command.add_argument("--encrypt", action="store_true", help="encrypt it by a passphrase")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--model", action="store_true", help="a key that signs models for auditors, outside of all roles")
    how.add_argument(
        "--uri",
        metavar="URI",
        help="a key that is there already: hsm:NUMBER?label=TOKEN, awskms:…, gcpkms:…, azurekms:…",
    )
    command.set_defaults(run="keys_new")
    command = _with_new_key(steps.add_parser("rotate", help="a new key takes the place of a lost, stolen or old one"))
    command.add_argument("name", metavar="KEY", help="such as prod-1")
    command.set_defaults(run="keys_rotate")
    command = _with_new_key(steps.add_parser("add", help="a further key for a role"))
    command.add_argument("role", metavar="ROLE", choices=["root", "prod", "prod-policy", "snapshot", "timestamp"])
    command.add_argument("--threshold", type=_count, metavar="N", help="signatures needed from now on")
    command.set_defaults(run="keys_add")
    command = _with_repo(steps.add_parser("remove", help="a key no longer counts"))
    command.add_argument("name", metavar="KEY")
    command.add_argument("--threshold", type=_count, metavar="N", help="signatures needed from now on")
    command.add_argument("--propose", type=Path, metavar="FILE", help="write a proposal for others to countersign")
    command.set_defaults(run="keys_remove")

    command = _with_repo(commands.add_parser("sign", help="propose a bundle, for others to countersign"))
    command.add_argument("bundle", type=Path, metavar="BUNDLE")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the proposal")
    command.add_argument("--channel", required=True)
    _with_share(command, required=False)
    _with_offer(command)
    command.set_defaults(run="sign")

    command = commands.add_parser("countersign", help="read a proposal in plain words and add a signature")
    command.add_argument("proposal", type=Path, metavar="FILE")
    command.add_argument("--keys", type=Path, action="append", required=True, metavar="DIR", help="your keys")
    command.add_argument(
        "--root", type=Path, metavar="FILE", help="your own root.json; default: the one beside your keys"
    )
    command.add_argument("--devices", metavar="N|FILE", help="how many devices, or a file of their ids")
    command.add_argument("--yes", action="store_true", help="sign without being asked")
    command.add_argument("--dry-run", action="store_true", help="say what it does, sign nothing")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run="countersign")


def _health(commands: Commands) -> None:
    command = _with_repo(commands.add_parser("refresh", help="sign snapshot and timestamp anew"))
    command.add_argument("--all", action="store_true", help="every role; needs the offline keys")
    command.add_argument(
        "--propose", type=Path, metavar="FILE", help="with --all: a proposal for others to countersign"
    )
    command.set_defaults(run="refresh")

    command = commands.add_parser("verify", help="check everything as a newly installed device would")
    command.add_argument("source", metavar="URL|DIR")
    command.add_argument("--root", type=Path, help="the root that installers embed; default for DIR: DIR/root.json")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run="verify")

    command = _with_repo(commands.add_parser("export", help="a copy for a laboratory without a network"), keys=False)
    command.add_argument("out", type=Path, metavar="DIR", help="the site's own repository; kept for the next export")
    command.add_argument("--site", required=True, metavar="NAME", help="what people call it, such as lab-7")
    command.add_argument("--valid", type=_days, default="180d", metavar="DAYS", help="how long it holds; default: 180d")
    command.add_argument("--keys", type=Path, metavar="DIR", help="the site's own keys; default: DIR-keys, beside DIR")
    command.add_argument("--dry-run", action="store_true", help="say what would be exported")
    command.set_defaults(run="export")

    command = _with_repo(commands.add_parser("status", help="shares, expiries, who signed, what is next"), keys=False)
    command.set_defaults(run="status")
    command = _with_repo(commands.add_parser("doctor", help="look for what is wrong with repository and keys"))
    command.set_defaults(run="doctor")

    command = _with_repo(commands.add_parser("drill", help="rehearse on a copy with keys of its own"), keys=False)
    command.add_argument("case", choices=["lost-key", "stolen-key", "expired", "offline-3-years"])
    command.add_argument("--key", metavar="KEY", help="only this key; default: each")
    command.set_defaults(run="drill")


def _with_repo(command: argparse.ArgumentParser, keys: bool = True) -> argparse.ArgumentParser:
    command.add_argument(
        "--repo",
        type=place,
        default=Path(),
        metavar="DIR|URL",
        help="the repository: a folder, s3://BUCKET/PREFIX, abfs://…, gs://…; default: this folder",
    )
    if keys:
        command.add_argument(
            "--keys",
            type=Path,
            action="append",
            metavar="DIR",
            help="folder of key files, may be given several times; default: REPO-keys, beside it",
        )
        command.add_argument("--dry-run", action="store_true", help="say what would change on how many devices")
        command.add_argument(
            "--devices",
            metavar="N|FILE",
            help="how many devices the channel has, or a file of their ids; default: REPO-devices.txt, if it is there",
        )
    command.add_argument("--json", action="store_true")
    return command


def _with_new_key(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    _with_repo(command)
    command.add_argument("--public", type=Path, metavar="FILE", help="public half of a key that was made elsewhere")
    command.add_argument("--encrypt", action="store_true", help="encrypt the new key file by a passphrase")
    command.add_argument("--propose", type=Path, metavar="FILE", help="write a proposal for others to countersign")
    return command


def _with_offer(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lift", action="store_true", help="end a halt of the channel in the same step")
    command.add_argument(
        "--model-key",
        type=Path,
        metavar="FILE",
        help="sign the model for auditors too; 'keys new NAME --model' made it",
    )
    command.add_argument(
        "--security-floor",
        type=_floor,
        default=0,
        metavar="SEQ",
        help="devices that run this bundle never again take one with a lower release number",
    )
    command.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="GATE",
        help="take a gate's refusal upon you, by its name, such as deaf:classifier; no-gates: a bundle nobody judged",
    )


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
    if abs(value * 100 - round(value * 100)) > 1e-6:
        raise argparse.ArgumentTypeError(f"{text} is finer than 0.01, the smallest step of a share")
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


def _days(text: str) -> int:
    value = _whole(text.removesuffix("d"))
    if not 1 <= value <= 395:
        raise argparse.ArgumentTypeError(f"{text} is not between 1d and 395d")
    return value


def _count(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least one signature is needed")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


if __name__ == "__main__":
    sys.exit(main())
