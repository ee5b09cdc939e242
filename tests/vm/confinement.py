# SPDX-License-Identifier: MIT
"""Shared by the tests that run QEMU in the confinement of another host."""

import os
import time

SKIPPED = 77  # exit status of a test that cannot run here
LIMIT = 120  # seconds to wait for anything, on a busy machine
MEDIATOR, QEMU, QEMU_DATA, GUEST = (os.environ.get(name, "") for name in (
    "VGPU_MEDIATOR", "VGPU_QEMU", "VGPU_QEMU_DATA", "VGPU_GUEST_DIR"))


def why_no_root():
    """Returns why this process lacks the rights of the host's root; None if it has them."""
    if os.geteuid() != 0:
        return "needs root, for users and namespaces"
    with open("/proc/self/uid_map", encoding="utf-8") as uid_map:
        if uid_map.read().split() != ["0", "0", "4294967295"]:
            return "needs root outside of user namespaces"
    return None


def what_is_not_built():
    """Returns which part that the tests need is missing; None if there are all."""
    needed = {"VGPU_MEDIATOR": MEDIATOR, "VGPU_QEMU": QEMU,
              "VGPU_QEMU_DATA": QEMU_DATA and QEMU_DATA + "/bios-256k.bin",
              "VGPU_GUEST_DIR": GUEST and GUEST + "/initramfs.cpio.gz"}
    for name, path in needed.items():
        if not path:
            return f"{name} is not set: run make test, which builds QEMU and a guest"
        if not os.path.exists(path):
            return f"there is no {path}: run make test, which builds QEMU and a guest"
    return None


def wait_for(condition, what):
    """Waits for a true result of condition() and returns it."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    raise AssertionError(f"no {what} within {LIMIT} s")


def read(path):
    """Returns the text of a console or log, without carriage returns; empty if it does not exist."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().replace("\r", "")
    except FileNotFoundError:
        return ""
