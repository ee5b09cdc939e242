#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Prepares a public header for Doxygen: doxygen_filter.py HEADER, which prints the result.

The headers have plain comments. This filter turns those that precede or follow a declaration into
documentation comments, and adds what the headers state once for all functions:

- a line `name: text` or `name, name: text` of a function's comment describes its parameters;
- `Errors:` and `Threads:` begin paragraphs with these titles; a C function that returns a code must
  have the first;
- parameters that mean the same everywhere (`why`, `timeout_ms`, ...), the return value, and the
  default rule for threads;
- for a C++ member that wraps a C function: a reference to it, and its parameters' descriptions;
- the example: the first block of examples/api.c that calls the function; for a member of a C++
  class, the first block of examples/api.cpp whose title begins with the class and that calls it. A
  block stands between two comments with its title in brackets.

What is then still undocumented is an error of Doxygen, and so is a function without an example.
The number of lines does not change, so that Doxygen's messages name the right ones.
"""

import functools
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INCLUDE = os.path.join(ROOT, "src", "client", "include")
EXAMPLES = os.path.join(ROOT, "examples")

# (name, pattern of the declaration's type): description. "[out] " at the start gives the direction.
COMMON = (
    ("device", r".", "Open device."),
    ("queue", r"vgpu_queue ?\*$", "Open queue."),
    ("timeout_ms", r".", "Time-out in milliseconds; #VGPU_NO_TIMEOUT waits indefinitely, 0 polls once."),
    ("limit", r".", "Time-out, rounded up to milliseconds; kNoTimeout waits indefinitely."),
    ("why", r".", "[out] Error details, written on failure; may be NULL."),
    ("point", r"\*$", "[out] The command's point on the timeline of the queue; may be NULL."),
    ("reply", r"vgpu_reply_place", "Where the reply goes; NULL: no reply is wanted."),
    ("reply", r"\bPlace\b", "Where the reply goes; empty: no reply is wanted."),
)
CODE = "VGPU_OK (0), or an error code."
# Text of a group's title ends here.
TITLE_END = re.compile(r"[:.,(](?:\s|$)")

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*(?:\n[ \t]*//[^\n]*)*", re.DOTALL)


def is_cpp(header):
    return header.endswith(".hpp") or header == "expected.h"


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Declaration:
    """A function declaration or definition: name, return type, parameters as (name, type)."""

    def __init__(self, text):
        self.text = text
        head = text.replace("VGPU_API", "")
        found = re.match(r"\s*(?P<type>[\w\s:<>*&\[\],]*?[\s*&\]])?(?P<name>operator(?:\(\)|[^(]+)|~?\w+)\s*\((?P<rest>.*)",
                         head, re.DOTALL)
        self.name = found.group("name") if found else None
        self.type = " ".join((found.group("type") or "").split()) if found else ""
        self.parameters = []
        if found:
            for part in split_parameters(found.group("rest")):
                part = part.split("=")[0].strip()
                match = re.match(r"(?P<type>.*?)(?P<name>\w+)$", " ".join(part.split()))
                if match and match.group("type").strip():
                    self.parameters.append((match.group("name"), match.group("type").strip()))


def split_parameters(rest):
    """Returns the parameters of a declaration, given what follows its opening parenthesis."""
    parts, depth, current = [], 0, ""
    for char in rest:
        if char in "(<{[":
            depth += 1
        elif char in ")>}]":
            if depth == 0:
                break
            depth -= 1
        if char == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += char
    return [part for part in [*parts, current] if part.strip() not in ("", "void")]


def described(comment, names):
    """Returns {parameter: description} of a comment's `name: text` lines, without line breaks."""
    found, last = {}, []
    for line in comment.split("\n"):
        text = line.rstrip()
        match = re.match(r" ?(\w+(?:, \w+)*): +(\S.*)$", text)
        if match and all(name in names for name in match.group(1).split(", ")):
            last = match.group(1).split(", ")
            for name in last:
                found[name] = match.group(2)
        elif last and text.startswith("  "):
            for name in last:
                found[name] += " " + text.strip()
        else:
            last = []
    return found


@functools.cache
def c_functions():
    """Returns {name: (declaration, {parameter: description})} of the C headers."""
    found = {}
    for header in ("vgpu.h", "vgpu_queue.h"):
        text = read(os.path.join(INCLUDE, header))
        for match in re.finditer(r"(/\*(?:(?!\*/).)*\*/)\n(VGPU_API[^;]*;)", text, re.DOTALL):
            declaration = Declaration(match.group(2))
            found[declaration.name] = (declaration, described(
                plain(match.group(1)), [name for name, _ in declaration.parameters]))
    return found


@functools.cache
def blocks(name):
    """Returns the blocks of an example as (title, text)."""
    return re.findall(r"^\s*/[/*] \[([^\]]+)\][^\n]*\n(.*?)^\s*/[/*] \[\1\]",
                      read(os.path.join(EXAMPLES, name)), re.MULTILINE | re.DOTALL)


def example_of(qualified, cpp):
    """Returns file and title of the block that is a function's example, or of one that is missing."""
    owner, _, name = qualified.rpartition("::")
    file = "api.cpp" if cpp else "api.c"
    for title, text in blocks(file):
        if title.startswith(owner) and re.search(rf"(?<!\w){re.escape(name)}(?:<[\w:]+>)?[({{]", text):
            return f"{file} {title}"
    # Constructors and operators have no name of their own in a program.
    if name.startswith("operator") or name == owner:
        for title, _ in blocks(file):
            if title.startswith(owner):
                return f"{file} {title}"
    return f"{file} {qualified}"


def additions(declaration, comment, qualified, header):
    """Returns what is added to the end of a function's comment."""
    names = [name for name, _ in declaration.parameters]
    documented = described(comment, names)
    added = []
    wrapped = None
    if is_cpp(header):
        calls = [name for name in re.findall(r"\b(vgpu_\w+)\(", declaration.text)
                 if name in c_functions()]
        wrapped = calls[0] if calls else None
    for name, kind in declaration.parameters:
        if name in documented or re.search(rf"@param(?:\[\w+\])? {name}\b", comment):
            continue
        text = next((text for common, pattern, text in COMMON
                     if common == name and re.search(pattern, kind)), None)
        if text is None and wrapped:
            text = c_functions()[wrapped][1].get(name)
        if text:
            added.append(parameter(name, text))
    returns = declaration.type.replace("inline", "").replace("static", "").strip()
    returns = re.sub(r"\[\[\w+\]\]", "", returns).strip()
    if returns not in ("", "void", "constexpr", "explicit") and "@return" not in comment:
        sentence = re.search(r"(?:^|\s)Returns ([^.]*(?:\.(?!\s|$)[^.]*)*)\.", comment)
        if sentence:
            text = " ".join(sentence.group(1).split())
            first = text[0] if re.match(r"\w ", text) else text[0].upper()
            added.append(f"@return {first}{text[1:]}.")
        elif returns == "int" and "Errors:" in comment:
            added.append(f"@return {CODE}")
        elif returns.startswith("Expected"):
            what = "Nothing" if "<void>" in returns else "The value"
            of = f" with a code of {wrapped}()" if wrapped else ""
            added.append(f"@return {what}, or a Failure{of}.")
        elif wrapped:
            added.append(f"@return The result of {wrapped}().")
    if wrapped:
        added.append(f"@see {wrapped}()")
    if "Threads:" not in comment:
        added.append("@threads " + threads(declaration, qualified))
    added.append(f"@sample{{{example_of(qualified, is_cpp(header))}}}")
    return " ".join(added)


def parameter(name, text):
    if text.startswith("[out] "):
        return f"@param[out] {name} {text[6:]}"
    return f"@param {name} {text}"


def threads(declaration, qualified):
    kinds = " ".join(kind for _, kind in declaration.parameters[:1])
    if qualified.startswith("Queue::") or "vgpu_queue*" in kinds.replace(" *", "*"):
        return "One thread at a time per queue."
    if qualified.startswith("Device::") or "vgpu_device*" in kinds.replace(" *", "*"):
        return "One thread at a time per device; queues of the device may be in use meanwhile."
    if qualified.startswith(("HeapBlock::", "Expected::")):
        return "One thread at a time per object."
    return "Any, at any time."


def convert_parameters(text, names):
    """Turns `name: text` lines into @param commands, and titles into theirs."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        match = re.match(r"^( ?)(\w+(?:, \w+)*): +(\[out\] )?(\S.*)$", line)
        if match and all(name in names for name in match.group(2).split(", ")):
            direction = "[out]" if match.group(3) else ""
            # One command for each: Breathe does not split lists of names.
            lines[index] = " ".join(f"@param{direction} {name} {match.group(4)}"
                                    for name in match.group(2).split(", "))
    return re.sub(r"\b(Errors|Threads):", lambda found: f"@{found.group(1).lower()}", "\n".join(lines))


def mark_code(text):
    """Encloses what a comment indents after an empty line, programs and diagrams, in @verbatim."""
    lines = text.split("\n")
    inside = False
    for index, line in enumerate(lines):
        begins = index > 0 and not lines[index - 1].strip()
        if not inside and begins and re.match(r" {2,}\S", line):
            lines[index - 1] += "@verbatim"
            inside = True
        elif inside and line.strip() and not line.startswith("  "):
            lines[index - 1] += "@endverbatim"
            inside = False
    if inside:
        lines[-1] += "@endverbatim"
    return "\n".join(lines)


def next_code(text, end):
    """Returns what follows a comment: the code from its next line on; None after an empty line."""
    match = re.match(r"[ \t]*\n(?=[ \t]*\S)", text[end:])
    return text[end + match.end():] if match else None


def plain(comment):
    """Returns the text of a comment, without its marks; the number of lines stays."""
    if comment.startswith("/*"):
        return re.sub(r"\n[ \t]*\*(?=\s|$) ?", "\n", re.sub(r"\n[ \t]*$", "\n", comment[2:-2]))
    return re.sub(r"(^|\n)[ \t]*// ?", r"\1", comment)


def as_documentation(text, mark=""):
    """Returns a documentation comment."""
    return f"/**{mark}{'' if text[:1] in ' ' + chr(10) else ' '}{text}{'' if text[-1:] in ' ' + chr(10) else ' '}*/"


def class_at(text, position):
    """Returns the class around a position, or None."""
    opened = list(re.finditer(r"^(?:class|struct)(?: \[\[\w+\]\])? (\w+)(?:<\w+>)? \{", text[:position], re.MULTILINE))
    if not opened or re.search(r"^\};", text[opened[-1].end():position], re.MULTILINE):
        return None
    return opened[-1].group(1)


def is_public(text, position):
    """Returns whether a position in a class is not in a private part."""
    labels = re.findall(r"^\s*(public|private):|^(?:class|struct)\b", text[:position], re.MULTILINE)
    return not labels or labels[-1] != "private"


def end_of_declaration(code):
    """Returns where a declaration ends: at its semicolon, or with the body of a definition."""
    depth, braces = 0, 0
    for index, char in enumerate(code):
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == "{" and (depth == 0 or braces):
            braces += 1
        elif char == "}" and braces:
            braces -= 1
            if braces == 0:
                return index + 1
        elif char == ";" and depth == 0 and braces == 0:
            return index + 1
    return len(code)


def declaration_at(code):
    """Returns the function declared or defined at the start of some code, or None."""
    code = re.sub(r"^\s*template <[^\n]*>\n", "", code)
    first = code.split("\n", maxsplit=1)[0]
    if re.match(r"\s*(?:#|typedef|using|struct|class|enum|union|static constexpr)\b|\s*#", first):
        return None
    text = code[:end_of_declaration(code)]
    if "(" not in re.split(r"[;{]|(?<!operator)=", text, maxsplit=1)[0]:
        return None
    declaration = Declaration(text)
    return declaration if declaration.name else None


def convert(text, header):
    """Returns the header for Doxygen."""
    out, position, group_ends, first = [], 0, set(), True
    for match in COMMENT.finditer(text):
        comment, start, end = match.group(0), match.start(), match.end()
        out.append(text[position:start])
        position = end
        before = text[text.rfind("\n", 0, start) + 1:start]
        if "SPDX" in comment:
            licence, newline, rest = comment.partition("\n")
            out.append(licence + newline)
            if not rest:
                continue
            comment = rest   # C++: the file's comment follows in the same group of lines
        if first:
            out.append(file_comment(comment, header))
            first = False
        elif before.strip():
            out.append(comment if before.lstrip().startswith(("#endif", "}"))
                       else as_documentation(plain(comment), "<"))
        else:
            out.append(standing_comment(text, match, header, group_ends))
    out.append(text[position:])
    result = close_groups(text, "".join(out), group_ends)
    return document_wrappers(result, header) if is_cpp(header) else result


def standing_comment(text, match, header, group_ends):
    """Returns a comment on lines of its own, as documentation of what follows it."""
    code = next_code(text, match.end())
    if code is None or code.lstrip().startswith(("//", "/*", "}")):
        return match.group(0)
    if code.startswith("#define"):
        run = re.match(r"(?:[^\n]+\n)+", code).group(0)
        if len(re.findall(r"^#define", run, re.MULTILINE)) > 1:
            group_ends.add(match.end() + 1 + len(run))
            return group_comment(match.group(0))
    declaration = declaration_at(code)
    owner = class_at(text, match.start())
    if declaration and (owner is None or is_public(text, match.start())):
        return function_comment(plain(match.group(0)), declaration, owner, header)
    return as_documentation(mark_code(plain(match.group(0))))


def file_comment(comment, header):
    text = mark_code(plain(comment))
    return as_documentation(re.sub(rf"{re.escape(header)}: (\w)", lambda found:
                                   f"@file {header} @brief {found.group(1).upper()}", text, count=1))


def group_comment(comment):
    """Returns a comment that begins a group, with its first words as the title."""
    text = mark_code(plain(comment))
    end = TITLE_END.search(text)
    title = " ".join(text[:end.start() if end else len(text)].split())
    return f"/** @groupname{{{title}}}{text} */ /**@{{*/"


def close_groups(text, result, ends):
    """Writes the end of each group to the empty line after its definitions."""
    lines = result.split("\n")
    for number in {text.count("\n", 0, end) for end in ends}:
        lines[number] += "/**@}*/"
    return "\n".join(lines)


def function_comment(text, declaration, owner, header):
    qualified = f"{owner}::{declaration.name}" if owner else declaration.name
    added = additions(declaration, text, qualified, header)
    text = convert_parameters(mark_code(text), [name for name, _ in declaration.parameters])
    return as_documentation(f"{text.rstrip(' ')} {added}")


def document_wrappers(text, header):
    """Adds a comment to each public member of a class that has none and wraps a C function."""
    original = text.split("\n")
    lines = list(original)
    for index, line in enumerate(original):
        position = sum(len(before) + 1 for before in lines[:index])
        previous = original[index - 1].strip() if index else ""
        if not re.match(r"    [\w\[~]", line) or (
                previous.endswith("*/") or previous.startswith(("//", "template"))):
            continue
        whole = "\n".join(lines)
        owner = class_at(whole, position)
        if owner is None or not is_public(whole, position):
            continue
        declaration = declaration_at(whole[position:])
        if declaration is None:
            continue
        wrapped = [name for name in re.findall(r"\b(vgpu_\w+)\(", declaration.text)
                   if name in c_functions()]
        if not wrapped:
            continue
        qualified = f"{owner}::{declaration.name}"
        lines[index] = (f"    /** Wraps {wrapped[0]}(). "
                        f"{additions(declaration, '', qualified, header)} */ {line.strip()}")
    return "\n".join(lines)


def main():
    if len(sys.argv) != 2:
        print("usage: doxygen_filter.py HEADER", file=sys.stderr)
        return 2
    text = read(sys.argv[1])
    result = convert(text, os.path.basename(sys.argv[1]))
    assert result.count("\n") == text.count("\n")
    sys.stdout.write(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
