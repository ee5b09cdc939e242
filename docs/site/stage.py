#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the source tree of the documentation site: stage.py PROJECT FOLDER DOXYGEN_XML

Copies the Markdown documents to the same places below FOLDER, so that relative links work there as
they do on a code-hosting site, and adds what a document links to:

- a source file becomes a page that shows it;
- a folder stays the text that names it: the site does not have the sources;
- a page of the manual becomes a page of the site (mandoc);
- a public header leads to its page of the API reference.

Also writes the table of contents from contents.toml and the pages of the API reference. A link to
a file that does not exist, a document that contents.toml does not list, and a listed one that does
not exist are errors, `file:line: why`. Exit status 0: none, 1: some, 2: wrong usage.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree

sys.dont_write_bytecode = True

HERE = os.path.dirname(os.path.abspath(__file__))
# Listed documents that a checkout may lack.
# Pages of the API reference: title, text, headers.
API = {
    "api/c.rst": ("C API", "Header ``vgpu.h``: requests to a device, one at a time. :doc:`queue` "
                  "continues it.", ("vgpu.h",)),
    "api/queue.rst": ("C API: queues", "Header ``vgpu_queue.h``, which ``vgpu.h`` includes: many commands "
                      "in flight, and bulk data in shared memory.", ("vgpu_queue.h",)),
    "api/cpp.rst": ("C++ API", "Header ``vgpu.hpp``, a wrapper of the C API that has no code of its own "
                    "in the library. It includes ``vgpu_queue.hpp`` and ``expected.h``.", ()),
    "api/protocol-header.rst": ("Protocol header", "Numbers and layouts of everything that crosses "
                                "a process boundary: header ``vgpu_protocol.h``. "
                                ":doc:`/docs/protocol` specifies their meaning.",
                                ("vgpu_protocol.h",)),
}
PAGE_OF_HEADER = {
    "src/client/include/vgpu.h": "api/c.rst",
    "src/client/include/vgpu_queue.h": "api/queue.rst",
    "src/client/include/vgpu.hpp": "api/cpp.rst",
    "src/client/include/vgpu_queue.hpp": "api/cpp.rst",
    "src/client/include/expected.h": "api/cpp.rst",
    "protocol/vgpu_protocol.h": "api/protocol-header.rst",
}
LANGUAGES = {".c": "c", ".h": "c", ".cpp": "cpp", ".hpp": "cpp", ".py": "python", ".toml": "toml",
             ".json": "json", ".yml": "yaml", ".service": "ini", ".rules": "none", ".conf": "none"}
IMAGE = re.compile(r"!\[[^\]]*\]\(([^()\s]+)\)")
# A link, or code, in which there are no links.
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)|`[^`]*`")
MANUAL = re.compile(r"[a-z][\w.-]*\.[1-8]")


class Problems(list):
    def add(self, path, line, text):
        self.append(f"{path}:{line}: {text}")


def prose_lines(text):
    """Yields (number, line, whether it is prose): not a code block, indented or fenced."""
    fence, blank, code = None, True, False
    for number, line in enumerate(text.split("\n"), start=1):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if fence:
            yield number, line, False
            if mark and mark.group(1).startswith(fence):
                fence = None
            continue
        if mark:
            fence = mark.group(1)
            yield number, line, False
            continue
        if line.strip():
            code = line.startswith("    ") and (blank or code) and not code_is_list(line)
        yield number, line, not code
        blank = not line.strip()


def code_is_list(line):
    return re.match(r"\s*(?:[-*]|\d+\.) ", line) is not None


class Stage:
    def __init__(self, root, out, doxygen):
        self.root, self.out, self.doxygen = root, out, doxygen
        self.problems = Problems()
        with open(os.path.join(HERE, "contents.toml"), "rb") as file:
            contents = tomllib.load(file)
        self.parts, self.titles = contents["part"], contents["titles"]
        self.pages = [page for part in self.parts for page in part["pages"]]
        self.files = set()   # source files that become pages
        self.external = 0    # links that only a network could check

    def write(self, path, text):
        target = os.path.join(self.out, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)

    def exists(self, path):
        return os.path.exists(os.path.join(self.root, path))

    def run(self):
        self.check_contents()
        for page in list(self.pages):
            if page.endswith(".md") and self.exists(page):
                self.document(page)
        for path in sorted(self.files):
            self.source_file(path)
        for path, (title, text, headers) in API.items():
            self.api_page(path, title, text, headers)
        self.manual()
        self.index()
        return self.problems

    def check_contents(self):
        listed = "docs/site/contents.toml"
        for name in sorted(os.listdir(os.path.join(self.root, "docs"))):
            if name.endswith(".md") and f"docs/{name}" not in self.pages:
                self.problems.add(listed, 1, f"docs/{name} is in no part of the contents")
        for page in self.titles:
            if page not in self.pages:
                self.problems.add(listed, 1, f"{page} has a title and is in no part")
        for page in list(self.pages):
            if page in API or page == "man.md" or self.exists(page):
                continue
            self.pages.remove(page)
            self.problems.add(listed, 1, f"there is no {page}")

    def document(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            text = file.read()
        lines = []
        for number, line, prose in prose_lines(text):
            if prose:
                for target in IMAGE.findall(line):
                    self.image(path, number, target)
                line = LINK.sub(lambda found: self.link(path, number, found), line)  # noqa: B023
            lines.append(line)
        self.write(path, "\n".join(lines))

    def link(self, path, number, found):
        """Returns a link of a document as the site needs it."""
        text, target = found.group(1), found.group(2)
        if target is None:
            return found.group(0)
        if re.match(r"[a-z]+:", target):
            self.external += 1
            return found.group(0)
        name, _, anchor = target.partition("#")
        if not name:
            return found.group(0)
        full = os.path.normpath(os.path.join(os.path.dirname(path), name))
        if not self.exists(full):
            self.problems.add(path, number, f"the link's target does not exist: {target}")
            return text
        if full in self.pages:
            return found.group(0)
        if os.path.isdir(os.path.join(self.root, full)):
            page = self.page_of_folder(full)
            if page is None:
                return text
        elif full in PAGE_OF_HEADER:
            page = PAGE_OF_HEADER[full]
        else:
            page = full + ".md"
            if not full.startswith("docs/man/"):
                self.files.add(full)
        back = os.path.relpath(page, os.path.dirname(path))
        return f"[{text}]({back}{'#' + anchor if anchor else ''})"

    def image(self, path, number, target):
        full = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if self.exists(full):
            shutil.copyfile(os.path.join(self.root, full),
                            os.path.join(self.out_folder(full), os.path.basename(full)))
        else:
            self.problems.add(path, number, f"there is no image {target}")

    def page_of_folder(self, folder):
        if folder == "docs/man":
            return "man.md"
        readme = os.path.join(folder, "README.md")
        return readme if readme in self.pages else None

    def source_file(self, path):
        name = os.path.basename(path)
        shutil.copyfile(os.path.join(self.root, path), os.path.join(self.out_folder(path), name))
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            first = file.readline()
        language = LANGUAGES.get(os.path.splitext(name)[1],
                                 "python" if "python" in first else
                                 "shell" if first.startswith("#!") else "none")
        self.write(path + ".md", f"---\norphan: true\n---\n\n# {path}\n\n"
                   f"```{{literalinclude}} {name}\n:language: {language}\n```\n")

    def out_folder(self, path):
        folder = os.path.join(self.out, os.path.dirname(path))
        os.makedirs(folder, exist_ok=True)
        return folder

    def api_page(self, path, title, text, headers):
        body = [title, "=" * len(title), "", text, ""]
        for header in headers:
            body += [*self.summary(header), f".. doxygenfile:: {header}", ""]
        if not headers:
            body += self.namespace()
        self.write(path, "\n".join(body))

    def summary(self, header):
        """Returns a table of a C header's functions with the first sentence on each."""
        file = header.replace("_", "__").replace(".", "_8") + ".xml"
        root = xml.etree.ElementTree.parse(os.path.join(self.doxygen, file)).getroot()
        rows = []
        for item in root.iter("memberdef"):
            if item.get("kind") == "function":
                brief = " ".join("".join(item.find("briefdescription").itertext()).split())
                rows += [f"   * - :c:func:`{item.findtext('name')}`",
                         "     - " + re.sub(r"([*`|\\_])", r"\\\1", brief)]
        return ["Functions", "---------", "", ".. list-table::", "   :widths: 35 65", "", *rows, "",
                "Reference", "---------", ""] if rows else []

    def namespace(self):
        """Returns the directives for everything in the namespace of the C++ API."""
        root = xml.etree.ElementTree.parse(os.path.join(self.doxygen, "namespacevgpu.xml")).getroot()
        body = []
        for item in root.iter("innerclass"):
            kind = "struct" if item.get("refid").startswith("struct") else "class"
            name = item.text.split("::", maxsplit=1)[1]
            body += [name, "-" * len(name), "", f".. doxygen{kind}:: {item.text}", "   :members:",
                     "   :undoc-members:", ""]
        body += ["Functions and names", "-------------------", ""]
        for item in root.iter("memberdef"):
            body += [f".. doxygen{item.get('kind')}:: vgpu::{item.findtext('name')}", ""]
        return body

    def manual(self):
        """Writes a page for each page of the manual, and their list."""
        folder = os.path.join(self.root, "docs", "man")
        names = sorted((name for name in os.listdir(folder) if MANUAL.fullmatch(name)),
                       key=lambda name: (name[-1], name))
        rows = []
        for name in names:
            done = subprocess.run(["mandoc", "-T", "html", "-O", "fragment,man=%N.%S.html",
                                   os.path.join(folder, name)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  check=False)
            if done.returncode != 0:
                self.problems.add(f"docs/man/{name}", 1, done.stderr.strip() or "mandoc failed")
                continue
            title = f"{name[:-2]}({name[-1]})"
            # Pages of other projects are not on this site.
            html = re.sub(r'<a class="Xr" href="([^"]*)\.html">([^<]*)</a>',
                          lambda found: found.group(0) if found.group(1) in names
                          else found.group(2), done.stdout)
            self.write(f"docs/man/{name}.md", f"# {title}\n\n```{{raw}} html\n<div class=\"manual\">\n"
                       f"{html}</div>\n```\n")
            summary = re.search(r"^\.Nd (.*)$", self.text_of(f"docs/man/{name}"), re.MULTILINE)
            rows.append(f"| [{title}](docs/man/{name}.md) | {summary.group(1)} |")
        self.write("man.md", "# Manual pages\n\nInstalled with the programs: `man 1 vgpu`.\n\n| | |\n|---|---|\n"
                   + "\n".join(rows) + "\n\n```{toctree}\n:hidden:\n\n"
                   + "\n".join(f"docs/man/{name}" for name in names) + "\n```\n")

    def text_of(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            return file.read()

    def index(self):
        body = ["# vgpu", "",
                "vgpu gives every virtual machine on a host its own GPU device, without a vendor licence and "
                "without a network. This site has everything that is documented about it; it needs no "
                "network itself.", "",
                "New here? The [quick start](docs/quick-start.md) leads from nothing to a first computation. "
                "Something fails? [Troubleshooting](docs/troubleshooting.md) is sorted by symptom.", ""]
        for part in self.parts:
            pages = [page for page in part["pages"] if page in self.pages]
            body += ["```{toctree}", f":caption: {part['title']}", ":maxdepth: 1", "",
                     *(self.entry(page) for page in pages), "```", ""]
        self.write("index.md", "\n".join(body))


    def entry(self, page):
        name = os.path.splitext(page)[0]
        return f"{self.titles[page]} <{name}>" if page in self.titles else name


def main():
    if len(sys.argv) != 4:
        print("usage: stage.py PROJECT FOLDER DOXYGEN_XML", file=sys.stderr)
        return 2
    stage = Stage(*sys.argv[1:])
    problems = stage.run()
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"docs: {len(stage.pages)} pages, {len(stage.files)} source files; {stage.external} "
          "external links are not checked: that needs a network")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
