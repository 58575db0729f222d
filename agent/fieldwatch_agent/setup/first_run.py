"""From a PC with the program on it to an agent that scores: one command, which can be repeated.

1. The log: found or named, shown as it is read, agreed to (:mod:`.choose`).
2. Which device this is: by flag, by the token, or asked.
3. ``agent.toml``: written; one that is there keeps every other section, and what it was is kept beside it as ``.old``.
   Without ``--replace`` it is not touched, but for what enrolment adds.
4. With an address and a token: enrolled. A device that is enrolled already stays so.
5. The doctor tries everything, under the service's account where there is one.
6. The service is started, unless the log or the configuration is wrong.

Nobody has to answer: without a terminal each open question ends the command and names the flag.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fieldwatch_contract.topics import DEVICE_ID

from fieldwatch_agent import durable
from fieldwatch_agent.config import Config, load, parse
from fieldwatch_agent.enrol.enroll import Wish, enroll
from fieldwatch_agent.enrol.settings import IDENTITY, Settings, own_sections, render, replace
from fieldwatch_agent.findings import Finding
from fieldwatch_agent.setup.choose import Chooser, Chosen
from fieldwatch_agent.setup.person import Person

NETWORK = frozenset(["broker", "updates", "clock", "service"])
"""Where findings of the doctor do not stand against starting the service: it tries again by itself."""


@dataclass(frozen=True)
class Options:
    """What flags said. ``places``: folders to look into; ``keys``: of ``[log]``; ``token`` None: it is asked for;
    ``own``: the configuration is the one that the service reads."""

    config: Path
    state: Path
    places: Sequence[Path] = ()
    log: str | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    device_type: str | None = None
    url: str | None = None
    token: str | None = None
    replace: bool = False
    own: bool = False


@dataclass
class Report:
    """What came of it. ``next``: what to do now, in order; ``service``: what came of starting it, empty: not tried."""

    config: str
    device: str = ""
    type: str = ""
    log: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = ()
    readings: int = 0
    wrote: bool = False
    enrolled: bool = False
    service: str = ""
    findings: list[Finding] = field(default_factory=list)
    next: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not any(each.level == "error" for each in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


class FirstRun:
    """One run of ``setup``. ``examine``: the doctor; ``start``: starts the installed service and says what came of it,
    empty where none is installed."""

    def __init__(
        self,
        options: Options,
        person: Person,
        say: Callable[[str], None],
        examine: Callable[[Path], Sequence[Finding]],
        start: Callable[[], str],
    ) -> None:
        self._options = options
        self._person = person
        self._say = say
        self._examine = examine
        self._start = start

    def run(self) -> Report:
        """Do it all.

        Raises :class:`.choose.NoLog`, :class:`.person.Unanswered`, :class:`.config.ConfigError`, what
        :func:`.enroll.enroll` raises, :class:`.settings.Unwritable`, :class:`pydantic.ValidationError` and
        :class:`OSError`.
        """
        options = self._options
        report = Report(str(options.config))
        there = load(options.config) if options.config.exists() else None
        chosen = None
        if there is None or options.replace:
            chosen = self._log()
            report.log = chosen.keys
            if chosen.seen is not None:
                report.columns, report.readings = chosen.seen.numeric, len(chosen.seen.found.taken)
        else:
            self._say(f"{options.config} is there and stays as it is; --replace finds the log anew")
        enrolled = (options.state / "identity" / IDENTITY).exists()
        if chosen is not None:
            self._write(there, chosen, enrolling=options.url is not None and not enrolled)
        if options.url is not None:
            self._enrol(enrolled, chosen)
        config = load(options.config)
        report.wrote = chosen is not None
        report.device, report.type = config.device.id, config.device.type
        report.enrolled = config.enrolment is not None
        self._try(report, chosen.findings if chosen is not None else ())
        return report

    def _log(self) -> Chosen:
        options = self._options
        chooser = Chooser(self._person, self._say, options.keys)
        return chooser.named(options.log) if options.log is not None else chooser.found(options.places)

    def _write(self, there: Config | None, chosen: Chosen, enrolling: bool) -> None:
        """Write the configuration; where none is there and the device is to be enrolled, enrolment does."""
        options = self._options
        if there is None and enrolling:
            return
        settings = Settings(
            device=self._device(there), device_type=self._type(there), log=chosen.keys, state=options.state
        )
        if there is None:
            text = render(settings)
        else:
            old = durable.read(options.config)
            text = replace(old.decode("utf-8-sig"), own_sections(settings))
            durable.write(options.config.with_name(options.config.name + ".old"), old)
        parse(options.config, text)
        durable.make_folder(options.config.parent)
        durable.write(options.config, text.encode())
        self._say(f"wrote {options.config}")

    def _device(self, there: Config | None) -> str:
        if self._options.device is not None:
            return self._options.device
        if there is not None:
            return there.device.id
        name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
        default = name if DEVICE_ID.fullmatch(name) else ""
        return self._person.text("The device's id", "say which device this is: --device ID, for example press-0001",
                                 default, lambda text: "" if DEVICE_ID.fullmatch(text)
                                 else "3 to 64 of a-z, 0-9 and '-', for example press-0001")  # fmt: skip

    def _type(self, there: Config | None) -> str:
        if self._options.device_type is not None:
            return self._options.device_type
        if there is not None:
            return there.device.type
        return self._person.text("Its type, which chooses the models", "say the device's type: --type TYPE")

    def _enrol(self, enrolled: bool, chosen: Chosen | None) -> None:
        options = self._options
        assert options.url is not None
        if enrolled:
            self._say(f"enrolled already: {options.state / 'identity' / IDENTITY}")
            return
        token = options.token or self._person.text("The token", "the token: on standard input, or --token")
        log = chosen.keys if chosen is not None else None
        enroll(
            Wish(options.url, token, options.config, options.state, options.device, options.device_type, log), self._say
        )

    def _try(self, report: Report, shown: Sequence[Finding]) -> None:
        """Let the doctor look, start the service, and say what is next; ``shown`` was said already."""
        config = report.config
        report.findings = [each for each in self._examine(Path(config)) if each.where != "service"]
        self._say("")
        for each in report.findings:
            if each.level != "ok" and each not in shown:
                self._say(str(each))
        wrong = [each for each in report.findings if each.level == "error"]
        if not any(each.where not in NETWORK for each in wrong):
            report.service = self._start()
            if report.service:
                self._say(report.service)
        if wrong:
            report.next.append(f"correct what is said above, then: fieldwatch-agent doctor --config {config}")
        if not report.enrolled:
            report.next.append(
                f"to send results and fetch models: fieldwatch-agent setup --url https://HOST:8443 --config {config}"
            )
        if not report.service:
            if self._options.own:
                report.next.append("run it as a service, as root: fieldwatch-agent service install")
            report.next.append(f"run it here: fieldwatch-agent run --config {config}")
        else:
            report.next.append(f"what it does: fieldwatch-agent status --config {config}")
        for number, step in enumerate(report.next):
            self._say(f"{'next:' if not number else '     '} {step}")
