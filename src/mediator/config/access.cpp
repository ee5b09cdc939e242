// SPDX-License-Identifier: MIT
#include "mediator/config/access.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/address.hpp>
#include <cerrno>
#include <charconv>

namespace vgpu {
namespace {

// Buffer size for the strings of an entry of the user or group database.
constexpr std::size_t kEntryRoom = 16384;

template <typename Number>
bool parse_number(std::string_view text, Number& to) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

bool may_administer(uid_t uid, const std::vector<uid_t>& allowed) {
    return uid == 0 || allowed.empty() ||
           std::find(allowed.begin(), allowed.end(), uid) != allowed.end();
}

Result<uid_t> find_user(const std::string& name) {
    uid_t uid = 0;
    if (parse_number(name, uid)) {
        return uid;
    }
    passwd entry{};
    passwd* found = nullptr;
    std::array<char, kEntryRoom> room{};
    const int error = ::getpwnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
    if (found == nullptr) {
        return Error{"unknown user '" + name + "'", error};
    }
    return found->pw_uid;
}

Result<LoopbackAddress> parse_loopback(const std::string& text) {
    const Error wrong{"'" + text +
                      "' is not a loopback address with a port, e.g. 127.0.0.1:9400: metrics are "
                      "served to this machine only"};
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos) {
        return wrong;
    }
    LoopbackAddress address;
    address.host = text.substr(0, colon);
    if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
        address.host = address.host.substr(1, address.host.size() - 2);
    } else if (address.host.find(':') != std::string::npos) {
        return wrong;
    }
    boost::system::error_code error;
    const auto parsed = boost::asio::ip::make_address(address.host, error);
    if (error || !parsed.is_loopback() ||
        !parse_number(std::string_view(text).substr(colon + 1), address.port)) {
        return wrong;
    }
    return address;
}

Result<gid_t> find_group(const std::string& name) {
    gid_t gid = 0;
    if (parse_number(name, gid)) {
        return gid;
    }
    ::group entry{};
    ::group* found = nullptr;
    std::array<char, kEntryRoom> room{};
    const int error = ::getgrnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
    if (found == nullptr) {
        return Error{"unknown group '" + name + "'", error};
    }
    return found->gr_gid;
}

Result<void> give_to_group(const std::string& path, const std::string& group) {
    const auto gid = find_group(group);
    if (!gid) {
        return gid.error();
    }
    if (::chown(path.c_str(), static_cast<uid_t>(-1), *gid) != 0) {
        return Error::from_errno("cannot give " + path + " to group " + group +
                                     " (only root and members of the group may)",
                                 errno);
    }
    return {};
}

Result<mode_t> parse_socket_mode(const std::string& text) {
    constexpr mode_t kOwner = 0600;
    constexpr mode_t kAll = 0666;
    mode_t mode = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
    if (error != std::errc() || end != text.data() + text.size() || (mode & ~kAll) != 0 ||
        (mode & kOwner) != kOwner) {
        return Error{"'" + text +
                     "' is not a mode of a socket: octal, with 6 for its user, e.g. \"0660\""};
    }
    return mode;
}

}  // namespace vgpu
