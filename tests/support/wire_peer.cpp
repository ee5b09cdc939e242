// SPDX-License-Identifier: MIT
#include "support/wire_peer.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "support/unix_socket.h"

namespace vgpu::test {
namespace {

using Clock = std::chrono::steady_clock;

template <typename T>
T read_as(const std::vector<std::uint8_t>& bytes) {
    T value{};
    if (bytes.size() >= sizeof value) {
        std::memcpy(&value, bytes.data(), sizeof value);
    }
    return value;
}

void append(std::vector<std::uint8_t>& to, const void* from, std::size_t length) {
    const auto* const bytes = static_cast<const std::uint8_t*>(from);
    to.insert(to.end(), bytes, bytes + length);
}

}  // namespace

vgpu_response WireMessage::response() const {
    return read_as<vgpu_response>(payload);
}
vgpu_request WireMessage::request() const {
    return read_as<vgpu_request>(payload);
}

std::optional<std::uint32_t> WireMessage::word(std::size_t index) const {
    const std::size_t at = sizeof(vgpu_response) + 4 * index;
    if (at + 4 > payload.size()) {
        return std::nullopt;
    }
    std::uint32_t value = 0;
    std::memcpy(&value, payload.data() + at, 4);
    return value;
}

std::string WireMessage::response_text() const {
    const vgpu_response fixed = response();
    const std::size_t end = std::size_t{fixed.data_offset} + fixed.data_length;
    if (end > payload.size()) {
        return {};
    }
    return {payload.begin() + fixed.data_offset, payload.begin() + static_cast<long>(end)};
}

std::vector<std::uint8_t> make_request(std::uint32_t opcode, std::span<const std::uint32_t> params,
                                       std::span<const std::uint8_t> data, std::uint32_t flags) {
    vgpu_request fixed{};
    fixed.version = VGPU_PROTOCOL_VERSION;
    fixed.opcode = opcode;
    fixed.flags = flags;
    fixed.param_count = static_cast<std::uint32_t>(params.size());
    if (!data.empty()) {
        fixed.data_offset = static_cast<std::uint32_t>(sizeof fixed + params.size_bytes());
        fixed.data_length = static_cast<std::uint32_t>(data.size());
    }
    std::vector<std::uint8_t> bytes;
    append(bytes, &fixed, sizeof fixed);
    append(bytes, params.data(), params.size_bytes());
    append(bytes, data.data(), data.size());
    return bytes;
}

std::vector<std::uint8_t> make_add(std::uint32_t a, std::uint32_t b) {
    return make_request(VGPU_OP_CUDA_KERNEL, std::array{a, b});
}

std::vector<std::uint8_t> make_response(std::uint32_t status,
                                        std::span<const std::uint32_t> results,
                                        std::uint32_t exec_time_us) {
    vgpu_response fixed{};
    fixed.version = VGPU_PROTOCOL_VERSION;
    fixed.status = status;
    fixed.result_count = static_cast<std::uint32_t>(results.size());
    fixed.exec_time_us = exec_time_us;
    std::vector<std::uint8_t> bytes;
    append(bytes, &fixed, sizeof fixed);
    append(bytes, results.data(), results.size_bytes());
    return bytes;
}

WirePeer WirePeer::connect(const std::string& path) {
    return WirePeer(connect_unix(path));
}

vgpu_msg_header WirePeer::header(std::uint32_t type, std::uint32_t request_id) const {
    vgpu_msg_header made{};
    made.magic = VGPU_MSG_MAGIC;
    made.msg_type = type;
    made.vm_id = vm_id;
    made.request_id = request_id;
    made.pool_id = static_cast<std::uint8_t>(pool);
    made.priority = priority;
    return made;
}

void WirePeer::send_request(std::uint32_t request_id, std::span<const std::uint8_t> payload) {
    send(header(VGPU_MSG_REQUEST, request_id), payload);
}

void WirePeer::send(vgpu_msg_header header, std::span<const std::uint8_t> payload) {
    header.payload_len = static_cast<std::uint16_t>(payload.size());
    std::vector<std::uint8_t> bytes;
    append(bytes, &header, sizeof header);
    append(bytes, payload.data(), payload.size());
    if (!send_raw(bytes)) {
        throw std::system_error(EPIPE, std::generic_category(), "send");
    }
}

bool WirePeer::send_raw(std::span<const std::uint8_t> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return false;
        }
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return true;
}

std::optional<WireMessage> WirePeer::receive(std::chrono::milliseconds limit) {
    std::vector<Fd> descriptors;
    auto message = receive(descriptors, limit);
    if (!descriptors.empty()) {
        throw std::runtime_error(
            "descriptors came with a message that has none: " + std::to_string(descriptors.size()) +
            (message ? ", message type " + std::to_string(message->header.msg_type) : ""));
    }
    return message;
}

std::optional<WireMessage> WirePeer::receive(std::vector<Fd>& descriptors,
                                             std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    WireMessage message;
    std::array<std::uint8_t, sizeof(vgpu_msg_header)> bytes{};
    if (!read_exactly(fd_.get(), bytes, descriptors, deadline)) {
        return std::nullopt;
    }
    std::memcpy(&message.header, bytes.data(), bytes.size());
    message.payload.resize(message.header.payload_len);
    if (!read_exactly(fd_.get(), message.payload, descriptors, deadline)) {
        return std::nullopt;
    }
    return message;
}

bool WirePeer::wait_closed(std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    std::array<std::uint8_t, 4096> scrap{};
    while (wait_readable(fd_.get(), deadline)) {
        const ssize_t n = ::recv(fd_.get(), scrap.data(), scrap.size(), 0);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return true;
        }
    }
    return false;
}

WireListener::WireListener(const std::string& path) : path_(path) {
    ::unlink(path.c_str());
    fd_ = listen_unix(path, 16);
}

std::optional<WirePeer> WireListener::accept(std::chrono::milliseconds limit) {
    if (!wait_readable(fd_.get(), Clock::now() + limit)) {
        return std::nullopt;
    }
    Fd accepted(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!accepted) {
        return std::nullopt;
    }
    return WirePeer::adopt(std::move(accepted));
}

}  // namespace vgpu::test
