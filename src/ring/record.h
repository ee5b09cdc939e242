// SPDX-License-Identifier: MIT
//
// Record: the consumer's private copy of one command, and the size arithmetic that both ends share.
// Only a Consumer fills a Record, and it checks the contents first, so all lengths are valid.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "vgpu_protocol.h"

namespace vgpu::ring {

// Rounds up to a multiple of VGPU_RECORD_ALIGN.
constexpr std::uint64_t align_up(std::uint64_t bytes) {
    return (bytes + (VGPU_RECORD_ALIGN - 1)) & ~std::uint64_t{VGPU_RECORD_ALIGN - 1};
}

// Bytes of a record with these parts. May exceed VGPU_RECORD_MAX; does not overflow.
constexpr std::uint64_t record_size(std::uint32_t param_count, std::uint32_t inline_length) {
    return sizeof(vgpu_record) + align_up(sizeof(std::uint32_t) * std::uint64_t{param_count}) +
           align_up(inline_length);
}

class Record {
  public:
    [[nodiscard]] const vgpu_record& header() const { return header_; }
    // Valid until the record is filled again.
    [[nodiscard]] std::span<const std::uint32_t> params() const {
        return {reinterpret_cast<const std::uint32_t*>(bytes_.data() + sizeof(vgpu_record)),
                header_.param_count};
    }
    [[nodiscard]] std::span<const std::byte> inline_data() const {
        const std::uint64_t offset =
            sizeof(vgpu_record) +
            align_up(sizeof(std::uint32_t) * std::uint64_t{header_.param_count});
        return std::span(bytes_).subspan(offset, header_.inline_length);
    }

  private:
    template <typename Memory>
    friend class BasicConsumer;

    vgpu_record header_{};
    alignas(8) std::array<std::byte, VGPU_RECORD_MAX> bytes_;  // as in the ring, after the header
};

}  // namespace vgpu::ring
