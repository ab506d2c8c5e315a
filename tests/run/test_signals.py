import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gpu_gs.run.signals import Interrupted, Signals


def test_the_first_signal_is_an_exception_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="SIGTERM"), Signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_held_block_is_finished_first():
    done = []
    with pytest.raises(Interrupted), Signals() as signals, signals.held():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("block")
    assert done == ["block"]


def test_the_second_signal_ends_the_process():
    code = (
        "import os, signal\n"
        "from gpu_gs.run.signals import Signals\n"
        "with Signals() as signals, signals.held():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('not reached')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (130, "")


def test_in_another_thread_nothing_is_installed():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with Signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


IN_COMPILED_CODE = """
import ctypes, os, signal, threading, time
from gpu_gs.run import signals
signals.PATIENCE = 0.2
def twice():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(0.5, twice).start()
with signals.Signals(lambda text: print(text, flush=True)):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the other threads get it; no sleep here is cut short
    ctypes.CDLL(None).usleep(20_000_000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="usleep and pthread_sigmask")
def test_the_second_signal_ends_the_process_also_in_compiled_code():
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", IN_COMPILED_CODE], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 130 and "Aborted." in ended.stderr
    assert "Ctrl-C again ends at once" in ended.stdout
    assert time.monotonic() - started < 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_the_same_signal_in_a_forked_worker_is_not_counted_here():
    code = (
        "import os, signal, time\n"
        "from gpu_gs.run.signals import Interrupted, Signals\n"
        "try:\n"
        "    with Signals():\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            signal.signal(signal.SIGINT, lambda *_: None)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            os._exit(0)\n"
        "        os.waitpid(child, 0)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(5)\n"
        "except Interrupted:\n"
        "    print('stopped cleanly')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "stopped cleanly\n")


def test_the_callers_wakeup_file_descriptor_comes_back():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        with Signals():
            pass
        assert signal.set_wakeup_fd(before) == writer
    finally:
        os.close(reader)
        os.close(writer)
