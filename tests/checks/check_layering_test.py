# SPDX-License-Identifier: MIT
"""The layering check must find each kind of violation: each case builds a small tree that breaks
one rule and compares the check's output."""

import sys
import unittest

sys.dont_write_bytecode = True
from tree import run_script, tree  # noqa: E402

# A tree without violations; the cases add to it.
GOOD = {
    "protocol/vgpu_protocol.h": "#include <stdint.h>\n",
    "src/base/fd.h": "#include <unistd.h>\n",
    "src/ipc/framing.h": '#include "base/fd.h"\n#include "vgpu_protocol.h"\n',
    "src/ipc/framing_test.cpp": '#include "ipc/framing.h"\n#include "support/process.h"\n',
    "src/sched/queue.h": '#include "base/fd.h"\n',
    "src/executor/backend.h": '#include "base/fd.h"\n',
    "src/mediator/main.cpp": '#include "executor/backend.h"\n#include "ipc/framing.h"\n'
                             '#include "sched/queue.h"\n',
    "src/client/include/vgpu.h": '#include "vgpu_protocol.h"\n',
    "src/cli/vgpu.cpp": '#include "client/include/vgpu.h"\n',
    "device/qemu/vgpu-stub.c": '#include "qemu/osdep.h"\n#include "vgpu_protocol.h"\n',
    "tests/support/process.h": "#include <string>\n",
}


class CheckLayering(unittest.TestCase):
    def check(self, files):
        """Returns exit status and output of the check on a tree of these files."""
        with tree(files) as root:
            return run_script("check-layering", root)

    def assert_violation(self, extra, line):
        status, output = self.check({**GOOD, **extra})
        self.assertEqual(status, 1, output)
        self.assertEqual(output.splitlines(), [line])

    def test_a_tree_that_keeps_the_rules_passes(self):
        status, output = self.check(GOOD)
        self.assertEqual(status, 0, output)

    def test_base_may_not_include_upward(self):
        self.assert_violation(
            {"src/base/bad.h": '#include <new>\n#include "ipc/framing.h"\n'},
            "src/base/bad.h:2: src/base may not include src/ipc/framing.h")

    def test_the_scheduler_does_no_io(self):
        self.assert_violation({"src/sched/bad.cpp": '#include "ipc/framing.h"\n'},
                              "src/sched/bad.cpp:1: src/sched may not include src/ipc/framing.h")

    def test_angle_brackets_do_not_hide_an_include(self):
        self.assert_violation({"src/ipc/bad.cpp": "#  include <executor/backend.h>\n"},
                              "src/ipc/bad.cpp:1: src/ipc may not include src/executor/backend.h")

    def test_neither_does_a_relative_path(self):
        self.assert_violation({"src/client/bad.cpp": '#include "../mediator/main.cpp"\n'},
                              "src/client/bad.cpp:1: src/client may not include "
                              "src/mediator/main.cpp")

    def test_neither_does_a_file_that_only_the_build_makes(self):
        self.assert_violation({"src/ipc/bad.cpp": '#include "executor/kernels_ptx.h"\n'},
                              "src/ipc/bad.cpp:1: src/ipc may not include executor/kernels_ptx.h")

    def test_the_guest_side_knows_nothing_of_the_host_side(self):
        self.assert_violation({"src/cli/bad.cpp": '#include "sched/queue.h"\n'},
                              "src/cli/bad.cpp:1: src/cli may not include src/sched/queue.h")

    def test_the_device_includes_the_protocol_only(self):
        self.assert_violation({"device/bad.c": '#include "base/fd.h"\n'},
                              "device/bad.c:1: device may not include src/base/fd.h")

    def test_the_product_may_not_include_tests(self):
        self.assert_violation({"src/ipc/bad.cpp": '#include "support/process.h"\n'},
                              "src/ipc/bad.cpp:1: src/ipc may not include tests/support/process.h")

    def test_a_unit_test_may_not_include_upward(self):
        self.assert_violation({"src/base/bad_test.cpp": '#include "ipc/framing.h"\n'},
                              "src/base/bad_test.cpp:1: src/base may not include "
                              "src/ipc/framing.h")

    def test_the_protocol_includes_stdint_only(self):
        self.assert_violation(
            {"protocol/vgpu_protocol.h": "#include <stdint.h>\n#include <stdio.h>\n"},
            "protocol/vgpu_protocol.h:2: protocol may not include stdio.h")

    def test_a_circle_is_found(self):
        self.assert_violation(
            {"src/base/a.h": '#include "base/b.h"\n', "src/base/b.h": '#include "base/a.h"\n'},
            "src/base/b.h:1: src/base/b.h may not include src/base/a.h "
            "(it includes this file again)")

    def test_a_subfolder_may_not_include_a_higher_one(self):
        files = {"src/mediator/core/a.h": "", "src/mediator/config/a.h": "",
                 "src/mediator/config/good_test.cpp": '#include "mediator/core/a.h"\n',
                 "src/mediator/core/good.h": '#include "mediator/config/a.h"\n',
                 "src/mediator/config/bad.h": '#include "mediator/core/a.h"\n'}
        self.assert_violation(files, "src/mediator/config/bad.h:1: src/mediator may not include "
                                     "src/mediator/core/a.h")

    def test_production_code_may_not_include_test_doubles(self):
        self.assert_violation({"src/client/testing/fake.h": "",
                               "src/client/api/bad.h": '#include "client/testing/fake.h"\n'},
                              "src/client/api/bad.h:1: src/client may not include "
                              "src/client/testing/fake.h")

    def test_a_subfolder_without_a_place_is_found(self):
        self.assert_violation({"src/mediator/newcomer/a.h": "",
                               "src/mediator/b.h": '#include "mediator/newcomer/a.h"\n'},
                              "src/mediator/b.h:1: src/mediator may not include "
                              "src/mediator/newcomer/a.h")

    def test_a_folder_without_a_rule_is_found(self):
        self.assert_violation({"src/newcomer/x.h": ""},
                              "src/newcomer/x.h:1: src/newcomer has no rule in "
                              "scripts/check-layering; add its folder there")

    def test_a_tree_without_code_is_not_called_good(self):
        status, _ = self.check({"README.md": "nothing here\n"})
        self.assertEqual(status, 1)

    def test_a_wrong_argument_is_a_usage_error(self):
        status, _ = run_script("check-layering", "/nonexistent")
        self.assertEqual(status, 2)



if __name__ == "__main__":
    unittest.main()
