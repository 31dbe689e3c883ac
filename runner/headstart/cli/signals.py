"""SIGTERM, SIGINT, SIGHUP, SIGQUIT: the run is cancelled through its loop; a thread ends what cannot answer.

Python as PID 1 without a handler ignores SIGTERM, so `install` is called before anything heavy is imported. The thread
reads the wakeup file descriptor that the C-level handler writes to, and so receives a signal even while a driver blocks
inside C or a revision runs Python for long (Python's manual, 'signal.set_wakeup_fd').
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

STOP_TIMEOUT = 8.0
"""Seconds that a cancelled run has to end its worker, unlock and report, before the process ends itself.

Only a server that does not answer takes that long; Docker kills after ten seconds."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
MAY_BE_IGNORED = {signal.SIGHUP, signal.SIGQUIT}
"""They stay ignored where whoever started us ignores them: `nohup` wants a run that outlives its terminal. A shell
ignores SIGINT for what runs in its background, too, and there somebody who sends it means it."""


class Interrupt:
    """Which signal has asked the run to end, and how the run is ended."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._cancel: Callable[[], object] | None = None
        self._report_end: Callable[[int], None] | None = None
        self._finished = threading.Event()
        self._woken = -1
        self._ignored: set[int] = set()

    def install(self) -> None:
        """Begin to listen. Call once, in the main thread."""
        self._woken, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for each in SIGNALS:
            if signal.getsignal(each) is signal.SIG_IGN:
                self._ignored.add(each)
                if each in MAY_BE_IGNORED:
                    continue
            signal.signal(each, self._receive)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def bind(self, cancel: Callable[[], object], report_end: Callable[[int], None]) -> None:
        """Set how the run is cancelled, and what is reported if it does not end by itself.

        Args:
            cancel: thread-safe; called at once if a signal has come already.
            report_end: called with the signal, from another thread, right before the process ends.
        """
        self._cancel, self._report_end = cancel, report_end
        if self.signum is not None:
            cancel()

    def finished(self) -> None:
        """The run has ended by itself: nothing is to be forced any more."""
        self._finished.set()

    def restore(self) -> None:
        """Give the signals back, for the program that takes this process over: as they were when this one began."""
        self.finished()
        signal.set_wakeup_fd(-1)
        for each in (*SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two for itself
            signal.signal(each, signal.SIG_IGN if each in self._ignored else signal.SIG_DFL)

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            if self._cancel is not None:
                self._cancel()

    def _watch(self) -> None:
        while True:
            received = os.read(self._woken, 1)
            if received and received[0] in SIGNALS and not self._finished.is_set():
                break
        if self._finished.wait(STOP_TIMEOUT):
            return
        signum = received[0]
        if self._report_end is not None:
            with contextlib.suppress(Exception):  # whatever state the process is in, it ends now
                self._report_end(signum)
        os._exit(128 + signum)
