#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A fleet during a migration: one VM with a device, one with the old file protocol over a real NFS
mount, and one that uses both, at the same time on one mediator.

Each guest checks every sum. The mediator's own counts show that no request was served twice.

usage: mixed_fleet.py BUILD

Exit status 0: passed, 1: failed, 2: wrong usage, 77: skipped.
"""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "bench"))
SKIPPED = 77
MEMORY = 192  # MiB of a guest
ADDITIONS = 12
SHELL_ADDITIONS = 6
MOUNT = "vers=4.2,addr=10.0.2.2,clientaddr=10.0.2.15,port={port},sec=sys,noac,lookupcache=none"

# As the scripts of the old system: write, poll, read.
OLD_CLIENT = """
: > /mnt/vm{vm}/response.txt
echo B:1:{vm}:{a}:{b} > /mnt/vm{vm}/request.txt
until [ -s /mnt/vm{vm}/response.txt ]; do usleep 20000; done
cat /mnt/vm{vm}/response.txt
"""


def check_sum(found, expected, how):
    if found != expected:
        raise AssertionError(f"{how}: {found} instead of {expected}")


def by_program(guest, count, options):
    """Adds with the guest's program; returns what it printed."""
    output = ""
    for i in range(count):
        output = guest.run(f"VGPU_FILES=/mnt vgpu --json {options} add {i} -7 2>&1")
        report = json.loads(output[output.index("{"):])
        check_sum(report["sum"], i - 7, f"vgpu {options}")
    return output


def by_shell(guest, vm, count):
    for i in range(count):
        command = " ; ".join(OLD_CLIENT.format(vm=vm, a=i, b=2000000000).strip().splitlines())
        check_sum(int(guest.run(command, 60)), i + 2000000000, f"the old client of VM {vm}")


def mount(guest, port, name):
    # NFS servers tell clients apart by their host names: two with the same one end each other's state.
    guest.run(f"echo {name} > /proc/sys/kernel/hostname")
    guest.run("for module in /modules/bench-*.ko; do insmod $module || exit 1; done")
    guest.run("ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0")
    guest.run(f"mount -i -t nfs4 -o {MOUNT.format(port=port)} 10.0.2.2:/vgpu /mnt")


def device(vm, socket):
    return ["-device", f"vgpu-stub,pool_id=A,priority=high,vm_id={vm},socket={socket}"]


def run(build):
    from harness.guest import Guest, Server, work_folder
    from harness.nfs import NfsServer
    mediator = f"{build}/release/src/mediator/vgpu-mediator"
    vgpuctl = f"{build}/release/src/cli/vgpuctl/vgpuctl"
    accel = subprocess.run([f"{ROOT}/guest/accel", f"{build}/qemu/qemu-system-x86_64",
                            f"{build}/qemu/data", f"{build}/guest"], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.strip()
    network = ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
    with contextlib.ExitStack() as stack:
        nfs = stack.enter_context(NfsServer(build))
        for vm in (2, 3):
            os.mkdir(f"{nfs.path}/vm{vm}")
        folders = [stack.enter_context(work_folder(build)) for _ in range(3)]
        with open(f"{folders[0]}/m.toml", "w", encoding="utf-8") as file:
            file.write('[mediator]\nsockets = ["m.sock"]\nbackend = "cpu"\n'
                       f'[admin]\nsocket = "{folders[0]}/admin.sock"\n'
                       f'[files]\ndirectory = "{nfs.path}"\n')
        stack.enter_context(Server("the mediator", [mediator, "--config", "m.toml"], "ready",
                                   folders[0]))
        socket = f"{folders[0]}/m.sock"
        parts = (device(1, socket), network, device(3, socket) + network)
        one, two, three = [
            stack.enter_context(Guest(build, accel, "bench.cpio.gz", folder, MEMORY, part))
            for folder, part in zip(folders, parts)]
        mount(two, nfs.port, "vm2")
        mount(three, nfs.port, "vm3")

        def first():
            by_program(one, ADDITIONS, "--transport auto")

        def second():
            said = by_program(two, ADDITIONS, "--transport auto --vm-id 2")
            if "no vgpu device: using the files in /mnt" not in said:
                raise AssertionError(f"the fall-back is not announced: {said}")
            by_shell(two, 2, SHELL_ADDITIONS)

        def third():
            for _ in range(ADDITIONS):
                by_program(three, 1, "")
                by_program(three, 1, "--transport file:/mnt --vm-id 3")
            by_shell(three, 3, SHELL_ADDITIONS)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            for done in [pool.submit(work) for work in (first, second, third)]:
                done.result()
        found = json.loads(subprocess.run(
            [vgpuctl, "--socket", f"{folders[0]}/admin.sock", "--json", "vms"],
            stdout=subprocess.PIPE, text=True, check=True).stdout)
    by_files = ADDITIONS + SHELL_ADDITIONS
    # Exactly what was asked for: nothing was lost, and nothing was served twice.
    served = {vm["id"]: (vm["requests"]["accepted"], vm["requests"]["done"], vm["file_requests"])
              for vm in found["vms"]}
    check_sum(served, {1: (ADDITIONS, ADDITIONS, 0),
                       2: (by_files, by_files, by_files),
                       3: (ADDITIONS + by_files, ADDITIONS + by_files, by_files)},
              "(accepted, done, through files) by VM")
    return served


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        import pexpect  # noqa: F401
    except ImportError:
        print("SKIPPED: there is no python3-pexpect: run scripts/setup test")
        return SKIPPED
    from harness.guest import Failed, Skipped
    try:
        found = run(os.path.abspath(sys.argv[1]))
    except Skipped as reason:
        print(f"SKIPPED: {reason}")
        return SKIPPED
    except (Failed, AssertionError) as error:
        print(f"FAILED: {error}")
        return 1
    print(f"(accepted, done, through files) by VM: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
