"""The repository in an object store: every verb, two publishers at once, the connection cut at every request.

What must hold whatever happens: a device that looks at the store finds a valid repository, in its old or its new
state; and the same command, given again, does its work.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fieldwatch_trainer.release import actions, ceremony, rekey, rollout, stores
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import ReleaseError, Taken
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, key_name
from fieldwatch_trainer.release.roles import NAMES
from fieldwatch_trainer.release.storage import Local, Storage
from fieldwatch_trainer.release.verify import verify

from tests.bundles import make_bundle
from tests.objectstores import Bucket, running, wired
from tests.updates import UNJUDGED

SCHEMES = [
    pytest.param("s3", id="s3"),
    pytest.param("abfs", id="abfs", marks=pytest.mark.azurite),
    pytest.param("gs", id="gs", marks=pytest.mark.fake_gcs),
]


@pytest.fixture(scope="module")
def bucket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with running("s3", tmp_path_factory.mktemp("s3")) as found:
        yield found


each_store = pytest.mark.parametrize("bucket", SCHEMES, indirect=True)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for version in ("v1", "v2", "v3"):
        (folder / f"{version}.zip").write_bytes(make_bundle(version=version))
    return folder


def new(url: str, keys: Path, bundles: Path) -> bytes:
    """Make a repository with one release; return the root that installers embed."""
    actions.init(url, keys)
    actions.publish(url, [keys], bundles / "v1.zip", "stable", **UNJUDGED)
    return Folder(url).read("root.json")


@pytest.mark.soak
@each_store
def test_every_verb_works_there(
    bucket: Bucket, bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, keys, desk = bucket.prefix(), tmp_path / "keys", tmp_path / "desk"

    def run(words: str, code: int = 0) -> str:
        parts = words.replace("URL", url).replace("KEYS", str(keys)).replace("IN", str(bundles)).split()
        assert main(parts) == code, capsys.readouterr().err
        return capsys.readouterr().out

    run("init URL", 2)
    run("init URL --keys KEYS --channel stable --channel early")
    root = tmp_path / "root.json"
    root.write_bytes(Folder(url).read("root.json"))
    run("publish IN/v1.zip --channel stable --repo URL", 2)
    run("publish IN/v1.zip --channel stable --repo URL --keys KEYS --accept no-gates")
    assert "10 % of the channel's" in run(
        "publish IN/v2.zip --channel stable --percent 10 --repo URL --keys KEYS --accept no-gates"
    )
    run("rollout set press/v2 --channel stable --percent 50 --repo URL --keys KEYS")
    run("halt press --channel stable --repo URL --keys KEYS")
    run("rollback press --channel stable --repo URL --keys KEYS")
    run("promote press/v1 --from URL --from-channel stable --channel early --repo URL --keys KEYS", 2)
    run("promote press/v1 --from-channel stable --channel early --repo URL --keys KEYS")
    run("channel delete early --force --repo URL --keys KEYS")
    run("keys rotate timestamp-1 --repo URL --keys KEYS")
    run("keys add prod --repo URL --keys KEYS")
    run("keys rotate root-1 --repo URL --keys KEYS")
    run("refresh --repo URL --keys KEYS")
    run("refresh --all --repo URL --keys KEYS")
    run(f"sign IN/v3.zip --out {desk} --channel stable --repo URL --keys KEYS --accept no-gates")
    run(f"publish {desk} --repo URL --keys KEYS --dry-run")
    run(f"publish {desk} --repo URL --keys KEYS")
    run("revoke press/v3 --channel stable --repo URL --keys KEYS")
    assert "press, channel stable" in run("status --repo URL")
    assert "signs root and is not encrypted" in run("doctor --repo URL --keys KEYS", 3)
    run("drill lost-key --key prod-2 --repo URL")
    run(f"export {tmp_path / 'lab'} --site lab --repo URL")
    run("verify URL", 2)
    found = json.loads(run(f"verify URL --root {root} --json"))
    assert found["bundles"] == ["prod/press/v1.zip", "prod/press/v2.zip", "prod/press/v3.zip"]
    assert verify(str(tmp_path / "lab"), (tmp_path / "lab/root.json").read_bytes()).bundles == found["bundles"]


@each_store
def test_a_file_is_written_only_on_its_condition(bucket: Bucket, tmp_path: Path) -> None:
    """The same three ways, and the same answers, in a store and in a folder."""
    for files in (stores.connect(bucket.prefix()), Local(tmp_path / "there")):
        _conditions(files)


def _conditions(files: Storage) -> None:
    files.create("metadata/1.root.json", b"a")
    files.create("metadata/1.root.json", b"a")
    with pytest.raises(Taken, match="somebody else has published"):
        files.create("metadata/1.root.json", b"b")
    files.swap("metadata/timestamp.json", b"1", None)
    with pytest.raises(Taken):
        files.swap("metadata/timestamp.json", b"2", None)
    with pytest.raises(Taken):
        files.swap("metadata/timestamp.json", b"2", b"0")
    files.swap("metadata/timestamp.json", b"2", b"1")
    files.write("targets/x", b"x")
    assert [files.read(name) for name in files.names("metadata")] == [b"a", b"2"]
    with pytest.raises(FileNotFoundError):
        files.read("metadata/none")
    with pytest.raises(Taken):
        files.swap("metadata/gone", b"1", b"0")


@pytest.mark.parametrize("bucket", SCHEMES[1:], indirect=True)
def test_of_many_who_swap_at_once_one_does(bucket: Bucket) -> None:
    """Not with moto: it looks at the condition and writes in two steps, so that two of its threads may both win."""
    url = bucket.prefix()
    stores.connect(url).swap("metadata/timestamp.json", b"start", None)
    for turn in range(3):
        before = stores.connect(url).read("metadata/timestamp.json")
        outcomes: list[bytes | None] = []
        gate = threading.Barrier(4)

        def swap(number: int, before: bytes = before, turn: int = turn, gate: threading.Barrier = gate) -> None:
            files, mine = stores.connect(url), b"%d-%d" % (turn, number)
            gate.wait(30)
            try:
                files.swap("metadata/timestamp.json", mine, before)
                outcomes.append(mine)  # noqa: B023
            except Taken:
                outcomes.append(None)  # noqa: B023

        threads = [threading.Thread(target=swap, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [outcome for outcome in outcomes if outcome]
        assert len(outcomes) == 4
        assert won == [stores.connect(url).read("metadata/timestamp.json")]


@pytest.mark.soak
@each_store
@pytest.mark.parametrize("late", range(3))
def test_an_engineer_who_is_overtaken_is_told_and_devices_see_the_other(
    bucket: Bucket, bundles: Path, tmp_path: Path, late: int
) -> None:
    """B publishes while A has put out some of its files, and A then goes on: with every file that is there twice."""
    url, keys = bucket.prefix(), tmp_path / "keys"
    root = new(url, keys, bundles)
    folder = Folder(url)
    repository = folder.load(datetime.now(UTC))
    repository.add_bundle("press", "v2", 1, (bundles / "v2.zip").read_bytes())
    mine = repository.seal(Keyring.load([keys]))
    for file in mine[: (1, 2, len(mine) - 1)[late]]:
        folder.put([file], repository.over)
    actions.publish(url, [keys], bundles / "v3.zip", "stable", **UNJUDGED)
    with pytest.raises(Taken, match="Devices see nothing of this command"):
        folder.put(mine, repository.over)
    assert verify(url, root).bundles == ["prod/press/v1.zip", "prod/press/v3.zip"]
    actions.publish(url, [keys], bundles / "v2.zip", "stable", **UNJUDGED)
    assert verify(url, root).bundles == ["prod/press/v1.zip", "prod/press/v2.zip", "prod/press/v3.zip"]


# ---- the connection is cut -------------------------------------------------------------------------------------

Verb = Callable[[str, Path, Path], object]


def init(url: str, keys: Path, bundles: Path) -> None:
    try:
        actions.init(url, keys)
    except ReleaseError as error:
        if "is a repository already" not in str(error):
            raise


def publish(url: str, keys: Path, bundles: Path) -> None:
    actions.publish(url, [keys], bundles / "v2.zip", "stable", 1000, **UNJUDGED)


def halt(url: str, keys: Path, bundles: Path) -> None:
    actions.change_policy(url, [keys], "press", "stable", lambda policy: rollout.halt(policy, True))


def revoke(url: str, keys: Path, bundles: Path) -> None:
    sha = actions.find(url, "press/v2").sha256
    actions.change_policy(url, [keys], "press", "stable", lambda policy: rollout.revoke(policy, sha))


def refresh(url: str, keys: Path, bundles: Path) -> None:
    ceremony.refresh(url, [keys], everything=True)


def rotate(name: str) -> Verb:
    def verb(url: str, keys: Path, bundles: Path) -> None:
        repository = Folder(url).load(datetime.now(UTC))
        if name in [key_name(key) for role in rekey.MEMBERS for key in repository.authority(role)[0]]:
            ceremony.change_keys(url, [keys], lambda r, make: rekey.rotate(r, name, make(rekey.role_of(r, name))))

    return verb


VERBS: dict[str, Verb] = {
    "init": init, "publish": publish, "halt": halt, "revoke": revoke, "refresh": refresh,
    "rotate root-1": rotate("root-1"), "rotate timestamp-1": rotate("timestamp-1"), "rotate prod-1": rotate("prod-1"),
}  # fmt: skip


class Base:
    """A repository to begin from, copied to a new prefix for every cut."""

    def __init__(self, bucket: Bucket, folder: Path, bundles: Path, verb: str) -> None:
        self.bucket, self.bundles, self.verb, self._folder = bucket, bundles, verb, folder
        self.keys = folder / "keys"
        self.root: bytes | None = None
        self._objects: dict[str, bytes] = {}
        if verb != "init":
            url = bucket.prefix()
            self.root = new(url, self.keys, bundles)
            if verb == "revoke":
                actions.publish(url, [self.keys], bundles / "v2.zip", "stable", **UNJUDGED)
            files = stores.connect(url)
            self._objects = {name: files.read(name) for name in files.names("")}

    def copy(self) -> tuple[str, Path]:
        url = self.bucket.prefix()
        files = stores.connect(url)
        for name, data in self._objects.items():
            files.write(name.lstrip("/"), data)
        keys = self._folder / url.rpartition("/")[2]
        keys.mkdir()
        for path in self.keys.glob("*"):
            (keys / path.name).write_bytes(path.read_bytes())
        return url, keys


def cut(base: Base, at: int, done: bool) -> None:
    url, keys = base.copy()
    verb = VERBS[base.verb]
    with wired(at, done), pytest.raises(ReleaseError, match="the store does not answer as it should"):
        verb(url, keys, base.bundles)
    if base.root is not None:
        assert "prod/press/v1.zip" in verify(url, base.root).bundles, "what devices see at this moment is valid"
    verb(url, keys, base.bundles)
    ceremony.refresh(url, [keys])
    folder = Folder(url)
    folder.check(folder.load(datetime.now(UTC)))
    root = base.root or folder.read("root.json")
    assert verify(url, root).expiries
    ring, repository = Keyring.load([keys]), folder.load(datetime.now(UTC))
    assert all(key.keyid in ring for role in rekey.MEMBERS for key in repository.authority(role)[0]), "a key is lost"
    assert folder.read("root.json") == folder.state().roots[-1], "what installers embed"


@pytest.mark.soak
@pytest.mark.fake_gcs
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("bucket", ["gs"], indirect=True)
def test_the_connection_is_cut_at_every_request(bucket: Bucket, bundles: Path, tmp_path: Path, verb: str) -> None:
    """In the fastest of the stores; the order of the requests, of which this is the proof, is the same in all."""
    base = Base(bucket, tmp_path, bundles, verb)
    url, keys = base.copy()
    with wired() as wires:
        VERBS[verb](url, keys, bundles)
    writes = wires[0].writes
    assert writes >= 3
    for at in range(writes):
        for done in (False, True):
            cut(base, at, done)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bucket", SCHEMES[:2], indirect=True)
def test_the_connection_is_cut_elsewhere_too(bucket: Bucket, bundles: Path, tmp_path: Path) -> None:
    base = Base(bucket, tmp_path, bundles, "publish")
    for at in range(5):
        cut(base, at, done=bool(at % 2))


@each_store
def test_an_answer_that_was_lost_once_is_no_failure(bucket: Bucket, bundles: Path, tmp_path: Path) -> None:
    """The library sends a request again whose answer was lost; its condition fails because it held the first time."""
    url, keys = bucket.prefix(), tmp_path / "keys"
    root = new(url, keys, bundles)
    connect, put = stores.connect, type(stores.connect(url))._put

    def twice(self: stores.Objects, *args: object) -> None:
        put(self, *args)
        put(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connect(url)), "_put", twice)
        actions.publish(url, [keys], bundles / "v2.zip", "stable", **UNJUDGED)
    assert verify(url, root).bundles == ["prod/press/v1.zip", "prod/press/v2.zip"]


def test_the_key_is_lost_and_a_rotation_that_was_cut_is_finished(s3: Bucket, bundles: Path, tmp_path: Path) -> None:
    """No key of the old timestamp is left, so the root goes first: devices wait until the rest is out."""
    url, keys = s3.prefix(), tmp_path / "keys"
    root = new(url, keys, bundles)
    for name in ("timestamp-1", "timestamp-2"):
        (keys / f"{name}.pem").unlink()
    with wired(2), pytest.raises(ReleaseError, match="does not answer"):
        rotate("timestamp-1")(url, keys, bundles)
    ceremony.refresh(url, [keys])
    assert verify(url, root).bundles == ["prod/press/v1.zip"]


@pytest.mark.soak
def test_stores_without_conditions_and_without_answers_are_told(
    s3: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for url, says in {
        "memory://updates/x": "memory knows no writing on a condition, so two engineers at once could break",
        "ftp://host/updates": "a folder, s3://, abfs:// or gs:// can be one",
        s3.prefix(): "no repository at s3://updates/",
        "s3://nobody/updates": "no repository at s3://nobody/updates",
    }.items():
        assert main(["status", "--repo", url]) == 1
        said = capsys.readouterr().err
        assert says in said
        assert "Traceback" not in said
    assert main(["init", "s3://nobody/updates", "--keys", str(tmp_path / "keys")]) == 1
    assert "s3://nobody/updates/metadata/1.root.json: the store does not answer as it should" in capsys.readouterr().err
    assert len(list((tmp_path / "keys").glob("*.pem"))) == len(NAMES)
