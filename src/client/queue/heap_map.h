// SPDX-License-Identifier: MIT
//
// HeapMap: a first-fit allocator over the heap bytes owned by a process. Pure data: handles offsets
// only, not memory, claims or threads. Merges adjacent free ranges. Allocates from the lowest range
// that fits, so that free memory accumulates at the upper end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace vgpu::client {

class HeapMap {
  public:
    // Adds free bytes. Preconditions: none of them is in the map yet; length > 0.
    void add(std::uint64_t offset, std::uint64_t length);
    // Removes a range from the map if all of it is free; returns whether it was.
    bool remove(std::uint64_t offset, std::uint64_t length);

    // Allocates `size` bytes (more than 0) at a multiple of `alignment` (a power of two).
    std::optional<std::uint64_t> take(std::uint64_t size, std::uint64_t alignment);
    // Frees the block at `offset`. Returns its size, or nullopt if there is no such block.
    std::optional<std::uint64_t> give_back(std::uint64_t offset);

    // Returns the free range [begin, end) that contains `offset`.
    struct Piece {
        std::uint64_t begin;
        std::uint64_t end;
    };
    [[nodiscard]] std::optional<Piece> free_piece_at(std::uint64_t offset) const;

    // Bytes.
    [[nodiscard]] std::uint64_t total() const { return total_; }
    [[nodiscard]] std::uint64_t allocated() const { return allocated_; }

  private:
    std::map<std::uint64_t, std::uint64_t> free_;    // offset -> end
    std::map<std::uint64_t, std::uint64_t> blocks_;  // offset -> size
    std::uint64_t total_ = 0;
    std::uint64_t allocated_ = 0;

    void merge(std::uint64_t offset, std::uint64_t end);
};

}  // namespace vgpu::client
