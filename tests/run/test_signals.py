import os
import signal
import subprocess
import sys
import threading

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
