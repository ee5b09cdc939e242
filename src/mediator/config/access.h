// SPDX-License-Identifier: MIT
//
// Access control of the admin API, and the address of the metrics.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace vgpu {

// Returns true for root and for listed users. With an empty list it returns true for every user:
// the socket's file mode is the access control.
bool may_administer(uid_t uid, const std::vector<uid_t>& allowed);

// Returns the uid of a user, given by name or number.
Result<uid_t> find_user(const std::string& name);

// A loopback address of this machine, as "127.0.0.1:9400" or "[::1]:9400".
struct LoopbackAddress {
    std::string host;  // without brackets
    std::uint16_t port = 0;
};
Result<LoopbackAddress> parse_loopback(const std::string& text);

// Returns the gid of a group, given by name or number.
Result<gid_t> find_group(const std::string& name);
// Sets the group of a socket's file. Fails if there is no such group, or no permission.
Result<void> give_to_group(const std::string& path, const std::string& group);

// Permissions of a socket's file as octal digits: read and write for its user, and either for the
// group and others, e.g. "0660".
Result<mode_t> parse_socket_mode(const std::string& text);

}  // namespace vgpu
