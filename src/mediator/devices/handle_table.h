// SPDX-License-Identifier: MIT
//
// HandleTable: the handles by which one VM names its buffers. A handle is 16 bits of generation and
// 16 bits of place (slot). A place is reused with the next generation until its generations are
// exhausted, so a freed handle never becomes valid again.
//
//   handle  = generation << 16 | place        generation 1 to 65535, hence never 0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "executor/job.h"

namespace vgpu {

class HandleTable {
  public:
    using Handle = std::uint32_t;
    struct Buffer {
        BufferId id = 0;
        std::uint64_t size = 0;  // bytes
        std::size_t device = 0;  // of the backend that knows the id
    };

    // `generations`: uses of each place. At most 65535; fewer in tests.
    explicit HandleTable(std::uint32_t generations = kMost) : generations_(generations) {}

    // Returns none if there are 65536 buffers, or all handles have been used up.
    std::optional<Handle> insert(const Buffer& buffer);
    // Returns null if the handle is invalid. The result is valid until the table is changed.
    [[nodiscard]] const Buffer* find(Handle handle) const;
    // Returns false if the handle is invalid.
    bool erase(Handle handle);
    // Removes and returns all buffers.
    std::vector<Buffer> take_all();
    // Removes and returns the buffers of one device.
    std::vector<Buffer> take_all_on(std::size_t device);
    [[nodiscard]] bool any_on(std::size_t device) const;
    [[nodiscard]] std::size_t size() const { return size_; }
    // Number of times that insert() succeeds if nothing is erased.
    [[nodiscard]] std::size_t room() const;

  private:
    static constexpr std::uint32_t kMost = 0xFFFF;

    template <typename Wanted>
    std::vector<Buffer> take_if(Wanted wanted);

    struct Place {
        std::optional<Buffer> buffer;
        std::uint32_t generation = 0;  // of the buffer, or of the previous one
    };
    std::uint32_t generations_;
    std::vector<Place> places_;
    std::vector<std::uint32_t> free_places_;
    std::size_t size_ = 0;
};

}  // namespace vgpu
