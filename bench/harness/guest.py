# SPDX-License-Identifier: MIT
"""A test guest that runs commands one at a time, as guest/init serves them on its second serial
port, and the host processes that it talks to."""

import os
import re
import secrets
import socket
import subprocess
import tempfile

import pexpect
from pexpect.fdpexpect import fdspawn
from pexpect.popen_spawn import PopenSpawn

READY_LIMIT = 60  # seconds until a server listens; creating a CUDA context takes some
BOOT_LIMIT = 120  # seconds; under emulation a boot takes about 3


class Skipped(Exception):
    """A part cannot run here; holds the reason."""


class Failed(Exception):
    """A part failed; holds the error."""


def need(*paths):
    for path in paths:
        if not os.path.isfile(path):
            raise Skipped(f"there is no {path}: make bench builds it")


def end(process, limit):
    process.terminate()
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """A program that reports when it is ready and lives as long as the `with` block."""

    def __init__(self, name, command, ready, folder=None, env=None):
        self.name, self.command, self.ready_text = name, command, ready
        self.folder, self.env = folder, env

    def __enter__(self):
        # A thread of PopenSpawn reads all output, so that the program never waits for a reader.
        self.process = PopenSpawn(self.command, timeout=READY_LIMIT, cwd=self.folder, env=self.env,
                                  encoding="utf-8", codec_errors="replace")
        try:
            self.process.expect(f"([^\n]*{re.escape(self.ready_text)}[^\n]*)\n")
        except (pexpect.EOF, pexpect.TIMEOUT) as error:
            self.__exit__()
            raise Failed(f"{self.name} did not become ready; it said:\n"
                         f"{self.process.before}") from error
        self.ready_line = self.process.match.group(1).strip()
        return self

    def __exit__(self, *_):
        end(self.process.proc, 20)


class Guest:
    """A VM that lives as long as the `with` block. `folder` holds its sockets and its console."""

    def __init__(self, build, accel, initrd, folder, memory, arguments):
        guest, data = f"{build}/guest", f"{build}/qemu/data"
        qemu = f"{build}/qemu/qemu-system-x86_64"
        need(qemu, f"{guest}/vmlinuz", f"{guest}/{initrd}")
        self.folder = folder
        self.command = [qemu, "-L", data, "-accel", accel, "-nodefaults", "-no-user-config",
                        "-display", "none", "-no-reboot", "-m", str(memory),
                        "-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/{initrd}",
                        "-append", "console=ttyS0 quiet panic=-1",
                        "-serial", "file:console.log", "-serial", "chardev:commands", *arguments]
        if accel == "kvm":
            self.command += ["-cpu", "host"]

    def __enter__(self):
        self.port, port = socket.socketpair()
        # Not pexpect.spawn: it starts a new session, which changes the times measured in the VM.
        with port, open(f"{self.folder}/qemu.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*self.command, "-chardev", f"socket,id=commands,fd={port.fileno()}"],
                cwd=self.folder, pass_fds=[port.fileno()], stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT)
        self.vm = fdspawn(self.port, encoding="utf-8", codec_errors="replace")
        try:
            self.expect("vgpu-guest ready\n", BOOT_LIMIT)
        except Exception:
            self.__exit__()
            raise
        return self

    def said(self):
        texts = []
        for name in ("qemu.log", "console.log"):
            try:
                with open(f"{self.folder}/{name}", encoding="utf-8", errors="replace") as file:
                    texts.append(file.read().replace("\r", "")[-2000:])
            except OSError:
                pass
        return "\n".join(texts).strip()

    def expect(self, pattern, limit):
        try:
            self.vm.expect(pattern, timeout=limit)
        except pexpect.TIMEOUT as error:
            raise Failed(f"the VM did not answer for {limit} s; it said:\n{self.vm.before}\n"
                         f"{self.said()}") from error
        except pexpect.EOF as error:
            raise Failed(f"the VM has ended: {self.said()}") from error

    def run(self, command, limit=300):
        """Runs a shell command there and returns its output. Raises Failed if it fails."""
        token = secrets.token_hex(8)
        self.vm.send(f"{token} {command}\n")
        self.expect(f"<<{token}\n", limit)
        self.expect(f"\n>>{token} (\\d+)\n", limit)
        output, status = self.vm.before, self.vm.match.group(1)
        if status != "0":
            raise Failed(f"in the VM, '{command}' ended with status {status}: {output.strip()}")
        return output

    def __exit__(self, *_):
        end(self.process, 10)
        self.port.close()


def work_folder(build):
    return tempfile.TemporaryDirectory(dir=build, prefix="bench.")
