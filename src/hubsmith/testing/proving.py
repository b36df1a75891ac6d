"""A pytest plugin that records what passed and runs only what is not proven.

It always records. The rest is for ``scripts/test`` and ``hubsmith test``:

- ``--unproven``: the fast tests, then every test without a valid proof (most recently changed first; with ``--all``,
  files with slow tests only come last), then proven ones at random for :data:`SAMPLE_SECONDS`, so that the record
  stays honest;
- ``--about IMAGE``: only the tests that an image takes part in, slow ones too; with ``--report FILE`` a report of them.

A proven test that fails when it is run again loses its proof, unless the harness is at fault. A table at the end says
what ran, what was proven before and what is not proven. The run fails while a test that is not slow is not proven.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hubsmith.errors import HubsmithError
from hubsmith.output import Output
from hubsmith.paths import project_root
from hubsmith.run import run
from hubsmith.testing.inputs import InputsOf, Watch, change_times
from hubsmith.testing.plugin import VERDICT
from hubsmith.testing.proofs import FOLDER, Inputs, Proofs
from hubsmith.testing.report import report, write_report
from hubsmith.vm.accel import qemu_version

#: How long proven tests are run again, in seconds.
SAMPLE_SECONDS = 600
#: The property (`record_property`) that a test puts into its proof: the checks that it ran inside a machine.
CHECKS = "checks"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which tests are run."""
    group = parser.getgroup("hubsmith")
    group.addoption("--unproven", action="store_true", help="run fast tests, unproven ones, and a sample of the others")
    group.addoption("--about", metavar="IMAGE", help="only tests that this image takes part in, slow ones too")
    group.addoption("--all", action="store_true", dest="slow_too", help="with --unproven: slow tests too")
    group.addoption("--fresh", action="store_true", help="take nothing for proven")
    group.addoption(
        "--stop-at",
        type=float,
        metavar="EPOCH",
        help="begin no test but fast ones after this moment (seconds since 1970)",
    )
    group.addoption(
        "--sample", type=float, default=SAMPLE_SECONDS, metavar="SECONDS",
        help="with --unproven: begin no test that is proven after so long (default: %(default)s)",
    )  # fmt: skip
    group.addoption("--report", type=Path, metavar="FILE", help="with --about: write a report as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin proper."""
    config.addinivalue_line(
        "markers", "reads(globs): files that the test depends on and that no import or fixture shows"
    )
    config.pluginmanager.register(Proving(config), "proving")


@dataclass
class Tests:
    """The tests of a run by state, as node IDs.

    :ivar kinds: the kind of each test: the name of its folder below ``tests/``.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    fast: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    contradicted: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def unproven(self) -> set[str]:
        """Those with no valid proof now."""
        return {test for test in self.kinds if test not in self.fast | self.proven}


class Proving:
    """The state of one run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.root = project_root(config.rootpath)
        self.proofs = Proofs(self.root)
        self.inputs_of = InputsOf(self.root)
        self.watch = Watch(self.inputs_of)
        self.tests = Tests()
        self.inputs: dict[str, Inputs] = {}
        self.sample: set[str] = set()
        self.broken = False
        self._sha256 = ""
        self._seen: set[Path] = set()
        self._sampling_since: float | None = None
        self._phases: dict[str, list[pytest.TestReport]] = {}
        self._commit: str | None = None
        self._qemu: str | None = None

    @property
    def selecting(self) -> bool:
        """Whether proofs decide what is run."""
        return bool(self.config.getoption("--unproven") or self.config.getoption("--about"))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Notice a file that cannot be imported: nothing is known of its tests."""
        self.broken |= report.failed

    # Which tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose the tests and their order."""
        for item in items:
            test = item.nodeid
            self.tests.kinds[test] = item.path.relative_to(self.root / "tests").parts[0]
            if item.get_closest_marker("slow"):
                self.tests.slow.add(test)
            if self.inputs_of.is_fast(item):
                self.tests.fast.add(test)
                continue
            self.inputs[test] = self.inputs_of.of(item)
            if not self.config.getoption("--fresh") and self.proofs.valid(test, self.inputs[test]):
                self.tests.proven.add(test)
        if self._all_collected():
            self.proofs.prune(set(self.inputs))
        if not self.selecting:
            return
        about = self.config.getoption("--about")
        if about:
            try:
                self._sha256 = Output.of(self.root, about).sha256
            except HubsmithError as error:
                raise pytest.UsageError(str(error)) from None
            for item in items:
                if about not in getattr(self.inputs.get(item.nodeid), "images", {}):
                    self._forget(item.nodeid)
        slow_too = about or self.config.getoption("slow_too")
        known = [item for item in items if item.nodeid in self.tests.kinds]
        wanted = [item for item in known if slow_too or item.nodeid not in self.tests.slow]
        fast = [item for item in wanted if item.nodeid in self.tests.fast]
        unproven = [item for item in wanted if item.nodeid in self.tests.unproven]
        proven = [] if about else self._sample([item for item in wanted if item.nodeid in self.tests.proven])
        self.sample = {item.nodeid for item in proven}
        chosen = [*fast, *self._newest_first(unproven), *proven]
        left = {id(item) for item in items} - {id(item) for item in chosen}
        self.config.hook.pytest_deselected(items=[item for item in items if id(item) in left])
        items[:] = chosen

    def _all_collected(self) -> bool:
        """Whether the tests that pytest knows of are all that there are."""
        some = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "collectonly")
        chosen = self.broken or any(getattr(self.config.option, name, None) for name in some)
        return self.config.args_source == pytest.Config.ArgsSource.TESTPATHS and not chosen

    def _forget(self, test: str) -> None:
        self.tests.kinds.pop(test, None)
        for group in (self.tests.fast, self.tests.slow, self.tests.proven):
            group.discard(test)

    def _newest_first(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """The files whose inputs changed last come first, and those with slow tests only come last.

        Within a file the order stays, since its tests share machines.
        """
        if not items:
            return []
        times = change_times(self.root)
        newest: dict[Path, int] = {}
        for item in items:
            changed = max((times.get(path, 0) for path in self.inputs[item.nodeid].files), default=0)
            newest[item.path] = max(newest.get(item.path, 0), changed)
        required = {item.path for item in items if item.nodeid not in self.tests.slow}
        return sorted(items, key=lambda item: (item.path not in required, -newest[item.path], item.path))

    def _sample(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """All in an order that the commit decides."""
        return random.Random(self.commit).sample(items, len(items))

    # Running them

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """pytest's own loop, which ends when the time is over."""
        if not self.selecting or session.config.option.collectonly:
            return None
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            errors = session.testsfailed
            raise session.Interrupted(f"{errors} error{'s' if errors != 1 else ''} during collection")
        for index, item in enumerate(session.items):
            if self._over(item):
                break
            following = session.items[index + 1] if index + 1 < len(session.items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        return True

    def _over(self, item: pytest.Item) -> bool:
        if item.nodeid in self.tests.fast:
            return False
        stop_at = self.config.getoption("--stop-at")
        if stop_at is not None and time.time() >= stop_at:
            return True
        if item.nodeid in self.sample:
            self._sampling_since = self._sampling_since or time.monotonic()
            limit: float = self.config.getoption("--sample")
            # A harness that fails says nothing of proofs, and would go on failing.
            unfit = any(self.tests.failed.get(test) == "harness" for test in self.sample)
            return unfit or time.monotonic() - self._sampling_since >= limit
        return False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watch what the test uses."""
        if item.nodeid not in self.inputs:
            return (yield)
        with self.watch.watching() as self._seen:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Watch what the fixture uses."""
        with self.watch.setting_up(fixturedef):
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge what it used, when it has passed so far."""
        outcome = yield
        if item.nodeid in self.inputs:
            self.watch.judge(item, self.inputs[item.nodeid], self._seen)
        return outcome

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the test when its last phase is over."""
        phases = self._phases.setdefault(report.nodeid, [])
        phases.append(report)
        if report.when != "teardown":
            return
        test, tests = report.nodeid, self.tests
        tests.ran.add(test)
        bad = next((phase for phase in phases if phase.failed), None)
        skipped = next((phase for phase in phases if phase.skipped), None)
        if bad is not None:
            tests.failed[test] = verdict = str(dict(bad.user_properties).get(VERDICT, "image"))
            if verdict == "image" and test in self.inputs and self.proofs.valid(test, self.inputs[test]):
                tests.contradicted.add(test)
                tests.proven.discard(test)
                self.proofs.delete(test)
        elif skipped is not None:
            tests.skipped[test] = str(skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else skipped.longrepr)
        else:
            tests.passed.add(test)
            if test in self.inputs and self.inputs_of.unchanged(self.inputs[test]):
                self._record(test, phases)
                tests.proven.add(test)
        del self._phases[test]

    def _record(self, test: str, phases: list[pytest.TestReport]) -> None:
        checks = {name: value for phase in phases for name, value in phase.user_properties if name == CHECKS}
        self.proofs.record(
            test, self.inputs[test], date=f"{datetime.now(UTC):%Y-%m-%d}",
            seconds=round(sum(phase.duration for phase in phases), 1), commit=self.commit, qemu=self.qemu, **checks,
        )  # fmt: skip

    @property
    def commit(self) -> str:
        """The commit that is tested; with ``+`` when the tree differs from it, empty when it is no checkout."""
        if self._commit is None:
            head = run(["git", "rev-parse", "HEAD"], cwd=self.root, check=False).stdout.strip()
            status = ["git", "status", "--porcelain", "--", ".", f":!{FOLDER}"]
            changed = run(status, cwd=self.root, check=False).stdout.strip()
            self._commit = head[:12] + ("+" if changed else "")
        return self._commit

    @property
    def qemu(self) -> str:
        """The version of QEMU."""
        if self._qemu is None:
            self._qemu = qemu_version().removeprefix("QEMU emulator version ")
        return self._qemu

    # What comes of it

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail while something is not proven; write the report."""
        if not self.selecting or session.config.option.collectonly:
            return
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.tests.kinds:
            session.exitstatus = pytest.ExitCode.OK  # everything is proven
        unproven = self.tests.unproven if self.config.getoption("--about") else self.tests.unproven - self.tests.slow
        if session.exitstatus == pytest.ExitCode.OK and unproven:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if (path := self.config.getoption("--report")) is not None and not self.broken:
            write_report(path, *self._report(self.config.getoption("--about")))

    def _report(self, image: str) -> tuple[str, dict[str, Any]]:
        tests = self.tests
        skipped = {test: f"skipped: {why}" for test, why in tests.skipped.items()}
        missing = {test: {**skipped, **tests.failed}.get(test, "not run") for test in sorted(tests.unproven)}
        proofs = {test: self.proofs.get(test) or {} for test in sorted(tests.proven)}
        return image, report(image, self._sha256, proofs=proofs, missing=missing)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if not self.selecting or self.config.option.collectonly:
            return
        terminalreporter.section("proofs")
        for line in self.summary():
            terminalreporter.write_line(line)

    def summary(self) -> list[str]:
        """What ran, what was proven before, what is not proven."""
        tests = self.tests
        columns: dict[str, Counter[str]] = {}
        for test, kind in tests.kinds.items():
            row = columns.setdefault(kind, Counter())
            row["ran"] += test in tests.ran
            row["earlier"] += test in tests.proven - tests.ran
            row["unproven"] += test in tests.unproven
        lines = [f"{'tests':<12}{'run now':>10}{'proven earlier':>17}{'not proven':>13}"]
        for kind, row in sorted(columns.items()):
            lines.append(f"{kind:<12}{row['ran']:>10}{row['earlier']:>17}{row['unproven']:>13}")
        total = sum(columns.values(), Counter())
        lines.append(f"{'all':<12}{total['ran']:>10}{total['earlier']:>17}{total['unproven']:>13}")
        for title, names in (
            ("contradicted proofs, deleted", tests.contradicted),
            ("NOT PROVEN", tests.unproven - tests.slow),
            ("NOT PROVEN, slow (scripts/test --all runs them)", tests.unproven & tests.slow),
        ):
            if names:
                lines += ["", f"{title}: {len(names)}", *(f"  {name}" for name in sorted(names))]
        return lines
