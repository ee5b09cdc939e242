// SPDX-License-Identifier: MIT
#include "response_reader.h"

#include <fmt/core.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <variant>

namespace vgpu::bench {

void ResponseReader::receive(int fd, std::uint32_t vm_id) {
    const auto room = reader_.prepare();
    const ssize_t count = ::recv(fd, room.data(), room.size(), 0);
    if (count > 0) {
        reader_.commit(static_cast<std::size_t>(count));
    } else if (count == 0 || errno != EINTR) {
        throw std::runtime_error(
            fmt::format("the mediator has closed the connection of VM {}", vm_id));
    }
}

std::optional<ResponseView> ResponseReader::next(std::uint32_t vm_id, std::uint32_t request_id) {
    const auto result = reader_.next();
    if (std::holds_alternative<NeedMore>(result)) {
        return std::nullopt;
    }
    if (const auto* const violation = std::get_if<Violation>(&result)) {
        throw std::runtime_error(
            fmt::format("the mediator sent no message to VM {}: {}", vm_id, describe(*violation)));
    }
    const auto& [header, payload] = std::get<MessageView>(result);
    ResponseView response{};
    if (header.msg_type != VGPU_MSG_RESPONSE || header.vm_id != vm_id ||
        header.request_id != request_id || payload.size() < sizeof response.fixed) {
        throw std::runtime_error(fmt::format(
            "expected the response to request {} of VM {}, got message type {}, request {}, VM {}, "
            "{} bytes",
            request_id, vm_id, header.msg_type, header.request_id, header.vm_id, payload.size()));
    }
    std::memcpy(&response.fixed, payload.data(), sizeof response.fixed);
    if (response.fixed.status != 0) {
        throw std::runtime_error(fmt::format("the mediator answered VM {} with error 0x{:02X}",
                                             vm_id, response.fixed.status));
    }
    response.rest = payload.subspan(sizeof response.fixed);
    return response;
}

}  // namespace vgpu::bench
