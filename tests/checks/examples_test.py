# SPDX-License-Identifier: MIT
"""Runs the example programs against a mediator with the CPU backend. ctest passes the build in
VGPU_BUILD."""

import os
import re
import shutil
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
from mediator import mediator, program, run  # noqa: E402

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples")
LIBRARIES = program("src/client")


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        context = mediator()
        cls.mediator = context.__enter__()
        cls.addClassCleanup(context.__exit__, None, None, None)

    def python(self, *arguments, library="libvgpu.so.0"):
        return run([sys.executable, os.path.join(EXAMPLES, "add.py"), *arguments],
                   LIBVGPU=os.path.join(LIBRARIES, library))

    def test_every_function_of_the_api(self):
        for language in ("c", "cpp"):
            with self.subTest(language):
                status, output = run([program(f"examples/vgpu_example_api_{language}"),
                                      self.mediator.address], LD_LIBRARY_PATH=LIBRARIES)
                self.assertEqual(status, 0, output)
                self.assertIn("bytes of shared memory, 8 queues", output)

    def test_python(self):
        status, output = self.python("--device", self.mediator.address, "--vm-id", "41", "100", "200")
        self.assertEqual((status, output), (0, "100 + 200 = 300\nfrom a buffer: kept on the GPU\n"
                                               "through a queue: 300\n"))
        # The options reach the library where it expects them.
        status, output = self.mediator.vgpuctl("vm", "41")
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"priority +medium")
        self.assertRegex(output, r"(?m)^ +(\d+) accepted, \1 done, 0 failed")

    def test_python_reports_errors(self):
        status, output = self.python("--device", "unix:/nonexistent/mediator.sock", "1", "2")
        self.assertEqual(status, 1, output)
        self.assertRegex(output, r"^add\.py: .*/nonexistent/mediator\.sock.*\(mediator-unavailable\)\n$")
        status, output = self.python("1", "2", library="none.so")
        self.assertEqual(status, 1, output)
        self.assertNotIn("Traceback", output)
        self.assertEqual(self.python("1", "010")[0], 2)


class Service(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd-analyze")
    def test_the_unit_is_valid(self):
        with open(os.path.join(EXAMPLES, "guest", "vgpu-job.service"), encoding="utf-8") as file:
            text = file.read()
        # The programs are not installed here.
        text, count = re.subn(r"^(Exec\w+=)/usr/local/bin/\S+", r"\1/bin/true", text, flags=re.MULTILINE)
        self.assertEqual(count, 2)
        for broken in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                unit = os.path.join(folder, "vgpu-job.service")
                with open(unit, "w", encoding="utf-8") as file:
                    file.write(text.replace("RestartSec=10", "RestartSecond=10") if broken else text)
                output = run(["systemd-analyze", "verify", unit])[1]
            self.assertEqual("RestartSecond" in output, broken, output)
            if not broken:
                self.assertNotIn("vgpu-job.service", output)


if __name__ == "__main__":
    unittest.main()
