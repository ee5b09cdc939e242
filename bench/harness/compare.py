# SPDX-License-Identifier: MIT
"""Compares a request and its response over every transport from a guest to its host, in one run.

Each transport is used as efficiently as possible (bench/guest/round_trips.h) and measured with
every way of waiting that it supports; the best one counts. The old file protocol, TCP and
virtio-serial have no backend: their host sides reply at once. vgpu's two paths, and the file
protocol as the mediator serves it, go through the mediator and run the addition on its backend.
"""

import contextlib
import json
import os
import re
import tempfile

from harness.guest import Failed, Guest, Server, Skipped, work_folder
from harness.nfs import NfsServer

MEMORY = 256  # MiB of the guest
# Attributes and names are not cached, which the old system required too: with a cache a response is
# seen up to a minute late.
NFS_OPTIONS = "vers=4.2,addr=10.0.2.2,clientaddr=10.0.2.15,port={port},sec=sys,noac,lookupcache=none"
POLL_INTERVALS_MS = (1000, 1)
# The mediator's settings of the file protocol, by the name of the transport: its keys, and the
# milliseconds between two requests, at most.
SERVED = {"served-1000ms": ('notify = "never"\ninterval_ms = 1000\n', 1000),
          "served-1ms": ('notify = "never"\ninterval_ms = 1\n', 1),
          "served-notify": ('notify = "auto"\n', 1)}

# Targets of the fast path: (transport, minimum speed-up, name of the figure).
TARGETS = (("registers", 2, "fast path over version 1 registers"),
           ("file-1000ms", 100, "fast path over NFS, looked at each second"),
           ("file-1ms", 20, "fast path over NFS, looked at each millisecond"),
           ("served-notify", 20, "fast path over NFS, served by the mediator with inotify"),
           ("tcp", 1, "fast path over TCP, virtio-net"),
           ("virtio-serial", 1, "fast path over virtio-serial"))


def find_report(text):
    """Returns the JSON object with "ok" in the output of a program."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            report, _ = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if "ok" in report:
            return report
    raise Failed(f"the VM printed no report but: {text.strip()}")


def lines_of(guest, command, way=None, limit=300):
    report = find_report(guest.run(command, limit))
    if not report["ok"]:
        raise Failed(f"in the VM, '{command}' failed: {json.dumps(report)}")
    for line in report["lines"]:
        if way:
            line["path"] = way
    return report["lines"]


def prepare(guest):
    guest.run("for module in /modules/bench-*.ko; do insmod $module || exit 1; done")
    guest.run("ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0")


def vgpu_lines(guest, way, path, count):
    """Runs `vgpu bench` over one of its paths: NOP and addition, each way of waiting. Omits lines
    with several commands in flight, which have no round-trip time."""
    lines = lines_of(guest, f"vgpu --json bench --path {path} --count {count}", way)
    return [line for line in lines if "p50_us" in line]


def tcp_lines(guest, peer, count):
    with Server("the TCP echo", [peer, "tcp"], "listening on") as server:
        port = server.ready_line.split()[-1]
        return [line for wait in ("sleep", "spin") for line in
                lines_of(guest, f"vgpu-bench-guest tcp 10.0.2.2 {port} --count {count} "
                                f"--wait {wait}")]


def serial_lines(guest, count):
    device = guest.run("ls /dev/vport*").split()[0]
    return [line for wait in ("sleep", "spin") for line in
            lines_of(guest, f"vgpu-bench-guest serial {device} --count {count} --wait {wait}")]


def served_lines(guest, share, mediator, way, keys, think, count):
    """The file protocol as the mediator serves it, with these keys of its [files]."""
    os.makedirs(f"{share}/{way}/vm1")
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/mediator.toml", "w", encoding="utf-8") as file:
            file.write(f'[mediator]\nsockets = ["{folder}/m.sock"]\nbackend = "cpu"\n'
                       f'[files]\ndirectory = "{share}/{way}"\n{keys}')
        with Server("the mediator with files", [mediator, "--config", f"{folder}/mediator.toml"],
                    "ready"):
            return lines_of(guest, f"vgpu-bench-guest file /mnt/{way}/vm1 --vm 1 --count {count} "
                                   f"--warm-up 1 --think-ms {think}",
                            way, 60 + 3 * count * think / 1000)


def file_lines(guest, build, peer, mediator, counts):
    with NfsServer(build) as nfs:
        guest.run(f"mount -i -t nfs4 -o {NFS_OPTIONS.format(port=nfs.port)} 10.0.2.2:/vgpu /mnt")
        lines = []
        try:
            for interval in POLL_INTERVALS_MS:
                folder = f"{nfs.path}/each-{interval}ms"
                os.makedirs(f"{folder}/vm1")
                command = [peer, "file", folder, "--interval-ms", str(interval)]
                with Server("the file server", command, "listening on"):
                    lines += lines_of(
                        guest, f"vgpu-bench-guest file /mnt/each-{interval}ms/vm1 --vm 1 "
                               f"--count {counts[interval]} --warm-up 1 --think-ms {interval}",
                        f"file-{interval}ms", 60 + 3 * counts[interval] * interval / 1000)
            for way, (keys, think) in SERVED.items():
                lines += served_lines(guest, nfs.path, mediator, way, keys, think, counts[think])
        finally:
            guest.run("umount /mnt")
        return lines


def best(lines, way, operation=None):
    """Returns the smallest median of a transport, in microseconds, or None."""
    medians = [line["p50_us"] for line in lines if line["path"] == way
               and operation in (None, line["operation"])]
    return min(medians, default=None)


def figures_of(lines):
    fast = best(lines, "queue", "add")
    figures = []
    for way, times, name in TARGETS:
        # The reference is the transport's addition, or its echo if it has no addition.
        other = best(lines, way, "add") or best(lines, way)
        if fast and other:
            figures.append({"name": name, "value": other / fast, "unit": "times",
                            "bound": "at_least", "target": times, "reached": other / fast >= times})
    return figures


def run_comparison(build, accel, backend, quick):
    """Returns {"accel", "lines", "figures", "skipped"}. Each line names its path."""
    mediator = f"{build}/release/src/mediator/vgpu-mediator"
    peer = f"{build}/release/bench/vgpu-bench-peer"
    for path in (mediator, peer):
        if not os.path.isfile(path):
            raise Skipped(f"there is no {path}: make bench builds it")
    count = 300 if quick else 3000
    file_counts = {1000: 3 if quick else 15, 1: 100 if quick else 1000}
    lines, skipped = [], []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(work_folder(build))
        stack.enter_context(Server("the mediator", [mediator, "--socket", "m.sock", "--backend",
                                                    backend], "ready", folder))
        stack.enter_context(Server("the echo of the serial port",
                                   [peer, "unix", "echo.sock"], "listening on", folder))
        guest = stack.enter_context(Guest(
            build, accel, "bench.cpio.gz", folder, MEMORY,
            ["-device", "vgpu-stub,pool_id=A,priority=high,vm_id=1,socket=m.sock",
             "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
             "-chardev", "socket,id=echo,path=echo.sock", "-device", "virtio-serial-pci",
             "-device", "virtserialport,chardev=echo,name=vgpu.bench"]))
        prepare(guest)
        ways = (("the fast path", lambda: vgpu_lines(guest, "queue", "queue", count)),
                ("version 1 registers",
                 lambda: vgpu_lines(guest, "registers", "registers", count)),
                ("TCP", lambda: tcp_lines(guest, peer, count)),
                ("virtio-serial", lambda: serial_lines(guest, count)),
                ("the old file protocol over NFS",
                 lambda: file_lines(guest, build, peer, mediator, file_counts)))
        for name, measure in ways:
            try:
                lines += measure()
            except Skipped as reason:
                skipped.append(f"{name}: {reason}")
    return {"accel": accel, "lines": lines, "figures": figures_of(lines), "skipped": skipped}
