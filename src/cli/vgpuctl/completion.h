// SPDX-License-Identifier: MIT
//
// Shell completion scripts, generated from the same tree of commands and options that parses the
// command line, so that both always match.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace vgpu::ctl {

// `shell`: "bash", "zsh" or "fish". Precondition: one of these.
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace vgpu::ctl
