// SPDX-License-Identifier: MIT
//
// The register map, row by row and byte by byte, on a device without a mediator.
#include <array>
#include <numeric>

#include "qtest/stub.h"

namespace vgpu::test {
namespace {

constexpr std::array<unsigned, 4> kSizes{1, 2, 4, 8};

std::uint64_t mask_of(unsigned size) {
    return size == 8 ? ~0ULL : (1ULL << (8 * size)) - 1;
}

class RegistersTest : public DeviceTest {};

TEST_F(RegistersTest, PciIdentity) {
    start_alone();
    EXPECT_EQ(stub().config(0x00, 2), VGPU_PCI_VENDOR_ID);
    EXPECT_EQ(stub().config(0x02, 2), VGPU_PCI_DEVICE_ID);
    EXPECT_EQ(stub().config(0x08, 1), VGPU_PCI_REVISION);
    EXPECT_EQ(stub().config(0x0A, 2), VGPU_PCI_CLASS);
    EXPECT_EQ(stub().config(0x3D, 1), 1U) << "interrupt pin A";
    EXPECT_NE(stub().find_capability(0x05), 0U) << "the MSI capability";
    // Writing all ones reads back the size mask of a BAR; the low bits indicate 32-bit memory.
    stub().set_config(0x10, 4, 0xFFFFFFFF);
    EXPECT_EQ(stub().config(0x10, 4), ~(VGPU_BAR0_SIZE - 1));
    stub().set_config(0x14, 4, 0xFFFFFFFF);
    EXPECT_EQ(stub().config(0x14, 4), 0U) << "there is no second BAR";
}

struct Row {
    const char* name;
    std::uint32_t offset;
    std::uint32_t reset;
    std::uint32_t writable;  // bits that read back as written
};

// IRQ_STATUS and DOORBELL have write side effects; see state_test and interrupt_test.
constexpr std::array<Row, 16> kRows{{
    {"DOORBELL", VGPU_REG_DOORBELL, 0, 0},
    {"STATUS", VGPU_REG_STATUS, VGPU_STATUS_IDLE, 0},
    {"POOL_ID", VGPU_REG_POOL_ID, 'A', 0},
    {"PRIORITY", VGPU_REG_PRIORITY, VGPU_PRIORITY_MEDIUM, 0},
    {"VM_ID", VGPU_REG_VM_ID, 7, 0},
    {"ERROR_CODE", VGPU_REG_ERROR_CODE, 0, 0},
    {"REQUEST_LEN", VGPU_REG_REQUEST_LEN, 0, 0xFFFFFFFF},
    {"RESPONSE_LEN", VGPU_REG_RESPONSE_LEN, 0, 0},
    {"PROTOCOL_VER", VGPU_REG_PROTOCOL_VER, 0x00010000, 0},
    {"CAPABILITIES", VGPU_REG_CAPABILITIES, 3, 0},
    {"IRQ_CTRL", VGPU_REG_IRQ_CTRL, 0, VGPU_IRQ_COMPLETION},
    {"IRQ_STATUS", VGPU_REG_IRQ_STATUS, 0, 0},
    {"REQUEST_ID", VGPU_REG_REQUEST_ID, 0, 0xFFFFFFFF},
    {"TIMESTAMP_LO", VGPU_REG_TIMESTAMP_LO, 0, 0},
    {"TIMESTAMP_HI", VGPU_REG_TIMESTAMP_HI, 0, 0},
    {"SCRATCH", VGPU_REG_SCRATCH, 0, 0xFFFFFFFF},
}};

TEST_F(RegistersTest, ResetValues) {
    start_alone();
    for (const Row& row : kRows) {
        EXPECT_EQ(stub().reg(row.offset), row.reset) << row.name;
    }
}

TEST_F(RegistersTest, WhatCanBeWritten) {
    start_alone();
    for (const std::uint32_t value : {0xFFFFFFFFU, 0xA5A5A5A5U, 0x12345678U, 0U}) {
        for (const Row& row : kRows) {
            if (row.offset == VGPU_REG_DOORBELL && value == 1) {
                continue;
            }
            stub().set(row.offset, value);
            EXPECT_EQ(stub().reg(row.offset), (row.reset & ~row.writable) | (value & row.writable))
                << row.name << " written " << value;
        }
    }
}

TEST_F(RegistersTest, PropertiesAppear) {
    for (const auto& [text, value] : std::initializer_list<std::pair<const char*, std::uint32_t>>{
             {"low", 0}, {"medium", 1}, {"high", 2}, {"0", 0}, {"1", 1}, {"2", 2}}) {
        start_alone(std::string(",pool_id=z,priority=") + text);
        EXPECT_EQ(stub().reg(VGPU_REG_POOL_ID), 'z');
        EXPECT_EQ(stub().reg(VGPU_REG_PRIORITY), value) << text;
    }
}

TEST_F(RegistersTest, OnlyAlignedWordsReachRegisters) {
    start_alone();
    stub().set(VGPU_REG_SCRATCH, 0x11223344);
    stub().set(VGPU_REG_REQUEST_LEN, 0x55667788);
    stub().set(VGPU_REG_REQUEST_ID, 0x99AABBCC);
    for (const unsigned size : kSizes) {
        for (std::uint32_t offset = 0; offset < VGPU_REGS_END; offset++) {
            if (size == 4 && offset % 4 == 0) {
                continue;
            }
            EXPECT_EQ(stub().read(offset, size), 0U) << size << " bytes at " << offset;
            stub().write(offset, size, 0x0101010101010101 & mask_of(size));
        }
    }
    // Neither the registers nor the buffer that an access at the end reaches into have changed, and
    // no doorbell was rung.
    EXPECT_EQ(stub().reg(VGPU_REG_SCRATCH), 0x11223344U);
    EXPECT_EQ(stub().reg(VGPU_REG_REQUEST_LEN), 0x55667788U);
    EXPECT_EQ(stub().reg(VGPU_REG_REQUEST_ID), 0x99AABBCCU);
    EXPECT_EQ(stub().reg(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_CTRL), 0U);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), 0U);
    EXPECT_EQ(stub().read(VGPU_REQUEST_BUF, 8), 0U);
}

TEST_F(RegistersTest, WrongAccessesAreLoggedAsGuestErrors) {
    start_alone("", {"-d", "guest_errors"});
    stub().read(VGPU_REG_SCRATCH + 2, 2);
    EXPECT_TRUE(machine().process().wait_for_output(
        "read of 2 bytes at register offset 0x3e is not an aligned 4-byte access"));
    stub().write(VGPU_REG_STATUS, 4, 5);
    EXPECT_TRUE(machine().process().wait_for_output(
        "write of 0x5 (4 bytes) at register offset 0x4 is ignored"));
}

// Model of both buffers: the expected value of every byte of BAR0 from 0x040 on.
class BufferTest : public RegistersTest {
  protected:
    static constexpr std::uint32_t kFirst = VGPU_REQUEST_BUF;
    static constexpr std::uint32_t kEnd = VGPU_RESERVED_BEGIN;

    std::uint64_t expected(std::uint32_t offset, unsigned size) const {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < size && offset + i < kEnd; i++) {
            value |= static_cast<std::uint64_t>(bytes_.at(offset + i)) << (8 * i);
        }
        return value;
    }
    void written(std::uint32_t offset, unsigned size, std::uint64_t value) {
        for (unsigned i = 0; i < size && offset + i < VGPU_RESPONSE_BUF; i++) {
            bytes_.at(offset + i) = static_cast<std::uint8_t>(value >> (8 * i));
        }
    }
    // Fills the request buffer through the device, and the response buffer with a response.
    void fill() {
        std::vector<std::uint8_t> request(VGPU_BUF_SIZE);
        std::iota(request.begin(), request.end(), static_cast<std::uint8_t>(1));
        auto response = make_response(0);
        response.resize(VGPU_BUF_SIZE);
        std::iota(response.begin() + sizeof(vgpu_response), response.end(),
                  static_cast<std::uint8_t>(77));
        stub().submit(1, request);
        expect_request(1, request);
        answer(1, response);
        ASSERT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
        std::copy(request.begin(), request.end(), bytes_.begin() + VGPU_REQUEST_BUF);
        std::copy(response.begin(), response.end(), bytes_.begin() + VGPU_RESPONSE_BUF);
    }

    std::array<std::uint8_t, VGPU_BAR0_SIZE> bytes_{};
};

TEST_F(BufferTest, EveryReadOfEverySizeAtEveryOffset) {
    start();
    fill();
    for (const unsigned size : kSizes) {
        for (std::uint32_t offset = kFirst; offset < kEnd + 8; offset++) {
            ASSERT_EQ(stub().read(offset, size), expected(offset, size))
                << size << " bytes at " << offset;
        }
    }
}

TEST_F(BufferTest, EveryWriteOfEverySizeAtEveryOffset) {
    start();
    fill();
    std::uint64_t value = 0x0123456789ABCDEF;
    for (const unsigned size : kSizes) {
        for (std::uint32_t offset = kFirst; offset < kEnd + 8; offset++) {
            value = value * 6364136223846793005ULL + 1442695040888963407ULL;
            stub().write(offset, size, value & mask_of(size));
            written(offset, size, value);
            // Check the surrounding bytes too: a write must not spill over.
            const std::uint32_t before = offset >= kFirst + 8 ? offset - 8 : kFirst;
            ASSERT_EQ(stub().read(before, 8), expected(before, 8)) << size << " at " << offset;
            ASSERT_EQ(stub().read(offset, 8), expected(offset, 8)) << size << " at " << offset;
        }
    }
    const auto request = machine().read_block(Stub::kBar0 + kFirst, VGPU_BUF_SIZE);
    EXPECT_TRUE(std::equal(request.begin(), request.end(), bytes_.begin() + kFirst));
    const auto response = machine().read_block(Stub::kBar0 + VGPU_RESPONSE_BUF, VGPU_BUF_SIZE);
    EXPECT_TRUE(std::equal(response.begin(), response.end(), bytes_.begin() + VGPU_RESPONSE_BUF))
        << "the response buffer must ignore writes";
    EXPECT_EQ(stub().reg(VGPU_REG_SCRATCH), 0U) << "registers must not be reached from the buffers";
}

TEST_F(RegistersTest, ReservedRangeReadsZeroAndIgnoresWrites) {
    start_alone();
    for (std::uint32_t offset = VGPU_RESERVED_BEGIN; offset < VGPU_BAR0_SIZE; offset++) {
        for (const unsigned size : kSizes) {
            if (offset + size > VGPU_BAR0_SIZE) {
                continue;
            }
            if (offset % 61 == 0 || offset + 16 > VGPU_BAR0_SIZE) {
                stub().write(offset, size, ~0ULL & mask_of(size));
            }
            if (offset % 7 == 0 || offset + 16 > VGPU_BAR0_SIZE) {
                ASSERT_EQ(stub().read(offset, size), 0U) << size << " bytes at " << offset;
            }
        }
    }
}

}  // namespace
}  // namespace vgpu::test
