# SPDX-License-Identifier: MIT
"""Installs the build into a temporary folder and uses it as a third party would: the headers, the
shared and the static library and the files for pkg-config and CMake must suffice to compile, link
and run a C and a C++ program outside the source tree. ctest passes the build in the environment."""

import os
import re
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
MAN = os.path.join(HERE, "..", "..", "docs", "man")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
CMAKE, BUILD, VERSION = (os.environ[name] for name in ("VGPU_CMAKE", "VGPU_BUILD", "VGPU_VERSION"))
C, CXX = [os.environ["CC"], "-std=c11"], [os.environ["CXX"], "-std=c++20"]
NO_DEVICE = "this machine has no vGPU device"


def run(command, **environment):
    """Runs a command; returns (exit status, output)."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout


def example_of(page):
    """Returns the example program of a page, unescaped."""
    with open(os.path.join(MAN, page), encoding="utf-8") as file:
        text = re.search(r"^\.Bd -literal\n(#include[\s\S]*?)^\.Ed", file.read(), re.MULTILINE)
    return text.group(1).replace("\\e", "\\").replace("\\-", "-")


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = os.path.join(cls.folder.name, "root")
        cls.work = os.path.join(cls.folder.name, "work")
        os.mkdir(cls.work)
        status, output = run([CMAKE, "--install", BUILD], DESTDIR=cls.root)
        if status != 0:
            raise AssertionError(output)
        # A manifest left there would list files that this test deletes.
        manifest = os.path.join(BUILD, "install_manifest.txt")
        if os.path.exists(manifest):
            os.remove(manifest)

    def find(self, ending):
        """Returns the only installed file whose path ends with `ending`."""
        found = [os.path.join(folder, name) for folder, _, names in os.walk(self.root)
                 for name in names if os.path.join(folder, name).endswith(ending)]
        self.assertEqual(len(found), 1, f"{ending}: {found}")
        return found[0]

    def pkg_config(self, *arguments):
        status, output = run(["pkg-config", *arguments, "vgpu"],
                             PKG_CONFIG_LIBDIR=os.path.dirname(self.find("/vgpu.pc")),
                             PKG_CONFIG_SYSROOT_DIR=self.root)
        self.assertEqual(status, 0, output)
        return output.split()

    def build(self, compiler, source, name, static=False):
        program = os.path.join(self.work, name)
        libraries = self.pkg_config("--libs", *(["--static"] if static else []))
        if static:
            libraries = [self.find("/libvgpu.a") if word == "-lvgpu" else word
                         for word in libraries]
        status, output = run([*compiler, *WARNINGS, source, *self.pkg_config("--cflags"),
                              *libraries, "-o", program])
        self.assertEqual(status, 0, output)
        return program

    def run_program(self, program, *arguments):
        libraries = os.path.dirname(self.find(f"/libvgpu.so.{VERSION}"))
        return run([program, *arguments], LD_LIBRARY_PATH=libraries)

    def assert_runs(self, program, *arguments):
        """Without a device the program must report that; otherwise it must match `vgpu info`."""
        status, output = self.run_program(program, *arguments)
        if run([self.find("/bin/vgpu"), "list"])[0] == 1:
            self.assertEqual(status, 1, output)
            self.assertIn(NO_DEVICE, output)
        else:
            self.assertEqual(status, run([self.find("/bin/vgpu"), "info"])[0], output)

    def test_everything_is_there(self):
        for ending in ("/sbin/vgpu-mediator", "/bin/vgpu", "/bin/vgpuctl", "/libvgpu.a",
                       f"/libvgpu.so.{VERSION}", "/include/vgpu/vgpu.h", "/include/vgpu/vgpu.hpp",
                       "/include/vgpu/vgpu_queue.h", "/include/vgpu/vgpu_queue.hpp",
                       "/include/vgpu/expected.h", "/include/vgpu/vgpu_protocol.h",
                       "/man1/vgpu.1", "/man1/vgpuctl.1", "/man3/libvgpu.3",
                       "/man3/vgpu_queue.3",
                       "/man5/vgpu-mediator.toml.5", "/man7/vgpu-stub.7", "/man8/vgpu-mediator.8",
                       "/examples/mediator.toml", "/examples/add.c", "/examples/add.cpp",
                       "/examples/queue.c", "/examples/queue.cpp", "/examples/api.c",
                       "/examples/api.cpp", "/examples/add.py", "/guest/60-vgpu.rules",
                       "/guest/vgpu-job.service", "/monitoring/dashboard.json",
                       "/monitoring/alerts.yml", "/monitoring/vgpu-vm-metrics",
                       "/share/bash-completion/completions/vgpuctl.bash",
                       "/share/zsh/site-functions/_vgpuctl",
                       "/share/fish/vendor_completions.d/vgpuctl.fish"):
            self.find(ending)

    def test_the_installed_programs_run(self):
        self.assertEqual(run([self.find("/bin/vgpu"), "--version"]), (0, f"vgpu {VERSION}\n"))
        mediator = self.find("/sbin/vgpu-mediator")
        self.assertEqual(run([mediator, "--version"]), (0, f"vgpu-mediator {VERSION}\n"))
        status, output = run([mediator, "--check-config", "--config",
                              self.find("/examples/mediator.toml")])
        self.assertEqual(status, 0, output)

    def test_pkg_config_names_the_version(self):
        self.assertEqual(self.pkg_config("--modversion"), [VERSION])

    def test_the_shared_library_has_its_name_and_nothing_else_of_ours(self):
        library = self.find(f"/libvgpu.so.{VERSION}")
        major = VERSION.split(".", maxsplit=1)[0]
        self.assertIn(f"[libvgpu.so.{major}]", run(["readelf", "-d", library])[1])
        for link in ("libvgpu.so", f"libvgpu.so.{major}"):
            path = os.path.join(os.path.dirname(library), link)
            self.assertEqual(os.path.realpath(path), os.path.realpath(library))
        status, output = run(["nm", "-D", "--defined-only", library])
        self.assertEqual(status, 0, output)
        symbols = [line.split()[-1] for line in output.splitlines()]
        self.assertIn("vgpu_open@@VGPU_0", symbols)
        self.assertEqual([name for name in symbols
                          if name != "VGPU_0" and not re.fullmatch(r"vgpu_\w+@@VGPU_0", name)], [])

    def test_the_example_in_c(self):
        program = self.build(C, self.find("/examples/add.c"), "add_c")
        self.assertEqual(self.run_program(program, "1")[0], 2)
        self.assert_runs(program, "100", "200")

    def test_the_example_in_cpp(self):
        program = self.build(CXX, self.find("/examples/add.cpp"), "add_cpp")
        self.assertEqual(self.run_program(program, "1", "x")[0], 2)
        self.assert_runs(program, "100", "200")

    def test_the_examples_of_queues(self):
        for compiler, name in ((C, "queue.c"), (CXX, "queue.cpp")):
            program = self.build(compiler, self.find(f"/examples/{name}"), name.replace(".", "_"))
            self.assertEqual(self.run_program(program, "1", "2")[0], 2)
            self.assert_runs(program)

    def test_a_c_program_with_the_static_library(self):
        program = self.build(C, self.find("/examples/add.c"), "add_static", static=True)
        self.assertNotIn("libvgpu", run(["readelf", "-d", program])[1])
        self.assert_runs(program, "100", "200")

    def test_cmake_finds_both_libraries(self):
        source = os.path.join(self.work, "cmake")
        os.mkdir(source)
        with open(os.path.join(source, "CMakeLists.txt"), "w", encoding="utf-8") as file:
            file.write(f'''cmake_minimum_required(VERSION 3.20)
project(user C CXX)
find_package(vgpu {VERSION} REQUIRED)
add_executable(shared "{self.find("/examples/add.c")}")
target_link_libraries(shared vgpu::vgpu)
add_executable(static "{self.find("/examples/add.c")}")
target_link_libraries(static vgpu::static)
''')
        build = os.path.join(source, "build")
        status, output = run([CMAKE, "-S", source, "-B", build,
                              f"-DCMAKE_PREFIX_PATH={self.root}/usr/local"])
        self.assertEqual(status, 0, output)
        status, output = run([CMAKE, "--build", build])
        self.assertEqual(status, 0, output)
        soname = f"[libvgpu.so.{VERSION.split('.', maxsplit=1)[0]}]"
        self.assertIn(soname, run(["readelf", "-d", os.path.join(build, "shared")])[1])
        self.assertNotIn("libvgpu", run(["readelf", "-d", os.path.join(build, "static")])[1])
        for name in ("shared", "static"):
            self.assert_runs(os.path.join(build, name), "100", "200")
        # The version of the package is checked.
        with open(os.path.join(source, "CMakeLists.txt"), "a", encoding="utf-8") as file:
            file.write("find_package(vgpu 99 REQUIRED)\n")
        self.assertNotEqual(run([CMAKE, build])[0], 0)

    def test_the_programs_in_the_manual(self):
        for page in ("libvgpu.3", "vgpu_queue.3"):
            source = os.path.join(self.work, f"{page}.c")
            with open(source, "w", encoding="utf-8") as file:
                file.write(example_of(page))
            self.assert_runs(self.build(C, source, page.replace(".", "_")))


if __name__ == "__main__":
    unittest.main()
