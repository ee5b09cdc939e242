// SPDX-License-Identifier: MIT
#include "client/queue/heap_map.h"

#include <iterator>

namespace vgpu::client {

void HeapMap::add(std::uint64_t offset, std::uint64_t length) {
    merge(offset, offset + length);
    total_ += length;
}

bool HeapMap::remove(std::uint64_t offset, std::uint64_t length) {
    const auto piece = free_piece_at(offset);
    const std::uint64_t end = offset + length;
    if (!piece || end > piece->end) {
        return false;
    }
    free_.erase(piece->begin);
    if (piece->begin < offset) {
        free_[piece->begin] = offset;
    }
    if (end < piece->end) {
        free_[end] = piece->end;
    }
    total_ -= length;
    return true;
}

std::optional<std::uint64_t> HeapMap::take(std::uint64_t size, std::uint64_t alignment) {
    for (const auto& [begin, end] : free_) {
        const std::uint64_t at = (begin + (alignment - 1)) & ~(alignment - 1);
        if (at >= end || end - at < size) {
            continue;
        }
        const Piece piece{begin, end};
        // Insert the node first: only this can throw.
        blocks_[at] = size;
        free_.erase(piece.begin);
        if (piece.begin < at) {
            free_[piece.begin] = at;
        }
        if (at + size < piece.end) {
            free_[at + size] = piece.end;
        }
        allocated_ += size;
        return at;
    }
    return std::nullopt;
}

std::optional<std::uint64_t> HeapMap::give_back(std::uint64_t offset) {
    const auto block = blocks_.find(offset);
    if (block == blocks_.end()) {
        return std::nullopt;
    }
    const std::uint64_t size = block->second;
    merge(offset, offset + size);
    blocks_.erase(block);
    allocated_ -= size;
    return size;
}

std::optional<HeapMap::Piece> HeapMap::free_piece_at(std::uint64_t offset) const {
    auto next = free_.upper_bound(offset);
    if (next == free_.begin()) {
        return std::nullopt;
    }
    const auto& [begin, end] = *std::prev(next);
    return offset < end ? std::optional(Piece{begin, end}) : std::nullopt;
}

void HeapMap::merge(std::uint64_t offset, std::uint64_t end) {
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == end) {
        end = next->second;
        next = free_.erase(next);
    }
    if (next != free_.begin()) {
        const auto before = std::prev(next);
        if (before->second == offset) {
            before->second = end;
            return;
        }
    }
    free_[offset] = end;
}

}  // namespace vgpu::client
