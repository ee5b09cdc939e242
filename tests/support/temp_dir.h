// SPDX-License-Identifier: MIT
//
// TempDir: a temporary folder that is removed with the object.
#pragma once

#include <filesystem>
#include <string>

namespace vgpu::test {

class TempDir {
  public:
    // Keeps paths short: Unix socket addresses hold 108 bytes. Throws std::system_error.
    TempDir();
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;
    ~TempDir();

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    // Returns path()/name as a string.
    [[nodiscard]] std::string file(const std::string& name) const { return path_ / name; }

  private:
    std::filesystem::path path_;
};

}  // namespace vgpu::test
