# SPDX-License-Identifier: MIT
"""Names in the documents must exist: functions and members of the code, messages that a user may
see, files of the project, and keys of the configuration."""

import functools
import os
import re
import sys
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CODE = ("src", "device", "protocol", "scripts", "guest", "tests", "bench", "examples")
# Shorter pieces of a message are not significant.
SHORTEST = 8
# Placeholders for variable parts of documented messages: …, N, X, <…>.
PLACEHOLDER = re.compile(r"…|\.\.\.|\b[A-Z]\b|<[^>]*>|\b\d+\b")


# Messages of other programs.
OTHERS = ("'vgpu-stub' is not a valid device model name", "Suppressed … messages from …",
          "BAR 2: can't assign; no space")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def documents():
    return ["README.md", *sorted(f"docs/{name}" for name in os.listdir(os.path.join(ROOT, "docs"))
                                 if name.endswith(".md"))]


@functools.cache
def sources():
    """Returns the text of each source file by path."""
    found = {}
    for top in CODE:
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), ROOT)
                if name.endswith((".h", ".hpp", ".c", ".cpp", ".in", ".py")) or "." not in name:
                    try:
                        found[path] = read(path)
                    except UnicodeDecodeError:
                        continue
    return found


@functools.cache
def texts():
    """Returns all sources as one text, with adjacent string literals joined."""
    joined = "\n".join(text for path, text in sources().items() if "test" not in path)
    joined = re.sub(r'"(?:\s*(?:PRI\w+)?\s*)"', "", joined)
    return joined.replace('\\"', '"')


def missing_pieces(message):
    """Returns the pieces of a message between its placeholders that no source contains."""
    pieces = [piece.strip(" :,.;'\"()") for piece in PLACEHOLDER.split(message)]
    return [piece for piece in pieces if len(piece) >= SHORTEST and piece not in texts()]


class Documents(unittest.TestCase):
    def test_functions_and_members_that_are_named_exist(self):
        for path in documents():
            for owner, member in re.findall(r"`([A-Z]\w+)::(~?\w+)(?:\(\))?`", read(path)):
                with self.subTest(document=path, name=f"{owner}::{member}"):
                    homes = [text for text in sources().values()
                             if re.search(rf"\b(?:class|struct|union)\s[^;{{]*\b{owner}\b", text)]
                    self.assertTrue(homes, "there is no such class")
                    everywhere = homes + [text for text in sources().values()
                                          if f"{owner}::{member}" in text]
                    self.assertTrue(any(re.search(rf"\b{member}\b", text) for text in everywhere),
                                    "it has no such member")

    def test_functions_with_parentheses_exist(self):
        for path in documents():
            for name in re.findall(r"`([a-z]\w+_\w+)\(\)`", read(path)):
                with self.subTest(document=path, name=name):
                    self.assertTrue(re.search(rf"\b{name}\s?\(", texts()),
                                    "no source has such a function")

    def test_files_that_are_named_exist(self):
        for path in documents():
            for name in re.findall(r"[`(]((?:src|device|protocol|scripts|guest|tests|bench|examples|"
                                   r"config|docs)/[\w./-]+)[`)#]", read(path)):
                with self.subTest(document=path, name=name):
                    self.assertTrue(os.path.exists(os.path.join(ROOT, name)))

    def test_messages_that_troubleshooting_explains_are_given(self):
        rows = [line for line in read("docs/troubleshooting.md").splitlines()
                if line.startswith("| ") and not line.startswith("|---")]
        self.assertGreater(len(rows), 40)
        for row in rows:
            for message in re.findall(r"`([^`]*)`", row.split(" | ")[0]):
                if " " not in message or message in OTHERS or message.startswith(("vgpu ", "--", "kill ", "systemctl ")):
                    continue
                with self.subTest(message=message):
                    self.assertEqual(missing_pieces(message), [])

    def test_keys_of_the_configuration_exist(self):
        keys = set(re.findall(r'\{"(\w+)",', read("src/mediator/config/config.cpp")))
        self.assertIn("queue_per_vm", keys)
        tables = "mediator|limits|executor|queues|shutdown|log|admin|metrics|pool|vm|gpu"
        for path in documents():
            for key in re.findall(rf"`(?:{tables})\.([a-z]\w+)`", read(path)):
                with self.subTest(document=path, key=key):
                    self.assertIn(key, keys)


class TheCheckItself(unittest.TestCase):
    def test_a_message_that_nobody_gives_is_found(self):
        self.assertEqual(missing_pieces("the mediator sings … aloud in the rain"),
                         ["the mediator sings", "aloud in the rain"])
        self.assertEqual(missing_pieces("this mediator does not serve pool X"), [])


if __name__ == "__main__":
    unittest.main()
