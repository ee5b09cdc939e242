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


def linked_documents():
    """Returns the documents whose links are checked."""
    return [*documents(), "device/README.md", "examples/README.md", "examples/monitoring/README.md"]


def without_code(text):
    """Returns a document without fenced blocks and code in a line."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", text)


def links(text):
    return re.findall(r"\]\(([^()\s]+)\)", without_code(text))


@functools.cache
def anchors(path):
    """Returns the anchors that a code-hosting site gives the headings of a document."""
    found = set()
    fences = re.sub(r"^ *```.*?^ *```$", "", read(path), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", fences, re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-"))
    return found


def broken(path, target):
    """Returns what is wrong with a link of a document, or None."""
    if re.match(r"[a-z]+:", target):
        return None
    name, _, anchor = target.partition("#")
    full = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
    if not os.path.exists(os.path.join(ROOT, full)):
        return "there is no such file"
    if anchor and full.endswith(".md") and anchor not in anchors(full):
        return "there is no such heading"
    return None


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

    def test_links_lead_to_files_and_headings(self):
        """Relative links must work on a code-hosting site; those to other sites are not checked."""
        seen = 0
        for path in linked_documents():
            for target in links(read(path)):
                with self.subTest(document=path, link=target):
                    self.assertIsNone(broken(path, target))
                seen += 1
        self.assertGreater(seen, 50)

    def test_error_names_of_the_guest_guide_are_those_of_the_library(self):
        names = dict(re.findall(r'Entry\{(VGPU_\w+), "([a-z-]+)"', read("src/client/core/codes.cpp")))
        names.update(re.findall(r'case (VGPU_ERR_\w+):\s+return "([a-z-]+)"',
                                read("protocol/vgpu_names.h")))
        numbers = {name: int(number, 0) for text in (read("protocol/vgpu_protocol.h"),
                                                     read("src/client/include/vgpu.h"))
                   for name, number in re.findall(r"^    (VGPU_E\w*) = (\w+),", text, re.MULTILINE)}
        codes = {numbers[name]: text for name, text in names.items() if name in numbers}
        rows = re.findall(r"^\| ([\dxA-F, ]+) \| ([a-z, -]+) \|", read("docs/guest.md"), re.MULTILINE)
        self.assertGreater(len(rows), 15)
        for given, expected in rows:
            with self.subTest(codes=given):
                self.assertEqual([codes[int(code, 0)] for code in given.split(", ")],
                                 expected.split(", "))

    def test_the_figure_shows_the_table(self):
        sys.path.insert(0, os.path.join(ROOT, "docs", "site"))
        import plot
        self.assertGreater(len(plot.rows(read("docs/benchmarks.md"))), 4)
        self.assertEqual(plot.drawn(), read("docs/images/latency.svg"),
                         "run docs/site/plot.py: the table has changed")

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

    def test_a_link_that_leads_nowhere_is_found(self):
        self.assertEqual(links("[a](b.md) `[c](d)` [`e`](f#g)\n```\n[h](i)\n```\n"), ["b.md", "f#g"])
        self.assertIsNone(broken("docs/admin.md", "protocol.md#7-error-codes"))
        self.assertIsNone(broken("docs/admin.md", "#metrics"))
        self.assertEqual(broken("docs/admin.md", "#no-such"), "there is no such heading")
        self.assertEqual(broken("docs/admin.md", "protocol.md#no-such"), "there is no such heading")
        self.assertEqual(broken("docs/admin.md", "../none.md"), "there is no such file")


if __name__ == "__main__":
    unittest.main()
