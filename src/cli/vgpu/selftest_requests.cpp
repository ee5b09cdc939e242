// SPDX-License-Identifier: MIT
//
// The checks that go through the mediator: valid requests, the state machine in between, and
// requests that must be rejected, each with its own code.
#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cli/vgpu/selftest.h"
#include "client/api/raw.h"

namespace vgpu::cli {
namespace {

using Bytes = std::vector<std::byte>;

// Returns an addition as bytes, with the header as modified by `change`.
Bytes add_request(const std::function<void(vgpu_request&)>& change = {}) {
    vgpu_request header{};
    header.version = VGPU_PROTOCOL_VERSION;
    header.opcode = VGPU_OP_CUDA_KERNEL;
    header.param_count = 2;
    if (change) {
        change(header);
    }
    const std::array<std::uint32_t, 2> params{100, 200};
    Bytes bytes(sizeof header + sizeof params);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, params.data(), sizeof params);
    return bytes;
}

// Sends a request that must be rejected with `expected`.
Complaint refused(SelfTest& test, const Bytes& request, int expected) {
    if (const auto id = vgpu::raw::submit_bytes(test.device(), request); !id) {
        return id.failure().message;
    }
    const auto reply = test.device().wait(test.settings().timeout);
    const int code = reply ? int{VGPU_OK} : reply.failure().code;
    if (code == expected) {
        return std::nullopt;
    }
    return "answered " + std::to_string(code) + " (" + vgpu_code_name(code) + "), expected " +
           std::to_string(expected) + " (" + vgpu_code_name(expected) + ")";
}

// Sends an addition and waits until STATUS is not BUSY, without acknowledging anything.
Complaint reach_done(SelfTest& test) {
    test.settle();
    if (const auto id = vgpu::raw::submit_bytes(test.device(), add_request()); !id) {
        return id.failure().message;
    }
    const auto deadline = std::chrono::steady_clock::now() + test.settings().timeout;
    std::uint64_t status = test.read(VGPU_REG_STATUS);
    while (status == VGPU_STATUS_BUSY && std::chrono::steady_clock::now() < deadline) {
        status = test.read(VGPU_REG_STATUS);
    }
    return expect_equal("STATUS", status, VGPU_STATUS_DONE);
}

// Checks that DONE stays until `offset` is read, and that the response stays readable afterwards.
Complaint done_until_read(SelfTest& test, std::uint32_t offset) {
    if (auto complaint = reach_done(test)) {
        return complaint;
    }
    if (auto complaint =
            expect_equal("STATUS, again", test.read(VGPU_REG_STATUS), VGPU_STATUS_DONE)) {
        return complaint;
    }
    (void)test.read(offset);
    if (auto complaint =
            expect_equal("STATUS, acknowledged", test.read(VGPU_REG_STATUS), VGPU_STATUS_IDLE)) {
        return complaint;
    }
    if (auto complaint = expect_equal("RESPONSE_LEN", test.read(VGPU_REG_RESPONSE_LEN), 36)) {
        return complaint;
    }
    return expect_equal("the result", test.read(VGPU_RESPONSE_BUF + 32), 300);
}

Complaint adds(SelfTest& test, std::uint32_t a, std::uint32_t b) {
    const auto sum = test.device().add(a, b, test.settings().timeout);
    return sum ? expect_equal("the sum", *sum, a + b) : Complaint(sum.failure().message);
}

void check_refusals(SelfTest& test) {
    struct Case {
        const char* name;
        int expected;
        std::function<void(vgpu_request&)> change;
    };
    const std::array cases{
        Case{"version 2.0 gives ERROR 1", VGPU_ERR_INVALID_REQUEST,
             [](auto& h) { h.version = 0x00020000; }},
        Case{"a nonzero reserved field gives ERROR 1", VGPU_ERR_INVALID_REQUEST,
             [](auto& h) { h.reserved[1] = 1; }},
        Case{"an unknown flag gives ERROR 1", VGPU_ERR_INVALID_REQUEST,
             [](auto& h) { h.flags = 0x80000000; }},
        Case{"a param_count that does not fit gives ERROR 1", VGPU_ERR_INVALID_REQUEST,
             [](auto& h) { h.param_count = 3; }},
        Case{"a param_count that wraps around gives ERROR 1", VGPU_ERR_INVALID_REQUEST,
             [](auto& h) { h.param_count = 0x40000002; }},
        Case{"data past the end gives ERROR 1", VGPU_ERR_INVALID_REQUEST,
             [](auto& h) {
                 h.data_offset = 40;
                 h.data_length = 1;
             }},
        Case{"data that wraps around gives ERROR 1", VGPU_ERR_INVALID_REQUEST,
             [](auto& h) {
                 h.data_offset = 0xFFFFFFFF;
                 h.data_length = 2;
             }},
        Case{"an addition with one param gives ERROR 1", VGPU_ERR_INVALID_REQUEST,
             [](auto& h) { h.param_count = 1; }},
        Case{"an unknown opcode gives ERROR 8", VGPU_ERR_UNSUPPORTED_OPERATION,
             [](auto& h) { h.opcode = 0x0FFF; }},
    };
    for (const auto& one : cases) {
        test.check("requests", one.name,
                   [&] { return refused(test, add_request(one.change), one.expected); });
    }
    test.check("requests", "a request with a truncated header gives ERROR 1",
               [&] { return refused(test, Bytes(31), VGPU_ERR_INVALID_REQUEST); });
}

}  // namespace

void check_requests(SelfTest& test) {
    const char* const group = "requests";
    const auto limit = test.settings().timeout;
    bool served = false;
    test.check(group, "the mediator answers a NOP", [&]() -> Complaint {
        const auto done = test.device().nop(limit);
        served = done.has_value();
        return served ? Complaint() : done.failure().message;
    });
    if (!served) {
        test.skip(group, "all other requests", "the mediator did not answer the first");
        return;
    }
    test.check(group, "100 + 200 = 300", [&] { return adds(test, 100, 200); });
    test.check(group, "additions wrap around at 32 bits",
               [&] { return adds(test, 0xFFFFFFFF, 2); });
    test.check(group, "GET_DEVICE_INFO names the GPU", [&]() -> Complaint {
        const auto info = test.device().info(limit);
        if (!info) {
            return info.failure().message;
        }
        return info->name[0] != '\0' ? Complaint() : "the name is empty";
    });
    test.check(group, "a request of 1024 bytes is accepted", [&]() -> Complaint {
        const Bytes data(VGPU_MAX_DATA, std::byte{0x5A});
        const auto reply = test.device().call(VGPU_OP_NOP, {}, data, limit);
        return reply ? Complaint() : reply.failure().message;
    });
    test.check(group, "DONE stays until RESPONSE_LEN is read",
               [&] { return done_until_read(test, VGPU_REG_RESPONSE_LEN); });
    test.check(group, "DONE stays until RESPONSE_BUF is read",
               [&] { return done_until_read(test, VGPU_RESPONSE_BUF + 32); });
    test.check(group, "a doorbell in DONE acts as in IDLE", [&]() -> Complaint {
        if (auto complaint = reach_done(test)) {
            return complaint;
        }
        test.write(VGPU_REG_DOORBELL, 1);
        const auto reply = test.device().wait(limit);
        return reply ? expect_equal("the result", reply->results[0], 300)
                     : Complaint(reply.failure().message);
    });
    check_refusals(test);
    test.check(group, "after all that, 100 + 200 = 300", [&] { return adds(test, 100, 200); });
}

}  // namespace vgpu::cli
