"""Nothing that a session's first process began outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from tests.processes import alive

_FIRST = """
import subprocess, sys, time
from trunkline.project.reaper import begin_session
begin_session()
child = subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(600)"], process_group=0)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_child_in_a_group_of_its_own_ends_with_the_session() -> None:
    with subprocess.Popen([sys.executable, "-c", _FIRST], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        child = int(first.stdout.readline())
        assert os.getpgid(child) == child
        assert os.getsid(child) == first.pid
        first.send_signal(signal.SIGKILL)
    until = time.monotonic() + 20
    while alive(child):
        assert time.monotonic() < until
        time.sleep(0.02)
