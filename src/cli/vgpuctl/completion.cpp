// SPDX-License-Identifier: MIT
#include "cli/vgpuctl/completion.h"

#include <fmt/core.h>

#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

namespace vgpu::ctl {

namespace {

// What can follow at one node of the command tree.
struct Choice {
    std::string word;
    std::string help;
};
struct Place {
    std::string path;  // "", " vm", " vm set"
    std::vector<Choice> commands;
    std::vector<Choice> options;  // with dashes
    struct Values {
        std::string option;  // with dashes; empty: a positional
        std::vector<std::string> words;
        bool file = false;
    };
    std::vector<Values> values;  // of options that take one
};

// Returns the members of the set in a type name like "TEXT:{strict,fair}".
std::vector<std::string> members_of(const std::string& type_name) {
    const auto begin = type_name.find('{');
    const auto end = type_name.find('}', begin == std::string::npos ? 0 : begin);
    std::vector<std::string> words;
    if (begin == std::string::npos || end == std::string::npos) {
        return words;
    }
    std::istringstream list(type_name.substr(begin + 1, end - begin - 1));
    for (std::string word; std::getline(list, word, ',');) {
        words.push_back(word);
    }
    return words;
}

void add_options(const CLI::App& app, Place& place) {
    for (const CLI::Option* option : app.get_options()) {
        if (option->get_group().empty()) {
            continue;  // hidden
        }
        if (option->get_positional()) {
            if (auto words = members_of(option->get_type_name()); !words.empty()) {
                place.values.push_back({.option = {}, .words = std::move(words), .file = false});
            }
            continue;
        }
        for (const std::string& name : option->get_lnames()) {
            const std::string word = "--" + name;
            place.options.push_back({word, option->get_description()});
            if (option->get_items_expected_max() > 0) {
                place.values.push_back({.option = word,
                                        .words = members_of(option->get_type_name()),
                                        .file = option->get_type_name() == "PATH"});
            }
        }
    }
}

void walk(const CLI::App& app, const CLI::App& root, const std::string& path,
          std::vector<Place>& places) {
    Place place;
    place.path = path;
    for (const CLI::App* command :
         app.get_subcommands([](const CLI::App* one) { return !one->get_name().empty(); })) {
        place.commands.push_back({command->get_name(), command->get_description()});
    }
    add_options(app, place);
    if (&app != &root) {
        add_options(root, place);  // accepted anywhere
    }
    places.push_back(std::move(place));
    for (const CLI::App* command :
         app.get_subcommands([](const CLI::App* one) { return !one->get_name().empty(); })) {
        std::string deeper = path;
        deeper += ' ';
        deeper += command->get_name();
        walk(*command, root, deeper, places);
    }
}

// Quotes 'text' as one word of a shell.
std::string shell_word(std::string_view text) {
    std::string word = "'";
    for (const char c : text) {
        if (c == '\'') {
            word += "'\\''";
        } else {
            word += c;
        }
    }
    word += '\'';
    return word;
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) {
        if (!text.empty()) {
            text += ' ';
        }
        text += word;
    }
    return text;
}

// Returns the branches of a sh `case` that descend into subcommands. `variable` holds the path so
// far; in zsh, `path` is reserved.
std::string steps(const std::vector<Place>& places, const char* variable) {
    std::string text;
    for (const Place& place : places) {
        for (const Choice& command : place.commands) {
            text += fmt::format("            '{0} {1}') {2}='{0} {1}' ;;\n", place.path,
                                command.word, variable);
        }
    }
    return text;
}

std::string sh_words(const std::vector<Place>& places) {
    std::string text;
    for (const Place& place : places) {
        std::vector<std::string> words;
        for (const Choice& command : place.commands) {
            words.push_back(command.word);
        }
        for (const auto& values : place.values) {
            if (values.option.empty()) {
                words.insert(words.end(), values.words.begin(), values.words.end());
            }
        }
        for (const Choice& option : place.options) {
            words.push_back(option.word);
        }
        text += fmt::format("        {}) found={} ;;\n", shell_word(place.path),
                            shell_word(joined(words)));
    }
    return text;
}

std::string sh_values(const std::vector<Place>& places) {
    std::string text;
    for (const Place& place : places) {
        for (const auto& values : place.values) {
            if (!values.option.empty()) {
                text +=
                    fmt::format("        {}) found={}; value={} ;;\n",
                                shell_word(place.path + " " + values.option),
                                shell_word(joined(values.words)), values.file ? "file" : "word");
            }
        }
    }
    return text;
}

// Replaces the placeholders of a template: `@WORDS@`, `@STEPS@`, …
std::string filled(std::string text, const std::vector<std::pair<std::string, std::string>>& with) {
    for (const auto& [name, value] : with) {
        for (auto at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
            text.replace(at, name.size(), value);
            at += value.size();
        }
    }
    return text;
}

constexpr std::string_view kBash =
    R"(# bash completion of @PROGRAM@; made by '@PROGRAM@ completion bash'.
_@PROGRAM@() {
    local path='' found='' value='' i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
@STEPS@        esac
    done
    case "$path ${COMP_WORDS[COMP_CWORD - 1]}" in
@VALUES@    esac
    if [ -z "$value" ]; then
        case "$path" in
@WORDS@        esac
    fi
    if [ "$value" = file ]; then
        mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
    else
        mapfile -t COMPREPLY < <(compgen -W "$found" -- "${COMP_WORDS[COMP_CWORD]}")
    fi
}
complete -F _@PROGRAM@ @PROGRAM@
)";

constexpr std::string_view kZsh = R"(#compdef @PROGRAM@
# zsh completion of @PROGRAM@; made by '@PROGRAM@ completion zsh'.
_@PROGRAM@() {
    local place='' found='' value='' i
    for ((i = 2; i < CURRENT; i++)); do
        case "$place ${words[i]}" in
@ZSH_STEPS@        esac
    done
    case "$place ${words[CURRENT - 1]}" in
@VALUES@    esac
    if [ -z "$value" ]; then
        case "$place" in
@WORDS@        esac
    fi
    if [ "$value" = file ]; then
        _files
    else
        compadd -- ${=found}
    fi
}
if [ "$funcstack[1]" = _@PROGRAM@ ]; then
    _@PROGRAM@ "$@"
else
    compdef _@PROGRAM@ @PROGRAM@
fi
)";

std::string fish_script(const std::vector<Place>& places, const std::string& program) {
    std::string text = fmt::format(
        "# fish completion of {0}; made by '{0} completion fish'.\n"
        "function __{0}_path\n"
        "    set -l path ''\n"
        "    for word in (commandline -opc)[2..-1]\n"
        "        switch \"$path $word\"\n",
        program);
    for (const Place& place : places) {
        for (const Choice& command : place.commands) {
            text += fmt::format("            case {0}\n                set path {0}\n",
                                shell_word(place.path + " " + command.word));
        }
    }
    text +=
        fmt::format("        end\n    end\n    echo \"$path\"\nend\ncomplete -c {} -f\n", program);
    for (const Place& place : places) {
        const std::string here =
            fmt::format("complete -c {} -n {}", program,
                        shell_word(fmt::format("test (__{}_path) = \"{}\"", program, place.path)));
        for (const Choice& command : place.commands) {
            text += fmt::format("{} -a {} -d {}\n", here, command.word, shell_word(command.help));
        }
        for (const Choice& option : place.options) {
            std::string more;
            for (const auto& values : place.values) {
                if (values.option == option.word) {
                    more = values.file ? " -r -F" : " -x -a " + shell_word(joined(values.words));
                }
            }
            text += fmt::format("{} -l {}{} -d {}\n", here, option.word.substr(2), more,
                                shell_word(option.help));
        }
        for (const auto& values : place.values) {
            if (values.option.empty()) {
                text += fmt::format("{} -a {}\n", here, shell_word(joined(values.words)));
            }
        }
    }
    return text;
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
    std::vector<Place> places;
    walk(app, app, "", places);
    const std::string& program = app.get_name();
    if (shell == "fish") {
        return fish_script(places, program);
    }
    return filled(std::string(shell == "bash" ? kBash : kZsh),
                  {{"@STEPS@", steps(places, "path")},
                   {"@ZSH_STEPS@", steps(places, "place")},
                   {"@VALUES@", sh_values(places)},
                   {"@WORDS@", sh_words(places)},
                   {"@PROGRAM@", program}});
}

}  // namespace vgpu::ctl
