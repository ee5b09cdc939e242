# SPDX-License-Identifier: MIT
"""A test guest that runs commands one at a time, as guest/init serves them on its second serial
port, and the host processes that it talks to."""

import os
import re
import secrets
import socket
import subprocess
import tempfile
import threading
import time

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


class Server:
    """A program that reports when it is ready and lives as long as the `with` block."""

    def __init__(self, name, command, ready, folder=None, env=None):
        self.name, self.command, self.ready_text = name, command, ready
        self.folder, self.env = folder, env

    def __enter__(self):
        self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        self.output = []
        self.ready_line = None
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.ready.wait(READY_LIMIT)
        if self.ready_line is None:
            self.__exit__()
            raise Failed(f"{self.name} did not become ready; it said:\n" + "".join(self.output))
        return self

    def read(self):
        for line in self.process.stdout:
            self.output.append(line)
            if self.ready_line is None and self.ready_text in line:
                self.ready_line = line.strip()
                self.ready.set()
        self.ready.set()

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class Guest:
    """A VM that lives as long as the `with` block. `folder` holds its sockets and its console."""

    def __init__(self, build, accel, initrd, folder, memory, arguments):
        guest, data = f"{build}/guest", f"{build}/qemu/data"
        qemu = f"{build}/qemu/qemu-system-x86_64"
        need(qemu, f"{guest}/vmlinuz", f"{guest}/{initrd}")
        self.folder = folder
        # Relative socket paths: a Unix socket address holds at most 107 bytes.
        self.command = [qemu, "-L", data, "-accel", accel, "-nodefaults", "-no-user-config",
                        "-display", "none", "-no-reboot", "-m", str(memory),
                        "-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/{initrd}",
                        "-append", "console=ttyS0 quiet panic=-1",
                        "-serial", "file:console.log",
                        "-chardev", "socket,id=commands,path=commands.sock,server=on,wait=off",
                        "-serial", "chardev:commands", *arguments]
        if accel == "kvm":
            self.command += ["-cpu", "host"]

    def __enter__(self):
        self.output = open(f"{self.folder}/qemu.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(self.command, cwd=self.folder, stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=subprocess.STDOUT)
        try:
            self.port = self.connect()
            self.buffer = ""
            self.read_until("vgpu-guest ready\n", BOOT_LIMIT)
        except Exception:
            self.__exit__()
            raise
        return self

    def connect(self):
        begin, here = time.monotonic(), os.open(".", os.O_RDONLY)
        port = socket.socket(socket.AF_UNIX)
        try:
            os.chdir(self.folder)
            while True:
                try:
                    port.connect("commands.sock")
                    return port
                except OSError as error:
                    if self.process.poll() is not None or time.monotonic() - begin > 10:
                        raise Failed(f"the VM did not start: {self.said()}") from error
                    time.sleep(0.05)
        finally:
            os.fchdir(here)
            os.close(here)

    def said(self):
        texts = []
        for name in ("qemu.log", "console.log"):
            try:
                with open(f"{self.folder}/{name}", encoding="utf-8", errors="replace") as file:
                    texts.append(file.read().replace("\r", "")[-2000:])
            except OSError:
                pass
        return "\n".join(texts).strip()

    def read_until(self, mark, limit):
        """Returns the text before `mark`, a string or a pattern, and the match's groups."""
        pattern = re.compile(mark if isinstance(mark, re.Pattern) else re.escape(mark))
        end = time.monotonic() + limit
        while True:
            found = pattern.search(self.buffer)
            if found:
                before, self.buffer = self.buffer[:found.start()], self.buffer[found.end():]
                return before, found.groups()
            left = end - time.monotonic()
            if left <= 0:
                raise Failed(f"the VM did not answer for {limit} s; it said:\n{self.buffer}\n"
                             f"{self.said()}")
            self.port.settimeout(left)
            try:
                data = self.port.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise Failed(f"the VM has ended: {self.said()}")
            self.buffer += data.decode(errors="replace")

    def run(self, command, limit=300):
        """Runs a shell command there and returns its output. Raises Failed if it fails."""
        token = secrets.token_hex(8)
        self.port.sendall(f"{token} {command}\n".encode())
        self.read_until(f"<<{token}\n", limit)
        output, (status,) = self.read_until(re.compile(f"\n>>{token} (\\d+)\n"), limit)
        if status != "0":
            raise Failed(f"in the VM, '{command}' ended with status {status}: {output.strip()}")
        return output

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if getattr(self, "port", None):
            self.port.close()
        self.output.close()


def work_folder(build):
    return tempfile.TemporaryDirectory(dir=build, prefix="bench.")
