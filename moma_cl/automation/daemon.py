"""The daemon: a pass whenever catalogue or inbox have changed.

It only watches: every pass is a process of its own, the same `moma-cl update` that cron would run.
So it stays small, a pass that crashes or fills the memory takes nothing with it, and one that is
told to stop can be killed in the middle of a training, since the next resumes where it was. What is
delivered meanwhile is taken in by another, which leaves the rest to the pass.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

from moma_cl.automation import inbox, notices
from moma_cl.automation.inbox import Delivery
from moma_cl.automation.last_pass import last_pass
from moma_cl.automation.state_files import read_state, write_state
from moma_cl.core.limits import check_seconds
from moma_cl.reconciling.pass_actions import PassAction
from moma_store.errors import BusyError, FormatError, MomaError
from moma_store.locking import FileLock
from moma_store.store import Store

logger = logging.getLogger(__name__)

LOCK = "daemon.lock"
STATE = "daemon.json"
INTERVAL = 10.0
"""Time between two looks, s."""

SHORTEST_INTERVAL = 0.001

LONGEST_PAUSE = 3600.0
"""Longest time until a pass that failed is made again, s."""

_STARTS_WITHIN = 1.0  # s; somebody may be looking whether the lock is held
_TERMINATED_WITHIN = 2.0  # s, before a pass is killed
_POLL = 0.1  # s, while a pass runs
_PIPE = 2**16  # bytes, more than a pipe holds
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_SUCCESSES = frozenset({0, notices.REFUSED, notices.DRIFT, notices.SET_ASIDE})

Look = list[Delivery]


class DaemonState(StrEnum):
    """What a daemon does."""

    IDLE = "idle"
    PASSING = "passing"
    PAUSING = "pausing"  # after a failed pass
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a daemon says of itself.

    Attributes
    ----------
    pid, host
        Where it runs.
    since
        When it started, UTC, ISO 8601.
    beat
        When it said this, UTC, ISO 8601.
    interval
        Time between two looks, s.
    state
        What it does.
    passes
        How many passes it has made.
    exit_code
        How the last of them ended; none before the first.
    """

    pid: int
    host: str
    since: str
    beat: str
    interval: float
    state: DaemonState
    passes: int
    exit_code: int | None


@dataclass(slots=True, kw_only=True)
class Daemon:
    """Watches a hub and lets passes be made.

    Attributes
    ----------
    hub
        The hub.
    command
        Command line that makes one pass and exits: 0 for success.
    interval
        Time between two looks, s.
    """

    hub: Path
    command: Sequence[str]
    interval: float = INTERVAL
    _since: str = ""
    _stopping: bool = False
    _woken: int = -1  # descriptor of a pipe: a byte for each signal
    _passes: int = 0
    _exit_code: int | None = None
    _failures: int = 0
    _pause_until: float = 0.0  # on the monotonic clock
    _seen: tuple[int, Look] | None = None  # transaction and inbox before the last pass
    _looked: Look | None = None  # the last look into the inbox
    _trouble: str = ""
    _lock: FileLock | None = None  # that nobody else watches the hub

    def __post_init__(self) -> None:
        check_seconds("interval", self.interval, least=SHORTEST_INTERVAL)

    def run(self) -> None:
        """Watch until a signal says to stop.

        Raises
        ------
        BusyError
            If the hub has a daemon already.
        FormatError
            If a newer version made the hub.
        """
        self._since = _now()
        Store.open(self.hub).close()  # says what is wrong with the hub
        self._hold()
        try:
            with self._signals():
                logger.info("watching %s every %g s", self.hub, self.interval)
                while not self._stopping:
                    change = self._due()
                    if change is not None:
                        self._pass(change)
                    self._beat(self._resting)
                    self._wait(self.interval)
                self._beat(DaemonState.STOPPED)
                logger.info("stopped after %d passes", self._passes)
        finally:
            self._let_go()

    def _hold(self) -> None:
        """See to it that this daemon alone watches what is at the path, also after a move."""
        if self._holds():
            return
        if self._lock is not None:
            logger.warning("the hub at %s was moved or replaced", self.hub)
            self._seen = None  # what is there now is another hub
        self._let_go()
        try:
            self._lock = FileLock.acquire(
                self.hub / LOCK, wait=_STARTS_WITHIN, now=datetime.now(UTC)
            )
        except BusyError as error:
            beat = heartbeat(self.hub)
            who = "" if beat is None else f": process {beat.pid} on {beat.host}"
            raise BusyError(
                f"the hub {self.hub} has a daemon already{who}; `moma-cl status` shows what it does"
            ) from error

    def _holds(self) -> bool:
        return self._lock is not None and self._lock.is_in_place(self.hub / LOCK)

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    @property
    def _resting(self) -> DaemonState:
        return DaemonState.PAUSING if self._failures else DaemonState.IDLE

    def _due(self) -> tuple[int, Look] | None:
        """Look at catalogue and inbox; give what was seen if a pass is due."""
        try:
            with Store.open(self.hub) as store, store.snapshot() as view:
                transaction = view.transaction
            self._hold()
            look = inbox.look(self.hub)
        except (FormatError, BusyError):
            raise
        except MomaError as error:
            if not self._holds():
                self._let_go()  # it may be watched from where it is now
            self._say(f"cannot look at the hub, will try again: {error.message}")
            return None
        self._say("")
        # A pass leaves unfinished deliveries alone, so it waits until the inbox keeps still.
        still, self._looked = look == self._looked, look
        delivered = self._seen is not None and still and look != self._seen[1]
        if time.monotonic() < self._pause_until and not delivered:
            return None
        changed = self._seen is None or self._failures or transaction != self._seen[0]
        return (transaction, look) if changed or delivered else None

    def _pass(self, change: tuple[int, Look]) -> None:
        """Let a pass be made. What it changes itself causes one more, which has nothing to do."""
        self._seen = change
        exit_code = self._run_pass(change[1])
        if self._stopping:  # cut short, which says nothing of it
            return
        self._exit_code = exit_code
        self._passes += 1
        if self._exit_code in _SUCCESSES:
            self._failures = 0
        else:
            self._failures += 1
            pause = min(6 * self.interval * 2 ** (self._failures - 1), LONGEST_PAUSE)
            self._pause_until = time.monotonic() + pause
            logger.warning("the pass exited %d; next in %.0f s", self._exit_code, pause)
        self._report()

    def _run_pass(self, look: Look) -> int:
        """Run the pass to its end or ours, with a heartbeat; another takes in what is delivered."""
        running = [self._start()]
        exit_codes: list[int] = []
        beat = 0.0
        try:
            while running and not self._stopping:
                exit_codes += [code for one in running if (code := one.poll()) is not None]
                running = [one for one in running if one.returncode is None]
                if running and time.monotonic() >= beat:
                    self._beat(DaemonState.PASSING)
                    beat = time.monotonic() + self.interval
                    if len(running) == 1 and (new := self._delivered(look)):
                        look = [*look, *new]
                        running.append(self._start())
                time.sleep(_POLL)
        finally:
            for process in running:
                _end(process)
        # One that found the other at work has done what it was started for.
        failed = [code for code in exit_codes if code not in {*_SUCCESSES, BusyError.exit_code}]
        return next(iter((*failed, *exit_codes)), 0)

    def _start(self) -> subprocess.Popen[bytes]:
        # In a session of its own: signals are for us, and all that it starts ends with it.
        return subprocess.Popen(self.command, stdin=subprocess.DEVNULL, start_new_session=True)

    def _delivered(self, known: Look) -> Look:
        """List what has come into the inbox and keeps still."""
        try:
            look = inbox.look(self.hub)
        except MomaError:
            return []  # the next look between two passes says so
        before, self._looked = self._looked or [], look
        return [one for one in look if one in before and one not in known]

    def _report(self) -> None:
        ended = last_pass(self.hub)
        if ended is None:
            return
        unsaid = {PassAction.LEFT, PassAction.LEFT_TO_ANOTHER}
        done = {a: n for a, n in ended.actions.items() if a not in unsaid}
        if done:
            told = ", ".join(f"{count} {action}" for action, count in done.items())
            logger.info("a pass of %.1f s: %s", ended.seconds, told)

    def _say(self, trouble: str) -> None:
        """Log what goes wrong when it begins, not at every look."""
        if trouble and trouble != self._trouble:
            logger.warning("%s", trouble)
        self._trouble = trouble

    def _beat(self, state: DaemonState) -> None:
        if not self._holds():  # what is at the path now is not watched yet
            return
        heartbeat = Heartbeat(
            pid=os.getpid(),
            host=socket.gethostname(),
            since=self._since,
            beat=_now(),
            interval=self.interval,
            state=state,
            passes=self._passes,
            exit_code=self._exit_code,
        )
        # A full disk must not stop who might make room by what it computes next.
        with suppress(OSError):
            write_state(self.hub / STATE, asdict(heartbeat))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; SIGHUP only makes it look at once."""
        # Handlers take no lock: they may interrupt who holds it. A pipe ends the wait instead.
        self._woken, waking = os.pipe()
        os.set_blocking(waking, False)
        fd_before = signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        handlers = dict.fromkeys(_STOP_SIGNALS, self._on_stop)
        handlers[signal.SIGHUP] = _on_wake
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(fd_before)
            os.close(waking)
            os.close(self._woken)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping = True

    def _wait(self, seconds: float) -> None:
        """Wait, less long if a signal has come since the last wait or comes now."""
        ready, _, _ = select.select([self._woken], [], [], seconds)
        if ready:
            os.read(self._woken, _PIPE)


def heartbeat(hub: Path) -> Heartbeat | None:
    """Read what the last daemon said of itself; none where there is no file that can be read."""
    document = read_state(hub / STATE)
    try:
        return None if document is None else _read(document)
    except (KeyError, TypeError, ValueError):  # another version of moma-cl wrote it
        return None


def _read(document: dict[str, Any]) -> Heartbeat:
    return Heartbeat(**{**document, "state": DaemonState(document["state"])})


def is_running(hub: Path) -> bool:
    """Tell whether a hub has a daemon now: by the lock it holds, not by the clock."""
    return FileLock.is_held(hub / LOCK)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a pass and all it started, unless it has ended."""
    for number, seconds in ((signal.SIGTERM, _TERMINATED_WITHIN), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def _on_wake(number: int, frame: FrameType | None) -> None:
    del number, frame


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
