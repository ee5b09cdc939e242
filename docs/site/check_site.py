#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks a built documentation site: check_site.py FOLDER

Every internal link must lead to a file of the site, and its anchor to an element there. No page may
load anything from another site. Links to other sites are counted, not checked. Exit status 0: no
error, 1: some, one line each, 2: wrong usage.
"""

import html.parser
import os
import re
import sys
import urllib.parse

# Elements whose address the browser loads by itself.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
# Links of a page to itself for search engines and the like load nothing.
NOT_LOADED = ("canonical", "index", "search", "next", "prev", "author", "copyright")
CSS_URL = re.compile(r"url\(\s*[\"']?([^\"')]+)")


class Page(html.parser.HTMLParser):
    """The anchors, links and loaded addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors.update(value for key, value in attrs if key in ("id", "name") and value)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        address = values.get(LOADED.get(tag, ""))
        if address and values.get("rel") not in NOT_LOADED:
            self.loaded.append(address)


def check(root):
    """Returns (problems, pages, internal links, external links)."""
    pages = {}
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(".html"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    pages[os.path.relpath(path, root)] = Page(file.read())
    problems, internal, external = [], 0, 0
    for path, page in sorted(pages.items()):
        for address in page.loaded:
            if urllib.parse.urlsplit(address).netloc:
                problems.append(f"{path}: loads {address} from another site")
        for address in page.links + [a for a in page.loaded if not urllib.parse.urlsplit(a).netloc]:
            parts = urllib.parse.urlsplit(address)
            if parts.scheme or parts.netloc:
                external += 1
                continue
            internal += 1
            target = path if not parts.path else os.path.normpath(
                os.path.join(os.path.dirname(path), urllib.parse.unquote(parts.path)))
            if not os.path.isfile(os.path.join(root, target)):
                problems.append(f"{path}: there is no {address}")
            elif parts.fragment and target in pages and \
                    urllib.parse.unquote(parts.fragment) not in pages[target].anchors:
                problems.append(f"{path}: there is no anchor {address}")
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(".css"):
                path = os.path.relpath(os.path.join(folder, name), root)
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    addresses = CSS_URL.findall(file.read())
                for address in addresses:
                    target = os.path.join(folder, address.split("#")[0].split("?")[0])
                    if not address.startswith("data:") and not os.path.isfile(target):
                        problems.append(f"{path}: loads {address}, which the site does not have")
    return problems, len(pages), internal, external


def main():
    if len(sys.argv) != 2:
        print("usage: check_site.py FOLDER", file=sys.stderr)
        return 2
    problems, pages, internal, external = check(sys.argv[1])
    for problem in problems:
        print(problem, file=sys.stderr)
    if pages == 0:
        print(f"check_site: {sys.argv[1]} has no pages", file=sys.stderr)
        return 1
    print(f"docs: checked {internal} internal links of {pages} pages; {external} links to other "
          "sites are not checked: that needs a network")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
