"""``docs/install.md`` is walked: every command on it is run as it stands, in fresh machines with a real systemd.

:data:`WALKED` says which test walks which part of the page; a part that none walks, and a command in it that its test
does not come to, fail. What stands for what on the page is in :func:`here`, all of it. ``more=`` and ``before=`` add
the words that the page leaves to the reader, such as which device this is.

``make test-packages`` runs this as root, with the packages that ``make package`` built.
"""

from __future__ import annotations

import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.bundles import make_bundle
from tests.conftest import wait_until
from tests.e2e.test_enrolment import Centre
from tests.packages.device import CONFIG, PATIENCE, STATE, Device
from tests.packages.machine import ROOT, Machine
from tests.packages.page import Walk, steps
from tests.packages.previous import with_version
from tests.packages.proxy import proxy
from tests.updates import Site, serve

pytestmark = pytest.mark.timeout(1500)
CENTRE, UPDATES, PROXY = "fieldwatch.example.org", "updates.example.org", "proxy.example.org"
DROPIN = "/etc/systemd/system/fieldwatch-agent.service.d/override.conf"
WALKED = {
    "test_the_package": (
        "", "What is changed on the machine, and how to undo it", "Upgrade, downgrade, remove",
    ),
    "test_the_log_is_not_found_and_there_is_no_network": (
        "The log is not found, or read wrongly", "Without a network",
    ),
    "test_behind_a_proxy": ("Behind a proxy",),
    "test_with_python": ("With Python instead of the package",),
}  # fmt: skip
TOLD = "What is proven where"
"""Speaks of tests, this one among them."""
KEYS = ("[service] log_file", "[updates] ca")
"""On the page these are keys of a configuration."""


def here(device: str, centre: Centre, built: Path, ports: tuple[int, int] = (0, 3128)) -> dict[str, str]:
    """Return what stands for what on the page: ``ports`` of centre and proxy, which nobody can promise to be free."""
    return {
        "fieldwatch-agent_0.1.0_amd64.deb": built.name,  # whatever its version and architecture
        "fieldwatch-0.1.0-py3-none-any.whl": built.name,
        f"{CENTRE}:8443": f"{CENTRE}:{ports[0] or centre.port}",
        f"{PROXY}:3128": f"{PROXY}:{ports[1]}",
        "press-0001": device,  # the tests have one centre
        "apt install": "apt-get -qq install",  # nobody is there to say yes; what it installs was fetched before
    }


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    """A centre that is known by name, with an update server over TLS behind an authority of its own."""
    folder = tmp_path_factory.mktemp("centre")
    site = Site.make(folder / "release")
    site.publish(make_bundle(3))
    authority = Authority(folder, "updates-authority")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("updates", UPDATES))
    with serve(site.repo, tls) as server:
        url = f"https://{UPDATES}:{server.port}/"
        with Centre(folder, url, site.root_file, [CENTRE], authority.file).serving() as made:
            yield made


@pytest.fixture
def walk(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Callable[[dict[str, str]], Walk]]:
    """The part of the page that is the test's; when the test ends well, nothing of it may be left."""
    made: list[Walk] = []
    failed = request.session.testsfailed

    def begin(replaced: dict[str, str]) -> Walk:
        made.append(Walk(WALKED[request.node.name], machine, replaced))
        made[0].left = [step for step in made[0].left if step.text not in KEYS]
        return made[0]

    yield begin
    if request.session.testsfailed == failed:
        assert [step.text for step in made[0].left] == [], "on the page, and not run"


def test_every_part_of_the_page_is_walked() -> None:
    walked = [heading for headings in WALKED.values() for heading in headings]
    assert sorted(walked) == sorted(heading for heading, found in steps().items() if found and heading != TOLD)
    assert set(WALKED) <= set(globals())


def test_the_package(walk: Callable[..., Walk], machine: Machine, centre: Centre, package: Path) -> None:
    device = Device("press-9201", machine, centre, "/data/press/readings.csv")
    page = walk(here(device.id, centre, package))
    machine.knows(CENTRE, UPDATES)
    before = machine.files()
    device.writes(60)
    machine.put(package, f"root/{package.name}")
    token = centre_says(centre, page.step("fieldwatch-cloud enroll "))
    assert "fieldwatch-agent setup " in page.run("dpkg -i fieldwatch").stdout

    shown = page.talk("fieldwatch-agent setup --url", [("Is this right?", ""), ("The token", token)])
    page.says("the service runs", shown)
    device.all_arrived("results in the cloud")
    assert "comes whole and passes its self-test here" in page.run("fieldwatch-agent doctor").stdout
    rated = page.run("systemd-analyze security", more="--no-pager").stdout.rstrip().splitlines()[-1]
    assert re.search(r": 1\.[0-2] ", rated), rated

    config = machine.root / CONFIG.lstrip("/")
    once = config.read_text()
    page.run("setup --replace", before="fieldwatch-agent", more="--log '/data/press/*.csv'")
    assert "/data/press/*.csv" in config.read_text()
    config.with_name("agent.toml.old").rename(config)
    assert config.read_text() == once

    page.run("systemctl disable --now")  # the undo of setup, then setup as nobody sits there
    page.run("rm -r /etc")
    assert "revoked" in centre_says(centre, page.step("fieldwatch-cloud enrolment revoke "))
    assert machine.run("systemctl is-enabled fieldwatch-agent", check=False).stdout.strip() == "disabled"
    token = centre.token(device.id, "--type", "press", "--replace")
    (machine.root / "root" / "token.txt").write_text(token + "\n")
    assert "the service runs" in page.run("fieldwatch-agent setup --url").stdout
    device.writes(10)
    device.all_arrived("results of the device that was enrolled anew, from a file")

    other = machine.root / "root" / "other.deb"
    with_version(package, "0~other", other)
    kept = machine.run(f"cat {CONFIG} {STATE}/identity/device.pem").stdout
    dpkg = page.step("dpkg -i")
    for name in (other.name, package.name):
        old = device.pid()
        machine.run(f"cd /root; {dpkg} {name}")
        device.started_again(old, f"the restart by {name}")
        assert machine.run(f"cat {CONFIG} {STATE}/identity/device.pem").stdout == kept
    device.writes(10)
    device.all_arrived("results after a downgrade and an upgrade")
    page.step("dpkg -i")  # below its other heading

    for verb in ("usermod -aG dialout fieldwatch-agent", f"install -D /dev/null {DROPIN}"):
        machine.run(verb)
    assert page.step("systemctl edit")  # what it makes is DROPIN
    page.run("gpasswd -d")
    assert machine.run("id -nG fieldwatch-agent").stdout.split() == ["fieldwatch-agent"]
    page.run("systemctl revert")
    page.run("dpkg -r", more="fieldwatch-agent")
    assert machine.run("systemctl is-active fieldwatch-agent", check=False).stdout.strip() != "active"
    assert machine.run(f"ls {STATE}/journal.db {CONFIG}").returncode == 0
    page.run("dpkg -P", more="fieldwatch-agent")
    assert machine.files() - before == set()
    assert machine.run("getent passwd fieldwatch-agent", check=False).returncode != 0


def test_the_log_is_not_found_and_there_is_no_network(
    walk: Callable[..., Walk], machine: Machine, centre: Centre, package: Path
) -> None:
    """No bundle comes by the network: the update server has a name that leads nowhere."""
    device = Device("press-9203", machine, centre, "/home/lab/press/readings.csv")
    page = walk(here(device.id, centre, package))
    machine.knows(CENTRE, elsewhere=[UPDATES])
    machine.run(f"dpkg -i {machine.put(package, package.name)}")
    who = f"--device {device.id} --type press"

    def forget() -> None:
        machine.run(f"systemctl stop fieldwatch-agent; rm -f {CONFIG}")

    def written(name: str, times: Sequence[str], value: str = "12.5") -> None:
        """Another log: a reading at each time."""
        log = machine.root / "data" / name
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("timestamp;s0;s1\n" + "".join(f"{each};{i % 3 + 1};{value}\n" for i, each in enumerate(times)))

    plain = page.step("fieldwatch-agent setup")

    def setup() -> subprocess.CompletedProcess[str]:
        return machine.run(f"cd /root; {plain} {who}", check=False)

    page.says("no log of a device", setup().stderr)
    written("press/readings.csv", [f"2026-11-20 10:{i:02d}:00" for i in range(60)])
    told = page.run("setup /data/press", before="fieldwatch-agent", more=who).stdout
    page.says("the times carry no zone", told)
    assert machine.run("systemctl is-active fieldwatch-agent").stdout.strip() == "active"
    forget()
    page.run("--timezone", before=f"{plain} {who}")
    assert 'timezone = "Europe/Berlin"' in machine.run(f"cat {CONFIG}").stdout
    forget()
    written("other/values.csv", [f"2026-11-20 10:{i:02d}:00" for i in range(60)])
    page.says("several logs", setup().stderr)
    page.run("--log", before=f"{plain} {who}")
    forget()
    shutil.rmtree(machine.root / "data" / "other")
    for flag, times, value in (
        ("--set timestamp.format", [f"03/04/2026 10:{i:02d}:00" for i in range(60)], "12.5"),
        ("--set decimal", [f"2026-11-20 10:{i:02d}:00" for i in range(60)], "1,234"),
    ):
        written("press/readings.csv", times, value)
        refused = setup()
        page_line = next(step.text for step in page.left if step.text.startswith(flag))
        assert refused.returncode != 0 and page_line in refused.stderr, refused.stdout + refused.stderr
        page.run(flag, before=f"{plain} {who}")
        forget()
    shutil.rmtree(machine.root / "data")

    device.writes(60)  # below /home, the group's
    machine.run("chgrp -R dialout /home/lab; chmod 0750 /home/lab /home/lab/press; chmod 0640 /home/lab/press/*")
    refused = setup()
    page.says("cannot be read", refused.stdout)
    assert refused.returncode == 3 and "the service runs" not in refused.stdout
    page.run("usermod -aG")
    assert "ProtectHome=read-only" in page.edit("systemctl edit")
    token = centre.token(device.id, "--type", "press")
    later = machine.run(f"{plain} --url https://{CENTRE}:{centre.port}", stdin=token + "\n", check=False)
    assert "added [enrolment], [mqtt], [updates]" in later.stdout and "the service runs" in later.stdout
    assert (later.returncode, "updates" in later.stdout) == (3, True), "no update server: it says so"
    page.run("systemctl restart")

    shutil.copytree(centre.folder / "release" / "repo", machine.root / "media" / "usb" / "fieldwatch")
    stick = machine.root / "media" / "usb"
    stick.chmod(0o700)
    command = page.step("fieldwatch-agent update")
    closed = machine.run(command, check=False)
    assert closed.returncode == 1 and "cannot be read: Permission denied; copy the folder" in closed.stdout
    stick.chmod(0o755)
    assert machine.run(command).stdout.startswith("activated: ")
    assert machine.run(f"find {STATE} ! -user fieldwatch-agent").stdout == "", "all is the service's to change"
    device.writes(5)
    device.all_arrived("results of a log that the group may read, below /home, by a bundle from the stick")


def test_behind_a_proxy(walk: Callable[..., Walk], machine: Machine, centre: Centre, package: Path) -> None:
    """Both servers have names that lead somewhere through the proxy only."""
    device = Device("press-9204", machine, centre)
    updates = int(re.findall(rf"{UPDATES}:(\d+)", centre.config.read_text())[0])
    known = {f"{CENTRE}:8443": centre.port, f"{UPDATES}:{updates}": updates}
    with proxy("name:password", known) as through:
        page = walk(here(device.id, centre, package, (8443, through.port)))
        machine.knows(PROXY, elsewhere=[CENTRE, UPDATES])
        machine.run(f"dpkg -i {machine.put(package, package.name)}")
        device.writes(60)
        done = page.run("https_proxy=", stdin=centre.token(device.id, "--type", "press") + "\n")
        assert "the service runs" in done.stdout and set(through.asked) == set(known)
        said = "journalctl -u fieldwatch-agent --no-pager"
        wait_until(
            lambda: f"{UPDATES}:{updates}/ cannot be reached" in machine.run(said).stdout,
            "a try without proxy",
            PATIENCE,
        )
        through.asked.clear()
        typed = page.edit("systemctl edit")
        page.run("systemctl restart")
        device.all_arrived("results by a bundle that came through the proxy")
        assert f"{UPDATES}:{updates}" in through.asked and through.refused == []
        looked = machine.run(f"fieldwatch-agent doctor --config {CONFIG}").stdout  # in a shell without the proxy
        assert "comes whole and passes its self-test here" in looked

        secret = machine.root / "etc" / "fieldwatch-agent" / "proxy"  # where not everybody may read the password
        secret.write_text(typed.partition("Environment=")[2] + "\n")
        secret.chmod(0o600)
        (machine.root / DROPIN.lstrip("/")).write_text("[Service]\nEnvironmentFile=/etc/fieldwatch-agent/proxy\n")
        through.asked.clear()
        machine.run("systemctl daemon-reload; systemctl restart fieldwatch-agent")
        wait_until(lambda: through.asked, "the proxy named in a file", PATIENCE)


def test_with_python(walk: Callable[..., Walk], machine: Machine, centre: Centre, tmp_path: Path) -> None:
    """The wheels come as the page says for a PC without a network, in the versions that are pinned."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    device = Device("press-9205", machine, centre)
    page = walk(here(device.id, centre, wheel))
    machine.knows(CENTRE, UPDATES)
    fetch(page.step("pip download"), tmp_path)
    shutil.copytree(tmp_path / "wheels", machine.root / "root" / "wheels")
    machine.put(wheel, f"root/{wheel.name}")
    device.writes(60)
    page.run("apt install python3-venv")
    before = machine.files()
    page.run("python3 -m venv")
    pip, _, rest = page.step("/opt/fieldwatch/bin/pip install").partition("/pip ")
    _, _, offline = page.step("pip install").partition("pip ")
    assert rest == f"install {wheel.name}" and offline.endswith(wheel.name)
    machine.run(f"cd /root; {pip}/pip {offline}")
    token = centre.token(device.id, "--type", "press")
    first = page.run("/opt/fieldwatch/bin/fieldwatch-agent setup", stdin=token + "\n").stdout
    assert "service install" in first, first
    told = page.run("/opt/fieldwatch/bin/fieldwatch-agent service install").stdout
    assert "the service runs" in told
    page.step("service install")  # the same, in the prose
    device.all_arrived("results of the program that pip installed")
    assert machine.run(f"find {STATE} ! -user fieldwatch-agent").stdout == ""
    machine.run("/opt/fieldwatch/bin/fieldwatch-agent service status")
    page.run("/opt/fieldwatch/bin/fieldwatch-agent service uninstall")
    page.run("userdel")
    page.run("rm -r")
    assert machine.files() - before == set(), "nothing is left"
    assert machine.run("getent group fieldwatch-agent", check=False).returncode != 0


def fetch(command: str, folder: Path) -> None:
    """Run the page's ``pip download`` here, for the machine's Python and in the pinned versions."""
    pinned = re.findall(r"^([\w-]+==[^\\\n]*?) *\\$", (ROOT / "requirements" / "agent.txt").read_text(), re.M)
    (folder / "pinned.txt").write_text("\n".join(pinned) + "\n")
    pip, *words = shlex.split(command)
    machines = ["--python-version", "3.11", "--only-binary", ":all:", "--constraint", "pinned.txt"]
    done = subprocess.run(
        [sys.executable, "-m", pip, *words, *machines], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def centre_says(centre: Centre, command: str) -> str:
    """Run a command of the page that is the centre's."""
    program, *words = shlex.split(command)
    assert program == "fieldwatch-cloud"
    done = centre.cloud(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
