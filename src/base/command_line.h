// SPDX-License-Identifier: MIT
//
// Common command line code of all programs: parsing of numbers (number.h) and usage errors. Needs
// only CLI11 and headers.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/number.h"

namespace vgpu::command_line {

inline constexpr int kUsage = 2;

inline std::string not_a_number(const std::string& text) {
    return "'" + text +
           "' is not a valid number: give a decimal one without a sign or leading zeros, or a "
           "hexadecimal one with 0x";
}

// For Option::transform(). Without it CLI11 reads 010 as 8 and -1 as the largest number.
inline CLI::Validator whole_number(
    std::uint64_t least = 0, std::uint64_t greatest = std::numeric_limits<std::uint64_t>::max()) {
    const bool limited = least != 0 || greatest != std::numeric_limits<std::uint64_t>::max();
    const std::string range = std::to_string(least) + " to " + std::to_string(greatest);
    return CLI::Validator(
        [least, greatest, range](std::string& text) -> std::string {
            const auto number = parse_number(text);
            if (!number) {
                return not_a_number(text);
            }
            if (*number < least || *number > greatest) {
                return "'" + text + "' is out of range: give " + range;
            }
            text = std::to_string(*number);
            return {};
        },
        limited ? range : std::string());
}

inline std::string not_a_size(const std::string& text) {
    return "'" + text +
           "' is not a size: give bytes, or a number followed by K, M or G, without leading zeros";
}

// Same for sizes, which it converts to bytes.
inline CLI::Validator size() {
    return CLI::Validator(
        [](std::string& text) -> std::string {
            const auto bytes = parse_size(text);
            if (!bytes) {
                return not_a_size(text);
            }
            text = std::to_string(*bytes);
            return {};
        },
        "");
}

// Same for numbers with a fraction.
inline CLI::Validator fraction(double least = 0,
                               double greatest = std::numeric_limits<double>::max()) {
    const bool limited = greatest != std::numeric_limits<double>::max();
    std::ostringstream range;
    range << least << " to " << std::fixed << std::setprecision(0) << greatest;
    return CLI::Validator(
        [least, greatest, range = range.str()](std::string& text) -> std::string {
            const auto number = parse_fraction(text);
            if (!number) {
                return "'" + text +
                       "' is not a valid number: give a decimal one without a sign, leading zeros "
                       "or an exponent, such as 2 or 0.25";
            }
            if (*number < least || *number > greatest) {
                return "'" + text + "' is out of range: give " + range;
            }
            if (const auto whole = parse_number(text)) {
                text = std::to_string(*whole);
            }
            return {};
        },
        limited ? range.str() : std::string());
}

// Optimal string alignment distance: the number of letters to insert, delete, replace or swap with
// their neighbours to turn one word into the other.
inline std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before(b.size() + 1);
    std::vector<std::size_t> row(b.size() + 1);
    std::vector<std::size_t> next(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 1; i <= a.size(); ++i) {
        next[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            next[j] = std::min({row[j] + 1, next[j - 1] + 1, replaced});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                next[j] = std::min(next[j], before[j - 2] + 1);
            }
        }
        std::swap(before, row);
        std::swap(row, next);
    }
    return row[b.size()];
}

// Returns the most likely intended one of `words`, or "". A prefix counts as well.
inline std::string nearest(const std::string& word, const std::vector<std::string>& words) {
    std::string found;
    std::size_t least = std::min<std::size_t>(3, word.size() / 2 + 1);
    for (const std::string& one : words) {
        const std::size_t away = word.size() > 1 && one.starts_with(word) ? 1 : distance(word, one);
        if (away < least) {
            least = away;
            found = one;
        }
    }
    return found;
}

inline std::vector<std::string> commands_of(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::App* one :
         app.get_subcommands([](const CLI::App* each) { return !each->get_name().empty(); })) {
        names.push_back(one->get_name());
    }
    return names;
}

inline void add_options_of(const CLI::App& app, std::vector<std::string>& names) {
    for (const CLI::Option* option : app.get_options()) {
        if (option->get_group().empty()) {
            continue;  // hidden
        }
        for (const std::string& name : option->get_lnames()) {
            names.push_back("--" + name);
        }
    }
}

// "a, b or c".
inline std::string either(const std::vector<std::string>& words) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); ++i) {
        text += i == 0 ? "" : (i + 1 == words.size() ? " or " : ", ");
        text += words[i];
    }
    return text;
}

// Describes an invalid command line. Names an unknown command or option and the most likely
// intended one.
class UsageError {
  public:
    // `app` has thrown `error` in parse(). Borrows both.
    UsageError(const std::string& program, const CLI::App& app, const CLI::ParseError& error)
        : app_(app), error_(error), path_(program) {
        while (at()->get_subcommands().size() == 1) {
            at_ = at()->get_subcommands().front();
            path_ += " " + at_->get_name();
        }
    }

    // "vgpuctl vm": the program and the command selected before the error.
    [[nodiscard]] const std::string& path() const { return path_; }
    // The error text, and a line that points to the help.
    [[nodiscard]] std::string text() const { return what() + "\nTry '" + path_ + " --help'."; }

  private:
    [[nodiscard]] const CLI::App* at() const { return at_ != nullptr ? at_ : &app_; }

    [[nodiscard]] std::string what() const {
        const bool about_words = dynamic_cast<const CLI::RequiredError*>(&error_) != nullptr ||
                                 dynamic_cast<const CLI::ExtrasError*>(&error_) != nullptr;
        if (!about_words) {
            return error_.what();
        }
        const std::vector<std::string> commands = commands_of(*at());
        const std::vector<std::string> unknown = app_.remaining(true);
        if (!unknown.empty()) {
            return about(unknown.front(), commands);
        }
        return commands.empty() ? error_.what() : "give a command: " + either(commands);
    }

    [[nodiscard]] std::string about(std::string word,
                                    const std::vector<std::string>& commands) const {
        std::string text;
        std::vector<std::string> known;
        if (word.starts_with('-')) {
            word.erase(std::min(word.find('='), word.size()));
            add_options_of(*at(), known);
            if (at() != &app_) {
                add_options_of(app_, known);
            }
            text = "unknown option '" + word + "'";
        } else if (!commands.empty()) {
            known = commands;
            text = "unknown command '" + word + "'";
        } else {
            text = "'" + word + "' is an unexpected argument";
        }
        if (const std::string meant = nearest(word, known); !meant.empty()) {
            text += ": did you mean " + meant + "?";
        } else if (!word.starts_with('-') && !commands.empty()) {
            text += ": give " + either(commands);
        }
        return text;
    }

    const CLI::App& app_;
    const CLI::ParseError& error_;
    const CLI::App* at_ = nullptr;
    std::string path_;
};

// Prints the help or the version, which CLI11 also reports by an exception.
inline void print(const CLI::App& app, const CLI::ParseError& success) {
    std::ostringstream out;
    (void)app.exit(success, out, out);
    const std::string text = out.str();
    std::cout << text << (text.ends_with('\n') ? "" : "\n");
}

// Prints the requested help or the usage error. Returns the exit status: 0 or kUsage.
inline int end_parse(const std::string& program, const CLI::App& app,
                     const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
        print(app, error);
        return 0;
    }
    const UsageError usage(program, app, error);
    std::cerr << usage.path() << ": " << usage.text() << '\n';
    return kUsage;
}

}  // namespace vgpu::command_line
