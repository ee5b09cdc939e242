// SPDX-License-Identifier: MIT
//
// Scripts that let a shell complete a command line, made from the same tree of commands and options
// that parses it: what the program does not know is not offered, and what it learns is.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace vgpu::ctl {

// `shell`: "bash", "zsh" or "fish". Precondition: one of these.
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace vgpu::ctl
