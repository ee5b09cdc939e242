// SPDX-License-Identifier: MIT
//
// TempDir: a folder that exists as long as the object.
#pragma once

#include <filesystem>
#include <string>

namespace vgpu::test {

class TempDir {
  public:
    // Short paths: they end in Unix socket addresses (108 bytes). Throws if none can be made.
    TempDir();
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;
    ~TempDir();

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    // path()/name as a string.
    [[nodiscard]] std::string file(const std::string& name) const { return path_ / name; }

  private:
    std::filesystem::path path_;
};

}  // namespace vgpu::test
