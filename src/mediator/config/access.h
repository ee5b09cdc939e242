// SPDX-License-Identifier: MIT
//
// Who may use the admin API, and where the metrics may be read.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace vgpu {

// Root always; others if they are in the list, or if the list is empty: then the mode of the socket
// has decided.
bool may_administer(uid_t uid, const std::vector<uid_t>& allowed);

// The uid of a user, by name or number.
Result<uid_t> find_user(const std::string& name);

// An address of this machine's loopback, as "127.0.0.1:9400" or "[::1]:9400".
struct LoopbackAddress {
    std::string host;  // without brackets
    std::uint16_t port = 0;
};
Result<LoopbackAddress> parse_loopback(const std::string& text);

// Gives the socket file to this group if there is such a group and this process may; otherwise
// leaves it as it is.
void give_to_group(const std::string& path, const std::string& group);

}  // namespace vgpu
