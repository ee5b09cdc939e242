# SPDX-License-Identifier: MIT
"""Helpers of the check scripts' tests: a small tree in a temporary folder, and a run of a project
script on it."""

import contextlib
import os
import subprocess
import tempfile

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")


@contextlib.contextmanager
def tree(files):
    """Creates a temporary folder with these files (path -> text); yields its path."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            place = os.path.join(root, path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "w", encoding="utf-8") as file:
                file.write(text)
        yield root


def run_script(name, *arguments):
    """Runs a script of scripts/; returns (exit status, output)."""
    run = subprocess.run([os.path.join(SCRIPTS, name), *arguments], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False)
    return run.returncode, run.stdout
