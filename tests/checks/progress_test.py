# SPDX-License-Identifier: MIT
"""progress must pass on the command's output and exit status, without ninja's status lines, and
report progress while the command is silent."""

import sys
import unittest

sys.dont_write_bytecode = True
from tree import run_script  # noqa: E402


class Progress(unittest.TestCase):
    def test_output_and_exit_status_are_the_commands(self):
        status, output = run_script("progress", "work", "sh", "-c",
                                    "echo '[1/2] CXX a.o'; echo a warning; echo 'ninja: no work to do.';"
                                    "echo '[2/2] LINK a'; echo 'ninja: error: x'; printf end; exit 3")
        self.assertEqual(status, 3)
        self.assertEqual(output, "a warning\nninja: error: x\nend\n")

    def test_a_silent_command_is_told_of(self):
        status, output = run_script("progress", "work", "sh", "-c",
                                    "echo '[7/9] x'; sleep 11.5; echo done")
        self.assertEqual(status, 0)
        self.assertRegex(output, r"^work: 7 of 9, 1[0-2] s\ndone\n$")

    def test_wrong_usage_is_named(self):
        self.assertEqual(run_script("progress", "work")[0], 2)


if __name__ == "__main__":
    unittest.main()
