# SPDX-License-Identifier: MIT
"""The words check must report forbidden text and accept allowed text. Forbidden words are assembled
at run time, because this file is itself checked."""

import sys
import unittest

sys.dont_write_bytecode = True
from tree import run_script, tree  # noqa: E402


class CheckWords(unittest.TestCase):
    def assert_found(self, text, reason, path="docs/guide.md"):
        with tree({path: text}) as root:
            status, output = run_script("check-words", root)
        self.assertEqual(status, 1, output)
        self.assertEqual(output, f"{path}:{reason}\n")

    def assert_clean(self, text, path="docs/guide.md"):
        with tree({path: text}) as root:
            status, output = run_script("check-words", root)
        self.assertEqual(status, 0, output)

    def test_a_path_of_one_machine(self):
        for folder in ("/" + "work/", "/" + "root/", "/" + "home/" + "somebody/"):
            self.assert_found(f"first line\nsee {folder}main\n",
                              "2: an absolute path of one machine")

    def test_paths_that_every_machine_has(self):
        self.assert_clean("/run/vgpu/mediator.sock, /usr/bin, docs/network/x, $HOME/work" + "/x\n")

    def test_the_host_of_a_mirror(self):
        for host in ("deb." + "debian.org", "archive." + "ubuntu.com", "pypi." + "org"):
            self.assert_found(f"http://{host}/x\n", "1: the host of a package mirror or registry")

    def test_an_ordinary_link(self):
        self.assert_clean("See https://www.debian.org and https://www.qemu.org.\n")

    def test_white_space_at_the_end(self):
        self.assert_found("a \n", "1: white space at the end of the line")

    def test_no_newline_at_the_end(self):
        self.assert_found("a\nb", "2: no newline at the end of the file")

    def test_a_merge_left_half_done(self):
        self.assert_found("<" * 7 + " ours\n", "1: a merge left half done")

    def test_no_licence(self):
        reason = "1: no SPDX-License-Identifier in the first lines"
        self.assert_found("int x;\n", reason, "src/base/x.cpp")
        self.assert_found("#!/bin/sh\necho\n", reason, "scripts/x")
        self.assert_clean("// SPDX-License-" + "Identifier: MIT\nint x;\n", "src/base/x.cpp")

    def test_an_empty_tree_is_not_called_good(self):
        with tree({}) as root:
            status, _ = run_script("check-words", root)
        self.assertEqual(status, 1)


if __name__ == "__main__":
    unittest.main()
