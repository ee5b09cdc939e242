// SPDX-License-Identifier: MIT
//
// HeapMap: which bytes of the heap a process has, and which of them are in use. Pure data: it knows
// offsets and no memory, no claims and no threads. Free pieces that touch are one piece; the lowest
// that fits is taken, so what is free gathers at the upper end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace vgpu::client {

class HeapMap {
  public:
    // Adds bytes to what this process has; they were not among it. Precondition: length > 0.
    void add(std::uint64_t offset, std::uint64_t length);
    // Takes out free bytes, if all of them are free.
    bool remove(std::uint64_t offset, std::uint64_t length);

    // A block of `size` bytes (more than 0) at a multiple of `alignment` (a power of two).
    std::optional<std::uint64_t> take(std::uint64_t size, std::uint64_t alignment);
    // Frees the block that begins there. Its size; nothing if there is no such block.
    std::optional<std::uint64_t> give_back(std::uint64_t offset);

    // The free piece that `offset` lies in, as [begin, end).
    struct Piece {
        std::uint64_t begin;
        std::uint64_t end;
    };
    [[nodiscard]] std::optional<Piece> free_piece_at(std::uint64_t offset) const;

    // Bytes.
    [[nodiscard]] std::uint64_t total() const { return total_; }
    [[nodiscard]] std::uint64_t allocated() const { return allocated_; }

  private:
    std::map<std::uint64_t, std::uint64_t> free_;    // offset: end
    std::map<std::uint64_t, std::uint64_t> blocks_;  // offset: size
    std::uint64_t total_ = 0;
    std::uint64_t allocated_ = 0;

    void merge(std::uint64_t offset, std::uint64_t end);
};

}  // namespace vgpu::client
