# SPDX-License-Identifier: MIT
"""device/hosts/xcp-ng/qemu-with-vgpu must pass on what a VM's key device-model-args allows, and
nothing else. QEMU and xenstore-read are stand-ins; tests/vm/xcp_ng_test.py runs a real QEMU."""

import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KIT = os.path.join(ROOT, "device", "hosts", "xcp-ng", "qemu-with-vgpu")
SOCKET = "socket=/run/vgpu/mediator.sock"
# The argument vector, the name first, as the kernel has it.
QEMU = '#!/bin/sh\ncat "/proc/$$/cmdline"\n'
XENSTORE = ('#!/bin/sh\n[ "$1" = /local/domain/7/platform/device-model-args ] && [ -e "{0}" ] && '
            'cat "{0}"\n')


class QemuWithVgpu(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.key = os.path.join(self.folder, "key")
        shutil.copy(KIT, os.path.join(self.folder, "qemu-system-i386"))
        for name, text in (("qemu-system-i386-vgpu", QEMU),
                           ("xenstore-read", XENSTORE.format(self.key))):
            path = os.path.join(self.folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o755)

    def run_kit(self, key, *arguments):
        """Returns (exit status, arguments of QEMU, error output)."""
        if key is not None:
            with open(self.key, "w", encoding="utf-8") as file:
                file.write(key)
        run = subprocess.run([os.path.join(self.folder, "qemu-system-i386"), *arguments],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                             env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"})
        return run.returncode, run.stdout.split("\0")[2:-1], run.stderr

    def expect(self, key, arguments, result):
        status, found, error = self.run_kit(key, *arguments)
        self.assertEqual((status, error), (0, ""))
        self.assertEqual(found, result)

    def test_without_a_domain_or_a_key_nothing_changes(self):
        self.expect("-device vgpu-stub", ["-version", "two words", ""], ["-version", "two words", ""])
        os.remove(self.key)
        self.expect(None, ["-xen-domid", "7", "*", ""], ["-xen-domid", "7", "*", ""])
        self.expect("-device vgpu-stub", ["-xen-domid", "8"], ["-xen-domid", "8"])

    def test_a_device_gets_the_socket(self):
        arguments = ["-xen-domid", "7", "-name", "a b"]
        device = "vgpu-stub,pool_id=A,priority=high,vm_id=1"
        self.expect(f"-device {device}\n", arguments,
                    [*arguments, "-device", f"{device},{SOCKET}"])
        self.expect("-device vgpu-stub", arguments, [*arguments, "-device", f"vgpu-stub,{SOCKET}"])
        self.expect("-device vgpu-stub,socket=/x/y.sock,vm_id=2", arguments,
                    [*arguments, "-device", "vgpu-stub,socket=/x/y.sock,vm_id=2"])
        self.expect(f"-device {device} -device vgpu-stub,vm_id=2", arguments,
                    [*arguments, "-device", f"{device},{SOCKET}", "-device",
                     f"vgpu-stub,vm_id=2,{SOCKET}"])

    def test_a_device_that_qemu_wrapper_has_passed_is_not_doubled(self):
        arguments = ["-xen-domid", "7", "-device", "vgpu-stub,vm_id=1", "-device", "VGA"]
        self.expect("-device vgpu-stub,vm_id=1", arguments,
                    ["-xen-domid", "7", "-device", f"vgpu-stub,vm_id=1,{SOCKET}", "-device", "VGA"])

    def test_anything_else_in_the_key_is_refused(self):
        for key in ("-monitor stdio", "-device", "-device vfio-pci,host=01:00.0",
                    "-device vgpu-stub,vm_id=1 -chardev file,id=x,path=/etc/passwd",
                    "-device vgpu-stubborn", "-device vgpu-stub,", "-device vgpu-stub,vm_id",
                    "-device vgpu-stub,vm_id=1,,socket=/x", "vgpu-stub", "-device 'vgpu-stub'",
                    "-device vgpu-stub,vm_id=$(id)", "-device vgpu-stub,vm_id=`id`",
                    "-device vgpu-stub -device vgpu-stub;id", "-device vgpu-stub\n-S",
                    "-device * -device vgpu-stub"):
            with self.subTest(key=key):
                status, found, error = self.run_kit(key, "-xen-domid", "7")
                self.assertEqual((status, found), (1, []))
                self.assertIn("may hold '-device vgpu-stub,PROPERTY=VALUE,...' only", error)

    def test_a_domain_id_that_is_no_number(self):
        status, _, error = self.run_kit("-device vgpu-stub", "-xen-domid", "7/../8")
        self.assertEqual(status, 1)
        self.assertIn("is not a number", error)

    def test_a_missing_folder_of_sockets(self):
        os.environ["VGPU_SOCKETS"] = os.path.join(self.folder, "none")
        self.addCleanup(os.environ.pop, "VGPU_SOCKETS")
        status, _, error = self.run_kit("-device vgpu-stub", "-xen-domid", "7", "-chroot",
                                        self.folder)
        self.assertEqual(status, 1)
        self.assertIn("none is missing: create it at boot", error)


if __name__ == "__main__":
    unittest.main()
