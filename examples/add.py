#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Uses the GPU from Python, through ctypes: no build, no other package.

    python3 add.py 100 200
    python3 add.py --device unix:/run/vgpu/mediator.sock 100 200     (on the host)

Adds two numbers through the registers and through a queue, and sends a text through a buffer on the
GPU. Needs libvgpu.so.0; LIBVGPU names another path of it. Exit status: 0 success, 1 failure (with an
error message), 2 usage error.
"""

import argparse
import contextlib
import ctypes
import os
import sys

OK = 0
NO_QUEUES = 0x10C  # VGPU_E_NO_QUEUES
QUEUE_ANY = 0xFFFFFFFF  # VGPU_QUEUE_ANY
OPEN_QUEUES = 1  # VGPU_OPEN_QUEUES
LIMIT_MS = 35000


class Failure(ctypes.Structure):
    """struct vgpu_failure"""

    _fields_ = [("code", ctypes.c_int), ("sys_errno", ctypes.c_int),
                ("message", ctypes.c_char * 512)]


class Options(ctypes.Structure):
    """struct vgpu_options"""

    _fields_ = [("struct_size", ctypes.c_size_t), ("address", ctypes.c_char_p),
                ("wait_mode", ctypes.c_int), ("sysfs_root", ctypes.c_char_p),
                ("dev_root", ctypes.c_char_p), ("flags", ctypes.c_uint32),
                ("spin_us", ctypes.c_uint32), ("vm_id", ctypes.c_uint32),
                ("priority", ctypes.c_uint32), ("shm_size", ctypes.c_uint64),
                ("queue_count", ctypes.c_uint32), ("hello_timeout_ms", ctypes.c_uint32),
                ("pool", ctypes.c_char)]


class Error(Exception):
    """A call that failed: code, its name, and a text with the remedy."""

    def __init__(self, failure, name):
        super().__init__(f"{failure.message.decode(errors='replace')} ({name})")
        self.code = failure.code


class Library:
    """libvgpu: call(NAME, ARGUMENT…) calls a function that returns a code, and raises Error."""

    def __init__(self):
        self._library = ctypes.CDLL(os.environ.get("LIBVGPU", "libvgpu.so.0"))
        self._library.vgpu_code_name.restype = ctypes.c_char_p
        self._library.vgpu_close.restype = None
        self._library.vgpu_queue_close.restype = None

    def call(self, name, *arguments):
        failure = Failure()
        code = getattr(self._library, name)(*arguments, ctypes.byref(failure))
        if code != OK:
            raise Error(failure, self._library.vgpu_code_name(code).decode())

    @contextlib.contextmanager
    def device(self, address, vm_id):
        """Opens a device; closes it at the end of the block."""
        options = Options(struct_size=ctypes.sizeof(Options), flags=OPEN_QUEUES, spin_us=50,
                          address=address.encode() if address else None, vm_id=vm_id, priority=1,
                          shm_size=64 << 20, queue_count=8, hello_timeout_ms=2000, pool=b"A")
        device = ctypes.c_void_p()
        self.call("vgpu_open", ctypes.byref(options), ctypes.byref(device))
        try:
            yield device
        finally:
            self._library.vgpu_close(device)

    @contextlib.contextmanager
    def queue(self, device):
        """Opens a queue of a device; closes it at the end of the block."""
        queue = ctypes.c_void_p()
        self.call("vgpu_queue_open", device, ctypes.c_uint32(QUEUE_ANY), ctypes.c_uint32(LIMIT_MS),
                  ctypes.byref(queue))
        try:
            yield queue
        finally:
            self._library.vgpu_queue_close(queue)


def add(gpu, function, handle, a, b):
    """Adds with vgpu_add (handle: a device) or vgpu_queue_add (a queue)."""
    total = ctypes.c_uint32()
    gpu.call(function, handle, ctypes.c_uint32(a), ctypes.c_uint32(b), ctypes.c_uint32(LIMIT_MS),
             ctypes.byref(total))
    return total.value


def through_buffer(gpu, device, data):
    """Copies data to a buffer on the GPU and back."""
    limit = ctypes.c_uint32(LIMIT_MS)
    handle = ctypes.c_uint32()
    back = ctypes.create_string_buffer(len(data))
    gpu.call("vgpu_alloc", device, ctypes.c_uint64(len(data)), limit, ctypes.byref(handle))
    try:
        gpu.call("vgpu_copy_to", device, handle, ctypes.c_uint64(0), data,
                 ctypes.c_size_t(len(data)), limit)
        gpu.call("vgpu_copy_from", device, handle, ctypes.c_uint64(0), back,
                 ctypes.c_size_t(len(data)), limit)
    finally:
        gpu.call("vgpu_free", device, handle, limit)
    return back.raw


def number(text):
    value = int(text, 10)
    if not 0 <= value < 1 << 32 or str(value) != text:
        raise ValueError(text)
    return value


def run(arguments):
    gpu = Library()
    with gpu.device(arguments.device, arguments.vm_id) as device:
        print(f"{arguments.a} + {arguments.b} = "
              f"{add(gpu, 'vgpu_add', device, arguments.a, arguments.b)}")
        text = through_buffer(gpu, device, "kept on the GPU".encode())
        print(f"from a buffer: {text.decode()}")
        try:
            with gpu.queue(device) as queue:
                total = add(gpu, "vgpu_queue_add", queue, arguments.a, arguments.b)
                print(f"through a queue: {total}")
        except Error as error:
            if error.code != NO_QUEUES:
                raise
            print(f"no queues: {error}")


def main():
    parser = argparse.ArgumentParser(description="Add two numbers on the GPU.")
    parser.add_argument("--device", help="PCI address, or unix:PATH; default: the first device")
    parser.add_argument("--vm-id", type=number, default=0, help="with unix: (default: 0)")
    parser.add_argument("a", type=number, help="0 to 4294967295")
    parser.add_argument("b", type=number, help="0 to 4294967295")
    try:
        run(parser.parse_args())
    except (Error, OSError) as error:
        print(f"add.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
