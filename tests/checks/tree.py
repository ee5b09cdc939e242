# SPDX-License-Identifier: MIT
"""What the tests of the check scripts share: a small tree in a temporary folder, and a run of a
script of the project on it."""

import contextlib
import os
import subprocess
import tempfile

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")


@contextlib.contextmanager
def tree(files):
    """A temporary folder with these files (path -> text); its path."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            place = os.path.join(root, path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "w", encoding="utf-8") as file:
                file.write(text)
        yield root


def run_script(name, *arguments):
    """(exit status, output) of a script of scripts/."""
    run = subprocess.run([os.path.join(SCRIPTS, name), *arguments], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False)
    return run.returncode, run.stdout
