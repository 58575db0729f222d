"""Each command says what it will change on how many devices, or refuses: the slips of a release engineer."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fieldwatch_contract.policy import SHARES, Policy, Release
from fieldwatch_trainer.release import actions, effects, rollout, watch
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.effects import Fleet
from fieldwatch_trainer.release.folder import Folder

from tests.bundles import make_bundle
from tests.updates import Site

Run = Callable[..., tuple[int, str, str]]
NOW = 1_772_366_400_000_000


@pytest.fixture
def run(site: Site, tmp_path: Path, v1: bytes, v2: bytes, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the repository, its words split by blanks; return exit code, output and errors."""
    for version, data in (("v1", v1), ("v2", v2), ("v3", make_bundle(version="v3"))):
        (tmp_path / f"{version}.zip").write_bytes(data)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bundle.zip").write_bytes(v1)

    def run(words: str, *more: str) -> tuple[int, str, str]:
        parts = [word.replace("TMP", str(tmp_path)) for word in words.split()] + list(more)
        parts += ["--accept", "no-gates"] if parts[0] == "publish" else []
        try:
            code = main([*parts, "--repo", str(site.repo)])
        except SystemExit as exit_:
            code = int(str(exit_.code))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


V1 = "publish TMP/v1.zip --channel stable"
V2 = "publish TMP/v2.zip --channel stable --percent 10"

SLIPS = [
    # what was done before, the command, exit code, what it says
    ([V1, V2], "publish TMP/v1.zip --channel stable", 3, "older than press/v2 (release 2) in channel stable"),
    ([V1, V2], "publish TMP/v1.zip --channel stable --percent 50", 3, "To go back: 'rollback press --channel stable"),
    ([V1], "rollout set press/v1 --channel stable --percent 0", 3, "a share of 0 % on the only release"),
    ([], "publish TMP/v1.zip --channel stable --percent 0", 3, "a share of 0 % on the only release"),
    (
        [V1, V2, "revoke press/v2 --channel stable"],
        "rollout set press/v2 --channel stable --percent 9",
        3,
        "is revoked",
    ),
    ([V1, V2, "revoke press/v2 --channel stable"], V2, 3, "press/v2 is revoked in this channel"),
    ([V1, "halt press --channel stable"], V2, 3, "channel stable is halted: nothing would start"),
    ([V1], "publish TMP/v2.zip --channel stabel", 3, "there is no channel stabel; did you mean stable?"),
    ([V1], "publish TMP/v2.zip --channel other", 3, "channels: stable. 'channel create other' makes a new one"),
    ([V1], "halt press --channel stabel", 1, "nothing is published for press in channel stabel"),
    ([V1], "halt pres --channel stable", 1, "nothing is published for pres in channel stable"),
    ([V1], "publish TMP/v2.zip --channel stable --percent 0.001", 2, "0.001 is finer than 0.01"),
    ([V1], "publish TMP/v2.zip --channel stable --percent 2.555", 2, "2.555 is finer than 0.01"),
    ([V1], "publish TMP/v2.zip --channel stable --percent 1000", 2, "not between 0 and 100"),
    ([V1], "publish TMP/v2.zip --channel stable --percent 0,5", 2, "'0,5' is no number"),
    ([V1], "publish TMP/v2.zip --channel stable --percent 10%", 2, "'10%' is no number"),
    ([V1], "rollout set press/v1 --channel stable", 2, "--percent"),
    ([V1], "revoke press/v1 --channel stable", 3, "publish a replacement first"),
    ([V1], "rollback press --channel stable", 3, "no earlier release for all"),
    ([V1, V2], "rollback press --channel stable --to v9", 1, "no bundle press/v9"),
    (
        [V1, V2, "revoke press/v2 --channel stable"],
        "rollback press --channel stable --to v2",
        3,
        "press/v2 is revoked in this channel",
    ),
    (
        [V1, "publish TMP/v2.zip --channel stable --security-floor 2"],
        "rollback press --channel stable --to v1",
        3,
        "never again take a release below 2",
    ),
    ([V1, V2], "promote press/v2 --from-channel stable --channel stable", 3, "has 10 % of the devices only"),
    ([V1, V2], "promote press/v3 --from-channel stable --channel stable", 1, "there is no bundle press/v3"),
    ([V1], "channel create stable", 3, "there is a channel stable already"),
    ([V1], "channel create ../stable", 1, "cannot name a channel"),
    ([V1], "channel delete stable", 3, "press keep what they run and get no update any more"),
    ([V1], "channel delete stabel", 3, "did you mean stable?"),
    ([V1], "publish TMP/run --channel stable", 1, "run is a folder: name "),
    ([V1], "sign TMP/v2.zip --out TMP/none/it --channel stable --accept no-gates", 1, "none/it: No such file"),
    ([V1], "sign TMP/v2.zip --out TMP/v1.zip --channel stable --accept no-gates", 3, "may carry signatures: delete it"),
    ([V1], "refresh --all --propose TMP/v1.zip", 3, "may carry signatures: delete it"),
    ([V1], "keys rotate prod-1 --propose TMP/v1.zip", 3, "may carry signatures: delete it"),
    ([V1], "publish TMP/v2.zip", 2, "publish BUNDLE needs --channel"),
    ([V1], "publish TMP/v2.zip --channel stable --devices TMP/none", 1, "neither a number nor a file of ids"),
    ([V1], "keys rotate prod-9", 1, "no key prod-9 counts in this repository; keys: root-1"),
    ([V1], "keys remove timestamp-1 --threshold 2", 3, "would have 1 key(s) and want 2 signatures"),
    ([V1, "keys remove prod-1"], "keys remove prod-2", 3, "'keys add' brings another first"),
    ([V1], "keys remove prod-1 --threshold 1", 3, "nobody ships alone"),
    ([V1], "keys add prod --threshold 0", 2, "at least one signature"),
]


@pytest.mark.parametrize(
    ("before", "command", "code", "says"), SLIPS, ids=[slip[1].replace("TMP/", "") for slip in SLIPS]
)
def test_a_slip_is_refused_and_changes_nothing(
    run: Run, site: Site, before: list[str], command: str, code: int, says: str
) -> None:
    for step in before:
        assert run(step)[0] == 0
    kept, keys = files(site.repo), files(site.keys)
    assert run(command)[0] == code
    assert says in run(command)[2]
    assert (files(site.repo), files(site.keys)) == (kept, keys)


TOLD = [
    ([], V1, ["all devices of the channel that run nothing start with press/v1"]),
    (
        [V1],
        V2,
        ["10 % of the channel's devices go from press/v1 to press/v2", "A new device gets press/v1 (90 %), press/v2"],
    ),
    ([V1], "publish TMP/v2.zip --channel stable --percent 10 --devices 50", ["about 5 of 50 devices go from press/v1"]),
    (
        [V1, V2],
        "rollout set press/v2 --channel stable --percent 0",
        ["No device changes", "'rollback' or 'revoke' brings"],
    ),
    ([V1, V2], "rollout set press/v2 --channel stable --percent 10", ["That is how it stands already."]),
    ([V1, V2], V2, ["No device changes what it runs."]),
    ([V1, V2], "rollback press --channel stable", ["10 % of the channel's devices go from press/v2 to press/v1"]),
    ([V1, V2], "halt press --channel stable", ["No device changes", "'halt --lift'", "A new device gets press/v1."]),
    ([V1, V2], "revoke press/v2 --channel stable", ["10 % of the channel's devices go from press/v2 to press/v1"]),
    (
        [V1, V2, "halt press --channel stable"],
        "rollback press --channel stable",
        ["10 % of the channel's devices go from press/v2 to press/v1"],
    ),
    (
        [V1, V2, "halt press --channel stable", "revoke press/v2 --channel stable"],
        "publish TMP/v3.zip --channel stable --percent 20 --lift",
        ["20 % of the channel's devices go from press/v1 to press/v3"],
    ),
    ([V1], "keys rotate prod-1", ["prod-1 (", "no longer counts, prod-4", "2 of prod-4, prod-2, prod-3 must sign"]),
    ([V1], "keys remove prod-1", ["Role prod has no spare key"]),
    ([V1], "channel create early", ["get nothing until a publication"]),
    ([V1], "channel delete stable --force", ["press keep what they run and get no update any more"]),
    ([V1], "refresh", ["Snapshot and timestamp would be signed anew"]),
]


@pytest.mark.parametrize(("before", "command", "says"), TOLD, ids=[told[1].replace("TMP/", "") for told in TOLD])
def test_a_dry_run_tells_the_change_and_the_command_then_makes_it(
    run: Run, site: Site, before: list[str], command: str, says: list[str]
) -> None:
    for step in before:
        assert run(step)[0] == 0
    kept, keys = files(site.repo), files(site.keys)
    code, told, _ = run(command, "--dry-run")
    assert code == 0
    assert told.startswith("Dry run")
    assert [text for text in says if text not in told] == []
    assert (files(site.repo), files(site.keys)) == (kept, keys), "a dry run writes nothing"
    code, done, _ = run(command)
    assert code == 0
    if command != "refresh":
        told, done = (re.sub(r"\([0-9a-f]{12}…\)", "", text) for text in (told, done))  # a new key is new each time
        changes = [line.strip() for line in told.splitlines()[1:]]
        assert [line for line in changes if line not in done] == [], "what was told is what is done"


def test_every_verb_that_changes_something_has_a_dry_run() -> None:
    from fieldwatch_trainer.release.__main__ import _parser

    def verbs(parser: object, name: str = "") -> dict[str, object]:
        steps = [action for action in parser._actions if hasattr(action, "_name_parser_map")]  # type: ignore[attr-defined]
        if not steps:
            return {name.strip(): parser}
        return {
            k: v for word, child in steps[0]._name_parser_map.items() for k, v in verbs(child, f"{name} {word}").items()
        }

    reading = {"rollout status", "verify", "status", "drill", "keys new"}
    found = verbs(_parser())
    without = {name for name, verb in found.items() if "--dry-run" not in verb.format_help()}  # type: ignore[attr-defined]
    assert without == reading


def test_the_shares_that_are_told_are_those_of_real_devices() -> None:
    """Against the rule of the devices on 20,000 ids, for random policies and edits."""
    draw = random.Random(4)
    ids = [f"press-{number:05}" for number in range(20_000)]

    def policy() -> Policy:
        chosen = draw.sample("abcd", draw.randint(1, 3))
        shares = [draw.choice([0, 1, 500, 5000, SHARES]) for _ in chosen[1:]] + [SHARES]
        releases = [
            Release(target=f"prod/press/{v}.zip", sha256=v * 64, salt=v, bp=bp)
            for v, bp in zip(chosen, shares, strict=True)
        ]
        return Policy(releases=tuple(releases), halt=draw.random() < 0.2, revoke=(draw.choice("abcd") * 64,))

    for _ in range(12):
        before, after = policy(), policy()
        told = effects.moves(before, after, Fleet(), NOW)
        counted = effects.moves(before, after, Fleet(ids=tuple(ids)), NOW)
        assert sum(told.values()) <= 1 + 1e-9
        for move in told.keys() | counted.keys():
            assert told.get(move, 0) == pytest.approx(counted.get(move, 0), abs=0.015)


def test_a_list_of_devices_gives_exact_numbers(run: Run, site: Site) -> None:
    run(V1)
    ids = [f"press-{number}" for number in range(200)]
    site.repo.with_name("repo-devices.txt").write_text("# all presses\n" + "\n".join(ids) + "\n")
    told = run(V2, "--dry-run")[1]
    run(V2)
    policy = actions.channels(site.repo)[0].policy
    moved = Counter(policy.choose(device, NOW, policy.releases[-1].sha256) is not None for device in ids)[True]
    assert f"{moved} of 200 devices go from press/v1 to press/v2" in told


def test_rollback_moves_devices_and_a_second_publication_is_a_new_offer(run: Run, site: Site) -> None:
    run(V1)
    run("publish TMP/v2.zip --channel stable")
    before = actions.channels(site.repo)[0].policy
    assert run("rollback press --channel stable")[0] == 0
    policy = actions.channels(site.repo)[0].policy
    for device in ("press-1", "press-2"):
        assert policy.choose(device, NOW, before.releases[0].sha256) == policy.releases[0]
    assert policy.releases[0].target == "prod/press/v1.zip"
    assert "10 % of the channel's devices go from press/v1 to press/v2" in run(V2)[1]


def test_promote_takes_what_another_repository_has_proven(run: Run, site: Site, tmp_path: Path, v1: bytes) -> None:
    dev = Site.make(tmp_path / "dev")
    published = dev.publish(v1)
    command = f"promote press/v1 --from {dev.repo} --from-channel stable --channel stable --percent 20"
    code, said, _ = run(command, "--json")
    assert (code, json.loads(said)["sha256"], json.loads(said)["bp"]) == (0, published.sha256, 2000)
    actions.change_policy(dev.repo, [dev.keys], "press", "stable", lambda p: rollout.halt(p, True))
    code, _, error = run(command)
    assert (code, "is halted" in error) == (3, True)
    foreign = Site.make(tmp_path / "foreign")
    code, _, error = run(f"{command} --from-root {foreign.repo / 'root.json'}")
    assert (code, "UnsignedMetadataError" in error) == (1, True)


@pytest.mark.parametrize(
    ("days", "says"),
    [
        (0, []),
        (2, []),
        (3, ["timestamp: refresh has not run for 3 days: devices stop updating on"]),
        (8, ["timestamp: devices have taken no update since"]),
        (40, ["timestamp: devices have taken no update since", "prod-policy: devices have taken no update since"]),
        (350, ["root: ends", "prod: ends", "Bring its keys and run 'refresh --all'"]),
    ],
)
def test_people_are_told_before_devices_stop(site: Site, days: int, says: list[str]) -> None:
    now = datetime.now(UTC) + timedelta(days=days)
    told = watch.ending(Folder(site.repo).load(now).expiries(), now)
    assert [text for text in says if not any(text in line for line in told)] == []
    assert bool(told) == bool(says)


def test_refresh_and_verify_have_exit_codes_for_a_monitor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for days, verify, refresh in ((0, 0, 0), (4, 3, 0), (350, 1, 3)):
        site = Site.make(tmp_path / str(days), datetime.now(UTC) - timedelta(days=days))
        assert main(["verify", str(site.repo)]) == verify
        assert main(["refresh", "--repo", str(site.repo)]) == refresh
    assert "prod: ends" in capsys.readouterr().out


def test_status_says_what_is_next(run: Run) -> None:
    run(V1)
    run(V2)
    said = run("status")[1]
    assert re.search(r"prod +version 3 .* signed by prod-1, prod-2, prod-3 \(2 needed\)", said)
    assert "next: press/v2 is at 10 % of channel stable: 'rollout set press/v2' widens it" in said
    run("halt press --channel stable")
    assert "next: press, channel stable is halted: 'rollback press --channel stable' to press/v1" in run("status")[1]


def test_doctor_finds_what_is_wrong(run: Run, site: Site, v1: bytes) -> None:
    run(V1)
    for name in site.keys.glob("*.pem"):
        if name.stem.startswith(("root", "prod")):
            name.unlink()
    code, said, _ = run("doctor")
    assert (code, said) == (0, "All is well.\n")
    (site.repo / "targets" / "prod" / "press" / "left.zip").write_bytes(b"x")
    (site.keys / "timestamp-1.pem").chmod(0o644)
    code, said, _ = run("doctor")
    assert code == 3
    assert "targets/prod/press/left.zip belongs to nothing" in said
    assert "timestamp-1.pem can be read by others" in said
    next((site.repo / "targets" / "prod" / "press").glob("*.v1.zip")).unlink()
    assert "is lost or damaged" in run("doctor")[1]
