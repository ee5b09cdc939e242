# SPDX-License-Identifier: MIT
"""Which files belong to the project, and what their #include lines name.

Shared by the check scripts so that all of them look at the same files. It only reads; it must
never follow a path out of the project's root.
"""

import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True

# Where a quoted include is looked for, after the folder of the file itself.
INCLUDE_ROOTS = ("protocol", "src", "tests")

C_SUFFIXES = (".c", ".h")
CXX_SUFFIXES = (".cpp", ".hpp", ".cc", ".hh", ".cu", ".cuh")
CODE_SUFFIXES = C_SUFFIXES + CXX_SUFFIXES

_SKIPPED_FOLDERS = {".git", "build", "__pycache__"}
_INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def default_root():
    """The project's root: the folder above this one."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def project_files(root):
    """Paths relative to root, sorted: what git tracks or would track, else every file."""
    if os.path.exists(os.path.join(root, ".git")):
        found = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    else:
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
            found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    # A file that is in the index and deleted on disk is no longer part of the project.
    return sorted({path for path in found if path and os.path.isfile(os.path.join(root, path))})


def code_files(root):
    """The C, C++ and CUDA sources among project_files()."""
    return [path for path in project_files(root) if path.endswith(CODE_SUFFIXES)]


def read_text(root, path):
    """The file's text; bytes that are not UTF-8 are replaced."""
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def includes(root, path):
    """(line number, name, quoted) of each #include line."""
    found = []
    for number, line in enumerate(read_text(root, path).splitlines(), start=1):
        match = _INCLUDE.match(line)
        if match:
            found.append((number, match.group(1) or match.group(2), match.group(1) is not None))
    return found


def resolve(root, path, name, quoted):
    """The project's file that an include names, relative to root, or None."""
    places = [os.path.dirname(path)] if quoted else []
    for place in places + list(INCLUDE_ROOTS):
        candidate = os.path.normpath(os.path.join(place, name))
        if not candidate.startswith("..") and os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None
