// SPDX-License-Identifier: MIT
//
// HandleTable: the numbers by which one VM names its buffers. A handle is 16 bits of generation and
// 16 bits of place; a place is used again with the next generation, and not at all once it has none
// left, so a handle that was freed never means anything again.
//
//   handle  = generation << 16 | place        generation 1 to 65535, hence never 0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "executor/operation.h"

namespace vgpu {

class HandleTable {
  public:
    using Handle = std::uint32_t;
    struct Buffer {
        BufferId id = 0;
        std::uint64_t size = 0;  // bytes
        std::size_t device = 0;  // whose backend knows the id
    };

    // `generations`: how often a place is used. At most 65535; fewer in tests.
    explicit HandleTable(std::uint32_t generations = kMost) : generations_(generations) {}

    // Nothing if 65536 buffers are there, or all handles have been given out.
    std::optional<Handle> insert(const Buffer& buffer);
    // Null if the handle means nothing. Valid until the table is changed.
    [[nodiscard]] const Buffer* find(Handle handle) const;
    // False if the handle means nothing.
    bool erase(Handle handle);
    // Empties the table.
    std::vector<Buffer> take_all();
    // Takes out those of one device.
    std::vector<Buffer> take_all_on(std::size_t device);
    [[nodiscard]] bool any_on(std::size_t device) const;
    [[nodiscard]] std::size_t size() const { return size_; }
    // How often insert() gives a handle, if nothing is erased.
    [[nodiscard]] std::size_t room() const;

  private:
    static constexpr std::uint32_t kMost = 0xFFFF;

    template <typename Wanted>
    std::vector<Buffer> take_if(Wanted wanted);

    struct Place {
        std::optional<Buffer> buffer;
        std::uint32_t generation = 0;  // of the buffer, or of the last one
    };
    std::uint32_t generations_;
    std::vector<Place> places_;
    std::vector<std::uint32_t> free_places_;
    std::size_t size_ = 0;
};

}  // namespace vgpu
