// SPDX-License-Identifier: MIT
//
// The checks that need no mediator: registers, buffers, doorbell, interrupt. They apply to any
// version 1 device, so they check the register map and no peculiarity of our own device.
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "cli/vgpu/selftest.h"
#include "client/api/raw.h"

namespace vgpu::cli {
namespace {

constexpr std::array<std::uint32_t, 6> kPatterns{0x00000000, 0xFFFFFFFF, 0xA5A5A5A5,
                                                 0x5A5A5A5A, 0x01234567, 0x80000001};
constexpr std::array<std::uint32_t, 4> kWidths{1, 2, 4, 8};
constexpr std::uint32_t kCapabilitiesKnown =
    VGPU_CAP_BASIC_REQUEST | VGPU_CAP_INTERRUPT | VGPU_CAP_DMA | VGPU_CAP_MULTI_REQUEST;

// Checks that a register holds what is written. Restores its old value.
Complaint holds_patterns(SelfTest& test, const char* name, std::uint32_t offset) {
    const std::uint64_t before = test.read(offset);
    Complaint complaint;
    for (const std::uint32_t pattern : kPatterns) {
        test.write(offset, pattern);
        if (!complaint) {
            complaint = expect_equal(name, test.read(offset), pattern);
        }
    }
    test.write(offset, before);
    return complaint;
}

Complaint ignores_writes(SelfTest& test) {
    const std::array<std::pair<const char*, std::uint32_t>, 10> registers{
        {{"STATUS", VGPU_REG_STATUS},
         {"POOL_ID", VGPU_REG_POOL_ID},
         {"PRIORITY", VGPU_REG_PRIORITY},
         {"VM_ID", VGPU_REG_VM_ID},
         {"ERROR_CODE", VGPU_REG_ERROR_CODE},
         {"RESPONSE_LEN", VGPU_REG_RESPONSE_LEN},
         {"PROTOCOL_VER", VGPU_REG_PROTOCOL_VER},
         {"CAPABILITIES", VGPU_REG_CAPABILITIES},
         {"TIMESTAMP_LO", VGPU_REG_TIMESTAMP_LO},
         {"TIMESTAMP_HI", VGPU_REG_TIMESTAMP_HI}}};
    for (const auto& [name, offset] : registers) {
        const std::uint64_t before = test.read(offset);
        test.write(offset, ~before & 0xFFFFFFFF);
        if (auto complaint = expect_equal(name, test.read(offset), before)) {
            return complaint;
        }
    }
    return std::nullopt;
}

// Checks that accesses to a register other than 4 aligned bytes change nothing.
Complaint ignores_wrong_accesses(SelfTest& test) {
    constexpr std::uint32_t kValue = 0x13579BDF;
    test.write(VGPU_REG_SCRATCH, kValue);
    for (const auto& [offset, width] : std::vector<std::pair<std::uint32_t, std::uint32_t>>{
             {0x3C, 1}, {0x3D, 1}, {0x3F, 1}, {0x3C, 2}, {0x3E, 2}, {0x3A, 4}, {0x38, 8}}) {
        (void)test.read(offset, width);
        test.write(offset, ~std::uint64_t{0}, width);
        if (auto complaint = expect_equal("SCRATCH after a write of " + std::to_string(width) +
                                              " bytes at " + std::to_string(offset),
                                          test.read(VGPU_REG_SCRATCH), kValue)) {
            return complaint;
        }
    }
    return std::nullopt;
}

// Returns whether the offset belongs to the fast path of this device.
bool is_of_fast_path(SelfTest& test, std::uint32_t offset) {
    return (test.read(VGPU_REG_CAPABILITIES) & VGPU_CAP_DMA) != 0 &&
           (offset <= VGPU_REG_MSIX_VECTORS || offset == VGPU_REG_QUEUE_IRQ_LO ||
            offset == VGPU_REG_QUEUE_IRQ_HI ||
            (offset >= VGPU_REG_QUEUE_DOORBELL && offset < VGPU_QUEUE_DOORBELL_END));
}

Complaint reserved_is_empty(SelfTest& test) {
    for (std::uint32_t offset = VGPU_RESERVED_BEGIN; offset < VGPU_BAR0_SIZE; offset += 4) {
        if (is_of_fast_path(test, offset)) {
            continue;
        }
        test.write(offset, 0xFFFFFFFF);
        if (auto complaint =
                expect_equal("offset " + std::to_string(offset), test.read(offset), 0)) {
            return complaint;
        }
    }
    return std::nullopt;
}

std::uint8_t pattern_byte(std::uint32_t at, std::uint32_t seed) {
    return static_cast<std::uint8_t>(at * 31 + (at >> 8) * 7 + seed);
}

// Returns the little-endian word that `width` bytes of the pattern make.
std::uint64_t pattern_word(std::uint32_t at, std::uint32_t width, std::uint32_t seed) {
    std::uint64_t word = 0;
    for (std::uint32_t i = 0; i < width; ++i) {
        word |= std::uint64_t{pattern_byte(at + i, seed)} << (8 * i);
    }
    return word;
}

// Fills the request buffer with words of one width, starting at one alignment (bytes at both ends),
// and reads it back in words of another width.
Complaint request_buffer(SelfTest& test, std::uint32_t width, std::uint32_t alignment,
                         std::uint32_t read_width) {
    const std::uint32_t seed = width * 16 + alignment + read_width * 3;
    const auto each_word = [](std::uint32_t step, std::uint32_t from, auto body) {
        for (std::uint32_t at = 0; at < VGPU_BUF_SIZE;) {
            const std::uint32_t now = at < from || at + step > VGPU_BUF_SIZE ? 1 : step;
            body(at, now);
            at += now;
        }
    };
    each_word(width, alignment, [&](std::uint32_t at, std::uint32_t bytes) {
        test.write(VGPU_REQUEST_BUF + at, pattern_word(at, bytes, seed), bytes);
    });
    Complaint complaint;
    each_word(read_width, (alignment + 3) % 8, [&](std::uint32_t at, std::uint32_t bytes) {
        if (!complaint) {
            complaint = expect_equal(
                "byte " + std::to_string(at) + ", read " + std::to_string(bytes) + " bytes wide",
                test.read(VGPU_REQUEST_BUF + at, bytes), pattern_word(at, bytes, seed));
        }
    });
    return complaint;
}

// Checks that writes change no byte of the response buffer and every width reads the same bytes.
Complaint response_buffer(SelfTest& test) {
    std::vector<std::uint8_t> bytes(VGPU_BUF_SIZE);
    for (std::uint32_t at = 0; at < VGPU_BUF_SIZE; ++at) {
        bytes[at] = static_cast<std::uint8_t>(test.read(VGPU_RESPONSE_BUF + at, 1));
    }
    for (const std::uint32_t width : kWidths) {
        for (std::uint32_t at = 0; at + width <= VGPU_BUF_SIZE; ++at) {
            std::uint64_t expected = 0;
            for (std::uint32_t i = 0; i < width; ++i) {
                expected |= std::uint64_t{bytes[at + i]} << (8 * i);
            }
            test.write(VGPU_RESPONSE_BUF + at, ~expected, width);
            if (auto complaint = expect_equal(
                    "byte " + std::to_string(at) + ", " + std::to_string(width) + " bytes wide",
                    test.read(VGPU_RESPONSE_BUF + at, width), expected)) {
                return complaint;
            }
        }
    }
    return std::nullopt;
}

// Rings with an invalid length: an error at once, which stays until acknowledged.
Complaint refused_at_once(SelfTest& test, std::uint32_t length, std::uint32_t error) {
    test.settle();
    test.write(VGPU_REG_REQUEST_LEN, length);
    test.write(VGPU_REG_DOORBELL, 1);
    for (int poll = 0; poll < 2; ++poll) {
        if (auto complaint =
                expect_equal("STATUS", test.read(VGPU_REG_STATUS), VGPU_STATUS_ERROR)) {
            return complaint;
        }
    }
    if (auto complaint = expect_equal("ERROR_CODE", test.read(VGPU_REG_ERROR_CODE), error)) {
        return complaint;
    }
    if (auto complaint =
            expect_equal("STATUS, acknowledged", test.read(VGPU_REG_STATUS), VGPU_STATUS_IDLE)) {
        return complaint;
    }
    return expect_equal("ERROR_CODE, acknowledged", test.read(VGPU_REG_ERROR_CODE), error);
}

// Returns the completion bit of IRQ_STATUS; the other bits belong to the fast path.
std::uint64_t completion_bit(SelfTest& test) {
    return test.read(VGPU_REG_IRQ_STATUS) & VGPU_IRQ_COMPLETION;
}

void ring_in_vain(SelfTest& test) {
    test.write(VGPU_REG_REQUEST_LEN, 0);
    test.write(VGPU_REG_DOORBELL, 1);
}

}  // namespace

void check_registers(SelfTest& test) {
    const char* const group = "registers";
    test.check(group, "PROTOCOL_VER has major version 1", [&] {
        return expect_equal("major version", test.read(VGPU_REG_PROTOCOL_VER) >> 16, 1);
    });
    test.check(group, "CAPABILITIES offers basic requests",
               [&] { return expect_equal("bit 0", test.read(VGPU_REG_CAPABILITIES) & 1, 1); });
    test.check(group, "POOL_ID is a letter", [&]() -> Complaint {
        const std::uint64_t pool = test.read(VGPU_REG_POOL_ID);
        const bool is_letter = (pool >= 'A' && pool <= 'Z') || (pool >= 'a' && pool <= 'z');
        return is_letter ? Complaint() : "POOL_ID is " + std::to_string(pool);
    });
    test.check(group, "PRIORITY is 0, 1 or 2", [&]() -> Complaint {
        const std::uint64_t priority = test.read(VGPU_REG_PRIORITY);
        return priority < VGPU_PRIORITY_COUNT ? Complaint()
                                              : "PRIORITY is " + std::to_string(priority);
    });
    test.check(group, "STATUS is IDLE at rest", [&] {
        return expect_equal("STATUS", test.read(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    });
    test.check(group, "DOORBELL reads 0",
               [&] { return expect_equal("DOORBELL", test.read(VGPU_REG_DOORBELL), 0); });
    test.check(group, "read-only registers ignore writes", [&] { return ignores_writes(test); });
    test.check(group, "SCRATCH keeps the written value",
               [&] { return holds_patterns(test, "SCRATCH", VGPU_REG_SCRATCH); });
    test.check(group, "REQUEST_LEN keeps the written value",
               [&] { return holds_patterns(test, "REQUEST_LEN", VGPU_REG_REQUEST_LEN); });
    test.check(group, "REQUEST_ID keeps the written value",
               [&] { return holds_patterns(test, "REQUEST_ID", VGPU_REG_REQUEST_ID); });
    test.check(group, "IRQ_CTRL can be set and cleared", [&]() -> Complaint {
        const std::uint64_t before = test.read(VGPU_REG_IRQ_CTRL);
        test.write(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
        Complaint complaint;
        for (const std::uint32_t value : {1U, 0U, 1U}) {
            test.write(VGPU_REG_IRQ_CTRL, value);
            if (!complaint) {
                complaint = expect_equal("IRQ_CTRL", test.read(VGPU_REG_IRQ_CTRL) & 1, value);
            }
        }
        test.write(VGPU_REG_IRQ_CTRL, before);
        return complaint;
    });
    test.check(group, "accesses of wrong width or alignment are ignored",
               [&] { return ignores_wrong_accesses(test); });
    if ((test.read(VGPU_REG_CAPABILITIES) & ~std::uint64_t{kCapabilitiesKnown}) == 0) {
        test.check(group, "the reserved range reads 0 and ignores writes",
                   [&] { return reserved_is_empty(test); });
    } else {
        test.skip(group, "the reserved range reads 0 and ignores writes",
                  "a capability bit gives the range a meaning");
    }
}

void check_buffers(SelfTest& test) {
    const char* const group = "buffers";
    for (const std::uint32_t width : kWidths) {
        test.check(
            group, "REQUEST_BUF, " + std::to_string(width) + "-byte accesses, every alignment",
            [&]() -> Complaint {
                for (std::uint32_t alignment = 0; alignment < 8; ++alignment) {
                    const std::uint32_t read_width = kWidths[alignment % 4];
                    if (auto complaint = request_buffer(test, width, alignment, read_width)) {
                        return complaint;
                    }
                }
                return std::nullopt;
            });
    }
    test.check(group, "RESPONSE_BUF is read-only, every width and alignment",
               [&] { return response_buffer(test); });
    test.check(group, "a write across both buffers stays in the first", [&]() -> Complaint {
        const std::uint64_t response = test.read(VGPU_RESPONSE_BUF);
        test.write(VGPU_RESPONSE_BUF - 4, 0x8877665544332211ULL ^ response << 32, 8);
        if (auto complaint = expect_equal("the end of REQUEST_BUF",
                                          test.read(VGPU_RESPONSE_BUF - 4), 0x44332211)) {
            return complaint;
        }
        return expect_equal("the start of RESPONSE_BUF", test.read(VGPU_RESPONSE_BUF), response);
    });
}

void check_doorbell(SelfTest& test) {
    const char* const group = "doorbell";
    test.check(group, "writing 0 submits nothing", [&] {
        test.write(VGPU_REG_DOORBELL, 0);
        return expect_equal("STATUS", test.read(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    });
    test.check(group, "length 0 gives ERROR 9",
               [&] { return refused_at_once(test, 0, VGPU_ERR_INVALID_LENGTH); });
    test.check(group, "length 1025 gives ERROR 2",
               [&] { return refused_at_once(test, 1025, VGPU_ERR_REQUEST_TOO_LARGE); });
    test.check(group, "length 0xFFFFFFFF gives ERROR 2",
               [&] { return refused_at_once(test, 0xFFFFFFFF, VGPU_ERR_REQUEST_TOO_LARGE); });
    test.check(group, "a doorbell in ERROR acts as in IDLE", [&]() -> Complaint {
        test.settle();
        ring_in_vain(test);
        test.write(VGPU_REG_REQUEST_LEN, 1025);
        test.write(VGPU_REG_DOORBELL, 1);
        return expect_equal("ERROR_CODE", test.read(VGPU_REG_ERROR_CODE),
                            VGPU_ERR_REQUEST_TOO_LARGE);
    });
    test.check(group, "TIMESTAMP grows from completion to completion", [&]() -> Complaint {
        ring_in_vain(test);
        const std::uint64_t first = test.device().timestamp();
        ring_in_vain(test);
        const std::uint64_t second = test.device().timestamp();
        return first != 0 && second >= first
                   ? Complaint()
                   : "first " + std::to_string(first) + ", then " + std::to_string(second);
    });
    test.settle();
}

void check_interrupt(SelfTest& test) {
    const char* const group = "interrupt";
    if ((test.read(VGPU_REG_CAPABILITIES) & VGPU_CAP_INTERRUPT) == 0) {
        test.skip(group, "IRQ_STATUS and the interrupt", "the device offers no interrupt");
        return;
    }
    test.check(group, "IRQ_STATUS is set by a completion, cleared by 1", [&]() -> Complaint {
        test.settle();
        test.write(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
        if (auto complaint = expect_equal("before", completion_bit(test), 0)) {
            return complaint;
        }
        ring_in_vain(test);
        if (auto complaint = expect_equal("completed", completion_bit(test), 1)) {
            return complaint;
        }
        test.write(VGPU_REG_IRQ_STATUS, 0);
        if (auto complaint = expect_equal("after writing 0", completion_bit(test), 1)) {
            return complaint;
        }
        test.write(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
        return expect_equal("after writing 1", completion_bit(test), 0);
    });
    const char* const name = "a completion interrupts, three times";
    if (test.device().properties().has_interrupt == 0) {
        test.skip(group, name, vgpu_code_text(VGPU_E_NO_INTERRUPT));
        return;
    }
    test.check(group, name, [&]() -> Complaint {
        for (int i = 0; i < 3; ++i) {
            test.settle();
            test.write(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
            ring_in_vain(test);
            const auto woken = vgpu::raw::wait_interrupt(test.device(), std::chrono::seconds(5));
            if (!woken) {
                return woken.failure().message;
            }
        }
        return std::nullopt;
    });
    test.check(group, "no interrupt without a completion", [&]() -> Complaint {
        test.settle();
        test.write(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
        // An interrupt in flight when the line went down may still be delivered.
        (void)vgpu::raw::wait_interrupt(test.device(), std::chrono::milliseconds(1));
        const auto woken = vgpu::raw::wait_interrupt(test.device(), std::chrono::milliseconds(20));
        return woken ? Complaint("the interrupt line is asserted with IRQ_STATUS 0") : Complaint();
    });
    test.settle();
}

}  // namespace vgpu::cli
