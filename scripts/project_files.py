# SPDX-License-Identifier: MIT
"""Lists the project's files and resolves their #include lines.

Shared by the check scripts, so that all of them check the same files. Read-only; it must never
follow a path out of the project's root.
"""

import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True

# Search path of includes; a quoted one is searched first in the folder of the file itself.
INCLUDE_ROOTS = ("protocol", "src", "tests")

C_SUFFIXES = (".c", ".h")
CXX_SUFFIXES = (".cpp", ".hpp", ".cc", ".hh", ".cu", ".cuh")
CODE_SUFFIXES = C_SUFFIXES + CXX_SUFFIXES

_SKIPPED_FOLDERS = {".git", "build", "__pycache__"}
_INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def default_root():
    """Returns the project's root: the folder above this one."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def project_files(root):
    """Returns sorted paths relative to root: what git tracks or would track, else every file."""
    if os.path.exists(os.path.join(root, ".git")):
        found = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    else:
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
            found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    # Skip a file that is in the index but deleted on disk.
    return sorted({path for path in found if path and os.path.isfile(os.path.join(root, path))})


def code_files(root):
    """Returns the C, C++ and CUDA sources among project_files()."""
    return [path for path in project_files(root) if path.endswith(CODE_SUFFIXES)]


def read_text(root, path):
    """Returns the file's text; bytes that are not UTF-8 are replaced."""
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def includes(root, path):
    """Returns (line number, name, quoted) of each #include line."""
    found = []
    for number, line in enumerate(read_text(root, path).splitlines(), start=1):
        match = _INCLUDE.match(line)
        if match:
            found.append((number, match.group(1) or match.group(2), match.group(1) is not None))
    return found


def resolve(root, path, name, quoted):
    """Returns the project's file that an include names, relative to root, or None."""
    places = [os.path.dirname(path)] if quoted else []
    for place in places + list(INCLUDE_ROOTS):
        candidate = os.path.normpath(os.path.join(place, name))
        if not candidate.startswith("..") and os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None
