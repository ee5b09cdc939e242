// SPDX-License-Identifier: MIT
//
// Tests completion by running the shell itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cctype>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::ctl {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

// Returns what bash offers for the last of these words.
std::vector<std::string> complete(const std::vector<std::string>& words) {
    const test::TempDir dir;
    const auto [made, script] = test::run_program({VGPUCTL_PROGRAM, "completion", "bash"});
    EXPECT_EQ(made, 0) << script;
    std::ofstream file(dir.file("asking"));
    file << "set -eu\n" << script << "COMP_WORDS=(vgpuctl";
    for (const std::string& word : words) {
        file << " '" << word << "'";
    }
    file << ")\nCOMP_CWORD=" << words.size() << "\n_vgpuctl\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
    file.close();
    const auto [status, output] = test::run_program({"bash", dir.file("asking")});
    EXPECT_EQ(status, 0) << output;
    std::vector<std::string> offered;
    std::istringstream lines(output);
    for (std::string line; std::getline(lines, line);) {
        if (!line.empty()) {
            offered.push_back(line);
        }
    }
    return offered;
}

TEST(BashCompletion, OffersCommandsAndOptions) {
    const auto first = complete({""});
    for (const char* command : {"status", "gpus", "pools", "pool", "vms", "vm", "drain", "reload",
                                "events", "metrics", "top", "completion", "--json", "--socket"}) {
        EXPECT_THAT(first, Contains(command));
    }
    EXPECT_THAT(complete({"po"}), UnorderedElementsAre("pool", "pools"));
    EXPECT_THAT(complete({"vm", "re"}), ElementsAre("release"));
    EXPECT_THAT(complete({"vm", "set", "7", "--gpu"}),
                UnorderedElementsAre("--gpu-time-ms-per-window", "--gpu-window-ms"));
    EXPECT_THAT(complete({"--json", "vm", ""}), Contains("quarantine"));
    EXPECT_THAT(complete({"vm", "set", "--json", "7", "--we"}), ElementsAre("--weight"));
    EXPECT_THAT(complete({"vm", "set", "7", "--json", "--we"}), ElementsAre("--weight"));
    EXPECT_THAT(complete({"status", "--js"}), ElementsAre("--json"));
    EXPECT_THAT(complete({"status", ""}), Not(Contains("gpus")));
}

TEST(BashCompletion, OffersValuesWhereThereAreSome) {
    EXPECT_THAT(complete({"pool", "set", "A", "--policy", ""}),
                UnorderedElementsAre("strict", "fair"));
    EXPECT_THAT(complete({"vm", "set", "7", "--priority", "h"}), ElementsAre("high"));
    EXPECT_THAT(complete({"completion", "f"}), ElementsAre("fish"));
    EXPECT_THAT(complete({"vm", "set", "7", "--weight", ""}), IsEmpty());
    EXPECT_THAT(complete({"--socket", "/bin/ba"}), Contains("/bin/bash"));
}

bool is_word_character(char c) {
    return c == '-' || c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
}

// Returns whether the text contains this word, not as a part of another.
bool has_word(const std::string& text, const std::string& word) {
    for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
        const auto end = at + word.size();
        if ((at == 0 || !is_word_character(text[at - 1])) &&
            (end == text.size() || !is_word_character(text[end]))) {
            return true;
        }
    }
    return false;
}

// Returns the command or long option that a line of the help describes: "  -h,--help    Print …",
// "  --policy TEXT:{strict,fair}", "  vm    Show …". Empty: none.
std::string described_in(const std::string& line) {
    if (!line.starts_with("  ") || line.size() < 3 || line[2] == ' ') {
        return {};
    }
    std::string word = line.substr(2, line.find(' ', 2) - 2);
    if (const auto comma = word.find(','); comma != std::string::npos) {
        word = word.substr(comma + 1);
    }
    return word;
}

// Follows the program's own help from command to command: `path` holds the words so far.
void expect_all_of(const std::vector<std::string>& path, const std::string& shell,
                   const std::string& script) {
    std::vector<std::string> command{VGPUCTL_PROGRAM};
    command.insert(command.end(), path.begin(), path.end());
    command.emplace_back("--help");
    const auto [status, help] = test::run_program(command);
    ASSERT_EQ(status, 0) << help;
    const auto expect_word = [&](const std::string& word) {
        EXPECT_TRUE(has_word(script, word)) << shell << " does not offer " << word;
    };
    std::istringstream lines(help);
    std::string section;
    for (std::string line; std::getline(lines, line);) {
        if (const auto set = line.find('{'); set != std::string::npos) {
            std::istringstream values(line.substr(set + 1, line.find('}') - set - 1));
            for (std::string value; std::getline(values, value, ',');) {
                expect_word(value);
            }
        }
        const std::string word = described_in(line);
        if (!line.empty() && line[0] != ' ') {
            section = line;
        } else if (word.starts_with("--")) {
            expect_word(shell == "fish" ? "-l " + word.substr(2) : word);
        } else if (!word.empty() && section == "Subcommands:") {
            expect_word(word);
            auto deeper = path;
            deeper.push_back(word);
            expect_all_of(deeper, shell, script);
        }
    }
}

TEST(EveryShell, OffersEachCommandOptionAndListedValue) {
    for (const std::string shell : {"bash", "zsh", "fish"}) {
        const auto [status, script] = test::run_program({VGPUCTL_PROGRAM, "completion", shell});
        ASSERT_EQ(status, 0);
        expect_all_of({}, shell, script);
    }
}

TEST(OtherShells, AcceptTheirScripts) {
    std::size_t tried = 0;
    for (const std::string shell : {"zsh", "fish"}) {
        const auto [made, script] = test::run_program({VGPUCTL_PROGRAM, "completion", shell});
        EXPECT_EQ(made, 0);
        EXPECT_THAT(script, testing::HasSubstr("quarantine"));
        const std::string path = "/usr/bin/" + shell;
        if (::access(path.c_str(), X_OK) != 0) {
            continue;
        }
        const test::TempDir dir;
        std::ofstream(dir.file("script")) << script;
        const auto [status, output] = test::run_program({path, "-n", dir.file("script")});
        EXPECT_EQ(status, 0) << output;
        ++tried;
    }
    if (tried == 0) {
        GTEST_SKIP() << "neither zsh nor fish is installed to read what was made for them";
    }
}

}  // namespace
}  // namespace vgpu::ctl
