// SPDX-License-Identifier: MIT
//
// Shell completion scripts: the files of completion/, which are also installed.
#pragma once

#include <string>

namespace vgpu::ctl {

// `shell`: "bash", "zsh" or "fish". Precondition: one of these.
std::string completion_script(const std::string& shell);

}  // namespace vgpu::ctl
