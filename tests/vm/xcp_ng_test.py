# SPDX-License-Identifier: MIT
"""The VM in the confinement that XCP-ng gives its QEMU, without Xen: a chroot and a user of its own
for the domain, mount, IPC and network namespaces, and a limit on the size of files. QEMU is started
by device/hosts/xcp-ng/qemu-with-vgpu, the guest gets its results, also after the mediator has been
restarted. Stand-ins: the QEMU of these tests without Xen's options, and xenstore-read.

Exit status 77, with the reason, where this is not possible."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
from confinement import (  # noqa: E402
    GUEST, LIMIT, MEDIATOR, QEMU, QEMU_DATA, SKIPPED, read, wait_for, what_is_not_built, why_no_root)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KIT = os.path.join(ROOT, "device", "hosts", "xcp-ng", "qemu-with-vgpu")
DOMAIN = 7
UID, GID = 65535 + DOMAIN, 997 + DOMAIN
FILE_SIZE = 256 * 1024
COMMANDS = ("vgpu info; vgpu add 100 200; while vgpu add 1 2 > /tmp/o 2>&1; do sleep 1; done; "
            "echo lost; until vgpu add 200 300; do sleep 1; done")


def reason_to_skip():
    """Returns why the test cannot run here; None if it can."""
    missing = why_no_root() or what_is_not_built()
    if missing:
        return missing
    trial = subprocess.run(["unshare", "--mount", "--ipc", "--net", "sh", "-c",
                            "mount --make-rslave / && mount --bind /usr /mnt"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if trial.returncode != 0:
        return "this process may not make namespaces: " + " ".join(trial.stdout.split())
    return None


class XcpNg(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vgpu-xcp-ng-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        # Others may not enter the folder, as they may not enter /run/vgpu of the documentation:
        # QEMU reaches the socket by its own mount alone.
        os.chmod(self.folder, 0o700)
        self.sockets = self.path("guests")
        os.mkdir(self.sockets, 0o755)
        self.root = self.path(f"root-{DOMAIN}")
        os.makedirs(f"{self.root}/dev", 0o755)
        os.mkdir(self.path("bin"))
        shutil.copy(KIT, self.path("bin/qemu-system-i386"))
        self.write_program("xenstore-read", f"""
[ "$1" = /local/domain/{DOMAIN}/platform/device-model-args ] || exit 1
echo '-device vgpu-stub,pool_id=A,priority=high,vm_id=1,shm-size=0'
""")
        self.write_program("qemu-system-i386-vgpu", f"""
words=()
while [ $# -gt 0 ]; do
    case "$1" in
        -xen-domid) shift ;;
        -xen-domid-restrict) ;;
        *) words+=("$1") ;;
    esac
    shift
done
exec "{QEMU}" "${{words[@]}}"
""")

    def path(self, name):
        return os.path.join(self.folder, name)

    def write_program(self, name, text):
        with open(self.path(f"bin/{name}"), "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n" + text)
        os.chmod(file.name, 0o755)

    def start(self, command, log, **options):
        with open(self.path(log), "wb") as output:
            program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,  # pylint: disable=consider-using-with
                                       stderr=subprocess.STDOUT, **options)

        def end():
            if program.poll() is None:
                program.kill()
                program.wait()
        self.addCleanup(end)
        return program

    def start_mediator(self, log):
        with open(self.path("mediator.toml"), "w", encoding="utf-8") as file:
            file.write(f'[mediator]\nsockets = ["{self.sockets}/mediator.sock"]\n'
                       'socket_group = ""\nsocket_mode = "0666"\n')
        mediator = self.start([MEDIATOR, "--backend", "cpu", "--config", file.name], log)
        wait_for(lambda: "ready" in read(self.path(log)) or mediator.poll() is not None, "mediator")
        self.assertIsNone(mediator.poll(), read(self.path(log)))
        return mediator

    def console(self, text):
        try:
            return wait_for(lambda: re.search(text, read(self.path("console")), re.MULTILINE),
                            f"'{text}' of the guest").group(0)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{read(self.path('console'))}\n"
                                 f"{read(self.path('qemu.log'))}") from error

    def start_qemu(self):
        """Starts QEMU as xenopsd's qemu-wrapper does."""
        open(self.path("console"), "w", encoding="utf-8").close()
        return self.start(
            ["unshare", "--mount", "--ipc", "--net", "--propagation", "unchanged",
             self.path("bin/qemu-system-i386"), "-xen-domid", str(DOMAIN), "-nodefaults",
             "-no-user-config", "-display", "none", "-no-reboot", "-accel", "tcg", "-m", "192",
             "-L", QEMU_DATA, "-kernel", f"{GUEST}/vmlinuz", "-initrd",
             f"{GUEST}/initramfs.cpio.gz", "-append",
             f'console=ttyS0 quiet panic=-1 vgpu.run="{COMMANDS}"', "-serial",
             "file:" + self.path("console"), "-xen-domid-restrict", "-chroot", self.root, "-runas",
             f"{UID}:{GID}"],
            "qemu.log",
            env={**os.environ, "PATH": self.path("bin") + ":" + os.environ["PATH"],
                 "VGPU_SOCKETS": self.sockets},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE)))

    def test_the_guest_computes_from_within_the_chroot(self):
        mediator = self.start_mediator("mediator.1")
        qemu = self.start_qemu()
        self.assertEqual(self.console(r"^100 \+ 200 = \d+$"), "100 + 200 = 300")
        status = read(f"/proc/{qemu.pid}/status")
        self.assertEqual(re.search(r"^Uid:\s*(\d+)", status, re.MULTILINE).group(1), str(UID))
        self.assertEqual(re.search(r"^Groups:\s*(.*?)\s*$", status, re.MULTILINE).group(1),
                         str(GID))
        self.assertEqual(os.readlink(f"/proc/{qemu.pid}/root"), self.root)
        print("QEMU: uid", UID, "gid", GID, "root", self.root)
        # The mount is QEMU's alone.
        self.assertEqual(os.listdir(f"{self.root}/run/vgpu"), [])
        self.assertNotIn(self.root, read("/proc/self/mountinfo"))

        mediator.send_signal(signal.SIGTERM)
        self.assertEqual(mediator.wait(20), 0)
        self.console(r"^lost$")
        self.start_mediator("mediator.2")
        self.assertEqual(self.console(r"^200 \+ 300 = \d+$"), "200 + 300 = 500")
        self.assertEqual(qemu.wait(LIMIT), 0)
        print(read(self.path("console")))

    def test_without_the_mount_the_socket_is_out_of_reach(self):
        """The check of the other test: the same QEMU without the mount has no connection."""
        self.start_mediator("mediator.1")
        script = read(self.path("bin/qemu-system-i386"))
        changed = script.replace('mount --bind "$1" "$2"', "true")
        self.assertNotEqual(changed, script)
        with open(self.path("bin/qemu-system-i386"), "w", encoding="utf-8") as file:
            file.write(changed)
        qemu = self.start_qemu()
        self.console(r"^lost$")
        self.assertIn("cannot connect to the mediator at /run/vgpu/mediator.sock: No such file",
                      read(self.path("qemu.log")))
        qemu.terminate()
        qemu.wait(LIMIT)


def main():
    reason = reason_to_skip()
    if reason:
        print(f"SKIPPED: {reason}")
        return SKIPPED
    unittest.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
