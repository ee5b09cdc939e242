// SPDX-License-Identifier: MIT
#include "support/temp_dir.h"

#include <cerrno>
#include <cstdlib>
#include <system_error>

namespace vgpu::test {

TempDir::TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vgpu-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) {
        throw std::system_error(errno, std::generic_category(), pattern);
    }
    path_ = pattern;
}

TempDir::~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

}  // namespace vgpu::test
