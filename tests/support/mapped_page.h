// SPDX-License-Identifier: MIT
//
// MappedPage: the first page of a memory file, mapped so often that punching a hole there takes
// milliseconds: the kernel walks all of these mappings, and a thread that touches the page waits.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>

#include <chrono>
#include <cstddef>
#include <vector>

namespace vgpu::test {

class MappedPage {
  public:
    // Below vm.max_map_count, 65,530 by default.
    static constexpr std::size_t kMappings = 60'000;

    // Borrows the file. Maps the page kMappings times, or as often as it can be.
    explicit MappedPage(int file) : file_(file) {
        for (std::size_t i = 0; i < kMappings; ++i) {
            void* const at = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
            if (at == MAP_FAILED) {
                break;
            }
            mappings_.push_back(at);
        }
    }
    MappedPage(const MappedPage&) = delete;
    MappedPage& operator=(const MappedPage&) = delete;
    ~MappedPage() {
        for (void* const at : mappings_) {
            ::munmap(at, kPage);
        }
    }

    // Removes the page from the file. Returns how long that took.
    std::chrono::nanoseconds punch() const {
        const auto begin = std::chrono::steady_clock::now();
        ::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kPage);
        return std::chrono::steady_clock::now() - begin;
    }

  private:
    static constexpr std::size_t kPage = 4096;

    int file_;
    std::vector<void*> mappings_;
};

}  // namespace vgpu::test
