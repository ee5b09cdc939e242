# SPDX-License-Identifier: MIT
"""A mediator with the CPU backend in a temporary folder, for tests of examples."""

import contextlib
import os
import re
import subprocess
import tempfile
import time

BUILD = os.environ["VGPU_BUILD"]
START_S = 30


def program(path):
    return os.path.join(BUILD, path)


def run(command, **environment):
    """Runs a command; returns (exit status, output)."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, timeout=60, check=False,
                          env={**os.environ, **environment})
    return done.returncode, done.stdout


class Mediator:
    """A running mediator: its address for programs, and its metrics' port."""

    def __init__(self, folder, ready):
        self.address = f"unix:{folder}/mediator.sock"
        self.admin = f"{folder}/admin.sock"
        self.port = int(re.search(r"metrics \S*:(\d+)", ready).group(1))

    def vgpu(self, *arguments):
        return run([program("src/cli/vgpu/static/vgpu"), "--device", self.address, *arguments])

    def vgpuctl(self, *arguments):
        return run([program("src/cli/vgpuctl/vgpuctl"), "--socket", self.admin, *arguments])


@contextlib.contextmanager
def mediator():
    """Starts a mediator; stops it at the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "mediator.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'[mediator]\nsockets = ["{folder}/mediator.sock"]\n[admin]\n'
                       f'socket = "{folder}/admin.sock"\n[metrics]\nlisten = "127.0.0.1:0"\n')
        with open(os.path.join(folder, "log"), "w+", encoding="utf-8") as log, subprocess.Popen(
                [program("src/mediator/vgpu-mediator"), "--backend", "cpu", "--log-target", "stderr",
                 "--config", config], stdout=log, stderr=log, stdin=subprocess.DEVNULL) as process:
            try:
                end = time.monotonic() + START_S
                ready = None
                while ready is None:
                    log.seek(0)
                    text = log.read()
                    ready = re.search(r"ready: .*", text)
                    if process.poll() is not None or time.monotonic() > end:
                        raise AssertionError(f"the mediator did not start:\n{text}")
                    time.sleep(0.05)
                yield Mediator(folder, ready.group(0))
            finally:
                process.terminate()
                process.wait(timeout=START_S)
