// SPDX-License-Identifier: MIT
//
// Input: a fuzzer's bytes, read sequentially as the numbers and blocks of a script. Reads past the
// end return zeros, so every input is a valid script.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace vgpu::fuzz {

class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

    [[nodiscard]] bool empty() const { return rest_.empty(); }
    [[nodiscard]] std::size_t size() const { return rest_.size(); }

    template <typename T>
    T number() {
        T value{};
        const auto bytes = block(sizeof value);
        if (!bytes.empty()) {
            std::memcpy(&value, bytes.data(), bytes.size());
        }
        return value;
    }
    std::uint8_t byte() { return number<std::uint8_t>(); }
    bool flag() { return (byte() & 1U) != 0; }
    // Returns 0 to limit - 1. Precondition: 1 <= limit <= 256.
    std::size_t below(std::size_t limit) { return byte() % limit; }
    template <typename T, std::size_t N>
    T one_of(const std::array<T, N>& values) {
        return values[below(N)];
    }

    // Returns a number, often a boundary value: the first byte selects one or a raw encoding.
    std::uint64_t value() {
        static constexpr std::array<std::uint64_t, 24> kOften{
            0,    1,      2,      3,          4,          7,          8,          16,
            31,   32,     56,     64,         255,        256,        1000,       1024,
            4096, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1ULL << 32, 1ULL << 63, UINT64_MAX};
        const std::size_t selected = byte();
        if (selected < kOften.size()) {
            return kOften[selected];
        }
        return selected < 128   ? selected - kOften.size()
               : selected < 192 ? number<std::uint16_t>()
               : selected < 224 ? number<std::uint32_t>()
                                : number<std::uint64_t>();
    }
    std::uint32_t word() { return static_cast<std::uint32_t>(value()); }

    // Returns at most `most` bytes.
    std::span<const std::uint8_t> block(std::size_t most) {
        const auto taken = rest_.first(std::min(most, rest_.size()));
        rest_ = rest_.subspan(taken.size());
        return taken;
    }

  private:
    std::span<const std::uint8_t> rest_;
};

}  // namespace vgpu::fuzz
